"""Notebooks as text with one heading per cell, so that they are never edited as raw JSON.

``# %% [code] id=1f2e`` begins a cell; what follows, up to the next heading, is its source. A
heading without an id makes a new cell. A cell whose source stays as it was keeps its outputs.
"""

from __future__ import annotations

import re
from typing import Any, Final

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from .schemas import ToolError

SUFFIX: Final = ".ipynb"
_HEADING: Final = re.compile(r"^# %% \[(code|markdown|raw)\](?: id=([A-Za-z0-9_-]{1,64}))?[ \t]*$")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NEW: Final = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}
HINT: Final = (
    "A notebook is edited as text: each cell begins with a heading line such as `# %% [code] id=x` "
    "(or [markdown], [raw]); a heading without an id makes a new cell."
)


def is_notebook(path: str) -> bool:
    """Return whether a path names a notebook."""
    return path.lower().endswith(SUFFIX)


def in_conflict(content: str) -> bool:
    """Return whether a merge left conflict markers in a file, which is then no notebook."""
    return any(line.startswith("<<<<<<< ") for line in content.splitlines())


def to_text(path: str, content: str) -> str:
    """Return a notebook's cells as text.

    Raises
    ------
    ToolError
        When it is no notebook, or a cell holds what would be taken for a heading.
    """
    return text_of(path, parsed(path, content)[0])


def text_of(path: str, notebook: Any) -> str:
    """Return a notebook that was read by `parsed` as text; raises as `to_text` does."""
    parts: list[str] = []
    for cell in notebook.cells:
        source = str(cell.source)
        if any(_HEADING.match(line) for line in source.splitlines()):
            raise ToolError(
                f"A cell of {path} has a line that looks like a cell's heading, so the notebook "
                "cannot be shown as text; use run_command for it."
            )
        parts.append(f"# %% [{cell.cell_type}] id={cell.id}\n{source}")
    return "\n".join(parts) + ("\n" if parts else "")


def from_text(path: str, text: str, before: str | None) -> str:
    """Return the notebook that a text stands for.

    Parameters
    ----------
    path
        For error messages.
    text
        Cells with their headings.
    before
        The notebook as it was, whose metadata and outputs are kept; ``None`` for a new one.

    Raises
    ------
    ToolError
        When the text does not begin with a heading, names an id twice, or the result would not
        be valid.
    """
    notebook = parsed(path, before)[0] if before is not None else new_notebook()  # type: ignore[no-untyped-call]
    known: dict[str, Any] = {str(cell.id): cell for cell in notebook.cells}
    cells: list[Any] = []
    for kind, name, source in _sections(path, text):
        cell = known.pop(name, None) if name else None
        if cell is None or cell.cell_type != kind:
            cell = _NEW[kind](source)  # type: ignore[no-untyped-call]
            if name:
                cell["id"] = name
        elif str(cell.source) != source:
            cell["source"] = source
            if kind == "code":
                # What the old source had printed says nothing about the new one.
                cell["outputs"], cell["execution_count"] = [], None
        cells.append(cell)
    ids = [str(cell.id) for cell in cells]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise ToolError(f"The cell id {twice} occurs twice; leave the id out for a new cell.")
    notebook["cells"] = cells
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        raise ToolError(f"{path} would be no valid notebook: {error.message}.") from error
    return str(nbformat.writes(notebook)) + "\n"  # type: ignore[no-untyped-call]


def _sections(path: str, text: str) -> list[tuple[str, str, str]]:
    """Split a text into kind, id and source of each cell."""
    found: list[tuple[str, str, list[str]]] = []
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            found.append((heading[1], heading[2] or "", []))
        elif found:
            found[-1][2].append(line)
        elif line.strip():
            raise ToolError(f"{path} must begin with a cell's heading. {HINT}")
    return [(kind, name, "\n".join(lines)) for kind, name, lines in found]


def parsed(path: str, content: str) -> tuple[Any, frozenset[str]]:
    """Read a notebook of any version as one of version 4.5, whose cells have ids of their own.

    Parameters
    ----------
    path
        For error messages.
    content
        The notebook as it is stored.

    Returns
    -------
    tuple
        The notebook, and the ids that were made up, the same at each reading: ``cell-3`` for the
        third cell where the file has none, an unfit one, or one that a cell before it has.

    Raises
    ------
    ToolError
        When it is no notebook.
    """
    try:
        # Not `nbformat.reads`: it puts random ids where none are, others at each reading.
        notebook = nbformat.reader.reads(content)  # type: ignore[no-untyped-call]
        own_ids = int(notebook.nbformat) >= 4
        notebook = nbformat.convert(notebook, 4)  # type: ignore[no-untyped-call]
        for cell in notebook.cells:
            _mend(cell, own_ids)
        made = _name(notebook.cells)
        # Cells have ids from this version on.
        notebook["nbformat_minor"] = max(5, int(notebook.get("nbformat_minor", 5)))
    except Exception as error:  # the library raises whatever a file's shape leads it to
        raise ToolError(f"{path} is no notebook that can be read: {error}.") from error
    return notebook, made


def _mend(cell: Any, own_ids: bool) -> None:
    """Fill in what a cell must have."""
    if cell.get("cell_type") not in _NEW:
        raise ValueError(f"a cell is of the unknown kind {str(cell.get('cell_type'))[:40]}")
    cell["source"] = str(cell["source"])
    cell.setdefault("metadata", {})
    if cell["cell_type"] == "code":
        cell.setdefault("outputs", [])
        cell.setdefault("execution_count", None)
    if not own_ids:
        cell.pop("id", None)


def _name(cells: list[Any]) -> frozenset[str]:
    """Give ids to the cells that need one, and return those ids."""
    taken = {cell["id"] for cell in cells if isinstance(cell.get("id"), str)}
    seen: set[str] = set()
    made: set[str] = set()
    for number, cell in enumerate(cells, start=1):
        name = cell.get("id")
        if not isinstance(name, str) or not _ID.fullmatch(name) or name in seen:
            name = f"cell-{number}"
            while name in taken:
                name += "-"
            cell["id"] = name
            taken.add(name)
            made.add(name)
        seen.add(name)
    return frozenset(made)
