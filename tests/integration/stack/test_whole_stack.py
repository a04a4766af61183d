"""The real services together: ``rootbound up``, ``status``, deaths, ``down``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from rootbound_server_ext.stack import api, ports, secrets

SERVICES = {"postgres", "redis", "backend", "worker", "beat", "lda"}
KEY = "not-a-real-key-0123456789"


def rootbound(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rootbound.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def call(home: Path, info: dict[str, Any], method: str, path: str, **options: Any) -> Any:
    token = secrets.read_secret(home, secrets.HEADLESS_TOKEN)
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.request(
        method, info["url"] + path, headers=headers, timeout=30, trust_env=False, **options
    )
    assert answer.is_success, answer.text
    return answer.json()


@pytest.mark.timeout(280)
def test_up_status_deaths_down(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., None],
    processes_of: Callable[[], list[psutil.Process]],
) -> None:
    monkeypatch.setenv("GLM_API_KEY", KEY)
    # Away from the usual ports, which other stacks of this machine take whenever they are free.
    monkeypatch.setenv("ROOTBOUND_BACKEND_PORT", str(ports.free_port(0)))
    started = rootbound("up", "--json")
    assert started.returncode == 0, started.stderr + started.stdout
    info = json.loads(started.stdout)
    assert set(info["services"]) == SERVICES
    assert {one["state"] for one in info["services"].values()} == {"ready"}
    assert KEY not in started.stdout + started.stderr

    # The addresses work: with the token over the port, without one over the socket.
    assert call(home, info, "GET", "/api/me/")["username"] == secrets.local_owner()
    transport = httpx.HTTPTransport(uds=info["backend_socket"])
    with httpx.Client(transport=transport) as client:
        assert client.get("http://rootbound/api/health/").json() == {"status": "ok"}
    assert call(home, info, "GET", "/api/local-access/status/")["lda"]["reachable"] is True
    call(home, info, "POST", "/api/local-access/roots/", json={"path": str(tmp_path)})

    # Keys go to the LDA alone, and to no command line or log.
    for name, service in info["services"].items():
        process = psutil.Process(service["pid"])
        assert (process.environ().get("GLM_API_KEY") == KEY) == (name == "lda")
    assert not any(KEY in " ".join(one.cmdline()) for one in processes_of())
    assert not any(KEY in log.read_text() for log in (home / "logs").iterdir())

    status = rootbound("status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout)["running"] is True
    assert json.loads(rootbound("up", "--json").stdout)["guard_pid"] == info["guard_pid"]

    # A killed service is started again, at the same address.
    backend = info["services"]["backend"]["pid"]
    os.kill(backend, signal.SIGKILL)

    def backend_is_back() -> bool:
        now = api.status(home)
        assert now is not None
        return now.ready and now.services["backend"].pid != backend

    eventually(backend_is_back, "the backend is started again", 60)
    assert call(home, info, "GET", "/api/me/")["username"]

    # A killed guard: the next `up` heals, at the recorded address, and what was committed is there.
    monkeypatch.delenv("ROOTBOUND_BACKEND_PORT")
    os.kill(info["guard_pid"], signal.SIGKILL)
    healed = rootbound("up", "--json")
    assert healed.returncode == 0, healed.stderr + healed.stdout
    after = json.loads(healed.stdout)
    assert after["guard_pid"] != info["guard_pid"]
    assert after["url"] == info["url"]
    roots = call(home, after, "GET", "/api/local-access/roots/")["results"]
    assert [root["path"] for root in roots] == [str(tmp_path)]

    stopped = rootbound("down")
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of() == []
    assert rootbound("status").returncode == 3
    assert not list((home / "run").glob("*.sock"))


def test_a_demanded_port_that_is_taken_is_one_sentence(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes_of: Callable[[], list[psutil.Process]],
) -> None:
    from rootbound_server_ext.stack import ports

    with ports.listen_loopback(28950) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("ROOTBOUND_BACKEND_PORT", str(port))
        result = rootbound("up")
    assert result.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken by another program" in result.stderr
    assert processes_of() == []


def test_an_external_database_that_is_away_is_one_sentence(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes_of: Callable[[], list[psutil.Process]],
) -> None:
    url = "postgresql://me:topsecret@127.0.0.1:1/rootbound"
    monkeypatch.setenv("ROOTBOUND_DATABASE_URL", url)
    result = rootbound("up")
    assert result.returncode == 1
    assert "PostgreSQL was not ready within" in result.stderr
    assert "topsecret" not in result.stderr + result.stdout
    assert processes_of() == []
    assert not any("topsecret" in log.read_text() for log in (home / "logs").iterdir())
