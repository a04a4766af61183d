"""A statement and the COPY that depends on its answer: one transaction, and hardly a wait."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from psycopg import errors, generators, pq
from psycopg.copy import LibpqWriter

__all__ = ["copy_after"]

_prepared: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()
"""Names of prepared statements, by connection."""


def copy_after(
    statement: str,
    facts: Mapping[str, Any],
    copy: str,
    blocks: Callable[[tuple[int, ...]], Iterable[bytes]],
    nothing: bytes,
) -> bool:
    """Execute a statement and, if it answers with a row, COPY what follows from that.

    Both are sent as one text, which PostgreSQL takes for one transaction: it answers the statement,
    waits for the rows, and commits behind the last of them. BEGIN, statement, COPY and COMMIT by
    themselves are waits for another process; the statement is planned once per connection, which
    takes longer than to execute it [100 events: 0.94 ms for the four, 0.70 as one text, 0.61
    planned].

    Parameters
    ----------
    statement, facts
        Answers with at most one row, of integers; uses each fact.
    copy
        ``COPY ... FROM STDIN``.
    blocks
        Returns the COPY's data for the statement's row.
    nothing
        The data of a COPY without rows, for a statement that answers with none.

    Returns
    -------
    bool
        Whether there was a row; if not, nothing was copied.

    Raises
    ------
    psycopg.Error
        When PostgreSQL refuses either; neither has happened then.
    """
    try:
        return _copy_after(statement, facts, copy, blocks, nothing)
    except errors.InvalidSqlStatementName:
        # After a rollback psycopg forgets what was prepared on its connection, ours included.
        _prepared.pop(connection.connection, None)
        return _copy_after(statement, facts, copy, blocks, nothing)


def _copy_after(
    statement: str,
    facts: Mapping[str, Any],
    copy: str,
    blocks: Callable[[tuple[int, ...]], Iterable[bytes]],
    nothing: bytes,
) -> bool:
    # Only tests call this within a transaction, which has to live on after a refusal.
    nested = transaction.atomic() if connection.in_atomic_block else contextlib.nullcontext()
    with nested, connection.cursor() as wrapped:
        cursor: Any = wrapped.cursor
        pgconn = cursor.connection.pgconn
        text = f"{_execution(cursor, statement, facts)}; {copy}"
        pgconn.send_query(text.encode())
        results = cursor.connection.wait(generators.execute(pgconn))
        if results[-1].status != pq.ExecStatus.COPY_IN:
            raise errors.error_from_result(results[-1])
        found = results[0] if results[0].ntuples else None
        writer = LibpqWriter(cursor)
        try:
            for block in [nothing] if found is None else blocks(_integers(found)):
                writer.write(block)
        except BaseException as error:
            with contextlib.suppress(errors.Error):
                writer.finish(error)
            raise
        writer.finish()
        return found is not None


def _execution(cursor: Any, statement: str, facts: Mapping[str, Any]) -> str:
    """Return what executes a statement, which is prepared if the connection does not know it."""
    if not settings.PREPARED_STATEMENTS:
        plain: str = cursor.mogrify(statement, facts)
        return plain
    known = _prepared.setdefault(cursor.connection, {})
    name = known.get(statement)
    if name is None:
        name = f"copy_after_{len(known)}"
        numbered = statement % {fact: f"${number}" for number, fact in enumerate(facts, start=1)}
        cursor.execute(f"PREPARE {name} AS {numbered}")
        known[statement] = name
    places = ", ".join(f"%({fact})s" for fact in facts)
    text: str = cursor.mogrify(f"EXECUTE {name} ({places})", facts)
    return text


def _integers(result: Any) -> tuple[int, ...]:
    return tuple(int(result.get_value(0, column)) for column in range(result.nfields))
