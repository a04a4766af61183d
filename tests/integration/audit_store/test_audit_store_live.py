"""The audit log of a real run: verified, read, exported, tampered with, by command line and SDK."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import psycopg
import pytest

import rootbound as rb
from rootbound.aio import connect_async
from rootbound.errors import InvalidRequestError
from rootbound.testing.script import ToolCall, Turn
from rootbound_server_ext.stack.postgres import PostgresServer
from rootbound_server_ext.stack.secrets import POSTGRES_PASSWORD, read_secret
from tests.support.environment import wait_for
from tests.support.live import LiveStack, fix_calculator, rootbound

TABLE = "local_access_fsauditevent"


@pytest.fixture(scope="module")
def attempt(live: LiveStack):
    """An attempt that wrote files with names from far away and was denied one."""
    project = live.make_project("audited")
    live.replay.turns = [
        Turn(calls=(ToolCall("write_file", {"path": "Grün – ⚙.txt", "content": "x\n"}),)),
        Turn(calls=(ToolCall("run_command", {"command": "echo y > 'ünïcode.log'; cat Gr*"}),)),
        Turn(calls=(ToolCall("write_file", {"path": "/etc/rootbound-no", "content": "x"}),)),
        *fix_calculator(),
    ]
    task = live.make_task(project, "Leave traces")
    started = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
    ended = live.wait_for_attempt(started["id"])
    assert ended["status"] == "REVIEW", ended
    return ended


def run(live: LiveStack, *arguments: str):
    return rootbound(live.home, "audit", *arguments)


def tamper(live: LiveStack, statement: str, *values: object) -> None:
    password = read_secret(live.home, POSTGRES_PASSWORD)
    with psycopg.connect(PostgresServer(live.home).url, password=password) as connection:
        connection.execute(f"ALTER TABLE {TABLE} DISABLE TRIGGER USER")
        assert connection.execute(statement, values).rowcount == 1
        for name in ("audit_append_only", "audit_no_truncate", "audit_row_append_only"):
            connection.execute(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER {name}")


def test_verify_tells_a_real_log_from_a_changed_one(live: LiveStack, attempt) -> None:
    whole = run(live, "verify", "--attempt", attempt["id"])
    assert (whole.returncode, whole.stderr) == (0, "")
    assert "is what was reported" in whole.stdout
    rows = live.call("GET", f"/api/audit/logs/?attempt={attempt['id']}&glob=*%E2%9A%99.txt")
    target = rows["results"][-1]
    change = f"UPDATE {TABLE} SET path = %s WHERE id = %s"
    tamper(live, change, "/srv/innocent", target["id"])
    try:
        found = run(live, "verify", "--attempt", attempt["id"], "--json")
        assert found.returncode == 1
        (finding,) = json.loads(found.stdout)["findings"]
        assert (finding["kind"], finding["seq"], finding["id"]) == (
            "changed", target["seq"], target["id"],
        )  # fmt: skip
        text = run(live, "verify", "--project", attempt["project"])
        assert text.returncode == 1
        assert f"entry {target['seq']} (row {target['id']}): changed" in text.stdout
    finally:
        tamper(live, change, target["path"], target["id"])
    assert run(live, "verify", "--run", attempt["id"]).returncode == 0


def test_list_summary_and_export(live: LiveStack, attempt, tmp_path: Path) -> None:
    listed = run(
        live, "list", "--attempt", attempt["id"], "--result", "denied", "--json", "-n", "9"
    )
    paths = [json.loads(line)["path"] for line in listed.stdout.splitlines()]
    assert "/etc/rootbound-no" in paths
    shown = run(live, "list", "--attempt", attempt["id"], "--glob", "*.txt").stdout
    assert "Grün – ⚙.txt" in shown
    counts = json.loads(run(live, "summary", "--attempt", attempt["id"], "--json").stdout)["counts"]
    total = sum(one["count"] for one in counts)
    lines, table = tmp_path / "log.ndjson", tmp_path / "log.csv"
    for file in (lines, table):
        done = run(live, "export", str(file), "--attempt", attempt["id"], "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["bytes"] == file.stat().st_size
    exported = [json.loads(line) for line in lines.read_text().split("\n")[:-1]]
    assert [one["seq"] for one in exported] == list(range(total, 0, -1))
    with table.open(newline="") as file:
        assert [int(row["seq"]) for row in csv.DictReader(file)] == list(range(total, 0, -1))
    refused = run(live, "list", "--since", "yesterday")
    assert refused.returncode == 1
    assert "since" in refused.stderr and "Traceback" not in refused.stderr
    nothing = run(live, "retain", "--older-than", "90d", "--json")
    assert json.loads(nothing.stdout) == {"dry_run": False, "dropped": []}
    assert run(live, "retain").returncode == 1


def test_the_sdk_reads_the_log(live: LiveStack, attempt, tmp_path: Path) -> None:
    with rb.connect(live.url, live.token) as client:
        query = client.audit(attempt=attempt["id"], page_size=50)
        entries = list(query)
        seqs = [entry.seq for entry in entries]
        assert seqs == list(range(len(entries), 0, -1))
        assert len(query.df()) == query.summary().count() == len(entries)
        assert query.verify().entries == len(entries)
        assert query.tree().children
        assert sum(one.allowed + one.denied for one in query.timeline().buckets) == len(entries)
        oldest = entries[-1].timestamp
        assert [one.seq for one in client.audit(attempt=attempt["id"], until=oldest)] == []
        with pytest.raises(InvalidRequestError):
            query.export(tmp_path / "log.txt")
        with pytest.raises(InvalidRequestError):
            client.audit(result="MAYBE").export(tmp_path / "log.csv")
        assert list(tmp_path.iterdir()) == []
        first = query.export(tmp_path / "a.jsonl").read_bytes()

    async def again() -> bytes:
        async with await connect_async(live.url, live.token) as client:
            query = client.audit(attempt=attempt["id"])
            assert (await query.verify()).ok
            assert (await query.summary()).count() == len(entries)
            return (await query.export(tmp_path / "b.jsonl")).read_bytes()

    assert asyncio.run(again()) == first


def test_an_export_waits_for_a_client_that_does_not_read(live: LiveStack) -> None:
    """What is not read yet stays in PostgreSQL, not in the backend's memory."""
    name = f"{TABLE}_y2099m01"
    password = read_secret(live.home, POSTGRES_PASSWORD)
    with psycopg.connect(
        PostgresServer(live.home).url, password=password, autocommit=True
    ) as connection:
        username = live.call("GET", "/api/me/")["username"]
        connection.execute("SELECT local_access_audit_partition('2099-01-01 00:00+00')")
        try:
            connection.execute(
                f"INSERT INTO {TABLE} (run_id, seq, timestamp, operation, result, path, source, "
                "detail, hash, user_id) SELECT gen_random_uuid(), n, '2099-01-02 00:00+00', "
                "'READ', 'ALLOWED', '/' || repeat('x', 1000), 'kernel', '{}', repeat('0', 64), id "
                "FROM users_user, generate_series(1, 40000) AS n WHERE username = %s",
                [username],
            )
            with live.http.stream(
                "GET", "/api/audit/logs/?format=ndjson&since=2099-01-01T00:00:00Z"
            ) as answer:
                seen: list[int | None] = []

                def stands_still() -> bool:
                    seen.append(_progress(connection))
                    last = seen[-40:]
                    return len(last) == 40 and set(last) == {last[0]} and bool(last[0])

                wait_for(stands_still, what="the query to wait for its client")
                assert (seen[-1] or 0) < 40_000
                assert sum(block.count(b"\n") for block in answer.iter_bytes()) == 40_000

            # A client that goes away ends its query.
            with live.http.stream(
                "GET", "/api/audit/logs/?format=ndjson&since=2099-01-01T00:00:00Z"
            ) as answer:
                next(answer.iter_bytes())
                assert _progress(connection) is not None
            wait_for(lambda: _progress(connection) is None, what="the query to end")
        finally:
            connection.execute(f"DROP TABLE {name}")


def _progress(connection: psycopg.Connection) -> int | None:
    """How many entries the running export has read; None when there is none."""
    row = connection.execute(
        "SELECT tuples_processed FROM pg_stat_progress_copy JOIN pg_stat_activity USING (pid) "
        "WHERE application_name = 'rootbound audit export'"
    ).fetchone()
    return row[0] if row else None
