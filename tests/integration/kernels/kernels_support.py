"""What the tests of confined kernels share."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rootbound import rooted


class Cells:
    """Executes cells and collects what they say."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager = manager
        self.client = client

    async def run(self, code: str, *, answer: str = "") -> tuple[str, str]:
        """Return what a cell printed, and the error it ended with, "" for none."""
        said: list[str] = []

        def on_output(message: Any) -> None:
            content = message["content"]
            said.append(content.get("text") or str(content.get("data", "")))
            said.extend(content.get("traceback", ()))

        def on_stdin(_: Any) -> None:
            self.client.input(answer)

        reply = await self.client.execute_interactive(
            textwrap.dedent(code), timeout=60, output_hook=on_output, stdin_hook=on_stdin,
            allow_stdin=bool(answer),
        )  # fmt: skip
        return "".join(said), str(reply["content"].get("evalue", ""))


@contextlib.asynccontextmanager
async def kernel(cwd: Path, name: str = "python3", **config: Any) -> AsyncIterator[Cells]:
    manager = rooted.manager_class()(kernel_name=name)
    if config:
        spec = manager.kernel_spec
        spec.metadata["kernel_provisioner"]["config"].update(config)
        type(manager).kernel_spec = property(lambda _: spec)
    await manager.start_kernel(cwd=str(cwd))
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        yield Cells(manager, client)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
