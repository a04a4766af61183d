"""The command line: ``rootbound machine ...``, for servers that run apart from the machines."""

from __future__ import annotations

import argparse
import getpass
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootbound import paths
from rootbound.cli_common import CommandError, Subparsers, add_verb, names_of, show

if TYPE_CHECKING:
    from rootbound.client import Client
    from rootbound.machine_models import Machine

__all__ = ["add_parser"]

_COLUMNS = ("id", "name", "connected", "version", "last_seen_at", "paths")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``machine`` and what it can do.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    machine = subparsers.add_parser(
        "machine", help="connect this machine to a server that runs elsewhere"
    )
    verbs = machine.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_verb(verbs, "list", _list, help="show your machines")
    add = add_verb(verbs, "add", _add, help="add a machine and print the token for it")
    add.add_argument("name", metavar="NAME", help="what to call it")
    add.add_argument("paths", metavar="FOLDER", nargs="+", help="absolute, owned by the machine")
    change = _of_one(verbs, "set", _set, "change which folders a machine owns")
    change.add_argument("paths", metavar="FOLDER", nargs="+", help="all that it owns from now on")
    _of_one(verbs, "token", _token, "replace a machine's token and print the new one")
    _of_one(verbs, "remove", _remove, "remove a machine")
    join = verbs.add_parser(
        "join",
        help="run the Local Desktop Agent of this machine, connected to a server",
        description=(
            "Runs until it is stopped. Nothing listens on this machine. The token is read from the "
            "state folder, where it is kept, else asked for or read from standard input."
        ),
    )
    join.add_argument("url", metavar="URL", help="https address; several separated by commas")
    join.set_defaults(run=_join)


def _of_one(verbs: Subparsers, name: str, act: Any, text: str) -> argparse.ArgumentParser:
    def run(client: Client, options: argparse.Namespace) -> int:
        found = [one for one in client.machines if options.machine in (one.id, one.name)]
        if len(found) != 1:
            raise CommandError(f"You have no machine {options.machine}; see `machine list`.")
        code: int = act(client, options, found[0])
        return code

    parser = add_verb(verbs, name, run, help=text)
    argument = parser.add_argument("machine", metavar="MACHINE", help="name or id")
    argument.completer = names_of(lambda client: [one.name for one in client.machines])  # type: ignore[attr-defined]
    return parser


def _list(client: Client, options: argparse.Namespace) -> int:
    return show(options, client.machines.list(), _COLUMNS, "No machine yet; see `machine add`.")


def _add(client: Client, options: argparse.Namespace) -> int:
    return _with_token(options, client.machines.add(options.name, options.paths))


def _set(client: Client, options: argparse.Namespace, machine: Machine) -> int:
    changed = client.machines.update(machine.id, paths=options.paths)
    return show(options, changed, _COLUMNS)


def _token(client: Client, options: argparse.Namespace, machine: Machine) -> int:
    return _with_token(options, client.machines.renew_token(machine.id))


def _with_token(options: argparse.Namespace, machine: Machine) -> int:
    if options.json:
        return show(options, machine, _COLUMNS)
    print(machine.token)
    sys.stderr.write(
        f"This is the token of {machine.name}, shown this once. On that machine, give it to "
        "`rootbound machine join URL`.\n"
    )
    return 0


def _remove(client: Client, options: argparse.Namespace, machine: Machine) -> int:
    client.machines.remove(machine.id)
    print("{}" if options.json else f"Removed {machine.name}.")
    return 0


def _join(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("rootbound_lda") is None:
        raise CommandError(
            'The Local Desktop Agent is not installed; `pip install "rootbound[server]"`.'
        )
    home = paths.ensure_state_dir()
    token = paths.secrets_dir(home) / "machine.token"
    if not token.exists() or not sys.stdin.isatty():
        _keep(token, _asked(token))
    os.environ["ROOTBOUND_HOME"] = str(home)
    os.environ["ROOTBOUND_LDA_CONNECT"] = options.url
    os.execv(sys.executable, [sys.executable, "-P", "-m", "rootbound_lda"])  # noqa: S606


def _asked(token: Path) -> str:
    """Return a token from the terminal or standard input, else the one that is kept."""
    if sys.stdin.isatty():
        return getpass.getpass("The machine's token: ").strip()
    given = sys.stdin.read().strip()
    if given:
        return given
    if token.exists():
        return token.read_text(encoding="ascii").strip()
    raise CommandError(
        f"There is no token in {token}; make one with `rootbound machine add` and give it on "
        "standard input."
    )


def _keep(token: Path, text: str) -> None:
    token.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = token.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
    fresh.replace(token)
