"""Streamed exports: PostgreSQL writes the lines, nothing is held but the block in flight."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, Literal

import psycopg
from django.db import connection
from django.db.models import QuerySet

from rootbound_backend.apps.local_access.models import FsAuditEvent

__all__ = ["CSV_COLUMNS", "export_statement", "stream_export"]

logger = logging.getLogger(__name__)

Format = Literal["ndjson", "csv"]

BLOCK_BYTES = 64 * 1024
APPLICATION = "rootbound audit export"

_MOMENT = 'to_char(e."timestamp" AT TIME ZONE \'UTC\', \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'

_LINE = f"""json_build_object(
    'id', e.id, 'run_id', e.run_id, 'attempt', e.attempt_id, 'seq', e.seq,
    'timestamp', {_MOMENT}, 'operation', e.operation, 'result', e.result, 'path', e.path,
    'source', e.source, 'detail', e.detail, 'hash', e.hash)"""

# A cell that a spreadsheet would take for a formula is quoted with an apostrophe.
_SAFE = "CASE WHEN {0} ~ E'^[=+\\\\-@\\\\t\\\\r\\\\n]' THEN '''' || {0} ELSE {0} END"

_CELLS = {
    "id": "e.id",
    "timestamp": _MOMENT,
    "operation": "e.operation",
    "result": "e.result",
    "path": _SAFE.format("e.path"),
    "source": "e.source",
    "program": _SAFE.format("(e.detail ->> 'program')"),
    "attempt": "e.attempt_id",
    "run_id": "e.run_id",
    "seq": "e.seq",
    "detail": "e.detail::text",
    "hash": "e.hash",
}
CSV_COLUMNS = tuple(_CELLS)

# JSON never holds these two characters as they are, so the lines come out unquoted.
_AS_LINES = "(FORMAT CSV, DELIMITER E'\\x02', QUOTE E'\\x01', ENCODING 'UTF8')"
_AS_TABLE = "(FORMAT CSV, HEADER, ENCODING 'UTF8')"


def export_statement(rows: QuerySet[FsAuditEvent], wanted: Format) -> str:
    """Return the COPY statement that writes entries in their order.

    Parameters
    ----------
    rows
        Ordered entries, limited if need be.
    wanted
        ``ndjson`` or ``csv``.
    """
    sql, parameters = rows.query.sql_with_params()
    if wanted == "ndjson":
        columns, options = _LINE, _AS_LINES
    else:
        columns = ", ".join(f"{cell} AS {name}" for name, cell in _CELLS.items())
        options = _AS_TABLE
    # COPY takes no parameters: the driver writes them as literals.
    with connection.cursor() as cursor:
        inner = cursor.mogrify(sql, parameters)
    return f"COPY (SELECT {columns} FROM ({inner}) AS e) TO STDOUT {options}"  # noqa: S608


def _parameters() -> dict[str, Any]:
    known = connection.get_connection_params()
    names = ("dbname", "user", "password", "host", "port", "sslmode", "sslrootcert", "service")
    return {name: known[name] for name in names if known.get(name)}


async def stream_export(statement: str) -> AsyncIterator[bytes]:
    """Run a COPY statement and yield its output in blocks.

    It has a connection of its own, which ends with the generator: when the client goes away, so
    does the query.

    Parameters
    ----------
    statement
        Of `export_statement`.
    """
    session = await psycopg.AsyncConnection.connect(
        **_parameters(), autocommit=True, application_name=APPLICATION
    )
    async with session, session.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        block = bytearray()
        async for piece in copy:
            block += piece
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)
