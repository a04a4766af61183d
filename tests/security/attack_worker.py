"""Runs attacks in a process of its own, so that they can be another user's.

Started with a JSON document on standard input: ``cases``, pairs of an attack's name and the way of
running it (``confined`` or ``plain``), and ``folder`` to work in. Prints one JSON line for each.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from rootbound_lda.sandbox import Sandbox
from tests.security.attack_git import GIT_ATTACKS, GitAttack, Scene, run_confined, run_plainly
from tests.security.attack_list import ATTACKS
from tests.security.attack_model import Attack
from tests.security.attack_world import make_world

AT_ONCE = 2


async def _run(attack: Attack, sandbox: Sandbox | None, folder: Path) -> dict[str, Any]:
    """Run one attack, confined if there is a sandbox, and say what was seen."""
    started = time.monotonic()
    world = make_world(Path(tempfile.mkdtemp(prefix="w", dir=folder)), attack)
    try:
        if sandbox is None:
            await asyncio.to_thread(world.plainly)
        else:
            await world.confined(sandbox)
        happened = await asyncio.to_thread(attack.effect.happened, world)
        shown = sandbox is not None and attack.evidence.shown(world)
        return {
            "happened": happened,
            "shown": shown,
            "seconds": round(time.monotonic() - started, 3),
            "output": world.output[-3000:],
            "rows": [
                f"{row['operation']} {row['result']} {row['path']}" for row in world.entries[:200]
            ],
        }
    finally:
        await asyncio.to_thread(world.close)


async def _run_git(attack: GitAttack, sandbox: Sandbox | None, folder: Path) -> dict[str, Any]:
    scene = Scene(Path(tempfile.mkdtemp(prefix="g", dir=folder)).resolve(), attack)
    try:
        if sandbox is None:
            return await asyncio.to_thread(run_plainly, scene)
        return await run_confined(scene, sandbox)
    finally:
        await asyncio.to_thread(shutil.rmtree, scene.base, True)


async def _main(job: dict[str, Any]) -> None:
    folder = Path(job["folder"])
    ways: dict[str, list[str]] = {}
    for name, way in job["cases"]:
        ways.setdefault(name, []).append(way)
    gate = asyncio.Semaphore(AT_ONCE)
    sandbox = Sandbox()
    await sandbox.start()

    async def one(attack: Attack | GitAttack) -> None:
        for way in ways.get(attack.name, []):
            box = sandbox if way == "confined" else None
            async with gate:
                try:
                    if isinstance(attack, GitAttack):
                        found = await _run_git(attack, box, folder)
                    else:
                        found = await _run(attack, box, folder)
                except Exception:
                    found = {"error": traceback.format_exc()}
            print(json.dumps({"name": attack.name, "way": way, **found}), flush=True)

    try:
        await asyncio.gather(*map(one, ATTACKS))
        # One at a time: these set variables of this whole process.
        for attack in GIT_ATTACKS:
            await one(attack)
    finally:
        await sandbox.stop()


def main() -> None:
    asyncio.run(_main(json.load(sys.stdin)))
