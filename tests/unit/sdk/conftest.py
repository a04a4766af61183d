"""Fixtures: a running contract server, a client of it, and a clean environment."""

from __future__ import annotations

import sys
from pathlib import Path

import comm
import pytest

# importlib mode leaves sys.path alone, and the server is shared with the integration tests.
sys.path.insert(0, str(Path(__file__).parent))

from contract_server import ContractServer, State
from widget_comm import FakeComm

from rootbound.client import Client
from rootbound.discovery import Endpoint
from rootbound.widgets import bundle


@pytest.fixture(scope="session")
def _servers():
    """The running server, started anew only after a test that stopped it."""
    running = []
    yield running
    for server in running:
        server.__exit__()


@pytest.fixture
def server(_servers):
    if not (_servers and _servers[-1].is_alive):
        _servers[:] = [ContractServer().__enter__()]
    _servers[-1].state = State(_servers[-1].token)
    return _servers[-1]


@pytest.fixture
def endpoint(server):
    return Endpoint(server.url, server.token, "headless", "a test")


@pytest.fixture
def client(endpoint):
    with Client(endpoint, timeout=10) as connected:
        yield connected


@pytest.fixture
def clean_env(monkeypatch, tmp_path):
    """No trace of a real server: own runtime folder, own state folder, own current folder."""
    for name in (
        "ROOTBOUND_URL",
        "ROOTBOUND_TOKEN",
        "JUPYTERHUB_SERVICE_PREFIX",
        "JUPYTERHUB_API_TOKEN",
        "JUPYTERHUB_SERVICE_URL",
        "JUPYTERHUB_PUBLIC_URL",
        "JPY_PARENT_PID",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("runtime", "home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("ROOTBOUND_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def fake_comm(monkeypatch):
    monkeypatch.setattr(comm, "create_comm", FakeComm)
    monkeypatch.setattr(FakeComm, "opened", [])


@pytest.fixture
def static(monkeypatch, tmp_path):
    folder = tmp_path / "static"
    folder.mkdir()
    for name in (
        "task_board", "attempt_stream", "audit_table", "cost_chart", "diff_view", "stack_status",
        "loader",
    ):  # fmt: skip
        (folder / f"{name}.js").write_text(f"export default {{}} // {name}")
        (folder / f"{name}.css").write_text(f".{name} {{}}")
    monkeypatch.setattr(bundle, "STATIC", folder)
    return folder
