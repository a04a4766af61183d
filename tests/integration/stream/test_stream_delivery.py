"""Lanes, windows and shared readers: what leaves for whom, and when."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
from django.db import connection

from rootbound_backend import metrics
from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent
from rootbound_backend.apps.attempts.transitions import apply_transition
from rootbound_backend.apps.projects import consumers as board
from rootbound_backend.apps.projects import hub as board_hub
from rootbound_backend.apps.tasks.services import update_task
from rootbound_backend.readers import readers_in_use
from rootbound_backend.websockets import run_in_db
from tests.integration.backend.backend_support import (
    event,
    make_attempt,
    make_project,
    make_task,
    post_events,
    status,
)
from tests.integration.backend.test_backend_sockets import events_until, frame, in_thread, opened

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest.fixture
def attempt(user) -> Attempt:
    made = make_attempt(user)
    assert made.task.project.owner_id == user.pk
    return made


async def test_a_status_overtakes_events_that_are_held(attempt):
    await in_thread(post_events, attempt, [event(seq) for seq in range(1, 1201)])
    socket = await opened(f"/ws/attempts/{attempt.pk}/")
    assert (await frame(socket))["status"] == "RUNNING"
    seen = await events_until(socket, 1000, ack=False)
    await in_thread(post_events, attempt, [status(1201, "GATES")])
    told = await frame(socket)
    assert told == {"type": "status", "status": "GATES", "last_seq": 1203}
    # Progress comes after control, once, however much was added: the latest counts.
    for start in range(1202, 1242, 10):
        await in_thread(post_events, attempt, [event(seq) for seq in range(start, start + 10)])
    progress = await frame(socket)
    while progress["last_seq"] != 1243:
        progress = await frame(socket)
    assert progress == {"type": "progress", "last_seq": 1243, "sent_seq": 1000}
    await socket.send_json_to({"type": "ack", "seq": 1000})
    seen += await events_until(socket, 243)
    assert [one["seq"] for one in seen] == list(range(1, 1244))
    await socket.disconnect()


async def test_a_held_client_is_told_little(attempt, monkeypatch):
    from rootbound_backend.apps.attempts import consumers

    monkeypatch.setattr(consumers, "PROGRESS_S", 0.0)
    monkeypatch.setattr(consumers, "HELD_LOOK_S", 0.01)
    await in_thread(post_events, attempt, [event(seq) for seq in range(1, 1101)])
    socket = await opened(f"/ws/attempts/{attempt.pk}/")
    await frame(socket)
    await events_until(socket, 1000, ack=False)
    for seq in range(1101, 1160):
        await in_thread(post_events, attempt, [event(seq)])
    # The first is waited for: on a busy machine it may take longer than a silence that tells.
    assert (await frame(socket))["type"] == "progress"
    told = 1
    while not await socket.receive_nothing(timeout=0.5):
        assert (await frame(socket))["type"] == "progress"
        told += 1
    assert told <= consumers.MAX_UNHEARD_PROGRESS
    await socket.disconnect()


@pytest.mark.parametrize(("patience_s", "size"), [(30.0, 250), (0.01, 100)])
async def test_a_held_client_gets_no_crumbs_for_a_while(attempt, monkeypatch, patience_s, size):
    from rootbound_backend import metrics
    from rootbound_backend.apps.attempts import consumers

    monkeypatch.setattr(consumers, "HELD_LOOK_S", patience_s)
    await in_thread(post_events, attempt, [event(seq) for seq in range(1, 1501)])
    socket = await opened(f"/ws/attempts/{attempt.pk}/")
    await frame(socket)
    await events_until(socket, 1000, ack=False)
    async with asyncio.timeout(20):
        while not metrics.HELD._value.get():
            await asyncio.sleep(0.01)
    await socket.send_json_to({"type": "ack", "seq": 100})
    if size > 100:
        assert await socket.receive_nothing(timeout=0.2)
        await socket.send_json_to({"type": "ack", "seq": 250})
    got = await frame(socket)
    while got["type"] == "progress":
        got = await frame(socket)
    assert [one["seq"] for one in got["events"]] == list(range(1001, 1001 + size))
    await socket.disconnect()


async def test_a_long_stream_opens_at_its_end(attempt):
    await in_thread(post_events, attempt, [event(seq) for seq in range(1, 501)])
    socket = await opened(f"/ws/attempts/{attempt.pk}/?tail=20")
    hello = await frame(socket)
    assert (hello["last_seq"], hello["after"], hello["first_seq"]) == (502, 482, 1)
    assert [one["seq"] for one in await events_until(socket, 20)] == list(range(483, 503))
    await in_thread(post_events, attempt, [event(501)])
    assert [one["seq"] for one in await events_until(socket, 1)] == [503]
    await socket.disconnect()
    # What is behind `after` already is not sent again for the tail's sake.
    socket = await opened(f"/ws/attempts/{attempt.pk}/?tail=20&after=500")
    assert (await frame(socket))["after"] == 500
    await socket.disconnect()


async def test_what_retention_removed_is_not_waited_for(attempt):
    await in_thread(post_events, attempt, [event(seq) for seq in range(1, 11)])
    await in_thread(apply_transition, attempt_id=attempt.pk, to="FAILED", failure="CANCELLED")

    def forget() -> None:
        AttemptEvent.objects.filter(attempt=attempt).delete()
        Attempt.objects.filter(pk=attempt.pk).update(first_seq=14)

    await in_thread(forget)
    socket = await opened(f"/ws/attempts/{attempt.pk}/")
    hello = await frame(socket)
    assert (hello["first_seq"], hello["after"], hello["last_seq"]) == (14, 13, 13)
    assert await frame(socket) == {"type": "end", "status": "FAILED", "last_seq": 13}
    await socket.disconnect()


async def test_late_events_say_how_late_they_are(attempt):
    await in_thread(post_events, attempt, [event(1)])
    socket = await opened(f"/ws/attempts/{attempt.pk}/")
    await frame(socket)
    history = await frame(socket)
    assert "lag_s" not in history  # history is old by nature

    def now(seq: int, ago: float = 0) -> dict:
        moment = datetime.fromtimestamp(time.time() - ago, UTC)
        return {**event(seq), "timestamp": moment.isoformat()}

    def measured(name: str) -> tuple[float, float]:
        facts = {"kind": "event"} if name == "ingest" else {}
        counts = (f"rootbound_{name}_lag_seconds_{what}" for what in ("count", "sum"))
        count, total = (metrics.REGISTRY.get_sample_value(one, facts) or 0.0 for one in counts)
        return count, total

    ingested, delivered = measured("ingest"), measured("delivery")
    await in_thread(post_events, attempt, [now(2, ago=90)])
    assert (await frame(socket))["lag_s"] >= 90
    # From the LDA to the database, and from there to the socket.
    assert measured("ingest")[0] == ingested[0] + 1
    assert measured("ingest")[1] - ingested[1] >= 90
    assert measured("delivery")[0] == delivered[0] + 1
    assert measured("delivery")[1] - delivered[1] < 30
    await in_thread(post_events, attempt, [now(3, ago=-3600)])
    assert "lag_s" not in await frame(socket)  # a clock that is ahead is no lag
    await socket.disconnect()


async def test_a_stream_goes_on_when_its_connections_were_cut(attempt):
    await in_thread(post_events, attempt, [event(1)])
    socket = await opened(f"/ws/attempts/{attempt.pk}/")
    await frame(socket)
    assert len(await events_until(socket, 3)) == 3

    def own_pid() -> int:
        time.sleep(0.05)  # so that each lane gets one of the calls
        return backend_pid()

    pids = set(await asyncio.gather(*(run_in_db(own_pid) for _ in range(8))))

    def cut() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 9000) FROM unnest(%s) AS pid", [list(pids)]
            )

    await in_thread(cut)
    for seq in range(2, 10):
        await in_thread(post_events, attempt, [event(seq)])
        assert [one["seq"] for one in await events_until(socket, 1)] == [seq + 2]
    assert not pids & set(await asyncio.gather(*(run_in_db(own_pid) for _ in range(8))))
    await socket.disconnect()


def backend_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        ((pid,),) = cursor.fetchall()
    return int(pid)


async def test_boards_share_one_reader(user, monkeypatch):
    project = await in_thread(make_project, user)
    task = await in_thread(make_task, project, "First")
    reads = []
    original = board_hub._read
    monkeypatch.setattr(board_hub, "_read", lambda *a: reads.append(a) or original(*a))
    monkeypatch.setattr(board_hub, "TAIL_S", 60)
    sockets = [await opened(f"/ws/projects/{project.pk}/") for _ in range(10)]
    for socket in sockets:
        assert (await frame(socket))["type"] == "snapshot"
    assert len(readers_in_use()) == 1
    assert len(reads) == 1
    await in_thread(update_task, user=user, task_id=task.pk, fields={"title": "Changed"})
    for socket in sockets:
        assert (await frame(socket))["task"]["title"] == "Changed"
    assert len(reads) <= 4
    for socket in sockets:
        await socket.disconnect()
    assert readers_in_use() == {}


async def test_a_board_that_is_not_acknowledged_gets_the_latest_state_only(user, monkeypatch):
    monkeypatch.setattr(board, "MAX_UNACKED_FRAMES", 3)
    project = await in_thread(make_project, user)
    task = await in_thread(make_task, project, "T0")
    socket = await opened(f"/ws/projects/{project.pk}/")
    numbers = [(await frame(socket))["seq"]]
    for title in ("T1", "T2"):
        await in_thread(update_task, user=user, task_id=task.pk, fields={"title": title})
        document = await frame(socket)
        assert document["task"]["title"] == title
        numbers.append(document["seq"])
    assert numbers == [1, 2, 3]
    for number in range(3, 9):
        await in_thread(update_task, user=user, task_id=task.pk, fields={"title": f"T{number}"})
    assert await socket.receive_nothing(timeout=0.5)
    await socket.send_json_to({"type": "ack", "seq": 3})
    assert (await frame(socket))["task"]["title"] == "T8"
    await socket.disconnect()
