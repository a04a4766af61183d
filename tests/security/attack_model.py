"""What an attack is: its code, how to see that it worked, and what must be on record."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootbound_lda.sandbox._sys import SYSCALLS

if TYPE_CHECKING:
    from tests.security.attack_world import World

SECRET = "the-secret-text"
ORIGINAL = "original"
VICTIM = "outside/victim.txt"
REFERENCE = "reference/ref.txt"
TREE = "state/worktrees/a1"
CALLS = {
    "x86_64": {"fork": 57, "name_to_handle_at": 303, "getpid": 39},
    "aarch64": {"name_to_handle_at": 264, "getpid": 172},
}
NUMBERS: dict[str, int] = {**SYSCALLS, **CALLS.get(platform.machine(), {})}


@dataclass(frozen=True)
class Effect:
    """What the attacker wants, in words and as a look at the world."""

    words: str
    happened: Callable[[World], bool]


@dataclass(frozen=True)
class Evidence:
    """What the defender must be able to show afterwards."""

    words: str
    shown: Callable[[World], bool]
    is_audit: bool = True


@dataclass(frozen=True)
class Attack:
    """One named attack.

    Parameters
    ----------
    name, category
        Unique name; heading of the table.
    code
        Python source that the attacker runs as a command of a run.
    effect
        What must happen without enforcement and never with it.
    evidence
        What the audit shows, or what the attacker is told where there is no file operation.
    network
        Whether the command has the network.
    root_only
        Whether an ordinary user could not do it anyway, so that only root's success is shown.
    limits
        Process limits of the policy; without enforcement there are none.
    services
        Whether the local servers are up.
    shares
        Whether another program has a message queue, a semaphore and memory of System V.
    twice
        Whether to be run under each implementation of the supervisor.
    timeout_s
        Seconds until the command is killed.
    """

    name: str
    category: str
    code: str
    effect: Effect
    evidence: Evidence
    network: bool = False
    root_only: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    services: bool = False
    shares: bool = False
    twice: bool = False
    timeout_s: float = 20.0
    max_output: int = 1 << 20

    @property
    def effect_words(self) -> str:
        """What the attacker wants, for the table."""
        return self.effect.words

    @property
    def evidence_words(self) -> str:
        """What is on record, for the table."""
        return self.evidence.words


def until(condition: Callable[[], bool], seconds: float = 0.15) -> bool:
    """Wait a moment for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# -- effects -----------------------------------------------------------------------------------


def changed(path: str) -> Effect:
    def happened(world: World) -> bool:
        target = world.base / path
        return not target.is_file() or target.read_text() != ORIGINAL

    return Effect(f"`{path}` has other content", happened)


def appended(path: str) -> Effect:
    return Effect(f"`{path}` grew", lambda w: (w.base / path).read_bytes() != w.before[path])


def exists(path: str) -> Effect:
    return Effect(f"`{path}` appears", lambda w: os.path.lexists(w.base / path))


def gone(path: str) -> Effect:
    return Effect(f"`{path}` is gone", lambda w: not os.path.lexists(w.base / path))


def mode_changed(path: str) -> Effect:
    return Effect(
        f"`{path}` has other permissions",
        lambda w: (w.base / path).stat().st_mode & 0o777 == 0o711,
    )


def old(path: str) -> Effect:
    return Effect(f"`{path}` has another time", lambda w: (w.base / path).stat().st_mtime < 1000)


def has_xattr(path: str) -> Effect:
    return Effect(
        f"`{path}` has a new attribute", lambda w: "user.evil" in os.listxattr(w.base / path)
    )


TOLD = Effect("the secret is printed", lambda w: SECRET in w.output)


def said(word: str, words: str) -> Effect:
    return Effect(words, lambda w: word in w.output.split())


def hit(name: str, words: str) -> Effect:
    return Effect(words, lambda w: until(lambda: name in w.hits))


DEAD = Effect(
    "another process is killed", lambda w: until(lambda: w.victim_process.poll() is not None)
)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _survived(world: World) -> bool:
    numbers = [int(word) for word in world.output.split() if word.isdigit()]
    if not numbers:
        raise AssertionError(f"the attack did not start: {world.output}")
    left = [number for number in numbers if alive(number)]
    for number in left:
        os.kill(number, 9)
    return bool(left)


SURVIVED = Effect("a process outlives its command", _survived)

# -- evidence ----------------------------------------------------------------------------------


def denied(operation: str, path: str | Callable[[World], str]) -> Evidence:
    """A row of the audit with this operation, DENIED, and this path."""

    def shown(world: World) -> bool:
        wanted = path(world) if callable(path) else str(world.base / path)
        return wanted in world.paths("DENIED", operation)

    where = "the file of the other process" if callable(path) else f"`{path or '/'}`"
    return Evidence(f"{operation} DENIED {where}", shown)


def recorded(operation: str, path: str) -> Evidence:
    """A row with this operation, ALLOWED: it stayed inside, and that is on record."""
    return Evidence(
        f"{operation} ALLOWED `{path}`",
        lambda w: str(w.base / path) in w.paths("ALLOWED", operation),
    )


def refused(*names: str) -> Evidence:
    """No file operation: the attacker is told one of these errors."""
    return Evidence(
        f"no file operation; the attacker sees {' or '.join(names)}",
        lambda w: any(f"REFUSED {name}" in w.output for name in names),
        is_audit=False,
    )


def killed(number: int, name: str) -> Evidence:
    """No file operation: the attacker dies of a signal."""
    return Evidence(
        f"no file operation; the attacker dies of {name}",
        lambda w: w.result is not None and w.result.signal == number,
        is_audit=False,
    )


def shown(words: str, check: Callable[[World], Any], *, is_audit: bool = False) -> Evidence:
    return Evidence(words, lambda w: bool(check(w)), is_audit)
