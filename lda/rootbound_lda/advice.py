"""What could be granted so that a denied operation would succeed the next time.

The answer travels with the audit entry, because only the LDA may look at the user's folders. It is
advice: whoever grants the folder has it checked once more.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from .audit import AuditRecord, AuditSink, Operation
from .policy import (
    _MACHINE,
    Policy,
    PolicyError,
    RootRefused,
    _readable,
    canonical_root,
    overlaps,
    secret_paths,
    within,
)

MAX_PLACES: Final = 64
"""Different folders of one run that are looked at; a flood of denials costs no more than that."""

_TOO_MANY: Final = "This run was refused in too many different places to ask about each of them."

Advice = dict[str, str]


def canonical_readable(path: str, *, state_dir: Path) -> Path:
    """Resolve a file or folder that a user wants to make readable to a run.

    Parameters
    ----------
    path
        As the user gave it.
    state_dir
        Rootbound's state folder.

    Returns
    -------
    Path
        It, absolute and free of symbolic links.

    Raises
    ------
    PolicyError
        With a code and a sentence, if it holds secrets, a whole home folder, or a part of the
        operating system that is not readable anyway.
    """
    resolved = _readable(path, secret_paths(state_dir))
    for folder in _MACHINE:
        if overlaps(resolved, Path(os.path.realpath(folder))):
            raise PolicyError(
                "readable-protected",
                f"“{path}” belongs to the operating system; what programs need of it is readable "
                "anyway.",
            )
    return resolved


class Advisor:
    """A sink that adds to each denied record which folder could be granted, or why none.

    Parameters
    ----------
    sink
        Where the records go.
    repo_path
        The user's repository, which no agent writes in.
    state_dir
        Rootbound's state folder.
    policy
        Gives the policy in force.
    """

    def __init__(
        self, sink: AuditSink, *, repo_path: Path, state_dir: Path, policy: Callable[[], Policy]
    ) -> None:
        self._sink = sink
        self._repository = repo_path
        self._state_dir = state_dir
        self._policy = policy
        self._secrets = policy().secrets or secret_paths(state_dir)
        self._known: dict[tuple[bool, str], Advice] = {}

    def record(self, record: AuditRecord) -> None:
        """Keep one record; a denied one gets `grant` in its detail.

        Raises
        ------
        AuditUnavailable
            When the sink cannot keep it.
        """
        if record.result == "DENIED":
            grant = self.advise(record.operation, record.path, record.detail)
            record = replace(record, detail={**record.detail, "grant": grant})
        self._sink.record(record)

    def settle(self) -> None:
        """Wait until every record so far would outlive this process."""
        self._sink.settle()

    def advise(self, operation: Operation, text: str, detail: object = ()) -> Advice:
        """Say what could be granted for a denied operation.

        Parameters
        ----------
        operation
            What was denied.
        text
            The path, as its audit entry has it.
        detail
            The record's detail; one with `path_length` has a path that was cut.

        Returns
        -------
        dict
            ``{"folder": path}`` (for READ it may be a single file), or ``{"refused": sentence}``.
        """
        cut = isinstance(detail, dict) and "path_length" in detail
        if cut or "\\x" in text or not text.startswith("/"):
            return {"refused": "This path cannot be written as text, so it cannot be granted."}
        path, reading = Path(text), operation == "READ"
        if not reading and any(part.lower() == ".git" for part in path.parts):
            return {"refused": "What belongs to git is never granted."}
        anchor = path if operation != "DELETE" and path.is_dir() else path.parent
        key = (reading, str(anchor))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_PLACES:
                return {"refused": _TOO_MANY}
            known = self._known[key] = self._judge(anchor, reading=reading)
        if reading and "refused" in known and anchor != path and path.is_file():
            # The folder holds too much, as a home folder does; the file alone may be harmless.
            return self._alone(path, known)
        return known

    def _judge(self, anchor: Path, *, reading: bool) -> Advice:
        try:
            while not anchor.is_dir():
                anchor = anchor.parent
            folder = Path(os.path.realpath(anchor))
            self._refuse(folder, reading=reading)
            if reading:
                canonical_readable(str(folder), state_dir=self._state_dir)
            else:
                canonical_root(str(folder), state_dir=self._state_dir)
        except PolicyError as refused:
            return {"refused": refused.sentence}
        except OSError as error:
            return {"refused": f"The folder cannot be looked at ({error.strerror})."}
        return {"folder": str(folder)}

    def _alone(self, path: Path, otherwise: Advice) -> Advice:
        """Propose one file for reading; what is said of its folder, when that is no use either."""
        try:
            file = Path(os.path.realpath(path))
            self._refuse(file, reading=True)
            canonical_readable(str(file), state_dir=self._state_dir)
        except (PolicyError, OSError):
            return otherwise
        return {"folder": str(file)}

    def _refuse(self, place: Path, *, reading: bool) -> None:
        """Refuse what is never asked for, whatever the user would say.

        Raises
        ------
        RootRefused
            With the reason.
        """
        policy = self._policy()
        if any(overlaps(place, secret) for secret in self._secrets):
            raise RootRefused("root-protected", "Secrets are kept there; it is never granted.")
        if place == Path(os.path.realpath(tempfile.gettempdir())):
            raise RootRefused("root-protected", "All programs share it for temporary files.")
        held = (*policy.writable, policy.private_home, policy.private_tmp)
        if any(within(place, folder) for folder in held):
            raise RootRefused(
                "root-exists", "The folder is granted already; this operation itself is refused."
            )
        if not reading and overlaps(place, self._repository):
            raise RootRefused(
                "root-is-project", "Agents change a copy of the project, never your own checkout."
            )
