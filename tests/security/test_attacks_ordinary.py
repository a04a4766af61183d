"""Every attack of a command, by an ordinary user where root runs the tests; and each bites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.attack_cases import USERS, AnyAttack, bites, cases, check_bites, check_fails
from tests.security.attack_list import ATTACKS

if TYPE_CHECKING:
    from tests.security.conftest import Worker

OTHERS = [case for user in USERS[1:] for case in cases(ATTACKS, user, "confined")]


@pytest.mark.parametrize(("attack", "worker", "way"), OTHERS)
def test_attack_of_an_ordinary_user_fails_and_is_on_record(
    attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]
) -> None:
    check_fails(attack, worker, way, workers)


@pytest.mark.parametrize(("attack", "worker", "way"), bites(ATTACKS))
def test_attack_succeeds_without_enforcement(
    attack: AnyAttack, worker: str, way: str, workers: dict[str, Worker]
) -> None:
    check_bites(attack, worker, way, workers)
