"""Reading a stored stream back: pages, the end, types, words, files, and the plans behind it."""

from __future__ import annotations

import json
import re
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rootbound_backend.apps.attempts import events as reads
from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent
from rootbound_backend.apps.attempts.partitions import week_of
from tests.integration.backend.backend_support import event, make_attempt, post_events

pytestmark = pytest.mark.django_db


@pytest.fixture
def attempt(user):
    """An attempt with the events 1 and 2 of the backend's and 3 to 302 of a run."""
    made = make_attempt(user)
    batch = [event(seq) for seq in range(1, 301)]
    batch[99] = event(100, "ERROR", kind="error", message="The needle broke.")
    assert post_events(made, batch).status_code == 200
    made.refresh_from_db()
    return made


def get(client, attempt, query: str = "", status: int = 200):
    answer = client.get(f"/api/attempts/{attempt.pk}/events/{query}")
    assert answer.status_code == status, answer.content
    return answer.json()


def numbers(page) -> list[int]:
    return [one["seq"] for one in page["results"]]


def test_pages_forwards_cover_all_once(client, attempt):
    seen, after = [], 0
    while after is not None:
        page = get(client, attempt, f"?after={after}&limit=100")
        seen += numbers(page)
        after = page["next"]
        assert page["previous"] is None
    assert seen == list(range(1, 303))
    assert (page["first_seq"], page["last_seq"]) == (1, 302)
    first = get(client, attempt, "?limit=1")["results"][0]
    assert set(first) == {"seq", "timestamp", "type", "payload"}


def test_pages_backwards_from_the_end_cover_all_once(client, attempt):
    page = get(client, attempt, "?tail=100")
    seen = numbers(page)
    assert seen == list(range(203, 303))
    assert page["next"] is None
    while page["previous"] is not None:
        page = get(client, attempt, f"?before={page['previous']}&limit=100")
        seen = numbers(page) + seen
    assert seen == list(range(1, 303))


def test_bounds_and_types(client, attempt):
    assert numbers(get(client, attempt, "?after=5&before=9")) == [6, 7, 8]
    assert numbers(get(client, attempt, "?type=STATUS")) == [1, 2]
    assert numbers(get(client, attempt, "?type=STATUS,ERROR")) == [1, 2, 102]
    assert numbers(get(client, attempt, "?type=ERROR&tail=5")) == [102]
    assert numbers(get(client, attempt, "?after=400")) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?after=-1", "after"),
        ("?after=x", "after"),
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?before=0", "before"),
        ("?type=GOSSIP", "type"),
        ("?tail=3&after=1", "tail"),
        ("?q=" + "x" * 501, "q"),
        ("?q=%00", "q"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(client, attempt, query, named):
    assert named in get(client, attempt, query, 400)["errors"]


def test_words_are_found_where_they_are(client, attempt):
    assert numbers(get(client, attempt, "?q=needle")) == [102]
    assert numbers(get(client, attempt, "?q=NEEDLE%20broke")) == [102]
    assert numbers(get(client, attempt, '?q="needle%20broke"')) == [102]
    assert numbers(get(client, attempt, '?q="broke%20needle"')) == []
    assert numbers(get(client, attempt, "?q=needle%20-broke")) == []
    assert numbers(get(client, attempt, "?q=needle%20or%20QUEUED")) == [1, 102]
    assert numbers(get(client, attempt, "?q=line&limit=3")) == [3, 4, 5]
    assert numbers(get(client, attempt, "?q=line&tail=3")) == [300, 301, 302]
    # A word, not a piece of one.
    assert numbers(get(client, attempt, "?q=need")) == []


def test_a_search_goes_on_where_it_stopped(client, attempt, monkeypatch):
    monkeypatch.setattr(reads, "_SEARCH_ROWS", (20, 20))
    asked, after, found = 0, 0, []
    while after is not None:
        page = get(client, attempt, f"?q=needle&after={after}")
        found += numbers(page)
        after, asked = page["next"], asked + 1
    assert (found, asked) == ([102], 16)
    page = get(client, attempt, "?q=needle&tail=10")
    while not numbers(page):
        page = get(client, attempt, f"?q=needle&before={page['previous']}&limit=10")
    assert numbers(page) == [102]


def test_a_page_is_bounded_in_bytes(client, user):
    attempt = make_attempt(user)
    post_events(attempt, [event(n, kind="text", delta="x" * 200_000) for n in range(1, 21)])
    page = get(client, attempt, "?limit=1000")
    assert 5 <= len(page["results"]) <= 8
    seen = numbers(page)
    while page["next"] is not None:
        page = get(client, attempt, f"?after={page['next']}&limit=1000")
        seen += numbers(page)
    assert seen == list(range(1, 23))
    end = get(client, attempt, "?tail=1000")
    assert numbers(end)[-1] == 22
    assert end["previous"] == numbers(end)[0] > 10


def test_another_persons_stream_is_not_there(other, attempt):
    for path in ("events/", "events/?q=needle", "artifacts/", "artifacts/test.log/"):
        answer = other.get(f"/api/attempts/{attempt.pk}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def plan_of(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE attempts_attemptevent")
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(row[0] for row in cursor.fetchall())


OTHERS = """
INSERT INTO attempts_attemptevent (attempt_id, seq, "timestamp", type, payload, attempt_created_at)
SELECT attempt, seq, %(made)s, 'LOG', '{}', %(made)s
FROM (SELECT gen_random_uuid() AS attempt FROM generate_series(1, 100)) others,
    generate_series(1, 300) AS seq
"""


LONG = """
INSERT INTO attempts_attemptevent (attempt_id, seq, "timestamp", type, payload, attempt_created_at)
SELECT %(id)s, seq, %(made)s, 'LOG', '{}', %(made)s FROM generate_series(1000, 8999) AS seq
"""


def test_each_list_takes_few_queries_and_reads_one_partition_by_its_key(client, attempt):
    """Among a hundred others, so that the planner has a reason to choose."""
    with connection.cursor() as cursor:
        cursor.execute(OTHERS, {"made": attempt.created_at})
    partition = f"attempts_attemptevent_w{week_of(attempt.created_at):%Y%m%d}"
    for query in ("", "?after=150", "?tail=50", "?type=ERROR", "?q=needle", "?before=20"):
        with CaptureQueriesContext(connection) as queries:
            get(client, attempt, query)
        reading = [one["sql"] for one in queries if "attempts_attemptevent" in one["sql"]]
        assert len(reading) == 1
        # The user, the attempt, its gates, the events: however many there are.
        assert len(queries) <= 4
        plan = plan_of(reading[0])
        used = set(re.findall(r"(?: on| using) (attempts_attemptevent\w*)", plan))
        assert used <= {partition, f"{partition}_pkey"}, plan
        assert f"{partition}_pkey" in used, plan
    # What the sockets' reader asks once it has looked for the first time.
    known = reads.read_stream(attempt.pk, 0, 0)
    assert known is not None
    with CaptureQueriesContext(connection) as queries:
        page = reads.read_stream(attempt.pk, 150, 250, known.created_at)
    assert page is not None
    assert [seq for seq, _ in page.events][:2] == [151, 152]
    assert page.last_seq == known.last_seq == page.events[-1][0]
    assert len(queries) == 1
    plan = plan_of(queries[0]["sql"])
    assert set(re.findall(r" (?:on|using) (attempts_attemptevent\w*)", plan)) <= {
        partition, f"{partition}_pkey",
    }, plan  # fmt: skip
    # Behind the end there is nothing, of another attempt neither; both are told apart.
    behind = reads.read_stream(attempt.pk, page.last_seq, 250, known.created_at)
    assert behind is not None
    assert (behind.events, behind.last_seq) == ([], page.last_seq)
    assert reads.read_stream(uuid.uuid4(), 0, 250, known.created_at) is None


def test_the_plan_for_the_end_of_a_long_stream_does_not_read_its_start(attempt):
    """Enough rows that the planner has a reason to choose."""
    with connection.cursor() as cursor:
        cursor.execute(OTHERS, {"made": attempt.created_at})
        cursor.execute(LONG, {"id": attempt.pk, "made": attempt.created_at})
    Attempt.objects.filter(pk=attempt.pk).update(last_seq=8999)
    attempt.refresh_from_db()
    with CaptureQueriesContext(connection) as queries:
        page = reads.list_events(attempt, reads.EventFilter(limit=50, newest=True))
    assert page.events[-1][0] == 8999
    plan = plan_of(queries[-1]["sql"])
    assert re.search(r"Index Scan Backward using attempts_attemptevent_w\d+_pkey", plan), plan
    assert "Sort" not in plan


@pytest.fixture
def artifact(attempt):
    folder = Path(settings.HOME) / "artifacts" / str(attempt.pk)
    folder.mkdir(parents=True)
    (folder / "test-abc.log").write_bytes(bytes(range(256)) * 4000)
    (folder / "empty.log").touch()
    (folder / "link.log").symlink_to("/etc/passwd")
    (folder / "nested").mkdir()
    return folder


@async_to_sync
async def content(answer) -> bytes:
    return b"".join([chunk async for chunk in answer.streaming_content])


def test_artifacts_are_listed_and_read_by_ranges(client, attempt, artifact):
    base = f"/api/attempts/{attempt.pk}/artifacts/"
    listed = client.get(base).json()["results"]
    assert listed == [{"name": "empty.log", "size": 0}, {"name": "test-abc.log", "size": 1_024_000}]
    whole = client.get(f"{base}test-abc.log/")
    data = (artifact / "test-abc.log").read_bytes()
    assert (whole.status_code, content(whole)) == (200, data)
    assert whole["X-Content-Type-Options"] == "nosniff"
    assert content(client.get(f"{base}empty.log/")) == b""
    for header, part in [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=1023990-", slice(1_023_990, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=-9999999", slice(None)),
        ("bytes=500000-99999999", slice(500_000, None)),
    ]:
        answer = client.get(f"{base}test-abc.log/", headers={"Range": header})
        assert (answer.status_code, content(answer)) == (206, data[part])
        start, stop, _ = part.indices(len(data))
        assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/{len(data)}"
        assert answer["Content-Length"] == str(stop - start)
    # Ranges that HTTP lets a server leave aside.
    for header in ("bytes=9-1", "bytes=0-1,5-6", "lines=1-2", "bytes=-"):
        assert client.get(f"{base}test-abc.log/", headers={"Range": header}).status_code == 200
    for header in ("bytes=1024000-", "bytes=-0"):
        outside = client.get(f"{base}test-abc.log/", headers={"Range": header})
        assert (outside.status_code, outside.json()["code"]) == (416, "range-outside")


@pytest.mark.parametrize(
    "name", ["link.log", "nested", "..", "%2e%2e", "..%2f..%2fsecrets", ".hidden", "none.log"]
)
def test_only_plain_files_of_the_folder_are_given_out(client, attempt, artifact, name):
    assert client.get(f"/api/attempts/{attempt.pk}/artifacts/{name}/").status_code == 404


def test_metrics_tell_rates_depths_and_refusals(client, attempt, lda):
    from rest_framework.test import APIClient

    assert APIClient().get("/api/metrics/").status_code == 401

    def value(name: str) -> float:
        answer = client.get("/api/metrics/")
        assert answer["Content-Type"].startswith("text/plain")
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.content.decode(), re.MULTILINE)
        assert found, name
        return float(found[1])

    rows = value('rootbound_ingested_rows_total{kind="event"}')
    post_events(attempt, [event(301), event(302)])
    post_events(attempt, [event(301), event(302)])
    assert value('rootbound_ingested_rows_total{kind="event"}') == rows + 2
    post_events(attempt, [event(999)])
    gaps = 'rootbound_rejected_batches_total{code="sequence-gap",kind="event"}'
    refused = value(gaps)
    post_events(attempt, [event(999)])
    assert value(gaps) == refused + 1
    assert value('rootbound_live_attempts{status="RUNNING"}') == 1
    assert value("rootbound_redis_up") == value("rootbound_lda_up") == 1
    assert value("rootbound_queue_depth") >= 0
    assert value("rootbound_outbox_depth") == 0
    assert value("rootbound_disk_free_bytes") > 0


def test_encoded_events_are_the_stored_ones(client, user):
    attempt = make_attempt(user)
    payload = {"kind": "text", "delta": 'Grün "quoted" \\ \n\t 💡 </script>', "n": [1, 2.5, None]}
    post_events(attempt, [event(1, **payload)])
    last = get(client, attempt, "?tail=1")["results"][0]
    assert last["payload"] == payload
    row = AttemptEvent.objects.get(attempt=attempt, seq=3)
    assert last["timestamp"] == row.timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert row.attempt_created_at == attempt.created_at
    assert abs(attempt.created_at - row.attempt_created_at) < timedelta(microseconds=1)
    assert json.dumps(last)
