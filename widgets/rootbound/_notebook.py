"""A notebook's change as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diff_models import CellDiff, NotebookDiff, OutputDiff


def heading(cell: CellDiff) -> str:
    """Return which cell it is and what became of it, such as ``Cell 3 (code) changed``."""
    word = {"modified": "changed", "deleted": "removed"}.get(cell.kind, cell.kind)
    number = cell.before if cell.after is None else cell.after
    count = f" In [{cell.execution_count}]" if cell.execution_count is not None else ""
    came = f" from place {cell.before}" if cell.kind == "moved" else ""
    return f"Cell {number} ({cell.cell_type}){count} {word}{came}"


def output_heading(output: OutputDiff) -> str:
    """Return which output it is and what became of it, with what is not shown of it."""
    word = {"modified": "changed", "deleted": "removed"}.get(output.kind, output.kind)
    names = [str(picture.get("mime")) for picture in output.pictures] + list(output.others)
    return f"Output {output.name} {word}" + (f": {', '.join(names)}" if names else "")


def metadata_lines(changes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each value that is another one now."""
    for change in changes:
        before, after = change.get("before"), change.get("after")
        if before is None:
            yield f"{change.get('key')} added: {after}"
        elif after is None:
            yield f"{change.get('key')} removed: {before}"
        else:
            yield f"{change.get('key')} changed: {before} to {after}"


def as_text(found: NotebookDiff) -> str:
    """Return the change of a notebook as the command line prints it."""
    lines = [found.note] if found.note else []
    lines += [f"Metadata {line}" for line in metadata_lines(found.metadata)]
    for cell in found.cells:
        lines.append(f"=== {heading(cell)}")
        lines += [f"Metadata {line}" for line in metadata_lines(cell.metadata)]
        lines += _patch(cell)
        for output in cell.outputs:
            lines.append(f"--- {output_heading(output)}")
            lines += _patch(output)
    return "\n".join(lines)


def _patch(part: CellDiff | OutputDiff) -> list[str]:
    cut = ["(cut: the rest is too long)"] if part.truncated else []
    return part.patch.splitlines() + cut
