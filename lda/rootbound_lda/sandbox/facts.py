"""What this machine can enforce, found by really trying."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootbound_lda.audit import MemorySink
from rootbound_lda.policy import NetworkRule, Policy
from rootbound_lda.sandbox import _bubblewrap, _landlock, _sys, tiers
from rootbound_lda.sandbox._bubblewrap import Wall
from rootbound_lda.sandbox.runner import Sandbox, SandboxUnavailable, chosen_supervisor

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
        ``"A"`` (everything is enforced and recorded) to ``"F"`` (no command may run; the file
        tools stay); see `tiers`.
    facts
        The findings by name, for diagnosis.
    missing
        One sentence for each guarantee that this machine does not give.
    wall
        The outer wall that commands run in, if there is one.
    """

    tier: str
    facts: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    wall: Wall | None = None


async def probe(*, bubblewrap: str = "auto", abi: int | None = None) -> SandboxFacts:
    """Try the sandbox on harmless targets in a temporary folder and report what held.

    Parameters
    ----------
    bubblewrap
        ``"auto"``: used where it works; ``"always"``: without it no command runs; ``"off"``.
    abi
        Landlock ABI to use at most; by default all that the kernel has.
    """
    version = _landlock.abi() if abi is None else min(abi, _landlock.abi())
    facts: dict[str, Any] = {
        "kernel": platform.release(),
        "machine": _sys.MACHINE,
        "landlock_abi": version,
        "root": os.geteuid() == 0,
        "supervisor": chosen_supervisor(),
    }
    if sys.platform == "darwin":
        reason = (
            "Commands are not confined on macOS: a Seatbelt profile is there, but nobody has "
            "tested it, so it is not relied on."
        )
        return SandboxFacts("F", facts, [reason])
    if not sys.platform.startswith("linux") or _sys.AUDIT_ARCH == 0:
        return SandboxFacts(
            "F",
            facts,
            ["Commands cannot be confined on this system: it takes Linux on x86-64 or ARM64."],
        )
    program = None if bubblewrap == "off" else _bubblewrap.find()
    facts["bubblewrap"] = "off" if bubblewrap == "off" else "is not installed"
    if program is not None:
        wall = Wall(program, closed=version < 1)
        found = await _trial(version, {**facts, "bubblewrap": "in use"}, wall)
        if found.tier != "F":
            return found
        facts["bubblewrap"] = f"does not work here: {' '.join(found.missing)}"
    if bubblewrap == "always":
        reason = f"the LDA's settings require bubblewrap, which {_state_of(facts['bubblewrap'])}"
        return SandboxFacts("F", facts, [f"Commands cannot be confined: {reason}."])
    if version < 1:
        reason = (
            "Commands cannot be confined: this kernel has no Landlock, or it is off, and "
            f"bubblewrap {_state_of(facts['bubblewrap'])}."
        )
        return SandboxFacts("F", facts, [reason])
    return await _trial(version, facts, None)


def _state_of(bubblewrap: str) -> str:
    return "is switched off" if bubblewrap == "off" else bubblewrap.rstrip(".")


async def _trial(version: int, facts: dict[str, Any], wall: Wall | None) -> SandboxFacts:
    try:
        trials = await _try(Sandbox(wall=wall, abi=version), facts)
    except (SandboxUnavailable, OSError) as error:
        facts["error"] = str(error)
        return SandboxFacts("F", facts, [f"Commands cannot be confined: {error}"])
    facts["trials"] = trials
    return _judge(version, facts, trials, wall)


async def _try(sandbox: Sandbox, facts: dict[str, Any]) -> dict[str, bool]:
    with tempfile.TemporaryDirectory(prefix="rootbound-probe-") as name:
        policy, outside = _prepare(Path(name))
        sink = MemorySink()
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
        # A closed wall leaves nothing to name of what lies outside; the refusal of `.git` stays.
        stopped["recorded"] = bool({str(outside), str(policy.worktree / ".git")} & denied)
        return stopped


def _prepare(folder: Path) -> tuple[Policy, Path]:
    base = folder.resolve()
    for part in ("tree", "home", "tmp"):
        (base / part).mkdir()
    outside = base / "outside"
    outside.write_text(_CONTENT)
    tree = base / "tree"
    system = (
        "/usr",
        "/bin",
        "/lib",
        "/lib64",
        "/etc",
        "/proc",
        "/nix/store",
        sys.prefix,
        sys.base_prefix,
    )
    policy = Policy(
        run_id="probe",
        worktree=tree,
        writable=(tree,),
        readable=tuple(dict.fromkeys(Path(p).resolve() for p in system if Path(p).exists())),
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


def _judge(
    version: int, facts: dict[str, Any], trials: dict[str, bool], wall: Wall | None
) -> SandboxFacts:
    sentences = {one.name: one.lost for one in tiers.GUARANTEES if one.name in trials}
    sentences["kept"] = "A file outside the granted folders was changed in a trial."
    missing = [text for name, text in sentences.items() if not trials.get(name)]
    if trials.get("write_inside") is not False:
        missing.append("Commands cannot write in their own working tree.")
    if missing or not {"write_outside", "read_outside", "recorded"} <= trials.keys():
        return SandboxFacts("F", facts, missing or ["The trial of the sandbox broke off."])
    if version >= _landlock.SCOPE_ABI:
        return SandboxFacts("A", facts, tiers.lost("A"), wall)
    facts["signals_by"] = "supervisor"
    if version < _FULL_NETWORK_ABI:
        facts["tcp_by"] = "seccomp"
    tier = "C" if version < 1 else "B"
    return SandboxFacts(tier, facts, tiers.lost(tier), wall)
