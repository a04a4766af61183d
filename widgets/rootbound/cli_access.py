"""The command line: ``rootbound access list | grant | refuse``."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from rootbound import paths
from rootbound.errors import RootboundError

if TYPE_CHECKING:
    from rootbound.access import AccessRequest
    from rootbound.client import Client

__all__ = ["add_parser"]

Subparsers = Any  # argparse's own type has no public name


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

    listing = verbs.add_parser("list", help="show what agents ask for")
    listing.add_argument("--all", action="store_true", help="decided and expired ones as well")
    listing.add_argument("--attempt", metavar="ID", help="of one attempt only")
    listing.add_argument("--json", action="store_true", help="print them as JSON")
    listing.set_defaults(run=_list)

    grant = verbs.add_parser("grant", help="grant what is asked for")
    grant.add_argument("request", metavar="ID", help="of the request; its beginning is enough")
    grant.add_argument("--always", action="store_true", help="not for this task only")
    grant.add_argument("--folder", metavar="PATH", help="grant this instead of what is proposed")
    grant.set_defaults(run=_grant)

    refuse = verbs.add_parser("refuse", help="refuse, or take back what the task was granted")
    refuse.add_argument("request", metavar="ID", help="of the request; its beginning is enough")
    refuse.set_defaults(run=_refuse)


def _client() -> Client:
    from rootbound.client import connect

    try:
        return connect(home=paths.state_dir())
    except RootboundError as error:
        raise _command_error(error) from error


def _command_error(error: RootboundError) -> Exception:
    from rootbound.cli import CommandError

    return CommandError(error.detail)


def _list(options: argparse.Namespace) -> int:
    with _client() as client:
        try:
            status = None if options.all else "PENDING"
            found = client.access_requests(attempt=options.attempt, status=status)
        except RootboundError as error:
            raise _command_error(error) from error
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
    from rootbound.cli import CommandError

    found = [one for one in client.access_requests() if one.id.startswith(beginning.lower())]
    if len(found) != 1:
        few = "no request" if not found else "more than one request"
        raise CommandError(f"{few.capitalize()} begins with {beginning}; see `access list --all`.")
    return found[0]


def _grant(options: argparse.Namespace) -> int:
    with _client() as client:
        try:
            request = _find(client, options.request)
            scope: Any = "always" if options.always else "task"
            granted = request.grant(scope, folder=options.folder)
        except RootboundError as error:
            raise _command_error(error) from error
    what = "read" if granted.operation == "READ" else "write"
    reach = "always" if options.always else "for this task"
    print(f"Granted {what} access to {granted.granted_folder} {reach}.")
    return 0


def _refuse(options: argparse.Namespace) -> int:
    with _client() as client:
        try:
            refused = _find(client, options.request).refuse()
        except RootboundError as error:
            raise _command_error(error) from error
    print(f"Refused access to {refused.folder}.")
    return 0
