"""The download cache of a project: filled by the user's own branch, copied to every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootbound_lda import caches
from rootbound_lda.caches import PLACES, harvest, renew


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a run's private home and temporary folder, and the project's cache."""
    home, tmp = tmp_path / "run/home", tmp_path / "run/tmp"
    for folder in (home, tmp):
        folder.mkdir(parents=True)
    return home, tmp, tmp_path / "caches" / "project"


def put(home: Path, place: str, name: str, text: str) -> Path:
    file = home / place / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_what_an_install_downloads_is_there_for_the_next_run_and_nothing_else(
    homes: tuple[Path, Path, Path],
) -> None:
    home, tmp, cache = homes
    cache.parent.mkdir()
    assert harvest(home, cache) is False, "nothing was downloaded"
    for place in PLACES:
        put(home, place, "sub/wheel", place)
    put(home, ".bashrc", "x", "evil")
    assert harvest(home, cache) is True
    assert harvest(home, cache) is False, "nothing is new"

    put(home, PLACES[0], "sub/wheel", "poisoned")
    (tmp / "left").write_text("over")
    (home / "link").symlink_to("/etc")
    renew(home, tmp, cache)
    assert list(tmp.iterdir()) == []
    assert sorted(path.name for path in home.iterdir()) == [".cache", ".npm"]
    for place in PLACES:
        assert (home / place / "sub/wheel").read_text() == place


def test_a_link_is_no_cache_and_one_that_is_too_large_is_emptied(
    homes: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home, _, cache = homes
    cache.parent.mkdir()
    put(home, PLACES[0], "wheel", "good")
    assert harvest(home, cache) is True
    elsewhere = tmp_path / "secrets"
    elsewhere.mkdir()
    (elsewhere / "key").write_text("secret")
    (home / ".npm").mkdir()
    (home / ".npm/_cacache").symlink_to(elsewhere)
    put(home, PLACES[0], "second", "good")
    assert harvest(home, cache) is True
    assert not (cache / ".npm").exists()

    monkeypatch.setattr(caches, "MAX_BYTES", 10)
    put(home, PLACES[0], "third", "x" * 11)
    assert harvest(home, cache) is False
    assert not cache.exists()
