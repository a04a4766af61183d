"""The agent's own file tools: every path is resolved beneath a pinned root, by the kernel.

There is one descriptor per root, from when the folder was granted, and a name that leads to another
folder by now grants nothing. A path is resolved from it by `beneath` (`openat2` where the kernel
has it), so that neither `..`, nor a symbolic link, nor one swapped in meanwhile leads outside. A
change acts on the pinned parent folder and the last component alone.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from rootbound_lda.audit import AuditRecord, AuditSink, Operation, encode_path
from rootbound_lda.beneath import PinnedRoot, ReplacedError
from rootbound_lda.pins import Identity, identity_of
from rootbound_lda.places import within
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox._fsops import (
    FileInfo,
    current_umask,
    info_of,
    list_folder,
    mode_of,
    replace,
)

__all__ = ["AccessDenied", "FileAccess", "FileInfo", "FileTooLarge"]

_FOLDER = os.O_PATH | os.O_DIRECTORY
_REFUSED = (
    errno.EXDEV, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EROFS, errno.ESTALE,
)  # fmt: skip


class AccessDenied(Exception):  # noqa: N818 - the word of the interface
    """The policy, or the kernel, refused an operation.

    Parameters
    ----------
    operation
        READ, WRITE or DELETE.
    path
        Absolute path as asked for.
    sentence
        One sentence for the agent, naming the folders it may write in.
    """

    def __init__(self, operation: Operation, path: str, sentence: str) -> None:
        super().__init__(sentence)
        self.operation = operation
        self.path = path
        self.sentence = sentence


class FileTooLarge(Exception):  # noqa: N818 - the word of the interface
    """A file is longer than the caller wants to read.

    Parameters
    ----------
    path
        Absolute path.
    size
        Length of the file, in bytes.
    limit
        The most the caller takes, in bytes.
    """

    def __init__(self, path: str, size: int, limit: int) -> None:
        super().__init__(f"“{path}” has {size} bytes; at most {limit} can be read.")
        self.path = path
        self.size = size
        self.limit = limit


class FileAccess:
    """Reads, writes and deletes files of a run for its agent, and records each operation.

    Safe to use from several threads. Paths are relative to the worktree or absolute.

    Parameters
    ----------
    policy
        The run's policy.
    audit
        Takes the records; an operation it cannot record is refused with `AuditUnavailable`.

    Raises
    ------
    OSError
        If a root of the policy is gone.
    """

    def __init__(self, policy: Policy, audit: AuditSink) -> None:
        self._policy = policy
        self._audit = audit
        self._lock = threading.Lock()
        self._change = threading.Lock()
        self._retired: list[PinnedRoot] = []
        self._roots: list[PinnedRoot] = []
        writable = (*policy.writable, policy.private_home, policy.private_tmp)
        try:
            self._roots += [
                PinnedRoot(path, policy.pin_of(path), writable=True) for path in writable
            ]
            self._roots += [
                PinnedRoot(path, policy.pin_of(path), writable=False) for path in policy.readable
            ]
        except OSError:
            self.close()
            raise
        # The innermost root decides.
        self._roots.sort(key=lambda root: len(root.path.parts), reverse=True)

    def adopt(self, policy: Policy) -> None:
        """Take another policy; a change that is under way ends first, and none follows it.

        Roots of both policies stay pinned as they are. A new one that is gone grants nothing.
        """
        writable = (*policy.writable, policy.private_home, policy.private_tmp)
        wanted = [(path, True) for path in writable] + [(path, False) for path in policy.readable]
        with self._change, self._lock:
            pinned = {(root.path, root.writable): root for root in self._roots}
            roots: list[PinnedRoot] = []
            for key in wanted:
                known, pin = pinned.get(key), policy.pin_of(key[0])
                if known is not None and (pin is None or known.is_pinned_as(pin)):
                    roots.append(pinned.pop(key))
                    continue
                with suppress(OSError):
                    roots.append(PinnedRoot(key[0], pin, writable=key[1]))
            # A read may still use their descriptors; `close` lets go of them.
            self._retired += pinned.values()
            roots.sort(key=lambda root: len(root.path.parts), reverse=True)
            self._policy, self._roots = policy, roots

    def close(self) -> None:
        """Release the descriptors; further use fails."""
        with self._change, self._lock:
            roots, self._roots = [*self._roots, *self._retired], []
            self._retired = []
        for root in roots:
            root.release()

    def __enter__(self) -> FileAccess:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # -- operations ----------------------------------------------------------------------------

    def read_bytes(self, path: str | Path, *, max_bytes: int) -> bytes:
        """Read a whole regular file.

        Parameters
        ----------
        path
            Relative to the worktree, or absolute.
        max_bytes
            The most to read, in bytes.

        Raises
        ------
        AccessDenied
            If the path is outside what the run may read.
        FileTooLarge
            If the file is longer than `max_bytes`; nothing is returned then.
        FileNotFoundError, IsADirectoryError, NotADirectoryError
            As the words say.
        ValueError
            If it holds a NUL character, or is no regular file.
        """
        absolute = self._absolute(path)
        with self._judged("READ", absolute, "read_file"):
            root, inner = self._find(absolute, "READ")
            fd = root.open(inner, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            facts = os.fstat(fd)
            if (facts.st_dev, facts.st_ino) in self._covered():
                self._record("READ", "DENIED", absolute, "read_file")
                sentence = f"“{absolute}” holds secrets and may not be read."
                raise AccessDenied("READ", str(absolute), sentence)
            if stat.S_ISDIR(facts.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(absolute))
            if not stat.S_ISREG(facts.st_mode):
                raise ValueError(f"“{absolute}” is not a regular file.")
            if facts.st_size > max_bytes:
                raise FileTooLarge(str(absolute), facts.st_size, max_bytes)
            with os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(max_bytes + 1)
            if len(data) > max_bytes:
                raise FileTooLarge(str(absolute), len(data), max_bytes)
            self._record("READ", "ALLOWED", absolute, "read_file")
        finally:
            os.close(fd)
        return data

    def _covered(self) -> set[Identity | None]:
        return {identity_of(secret) for secret, _ in self._policy.covers}

    def write_bytes(self, path: str | Path, data: bytes) -> bool:
        """Write a file as a whole, or not at all; missing folders are made.

        The content goes to a new file beside it, which then takes its name: a link is replaced
        and never followed, and other names of the same file keep their content.

        Parameters
        ----------
        path
            Relative to the worktree, or absolute.
        data
            The content.

        Returns
        -------
        bool
            Whether the file is new. An existing one keeps its permission bits.

        Raises
        ------
        AccessDenied
            If the path is outside what the run may write, or a part of `.git`.
        IsADirectoryError, NotADirectoryError
            As the words say.
        """
        absolute = self._absolute(path)
        with self._change, self._judged("WRITE", absolute, "write_file"):
            root, inner = self._find(absolute, "WRITE")
            folder, last = self._make_parents(root, inner)
            try:
                mode = mode_of(folder, last, absolute)
                # Before the effect: what cannot be recorded must not happen.
                self._record("WRITE", "ALLOWED", absolute, "write_file", size=len(data))
                replace(folder, last, data, 0o644 & ~current_umask() if mode is None else mode)
            finally:
                os.close(folder)
        return mode is None

    def delete(self, path: str | Path) -> None:
        """Delete a file, a link (not what it points to) or an empty folder.

        Raises
        ------
        AccessDenied
            If the path is outside what the run may write, or a part of `.git`.
        FileNotFoundError, NotADirectoryError
            As the words say.
        OSError
            ENOTEMPTY for a folder that is not empty.
        """
        absolute = self._absolute(path)
        with self._change, self._judged("DELETE", absolute, "delete_file"):
            root, inner = self._find(absolute, "DELETE")
            folder, last = self._parent(root, inner)
            try:
                kind = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
                if stat.S_ISDIR(kind) and any(os.scandir(b"/proc/self/fd/%d/%s" % (folder, last))):
                    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(absolute))
                self._record("DELETE", "ALLOWED", absolute, "delete_file")
                (os.rmdir if stat.S_ISDIR(kind) else os.unlink)(last, dir_fd=folder)
            finally:
                os.close(folder)

    def file_info(self, path: str | Path) -> FileInfo:
        """Look at a path without reading it; links are not followed at its end. Not recorded.

        Raises
        ------
        AccessDenied
            If the path is outside what the run may read; this is recorded.
        FileNotFoundError, NotADirectoryError
            As the words say.
        """
        absolute = self._absolute(path)
        with self._judged("READ", absolute, "file_info"):
            root, inner = self._find(absolute, "READ")
            fd = root.open(inner, os.O_PATH | os.O_NOFOLLOW)
        try:
            return info_of(absolute, os.fstat(fd))
        finally:
            os.close(fd)

    def list_dir(self, path: str | Path = ".") -> list[FileInfo]:
        """List a folder, sorted by name; one READ record for the folder.

        Raises
        ------
        AccessDenied
            If the path is outside what the run may read.
        FileNotFoundError, NotADirectoryError
            As the words say.
        """
        absolute = self._absolute(path)
        with self._judged("READ", absolute, "list_files"):
            root, inner = self._find(absolute, "READ")
            fd = root.open(inner, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._record("READ", "ALLOWED", absolute, "list_files")
            return list_folder(fd, absolute)
        finally:
            os.close(fd)

    def walk(
        self, path: str | Path = ".", *, enter: Callable[[FileInfo], bool] | None = None
    ) -> Iterator[FileInfo]:
        """Go through a folder and what is below, parents first, links not followed.

        Each folder leaves one READ record. What disappears or cannot be opened on the way is left
        out. `.git` is never entered.

        Parameters
        ----------
        path
            Where to begin.
        enter
            Decides which folders are entered; by default all.

        Raises
        ------
        AccessDenied
            If `path` is outside what the run may read.
        FileNotFoundError, NotADirectoryError
            If `path` is no folder.
        """
        pending = self.list_dir(path)[::-1]
        while pending:
            info = pending.pop()
            yield info
            if info.kind != "folder" or info.path.name == ".git":
                continue
            if enter is not None and not enter(info):
                continue
            with suppress(FileNotFoundError, NotADirectoryError, AccessDenied):
                pending += self.list_dir(info.path)[::-1]

    # -- paths ---------------------------------------------------------------------------------

    def _absolute(self, path: str | Path) -> Path:
        text = os.fspath(path)
        if "\0" in text:
            raise ValueError("a path cannot hold a NUL character")
        # No normalisation: what `..` means after a link is for the kernel to say.
        return self._policy.worktree / text

    def _find(self, absolute: Path, operation: Operation) -> tuple[PinnedRoot, bytes]:
        """Choose the root that holds a path; the rest of the path is relative to it."""
        flat = Path(os.path.normpath(absolute))
        with self._lock:
            roots = list(self._roots)
        changes = operation != "READ"
        for root in roots:
            if (changes and not root.writable) or not within(flat, root.path):
                continue
            inner = _relative(absolute, flat, root.path)
            if changes:
                self._check_change(root, flat, inner, absolute, operation)
            with self._lock:
                root.pin()
            return root, os.fsencode(inner)
        raise self._denial(operation, absolute)

    def _check_change(
        self, root: PinnedRoot, flat: Path, inner: str, absolute: Path, operation: Operation
    ) -> None:
        guarded = root.path in self._policy.writable
        names = {part.lower() for part in (*Path(inner).parts, *flat.relative_to(root.path).parts)}
        if flat == root.path or (guarded and ".git" in names):
            raise self._denial(operation, absolute)
        if any(within(flat, path) or within(path, flat) for path in self._policy.protected):
            raise self._denial(operation, absolute)

    def _parent(self, root: PinnedRoot, inner: bytes) -> tuple[int, bytes]:
        head, _, last = inner.rstrip(b"/").rpartition(b"/")
        if last in (b"", b".", b".."):
            raise OSError(errno.EINVAL, "the path does not end in a name")
        fd = root.open(head, _FOLDER)
        try:
            self._check_place(root, fd)
        except AccessDenied:
            os.close(fd)
            raise
        return fd, last

    def _check_place(self, root: PinnedRoot, fd: int) -> None:
        """Refuse a folder that a link led to and that lies in `.git` or a protected place."""
        real = Path(f"/proc/self/fd/{fd}").readlink()
        if root.path not in self._policy.writable:
            return
        inside = real.relative_to(root.path).parts if within(real, root.path) else ()
        if ".git" in (part.lower() for part in inside) or any(
            within(real, path) for path in self._policy.protected
        ):
            raise self._denial("WRITE", real)

    def _make_parents(self, root: PinnedRoot, inner: bytes) -> tuple[int, bytes]:
        head, _, last = inner.rstrip(b"/").rpartition(b"/")
        made = b""
        for part in head.split(b"/"):
            if part in (b"", b"."):
                continue
            here = made + b"/" + part if made else part
            try:
                os.close(root.open(here, _FOLDER))
            except FileNotFoundError:
                above, name = self._parent(root, here)
                try:
                    with suppress(FileExistsError):
                        folder = root.path / os.fsdecode(here)
                        self._record("WRITE", "ALLOWED", folder, "write_file")
                        os.mkdir(name, 0o755 & ~current_umask(), dir_fd=above)
                finally:
                    os.close(above)
            made = here
        return self._parent(root, inner) if last else (-1, b"")

    # -- verdicts ------------------------------------------------------------------------------

    def _denial(self, operation: Operation, path: Path) -> AccessDenied:
        places = ", ".join(f"“{root}”" for root in self._policy.writable)
        if operation == "READ":
            sentence = (
                f"“{path}” may not be read; readable are {places} and the project's readable paths."
            )
        elif any(part.lower() == ".git" for part in path.parts):
            sentence = f"“{path}” belongs to git and may not be changed; use files in {places}."
        else:
            sentence = f"“{path}” may not be changed; writable are only {places}."
        return AccessDenied(operation, str(path), sentence)

    @contextmanager
    def _judged(self, operation: Operation, path: Path, tool: str) -> Iterator[None]:
        """Turn a refusal into a record and an `AccessDenied`."""
        try:
            yield
        except AccessDenied as denied:
            self._record(operation, "DENIED", path, tool)
            denied.operation = operation
            raise
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._record(operation, "DENIED", path, tool, errno=error.errno)
            if isinstance(error, ReplacedError):
                sentence = (
                    f"“{error.filename}” was moved or replaced since it was granted, so nothing in "
                    "it can be used; the user has to grant it again."
                )
                raise AccessDenied(operation, str(path), sentence) from error
            raise self._denial(operation, path) from error

    def _record(
        self,
        operation: Operation,
        result: Literal["ALLOWED", "DENIED"],
        path: Path,
        tool: str,
        **facts: object,
    ) -> None:
        text, detail = encode_path(os.fsencode(os.path.normpath(path)))
        self._audit.record(
            AuditRecord(
                operation, result, text, "tool", {"tool": tool, "exact": True, **detail, **facts}
            )
        )


def _relative(absolute: Path, flat: Path, root: Path) -> str:
    """Name a path from a root, keeping `..` for the kernel where the text allows it."""
    try:
        return str(absolute.relative_to(root))
    except ValueError:
        return str(flat.relative_to(root))
