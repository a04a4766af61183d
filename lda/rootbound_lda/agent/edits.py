"""Finding the place of an edit, and saying precisely why it cannot be found."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final

from .schemas import ToolError

CONTEXT_LINES: Final = 4
_MAX_COMPARED: Final = 4_000


@dataclass(frozen=True, slots=True)
class Edit:
    """A replaced text.

    Attributes
    ----------
    line
        First changed line, from 1.
    count
        How many places were changed.
    """

    content: str
    line: int
    count: int


def replace(content: str, old: str, new: str, *, every: bool) -> Edit:
    """Replace ``old`` by ``new``, exactly, else without regard to trailing blanks and CRLF.

    Raises
    ------
    ToolError
        When the place is not there, not unique, or nothing would change.
    """
    if old == new:
        raise ToolError("old_string and new_string are identical; nothing would change.")
    if not old:
        raise ToolError("old_string is empty; use write_file to write a whole file.")
    spans = _exact(content, old) or _loose(content, old)
    if not spans:
        raise ToolError(_not_found(content, old))
    if len(spans) > 1 and not every:
        lines = ", ".join(str(_line_of(content, start)) for start, _ in spans[:10])
        raise ToolError(
            f"old_string occurs {len(spans)} times, at lines {lines}; add surrounding lines to "
            "make it unique, or set replace_all."
        )
    ending = "\r\n" if "\r\n" in content and "\r\n" not in new else "\n"
    fresh = new.replace("\n", ending) if ending == "\r\n" else new
    parts: list[str] = []
    position = 0
    for start, end in spans:
        parts += [content[position:start], fresh]
        position = end
    parts.append(content[position:])
    return Edit("".join(parts), _line_of(content, spans[0][0]), len(spans))


def region(content: str, line: int, changed: str) -> str:
    """Return the numbered lines round a change."""
    lines = content.splitlines()
    first = max(1, line - CONTEXT_LINES)
    last = min(len(lines), line + changed.count("\n") + CONTEXT_LINES, first + 80)
    return "\n".join(f"{number}\t{lines[number - 1]}" for number in range(first, last + 1))


def _line_of(content: str, position: int) -> int:
    return content.count("\n", 0, position) + 1


def _exact(content: str, old: str) -> list[tuple[int, int]]:
    spans = []
    start = content.find(old)
    while start >= 0:
        spans.append((start, start + len(old)))
        start = content.find(old, start + len(old))
    return spans


def _loose(content: str, old: str) -> list[tuple[int, int]]:
    """Match whole lines without trailing blanks and line endings; indentation stays exact."""
    wanted = [line.rstrip() for line in old.rstrip("\r\n").split("\n")]
    if not any(wanted):
        return []
    pattern = r"[ \t]*\r?\n".join(re.escape(line) for line in wanted)
    end = r"[ \t]*\r?\n" if old.endswith("\n") else r"[ \t]*(?=\r?$)"
    return [match.span() for match in re.finditer(f"(?m)^{pattern}{end}", content)]


def _not_found(content: str, old: str) -> str:
    """Say where the text nearly is, and what is different there."""
    have = content.splitlines()[:_MAX_COMPARED]
    want = old.splitlines() or [old]
    stripped = [line.strip() for line in want]
    for index in range(len(have) - len(want) + 1):
        window = have[index : index + len(want)]
        if [line.strip() for line in window] == stripped:
            pairs = enumerate(zip(window, want, strict=True), index + 1)
            line = next((number for number, (a, b) in pairs if a.rstrip() != b.rstrip()), index + 1)
            return (
                f"old_string was not found: whitespace differs at line {line}. The file has:\n"
                + _numbered(have, index, len(want))
            )
    best = _nearest(have, want)
    if best is None:
        return "old_string was not found in the file, nor anything like it; read the file again."
    return (
        f"old_string was not found. The nearest text is at line {best + 1}:\n"
        f"{_numbered(have, best, len(want))}\nCopy the text exactly and try again."
    )


def _nearest(have: list[str], want: list[str]) -> int | None:
    """Return the index of the line that is most like the first telling line wanted."""
    offset = next((index for index, line in enumerate(want) if line.strip()), None)
    if offset is None:
        return None
    close = difflib.get_close_matches(want[offset], have, n=1, cutoff=0.6)
    return max(0, have.index(close[0]) - offset) if close else None


def _numbered(lines: list[str], first: int, count: int) -> str:
    last = min(len(lines), first + min(count, 30) + 2)
    return "\n".join(f"{number + 1}\t{lines[number]}" for number in range(max(0, first - 2), last))
