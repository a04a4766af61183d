"""What changed in a notebook is told cell by cell, whatever the notebook is like."""

from __future__ import annotations

import base64
import copy
import json
import time
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from rootbound_lda import notebook_cells, notebook_diff, notebook_outputs
from rootbound_lda.notebook_cells import answers, merged

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 40).decode()
OTHER_PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\1" * 40).decode()


def code(name: str, source: str, *outputs: Any, **metadata: Any) -> Any:
    return new_code_cell(source, id=name, outputs=list(outputs), metadata=metadata)


def stored(*cells: Any, minor: int = 5, **metadata: Any) -> str:
    # Not by the library, which mends what it is given.
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": minor}
    return json.dumps(content)


def compared(old: str | None, new: str | None) -> tuple[str, dict[str, Any]]:
    """Return the patch of the sources, and the cells."""
    told = list(answers("a.ipynb", old, new))
    assert [*told[0], *told[1]] == ["patch", "truncated", "notebook"]
    return told[0]["patch"], told[1]["notebook"]


def shape(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (cell["kind"], cell["cell_id"], cell["before"], cell["after"]) for cell in found["cells"]
    ]


BASE = (
    new_markdown_cell("# Title", id="title"),
    code("load", "import pandas\ndata = pandas.read_csv('a.csv')\ndata.head()"),
    code("plot", "data.plot()"),
    code("end", "print('done')"),
)


def test_cells_added_removed_changed_and_moved() -> None:
    title, load, _, end = copy.deepcopy(BASE)
    load.source += "\nlen(data)"
    fresh = code("fresh", "data.describe()")
    patch, found = compared(stored(*BASE), stored(end, title, load, fresh))
    assert shape(found) == [
        ("moved", "end", 4, 1),
        ("modified", "load", 2, 3),
        ("deleted", "plot", 3, None),
        ("added", "fresh", None, 4),
    ]
    moved, changed, gone, added = found["cells"]
    assert moved["patch"] == "", "a cell that only moved has no patch"
    assert "title" not in {cell["cell_id"] for cell in found["cells"]}, "the same is left out"
    assert changed["patch"].splitlines()[-1] == "+len(data)"
    assert gone["patch"] == "@@ -8,1 +1,0 @@\n-data.plot()"
    assert added["patch"].endswith("+data.describe()")
    assert "+len(data)" in patch


def test_a_line_of_a_cell_is_the_same_line_as_in_the_notebooks_text() -> None:
    """A comment is at a line of the text, which is what an agent reads."""
    cells = list(copy.deepcopy(BASE))
    cells[0].source = "# Title\n\nWith a text,\r\nand an odd \x0c break.\n\n"
    cells[1].source = ""
    cells[3].source = "print('done')\nprint('twice')"
    new = stored(*cells)
    found = compared(stored(*BASE), new)[1]
    text = notebook_cells._State.read("a.ipynb", new).text.splitlines()
    for cell in found["cells"]:
        assert text[cell["after_line"] - 1].endswith(f"id={cell['cell_id']}")
        number = cell["after_line"] + 1
        for line in cell["patch"].split("\n")[1:]:
            if not line.startswith("-"):
                assert line[1:] == text[number - 1]
                number += 1
    assert shape(found)[-1] == ("modified", "end", 4, 4)
    assert found["cells"][-1]["patch"].startswith(f"@@ -10,1 +{len(text) - 1},2 @@")


def test_outputs_are_told_as_text_pictures_and_names() -> None:
    printed = "\x1b[31mred\x1b[0m\x07\nsame"
    old = code(
        "one",
        "x",
        new_output("stream", name="stdout", text=printed),
        new_output(
            "display_data", {"image/png": PNG, "text/html": "<b>1</b>", "text/plain": "old"}
        ),
        new_output("error", ename="E", evalue="v", traceback=["\x1b[0;31mE\x1b[0m: v"]),
    )
    new = code(
        "one",
        "x",
        new_output("stream", name="stdout", text=printed.replace("red", "green")),
        new_output(
            "display_data",
            {"image/png": OTHER_PNG, "text/html": "<script>1</script>", "text/plain": "new"},
        ),
        new_output("display_data", {"image/svg+xml": "<svg onload=1>", "image/jpeg": "no base64!"}),
    )
    patch, found = compared(stored(old), stored(new))
    assert patch == "(only outputs or metadata differ)\n"
    [cell] = found["cells"]
    assert (cell["kind"], cell["patch"]) == ("modified", "")
    stream, plot, error, svg = cell["outputs"]
    assert (stream["kind"], stream["name"]) == ("modified", "stdout")
    assert stream["patch"].splitlines()[1:] == ["-red", "+green", " same"]
    assert plot["pictures"] == [
        {"mime": "image/png", "before": PNG, "after": OTHER_PNG, "left_out": False}
    ]
    assert plot["others"] == ["text/html"]
    assert plot["patch"].splitlines()[1:] == ["-old", "+new"]
    assert (error["kind"], error["name"]) == ("deleted", "E")
    assert error["patch"].splitlines()[1:] == ["-E: v"]
    assert svg["others"] == ["image/svg+xml"], "what may hold a script is named, and never sent"
    assert svg["pictures"] == [
        {"mime": "image/jpeg", "before": None, "after": None, "left_out": True}
    ]
    assert "script" not in json.dumps(found)
    assert "svg onload" not in json.dumps(found)


def test_what_is_too_much_is_named_or_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook_outputs, "MAX_PICTURE", 10)
    monkeypatch.setattr(notebook_outputs, "MAX_TEXT", 60)
    monkeypatch.setattr(notebook_cells, "MAX_CELLS", 2)
    cells = [
        code(f"n{number}", f"new = {number}", new_output("display_data", {"image/png": PNG}))
        for number in range(4)
    ]
    _, found = compared(stored(), stored(*cells))
    assert found["note"] == "Only the first 2 of 4 changed cells are shown."
    [picture] = found["cells"][0]["outputs"][0]["pictures"]
    assert picture == {"mime": "image/png", "before": None, "after": None, "left_out": True}
    _, found = compared(stored(), stored(code("long", "x = 1\n" * 100)))
    assert found["cells"][0]["truncated"]
    assert found["cells"][0]["patch"].count("\n") < 20


def test_metadata_that_matters_is_told_and_a_run_without_news_is_not() -> None:
    old = code("one", "x", new_output("execute_result", {"text/plain": "1"}, execution_count=1))
    old.execution_count, new = 1, copy.deepcopy(old)
    new.execution_count = new.outputs[0].execution_count = 7
    new.metadata = {"execution": {"iopub.execute_input": "2026"}, "scrolled": True}
    assert compared(stored(old), stored(new))[1] == {"cells": [], "metadata": [], "note": None}
    new.metadata["tags"] = ["parameters"]
    _, found = compared(
        stored(old, kernelspec={"name": "a"}), stored(new, kernelspec={"name": "b"})
    )
    assert found["cells"][0]["metadata"] == [
        {"key": "tags", "before": None, "after": '["parameters"]'}
    ]
    assert found["cells"][0]["execution_count"] == 7
    assert found["metadata"] == [
        {"key": "kernelspec", "before": '{"name": "a"}', "after": '{"name": "b"}'}
    ]
    changed = new_markdown_cell("x", id="one")
    [cell] = compared(stored(old), stored(changed))[1]["cells"]
    assert cell["metadata"] == [{"key": "cell_type", "before": '"code"', "after": '"markdown"'}]


def test_cells_without_ids_are_known_by_their_text() -> None:
    def plain(*sources: str) -> str:
        cells = [new_code_cell(source) for source in sources]
        for cell in cells:
            del cell["id"]
        return stored(*cells, minor=4)

    sources = [f"value_{number} = compute({number} ** {number})" for number in range(6)]
    _, found = compared(plain(*sources), plain(*sources[:2], "print('in between')", *sources[2:]))
    assert shape(found) == [("added", "cell-3", None, 3)]
    third = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}}
    old, new = (
        json.dumps(third | {"worksheets": [{"cells": [
            {"cell_type": "code", "language": "python", "input": text, "outputs": []}
            for text in texts
        ]}]})
        for texts in (sources, [*sources[:-1], "last = 1"])
    )  # fmt: skip
    patch, found = compared(old, new)
    assert shape(found) == [("deleted", "cell-6", 6, None), ("added", "cell-6", None, 6)]
    assert sum(line[0] in "+-" for line in patch.splitlines()[2:]) == 2, "ids stay the same"


def test_ids_that_occur_twice_are_told_apart() -> None:
    twice = [code("one", "a = 1"), code("one", "b = 1"), code("two", "c = 1")]
    changed = [*copy.deepcopy(twice[:2]), code("two", "c = 2")]
    assert shape(compared(stored(*twice), stored(*changed))[1]) == [("modified", "two", 3, 3)]


def test_notebooks_that_come_and_go() -> None:
    assert [cell["kind"] for cell in compared(None, stored(*BASE))[1]["cells"]] == ["added"] * 4
    gone = compared(stored(*BASE), None)[1]["cells"]
    assert [(cell["kind"], cell["after"], cell["after_line"]) for cell in gone] == [
        ("deleted", None, None)
    ] * 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is no notebook that can be read"),
        ("[]", "is no notebook that can be read"),
        ('{"nbformat": 9, "nbformat_minor": 0, "cells": []}', "Unsupported nbformat version 9"),
        ('{"nbformat": 4, "nbformat_minor": "x", "cells": []}', "is no notebook that can be read"),
        ('{"nbformat": 4, "nbformat_minor": 5, "cells": ["a"]}', "is no notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "cells": ' + "[" * 100_000, "is no notebook"),
        (stored(code("one", "# %% [code] id=two")), "looks like a cell's heading"),
    ],
)
def test_what_cannot_be_compared_says_why(content: str, says: str) -> None:
    [answer] = answers("a.ipynb", stored(*BASE), content)
    assert says in answer["note"]


def asked(old: str, new: str) -> dict[str, Any]:
    return {"path": "a.ipynb", "old": old, "new": new}


@pytest.mark.asyncio
async def test_the_program_answers_is_ended_in_time_and_starts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that no notebook holds up the runs that go on beside it."""
    comparer = notebook_diff.Comparer(time.monotonic() + 60)
    monkeypatch.setattr(notebook_diff, "FILE_S", 60)
    small = stored(*BASE), stored(*BASE[1:])
    long = [code(f"c{number}", f"x = {number}") for number in range(1_000)]
    large = (
        stored(*long),
        stored(*long[:300], code("new", "import something_else"), *long[301:]),
    )
    for old, new in (small, large):
        found = await comparer.answers(asked(old, new))
        assert found[1]["notebook"]["cells"][0]["kind"] == "deleted"
    process = comparer.process
    assert process is not None
    monkeypatch.setattr(notebook_diff, "FILE_S", 0.2)
    # Its answer takes some minutes: no cell is like another.
    lines = [[f"{seed * line * number}" for line in range(60)] for seed in (7, 13)
             for number in range(400)]  # fmt: skip
    cells = [code(f"id{place}", "\n".join(text)) for place, text in enumerate(lines)]
    found = await comparer.answers(asked(stored(*cells[:400]), stored(*cells[400:])))
    assert found[-1]["note"] == "a.ipynb has too many changes to be compared cell by cell in time."
    assert process.returncode is not None
    assert comparer.process is None
    monkeypatch.setattr(notebook_diff, "FILE_S", 60)
    assert len(await comparer.answers(asked(*small))) == 2
    assert comparer.process is not None
    comparer.process.kill()
    found = await comparer.answers(asked(*small))
    assert found == [{"note": "a.ipynb is too large to be compared cell by cell."}]
    await comparer.end()


def test_a_merge_takes_both_sides_only_where_no_cell_has_two_changes() -> None:
    def changed(**sources: str) -> str:
        cells = list(copy.deepcopy(BASE))
        for cell in cells:
            cell.source = sources.get(cell.id, cell.source)
        return stored(*cells)

    base = changed()
    ours, theirs = changed(load="import polars"), changed(plot="data.hist()", end="print('end')")
    [found] = merged("a.ipynb", base, ours, theirs)
    assert [cell["source"] for cell in json.loads(found["merged"])["cells"]] == [
        ["# Title"], ["import polars"], ["data.hist()"], ["print('end')"],
    ]  # fmt: skip
    both = changed(plot="data.box()")
    [found] = merged("a.ipynb", base, both, theirs)
    assert found == {"note": "The same cells of a.ipynb were changed on both sides."}
    [found] = merged("a.ipynb", base, stored(*BASE, code("x", "a")), stored(*BASE, code("y", "b")))
    assert "both sides" in found["note"], "nor are two cells put in one place in some order"
    [found] = merged("a.ipynb", base, stored(*BASE[1:]), changed(title="# Other"))
    assert "both sides" in found["note"], "nor is a cell taken out that somebody worked on"
    [found] = merged("a.ipynb", base.replace('"title"', '"load"'), ours, theirs)
    assert "without ids" in found["note"]
