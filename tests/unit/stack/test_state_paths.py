"""Where the state is kept."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import platformdirs
import pytest

from rootbound import paths


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROOTBOUND_HOME", str(tmp_path))
    assert paths.state_dir() == tmp_path
    monkeypatch.delenv("ROOTBOUND_HOME")
    assert paths.state_dir() == platformdirs.user_state_path("rootbound")


def test_relative_and_home_paths_become_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOTBOUND_HOME", "state")
    assert paths.state_dir() == tmp_path / "state"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROOTBOUND_HOME", "~/state")
    assert paths.state_dir() == tmp_path / "state"


def test_private_folders(tmp_path: Path) -> None:
    home = paths.ensure_state_dir(tmp_path / "home")
    for folder in (home, home / "secrets", home / "run", home / "logs"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    home.chmod(0o755)
    paths.ensure_state_dir(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError, match="not a folder of its own"):
        paths.ensure_private_dir(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_a_strangers_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to user id 65534"):
        paths.ensure_private_dir(tmp_path / "theirs")


def test_sockets_lie_in_the_state_folder_when_they_fit() -> None:
    assert paths.socket_dir("/srv/rb") == Path("/srv/rb/run")


def test_sockets_move_when_the_path_is_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = Path("/" + "x" * 90)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    folder = paths.socket_dir(long)
    assert folder.parent == Path("/tmp")
    assert folder.name.startswith(f"rootbound-{os.getuid()}-")
    assert folder != paths.socket_dir(Path("/" + "y" * 90))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run")
    assert paths.socket_dir(long).parent == Path("/run")


def test_a_sentence_when_every_path_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/" + "t" * 90)
    with pytest.raises(OSError, match="set ROOTBOUND_HOME or TMPDIR to a shorter path"):
        paths.socket_dir("/" + "x" * 90)
