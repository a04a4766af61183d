"""What the test files of attacks share: which attack is run how by whom, and the judgement."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from tests.security.attack_git import GitAttack
from tests.security.attack_model import Attack

if TYPE_CHECKING:
    from tests.security.conftest import Worker

AnyAttack = Attack | GitAttack

# Root is tried as root and as somebody else; anybody else is an ordinary user already.
USERS = ("root", "user") if os.geteuid() == 0 else ("user",)


def cases(attacks: Iterable[AnyAttack], worker: str, way: str) -> list[object]:
    """Return the cases of attacks that one worker runs in one way."""
    return [pytest.param(attack, worker, way, id=f"{attack.name}-{worker}") for attack in attacks]


def bites(attacks: Iterable[AnyAttack]) -> list[object]:
    """Return the cases without enforcement: as the user who has less, if that one can do it."""
    return [
        case
        for attack in attacks
        for case in cases([attack], "root" if attack.root_only else "user", "plain")
    ]


def check_fails(attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]) -> None:
    """Check that an attack had no effect in a run, and that it is on record."""
    found = workers[worker].result(attack.name, way)
    assert not found["happened"], found
    assert found["shown"], found


def check_bites(attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]) -> None:
    """Check that an attack has its effect where nothing stands in its way."""
    if worker not in USERS:
        pytest.skip("only root can do it, so only root can show that it works")
    found = workers[worker].result(attack.name, way)
    assert found["happened"], found
