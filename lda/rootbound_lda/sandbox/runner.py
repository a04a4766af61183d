"""The LDA's side of the sandbox: starts commands and takes their output and records."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rootbound_lda.audit import AuditSink
from rootbound_lda.downloads import is_download_variable, without_credentials
from rootbound_lda.machine_settings import GIT_SETTINGS
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox import _landlock
from rootbound_lda.sandbox._bubblewrap import Wall
from rootbound_lda.sandbox._command import Command, CommandResult
from rootbound_lda.sandbox._keeper import recover
from rootbound_lda.sandbox._net import network_identity
from rootbound_lda.sandbox._prepare import compiled
from rootbound_lda.sandbox._warm import FALLBACK_PATH, SandboxUnavailable, WarmProcess

__all__ = ["CommandResult", "CommandRunner", "Sandbox", "SandboxUnavailable", "base_env"]

MAX_OUTPUT = 1 << 20
"""Output kept of a command, head and tail together, in bytes."""

SUPERVISOR_ENV = "ROOTBOUND_SUPERVISOR"
"""Environment variable: ``python`` leaves the compiled part of the supervisor out."""

_PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM")
_PASSED_NETWORK = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy", "ALL_PROXY", "all_proxy",
)  # fmt: skip


def base_env(policy: Policy, *, network: bool = False) -> dict[str, str]:
    """Return the environment of a command: an allow-list, with the run's own folders.

    Parameters
    ----------
    policy
        The run's policy.
    network
        Whether to add what downloads need: certificates, proxies, and what pip, uv and npm are
        told by variables; none with the password that may be in its address.
    """
    env = {name: os.environ[name] for name in _PASSED if name in os.environ}
    env.setdefault("PATH", FALLBACK_PATH)
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
    if any(str(secret) in GIT_SETTINGS for secret in policy.secrets):
        # git gives up where it may not read its own settings.
        env["GIT_CONFIG_NOSYSTEM"] = "1"
    if network:
        for name, value in os.environ.items():
            wanted = name in _PASSED_NETWORK or is_download_variable(name)
            if wanted and name not in env:
                env[name] = without_credentials(value)
    return env


def chosen_supervisor(wanted: str | None = None) -> str:
    """Return which supervisor is in use, ``"compiled"`` or ``"python"``."""
    wanted = wanted or os.environ.get(SUPERVISOR_ENV, "auto")
    return "python" if wanted == "python" or not compiled() else "compiled"


class Sandbox:
    """Starts commands under a policy; one for the whole LDA.

    Parameters
    ----------
    wall
        Puts each run's commands into namespaces of their own; by default none does.
    abi
        Landlock ABI to use at most; by default all that the kernel has.
    supervisor
        ``"python"``: without the compiled part; ``"auto"``: with it where it was built. By default
        what the environment variable ROOTBOUND_SUPERVISOR says, else ``"auto"``.
    """

    def __init__(
        self, *, wall: Wall | None = None, abi: int | None = None, supervisor: str | None = None
    ) -> None:
        self.supervisor = chosen_supervisor(supervisor)
        self.wall = wall
        self._warm = WarmProcess()
        self._abi = _landlock.abi() if abi is None else min(abi, _landlock.abi())
        self._runners: weakref.WeakSet[CommandRunner] = weakref.WeakSet()

    async def start(self) -> None:
        """Start the warm process that commands are forked from; with a wall, each run has its own.

        Raises
        ------
        SandboxUnavailable
            If the kernel has no Landlock and there is no closed wall, or it does not start.
        """
        if self._abi < 1 and (self.wall is None or not self.wall.closed):
            raise SandboxUnavailable("This kernel has no Landlock, so no command can be confined.")
        if self.wall is None:
            await asyncio.to_thread(self._warm.start)

    async def stop(self) -> None:
        """Kill what still runs and end the warm process."""
        for runner in list(self._runners):
            await runner.close()
        await asyncio.to_thread(self._warm.stop)

    def runner(self, policy: Policy, audit: AuditSink) -> CommandRunner:
        """Return what runs commands under a policy."""
        runner = CommandRunner(self, policy, audit)
        self._runners.add(runner)
        return runner

    @property
    def abi(self) -> int:
        """The Landlock ABI in use."""
        return self._abi

    @property
    def warm(self) -> WarmProcess:
        """What supervisors are forked from where there is no wall."""
        return self._warm


def _records_folder(policy: Policy) -> Path:
    """Return where records wait to be kept: beside the private folders, not within them."""
    return policy.private_home.parent


class CommandRunner:
    """Runs the commands of one run."""

    def __init__(self, sandbox: Sandbox, policy: Policy, audit: AuditSink) -> None:
        self._sandbox = sandbox
        self._policy = policy
        self._audit = audit
        # What a command left when the sink refused, or the LDA died.
        recover(str(_records_folder(policy)), audit)
        self._warm: tuple[Policy, WarmProcess] | None = None
        self._retired: list[WarmProcess] = []
        self._behind: dict[Command, WarmProcess] = {}
        self._warming = threading.Lock()
        self._commands: dict[Command, Policy] = {}
        self._reasons: dict[Command, str] = {}
        self._early: asyncio.Task[WarmProcess] | None = None

    def warm_up(self) -> None:
        """Put the wall up in the background, so that the first command need not wait for it."""
        if self._sandbox.wall is not None and self._early is None:
            self._early = asyncio.create_task(asyncio.to_thread(self._warmed, self._policy))
            # A wall that does not stand is told by the first command that needs it.
            self._early.add_done_callback(lambda task: task.cancelled() or task.exception())

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
            Seconds until it is killed; infinity for never.
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
        warm = await self._ready()
        job, pins = self._job(argv, cwd, env, network=network)
        command = Command(
            lambda job, fds: warm.fork(job, [*fds, *pins]), job, self._audit,
            records=str(_records_folder(self._policy)),
            on_output=on_output, stdin=stdin, max_output=max_output, timeout_s=timeout_s,
        )  # fmt: skip
        self._commands[command] = self._policy
        self._behind[command] = warm
        try:
            result = await command.run()
        finally:
            del self._commands[command], self._behind[command]
            self._retire()
            reason = self._reasons.pop(command, None)
        return result if reason is None else _explained(result, reason, on_output)

    def adopt(self, policy: Policy) -> None:
        """Give the next commands another policy; those that run keep the one they began with."""
        self._policy = policy

    async def withdraw(self, concerns: Callable[[Policy], bool], reason: str) -> int:
        """Kill the commands that run under certain policies, and wait until they are gone.

        Parameters
        ----------
        concerns
            Tells of a policy whether its commands must end.
        reason
            One sentence that their output ends with.

        Returns
        -------
        int
            How many there were.
        """
        ending = [command for command, policy in self._commands.items() if concerns(policy)]
        for command in ending:
            self._reasons[command] = reason
            command.kill()
        for command in ending:
            await command.ended()
        return len(ending)

    def signal_all(self, number: int) -> None:
        """Send a signal to every command that runs, and to what it started in its group."""
        for command in self._commands:
            command.signal(number)

    async def kill_all(self) -> None:
        """Kill every command that runs, and wait until they are gone."""
        commands = list(self._commands)
        for command in commands:
            command.kill()
        for command in commands:
            await command.ended()

    async def close(self) -> None:
        """Kill every command and take down the wall; a command after this puts it up again."""
        await self.kill_all()
        if self._early is not None:
            await asyncio.wait([self._early])
            self._early = None
        self._retire()
        if self._warm is not None:
            await asyncio.to_thread(self._cool)

    async def _ready(self) -> WarmProcess:
        """Return the warm process for the policy in force."""
        while self._sandbox.wall is not None:
            policy = self._policy
            warm = await asyncio.to_thread(self._warmed, policy)
            # Nothing may wait between this and the command's entry in the list of those that run:
            # what is withdrawn meanwhile must find it there.
            if policy is self._policy and self._warm == (policy, warm):
                self._retire()
                return warm
        return self._sandbox.warm

    def _warmed(self, policy: Policy) -> WarmProcess:
        wall = self._sandbox.wall
        with self._warming:
            if self._warm is not None and self._warm[0] is policy:
                return self._warm[1]
            if wall is None:
                raise SandboxUnavailable("There is no wall to run commands in.")
            fresh = WarmProcess((wall.program, wall.options(policy)))
            fresh.start()
            if self._warm is not None:
                self._retired.append(self._warm[1])
            self._warm = (policy, fresh)
        return fresh

    def _retire(self) -> None:
        """End the warm processes of earlier policies, each when its last command has ended."""
        for warm in [warm for warm in self._retired if warm not in self._behind.values()]:
            self._retired.remove(warm)
            threading.Thread(target=warm.retire, daemon=True).start()

    def _cool(self) -> None:
        with self._warming:
            warm, self._warm = self._warm, None
        if warm is not None:
            warm[1].stop()

    def _job(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, network: bool
    ) -> tuple[dict[str, object], list[int]]:
        """Describe a command for the supervisor; the descriptors are those of its roots.

        Raises
        ------
        SandboxUnavailable
            If the worktree or a private folder is not what it was.
        """
        policy = self._policy
        if not argv:
            raise ValueError("a command needs a program")
        for text in (*argv, *env, *env.values()):
            if "\0" in text:
                raise ValueError("arguments and environment cannot hold a NUL character")
        shm = policy.private_tmp / ".shm"
        shm.mkdir(mode=0o700, exist_ok=True)
        own = (policy.worktree, policy.private_home, policy.private_tmp)
        writable: list[tuple[str, bool]] = []
        pins: list[int] = []
        for path in dict.fromkeys((*policy.writable, *own)):
            pin = policy.pin_of(path)
            if pin is not None and pin.holds():
                writable.append((str(path), path in policy.writable))
                pins.append(pin.fd)
            elif path in own:
                raise SandboxUnavailable(
                    f"“{path}” was moved or replaced during the run, so no command can run."
                )
        readable = [path for path in policy.readable if _stands(policy, path)]
        if policy.sockets is not None:
            pins.append(policy.sockets.fd)
        limits = policy.process
        job: dict[str, object] = {
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(cwd),
            "network": network,
            "abi": self._sandbox.abi,
            "writable": writable,
            "readable": [str(path) for path in readable],
            "listable": [str(path) for path in policy.listable],
            "devices": [str(path) for path in policy.devices],
            "protected": [str(path) for path in policy.protected],
            "shm": str(shm),
            "resolvers": resolvers() if network else [],
            "loopback": policy.loopback,
            "host_network": network_identity() if policy.loopback else [],
            "sockets": "" if policy.sockets is None else str(policy.sockets.path),
            "limits": {name: getattr(limits, name) for name in limits.__dataclass_fields__},
            "audit": asdict(policy.audit),
            "watched": [str(path) for path in policy.watched],
            "supervisor": self._sandbox.supervisor,
        }
        return job, pins


def _stands(policy: Policy, path: Path) -> bool:
    pin = policy.pin_of(path)
    return pin is None or pin.holds()


def _explained(
    result: CommandResult, reason: str, on_output: Callable[[str, bytes], None] | None
) -> CommandResult:
    """Add why a command was killed to what it said."""
    text = f"\nrootbound: {reason}\n".encode()
    if on_output is not None:
        on_output("stderr", text)
    return replace(result, output=result.output + text, withdrawn=True)


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
