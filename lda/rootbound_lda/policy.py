"""The policy of one run: where it may write and read, with which network and limits.

Everything that comes from outside is canonicalised here once more; what the kernel then enforces
is this object and nothing else.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAX_PATH_BYTES = 4095

READABLE_ENV = "ROOTBOUND_LDA_READABLE_PATHS"
"""Environment variable with further readable paths, separated like PATH."""

_DEVICES = tuple(
    Path("/dev") / name for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx")
)
_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/opt", "/proc",
    "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm", "/nix/store",
    "/snap", "/run/current-system",
)  # fmt: skip
# What is never a root: a run that changes these changes the machine.
_MACHINE = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
    "/sbin", "/sys", "/usr",
)  # fmt: skip
_ETC_SECRETS = frozenset({"shadow", "shadow-", "gshadow", "gshadow-", "sudoers", "sudoers.d"})
_HOME_SECRETS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".netrc", ".npmrc", ".pypirc",
    ".git-credentials", ".vault-token", ".password-store", ".terraform.d", ".jupyter", ".mozilla",
    ".config/gcloud", ".config/gh", ".config/hub", ".config/op", ".config/google-chrome",
    ".config/git/credentials", ".cargo/credentials", ".cargo/credentials.toml",
    ".local/share/keyrings", ".local/share/jupyter/runtime", ".ipython/profile_default/security",
)  # fmt: skip
_CA_VARIABLES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT",
    "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


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
    """Resource limits of each process of a run; None leaves the machine's own.

    Parameters
    ----------
    max_processes
        Processes and threads of this user, RLIMIT_NPROC (not enforced for root).
    max_open_files
        Open descriptors a process.
    max_file_bytes
        Size of a written file, in bytes.
    max_memory_bytes
        Address space a process, in bytes; some runtimes (Node.js) reserve far more than they use.
    cpu_seconds
        Processor time a process, in seconds.
    """

    max_processes: int | None = None
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
    devices: tuple[Path, ...] = _DEVICES


def within(path: Path, folder: Path) -> bool:
    """Tell whether a path is a folder or lies in it; both canonical."""
    return path == folder or folder in path.parents


def overlaps(first: Path, second: Path) -> bool:
    """Tell whether one of two canonical paths holds the other."""
    return within(first, second) or within(second, first)


def _home() -> Path:
    return Path(os.path.realpath(Path("~").expanduser()))


def secret_paths(state_dir: Path) -> tuple[Path, ...]:
    """Return what no run may read or write: the state folder, Jupyter's and users' secrets."""
    home = _home()
    found = [Path(os.path.realpath(state_dir))]
    found += [Path(os.path.realpath(home / name)) for name in _HOME_SECRETS]
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "XDG_RUNTIME_DIR"):
        value = os.environ.get(variable, "")
        if Path(value).is_absolute():
            found.append(Path(os.path.realpath(value)))
    data = os.environ.get("JUPYTER_DATA_DIR", "")
    if Path(data).is_absolute():
        found.append(Path(os.path.realpath(data)) / "runtime")
    return tuple(dict.fromkeys(found))


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


def canonical_root(path: str, *, state_dir: Path) -> Path:
    """Resolve a folder that a user wants to grant for writing.

    Parameters
    ----------
    path
        As the user gave it.
    state_dir
        Rootbound's state folder.

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
    home = _home()
    if resolved == home:
        raise RootRefused(
            "root-is-home", "Your home folder itself cannot be granted; choose a folder inside it."
        )
    state = Path(os.path.realpath(state_dir))
    if overlaps(resolved, state):
        raise RootRefused(
            "root-protected",
            f"“{path}” holds or lies in Rootbound's state folder; choose another folder.",
        )
    if within(home, resolved):
        raise RootRefused(
            "root-protected", f"“{path}” holds your home folder; choose a folder inside it."
        )
    for machine in _MACHINE:
        if within(resolved, Path(os.path.realpath(machine))):
            raise RootRefused(
                "root-protected",
                f"“{path}” belongs to the operating system; choose a project folder.",
            )
    if resolved == Path(os.path.realpath(tempfile.gettempdir())):
        raise RootRefused(
            "root-protected",
            f"“{path}” is shared by all programs for temporary files; choose a folder inside it.",
        )
    for secret in secret_paths(state_dir):
        if overlaps(resolved, secret):
            raise RootRefused(
                "root-protected",
                f"“{path}” holds or lies in “{secret}”, where secrets are kept; "
                "choose another folder.",
            )
    return resolved


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
        May hold the fields of `ProcessLimits`; other keys are not about processes.

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
    roots = list(present_roots(writable_roots, state_dir=state_dir))
    if not any(within(repository, root) for root in roots):
        raise PolicyError(
            "repo-outside-roots",
            f"“{repository}” lies in no granted folder; grant it, or a folder that holds it.",
        )
    home, tmp = (_private(Path(private_dir), name) for name in ("home", "tmp"))
    secrets = secret_paths(state_dir)
    readable = [common, *_system_readable(secrets)]
    readable += [_readable(path, secrets) for path in readable_paths]
    others = [root for root in roots if not overlaps(root, repository)]
    etc_files, listable = _etc()
    return Policy(
        run_id=run_id,
        worktree=tree,
        writable=tuple(dict.fromkeys([tree, *others])),
        readable=tuple(dict.fromkeys([*readable, *etc_files])),
        protected=(tree / ".git", common),
        private_home=home,
        private_tmp=tmp,
        network=NetworkRule(
            agent=bool(network.get("agent", False)), install=bool(network.get("install", True))
        ),
        process=_limits(limits),
        listable=listable,
    )


def present_roots(roots: Iterable[str], *, state_dir: Path) -> Iterator[Path]:
    """Yield the canonical paths of the roots that still exist: one that is gone grants nothing.

    Raises
    ------
    RootRefused
        If a folder has become one that cannot be a root.
    """
    for root in roots:
        try:
            yield canonical_root(root, state_dir=state_dir)
        except RootRefused as refused:
            if refused.code != "root-missing":
                raise


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
    for secret in secrets:
        if overlaps(resolved, secret):
            raise PolicyError(
                "readable-protected",
                f"“{path}” holds or lies in “{secret}”, where secrets are kept; "
                "name a narrower path.",
            )
    if resolved in (Path("/"), _home()) or within(_home(), resolved):
        raise PolicyError(
            "readable-protected",
            f"“{path}” would open your whole home folder; name a folder inside it.",
        )
    return resolved


def _system_readable(secrets: tuple[Path, ...]) -> Iterator[Path]:
    """Yield what programs need to start: system folders, interpreters, certificates."""
    candidates = [Path(name) for name in _SYSTEM]
    candidates += _interpreters(secrets)
    for variable in _CA_VARIABLES:
        value = os.environ.get(variable, "")
        if value.startswith("/"):
            candidates.append(Path(value))
    # A link into /run where systemd resolves names.
    candidates.append(Path("/etc/resolv.conf"))
    for text in os.environ.get(READABLE_ENV, "").split(os.pathsep):
        if text:
            yield _readable(text, secrets)
    home = _home()
    for candidate in candidates:
        try:
            resolved = candidate.resolve(strict=True)
        except (OSError, RuntimeError):
            continue
        if not any(overlaps(resolved, secret) for secret in secrets) and not within(home, resolved):
            yield resolved


def _interpreters(secrets: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the prefixes of the interpreters in use; of one that holds secrets, its parts."""
    home = _home()
    yield Path(sys.base_prefix)
    yield Path(sys.prefix)
    for text in os.environ.get("PATH", "").split(os.pathsep):
        folder = Path(text)
        if not folder.is_absolute():
            continue
        folder = Path(os.path.realpath(folder))
        if folder.name not in ("bin", "sbin", "shims"):
            yield folder
            continue
        prefix = folder.parent
        if within(home, prefix) or any(overlaps(prefix, secret) for secret in secrets):
            yield from (folder, prefix / "lib", prefix / "lib64", prefix / "libexec")
        else:
            yield prefix


def _etc() -> tuple[list[Path], tuple[Path, ...]]:
    """Return what is readable of /etc, and what can only be listed.

    Landlock cannot take a file out of a readable folder. Where the user could read secrets in
    /etc (root can), each entry is named instead and the secrets are left out.
    """
    etc = Path("/etc")
    if not os.access(etc / "shadow", os.R_OK):
        return [etc], ()
    files: list[Path] = []
    listable = [etc]
    for entry in _entries(etc):
        if entry.name in _ETC_SECRETS:
            continue
        if entry.name in ("ssl", "ssh", "pki"):
            listable.append(entry)
            files += [inner for inner in _entries(entry) if not _is_private(inner)]
        else:
            files.append(entry)
    return files, tuple(listable)


def _is_private(path: Path) -> bool:
    return path.name in ("private", "tls") or path.name.endswith("_key")


def _entries(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    # A symbolic link grants what it points to, and that has its own rule or none.
    return [entry for entry in entries if not stat.S_ISLNK(entry.lstat().st_mode)]
