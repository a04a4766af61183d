"""The widgets' protocol, with a fake comm in place of the kernel's."""

from __future__ import annotations

import gc
import json
import threading
import time
import uuid
import weakref
from unittest import mock

import comm
import pytest
import traitlets
from comm.base_comm import BaseComm
from contract_server import problem

import rootbound as rb
from rootbound.widgets import bundle, feed


class FakeComm(BaseComm):
    """Keeps what Python sends, and lets a test send what a front end would."""

    opened: list[FakeComm] = []

    def __init__(self, **kwargs):
        self.sent = []
        super().__init__(**kwargs)
        FakeComm.opened.append(self)

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        self.sent.append((msg_type, data))

    def receive(self, data):
        self.handle_msg({"content": {"data": data}, "buffers": []})

    def ask(self, method, params=None, request=7):
        content = {"id": request, "method": method, "params": params or {}}
        self.receive({"method": "custom", "content": content})
        answers = [c for c in self.customs() if c.get("reply_to") == request]
        return answers[-1]

    def customs(self):
        return [
            data["content"]
            for kind, data in self.sent
            if kind == "comm_msg" and data.get("method") == "custom"
        ]

    def pushes(self, name):
        return [content["data"] for content in self.customs() if content.get("push") == name]


@pytest.fixture(autouse=True)
def fake_comm(monkeypatch):
    monkeypatch.setattr(comm, "create_comm", FakeComm)
    monkeypatch.setattr(FakeComm, "opened", [])


@pytest.fixture(autouse=True)
def static(monkeypatch, tmp_path):
    folder = tmp_path / "static"
    folder.mkdir()
    for name in (
        "task_board", "attempt_stream", "audit_table", "cost_chart", "diff_view", "stack_status",
        "loader",
    ):  # fmt: skip
        (folder / f"{name}.js").write_text(f"export default {{}} // {name}")
        (folder / f"{name}.css").write_text(f".{name} {{}}")
    monkeypatch.setattr(bundle, "STATIC", folder)
    return folder


@pytest.fixture
def project(server, client):
    return client.projects.get(server.state.project(name="<Demo>")["id"])


def shown(widget):
    """Return the widget's comm; the widget is closed at the end of the test."""
    return widget.comm


def until(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_board_is_live_and_acts(server, project):
    task = server.state.task(project.raw)
    widget = rb.TaskBoard(project)
    line = shown(widget)
    assert widget._state == {"project": {"id": project.id, "name": "<Demo>"}, "tasks": [task]}
    # Until a front end says hello, nothing follows the server: papermill needs no threads.
    assert widget._feed is None
    late = server.state.task(project.raw, title="late")
    answer = line.ask("hello", request=0)
    assert answer["ok"]
    assert [item["id"] for item in answer["result"]["tasks"]] == [task["id"], late["id"]]
    until(lambda: line.pushes("tasks"))
    started = line.ask("start_attempt", {"task_id": task["id"]})
    assert started["result"]["status"] == "QUEUED"
    until(lambda: any(item["latest_attempt"] for item in line.pushes("task")))
    attempt = server.state.attempts[started["result"]["id"]]
    server.state.status(attempt, "REVIEW")
    assert line.ask("approve", {"attempt_id": attempt["id"]})["result"]["status"] == "SUCCESS"
    line.ask("select", {"task_id": task["id"]})
    assert widget.selected == task["id"]
    del server.state.tasks[late["id"]]
    until(lambda: len(line.pushes("tasks")[-1]) == 1)
    assert len(widget._state["tasks"]) == 1
    reader = widget._feed._thread
    widget.close()
    reader.join(5)
    assert not reader.is_alive()


def test_a_task_is_chosen_from_python(server, project):
    task = server.state.task(project.raw)
    widget = rb.TaskBoard(project, selected=task["id"])
    line = shown(widget)
    assert widget.get_state("selected") == {"selected": task["id"]}
    made_since = server.state.task(project.raw, title="made since")
    widget.selected = made_since["id"]
    states = [data["state"] for kind, data in line.sent if data.get("method") == "update"]
    assert states[-1] == {"selected": made_since["id"]}
    assert [item["id"] for item in line.pushes("tasks")[-1]] == [task["id"], made_since["id"]]
    with pytest.raises(traitlets.TraitError, match="has no task 'elsewhere'"):
        widget.selected = "elsewhere"
    assert line.ask("select", {"task_id": "elsewhere"})["problem"]["code"] == "not-found"
    assert widget.selected == made_since["id"]
    widget._take([{"type": "task_deleted", "id": made_since["id"]}])
    assert widget.selected is None
    widget.close()


def test_forms_ask_for_what_their_view_shows_and_nothing_else(server, client, project):
    task = server.state.task(project.raw)
    other = server.state.task({"id": str(uuid.uuid4())})
    widget = rb.TaskBoard(project)
    line = shown(widget)
    seen = []
    widget.on_action(lambda _widget, name, params: seen.append((name, params["path"])))

    def write(method, path, body=None):
        return line.ask("write", {"method": method, "path": path, "body": body})

    place = f"api/projects/{project.id}/tasks/"
    made = write("POST", place, {"title": "From a form", "agent_role": "QA"})
    assert made["result"]["title"] == "From a form"
    assert seen == [("write", place)]
    changed = write("PATCH", f"api/tasks/{task['id']}/", {"title": "Changed"})
    assert changed["result"]["title"] == "Changed"
    plans = line.ask("read", {"path": f"api/projects/{project.id}/decompositions/?limit=5"})
    assert "cannot" not in str(plans)
    for method, path in (
        ("PATCH", f"api/tasks/{other['id']}/"),
        ("POST", f"api/projects/{other['project']}/tasks/"),
        ("DELETE", f"api/projects/{project.id}/"),
        ("POST", "api/local-access/roots/"),
        ("POST", f"{place}../../agents/"),
        ("GET", f"api/tasks/{task['id']}/"),
    ):
        assert write(method, path)["problem"]["code"] == "invalid-params", path
    assert line.ask("read", {"path": "api/agents/"})["problem"]["code"] == "invalid-params"
    assert len(seen) == 2
    widget.close()
    raw = server.state.attempt(task, status="FAILED")
    stream = rb.AttemptStream(client.attempt(raw["id"]))
    asked = {"method": "POST", "path": f"api/attempts/{raw['id']}/retry/", "body": {"feedback": ""}}
    assert shown(stream).ask("write", asked)["result"]["status"] == "QUEUED"
    asked["path"] = f"api/attempts/{raw['id']}/approve/"
    assert not shown(stream).ask("write", asked)["ok"]
    stream.close()


def test_every_message_is_answered(server, project):
    task = server.state.task(project.raw, blocked_by=["x"])
    widget = rb.TaskBoard(project)
    line = shown(widget)
    refused = line.ask("start_attempt", {"task_id": task["id"]})
    assert not refused["ok"]
    assert refused["problem"]["code"] == "dependencies-open"
    assert refused["problem"]["detail"] == "It waits for another task."
    assert line.ask("start_attempt", {})["problem"]["code"] == "invalid-params"
    assert line.ask("start_attempt", {"task_id": "other"})["problem"]["code"] == "not-found"
    assert line.ask("explode")["problem"]["code"] == "unknown-method"
    assert line.ask(["not", "a", "name"])["problem"]["code"] == "unknown-method"
    faults = [(ZeroDivisionError("x"), "widget-failed"), (KeyboardInterrupt(), "interrupted")]
    for error, code in faults:
        widget._handlers["hello"] = mock.Mock(side_effect=error)
        assert line.ask("hello")["problem"]["code"] == code
    server.__exit__()
    assert "rootbound up" in line.ask("cancel", {"attempt_id": "a"})["problem"]["detail"]
    line.receive({"method": "custom", "content": "no id, nothing to answer"})
    widget.close()


def test_front_end_cannot_write_code_or_state(project, static):
    widget = rb.TaskBoard(project)
    line = shown(widget)
    before = (widget._esm, widget._bundle, widget._state, widget._view_module)
    assert "loader" in widget._esm
    assert "task_board" in widget._bundle.script
    evil = {"_esm": "evil()", "_bundle": "IPY_MODEL_evil", "_state": {}, "_view_module": "evil"}
    line.receive({"method": "update", "state": {**evil, "theme": "dark"}, "buffer_paths": []})
    assert (widget._esm, widget._bundle, widget._state, widget._view_module) == before
    holder = widget._bundle
    holder.comm.receive({"method": "update", "state": {"script": "evil()"}, "buffer_paths": []})
    assert "evil" not in holder.script
    assert widget.theme == "dark"
    assert "evil" not in str(line.sent)
    widget.close()


def test_stream_sends_every_event_once_within_its_window(server, client, project, monkeypatch):
    monkeypatch.setattr("rootbound.widgets.attempt_stream._WINDOW", 20)
    monkeypatch.setattr("rootbound.widgets.attempt_stream._PUSH_SIZE", 10)
    raw = server.state.attempt(server.state.task(project.raw), events=5)
    widget = rb.AttemptStream(client.attempt(raw["id"]))
    line = shown(widget)
    server.state.log(raw, "between construction and the first view")
    state = line.ask("hello")["result"]
    assert [event["seq"] for event in state["events"]] == [1, 2, 3, 4, 5]
    for number in range(60):
        server.state.log(raw, str(number))
    server.state.cut_after = [3]

    def seqs():
        return [event["seq"] for batch in line.pushes("events") for event in batch]

    until(lambda: len(seqs()) >= 20)
    time.sleep(0.2)
    assert len(seqs()) < 40  # nothing acknowledged, so the window is full
    while len(seqs()) < 61:
        line.ask("ack", {"seq": seqs()[-1]})
        time.sleep(0.01)
    assert seqs() == list(range(6, 67))
    server.state.status(raw, "FAILED")
    line.ask("ack", {"seq": seqs()[-1]})
    until(lambda: line.pushes("status") and line.pushes("status")[-1]["status"] == "FAILED")
    until(lambda: len(widget._state["events"]) == 67)
    until(lambda: not widget._feed.is_alive)
    widget.close()


def test_stream_is_bounded(server, client, project, monkeypatch):
    monkeypatch.setattr("rootbound.widgets.attempt_stream._MAX_EVENTS", 50)
    raw = server.state.attempt(server.state.task(project.raw), events=120, status="SUCCESS")
    widget = rb.AttemptStream(client.attempt(raw["id"]))
    assert [event["seq"] for event in widget._state["events"]] == list(range(71, 121))
    monkeypatch.setattr("rootbound.widgets.attempt_stream._MAX_BYTES", 1000)
    widget._keep({"seq": 121, "payload": "x" * 900})
    assert [event["seq"] for event in widget._snapshot()["events"]] == [121]
    widget.close()


def test_a_stream_is_searched_beyond_what_it_holds(server, client, project, monkeypatch):
    monkeypatch.setattr("rootbound.widgets.attempt_stream._MAX_EVENTS", 5)
    raw = server.state.attempt(server.state.task(project.raw))
    for number in range(20):
        server.state.log(raw, f"line {number}")
    widget = rb.AttemptStream(client.attempt(raw["id"]))
    line = shown(widget)
    first = widget._state["events"][0]["seq"]

    def seqs(method, **params):
        return [event["seq"] for event in line.ask(method, params)["result"]["results"]]

    texts = {event["seq"]: str(event["payload"]) for event in server.state.events[raw["id"]]}
    wanted = [seq for seq, text in texts.items() if "line 7" in text]
    assert wanted[0] < first
    assert seqs("search_events", words="line 7", before=first) == wanted
    assert seqs("events_page", before=first, limit=3) == [first - 3, first - 2, first - 1]
    assert seqs("events_page", after=first, limit=2) == [first + 1, first + 2]
    assert line.ask("search_events", {"before": first})["problem"]["code"] == "invalid-params"
    # What is looked for is the view's to change and Python's, and of a kind that there is.
    line.receive({"method": "update", "state": {"search": "line 7", "show": "talk"}})
    assert (widget.search, widget.show, widget.attempt.id) == ("line 7", "talk", raw["id"])
    widget.search = ""
    states = [data["state"] for kind, data in line.sent if data.get("method") == "update"]
    assert states[-1] == {"search": ""}
    with pytest.raises(traitlets.TraitError):
        widget.show = "everything"
    widget.close()


def test_a_decision_that_came_too_late_brings_the_attempt_as_it_is(server, client, project):
    task = server.state.task(project.raw)
    raw = server.state.attempt(task, status="REVIEW")
    widget = rb.AttemptStream(client.attempt(raw["id"]))
    line = shown(widget)
    task["version"] += 1
    late = line.ask("approve", {"version": task["version"] - 1})
    assert late["problem"]["code"] == "version-conflict"
    assert line.pushes("status")[-1]["status"] == "REVIEW"
    kinds = [content.get("push") or content.get("reply_to") for content in line.customs()]
    assert kinds[-2:] == ["status", 7], "the view has it before it hears of the conflict"
    assert line.ask("approve", {"version": task["version"]})["result"]["status"] == "SUCCESS"
    widget.close()


def test_a_view_speaks_the_language_of_a_pack(project, monkeypatch, tmp_path):
    pack = tmp_path / "jupyterlab_language_pack_pl_PL"
    messages = pack / "locale" / "pl_PL" / "LC_MESSAGES"
    messages.mkdir(parents=True)
    (pack / "__init__.py").write_text("raise RuntimeError('no pack is executed')")
    rule = "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);"
    catalogue = {
        "": {"plural_forms": rule}, "To do": ["Do zrobienia"], "odd": 7,
        "%1 review": ["%1 recenzja", "%1 recenzje", "%1 recenzji"],
    }  # fmt: skip
    (messages / "rootbound.json").write_text(json.dumps(catalogue))
    info = tmp_path / "jupyterlab_language_pack_pl_PL-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: jupyterlab-language-pack-pl-PL\nVersion: 1\n")
    entry = "[jupyterlab.languagepack]\npl_PL = jupyterlab_language_pack_pl_PL\n"
    (info / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    widget = rb.TaskBoard(project, locale="pl")
    assert widget.get_state("locale") == {"locale": "pl"}
    line = shown(widget)
    for language in ("pl-PL", "pl", "pl_PL"):
        found = line.ask("catalogue", {"language": language})["result"]
        assert found["messages"]["To do"] == ["Do zrobienia"]
    assert "odd" not in found["messages"]
    assert [found["plurals"][count] for count in (1, 2, 5, 12, 22, 104)] == [0, 1, 2, 2, 1, 1]
    assert line.ask("catalogue", {"language": "xx"})["result"] is None
    odd = {"": {"plural_forms": "plural=__import__"}}
    (messages / "rootbound.json").write_text(json.dumps(odd))
    assert line.ask("catalogue", {"language": "pl"})["result"]["plurals"][:3] == [1, 0, 1]
    (messages / "rootbound.json").write_text("[")
    assert line.ask("catalogue", {"language": "pl"})["result"] is None
    line.receive({"method": "update", "state": {"locale": "xx"}, "buffer_paths": []})
    assert widget.locale == "pl"
    widget.close()


def test_a_second_view_begins_with_the_present(server, client, project):
    raw = server.state.attempt(server.state.task(project.raw), events=2)
    widget = rb.AttemptStream(client.attempt(raw["id"]))
    line = shown(widget)
    line.ask("hello")
    server.state.log(raw, "third")
    until(lambda: line.pushes("events"))
    assert [event["seq"] for event in line.ask("hello")["result"]["events"]] == [1, 2, 3]
    assert [event["seq"] for event in widget._state["events"]] == [1, 2, 3]
    widget.close()


def test_audit_table_filters_and_pages(server, client, project, monkeypatch):
    monkeypatch.setattr("rootbound.widgets.audit_table._PAGE", 3)
    monkeypatch.setattr("rootbound.widgets.audit_table._POLL_S", 0.05)
    server.state.audited(5)
    server.state.audited(1, result="DENIED")
    widget = rb.AuditTable(project)
    line = shown(widget)
    assert [row["seq"] for row in widget._state["rows"]] == [1, 2, 3]
    page = line.ask("load_more", {"cursor": widget._state["next"]})["result"]
    assert ([row["seq"] for row in page["rows"]], page["next"]) == ([4, 5, 6], None)
    chosen = {"result": "DENIED", "operation": None, "attempt": "not yours to choose"}
    answer = line.ask("set_filter", {"filter": chosen})["result"]
    assert [row["seq"] for row in answer["rows"]] == [6]
    assert widget._state["filter"] == {"result": "DENIED"}
    assert sum(row["count"] for row in widget._state["counts"]) == 6
    assert line.ask("set_filter", {"filter": "x"})["problem"]["code"] == "invalid-params"
    server.state.fail = [problem(400, "bad-filter", "No.")]
    assert line.ask("set_filter", {"filter": {}})["problem"]["code"] == "bad-filter"
    assert widget._filter == {"result": "DENIED"}
    line.ask("hello")
    server.state.audited(1, result="DENIED")
    until(lambda: line.pushes("audit"))
    assert [row["seq"] for row in widget._state["rows"]] == [6, 7]
    widget.close()


def test_diff_view_and_stack_status(server, client, project, monkeypatch):
    monkeypatch.setattr("rootbound.widgets.stack_status._POLL_S", 0.05)
    raw = server.state.attempt(server.state.task(project.raw), status="REVIEW")
    view = rb.DiffView(client.attempt(raw["id"]))
    assert view._state["diff"]["files"][0]["path"] == "a.py"
    assert "new &lt;b&gt;" in view.to_html()
    assert shown(view).ask("reject", {"reason": "no"})["result"]["status"] == "FAILED"
    status = rb.StackStatus(client)
    line = shown(status)
    report = line.ask("hello")["result"]["status"]
    assert report["stack"]["services"] == {"lda": {"state": "ready", "message": None}}
    assert report["local_access"]["lda"]["reachable"]
    server.state.roots["r"] = {"id": "r", "path": "/x<y"}
    until(lambda: line.pushes("status"))
    assert "/x&lt;y" in status.to_html()
    assert (
        line.ask("withdraw_root", {"root_id": "r"})["result"]["status"]["local_access"]["roots"]
        == []
    )
    assert "/x&lt;y" not in status.to_html()
    assert line.ask("withdraw_root", {"root_id": "r"})["problem"]["code"] == "not-found"
    view.close()
    status.close()


def test_diff_view_before_there_is_a_diff(server, client, project):
    raw = server.state.attempt(server.state.task(project.raw))
    server.state.fail = []
    attempt = client.attempt(raw["id"])
    server.state.fail = [problem(404, "no-diff", "No diff yet.")]
    view = rb.DiffView(attempt)
    assert view._state == {"diff": None}
    view.close()
    del server.state.attempts[raw["id"]]
    server.state.fail = [problem(404, "not-found", "Gone.")]
    with pytest.raises(rb.NotFoundError):
        rb.DiffView(attempt)


def test_mime_bundle_has_both_forms(server, client, project):
    server.state.task(project.raw, title="<b>bold</b>")
    raw = server.state.attempt(server.state.task(project.raw), events=3)
    attempt = client.attempt(raw["id"])
    for widget in (rb.TaskBoard(project), rb.AttemptStream(attempt), rb.AuditTable(attempt)):
        data, _ = widget._repr_mimebundle_()
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
        assert "snapshot" in data["text/html"]
        assert "<b>bold" not in data["text/html"]
        widget.close()
    board = rb.TaskBoard(project)
    server.__exit__()
    assert "rootbound up" in board._repr_mimebundle_()[0]["text/html"]
    board.close()


def test_a_missing_bundle_names_the_build_command(project, static):
    (static / "task_board.js").unlink()
    with pytest.raises(rb.MissingDependencyError, match="npm --prefix widgets/ui run build"):
        rb.TaskBoard(project)


def test_updates_go_through_the_main_loop_in_batches():
    queue, taken = [], []
    running = feed.Feed(
        lambda _stop: iter(range(50)), taken.extend, mock.Mock(), dispatch=queue.append
    )
    running.start()
    running._thread.join(5)
    assert taken == []  # never from the reading thread
    assert len(queue) == 1
    queue.pop()()
    assert taken == list(range(50))


def test_a_busy_kernel_holds_the_reader_back():
    queue, taken, read = [], [], []

    def source(_stop):
        for number in range(100):
            read.append(number)
            yield number

    running = feed.Feed(source, taken.extend, mock.Mock(), max_pending=10, dispatch=queue.append)
    running.start()
    until(lambda: len(read) == 11)
    time.sleep(0.1)
    assert len(read) == 11
    while len(taken) < 100:
        until(lambda: queue or not running._thread.is_alive())
        queue.pop()()
    assert taken == list(range(100))


def test_a_collected_owner_ends_the_feed():
    class Owner:
        def take(self, items):
            pass

        def failed(self, error):
            pass

    def source(stop):
        while not stop.is_set():
            time.sleep(0.01)
            yield 1

    owner = Owner()
    running = feed.Feed(source, owner.take, owner.failed)
    running.start()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    running._thread.join(5)
    assert not running._thread.is_alive()


def test_feed_reports_problems_and_recovers(monkeypatch):
    monkeypatch.setattr(feed, "_RETRY_S", 0.01)
    tries, taken, failed = [], [], []

    def source(_stop):
        tries.append(1)
        if len(tries) == 1:
            raise rb.ConnectionFailedError("away")
        if len(tries) == 2:
            yield "back"
            raise ValueError("a bug")

    running = feed.Feed(source, taken.extend, failed.append)
    with mock.patch.object(feed._log, "exception"):
        running.start()
        running._thread.join(5)
    assert taken == ["back"]
    assert [str(error) for error in failed] == ["away", "The live view stopped: a bug"]
    assert threading.current_thread() is threading.main_thread()


def test_widgets_of_a_kind_share_one_script(project, client):
    boards = [rb.TaskBoard(project) for _ in range(3)]
    audit = rb.AuditTable(project)
    assert len({board._bundle.model_id for board in boards}) == 1
    assert audit._bundle is not boards[0]._bundle
    saved = [widget.get_state() for widget in (*boards, audit)]
    assert all("task_board" not in str(state["_esm"]) for state in saved)
    assert saved[0]["_bundle"] == f"IPY_MODEL_{boards[0]._bundle.model_id}"
    # A host in which models cannot find each other asks the widget itself.
    assert "task_board" in boards[0].comm.ask("bundle")["result"]["script"]
    boards[0]._bundle.close()
    again = rb.TaskBoard(project)
    assert again._bundle.comm is not None
    for widget in (*boards, audit, again):
        widget.close()


def test_audit_filter_is_read_set_and_checked(server, project):
    server.state.audited(3)
    server.state.audited(2, result="DENIED")
    widget = rb.AuditTable(project, filter={"result": "DENIED"})
    assert len(widget._state["rows"]) == 2
    line = shown(widget)
    seen = []
    widget.observe(lambda change: seen.append(change["new"]), "filter")
    acted = []
    widget.on_action(lambda _widget, name, params: acted.append((name, params)))
    line.ask("set_filter", {"filter": {"result": "ALLOWED", "operation": ""}})
    assert widget.filter == seen[-1] == {"result": "ALLOWED"}
    assert acted == [("set_filter", {"filter": {"result": "ALLOWED", "operation": ""}})]
    widget.filter = {}
    assert len(widget._state["rows"]) == 5
    assert widget._state["filter"] == {}
    with pytest.raises(traitlets.TraitError, match="no filter user; there are operation"):
        widget.filter = {"user": "root"}
    assert widget.filter == {}
    line.ask("set_filter", {"filter": 7})
    assert line.ask("timeline")["result"]["bucket_s"] == 1
    assert line.ask("tree", {"path": "/srv"})["result"]["path"] == "/srv"
    verified = line.ask("verify")["result"]
    assert (verified["ok"], verified["entries"], verified["next"]) == (True, 5, None)
    assert len(acted) == 1
    widget.close()


def test_cost_chart_is_divided_from_both_sides(server, client, project):
    server.state.costs = [cost_row("<Demo>", "QA", 0.5), cost_row("<Demo>", "PM", 0.0, unpriced=1)]
    chart = rb.CostChart(project)
    assert chart.group == "role"
    assert [row["role"] for row in chart._state["costs"]["results"]] == ["QA", "PM"]
    line = shown(chart)
    line.receive({"method": "update", "state": {"group": "project"}, "buffer_paths": []})
    assert chart.group == "project"
    chart.measure = "tokens"
    text = chart.to_html()
    assert "&lt;Demo&gt;" in text
    assert "$0.0000 and 1 unpriced" in text
    assert "snapshot" in text
    costs = client.costs(since="2026-01-01")
    assert (costs.tokens, costs.cost_usd) == (44, 0.5)
    chart.close()


def cost_row(project, role, cost, unpriced=0):
    return {
        "day": "2026-01-01", "project": "p", "project_name": project, "role": role, "runs": 1,
        "input_tokens": 20, "output_tokens": 2, "cost_usd": cost, "unpriced_runs": unpriced,
    }  # fmt: skip
