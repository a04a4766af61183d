"""The rules of a batch, against the contract server."""

from __future__ import annotations

import json
import threading

import pytest

import rootbound as rb
from rootbound import batch as batches


@pytest.fixture
def project(server, client):
    return client.projects.get(server.state.project()["id"])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batches, "_POLL_S", 0.01)
    monkeypatch.delenv(batches.LEDGER_VARIABLE, raising=False)


def finishing(server, ending="REVIEW", **fields):
    """End each queued attempt as soon as it is there."""
    done = threading.Event()
    most = [0]

    def work():
        while not done.wait(0.02):
            live = [a for a in server.state.attempts.values() if a["status"] == "QUEUED"]
            most[0] = max(most[0], len(live))
            for attempt in live:
                attempt.update(fields)
                server.state.status(attempt, ending)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def stop():
        done.set()
        thread.join(5)
        return most[0]

    return stop


def test_open_tasks_are_done_a_few_at_a_time(server, project):
    for number in range(5):
        server.state.task({"id": project.id}, title=f"T{number}", priority=number)
    stop = finishing(server)
    result = rb.Batch(project, max_parallel=2, approve=False).run(progress=False)
    assert stop() <= 2
    assert [attempt.status for attempt in result.attempts] == ["REVIEW"] * 5
    result.raise_for_failures()
    assert "T4" in result._repr_html_()
    assert result.summary()["ok"] is True
    # What waits for review stays; with approval it is merged, and nothing is started again.
    merged = rb.Batch(project).run(progress=False)
    assert [attempt.status for attempt in merged.attempts] == ["SUCCESS"] * 5
    assert len(server.state.attempts) == 5


def test_a_budget_stops_the_next_attempt(server, project):
    for number in range(3):
        server.state.task({"id": project.id}, title=f"T{number}")
    stop = finishing(server, usage={"input_tokens": 5, "output_tokens": 5, "cost_usd": 0.6})
    result = rb.Batch(project, budget=1.0, approve=False).run(progress=False)
    stop()
    assert len(server.state.attempts) == 2
    assert result.cost_usd == pytest.approx(1.2)
    with pytest.raises(rb.BatchFailedError, match=r"the budget of 1 US dollars is spent \(1\.2"):
        result.raise_for_failures()


def test_an_unknown_price_is_not_taken_for_free(server, project):
    for number in range(2):
        server.state.task({"id": project.id}, title=f"T{number}")
    stop = finishing(server, usage={"input_tokens": 5, "output_tokens": 5, "cost_usd": None})
    result = rb.Batch(project, budget=1.0, approve=False).run(progress=False)
    stop()
    assert len(server.state.attempts) == 1
    assert result.cost_usd is None
    with pytest.raises(rb.BatchFailedError, match="price of a model that was used is not known"):
        result.raise_for_failures()


def test_failures_are_named(server, project):
    task = server.state.task({"id": project.id}, title="Hard")
    server.state.task({"id": project.id}, title="Behind", blocked_by=[task["id"]])
    stop = finishing(server, "FAILED", failure="GATE_TEST", failure_message="The tests fail.")
    result = rb.Batch(project).run(progress=False)
    stop()
    with pytest.raises(rb.BatchFailedError, match=r"Hard: The tests fail; not begun.*Behind\.$"):
        result.raise_for_failures()


def test_a_batch_that_was_cut_off_goes_on(server, project, tmp_path):
    ledger = tmp_path / "ledger.json"
    cut = rb.Batch(project, "Do it", ledger=ledger)
    plan = cut._plan()
    assert json.loads(ledger.read_text())["plan"] == plan.id
    assert ledger.stat().st_mode & 0o077 == 0
    with pytest.raises(rb.InvalidRequestError, match="another batch that is not finished"):
        rb.Batch(project, "Something else", ledger=ledger)
    stop = finishing(server)
    server.state.decompositions[plan.id]["tasks_created"] = [
        server.state.task({"id": project.id})["id"]
    ]
    server.state.decompositions[plan.id]["status"] = "APPROVED"
    result = rb.Batch(project, "Do it", ledger=ledger).run(progress=False)
    stop()
    assert (result.resumed, len(server.state.decompositions)) == (True, 1)
    assert result.attempts[0].status == "SUCCESS"
    assert "resumed" not in rb.Batch(project, "Anew", ledger=ledger)._entry
    ledger.write_text("[]")
    with pytest.raises(rb.InvalidRequestError, match="is no file of a batch"):
        rb.Batch(project, ledger=ledger)


@pytest.mark.parametrize("lost", ["LDA_LOST", "GATE_TEST"])
def test_only_what_was_lost_is_tried_again(server, project, tmp_path, lost):
    task = server.state.task({"id": project.id})
    server.state.attempt(task, status="FAILED", failure=lost)
    ledger = tmp_path / "ledger.json"
    entry = {"key": "k", "project": project.id, "prompt": "", "tasks": [task["id"]]}
    ledger.write_text(json.dumps(entry))
    stop = finishing(server)
    rb.Batch(project, ledger=ledger, approve=False).run(progress=False)
    stop()
    assert len(server.state.attempts) == (2 if lost == "LDA_LOST" else 1)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prompt": 5}, "prompt must be a text, not 5."),
        ({"max_parallel": "2"}, "max_parallel must be a whole number from 1, not '2'."),
        ({"max_parallel": True}, "max_parallel must be a whole number from 1, not True."),
        ({"budget": "5"}, "budget must be US dollars, or None, not '5'."),
        ({"approve": "no"}, "approve must be True or False, not 'no'."),
    ],
)
def test_wrong_types_are_one_sentence(project, values, sentence):
    with pytest.raises(rb.InvalidRequestError) as caught:
        rb.Batch(project, **values)
    assert str(caught.value) == sentence
