"""The journal of a run's conversation: written before acting, read to go on after a death.

One JSON object a line. A run that goes on after the LDA died asks again for what the model had
not finished, and does nothing twice: a tool that had started and has no recorded answer is told
to the model as interrupted, unless it only reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    UserPromptPart,
)

VERSION: Final = 1


class JournalUnreadable(Exception):  # noqa: N818 - it reads as what it says
    """The journal cannot be gone on from; the text says why."""

    failure: Final = "LDA_LOST"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The LDA ended during the run, which cannot go on because {why}. Its branch is kept; "
            "retry the task."
        )


class Journal:
    """What the agent did, line by line, in the run's folder.

    Parameters
    ----------
    path
        The file; it is appended to.
    generation
        The run's lease generation; entries of another one do not count.
    resumed
        Whether the run goes on where the file ends. Default false: it begins anew.
    """

    def __init__(self, path: Path, generation: int, *, resumed: bool = False) -> None:
        if resumed:
            _mend(path)
        self._file = path.open("a", encoding="utf-8")
        if not resumed:
            self.write("begin", version=VERSION, generation=generation)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one entry and hand it to the system."""
        self._file.write(json.dumps({"kind": kind, "at": time.time(), **fields}) + "\n")
        self._file.flush()

    def message(self, message: ModelMessage) -> None:
        """Append a message as it is sent or was received."""
        self.write("message", message=ModelMessagesTypeAdapter.dump_python([message], mode="json"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(slots=True)
class Past:
    """Where a conversation stood.

    Attributes
    ----------
    round
        Number of the last prompt that was said: 0 for the task, more after failed gates.
    answers
        Recorded answers to calls of the last response, by call id, in the order of the calls.
    started
        Ids of its calls that had begun.
    finish
        ``{"status", "summary"}`` when the agent had ended the round.
    notes
        Messages to the agent that no request has carried yet.
    asked
        Whether one of them asks for something.
    warned
        Limits of which the agent was told that most is used up.
    """

    messages: list[ModelMessage] = field(default_factory=list)
    round: int = -1
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    finish: dict[str, str] | None = None
    notes: list[str] = field(default_factory=list)
    asked: bool = False
    usage: dict[str, Any] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)

    def take(self, entry: dict[str, Any]) -> None:
        """Apply one entry."""
        handler = getattr(self, f"_on_{entry['kind']}", None)
        if handler is not None:
            handler(entry)

    def _on_message(self, entry: dict[str, Any]) -> None:
        messages = ModelMessagesTypeAdapter.validate_python(entry["message"])
        self.messages += messages
        if isinstance(messages[-1], ModelResponse):
            self.answers, self.started, self.finish = {}, {}, None

    def _on_nudge(self, entry: dict[str, Any]) -> None:
        last = self.messages[-1]
        if isinstance(last, ModelRequest):
            parts = [*last.parts, UserPromptPart(entry["text"])]
            self.messages[-1] = replace(last, parts=parts)

    def _on_round(self, entry: dict[str, Any]) -> None:
        self.round, self.finish = int(entry["number"]), None

    def _on_tool_start(self, entry: dict[str, Any]) -> None:
        key = str(entry["call_id"])
        self.started[key] = self.started.get(key, 0) + 1

    def _on_tool_end(self, entry: dict[str, Any]) -> None:
        self.answers.setdefault(str(entry["call_id"]), []).append(entry)
        self.finish = entry.get("finish") or self.finish

    def _on_finish(self, entry: dict[str, Any]) -> None:
        self.finish = {"status": entry["status"], "summary": entry["summary"]}

    def _on_usage(self, entry: dict[str, Any]) -> None:
        self.usage = entry

    def _on_warned(self, entry: dict[str, Any]) -> None:
        self.warned = set(entry["of"])

    def _on_note(self, entry: dict[str, Any]) -> None:
        self.notes.append(str(entry["text"]))
        self.asked = self.asked or bool(entry.get("asks"))

    def _on_notes_said(self, entry: dict[str, Any]) -> None:
        del self.notes[: int(entry["count"])]
        self.asked = False


def read(path: Path, generation: int) -> Past:
    """Read how far a run had come.

    Parameters
    ----------
    path
        The journal.
    generation
        The run's lease generation.

    Returns
    -------
    Past
        Empty when nothing was said yet.

    Raises
    ------
    JournalUnreadable
        When the file is damaged or of another version.
    """
    past: Past | None = None
    try:
        for entry in _entries(path):
            if entry["kind"] == "begin":
                if entry.get("version") != VERSION:
                    raise JournalUnreadable("its journal was written by another version")
                past = Past() if entry["generation"] == generation else None
            elif past is not None:
                past.take(entry)
    except FileNotFoundError:
        return Past()
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise JournalUnreadable(f"its journal cannot be read ({error})") from error
    return past or Past()


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries; a last line that was cut off never happened."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _mend(path: Path) -> None:
    """Cut off a half-written last line, so that the next entry begins a line of its own."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
