"""What editors hold with unsaved changes: until they say otherwise, or fall silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootbound_lda.unsaved import MAX_EDITORS, TTL_S, UnsavedDocuments


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unsaved(tmp_path: Path, clock: Clock) -> UnsavedDocuments:
    return UnsavedDocuments(tmp_path / "unsaved.json", clock)


def test_a_report_replaces_that_editors_last_one_only(unsaved: UnsavedDocuments) -> None:
    unsaved.report("ada", "page-1", ["/srv/a.ipynb", "/srv/b.py"])
    unsaved.report("ada", "page-2", ["/srv/b.py"])
    unsaved.report("ada", "page-1", ["/srv/a.ipynb"])
    assert unsaved.paths("ada") == {"/srv/a.ipynb", "/srv/b.py"}
    unsaved.report("ada", "page-2", [])
    assert unsaved.paths("ada") == {"/srv/a.ipynb"}
    assert unsaved.holds("ada", Path("/srv/x/../a.ipynb"))
    assert not unsaved.holds("ada", "/srv/b.py")
    assert unsaved.paths("eve") == set()


def test_an_editor_that_falls_silent_holds_nothing(unsaved: UnsavedDocuments, clock: Clock) -> None:
    assert unsaved.report("ada", "page", ["/srv/a.ipynb"]) == TTL_S
    clock.now += TTL_S - 1
    assert unsaved.holds("ada", "/srv/a.ipynb")
    unsaved.report("ada", "page", ["/srv/a.ipynb"])
    clock.now += TTL_S - 1
    assert unsaved.holds("ada", "/srv/a.ipynb")
    clock.now += 2
    assert not unsaved.holds("ada", "/srv/a.ipynb")


def test_links_lead_to_the_same_file(unsaved: UnsavedDocuments, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    unsaved.report("ada", "page", [str(tmp_path / "link" / "a.ipynb")])
    assert unsaved.holds("ada", tmp_path / "real" / "a.ipynb")
    assert unsaved.holds("ada", tmp_path / "link" / "a.ipynb")


def test_the_next_process_knows_it_and_a_broken_memory_is_none(
    unsaved: UnsavedDocuments, tmp_path: Path, clock: Clock
) -> None:
    unsaved.report("ada", "page", ["/srv/a.ipynb"])
    memory = tmp_path / "unsaved.json"
    assert memory.stat().st_mode & 0o777 == 0o600
    assert UnsavedDocuments(memory, clock).holds("ada", "/srv/a.ipynb")
    memory.write_text("{")
    assert UnsavedDocuments(memory, clock).paths("ada") == set()


def test_editors_are_bounded(unsaved: UnsavedDocuments) -> None:
    for number in range(MAX_EDITORS + 5):
        unsaved.report("ada", f"page-{number}", [f"/srv/{number}"])
    assert len(unsaved.paths("ada")) == MAX_EDITORS
    assert not unsaved.holds("ada", "/srv/0")
