"""Schedules in JupyterLab: made, run, failed, told of, read and deleted, without a command line."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.support.accessibility import serious_findings
from tests.support.lab import Lab, open_lab, run_command, screenshot, use_theme
from tests.support.live import LiveStack


def write_notebook(path: Path) -> None:
    """A notebook that says what it is told, and fails when told to."""
    first = nbformat.v4.new_code_cell("word: str = ''", metadata={"tags": ["parameters"]})
    second = nbformat.v4.new_code_cell("assert word != 'fail', 'as told'\nprint('said', word)")
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[first, second], metadata=kernel), path)


@pytest.fixture
def project(live: LiveStack) -> str:
    made = live.make_project("By night")
    return str(made["name"])


def test_a_notebook_is_scheduled_run_and_its_report_read(
    lab: Lab, chromium: Browser, live: LiveStack, project: str
) -> None:
    write_notebook(lab.files / "night.ipynb")
    page = open_lab(chromium, lab)
    page.set_default_timeout(20_000)
    run_command(page, "rootbound:open-schedules")
    view = page.locator("#rootbound-schedules .jp-rootbound")

    view.get_by_role("button", name="New schedule").click()
    form = view.get_by_role("form", name="New schedule")
    form.get_by_label("Name").fill("Nightly report")
    form.get_by_label("Project").select_option(label=project)
    form.get_by_label("What it starts").select_option("BATCH")
    form.get_by_role("button", name="Choose…").click()
    chooser = page.get_by_role("dialog")
    chooser.locator(".jp-DirListing-item", has_text="night.ipynb").click()
    chooser.get_by_role("button", name="Select").click()
    notebook = form.get_by_label("Notebook", exact=True)
    expect(notebook).to_have_value(str((lab.files / "night.ipynb").resolve()))
    form.get_by_label("Parameters, one a line").fill("word = good night")
    # What is wrong is said beside the field, and what was typed stays.
    form.get_by_label("Crontab").fill("30 2 31 2 *")
    expect(form.get_by_role("alert")).to_contain_text("never fires")
    screenshot(page, "schedule-refused")
    form.get_by_label("Crontab").fill("30 2 * * mon-fri")
    form.get_by_label("Time zone").fill("Europe/Berlin")
    meaning = form.get_by_role("status")
    expect(meaning).to_contain_text("At 02:30, Monday through Friday")
    expect(meaning).to_contain_text("02:30 · ")
    expect(form.get_by_role("alert")).to_have_count(0)
    screenshot(page, "schedule-form")
    assert serious_findings(page, "#rootbound-schedules .jp-rootbound") == []
    form.get_by_role("button", name="Make the schedule").click()

    item = view.get_by_role("listitem").filter(has_text="Nightly report")
    expect(item).to_contain_text("Monday through Friday")
    item.get_by_role("button", name="Pause").click()
    expect(item).to_contain_text("starts nothing until it is resumed")
    item.get_by_role("button", name="Resume").click()
    expect(item).to_contain_text("next")
    item.get_by_role("button", name="Run Nightly report now").click()
    row = item.get_by_role("row").nth(1)
    expect(row).to_contain_text("Done", timeout=90_000)
    row.get_by_role("button", name="Open the report").click()
    report = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    expect(report).to_contain_text("said good night")
    screenshot(page, "schedule-report")

    # A failure reaches who looks elsewhere, and stays in the panel until it is read.
    run_command(page, "rootbound:open-schedules")
    item.get_by_role("button", name="Change Nightly report").click()
    form = view.get_by_role("form", name="Change the schedule")
    form.get_by_label("Parameters, one a line").fill("word = fail")
    form.get_by_role("button", name="Save").click()
    expect(form).to_have_count(0)
    item.get_by_role("button", name="Run Nightly report now").click()
    expect(item.get_by_role("row")).to_have_count(3)
    run_command(page, "rootbound:open-board")
    toast = page.locator(".Toastify__toast", has_text="Nightly report")
    expect(toast).to_be_visible(timeout=90_000)
    toast.get_by_role("button", name="Open").click()
    notice = view.get_by_role("status").filter(has_text="Nightly report")
    expect(notice.first).to_be_visible()
    for theme in ("light", "dark"):
        use_theme(page, theme)
        screenshot(page, "schedules" if theme == "light" else "schedules-told-dark")
        assert serious_findings(page, "#rootbound-schedules .jp-rootbound") == []
    notice.get_by_role("button", name="I have read it").click()
    expect(notice).to_have_count(0)

    item.get_by_role("button", name="Delete Nightly report").click()
    item.get_by_role("button", name="Yes, delete").click()
    expect(item).to_have_count(0)
    left = live.call("GET", "/api/schedules/")["results"]
    assert "Nightly report" not in {one["name"] for one in left}
    page.close()
