"""What a batch may look like on the wire, and what never reaches the database."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rootbound_backend import copying
from rootbound_backend.apps.attempts import ingest
from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent
from rootbound_backend.bodies import MAX_BODY_BYTES
from tests.integration.backend.backend_support import (
    event,
    ingest_client,
    make_attempt,
    post_events,
    status,
)

JSON, NDJSON = "application/json", "application/x-ndjson"


def post(attempt, body: bytes, content_type: str = JSON, **headers: str):
    return ingest_client(attempt).post(
        f"/api/attempts/{attempt.pk}/events/", data=body, content_type=content_type, headers=headers
    )


def stored(attempt) -> list[str]:
    rows = AttemptEvent.objects.filter(attempt=attempt, type="LOG").order_by("seq")
    return [row.payload.get("delta", "") for row in rows]


def lines(*events: dict) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in events)


@contextlib.contextmanager
def to_database(notes: Path) -> Iterator[list[str]]:
    """Fill a list with what PostgreSQL has to plan and to execute meanwhile, as libpq notes it."""
    sent: list[str] = []
    pgconn = connection.connection.pgconn
    with notes.open("wb") as trace:
        pgconn.trace(trace.fileno())
        try:
            yield sent
        finally:
            pgconn.untrace()
    # Of each message to the server: when, F, its length, its kind, and what it says.
    told = [one.split("\t", 1)[1] for one in notes.read_text(errors="replace").split("\tF\t")[1:]]
    sent += [
        one
        for one in told
        if one.startswith(("Query", "Parse", "Execute")) and "SAVEPOINT" not in one
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("shape", ["object", "array", "lines"])
def test_each_shape_and_encoding_stores_the_same(user, shape, encoding):
    attempt = make_attempt(user)
    events = [event(1), event(2), event(3)]
    body = {
        "object": json.dumps({"lease_generation": 1, "events": events}).encode(),
        "array": json.dumps(events).encode(),
        "lines": lines(*events),
    }[shape]
    kind = NDJSON if shape == "lines" else JSON
    headers = {}
    if encoding == "gzip":
        # Two members one after the other are one gzip file, too.
        half = len(body) // 2
        body = gzip.compress(body[:half], mtime=0) + gzip.compress(body[half:], mtime=0)
        headers = {"Content-Encoding": "gzip"}
    answer = post(attempt, body, kind, **headers)
    assert (answer.status_code, answer.json()) == (200, {"seq": 3})
    assert stored(attempt) == ["line 1", "line 2", "line 3"]


@pytest.mark.django_db
@pytest.mark.parametrize("shape", ["array", "lines"])
def test_a_bad_row_of_bare_rows_is_named_and_nothing_is_stored(user, shape):
    attempt = make_attempt(user)
    events = [event(1), event(2), {**event(3), "type": "GOSSIP"}]
    body = lines(*events) if shape == "lines" else json.dumps(events).encode()
    answer = post(attempt, body, NDJSON if shape == "lines" else JSON)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("events[2].type: ")
    assert list(answer.json()["errors"]) == ["events[2].type"]
    assert stored(attempt) == []


@pytest.mark.django_db
def test_bare_rows_belong_to_the_hand_over_of_their_token(user):
    attempt = make_attempt(user)
    Attempt.objects.filter(pk=attempt.pk).update(lease_generation=2)
    answer = post(attempt, json.dumps([event(1)]).encode())
    assert (answer.status_code, answer.json()["code"]) == (409, "fenced")


@pytest.mark.django_db
def test_a_gzip_bomb_is_refused_before_it_expands(user):
    attempt = make_attempt(user)
    compressor = zlib.compressobj(1, wbits=31)
    bomb = compressor.compress(b" " * (MAX_BODY_BYTES + 1)) + compressor.flush()
    assert len(bomb) < MAX_BODY_BYTES / 100
    answer = post(attempt, bomb, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"not gzip", "gzip", (400, "invalid")),
        (gzip.compress(b"[]", mtime=0)[:-3], "gzip", (400, "invalid")),
        (gzip.compress(b"[]", mtime=0) + b"rest", "gzip", (400, "invalid")),
        (b"", "gzip", (400, "invalid")),
        (b"[]", "br", (415, "unsupported-encoding")),
    ],
)
def test_what_is_not_its_encoding_is_refused(user, body, encoding, code):
    answer = post(make_attempt(user), body, **{"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == code


@pytest.mark.django_db
def test_too_many_rows_and_too_large_bodies_are_refused(user):
    attempt = make_attempt(user)
    many = post(attempt, lines(*(event(seq) for seq in range(1, 5002))), NDJSON)
    assert (many.status_code, many.json()["code"]) == (400, "invalid")
    assert "5000" in many.json()["detail"]
    large = post(attempt, b" " * (MAX_BODY_BYTES + 1))
    assert (large.status_code, large.json()["code"]) == (413, "too-large")
    assert stored(attempt) == []


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [JSON, NDJSON])
def test_nul_and_lone_surrogates_are_replaced_in_every_shape(user, kind):
    attempt = make_attempt(user)
    text = json.dumps(event(1, kind="text", step=1, delta="a@b"))
    body = text.replace("@", "\\u0000\\udcff").encode()
    answer = post(attempt, body if kind == NDJSON else b"[" + body + b"]", kind)
    assert answer.status_code == 200, answer.content
    assert stored(attempt) == ["a\ufffd\ufffdb"]


@pytest.mark.django_db
def test_a_batch_of_text_takes_one_way_to_the_database(user, tmp_path, settings, monkeypatch):
    attempt = make_attempt(user)
    post_events(attempt, [event(1)])
    # A connection that prepared nothing of this yet; another test's may have, and lost it again.
    monkeypatch.setitem(copying._prepared, connection.connection, {"another": "copy_after_0"})
    with to_database(tmp_path / "many") as sent:
        assert post_events(attempt, [event(seq) for seq in range(2, 402)]).json() == {"seq": 401}
    assert len([text for text in sent if "; COPY" in text]) == 1, sent
    # What it depends on is planned once.
    assert [text for text in sent if "; COPY" not in text] == [
        text for text in sent if text.startswith('Query\t "PREPARE')
    ]
    with to_database(tmp_path / "again") as sent:
        assert post_events(attempt, [event(seq) for seq in range(402, 802)]).json() == {"seq": 801}
    assert len(sent) == 1, sent
    # A few go with the statement that takes their place: one round trip, a transaction by itself.
    for first in (802, 804):
        with to_database(tmp_path / "few") as sent:
            few = [event(first), event(first + 1)]
            assert post_events(attempt, few).json() == {"seq": first + 1}
    assert len(sent) == 1, sent
    # Behind a pooler that cannot prepare, nothing is.
    settings.PREPARED_STATEMENTS = False
    with to_database(tmp_path / "pooled") as sent:
        assert post_events(attempt, [event(seq) for seq in range(806, 906)]).json() == {"seq": 905}
    assert len(sent) == 1, sent
    assert "EXECUTE" not in sent[0]
    assert len(stored(attempt)) == 905
    # Where something happens besides, the attempt is loaded: still a fixed number.
    with CaptureQueriesContext(connection) as queries:
        post_events(attempt, [event(906), status(907, "GATES")])
    assert len(queries) < 20


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [1, 50], ids=["a few", "by COPY"])
def test_a_database_that_does_not_answer_is_no_fault_of_ours(user, size):
    attempt = make_attempt(user)
    post_events(attempt, [event(1)])
    batch = [event(seq) for seq in range(2, 2 + size)]
    other = connection.copy()
    with connection.cursor() as ours, other.cursor() as theirs:
        theirs.execute("BEGIN")
        theirs.execute("SELECT FROM attempts_attempt WHERE id = %s FOR UPDATE", [attempt.pk])
        ours.execute("SET lock_timeout = '20ms'")
        try:
            answer = post_events(attempt, batch)
        finally:
            ours.execute("RESET lock_timeout")
            other.close()
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert post_events(attempt, batch).json() == {"seq": 1 + size}
    assert len(stored(attempt)) == 1 + size


@pytest.mark.django_db
def test_a_batch_replayed_a_hundred_times_is_stored_once(user):
    attempt = make_attempt(user)
    batch = [event(seq) for seq in range(1, 51)]
    answers = {post_events(attempt, batch).content for _ in range(100)}
    assert answers == {b'{"seq":50}'}
    assert stored(attempt) == [f"line {seq}" for seq in range(1, 51)]
    attempt.refresh_from_db()
    assert (attempt.last_source_seq, attempt.last_seq) == (50, 52)
    assert AttemptEvent.objects.filter(attempt=attempt).count() == 52


@pytest.mark.django_db
@pytest.mark.parametrize("few", [0, 10], ids=["by COPY", "by one statement"])
def test_the_quick_way_and_the_full_way_store_the_same(user, monkeypatch, few):
    """A batch with a usage report goes the full way; its text must not differ from the quick."""
    monkeypatch.setattr(ingest, "FEW", few)
    quick, full = make_attempt(user), make_attempt(user)
    odd = {"text": 'Grün "quoted" \\ \n\t 💡 {a,b} %s', "n": [1, 2.5, None]}
    times = ["1969-07-20T22:17:40.5+02:00", "2262-04-12T00:00:00.000001Z"]
    late = [{**event(seq), "timestamp": time} for seq, time in enumerate(times, start=4)]
    texts = [event(1), event(2, **odd), event(3, "ERROR"), *late]
    post_events(quick, [event(1)])
    post_events(quick, texts)
    report = event(6, kind="usage", steps=1, input_tokens=2, output_tokens=3, cost_usd=None)
    post_events(full, [*texts, report])
    post_events(quick, [report])
    facts = [
        list(
            AttemptEvent.objects.filter(attempt=one, seq__gt=2)
            .order_by("seq")
            .values_list("seq", "timestamp", "type", "payload")
        )
        for one in (quick, full)
    ]
    assert facts[0] == facts[1]
    moments = [moment for _, moment, _, payload in facts[0] if payload.get("delta")][-2:]
    assert moments == [datetime.fromisoformat(time) for time in times]
    for one in (quick, full):
        one.refresh_from_db()
    assert quick.event_bytes == full.event_bytes > 0
    assert (quick.last_seq, quick.usage) == (full.last_seq, full.usage)
