"""Environments and waiting, shared by the tests."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

OURS = ("ROOTBOUND_", "DJANGO_", "GLM_", "GEMINI_", "JUPYTER", "JPY_")


def clean_env(home: Path, **extra: str) -> dict[str, str]:
    """Return the machine's environment without any of our variables, for one state folder.

    An activated virtual environment is left out: agents would run its Python, and what is installed
    in it from folders of the developer's own they may not read and would ask for.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    activated = env.pop("VIRTUAL_ENV", None)
    if activated is not None:
        places = env.get("PATH", "").split(os.pathsep)
        env["PATH"] = os.pathsep.join(one for one in places if not one.startswith(activated))
    env["ROOTBOUND_HOME"] = str(home)
    env.update(extra)
    return env


def wait_for(probe: Callable[[], T], *, within_s: float = 30.0, what: str = "") -> T:
    """Return the first true value of ``probe``; fail with its last one after ``within_s``."""
    deadline = time.monotonic() + within_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_s} s for {what or probe}; last saw {value!r}")
        time.sleep(0.05)


async def wait_for_async(
    probe: Callable[[], Awaitable[T]], *, within_s: float = 30.0, what: str = ""
) -> T:
    """Asynchronous :func:`wait_for`."""
    deadline = time.monotonic() + within_s
    while True:
        value = await probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_s} s for {what or probe}; last saw {value!r}")
        await asyncio.sleep(0.05)


def interruptible() -> None:
    """Let a child hear Ctrl-C, which a shell has its background jobs ignore; for ``preexec_fn``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
