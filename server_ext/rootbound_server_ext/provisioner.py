"""The kernel provisioner ``rootbound-provisioner``: kernels in the sandbox of agents.

Jupyter asks for a kernel as always. The backend has the LDA start it, confined to the user's roots
and audited; this side holds the one connection that it lives by. Its messages go over unix sockets
in a folder of the kernel's own, to which Jupyter connects.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from jupyter_core.paths import jupyter_runtime_dir
from tornado import web
from traitlets import Bool, Enum, Unicode

from rootbound import paths
from rootbound._stack import ensure_server
from rootbound.discovery import Endpoint, find_endpoint, http_options, noted_endpoint
from rootbound.errors import DiscoveryError, RootboundError

__all__ = ["KernelRefusedError", "RootedProvisioner"]

REQUEST_TIMEOUT_S = 90.0
START_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 15.0
_POLL_S = 0.01

_PASSED = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "VIRTUAL_ENV", "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV", "JPY_SESSION_NAME", "MPLBACKEND", "COLUMNS", "LINES",
)  # fmt: skip
_CONNECTION = "{connection_file}"


class KernelRefusedError(web.HTTPError):
    """The kernel was not started; the message says why and what to do."""

    def __init__(self, sentence: str, status: int = 409) -> None:
        super().__init__(status, sentence.replace("%", "%%"), reason="Kernel refused")
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class RootedProvisioner(KernelProvisionerBase):  # type: ignore[misc, unused-ignore]
    """Starts a kernel through the Local Desktop Agent and holds it.

    Any kernel that speaks the ``ipc`` transport can be started. The kernel specification names the
    provisioner, and with ``config`` how::

        {"metadata": {"kernel_provisioner": {"provisioner_name": "rootbound-provisioner",
                                             "config": {"network": true}}}}
    """

    network = Bool(False, help="Whether the kernel may reach the network.").tag(config=True)
    accept_tier = Enum(
        ["", "A", "B", "C"],
        "",
        help="The lowest tier of enforcement that will do; by default what attempts need.",
    ).tag(config=True)
    batch = Unicode(help="Names the folder that a batch keeps between its kernels.").tag(
        config=True
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._life: _Life | None = None
        self._exit_code: int | None = None
        self._launch: dict[str, Any] = {}

    # What Jupyter asks of a provisioner

    @property
    def has_process(self) -> bool:
        """Whether there is a kernel."""
        return self._life is not None

    async def poll(self) -> int | None:
        """Return how the kernel ended, None while it lives."""
        if self._life is None:
            return self._exit_code or 0
        return self._life.exit_code if self._life.is_over else None

    async def wait(self) -> int | None:
        """Wait for the kernel's end; callers set the limit."""
        # Looked for, as callers give up on it: a thread that waits would stay.
        while self._life is not None and not self._life.is_over:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        if self._life is not None:
            self._exit_code = self._life.exit_code
            self._past, self._life = self._life, None
        return self._exit_code

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel and what it started in its process group."""
        if self._life is None or signum == 0:
            return
        if signum == signal.SIGKILL:
            self._life.say(t="kill")
        else:
            self._life.say(t="signal", number=int(signum))

    async def kill(self, restart: bool = False) -> None:
        """Kill the kernel and everything that it started."""
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """Ask the kernel to end."""
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        """Let go of the kernel: nothing of it goes on, and its folder stays for a restart only."""
        life = self._life or self._past
        self._life = self._past = None
        if life is not None:
            await asyncio.to_thread(life.leave, keep=restart)

    _past: _Life | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Work out what to start; nothing is written, for Jupyter's runtime folder is a secret."""
        manager = self.parent
        extra = kwargs.pop("extra_arguments", [])
        if manager is None:
            command = [*self.kernel_spec.argv, *extra]
        else:
            if not manager.connection_file:
                name = f"kernel-{self._jupyter_id()}.json"
                folder = jupyter_runtime_dir()
                # Who never ran a Jupyter server has none yet, and the manager keeps its file there.
                await asyncio.to_thread(os.makedirs, folder, mode=0o700, exist_ok=True)
                manager.connection_file = os.path.join(folder, name)  # noqa: PTH118
            # The kernel gets a file of its own: it must not see into Jupyter's folder.
            command = [
                text.replace(manager.connection_file, _CONNECTION)
                for text in manager.format_kernel_cmd(extra_arguments=extra)
            ]
        return await super().pre_launch(cmd=command, **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Have the kernel started.

        Raises
        ------
        KernelRefusedError
            When this machine cannot confine it, or Rootbound does not run and cannot be started.
        """
        session = self.parent.session if self.parent is not None else None
        key = session.key.decode() if session is not None else uuid.uuid4().hex
        scheme = session.signature_scheme if session is not None else "hmac-sha256"
        control = await self._ask(cmd, kwargs)
        self._life = life = _Life(control, far=bool(self._given))
        life.say(
            t="start", key=key, signature_scheme=scheme, kernel_name=self.kernel_spec.display_name
        )
        if not await asyncio.to_thread(life.answered.wait, START_TIMEOUT_S):
            life.leave(keep=False)
            raise KernelRefusedError("The Local Desktop Agent did not start the kernel.")
        if life.connection is None:
            raise KernelRefusedError(life.refusal or "The Local Desktop Agent ended; try again.")
        facts: dict[str, Any] = {**life.connection, "key": key.encode()}
        connection = cast(KernelConnectionInfo, facts)
        self.connection_info = connection
        return connection

    # Asking the backend

    async def _ask(self, cmd: list[str], kwargs: dict[str, Any]) -> str:
        """Ask for the kernel; return the socket to hold it by."""
        given = kwargs.get("env") or {}
        own = getattr(self.kernel_spec, "env", {}) or {}
        names = [name for name in (*_PASSED, *own) if name in given]
        body = {
            "kernel_id": str(self._jupyter_id()),
            "kernel_name": getattr(self.parent, "kernel_name", "") or "kernel",
            "argv": list(cmd),
            "env": {name: str(given[name]) for name in dict.fromkeys(names)},
            "cwd": str(kwargs.get("cwd") or Path.cwd()),
            "network": self.network,
            "accept_tier": self.accept_tier,
            "batch": self.batch,
        }
        try:
            answer = await self._post_to_noted(body)
            if answer is None:
                answer = await _post(await asyncio.to_thread(_endpoint, self._given), body)
        except RootboundError as error:
            raise KernelRefusedError(str(error), 503) from error
        except httpx.HTTPError as error:
            raise KernelRefusedError(f"Rootbound does not answer ({error}).", 503) from error
        said = _document(answer)
        if answer.status_code != 201:
            detail = said.get("detail") or f"Rootbound answered {answer.status_code}."
            raise KernelRefusedError(str(detail), answer.status_code)
        return str(said["control"])

    async def _post_to_noted(self, body: dict[str, Any]) -> httpx.Response | None:
        """Ask the stack where it was noted to be; None when it has to be looked for.

        To find out first whether it answers would take as long as to ask it.
        """
        noted = None if self._given else noted_endpoint(paths.state_dir())
        if noted is None:
            return None
        try:
            answer = await _post(noted, body)
        except httpx.ConnectError:
            return None
        ours = answer.status_code == 201 or "problem+json" in answer.headers.get("Content-Type", "")
        return answer if ours and answer.status_code != 401 else None

    @property
    def _given(self) -> str:
        """The backend on another machine: the environment's, else the one of Jupyter's panels."""
        panels = self.config.get("RootboundApp", {})
        return os.environ.get("ROOTBOUND_URL") or str(panels.get("backend_url") or "")

    def _jupyter_id(self) -> uuid.UUID:
        try:
            return uuid.UUID(str(self.kernel_id))
        except ValueError:
            # Any text may be an id; the folder of the kernel goes by a uuid.
            return uuid.uuid5(uuid.NAMESPACE_OID, str(self.kernel_id))


async def _post(endpoint: Endpoint, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(**http_options(endpoint.url, REQUEST_TIMEOUT_S)) as client:
        return await client.post(
            f"{endpoint.url}/api/kernels/", json=body, headers=endpoint.headers
        )


def _endpoint(given: str) -> Endpoint:
    """Return the backend at an address, else the one here, which is started. Blocking."""
    if os.environ.get("ROOTBOUND_URL"):
        return find_endpoint()
    if given:
        names = ("ROOTBOUND_TOKEN", "JUPYTERHUB_API_TOKEN")
        token = next((os.environ[name] for name in names if os.environ.get(name)), None)
        return find_endpoint(given, token)
    try:
        return find_endpoint(home=paths.state_dir())
    except DiscoveryError:
        ensure_server()
    return find_endpoint(home=paths.state_dir())


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


class _Life:
    """The connection that one kernel lives by, read in a thread of its own.

    Not in the event loop: a blocking kernel manager runs one only while it waits for something.
    """

    def __init__(self, control: str, *, far: bool = False) -> None:
        self.connection: dict[str, Any] | None = None
        self.refusal = ""
        self.exit_code: int | None = None
        self.is_over = False
        self.answered = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(control)
        except OSError as error:
            self._socket.close()
            sentence = "The Local Desktop Agent ended; try again."
            if far and isinstance(error, FileNotFoundError):
                sentence = (
                    "The machine that owns the notebook's folder is not this one, or its Local "
                    "Desktop Agent has just ended; a confined kernel runs beside its Jupyter."
                )
            raise KernelRefusedError(sentence, 503) from error
        self._thread = threading.Thread(target=self._read, name="rootbound-kernel", daemon=True)
        self._thread.start()

    def say(self, **message: object) -> None:
        """Send one message; nothing happens when the other end has gone."""
        with suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def leave(self, *, keep: bool) -> None:
        """Say goodbye and wait until the kernel is gone. Blocking.

        Parameters
        ----------
        keep
            Whether its folder is wanted again, by the kernel that takes its place.
        """
        self.say(t="leave", keep=keep)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._thread.join(LEAVE_TIMEOUT_S)
        self._socket.close()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._socket.makefile("rb") as lines:
            for raw in lines:
                self._hear(json.loads(raw))
        if self.exit_code is None:
            self.exit_code = -signal.SIGKILL
        self.is_over = True
        self.answered.set()

    def _hear(self, said: dict[str, Any]) -> None:
        kind = said.get("t")
        if kind == "started":
            for remark in said.get("remarks", ()):
                _print(2, f"rootbound: {remark}\n".encode())
            self.connection = said["connection"]
            self.answered.set()
        elif kind == "output":
            _print(1 if said.get("stream") == "stdout" else 2, base64.b64decode(said["data"]))
        elif kind == "refused":
            self.refusal = str(said.get("sentence", ""))
            _print(2, f"rootbound: {self.refusal}\n".encode())
        elif kind == "exit":
            self.exit_code = int(said["code"])
            self.is_over = True


def _print(fd: int, data: bytes) -> None:
    """Pass on what a kernel wrote past its cells, where a plain kernel would have written it."""
    with suppress(OSError):
        os.write(fd, data)
