"""The compiled supervisor's source, and the tables that both supervisors use."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import rootbound_lda
from rootbound_lda.sandbox import _filter, _sys, _warm

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
    asked = {*_filter.FILE_CALLS, *_filter.SIGNAL_CALLS, *_filter.NETWORK_CALLS,
             *_filter.MOVE_CALLS}  # fmt: skip
    old = {
        "open", "creat", "unlink", "rmdir", "rename", "mkdir", "mknod", "link", "symlink", "chmod",
        "chown", "lchown", "utime", "utimes", "futimesat",
    }  # fmt: skip
    assert asked - {*_sys._X86_64, *_sys._COMMON} == set()
    assert asked - {*_sys._AARCH64, *_sys._COMMON} == old


# Where the kernel's own lists are, as Debian's linux-libc-dev puts them. aarch64 has the generic
# list and nothing else.
HEADERS = {
    "x86_64": [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")],
    "aarch64": [
        Path("/usr/include/asm-generic/unistd.h"),
        Path("/usr/aarch64-linux-gnu/include/asm-generic/unistd.h"),
    ],
}
_DEFINED = re.compile(r"#define __NR(3264)?_(\w+)\s+(\d+)$", re.MULTILINE)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_numbers_are_the_kernels(machine: str) -> None:
    found = [path for path in HEADERS[machine] if path.is_file()]
    if not found:
        pytest.skip("needs the kernel's headers (linux-libc-dev)")
    theirs = {name: int(number) for _, name, number in _DEFINED.findall(found[0].read_text())}
    assert len(theirs) > 250, "the list was read"
    ours = {**{"x86_64": _sys._X86_64, "aarch64": _sys._AARCH64}[machine], **_sys._COMMON}
    wrong = {name: (number, theirs[name]) for name, number in ours.items()
             if name in theirs and theirs[name] != number}  # fmt: skip
    assert wrong == {}
    # Headers older than the call cannot tell; all else must be there.
    assert {
        name for name in ours if name not in theirs and ours[name] < max(theirs.values())
    } == set()


_LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import rootbound_lda.sandbox._zygote
print(*(name for name in sys.modules if name not in before))
"""


def test_the_warm_process_is_made_of_what_is_handed_over_and_loads_little_besides() -> None:
    """It is started for each run, while somebody waits."""
    argv = [sys.executable, "-I", "-S", "-c", _LOADED, str(_warm.PACKAGES)]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    own = {name for name in loaded if name.startswith("rootbound_lda")}
    assert own - {"rootbound_lda.sandbox._fast"} == {f"rootbound_lda{one}" for one in _warm.MODULES}
    slow = {"typing", "dataclasses", "inspect", "pathlib", "platform", "asyncio", "importlib"}
    assert not slow & set(loaded)
