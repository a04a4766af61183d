"""The command line: the stack's own commands, and `main`, which puts all groups together.

A group of commands is a module with ``add_parser(subparsers)``, which adds its parsers and sets
each one's ``run`` default to a function from the parsed arguments to an exit code. `_GROUPS` names
the modules; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from rootbound import cli_agents, cli_completion, cli_logs, paths
from rootbound._version import __version__
from rootbound.cli_common import CommandError, Parser, Subparsers
from rootbound.errors import RootboundError

if TYPE_CHECKING:
    from rootbound_server_ext.stack.api import StackInfo
    from rootbound_server_ext.stack.doctor import Check

__all__ = ["CommandError", "add_parser", "main"]

_GROUPS = (
    "rootbound.cli", "rootbound.cli_work", "rootbound.cli_access", "rootbound.cli_agents",
    "rootbound.cli_audit", "rootbound.cli_batch", "rootbound.cli_kernels",
    "rootbound.cli_schedule", "rootbound.cli_machine", "rootbound.cli_mcp",
    "rootbound.cli_completion", "rootbound.demo",
)  # fmt: skip

_FIRST_STEPS = """\
first steps, in a git repository ~/src/app:
  rootbound up
  rootbound roots add ~/src/app
  rootbound project create app ~/src/app --test-cmd "python3 -m unittest -q"
  rootbound agents create dev --provider GLM --model glm-7 --role BACKEND
  rootbound task create app "Make the failing tests pass"
  rootbound task start TASK     (its id, which `rootbound task list` shows)
  rootbound attempt wait ATTEMPT, then diff, and approve

`rootbound COMMAND --help` explains a command; `rootbound doctor` checks the machine."""
_OK, _FAILED, _USAGE, _NOT_RUNNING, _INTERRUPTED = 0, 1, 2, 3, 130

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LOGS = ("guard", "postgres", "redis", "migrate", "backend", "worker", "beat", "lda")
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; default those of the process.

    Returns
    -------
    int
        Exit code: 0 done, 1 refused or failed, 2 wrong usage, 3 (``status``) not running.
    """
    parser = Parser(
        prog="rootbound",
        description="Run AI coding agents on your own machine, confined.",
        epilog=_FIRST_STEPS,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=14),
    )
    parser.add_argument("--version", action="version", version=f"rootbound {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _GROUPS:
        if name == "rootbound.cli":
            add_parser(subparsers)
        elif importlib.util.find_spec(name) is not None:
            importlib.import_module(name).add_parser(subparsers)
    cli_completion.answer(parser)
    options = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (CommandError, RootboundError) as error:
        return _refuse(options, str(error), getattr(error, "code", None))
    except KeyboardInterrupt as interrupt:
        if str(interrupt):  # the SDK says what goes on without us
            _say(str(interrupt), sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `rootbound logs backend | head`
        sys.stderr.close()
        return _OK
    except OSError as error:
        if error.filename is None:
            raise
        return _refuse(options, f"{error.strerror}: {error.filename}.")


def _refuse(options: argparse.Namespace, sentence: str, code: str | None = None) -> int:
    """Say why a command did nothing: to people, and with ``--json`` to their programs too."""
    if getattr(options, "json", False):
        _say(json.dumps({"error": sentence, "code": code}))
    _say(sentence, sys.stderr)
    return _FAILED


def add_parser(subparsers: Subparsers) -> None:
    """Add the stack's commands.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    up = subparsers.add_parser("up", help="start the services, or find them running")
    up.add_argument("--json", action="store_true", help="print the result as JSON")
    up.add_argument("--with-pid", type=int, metavar="PID", help="stop when this process ends")
    up.add_argument("--timeout", type=float, default=180, metavar="S", help="seconds (default 180)")
    up.add_argument(
        "--ask-key",
        metavar="NAME",
        help="ask for this key and start the services anew with it, such as GLM_API_KEY",
    )
    up.set_defaults(run=_up)

    down = subparsers.add_parser("down", help="stop the services")
    down.add_argument("--json", action="store_true", help="print the result as JSON")
    down.set_defaults(run=_down)

    status = subparsers.add_parser(
        "status",
        help="show the services",
        description="Exit code 0: all ready; 1: running, but not all ready; 3: not running.",
    )
    status.add_argument("--json", action="store_true", help="print the state as JSON")
    status.set_defaults(run=_status)

    doctor = subparsers.add_parser("doctor", help="check this machine, and say how to mend it")
    doctor.add_argument("--json", action="store_true", help="print the checks as JSON")
    doctor.set_defaults(run=_doctor)

    token = subparsers.add_parser("token", help="print a bearer token for the API")
    token.add_argument(
        "--ttl",
        type=_duration,
        default=86400,
        metavar="TIME",
        help="90s, 30m, 12h, 7d (default 1d)",
    )
    token.add_argument(
        "--scope",
        default="api",
        metavar="SCOPES",
        help="api (default), or of mcp:read,mcp:write,mcp:review: good for /mcp alone",
    )
    token.add_argument("--json", action="store_true", help="print it as JSON")
    token.set_defaults(run=_token)

    rotate = subparsers.add_parser(
        "rotate-key", help="replace the key between the backend and the LDA; nothing restarts"
    )
    rotate.add_argument("--json", action="store_true", help="print the result as JSON")
    rotate.set_defaults(run=_rotate_key)

    logs = subparsers.add_parser("logs", help="show the log of a service or an attempt")
    logs.add_argument(
        "service", type=_log_name, metavar="NAME", help=f"an attempt's id, or {', '.join(_LOGS)}"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    logs.add_argument("-n", "--lines", type=_count, default=50, metavar="N", help="default 50")
    cli_logs.add_arguments(logs)
    logs.set_defaults(run=_logs)


def _duration(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smhd]?)", text.strip())
    if match is None or int(match.group(1)) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 30m, 12h or 7d")
    return int(match.group(1)) * _UNITS[match.group(2)]


def _log_name(text: str) -> str:
    if text in _LOGS or cli_logs.is_attempt(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no attempt's id and none of {', '.join(_LOGS)}")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def _say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout, flush=True)


def _module(name: str) -> Any:
    """Import a module of the server part, which a kernel's environment need not have."""
    try:
        return importlib.import_module(f"rootbound_server_ext.stack.{name}")
    except ModuleNotFoundError as error:
        raise CommandError(
            f"This command needs the server part ({error.name} is missing): "
            'pip install "rootbound[server]"'
        ) from error


def _up(options: argparse.Namespace) -> int:
    api = _module("api")
    try:
        if options.ask_key:
            # Services that run already keep the environment they were started in.
            os.environ[options.ask_key] = cli_agents.ask_for_key(options.ask_key)
            api.down(None, progress=lambda text: _say(text, sys.stderr))
        info: StackInfo = api.start(
            None,
            stop_with_pid=options.with_pid,
            timeout_s=options.timeout,
            progress=lambda text: _say(text, sys.stderr),
        )
    except api.StackError as error:
        return _report_failure(error, as_json=options.json)
    except KeyboardInterrupt:
        _say("The services go on starting; `rootbound down` stops them.", sys.stderr)
        return _INTERRUPTED
    if options.json:
        _say(json.dumps(info.to_json(), indent=2))
    else:
        _say(f"Rootbound is ready at {info.url} (state folder {paths.state_dir()}).")
    return _OK


def _report_failure(error: Any, *, as_json: bool) -> int:
    if as_json:
        facts = {"error": error.message, "service": error.service, "log_tail": error.log_tail}
        _say(json.dumps(facts, indent=2))
        return _FAILED
    _say(error.message, sys.stderr)
    if error.log_tail:
        _say("The last lines of its log:", sys.stderr)
        for line in error.log_tail.splitlines():
            _say(f"  {line}", sys.stderr)
    return _FAILED


def _down(options: argparse.Namespace) -> int:
    api = _module("api")
    try:
        was_running = api.down(None, progress=lambda text: _say(text, sys.stderr))
    except api.StackError as error:
        return _report_failure(error, as_json=options.json)
    if options.json:
        _say(json.dumps({"was_running": was_running}))
    else:
        _say("Rootbound is stopped." if was_running else "Rootbound was not running.")
    return _OK


def _status(options: argparse.Namespace) -> int:
    api = _module("api")
    try:
        info: StackInfo | None = api.status(None)
    except api.StackError as error:
        return _report_failure(error, as_json=options.json)
    if options.json:
        facts = {"running": info is not None, **(info.to_json() if info else {})}
        _say(json.dumps({**facts, "disk": _disk()}, indent=2))
    elif info is None:
        _say("Rootbound is not running; start it with `rootbound up`.")
    else:
        _print_status(info)
    if not options.json:
        _print_disk()
    if info is None:
        return _NOT_RUNNING
    return _OK if info.ready else _FAILED


def _print_status(info: StackInfo) -> None:
    _say(f"Rootbound {info.rootbound} at {info.url}, up since {info.started_at}")
    for name, service in info.services.items():
        pid = str(service.pid) if service.pid else "-"
        _say(f"  {name:<9} {service.state:<9} {pid:>8}  {service.address or ''}".rstrip())


def _disk() -> dict[str, Any]:
    """Return what the backend last measured, and what is free now, in bytes."""
    try:
        report = json.loads((paths.state_dir() / "run" / "usage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {"measured_at": None, "parts": {}}
    home = paths.state_dir()
    free = shutil.disk_usage(home).free if home.is_dir() else None
    return {**report, "free_bytes": free}


def _print_disk() -> None:
    disk = _disk()
    if disk["free_bytes"] is None:
        return
    parts = sorted(disk["parts"].items(), key=lambda part: -part[1])
    taken = ", ".join(f"{name} {_megabytes(size)}" for name, size in parts if size >= 1 << 20)
    total = _megabytes(sum(disk["parts"].values())) if parts else "not measured yet"
    _say(f"Disk: {total}{f' ({taken})' if taken else ''}, {_megabytes(disk['free_bytes'])} free")


def _megabytes(size: int) -> str:
    return f"{size / (1 << 30):.1f} GB" if size >= 10 << 30 else f"{size / (1 << 20):.0f} MB"


def _doctor(options: argparse.Namespace) -> int:
    checks: list[Check] = _module("doctor").examine(paths.state_dir())
    if options.json:
        _say(json.dumps([check.to_json() for check in checks], indent=2))
    else:
        for check in checks:
            _say(f"[{_MARKS[check.state]}] {check.name}: {check.detail}")
            if check.fix:
                _say(f"       -> {check.fix}")
    return _FAILED if any(check.state == "fail" for check in checks) else _OK


def _rotate_key(options: argparse.Namespace) -> int:
    secrets = _module("secrets")
    errors = _module("errors")
    try:
        secrets.rotate_lda_key(None)
    except errors.StackError as error:
        raise CommandError(error.message) from error
    if options.json:
        _say(json.dumps({"rotated": True}))
    else:
        _say("The backend signs with a new key; the one before is accepted for another minute.")
    return _OK


def _token(options: argparse.Namespace) -> int:
    secrets = _module("secrets")
    errors = _module("errors")
    try:
        issued = secrets.issue_api_token(
            None, ttl_s=options.ttl, scope=options.scope.replace(",", " ")
        )
    except errors.StackError as error:
        raise CommandError(error.message) from error
    _say(json.dumps({"token": issued, "ttl_s": options.ttl}) if options.json else issued)
    return _OK


def _logs(options: argparse.Namespace) -> int:
    if options.service not in _LOGS:
        return cli_logs.show_attempt(options)
    path = paths.logs_dir() / f"{options.service}.log"
    try:
        # One open file for both, so that nothing written in between is missed.
        with path.open("rb") as file:
            _print_tail(file, options.lines)
            if options.follow:
                _follow(path, file)
    except FileNotFoundError as error:
        raise CommandError(
            f"There is no log {path}; the service has not been started in this state folder."
        ) from error
    except OSError as error:
        raise CommandError(f"The log {path} cannot be read: {error.strerror}.") from error
    return _OK


def _print_tail(file: BinaryIO, lines: int) -> None:
    end = position = file.seek(0, os.SEEK_END)
    data = b""
    while position > 0 and data.count(b"\n") <= lines:
        position = max(0, position - 65536)
        file.seek(position)
        data = file.read(end - position)
    file.seek(end)
    for line in data.decode(errors="replace").splitlines()[-lines:] if lines else []:
        _say(line)


def _follow(path: Path, file: BinaryIO) -> None:
    """Print what is added, also after a start has moved the grown log aside."""
    while True:
        if chunk := file.read(65536):
            print(chunk.decode(errors="replace"), end="", flush=True)
        elif path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            with path.open("rb") as fresh:
                _follow(path, fresh)
        else:
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
