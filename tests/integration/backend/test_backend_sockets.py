"""The WebSockets: no hole, no double, in order, bounded; only for the owner."""

from __future__ import annotations

import asyncio
import json
import uuid
from importlib.metadata import version

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.core.signals import request_finished
from django.db import close_old_connections, connection
from redis.asyncio import Redis

from rootbound_backend import asgi
from rootbound_backend.announce import attempt_group
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.transitions import apply_transition
from rootbound_backend.apps.schedules.models import Notice
from rootbound_backend.apps.tasks.services import create_task, delete_task, update_task
from rootbound_backend.asgi import application
from rootbound_backend.readers import readers_in_use
from tests.integration.backend.backend_support import (
    api_token,
    event,
    identity,
    make_attempt,
    make_project,
    make_task,
    post_events,
    way_to_review,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


def in_thread(function, *args, **kwargs):
    """Run a blocking call as another process would: on a thread and connection of its own."""
    from channels.db import database_sync_to_async

    return database_sync_to_async(function, thread_sensitive=False)(*args, **kwargs)


def socket(path: str, username: str | None = "alice", **headers: str) -> WebsocketCommunicator:
    if username:
        headers["Authorization"] = f"Bearer {api_token(username)}"
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return WebsocketCommunicator(application, path, headers=pairs)


async def opened(path: str, **kwargs) -> WebsocketCommunicator:
    communicator = socket(path, **kwargs)
    connected, _ = await communicator.connect(timeout=10)
    assert connected
    return communicator


async def frame(communicator: WebsocketCommunicator, within_s: float = 10):
    return json.loads(await communicator.receive_from(timeout=within_s))


async def closed_with(communicator: WebsocketCommunicator) -> int:
    message = await communicator.receive_output(timeout=10)
    assert message["type"] == "websocket.close", message
    return message["code"]


async def events_until(communicator, count: int, *, ack: bool = True) -> list[dict]:
    seen: list[dict] = []
    while len(seen) < count:
        document = await frame(communicator)
        assert document["type"] == "events", document
        seen += document["events"]
        if ack:
            await communicator.send_json_to({"type": "ack", "seq": seen[-1]["seq"]})
    return seen


@pytest.fixture
def attempt(user) -> Attempt:
    made = make_attempt(user)
    # Looked up here, because an async test may not.
    assert made.task.project.owner_id == user.pk
    return made


@pytest.fixture
def path(attempt) -> str:
    return f"/ws/attempts/{attempt.pk}/"


async def test_history_then_live_events_then_the_end(attempt, path):
    await in_thread(post_events, attempt, way_to_review()[:4])
    communicator = await opened(path)
    hello = {"type": "hello", "last_seq": 6, "status": "GATES", "first_seq": 1, "after": 0}
    assert await frame(communicator) == hello
    history = await events_until(communicator, 6)
    assert [one["seq"] for one in history] == [1, 2, 3, 4, 5, 6]
    assert history[0]["payload"]["status"] == "QUEUED"
    assert set(history[0]) == {"seq", "timestamp", "type", "payload"}
    await in_thread(post_events, attempt, way_to_review()[4:])
    live = await events_until(communicator, 4)
    assert [one["seq"] for one in live] == [7, 8, 9, 10]
    await in_thread(apply_transition, attempt_id=attempt.pk, to="SUCCESS")
    (last,) = await events_until(communicator, 1)
    assert last["payload"]["status"] == "SUCCESS"
    assert await frame(communicator) == {"type": "end", "status": "SUCCESS", "last_seq": 11}
    assert await closed_with(communicator) == 1000


async def subscribed(group: str) -> None:
    """Wait until Redis knows who is to hear a group's announcements: what came before is lost."""
    async with Redis.from_url(settings.REDIS_URL) as client, asyncio.timeout(20):
        while not await client.pubsub_channels(f"*{group}*"):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("by", ["this process", "another process"])
async def test_an_announcement_brings_events_at_once(attempt, path, monkeypatch, by):
    from rootbound_backend import announce, readers
    from rootbound_backend.apps.attempts import hub

    monkeypatch.setattr(hub, "TAIL_S", 60)
    if by == "this process":
        monkeypatch.setattr(announce._Announcer, "_send", lambda *_: asyncio.sleep(0))
    else:
        monkeypatch.setattr(readers, "PROCESS", "somebody else")
        monkeypatch.setattr(readers, "hear", lambda group, listener: None)
    communicator = await opened(path)
    await frame(communicator)
    await events_until(communicator, 1)
    await subscribed(attempt_group(attempt.pk))
    await in_thread(post_events, attempt, [event(1)])
    assert (await events_until(communicator, 2))[-1]["payload"]["delta"] == "line 1"
    await communicator.disconnect()


async def test_a_lost_announcement_only_costs_time(attempt, path, monkeypatch):
    from rootbound_backend import announce

    monkeypatch.setattr(announce._announcer, "send", lambda *_: None)
    communicator = await opened(path)
    await frame(communicator)
    await events_until(communicator, 1)
    await in_thread(post_events, attempt, [event(1)])
    assert len(await events_until(communicator, 2)) == 2
    await communicator.disconnect()


async def test_reconnecting_at_any_point_leaves_no_hole_and_no_double(attempt, path):
    total = 600

    async def write() -> None:
        for start in range(1, total + 1, 15):
            batch = [event(seq) for seq in range(start, start + 15)]
            answer = await in_thread(post_events, attempt, batch)
            assert answer.status_code == 200

    writer = asyncio.create_task(write())
    seen: list[int] = []
    while len(seen) < total + 2:
        communicator = await opened(f"{path}?after={seen[-1] if seen else 0}")
        assert (await frame(communicator))["type"] == "hello"
        for _ in range(3):
            if len(seen) >= total + 2:
                break
            document = await frame(communicator)
            seen += [one["seq"] for one in document["events"]]
            await communicator.send_json_to({"type": "ack", "seq": seen[-1]})
        await communicator.disconnect()
    await writer
    assert seen == list(range(1, total + 3))


async def test_many_sockets_share_one_reader_and_see_the_same(attempt, path, monkeypatch):
    from rootbound_backend.apps.attempts import hub

    reads = []
    original = hub.read_stream
    monkeypatch.setattr(hub, "read_stream", lambda *a: reads.append(a) or original(*a))
    sockets = [await opened(path) for _ in range(12)]
    for communicator in sockets:
        await frame(communicator)
        await events_until(communicator, 1)
    assert len(readers_in_use()) == 1
    before = len(reads)
    for start in range(1, 101, 10):
        await in_thread(post_events, attempt, [event(seq) for seq in range(start, start + 10)])
    for communicator in sockets:
        got = await events_until(communicator, 101)
        assert [one["seq"] for one in got] == list(range(2, 103))
    # One reader for twelve sockets: at most a look per announcement (11), per event page and tail.
    assert len(reads) - before < 60
    for communicator in sockets:
        await communicator.disconnect()
    assert readers_in_use() == {}


async def test_a_client_that_does_not_acknowledge_gets_a_bounded_window(attempt, path):
    for start in range(1, 1501, 500):
        await in_thread(post_events, attempt, [event(seq) for seq in range(start, start + 500)])
    communicator = await opened(path)
    await frame(communicator)
    seen = await events_until(communicator, 1000, ack=False)
    assert len(seen) == 1000
    assert await communicator.receive_nothing(timeout=0.5)
    await communicator.send_json_to({"type": "ack", "seq": seen[-1]["seq"]})
    rest = await events_until(communicator, 502)
    assert [one["seq"] for one in seen + rest] == list(range(1, 1503))
    await communicator.disconnect()


async def test_the_window_counts_bytes_too(attempt, path):
    big = [event(seq, kind="text", step=1, delta="x" * 200_000) for seq in range(1, 13)]
    await in_thread(post_events, attempt, big)
    communicator = await opened(f"{path}?after=2")
    await frame(communicator)
    seen = await events_until(communicator, 5, ack=False)
    assert len(seen) == 5  # five of 200 kB fit into 1 MiB, six do not
    assert await communicator.receive_nothing(timeout=0.5)
    await communicator.send_json_to({"type": "ack", "seq": seen[0]["seq"]})
    assert [one["seq"] for one in await events_until(communicator, 1, ack=False)] == [8]
    await communicator.disconnect()


async def test_bursts_leave_in_few_frames(attempt, path):
    communicator = await opened(path)
    sizes = []
    await frame(communicator)
    await events_until(communicator, 1)

    async def write() -> None:
        for seq in range(1, 61):
            await in_thread(post_events, attempt, [event(seq)])

    started = asyncio.get_running_loop().time()
    writer = asyncio.create_task(write())
    while sum(sizes) < 61:
        sizes.append(len((await frame(communicator))["events"]))
    elapsed = asyncio.get_running_loop().time() - started
    await writer
    # Thirty a second; after a single event the next one need wait only half as long.
    paces = sum(0.5 if size == 1 else 1 for size in sizes)
    assert paces <= elapsed * 30 + 2
    await communicator.disconnect()


async def test_a_cursor_from_elsewhere_is_brought_back(attempt, path):
    communicator = await opened(f"{path}?after=99999")
    assert (await frame(communicator))["last_seq"] == 1
    await in_thread(post_events, attempt, [])
    assert [one["seq"] for one in await events_until(communicator, 1)] == [2]
    await communicator.disconnect()


@pytest.mark.parametrize("text", ["nonsense", "[]", "{}", '{"type":"ack","seq":"1"}'])
async def test_a_bad_frame_ends_the_connection(attempt, path, text):
    communicator = await opened(path)
    await frame(communicator)
    await events_until(communicator, 1, ack=False)
    await communicator.send_to(text_data=text)
    assert await closed_with(communicator) == 4400


async def test_without_identity_the_opening_is_refused(attempt, path):
    for communicator in (
        socket(path, None),
        socket(path, None, Authorization="Bearer nonsense"),
        socket(path, None, **{"X-Rootbound-Identity": identity("alice", "GET", "/ws/other/")}),
    ):
        connected, _ = await communicator.connect(timeout=10)
        assert not connected


async def test_the_identity_header_opens_it_too(attempt, path):
    communicator = await opened(
        path, username=None, **{"X-Rootbound-Identity": identity("alice", "GET", path)}
    )
    assert (await frame(communicator))["type"] == "hello"
    await communicator.disconnect()


async def test_what_is_not_there_or_not_yours_closes_with_4404(attempt, path, stranger):
    for communicator in (
        await opened(path, username="mallory"),
        await opened(f"/ws/attempts/{uuid.uuid4()}/"),
        await opened(f"/ws/projects/{attempt.task.project_id}/", username="mallory"),
        await opened("/ws/nothing/"),
    ):
        assert await closed_with(communicator) == 4404


async def test_the_board_sends_a_snapshot_and_then_changes(user):
    project = await in_thread(make_project, user)
    first = await in_thread(make_task, project, "First")
    communicator = await opened(f"/ws/projects/{project.pk}/")
    snapshot = await frame(communicator)
    assert snapshot["type"] == "snapshot"
    assert [task["title"] for task in snapshot["tasks"]] == ["First"]
    made = await in_thread(
        create_task, user=user, project_id=project.pk, fields={"title": "Second"}
    )
    document = await frame(communicator)
    assert (document["type"], document["task"]["title"]) == ("task", "Second")
    for number in range(10):
        fields = {"title": f"T{number}"}
        await in_thread(update_task, user=user, task_id=first.pk, fields=fields)
    last = {}
    while last.get("title") != "T9":
        last = (await frame(communicator))["task"]
    attempt = await in_thread(make_attempt, user, first)
    while last["latest_attempt"] is None:
        last = (await frame(communicator))["task"]
    assert last["status"] == "IN_PROGRESS"
    assert last["latest_attempt"]["id"] == str(attempt.pk)
    await in_thread(delete_task, user=user, task_id=made.pk)
    gone = await frame(communicator)
    assert (gone["type"], gone["id"]) == ("task_deleted", str(made.pk))
    # What failed by night is told to who looks, once; who comes later reads the list of notices.
    for number in range(2):
        fields = {"owner": user, "project": project, "text": f"It failed {number}."}
        await in_thread(Notice.objects.create, **fields)
        told = await frame(communicator)
        assert (told["type"], told["notice"]["text"]) == ("notice", f"It failed {number}.")
    late = await opened(f"/ws/projects/{project.pk}/")
    assert (await frame(late))["type"] == "snapshot"
    assert await late.receive_nothing(timeout=0.5)
    await late.disconnect()
    await communicator.disconnect()


async def test_http_goes_through_the_same_application(user):
    from asgiref.testing import ApplicationCommunicator

    # As the application did; Django's test client, used before, connects it again.
    request_finished.disconnect(close_old_connections)

    async def get(target: str) -> tuple[int, dict]:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": target,
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {api_token('alice')}".encode())],
        }
        communicator = ApplicationCommunicator(application, scope)
        await communicator.send_input({"type": "http.request", "body": b""})
        start = await communicator.receive_output(10)
        body = await communicator.receive_output(10)
        await communicator.wait(10)
        return start["status"], json.loads(body["body"])

    answers = await asyncio.gather(*(get("/api/me/") for _ in range(40)))
    known = {"username": "alice", "name": "alice", "version": version("rootbound")}
    assert answers == [(200, known)] * 40
    assert (await get("/api/nothing/"))[1]["code"] == "not-found"
    assert await sync_to_async(lambda: True)()

    # Each lane keeps a connection; one that was cut meanwhile costs no request.
    lanes = [lane.executor for lane in asgi._api._lanes]

    async def pids() -> set[int]:
        held = await asyncio.gather(
            *(asyncio.wrap_future(lane.submit(_held_connection)) for lane in lanes)
        )
        return {pid for pid in held if pid is not None}

    before = await pids()
    assert before
    await in_thread(_cut, before)
    answers = await asyncio.gather(*(get("/api/me/") for _ in range(40)))
    assert answers == [(200, known)] * 40
    after = await pids()
    assert after
    assert not after & before


def _held_connection() -> int | None:
    held = connection.connection
    return None if held is None else held.info.backend_pid


def _cut(pids: set[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 9000) FROM unnest(%s) AS pid", [list(pids)]
        )
