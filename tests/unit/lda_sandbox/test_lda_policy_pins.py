"""Granted folders count by identity: replaced, spelt otherwise, or linked from outside."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from rootbound_lda import places
from rootbound_lda.audit import MemorySink
from rootbound_lda.files import AccessDenied, FileAccess
from rootbound_lda.inspection import covered_config, hard_links, remarks, without_secrets
from rootbound_lda.pins import GRANTED, Pin, PinBoard
from rootbound_lda.policy import PolicyError, RootRefused, build_policy, canonical_root
from rootbound_lda.sandbox import Sandbox, base_env


def _to_another_folder(root: Path) -> None:
    root.rename(root.with_name("was"))
    root.mkdir()


def _to_a_link(root: Path) -> None:
    root.rename(root.with_name("was"))
    root.symlink_to(root.parent / "other")


def _above_to_a_link(root: Path) -> None:
    root.parent.rename(root.parent.with_name("above-was"))
    root.parent.symlink_to("above-was")


REPLACED: list[Callable[[Path], None]] = [_to_another_folder, _to_a_link, _above_to_a_link]


@pytest.fixture
def data(base: Path) -> Path:
    folder = base / "above/data"
    folder.mkdir(parents=True)
    (base / "above/other").mkdir()
    return folder


@pytest.mark.parametrize("replace", REPLACED)
def test_file_tools_refuse_a_root_that_was_replaced(
    arguments, base: Path, data: Path, sink: MemorySink, replace: Callable[[Path], None]
) -> None:
    policy = build_policy(**{**arguments, "writable_roots": [f"{base}/proj", str(data)]})
    with FileAccess(policy, sink) as files:
        files.write_bytes(data / "before", b"x")
        replace(data)
        for act in (
            lambda: files.write_bytes(data / "after", b"x"),
            lambda: files.read_bytes(data / "before", max_bytes=9),
            lambda: files.delete(data / "before"),
            lambda: files.list_dir(data),
        ):
            with pytest.raises(AccessDenied, match="moved or replaced"):
                act()
        files.write_bytes("still", b"x")
    refused = [entry["result"] for entry in sink.entries].count("DENIED")
    assert refused == 4
    assert not list(base.rglob("after"))
    assert [path.name for path in base.rglob("before")] == ["before"]


@pytest.mark.asyncio
@pytest.mark.parametrize("replace", REPLACED)
async def test_commands_cannot_write_in_a_root_that_was_replaced(
    arguments, base: Path, data: Path, sandbox: Sandbox, sink: MemorySink,
    replace: Callable[[Path], None],
) -> None:  # fmt: skip
    policy = build_policy(**{**arguments, "writable_roots": [f"{base}/proj", str(data)]})
    (data / "kept").write_text("original")
    runner = sandbox.runner(policy, sink)

    async def run(script: str) -> int:
        result = await runner.run(
            ["sh", "-c", script], cwd=policy.worktree, env=base_env(policy), network=False,
            timeout_s=30, stdin=None,
        )  # fmt: skip
        return result.exit_code

    assert await run(f"echo x > {data}/before") == 0
    replace(data)
    (data / "mine").write_text("original")
    mode = (data / "mine").stat().st_mode
    for script in ("echo x > {}/mine", "chmod 777 {}/mine", "touch -d 2001-01-01 {}/mine",
                   "rm {}/mine", "echo x > {}/new"):  # fmt: skip
        assert await run(script.format(data)) != 0
    assert (data / "mine").read_text() == "original"
    assert (data / "mine").stat().st_mode == mode
    assert not (data / "new").exists()
    denied = {Path(str(e["path"])).name for e in sink.entries if e["result"] == "DENIED"}
    assert {"mine", "new"} <= denied


@pytest.mark.asyncio
async def test_a_root_replaced_under_a_command_that_runs(
    arguments, base: Path, data: Path, sandbox: Sandbox, sink: MemorySink
) -> None:
    """chmod is nothing that Landlock knows of: the supervisor looks where the root is by now."""
    policy = build_policy(**{**arguments, "writable_roots": [f"{base}/proj", str(data)]})
    os.mkfifo(policy.worktree / "go")
    os.mkfifo(policy.worktree / "begun")
    (data / "mine").write_text("original")
    script = f"chmod 700 {data}/mine && : > begun; read x < go; chmod 777 {data}/mine"
    task = sandbox.runner(policy, sink).run(
        ["sh", "-c", script], cwd=policy.worktree, env=base_env(policy), network=False, timeout_s=30
    )
    running = asyncio.create_task(task)
    await asyncio.to_thread((policy.worktree / "begun").read_bytes)
    _to_another_folder(data)
    (data / "mine").write_text("original")
    (data / "mine").chmod(0o600)
    await asyncio.to_thread((policy.worktree / "go").write_text, "x\n")
    assert (await running).exit_code != 0
    assert (data / "mine").stat().st_mode & 0o777 == 0o600
    assert (data.with_name("was") / "mine").stat().st_mode & 0o777 == 0o700


def test_a_run_begins_without_a_root_that_was_replaced(arguments, base: Path, data: Path) -> None:
    build_policy(**{**arguments, "writable_roots": [f"{base}/proj", str(data)]})
    _to_another_folder(data)
    policy = build_policy(**{**arguments, "writable_roots": [f"{base}/proj", str(data)]})
    assert data not in policy.writable
    assert "not the folder that was granted" in policy.remarks[0]
    assert remarks(policy, walled=True) == list(policy.remarks)
    GRANTED.grant(data)
    policy = build_policy(**{**arguments, "writable_roots": [f"{base}/proj", str(data)]})
    assert data in policy.writable
    (base / "proj").rename(base / "proj-was")
    (base / "proj").mkdir()
    (base / "proj-was/repo").rename(base / "proj/repo")
    with pytest.raises(PolicyError, match="not the folder that was granted") as caught:
        build_policy(**arguments)
    assert caught.value.code == "repo-outside-roots"


def test_a_root_that_is_a_link_by_now_grants_nothing(arguments, base: Path, data: Path) -> None:
    link = data.with_name("link")
    link.symlink_to("data")
    policy = build_policy(**{**arguments, "writable_roots": [f"{base}/proj", str(link)]})
    assert data not in policy.writable
    assert policy.remarks
    # Whoever grants it is told the folder's own name.
    assert canonical_root(str(link), state_dir=base / "state") == data


def test_nested_and_overlapping_roots(arguments, base: Path, data: Path, sink: MemorySink) -> None:
    inner = data / "inner"
    inner.mkdir()
    roots = [str(inner), f"{base}/proj", str(data), f"{data}/", f"{base}/proj/repo"]
    policy = build_policy(**{**arguments, "writable_roots": roots})
    assert set(policy.writable) == {policy.worktree, data, inner}
    with FileAccess(policy, sink) as files:
        files.write_bytes(inner / "a", b"x")
        with pytest.raises(AccessDenied):
            files.delete(inner)
        with pytest.raises(AccessDenied):
            files.write_bytes(data / "inner/.git/config", b"x")


def test_the_number_of_an_old_folder_is_not_taken_for_it(tmp_path: Path) -> None:
    """A pin keeps its folder's number from being given away."""
    board, folder = PinBoard(), tmp_path / "folder"
    folder.mkdir()
    assert board.find(folder) is not None
    for _ in range(20):
        folder.rmdir()
        folder.mkdir()
        assert board.find(folder) is None
    fresh = board.grant(folder)
    assert board.find(folder) is fresh


def test_names_are_told_apart_as_the_file_system_does(
    arguments, base: Path, sink: MemorySink
) -> None:
    composed, split = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    granted, other = base / "above" / composed, base / "above" / split
    granted.mkdir(parents=True)
    try:
        other.mkdir()
    except FileExistsError:
        pytest.skip("this file system takes both spellings for one name")
    (base / "above/Data").mkdir()
    (base / "above/data").mkdir()
    roots = [f"{base}/proj", str(granted), f"{base}/above/Data"]
    policy = build_policy(**{**arguments, "writable_roots": roots})
    with FileAccess(policy, sink) as files:
        files.write_bytes(granted / "a", b"x")
        files.write_bytes(base / "above/Data/a", b"x")
        for place in (other, base / "above/data"):
            with pytest.raises(AccessDenied):
                files.write_bytes(place / "a", b"x")


def test_another_spelling_of_a_secret_place_is_found_out(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a file system that ignores case: there both names have one identity."""
    (base / "STATE").mkdir()
    real = places.identity_of

    def blind(path: Path | str) -> tuple[int, int] | None:
        return real(str(path).replace("STATE", "state"))

    monkeypatch.setattr("rootbound_lda.places.identity_of", blind)
    with pytest.raises(RootRefused) as caught:
        canonical_root(f"{base}/STATE", state_dir=base / "state")
    assert caught.value.code == "root-protected"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_bind_mount_of_a_secret_place_is_found_out(base: Path) -> None:
    window = base / "window"
    window.mkdir()
    done = subprocess.run(["mount", "--bind", base / "state", window], check=False)
    if done.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        for place in (window, window / "worktrees"):
            with pytest.raises(RootRefused) as caught:
                canonical_root(str(place), state_dir=base / "state")
            assert caught.value.code == "root-protected"
    finally:
        subprocess.run(["umount", window], check=True)


@pytest.mark.parametrize("variable", ["KUBECONFIG", "GNUPGHOME", "XDG_RUNTIME_DIR", "NETRC"])
def test_secrets_that_the_environment_names_win_over_roots(
    base: Path, data: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    canonical_root(str(data), state_dir=base / "state")
    monkeypatch.setenv(variable, str(data / "secret"))
    with pytest.raises(RootRefused) as caught:
        canonical_root(str(data), state_dir=base / "state")
    assert caught.value.code == "root-protected"


def test_the_secrets_of_a_home_are_closed(base: Path) -> None:
    closed = set(places.secret_paths(base / "state"))
    assert {base / "home" / name for name in places.HOME_SECRETS} <= closed
    for name in (".aws", ".config/gcloud", ".mozilla", ".jupyter", ".config/gh/deep/er"):
        (base / "home" / name).mkdir(parents=True)
        with pytest.raises(RootRefused) as caught:
            canonical_root(str(base / "home" / name), state_dir=base / "state")
        assert caught.value.code == "root-protected", name


def test_hard_links_that_lead_outside_are_found(policy, base: Path) -> None:
    tree = policy.worktree
    (tree / "sub/.git").mkdir(parents=True)
    os.link(base / "other/file", tree / "sub/shared")
    os.link(base / "other/file", tree / "sub/.git/object")
    (tree / "a").write_text("x")
    os.link(tree / "a", tree / "sub/b")
    found = hard_links([tree, tree / "sub"])
    assert (found.paths, found.complete) == ((tree / "sub/shared",), True)
    sentence = found.sentence()
    assert sentence is not None
    assert str(tree / "sub/shared") in sentence
    assert sentence in remarks(policy, walled=True)
    assert hard_links([tree], max_entries=1).complete is False
    assert hard_links([tree], max_seconds=-1).complete is False
    assert hard_links([tree / "sub/.git", base / "gone"]).sentence() is not None


CONFIG = """[core]
\tbare = false
[remote "origin"]
\turl = https://ada:s3cret@git.example/x.git
\tpushurl = "https://ghp_s3cret@git.example/x.git"
\tfetch = +refs/heads/*:refs/remotes/origin/*
[url "https://s3cret@git.example/"]
\tinsteadOf = gh:
[http "https://git.example/"]
\textraheader = AUTHORIZATION: basic \\
   s3cret
\tsslVerify = true
[remote "plain"]
\turl = git@git.example:x.git
"""


def test_a_configuration_is_shown_without_its_secrets(arguments, base: Path, sink) -> None:
    clean = without_secrets(CONFIG)
    assert "s3cret" not in clean
    for kept in ("bare = false", "url = https://git.example/x.git", "sslVerify = true",
                 "git@git.example:x.git", "insteadOf = gh:"):  # fmt: skip
        assert kept in clean
    config = base / "proj/repo/.git/config"
    config.write_text("[core]\n\tbare = false\n")
    assert covered_config(config.parent, base) == ()
    config.write_text(CONFIG)
    policy = build_policy(**arguments)
    assert [place for place, _ in policy.covers] == [config]
    assert policy.covers[0][1].read_text() == clean
    assert "password or token" in remarks(policy, walled=False)[0]
    assert remarks(policy, walled=True) == []
    with FileAccess(policy, sink) as files, pytest.raises(AccessDenied, match="secrets"):
        files.read_bytes(config, max_bytes=9999)
    assert sink.entries[-1]["result"] == "DENIED"


def test_a_policy_keeps_its_pins_when_it_is_copied(policy, base: Path) -> None:
    again = dataclasses.replace(policy, readable=())
    assert again.pin_of(policy.worktree) is policy.pin_of(policy.worktree)
    pin = Pin(base / "other")
    assert pin.holds()
    (base / "other").rename(base / "elsewhere")
    assert not pin.holds()
