"""The command line: ``rootbound logs ATTEMPT``, the same stream as the panel and the SDK show."""

from __future__ import annotations

import argparse
import json
import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rootbound.cli_common import connect
from rootbound.errors import RootboundError

if TYPE_CHECKING:
    from rootbound.client import Client
    from rootbound.models import Event

__all__ = ["add_arguments", "is_attempt", "show_attempt"]

_PAGE = 1000
# What a terminal would obey; agents' output must not reach it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only attempts have.

    Parameters
    ----------
    parser
        Of ``rootbound logs``.
    """
    parser.add_argument(
        "--type", metavar="T", help="of an attempt: LOG, ERROR, ARTIFACT, STATUS; several with ,"
    )
    parser.add_argument("--search", metavar="WORDS", help="of an attempt: events with these words")
    parser.add_argument("--json", action="store_true", help="of an attempt: one event per line")


def is_attempt(text: str) -> bool:
    """Return whether an argument is an attempt's id."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def show_attempt(options: argparse.Namespace) -> int:
    """Print the end of an attempt's stream, and follow it if wanted.

    Parameters
    ----------
    options
        Of ``rootbound logs``; ``service`` is the attempt's id.

    Raises
    ------
    RootboundError
        When the attempt or the server cannot be found, with the way out.
    """
    with connect() as client:
        for event in _chosen(client, options):
            print(json.dumps(event.raw) if options.json else _line(event), flush=True)
    return 0


def _chosen(client: Client, options: argparse.Namespace) -> Iterator[Event]:
    from rootbound import _cursor, stream

    attempt_id, last = options.service, 0
    for event in _stored(client, options):
        last = event.seq
        yield event
    if options.follow:
        # Between the two reads more may have come; the stream goes on behind what was shown.
        attempt = client.attempt(attempt_id)
        after = last if not (options.type or options.search) else attempt.last_seq
        cursor = _cursor.StreamCursor(after, through_review=True)
        for event in stream.follow_events(client, attempt_id, cursor):
            if not options.type or event.type in options.type.split(","):
                yield event


def _stored(client: Client, options: argparse.Namespace) -> list[Event]:
    """Return the last events that fit the options, oldest first."""
    from rootbound import _operations as ops

    if options.follow and options.search:
        raise RootboundError("--search looks into what is stored; leave --follow out.")
    found: list[Event] = []
    before: int | None = None
    while len(found) < options.lines:
        wanted = min(options.lines - len(found), _PAGE)
        page = client._call(
            ops.event_page(
                options.service,
                before=before,
                tail=wanted,
                type=options.type,
                q=options.search,
            )
        )
        found = [*page["results"], *found]
        before = page["previous"]
        if before is None:
            break
    return found


def _line(event: Event) -> str:
    moment = event.timestamp.astimezone() if event.timestamp else None
    clock = moment.strftime("%H:%M:%S") if moment else "--:--:--"
    text = _CONTROL.sub("\ufffd", _text(event.type, event.payload).rstrip("\n"))
    first, *rest = text.split("\n")
    indent = " " * 18
    return "\n".join([f"{event.seq:>7}  {clock} {first}", *(indent + line for line in rest)])


def _text(kind: str, payload: dict[str, Any]) -> str:
    """Return what an event says, for people."""
    if kind == "STATUS":
        message = payload.get("message")
        reason = f" ({payload['failure']})" if payload.get("failure") else ""
        return f"== {payload.get('status')}{reason}{f': {message}' if message else ''}"
    if kind == "ERROR":
        return f"ERROR {payload.get('message', '')}"
    match payload.get("kind"):
        case "text" | "thinking":
            return str(payload.get("delta", ""))
        case "output" | "notice":
            return str(payload.get("text", ""))
        case "tool_call":
            return f"> {payload.get('tool')} {json.dumps(payload.get('args'), ensure_ascii=False)}"
        case "tool_result":
            state = "ok" if payload.get("ok") else "failed"
            return f"< {payload.get('tool')} {state}\n{payload.get('text', '')}"
        case "gate":
            return f"gate {payload.get('name')}: exit code {payload.get('exit_code')}"
        case "commit":
            return f"commit {payload.get('commit')}: {payload.get('message', '')}"
    return json.dumps(payload, ensure_ascii=False)
