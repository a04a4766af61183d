"""Gates: the project's own commands, whose exit code decides."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .logs import KeptLog
from .policy import Policy
from .reports import OutputFeed, Reporter
from .sandbox import CommandResult, CommandRunner, base_env
from .wire import Commands, Failure, GateEvidence, GateName, GateStarted, Limits

REPORT_EDGE: Final = 4_000
TIMED_OUT: Final = 124
"""Exit code in the evidence of a gate that did not end in time."""

_FAILURES: Final[dict[GateName, Failure]] = {
    "install": "GATE_INSTALL",
    "lint": "GATE_LINT",
    "test": "GATE_TEST",
}
_SETTINGS: Final[dict[GateName, str]] = {
    "install": "install_cmd",
    "lint": "lint_cmd",
    "test": "test_cmd",
}


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """How one gate ended.

    Attributes
    ----------
    failure
        The reason, when it failed.
    sentence
        What to tell the user then.
    report
        The end of its output, for the agent.
    output
        What was kept of its whole output.
    agent_can_fix
        Whether it makes sense to give it back to the agent.
    """

    name: GateName
    exit_code: int
    failure: Failure | None = None
    sentence: str = ""
    report: str = ""
    agent_can_fix: bool = True
    output: str = ""

    @property
    def is_about_code(self) -> bool:
        """Whether the command ran to its end and found something."""
        return self.failure not in (None, "GATE_TIMEOUT") and self.exit_code not in (126, 127)

    @property
    def may_be_chance(self) -> bool:
        """Whether running it once more can tell chance from a fault: tests only."""
        return self.failure == "GATE_TEST" and self.is_about_code


def gates_of(commands: Commands) -> list[tuple[GateName, str]]:
    """Return the gates of a project in order; an empty command is no gate."""
    listed: list[tuple[GateName, str | None]] = [
        ("install", commands.install_cmd),
        ("lint", commands.lint_cmd),
        ("test", commands.test_cmd),
    ]
    return [(name, command.strip()) for name, command in listed if command and command.strip()]


@dataclass(slots=True)
class GateKeeper:
    """Runs the gates of one run, confined, and reports their evidence.

    Attributes
    ----------
    artifacts
        Folder for the logs.
    """

    policy: Policy
    runner: CommandRunner
    reporter: Reporter
    artifacts: Path
    limits: Limits

    async def run(self, name: GateName, command: str, commit: str) -> GateOutcome:
        """Run one gate at ``commit``, which must be what is in the work tree.

        Tests that fail are run once more: when they pass then, they are flaky, which the evidence
        and a notice say, and the gate is green.

        Parameters
        ----------
        name
            Which gate; ``install`` may reach the network when the project allows it.
        command
            For bash.
        commit
            Named by the evidence.

        Raises
        ------
        SandboxUnavailable
            When it could not be confined; it did not run.
        AuditUnavailable
            When its file operations could not be recorded; it was killed.
        """
        outcome = await self._evident(name, command, commit)
        if not outcome.may_be_chance:
            return outcome
        self.reporter.notice(f"The {name} gate failed; it is run once more to rule out chance.")
        again = await self._evident(name, command, commit, after_failure=True)
        if again.failure is None:
            self.reporter.notice(
                f"The {name} gate is flaky: it failed and then passed at the same commit."
            )
        return again

    async def _evident(
        self, name: GateName, command: str, commit: str, *, after_failure: bool = False
    ) -> GateOutcome:
        """Run a gate and report its evidence."""
        self.reporter(GateStarted(name, command))
        path = self.artifacts / f"{name}-{commit[:12]}-{time.time_ns():x}.log"
        log = KeptLog(path, self.limits.max_output_bytes)
        try:
            result = await self._run(
                name, command, OutputFeed(self.reporter, f"gate:{name}", log.write)
            )
        finally:
            digest = await asyncio.to_thread(log.close)
        exit_code = TIMED_OUT if result.timed_out else result.exit_code
        self.reporter(
            GateEvidence(
                name=name,
                commit=commit,
                command=command,
                exit_code=exit_code,
                duration_s=round(result.duration_s, 3),
                log_digest=f"sha256:{digest}",
                log_artifact=log.path.name,
                flaky=after_failure and exit_code == 0,
            )
        )
        return _judge(name, command, result, self.limits)

    async def run_quietly(self, name: GateName, command: str) -> GateOutcome:
        """Run a gate whose result is no evidence about the attempt."""
        result = await self._run(name, command, None)
        return _judge(name, command, result, self.limits)

    async def _run(self, name: GateName, command: str, feed: OutputFeed | None) -> CommandResult:
        network = self.policy.network.install if name == "install" else self.policy.network.agent
        while True:
            result = await self.runner.run(
                ["/bin/bash", "-c", command],
                cwd=self.policy.worktree,
                env=base_env(self.policy, network=network),
                network=network,
                timeout_s=self.limits.gate_timeout_s,
                on_output=feed,
                max_output=16 * REPORT_EDGE,
            )
            if not result.withdrawn:
                return result
            # That somebody took a folder back says nothing about the code.
            self.reporter.notice(f"The {name} gate runs again, as that withdrawal ended it.")


def _signal(exit_code: int) -> str:
    """Name the signal that an exit code stands for, if it does."""
    try:
        return f" ({signal.Signals(exit_code - 128).name})"
    except ValueError:
        return ""


def _judge(name: GateName, command: str, result: CommandResult, limits: Limits) -> GateOutcome:
    """Say what an exit code means and what to do about it."""
    setting = _SETTINGS[name]
    exit_code = TIMED_OUT if result.timed_out else result.exit_code
    output = result.output.decode("utf-8", "replace")
    report = output[-2 * REPORT_EDGE :]
    if result.timed_out:
        sentence = (
            f"The {name} gate `{command}` did not end in {limits.gate_timeout_s:.0f} s and was "
            "killed; make it faster, or raise gate_timeout_s in the project's settings."
        )
        return GateOutcome(name, exit_code, "GATE_TIMEOUT", sentence, f"{report}\n{sentence}")
    if exit_code == 0:
        return GateOutcome(name, 0)
    if exit_code in (126, 127):
        what = "was not found" if exit_code == 127 else "cannot be executed"
        sentence = (
            f"The command of the {name} gate {what} (exit code {exit_code}): `{command}`; correct "
            f"{setting} in the project's settings."
        )
        return GateOutcome(
            name, exit_code, _FAILURES[name], sentence, report, agent_can_fix=name != "install"
        )
    sentence = (
        f"The {name} gate failed with exit code {exit_code}{_signal(exit_code)}: `{command}`; its "
        "log says why. Retry "
        "with feedback, or correct the command in the project's settings."
    )
    return GateOutcome(name, exit_code, _FAILURES[name], sentence, report, output=output)
