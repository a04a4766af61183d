"""The command line: ``rootbound schedule ...``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootbound.cli_common import CommandError, Subparsers, add_verb, names_of, printable, show
from rootbound.cli_work import assignment

if TYPE_CHECKING:
    from rootbound.client import Client
    from rootbound.schedules import Schedule

__all__ = ["add_parser"]

_COLUMNS = ("id", "name", "kind", "crontab", "timezone", "is_enabled", "next_run_at")
_ONE = (*_COLUMNS, "overlap", "prompt", "notebook", "parameters", "max_parallel", "budget")
_RUN = ("id", "status", "trigger", "due_at", "started_at", "ended_at", "exit_code", "message")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``schedule`` and what it can do.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    schedule = subparsers.add_parser("schedule", help="have plans and batches started by the clock")
    verbs = schedule.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_verb(verbs, "list", _list, help="show all schedules")
    create = add_verb(verbs, "create", _create, help="start a plan or a notebook by a crontab")
    create.add_argument("name", metavar="NAME", help="what to call it")
    create.add_argument("project", metavar="PROJECT", help="id or name")
    create.add_argument("crontab", metavar="CRONTAB", help="such as '30 2 * * 1-5', or @daily")
    what = create.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", metavar="TEXT", help="have it planned and done")
    what.add_argument("--notebook", metavar="FILE", help="execute a batch notebook")
    create.add_argument(
        "-p", "--parameter", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        dest="parameters", help="of the notebook; repeat it",
    )  # fmt: skip
    create.add_argument("--timezone", metavar="ZONE", help="such as Europe/Berlin; default UTC")
    create.add_argument(
        "--overlap", type=str.upper, choices=["SKIP", "QUEUE", "REPLACE"],
        help="when the last run is still at work; default SKIP",
    )  # fmt: skip
    create.add_argument("--max-parallel", type=int, metavar="N", help="attempts at once")
    create.add_argument("--budget", type=float, metavar="USD", help="start no attempt beyond it")
    for name, act, text in (
        ("show", lambda _, o, one: show(o, one, _ONE), "show a schedule"),
        ("pause", lambda client, o, one: show(o, client.schedules.pause(one.id), _ONE),
         "start nothing until it is resumed"),
        ("resume", lambda client, o, one: show(o, client.schedules.resume(one.id), _ONE),
         "be due again from now on"),
        ("run", lambda client, o, one: show(o, client.schedules.run(one.id), _RUN), "run it now"),
        ("runs", lambda client, o, one: show(o, client.schedules.runs(one.id), _RUN, "No run yet."),
         "show its history"),
        ("delete", _delete, "delete it with its history"),
    ):  # fmt: skip
        _of_one(verbs, name, act, text)
    report = _of_one(verbs, "report", _report, "write a run's executed notebook to a file")
    report.add_argument("file", type=Path, metavar="FILE", help="to write, such as night.ipynb")
    report.add_argument("--run", metavar="ID", dest="run_id", help="default the newest with one")


def _of_one(verbs: Subparsers, name: str, act: Any, text: str) -> argparse.ArgumentParser:
    def run(client: Client, options: argparse.Namespace) -> int:
        code: int = act(client, options, _find(client, options.schedule))
        return code

    parser = add_verb(verbs, name, run, help=text)
    argument = parser.add_argument("schedule", metavar="SCHEDULE", help="name or id")
    argument.completer = names_of(lambda client: [one.name for one in client.schedules])  # type: ignore[attr-defined]
    return parser


def _find(client: Client, wanted: str) -> Schedule:
    found = [one for one in client.schedules if wanted in (one.id, one.name)]
    if len(found) != 1:
        how = "No schedule is" if not found else f"{len(found)} schedules are"
        raise CommandError(f"{how} called {wanted}; `rootbound schedule list` shows them.")
    return found[0]


def _list(client: Client, options: argparse.Namespace) -> int:
    found = client.schedules.list()
    return show(options, found, _COLUMNS, "No schedule yet: `rootbound schedule create`.")


def _create(client: Client, options: argparse.Namespace) -> int:
    names = ("prompt", "notebook", "timezone", "overlap", "max_parallel", "budget")
    fields = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.parameters:
        fields["parameters"] = dict(options.parameters)
    project = client.projects.find(options.project)
    made = client.schedules.create(options.name, project.id, options.crontab, **fields)
    return show(options, made, _ONE)


def _delete(client: Client, options: argparse.Namespace, schedule: Schedule) -> int:
    client.schedules.delete(schedule.id)
    said = f"Removed schedule {printable(schedule.name)}."
    print(json.dumps({"removed": schedule.id}) if options.json else said)
    return 0


def _report(client: Client, options: argparse.Namespace, schedule: Schedule) -> int:
    runs = [run for run in client.schedules.runs(schedule.id) if run.report_url]
    chosen = [run for run in runs if options.run_id in (None, run.id)]
    if not chosen:
        raise CommandError(f"There is no such report of {printable(schedule.name)} yet.")
    path = client.schedules.report(chosen[0], options.file)
    print(json.dumps({"report": str(path.absolute())}) if options.json else str(path))
    return 0
