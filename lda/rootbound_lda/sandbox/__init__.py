"""Child processes under the policy: confined by the kernel, each file operation recorded.

A command runs under a supervisor process forked from a warm zygote. The supervisor confines itself
with Landlock, then starts the child in a nested domain with a seccomp program. Every call that
changes a file is carried out by the supervisor, so its record is exact; opens for reading are
decided by the kernel and recorded as predicted. Reads of the system's own files (libraries,
interpreters, /etc, /proc) leave no record.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootbound_lda.sandbox.facts import SandboxFacts, probe
    from rootbound_lda.sandbox.runner import (
        CommandResult,
        CommandRunner,
        Sandbox,
        SandboxUnavailable,
        base_env,
    )

__all__ = [
    "CommandResult",
    "CommandRunner",
    "Sandbox",
    "SandboxFacts",
    "SandboxUnavailable",
    "base_env",
    "probe",
]


def __getattr__(name: str) -> object:
    # The zygote imports modules of this package and must not pay for asyncio and the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "facts" if name in ("SandboxFacts", "probe") else "runner"
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
