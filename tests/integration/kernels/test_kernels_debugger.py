"""The debugger of a confined kernel, and what else needs a loopback inside it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rootbound_lda.sandbox._bubblewrap import Wall, find
from tests.integration.kernels.kernels_support import Cells, kernel
from tests.support.live import LiveStack

pytestmark = pytest.mark.asyncio
CODE = "x = 1\ny = 2\nz = x + y\nprint(z)\n"


class Debugger:
    """Speaks the debugger's protocol over the control channel."""

    def __init__(self, cells: Cells) -> None:
        self._client = cells.client
        self._seq = 0

    async def ask(self, command: str, **arguments: Any) -> Any:
        self._seq += 1
        body = {"type": "request", "seq": self._seq, "command": command, "arguments": arguments}
        message = self._client.session.msg("debug_request", body)
        self._client.control_channel.send(message)
        async with asyncio.timeout(60):
            while True:
                reply = await self._client.control_channel.get_msg()
                if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                    assert reply["content"]["success"], reply["content"]
                    return reply["content"].get("body")

    async def until(self, event: str) -> Any:
        async with asyncio.timeout(60):
            while True:
                message = await self._client.get_iopub_msg()
                content = message["content"]
                if message["msg_type"] == "debug_event" and content.get("event") == event:
                    return content["body"]


async def test_breakpoints_and_forked_children(live: LiveStack, repo: Path) -> None:
    program = find()
    if program is None or not Wall(program).has_loopback():
        pytest.skip("without bubblewrap a kernel has no network of its own, and no debugger")
    async with kernel(repo) as cells:
        said, error = await cells.run("""
            import multiprocessing, time
            child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
            child.start(), child.join(), time.sleep(0.2)
        """)
        assert not error
        said += (await cells.run("print('end')"))[0]
        assert "child" in said
        port = live.url.rpartition(":")[2]
        _, error = await cells.run(
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        )
        assert "refused" in error, "the machine's own loopback is another one"

        debugger = Debugger(cells)
        await debugger.ask("initialize", clientID="t", adapterID="", pathFormat="path",
                           linesStartAt1=True, columnsStartAt1=True)  # fmt: skip
        await debugger.ask("attach")
        source = (await debugger.ask("dumpCell", code=CODE))["sourcePath"]
        await debugger.ask(
            "setBreakpoints", breakpoints=[{"line": 3}], source={"path": source},
            sourceModified=False,
        )  # fmt: skip
        await debugger.ask("configurationDone")
        cells.client.execute(CODE)
        stopped = await debugger.until("stopped")
        frames = await debugger.ask("stackTrace", threadId=stopped["threadId"])
        assert frames["stackFrames"][0]["line"] == 3
        await debugger.ask("continue", threadId=stopped["threadId"])
