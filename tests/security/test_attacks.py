"""Every attack fails in a run and is on record, and succeeds where nothing stands in its way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from tests.security.attack_git import GIT_ATTACKS, GitAttack
from tests.security.attack_list import ATTACKS
from tests.security.attack_model import Attack

if TYPE_CHECKING:
    from tests.security.conftest import Worker

# Root is tried as root and as somebody else; anybody else is an ordinary user already.
USERS = ("root", "user") if os.geteuid() == 0 else ("user",)


ALL: list[Attack | GitAttack] = [*ATTACKS, *GIT_ATTACKS]


def _cases(chosen: Sequence[Attack | GitAttack], workers: tuple[str, ...]) -> list[object]:
    return [
        pytest.param(attack, worker, id=f"{attack.name}-{worker}")
        for worker in workers
        for attack in chosen
    ]


@pytest.mark.parametrize(("attack", "worker"), _cases(ALL, USERS))
def test_attack_fails_and_is_on_record(
    attack: Attack | GitAttack, worker: str, workers: dict[str, Worker]
) -> None:
    found = workers[worker].result(attack.name, "confined")
    assert not found["happened"], found
    assert found["shown"], found


BITES = [(attack, "root" if attack.root_only else "user") for attack in ALL]


@pytest.mark.parametrize(
    ("attack", "worker"), BITES, ids=[f"{attack.name}-{worker}" for attack, worker in BITES]
)
def test_attack_succeeds_without_enforcement(
    attack: Attack | GitAttack, worker: str, workers: dict[str, Worker]
) -> None:
    if worker not in USERS:
        pytest.skip("only root can do it, so only root can show that it works")
    found = workers[worker].result(attack.name, "plain")
    assert found["happened"], found


TWICE = [attack for attack in ATTACKS if attack.twice]


@pytest.mark.parametrize(("attack", "worker"), _cases(TWICE, (f"{USERS[0]}-python",)))
def test_attack_fails_with_the_supervisor_in_python(
    attack: Attack | GitAttack, worker: str, workers: dict[str, Worker]
) -> None:
    found = workers[worker].result(attack.name, "confined")
    assert not found["happened"], found
    assert found["shown"], found


def test_names_are_unique_and_many() -> None:
    assert len({attack.name for attack in ALL}) == len(ALL) >= 60
