"""docs/attacks.md says what the tests do."""

from __future__ import annotations

import platform

import pytest

from tests.security.attack_table import TARGET, text


@pytest.mark.skipif(platform.machine() != "x86_64", reason="two attacks are of x86-64 alone")
def test_the_table_is_up_to_date() -> None:
    said = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    assert said == text(), "run: python -m tests.security.attack_table"
