"""Ctrl-C during the demonstration, then `rootbound down`: nothing of ours is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.environment import interruptible

# What the demonstration prints when a gate of its first attempt begins.
MARK = "gate     install …"


@pytest.mark.timeout(280)
def test_nothing_is_left_after_ctrl_c_and_down(
    home: Path,
    tmp_path: Path,
    archives: dict[str, Path],
    eventually: Callable[..., None],
    processes_of: Callable[[], list[psutil.Process]],
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    # As on somebody's second demonstration, which has the downloads of the first.
    shutil.copytree(next(iter(archives.values())).parent, home / "cache/demo")
    demo = subprocess.Popen(
        [sys.executable, "-m", "rootbound.cli", "demo", "--workdir", str(tmp_path / "scratch")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    assert demo.stdout is not None
    seen = []
    for line in demo.stdout:
        seen.append(line)
        if MARK in line:
            break
    else:
        pytest.fail("the moment never came:\n" + "".join(seen))
    os.killpg(demo.pid, signal.SIGINT)
    drain = threading.Thread(target=lambda: seen.extend(demo.stdout or ()), daemon=True)
    drain.start()
    assert demo.wait(60) == 130, "".join(seen)
    drain.join(10)
    assert "Traceback" not in "".join(seen)
    done = subprocess.run(
        [sys.executable, "-m", "rootbound.cli", "down"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    eventually(lambda: not processes_of(), "every process of the state folder to be gone")
