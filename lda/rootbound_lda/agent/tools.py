"""The tools at work: every file goes through `files`, every command through `sandbox`."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from ..audit import AuditUnavailable
from ..files import AccessDenied, FileAccess, FileTooLarge
from ..git import Git, GitError
from ..logs import KeptLog
from ..policy import Policy
from ..reports import OutputFeed, Reporter
from ..sandbox import CommandRunner, SandboxUnavailable, base_env
from . import edits, notebooks, syntax
from .schemas import BY_NAME, ToolError, check_arguments, parse_arguments

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_READ_CHARS: Final = 30_000
MAX_LINE_CHARS: Final = 2_000
MAX_LISTED: Final = 100_000
MAX_SEARCHED: Final = 5_000
MAX_SEARCH_FILE: Final = 1024 * 1024
OUTPUT_EDGE: Final = 5_000
"""Characters kept of the beginning and of the end of a command's output."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The agent says that it is done, or that it cannot go on."""

    status: Literal["done", "blocked"]
    summary: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says to the model."""

    ok: bool
    text: str
    finish: Finish | None = None


@dataclass(slots=True)
class Toolbox:
    """The tools of one run.

    Attributes
    ----------
    files
        The chokepoint for file operations.
    git
        For listing what git does not ignore.
    runner
        Runs commands; ``None`` when there is no shell, as for the PM.
    artifacts
        Folder for whole outputs.
    max_log_bytes
        Bytes of one output that are kept there.
    is_unsaved
        Tells of a file whether the user has it open with unsaved changes.
    """

    policy: Policy
    files: FileAccess
    git: Git
    runner: CommandRunner | None
    reporter: Reporter | None
    artifacts: Path | None
    command_timeout_s: float = 600.0
    max_log_bytes: int = 16 * 1024 * 1024
    read_only: bool = False
    is_unsaved: Callable[[Path], bool] = lambda _: False
    _seen: dict[str, str] = field(default_factory=dict)

    async def call(self, name: str, raw: str | dict[str, Any] | None, call_id: str) -> Answer:
        """Run a tool; whatever goes wrong comes back as text for the model.

        Raises
        ------
        AuditUnavailable
            When nothing may happen because nothing can be recorded; the run ends then.
        SandboxUnavailable
            When commands cannot be confined any more.
        """
        try:
            arguments = check_arguments(name, parse_arguments(raw))
            if self.read_only and not BY_NAME[name].reads_only:
                raise ToolError(f"{name} is not available here.")  # noqa: TRY301 - one way out
            return await self._dispatch(name, arguments, call_id)
        except (ToolError, AccessDenied, FileTooLarge) as error:
            return Answer(ok=False, text=str(error))
        except (AuditUnavailable, SandboxUnavailable):
            raise
        except (OSError, ValueError, GitError) as error:
            return Answer(ok=False, text=f"{name} failed: {error}")

    async def _dispatch(self, name: str, arguments: dict[str, Any], call_id: str) -> Answer:
        if name == "run_command":
            return await self._run_command(call_id=call_id, **arguments)
        if name == "finish":
            finish = Finish(arguments["status"], arguments["summary"])
            return Answer(ok=True, text="Noted.", finish=finish)
        if name == "list_files":
            return Answer(ok=True, text=await self._list_files(**arguments))
        if name == "search_files":
            return Answer(ok=True, text=await self._search_files(**arguments))
        simple: dict[str, Callable[..., str]] = {
            "read_file": self._read_file,
            "edit_file": self._edit_file,
            "write_file": self._write_file,
            "delete_file": self._delete_file,
        }
        return Answer(ok=True, text=await asyncio.to_thread(simple[name], **arguments))

    # Files

    def _load(self, path: str) -> str:
        """Return a file's text; a notebook's by cell, unless a merge is to be settled in it."""
        raw = self._raw(path)
        by_cell = notebooks.is_notebook(path) and not notebooks.in_conflict(raw)
        return notebooks.to_text(path, raw) if by_cell else raw

    def _save(self, path: str, content: str, before: str | None) -> None:
        """Write a file; a notebook from its text by cell."""
        self._refuse_unsaved(path)
        if notebooks.is_notebook(path) and not notebooks.in_conflict(before or ""):
            content = notebooks.from_text(path, content, before)
        self.files.write_bytes(path, content.encode("utf-8", "surrogatepass"))

    def _refuse_unsaved(self, path: str) -> None:
        if self.is_unsaved(self.policy.worktree / path):
            raise ToolError(
                f"{path} is open in JupyterLab with unsaved changes, so it cannot be changed now; "
                "leave it as it is, or finish as blocked and ask the user to save or close it."
            )

    def _raw(self, path: str) -> str:
        data = self.files.read_bytes(path, max_bytes=MAX_FILE_BYTES)
        if b"\0" in data[:8192]:
            raise ToolError(f"{path} is a binary file; it cannot be shown or edited as text.")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ToolError(f"{path} is not UTF-8 text; use run_command for it.") from error

    def _remember(self, path: str, content: str) -> None:
        self._seen[_key(path)] = hashlib.sha256(content.encode()).hexdigest()

    def _read_file(self, path: str, offset: int, limit: int) -> str:
        content = self._load(path)
        self._remember(path, content)
        lines = content.splitlines()
        total = len(lines)
        if not total:
            return f"{path} is empty."
        if offset > total:
            raise ToolError(f"{path} has {total} lines; offset {offset} is behind its end.")
        shown: list[str] = []
        size = 0
        for number, line in enumerate(lines[offset - 1 : offset - 1 + limit], offset):
            cut = line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]}… [line cut]"
            entry = f"{number}\t{cut}"
            size += len(entry) + 1
            if size > MAX_READ_CHARS and shown:
                break
            shown.append(entry)
        last = offset + len(shown) - 1
        footer = f"[lines {offset}-{last} of {total}"
        footer += f"; continue with offset={last + 1}]" if last < total else "]"
        return "\n".join([*shown, footer])

    def _edit_file(self, path: str, old_string: str, new_string: str, replace_all: bool) -> str:
        content = self._load(path)
        seen = self._seen.get(_key(path))
        if seen is not None and seen != hashlib.sha256(content.encode()).hexdigest():
            self._seen.pop(_key(path))
            raise ToolError(f"{path} has changed since you last read it; read it again first.")
        edit = edits.replace(content, old_string, new_string, every=replace_all)
        self._save(path, edit.content, self._raw(path) if notebooks.is_notebook(path) else None)
        self._remember(path, edit.content)
        places = f"{edit.count} places" if edit.count > 1 else f"line {edit.line}"
        text = f"Changed {path} at {places}:\n{edits.region(edit.content, edit.line, new_string)}"
        return text + syntax.warning(path, edit.content, content)

    def _write_file(self, path: str, content: str) -> str:
        before = None
        if notebooks.is_notebook(path):
            with contextlib.suppress(AccessDenied, OSError):
                before = self._raw(path)
        self._save(path, content, before)
        self._remember(path, content)
        size, count = len(content.encode("utf-8", "surrogatepass")), len(content.splitlines())
        return f"Wrote {path} ({count} lines, {size} bytes)." + syntax.warning(path, content)

    def _delete_file(self, path: str) -> str:
        self._refuse_unsaved(path)
        self.files.delete(path)
        self._seen.pop(_key(path), None)
        return f"Deleted {path}."

    # Finding

    async def _paths(self, path: str) -> list[str]:
        """Return files below ``path``, relative to the worktree, as git sees them."""
        base = _inside(path, self.policy.worktree)
        if base is None:
            return await asyncio.to_thread(self._walked, path)
        await asyncio.to_thread(self.files.file_info, path)  # says who may look, and that it exists
        listed = await self.git.run(
            "--literal-pathspecs", "ls-files", "--cached", "--others", "--exclude-standard",
            "--deduplicate", "-z", "--", base or ".",
        )  # fmt: skip
        names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
        return [name for name in names if not name.endswith("/")][:MAX_LISTED]

    def _walked(self, path: str) -> list[str]:
        """Return files below a folder outside of the worktree that the run may read."""
        found: list[str] = []
        for entry in self.files.walk(path):
            if entry.kind != "file":
                continue
            found.append(str(entry.path))
            if len(found) >= MAX_LISTED:
                break
        return found

    async def _list_files(self, path: str, pattern: str, limit: int) -> str:
        base = _inside(path, self.policy.worktree) or ""
        names = [
            name
            for name in await self._paths(path)
            if pattern in ("**", "*", "") or _fits(_below(name, base), pattern)
        ]
        if not names:
            return f"No files fit {pattern!r} in {path}."
        shown = "\n".join(names[:limit])
        if len(names) > limit:
            shown += f"\n[{limit} of {len(names)} files; narrow path or pattern, or raise limit]"
        return shown

    async def _search_files(self, pattern: str, path: str, glob: str, limit: int) -> str:
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise ToolError(f"The pattern is not a valid regular expression: {error}.") from error
        base = _inside(path, self.policy.worktree) or ""
        names = [
            name for name in await self._paths(path) if not glob or _fits(_below(name, base), glob)
        ]
        lines = await asyncio.to_thread(self._search, wanted, names[:MAX_SEARCHED], limit)
        note = ""
        if len(names) > MAX_SEARCHED:
            note = f"\n[searched {MAX_SEARCHED} of {len(names)} files; narrow path or glob]"
        if not lines:
            return f"No line fits {pattern!r}.{note}"
        if len(lines) > limit:
            note = f"\n[the first {limit} lines; narrow the search, or raise limit]{note}"
        return "\n".join(lines[:limit]) + note

    def _search(self, wanted: re.Pattern[str], names: Sequence[str], limit: int) -> list[str]:
        lines: list[str] = []
        for name in names:
            try:
                data = self.files.read_bytes(name, max_bytes=MAX_SEARCH_FILE)
            except (AccessDenied, FileTooLarge, OSError):
                continue  # too large, a link to nowhere, or not readable: nothing to find there
            if b"\0" in data[:8192]:
                continue
            for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
                if wanted.search(line[:MAX_LINE_CHARS]):
                    lines.append(f"{name}:{number}:{line[:300]}")
                    if len(lines) > limit:
                        return lines
        return lines

    # Commands

    async def _run_command(self, command: str, timeout_s: int, call_id: str) -> Answer:
        if self.runner is None:
            raise ToolError(
                "Commands cannot run on this machine, because they could not be confined; use the "
                "file tools."
            )
        log = _CommandLog(self.artifacts, call_id, self.max_log_bytes)
        feed = OutputFeed(self.reporter, f"command:{call_id}", log.write) if self.reporter else None
        network = self.policy.network.agent
        started = time.monotonic()
        try:
            result = await self.runner.run(
                ["/bin/bash", "-c", command],
                cwd=self.policy.worktree,
                env=base_env(self.policy, network=network),
                network=network,
                timeout_s=min(timeout_s, self.command_timeout_s),
                on_output=feed,
                max_output=MAX_KEPT_BYTES,
            )
        finally:
            name = await asyncio.to_thread(log.close)
        took = time.monotonic() - started
        output = result.output.decode("utf-8", "replace")
        if result.timed_out:
            head = f"killed after {took:.0f}s: it did not end in time"
        elif result.signal is not None:
            head = f"killed by signal {result.signal} ({took:.1f}s)"
        else:
            head = f"exit code {result.exit_code} ({took:.1f}s)"
        ok = result.exit_code == 0 and not result.timed_out
        return Answer(ok=ok, text=f"{head}\n{shorten(output, name)}".rstrip())


MAX_KEPT_BYTES: Final = 256 * 1024
"""Bytes of output held in memory while a command runs."""


class _CommandLog:
    """The whole output of one command, as a file that is kept when it is long."""

    def __init__(self, folder: Path | None, call_id: str, limit: int) -> None:
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:80] or "command"
        path = folder / f"command-{safe}-{time.time_ns():x}.log" if folder else None
        self._log = KeptLog(path, limit) if path else None

    def write(self, data: bytes) -> None:
        if self._log is not None:
            self._log.write(data)

    def close(self) -> str | None:
        """Return the log's file name, or ``None`` when it was short and is gone."""
        if self._log is None:
            return None
        self._log.close()
        if self._log.size > 2 * OUTPUT_EDGE:
            return self._log.path.name
        self._log.path.unlink(missing_ok=True)
        return None


def shorten(output: str, log: str | None = None) -> str:
    """Keep the beginning and the end of a long output, and say what is missing."""
    if len(output) <= 2 * OUTPUT_EDGE:
        return output
    left = len(output) - 2 * OUTPUT_EDGE
    hint = f"; the reviewer finds it in {log}" if log else ""
    return (
        f"{output[:OUTPUT_EDGE]}\n[{left} characters left out{hint}; print less, for example with "
        f"grep, head or tail]\n{output[-OUTPUT_EDGE:]}"
    )


def _key(path: str) -> str:
    return os.path.normpath(path)


def _inside(path: str, worktree: Path) -> str | None:
    """Return ``path`` relative to the worktree (``""`` for the top), ``None`` outside of it."""
    joined = os.path.normpath(worktree / path)
    if joined == str(worktree):
        return ""
    return os.path.relpath(joined, worktree) if Path(joined).is_relative_to(worktree) else None


def _below(name: str, base: str) -> str:
    return name[len(base) + 1 :] if base and name.startswith(f"{base}/") else name


def _fits(name: str, pattern: str) -> bool:
    """Match a glob as people mean it: without a slash it is about the name alone."""
    if "/" not in pattern:
        return fnmatch.fnmatch(PurePosixPath(name).name, pattern)
    if fnmatch.fnmatch(name, pattern):
        return True
    return pattern.startswith("**/") and fnmatch.fnmatch(name, pattern[3:])
