"""What both wires share: replies as frames, checks, and token counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rootbound.testing.script import Conversation, Turn, compact_json

_PIECE = 48  # characters in one streamed delta
_CHARS_PER_TOKEN = 4


class BadRequest(Exception):  # noqa: N818 - named after the HTTP status it becomes
    """The vendor would answer this request with 400 and this sentence."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply, cut into the frames in which it is sent.

    Parameters
    ----------
    status : int
        HTTP status.
    content_type : str
        Value of the header.
    frames : tuple[bytes, ...]
        The body in the order of sending.
    headers : Mapping[str, str], default {}
        Further headers, names in lower case.
    """

    status: int
    content_type: str
    frames: tuple[bytes, ...]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_stream(self) -> bool:
        """Whether the frames are server-sent events."""
        return self.content_type.startswith("text/event-stream")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of one exchange, estimated at four characters a token."""

    prompt: int
    answer: int
    thinking: int

    @property
    def total(self) -> int:
        """All tokens of the exchange."""
        return self.prompt + self.answer + self.thinking


def tokens(conversation: Conversation, turn: Turn) -> Tokens:
    """Estimate the tokens of an exchange; the same exchange always gives the same numbers.

    Parameters
    ----------
    conversation : Conversation
        What was asked.
    turn : Turn
        What is answered.

    Returns
    -------
    Tokens
        Counts, each at least 1 where there is any text.
    """
    asked = len(conversation.system)
    for message in conversation.messages:
        asked += len(message.text) + len(message.thinking)
        asked += sum(len(call.name) + len(compact_json(dict(call.args))) for call in message.calls)
        asked += sum(len(result.text) for result in message.results)
    said = len(turn.text)
    said += sum(len(call.name) + len(compact_json(dict(call.args))) for call in turn.calls)
    return Tokens(_count(asked), _count(said), _count(len(turn.thinking)))


def _count(characters: int) -> int:
    return -(-characters // _CHARS_PER_TOKEN)


def pieces(text: str) -> Iterator[str]:
    """Cut `text` into streamed deltas; nothing for an empty text."""
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]


def as_object(value: object, what: str) -> dict[str, Any]:
    """Return `value` when it is a JSON object, else raise `BadRequest` naming `what`."""
    if not isinstance(value, dict):
        raise BadRequest(f"{what} must be an object.")
    return value


def as_list(value: object, what: str) -> list[Any]:
    """Return `value` when it is a JSON list, else raise `BadRequest` naming `what`."""
    if not isinstance(value, list):
        raise BadRequest(f"{what} must be a list.")
    return value
