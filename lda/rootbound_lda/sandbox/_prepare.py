"""What a supervisor needs and the warm process can have ready: the same for a run's commands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache

from rootbound_lda.sandbox import _filter, _landlock
from rootbound_lda.sandbox._boundary import Root, standing

TYPE_CHECKING = False  # as in `_ring`
if TYPE_CHECKING:
    from typing import Any

_KEPT_RULESETS = 4

try:
    # The hot loop in C; built with the package where a compiler was there.
    from rootbound_lda.sandbox import _fast
except ImportError:
    _fast = None  # type: ignore[assignment, unused-ignore]


def compiled() -> bool:
    """Tell whether this installation has the compiled supervisor."""
    return _fast is not None


class Prepared:
    """What is ready for one command.

    Parameters
    ----------
    roots
        The writable folders that stand.
    ruleset
        Descriptor of the Landlock rules, None on a kernel without.
    program
        The seccomp program of the child.
    trap_signals
        Whether signals are asked about.
    most_processes
        Most processes and threads of the tree at a time, None for as many as the machine allows.
    fast
        The compiled loop if it is to be used, else None.
    sockets
        Descriptor of the folder for unix sockets, None when the command has none.
    """

    def __init__(
        self,
        *,
        roots: list[Root],
        ruleset: int | None,
        program: bytes,
        trap_signals: bool,
        most_processes: int | None,
        fast: Any,
        sockets: int | None,
    ) -> None:
        self.roots = roots
        self.ruleset = ruleset
        self.program = program
        self.trap_signals = trap_signals
        self.most_processes = most_processes
        self.fast = fast
        self.sockets = sockets


_program = lru_cache(maxsize=32)(_filter.build)
_rulesets: dict[object, int] = {}


def prepare(job: Mapping[str, Any], pins: Sequence[int]) -> Prepared:
    """Make ready what a command needs, or find it from a command before.

    Raises
    ------
    OSError
        If the kernel refuses; nothing may run then.
    """
    version = int(job["abi"])
    sockets = pins[-1] if job["sockets"] else None
    roots = standing(job["writable"], pins[:-1] if job["sockets"] else pins)
    trap_signals = version < _landlock.SCOPE_ABI
    most = job["limits"].get("max_processes")
    rule = job["audit"]
    # What must wait for the LDA's answer, call by call, gains nothing from the compiled loop.
    fast = None if job["supervisor"] == "python" or rule["strict_audit"] else _fast
    program = _program(
        network=job["network"],
        trap_signals=trap_signals,
        sockets=sockets is not None,
        loopback=job["loopback"],
        count_forks=most is not None,
        trace_reads=rule["trace_reads"],
        trap_moves=fast is not None,
    )
    ruleset = _ruleset(version, job, roots, sockets) if version > 0 else None
    return Prepared(
        roots=roots, ruleset=ruleset, program=program, trap_signals=trap_signals,
        most_processes=most, fast=fast, sockets=sockets,
    )  # fmt: skip


def _ruleset(
    version: int, job: Mapping[str, Any], roots: Sequence[Root], sockets: int | None
) -> int:
    """Return the rules for these very files: rules stick to files, not to their names."""
    pins = [pin for *_, pin in roots]
    named = [*job["readable"], *job["listable"], *job["devices"]]
    shape = (len(job["readable"]), len(job["listable"]))
    own = () if sockets is None else _of_pin(sockets)
    key = (
        version, shape, own, tuple(named), tuple(map(_of_pin, pins)), tuple(map(_of_path, named)),
    )  # fmt: skip
    found = _rulesets.get(key)
    if found is None:
        found = _landlock.supervisor_ruleset(
            version,
            writable=pins,
            readable=job["readable"],
            listable=job["listable"],
            devices=job["devices"],
            sockets=sockets,
        )
        if len(_rulesets) == _KEPT_RULESETS:
            os.close(_rulesets.pop(next(iter(_rulesets))))
        _rulesets[key] = found
    return found


def _of_pin(pin: int) -> tuple[int, int]:
    facts = os.fstat(pin)
    return facts.st_dev, facts.st_ino


def _of_path(path: str) -> tuple[int, int, int] | None:
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_mode
