"""What changed in a notebook, cell by cell, as nbdime aligns them.

It runs as a program of its own, which `notebook_diff` starts, and ends when it takes too long:
aligning takes time that grows with the square of the changes. Requests and answers are lines of
JSON.
"""

from __future__ import annotations

import difflib
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import nbformat
from nbdime.diffing.notebooks import (
    diff_notebooks,
    reset_notebook_differ,
    set_notebook_diff_ignores,
    set_notebook_diff_targets,
)
from nbdime.merging.notebooks import merge_notebooks

from .agent.notebooks import parsed, text_of
from .agent.schemas import ToolError
from .notebook_outputs import MAX_TEXT, Allowance, metadata_changes, output_changes
from .patches import hunks

__all__ = ["answers", "cell_changes", "merged"]

MAX_MEMORY: Final = 3 * 1024**3
"""Of the program's address space, in bytes."""

MAX_CPU_S: Final = 60
"""Of the program: should nobody be left to end it."""

MAX_CELLS: Final = 2_000
"""That are shown of a notebook."""

TOO_MANY: Final = "Only the first {0} of {1} changed cells are shown."


def answers(path: str, old: str | None, new: str | None) -> Iterator[dict[str, Any]]:
    """Compare two states of a notebook: first as text, which is quick, then by cell.

    Parameters
    ----------
    path
        The notebook's name.
    old, new
        As stored before and after; ``None`` where it is not there.

    Yields
    ------
    dict
        ``patch``, of the text that `agent.notebooks` makes of it, and whether it is ``truncated``;
        then ``notebook``, as `cell_changes` returns it. Or ``note`` alone, why it cannot be
        compared by cell.
    """
    try:
        before, after = (_State.read(path, text) for text in (old, new))
        patch = difflib.unified_diff(
            before.text.splitlines(), after.text.splitlines(), f"a/{path}", f"b/{path}", lineterm=""
        )
        text = "\n".join(patch)
        cut = text[:MAX_TEXT] if text else "(only outputs or metadata differ)"
        yield {"patch": f"{cut}\n", "truncated": len(text) > MAX_TEXT}
        yield {"notebook": cell_changes(before, after)}
    except ToolError as error:
        yield {"note": str(error)}
    except (Exception, MemoryError) as error:  # whatever a file's shape leads the libraries to
        kind = type(error).__name__
        yield {"note": f"{path} cannot be compared cell by cell: {str(error)[:200] or kind}."}


def merged(path: str, base: str, ours: str, theirs: str) -> Iterator[dict[str, Any]]:
    """Merge a notebook that two sides changed, when no cell was changed by both.

    Parameters
    ----------
    path
        The notebook's name.
    base, ours, theirs
        As stored where the two parted, and on each side.

    Yields
    ------
    dict
        ``merged``, the notebook; or ``note``, why it is left as it is.
    """
    try:
        states = [parsed(path, text) for text in (base, ours, theirs)]
        if any(made for _, made in states):
            # By made-up ids, a cell would be taken for the one in its place.
            yield {"note": f"{path} has cells without ids of their own."}
            return
        reset_notebook_differ()
        result, decisions = merge_notebooks(*(notebook for notebook, _ in states))
        if any(decision.conflict for decision in decisions):
            yield {"note": f"The same cells of {path} were changed on both sides."}
            return
        nbformat.validate(result)
        yield {"merged": f"{nbformat.writes(result)}\n"}  # type: ignore[no-untyped-call]
    except (Exception, MemoryError) as error:  # whatever a file's shape leads the libraries to
        yield {"note": f"{path} cannot be merged cell by cell: {str(error)[:200]}."}


@dataclass(frozen=True, slots=True)
class _State:
    """A notebook before or after.

    Attributes
    ----------
    cells
        With an id each.
    made
        The ids that are not the file's own.
    text
        As an agent and a reviewer see it.
    lines
        Of the text, where each cell's heading is; from 1.
    """

    cells: list[Any]
    metadata: dict[str, Any]
    made: frozenset[str]
    text: str
    lines: list[int]

    @classmethod
    def read(cls, path: str, content: str | None) -> _State:
        if content is None:
            return cls([], {}, frozenset(), "", [])
        notebook, made = parsed(path, content)
        lines = [1]
        for cell in notebook.cells:
            lines.append(lines[-1] + 1 + len(source_lines(cell)))
        text = text_of(path, notebook)
        return cls(notebook.cells, notebook.metadata, made, text, lines)


def source_lines(cell: Any) -> list[str]:
    """Return the lines that a cell's source takes in a notebook's text."""
    return f"{cell.source}\n".splitlines()


@dataclass(slots=True)
class _Pair:
    """A cell before and after: their places from 0, ``None`` where it is not."""

    before: int | None
    after: int | None
    moved: bool = False


def cell_changes(before: _State, after: _State) -> dict[str, Any]:
    """Return what differs, one entry for each cell that is not the same.

    Returns
    -------
    dict
        ``cells``, ``metadata`` (of the whole notebook) and ``note``, as the API's
        ``NotebookDiff`` has them. A number counts cells, a line those of the notebook's text.
    """
    allowance = Allowance()
    pairs = _moves(_aligned(before, after), before, after)
    cells = [cell for pair in pairs if (cell := _cell(pair, before, after, allowance))]
    note = TOO_MANY.format(MAX_CELLS, len(cells)) if len(cells) > MAX_CELLS else None
    return {
        "cells": cells[:MAX_CELLS],
        "metadata": metadata_changes(before.metadata, after.metadata),
        "note": note,
    }


def _aligned(before: _State, after: _State) -> list[_Pair]:
    """Return which cell became which, in the order in which they are read."""
    # Made up on both sides, an id tells the place alone: then cells are known by their text.
    places = before.made & after.made
    old, new = (_plain(state, places) for state in (before, after))
    # What is the same at both ends is cheap to find, and most of a large notebook.
    shorter = min(len(old), len(new))
    head = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    tail = next((n for n in range(shorter - head) if old[-1 - n] != new[-1 - n]), shorter - head)
    old_end, new_end = len(old) - tail, len(new) - tail
    return [
        *(_Pair(number, number) for number in range(head)),
        *_by_nbdime(old[head:old_end], new[head:new_end], head),
        *(_Pair(old_end + number, new_end + number) for number in range(tail)),
    ]


def _plain(state: _State, unnamed: frozenset[str]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in cell.items() if key != "id" or value not in unnamed}
        for cell in state.cells
    ]


def _by_nbdime(old: list[Any], new: list[Any], start: int) -> list[_Pair]:
    """Align cells, the first of which are at ``start``."""
    # Only the alignment is nbdime's: how two texts differ within is cheaper to say line by line.
    set_notebook_diff_targets(
        sources=False, attachments=False, metadata=False, identifier=False, details=False
    )
    set_notebook_diff_ignores({"/cells/*/outputs": True})
    found = diff_notebooks({"cells": old}, {"cells": new})
    pairs: list[_Pair] = []
    added: list[_Pair] = []  # what is gone is shown before what stands there instead
    left = right = 0

    def same(until: int) -> None:
        nonlocal left, right, added
        if until > left:
            pairs.extend(added)
            added = []
        for _ in range(until - left):
            pairs.append(_Pair(start + left, start + right))
            left, right = left + 1, right + 1

    for entry in found[0].diff if found else ():
        same(entry.key)
        if entry.op == "addrange":
            count = len(entry.valuelist)
            added += [_Pair(None, start + right + number) for number in range(count)]
            right += count
        elif entry.op == "removerange":
            pairs += [_Pair(start + left + number, None) for number in range(entry.length)]
            left += entry.length
    same(len(old))
    return pairs + added


def _moves(pairs: list[_Pair], before: _State, after: _State) -> list[_Pair]:
    """Join a cell that is gone from one place and there at another: nbdime knows no moves."""
    gone = {
        before.cells[pair.before].id: pair
        for pair in pairs
        if pair.before is not None and pair.after is None
    }
    for pair in pairs:
        if pair.before is None and pair.after is not None:
            name = after.cells[pair.after].id
            other = gone.get(name)
            if other is not None and name not in before.made & after.made:
                pair.before, pair.moved, other.moved = other.before, True, True
    # What moved is shown where it is now.
    return [pair for pair in pairs if not (pair.moved and pair.after is None)]


def _cell(
    pair: _Pair, before: _State, after: _State, allowance: Allowance
) -> dict[str, Any] | None:
    """Return what is said of a pair, ``None`` when nothing differs."""
    old: Any = None if pair.before is None else before.cells[pair.before]
    new: Any = None if pair.after is None else after.cells[pair.after]
    if old is not None and old == new and not pair.moved:
        return None
    shown: Any = old if new is None else new
    old_line = None if pair.before is None else before.lines[pair.before]
    new_line = None if pair.after is None else after.lines[pair.after]
    if old is None:
        kind = "added"
    elif new is None:
        kind = "deleted"
    else:
        kind = "moved" if pair.moved else "modified"
    patch, cut = allowance.patch(
        hunks(
            [] if old is None else source_lines(old),
            [] if new is None else source_lines(new),
            (old_line or 0) + 1,
            (new_line or 0) + 1,
        )
    )
    outputs = output_changes(_outputs(old), _outputs(new), allowance)
    told = {"cell_type": shown.cell_type}
    metadata = metadata_changes(_told(old) or told, _told(new) or told)
    if kind == "modified" and not (patch or cut or outputs or metadata):
        return None  # such as a cell that was run again with the same result
    return {
        "kind": kind,
        "cell_type": shown.cell_type,
        "cell_id": shown.id,
        "execution_count": _number(shown.get("execution_count")),
        "before": None if pair.before is None else pair.before + 1,
        "after": None if pair.after is None else pair.after + 1,
        "before_line": old_line,
        "after_line": new_line,
        "patch": patch,
        "truncated": cut,
        "outputs": outputs,
        "metadata": metadata,
    }


def _outputs(cell: Any) -> list[Any]:
    return [] if cell is None else list(cell.get("outputs") or ())


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _told(cell: Any) -> dict[str, Any]:
    """Return what of a cell is compared as a value: its kind, metadata and attachments."""
    if cell is None:
        return {}
    told = dict(cell.metadata)
    told |= {f"attachment {name}": data for name, data in (cell.get("attachments") or {}).items()}
    return told | {"cell_type": cell.cell_type}


def main() -> None:
    """Answer the requests that come in, a line each, until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        for answer in merged(**request) if "base" in request else answers(**request):
            sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
            sys.stdout.buffer.flush()
