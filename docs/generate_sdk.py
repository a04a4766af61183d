"""Writes docs/sdk.md from the SDK's docstrings and the command line's help; ``--check`` compares."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("sdk.md")

INTRODUCTION = """# SDK and command line

<!-- Written by docs/generate_sdk.py from the docstrings; change those, then run it. -->

```bash
pip install rootbound               # the SDK and the widgets
pip install "rootbound[server]"     # the stack and JupyterLab as well
pip install "rootbound[notebooks]"  # pandas, matplotlib and Arrow for the notebooks
```

**Which server.** `rb.connect()` takes, in this order: its arguments; `ROOTBOUND_URL` and
`ROOTBOUND_TOKEN`; the JupyterHub variables; the Jupyter server that this kernel belongs to, else the
one whose folder holds the current folder; the headless stack of `rootbound up`. Several that fit
equally well are refused with the list. The command line takes `ROOTBOUND_URL`, else the stack of
this state folder.

**Which version.** SDK and server must have the same major version, and as long as that is 0 the
same minor version. Within it either may be newer: unknown fields are ignored and kept in `raw`.
Anything else is refused by `connect`, with what to install.

**Results** are frozen and typed; `raw` holds the server's whole answer. Lists are tables: they show
themselves in a notebook, `.df()` gives pandas, and they are Arrow streams (`polars.DataFrame(...)`).
Iterating over `client.projects`, `client.agents`, `client.roots` or `client.audit(...)` reads page by
page as you go.

**Streams.** `attempt.events(follow=True)` reconnects by number, without a hole and without doubles.
Ctrl-C stops watching, not the attempt. It ends with the attempt, or at a review unless
`through_review=True`; when the attempt or its project is deleted it raises `NotFoundError`.

**asyncio.** `await rb.connect_async()` gives the same surface, awaited: `AsyncClient`,
`AsyncProject`, `AsyncTask`, `AsyncAttempt`, `AsyncDecomposition`.

**Errors** are `rb.RootboundError` with one sentence and the way out; `code`, `status` and `problem`
are for programs. In a notebook they show the cell's line and the sentence.

**In notebooks.** `%load_ext rootbound` gives `%rootbound status | board | audit | plan | run`, with
tab completion. `notebooks/` has a quickstart, planning and review, an audit investigation, a
comparison of models, and the batch report.

## Batches

`rootbound batch run notebooks/batch.ipynb -p project=app -p prompt="Make the tests pass"` starts the
stack or finds it running, executes the notebook without JupyterLab, and leaves an executed notebook
that is a report (`--html` for a page of its own). Its exit code is 1 when an attempt failed or work
was left. A file in the state folder remembers the batch by its report's path: the same command after
a crash goes on with it, and neither plans nor does anything twice; attempts themselves go on meanwhile,
because the stack runs them. The notebook runs in a [confined kernel](kernels.md), without the network
unless `--network` is given. `--budget` is checked between attempts; a project's own `budget` limits
each one. Other tools that drive papermill take the engine `rootbound`
(`papermill --engine rootbound in.ipynb out.ipynb`), and `rb.Batch` does the work in your own notebook.
"""

CLASSES = (
    "Client", "Projects", "Roots", "Agents", "Project", "Task", "Attempt", "Decomposition",
    "AccessRequest", "AuditQuery", "Listing", "Events", "Batch", "BatchResult", "Event", "Gate",
    "Diff", "FileDiff", "NotebookDiff", "CellDiff", "OutputDiff", "Root", "Agent", "AuditEntry", "AuditSummary", "AuditVerification",
    "AuditTree", "AuditTimeline", "Costs", "Status", "Comment", "Comparison", "MergePreview",
    "Worktree", "TaskBoard", "AttemptStream", "AuditTable", "DiffView", "StackStatus", "CostChart",
)  # fmt: skip


def classes() -> Iterator[type]:
    from rootbound import (
        access,
        audit,
        audit_models,
        batch,
        client,
        costs,
        diff_models,
        models,
        objects,
        review,
        schedules,
        tables,
        widgets,
    )  # fmt: skip

    homes = (client, objects, access, audit, tables, batch, models, audit_models, costs,
             diff_models, review, schedules, widgets)  # fmt: skip
    for name in CLASSES:
        yield next(getattr(home, name) for home in homes if hasattr(home, name))


def markdown(docstring: str | None) -> str:
    """Turn a numpydoc docstring into Markdown: its sections become lists."""
    lines, out, section = inspect.cleandoc(docstring or "").splitlines(), [], ""
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if line and re.fullmatch(r"-{3,}", following):
            section = line
            out += [f"*{line}*", ""]
        elif re.fullmatch(r"-{3,}", line):
            continue
        elif section and line and not line.startswith(" "):
            name, colon, kind = line.partition(" : ")
            out.append(f"- `{name}`" + (f" ({kind})" if colon else ""))
        elif section and line.startswith(" "):
            out.append(f"  {line.strip()}")
        else:
            out.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def signature(function: Any) -> str:
    text = str(inspect.signature(function))
    return re.sub(r"\(self(, )?", "(", text).replace("models.", "").replace("'", "")


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Return a class's own public surface, mixins of ours included, in the order of the code."""
    seen: set[str] = set()
    for home in cls.__mro__:
        if not home.__module__.startswith("rootbound.") or home.__name__ in ("Model", "BaseWidget"):
            continue
        for name, value in vars(home).items():
            is_shown = inspect.isfunction(value) or isinstance(value, property)
            if is_shown and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, value


def describe(cls: type) -> str:
    parts = [f"### {cls.__name__}", markdown(cls.__doc__), *fields(cls)]
    for name, value in members(cls):
        if name in ("from_json", "set_state"):
            continue
        if isinstance(value, property):
            parts.append(f"**`.{name}`** {markdown(value.__doc__)}")
        else:
            parts.append(f"**`.{name}{signature(value)}`**\n\n{markdown(value.__doc__)}")
    return "\n\n".join(parts)


def fields(cls: type) -> list[str]:
    """Return a result's fields and their types, as one paragraph."""
    if not dataclasses.is_dataclass(cls):
        return []
    shown = [f for f in dataclasses.fields(cls) if f.name not in ("raw", "_client")]
    return ["Fields: " + ", ".join(f"`{f.name}: {f.type}`" for f in shown) + "."]


def commands() -> str:
    """Return every command with what it does, from the parsers themselves."""
    from rootbound import cli, cli_completion

    found: list[str] = []

    class Seen(Exception):  # noqa: N818 (it only carries the parser out)
        pass

    def look(parser: argparse.ArgumentParser) -> None:
        walk(parser, found)
        raise Seen

    answer, cli_completion.answer = cli_completion.answer, look
    try:
        cli.main([])
    except Seen:
        pass
    finally:
        cli_completion.answer = answer
    return "| command | does |\n|---|---|\n" + "\n".join(found)


def walk(parser: argparse.ArgumentParser, found: list[str], text: str = "") -> None:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        words = [a.metavar or a.dest for a in parser._actions if not a.option_strings]
        found.append(f"| `{' '.join([parser.prog, *map(str, words)])}` | {text} |")
    for group in groups:
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, child in group.choices.items():
            walk(child, found, helps.get(name, ""))


def page() -> str:
    import rootbound as rb

    connect = f"### connect{signature(rb.connect)}\n\n{markdown(rb.connect.__doc__)}"
    reference = "\n\n".join([connect, *map(describe, classes())])
    return (
        f"{INTRODUCTION}\n## Commands\n\nEach takes `--json` and `-h`; "
        f'`eval "$(rootbound completion bash)"` completes them.\n\n{commands()}\n\n'
        f"## Reference\n\n{reference}\n"
    )


def main() -> int:
    text = page()
    if "--check" in sys.argv:
        return 0 if TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
