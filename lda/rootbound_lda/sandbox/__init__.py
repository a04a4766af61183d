"""Child processes under the policy: confined by the kernel, each file operation recorded.

A command runs under a supervisor process forked from a warm zygote. The supervisor confines itself
with Landlock, then starts the child in a nested domain with a seccomp program. Every call that
changes a file is carried out by the supervisor, so its record is exact; opens for reading are
decided by the kernel and recorded as predicted. Reads of the system's own files (libraries,
interpreters, /etc, /proc) are counted, a row for each folder and second. A small compiled loop
answers the commonest calls; the brokers in Python answer the rest, or all where it was not built.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `_ring`
if TYPE_CHECKING:
    from rootbound_lda.sandbox._keeper import recover
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
    "recover",
]


def __getattr__(name: str) -> object:
    # The zygote imports modules of this package and must not pay for asyncio and the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    homes = {"SandboxFacts": "facts", "probe": "facts", "recover": "_keeper"}
    home = homes.get(name, "runner")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
