"""Decoding and storing of batches that the LDA reports."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import django.db
import msgspec
from django.db import connection

from rootbound_backend.problems import Problem

__all__ = [
    "copy_rows",
    "decode_batch",
    "decode_lines",
    "decode_part",
    "raw_json",
    "refusing_unstorable",
]

T = TypeVar("T")

# NUL and surrogates: JSON can spell them, PostgreSQL cannot store them.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)


def decode_batch(body: bytes, decoder: msgspec.json.Decoder[T], where: str = "") -> T:
    """Decode and validate a whole batch, or refuse it naming index and field.

    NUL characters and lone surrogates in strings are replaced by U+FFFD. Errors begin with
    `where`; default nothing.

    Raises
    ------
    Problem
        400 with code ``invalid``.
    """
    if _SUSPECT.search(body):
        body = _storable(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(f"The body is not readable JSON: {error}") from error


def decode_lines(body: bytes, decoder: msgspec.json.Decoder[T], where: str) -> list[T]:
    """Decode one row per line, all or none; errors name the row in `where`.

    Raises
    ------
    Problem
        400 with code ``invalid``.
    """
    if _SUSPECT.search(body):
        body = b"\n".join(_storable(line) for line in body.split(b"\n") if line.strip())
    try:
        return decoder.decode_lines(body)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(f"The lines are not readable JSON: {error}") from error


def decode_part(raw: msgspec.Raw | bytes, decoder: msgspec.json.Decoder[T], where: str) -> T:
    """Decode one raw member of a batch; errors name `where` in the batch.

    Raises
    ------
    Problem
        400 with code ``invalid``.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), where) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(f"The JSON cannot be read: {error}", where) from error


def _refusal(text: str, where: str = "") -> Problem:
    match = _AT.match(text)
    what, inner = (match["what"], match["where"] or "") if match else (text, "")
    joiner = "." if where and inner and not inner.startswith("[") else ""
    field = f"{where}{joiner}{inner}"
    return Problem(
        status=400,
        code="invalid",
        title="Invalid input",
        detail=f"{field}: {what}." if field else f"{what}.",
        extras={"errors": {field or "body": [what]}},
    )


def _storable(body: bytes) -> bytes:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _refusal(f"The body is not readable JSON: {error}") from error
    return json.dumps(_clean(document), separators=(",", ":"), ensure_ascii=False).encode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def raw_json(raw: msgspec.Raw | bytes) -> bytes:
    """Return encoded JSON as COPY takes it for a ``jsonb``: the format's version, then the text."""
    return b"\x01" + bytes(raw)


def copy_rows(
    table: str, columns: Sequence[str], types: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """COPY rows into a table within the running transaction.

    Parameters
    ----------
    table, columns
        Names of ours, never of a request.
    types
        PostgreSQL type of each column; values of ``jsonb`` come from `raw_json`.
    rows
        One value per column and row.

    Raises
    ------
    Problem
        400 when PostgreSQL cannot store a value; the transaction must be rolled back.
    """
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    with refusing_unstorable(), connection.cursor() as cursor, cursor.copy(statement) as copy:
        # Encoded by us: psycopg's way to a jsonb takes a third of the time of a whole row.
        copy.set_types(["bytea" if kind == "jsonb" else kind for kind in types])
        for row in rows:
            copy.write_row(row)


@contextlib.contextmanager
def refusing_unstorable() -> Iterator[None]:
    """Turn PostgreSQL's refusal of a value into ours, and psycopg's other errors into Django's.

    COPY is psycopg's own: past Django, nothing would know its errors for those of a database.

    Raises
    ------
    Problem
        400 when PostgreSQL cannot store a value; a transaction must be rolled back.
    """
    try:
        with connection.wrap_database_errors:
            yield
    except django.db.DataError as error:
        first_line = str(error).splitlines()[0] if str(error) else "unknown"
        raise Problem(
            status=400,
            code="invalid",
            title="Invalid input",
            detail=f"The batch holds a value that cannot be stored: {first_line}.",
        ) from error
