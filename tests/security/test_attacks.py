"""Every attack of a command fails in a run and is on record, under both supervisors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.attack_cases import USERS, AnyAttack, cases, check_fails
from tests.security.attack_git import GIT_ATTACKS
from tests.security.attack_list import ATTACKS

if TYPE_CHECKING:
    from tests.security.conftest import Worker

TWICE = [attack for attack in ATTACKS if attack.twice]


@pytest.mark.parametrize(("attack", "worker", "way"), cases(ATTACKS, USERS[0], "confined"))
def test_attack_fails_and_is_on_record(
    attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]
) -> None:
    check_fails(attack, worker, way, workers)


@pytest.mark.parametrize(
    ("attack", "worker", "way"), cases(TWICE, f"{USERS[0]}-python", "confined")
)
def test_attack_fails_with_the_supervisor_in_python(
    attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]
) -> None:
    check_fails(attack, worker, way, workers)


def test_names_are_unique_and_many() -> None:
    everything = [*ATTACKS, *GIT_ATTACKS]
    assert len({attack.name for attack in everything}) == len(everything) >= 60
