"""MCP by its official client, over HTTP and over standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.support.environment import clean_env, wait_for
from tests.support.live import ROOTBOUND, LiveStack, fix_calculator, rootbound

READING = {"list_projects", "list_agents", "list_tasks", "get_task", "get_attempt", "read_events"}
WRITING = {"create_task", "start_attempt", "cancel_attempt"}


@contextlib.asynccontextmanager
async def over_http(live: LiveStack, token: str, url: str = "") -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        streamable_http_client(url or f"{live.url}/mcp", http_client=http) as (reading, writing, _),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def over_stdio(live: LiveStack) -> AsyncIterator[ClientSession]:
    server = StdioServerParameters(command=ROOTBOUND, args=["mcp"], env=clean_env(live.home))
    async with (
        stdio_client(server) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        yield session


@contextlib.contextmanager
def jupyter_server(live: LiveStack, folder: Path) -> Iterator[str]:
    """Run a Jupyter server on the stack; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser",
                f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
                "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}",
                "--ServerApp.jpserver_extensions={'rootbound_server_ext': True}",
                "--IdentityProvider.token=jupyters-own", "--RootboundApp.autostart=off",
            ],
            env=clean_env(live.home, **own), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{url}/api"), what=url)
        yield url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.asyncio
async def test_a_jupyter_server_passes_it_on_with_its_own_token(
    live: LiveStack, tmp_path: Path
) -> None:
    with jupyter_server(live, tmp_path) as url:
        stranger = httpx.post(f"{url}/rootbound/mcp", json={}, trust_env=False)
        assert stranger.status_code == 403
        async with over_http(live, "jupyters-own", url=f"{url}/rootbound/mcp") as session:
            assert await names(session) == READING | WRITING
            assert "results" in await use(session, "list_projects")


async def use(session: ClientSession, name: str, **arguments: Any) -> Any:
    answer = await session.call_tool(name, arguments)
    assert not answer.isError, answer.content
    return answer.structuredContent


async def refusal(session: ClientSession, name: str, **arguments: Any) -> str:
    answer = await session.call_tool(name, arguments)
    assert answer.isError
    return str(answer.content[0].text)  # type: ignore[union-attr]


async def names(session: ClientSession) -> set[str]:
    return {tool.name for tool in (await session.list_tools()).tools}


def token(live: LiveStack, scopes: str) -> str:
    made = rootbound(live.home, "token", "--scope", scopes)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@pytest.mark.asyncio
async def test_a_task_is_made_done_and_read_over_both_transports(live: LiveStack) -> None:
    made = live.make_project("over-mcp")
    live.replay.by_title["Repair add over MCP"] = fix_calculator()
    async with over_http(live, token(live, "mcp:read,mcp:write")) as http:
        assert await names(http) == READING | WRITING
        projects = (await use(http, "list_projects"))["results"]
        assert made["id"] in {project["id"] for project in projects}
        assert (await use(http, "list_agents"))["results"]
        task = await use(http, "create_task", project_id=made["id"], title="Repair add over MCP",
                         agent_role="BACKEND")  # fmt: skip
        attempt = await use(http, "start_attempt", task_id=task["id"])
        # What the API refuses is a sentence that a model can read.
        assert "already has an attempt" in await refusal(http, "start_attempt", task_id=task["id"])
        assert "no such task" in await refusal(http, "get_task", task_id=str(uuid.uuid4()))
        assert "validation" in await refusal(http, "get_task", task_id="../../projects")
        assert "may not use" in await refusal(http, "approve_attempt", attempt_id=attempt["id"])
    async with over_stdio(live) as stdio:
        assert await names(stdio) == READING | WRITING
        deadline = asyncio.get_running_loop().time() + 90
        while (found := await use(stdio, "get_attempt", attempt_id=attempt["id"]))["status"] in (
            "QUEUED", "RUNNING", "GATES",
        ):  # fmt: skip
            assert asyncio.get_running_loop().time() < deadline, found
            await asyncio.sleep(0.2)
        assert found["status"] == "REVIEW"
        assert (await use(stdio, "get_task", task_id=task["id"]))["status"] == "REVIEW"
        tasks = (await use(stdio, "list_tasks", project_id=made["id"]))["results"]
        assert [one["id"] for one in tasks] == [task["id"]]
        seen, after = [], 0
        while after is not None:
            page = await use(stdio, "read_events", attempt_id=attempt["id"], after=after, limit=7)
            seen += [event["seq"] for event in page["results"]]
            after = page["next"]
        assert seen == list(range(1, len(seen) + 1))
        refused = await refusal(stdio, "cancel_attempt", attempt_id=attempt["id"])
        assert "a queued or running one" in refused


@pytest.mark.asyncio
async def test_a_token_reaches_what_its_scopes_name_and_nothing_else(live: LiveStack) -> None:
    reading = token(live, "mcp:read")
    async with over_http(live, reading) as session:
        assert await names(session) == READING
        assert "may not use" in await refusal(
            session, "create_task", project_id=str(uuid.uuid4()), title="No"
        )
    async with over_http(live, token(live, "mcp:review")) as session:
        assert await names(session) == {"approve_attempt"}
    rest = httpx.get(f"{live.url}/api/projects/", headers={"Authorization": f"Bearer {reading}"})
    assert (rest.status_code, "not meant for the API" in rest.text) == (401, True)
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Cookie": f"token={reading}"}):
        refused = httpx.post(f"{live.url}/mcp", json={}, headers=headers)
        assert refused.status_code == 401
        assert "rootbound token" in refused.json()["detail"]
    wrong = rootbound(live.home, "token", "--scope", "mcp:everything")
    assert wrong.returncode == 1
    assert "There is no scope 'mcp:everything'" in wrong.stderr
