"""A kernel of another language in the sandbox: bash, which its kernel talks to over a terminal."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from rootbound_lda.sandbox._bubblewrap import find
from tests.integration.kernels.kernels_support import kernel
from tests.support.environment import wait_for
from tests.support.live import LiveStack

pytestmark = pytest.mark.asyncio


async def test_bash(
    live: LiveStack, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find() is None:
        pytest.skip("without bubblewrap a kernel has no terminals of its own")
    spec = {"display_name": "Bash", "language": "bash", "env": {"PS1": "$"},
            "argv": [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]}  # fmt: skip
    (tmp_path / "kernels" / "bash").mkdir(parents=True)
    (tmp_path / "kernels" / "bash" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    beyond = live.scratch / f"{repo.name}-beyond.txt"
    async with kernel(repo, "bash") as cells:
        assert await cells.run("echo $((6 * 7)); pwd; [ -t 0 ] && tty; echo x > in.txt") == (
            f"42\n{repo}\n/dev/pts/0\n",
            "",
        )
        assert (repo / "in.txt").read_text() == "x\n"
        said, _ = await cells.run(f"echo x > {beyond}")
        assert "Permission denied" in said

        def denied() -> list[str]:
            path = f"/api/audit/logs/?source=provisioner&result=DENIED&path_prefix={beyond}"
            return [row["detail"]["program"] for row in live.call("GET", path)["results"]]

        programs = await asyncio.to_thread(wait_for, denied, within_s=15, what="the denial")
        assert [Path(program).name for program in programs] == ["bash"]
        sleeping = asyncio.create_task(cells.run("touch began; sleep 600"))
        began = repo / "began"
        await asyncio.to_thread(wait_for, began.exists, within_s=20, what="the cell has begun")
        await cells.manager.interrupt_kernel()
        await sleeping
        assert await cells.run("echo again") == ("again\n", "")
    assert not beyond.exists()
