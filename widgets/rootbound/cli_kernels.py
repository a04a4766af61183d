"""The command line: ``rootbound kernels install | list | remove``."""

from __future__ import annotations

import argparse
import json

from rootbound import rooted
from rootbound.cli_common import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Add ``kernels`` and what it can do.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    kernels = subparsers.add_parser(
        "kernels",
        help="offer kernels in Jupyter that are confined like agents",
        description="A confined kernel writes in the granted folders only, and what it touches is "
        "in the audit.",
    )
    verbs = kernels.add_subparsers(title="commands", metavar="COMMAND", required=True)

    install = verbs.add_parser("install", help="offer a confined kernel in Jupyter")
    install.add_argument("--kernel", default="", metavar="NAME", help="to confine; default Python")
    install.add_argument("--name", default="", help="of the new kernel; default NAME-rooted")
    install.add_argument("--title", default="", help="shown in the launcher")
    install.add_argument("--network", action="store_true", help="let it reach the network")
    install.add_argument(
        "--accept-tier", choices=["A", "B", "C"], default="",
        help="start it where the machine enforces less than attempts need",
    )  # fmt: skip
    where = install.add_mutually_exclusive_group()
    where.add_argument("--prefix", metavar="FOLDER", help="install below this folder")
    where.add_argument("--user", action="store_true", help="install it for every environment")
    install.add_argument("--json", action="store_true", help="print where it is as JSON")
    install.set_defaults(run=_install)

    listing = verbs.add_parser("list", help="show the confined kernels that Jupyter offers")
    listing.add_argument("--json", action="store_true", help="print them as JSON")
    listing.set_defaults(run=_list)

    remove = verbs.add_parser("remove", help="take a confined kernel off Jupyter's list")
    remove.add_argument("name", metavar="NAME", help="as `rootbound kernels list` shows it")
    remove.add_argument("--json", action="store_true", help="print the name as JSON")
    remove.set_defaults(run=_remove)


def _install(options: argparse.Namespace) -> int:
    where = rooted.install(
        base=options.kernel, name=options.name, title=options.title, network=options.network,
        accept_tier=options.accept_tier, prefix=options.prefix, user=options.user,
    )  # fmt: skip
    return _say(options, where.name, str(where), f"Installed {where.name} in {where}.")


def _list(options: argparse.Namespace) -> int:
    found = rooted.installed()
    rows = [
        {
            "name": name,
            "title": one["spec"]["display_name"],
            "folder": one["resource_dir"],
            **one["spec"]["metadata"]["kernel_provisioner"].get("config", {}),
        }
        for name, one in sorted(found.items())
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("There is no confined kernel: `rootbound kernels install`.")
    for row in () if options.json else rows:
        network = "  with the network" if row.get("network") else ""
        print(f"{row['name']}  {row['title']}  {row['folder']}{network}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    rooted.remove(options.name)
    return _say(options, options.name, None, f"Removed {options.name}.")


def _say(options: argparse.Namespace, name: str, folder: str | None, sentence: str) -> int:
    print(json.dumps({"name": name, "folder": folder}) if options.json else sentence)
    return 0
