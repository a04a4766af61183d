"""A page that shows widgets without JupyterLab: any other host of anywidget, reduced to its duties.

A real kernel runs the cell; its comm messages go to the page, and the page's go to the kernel. The
page has none of JupyterLab's scripts, styles or variables. Framed, it is as outputs are shown by
hosts on the web: in a frame of no origin, under a content security policy that allows nothing but
the modules of which anywidget itself makes use, in models that cannot find one another.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from playwright.sync_api import Frame, Page

ORIGIN = "http://notebook.test"
OUTPUTS = "http://outputs.test"
POLICY = "default-src 'none'; script-src 'nonce-host' blob:; style-src 'nonce-host'"
FRAME = f"""<!doctype html><title>Notebook</title><body style="margin: 0">
<iframe src="{OUTPUTS}/" sandbox="allow-scripts" title="Outputs"
  style="border: 0; width: 100%; height: 100vh"></iframe>"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Outputs</title><style nonce="host">
/* On the root, as otherwise a dark page would keep the black text of a light one. */
html { color-scheme: light dark; }
body { margin: 16px; font: 14px sans-serif; }
/* Dark by its own choice, whatever the desktop is. */
html[theme=dark] body { background: #383838; color: #e3e3e3; }
.cell { margin-bottom: 12px; }
</style></head><body><script nonce="host">
const models = new Map();
const outbox = [];
let findsModels = true;

class Model {
  constructor(id, state) {
    this.id = id;
    this.state = state;
    this.listeners = new Map();
    // Colab's models cannot find one another.
    if (findsModels) this.widget_manager = {get_model: async id => models.get(id)};
  }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.changed = {...this.changed, [name]: value}; }
  save_changes() {
    outbox.push([this.id, {method: 'update', state: this.changed ?? {}, buffer_paths: []}]);
    this.changed = undefined;
  }
  send(content) { outbox.push([this.id, {method: 'custom', content}]); }
  on(name, callback) {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), callback]);
  }
  off(name, callback) {
    this.listeners.set(name, (this.listeners.get(name) ?? []).filter(one => one !== callback));
  }
  emit(name, content) { for (const one of this.listeners.get(name) ?? []) one(content); }
}

function receive(id, data, opened) {
  if (opened) {
    models.set(id, new Model(id, data.state));
    return;
  }
  const model = models.get(id);
  if (data.method === 'custom') model?.emit('msg:custom', data.content);
  if (data.method === 'update' && model) {
    Object.assign(model.state, data.state);
    for (const name of Object.keys(data.state)) model.emit(`change:${name}`);
  }
}

async function show(id) {
  const model = models.get(id);
  const el = document.createElement('div');
  el.className = 'cell';
  document.body.append(el);
  const url = URL.createObjectURL(new Blob([model.get('_esm')], {type: 'text/javascript'}));
  const module = await import(url);
  await module.default.render({model, el});
}
</script></body></html>"""


class BareHost:
    """The page, or the frame of outputs in it, and the kernel behind."""

    def __init__(self, outputs: Page | Frame, client: BlockingKernelClient) -> None:
        self.outputs = outputs
        self._client = client

    def run(self, code: str) -> list[str]:
        """Run a cell and show its widgets; returns the ids of their models."""
        request = self._client.execute(code)
        shown: list[str] = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for message in self._messages():
                content = message["content"]
                mine = message["parent_header"].get("msg_id") == request
                if mine and message["msg_type"] == "error":
                    raise AssertionError("\n".join(content["traceback"]))
                if mine and message["msg_type"] == "display_data":
                    view = content["data"].get("application/vnd.jupyter.widget-view+json")
                    shown += [view["model_id"]] if view else []
                if mine and content.get("execution_state") == "idle":
                    for model in shown:
                        # Not awaited: a view may wait for an answer of the kernel's.
                        self.outputs.evaluate("id => { void show(id) }", model)
                    return shown
        raise AssertionError("the cell did not end")

    def until(self, probe: Callable[[], bool], what: str, within_s: float = 60) -> None:
        """Carry messages to and fro until something holds."""
        deadline = time.monotonic() + within_s
        while not probe():
            assert time.monotonic() < deadline, f"not in time: {what}"
            for _ in self._messages():
                pass

    def _messages(self) -> Iterator[Any]:
        for comm_id, data in self.outputs.evaluate("() => outbox.splice(0)"):
            message = self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
            self._client.shell_channel.send(message)
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=0.05)
            except queue.Empty:
                return
            kind, content = message["msg_type"], message["content"]
            if kind in ("comm_open", "comm_msg"):
                self.outputs.evaluate(
                    "([id, data, opened]) => receive(id, data, opened)",
                    [content["comm_id"], content["data"], kind == "comm_open"],
                )
            yield message


def _framed(page: Page) -> Frame:
    """Show the page in a frame of another origin, and return the frame."""
    headers = {"Content-Security-Policy": POLICY}
    page.route(f"{ORIGIN}/**", lambda route: route.fulfill(body=FRAME, content_type="text/html"))
    page.route(
        f"{OUTPUTS}/**",
        lambda route: route.fulfill(body=PAGE, content_type="text/html", headers=headers),
    )
    page.goto(f"{ORIGIN}/")
    found = page.frame(url=f"{OUTPUTS}/")
    assert found is not None
    return found


@contextlib.contextmanager
def bare_host(
    page: Page, folder: Path, env: dict[str, str], *, framed: bool, dark: bool
) -> Iterator[BareHost]:
    """Open the page over a new kernel."""
    outputs = _framed(page) if framed else page
    if not framed:
        page.set_content(PAGE)
    outputs.evaluate("finds => { findsModels = finds }", not framed)
    if dark:
        outputs.evaluate("() => document.documentElement.setAttribute('theme', 'dark')")
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=env, cwd=str(folder))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield BareHost(outputs, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
