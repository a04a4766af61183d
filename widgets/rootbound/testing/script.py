"""What a stub model says: conversations in, turns out, for both wire protocols alike.

A script is any callable that gets the parsed `Conversation` and returns the next `Turn`.
It must be a pure function of the conversation: a client that lost a reply asks again with
the same history and expects the same turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

Wire = Literal["openai", "gemini"]
Role = Literal["user", "assistant", "tool"]
Finish = Literal["auto", "stop", "length", "blocked", "malformed_call"]


class ScriptError(Exception):
    """A script cannot answer this conversation; the stub replies 400 with the sentence."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the model.

    Parameters
    ----------
    name : str
        Name of the tool as the client offers it.
    args : Mapping[str, Any]
        Arguments, JSON-serialisable.
    call_id : str, default ""
        Id on the wire. Empty in a script: the stub then makes one for the OpenAI wire and
        sends none on the Gemini wire, as the vendor does.
    """

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the client answered to one tool call.

    Parameters
    ----------
    name : str
        Name of the tool; empty when the wire does not say it.
    text : str
        The result as text; JSON when the client sent an object.
    call_id : str, default ""
        Id of the call it answers, when the wire has one.
    """

    name: str
    text: str
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool the client offers: its name, description and JSON Schema of the arguments."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the history, in the vocabulary both wires share."""

    role: Role
    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request to the model, parsed.

    Parameters
    ----------
    wire : {"openai", "gemini"}
        The protocol it came over.
    route : str
        Path prefix the client used, without slashes at the ends; picks among scripts.
    model : str
        Name of the model asked for.
    system : str
        System instruction, several joined by a blank line.
    messages : tuple[Message, ...]
        The history, oldest first.
    tools : tuple[ToolSpec, ...]
        Tools offered in this request.
    stream : bool
        Whether a streamed reply was asked for.
    must_call : bool
        Whether the client allows tool calls only.
    """

    wire: Wire
    route: str
    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    stream: bool
    must_call: bool = False

    @property
    def step(self) -> int:
        """Number of turns the model has already taken in this conversation."""
        return sum(message.role == "assistant" for message in self.messages)

    @property
    def prompt(self) -> str:
        """Text of the first user message; empty when there is none."""
        return next((m.text for m in self.messages if m.role == "user" and m.text), "")

    @property
    def last_results(self) -> tuple[ToolResult, ...]:
        """Tool results that follow the model's latest turn, in order."""
        found: list[ToolResult] = []
        for message in reversed(self.messages):
            if message.role == "assistant":
                break
            found[:0] = message.results
        return tuple(found)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools offered."""
        return tuple(tool.name for tool in self.tools)


class FaultKind(StrEnum):
    """Ways a reply can go wrong."""

    DELAY = "delay"
    STATUS = "status"
    RESET = "reset"
    CUT = "cut"
    EARLY_EOF = "early_eof"
    MALFORMED_FRAME = "malformed_frame"
    ERROR_FRAME = "error_frame"
    HTML = "html"
    STALL = "stall"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one reply; prefer the named constructors.

    Parameters
    ----------
    kind : FaultKind
        What goes wrong.
    status : int, default 500
        HTTP status of a `STATUS` fault.
    seconds : float, default 0
        Wait before the reply (`DELAY`), or the longest time to hold a `STALL`.
    retry_after : float or None, default None
        Seconds to announce with a 429 or 503.
    code : str, default ""
        Vendor's error code of a `STATUS` fault; a plausible one when empty.
    """

    kind: FaultKind
    status: int = 500
    seconds: float = 0.0
    retry_after: float | None = None
    code: str = ""

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        """Answer well, but only after `seconds`."""
        return cls(FaultKind.DELAY, seconds=seconds)

    @classmethod
    def rate_limited(cls, retry_after: float | None = None, code: str = "") -> Fault:
        """Answer 429, with `Retry-After` (and RetryInfo on the Gemini wire) when given."""
        return cls(FaultKind.STATUS, status=429, retry_after=retry_after, code=code)

    @classmethod
    def http(cls, status: int, code: str = "") -> Fault:
        """Answer with an error status such as 401, 500 or 503."""
        return cls(FaultKind.STATUS, status=status, code=code)

    @classmethod
    def reset(cls) -> Fault:
        """Reset the TCP connection before any byte of the reply."""
        return cls(FaultKind.RESET)

    @classmethod
    def cut(cls) -> Fault:
        """Drop the connection in the middle of the reply."""
        return cls(FaultKind.CUT)

    @classmethod
    def early_eof(cls) -> Fault:
        """End the reply properly, but without its second half."""
        return cls(FaultKind.EARLY_EOF)

    @classmethod
    def malformed_frame(cls) -> Fault:
        """Send broken JSON in the middle of the reply."""
        return cls(FaultKind.MALFORMED_FRAME)

    @classmethod
    def error_frame(cls) -> Fault:
        """Send an error object in the middle of a reply that began with 200."""
        return cls(FaultKind.ERROR_FRAME)

    @classmethod
    def html(cls) -> Fault:
        """Answer 200 with an HTML page, as a captive portal does."""
        return cls(FaultKind.HTML)

    @classmethod
    def stall(cls, seconds: float = 60.0) -> Fault:
        """Send half of the reply, then nothing until the client leaves or `seconds` pass."""
        return cls(FaultKind.STALL, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Turn:
    """The model's next reply.

    Parameters
    ----------
    text : str, default ""
        Visible text.
    thinking : str, default ""
        Reasoning, sent the way each wire sends it.
    calls : tuple[ToolCall, ...], default ()
        Tool calls, after the text.
    finish : {"auto", "stop", "length", "blocked", "malformed_call"}, default "auto"
        Why the model stopped. "auto" says what a vendor says for this content. "length" is
        truncation, "blocked" the safety filter. "malformed_call" is
        MALFORMED_FUNCTION_CALL on the Gemini wire and a call with broken JSON arguments on
        the OpenAI wire.
    faults : tuple[Fault, ...], default ()
        What goes wrong the first, second, ... time this very conversation is asked; after
        the last one the turn is served well. `Fault.delay` delays and serves.
    """

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: Finish = "auto"
    faults: tuple[Fault, ...] = ()


class Script(Protocol):
    """Anything that answers a conversation with a turn."""

    def __call__(self, conversation: Conversation, /) -> Turn:
        """Return the next turn, or raise `ScriptError` when there is none."""
        ...


Step = Turn | Callable[[Conversation], Turn]


class Steps:
    """A script that replays turns in order.

    The position is the number of turns in the history, so a repeated request gets the same
    turn again and one object serves any number of conversations.

    Parameters
    ----------
    steps : Sequence[Turn or callable]
        Turns, or functions of the conversation that return one.
    exhausted : Turn or callable or None, default None
        What to answer after the last one; `ScriptError` when None.
    """

    def __init__(self, steps: Sequence[Step], exhausted: Step | None = None) -> None:
        self._steps = tuple(steps)
        self._exhausted = exhausted

    def __len__(self) -> int:
        return len(self._steps)

    def __call__(self, conversation: Conversation, /) -> Turn:
        """Return the turn at the conversation's position."""
        position = conversation.step
        step = self._steps[position] if position < len(self._steps) else self._exhausted
        if step is None:
            raise ScriptError(
                f"The replayed model has {len(self._steps)} turns and was asked for one more."
            )
        return step if isinstance(step, Turn) else step(conversation)


class Routed:
    """A script that hands each conversation to the script of its route.

    Parameters
    ----------
    scripts : Mapping[str, Script]
        Script by route, as in `Conversation.route`.
    """

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = dict(scripts)

    def __call__(self, conversation: Conversation, /) -> Turn:
        """Return the turn of the script that serves the conversation's route."""
        script = self._scripts.get(conversation.route)
        if script is None:
            known = ", ".join(sorted(self._scripts)) or "none"
            raise ScriptError(f"No script for the route {conversation.route!r}; known: {known}.")
        return script(conversation)


def compact_json(value: object) -> str:
    """Serialise `value` as the vendors do: compact, UTF-8, keys in order of insertion."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
