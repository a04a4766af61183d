"""All attacks that a command of a run makes."""

from __future__ import annotations

from tests.security.attack_model import Attack
from tests.security.attacks_audit import AUDIT
from tests.security.attacks_changes import CHANGES, RACES
from tests.security.attacks_machine import RESOURCES, SOCKETS
from tests.security.attacks_paths import GIT_FILES, PATHS
from tests.security.attacks_processes import KERNEL, PROCESSES, READS

ATTACKS: list[Attack] = [
    *PATHS, *GIT_FILES, *CHANGES, *RACES, *READS, *PROCESSES, *KERNEL, *SOCKETS, *RESOURCES, *AUDIT,
]  # fmt: skip
