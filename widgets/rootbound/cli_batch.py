"""The command line: ``rootbound batch run NOTEBOOK``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from rootbound import paths
from rootbound.cli_common import CommandError, Subparsers, printable

__all__ = ["add_parser"]

_KNOWN_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
_WORDS = {"True": True, "False": False, "None": None}


def add_parser(subparsers: Subparsers) -> None:
    """Add ``batch``.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    batch = subparsers.add_parser("batch", help="run notebooks that do work by themselves")
    verbs = batch.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = verbs.add_parser(
        "run",
        help="execute a notebook headless; the result is a report",
        description="Starts the stack or finds it running. Cut off, the same command goes on with "
        "what was begun. Exit code 1: an attempt failed, or work was left.",
    )
    run.add_argument("notebook", type=Path, metavar="NOTEBOOK", help="such as batch.ipynb")
    run.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", dest="parameters",
        help="of the notebook's cell tagged `parameters`; repeat it",
    )  # fmt: skip
    run.add_argument("--max-parallel", type=int, metavar="N", help="attempts at once")
    run.add_argument("--budget", type=float, metavar="USD", help="start no attempt beyond it")
    run.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default NOTEBOOK's name with .out.ipynb"
    )
    run.add_argument("--html", action="store_true", help="write the report as HTML as well")
    run.add_argument("--kernel", metavar="NAME", help="the kernel to use; default the notebook's")
    run.add_argument(
        "--unconfined", action="store_true", help="run the notebook with your rights, unaudited"
    )
    run.add_argument("--network", action="store_true", help="let the notebook reach the network")
    run.add_argument("--fresh", action="store_true", help="forget a batch that was cut off")
    run.add_argument("--json", action="store_true", help="print the outcome as JSON")
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    papermill = _papermill()
    from rootbound._stack import ensure_server
    from rootbound.batch import read_ledger
    from rootbound.papermill_engine import ledger_of

    output = options.output or Path(f"{options.notebook.stem}.out.ipynb")
    values = _parameters(papermill, options)
    ledger = ledger_of(output)
    if options.fresh:
        ledger.unlink(missing_ok=True)
    entry = read_ledger(ledger)
    if entry and not entry.get("finished"):
        print(f"Going on with the batch that was cut off ({output}).", file=sys.stderr)
    ensure_server()
    failure = _execute(papermill, options, output, values)
    outcome = (read_ledger(ledger) or {}).get("result") or {}
    report = {"report": str(output.absolute()), "error": failure, **outcome}
    if options.html:
        report["html"] = str(_to_html(output).absolute())
    _tell(options, report)
    return 1 if failure else 0


def _papermill() -> Any:
    try:
        import papermill  # type: ignore[import-untyped]  # slow to import
    except ModuleNotFoundError as error:
        raise CommandError(
            'This command needs papermill: pip install "rootbound[server]"'
        ) from error
    logging.getLogger("papermill").setLevel(logging.ERROR)
    return papermill


def _parameters(papermill: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters, checked against what the notebook says of them."""
    if not options.notebook.is_file():
        raise CommandError(f"There is no notebook {options.notebook}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it thinks of the file's name
            known = papermill.inspect_notebook(str(options.notebook))
    except Exception as error:  # nbformat and json raise what they like
        raise CommandError(f"{options.notebook} is no notebook that can be read.") from error
    values = dict(map(_assignment, options.parameters))
    for name, value in (("max_parallel", options.max_parallel), ("budget", options.budget)):
        if value is not None:
            values[name] = str(value)
    for name in values:
        if name not in known:
            has = ", ".join(known) or "none"
            raise CommandError(f"{options.notebook.name} has no parameter {name!r}; it has: {has}.")
    typed = {name: _typed(known[name], value) for name, value in values.items()}
    named = os.environ.get("ROOTBOUND_URL")  # by whoever runs us, such as a schedule
    # A confined kernel has one way to the server, and cannot see the state folder.
    if options.unconfined and "home" in known and "home" not in typed and not named:
        typed["home"] = str(paths.state_dir())
    return typed


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CommandError(f"-p takes NAME=VALUE, not {text!r}.")
    return name, value


def _typed(known: dict[str, Any], text: str) -> Any:
    """Return a value of the type that the notebook's cell names or shows by its default."""
    wanted = str(known["inferred_type_name"]).split("|")[0].strip()
    if wanted == "None":
        wanted = _type_of_default(str(known["default"]))
    if wanted == "str":
        return text
    try:
        value = _WORDS[text] if text in _WORDS else json.loads(text)
    except ValueError:
        value = text
    types = _KNOWN_TYPES.get(wanted)
    is_lost_bool = isinstance(value, bool) and types is not None and bool not in types
    may_be_none = value is None and str(known["default"]) == "None"
    if types and not may_be_none and (not isinstance(value, types) or is_lost_bool):
        raise CommandError(f"The parameter {known['name']} is {_A[wanted]}, not {text!r}.")
    return value


_A = {
    "int": "a whole number", "float": "a number", "bool": "True or False", "list": "a JSON list",
    "dict": "a JSON object",
}  # fmt: skip


def _type_of_default(default: str) -> str:
    try:
        value = _WORDS[default] if default in _WORDS else json.loads(default)
    except ValueError:
        return "str"
    return "str" if value is None else type(value).__name__


def _execute(
    papermill: Any, options: argparse.Namespace, output: Path, values: dict[str, Any]
) -> str | None:
    """Execute the notebook; return the sentence of its failure, None when all went well."""
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(options.notebook),
            str(output),
            parameters=values,
            engine_name="rootbound",
            kernel_name=options.kernel,
            progress_bar=False,
            confined=not options.unconfined,
            network=options.network,
        )
    except papermill.PapermillExecutionError as error:
        sentence = str(error.evalue) or str(error.ename)
        _tell_readers(output, sentence)
        return sentence
    return None


def _tell_readers(output: Path, sentence: str) -> None:
    """Have the report begin with how it ended, in place of what papermill says of exceptions."""
    import nbformat
    from papermill.execute import ERROR_MARKER_TAG  # type: ignore[import-untyped]

    report = nbformat.read(output, as_version=4)  # type: ignore[no-untyped-call]
    marked = [cell for cell in report.cells if ERROR_MARKER_TAG in cell.metadata.get("tags", ())]
    for cell in marked[:1]:
        # Titles in it are an agent's words, and the cell is Markdown, which takes HTML.
        safe = "".join(
            one if one.isalnum() or one in " ,.;:" else f"&#{ord(one)};" for one in sentence
        )
        cell.source = f"**{safe}** ([Where it stands](#rootbound-outcome))"
    for cell in marked[1:]:
        cell.source = '<span id="rootbound-outcome"></span>'
    nbformat.write(report, output)  # type: ignore[no-untyped-call]


def _to_html(output: Path) -> Path:
    from nbconvert import HTMLExporter  # slow to import

    exporter = HTMLExporter(exclude_input=True)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_filename(str(output))
    target = output.with_suffix(".html")
    target.write_text(body, encoding="utf-8")
    return target


def _tell(options: argparse.Namespace, report: dict[str, Any]) -> None:
    _tell_result(options, report)
    if report["error"]:
        # Last, also in a file that both outputs go to: it is what a schedule's history shows.
        sys.stdout.flush()
        print(printable(report["error"]), file=sys.stderr)


def _tell_result(options: argparse.Namespace, report: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for task in report.get("tasks", ()):
        line = f"{task['status']:<10} {task['title']}"
        print(printable(f"{line}: {task['reason']}" if task["reason"] else line))
    cost = report.get("cost_usd")
    if cost is not None:
        print(f"{cost:.4f} US dollars")
    print(f"The report: {report['report']}")
