"""The table of all attacks, from their definitions: ``python -m tests.security.attack_table``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tests.security.attack_git import GIT_ATTACKS
from tests.security.attack_list import ATTACKS
from tests.security.attacks_by_api import API_ATTACKS

TARGET = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
HEAD = """# Attacks that are tried

Each of these is tried by `make security` and must fail, with what is on record as the table says.
All but those on the LDA's and the backend's API run as a command of a real run, as root and as an
ordinary user. Each is also run without enforcement, where its effect must happen: so it is known to
bite. *root* marks what an ordinary user cannot do anyway; there only root's success is shown.

This page is made from the tests by `python -m tests.security.attack_table`.

"""


def _rows() -> Iterator[tuple[str, str, str, str]]:
    for attack in (*ATTACKS, *GIT_ATTACKS):
        bites = " *root*" if attack.root_only else ""
        planted = f"{attack.words}: " if hasattr(attack, "words") else ""
        yield (
            attack.category,
            f"`{attack.name}`{bites}",
            f"{planted}{attack.effect_words}",
            attack.evidence_words,
        )
    for one in API_ATTACKS:
        yield one.category, f"`{one.name}`", one.effect, one.evidence


def text() -> str:
    """Return the whole page."""
    rows = list(_rows())
    parts = [HEAD, f"There are {len(rows)} of them.\n"]
    for category, group in groupby(rows, key=lambda row: row[0]):
        lines = [f"| {name} | {effect} | {evidence} |" for _, name, effect, evidence in group]
        parts.append(
            f"\n## {category[0].upper()}{category[1:]}\n\n"
            "| attack | what must not happen | what is on record |\n|---|---|---|\n"
            + "\n".join(lines)
            + "\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
