"""What a machine can enforce: every tier by trying, the wall, and the manual that tells of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from rootbound_lda import places
from rootbound_lda.audit import MemorySink
from rootbound_lda.config import ConfigError, load
from rootbound_lda.policy import Policy, build_policy
from rootbound_lda.sandbox import CommandResult, Sandbox, _bubblewrap, base_env, probe, tiers
from rootbound_lda.sandbox._bubblewrap import Wall

BWRAP = _bubblewrap.find()
needs_bubblewrap = pytest.mark.skipif(BWRAP is None, reason="bubblewrap is not installed")
MANUAL = Path(__file__).parents[3] / "docs" / "security.md"


def test_the_manual_is_made_from_the_code() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    assert tiers.inserted(text) == text, (
        "run: python -m rootbound_lda.sandbox.tiers --write docs/security.md"
    )
    for tier in tiers.TIERS:
        assert f"| {tier} |" in text


def test_the_generator_writes_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    manual = tmp_path / "manual.md"
    manual.write_text(f"before\n{tiers.BEGIN}\nold\n{tiers.END}\nafter\n")
    assert tiers.main(["--write", str(manual)]) == 0
    assert manual.read_text() == f"before\n{tiers.BEGIN}\n\n{tiers.tables()}\n{tiers.END}\nafter\n"
    assert tiers.main([]) == 0
    assert capsys.readouterr().out == tiers.tables()
    with pytest.raises(ValueError, match="no marks"):
        tiers.inserted("nothing")


def test_a_better_tier_keeps_what_a_lesser_one_keeps() -> None:
    assert tiers.lost("A") == tiers.lost("B") == []
    assert set(tiers.lost("F")) == {guarantee.lost for guarantee in tiers.GUARANTEES}
    assert len(tiers.lost("C")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("abi", "setting", "with_bwrap", "without"),
    [
        (None, "auto", "A", "A"), (None, "off", "A", "A"), (None, "always", "A", "F"),
        (5, "off", "B", "B"), (1, "auto", "B", "B"),
        (0, "auto", "C", "F"), (0, "off", "F", "F"),
    ],
)  # fmt: skip
async def test_the_tier_is_what_the_trial_shows(
    abi: int | None, setting: str, with_bwrap: str, without: str
) -> None:
    found = await probe(bubblewrap=setting, abi=abi)
    assert found.tier == (with_bwrap if BWRAP else without), found
    if found.tier == "F":
        assert "bubblewrap" in found.missing[0]
        assert found.wall is None
    else:
        assert found.missing == tiers.lost(found.tier)
        walled = BWRAP is not None and setting != "off"
        assert (found.wall is not None) is walled
        assert found.facts["bubblewrap"] == (
            "in use" if walled else "off" if setting == "off" else "is not installed"
        )


@pytest.mark.asyncio
async def test_a_bubblewrap_that_does_not_work_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that allows no namespaces: the trial fails, so it does not count."""
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(_bubblewrap, "find", lambda: str(broken))
    found = await probe()
    assert (found.tier, found.wall) == ("A", None)
    assert "No permissions to create new namespace" in found.facts["bubblewrap"]
    for settings in ({"bubblewrap": "always"}, {"abi": 0}):
        refused = await probe(**settings)
        assert refused.tier == "F"
        assert "No permissions" in refused.missing[0]


# A filter that allows everything, with a listener: the kernel gives a tree no second one.
_HELD = """
import asyncio, json, struct, sys
sys.path[:0] = sys.argv[1:]
from rootbound_lda.sandbox import _filter, _sys, probe
_sys.prctl(_sys.PR_SET_NO_NEW_PRIVS, 1)
_filter.install(struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000))
found = asyncio.run(probe(bubblewrap="off"))
print(json.dumps([found.tier, found.facts["landlock_abi"], found.missing]))
"""


def test_landlock_without_a_listener_is_tier_f() -> None:
    """As inside another sandbox (tier D): it could be enforced, but not recorded."""
    done = subprocess.run(
        [sys.executable, "-c", _HELD, *sys.path], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    tier, abi, missing = json.loads(done.stdout)
    assert tier == "F", "no command runs"
    assert abi >= 1, "although there is Landlock"
    assert len(missing) == 1
    assert "cannot be confined" in missing[0]
    assert "busy" in missing[0]


def test_the_setting_has_three_values(tmp_path: Path) -> None:
    env = {"ROOTBOUND_HOME": str(tmp_path / "state")}
    assert load(env).bubblewrap == "auto"
    assert load({**env, "ROOTBOUND_LDA_BUBBLEWRAP": "off"}).bubblewrap == "off"
    with pytest.raises(ConfigError, match="auto, always or off"):
        load({**env, "ROOTBOUND_LDA_BUBBLEWRAP": "perhaps"})


class Walled:
    """Runs commands of one policy behind a wall."""

    def __init__(self, sandbox: Sandbox, policy: Policy) -> None:
        self.policy = policy
        self.sink = MemorySink()
        self.runner = sandbox.runner(policy, self.sink)

    async def __call__(self, script: str) -> CommandResult:
        """Run a script."""
        return await self.runner.run(
            ["sh", "-c", script], cwd=self.policy.worktree, env=base_env(self.policy),
            network=False, timeout_s=30,
        )  # fmt: skip

    def denied(self) -> set[str]:
        """Return the paths of what was refused."""
        return {str(e["path"]) for e in self.sink.entries if e["result"] == "DENIED"}


def test_a_folder_on_the_path_that_cannot_be_entered_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user's PATH may be another's, as `su` leaves it."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name).resolve()
        locked, link, tools = base / "locked", base / "link", base / "tools"
        (locked / "bin").mkdir(parents=True)
        (tools / "bin").mkdir(parents=True)
        link.symlink_to(tools)
        base.chmod(0o755)
        locked.chmod(0)
        monkeypatch.setenv("PATH", f"{locked}/bin:{link}/bin:relative::/usr/bin")
        if os.getuid() == 0:
            os.seteuid(65534)  # root can enter everything
        try:
            with pytest.raises(PermissionError):
                (locked / "bin").stat()
            found = list(_bubblewrap._aliases({Path("/usr"), tools}))
            named = list(places.system_readable(()))
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            locked.chmod(0o700)
    assert found[-3:] == ["--symlink", str(tools), str(link)]
    assert locked / "bin" not in named


@pytest_asyncio.fixture(params=["open", "closed without Landlock"])
async def walled(
    arguments: dict[str, object], base: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Walled]:
    if BWRAP is None:
        pytest.skip("bubblewrap is not installed")
    config = base / "proj/repo/.git/config"
    config.write_text('[remote "origin"]\n\turl = https://s3cret@git.example/x\n')
    (base / "home/.ssh/id").write_text("secret")
    (base / "state/secrets/key").write_text("secret")
    (base / "data").mkdir()
    roots = [f"{base}/proj", f"{base}/data"]
    policy = build_policy(**{**arguments, "writable_roots": roots})
    closed = request.param != "open"
    sandbox = Sandbox(wall=Wall(BWRAP, closed=closed), abi=0 if closed else None)
    await sandbox.start()
    yield Walled(sandbox, policy)
    await sandbox.stop()


@pytest.mark.asyncio
async def test_work_goes_on_behind_the_wall(walled: Walled, base: Path) -> None:
    done = await walled(
        "echo one > a && mkdir d && mv a d/b && chmod 750 d/b && cat d/b"
        f" && echo two > {base}/data/x && touch -d 2001-01-01 d/b"
        " && ln -s d/b l && cat l && rm l && python3 -c 'print(3)'"
    )
    assert (done.exit_code, done.output) == (0, b"one\none\n3\n"), done.output
    assert (walled.policy.worktree / "d/b").stat().st_mode & 0o777 == 0o750
    assert (base / "data/x").read_text() == "two\n"
    changed = {str(e["path"]) for e in walled.sink.entries if e["operation"] == "WRITE"}
    assert {str(walled.policy.worktree / "d/b"), f"{base}/data/x"} <= changed


REFUSED = (
    "echo x > {base}/other/file", "chmod 777 {base}/other/file", "rm {base}/other/file",
    "touch {base}/new", "truncate -s 0 {base}/other/file", "ln {base}/other/file hard",
    "cat {base}/home/.ssh/id", "cat {base}/state/secrets/key", "ls {base}/state/secrets",
    "rm .git", "mv .git x", "echo x > .git", "mkdir -p v/.git && echo x > v/.git/config",
    "echo x > {base}/proj/repo/.git/config", "grep s3cret {base}/proj/repo/.git/config",
    "cat /proc/{pid}/cmdline", "kill -0 {pid}", "cat /proc/2/mem",
    "cat /proc/2/environ", "mount -t tmpfs none /mnt", "echo x > /etc/new",
    "echo x > /tmp/rootbound-new",
)  # fmt: skip


@pytest.mark.asyncio
async def test_nothing_gets_over_the_wall(walled: Walled, base: Path) -> None:
    (base / "other/file").write_text("original")
    got_over = []
    for script in REFUSED:
        done = await walled(script.format(base=base, pid=os.getpid()))
        if done.exit_code == 0:
            got_over.append((script, done.output))
    assert got_over == []
    assert (base / "other/file").read_text() == "original"
    assert (base / "other/file").stat().st_mode & 0o777 != 0o777
    assert not {"new", "hard"} & {path.name for path in base.rglob("*")}
    assert (walled.policy.worktree / ".git").read_text() == "gitdir: elsewhere\n"
    assert not Path("/tmp/rootbound-new").exists()


@pytest.mark.asyncio
async def test_a_refusal_is_recorded_behind_the_wall(walled: Walled, base: Path) -> None:
    await walled(f"rm .git; echo x > {base}/proj/repo/.git/config; touch {base}/data/.git")
    assert {
        str(walled.policy.worktree / ".git"), f"{base}/proj/repo/.git/config", f"{base}/data/.git",
    } <= walled.denied()  # fmt: skip


@pytest.mark.asyncio
async def test_no_secret_and_no_place_of_the_user_is_named_inside(
    walled: Walled, base: Path
) -> None:
    done = await walled("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert b"home/.ssh" not in done.output


@pytest.mark.asyncio
async def test_nothing_survives_behind_the_wall(walled: Walled) -> None:
    script = "echo $$ > pid; setsid sh -c 'sleep 60 & sleep 60' & sleep 60"
    task = asyncio.create_task(walled(script))
    pid = walled.policy.worktree / "pid"
    deadline = asyncio.get_running_loop().time() + 20
    while not pid.exists():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = await walled("for p in /proc/[0-9]*; do cat $p/comm; done | grep -c sleep")
    assert left.output == b"0\n"
    await walled.runner.close()
    assert (await walled("echo again")).output == b"again\n"


@pytest.mark.asyncio
async def test_another_policy_means_another_wall(
    walled: Walled, arguments: dict[str, object], base: Path
) -> None:
    (base / "more").mkdir()
    assert (await walled(f"touch {base}/more/a")).exit_code != 0
    tree = walled.policy.worktree
    os.mkfifo(tree / "begun")
    os.mkfifo(tree / "go")
    before = asyncio.create_task(walled(f": > begun; read x < go; touch {base}/more/b && echo no"))
    await asyncio.to_thread((tree / "begun").read_bytes)
    roots = [f"{base}/proj", f"{base}/data", f"{base}/more"]
    walled.runner.adopt(build_policy(**{**arguments, "writable_roots": roots}))
    assert (await walled(f"touch {base}/more/a")).exit_code == 0
    assert (base / "more/a").exists()
    # What runs already goes on, with what it began with.
    await asyncio.to_thread((tree / "go").write_text, "x\n")
    assert b"no\n" not in (await before).output
    assert not (base / "more/b").exists()
