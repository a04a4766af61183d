"""What the groups of commands share: the connection, the output, completion of names."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from rootbound import paths
from rootbound.errors import RootboundError

if TYPE_CHECKING:
    from rootbound.client import Client
    from rootbound.models import Model

__all__ = [
    "Act",
    "CommandError",
    "Parser",
    "Subparsers",
    "add_verb",
    "connect",
    "names_of",
    "printable",
    "show",
]

Subparsers = Any  # argparse's own type has no public name
Act = Callable[["Client", argparse.Namespace], int]

_MAX_CELL = 60


class CommandError(Exception):
    """A command cannot do what was asked; the message is one sentence for people."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in a sentence, and what was probably meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what this command does not know is its error, not the whole program's."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self._unknown(left[0])
        return found, left

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        wrong = re.match(r"argument COMMAND: invalid choice: '(.*?)'", message)
        if wrong:
            verbs = [verb for action in self._actions for verb in action.choices or ()]
            near = difflib.get_close_matches(wrong[1], verbs, 1)
            meant = (
                f"did you mean `{self.prog} {near[0]}`?" if near else f"{self._help} lists them."
            )
            self.exit(2, f"{self.prog} has no command {wrong[1]!r}; {meant}\n")
        if message.endswith("required: COMMAND"):
            self.print_help(sys.stderr)
            self.exit(2)
        self.print_usage(sys.stderr)
        self.exit(2, f"{message[:1].upper()}{message[1:]}; {self._help} says more.\n")

    @property
    def _help(self) -> str:
        return f"`{self.prog} --help`"

    def _unknown(self, word: str) -> NoReturn:
        near = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, 1)
        meant = f"did you mean {near[0]}?" if near else f"{self._help} says what it takes."
        what = f"has no option {word}" if word.startswith("-") else f"does not take {word!r}"
        self.exit(2, f"{self.prog} {what}; {meant}\n")


def connect() -> Client:
    """Connect to the server of ``ROOTBOUND_URL``, else to the stack of this state folder.

    Raises
    ------
    DiscoveryError
        If it does not answer; the message says what to do.
    """
    from rootbound import client  # httpx is slow to import

    if os.environ.get("ROOTBOUND_URL"):
        return client.connect()
    return client.connect(home=paths.state_dir())


def add_verb(subparsers: Subparsers, name: str, act: Act, **texts: Any) -> argparse.ArgumentParser:
    """Add a command that connects, acts, and can answer in JSON.

    Parameters
    ----------
    subparsers
        The group's.
    name : str
        The command's.
    act : callable
        From the client and the parsed arguments to an exit code.
    **texts
        ``help`` and ``description``.

    Returns
    -------
    argparse.ArgumentParser
        For further arguments.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(name, **texts)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def run(options: argparse.Namespace) -> int:
        with connect() as client:
            return act(client, options)

    parser.set_defaults(run=run)
    return parser


def printable(text: str) -> str:
    """Return a text without what would move a terminal's cursor or colour it."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def show(options: argparse.Namespace, result: Any, columns: Sequence[str], empty: str = "") -> int:
    """Print one result or several, as a table or as JSON.

    Parameters
    ----------
    options : argparse.Namespace
        With ``json``.
    result : Model or iterable of Model
        What to print.
    columns : sequence of str
        The attributes that people see; JSON has the server's whole answer.
    empty : str, default ""
        What to say instead of an empty table.

    Returns
    -------
    int
        Exit code 0.
    """
    many = isinstance(result, (list, tuple))
    items: list[Model] = list(result) if many else [result]
    if options.json:
        raws = [item.raw for item in items]
        print(json.dumps(raws if many else raws[0], indent=2))
    elif not many:
        width = max(map(len, columns))
        for name in columns:
            print(f"{name:<{width}}  {_cell(getattr(items[0], name))}")
    elif items:
        _table([columns, *([_cell(getattr(item, name)) for name in columns] for item in items)])
    elif empty:
        print(empty)
    return 0


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str) if value else "-"
    return printable(str(value))


def _table(rows: Iterable[Sequence[str]]) -> None:
    # The last column may be as long as it likes; nothing stands behind it.
    cut = [[*(cell[:_MAX_CELL] for cell in row[:-1]), row[-1]] for row in rows]
    widths = [max(len(row[place]) for row in cut) for place in range(len(cut[0]))]
    for row in cut:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def names_of(read: Callable[[Client], Iterable[str]]) -> Callable[..., list[str]]:
    """Return a completer that asks the server; when there is none, nothing is offered.

    Parameters
    ----------
    read : callable
        From a client to the words.
    """

    def complete(prefix: str = "", **_kwargs: Any) -> list[str]:
        try:
            with connect() as client:
                return [word for word in read(client) if word.startswith(prefix)]
        except RootboundError:
            return []

    return complete
