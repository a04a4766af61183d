"""The policy of a run while it goes on: what is granted or withdrawn takes effect at once.

The backend says what holds now, as complete lists; everything is canonicalised here once more.
What is granted holds for the next command and the next use of a file tool. What is withdrawn is
refused to the file tools first; then every command that was started with it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Struct

from .advice import canonical_readable
from .config import write_atomic
from .files import FileAccess
from .policy import Policy, PolicyError, canonical_root, within
from .reports import Reporter
from .sandbox import CommandRunner
from .wire import AbsolutePath, Failure, RunPayload

log = logging.getLogger(__name__)


class PolicyUpdate(Struct, frozen=True):
    """The body of ``POST /runs/{id}/policy``: what holds from now on, complete.

    Attributes
    ----------
    generation
        Grows with every change of the lists; an older one than that in force changes nothing.
    """

    generation: Annotated[int, Meta(ge=1)]
    lease_generation: Annotated[int, Meta(ge=0)]
    writable_roots: list[AbsolutePath]
    readable_paths: list[AbsolutePath]


class Build(Protocol):
    """Builds a run's policy from the two lists that may change."""

    def __call__(self, *, writable_roots: Sequence[str], readable_paths: Sequence[str]) -> Policy:
        """Return the policy.

        Raises
        ------
        PolicyError
            If it cannot be one; ``repo-outside-roots`` when no root holds the project.
        """


class LivePolicy:
    """Holds one run's policy and changes it.

    Parameters
    ----------
    payload
        What the run began with.
    reporter
        Where changes are told.
    state_dir
        Rootbound's state folder.
    memory
        File that keeps the lists in force, so that a run that is resumed begins with them.
    announce
        Called with the new policy, to report the enforcement in force.
    stop
        Ends the run with a reason and a sentence.
    """

    def __init__(
        self,
        payload: RunPayload,
        reporter: Reporter,
        *,
        state_dir: Path,
        memory: Path,
        announce: Callable[[Policy], None],
        stop: Callable[[Failure, str], None],
    ) -> None:
        self._lists = PolicyUpdate(
            0, payload.lease_generation, payload.writable_roots, payload.readable_paths
        )
        self._reporter = reporter
        self._state_dir = state_dir
        self._memory = memory
        self._announce = announce
        self._stop = stop
        self._build: Build | None = None
        self._policy: Policy | None = None
        self._runner: CommandRunner | None = None
        self._files: FileAccess | None = None
        self._news: list[str] = []
        self._tell: Callable[[str], None] = self._news.append
        self._lock = asyncio.Lock()

    @property
    def policy(self) -> Policy:
        """The policy in force.

        Raises
        ------
        RuntimeError
            Before `begin`.
        """
        if self._policy is None:
            raise RuntimeError("The run has no policy yet.")
        return self._policy

    @property
    def roots(self) -> list[str]:
        """The roots that are granted, as the backend names them."""
        return list(self._lists.writable_roots)

    async def begin(self, build: Build) -> Policy:
        """Build the first policy, from what holds by now.

        Raises
        ------
        PolicyError
            If it cannot be built.
        """
        async with self._lock:
            self._lists = await asyncio.to_thread(self._first)
            self._policy = await self._built(build)
            self._build = build
            return self._policy

    def govern(
        self, *, runner: CommandRunner | None = None, files: FileAccess | None = None
    ) -> None:
        """Take over who enforces the policy; must follow its making without a pause."""
        self._runner = runner or self._runner
        self._files = files or self._files

    def tell_to(self, tell: Callable[[str], None]) -> None:
        """Name the one who tells the agent what changes, and hand over what waits for that."""
        self._tell = tell
        for text in self._news:
            tell(text)
        self._news.clear()

    async def adopt(self, update: PolicyUpdate) -> dict[str, Any]:
        """Put other lists in force; returns when nothing of what was withdrawn goes on.

        Parameters
        ----------
        update
            The complete lists, with a generation; an older one than that in force is ignored.

        Returns
        -------
        dict
            ``generation`` in force, ``writable`` folders, ``refused`` (path, code and detail of
            each that grants nothing), ``killed`` commands, and ``live``: whether the run goes on.
        """
        async with self._lock:
            if update.generation < self._lists.generation:
                return self._answer([], 0)
            refused: list[dict[str, str]] = []
            self._lists = await asyncio.to_thread(self._accept, update, refused)
            if self._build is None:
                return self._answer(refused, 0)
            try:
                policy = await self._built(self._build)
            except PolicyError as error:
                killed = await self._end(error)
                return self._answer(refused, killed, live=False)
            return self._answer(refused, await self._change(policy))

    async def _built(self, build: Build) -> Policy:
        lists = self._lists
        return await asyncio.to_thread(
            build, writable_roots=lists.writable_roots, readable_paths=lists.readable_paths
        )

    def _accept(self, update: PolicyUpdate, refused: list[dict[str, str]]) -> PolicyUpdate:
        """Leave out of the lists what cannot be granted, and keep them on the disk."""
        state = self._state_dir
        lists = msgspec.structs.replace(
            update,
            writable_roots=_acceptable(update.writable_roots, canonical_root, state, refused),
            readable_paths=_acceptable(update.readable_paths, canonical_readable, state, refused),
        )
        write_atomic(self._memory, msgspec.json.encode(lists))
        return lists

    def _first(self) -> PolicyUpdate:
        """Return the lists to begin with; what can no longer be read grants nothing."""
        lists = self._remembered()
        refused: list[dict[str, str]] = []
        readable = _acceptable(lists.readable_paths, canonical_readable, self._state_dir, refused)
        return msgspec.structs.replace(lists, readable_paths=readable)

    def _remembered(self) -> PolicyUpdate:
        """Return the lists that an earlier process of the same hand-over had in force."""
        if not self._memory.exists():
            return self._lists
        lists = msgspec.json.decode(self._memory.read_bytes(), type=PolicyUpdate)
        same = lists.lease_generation == self._lists.lease_generation
        newer = lists.generation > self._lists.generation
        return lists if same and newer else self._lists

    async def _change(self, policy: Policy) -> int:
        """Swap the policy everywhere; return how many commands were killed for it."""
        before = self.policy
        if (before.writable, before.readable) == (policy.writable, policy.readable):
            return 0
        lost = [f"“{path}”" for path in withdrawn(before, policy)]
        self._policy = policy
        if self._files is not None:
            await asyncio.to_thread(self._files.adopt, policy)
        killed = 0
        if self._runner is not None:
            self._runner.adopt(policy)
            if lost:
                reason = f"Access to {', '.join(lost)} was withdrawn, so this command was killed."
                killed = await self._runner.withdraw(
                    lambda started: bool(withdrawn(started, policy)), reason
                )
        for text in (*_gains(before, policy), *(f"Access to {one} was withdrawn." for one in lost)):
            self._tell(text)
            self._reporter.notice(text)
        if killed:
            self._reporter.notice(f"{killed} running command(s) that used it were killed.")
        self._announce(policy)
        return killed

    async def _end(self, error: PolicyError) -> int:
        """Take everything away and end the run: it has no project to work in any more."""
        self._stop("REPO_INVALID", f"{error.sentence} The run was stopped; its branch is kept.")
        if self._files is not None:
            await asyncio.to_thread(self._files.close)
        if self._runner is None:
            return 0
        return await self._runner.withdraw(lambda _: True, "The run was stopped.")

    def _answer(
        self, refused: list[dict[str, str]], killed: int, *, live: bool = True
    ) -> dict[str, Any]:
        writable = () if self._policy is None or not live else self._policy.writable
        return {
            "generation": self._lists.generation,
            "writable": [str(path) for path in writable],
            "refused": refused,
            "killed": killed,
            "live": live,
        }


def withdrawn(before: Policy, after: Policy) -> list[Path]:
    """Return the folders of one policy that another one does not grant any more."""
    lost = [
        path for path in before.writable if not any(within(path, root) for root in after.writable)
    ]
    reach = (*after.writable, *after.readable)
    lost += [
        path
        for path in before.readable
        if path not in lost and not any(within(path, root) for root in reach)
    ]
    return lost


def _gains(before: Policy, after: Policy) -> list[str]:
    """Say in sentences what a policy grants that the one before did not."""
    writable = [str(path) for path in after.writable if path not in before.writable]
    readable = [str(path) for path in after.readable if path not in before.readable]
    again = "; what was denied there can be tried again."
    return [
        *(f"You may now write in “{path}”{again}" for path in writable),
        *(f"You may now read “{path}”{again}" for path in readable),
    ]


def _acceptable(
    paths: Iterable[str],
    check: Callable[..., Path],
    state_dir: Path,
    refused: list[dict[str, str]],
) -> list[str]:
    """Return the paths that may be granted; add the others to `refused`, with the reason."""
    kept: list[str] = []
    for path in paths:
        try:
            canonical = check(path, state_dir=state_dir)
        except PolicyError as error:
            code, detail = error.code, error.sentence
        else:
            if os.fspath(canonical) == path:
                kept.append(path)
                continue
            # A link took its place: what was granted is the folder, not the name.
            code = "root-moved"
            detail = f"“{path}” now leads to “{canonical}”; grant that folder by its own name."
        log.warning("%s grants nothing: %s", path, detail)
        refused.append({"path": path, "code": code, "detail": detail})
    return kept
