"""Bodies of reported batches: JSON or NDJSON, plain or gzip, bounded before they are believed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from django.http import HttpRequest, RawPostDataException

from rootbound_backend.problems import Problem
from rootbound_backend.wire import decode_batch, decode_lines

__all__ = ["MAX_BODY_BYTES", "RowDecoders", "read_body"]

T = TypeVar("T")
B = TypeVar("B")

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Largest batch, compressed as well as expanded, in bytes."""

NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


def read_body(request: HttpRequest) -> bytes:
    """Return a request's body, expanded if it is gzip.

    Parameters
    ----------
    request
        With ``Content-Encoding`` absent, ``identity`` or ``gzip``.

    Raises
    ------
    Problem
        413 ``too-large`` when it is, or expands to, more than `MAX_BODY_BYTES`; 415 for another
        encoding; 400 when it is not what its encoding says.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise Problem(
            status=415,
            code="unsupported-encoding",
            detail=f"The encoding {encoding[:40]!r} is not understood; send gzip or none.",
        )
    try:
        body = request.body
    except RawPostDataException as error:
        raise Problem(
            status=400, code="bad-request", detail="The body was read before; send it again."
        ) from error
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    return body if encoding == "identity" else _gunzip(body)


def _too_large() -> Problem:
    return Problem(
        status=413,
        code="too-large",
        detail=f"The batch is larger than {MAX_BODY_BYTES >> 20} MiB; send smaller ones.",
    )


def _gunzip(data: bytes) -> bytes:
    """Expand gzip members one after the other, never further than the limit."""
    parts: list[bytes] = []
    room = MAX_BODY_BYTES
    fault = "it ends too early" if not data else None
    while data and fault is None:
        member = zlib.decompressobj(wbits=31)
        try:
            # One byte more than there is room for tells "full" from "too large".
            part = member.decompress(data, room + 1)
        except zlib.error as error:
            fault = str(error)
            break
        room -= len(part)
        if room < 0:
            raise _too_large()
        fault = None if member.eof else "it ends too early"
        parts.append(part)
        data = member.unused_data
    if fault is not None:
        raise Problem(
            status=400,
            code="invalid",
            title="Invalid input",
            detail=f"The body is not readable gzip: {fault}.",
            extras={"errors": {"body": ["not readable gzip"]}},
        )
    return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(frozen=True, slots=True)
class RowDecoders(Generic[B, T]):
    """Decoders of one kind of batch in its three shapes.

    Attributes
    ----------
    batch
        Of the object that names its run and holds the rows.
    rows
        Of a JSON array of rows.
    row
        Of one line of NDJSON.
    name
        Of the rows in error messages, such as ``events``.
    max_rows
        Most rows of a batch.
    """

    batch: msgspec.json.Decoder[B]
    rows: msgspec.json.Decoder[list[T]]
    row: msgspec.json.Decoder[T]
    name: str
    max_rows: int

    def decode(self, body: bytes, content_type: str = "") -> B | list[T]:
        """Decode and validate a whole batch.

        Parameters
        ----------
        body
            A JSON object, a JSON array, or lines of JSON.
        content_type
            Of the request; one of `NDJSON_TYPES` makes it lines.

        Returns
        -------
        B or list of T
            The batch, or its rows alone, whose run the sender's token then names.

        Raises
        ------
        Problem
            400 that names index and field.
        """
        if content_type.partition(";")[0].strip().lower() in NDJSON_TYPES:
            rows = decode_lines(body, self.row, self.name)
        elif body.lstrip()[:1] == b"[":
            rows = decode_batch(body, self.rows, self.name)
        else:
            return decode_batch(body, self.batch)
        if len(rows) > self.max_rows:
            raise Problem(
                status=400,
                code="invalid",
                title="Invalid input",
                detail=f"{self.name}: at most {self.max_rows} rows make a batch.",
                extras={"errors": {self.name: [f"more than {self.max_rows}"]}},
            )
        return rows
