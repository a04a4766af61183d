"""Notebooks are read and edited by cell."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from rootbound_lda.agent.notebooks import from_text, to_text
from rootbound_lda.agent.schemas import ToolError

KERNEL = {"kernelspec": {"name": "k", "display_name": "K"}}


def notebook() -> str:
    code = new_code_cell("x = 1\nx", outputs=[new_output("stream", text="1\n")], id="one")
    cells = [new_markdown_cell("# Title", id="title"), code, new_code_cell("y = 2", id="two")]
    return str(nbformat.writes(new_notebook(cells=cells, metadata=KERNEL)))


def test_an_edit_changes_its_cell_only() -> None:
    before = notebook()
    text = to_text("a.ipynb", before)
    assert text.splitlines()[:4] == [
        "# %% [markdown] id=title", "# Title", "# %% [code] id=one", "x = 1",
    ]  # fmt: skip
    assert nbformat.reads(from_text("a.ipynb", text, before), 4) == nbformat.reads(before, 4)
    changed = text.replace("y = 2", "y = 3") + "# %% [code]\nz = y\n"
    after = nbformat.reads(from_text("a.ipynb", changed, before), as_version=4)
    assert [cell.source for cell in after.cells] == ["# Title", "x = 1\nx", "y = 3", "z = y"]
    assert after.cells[1].outputs[0].text == "1\n", "an untouched cell keeps its output"
    assert after.metadata.kernelspec.name == "k"
    gone = from_text("a.ipynb", text.replace("x = 1", "x = 5"), before)
    assert nbformat.reads(gone, as_version=4).cells[1].outputs == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"cells": []}', "must begin with a cell's heading"),
        ("# %% [code] id=one\n# %% [code] id=one\n", "occurs twice"),
    ],
)
def test_what_is_no_notebook_is_refused(text: str, says: str) -> None:
    with pytest.raises(ToolError, match=says):
        from_text("a.ipynb", text, notebook())


def test_a_broken_file_and_an_ambiguous_one_are_refused() -> None:
    with pytest.raises(ToolError, match="no notebook"):
        to_text("a.ipynb", "not json")
    odd = nbformat.writes(new_notebook(cells=[new_code_cell("# %% [code]\nx")]))
    with pytest.raises(ToolError, match="looks like a cell's heading"):
        to_text("a.ipynb", str(odd))
