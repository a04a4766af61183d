"""What the outbox costs, against SQLite alone storing the very same rows.

Run it with ``python benchmarks/outbox.py``; it writes ``benchmarks/results/outbox.md``. Every
round runs every way once, so that a change of the machine's load meets all of them; the figures
are medians, the ratios medians of each round's ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rootbound_lda.audit import AuditRecord, encode_entry
from rootbound_lda.outbox import ZERO_HASH, Outbox
from rootbound_lda.reports import Reporter, RunAudit
from rootbound_lda.wire import Notice

RESULTS = Path(__file__).resolve().parent / "results"
GROUP = 2_000
RECORD = AuditRecord(
    "WRITE", "ALLOWED", "/home/user/.local/state/rootbound/worktrees/a1/src/package/module.py",
    "kernel", {"pid": 4711, "program": "/usr/bin/python3.11", "syscall": "openat", "exact": True},
)  # fmt: skip
ROWS = "key INTEGER PRIMARY KEY, terminal INTEGER, bulk INTEGER, hash TEXT, body BLOB"
Row = tuple[int, int, int, str, bytes]


def made(count: int) -> list[Row]:
    """Return the rows that the outbox stores for so many audit records."""
    rows, previous = [], ZERO_HASH
    for number in range(1, count + 1):
        body, previous = encode_entry(RECORD, seq=number, prev=previous)
        rows.append((number, 0, 0, previous, body))
    return rows


def database(folder: Path) -> sqlite3.Connection:
    """Open a file with the outbox's settings."""
    connection = sqlite3.connect(folder / "plain.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"CREATE TABLE rows ({ROWS})")
    return connection


def executemany(folder: Path, rows: list[Row]) -> None:
    """Store the rows as fast as SQLite's module can, in the groups of the outbox."""
    connection = database(folder)
    for start in range(0, len(rows), GROUP):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO rows VALUES (?,?,?,?,?)", rows[start : start + GROUP])
        connection.execute("COMMIT")
    connection.close()


def two_statements(folder: Path, rows: list[Row]) -> None:
    """Store each row and its stream's state, in the same groups: two statements a row."""
    connection = database(folder)
    connection.execute("CREATE TABLE streams (id INTEGER PRIMARY KEY, seq INTEGER, hash TEXT)")
    connection.execute("INSERT INTO streams VALUES (1, 0, '')")
    for start in range(0, len(rows), GROUP):
        connection.execute("BEGIN IMMEDIATE")
        for row in rows[start : start + GROUP]:
            connection.execute("INSERT INTO rows VALUES (?,?,?,?,?)", row)
            connection.execute("UPDATE streams SET seq=?, hash=? WHERE id=1", (row[0], row[3]))
        connection.execute("COMMIT")
    connection.close()


def one_commit_each(folder: Path, rows: list[Row]) -> None:
    """Store the rows as a log does that is simply written to: each in a transaction of its own."""
    connection = database(folder)
    for row in rows:
        connection.execute("INSERT INTO rows VALUES (?,?,?,?,?)", row)
    connection.close()


def outbox_alone(folder: Path, rows: list[Row]) -> None:
    """Number, queue and commit rows that are encoded already."""
    box = Outbox(folder / "outbox.sqlite3")
    stream = box.stream("audit", "a1", "a1")
    ready = ((body, digest) for _, _, _, digest, body in rows)

    def build(_seq: int, _hash: str) -> tuple[bytes, str]:
        return next(ready)

    for _ in rows:
        box.append(stream, build)
    box.call(lambda _: None).result()
    box.close()


def audit_records(folder: Path, rows: list[Row]) -> None:
    """Encode, chain by hash, number, queue and commit audit records."""
    box = Outbox(folder / "outbox.sqlite3")
    audit = RunAudit(box, "a1", "a1")
    for _ in rows:
        audit.record(RECORD)
    box.call(lambda _: None).result()
    box.close()


def events(folder: Path, rows: list[Row]) -> None:
    """Encode, number, queue and commit events with a text as long as an audit entry."""
    box = Outbox(folder / "outbox.sqlite3")
    reporter, text = Reporter(box, "a1"), Notice("x" * 220)
    for _ in rows:
        reporter(text)
    box.call(lambda _: None).result()
    box.close()


WAYS: tuple[tuple[str, Callable[[Path, list[Row]], None], int], ...] = (
    ("SQLite `executemany`, the same rows and groups", executemany, 1),
    ("SQLite, two statements a row, the same groups", two_statements, 1),
    ("SQLite, one commit a row", one_commit_each, 5),
    ("outbox, rows encoded before", outbox_alone, 1),
    ("outbox, audit records (JSON, hash chain)", audit_records, 1),
    ("outbox, events (JSON)", events, 1),
)


def measure(count: int, rounds: int) -> dict[str, list[float]]:
    """Return rows a second by way, one figure a round."""
    rows = made(count)
    rates: dict[str, list[float]] = {name: [] for name, _, _ in WAYS}
    for number in range(rounds + 1):
        for name, way, share in WAYS:
            part = rows[: count // share]
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                way(Path(folder), part)
                took = time.perf_counter() - began
            if number:  # the first round warms up
                rates[name].append(len(part) / took)
    return rates


def table(rates: dict[str, list[float]], count: int, rounds: int) -> str:
    """Return the results as Markdown."""
    base = rates[WAYS[0][0]]
    machine = (
        f"{count:,} rows of {len(made(1)[0][4])} bytes, medians of {rounds} rounds; "
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}.\n"
    )
    lines = [
        "# Outbox\n",
        machine,
        "| way | rows a second | of `executemany` |",
        "|---|---:|---:|",
    ]
    for name, found in rates.items():
        ratio = statistics.median(one / other for one, other in zip(found, base, strict=True))
        lines.append(f"| {name} | {statistics.median(found):,.0f} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    text = table(measure(arguments.rows, arguments.rounds), arguments.rows, arguments.rounds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "outbox.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
