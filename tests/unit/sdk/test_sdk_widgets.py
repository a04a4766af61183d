"""The widgets' protocol, with a fake comm in place of the kernel's."""

from __future__ import annotations

import time
from unittest import mock

import pytest
import traitlets
from contract_server import problem
from widget_comm import shown, until

import rootbound as rb

pytestmark = pytest.mark.usefixtures("fake_comm", "static")


@pytest.fixture
def project(server, client):
    return client.projects.get(server.state.project(name="<Demo>")["id"])


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

    def acknowledged():
        line.ask("ack", {"seq": seqs()[-1]})
        return len(seqs()) >= 61

    until(acknowledged, 30)
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
    assert [row["count"] for row in widget._state["counts"]] == [1], "of what is shown, not of all"
    assert line.ask("set_filter", {"filter": "x"})["problem"]["code"] == "invalid-params"
    server.state.fail = [problem(400, "bad-filter", "No.")]
    assert line.ask("set_filter", {"filter": {}})["problem"]["code"] == "bad-filter"
    assert widget._filter == {"result": "DENIED"}
    line.ask("hello")
    server.state.audited(1, result="DENIED")
    until(lambda: line.pushes("audit"))
    assert [row["seq"] for row in widget._state["rows"]] == [6, 7]
    assert [row["count"] for row in widget._state["counts"]] == [2]
    assert "DENIED" in widget.to_html()
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
