"""The policy of a confined kernel: the user's roots, and what its own program needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .audit import AuditRule
from .machine_settings import machine_secrets
from .pins import Pin
from .places import (
    DEVICES,
    environment_parts,
    etc,
    home,
    overlaps_any,
    program_places,
    secret_paths,
    started_from,
    system_readable,
)
from .policy import (
    NetworkRule,
    Policy,
    PolicyError,
    ProcessLimits,
    _pinned,
    _private,
    _readable,
    _standing_roots,
    within,
)

__all__ = ["build_kernel_policy", "folder_to_start_in"]


def build_kernel_policy(
    *,
    session_id: str,
    private_dir: Path,
    sockets: Path,
    state_dir: Path,
    writable_roots: Sequence[str],
    readable_paths: Sequence[str],
    programs: Sequence[str],
    shared: Path | None,
    network: bool,
    loopback: bool,
    terminals: bool,
    limits: Mapping[str, object],
) -> Policy:
    """Build the policy of a kernel.

    A kernel is the user's own and works in the user's own folders: it may write in every enabled
    root, but for `.git`.

    Parameters
    ----------
    session_id
        The kernel's run.
    private_dir
        Its folder in the state folder; `home` and `tmp` in it are made if need be.
    sockets
        Folder where it binds its sockets.
    state_dir
        Rootbound's state folder.
    writable_roots
        Enabled roots.
    readable_paths
        What is readable besides, such as the notebook's folder; one that may not be is left out.
    programs
        The kernel's program, and the folders of its PATH.
    shared
        A further writable folder in the state folder, such as a batch's.
    network
        Whether TCP outwards is possible.
    loopback
        Whether it has a network of its own, with a loopback, instead of none.
    terminals
        Whether its terminals are its own, as behind a wall: then it may make and use them, as
        kernels do that talk to a shell or another interpreter.
    limits
        May hold the fields of `AuditRule`.

    Raises
    ------
    PolicyError
        If a root cannot be one.
    """
    prefixes = [str(Path(name).parents[1]) for name in programs if name.count("/") > 2]
    secrets = tuple(dict.fromkeys((*secret_paths(state_dir), *machine_secrets(prefixes))))
    roots, remarks = _standing_roots(writable_roots, state_dir=state_dir, secrets=secrets)
    private_home, tmp = (_private(private_dir, name) for name in ("home", "tmp"))
    watched = list(_allowed(readable_paths, secrets))
    # What a kernel could have put there must not open anything to the next one.
    fixed = [name for name in programs if not any(within(Path(name), pin.path) for pin in roots)]
    own = [*_program_places(fixed, secrets), *system_readable(secrets)]
    etc_files, listable = etc(secrets)
    extra = [] if shared is None else [shared]
    return Policy(
        run_id=session_id,
        worktree=private_home,
        writable=tuple(dict.fromkeys([*(pin.path for pin in roots), *extra])),
        readable=tuple(dict.fromkeys([*watched, sockets, *own, *etc_files])),
        protected=(*started_from(), *_environments(programs)),
        private_home=private_home,
        private_tmp=tmp,
        network=NetworkRule(agent=network, install=network),
        process=ProcessLimits(),
        listable=listable,
        devices=(*DEVICES, Path("/dev/pts")) if terminals else DEVICES,
        watched=tuple(dict.fromkeys(watched)),
        audit=AuditRule.from_limits(limits),
        secrets=secrets,
        pins=tuple({pin.path: pin for pin in (*roots, *_pinned(watched))}.values()),
        remarks=remarks,
        sockets=Pin(sockets),
        loopback=loopback,
    )


def folder_to_start_in(wanted: str, policy: Policy) -> Path:
    """Return the folder that a kernel starts in: the notebook's if it may see it, else its home."""
    folder = Path(os.path.realpath(wanted or "/"))
    seen = (*policy.writable, *policy.readable)
    if folder.is_dir() and any(within(folder, place) for place in seen):
        return folder
    return policy.private_home


def _allowed(paths: Sequence[str], secrets: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        with suppress(PolicyError):
            yield _readable(path, secrets)


def _environments(programs: Sequence[str]) -> Iterator[Path]:
    """Yield the environments that kernels outside of a sandbox are started from as well."""
    for text in programs:
        prefix = (Path(text) if Path(text).is_dir() else Path(text).parent).parent
        if any((prefix / mark).exists() for mark in ("pyvenv.cfg", "conda-meta")):
            yield from environment_parts(prefix)


def _program_places(programs: Sequence[str], secrets: tuple[Path, ...]) -> Iterator[Path]:
    """Yield where the kernel's interpreter lives, by its own name and by what that leads to."""
    here = home()
    # These are among the system's readable places already.
    known = os.environ.get("PATH", "").split(os.pathsep)
    folders: dict[Path, None] = {}
    for text in programs:
        program = Path(text)
        if program.is_absolute() and text not in known:
            for name in (program, Path(os.path.realpath(program))):
                folders[name if name.is_dir() else name.parent] = None
    places: dict[Path, None] = {}
    for folder in folders:
        for found in program_places(folder, secrets, here):
            places |= dict.fromkeys([found, *_added_to(found)])
    for place in places:
        resolved = Path(os.path.realpath(place))
        secret = overlaps_any(resolved, secrets)
        if resolved.exists() and not secret and not within(here, resolved):
            yield resolved


def _added_to(prefix: Path) -> Iterator[Path]:
    """Yield the folders that a Python environment adds to its own, as editable installs do."""
    for path in prefix.glob("lib/python3*/site-packages/*.pth"):
        with suppress(OSError, UnicodeDecodeError):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("/") and Path(line).is_dir():
                    yield Path(line)
