"""The command line: ``rootbound audit list | summary | export | verify | retain``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootbound import paths
from rootbound.cli_common import CommandError, Subparsers, connect, printable

if TYPE_CHECKING:
    from rootbound.audit import AuditQuery
    from rootbound.client import Client
    from rootbound.models import AuditEntry

__all__ = ["add_parser"]

_OK, _FAILED = 0, 1
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# Kept as `of_run` and so on: `run` is what a parsed command line is called with.
_SCOPE = ("attempt", "run", "task", "project")
_FILTERS = (
    "user", "operation", "result", "source", "program", "path_prefix", "glob", "since", "until",
)  # fmt: skip


def add_parser(subparsers: Subparsers) -> None:
    """Add ``audit`` and what it can do.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    audit = subparsers.add_parser("audit", help="read, export, verify and trim the audit log")
    verbs = audit.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = verbs.add_parser("list", help="show entries, the newest first")
    _add_filters(listing)
    listing.add_argument("-n", "--limit", type=_count, default=50, metavar="N", help="default 50")
    listing.add_argument("--json", action="store_true", help="print one JSON object per line")
    listing.set_defaults(run_command=_list, run=_guarded)

    summary = verbs.add_parser("summary", help="count entries by operation and result")
    _add_filters(summary)
    summary.add_argument("--json", action="store_true", help="print the counts as JSON")
    summary.set_defaults(run_command=_summary, run=_guarded)

    export = verbs.add_parser("export", help="write all matching entries to a file")
    export.add_argument("file", type=Path, metavar="FILE", help="ends in .ndjson, .jsonl or .csv")
    _add_filters(export)
    export.add_argument("--limit", type=_count, metavar="N", help="entries at most")
    export.add_argument("--format", choices=["ndjson", "csv"], help="default by the file's ending")
    export.add_argument("--json", action="store_true", help="print the result as JSON")
    export.set_defaults(run_command=_export, run=_guarded)

    verify = verbs.add_parser(
        "verify",
        help="recompute the hash chains and name what was tampered with",
        description="Exit code 0: the log is what was reported; 1: it is not.",
    )
    which = verify.add_mutually_exclusive_group()
    for name in _SCOPE:
        which.add_argument(f"--{name}", dest=f"of_{name}", metavar="ID", help=f"this {name} only")
    which.add_argument("--all", action="store_true", help="all of your runs (default)")
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    verify.set_defaults(run_command=_verify, run=_guarded)

    retain = verbs.add_parser(
        "retain",
        help="drop old months of the log; a record of each stays",
        description="Works on this machine's own stack, for its administrator.",
    )
    retain.add_argument("--older-than", type=_days, metavar="TIME", help="such as 90d, 26w or 2y")
    retain.add_argument(
        "--keep", type=_bytes, metavar="SIZE", help="such as 5G: drop until the rest fits"
    )
    retain.add_argument("--dry-run", action="store_true", help="only say what would go")
    retain.add_argument("--force", action="store_true", help="also what does not verify")
    retain.add_argument("--json", action="store_true", help="print the result as JSON")
    retain.set_defaults(run=_retain)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    for name in _SCOPE:
        parser.add_argument(f"--{name}", dest=f"of_{name}", metavar="ID", help=f"this {name} only")
    parser.add_argument("--user", metavar="NAME", help="whose; others' only for staff")
    for name, case, choices, text in (
        ("operation", str.upper, ["READ", "WRITE", "DELETE"], "what was done"),
        ("result", str.upper, ["ALLOWED", "DENIED"], "what came of it"),
        ("source", str.lower, ["tool", "kernel", "provisioner"],
         "an agent's file tool, a command as the kernel saw it, or a confined kernel"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=case, choices=choices, help=text)
    parser.add_argument("--program", metavar="PATH", help="the program that did it")
    parser.add_argument("--path-prefix", metavar="PATH", help="what the path begins with")
    parser.add_argument("--glob", metavar="GLOB", help="such as '/srv/**/*.py'")
    parser.add_argument("--since", metavar="TIME", help="such as 2026-01-31T08:00:00Z, inclusive")
    parser.add_argument("--until", metavar="TIME", help="exclusive")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of entries")
    return int(text)


def _days(text: str) -> int:
    match = re.fullmatch(r"(\d+)([dwmy])", text.strip().lower())
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90d, 26w, 6m or 2y")
    return int(match[1]) * _DAYS[match[2]]


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([kmgt]?)i?b?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500M or 5G")
    return int(match[1]) * _BYTES[match[2]]


def _guarded(options: argparse.Namespace) -> int:
    """Connect, run the command, and turn errors of files into one sentence."""
    try:
        with connect() as client:
            code: int = options.run_command(client, options)
            return code
    except OSError as error:
        raise CommandError(f"The file cannot be written: {error.strerror or error}.") from error


def _query(client: Client, options: argparse.Namespace) -> AuditQuery:
    filters: dict[str, Any] = {name: getattr(options, name) for name in _FILTERS}
    return client.audit(**filters, **_scope(options), limit=getattr(options, "limit", None))


def _scope(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, f"of_{name}") for name in _SCOPE}


def _list(client: Client, options: argparse.Namespace) -> int:
    for entry in _query(client, options):
        print(json.dumps(entry.raw) if options.json else _line(entry))
    return _OK


def _line(entry: AuditEntry) -> str:
    moment = entry.timestamp.astimezone().strftime("%Y-%m-%d %H:%M:%S") if entry.timestamp else ""
    program = entry.detail.get("program") or entry.source
    path = printable(entry.path)  # it may hold anything
    return f"{moment}  {entry.result:<7}  {entry.operation:<6}  {path}  [{program!s}]"


def _summary(client: Client, options: argparse.Namespace) -> int:
    summary = _query(client, options).summary()
    if options.json:
        print(json.dumps(summary.raw, indent=2))
        return _OK
    for row in summary.counts:
        print(f"{row['operation']:<6}  {row['result']:<7}  {row['count']:>12,}")
    print(f"{summary.count():,} entries")
    return _OK


def _export(client: Client, options: argparse.Namespace) -> int:
    path = _query(client, options).export(options.file, options.format)
    size = path.stat().st_size
    if options.json:
        print(json.dumps({"file": str(path.absolute()), "bytes": size}, indent=2))
    else:
        print(f"{path}: {size:,} bytes.")
    return _OK


def _verify(client: Client, options: argparse.Namespace) -> int:
    result = client.audit(**_scope(options)).verify()
    if options.json:
        print(json.dumps(result.raw, indent=2))
        return _OK if result.ok else _FAILED
    for finding in result.findings:
        print(finding)
    counted = f"{result.entries:,} entries of {result.runs:,} runs"
    if result.retained_away:
        counted += f" ({result.retained_away:,} were removed by retention, on record)"
    if result.ok:
        print(f"The audit log is what was reported: {counted}.")
        return _OK
    print(f"The audit log was tampered with: {len(result.findings)} findings in {counted}.")
    return _FAILED


def _retain(options: argparse.Namespace) -> int:
    """Run the backend's own command: it needs the database's password, not a token."""
    try:
        api = importlib.import_module("rootbound_server_ext.stack.api")
        postgres = importlib.import_module("rootbound_server_ext.stack.postgres")
    except ModuleNotFoundError as error:
        raise CommandError(
            f"This command needs the server part ({error.name} is missing): "
            'pip install "rootbound[server]"'
        ) from error
    if options.older_than is None and options.keep is None:
        raise CommandError("Say what may go: --older-than 90d, or --keep 5G.")
    if api.status(None) is None:
        raise CommandError("Rootbound is not running; start it with `rootbound up`.")
    home = paths.state_dir()
    url = os.environ.get("ROOTBOUND_DATABASE_URL") or postgres.PostgresServer(home).url
    environment = {
        **os.environ,
        "ROOTBOUND_HOME": str(home),
        "ROOTBOUND_DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "rootbound_backend.settings",
    }
    arguments = [
        *(["--older-than-days", str(options.older_than)] if options.older_than else []),
        *(["--keep-bytes", str(options.keep)] if options.keep is not None else []),
        *(f"--{name.replace('_', '-')}" for name in ("dry_run", "force", "json")
          if getattr(options, name)),
    ]  # fmt: skip
    # -P: the working folder is no place to import from.
    command = [sys.executable, "-P", "-m", "django", "audit_retain", *arguments]
    return _OK if subprocess.run(command, env=environment).returncode == 0 else _FAILED
