"""The command line: ``rootbound access list | grant | refuse``."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from rootbound.cli_common import CommandError, Subparsers, add_verb

if TYPE_CHECKING:
    from rootbound.access import AccessRequest
    from rootbound.client import Client

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Add ``access`` and what it can do.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    access = subparsers.add_parser(
        "access", help="decide what agents were denied", description="Decide what was denied."
    )
    verbs = access.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = add_verb(verbs, "list", _list, help="show what agents ask for")
    listing.add_argument("--all", action="store_true", help="decided and expired ones as well")
    listing.add_argument("--attempt", metavar="ID", help="of one attempt only")

    grant = add_verb(verbs, "grant", _grant, help="grant what is asked for")
    grant.add_argument("request", metavar="ID", help="of the request; its beginning is enough")
    grant.add_argument("--always", action="store_true", help="not for this task only")
    grant.add_argument("--folder", metavar="PATH", help="grant this instead of what is proposed")

    refuse = add_verb(
        verbs, "refuse", _refuse, help="refuse, or take back what the task was granted"
    )
    refuse.add_argument("request", metavar="ID", help="of the request; its beginning is enough")


def _list(client: Client, options: argparse.Namespace) -> int:
    status = None if options.all else "PENDING"
    found = client.access_requests(attempt=options.attempt, status=status)
    if options.json:
        print(json.dumps([request.raw for request in found], indent=2))
    elif not found:
        print("Nothing is asked for.")
    else:
        for request in found:
            print(_line(request))
    return 0


def _line(request: AccessRequest) -> str:
    scope = f" ({request.scope.lower()})" if request.scope else ""
    times = f", {request.count} times" if request.count > 1 else ""
    return (
        f"{request.id[:8]}  {request.status}{scope}  {request.operation} {request.folder}"
        f"  [{request.program or 'tool'}: {request.path}{times}]"
    )


def _find(client: Client, beginning: str) -> AccessRequest:
    found = [one for one in client.access_requests() if one.id.startswith(beginning.lower())]
    if len(found) != 1:
        few = "no request" if not found else "more than one request"
        raise CommandError(f"{few.capitalize()} begins with {beginning}; see `access list --all`.")
    return found[0]


def _grant(client: Client, options: argparse.Namespace) -> int:
    request = _find(client, options.request)
    granted = request.grant("always" if options.always else "task", folder=options.folder)
    what = "read" if granted.operation == "READ" else "write"
    reach = "always" if options.always else "for this task"
    return _say(options, granted, f"Granted {what} access to {granted.granted_folder} {reach}.")


def _refuse(client: Client, options: argparse.Namespace) -> int:
    refused = _find(client, options.request).refuse()
    return _say(options, refused, f"Refused access to {refused.folder}.")


def _say(options: argparse.Namespace, request: AccessRequest, sentence: str) -> int:
    print(json.dumps(request.raw, indent=2) if options.json else sentence)
    return 0
