"""The compiled supervisor's source, and the tables that both supervisors use."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import rootbound_lda
from rootbound_lda.sandbox import _filter, _sys

SOURCES = Path(rootbound_lda.__file__).parent / "sandbox" / "_native"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.skipif(
    not (Path(sysconfig.get_path("include")) / "Python.h").is_file(),
    reason="needs Python's headers",
)
def test_the_source_compiles_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        ["cc", "-std=c11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror",
         "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", f"-I{sysconfig.get_path('include')}",
         "-o", str(tmp_path / "out.so"), *sorted(map(str, SOURCES.glob("*.c")))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_call_that_is_asked_about_has_a_number_on_both_machines() -> None:
    """A call that one of them lacks by design is one that its newer form replaced."""
    asked = {*_filter.FILE_CALLS, *_filter.SIGNAL_CALLS, *_filter.NETWORK_CALLS, "umask"}
    old = {
        "open", "creat", "unlink", "rmdir", "rename", "mkdir", "mknod", "link", "symlink", "chmod",
        "chown", "lchown", "utime", "utimes", "futimesat",
    }  # fmt: skip
    assert asked - {*_sys._X86_64, *_sys._COMMON} == set()
    assert asked - {*_sys._AARCH64, *_sys._COMMON} == old
