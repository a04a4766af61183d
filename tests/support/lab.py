"""A real JupyterLab in a subprocess, and a real Chromium to look at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import nbformat
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.environment import clean_env, wait_for

TOKEN = "test-token"
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    files: Path

    def page_url(self) -> str:
        """Return the address of the Lab page, with the token."""
        return f"{self.url}lab?token={TOKEN}&reset"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_settings(folder: Path) -> None:
    """Turn off the news request, which asks a question in a pop-up."""
    target = folder / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    target.parent.mkdir(parents=True)
    target.write_text('{"fetchNews": "false", "checkForUpdates": false}')


@contextlib.contextmanager
def running_lab(
    home: Path, scratch: Path, *, jupyter: str | None = None, base_url: str = "/", **env: str
) -> Iterator[Lab]:
    """Run JupyterLab on a state folder; its own files live in ``scratch``."""
    port = free_port()
    notebooks = scratch / "notebooks"
    notebooks.mkdir(parents=True)
    write_settings(scratch / "settings")
    environment = clean_env(
        home,
        JUPYTER_CONFIG_DIR=str(scratch / "config"),
        JUPYTER_DATA_DIR=str(scratch / "data"),
        JUPYTER_RUNTIME_DIR=str(scratch / "runtime"),
        JUPYTERLAB_SETTINGS_DIR=str(scratch / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(scratch / "workspaces"),
        **env,
    )
    program = jupyter or str(Path(sys.executable).parent / "jupyter")
    command = [
        program, "lab", "--no-browser", "--allow-root",
        f"--port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.base_url={base_url}",
        f"--ServerApp.root_dir={notebooks}", "--expose-app-in-browser",
        "--JupyterNotebookApp.expose_app_in_browser=True",
    ]  # fmt: skip
    log = scratch / "jupyter.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    lab = Lab(f"http://127.0.0.1:{port}{base_url}", process, log, notebooks)
    try:
        wait_for(lambda: _answers(lab), within_s=60, what=f"JupyterLab; see {log}")
        yield lab
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def _answers(lab: Lab) -> bool:
    assert lab.process.poll() is None, lab.log.read_text()[-3000:]
    try:
        return httpx.get(f"{lab.url}api/status?token={TOKEN}", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def chromium_path() -> str | None:
    """Return the browser to use; None lets Playwright use its own."""
    named = os.environ.get("ROOTBOUND_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("google-chrome")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Run headless Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=chromium_path(), args=CHROMIUM_FLAGS, headless=True
        )
        try:
            yield chromium
        finally:
            chromium.close()


def open_lab(
    chromium: Browser,
    lab: Lab,
    *,
    dark: bool = False,
    before: Callable[[Page], object] | None = None,
) -> Page:
    """Open the Lab page in a browser profile of its own and wait until it is ready for use.

    ``before`` is called with the page while it is still empty.
    """
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    if before is not None:
        before(page)
    page.goto(lab.page_url())
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored", timeout=60_000)
    if dark:
        page.evaluate(
            "() => window.jupyterapp.commands.execute('apputils:change-theme',"
            " {theme: 'JupyterLab Dark'})"
        )
    return page


def use_theme(page: Page, theme: str) -> None:
    """Change the theme to ``light`` or ``dark`` and wait until Lab shows it."""
    run_command(page, "apputils:change-theme", theme=f"JupyterLab {theme.capitalize()}")
    is_light = str(theme == "light").lower()
    expect(page.locator(f"body[data-jp-theme-light='{is_light}']")).to_have_count(1)
    # Lab covers itself while it changes the theme; a picture would show that.
    expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=20_000)


def run_command(page: Page, command: str, **args: object) -> None:
    """Execute a command of Lab and wait for it."""
    page.evaluate(
        "([command, args]) => window.jupyterapp.commands.execute(command, args).then(() => null)",
        [command, args],
    )


def open_notebook(page: Page, lab: Lab, name: str, *cells: str) -> None:
    """Write a notebook, open it with a kernel, and run its cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.files / name)
    page.evaluate(
        """async path => {
            const app = window.jupyterapp;
            const panel = await app.commands.execute('docmanager:open', {path});
            await panel.context.ready;
            await panel.sessionContext.ready;
            await panel.sessionContext.session.kernel.info;
            await app.commands.execute('notebook:run-all-cells');
        }""",
        name,
    )


def screenshot(page: Page, name: str) -> Path:
    """Save a picture into ``$ROOTBOUND_SCREENSHOTS``, default ``test-results``."""
    folder = Path(os.environ.get("ROOTBOUND_SCREENSHOTS", "test-results"))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.png"
    page.screenshot(path=target)
    return target
