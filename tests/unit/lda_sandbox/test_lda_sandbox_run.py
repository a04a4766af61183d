# ruff: noqa: E501
"""Commands in the sandbox: output, ends of all kinds, programs that must work."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rootbound_lda.audit import AuditRecord, AuditUnavailable, MemorySink
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox import Sandbox, base_env, probe
from rootbound_lda.sandbox._keeper import recover
from rootbound_lda.sandbox.runner import resolvers

PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def run(sandbox: Sandbox, policy: Policy, sink: MemorySink):
    async def call(*argv: str, **options):
        settings = {"cwd": policy.worktree, "env": base_env(policy), "network": False,
                    "timeout_s": 30.0, **options}  # fmt: skip
        return await sandbox.runner(policy, sink).run(argv, **settings)

    return call


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def _until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def _pids(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


# A tree of three: itself, a child, and one that left its session and its parent.
TREE = """
import os, sys, time
file = open('pids', 'a', buffering=1)
def note():
    file.write(f'{os.getpid()}\\n')
note()
if os.fork() == 0:
    note()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note()
            time.sleep(60)
        os._exit(0)
    time.sleep(60)
time.sleep(60)
"""


@pytest.mark.asyncio
async def test_output_and_exit_code(run) -> None:
    pieces: list[tuple[str, bytes]] = []
    result = await run(
        "sh", "-c", "echo out; echo err >&2; exit 3", on_output=lambda *piece: pieces.append(piece)
    )
    assert (result.exit_code, result.signal, result.timed_out) == (3, None, False)
    assert sorted(pieces) == [("stderr", b"err\n"), ("stdout", b"out\n")]
    assert result.output_bytes == 8
    assert result.output_sha256 == hashlib.sha256(result.output).hexdigest()


@pytest.mark.asyncio
async def test_long_output_keeps_head_and_tail(run) -> None:
    result = await run("sh", "-c", "seq 1 100000", max_output=1000)
    assert result.output.startswith(b"1\n2\n")
    assert result.output.endswith(b"99999\n100000\n")
    assert b"bytes left out" in result.output
    assert len(result.output) < 1100
    whole = "".join(f"{number}\n" for number in range(1, 100001)).encode()
    assert result.output_bytes == len(whole)
    assert result.output_sha256 == hashlib.sha256(whole).hexdigest()


@pytest.mark.asyncio
async def test_input_signal_and_missing_program(run) -> None:
    assert (await run("cat", stdin=b"x" * 200_000)).output_bytes == 200_000
    assert (await run("cat")).output == b""
    killed = await run("sh", "-c", "kill -TERM $$")
    assert (killed.exit_code, killed.signal) == (143, signal.SIGTERM)
    missing = await run("no-such-program")
    assert missing.exit_code == 127
    assert b"not found" in missing.output
    unfit = await run("/etc/passwd")
    assert unfit.exit_code == 126


@pytest.mark.asyncio
async def test_timeout_leaves_no_survivor(run, policy: Policy) -> None:
    started = time.monotonic()
    result = await run(PYTHON, "-c", TREE, timeout_s=1.0)
    assert result.timed_out
    assert result.exit_code == 137
    assert time.monotonic() - started < 8
    pids = _pids(policy.worktree / "pids")
    assert len(pids) == 3
    assert not any(_alive(pid) for pid in pids)


@pytest.mark.asyncio
async def test_cancelling_leaves_no_survivor(run, policy: Policy) -> None:
    task = asyncio.create_task(run(PYTHON, "-c", TREE))
    await _until(lambda: len(_pids(policy.worktree / "pids")) == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(_alive(pid) for pid in _pids(policy.worktree / "pids"))


@pytest.mark.asyncio
async def test_kill_all(sandbox: Sandbox, policy: Policy, sink: MemorySink) -> None:
    runner = sandbox.runner(policy, sink)
    task = asyncio.create_task(
        runner.run(
            [PYTHON, "-c", TREE], cwd=policy.worktree, env=base_env(policy), network=False,
            timeout_s=60,
        )
    )  # fmt: skip
    await _until(lambda: len(_pids(policy.worktree / "pids")) == 3)
    await runner.kill_all()
    assert not any(_alive(pid) for pid in _pids(policy.worktree / "pids"))
    assert (await task).signal == signal.SIGKILL


@pytest.mark.asyncio
async def test_a_killed_supervisor_takes_its_tree_along(run, policy: Policy) -> None:
    task = asyncio.create_task(run(PYTHON, "-c", TREE))
    await _until(lambda: len(_pids(policy.worktree / "pids")) == 3)
    pids = _pids(policy.worktree / "pids")
    parent = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    result = await task
    assert result.exit_code == 137
    await _until(lambda: not any(_alive(pid) for pid in pids))


LDA = """
import asyncio, sys
from pathlib import Path
from rootbound_lda.audit import MemorySink
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox import Sandbox
async def main(tree, home, tmp, python, code):
    readable = tuple(map(Path, ("/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", sys.base_prefix)))
    policy = Policy("r", Path(tree), (Path(tree),), readable, (), Path(home), Path(tmp))
    sandbox = Sandbox()
    await sandbox.start()
    await sandbox.runner(policy, MemorySink()).run(
        [python, "-c", code], cwd=Path(tree), env={}, network=False, timeout_s=60)
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.asyncio
async def test_the_death_of_the_lda_takes_the_tree_along(policy: Policy) -> None:
    places = [str(policy.worktree), str(policy.private_home), str(policy.private_tmp)]
    lda = subprocess.Popen([sys.executable, "-c", LDA, *places, PYTHON, TREE])
    try:
        await _until(lambda: len(_pids(policy.worktree / "pids")) == 3)
        pids = _pids(policy.worktree / "pids")
        assert all(_alive(pid) for pid in pids)
    finally:
        lda.kill()
        lda.wait()
    await _until(lambda: not any(_alive(pid) for pid in pids))


@pytest.mark.asyncio
async def test_a_killed_zygote_is_replaced(policy: Policy, sink: MemorySink) -> None:
    sandbox = Sandbox()
    await sandbox.start()
    try:
        assert sandbox.warm.process is not None
        sandbox.warm.process.kill()
        result = await sandbox.runner(policy, sink).run(
            ["echo", "again"], cwd=policy.worktree, env=base_env(policy), network=False,
            timeout_s=20,
        )  # fmt: skip
        assert result.output == b"again\n"
    finally:
        await sandbox.stop()


@pytest.mark.asyncio
async def test_without_records_the_command_ends(sandbox: Sandbox, policy: Policy) -> None:
    class Full:
        def record(self, record: AuditRecord) -> None:
            raise AuditUnavailable("full")

        def settle(self) -> None:
            raise AuditUnavailable("full")

    with pytest.raises(AuditUnavailable):
        await sandbox.runner(policy, Full()).run(
            ["sh", "-c", "i=0; while true; do i=$((i+1)); : > f$i; done"], cwd=policy.worktree,
            env=base_env(policy), network=False, timeout_s=20,
        )  # fmt: skip
    # What happened before the end came is in the command's own file of records, all of it.
    sink = MemorySink()
    assert recover(str(policy.private_home.parent), sink) == 1
    made = {str(path) for path in policy.worktree.iterdir() if path.name != ".git"}
    assert made <= {str(entry["path"]) for entry in sink.entries if entry["operation"] == "WRITE"}


@pytest.mark.asyncio
async def test_records_tell_what_happened(run, policy: Policy, sink: MemorySink) -> None:
    await run("sh", "-c", "umask 027; echo x > a; mv a b; cat b; rm b; mkdir d; chmod 700 d")
    tree = policy.worktree
    seen = [(e["operation"], e["result"], e["path"], e["detail"]["syscall"]) for e in sink.entries]
    names = {path for _, _, path, _ in seen}
    assert {str(tree / "a"), str(tree / "b"), str(tree / "d")} <= names
    assert ("WRITE", "ALLOWED", str(tree / "a"), "openat") in seen
    assert ("READ", "ALLOWED", str(tree / "b"), "openat") in seen
    moved = [e for e in sink.entries if e["detail"].get("path2") == str(tree / "b")]
    assert [(e["operation"], e["path"]) for e in moved] == [("DELETE", str(tree / "a"))]
    assert all(e["source"] == "kernel" for e in sink.entries)
    written = next(e for e in sink.entries if e["path"] == str(tree / "a"))
    assert written["detail"]["exact"] is True
    assert Path(written["detail"]["program"]).name in ("dash", "sh", "bash")


@pytest.mark.asyncio
async def test_modes_follow_the_umask_of_the_caller(run, policy: Policy) -> None:
    await run("sh", "-c", "umask 027; : > a; mkdir d; umask 0; : > b; mkfifo p")
    modes = {name: (policy.worktree / name).stat().st_mode & 0o7777 for name in "adbp"}
    assert modes == {"a": 0o640, "d": 0o750, "b": 0o666, "p": 0o666}


@pytest.mark.asyncio
async def test_commands_run_side_by_side(run) -> None:
    results = await asyncio.gather(
        *(run("sh", "-c", f"echo {n} > f{n}; cat f{n}") for n in range(8))
    )
    assert [int(result.output) for result in results] == list(range(8))


PROGRAMS = {
    "devices": "echo x > /dev/null; head -c 4 /dev/urandom | wc -c; echo e > /dev/stderr",
    "substitution": "cat <(echo hi); echo x | tee /dev/stdout >/dev/null",
    "pipe": "mkfifo p; (echo through > p &) ; cat p",
    "archive": "mkdir d; echo x > d/f; touch -d 2020-01-01 d/f; tar cf a.tar d; rm -r d; tar xf a.tar; "
    "test $(date -r d/f +%Y) = 2020; cp -a d e; ln e/f e/g; ln -s f e/s; sed -i s/x/y/ e/f; cat e/s",
    "threads": f"{PYTHON} -c 'import concurrent.futures as c; "
    "print(sum(c.ThreadPoolExecutor(8).map(lambda n: len(open(str(n), \"w\").name), range(50))))'",
    "processes": f"{PYTHON} -c 'import multiprocessing as m; p = m.Pool(2); print(p.map(abs, [-1]))'",
    "venv": f"{PYTHON} -m venv --without-pip v && v/bin/python -c 'print(1)'",
    "sqlite": f"{PYTHON} -c 'import sqlite3; c = sqlite3.connect(\"d.db\"); c.execute(\"create table t(a)\")'",
    "git": "git --git-dir=$TMPDIR/g --work-tree=. init -q && git --git-dir=$TMPDIR/g --work-tree=. status --short && "
    "echo x > f && git --git-dir=$TMPDIR/g --work-tree=. add f && "
    "git --git-dir=$TMPDIR/g --work-tree=. -c user.name=a -c user.email=a@b commit -qm m && "
    "git --git-dir=$TMPDIR/g --work-tree=. log --oneline",
    "node": "node -e 'require(\"fs\").writeFileSync(\"n\", \"1\"); console.log(require(\"child_process\").execSync(\"cat n\") + \"\")'",
    "gcc": "echo 'int main(){return 0;}' > m.c && printf 'm: m.c\\n\\tgcc m.c -o m\\n' > Makefile && make -s && ./m",
}  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("name", PROGRAMS)
async def test_programs_work(name: str, run, sink: MemorySink) -> None:
    if name in ("git", "node", "gcc") and not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    result = await run("bash", "-e", "-o", "pipefail", "-c", PROGRAMS[name])
    assert result.exit_code == 0, result.output.decode()
    refused = [e for e in sink.entries if e["result"] == "DENIED" and e["operation"] != "READ"]
    assert refused == []


@pytest.mark.asyncio
async def test_names_resolve_with_the_network_on(run) -> None:
    if not resolvers():
        pytest.skip("this machine has no name server")
    code = (
        "import socket\n"
        "try:\n    socket.getaddrinfo('name.invalid', 80)\n"
        "except socket.gaierror as error:\n    print(error.errno)"
    )
    plain = subprocess.run([PYTHON, "-c", code], capture_output=True, check=False).stdout
    assert (await run(PYTHON, "-c", code, network=True)).output == plain


def test_environment_is_an_allow_list(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLM_API_KEY", "secret")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@index.invalid/simple")
    monkeypatch.setenv("PIP_RETRIES", "2")
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.invalid:1")
    env = base_env(policy, network=True)
    assert "secret" not in " ".join(env.values())
    assert env["PIP_INDEX_URL"] == "https://index.invalid/simple", "not the public index instead"
    assert env["https_proxy"] == "http://proxy.invalid:1"
    assert env["PIP_RETRIES"] == "2"
    assert "PIP_RETRIES" not in base_env(policy)
    assert env["HOME"] == str(policy.private_home)


@pytest.mark.asyncio
async def test_probe_finds_what_this_machine_gives() -> None:
    found = await probe()
    assert found.tier in ("A", "B"), found
    assert found.missing == []
    assert found.facts["trials"]["write_outside"] is True
