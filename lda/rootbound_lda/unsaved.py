"""Documents that a person has open with unsaved changes: nobody else may change them meanwhile.

Editors report them for as long as they are open, each under a name of its own. A report that is not
repeated lapses, so that a browser that was closed or has lost its connection keeps nothing locked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from .config import write_atomic

TTL_S: Final = 150.0
"""How long a report holds, in seconds; a browser lets a hidden page speak once a minute."""

MAX_EDITORS: Final = 100
"""Editors of one user; the oldest report makes room."""


class _Report(msgspec.Struct):
    """What one editor said last."""

    paths: list[str]
    until: float


class UnsavedDocuments:
    """What each user's editors hold, kept in a file for the next process.

    Parameters
    ----------
    memory
        The file.
    clock
        Seconds since the epoch. Default the machine's.
    """

    def __init__(self, memory: Path, clock: Callable[[], float] = time.time) -> None:
        self._memory = memory
        self._clock = clock
        self._reports: dict[str, dict[str, _Report]] = self._recall()

    def report(self, user_id: str, editor: str, paths: Iterable[str]) -> float:
        """Take all that an editor holds now; nothing, when it has saved or closed everything.

        Parameters
        ----------
        user_id
            Whose editor it is.
        editor
            Its name, the same in each of its reports.
        paths
            Absolute paths.

        Returns
        -------
        float
            Seconds until it must be said again.
        """
        mine = self._reports.setdefault(user_id, {})
        before = mine.pop(editor, None)
        real = sorted({os.path.realpath(path) for path in paths})
        if real:
            mine[editor] = _Report(real, self._clock() + TTL_S)
            while len(mine) > MAX_EDITORS:
                mine.pop(next(iter(mine)))
        if real or before is not None:
            write_atomic(self._memory, msgspec.json.encode(self._reports))
        return TTL_S

    def holds(self, user_id: str, path: str | Path) -> bool:
        """Tell whether a user has this file open with unsaved changes."""
        return os.path.realpath(path) in self.paths(user_id)

    def paths(self, user_id: str) -> set[str]:
        """Return what a user has open with unsaved changes, free of symbolic links."""
        mine, now = self._reports.get(user_id, {}), self._clock()
        for editor in [name for name, report in mine.items() if report.until <= now]:
            mine.pop(editor, None)
        return {path for report in mine.values() for path in report.paths}

    def _recall(self) -> dict[str, dict[str, _Report]]:
        try:
            return msgspec.json.decode(
                self._memory.read_bytes(), type=dict[str, dict[str, _Report]]
            )
        except (OSError, msgspec.MsgspecError):
            return {}
