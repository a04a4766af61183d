"""Exports stream: every row, safe cells, bounded memory, and an end when nobody listens."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.db import connection

from rootbound_backend.apps.local_access.audit.export import APPLICATION, CSV_COLUMNS
from rootbound_backend.asgi import application
from tests.integration.audit_store.audit_support import (
    TABLE,
    chained,
    make_run,
    records,
    store,
    stored_run,
)
from tests.integration.backend.backend_support import api_token

pytestmark = pytest.mark.django_db(transaction=True)


def request(query="", accept="application/json"):
    headers = [
        (b"authorization", f"Bearer {api_token('alice')}".encode()),
        (b"accept", accept.encode()),
        (b"host", b"localhost"),
    ]
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": "/api/audit/logs/",
        "raw_path": b"/api/audit/logs/", "root_path": "", "scheme": "http",
        "query_string": query.encode(), "headers": headers, "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    return ApplicationCommunicator(application, scope)


async def opened(query="", accept="application/json"):
    communicator = request(query, accept)
    await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
    start = await communicator.receive_output(timeout=20)
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return communicator, start["status"], headers


async def body_of(communicator):
    parts = []
    while True:
        message = await communicator.receive_output(timeout=20)
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def running_exports():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
        )
        return cursor.fetchone()[0]


def make_rows(user):
    run = make_run(user)
    odd = [
        {"path": "=cmd|' /C calc'!A0"},
        {"path": '/srv/"quoted", and\nbroken \\. \u2028 Grün'},
        {"detail": {"program": "@evil", "a": 'x\\"\n\t\x01\x02'}},
        {"path": "+1", "detail": {"program": "-1"}},
        {"path": "\t=1"},
    ]
    store(run, chained([next(records(1, **fields)) for fields in odd]))
    return run


@pytest.mark.asyncio
async def test_ndjson_is_the_list_and_csv_is_safe_to_open(user):
    await sync_to_async(make_rows)(user)
    listed = json.loads(await body_of((await opened("limit=1000"))[0]))["results"]
    communicator, status, headers = await opened("format=ndjson")
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    text = await body_of(communicator)
    # Not `splitlines`, which takes U+2028 for the end of a line.
    lines = text.decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == listed
    assert lines[-1] == ""
    assert await body_of((await opened(accept="application/x-ndjson"))[0]) == text

    communicator, status, headers = await opened(accept="text/csv")
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    table = (await body_of(communicator)).decode()
    rows = {row["seq"]: row for row in csv.DictReader(io.StringIO(table, newline=""))}
    assert tuple(rows["1"]) == CSV_COLUMNS
    assert [rows[seq]["path"] for seq in "1245"] == [
        "'=cmd|' /C calc'!A0",
        '/srv/"quoted", and\nbroken \\. \u2028 Grün',
        "'+1",
        "'\t=1",
    ]
    assert [rows[seq]["program"] for seq in "34"] == ["'@evil", "'-1"]
    cells = [cell for row in rows.values() for cell in row.values()]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert json.loads(rows["3"]["detail"])["a"] == 'x\\"\n\t\x01\x02'

    query = f"format=ndjson&run={listed[0]['run_id']}&operation=WRITE&limit=2"
    lines = (await body_of((await opened(query))[0])).decode().split("\n")
    assert [json.loads(line)["seq"] for line in lines[:-1]] == [5, 4]
    assert await body_of((await opened("format=ndjson&path_prefix=/nowhere"))[0]) == b""
    communicator, status, headers = await opened("format=csv&operaton=READ")
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(await body_of(communicator))["errors"].keys() == {"operaton"}
    assert (await opened("format=csv&limit=0"))[1] == 400


@pytest.mark.asyncio
async def test_a_client_that_leaves_ends_the_query(user):
    def fill():
        run = stored_run(user, 1)
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {TABLE} (run_id, seq, timestamp, operation, result, path, source, "
                "detail, hash, user_id) SELECT run_id, n, timestamp, operation, result, "
                f"path || repeat('x', 500), source, detail, hash, user_id FROM {TABLE}, "
                "generate_series(2, 60000) AS n WHERE run_id = %s",
                [run.pk],
            )

    await sync_to_async(fill)()
    communicator, status, _ = await opened("format=ndjson")
    assert status == 200
    for _ in range(3):
        message = await communicator.receive_output(timeout=20)
        assert 0 < len(message["body"]) < 1_000_000
    assert await sync_to_async(running_exports)() == 1
    await communicator.send_input({"type": "http.disconnect"})
    async with asyncio.timeout(20):
        while await sync_to_async(running_exports)():
            await asyncio.sleep(0.02)
        await communicator.wait(timeout=20)
