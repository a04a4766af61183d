"""What an attempt changes: files, and in notebooks cells and outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import _html as html
from ._notebook import as_text
from .models import Model


def _objects(value: Any) -> tuple[dict[str, Any], ...]:
    return tuple(dict(item) for item in value)


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class OutputDiff(Model):
    """The change of one output of a notebook's cell.

    Attributes
    ----------
    name : str
        ``stdout``, ``stderr``, an exception's name, or the kind of output.
    patch : str
        Hunks of its text, without colours.
    pictures : tuple of dict
        ``mime``, and ``before`` and ``after`` as base64; ``left_out`` when one is too large.
    others : tuple of str
        MIME types that differ and are not shown.
    """

    kind: str = "modified"
    name: str = ""
    patch: str = field(default="", repr=False)
    truncated: bool = False
    pictures: tuple[dict[str, Any], ...] = field(
        default=(), repr=False, metadata={"parse": _objects}
    )
    others: tuple[str, ...] = field(default=(), metadata={"parse": _strings})


@dataclass(frozen=True, kw_only=True)
class CellDiff(Model):
    """The change of one cell of a notebook.

    Attributes
    ----------
    kind : str
        ``added``, ``modified``, ``deleted`` or ``moved``.
    before, after : int or None
        Its number from 1, before and now.
    before_line, after_line : int or None
        Its heading's line in the notebook's text, which is what comments are at.
    patch : str
        Hunks of its source, with the line numbers of the notebook's text.
    metadata : tuple of dict
        ``key``, and ``before`` and ``after`` as JSON.
    """

    kind: str = "modified"
    cell_type: str = "code"
    cell_id: str = ""
    execution_count: int | None = None
    before: int | None = None
    after: int | None = None
    before_line: int | None = None
    after_line: int | None = None
    patch: str = field(default="", repr=False)
    truncated: bool = False
    outputs: tuple[OutputDiff, ...] = field(
        default=(),
        metadata={"parse": lambda value: tuple(OutputDiff.from_json(item) for item in value)},
    )
    metadata: tuple[dict[str, Any], ...] = field(default=(), metadata={"parse": _objects})


@dataclass(frozen=True, kw_only=True)
class NotebookDiff(Model):
    """The change of a notebook, cell by cell; cells that are the same are left out.

    Attributes
    ----------
    metadata : tuple of dict
        Of the notebook as a whole: ``key``, and ``before`` and ``after`` as JSON.
    note : str or None
        Why cells are left out, or the notebook could not be compared by cell.
    """

    cells: tuple[CellDiff, ...] = field(
        default=(),
        metadata={"parse": lambda value: tuple(CellDiff.from_json(item) for item in value)},
    )
    metadata: tuple[dict[str, Any], ...] = field(default=(), metadata={"parse": _objects})
    note: str | None = None

    @property
    def text(self) -> str:
        """The change as text, as ``rootbound attempt diff`` prints it."""
        return as_text(self)


@dataclass(frozen=True, kw_only=True)
class FileDiff(Model):
    """The change of one file; of a notebook, `patch` is that of its cells' sources as text."""

    path: str
    old_path: str | None = None
    status: str = "modified"
    additions: int = 0
    deletions: int = 0
    binary: bool = False
    patch: str = field(default="", repr=False)
    truncated: bool = False
    test: bool = False
    by_cell: bool = False
    notebook: NotebookDiff | None = field(default=None, metadata={"parse": NotebookDiff.from_json})


def _file_diffs(value: Any) -> tuple[FileDiff, ...]:
    return tuple(FileDiff.from_json(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class Diff(Model):
    """The change an attempt proposes, from `base` to `head`."""

    base: str | None = None
    head: str | None = None
    files: tuple[FileDiff, ...] = field(default=(), metadata={"parse": _file_diffs})
    stats: dict[str, int] = field(default_factory=dict)

    @property
    def patch(self) -> str:
        """All files' patches as one text."""
        return "\n".join(item.patch for item in self.files if item.patch)

    def _repr_html_(self) -> str:
        return html.diff(self)
