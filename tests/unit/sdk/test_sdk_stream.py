"""Following a stream over cut, refused and lossy connections: no hole, no double."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import rootbound as rb
from rootbound import _cursor, board_stream, errors, stream
from rootbound.aio import AsyncClient
from rootbound.client import Client
from rootbound.models import Event


@pytest.fixture
def attempt(server):
    task = server.state.task(server.state.project())
    return server.state.attempt(task, events=60)


def finish(server, attempt, status="SUCCESS"):
    server.state.status(attempt, status)


def seqs(events):
    return [event.seq for event in events]


def test_stored_events_are_read_in_pages(server, client, attempt, monkeypatch):
    monkeypatch.setattr(_cursor, "PAGE", 25)
    events = list(client.attempt(attempt["id"]).events(after=3))
    assert seqs(events) == list(range(4, 61))
    pages = [query for _, path, query in server.state.requests if path.endswith("events/")]
    assert [page["after"] for page in pages] == ["3", "28", "53", "60"]


def test_follow_survives_cuts_doubles_and_losses(server, client, attempt):
    finish(server, attempt)
    server.state.cut_after = [5, 0, 13, 1]
    server.state.skip = {20, 33}
    events = client.attempt(attempt["id"]).events(follow=True)
    assert seqs(events) == list(range(1, 62))


def test_follow_goes_on_with_new_events_and_acknowledges(server, client, attempt):
    seen = []
    for event in client.attempt(attempt["id"]).events(follow=True):
        seen.append(event.seq)
        if event.seq == 60:
            server.state.log(attempt, "more")
            finish(server, attempt, "FAILED")
    assert seen == list(range(1, 63))
    # The last frames may be read after the end; all before it were acknowledged in order.
    assert server.state.acks == sorted(server.state.acks)
    assert server.state.acks[-1] >= 60


def test_follow_polls_when_sockets_are_refused(server, client, attempt):
    server.state.ws_status = 403
    timer = threading.Timer(0.3, finish, (server, attempt))
    timer.start()
    assert seqs(client.attempt(attempt["id"]).events(follow=True)) == list(range(1, 62))
    timer.join()
    assert server.state.ws_connections > 1


def test_follow_ends_at_a_review_but_not_at_a_past_one(server, client, attempt):
    finish(server, attempt, "REVIEW")
    handle = client.attempt(attempt["id"])
    assert seqs(handle.events(follow=True)) == list(range(1, 62))
    finish(server, attempt, "SUCCESS")
    assert seqs(handle.events(follow=True)) == list(range(1, 63))


@pytest.mark.parametrize("ws_status", [None, 403])
def test_follow_through_a_review(server, client, attempt, ws_status):
    server.state.ws_status = ws_status
    finish(server, attempt, "REVIEW")
    seen = []
    for event in client.attempt(attempt["id"]).events(follow=True, through_review=True):
        seen.append(event.seq)
        if event.seq == 61:
            finish(server, attempt, "SUCCESS")
    assert seen == list(range(1, 63))


def test_follow_of_a_missing_attempt(server, client, attempt):
    handle = client.attempt(attempt["id"])
    del server.state.attempts[attempt["id"]]
    with pytest.raises(errors.NotFoundError):
        next(iter(handle.events(follow=True)))


def test_follow_gives_up_on_a_server_that_stays_away(server, client, attempt, monkeypatch):
    monkeypatch.setattr(_cursor, "PATIENCE_S", 0.5)
    events = client.attempt(attempt["id"]).events(follow=True)
    assert next(events).seq == 1
    server.__exit__()
    with pytest.raises(errors.ConnectionFailedError, match="is not running"):
        list(events)


def test_ctrl_c_detaches_without_cancelling(server, client, attempt, monkeypatch):
    def interrupted(*_args):
        raise KeyboardInterrupt

    handle = client.attempt(attempt["id"])
    monkeypatch.setattr(stream, "_over_socket", interrupted)
    with pytest.raises(errors.DetachedInterrupt, match="goes on by itself") as caught:
        list(handle.events(follow=True))
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value._render_traceback_() == [str(caught.value)]
    assert not [request for request in server.state.requests if request[0] == "POST"]


def test_stop_ends_a_quiet_stream(client, attempt):
    stop = threading.Event()
    cursor = _cursor.StreamCursor(60, stop=stop)
    thread = threading.Thread(
        target=list, args=(stream.follow_events(client, attempt["id"], cursor),)
    )
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_board_frames(server, client):
    project = server.state.project()
    task = server.state.task(project)
    stop = threading.Event()
    frames = board_stream.follow_board(client, project["id"], stop)
    assert [t["id"] for t in next(frames)["tasks"]] == [task["id"]]
    task["status"] = "REVIEW"
    assert next(frames)["task"]["status"] == "REVIEW"
    del server.state.tasks[task["id"]]
    assert next(frames) == {"type": "task_deleted", "id": task["id"]}
    stop.set()
    assert list(frames) == []


def test_board_polls_when_sockets_are_refused(server, client):
    server.state.ws_status = 403
    project = server.state.project()
    server.state.task(project)
    frames = board_stream.follow_board(client, project["id"], threading.Event())
    assert len(next(frames)["tasks"]) == 1
    server.state.task(project)
    assert len(next(frames)["tasks"]) == 2


def test_cursor_refuses_a_hole_and_an_early_end():
    cursor = _cursor.StreamCursor(2)
    with pytest.raises(_cursor.StreamGapError):
        cursor.add([Event(seq=4, type="LOG")])
    with pytest.raises(_cursor.StreamGapError):
        cursor.take({"type": "end", "status": "SUCCESS", "last_seq": 3})
    assert cursor.last_seq == 2
    assert not cursor.ended


@pytest.mark.asyncio
@pytest.mark.parametrize("ws_status", [None, 403])
async def test_async_follow(server, endpoint, attempt, ws_status):
    server.state.ws_status = ws_status
    finish(server, attempt)
    server.state.cut_after = [5, 0, 13, 1]
    server.state.skip = {20}
    async with AsyncClient(endpoint) as client:
        handle = await client.attempt(attempt["id"])
        events = [event async for event in handle.events(follow=True)]
        stored = [event async for event in handle.events(after=59)]
    assert seqs(events) == list(range(1, 62))
    assert seqs(stored) == [60, 61]


def test_a_token_renewed_while_following(server, attempt):
    from rootbound.client import Client
    from rootbound.discovery import Endpoint

    renewed = (server.url, "renewed")
    endpoint = Endpoint(server.url, server.token, "headless", "a test", lambda: renewed)
    with Client(endpoint) as client:
        handle = client.attempt(attempt["id"])
        server.state.token = "renewed"
        finish(server, attempt)
        started = time.monotonic()
        assert seqs(handle.events(follow=True)) == list(range(1, 62))
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("ws_status", [None, 403])
def test_follow_ends_after_its_timeout_and_can_go_on(server, attempt, endpoint, ws_status):
    server.state.ws_status = ws_status
    server.state.log(attempt, "more")
    seen = []

    async def follow():
        async with AsyncClient(endpoint) as client:
            one = await client.attempt(attempt["id"])
            return [event.seq async for event in one.events(follow=True, timeout=0.3)]

    with Client(endpoint) as client:
        with pytest.raises(rb.WaitTimeoutError, match=r"within 0\.3 s; it goes on\..*after="):
            for event in client.attempt(attempt["id"]).events(follow=True, timeout=0.3):
                seen.append(event.seq)
        with pytest.raises(rb.WaitTimeoutError):
            asyncio.run(follow())
    assert seen
