"""What a person typed is theirs: a refusal is told at its field, and a reload loses nothing."""

from __future__ import annotations

import subprocess

from playwright.sync_api import Browser, Page, Route, expect

from tests.support.lab import Lab, open_lab, run_command, screenshot
from tests.support.live import LiveStack

AWAY = {
    "type": "about:blank", "title": "Away", "status": 503, "code": "stack-starting",
    "detail": "The services are starting; this takes a few seconds.",
}  # fmt: skip


def restarting(route: Route) -> None:
    """Answer as the extension does while the services start."""
    route.fulfill(status=503, json=AWAY, headers={"Retry-After": "1"})


def new_project(page: Page) -> None:
    run_command(page, "rootbound:open-board")
    board = page.locator("#rootbound-board")
    board.get_by_role("button", name="New project").first.click(timeout=30_000)


def change_the_branch(page: Page, live: LiveStack, project_id: str) -> None:
    """Have the work of a project start from another branch, after one that there is not."""
    repository = live.call("GET", f"/api/projects/{project_id}/")["repo_path"]
    subprocess.run(["git", "-C", repository, "branch", "next"], check=True)
    run_command(page, "rootbound:open-board")
    board = page.locator("#rootbound-board")
    change = board.get_by_role("button", name="Change the project")
    expect(change).to_be_visible(timeout=30_000)
    picker = board.get_by_label("Project", exact=True)
    if picker.count():
        picker.select_option(label="There already")
    change.click()
    form = page.get_by_role("form", name="Change the project")
    branch = form.get_by_label("Branch that work starts from")
    expect(branch).to_have_value("main")
    expect(form.locator("datalist option")).to_have_count(2)
    branch.fill("nxet")
    form.get_by_role("button", name="Save").click()
    said = form.get_by_role("alert")
    expect(said).to_contain_text("has no branch 'nxet'; its branches are main, next.")
    expect(branch).to_be_focused()
    screenshot(page, "form-branch-refused")
    branch.fill("next")
    form.get_by_role("button", name="Save").click()
    expect(form).to_have_count(0)
    assert live.call("GET", f"/api/projects/{project_id}/")["default_branch"] == "next"


def test_a_refused_project_form_survives_a_reload(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    known = live.make_project("There already")
    page = open_lab(chromium, lab)
    change_the_branch(page, live, known["id"])
    new_project(page)
    form = page.get_by_role("form", name="New project")
    folder = form.get_by_label("Folder of a git repository")
    folder.fill("/no/such/folder")
    form.get_by_label("Command that tests it").fill("python3 -m pytest -q")
    form.get_by_role("button", name="Grant the folder").click()
    expect(folder).to_have_attribute("aria-invalid", "true", timeout=15_000)
    expect(folder).to_be_focused()
    said = page.locator(f"#{folder.get_attribute('aria-describedby')}")
    expect(said).to_be_visible()
    assert str(said.text_content()).endswith(".")
    expect(form.locator(".jp-rootbound-Banner")).to_have_count(0)
    screenshot(page, "form-refused")

    # The folder can be granted and is no repository: the other request's refusal, the same field.
    plain = live.scratch / "no-repository"
    plain.mkdir()
    folder.fill(str(plain))
    form.get_by_label("Name (default: the folder’s)").fill("Half typed")
    form.get_by_role("button", name="Grant the folder").click()
    expect(said).to_contain_text("git", timeout=15_000)
    expect(folder).to_have_attribute("aria-invalid", "true")

    page.reload()
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored", timeout=60_000)
    run_command(page, "apputils:change-theme", theme="JupyterLab Dark")
    new_project(page)
    expect(folder).to_have_value(str(plain), timeout=30_000)
    expect(form.get_by_label("Name (default: the folder’s)")).to_have_value("Half typed")
    expect(form).to_contain_text("This is what you typed before.")
    form.get_by_role("button", name="Grant the folder").click()
    expect(folder).to_have_attribute("aria-invalid", "true", timeout=15_000)
    screenshot(page, "form-kept-dark")
    form.get_by_role("button", name="Discard it").click()
    expect(folder).to_have_value("")
    assert page.evaluate("() => sessionStorage.getItem('rootbound:draft:new project')") is None
    page.close()


def test_a_task_typed_while_the_services_restart_is_made_afterwards(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    project = live.make_project("Restarted")
    page = open_lab(chromium, lab)
    run_command(page, "rootbound:open-board")
    board = page.locator("#rootbound-board")

    def choose() -> None:
        expect(board.get_by_role("button", name="New task").first).to_be_visible(timeout=30_000)
        picker = board.get_by_label("Project", exact=True)
        if picker.count():
            picker.select_option(label="Restarted")
        board.get_by_role("button", name="New task").first.click()

    choose()
    form = board.get_by_role("form", name="New task")
    form.get_by_label("What shall be done").fill("Typed in between")
    page.route("**/rootbound/api/**", restarting)
    form.get_by_role("button", name="Add the task").click()
    expect(form).to_contain_text("The services are starting", timeout=15_000)
    expect(form.get_by_label("What shall be done")).to_have_value("Typed in between")

    # Somebody reloads the page meanwhile; the board comes back by itself, and so does the text.
    page.reload()
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored", timeout=60_000)
    run_command(page, "rootbound:open-board")
    expect(board).to_contain_text("starting", timeout=30_000)
    page.unroute("**/rootbound/api/**")
    choose()
    expect(form.get_by_label("What shall be done")).to_have_value("Typed in between")
    form.get_by_role("button", name="Add the task").click()
    expect(board.locator('[data-task][aria-label="Typed in between"]')).to_be_visible()
    titles = [
        one["title"] for one in live.call("GET", f"/api/projects/{project['id']}/tasks/")["results"]
    ]
    assert titles == ["Typed in between"]
    page.close()
