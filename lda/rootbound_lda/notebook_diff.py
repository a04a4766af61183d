"""Diffs of notebooks by cell: of their sources and outputs, not of their JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from .git import Git

__all__ = ["AT_ONCE", "TOTAL_S", "Comparer", "by_cell"]

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of a notebook with its outputs; one that is larger is shown as it is stored."""

MAX_FILES: Final = 50

FILE_S: Final = 8.0
"""How long one notebook is compared, in seconds; those who wait for the answer give up at 30."""

TOTAL_S: Final = 20.0
"""How long all notebooks of a diff are compared, in seconds."""

MAX_TOTAL: Final = 16 * 1024 * 1024
"""Of what is said of all notebooks of a diff, in bytes; those that come then are only named."""

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Of what is said of one notebook, in bytes; its own limits keep it far below."""

_log = logging.getLogger(__name__)
AT_ONCE: Final = asyncio.Semaphore(2)
# Without it, the schema checker of nbformat compiles a grammar of addresses, which no notebook
# needs, for four fifths of the time that it takes to start.
_START: Final = (
    "import sys; sys.modules['rfc3987_syntax'] = None; "
    f"from {__package__}.notebook_cells import main; main()"
)
_PROGRAM: Final = (sys.executable, "-P", "-X", "utf8", "-c", _START)


async def by_cell(git: Git, found: dict[str, Any]) -> None:
    """Put a diff by cell beside each notebook's patch, which becomes one of the cells' sources.

    A notebook that cannot be compared so says why, in ``notebook.note``; one that is too large,
    or cannot be read as one, keeps its patch.

    Parameters
    ----------
    git
        The repository.
    found
        What `diffs.diff` returned; changed in place.
    """
    notebooks = [file for file in found["files"] if file["path"].lower().endswith(".ipynb")]
    if not notebooks:
        return
    async with AT_ONCE:
        comparer = Comparer(time.monotonic() + TOTAL_S)
        try:
            for number, file in enumerate(notebooks):
                if number >= MAX_FILES or comparer.size > MAX_TOTAL:
                    _note(file, "Enough notebooks are compared by cell above; this one is not.")
                    continue
                await _compare(git, found["base"], found["head"], file, comparer)
        finally:
            await comparer.end()


async def _compare(
    git: Git, base: str, head: str, file: dict[str, Any], comparer: Comparer
) -> None:
    before = "" if file["status"] == "added" else file["old_path"] or file["path"]
    after = "" if file["status"] == "deleted" else file["path"]
    old = await _source(git, base, before)
    new = await _source(git, head, after)
    if (before and old is None) or (after and new is None):
        # To say that nothing differs would be worse than a patch of JSON.
        most = MAX_BYTES // 1024**2
        _note(file, f"The notebook is over {most} MB, too large to be compared by cell.")
        return
    request = {"path": file["path"], "old": old, "new": new}
    for answer in await comparer.answers(request):
        if "patch" in answer:
            file |= answer | {"by_cell": True}
        elif "notebook" in answer:
            file["notebook"] = answer["notebook"]
        else:
            _note(file, answer["note"])


def _note(file: dict[str, Any], sentence: str) -> None:
    file["notebook"] = {"cells": [], "metadata": [], "note": sentence}


async def _source(git: Git, commit: str, path: str) -> str | None:
    """Return a file at a commit, ``None`` when it is not there or too large."""
    if not path:
        return None
    name = f"{commit}:{path}"
    size = await git.run("cat-file", "-s", name, ok=(0, 128))
    if size.code != 0 or int(size.text or 0) > MAX_BYTES:
        return None
    shown = await git.run("cat-file", "blob", name)
    return shown.stdout.decode("utf-8", "replace")


@dataclass(slots=True)
class Comparer:
    """The program that compares, which is started when first needed, and anew after it hung.

    Attributes
    ----------
    until
        When all must be done, by the monotonic clock.
    size
        Of what it answered, in bytes.
    """

    until: float
    size: int = 0
    process: asyncio.subprocess.Process | None = None

    async def answers(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what `notebook_cells` answers, up to a note when it takes too long.

        Parameters
        ----------
        request
            ``path`` and the arguments of `notebook_cells.answers` or `notebook_cells.merged`.
        """
        path = request["path"]
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(min(FILE_S, self.until - time.monotonic())):
                answer, tell = await self._started()
                tell.write(json.dumps(request).encode() + b"\n")
                await tell.drain()
                while not found or "patch" in found[-1]:
                    line = await answer.readline()
                    self.size += len(line)
                    found.append(json.loads(line))
        except TimeoutError:
            note = f"{path} has too many changes to be compared cell by cell in time."
        except (OSError, ValueError) as error:  # it ended; its memory has a limit, too
            _log.warning("Comparing %s by cell ended early: %s.", path, error)
            note = f"{path} is too large to be compared cell by cell."
        else:
            return found
        await self.end()
        return [*found, {"note": note}]

    async def _started(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.process is None:
            # Without our environment, which may hold keys: what it reads, an agent wrote.
            self.process = await asyncio.create_subprocess_exec(
                *_PROGRAM,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
                limit=MAX_ANSWER,
            )
        answer, tell = self.process.stdout, self.process.stdin
        assert answer is not None and tell is not None  # noqa: S101 - both are pipes
        return answer, tell

    async def end(self) -> None:
        """End the program, if there is one."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
