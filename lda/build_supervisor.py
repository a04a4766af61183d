"""Build hook: compiles the supervisor's hot loop into the package, where that is possible.

Without a C compiler, Python's headers or Linux the package is complete all the same: the
supervisor in Python does the same work more slowly. With ROOTBOUND_SUPERVISOR=python it is left
out on purpose.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("lda/rootbound_lda/sandbox")
NAME = "_fast.abi3.so"
FLAGS = (
    "-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2", "-Wall", "-Wextra", "-Wl,-z,relro,-z,now",
)  # fmt: skip


class NotPossibleError(Exception):
    """It cannot be compiled here; the text says why."""


def compile_to(root: Path, target: Path, *extra: str) -> None:
    """Compile the sources beneath `root` into one shared library.

    Raises
    ------
    NotPossibleError
        If there is no compiler, or it fails.
    """
    if sys.platform != "linux":
        raise NotPossibleError("it is for Linux alone")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise NotPossibleError("Python's headers are not installed")
    sources = sorted(str(path) for path in (root / FOLDER / "_native").glob("*.c"))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / NAME
        command = [*_compiler(), *FLAGS, *extra, f"-I{headers}", "-o", str(made), *sources]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotPossibleError(f"the compiler failed: {done.stderr.strip()[-500:]}")
        # Never written in place: processes may have the old one mapped.
        fresh = target.with_name(f".{NAME}.{os.getpid()}")
        shutil.copyfile(made, fresh)
        fresh.chmod(0o755)
        fresh.replace(target)


def _compiler() -> list[str]:
    for words in (os.environ.get("CC", ""), sysconfig.get_config_var("CC") or "", "cc", "gcc"):
        command = shlex.split(words)
        if command and shutil.which(command[0]):
            return command
    raise NotPossibleError("there is no C compiler")


class SupervisorHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled part to a wheel, or puts it in place for an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling of the file and the platform it is for."""
        root = Path(self.root)
        placed = root / FOLDER / NAME
        if os.environ.get("ROOTBOUND_SUPERVISOR") == "python":
            self.app.display_info("The compiled supervisor is left out, as asked for.")
            return
        target = placed
        if version != "editable":
            self._folder = tempfile.TemporaryDirectory()
            target = Path(self._folder.name) / NAME
        try:
            compile_to(root, target)
        except NotPossibleError as error:
            self.app.display_warning(
                f"The compiled supervisor is left out, because {error}; the one in Python is used."
            )
            return
        if version != "editable":
            build_data["force_include"][str(target)] = f"rootbound_lda/sandbox/{NAME}"
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made on the way."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
