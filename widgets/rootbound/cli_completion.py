"""The command line: ``rootbound completion bash | zsh | fish``."""

from __future__ import annotations

import argparse
import json
import os

from rootbound.cli_common import Subparsers

__all__ = ["add_parser", "answer"]

_SHELLS = ("bash", "zsh", "fish")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``completion``.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    completion = subparsers.add_parser(
        "completion",
        help="print the completion for a shell",
        description='Bash and zsh: eval "$(rootbound completion bash)" in their start-up file, in '
        "zsh's below its compinit; fish: rootbound completion fish > "
        "~/.config/fish/completions/rootbound.fish",
    )
    completion.add_argument("shell", choices=_SHELLS, help="yours")
    completion.add_argument("--json", action="store_true", help="print it as JSON")
    completion.set_defaults(run=_completion)


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, and end; return at once for anybody else.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        With all commands.
    """
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # only for completion

        argcomplete.autocomplete(parser)


def _completion(options: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    code = shellcode(["rootbound"], shell=options.shell)
    print(json.dumps({"shell": options.shell, "code": code}) if options.json else code)
    return 0
