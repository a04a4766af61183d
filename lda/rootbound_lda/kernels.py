"""Confined Jupyter kernels, each held by the connection of whoever asked for it.

The backend asks for a kernel (``POST /kernels``) and gets the path of a unix socket. The
provisioner connects to it and says the key of the kernel's messages; from then on the connection
is the kernel's life: when either end goes, the whole process tree goes. It carries JSON lines. To
us: ``start``, ``signal``, ``kill`` and ``leave``; from us: ``started``, ``output``, ``refused``
and ``exit``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import os
import shutil
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .advice import Advisor
from .audit import AuditUnavailable
from .config import write_atomic
from .kernel_pip import pip_places, pip_settings, write_pip_settings
from .kernel_policy import build_kernel_policy, folder_to_start_in
from .kernel_relay import Relay
from .kernel_setup import (
    CONNECTION,
    DOOR,
    TOKEN,
    KernelAudit,
    KernelRequest,
    environment_of,
    write_startup,
)
from .outbox import Owner
from .policy import Policy, within
from .reports import RunAudit, post_end
from .runs import RunRefused
from .sandbox import CommandRunner, SandboxUnavailable, recover, tiers
from .services import Services

__all__ = ["KernelHost", "KernelRequest"]

log = logging.getLogger(__name__)

CONNECT_S: Final = 30.0
"""How long the provisioner may take to connect, in seconds."""

MAX_LINE: Final = 64 * 1024
MAX_UNREAD: Final = 1 << 20
"""Bytes of output that wait for the provisioner; beyond it output is left out."""

MAX_SOCKET_PATH: Final = 92
"""Longest path of the folder of sockets: 107 bytes is the kernel's limit for a whole path."""


@dataclass(slots=True)
class _Session:
    """One kernel from its request to its end."""

    request: KernelRequest
    sockets: Path
    policy: Policy
    runner: CommandRunner
    pip_withheld: list[str]
    server: asyncio.Server | None = None
    task: asyncio.Task[None] | None = None
    leaving: bool = False
    exit_code: int | None = None
    ended: bool = field(default=False)


class KernelHost:
    """Starts kernels and ends them.

    Parameters
    ----------
    services
        What runs share.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._live: dict[str, _Session] = {}
        self._sockets = services.config.run_folder / "k"
        self._private = services.config.home / "kernels"
        self._loopback: bool | None = None

    async def start(self) -> None:
        """Report the kernels of an earlier process as ended: they died with it."""
        outbox = self._services.outbox
        for owner in await asyncio.to_thread(outbox.owners):
            if owner.subject == "kernel" and owner.live:
                audit = KernelAudit(RunAudit(outbox, owner.owner, owner.owner))
                for folder in self._private.glob("*-*"):
                    if _names(folder, owner.owner):
                        await asyncio.to_thread(recover, str(folder), audit)
                post_end(outbox, owner.owner, None)
                outbox.set_live(owner.owner, live=False)
        await asyncio.to_thread(self._clear_up)

    def _clear_up(self) -> None:
        shutil.rmtree(self._sockets, ignore_errors=True)
        for folder in self._private.glob("*-*"):
            shutil.rmtree(folder, ignore_errors=True)

    async def stop(self) -> None:
        """End every kernel."""
        sessions = list(self._live.values())
        for session in sessions:
            if session.server is not None:
                session.server.close()
            if session.task is not None:
                session.task.cancel()
        tasks = [session.task for session in sessions if session.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=15)

    def describe_all(self) -> list[dict[str, Any]]:
        """Return the kernels that live."""
        return [
            {"session_id": key, "kernel_id": session.request.kernel_id}
            for key, session in self._live.items()
        ]

    async def submit(self, request: KernelRequest) -> dict[str, Any]:
        """Make everything ready for a kernel.

        Returns
        -------
        dict
            ``control``: the socket that the provisioner has to connect to; the kernel starts then.

        Raises
        ------
        RunRefused
            409 ``policy-unenforceable`` where the machine cannot confine it, ``kernel-live`` when
            it runs; 422 when its files would have too long names.
        PolicyError
            If a root cannot be one.
        """
        await self._services.ready.wait()
        self._check_tier(request)
        # By Jupyter's id: whoever is connected stays so when the kernel is restarted.
        sockets = self._sockets / request.kernel_id.replace("-", "")[:16]
        if any(one.sockets == sockets for one in self._live.values()):
            raise RunRefused(409, "kernel-live", "This kernel lives already; shut it down first.")
        if len(os.fsencode(sockets)) > MAX_SOCKET_PATH:
            raise RunRefused(
                422,
                "path-too-long",
                f"The sockets of a kernel would lie in {sockets}, which is too long a path for "
                "them; set ROOTBOUND_HOME to a folder with a shorter one.",
            )
        loopback = not request.network and await self._has_loopback()
        policy, withheld = await asyncio.to_thread(
            self._prepare, request, sockets, loopback=loopback
        )
        runner = self._runner(request, policy)
        # What takes longest goes on while the answer travels and the provisioner connects.
        runner.warm_up()
        session = _Session(request, sockets, policy, runner, withheld)
        try:
            control = await self._open(session)
        except BaseException:
            self._live.pop(request.session_id, None)
            await asyncio.shield(runner.close())
            raise
        asyncio.get_running_loop().call_later(CONNECT_S, self._expire, session)
        return {"session_id": request.session_id, "control": str(control)}

    async def _open(self, session: _Session) -> Path:
        """Let the kernel's reports go where they belong; return where its provisioner connects."""
        request, sockets = session.request, session.sockets
        control = sockets.with_name(f"{sockets.name}.c")
        ingest, outbox = request.ingest, self._services.outbox
        owner = Owner(request.session_id, "kernel", 1, ingest.base_url, ingest.token, live=True)
        await asyncio.wrap_future(outbox.open_owner(owner))
        self._live[request.session_id] = session
        session.server = await asyncio.start_unix_server(
            lambda reader, writer: self._connected(session, reader, writer), control,
            limit=MAX_LINE,
        )  # fmt: skip
        control.chmod(0o600)
        return control

    async def withdraw(self, session_id: str, roots: list[str]) -> bool:
        """End a kernel that was given a root that is not granted any more.

        Returns
        -------
        bool
            Whether it was ended.

        Raises
        ------
        RunRefused
            404 when it does not live.
        """
        session = self._live.get(session_id)
        if session is None:
            raise RunRefused(404, "kernel-unknown", "This LDA has no such kernel.")
        own = self._private
        lost = [
            path
            for path in session.policy.writable
            if not within(path, own) and not any(within(path, Path(root)) for root in roots)
        ]
        if not lost:
            return False
        names = ", ".join(f"“{path}”" for path in lost)
        reason = f"Access to {names} was withdrawn, so this kernel was ended."
        await session.runner.withdraw(lambda _: True, reason)
        return True

    def _check_tier(self, request: KernelRequest) -> None:
        facts = self._services.facts
        accepted = max(tiers.NEEDED, request.accept_tier or tiers.NEEDED)
        if facts.tier <= accepted and facts.tier != "F":
            return
        missing = " ".join(facts.missing) or "It is not known what is missing."
        way_out = (
            "Without a sandbox no confined kernel can run; use another kernel."
            if facts.tier == "F"
            else f"To start it all the same, run `rootbound kernels install --accept-tier "
            f"{facts.tier}`."
        )
        raise RunRefused(
            409,
            "policy-unenforceable",
            f"This machine enforces tier {facts.tier} only. {missing} {way_out}",
        )

    async def _has_loopback(self) -> bool:
        """Tell whether a kernel can have a network of its own here; tried once."""
        wall = self._services.facts.wall
        if self._loopback is None:
            self._loopback = wall is not None and await asyncio.to_thread(wall.has_loopback)
        return self._loopback

    def _prepare(
        self, request: KernelRequest, sockets: Path, *, loopback: bool
    ) -> tuple[Policy, list[str]]:
        """Make the kernel's folders and its policy; return it, and what pip is not told."""
        shared = None
        if request.batch:
            shared = self._private / "batches" / request.batch
            shared.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Nothing of an earlier life may be taken for this one's.
        shutil.rmtree(sockets, ignore_errors=True)
        sockets.mkdir(mode=0o700, parents=True)
        private = self._private / request.kernel_id
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(private / "session", request.session_id.encode())
        pip = pip_settings()
        program, *_ = request.argv
        places = [text for text in request.env.get("PATH", "").split(os.pathsep) if text]
        found = shutil.which(program, path=os.pathsep.join(places) or None)
        try:
            policy = build_kernel_policy(
                session_id=request.session_id,
                private_dir=private,
                sockets=sockets,
                state_dir=self._services.config.home,
                writable_roots=request.writable_roots,
                readable_paths=[*([request.cwd] if request.cwd else []), *pip_places(pip)],
                programs=[*([found] if found else []), *places],
                shared=shared,
                network=request.network,
                loopback=loopback,
                terminals=self._services.facts.wall is not None,
                limits={},
            )
        except BaseException:
            shutil.rmtree(sockets, ignore_errors=True)
            raise
        write_startup(sockets)
        return policy, write_pip_settings(sockets, pip, network=request.network)

    def _runner(self, request: KernelRequest, policy: Policy) -> CommandRunner:
        audit = RunAudit(self._services.outbox, request.session_id, request.session_id)
        advised = Advisor(
            KernelAudit(audit),
            # There is no checkout that it must leave alone: its place is taken by what it holds.
            repo_path=policy.private_home,
            state_dir=self._services.config.home,
            policy=lambda: policy,
        )
        return self._services.sandbox.runner(policy, advised)

    def _expire(self, session: _Session) -> None:
        if session.task is None and not session.ended:
            session.task = asyncio.create_task(self._close(session))

    async def _connected(
        self, session: _Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve the first connection of this user's; there is no second."""
        if session.task is not None or session.ended or not _is_ours(writer):
            writer.close()
            return
        if session.server is not None:
            session.server.close()
        session.task = asyncio.current_task()
        try:
            await self._serve(session, reader, writer)
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            log.info(
                "The provisioner of kernel %s broke off: %s", session.request.session_id, error
            )
        finally:
            await asyncio.shield(self._close(session))
            # The last: the provisioner takes it as the sign that nothing is left.
            writer.close()

    async def _serve(
        self, session: _Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.timeout(CONNECT_S):
            said = await _line(reader)
        if not said or said.get("t") != "start":
            return
        request, folder = session.request, session.sockets
        connection = {
            "transport": "ipc", "ip": str(folder / "kernel"),
            "shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5,
            "key": str(said.get("key", "")),
            "signature_scheme": str(said.get("signature_scheme", "hmac-sha256")),
            "kernel_name": str(said.get("kernel_name", "")),
        }  # fmt: skip
        # No kernel outlives this process, so the disk is not waited for.
        write_atomic(folder / CONNECTION, json.dumps(connection).encode(), durable=False)
        write_atomic(folder / TOKEN, request.api_token.encode(), durable=False)
        async with Relay(folder / DOOR, self._backend_of(request)):
            remarks = list(session.policy.remarks)
            start = folder_to_start_in(request.cwd, session.policy)
            if request.cwd and start == session.policy.private_home:
                remarks.append(
                    f"The kernel may not see into “{request.cwd}”, so it starts in its own home."
                )
            _send(writer, t="started", connection=connection, remarks=remarks)
            kernel = asyncio.create_task(self._run(session, writer))
            listening = asyncio.create_task(self._listen(session, reader))
            try:
                await asyncio.wait({kernel, listening}, return_when=asyncio.FIRST_COMPLETED)
                if kernel.done():
                    # Whether it comes back is still to be heard.
                    await asyncio.wait({listening}, timeout=CONNECT_S)
            finally:
                kernel.cancel()
                listening.cancel()
                await asyncio.wait({kernel, listening})

    def _backend_of(self, request: KernelRequest) -> str:
        """Return the backend's address as this machine knows it.

        The request names it as its sender does: on another machine that is somebody else's port,
        who would be told the kernel's token.
        """
        backends = self._services.backends
        return request.ingest.base_url if backends is None else backends.url

    async def _run(self, session: _Session, writer: asyncio.StreamWriter) -> None:
        """Run the kernel to its end and say how that was."""
        request, policy = session.request, session.policy
        connection = str(session.sockets / CONNECTION)

        def on_output(stream: str, data: bytes) -> None:
            if writer.transport.get_write_buffer_size() > MAX_UNREAD:
                return  # nobody reads it, and it is no part of what cells print
            text = base64.b64encode(data).decode("ascii")
            _send(writer, t="output", stream=stream, data=text)

        try:
            result = await session.runner.run(
                [text.replace("{connection_file}", connection) for text in request.argv],
                cwd=folder_to_start_in(request.cwd, policy),
                env=environment_of(request, policy, session.sockets, session.pip_withheld),
                network=request.network,
                timeout_s=math.inf,
                on_output=on_output,
                max_output=4096,
            )
        except (SandboxUnavailable, AuditUnavailable) as error:
            session.exit_code = 1
            _send(writer, t="refused", sentence=str(error))
            _send(writer, t="exit", code=1)
            return
        code = -result.signal if result.signal else result.exit_code
        session.exit_code = code
        _send(writer, t="exit", code=code)

    async def _listen(self, session: _Session, reader: asyncio.StreamReader) -> None:
        """Do what the provisioner says, until it goes."""
        while said := await _line(reader):
            if said.get("t") == "signal" and 0 < int(said["number"]) < 65:
                session.runner.signal_all(int(said["number"]))
            elif said.get("t") == "kill":
                await session.runner.kill_all()
            elif said.get("t") == "leave":
                # The kernel is over; `keep` means that it is restarted.
                session.leaving = bool(said.get("keep"))
                return

    async def _close(self, session: _Session) -> None:
        """Let go of everything that a kernel had."""
        if session.ended:
            return
        session.ended = True
        if session.server is not None:
            session.server.close()
        await session.runner.close()
        key, outbox = session.request.session_id, self._services.outbox
        post_end(outbox, key, session.exit_code)
        outbox.set_live(key, live=False)
        self._live.pop(key, None)
        await asyncio.to_thread(self._remove, session)

    def _remove(self, session: _Session) -> None:
        shutil.rmtree(session.sockets, ignore_errors=True)
        session.sockets.with_name(f"{session.sockets.name}.c").unlink(missing_ok=True)
        if not session.leaving:
            shutil.rmtree(self._private / session.request.kernel_id, ignore_errors=True)


def _names(folder: Path, session_id: str) -> bool:
    try:
        return (folder / "session").read_text() == session_id
    except OSError:
        return False


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the other end is this very user."""
    sock: socket.socket = writer.get_extra_info("socket")
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", raw)[1] == os.getuid())


async def _line(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    raw = await reader.readline()
    if not raw:
        return None
    said = json.loads(raw)
    return said if isinstance(said, dict) else {}


def _send(writer: asyncio.StreamWriter, **message: object) -> None:
    # The other end may have gone, which is seen by who listens to it.
    with suppress(OSError, RuntimeError):
        writer.write(json.dumps(message).encode() + b"\n")
