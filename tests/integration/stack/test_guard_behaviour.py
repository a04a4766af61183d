"""What the guard does when things go wrong, tried with stand-in services."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rootbound_server_ext.stack import api
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.state import read_stack

GUARD = (str(Path(__file__).with_name("standin_services.py")),)
Eventually = Callable[..., None]
Processes = Callable[[], list[psutil.Process]]


def up(home: Path, **options: object) -> api.StackInfo:
    return api.start(home, guard_argv=GUARD, timeout_s=60, **options)  # type: ignore[arg-type]


def child_of(home: Path, name: str) -> psutil.Process:
    return psutil.Process(int((home / f"child-{name}").read_text()))


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_up_status_down(home: Path, processes_of: Processes) -> None:
    said: list[str] = []
    info = up(home, progress=said.append)
    assert info.ready
    assert any("is ready" in text for text in said)
    current = api.status(home)
    assert current is not None
    assert current.guard_pid == info.guard_pid
    written = read_stack(home)
    assert written == current
    assert stat.S_IMODE((home / "run/stack.json").stat().st_mode) == 0o600
    assert up(home).guard_pid == info.guard_pid

    assert api.down(home) is True
    assert processes_of() == []
    assert api.status(home) is None
    after = read_stack(home)
    assert after is not None
    assert after.guard_pid is None
    assert {one.state for one in after.services.values()} == {"stopped"}
    assert api.down(home) is False
    assert not (home / "run/guard.sock").exists()


def test_two_ups_at_once_share_one_guard(home: Path) -> None:
    results: list[api.StackInfo | BaseException] = []

    def run() -> None:
        try:
            results.append(up(home))
        except StackError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    infos = [one for one in results if isinstance(one, api.StackInfo)]
    assert len(infos) == 4, results
    assert len({one.guard_pid for one in infos}) == 1
    assert len({one.services["lda"].pid for one in infos}) == 1


def test_up_heals_after_the_guard_was_killed(
    home: Path, processes_of: Processes, eventually: Eventually
) -> None:
    first = up(home)
    children = [child_of(home, name) for name in first.services]
    assert first.guard_pid is not None
    services = [psutil.Process(one.pid) for one in first.services.values() if one.pid]
    os.kill(first.guard_pid, signal.SIGKILL)
    eventually(lambda: all(gone(one) for one in services), "the kernel ends the services")
    assert api.status(home) is None
    # Children in sessions of their own outlive their parents; they carry our mark.
    assert not any(gone(child) for child in children)

    second = up(home)
    assert second.ready
    assert second.guard_pid != first.guard_pid
    assert all(gone(child) for child in children)
    api.down(home)
    assert processes_of() == []


def test_down_without_a_guard_stops_what_it_left(home: Path, processes_of: Processes) -> None:
    info = up(home)
    assert info.guard_pid is not None
    os.kill(info.guard_pid, signal.SIGKILL)
    assert api.down(home) is True
    assert processes_of() == []


def test_down_kills_a_guard_that_hangs(home: Path, processes_of: Processes) -> None:
    info = up(home)
    assert info.guard_pid is not None
    os.kill(info.guard_pid, signal.SIGSTOP)
    assert api.down(home) is True
    assert processes_of() == []


def test_a_killed_service_comes_back_and_its_children_do_not_stay(
    home: Path, eventually: Eventually
) -> None:
    (home / "bare-lda").touch()  # found because the guard is their subreaper, not by our mark
    before = up(home).services["lda"].pid
    assert before is not None
    orphan = child_of(home, "lda")
    os.kill(before, signal.SIGKILL)

    def restarted() -> bool:
        info = api.status(home)
        assert info is not None
        return info.ready and info.services["lda"].pid not in (None, before)

    eventually(restarted, "the service is started again")
    assert gone(orphan)
    successor = child_of(home, "lda")
    api.down(home)
    assert gone(successor)


def test_a_service_that_cannot_start_leaves_nothing(home: Path, processes_of: Processes) -> None:
    (home / "crash-backend").touch()
    with pytest.raises(StackError) as caught:
        up(home)
    assert caught.value.service == "backend"
    assert caught.value.message == "Stand-in backend ended at once (exit code 1)."
    assert "backend was told to crash" in caught.value.log_tail
    assert api.status(home) is None
    assert processes_of() == []
    info = read_stack(home)
    assert info is not None
    assert info.services["backend"].state == "failed"


def test_a_crash_loop_is_given_up_and_up_tries_again(home: Path, eventually: Eventually) -> None:
    pid = up(home).services["lda"].pid
    assert pid is not None
    (home / "crash-lda").touch()
    os.kill(pid, signal.SIGKILL)

    def given_up() -> bool:
        info = api.status(home)
        return info is not None and info.services["lda"].state == "failed"

    eventually(given_up, "the service is given up", 40)
    with pytest.raises(StackError, match="ended at once"):
        up(home)
    info = api.status(home)
    assert info is not None
    assert info.services["backend"].state == "ready"  # the rest goes on

    (home / "crash-lda").unlink()
    assert up(home).ready


def test_a_bound_stack_ends_with_its_process(home: Path, eventually: Eventually) -> None:
    with subprocess.Popen(["sleep", "600"]) as owner:
        info = up(home, stop_with_pid=owner.pid)
        assert info.ready
        owner.kill()
    eventually(lambda: api.status(home) is None, "the guard ends with its owner")


def test_an_unbound_stack_is_not_taken_over(home: Path, eventually: Eventually) -> None:
    up(home)
    with subprocess.Popen(["sleep", "600"]) as owner:
        up(home, stop_with_pid=owner.pid)
        owner.kill()
    bound = threading.Event()
    bound.wait(1.5)  # three rounds of the guard's watch: nothing may happen
    assert api.status(home) is not None


def test_an_attached_connection_ends_the_stack(home: Path, eventually: Eventually) -> None:
    info = up(home)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(info.guard_socket)
        client.sendall(b'{"op": "attach"}\n')
        answer = json.loads(client.makefile().readline())
        assert answer["event"] == "ok"
        assert api.status(home) is not None
    eventually(lambda: api.status(home) is None, "the guard ends with the connection")


def test_restart_of_one_service(home: Path) -> None:
    info = up(home)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(info.guard_socket)
        client.sendall(b'{"op": "restart", "service": "lda"}\n')
        answer = json.loads(client.makefile().readline())
    assert answer["event"] == "ready"
    after = answer["stack"]["services"]
    assert after["lda"]["pid"] != info.services["lda"].pid
    assert after["backend"]["pid"] == info.services["backend"].pid


def test_an_unknown_request_is_refused(home: Path) -> None:
    info = up(home)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(info.guard_socket)
        client.sendall(b'{"op": "restart", "service": "nginx"}\nnonsense\n[]\n')
        lines = client.makefile()
        assert "no service 'nginx'" in json.loads(lines.readline())["message"]
        assert json.loads(lines.readline())["event"] == "failed"
        assert json.loads(lines.readline())["event"] == "failed"


def test_long_state_folder_uses_a_short_socket_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = home / ("x" * 60) / ("y" * 60)
    info = up(deep)
    try:
        assert info.ready
        assert len(info.guard_socket) < 100
        folder = Path(info.guard_socket).parent
        assert not folder.is_relative_to(deep)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        # Another environment computes another folder; the recorded address counts.
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
        assert api.status(deep) is not None
    finally:
        api.down(deep)


@pytest.mark.asyncio
async def test_ensure_up_reports_progress_on_the_loop(home: Path) -> None:
    first = up(home)
    said: list[str] = []
    info = await api.ensure_up(home, stop_with_pid=None, timeout_s=30, progress=said.append)
    assert info.guard_pid == first.guard_pid


def test_a_guard_that_breaks_is_named_and_not_started_for_ever(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('this guard is broken')\n")
    with pytest.raises(StackError, match="guard ended before it could work") as caught:
        api.start(home, guard_argv=[str(broken)], timeout_s=20)
    assert "this guard is broken" in caught.value.log_tail
