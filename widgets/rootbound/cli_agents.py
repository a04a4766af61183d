"""The command line: ``rootbound keys set | test | list`` and ``rootbound worktrees``."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import sys
from typing import TYPE_CHECKING

from rootbound.cli_common import CommandError, Subparsers, add_verb

if TYPE_CHECKING:
    from rootbound.client import Client

__all__ = ["add_parser", "ask_for_key"]

SERVICE = "rootbound"
"""Name in the OS keyring under which the Local Desktop Agent looks."""

_NAME = re.compile(r"^[A-Z][A-Z0-9_]{0,63}_API_KEY$")
_MIB = 1024 * 1024


def add_parser(subparsers: Subparsers) -> None:
    """Add ``keys`` and ``worktrees``.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    keys = subparsers.add_parser("keys", help="store and try the model providers' keys")
    verbs = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)

    setting = verbs.add_parser(
        "set",
        help="store a key in the OS keyring",
        description="The key is asked for, or read from standard input; it is never an argument.",
    )
    setting.add_argument("name", metavar="NAME", help="such as GLM_API_KEY")
    setting.add_argument("--json", action="store_true", help="print the result as JSON")
    setting.set_defaults(run=_set)

    trying = add_verb(verbs, "test", _test, help="ask each agent's model one small question")
    trying.add_argument("agent", nargs="?", metavar="AGENT", help="its name or id; default all")

    add_verb(verbs, "list", _list, help="show which keys there are, never the keys")

    worktrees = add_verb(
        subparsers, "worktrees", _worktrees, help="show and remove attempts' worktrees"
    )
    worktrees.add_argument(
        "--clean", action="store_true", help="remove what is merged, discarded or empty"
    )


def ask_for_key(name: str) -> str:
    """Ask for a key without showing it, or read it from standard input when that is no terminal.

    Parameters
    ----------
    name
        The key's name, such as ``GLM_API_KEY``.

    Raises
    ------
    CommandError
        When that is no name of a key, or nothing was entered.
    """
    if not _NAME.match(name):
        raise CommandError(f"{name!r} is no name of a key; use one such as GLM_API_KEY.")
    key = (getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        raise CommandError("There was no key; nothing was done.")
    return key


def _set(options: argparse.Namespace) -> int:
    name = options.name
    key = ask_for_key(name)
    try:
        import keyring
        from keyring.errors import KeyringError
    except ModuleNotFoundError as error:
        raise CommandError(
            'This command needs the server part: pip install "rootbound[server]"'
        ) from error
    try:
        keyring.set_password(SERVICE, name, key)
    except (KeyringError, OSError, RuntimeError) as error:
        raise CommandError(
            f"This machine has no keyring that takes it ({type(error).__name__}); set the "
            f"environment variable {name} before `rootbound up` instead."
        ) from error
    stored = f"{name} is stored in the keyring; the next run uses it."
    print(json.dumps({"stored": name}) if options.json else stored)
    return 0


def _test(client: Client, options: argparse.Namespace) -> int:
    agents = [a for a in client.agents if options.agent in (None, a.id, a.name)]
    if not agents:
        raise CommandError("There is no such agent; `rootbound agents list` shows them.")
    results = [(agent, client.test_agent(agent.id)) for agent in agents]
    if options.json:
        rows = [{"agent": agent.name, **result.raw} for agent, result in results]
        print(json.dumps(rows, indent=2))
    else:
        for agent, result in results:
            mark = "ok  " if result.ok else "FAIL"
            print(f"{mark}  {agent.name} ({agent.model}): {result.message}")
    return 0 if all(result.ok for _, result in results) else 1


def _list(client: Client, options: argparse.Namespace) -> int:
    found = client.keys()
    if options.json:
        print(json.dumps([key.raw for key in found], indent=2))
        return 0
    for key in found:
        missing = f"not set; `rootbound keys set {key.name}`"
        print(f"{key.name:<24} {missing if key.source == 'none' else key.source}")
    return 0


def _worktrees(client: Client, options: argparse.Namespace) -> int:
    removed = client.tend_worktrees().removed if options.clean else ()
    found = client.worktrees()
    if options.json:
        rows = [worktree.raw for worktree in found]
        print(json.dumps({"removed": list(removed), "worktrees": rows}, indent=2))
        return 0
    for attempt in removed:
        print(f"removed  {attempt}")
    for tree in found:
        note = "at work" if tree.live else tree.reason or tree.state.lower()
        print(f"{tree.bytes / _MIB:9.1f} MiB  {note:<10} {tree.title}  {tree.path}")
    total = sum(tree.bytes for tree in found) / _MIB
    print(f"{total:9.1f} MiB  in {len(found)} worktrees")
    return 0
