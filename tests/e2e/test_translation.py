"""A language pack of our catalogue: what it says instead is what every screen shows."""

from __future__ import annotations

import json
from pathlib import Path

from babel.messages.pofile import read_po
from playwright.sync_api import Browser, Page, expect

from tests.support.lab import Lab, open_lab, open_notebook, run_command, running_lab, screenshot
from tests.support.live import LiveStack

CATALOGUE = Path(__file__).parents[2] / "widgets" / "ui" / "locale" / "rootbound.pot"
# JupyterLab's own pseudo-language, which is for seeing what is not translated.
LOCALE = "ach_UG"
# What a person reads of a view's own: its controls, headings, names and hints.
SAID = """root => {
    const said = [];
    for (const one of root.querySelectorAll('button, h3, h4, summary, option, label > span')) {
        if (one.textContent.trim()) said.push(one.textContent.trim());
    }
    for (const name of ['aria-label', 'placeholder', 'title']) {
        for (const one of root.querySelectorAll(`[${name}]`)) said.push(one.getAttribute(name));
    }
    return said;
}"""


# What JupyterLab itself says around each panel; the pack has none of its words.
LABS = ("main area toolbar", "main area content", "More commands")


def write_pack(folder: Path) -> None:
    """Write a language pack, installed beside others, that puts every message into brackets."""
    translated: dict[str, object] = {
        "": {
            "domain": "rootbound",
            "language": LOCALE.replace("_", "-"),
            "plural_forms": "nplurals=2; plural=(n != 1);",
            "version": "",
        }
    }
    for message in read_po(CATALOGUE.open("rb")):
        texts = [message.id] if isinstance(message.id, str) else list(message.id)
        if texts[0]:
            key = f"{message.context}\4{texts[0]}" if message.context else texts[0]
            translated[key] = [f"⟦{text}⟧" for text in texts]
    module = folder / f"jupyterlab_language_pack_{LOCALE}"
    messages = module / "locale" / LOCALE / "LC_MESSAGES"
    messages.mkdir(parents=True)
    (module / "__init__.py").write_text("")
    (messages / "rootbound.json").write_text(json.dumps(translated))
    info = folder / f"jupyterlab_language_pack_{LOCALE}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: jupyterlab-language-pack-{LOCALE}\nVersion: 1\n"
    )
    (info / "entry_points.txt").write_text(f"[jupyterlab.languagepack]\n{LOCALE} = {module.name}\n")


def untranslated(page: Page, selector: str, known: tuple[str, ...]) -> set[str]:
    """Return what a view says that no translator was asked for."""
    views = page.locator(selector).all()
    said = [text for view in views for text in view.evaluate(SAID)]
    plain = {text for text in said if "⟦" not in text and any(map(str.isalpha, text))}
    return {text for text in plain if not any(word in text for word in (*LABS, *known))}


def test_a_language_pack_translates_every_screen(
    live: LiveStack, chromium: Browser, tmp_path: Path
) -> None:
    live.make_task(live.make_project("Words"), "A task of its own words")
    pack, scratch = tmp_path / "pack", tmp_path / "lab"
    write_pack(pack)
    settings = scratch / "settings" / "@jupyterlab" / "translation-extension"
    settings.mkdir(parents=True)
    (settings / "plugin.jupyterlab-settings").write_text(json.dumps({"locale": LOCALE}))
    with running_lab(live.home, scratch, PYTHONPATH=str(pack)) as lab:
        page = open_lab(chromium, lab)
        _look(page, lab, live)
        page.close()


def _look(page: Page, lab: Lab, live: LiveStack) -> None:
    names = ("Words", "A task of its own words", "BACKEND", "FRONTEND", "QA", "DEVOPS", "PM")
    projects = [one["name"] for one in live.call("GET", "/api/projects/?limit=100")["results"]]
    run_command(page, "rootbound:open-board")
    board = page.locator("#rootbound-board")
    expect(board.get_by_role("heading", name="⟦To do⟧")).to_be_visible(timeout=30_000)
    picker = board.get_by_label("⟦Project⟧")
    if picker.count():
        picker.select_option(label="Words")
    expect(board).to_contain_text("A task of its own words")
    board.get_by_role("button", name="⟦New project⟧").click()
    expect(board.get_by_label("⟦Command that tests it⟧")).to_be_visible()
    examples = ("ruff check .", "python3 -m")
    assert untranslated(page, "#rootbound-board", (*names, *projects, *examples)) == set()
    screenshot(page, "translated")

    run_command(page, "rootbound:open-status")
    expect(page.locator("#rootbound-status")).to_contain_text("postgres", timeout=30_000)
    services = ("http://", "postgres", "redis", "backend", "worker", "beat", "lda", str(live.home))
    assert untranslated(page, "#rootbound-status", services) == set()
    run_command(page, "rootbound:open-audit")
    audit = page.locator(".jp-rootbound-Audit").first
    expect(audit.get_by_label("⟦Result⟧")).to_be_visible(timeout=30_000)
    label = page.evaluate("() => window.jupyterapp.commands.label('rootbound:open-board')")
    assert label.startswith("⟦")

    # The same pack, read by a kernel, for the views in its notebook.
    project = next(
        one["id"]
        for one in live.call("GET", "/api/projects/?limit=100")["results"]
        if one["name"] == "Words"
    )
    code = (
        "import rootbound as rb\nclient = rb.connect()\n"
        f"display(rb.TaskBoard(client.projects.get({project!r})), rb.CostChart(client))"
    )
    open_notebook(page, lab, "words.ipynb", code)
    views = page.locator(".jp-OutputArea .jp-rootbound-Widget")
    expect(views.first.get_by_role("heading", name="⟦To do⟧")).to_be_visible(timeout=60_000)
    expect(views.nth(1).get_by_role("button", name="⟦Tokens⟧")).to_be_visible()
    # The views alone: the area around them is JupyterLab's, and names its buttons when it likes.
    expect(views).to_have_count(2)
    selector = ".jp-OutputArea .jp-rootbound-Widget"
    assert untranslated(page, selector, (*names, *projects)) == set()
