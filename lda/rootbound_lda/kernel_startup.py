"""Runs inside a confined IPython kernel when it starts: says what a refused cell could be granted.

It is copied to where the kernel can read it, so it imports nothing but what every IPython has.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Any


def explain(error: OSError, roots: list[str]) -> str | None:
    """Return what a refusal means and the way out, None when it is none of the wall's."""
    name = error.filename2 if isinstance(error.filename2, (str, bytes)) else error.filename
    if not isinstance(name, (str, bytes)) or error.errno not in (errno.EACCES, errno.EPERM):
        return None
    folder = Path(os.path.realpath(os.fsdecode(name)))
    if any(folder.is_relative_to(root) for root in roots):
        return None
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    granted = ", ".join(roots) or "no folder at all"
    return (
        f"Permission denied: {folder} is in no root that this kernel may write to ({granted}). "
        f"To grant it, run `rootbound roots add {folder}` in a terminal or add it under Roots in "
        "the Rootbound panel, then restart the kernel"
    )


def install() -> None:
    """Have refusals explained in the traceback and in the reply."""
    try:
        from IPython import get_ipython
    except ImportError:
        return  # another Python, started by a cell
    shell: Any = get_ipython()
    roots = [root for root in os.environ.get("ROOTBOUND_ROOTS", "").split(os.pathsep) if root]

    def show(
        self: Any,
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType | None,
        tb_offset: int | None = None,
    ) -> None:
        if isinstance(error, OSError):
            error.strerror = explain(error, roots) or error.strerror
        self.showtraceback((kind, error, trace), tb_offset=tb_offset)

    if shell is not None:
        shell.set_custom_exc((PermissionError,), show)
        # `!command` and `%pip` through pipes: the machine's terminals are out of reach.
        shell.system = shell.system_raw
