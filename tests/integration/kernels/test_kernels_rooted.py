"""Confined kernels on the real stack: cells, the audit, interrupt, restart, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from rootbound import rooted
from rootbound_server_ext.provisioner import KernelRefusedError
from tests.integration.kernels.kernels_support import kernel
from tests.support.environment import clean_env, wait_for
from tests.support.live import LiveStack

pytestmark = pytest.mark.asyncio


def audited(live: LiveStack, path: Path) -> list[Any]:
    rows = live.call("GET", f"/api/audit/logs/?source=provisioner&path_prefix={path}")
    return [(row["operation"], row["result"]) for row in rows["results"]]


def leftovers(live: LiveStack) -> list[str]:
    """Return the kernels' processes that live."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(live.home / "run" / "k") in word for word in words):
            found.append(" ".join(words))
    return found


async def test_a_kernel_works_within_its_roots(live: LiveStack, repo: Path) -> None:
    beyond = live.scratch / f"{repo.name}-beyond.txt"
    async with kernel(repo) as cells:
        assert await cells.run("print(1 + 1); import os; print(os.getcwd())") == (
            f"2\n{repo}\n",
            "",
        )
        assert await cells.run("open('note.txt', 'w').write('hello'); os.rename('note.txt', 'n')") \
            == ("", "")  # fmt: skip
        said, error = await cells.run(f"open({str(beyond)!r}, 'w')")
        assert error.startswith("[Errno 13] Permission denied")
        for part in (f"{live.scratch} is in no root", str(repo), "rootbound roots add"):
            assert part in error, error
            assert part in said, "the reason stands in the cell's output"
        # `.git` lies in a root, so no root is missing.
        said, error = await cells.run("open('.git/config', 'a')")
        assert error == "[Errno 13] Permission denied: '.git/config'"
        wait_for(lambda: audited(live, beyond), within_s=15, what="the denial in the audit")
    assert not beyond.exists()
    assert (repo / "n").read_text() == "hello"
    assert audited(live, beyond) == [("WRITE", "DENIED")]
    denied = live.call("GET", f"/api/audit/logs/?path_prefix={beyond}")["results"][0]
    assert denied["detail"]["grant"] == {"folder": str(live.scratch)}
    assert ("WRITE", "ALLOWED") in audited(live, repo / "note.txt")
    # The kernel's run belongs to its user and its project, to no attempt.
    (session,) = [
        one for one in live.call("GET", "/api/kernels/")["results"] if one["cwd"] == str(repo)
    ]
    wait_for(
        lambda: live.call("GET", f"/api/kernels/{session['id']}/")["ended_at"],
        within_s=15, what="the kernel's end is known",
    )  # fmt: skip
    rows = live.call("GET", f"/api/audit/logs/?project={session['project']}")["results"]
    assert {(row["run_id"], row["attempt"]) for row in rows} == {(session["id"], None)}
    verdict = live.call("GET", f"/api/audit/verify/?run={session['id']}")
    assert verdict["ok"] and verdict["entries"] > 5


async def test_interrupt_restart_and_what_notebooks_use(live: LiveStack, repo: Path) -> None:
    wheel = repo / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("greeting.py", "WORDS = 'installed'\n")
        about = "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n"
        file.writestr("greeting-1.0.dist-info/METADATA", about)
        file.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("greeting-1.0.dist-info/RECORD", "")
    async with kernel(repo) as cells:
        await cells.run("print('ready')")
        sleeping = asyncio.create_task(cells.run(
            "import subprocess; subprocess.run(['sleep', '600']); print('woken')"
        ))  # fmt: skip
        await asyncio.to_thread(
            wait_for, lambda: _runs("sleep 600"), within_s=20, what="the child of the cell"
        )
        await cells.manager.interrupt_kernel()
        said, _ = await sleeping
        assert "KeyboardInterrupt" in said
        assert not _runs("sleep 600"), "the interrupt reached the cell's child as well"

        said, error = await cells.run("!echo $((40 + 2)) && ls *.whl")
        assert ("42" in said and wheel.name in said) and not error
        said, _ = await cells.run("%pip install --no-index greeting-1.0-py3-none-any.whl")
        assert "Successfully installed greeting-1.0" in said
        assert await cells.run("import greeting; print(greeting.WORDS)") == ("installed\n", "")
        # What the environment has counts as there; what no file has is refused at once.
        said, _ = await cells.run("%pip install httpx")
        assert "already satisfied: httpx" in said and "Successfully" not in said
        said, _ = await cells.run("!python -m pip install no-such-package")
        assert "This kernel has no network, so pip looks at local files only" in said
        assert "kernels install --network" in said and "Retrying" not in said
        assert await cells.run("print(input('name? '))", answer="Ada") == ("Ada\n", "")
        said, error = await cells.run("""
            import matplotlib.pyplot as plt
            plt.plot([1, 2])
            plt.show()
        """)
        assert "image/png" in said and not error
        said, error = await cells.run("""
            import ipywidgets
            slider = ipywidgets.IntSlider(3)
            display(slider)
        """)
        assert "application/vnd.jupyter.widget-view+json" in said and not error
        said, error = await cells.run("""
            import rootbound as rb
            client = rb.connect()
            print([project.name for project in client.projects.list()])
            client.roots.add('/srv')
        """)
        assert repo.name in said and "confined kernel may look" in error
        # Streams go through the same socket.
        said, error = await cells.run("""
            import threading
            from rootbound.board_stream import follow_board
            project = client.projects.list()[0]
            frames = follow_board(client, project.id, threading.Event())
            print(next(frames)["type"])
        """)
        assert said == "snapshot\n", error

        await cells.manager.restart_kernel()
        await cells.client.wait_for_ready(timeout=60)
        said, error = await cells.run("import greeting; print(greeting.WORDS, 'slider' in dir())")
        assert said == "installed False\n", error
        # One that dies by itself is seen to have, and can be started again.
        cells.client.execute("import os; os._exit(3)")
        await asyncio.to_thread(
            wait_for, lambda: not leftovers(live), within_s=20, what="the kernel is gone"
        )
        assert not await cells.manager.is_alive()
        assert await cells.manager.provisioner.poll() == 3
        await cells.manager.restart_kernel()
        await cells.client.wait_for_ready(timeout=60)
        await cells.run("import subprocess, sys; subprocess.Popen(['setsid', 'sleep', '601'])")
        # Until it has become what it runs, it is called after setsid.
        await asyncio.to_thread(
            wait_for, lambda: _runs("sleep 601"), within_s=20, what="the process to run"
        )
    wait_for(lambda: not leftovers(live), within_s=15, what="nothing of the kernel is left")
    assert not _runs("sleep 601")
    assert not list((live.home / "run" / "k").iterdir())


def _runs(command: str) -> bool:
    return any(
        " ".join(process.info["cmdline"] or []) == command
        for process in psutil.process_iter(["cmdline"])
    )


async def test_a_kernel_ends_with_its_jupyter_and_with_its_root(
    live: LiveStack, repo: Path, tmp_path: Path
) -> None:
    program = textwrap.dedent(f"""
        import time
        from rootbound import rooted
        manager = rooted.manager_class()(kernel_name="python3")
        import asyncio
        asyncio.run(manager.start_kernel(cwd={str(repo)!r}))
        print("started", flush=True)
        time.sleep(600)
    """)
    env = clean_env(live.home, ROOTBOUND_URL=live.url, ROOTBOUND_TOKEN=live.token)
    owner = subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "started\n"
    wait_for(lambda: leftovers(live), within_s=20, what="the kernel's process")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_for(lambda: not leftovers(live), within_s=20, what="the kernel died with its owner")

    async with kernel(repo) as cells:
        roots = live.call("GET", "/api/local-access/roots/")["results"]
        (root,) = [one for one in roots if one["canonical_path"] == str(repo)]
        await asyncio.to_thread(live.call, "DELETE", f"/api/local-access/roots/{root['id']}/")
        await asyncio.to_thread(
            wait_for, lambda: not leftovers(live), within_s=20, what="the kernel's end"
        )
        assert not await cells.manager.is_alive()


async def test_what_cannot_start_says_why(
    live: LiveStack, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOTBOUND_TOKEN", "nonsense")
    manager = rooted.manager_class()(kernel_name="python3")
    with pytest.raises(KernelRefusedError, match="refused the token"):
        await manager.start_kernel(cwd=str(repo))
    monkeypatch.setenv("ROOTBOUND_URL", "http://127.0.0.1:9")
    with pytest.raises(KernelRefusedError, match="Nothing answers"):
        await rooted.manager_class()(kernel_name="python3").start_kernel(cwd=str(repo))
    assert os.path.isdir(repo)


async def test_a_kernel_ends_with_the_lda_and_is_known_to_have(live: LiveStack, repo: Path) -> None:
    address = live.home / "run" / "lda.json"
    async with kernel(repo) as cells:
        await cells.run("import subprocess; subprocess.Popen(['setsid', 'sleep', '602'])")
        before = json.loads(address.read_text())
        os.kill(before["pid"], signal.SIGKILL)

        def renewed() -> bool:
            with contextlib.suppress(OSError, ValueError):
                return bool(json.loads(address.read_text())["boot_id"] != before["boot_id"])
            return False

        await asyncio.to_thread(wait_for, renewed, within_s=60, what="another LDA")
        await asyncio.to_thread(
            wait_for, lambda: not leftovers(live), within_s=20, what="the kernel's end"
        )
        assert not _runs("sleep 602")
        assert not await cells.manager.is_alive()
    mine = [one for one in live.call("GET", "/api/kernels/")["results"] if one["cwd"] == str(repo)]
    (session,) = mine
    wait_for(
        lambda: live.call("GET", f"/api/kernels/{session['id']}/")["ended_at"],
        within_s=30, what="the kernel's end is known",
    )  # fmt: skip
    verdict = live.call("GET", f"/api/audit/verify/?run={session['id']}")
    assert verdict["ok"] and verdict["entries"] > 5
    async with kernel(repo) as cells:
        assert await cells.run("print('again')") == ("again\n", "")
