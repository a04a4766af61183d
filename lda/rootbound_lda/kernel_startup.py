"""Runs inside a confined IPython kernel when it starts: says what a refused cell could be granted.

It is copied to where the kernel can read it, so it imports nothing but what every IPython has.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any

INSTALLS = re.compile(r"\bpip[\d.]*\s+(install|download|wheel)\b")
CANNOT_CHANGE = (
    "What the environment has, this kernel cannot change: where pip may not remove it, `%pip "
    "install --ignore-installed NAME` puts another version into the kernel's own folder."
)


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


def own_packages(prefix: str) -> None:
    """Have what pip installs for this kernel found, now and after a restart, here and in children.

    Not by PYTHONPATH from outside: what is there must not come before the kernel's own modules.
    """
    if not prefix:
        return
    bases = dict.fromkeys(("base", "platbase", "installed_base", "installed_platbase"), prefix)
    scheme = sysconfig.get_preferred_scheme("prefix")
    paths = {sysconfig.get_path(name, scheme, bases) for name in ("purelib", "platlib")}
    for path in sorted(paths):
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - a folder that is not there is not watched
        sys.path.insert(1, path)
    later = [*sorted(paths), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(later)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), f"{prefix}/bin"])


def run_pip(shell: Any, command: str) -> None:
    """Run a command that installs; when it fails, say behind its output what can be done."""
    said = []
    with subprocess.Popen(  # noqa: S602 - a cell's own command line
        shell.var_expand(command, depth=1), shell=True, executable=os.environ.get("SHELL"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as child:  # fmt: skip
        for line in child.stdout or ():
            sys.stdout.write(line)
            said.append(line)
    shell.user_ns["_exit_code"] = child.returncode
    note = os.environ.get("ROOTBOUND_PIP_NOTE")
    if "Permission denied" in "".join(said):
        note = CANNOT_CHANGE
    if note and child.returncode:
        sys.stdout.write(f"\n{note}\n")


def install() -> None:
    """Have refusals explained in the traceback and in the reply."""
    try:
        from IPython import get_ipython
    except ImportError:
        return  # another Python, started by a cell
    shell: Any = get_ipython()
    own_packages(os.environ.get("PIP_PREFIX", ""))
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

    def system(command: str) -> None:
        # `!command` and `%pip` through pipes: the machine's terminals are out of reach.
        if INSTALLS.search(command):
            run_pip(shell, command)
        else:
            shell.system_raw(command)

    if shell is not None:
        shell.set_custom_exc((PermissionError,), show)
        shell.system = system
