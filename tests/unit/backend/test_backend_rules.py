"""Rules that need no database: graphs, tables, sentences, decoding."""

from __future__ import annotations

import msgspec
import pytest
from rest_framework.exceptions import ValidationError

from rootbound_backend.apps.attempts.handover import back_off_s
from rootbound_backend.apps.attempts.models import (
    LIVE_STATUSES,
    TERMINAL_STATUSES,
    AttemptStatus,
)
from rootbound_backend.apps.attempts.transitions import ATTEMPT_TRANSITIONS, TASK_TRANSITIONS
from rootbound_backend.apps.local_access.plans import PlanTask, check_plan_tasks, task_fields
from rootbound_backend.apps.tasks.models import TaskStatus
from rootbound_backend.apps.tasks.services import cycle_in
from rootbound_backend.problems import InvalidInput, Problem, exception_handler
from rootbound_backend.settings import _celery_broker, _database
from rootbound_backend.wire import decode_batch


@pytest.mark.parametrize(
    ("graph", "path"),
    [
        ({"a": []}, []),
        ({"a": ["b"], "b": ["c"], "c": []}, []),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"a": ["x", "b"], "x": [], "b": ["c", "x"], "c": ["a"]}, ["a", "b", "c", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, []),
        ({"a": ["gone"]}, []),
    ],
)
def test_cycles_are_found_with_their_path(graph, path):
    assert cycle_in(graph, "a") == path


def test_a_long_chain_is_no_problem():
    graph = {str(n): [str(n + 1)] for n in range(20_000)}
    assert cycle_in(graph, "0") == []
    graph["20000"] = ["0"]
    assert len(cycle_in(graph, "0")) == 20_002


def test_the_tables_know_every_status_and_end_where_they_should():
    assert set(ATTEMPT_TRANSITIONS) == set(AttemptStatus.values)
    assert set(TASK_TRANSITIONS) == set(TaskStatus.values)
    for status in TERMINAL_STATUSES:
        assert ATTEMPT_TRANSITIONS[status] == frozenset()
    for status in LIVE_STATUSES:
        assert AttemptStatus.FAILED in ATTEMPT_TRANSITIONS[status]
    to_review = {before for before, after in ATTEMPT_TRANSITIONS.items() if "REVIEW" in after}
    assert to_review == {AttemptStatus.GATES}


def test_the_back_off_grows_to_half_a_minute():
    assert [back_off_s(tries) for tries in (0, 1, 2, 3, 4, 5, 6, 60)] == [1, 1, 2, 4, 8, 16, 30, 30]


def planned(key, *after, **fields):
    return PlanTask(key=key, title=key, depends_on=list(after), **fields)


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ([planned("a"), planned("a")], "appears twice"),
        ([planned("a", "b")], "not planned"),
        ([planned("a", "b"), planned("b", "a")], "a → b → a"),
    ],
)
def test_unsound_plans_are_refused(tasks, says):
    with pytest.raises(InvalidInput, match=says):
        check_plan_tasks(tasks)


def test_a_planned_task_keeps_what_the_pm_wrote():
    task = planned("a", "b", description=" Do ", acceptance=["one", "two"], files=["x.py"])
    fields = task_fields(task, {"b": "id-of-b"})
    assert fields["dependencies"] == ["id-of-b"]
    assert fields["description"] == "Do\n\nAcceptance:\n- one\n- two\n\nFiles:\n- x.py"


def test_nested_errors_become_one_sentence():
    error = ValidationError({"config": {"network": {"agent": ["Must be a valid boolean."]}}})
    response = exception_handler(error, {})
    assert response.data["detail"] == "config.network.agent: Must be a valid boolean."
    assert response.data["code"] == "invalid"


def test_our_own_faults_are_not_dressed_up():
    assert exception_handler(RuntimeError("x"), {}) is None


class Row(msgspec.Struct):
    text: str


class Rows(msgspec.Struct):
    rows: list[Row]


DECODER = msgspec.json.Decoder(Rows)


@pytest.mark.parametrize(
    ("spelled", "kept"),
    [
        (rb"a\u0000b", "a\ufffdb"),
        (rb"\udcff", "\ufffd"),
        (rb"\uD83D\uDE00", "😀"),
        (rb"\\u0000", "\\u0000"),
        (rb"\u00e9", "é"),
    ],
)
def test_what_cannot_be_stored_is_replaced(spelled, kept):
    batch = decode_batch(b'{"rows":[{"text":"' + spelled + b'"}]}', DECODER)
    assert batch.rows[0].text == kept


def test_a_bad_row_is_named():
    with pytest.raises(Problem, match=r"^rows\[1\]\.text: Expected `str`, got `int`\.$"):
        decode_batch(b'{"rows":[{"text":"a"},{"text":1}]}', DECODER)


def test_database_urls():
    facts = _database("postgresql://me:p%40ss@/base?host=/run/pg%20sock&sslmode=disable")
    assert (facts["USER"], facts["PASSWORD"], facts["NAME"]) == ("me", "p@ss", "base")
    assert (facts["HOST"], facts["PORT"]) == ("/run/pg sock", "")
    assert facts["OPTIONS"]["sslmode"] == "disable"
    tcp = _database("postgresql://me:x@db.local:6543/base")
    assert (tcp["HOST"], tcp["PORT"]) == ("db.local", "6543")


def test_broker_urls():
    assert _celery_broker("unix:///run/r.sock") == "redis+socket:///run/r.sock"
    assert _celery_broker("redis://127.0.0.1:1/0") == "redis://127.0.0.1:1/0"
