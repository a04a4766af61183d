"""What a widget's view asks its Python side for: pages, searches, forms, words."""

from __future__ import annotations

import json
import uuid

import pytest
import traitlets
from widget_comm import shown

import rootbound as rb

pytestmark = pytest.mark.usefixtures("fake_comm", "static")


@pytest.fixture
def project(server, client):
    return client.projects.get(server.state.project(name="<Demo>")["id"])


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


def test_a_review_asks_for_its_own_attempt(server, client, project):
    raw = server.state.attempt(server.state.task(project.raw), status="REVIEW")
    view = rb.DiffView(client.attempt(raw["id"]), review=True)
    line = shown(view)
    assert view.get_state("review") == {"review": True}
    assert view._state["attempt"]["status"] == "REVIEW"
    assert "Attempt 1" in view.to_html()
    place = f"api/attempts/{raw['id']}"
    assert line.ask("read", {"path": f"{place}/diff/"})["result"]["files"][0]["path"] == "a.py"
    asked = {"method": "POST", "path": f"{place}/reject/", "body": {"reason": "no"}}
    assert line.ask("write", asked)["result"]["status"] == "FAILED"
    for path in ("api/agents/", f"{place}/events/", "api/attempts/other/diff/"):
        assert line.ask("read", {"path": path})["problem"]["code"] == "invalid-params"
    line.receive({"method": "update", "state": {"review": False}})
    assert view.review
    view.close()
