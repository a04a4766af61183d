"""Batches as processes of the LDA's, with a small program in the place of the command line."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid

import msgspec
import pytest

from rootbound_lda.batches import BatchManager, BatchRequest
from rootbound_lda.config import ConfigError, load
from rootbound_lda.runs import RunRefused
from tests.support.environment import wait_for_async

PROGRAM = """
import json, os, sys, time
output = sys.argv[sys.argv.index("-o") + 1]
open(output, "a").write(json.dumps({"argv": sys.argv[1:], "environ": dict(os.environ)}))
mode = sys.argv[sys.argv.index("-p") + 1].split("=")[1]
if mode == "wait":
    time.sleep(600)
print("Two attempts failed.", file=sys.stderr)
sys.exit(3 if mode == "fail" else 0)
"""


def request(notebook, mode, **fields):
    facts = {
        "batch_id": str(uuid.uuid4()), "launch": 1, "notebook": str(notebook),
        "url": "http://127.0.0.1:1", "token": "hush", "parameters": {"mode": mode},
        "agent_folders": [], "repositories": [],
    }  # fmt: skip
    return msgspec.convert({**facts, **fields}, BatchRequest)


@pytest.mark.asyncio
async def test_a_batch_runs_once_ends_is_cut_off_and_goes_on(home, tmp_path):
    config = load({"ROOTBOUND_HOME": str(home)})
    environ = {"PATH": "/usr/bin", "GLM_API_KEY": "secret", "ROOTBOUND_STACK_ID": "s"}

    def manager():
        return BatchManager(config, environ, program=(sys.executable, "-c", PROGRAM))

    batches = manager()
    notebook = tmp_path / "night.ipynb"
    with pytest.raises(RunRefused, match="no notebook"):
        await batches.submit(request(notebook, "fail"))
    notebook.write_text("{}")
    asked = request(notebook, "fail", parameters={"mode": "fail", "n": 2, "b": True, "l": [1]},
                    max_parallel=3)  # fmt: skip
    await batches.submit(asked)
    await batches.submit(asked)  # the same hand-over again

    async def ended():
        found = await batches.describe(asked.batch_id)
        return found if found["state"] == "ENDED" else None

    state = await wait_for_async(ended)
    assert (state["exit_code"], state["message"]) == (3, "Two attempts failed.")
    # One document: it ran once. The secret is in the environment alone, and no key is there.
    seen = json.loads(await batches.report(asked.batch_id))
    assert seen["argv"][:3] == ["batch", "run", str(notebook)]
    assert [*seen["argv"][5:]] == [
        "-p", "mode=fail", "-p", "n=2", "-p", "b=True", "-p", "l=[1]", "--max-parallel", "3",
    ]  # fmt: skip
    assert "hush" not in str(seen["argv"])
    assert (seen["environ"]["ROOTBOUND_TOKEN"], seen["environ"].get("GLM_API_KEY")) == (
        "hush",
        None,
    )

    waiting = request(notebook, "wait")
    await batches.submit(waiting)
    batches._live[waiting.batch_id].task.cancel()  # it would not see the end of its process
    after_crash = manager()  # as after kill -9: what was at work is ended, and known to be cut off
    await after_crash.start()
    assert (await after_crash.describe(waiting.batch_id))["state"] == "LOST"
    again = msgspec.structs.replace(waiting, launch=2, parameters={"mode": "done"})
    await after_crash.submit(again)

    async def done():
        return (await after_crash.describe(waiting.batch_id))["exit_code"] == 0

    await wait_for_async(done)
    cancelled = request(notebook, "wait")
    await after_crash.submit(cancelled)
    await after_crash.cancel(cancelled.batch_id)

    async def gone():
        return (await after_crash.describe(cancelled.batch_id))["state"] == "ENDED"

    await wait_for_async(gone)
    with pytest.raises(RunRefused, match="no such batch"):
        await after_crash.describe("../outbox")
    await batches.stop()
    await after_crash.stop()


@pytest.mark.asyncio
async def test_a_notebook_that_agents_may_write_is_not_executed(home, tmp_path):
    batches = BatchManager(
        load({"ROOTBOUND_HOME": str(home)}), {}, program=(sys.executable, "-c", PROGRAM)
    )
    granted, repository, outer = tmp_path / "out", tmp_path / "src/app", tmp_path / "src"
    for folder in (granted, repository / "out"):
        folder.mkdir(parents=True)
    for notebook in (granted / "n.ipynb", repository / "n.ipynb", repository / "out/n.ipynb"):
        notebook.write_text("{}")
    (tmp_path / "link.ipynb").symlink_to(granted / "n.ipynb")
    (tmp_path / "folder").symlink_to(granted)

    async def refused(notebook, *folders):
        asked = request(
            notebook, "done", agent_folders=[str(one) for one in folders],
            repositories=[str(repository)],
        )  # fmt: skip
        with pytest.raises(RunRefused, match="Agents may write in") as caught:
            await batches.submit(asked)
        assert not (home / "batches" / asked.batch_id).exists()
        return caught.value.code

    assert await refused(granted / "n.ipynb", granted) == "notebook-open-to-agents"
    # By whatever name, of the notebook or of the folder.
    await refused(tmp_path / "link.ipynb", granted)
    await refused(tmp_path / "folder/n.ipynb", granted)
    await refused(granted / "n.ipynb", tmp_path / "folder")
    # A grant within a repository is open to agents, one around it is mapped to worktrees.
    await refused(repository / "out/n.ipynb", outer, repository / "out")
    mine = request(
        repository / "n.ipynb", "done", agent_folders=[str(outer)], repositories=[str(repository)]
    )
    await batches.submit(mine)
    await batches.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize(("days", "left"), [("30", {"new", "live", "damaged"}), ("0", None)])
async def test_batches_that_ended_long_ago_are_removed(home, days, left):
    config = load({"ROOTBOUND_HOME": str(home), "ROOTBOUND_LDA_BATCH_DAYS": days})
    long_ago = time.time() - 31 * 86_400
    for name, state in (("old", "ENDED"), ("lost", "LOST"), ("new", "ENDED"), ("live", "RUNNING"),
                        ("damaged", None)):  # fmt: skip
        record = home / "batches" / name / "batch.json"
        record.parent.mkdir(parents=True)
        (record.parent / "report.ipynb").write_text("{}")
        record.write_text(json.dumps({"launch": 1, "state": state}) if state else "{")
        if name != "new":
            os.utime(record, (long_ago, long_ago))
    batches = BatchManager(config, {})
    await batches.start()
    found = {folder.name for folder in (home / "batches").iterdir()}
    assert found == (left or {"old", "lost", "new", "live", "damaged"})
    await batches.stop()
    with pytest.raises(ConfigError, match=r"ROOTBOUND_LDA_BATCH_DAYS is 'x'; give a number"):
        load({"ROOTBOUND_HOME": str(home), "ROOTBOUND_LDA_BATCH_DAYS": "x"})
