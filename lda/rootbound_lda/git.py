"""The plain git command line, made safe to run on a repository that an agent has touched.

Nothing that a repository or its configuration names runs as us: no hooks, no fsmonitor, no
external diff, no text conversion, no filters, no merge drivers, no signing, no transports.
The git folder and the work tree are always given explicitly, so a rewritten ``.git`` file
in a worktree changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIN_VERSION: Final = (2, 38)
TIMEOUT_S: Final = 300.0
_LEAST_FREE: Final = 64 * 1024

_PASSED_ON: Final = ("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "USER", "LOGNAME")
_NEUTRAL: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.pager=cat",
    "core.editor=false",
    "core.askPass=true",
    "core.sshCommand=false",
    "core.alternateRefsCommand=",
    "core.quotePath=false",
    "credential.helper=",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "merge.verifySignatures=false",
    "merge.renormalize=false",
    "diff.external=",
    "diff.ignoreSubmodules=dirty",
    "submodule.recurse=false",
    "protocol.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "checkout.workers=2",
    "advice.detachedHead=false",
)
_DRIVER = re.compile(rb"^(filter|merge|diff)\.(.+)\.([a-zA-Z]+)$", re.DOTALL)
_DRIVERS: Final[dict[bytes, list[str]]] = {}
"""What is to be switched off, by the digest of the configuration that says so."""
MAX_KNOWN: Final = 256
_OFF: Final = {
    "filter": ("clean=", "smudge=", "process=", "required=false"),
    # `false` says "conflict"; an empty driver would silently take our side.
    "merge": ("driver=false",),
    "diff": ("command=", "textconv="),
}


class GitError(Exception):
    """git failed.

    Attributes
    ----------
    code
        Its exit code; 124 for a timeout.
    """

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Output:
    """What a git command printed."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text without the last line break."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who commits."""

    name: str
    email: str


def safe_path() -> str:
    """Return PATH without relative folders, which would lie in whatever folder git runs in."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if folder.startswith("/"))


def environment() -> dict[str, str]:
    """Return the environment for git: a few inherited names, nothing that configures git."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **kept,
        "PATH": safe_path(),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_LAZY_FETCH": "1",
        # Unlike protocol.allow, this cannot be overridden by protocol.<name>.allow.
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_EDITOR": "false",
        "GIT_ASKPASS": "true",
        "GIT_PAGER": "cat",
    }


async def execute(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Output:
    """Run git itself, with nothing neutralised; for calls that read configuration only.

    Parameters
    ----------
    argv
        Arguments after ``git``.
    cwd
        Folder to run in.
    env
        Environment. Default `environment`.
    stdin
        Input. Default none.
    timeout_s
        Seconds after which git is killed. Default 300.

    Returns
    -------
    Output
        Exit code and output.

    Raises
    ------
    GitError
        When git is not installed or does not end in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            shutil.which("git", path=safe_path()) or "/nonexistent/git",
            *argv,
            cwd=cwd,
            env=dict(env or environment()),
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if not await asyncio.to_thread(cwd.is_dir):
            raise GitError(f"There is no folder {cwd} any more.", 128) from error
        raise GitError("git is not installed; install git 2.38 or newer.", 127) from error
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin)
    except BaseException as error:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if isinstance(error, TimeoutError):
            raise GitError(f"git {argv[-1]} did not end in {timeout_s:.0f} s.", 124) from error
        raise
    return Output(process.returncode or 0, out, err)


@dataclass(slots=True)
class Git:
    """Git on one work tree.

    Attributes
    ----------
    git_dir
        The git folder of this work tree (for a worktree: ``<common>/worktrees/<name>``).
    work_tree
        The files; ``None`` to work on objects and refs only.
    common_dir
        The repository's own git folder, shared by all its worktrees.
    excludes
        A file with patterns that count as ignored, instead of the user's.
    """

    git_dir: Path
    work_tree: Path | None
    common_dir: Path
    excludes: Path | None = None
    identity: Identity | None = None

    async def run(
        self,
        *argv: str,
        stdin: bytes | None = None,
        ok: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Output:
        """Run a git command with everything that could run other programs turned off.

        Parameters
        ----------
        *argv
            The command and its arguments.
        stdin
            Input. Default none.
        ok
            Exit codes that are no error. Default 0 only.
        env
            Additions to the environment.
        timeout_s
            Seconds after which git is killed. Default 300.

        Raises
        ------
        GitError
            For any other exit code.
        """
        options = [*_NEUTRAL, *await self._neutral_drivers()]
        if self.excludes is not None:
            options.append(f"core.excludesFile={self.excludes}")
        where = [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            where.append(f"--work-tree={self.work_tree}")
        flags = [part for option in options for part in ("-c", option)]
        output = await execute(
            [*where, *flags, *argv],
            cwd=self.work_tree or self.git_dir,
            env={**environment(), **self._identity_env(), **(env or {})},
            stdin=stdin,
            timeout_s=timeout_s,
        )
        if output.code not in ok:
            said = output.stderr.decode("utf-8", "replace").strip().splitlines()
            reason = said[-1] if said else f"exit code {output.code}"
            if any("No space left" in line for line in said) or _is_full(self.common_dir):
                reason = f"there is no disk space left under {self.common_dir}; free some"
            raise GitError(f"git {argv[0]} failed: {reason}", output.code)
        return output

    def _identity_env(self) -> dict[str, str]:
        if self.identity is None:
            return {}
        return {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", self.identity.name), ("EMAIL", self.identity.email))
        }

    async def _neutral_drivers(self) -> list[str]:
        """Return options that switch off every filter, merge and diff driver there is.

        The configuration may have been changed since the last call, so its files are read anew
        each time; git is asked what they say when it has not said so of these very bytes before.
        """
        content = self._configuration()
        known = _DRIVERS.get(content) if content is not None else None
        if known is None:
            known = await self._drivers()
            if content is not None:
                if len(_DRIVERS) >= MAX_KNOWN:
                    _DRIVERS.clear()
                _DRIVERS[content] = known
        return known

    def _configuration(self) -> bytes | None:
        """Return the digest of all configuration git reads here; ``None`` if it includes more."""
        home = os.environ.get("HOME", "")
        user = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
        digest = hashlib.sha256()
        for path in (
            f"{home}/.gitconfig", f"{user}/git/config", self.git_dir / "commondir",
            self.common_dir / "config", self.common_dir / "config.worktree",
            self.git_dir / "config", self.git_dir / "config.worktree",
        ):  # fmt: skip
            try:
                content = Path(path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                content = b""
            except OSError:
                return None
            if b"include" in content.lower():
                return None
            digest.update(b"%d:" % len(content) + content)
        return digest.digest()

    async def _drivers(self) -> list[str]:
        argv = [f"--git-dir={self.git_dir}", "config", "--name-only", "-z", "--get-regexp"]
        found = await execute([*argv, r"^(filter|merge|diff)\..+\."], cwd=self.common_dir)
        drivers: set[tuple[str, str]] = set()
        for name in found.stdout.split(b"\0"):
            match = _DRIVER.match(name)
            if match:
                subsection = match[2].decode("utf-8", "surrogateescape")
                if "=" in subsection:
                    # `-c` cuts at the first "=", so this one could not be switched off.
                    raise GitError(
                        f"The repository's git configuration names a driver {subsection!r}, which "
                        "Rootbound cannot switch off; rename it without '='.",
                        128,
                    )
                drivers.add((match[1].decode(), subsection))
        return [
            f"{section}.{name}.{setting}"
            for section, name in sorted(drivers)
            for setting in _OFF[section]
        ]

    async def commit_of(self, ref: str) -> str | None:
        """Return the commit that ``ref`` names, or ``None``."""
        output = await self.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{ref}^{{commit}}",
            ok=(0, 1, 128),
        )
        return output.text if output.code == 0 else None

    async def update_ref(self, ref: str, new: str, old: str) -> bool:
        """Move a ref from ``old`` to ``new``; false when it is not at ``old`` any more.

        ``old`` of 40 zeros says that the ref must not exist yet.
        """
        output = await self.run("update-ref", "--no-deref", ref, new, old, ok=(0, 1, 128))
        return output.code == 0


def _is_full(folder: Path) -> bool:
    """Return whether a disk takes no more: git does not always say that this was the cause."""
    try:
        return shutil.disk_usage(folder).free < _LEAST_FREE
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Survey:
    """What git says of a folder in one look.

    Attributes
    ----------
    git
        The repository; its ``work_tree`` is ``None`` when it is bare.
    head
        The commit that is checked out; ``None`` where there is none yet.
    branch
        The branch that is checked out; ``None`` when none is.
    """

    git: Git
    head: str | None
    branch: str | None


async def survey(path: Path) -> Survey | None:
    """Look at the repository of the work tree whose top is ``path``.

    Returns
    -------
    Survey or None
        ``None`` when ``path`` is in no repository.

    Raises
    ------
    GitError
        When git is missing or does not end.
    """
    head = ["HEAD^{commit}", "--symbolic-full-name", "HEAD"]
    code, bare, git_dir, common, rest = await _rev_parse(path, *head, "--show-toplevel")
    if not common:
        return None
    commit, ref, top = [*rest.split("\n", 2), "", "", ""][:3]
    known = re.fullmatch(r"[0-9a-f]{40,64}", commit) is not None
    if not known:
        # It failed there, before it came to the work tree.
        code, *_, top = await _rev_parse(path, "--show-toplevel")
    work_tree = Path(top) if code == 0 and bare != "true" and top else None
    branch = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else None
    return Survey(Git(Path(git_dir), work_tree, Path(common)), commit if known else None, branch)


async def discover(path: Path) -> Git | None:
    """Find the git folder of the work tree whose top is ``path``.

    Returns
    -------
    Git or None
        ``None`` when ``path`` is in no repository. ``work_tree`` is ``None`` when bare.

    Raises
    ------
    GitError
        When git is missing or does not end.
    """
    code, bare, git_dir, common, top = await _rev_parse(path, "--show-toplevel")
    if not common:
        return None
    # Without a work tree git says all but the last, and fails.
    work_tree = Path(top) if code == 0 and bare != "true" and top else None
    return Git(Path(git_dir), work_tree, Path(common))


async def _rev_parse(path: Path, *more: str) -> tuple[int, str, str, str, str]:
    """Return git's exit code, whether it is bare, its folders, and what else was asked for."""
    argv = ["--path-format=absolute", "--is-bare-repository", "--git-dir", "--git-common-dir"]
    # A repository of another owner is the backend's and the root rules' business.
    found = await execute(["-c", "safe.directory=*", "rev-parse", *argv, *more], cwd=path)
    bare, git_dir, common, rest = [*found.text.split("\n", 3), "", "", "", ""][:4]
    return found.code, bare, git_dir, common, rest


async def user_identity(path: Path) -> Identity | None:
    """Return the repository user's name and address, as the user's own git sees them."""
    env = environment()
    env.pop("GIT_CONFIG_NOSYSTEM")
    argv = ["-c", "safe.directory=*", "config", "-z", "--get-regexp", r"^user\.(name|email)$"]
    found = await execute(argv, cwd=path, env=env)
    # The last one wins, as for git itself.
    said = dict(entry.split("\n", 1) for entry in found.text.split("\0") if "\n" in entry)
    values = [said.get(key, "").strip() for key in ("user.name", "user.email")]
    return Identity(*values) if all(values) else None


class RepositoryLocks:
    """One lock per repository, so that two runs never write its refs at the same time."""

    def __init__(self) -> None:
        self._locks: dict[Path, asyncio.Lock] = {}

    def __call__(self, common_dir: Path) -> asyncio.Lock:
        """Return the lock of the repository with this common git folder."""
        return self._locks.setdefault(common_dir, asyncio.Lock())
