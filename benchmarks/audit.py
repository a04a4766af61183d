"""How long each query of the audit log takes, against the same with OFFSET and COUNT.

Seeds a real PostgreSQL of its own with rows as runs write them, many small runs and one of a
million, over a year; then times every filter of the API, first page and page 1,000, as the API
asks for them. Run it with ``python benchmarks/audit.py``; ``--rows`` makes it smaller, and
``--home`` keeps the rows in a folder for the next time, for seeding takes longer than measuring.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "audit.md"
PAGE = 100
DEEP = 1_000
TABLE = "local_access_fsauditevent"
BIG_RUN = 10
"""The big run has one row in so many."""

SEED = """
INSERT INTO local_access_fsauditevent
    (run_id, seq, "timestamp", operation, result, path, source, detail, hash, attempt_id, user_id)
SELECT run, seq, at,
       CASE WHEN n %% 20 = 0 THEN 'DELETE' WHEN n %% 3 = 0 THEN 'WRITE' ELSE 'READ' END,
       CASE WHEN n %% 97 = 0 THEN 'DENIED' ELSE 'ALLOWED' END,
       CASE WHEN n %% 4 = 0
            THEN '/home/me/.local/state/rootbound/worktrees/' || run || '/src/module_'
                 || n %% 211 || '/file_' || n %% 1009 || '.py'
            ELSE '/usr/lib/python3/dist-packages/package_' || n %% 997 || '/part_'
                 || n %% 31 || '.py' END,
       CASE WHEN n %% 50 = 0 THEN 'tool' ELSE 'kernel' END,
       jsonb_build_object('pid', 1000 + n %% 5000, 'syscall', 'openat', 'exact', true, 'program',
           CASE WHEN n %% 5003 = 0 THEN '/usr/bin/curl' WHEN n %% 7 = 0 THEN '/usr/bin/git'
                ELSE '/usr/bin/python3.11' END),
       encode(sha256(n::text::bytea), 'hex'), run, %(user)s
FROM (
    SELECT n,
           CASE WHEN n %% {big} = 0 THEN %(big_run)s::uuid
                ELSE md5('run' || n / 5000)::uuid END AS run,
           CASE WHEN n %% {big} = 0 THEN n / {big} + 1 ELSE n %% 5000 + 1 END AS seq,
           %(start)s::timestamptz + n * %(step)s::interval AS at
    FROM generate_series(%(low)s::bigint, %(high)s::bigint - 1) AS n
) AS rows
"""

MARKS = """
INSERT INTO local_access_auditwatermark
    (run_id, user_id, last_seq, last_hash, first_at, last_at, seal)
SELECT run_id, (array_agg(user_id))[1], max(seq), repeat('0', 64), min("timestamp"),
       max("timestamp"), '' FROM local_access_fsauditevent GROUP BY run_id
"""


def main() -> int:
    """Run the benchmark and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--home", type=Path, help="state folder to keep; default a temporary one")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="rb-bench-"))
    try:
        with _database(home):
            lines: list[str] = []
            for line in _measure(options.rows, options.repeats):
                print(line, flush=True)
                lines.append(line)
                # What is known so far, should it be stopped.
                RESULTS.write_text("\n".join([*lines, "", _NOTES, ""]), encoding="utf-8")
    finally:
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)
    return 0


def _database(home: Path) -> Any:
    """Start a PostgreSQL with the backend's tables; a context manager."""
    from contextlib import contextmanager

    from rootbound_server_ext.stack import postgres, secrets

    secrets.ensure_secrets(home)
    server = postgres.PostgresServer(home)

    @contextmanager
    def running() -> Any:
        with server.running() as url:
            os.environ |= {
                "ROOTBOUND_HOME": str(home),
                "ROOTBOUND_DATABASE_URL": url,
                "DJANGO_SETTINGS_MODULE": "rootbound_backend.settings",
            }
            import django
            from django.core.management import call_command
            from django.db import connection

            django.setup()
            call_command("migrate", verbosity=0)
            yield
            connection.close()
            connection.close_pool()

    return running()


def _measure(total: int, repeats: int) -> Iterator[str]:
    from django.db import connection

    from rootbound_backend.apps.local_access.audit.queries import AuditFilter
    from rootbound_backend.apps.users.services import ensure_user

    user = ensure_user(username="bench")
    big = uuid.UUID(int=7)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE}")
        (there,) = cursor.fetchone()
    if there not in (0, total):
        raise SystemExit(f"The folder holds {there:,} entries, not {total:,}; name another one.")
    seeded_s = 0.0 if there else _seed(total, user.pk, big)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_table_size(inhrelid)), sum(pg_indexes_size(inhrelid)), count(*) "
            "FROM pg_inherits WHERE inhparent = 'local_access_fsauditevent'::regclass"
        )
        table, indexes, parts = cursor.fetchone()
        cursor.execute(
            "SELECT regexp_replace(indexrelname, '^local_access_fsauditevent_y?[0-9m]*_?', ''), "
            "sum(pg_relation_size(indexrelid)) FROM pg_stat_user_indexes "
            "WHERE relname ~ '^local_access_fsauditevent_' GROUP BY 1 ORDER BY 2 DESC"
        )
        sizes = cursor.fetchall()
        cursor.execute(
            "SELECT run_id FROM local_access_fsauditevent WHERE run_id <> %s "
            'ORDER BY "timestamp" LIMIT 1',
            [big],
        )
        old = cursor.fetchone()[0]
        cursor.execute(f'SELECT max("timestamp") FROM {TABLE}')
        now = cursor.fetchone()[0]
    worktree = f"/home/me/.local/state/rootbound/worktrees/{old}/"
    cases = {
        "all": {},
        "attempt, 1 row in 10": {"run": big},
        "attempt, 5,000 rows": {"run": old},
        "operation DELETE": {"operation": "DELETE"},
        "result DENIED": {"result": "DENIED"},
        "attempt, DENIED": {"run": big, "result": "DENIED"},
        "attempt, DELETE and DENIED": {"run": big, "result": "DENIED", "operation": "DELETE"},
        "source tool": {"source": "tool"},
        "program, common": {"program": "/usr/bin/git"},
        "program, rare": {"program": "/usr/bin/curl"},
        "path prefix, common": {"path_prefix": "/usr/lib/python3/"},
        "path prefix, of the oldest run": {"path_prefix": worktree},
        "path prefix, one package": {"path_prefix": "/usr/lib/python3/dist-packages/package_99/"},
        "glob with a prefix": {"glob": "/usr/lib/python3/**/part_7.py"},
        "glob at any depth": {"glob": "file_7*.py"},
        "a day, half a year ago": {"since": now - timedelta(days=180),
                                   "until": now - timedelta(days=179)},
    }  # fmt: skip
    yield from _head(total, repeats, seeded_s, table, indexes, parts, sizes)
    yield "| query | page 1, p50 / p95 ms | page 1,000, p50 / p95 ms | ratio | OFFSET | COUNT |"
    yield "|---|---|---|---|---|---|"
    for name, fields in cases.items():
        yield _case(name, AuditFilter(user=user, **fields), repeats)


_NOTES = (
    "p50 and p95 are of the repeats, warm; a page is 100 entries, read as the API reads it, the "
    "look-up that decides how rare a path or program is included. Page 1,000 is reached by its "
    "cursor; where a filter has fewer entries, its middle is taken (marked with its depth). "
    "OFFSET is page 1,000 (or that depth) by LIMIT and OFFSET in the same order; COUNT is the "
    "total that page numbers need."
)


def _start() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=360)


def _seed(total: int, user: uuid.UUID, big: uuid.UUID) -> float:
    from django.db import connection

    began = time.monotonic()
    start, step = _start(), timedelta(days=360) / total
    with connection.cursor() as cursor:
        for day in range(0, 365, 20):
            cursor.execute("SELECT local_access_audit_partition(%s)", [start + timedelta(days=day)])
        cursor.execute("SET synchronous_commit = off")
        again = _drop_indexes(cursor)
        for low in range(0, total, 1_000_000):
            facts = {
                "user": user,
                "big_run": big,
                "start": start,
                "step": step,
                "low": low,
                "high": min(total, low + 1_000_000),
            }
            cursor.execute(SEED.format(big=BIG_RUN), facts)
            print(f"seeded {facts['high']:,}", file=sys.stderr, flush=True)
        cursor.execute("SET maintenance_work_mem = '512MB'")
        for statement in again:
            cursor.execute(statement)
            print(statement[:90], file=sys.stderr, flush=True)
        cursor.execute(MARKS)
        cursor.execute("VACUUM (ANALYZE) local_access_fsauditevent")
    return time.monotonic() - began


def _drop_indexes(cursor: Any) -> list[str]:
    """Drop keys and indexes, which are built quicker afterwards; returns what makes them again."""
    cursor.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        f"WHERE conrelid = '{TABLE}'::regclass AND contype IN ('p', 'u')"
    )
    keys = cursor.fetchall()
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        f"WHERE indrelid = '{TABLE}'::regclass AND NOT indisunique"
    )
    indexes = cursor.fetchall()
    for name, _ in keys:
        cursor.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT {name}")
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    return [
        *(f"ALTER TABLE {TABLE} ADD CONSTRAINT {name} {text}" for name, text in keys),
        *(text.replace(" ON ONLY ", " ON ") for _, text in indexes),
    ]


def _case(name: str, wanted: Any, repeats: int) -> str:
    from rootbound_backend.apps.local_access.audit.queries import (
        _behind,
        audit_entries,
        audit_page,
        in_order,
    )

    rows = in_order(audit_entries(wanted), wanted)
    count_s = _times(lambda: audit_entries(wanted).count(), 1 + repeats // 4)
    total = audit_entries(wanted).count()
    depth = min((DEEP - 1) * PAGE, total // 2)
    offset_s = _times(lambda: list(rows[depth : depth + PAGE + 1]), 1 + repeats // 4)
    cursor = _cursor_at(rows, wanted, depth)
    first_s = _times(lambda: audit_page(wanted, limit=PAGE), repeats)
    deep_s = _times(lambda: audit_page(wanted, limit=PAGE, cursor=cursor), repeats)
    expected = [row.pk for row in rows[depth : depth + PAGE]]
    found = [row.pk for row in audit_page(wanted, limit=PAGE, cursor=cursor)[0]]
    if found != expected:
        raise AssertionError(f"{name}: the cursor leads elsewhere than OFFSET {depth}")
    _behind(cursor, wanted)
    ratio = statistics.median(deep_s) / statistics.median(first_s)
    mark = "" if depth == (DEEP - 1) * PAGE else f" (page {depth // PAGE + 1:,})"
    return (
        f"| {name}, {total:,} | {_ms(first_s)} | {_ms(deep_s)}{mark} | {ratio:.2f} | "
        f"{statistics.median(offset_s) * 1000:,.1f} | {statistics.median(count_s) * 1000:,.1f} |"
    )


def _cursor_at(rows: Any, wanted: Any, depth: int) -> str:
    """Return the cursor that a client has after so many entries."""
    from django.core import signing

    from rootbound_backend.apps.local_access.audit import queries

    last = rows[max(depth - 1, 0)]
    place = [last.seq] if wanted.by_seq else [last.timestamp.isoformat(), last.id]
    return signing.dumps(place, salt=queries._CURSOR)


def _times(action: Callable[[], object], repeats: int) -> list[float]:
    action()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        found.append(time.perf_counter() - began)
    return found


def _ms(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return f"{statistics.median(ordered) * 1000:,.1f} / {p95 * 1000:,.1f}"


def _head(
    total: int, repeats: int, seeded_s: float, table: int, indexes: int, parts: int, sizes: Any
) -> list[str]:
    each = ", ".join(f"`{name}` {int(size) >> 20:,} MB" for name, size in sizes if size > 1 << 20)
    seeded = f"Seeded in {seeded_s:,.0f} s. " if seeded_s else ""
    text = (
        f"{total:,} entries in {parts} partitions over 360 days, one run with a tenth of them, "
        f"the others with 4,500 each; {int(table) >> 20:,} MB and {int(indexes) >> 20:,} MB of "
        f"indexes ({each}). {seeded}{os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}, the embedded PostgreSQL with "
        f"its defaults; load average {os.getloadavg()[0]:.1f}; {repeats} repeats."
    )
    return ["# Audit log: queries", "", text, ""]


if __name__ == "__main__":
    sys.exit(main())
