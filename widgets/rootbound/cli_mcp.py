"""The command line: ``rootbound mcp``, an MCP server on standard input and output."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from rootbound import paths
from rootbound.cli_common import CommandError, Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Add ``mcp``.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    mcp = subparsers.add_parser(
        "mcp",
        help="serve MCP on standard input and output",
        description="Passes every message on to /mcp of the running server: that of ROOTBOUND_URL "
        "and ROOTBOUND_TOKEN, else the stack of this state folder. Approving is not offered.",
    )
    mcp.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        import anyio
        from mcp.client.streamable_http import streamable_http_client
        from mcp.server.stdio import stdio_server
    except ModuleNotFoundError as error:
        raise CommandError(
            'This command needs the server part: pip install "rootbound[server]"'
        ) from error
    import httpx

    from rootbound.discovery import find_endpoint

    home = None if os.environ.get("ROOTBOUND_URL") else paths.state_dir()
    endpoint = find_endpoint(home=home)

    async def serve() -> None:
        timeout = httpx.Timeout(30, read=300)
        async with (
            httpx.AsyncClient(headers=endpoint.headers, timeout=timeout, trust_env=False) as http,
            stdio_server() as (from_client, to_client),
            streamable_http_client(f"{endpoint.url}/mcp", http_client=http) as (
                from_server, to_server, _,
            ),
            anyio.create_task_group() as group,
        ):  # fmt: skip
            group.start_soon(_pump, from_server, to_client)
            await _pump(from_client, to_server)
            group.cancel_scope.cancel()

    anyio.run(serve)
    return 0


async def _pump(source: Any, target: Any) -> None:
    async for message in source:
        if isinstance(message, Exception):
            sys.stderr.write(f"rootbound mcp: {message}\n")
            continue
        await target.send(message)
