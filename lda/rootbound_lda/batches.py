"""Batches: ``rootbound batch run`` as a process of its own, asked for by the backend.

A batch executes a notebook of the user's in a confined kernel that may merge what passed its
gates; the attempts that it starts are confined like all others. Each has a folder in the state
folder with its log, its report and a record that outlives this process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from .config import Config, write_atomic
from .runs import RunRefused

__all__ = ["BatchManager", "BatchRequest", "arguments_of"]

log = logging.getLogger(__name__)

MAX_REPORT_BYTES: Final = 32 << 20
GRACE_S: Final = 20.0
"""How long a cancelled batch may take to end by itself, in seconds."""

_NAMES: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "ROOTBOUND_HOME",
    "ROOTBOUND_STACK_ID", "JUPYTER_PATH", "JUPYTER_DATA_DIR",
)  # fmt: skip
_PROGRAM: Final = (
    sys.executable, "-P", "-c", "import sys; from rootbound.cli import main; sys.exit(main())",
)  # fmt: skip
_UUID: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


class BatchRequest(Struct, frozen=True):
    """The body of ``POST /batches``.

    Attributes
    ----------
    launch
        Counts from 1; a higher one goes on with a batch that was cut off.
    url, token
        Where the notebook finds the backend, and in whose name.
    agent_folders, repositories
        Granted folders, in which agents may write, except in the checkout of a repository that
        such a folder holds.
    """

    batch_id: Annotated[str, Meta(pattern=_UUID)]
    launch: Annotated[int, Meta(ge=1)]
    notebook: str
    url: str
    token: str
    agent_folders: list[str]
    repositories: list[str]
    parameters: dict[str, Any] = {}
    max_parallel: int | None = None
    budget: float | None = None


class Record(Struct):
    """What is known of a batch, in its folder."""

    launch: int
    state: str = "RUNNING"
    pid: int = 0
    started: str = ""
    exit_code: int | None = None
    message: str = ""


@dataclass(slots=True)
class _Live:
    process: asyncio.subprocess.Process
    task: asyncio.Task[None]


def arguments_of(request: BatchRequest, output: Path) -> list[str]:
    """Return the command line of a batch; it holds no secret."""
    argv = ["batch", "run", request.notebook, "-o", str(output)]
    for name, value in request.parameters.items():
        # The notebook's own cell says which type is meant; text goes as it is.
        text = value if isinstance(value, str) else _literal(value)
        argv += ["-p", f"{name}={text}"]
    if request.max_parallel is not None:
        argv += ["--max-parallel", str(request.max_parallel)]
    if request.budget is not None:
        argv += ["--budget", str(request.budget)]
    return argv


def _own_notebook(request: BatchRequest) -> Path:
    """Return where the notebook really is, which must be where no agent may write.

    It speaks for the user, merges, and imports what lies beside it.

    Raises
    ------
    RunRefused
        422.
    """
    notebook = Path(request.notebook).resolve()
    if not notebook.is_file():
        raise RunRefused(422, "notebook-missing", f"There is no notebook {request.notebook}.")
    repositories = [Path(path).resolve() for path in request.repositories]
    for folder in (Path(path).resolve() for path in request.agent_folders):
        kept = any(
            notebook.is_relative_to(repository) and repository.is_relative_to(folder)
            for repository in repositories
        )
        if notebook.is_relative_to(folder) and not kept:
            raise RunRefused(
                422,
                "notebook-open-to-agents",
                f"Agents may write in {folder}, and a batch notebook merges in your name; "
                "move it out of the granted folders, or into the repository of a project.",
            )
    return notebook


def _literal(value: Any) -> str:
    return str(value) if value is None or isinstance(value, bool) else json.dumps(value)


class BatchManager:
    """Runs batches, each once per launch.

    Parameters
    ----------
    config
        Its state folder holds ``batches/<id>/``.
    environ
        Where the allowed variables of a batch come from. Default this process'.
    program
        What is run with the arguments of :func:`arguments_of`. Default this installation's
        ``rootbound``.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] | None = None,
        *,
        program: Sequence[str] = _PROGRAM,
    ) -> None:
        self._program = program
        self._folder = config.home / "batches"
        self._keep_s = config.batch_days * 86_400
        self._environ = os.environ if environ is None else environ
        self._live: dict[str, _Live] = {}
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """End what an earlier process left at work; the backend has it go on."""
        await asyncio.to_thread(self._clear_up)

    def _forget_old(self) -> None:
        """Remove batches that ended longer ago than they are kept; 0 days keeps all."""
        limit = time.time() - self._keep_s
        for path in self._folder.glob("*/batch.json") if self._keep_s else ():
            record, live = _read(path), path.parent.name in self._live
            # Written last when the batch ended. A damaged record is left for people to look at.
            if record is None or record.state == "RUNNING" or live or path.is_symlink():
                continue
            if path.stat().st_mtime < limit:
                shutil.rmtree(path.parent, ignore_errors=True)
                log.info("The batch %s ended long ago; its folder was removed", path.parent.name)

    def _clear_up(self) -> None:
        self._forget_old()
        for path in self._folder.glob("*/batch.json"):
            record = _read(path)
            if record is None or record.state != "RUNNING":
                continue
            if record.pid and _started(record.pid) == record.started:
                _kill(record.pid, signal.SIGKILL)
            record.state = "LOST"
            _write(path, record)

    async def submit(self, request: BatchRequest) -> dict[str, Any]:
        """Start a batch, once for each launch.

        Raises
        ------
        RunRefused
            422 ``notebook-missing``, ``notebook-open-to-agents``; 503 when the process cannot be
            started.
        """
        async with self._lock:
            path = self._folder / request.batch_id / "batch.json"
            record = await asyncio.to_thread(_read, path)
            if record is None or record.launch < request.launch:
                if request.batch_id in self._live:
                    raise RunRefused(409, "batch-live", "This batch is still at work.")
                notebook = await asyncio.to_thread(_own_notebook, request)
                await self._launch(msgspec.structs.replace(request, notebook=str(notebook)), path)
        return await self.describe(request.batch_id)

    async def _launch(self, request: BatchRequest, path: Path) -> None:
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        environment = {name: self._environ[name] for name in _NAMES if name in self._environ}
        # In the environment, not in the arguments, which every user of the machine can read.
        environment |= {"ROOTBOUND_URL": request.url, "ROOTBOUND_TOKEN": request.token}
        environment["ROOTBOUND_SERVICE"] = "batch"
        argv = arguments_of(request, path.parent / "report.ipynb")
        with (path.parent / "log.txt").open("ab") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._program,
                    *argv,
                    cwd=Path(request.notebook).parent,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise RunRefused(
                    503, "batch-not-started", f"The batch cannot be started ({error.strerror})."
                ) from error
        record = Record(request.launch, pid=process.pid, started=_started(process.pid))
        await asyncio.to_thread(_write, path, record)
        task = asyncio.create_task(self._wait(request.batch_id, path, record, process))
        self._live[request.batch_id] = _Live(process, task)

    async def _wait(
        self, key: str, path: Path, record: Record, process: asyncio.subprocess.Process
    ) -> None:
        record.exit_code = await process.wait()
        record.state = "ENDED"
        # What it left in its session ends with it.
        _kill(process.pid, signal.SIGKILL)
        record.message = await asyncio.to_thread(_last_words, path.parent / "log.txt")
        await asyncio.to_thread(_write, path, record)
        self._live.pop(key, None)
        await asyncio.to_thread(self._forget_old)

    async def describe(self, key: str) -> dict[str, Any]:
        """Return the state of a batch: RUNNING, ENDED or LOST.

        Raises
        ------
        RunRefused
            404.
        """
        path = self._path(key)
        record = await asyncio.to_thread(_read, path)
        if record is None:
            raise RunRefused(404, "not-found", "There is no such batch here.")
        return {
            "batch_id": key,
            "launch": record.launch,
            "state": record.state,
            "exit_code": record.exit_code,
            "message": record.message,
            "has_report": (path.parent / "report.ipynb").is_file(),
        }

    async def cancel(self, key: str) -> dict[str, Any]:
        """Interrupt a batch; it is killed when it does not end by itself."""
        known = await self.describe(key)
        live = self._live.get(key)
        if live is not None:
            _kill(live.process.pid, signal.SIGINT)
            asyncio.get_running_loop().call_later(GRACE_S, self._kill_if_live, live)
        return known

    def _kill_if_live(self, live: _Live) -> None:
        if live.process.returncode is None:
            _kill(live.process.pid, signal.SIGKILL)

    async def report(self, key: str) -> bytes:
        """Return the executed notebook.

        Raises
        ------
        RunRefused
            404; 413 ``report-too-large``.
        """
        path = self._path(key).parent / "report.ipynb"
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise RunRefused(404, "not-found", "This batch has no report.") from error
        if len(data) > MAX_REPORT_BYTES:
            raise RunRefused(
                413, "report-too-large", f"The report is larger than 32 MiB; open {path} itself."
            )
        return data

    def _path(self, key: str) -> Path:
        # A name from an address: never a path.
        if "/" in key or key.startswith("."):
            raise RunRefused(404, "not-found", "There is no such batch here.")
        return self._folder / key / "batch.json"

    async def stop(self) -> None:
        """End what runs; the record says that it was cut off."""
        live = dict(self._live)
        for key, one in live.items():
            one.task.cancel()
            _kill(one.process.pid, signal.SIGKILL)
            path = self._path(key)
            record = _read(path)
            if record is not None:
                record.state = "LOST"
                _write(path, record)
        await asyncio.gather(*(one.process.wait() for one in live.values()))


def _kill(session: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)


def _started(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; with the pid it names one process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _read(path: Path) -> Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, record: Record) -> None:
    write_atomic(path, msgspec.json.encode(record))


def _last_words(path: Path) -> str:
    """Return the last line of a log, which is the sentence of the error if there was one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:1000] if lines else ""
