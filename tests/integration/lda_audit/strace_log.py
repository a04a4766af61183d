"""Reads what strace wrote: which paths a process tree changed."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NEW_NAMES = ("mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat")
_REMOVALS = ("unlink", "unlinkat", "rmdir")
_RENAMES = ("rename", "renameat", "renameat2")
_OPENS = ("open", "openat", "openat2", "creat")
_CHANGES = (
    "truncate", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown",
    "fchownat", "utime", "utimes", "futimesat", "utimensat", "setxattr", "lsetxattr",
    "fsetxattr", "removexattr", "lremovexattr", "fremovexattr",
)  # fmt: skip
_PLACES = ("chdir", "fchdir", "clone", "clone3", "fork", "vfork")
CALLS = (*_NEW_NAMES, *_REMOVALS, *_RENAMES, *_OPENS, *_CHANGES, *_PLACES)
"""What strace has to trace; it skips those that the machine does not have."""

_LINE = re.compile(
    r"^(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<(.*)>(?:\(deleted\))?)?(?: .*)?$", re.DOTALL
)
_PENDING = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$", re.DOTALL)
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$", re.DOTALL)
_WRITES = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT|TRUNC|TMPFILE)\b")


@dataclass
class _Call:
    pid: int
    name: str
    args: list[str]
    result: int
    returned: str | None


def command(log: Path) -> list[str]:
    """Return strace's arguments, up to the program's."""
    calls = ",".join(f"?{name}" for name in CALLS)
    return ["strace", "-f", "-y", "-qq", "-e", f"trace={calls}", "-e", "signal=none",
            "-o", str(log)]  # fmt: skip


def changes(log: Path, cwd: Path) -> set[tuple[str, str]]:
    """Return what the traced tree changed, as (operation, absolute path).

    Parameters
    ----------
    log
        The output of `command`.
    cwd
        Folder that the program was started in.
    """
    calls = list(_calls(log))
    parents = {
        call.result: call.pid
        for call in calls
        if call.name in ("clone", "clone3", "fork", "vfork") and call.result > 0
    }
    threads = {
        call.result
        for call in calls
        if call.name.startswith("clone") and "CLONE_FS" in " ".join(call.args)
    }
    folders: dict[int, list[str]] = {}
    found: set[tuple[str, str]] = set()
    for call in calls:
        folder = _folder(call.pid, folders, parents, threads, str(cwd))
        if call.result < 0:
            continue
        if call.name in ("chdir", "fchdir"):
            folder[0] = _path(call.args[0], folder[0])
            continue
        found.update(_changed(call, folder[0]))
    return found


def _folder(
    pid: int, folders: dict[int, list[str]], parents: dict[int, int], threads: set[int], start: str
) -> list[str]:
    """Return the cell with a thread's working folder; threads share their process's."""
    if pid not in folders:
        if pid in parents:
            above = _folder(parents[pid], folders, parents, threads, start)
            folders[pid] = above if pid in threads else list(above)
        else:
            folders[pid] = [start]
    return folders[pid]


def _changed(call: _Call, cwd: str) -> Iterator[tuple[str, str]]:
    args, name = call.args, call.name
    if name in _OPENS:
        flags = args[{"open": 1, "openat": 2, "openat2": 2, "creat": 0}[name]]
        if "O_TMPFILE" in flags:
            # The file has no name; what is named is its folder.
            yield "WRITE", _named(args, int(name != "open"), cwd, at=name != "open")
        elif name == "creat" or _WRITES.search(flags):
            assert call.returned is not None, call
            yield "WRITE", _text(call.returned)
    elif name in _RENAMES:
        old, new = (0, 1) if name == "rename" else (1, 3)
        first = _named(args, old, cwd, at=name != "rename")
        exchange = name == "renameat2" and "RENAME_EXCHANGE" in args[4]
        yield "WRITE" if exchange else "DELETE", first
        yield "WRITE", _named(args, new, cwd, at=name != "rename")
    elif name in _REMOVALS:
        at = name == "unlinkat"
        yield "DELETE", _named(args, int(at), cwd, at=at)
    elif name in ("link", "symlink"):
        yield "WRITE", _named(args, 1, cwd, at=False)
    elif name == "linkat":
        yield "WRITE", _named(args, 3, cwd, at=True)
    elif name == "symlinkat":
        yield "WRITE", _named(args, 2, cwd, at=True)
    elif name in _NEW_NAMES:
        at = name.endswith("at")
        yield "WRITE", _named(args, int(at), cwd, at=at)
    elif name in _CHANGES:
        at = name in ("fchmodat", "fchmodat2", "fchownat", "futimesat", "utimensat")
        if at and args[1] in ("NULL", '""'):
            yield "WRITE", _path(args[0], cwd)
        else:
            yield "WRITE", _real(_named(args, int(at), cwd, at=at), args)


def _real(path: str, args: list[str]) -> str:
    # A change of attributes goes to the file behind a link, unless it says otherwise.
    return path if any("NOFOLLOW" in arg for arg in args) else os.path.realpath(path)


def _named(args: list[str], index: int, cwd: str, *, at: bool) -> str:
    """Return the path that an argument names, relative to the folder argument before it."""
    base = _path(args[index - 1], cwd) if at else cwd
    return _path(args[index], base)


def _path(arg: str, base: str) -> str:
    if arg.startswith('"'):
        return os.path.normpath(os.path.join(base, _text(arg[1 : arg.rindex('"')])))
    start = arg.index("<")
    return _text(arg[start + 1 : arg.rindex(">")])


def _text(escaped: str) -> str:
    raw, _ = codecs.escape_decode(escaped.encode("latin-1"))
    return bytes(raw).decode("utf-8", "backslashreplace")


def _calls(log: Path) -> Iterator[_Call]:
    pending: dict[str, str] = {}
    with log.open(encoding="latin-1", newline="\n") as lines:
        for raw in lines:
            line = raw.rstrip("\n")
            if unfinished := _PENDING.match(line):
                pending[unfinished[1]] = line[: unfinished.end(2)]
                continue
            if resumed := _RESUMED.match(line):
                line = pending.pop(resumed[1]) + resumed[2]
            if match := _LINE.match(line):
                pid, name, args, result, returned = match.groups()
                yield _Call(int(pid), name, _split(args), int(result), returned)
            elif "+++" not in line and " = ?" not in line:
                raise AssertionError(f"a line of strace that is not understood: {line!r}")


def _split(text: str) -> list[str]:
    """Split arguments at commas outside of strings, brackets and paths."""
    parts, start, depth, quoted, skip = [], 0, 0, False, False
    for index, char in enumerate(text):
        if skip:
            skip = False
        elif quoted:
            skip, quoted = char == "\\", char != '"'
        elif char == '"':
            quoted = True
        elif char in "<[{(":
            depth += 1
        elif char in ">]})":
            depth -= 1
        elif char == "," and not depth:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]
