"""What this machine can enforce, found by really trying."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootbound_lda.audit import MemorySink
from rootbound_lda.policy import NetworkRule, Policy
from rootbound_lda.sandbox import _landlock, _sys
from rootbound_lda.sandbox.runner import Sandbox, SandboxUnavailable

_FULL_NETWORK_ABI = 4
_TIMEOUT_S = 20.0
_CONTENT = "kept"

# One attempt a line: name and whether it was stopped. Only the shell and its built-ins and
# python3 of this interpreter are used.
_TRIALS = """
import os, socket, sys
outside, victim = sys.argv[1], int(sys.argv[2])
def stopped(act):
    try:
        act()
    except OSError:
        return True
    return False
def inside():
    with open("inside", "w") as file:
        file.write("x")
trials = {
    "write_inside": lambda: inside(),
    "write_outside": lambda: open(outside, "w"),
    "chmod_outside": lambda: os.chmod(outside, 0o777),
    "truncate_outside": lambda: os.truncate(outside, 0),
    "delete_outside": lambda: os.unlink(outside),
    "read_outside": lambda: open(outside),
    "write_git": lambda: open(".git", "w"),
    "signal_outside": lambda: os.kill(victim, 0),
    "socket": lambda: socket.socket(),
    "unix_socket": lambda: socket.socket(socket.AF_UNIX),
}
for name, act in trials.items():
    print(name, int(stopped(act)), flush=True)
"""


@dataclass(frozen=True)
class SandboxFacts:
    """What was found.

    Parameters
    ----------
    tier
        ``"A"``: everything is enforced. ``"B"``: an older Landlock, with the supervisor closing
        its holes. ``"F"``: nothing can be enforced and no command may run; the file tools stay.
    facts
        The findings by name, for diagnosis.
    missing
        One sentence for each guarantee that this machine does not give.
    """

    tier: str
    facts: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


async def probe() -> SandboxFacts:
    """Try the sandbox on harmless targets in a temporary folder and report what held."""
    version = _landlock.abi()
    facts: dict[str, Any] = {
        "kernel": platform.release(),
        "machine": _sys.MACHINE,
        "landlock_abi": version,
        "bubblewrap": shutil.which("bwrap") is not None,
        "root": os.geteuid() == 0,
    }
    if not sys.platform.startswith("linux") or _sys.AUDIT_ARCH == 0:
        return SandboxFacts(
            "F",
            facts,
            ["Commands cannot be confined on this system: it takes Linux on x86-64 or ARM64."],
        )
    if version < 1:
        return SandboxFacts(
            "F", facts, ["Commands cannot be confined: this kernel has no Landlock, or it is off."]
        )
    try:
        trials = await _try(facts)
    except (SandboxUnavailable, OSError) as error:
        facts["error"] = str(error)
        return SandboxFacts("F", facts, [f"Commands cannot be confined: {error}"])
    facts["trials"] = trials
    return _judge(version, facts, trials)


async def _try(facts: dict[str, Any]) -> dict[str, bool]:
    with tempfile.TemporaryDirectory(prefix="rootbound-probe-") as name:
        policy, outside = _prepare(Path(name))
        sink = MemorySink()
        sandbox = Sandbox()
        await sandbox.start()
        try:
            result = await sandbox.runner(policy, sink).run(
                [_python(), "-I", "-S", "-c", _TRIALS, str(outside), str(os.getpid())],
                cwd=policy.worktree,
                env={"PATH": os.defpath},
                network=False,
                timeout_s=_TIMEOUT_S,
            )
        finally:
            await sandbox.stop()
        facts["trial_s"] = round(result.duration_s, 3)
        if result.exit_code:
            facts["output"] = result.output.decode("utf-8", "replace")[-500:]
        stopped = _read_trials(result.output.decode("utf-8", "replace"))
        denied = {entry["path"] for entry in sink.entries if entry["result"] == "DENIED"}
        stopped["kept"] = _is_kept(outside)
        stopped["recorded"] = str(outside) in denied
        return stopped


def _prepare(folder: Path) -> tuple[Policy, Path]:
    base = folder.resolve()
    for part in ("tree", "home", "tmp"):
        (base / part).mkdir()
    outside = base / "outside"
    outside.write_text(_CONTENT)
    tree = base / "tree"
    system = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/nix/store", sys.base_prefix)
    policy = Policy(
        run_id="probe",
        worktree=tree,
        writable=(tree,),
        readable=tuple(Path(path) for path in dict.fromkeys(system) if Path(path).exists()),
        protected=(),
        private_home=base / "home",
        private_tmp=base / "tmp",
        network=NetworkRule(agent=False, install=False),
    )
    return policy, outside


def _read_trials(output: str) -> dict[str, bool]:
    words = [line.split() for line in output.splitlines()]
    return {pair[0]: pair[1] == "1" for pair in words if len(pair) == 2 and pair[1] in "01"}


def _is_kept(path: Path) -> bool:
    return path.exists() and path.read_text() == _CONTENT and path.stat().st_mode & 0o777 != 0o777


def _python() -> str:
    """Return the interpreter itself: a virtual environment's link may lead out of its prefix."""
    return os.path.realpath(sys.executable)


def _judge(version: int, facts: dict[str, Any], trials: dict[str, bool]) -> SandboxFacts:
    sentences = {
        "write_outside": "Commands can write outside the granted folders.",
        "chmod_outside": "Commands can change permissions outside the granted folders.",
        "truncate_outside": "Commands can empty files outside the granted folders.",
        "delete_outside": "Commands can delete files outside the granted folders.",
        "read_outside": "Commands can read files outside the readable paths.",
        "write_git": "Commands can change git's own files.",
        "signal_outside": "Commands can send signals to your other programs.",
        "socket": "Commands can use the network although it is off.",
        "unix_socket": "Commands can reach local services over unix sockets.",
        "kept": "A file outside the granted folders was changed in a trial.",
        "recorded": "Refused operations of commands are not recorded.",
    }
    missing = [text for name, text in sentences.items() if not trials.get(name)]
    if trials.get("write_inside") is not False:
        missing.append("Commands cannot write in their own working tree.")
    if missing:
        return SandboxFacts("F", facts, missing)
    if version >= _landlock.SCOPE_ABI:
        return SandboxFacts("A", facts, [])
    if version < _FULL_NETWORK_ABI:
        facts["tcp_by"] = "seccomp"
    facts["signals_by"] = "supervisor"
    return SandboxFacts("B", facts, [])
