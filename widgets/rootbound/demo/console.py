"""What the demonstration prints: sections, lines, and an attempt's events as they come."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rootbound.models import Event

_WIDTH = 110
_INDENT = "     "


class Console:
    """Prints numbered sections and indented lines, each at once.

    Parameters
    ----------
    stream : TextIO or None, default None
        Where to; standard output when None.
    sections : int, default 5
        How many sections there will be.
    """

    def __init__(self, stream: TextIO | None = None, sections: int = 5) -> None:
        self._stream = stream or sys.stdout
        self._sections = sections
        self._section = 0
        self._began = time.monotonic()

    def section(self, title: str) -> None:
        """Begin the next section."""
        self._section += 1
        elapsed = time.monotonic() - self._began
        self.raw(f"\n[{self._section}/{self._sections}] {title}  ({elapsed:.0f} s)")

    def line(self, text: str = "") -> None:
        """Print one line of the section."""
        self.raw(f"{_INDENT}{text}".rstrip())

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print columns under a header."""
        cells = [tuple(str(cell) for cell in row) for row in (header, *rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
        for row in cells:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))

    def raw(self, text: str) -> None:
        """Print text as it is."""
        # Control characters come from commands and models and must not steer the terminal.
        print(printable(text), file=self._stream, flush=True)


def printable(text: str) -> str:
    """Return `text` with control characters other than newlines replaced."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def shorten(text: str, width: int = _WIDTH) -> str:
    """Return `text` on one line and at most `width` characters long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


class EventLines:
    """Turns the events of one attempt into compact lines.

    Text and thinking come in small pieces; they are shown as one line when something else
    follows. Output of commands is left out: the gates' results say what matters.
    """

    def __init__(self) -> None:
        self._kind = ""
        self._text: list[str] = []

    def feed(self, event: Event) -> list[str]:
        """Return the lines to print for an event, often none.

        Parameters
        ----------
        event : Event
            The next event of the stream.

        Returns
        -------
        list[str]
            Lines without indentation.
        """
        payload = event.payload
        kind = str(payload.get("kind") or event.type.lower())
        if kind in ("text", "thinking"):
            lines = self.flush() if kind != self._kind else []
            self._kind = kind
            self._text.append(str(payload.get("delta", "")))
            return lines
        line = _line(kind, payload)
        return [*self.flush(), line] if line else []

    def flush(self) -> list[str]:
        """Return the line of the text gathered so far, if any."""
        text, self._text = "".join(self._text), []
        kind, self._kind = self._kind, ""
        return [_row("thinks" if kind == "thinking" else "says", text)] if text.strip() else []


def _row(label: str, text: object, width: int = _WIDTH) -> str:
    return f"{label:<8} {shorten(str(text), width)}".rstrip()


def _line(kind: str, payload: Mapping[str, Any]) -> str:
    match kind:
        case "status":
            detail = payload.get("message") or payload.get("failure") or ""
            return _row("status", f"{payload.get('status')} {detail}")
        case "enforcement":
            missing = ", ".join(str(m) for m in payload.get("missing") or ()) or "nothing"
            return _row("confined", f"tier {payload.get('tier')}; missing here: {missing}")
        case "tool_call":
            return _row("calls", f"{payload.get('tool')} {_arguments(payload)}")
        case "tool_result":
            text = payload.get("text", "")
            # A refusal is worth reading in full: it names the path and the reason.
            return _row("", "ok" if payload.get("ok") else f"refused or failed: {text}", 2 * _WIDTH)
        case "gate_started":
            return _row("gate", f"{payload.get('name')} … {payload.get('command')}")
        case "gate":
            took = f"{float(payload.get('duration_s') or 0):.1f} s"
            code = payload.get("exit_code")
            return _row("gate", f"{payload.get('name')}: exit code {code} after {took}")
        case "commit":
            return _row("commit", str(payload.get("commit"))[:10])
        case "diff":
            size = f"+{payload.get('additions')} -{payload.get('deletions')}"
            return _row("diff", f"{payload.get('files')} files, {size}")
        case "retry":
            return _row("retry", payload.get("reason"))
        case "error":
            return _row("error", payload.get("message"))
        case "notice":
            return _row("notice", payload.get("text"))
        case _:
            return ""


def _arguments(payload: Mapping[str, Any]) -> str:
    args = payload.get("args")
    if not isinstance(args, Mapping):
        return ""
    for name in ("path", "command", "pattern", "summary"):
        if name in args:
            return str(args[name])
    return ""
