"""The short way of a run's events: into the database past the view, and on to those who follow."""

from __future__ import annotations

import gzip
import json
import uuid

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.testing import WebsocketCommunicator

from rootbound_backend import reporting
from rootbound_backend.announce import announce_attempt
from rootbound_backend.apps.attempts import events as reads
from rootbound_backend.apps.attempts import hub
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.transitions import apply_transition
from rootbound_backend.asgi import application
from rootbound_backend.tokens import issue_ingest_token
from tests.integration.backend.backend_support import (
    audit_chain,
    event,
    make_attempt,
    post_events,
    status,
)
from tests.integration.backend.test_backend_sockets import events_until, frame, in_thread, opened

AUDIT = "/api/audit/ingest/"
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest.fixture
def attempt(user) -> Attempt:
    made = make_attempt(user)
    post_events(made, [event(1)])
    return made


def bearer(attempt: Attempt, generation: int = 1) -> bytes:
    owner = attempt.task.project.owner_id
    token = issue_ingest_token(user_id=owner, attempt_id=attempt.pk, lease_generation=generation)
    return f"Bearer {token}".encode()


async def post(
    attempt: Attempt, *parts: bytes, path: str = "", **headers: bytes
) -> tuple[int, dict]:
    given = {"authorization": await in_thread(bearer, attempt), **headers}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "query_string": b"",
        "path": path or f"/api/attempts/{attempt.pk}/events/",
        "headers": [(n.replace("_", "-").encode(), v) for n, v in given.items()],
    }  # fmt: skip
    communicator = ApplicationCommunicator(application, scope)
    for index, part in enumerate(parts, start=1):
        more = index < len(parts)
        await communicator.send_input({"type": "http.request", "body": part, "more_body": more})
    start = await communicator.receive_output(10)
    body = await communicator.receive_output(10)
    await communicator.wait(10)
    return start["status"], json.loads(body["body"])


def audit(attempt: Attempt, *entries: dict) -> bytes:
    run = str(attempt.pk)
    document = {"run_id": run, "attempt_id": run, "lease_generation": 1, "entries": entries}
    return json.dumps(document).encode()


def batch(*events: dict, generation: int = 1) -> bytes:
    return json.dumps({"lease_generation": generation, "events": events}).encode()


async def test_the_short_way_stores_what_is_plain_and_leaves_all_else_to_the_view(
    attempt, monkeypatch
):
    taken = []
    stored = reporting._stored
    monkeypatch.setattr(
        reporting, "_stored", lambda *args: taken.append(stored(*args)) or taken[-1]
    )
    body = batch(event(2), event(3))
    assert await post(attempt, body[:40], body[40:]) == (200, {"seq": 3})
    assert await post(attempt, body) == (200, {"seq": 3}), "the same again changes nothing"
    assert await post(attempt, batch(event(4), status(5, "GATES"))) == (200, {"seq": 5})
    assert taken == [3, 3, 5]
    refused = [
        ((batch(event(9)),), {}, 409, "sequence-gap"),
        ((batch(event(6), generation=7),), {}, 409, "fenced"),
        ((b"{",), {}, 400, "invalid"),
        ((batch(event(6)),), {"authorization": b"Bearer nonsense"}, 401, None),
        ((batch(event(6)),), {"authorization": b"token nonsense"}, 401, None),
        ((batch(event(6)),), {"content_encoding": b"br"}, 415, "unsupported-encoding"),
    ]
    for parts, headers, code, name in refused:
        status_code, said = await post(attempt, *parts, **headers)
        assert status_code == code, said
        assert name is None or said["code"] == name
    assert taken[3:] == [None] * 5
    # What is packed, and what is long, goes the long way and arrives as well.
    packed = gzip.compress(batch(event(6)))
    assert await post(attempt, packed, content_encoding=b"gzip") == (200, {"seq": 6})
    long = batch(*(event(seq, kind="text", step=1, delta="x" * 9000) for seq in range(7, 47)))
    long += b" " * reporting.MAX_WHOLE_BYTES
    parts = [long[at : at + 500_000] for at in range(0, len(long), 500_000)]
    assert await post(attempt, *parts) == (200, {"seq": 46})
    assert len(taken) == 8
    page = await in_thread(reads.read_stream, attempt.pk, 0)
    assert [seq for seq, _ in page.events] == list(range(1, page.last_seq + 1))


async def test_audit_entries_take_the_short_way_too(attempt, monkeypatch):
    taken = []
    stored = reporting._stored
    monkeypatch.setattr(
        reporting, "_stored", lambda *args: taken.append(stored(*args)) or taken[-1]
    )
    entries = audit_chain(2)
    assert await post(attempt, audit(attempt, *entries), path=AUDIT) == (200, {"seq": 2})
    assert await post(attempt, audit(attempt, *entries), path=AUDIT) == (200, {"seq": 2})
    gap = {**entries[1], "seq": 9}
    status_code, said = await post(attempt, audit(attempt, gap), path=AUDIT)
    assert (status_code, said["code"], said["expected_seq"]) == (409, "sequence-gap", 3)
    other = json.dumps({"run_id": str(uuid.uuid4()), "lease_generation": 1, "entries": []})
    assert (await post(attempt, other.encode(), path=AUDIT))[0] == 404
    assert taken == [2, 2, None, None]


async def test_what_this_process_stores_is_not_read_again_to_be_delivered(attempt, monkeypatch):
    read = []
    look = hub.read_stream
    monkeypatch.setattr(hub, "TAIL_S", 60)
    monkeypatch.setattr(hub, "read_stream", lambda *args: read.append(args) or look(*args))
    socket: WebsocketCommunicator = await opened(f"/ws/attempts/{attempt.pk}/")
    hello = await frame(socket)
    seen = await events_until(socket, hello["last_seq"])
    before = len(read)
    for seq in range(2, 12, 2):
        assert (await post(attempt, batch(event(seq), event(seq + 1))))[0] == 200
        seen += await events_until(socket, 2)
    assert len(read) == before
    # What others do, and what is told with a hole, is read.
    await in_thread(post_events, attempt, [status(12, "GATES")])
    seen += await events_until(socket, 1)
    assert len(read) > before
    kept = await in_thread(look, attempt.pk, hello["last_seq"])
    late = reads.EventPage("GATES", 99, [(99, "{}")], 1, kept.created_at)
    before = len(read)
    await in_thread(announce_attempt, attempt.pk, late)
    await in_thread(post_events, attempt, [event(13)])
    seen += await events_until(socket, 1)
    assert len(read) > before
    await in_thread(apply_transition, attempt_id=attempt.pk, to="FAILED")
    seen += await events_until(socket, 1)
    stored = await in_thread(look, attempt.pk, 0)
    assert seen == [json.loads(text) for _, text in stored.events]
