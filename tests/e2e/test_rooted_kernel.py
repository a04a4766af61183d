"""A confined kernel in JupyterLab: picked in the launcher, refused outside, seen in the audit."""

from __future__ import annotations

import json

from playwright.sync_api import Browser, Page, expect

from tests.support.lab import Lab, open_lab, screenshot
from tests.support.live import LiveStack, rootbound

RUN = """async source => {
    const app = window.jupyterapp;
    const panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    await app.commands.execute('notebook:insert-cell-below');
    panel.content.activeCell.model.sharedModel.setSource(source);
    await app.commands.execute('notebook:run-cell');
}"""


def test_a_cell_is_refused_and_the_audit_shows_it(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    data = str(lab.files.parent / "data")
    done = rootbound(live.home, "kernels", "install", "--user", "--json", JUPYTER_DATA_DIR=data)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "python3-rooted"
    live.make_project("rooted")
    target = lab.files / "beyond.txt"

    page = open_lab(chromium, lab)
    page.get_by_title("Python 3 (rooted)").first.click()
    kernel = page.locator(".jp-KernelName").first
    expect(kernel).to_have_text("Python 3 (rooted)", timeout=30_000)
    run(page, "print(6 * 7)")
    output = page.locator(".jp-OutputArea-output")
    expect(output.filter(has_text="42")).to_be_visible(timeout=60_000)
    run(page, f"open({str(target)!r}, 'w')")
    refused = output.filter(has_text="PermissionError")
    expect(refused).to_contain_text(f"{lab.files} is in no root", timeout=30_000)
    expect(refused).to_contain_text("rootbound roots add")
    screenshot(page, "kernel-refused")
    assert not target.exists()

    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-audit')")
    audit = page.locator(".jp-rootbound-Audit").first
    audit.get_by_label("Result").select_option("DENIED")
    audit.get_by_label("Source").select_option("provisioner")
    denied = audit.locator('[role="row"][data-result="DENIED"]').filter(has_text=str(target))
    expect(denied).to_be_visible(timeout=30_000)
    expect(denied).to_contain_text("provisioner")
    screenshot(page, "kernel-audit")
    # A restart from the menu keeps the page connected.
    page.evaluate(
        "async () => { const app = window.jupyterapp;"
        " const panel = [...app.shell.widgets('main')].find(one => one.sessionContext);"
        " app.shell.activateById(panel.id); await panel.sessionContext.session.kernel.restart(); }"
    )
    run(page, "print('after', 'restart')")
    expect(output.filter(has_text="after restart")).to_be_visible(timeout=60_000)
    page.evaluate(
        "async () => { const app = window.jupyterapp;"
        " const panel = [...app.shell.widgets('main')].find(one => one.sessionContext);"
        " await panel.sessionContext.shutdown(); }"
    )
    page.close()
    listed = rootbound(live.home, "kernels", "list", "--json", JUPYTER_DATA_DIR=data)
    assert "python3-rooted" in [one["name"] for one in json.loads(listed.stdout)]
    removed = rootbound(live.home, "kernels", "remove", "python3-rooted", JUPYTER_DATA_DIR=data)
    assert removed.returncode == 0, removed.stderr
    again = rootbound(live.home, "kernels", "remove", "python3-rooted", JUPYTER_DATA_DIR=data)
    assert again.returncode == 1
    assert "is no confined kernel" in again.stderr


def run(page: Page, source: str) -> None:
    """Run a new cell in the notebook that is in front."""
    page.evaluate(RUN, source)
