"""git as a weapon: no trap springs when the LDA works on a repository, and each does without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.attack_cases import USERS, AnyAttack, bites, cases, check_bites, check_fails
from tests.security.attack_git import GIT_ATTACKS

if TYPE_CHECKING:
    from tests.security.conftest import Worker


@pytest.mark.parametrize(
    ("attack", "worker", "way"),
    [case for user in USERS for case in cases(GIT_ATTACKS, user, "confined")],
)
def test_git_trap_does_not_spring(
    attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]
) -> None:
    check_fails(attack, worker, way, workers)


@pytest.mark.parametrize(("attack", "worker", "way"), bites(GIT_ATTACKS))
def test_git_trap_springs_without_enforcement(
    attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]
) -> None:
    check_bites(attack, worker, way, workers)
