"""The widgets, the magics and the quickstart notebook in real kernels."""

from __future__ import annotations

import queue
import time
from pathlib import Path

import nbconvert
import nbformat
import papermill
import pytest
from jupyter_client.manager import KernelManager

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "quickstart.ipynb"


class Kernel:
    """A real ipykernel and what its front end would see."""

    def __init__(self):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.comms = []

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def message(self, accept, seconds=20):
        """Return the first IOPub message that `accept` likes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            if message["msg_type"] == "comm_open":
                self.comms.append(message["content"])
            if accept(message):
                return message
        raise AssertionError("the kernel did not send what was expected")

    def run(self, code):
        """Run a cell; return its streams and displays as one text."""
        shown = []
        request = self.client.execute(code)

        def is_done(message):
            if message["parent_header"].get("msg_id") != request:
                return False
            content = message["content"]
            shown.append(str(content.get("text") or content.get("data") or content.get("evalue")))
            return content.get("execution_state") == "idle"

        self.message(is_done)
        return "\n".join(shown)

    def complete(self, line):
        """Return what the tab key offers at the end of a line."""
        reply = self.client.complete(line, reply=True, timeout=20)
        return reply["content"]["matches"]

    def send(self, comm_id, content):
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        self.client.shell_channel.send(message)

    def custom(self, accept):
        """Return the first custom widget message that `accept` likes."""
        found = self.message(
            lambda message: (
                message["msg_type"] == "comm_msg"
                and message["content"]["data"].get("method") == "custom"
                and accept(message["content"]["data"]["content"])
            )
        )
        return found["content"]["data"]["content"]


@pytest.fixture
def kernel(server):
    started = Kernel()
    yield started
    started.close()


def test_widget_is_live_in_an_idle_kernel(server, kernel):
    project = server.state.project()
    task = server.state.task(project, title="from the server")
    kernel.run("import rootbound as rb; board = rb.TaskBoard(rb.connect().projects.find())")
    opened = [c for c in kernel.comms if "_esm" in c["data"].get("state", {})]
    comm_id = opened[-1]["comm_id"]
    assert "export" in opened[-1]["data"]["state"]["_esm"]
    kernel.send(comm_id, {"id": 0, "method": "hello", "params": {}})
    hello = kernel.custom(lambda content: content.get("reply_to") == 0)
    assert hello["result"]["tasks"][0]["title"] == "from the server"
    # No cell runs now: the update comes from the following thread, through the main loop.
    kernel.custom(lambda content: content.get("push") == "tasks")
    task["status"] = "REVIEW"
    pushed = kernel.custom(lambda content: content.get("push") == "task")
    assert pushed["data"]["status"] == "REVIEW"
    kernel.send(comm_id, {"id": 1, "method": "start_attempt", "params": {"task_id": "nope"}})
    assert kernel.custom(lambda content: content.get("reply_to") == 1)["ok"] is False
    out = kernel.run(
        "import threading, time; board.close(); feeds = lambda: [t for t in threading.enumerate()"
        " if t.name == 'rootbound-feed']\n"
        "end = time.time() + 5\n"
        "while feeds() and time.time() < end: time.sleep(0.05)\n"
        "print('feeds:', feeds())"
    )
    assert "feeds: []" in out


def test_magics(server, kernel):
    assert "no project yet" in kernel.run("%load_ext rootbound\n%rootbound board")
    project = server.state.project(name="Magic")
    server.state.task(project, title="conjured")
    server.state.audited(2)
    assert "conjured" in kernel.run("%rootbound board Magic")
    assert "Audit of Magic" in kernel.run("%rootbound audit")
    assert "ready" in kernel.run("%rootbound status")
    assert "First" in kernel.run("%rootbound plan --project Magic do it all")
    assert "there are: 'Magic'" in kernel.run("%rootbound board Other")
    usage = kernel.run("%rootbound dance")
    assert "%rootbound status" in usage
    assert "Traceback" not in usage
    assert "widget-view" in kernel.run("%rootbound run --project Magic conjured")
    assert [item["status"] for item in server.state.attempts.values()] == ["QUEUED"]
    assert "there are: 'conjured'" in kernel.run("%rootbound run --project Magic other")
    for line, offered in (
        ("%rootbound b", "board"),
        ("%rootbound board M", "Magic"),
        ("%rootbound run --pr", "--project"),
        ("%rootbound run con", "conjured"),
    ):
        assert offered in kernel.complete(line), line


def test_notebook_is_valid_and_clean():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def run_notebook(tmp_path, **parameters):
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(NOTEBOOK, out, parameters, progress_bar=False, kernel_name="python3")
    outputs = [o for cell in nbformat.read(out, 4).cells for o in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    return "\n".join(str(o.get("data", o.get("text"))) for o in outputs)


def test_quickstart_under_papermill(server, tmp_path):
    project = server.state.project(name="Papermill")
    gate = {"name": "test", "commit": "c" * 40, "command": "pytest -q", "exit_code": 0}
    task = server.state.task(project, title="Fix the parser", status="REVIEW")
    server.state.attempt(task, events=5, status="REVIEW", gates=[gate])
    server.state.audited(3, result="DENIED", path="/etc/shadow")
    shown = run_notebook(tmp_path)
    for text in ("Papermill", "Fix the parser", "line 5", "pytest -q", "a.py", "/etc/shadow"):
        assert text in shown
    assert "widget-view" in shown


def test_widgets_are_saved_once_and_converted(server, tmp_path):
    """Executed by papermill and converted by nbconvert: one script a kind, and a readable table."""
    project = server.state.project(name="Saved")
    task = server.state.task(project, title="Kept in the file", status="REVIEW")
    attempt = server.state.attempt(task, events=3, status="REVIEW")
    server.state.audited(2, result="DENIED", path="/etc/shadow")
    code = (
        "import ipywidgets, rootbound as rb\n"
        "client = rb.connect()\n"
        "project = client.projects.find()\n"
        f"attempt = client.attempt({attempt['id']!r})\n"
        "boards = [rb.TaskBoard(project) for _ in range(4)]\n"
        "tab = ipywidgets.Tab([rb.AttemptStream(attempt), rb.AuditTable(project)])\n"
        "display(ipywidgets.HBox(boards[:2]), tab, boards[2])\n"
        "display(rb.DiffView(attempt), rb.CostChart(project), rb.StackStatus(client))\n"
    )
    source = tmp_path / "in.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), source)
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(source, out, progress_bar=False, kernel_name="python3")
    saved = nbformat.read(out, 4)
    models = saved.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    scripts = [model["state"]["script"] for model in models.values() if "script" in model["state"]]
    assert len(scripts) == len(set(scripts)) == 6
    assert max(len(model["state"].get("_esm", "")) for model in models.values()) < 4000
    assert out.stat().st_size < sum(map(len, scripts)) + 400_000

    page, _ = nbconvert.HTMLExporter().from_notebook_node(saved)
    digests = [model["state"]["digest"] for model in models.values() if "digest" in model["state"]]
    assert [page.count(digest) for digest in digests] == [1] * 6
    assert page.count("widget-view+json") >= 6
    # Viewers without widgets take the table that is beside each view.
    text, _ = nbconvert.MarkdownExporter().from_notebook_node(saved)
    for shown in ("Kept in the file", "(snapshot)"):
        assert shown in text


def test_quickstart_without_a_project(server, tmp_path):
    shown = run_notebook(tmp_path, live=False)
    assert "Nothing to show." in shown
    assert "make demo" in shown
