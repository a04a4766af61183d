"""`rootbound demo`: the main job, end to end, on a real project."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the sub-command `demo`.

    Parameters
    ----------
    subparsers : argparse._SubParsersAction
        What `ArgumentParser.add_subparsers` returned.

    Returns
    -------
    argparse.ArgumentParser
        The parser of the sub-command; its default `run` takes the parsed arguments and
        returns the exit code.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="do the main job once, on a real project",
        description="Download two releases of a real library, let agents make the failing tests "
        "of the newer one pass on the older one, and show what happened.",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="DIR",
        help="folder for this run's scratch folder (default: ~/rootbound-demo)",
    )
    parser.add_argument(
        "--provider",
        choices=("auto", "glm", "gemini", "replay"),
        default="auto",
        help="whose model works; auto takes the vendor whose key is set, else the replayed model",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the unpacked releases and the test environment beside the repository",
    )
    parser.add_argument(
        "--no-merge",
        action="store_true",
        help="stop at the first review and leave the decision to you",
    )
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration.

    Parameters
    ----------
    arguments : argparse.Namespace
        `workdir`, `provider`, `keep` and `no_merge`.

    Returns
    -------
    int
        0 when everything held, 1 when something did not, 130 after Ctrl-C.
    """
    from rootbound.demo.command import run_demo  # noqa: PLC0415, RUF100

    return run_demo(
        workdir=arguments.workdir,
        provider=arguments.provider,
        keep=arguments.keep,
        merge=not arguments.no_merge,
    )
