"""The traps of a supervisor that answers system calls, each with both supervisors."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootbound_lda.audit import AuditRecord, AuditUnavailable, MemorySink
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox import Sandbox, base_env
from rootbound_lda.sandbox._keeper import recover
from rootbound_lda.sandbox._prepare import compiled

PYTHON = os.path.realpath(sys.executable)
ENTRY = dict[str, object]

SYS_CALL = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
def sys_call(number, *args):
    result = libc.syscall(number, *args)
    return result if result >= 0 else -ctypes.get_errno()
"""


class Run:
    """Commands of one run and what was recorded of the last of them."""

    def __init__(self, sandbox: Sandbox, policy: Policy) -> None:
        self.sandbox = sandbox
        self.policy = policy
        self.tree = policy.worktree
        self.entries: list[ENTRY] = []

    async def __call__(self, *argv: str, **rule: bool) -> str:
        audit = dataclasses.replace(self.policy.audit, **rule)
        policy = dataclasses.replace(self.policy, audit=audit)
        sink = MemorySink()
        result = await self.sandbox.runner(policy, sink).run(
            argv, cwd=self.tree, env=base_env(policy), network=False, timeout_s=30
        )
        self.entries = sink.entries
        return result.output.decode() + (f"[{result.exit_code}]" if result.exit_code else "")

    async def python(self, code: str, **rule: bool) -> str:
        return await self(PYTHON, "-I", "-S", "-c", code, **rule)

    def of(self, path: Path | str) -> list[tuple[object, ...]]:
        """Return operation, verdict and call of each record of a path in the tree."""
        wanted = str(self.tree / path)
        return [
            (entry["operation"], entry["result"], entry["detail"]["syscall"])
            for entry in self.entries
            if entry["path"] == wanted
        ]

    def detail(self, path: Path | str) -> dict[str, object]:
        wanted = str(self.tree / path)
        return next(entry["detail"] for entry in self.entries if entry["path"] == wanted)


KINDS = [
    pytest.param("compiled", marks=pytest.mark.skipif(not compiled(), reason="not compiled here")),
    "python",
]


@pytest.fixture(scope="module", params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    sandbox = Sandbox(supervisor="python" if request.param == "python" else "auto")
    assert sandbox.supervisor == request.param
    asyncio.run(sandbox.start())
    yield sandbox
    asyncio.run(sandbox.stop())


@pytest.fixture
def run(either: Sandbox, policy: Policy) -> Run:
    return Run(either, policy)


# -- what a path means ---------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_own_process_means_the_callers(run: Run) -> None:
    """`/proc/self` and its like are the caller's, also behind a symbolic link."""
    said = await run.python(
        "import os\n"
        "f = open('mine', 'w'); n = f.fileno()\n"
        "for way in (f'/proc/self/fd/{n}', f'/proc/thread-self/fd/{n}', f'/dev/fd/{n}'):\n"
        "    with open(way, 'a') as again: again.write('x')\n"
        "os.symlink('/proc/self/cwd/mine', 'way'); open('way', 'a').write('x')\n"
        "os.symlink(f'/proc/self/fd/{n}', 'link'); open('link', 'a').write('x')\n"
        "open('way').read(); print(os.path.getsize('mine'))\n"
    )
    assert said == "5\n"
    assert run.of("mine").count(("WRITE", "ALLOWED", "openat")) == 6
    assert ("READ", "ALLOWED", "openat") in run.of("mine")


@pytest.mark.asyncio
async def test_no_way_into_the_supervisors_descriptors(run: Run) -> None:
    """Neither by its number nor by a link is a pipe or socket of the supervisor reached."""
    said = await run.python(
        "import os\n"
        "got = 0\n"
        "for number in range(3, 40):\n"
        "    for name in (f'/proc/{os.getppid()}/fd/{number}', f'/./proc/self/fd/{number}'):\n"
        "        os.symlink(name, 'l')\n"
        "        for path in (name, 'l'):\n"
        "            try: os.close(os.open(path, os.O_RDWR)); got += 1\n"
        "            except OSError: pass\n"
        "        os.unlink('l')\n"
        "print(got, sorted(map(int, os.listdir('/proc/self/fd')))[:-1])\n"
    )
    assert said == "0 [0, 1, 2]\n"


@pytest.mark.asyncio
async def test_attributes_outside_stay(run: Run, base: Path) -> None:
    """Landlock knows no chmod, times or extended attributes; glibc emulates fchmodat by /proc."""
    outside = base / "other/file"
    before = outside.stat()
    said = await run.python(
        "import os, sys\n"
        f"p = {str(outside)!r}\n"
        "os.symlink(p, 'l'); fd = os.open(p, os.O_PATH); refused = 0\n"
        "for act in (lambda: os.chmod(p, 0o777), lambda: os.chmod('l', 0o777),\n"
        "            lambda: os.chmod(f'/proc/self/fd/{fd}', 0o777), lambda: os.utime(p),\n"
        "            lambda: os.setxattr(p, 'user.x', b'y'), lambda: os.truncate(p, 0),\n"
        "            lambda: os.chown(p, 1, 1)):\n"
        "    try: act()\n"
        "    except PermissionError: refused += 1\n"
        "print(refused)\n"
    )
    assert said == "7\n"
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size, after.st_uid) == (
        before.st_mode, before.st_mtime_ns, before.st_size, before.st_uid)  # fmt: skip
    denied = [e for e in run.entries if e["path"] == str(outside) and e["result"] == "DENIED"]
    assert len(denied) == 7


@pytest.mark.asyncio
async def test_the_boundary_holds_without_truncate_in_landlock(policy: Policy, base: Path) -> None:
    """Below ABI 3 the kernel lets O_TRUNC and truncate pass; the supervisor does not."""
    sandbox = Sandbox(abi=2)
    await sandbox.start()
    try:
        run = Run(sandbox, policy)
        outside = base / "other/file"
        said = await run.python(
            "import os\n"
            f"for act in (lambda: os.open({str(outside)!r}, os.O_TRUNC),\n"
            f"            lambda: os.truncate({str(outside)!r}, 0)):\n"
            "    try: act()\n"
            "    except PermissionError: print('refused')\n"
        )
    finally:
        await sandbox.stop()
    assert said == "refused\nrefused\n"
    assert outside.read_text() == "original"


# -- calls that must not exist ---------------------------------------------------------------------


@pytest.mark.asyncio
async def test_calls_with_arguments_in_memory_are_absent(run: Run) -> None:
    """`openat2` and `clone3` look absent (callers fall back), io_uring and handles refused."""
    said = await run.python(
        SYS_CALL + "buffer = ctypes.create_string_buffer(128)\n"
        "print([sys_call(n, 0, buffer, 24, 24) for n in (437, 435, 425, 463, 466)])\n"
        "n = 304 if platform.machine() == 'x86_64' else 265\n"
        "print(sys_call(n, 0, buffer, 0))\n"
    )
    assert said == "[-38, -38, -1, -38, -38]\n-1\n"


# -- how calls are answered ------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_pipe_without_a_reader_blocks_its_opener_alone(run: Run) -> None:
    said = await run("sh", "-c", "mkfifo p; (echo through > p) & sleep 0.1; echo free > f; cat p")
    assert said == "through\n"
    assert (run.tree / "f").read_text() == "free\n"


@pytest.mark.asyncio
async def test_umask_is_that_of_the_moment(run: Run) -> None:
    """Between one file and the next of the same thread, and of another, it changes."""
    await run.python(
        "import os, threading\n"
        "def make(n): os.close(os.open(n, os.O_CREAT | os.O_WRONLY, 0o666))\n"
        "masks = (0o22, 0o77, 0, 0o27)\n"
        "for mask in masks:\n"
        "    os.umask(mask); make(f'own{mask}'); os.mkdir(f'dir{mask}')\n"
        "    t = threading.Thread(target=make, args=(f'other{mask}',)); t.start(); t.join()\n"
    )
    for mask in (0o22, 0o77, 0, 0o27):
        for name in ("own", "other"):
            assert (run.tree / f"{name}{mask}").stat().st_mode & 0o777 == 0o666 & ~mask
        assert (run.tree / f"dir{mask}").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.asyncio
async def test_a_relative_name_starts_from_the_folder_of_the_moment(run: Run) -> None:
    """It changes between one file and the next, by this thread, by another, in a child."""
    said = await run.python(
        "import os, threading\n"
        "def make(n): os.close(os.open(n, os.O_CREAT | os.O_EXCL | os.O_WRONLY))\n"
        "def other(act, *args):\n"
        "    t = threading.Thread(target=act, args=args); t.start(); t.join()\n"
        "here = os.open('.', os.O_RDONLY)\n"
        "for n in range(20):\n"
        "    os.mkdir(f'a{n}'); make(f'first{n}'); os.chdir(f'a{n}')\n"
        "    make('own'); other(make, 'by')\n"
        "    os.mkdir('in'); other(os.chdir, 'in'); make('other'); other(make, 'by')\n"
        "    os.fchdir(here)\n"
        "    if os.fork() == 0: os.chdir(f'a{n}'); make('child'); os._exit(0)\n"
        "    os.wait(); make(f'last{n}')\n"
        "    os.rename(f'first{n}', f'a{n}/moved')\n"
        "print('done')\n"
    )
    assert said == "done\n"
    for n in range(20):
        assert sorted(os.listdir(run.tree / f"a{n}")) == ["by", "child", "in", "moved", "own"]
        assert sorted(os.listdir(run.tree / f"a{n}/in")) == ["by", "other"]
        assert (run.tree / f"last{n}").exists()
        assert ("WRITE", "ALLOWED", "openat") in run.of(f"a{n}/in/other")


@pytest.mark.asyncio
async def test_no_program_sees_itself_kept_on_one_processor(run: Run) -> None:
    said = await run.python(
        "import os\n"
        "own, seen = os.sched_getaffinity(0), set()\n"
        "for n in range(3000):\n"
        "    fd = os.open('one', os.O_CREAT | os.O_WRONLY)\n"
        "    seen.add(frozenset(os.sched_getaffinity(0))); os.close(fd)\n"
        "print(seen == {frozenset(own)})\n"
    )
    assert said == "True\n"


@pytest.mark.asyncio
async def test_a_limit_of_processes_is_never_passed(policy: Policy) -> None:
    """Not by forks that are under way while the tree is counted, either."""
    code = (
        "import os, signal, threading, time\n"
        "ready = threading.Barrier(8)\n"
        "def fork():\n"
        "    ready.wait()\n"
        "    for _ in range(12):\n"
        "        try: pid = os.fork()\n"
        "        except OSError: return\n"
        "        if pid == 0: signal.pause(); os._exit(0)\n"
        "threads = [threading.Thread(target=fork) for _ in range(8)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        # A thread that was joined may still be listed; its children become another one's.
        "while len(os.listdir('/proc/self/task')) > 1: time.sleep(0)\n"
        "print(len(open(f'/proc/self/task/{os.getpid()}/children').read().split()))\n"
    )
    limits = dataclasses.replace(policy.process, max_processes=40)
    sandbox = Sandbox()
    await sandbox.start()
    try:
        runner = sandbox.runner(dataclasses.replace(policy, process=limits), MemorySink())
        for _ in range(3):
            result = await runner.run(
                [PYTHON, "-I", "-S", "-c", code], cwd=policy.worktree, env=base_env(policy),
                network=False, timeout_s=30,
            )  # fmt: skip
            # This process and its eight threads were there as well.
            assert 20 <= int(result.output) <= 39
    finally:
        await sandbox.stop()


@pytest.mark.asyncio
async def test_a_signal_does_not_repeat_a_change(run: Run) -> None:
    """A storm of signals meets calls that wait for their answer: each happens once or not."""
    said = await run.python(
        "import os, signal\n"
        "def sure(act, *names):\n"
        "    while True:\n"
        "        try: return act(*names)\n"
        "        except InterruptedError: pass\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)\n"
        "for n in range(300): sure(os.mkdir, f'd{n}'); sure(os.rename, f'd{n}', f'e{n}')\n"
        "signal.setitimer(signal.ITIMER_REAL, 0); print('done')\n"
    )
    assert said == "done\n"
    made = [e for e in run.entries if e["detail"]["syscall"] in ("mkdir", "mkdirat")]
    moved = [e for e in run.entries if "rename" in e["detail"]["syscall"]]
    assert (len(made), len(moved)) == (300, 600)


@pytest.mark.asyncio
async def test_a_dead_asker_does_not_keep_the_supervisor_busy(run: Run) -> None:
    """When all who could ask are gone, the listener only hangs up: no loop may spin on that."""
    await run("sh", "-c", "for i in 1 2 3; do (echo > f$i; kill -9 $$) & done; wait")
    started = time.process_time()
    said = await run("sh", "-c", "exec sleep 0.3")
    assert said == ""
    assert time.process_time() - started < 5


@pytest.mark.asyncio
async def test_many_commands_at_once(run: Run) -> None:
    """Each has a supervisor process of its own, so none waits for another's."""
    said = await asyncio.gather(*(run("sh", "-c", f"echo {n} > n{n}; cat n{n}") for n in range(8)))
    assert sorted(said) == sorted(f"{n}\n" for n in range(8))


# -- what is recorded ------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_every_kind_of_change_is_recorded(run: Run) -> None:
    await run.python(
        "import os\n"
        "f = open('a', 'w'); f.write('abc'); f.flush(); os.ftruncate(f.fileno(), 1); f.close()\n"
        "os.rename('a', 'b'); os.link('b', 'c'); os.symlink('b', 's'); os.truncate('b', 0)\n"
        "os.chmod('b', 0o600); os.utime('b'); os.chown('b', -1, -1); os.mkdir('d')\n"
        "open('b', 'w').close(); os.rmdir('d'); os.unlink('c'); os.mkfifo('p')\n"
    )
    exact = {entry["path"]: entry["detail"]["exact"] for entry in run.entries
             if entry["operation"] != "READ"}  # fmt: skip
    assert all(exact.values())
    assert [call for *_, call in run.of("a")] == ["openat", "ftruncate", "rename"]
    assert run.of("a")[2][0] == "DELETE"
    assert run.detail("a").get("path2") is None
    moves = [e["detail"]["path2"] for e in run.entries if "rename" in e["detail"]["syscall"]]
    assert moves == [str(run.tree / "b"), str(run.tree / "a")]
    assert {call for *_, call in run.of("b")} >= {"rename", "truncate", "chmod", "openat"}
    assert ("DELETE", "ALLOWED", "unlink") in run.of("c")
    assert run.detail("c")["path2"] == str(run.tree / "b")
    assert run.detail("s")["path2"] == "b"
    assert ("DELETE", "ALLOWED", "rmdir") in run.of("d")
    assert run.of("p")


@pytest.mark.asyncio
async def test_exec_is_recorded_and_never_folded(run: Run) -> None:
    await run("sh", "-c", "/bin/true; cp /bin/true t && ./t")
    execs = [e for e in run.entries if e["detail"]["syscall"] == "execve"]
    paths = [entry["path"] for entry in execs]
    assert str(run.tree / "t") in paths
    assert sum(path.endswith("/bin/true") for path in paths) == 1
    assert all(entry["detail"]["exact"] is False for entry in execs)
    assert all("count" not in entry["detail"] for entry in execs)


@pytest.mark.asyncio
async def test_reads_of_the_system_are_counted_and_others_listed(run: Run) -> None:
    (run.tree / "own").write_text("x")
    code = "for _ in range(50): open('/etc/passwd').close(); open('own').close()"
    await run.python(code)
    rows = [e["detail"]["count"] for e in run.entries if e["path"] == "/etc"]
    assert sum(rows) >= 50
    assert len(rows) <= 10
    assert not [e for e in run.entries if e["path"] == "/etc/passwd"]
    assert len(run.of("own")) == 50
    await run.python(code, record_system_reads=True)
    assert len([e for e in run.entries if e["path"] == "/etc/passwd"]) == 50
    assert not [e for e in run.entries if "count" in e["detail"]]


@pytest.mark.asyncio
async def test_a_refused_read_is_never_folded(run: Run, base: Path) -> None:
    code = f"for _ in range(3):\n try: open({str(base / 'other/file')!r})\n except OSError: pass"
    await run.python(code)
    denied = [e for e in run.entries if e["path"] == str(base / "other/file")]
    assert [entry["result"] for entry in denied] == ["DENIED"] * 3


@pytest.mark.asyncio
async def test_strict_reads_are_exact(run: Run) -> None:
    (run.tree / "own").write_text("text")
    code = "import os; print(open('own').read(), len(os.listdir('.')) > 0)"
    assert await run.python(code) == "text True\n"
    assert run.detail("own")["exact"] is False
    assert await run.python(code, strict_reads=True) == "text True\n"
    assert run.detail("own")["exact"] is True
    assert run.of("own") == [("READ", "ALLOWED", "openat")]


@pytest.mark.asyncio
async def test_untraced_reads_leave_changes_on_record(run: Run, base: Path) -> None:
    (run.tree / "own").write_text("text")
    code = (
        f"open('own').close(); open('new', 'w').close()\n"
        f"try: open({str(base / 'other/file')!r})\nexcept PermissionError: print('refused')"
    )
    assert await run.python(code, trace_reads=False) == "refused\n"
    assert run.of("own") == []
    assert run.of("new") == [("WRITE", "ALLOWED", "openat")]


# -- the way to the LDA ----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_flood_of_records_loses_none(run: Run) -> None:
    """More records than the ring holds: the tree waits, and the order stays."""
    name = "n" * 240
    code = f"import os\nfor n in range(1200): os.mkdir(f'{name}{{n}}'); os.rmdir(f'{name}{{n}}')"
    assert await run.python(code) == ""
    changes = [e for e in run.entries if name in str(e["path"])]
    assert [entry["operation"] for entry in changes] == ["WRITE", "DELETE"] * 1200
    assert not list(run.policy.private_home.parent.glob("records-*"))


class _Refusing(MemorySink):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def record(self, record: AuditRecord) -> None:
        if self.left == 0 and record.operation == "WRITE":
            raise AuditUnavailable("no space")
        if record.operation == "WRITE":
            self.left -= 1
        super().record(record)


@pytest.mark.asyncio
async def test_what_a_sink_refuses_is_kept_for_later(run: Run) -> None:
    """The tree ends, and every change that happened is on record once the sink takes it."""
    sink = _Refusing(3)
    with pytest.raises(AuditUnavailable):
        await run.sandbox.runner(run.policy, sink).run(
            [PYTHON, "-I", "-S", "-c", "import os\nfor n in range(100000): os.mkdir(f'd{n}')"],
            cwd=run.tree, env=base_env(run.policy), network=False, timeout_s=30,
        )  # fmt: skip
    later = MemorySink()
    assert recover(str(run.policy.private_home.parent), later) == 1
    made = {path.name for path in run.tree.glob("d*")}
    recorded = [Path(str(e["path"])).name for e in [*sink.entries, *later.entries]
                if e["operation"] == "WRITE"]  # fmt: skip
    assert len(recorded) == len(set(recorded))
    assert set(recorded) == made
    assert recover(str(run.policy.private_home.parent), later) == 0


@pytest.mark.asyncio
async def test_strict_audit_lets_one_change_happen_at_most(run: Run) -> None:
    strict = dataclasses.replace(run.policy.audit, strict_audit=True)
    policy = dataclasses.replace(run.policy, audit=strict)
    sink = _Refusing(3)
    with pytest.raises(AuditUnavailable):
        await run.sandbox.runner(policy, sink).run(
            [PYTHON, "-I", "-S", "-c", "import os\nfor n in range(1000): os.mkdir(f'd{n}')"],
            cwd=run.tree, env=base_env(policy), network=False, timeout_s=30,
        )  # fmt: skip
    assert len(list(run.tree.glob("d*"))) <= 4
    recover(str(run.policy.private_home.parent), MemorySink())
