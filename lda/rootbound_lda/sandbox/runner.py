"""The LDA's side of the sandbox: starts commands and takes their output and records."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rootbound_lda.audit import AuditSink
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox import _landlock
from rootbound_lda.sandbox._command import Command, CommandResult

__all__ = ["CommandResult", "CommandRunner", "Sandbox", "SandboxUnavailable", "base_env"]

MAX_OUTPUT = 1 << 20
"""Output kept of a command, head and tail together, in bytes."""

_START_TIMEOUT_S = 20.0
_FALLBACK_PATH = "/usr/local/bin:/usr/bin:/bin"
_PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM")
_PASSED_NETWORK = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy", "ALL_PROXY", "all_proxy",
)  # fmt: skip
_PACKAGES = str(Path(__file__).resolve().parents[2])
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from rootbound_lda.sandbox._zygote import main; main(int(sys.argv[2]))"
)


class SandboxUnavailable(Exception):  # noqa: N818 - says what is, not what went wrong
    """A command cannot be confined on this machine, so none runs."""


def base_env(policy: Policy, *, network: bool = False) -> dict[str, str]:
    """Return the environment of a command: an allow-list, with the run's own folders.

    Parameters
    ----------
    policy
        The run's policy.
    network
        Whether to add what downloads need: certificates, proxies and PIP_* settings. A value
        with a password in its address is left out.
    """
    env = {name: os.environ[name] for name in _PASSED if name in os.environ}
    env.setdefault("PATH", _FALLBACK_PATH)
    env.setdefault("LANG", "C.UTF-8")
    env |= {
        "HOME": str(policy.private_home),
        "TMPDIR": str(policy.private_tmp),
        "CI": "1",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
        "PIP_PROGRESS_BAR": "off",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if network:
        for name, value in os.environ.items():
            wanted = name in _PASSED_NETWORK or name.startswith("PIP_")
            if wanted and name not in env and not _has_credentials(value):
                env[name] = value
    return env


def _has_credentials(value: str) -> bool:
    for part in value.split():
        try:
            if "@" in urlsplit(part).netloc:
                return True
        except ValueError:
            return True
    return False


class Sandbox:
    """Starts commands under a policy; one for the whole LDA."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._abi = _landlock.abi()
        self._runners: weakref.WeakSet[CommandRunner] = weakref.WeakSet()

    async def start(self) -> None:
        """Start the warm process that commands are forked from.

        Raises
        ------
        SandboxUnavailable
            If the kernel has no Landlock, or the process does not start.
        """
        if self._abi < 1:
            raise SandboxUnavailable("This kernel has no Landlock, so no command can be confined.")
        await asyncio.to_thread(self._spawn)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-S", "-c", _BOOT, _PACKAGES, str(theirs.fileno())]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={"PATH": _FALLBACK_PATH, "LANG": "C.UTF-8"},
                    start_new_session=True,
                )
            ours.settimeout(_START_TIMEOUT_S)
            greeting = ours.recv(16)
        except OSError as error:
            ours.close()
            raise SandboxUnavailable(f"The sandbox process did not start: {error}.") from error
        if greeting != b"ready":
            ours.close()
            raise SandboxUnavailable("The sandbox process ended before it was ready.")
        self._socket = ours

    async def stop(self) -> None:
        """Kill what still runs and end the warm process."""
        for runner in list(self._runners):
            await runner.kill_all()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process)

    def runner(self, policy: Policy, audit: AuditSink) -> CommandRunner:
        """Return what runs commands under a policy."""
        runner = CommandRunner(self, policy, audit)
        self._runners.add(runner)
        return runner

    @property
    def abi(self) -> int:
        """The Landlock ABI of the kernel."""
        return self._abi

    def fork(self, job: Mapping[str, object], fds: Sequence[int]) -> int:
        """Have a supervisor forked; blocking, callable from any thread.

        Parameters
        ----------
        job
            What to run, for `_supervisor.supervise`.
        fds
            Control socket, standard input, output and error of the child.

        Returns
        -------
        int
            Its process number.

        Raises
        ------
        SandboxUnavailable
            If the warm process is not there.
        """
        memory = os.memfd_create("job")
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(json.dumps(job).encode())
            os.lseek(memory, 0, os.SEEK_SET)
            with self._lock:
                answer = self._ask([memory, *fds])
                if not answer:
                    # The warm process was killed; its supervisors live on without it.
                    self._restart()
                    answer = self._ask([memory, *fds])
        finally:
            os.close(memory)
        if not answer.isdigit() or answer == b"0":
            raise SandboxUnavailable("The sandbox process could not start a supervisor.")
        return int(answer)

    def _ask(self, fds: list[int]) -> bytes:
        if self._socket is None:
            raise SandboxUnavailable("The sandbox is not started.")
        try:
            socket.send_fds(self._socket, [b"J"], fds)
            return self._socket.recv(32)
        except OSError:
            return b""

    def _restart(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            _end(self._process)
        self._spawn()


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class CommandRunner:
    """Runs the commands of one run."""

    def __init__(self, sandbox: Sandbox, policy: Policy, audit: AuditSink) -> None:
        self._sandbox = sandbox
        self._policy = policy
        self._audit = audit
        self._commands: set[Command] = set()

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        network: bool,
        timeout_s: float,
        on_output: Callable[[str, bytes], None] | None = None,
        stdin: bytes | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> CommandResult:
        """Run one command to its end; nothing of its process tree survives it.

        Cancelling the task kills the tree before the cancellation goes on.

        Parameters
        ----------
        argv
            Program and arguments; looked up in the PATH of `env`. No shell is added.
        cwd
            Folder to start in.
        env
            The whole environment, usually `base_env` with additions.
        network
            Whether TCP outwards and name resolution are possible.
        timeout_s
            Seconds until it is killed.
        on_output
            Called in the event loop with ``"stdout"`` or ``"stderr"`` and the bytes, as they come.
        stdin
            Bytes to read; by default nothing.
        max_output
            Bytes of output kept in the result, half of its beginning and half of its end.

        Raises
        ------
        SandboxUnavailable
            If the command could not be confined; it did not run.
        AuditUnavailable
            If the sink refused a record; the tree was killed.
        """
        job = self._job(argv, cwd, env, network=network)
        command = Command(
            self._sandbox.fork, job, self._audit,
            on_output=on_output, stdin=stdin, max_output=max_output, timeout_s=timeout_s,
        )  # fmt: skip
        self._commands.add(command)
        try:
            return await command.run()
        finally:
            self._commands.discard(command)

    async def kill_all(self) -> None:
        """Kill every command that runs, and wait until they are gone."""
        commands = list(self._commands)
        for command in commands:
            command.kill()
        for command in commands:
            await command.ended()

    def _job(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, network: bool
    ) -> dict[str, object]:
        policy = self._policy
        if not argv:
            raise ValueError("a command needs a program")
        for text in (*argv, *env, *env.values()):
            if "\0" in text:
                raise ValueError("arguments and environment cannot hold a NUL character")
        shm = policy.private_tmp / ".shm"
        shm.mkdir(mode=0o700, exist_ok=True)
        private = [(str(policy.private_home), False), (str(policy.private_tmp), False)]
        limits = policy.process
        return {
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(cwd),
            "network": network,
            "abi": self._sandbox.abi,
            "writable": [*[(str(path), True) for path in policy.writable], *private],
            "readable": [str(path) for path in policy.readable],
            "listable": [str(path) for path in policy.listable],
            "devices": [str(path) for path in policy.devices],
            "protected": [str(path) for path in policy.protected],
            "shm": str(shm),
            "resolvers": resolvers() if network else [],
            "limits": {name: getattr(limits, name) for name in limits.__dataclass_fields__},
        }


def resolvers(path: str = "/etc/resolv.conf") -> list[str]:
    """Return the addresses of the name servers that the machine uses."""
    try:
        text = Path(path).read_text(errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            found.append(words[1].partition("%")[0])
    return found
