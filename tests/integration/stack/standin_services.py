"""A guard whose services are tiny stand-ins, to try what a guard does when services misbehave.

Run as a script with the guard's own arguments. Files in the state folder tell a stand-in what to
do: ``crash-<name>`` makes it end at once, ``bare-<name>`` makes it start a child that does not
inherit our mark.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from rootbound_server_ext.stack import guard
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.leftovers import marker_environment
from rootbound_server_ext.stack.process import READY_LINE, Command, base_environment
from rootbound_server_ext.stack.services import Running, ServiceSpec, Stack

# Each stand-in has a child in a session of its own, as agents have.
PROGRAM = f"""
import os, pathlib, subprocess, sys, time
home, name = sys.argv[1:]
if pathlib.Path(home, f"crash-{{name}}").exists():
    sys.exit(f"{{name}} was told to crash")
bare = pathlib.Path(home, f"bare-{{name}}").exists()
environment = {{}} if bare else None
child = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
pathlib.Path(home, f"child-{{name}}").write_text(str(child.pid))
print("{READY_LINE}", flush=True)
time.sleep(600)
"""


def _check(running: Running) -> None:
    if not running.logged(READY_LINE):
        raise StackError("not yet")


def _command(stack: Stack, name: str) -> Command:
    environment = base_environment(marker_environment(stack.home, stack.stack_id, name))
    return Command(
        (sys.executable, "-I", "-S", "-c", PROGRAM, str(stack.home), name), environment, Path("/")
    )


def make_specs(stack: Stack) -> list[ServiceSpec]:
    after = {"backend": ("redis",), "lda": ("backend",)}
    return [
        ServiceSpec(
            name,
            f"Stand-in {name}",
            check=_check,
            command=partial(_command, stack, name),
            after=after.get(name, ()),
            start_timeout_s=20,
            stop_timeout_s=5,
        )
        for name in ("redis", "backend", "lda")
    ]


if __name__ == "__main__":
    sys.exit(guard.main(sys.argv[1:], make_specs))
