"""Baselines of screens, coarse enough for other fonts and fine enough for a broken layout."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from playwright.sync_api import Locator, Page

BASELINES = Path(__file__).parents[1] / "e2e/baselines"
# Cells of a picture; the text within one is a shade of grey, whatever the font.
_COLUMNS, _ROWS = 32, 20
# Of 255, on average over all cells, and in the cell that differs most.
_MEAN, _WORST = 6.0, 90.0

_SHRINK = """async ([shot, columns, rows]) => {
    const image = new Image();
    image.src = `data:image/png;base64,${shot}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, 0, 0, columns, rows);
    return canvas.toDataURL('image/png').split(',')[1];
}"""
_DIFFER = """async pictures => {
    const data = [];
    for (const picture of pictures) {
        const image = new Image();
        image.src = `data:image/png;base64,${picture}`;
        await image.decode();
        const canvas = document.createElement('canvas');
        canvas.width = image.width;
        canvas.height = image.height;
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        data.push(context.getImageData(0, 0, image.width, image.height).data);
    }
    let sum = 0, worst = 0;
    for (let at = 0; at < data[0].length; at += 4) {
        const off = [0, 1, 2].map(i => Math.abs(data[0][at + i] - data[1][at + i]));
        sum += (off[0] + off[1] + off[2]) / 3;
        worst = Math.max(worst, ...off);
    }
    return [sum / (data[0].length / 4), worst];
}"""


def like_baseline(page: Page, part: Locator, name: str) -> bool:
    """Compare a part of a page with its baseline; write the baseline when asked to renew them.

    ``ROOTBOUND_BASELINES=renew`` renews; look at what is committed then.
    """
    shot = base64.b64encode(part.screenshot()).decode()
    small = page.evaluate(_SHRINK, [shot, _COLUMNS, _ROWS])
    target = BASELINES / f"{name}.png"
    if os.environ.get("ROOTBOUND_BASELINES") == "renew":
        BASELINES.mkdir(exist_ok=True)
        target.write_bytes(base64.b64decode(small))
        return True
    kept = base64.b64encode(target.read_bytes()).decode()
    mean, worst = page.evaluate(_DIFFER, [small, kept])
    print(f"{name}: {mean:.1f} on average, {worst:.0f} at worst")
    return mean <= _MEAN and worst <= _WORST
