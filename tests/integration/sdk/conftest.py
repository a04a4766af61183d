"""The contract server of the SDK's unit tests, for real kernels to talk to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "unit" / "sdk" / "contract_server.py"
_SPEC = importlib.util.spec_from_file_location("contract_server_for_kernels", _PATH)
contract_server = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(contract_server)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server that every kernel started by the test finds by the environment."""
    with contract_server.ContractServer() as running:
        monkeypatch.setenv("ROOTBOUND_URL", running.url)
        monkeypatch.setenv("ROOTBOUND_TOKEN", running.token)
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
        yield running
