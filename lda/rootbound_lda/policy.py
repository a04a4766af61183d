"""The policy of one run: where it may write and read, with which network and limits.

Everything that comes from outside is canonicalised here once more; what the kernel then enforces
is this object and nothing else.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rootbound_lda.audit import AuditRule
from rootbound_lda.inspection import covered_config
from rootbound_lda.pins import GRANTED, Pin, identity_of, lineage
from rootbound_lda.places import (
    DEVICES,
    MACHINE,
    etc,
    first_met,
    home,
    overlaps,
    secret_paths,
    started_from,
    system_readable,
    within,
)

__all__ = [
    "READABLE_ENV", "NetworkRule", "Policy", "PolicyError", "ProcessLimits", "RootRefused",
    "build_policy", "canonical_root", "overlaps", "present_roots", "secret_paths", "within",
]  # fmt: skip

MAX_PATH_BYTES = 4095

READABLE_ENV = "ROOTBOUND_LDA_READABLE_PATHS"
"""Environment variable with further readable paths, separated like PATH."""

_MACHINE = MACHINE


class PolicyError(Exception):
    """The payload asks for something that no policy may hold.

    Parameters
    ----------
    code
        Stable identifier, for the problem document.
    sentence
        One sentence for the user, with the way out.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class RootRefused(PolicyError):  # noqa: N818 - the word of the interface
    """A folder cannot be granted for writing."""


@dataclass(frozen=True)
class NetworkRule:
    """Who may reach the network.

    Parameters
    ----------
    agent
        The agent's commands and the lint and test gates.
    install
        The install command.
    """

    agent: bool = False
    install: bool = True


@dataclass(frozen=True)
class ProcessLimits:
    """Resource limits of a run's commands; None leaves the machine's own.

    Parameters
    ----------
    max_processes
        Processes and threads of one command's tree at a time. The supervisor counts them:
        RLIMIT_NPROC counts all that the user runs, browsers included, and does not bind root. The
        default is room for a parallel build on a large machine, and what a fork bomb can take of
        a small one. A tree that is refused a thousand more is killed.
    max_open_files
        Open descriptors a process.
    max_file_bytes
        Size of a written file, in bytes.
    max_memory_bytes
        Address space a process, in bytes; some runtimes (Node.js) reserve far more than they use.
    cpu_seconds
        Processor time a process, in seconds.
    """

    max_processes: int | None = 2048
    max_open_files: int | None = 4096
    max_file_bytes: int | None = 8 << 30
    max_memory_bytes: int | None = None
    cpu_seconds: int | None = None


@dataclass(frozen=True)
class Policy:
    """What one run may do; every path is absolute and free of symbolic links.

    Parameters
    ----------
    run_id
        The run.
    worktree
        Its working tree, writable but for `.git`.
    writable
        All writable roots, the worktree first; `.git` is carved out of each.
    readable
        Files and folders that are readable besides.
    protected
        Paths that stay unwritable whatever root they lie in.
    private_home
        The run's own home folder, writable.
    private_tmp
        The run's own folder for temporary files, writable.
    network
        Who may reach the network.
    process
        Limits of each process.
    listable
        Folders that can be listed although not everything in them can be read.
    devices
        Device files that can be read and written.
    watched
        Those of `readable` that belong to the user: their reads are never folded.
    audit
        How much is recorded.
    secrets
        Places that nothing may reach, whatever lies around them.
    covers
        Files that hold secrets, each with the copy without them to show in its place.
    pins
        What the writable folders and the user's readable paths were when they were granted; those
        of folders that it lacks are added. A path that leads elsewhere by now grants nothing.
    remarks
        Sentences for the reader of the run, such as about roots that grant nothing.
    sockets
        Folder of the run's own where it may bind unix sockets, and do nothing else but read.
    loopback
        Whether it has a network of its own, with nothing but a loopback in it. Only behind a wall.
    """

    run_id: str
    worktree: Path
    writable: tuple[Path, ...]
    readable: tuple[Path, ...]
    protected: tuple[Path, ...]
    private_home: Path
    private_tmp: Path
    network: NetworkRule = field(default_factory=NetworkRule)
    process: ProcessLimits = field(default_factory=ProcessLimits)
    listable: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = DEVICES
    watched: tuple[Path, ...] = ()
    audit: AuditRule = field(default_factory=AuditRule)
    secrets: tuple[Path, ...] = ()
    covers: tuple[tuple[Path, Path], ...] = ()
    pins: tuple[Pin, ...] = field(default=(), compare=False, repr=False)
    remarks: tuple[str, ...] = ()
    sockets: Pin | None = field(default=None, compare=False)
    loopback: bool = False

    def __post_init__(self) -> None:
        """Pin what is writable, so that from now on it is the folder that counts."""
        known = {pin.path for pin in self.pins}
        added: list[Pin] = []
        for path in (*self.writable, self.private_home, self.private_tmp):
            if path not in known:
                known.add(path)
                # One that is gone grants nothing, and has no pin.
                with suppress(OSError):
                    added.append(Pin(path))
        object.__setattr__(self, "pins", (*self.pins, *added))

    def pin_of(self, path: Path) -> Pin | None:
        """Return the pin of a path, None if it has none."""
        return next((pin for pin in self.pins if pin.path == path), None)


def _clean(path: str, code: str) -> Path:
    """Check the text of a path and resolve it as it stands now."""
    if "\0" in path:
        raise RootRefused(f"{code}-invalid", "The path holds a NUL character; correct it.")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise RootRefused(
            f"{code}-too-long", f"The path is longer than {MAX_PATH_BYTES} bytes; shorten it."
        )
    if not path.startswith("/"):
        raise RootRefused(
            f"{code}-not-absolute", f"“{path}” is not an absolute path; write it from / on."
        )
    try:
        return Path(path).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise RootRefused(
            f"{code}-missing", f"“{path}” does not exist; create it or correct the path."
        ) from None
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise RootRefused(
                f"{code}-too-long", "A name in the path is too long; shorten it."
            ) from None
        raise RootRefused(
            f"{code}-unreadable", f"“{path}” cannot be reached ({error}); choose another path."
        ) from None


def canonical_root(path: str, *, state_dir: Path, secrets: tuple[Path, ...] | None = None) -> Path:
    """Resolve a folder that a user wants to grant for writing.

    Parameters
    ----------
    path
        As the user gave it.
    state_dir
        Rootbound's state folder.
    secrets
        What `secret_paths` has just said of it. Default it is asked.

    Returns
    -------
    Path
        The folder, absolute and free of symbolic links.

    Raises
    ------
    RootRefused
        With a code and a sentence, if it cannot be a root.
    """
    resolved = _clean(path, "root")
    if not resolved.is_dir():
        raise RootRefused(
            "root-not-directory", f"“{path}” is not a folder; grant the folder that holds it."
        )
    if resolved == Path("/"):
        raise RootRefused(
            "root-is-filesystem-root",
            "The root of the file system cannot be granted; choose a project folder.",
        )
    user = home()
    if identity_of(resolved) == identity_of(user):
        raise RootRefused(
            "root-is-home", "Your home folder itself cannot be granted; choose a folder inside it."
        )
    if first_met(resolved, [state_dir.resolve()]):
        raise RootRefused(
            "root-protected",
            f"“{path}” holds or lies in Rootbound's state folder; choose another folder.",
        )
    if within(user, resolved) or identity_of(resolved) in set(lineage(user)):
        raise RootRefused(
            "root-protected", f"“{path}” holds your home folder; choose a folder inside it."
        )
    above = set(lineage(resolved))
    if any(identity_of(os.path.realpath(machine)) in above for machine in MACHINE):
        raise RootRefused(
            "root-protected",
            f"“{path}” belongs to the operating system; choose a project folder.",
        )
    if resolved == Path(os.path.realpath(tempfile.gettempdir())):
        raise RootRefused(
            "root-protected",
            f"“{path}” is shared by all programs for temporary files; choose a folder inside it.",
        )
    _refuse_git(path, resolved)
    if any(within(resolved, place) for place in started_from()):
        raise RootRefused(
            "root-protected",
            f"“{path}” holds programs that run as you by themselves, such as Rootbound's own or "
            "Jupyter's kernels; choose another folder.",
        )
    secret = first_met(resolved, secret_paths(state_dir) if secrets is None else secrets)
    if secret is not None:
        raise RootRefused(
            "root-protected",
            f"“{path}” holds or lies in “{secret}”, where secrets are kept; choose another folder.",
        )
    return resolved


def _refuse_git(path: str, resolved: Path) -> None:
    """Refuse a folder of git's own: what a run writes there would run as the user."""
    for place in (resolved, *resolved.parents):
        bare = (place / "HEAD").is_file() and all(
            (place / name).is_dir() for name in ("objects", "refs")
        )
        if place.name.lower() == ".git" or bare:
            raise RootRefused(
                "root-protected",
                f"“{path}” is or lies in a git folder, which no agent may change; choose the "
                "folder of the working tree.",
            )


def build_policy(
    *,
    run_id: str,
    worktree: Path,
    repo_path: Path,
    git_common_dir: Path,
    private_dir: Path,
    state_dir: Path,
    writable_roots: Sequence[str],
    readable_paths: Sequence[str],
    network: Mapping[str, bool],
    limits: Mapping[str, object],
) -> Policy:
    """Build the policy of a run from its payload.

    The root that holds the project stands for the worktree: nothing in the user's own checkout
    becomes writable. Other roots are taken as they are, unless they lie inside the repository.
    The folders `home` and `tmp` in `private_dir` are created if need be, with mode 0700.

    Parameters
    ----------
    run_id
        The run.
    worktree
        Its working tree.
    repo_path
        The user's repository.
    git_common_dir
        The repository's common git folder; readable, never writable.
    private_dir
        The run's own folder in the state folder.
    state_dir
        Rootbound's state folder.
    writable_roots
        Enabled roots.
    readable_paths
        Further readable paths of the project.
    network
        Keys `agent` (default false) and `install` (default true).
    limits
        May hold the fields of `ProcessLimits` and `AuditRule`; other keys are for others.

    Raises
    ------
    RootRefused
        If a root cannot be one.
    PolicyError
        If the repository lies in no root, or a readable path holds secrets.
    """
    repository = Path(repo_path).resolve(strict=True)
    tree = Path(worktree).resolve(strict=True)
    common = Path(git_common_dir).resolve(strict=True)
    secrets = secret_paths(state_dir)
    roots, remarks = _standing_roots(writable_roots, state_dir=state_dir, secrets=secrets)
    above = set(lineage(repository))
    if not any(pin.identity in above for pin in roots):
        raise PolicyError(
            "repo-outside-roots",
            f"“{repository}” lies in no granted folder; grant it, or a folder that holds it."
            + "".join(f" {remark}" for remark in remarks),
        )
    private_home, tmp = (_private(Path(private_dir), name) for name in ("home", "tmp"))
    watched = [common, *(_readable(path, secrets) for path in readable_paths)]
    readable = [*watched, *_named_readable(secrets), *system_readable(secrets)]
    others = [pin for pin in roots if first_met(pin.path, [repository]) is None]
    etc_files, listable = etc(secrets)
    return Policy(
        run_id=run_id,
        worktree=tree,
        writable=tuple(dict.fromkeys([tree, *(pin.path for pin in others)])),
        readable=tuple(dict.fromkeys([*readable, *etc_files])),
        protected=(tree / ".git", common, *started_from()),
        private_home=private_home,
        private_tmp=tmp,
        network=NetworkRule(
            agent=bool(network.get("agent", False)), install=bool(network.get("install", True))
        ),
        process=_limits(limits),
        listable=listable,
        watched=tuple(dict.fromkeys(watched)),
        audit=AuditRule.from_limits(limits),
        secrets=secrets,
        covers=covered_config(common, Path(private_dir)),
        pins=tuple({pin.path: pin for pin in (*others, *_pinned(watched))}.values()),
        remarks=remarks,
    )


def present_roots(
    roots: Iterable[str], *, state_dir: Path, secrets: tuple[Path, ...] | None = None
) -> Iterator[Path]:
    """Yield the canonical paths of the roots that still exist: one that is gone grants nothing.

    Raises
    ------
    RootRefused
        If a folder has become one that cannot be a root.
    """
    for root in roots:
        try:
            yield canonical_root(root, state_dir=state_dir, secrets=secrets)
        except RootRefused as refused:
            if refused.code != "root-missing":
                raise


def _standing_roots(
    roots: Iterable[str], *, state_dir: Path, secrets: tuple[Path, ...]
) -> tuple[list[Pin], tuple[str, ...]]:
    """Pin the roots that are still the folders that were granted; say which are not.

    Raises
    ------
    RootRefused
        If a folder has become one that cannot be a root.
    """
    pins: dict[Path, Pin] = {}
    remarks: list[str] = []
    for root in roots:
        for canonical in present_roots([root], state_dir=state_dir, secrets=secrets):
            pin = None
            if os.fspath(canonical) == os.path.normpath(root):
                with suppress(OSError):
                    pin = GRANTED.find(canonical)
            if pin is None:
                remarks.append(
                    f"“{root}” is not the folder that was granted any more, so it grants nothing; "
                    "remove this root and grant the folder again."
                )
            else:
                pins[canonical] = pin
    return list(pins.values()), tuple(remarks)


def _pinned(paths: Iterable[Path]) -> Iterator[Pin]:
    for path in paths:
        with suppress(OSError):
            yield Pin(path)


def _private(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.resolve(strict=True)


def _limits(limits: Mapping[str, object]) -> ProcessLimits:
    known: dict[str, int | None] = {}
    for name in ProcessLimits.__dataclass_fields__:
        if name not in limits:
            continue
        value = limits[name]
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            raise PolicyError(
                "limit-invalid", f"The limit “{name}” must be a whole number of at least 1."
            )
        known[name] = value
    return ProcessLimits(**known)


def _readable(path: str, secrets: Iterable[Path]) -> Path:
    resolved = _clean(path, "readable")
    secret = first_met(resolved, secrets)
    if secret is not None:
        raise PolicyError(
            "readable-protected",
            f"“{path}” holds or lies in “{secret}”, where secrets are kept; name a narrower path.",
        )
    if identity_of(resolved) in set(lineage(home())):
        raise PolicyError(
            "readable-protected",
            f"“{path}” would open your whole home folder; name a folder inside it.",
        )
    return resolved


def _named_readable(secrets: Iterable[Path]) -> Iterator[Path]:
    """Yield what the environment variable names."""
    for text in os.environ.get(READABLE_ENV, "").split(os.pathsep):
        if text:
            yield _readable(text, secrets)
