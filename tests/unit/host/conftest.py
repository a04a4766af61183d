"""A Jupyter server with the extension, before a real ASGI backend on a unix socket."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

# Here and not in the top conftest: its automatic fixtures make a Jupyter server for every test.
from pytest_jupyter.jupyter_server import *  # noqa: F403
from tornado.httpclient import HTTPClientError

SCRIPT = Path(__file__).with_name("echo_backend.py")
KEY = "ab" * 32


class Backend:
    """The backend process; may be killed and started again on the same socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process: subprocess.Popen[bytes] | None = None
        # A stack that a test left starting does so in a thread, when the test is over already.
        self._changing = threading.Lock()
        self._over = False

    def start(self, *args: str) -> None:
        with self._changing:
            assert not self._over, "the test is over"
            process = subprocess.Popen([sys.executable, str(SCRIPT), str(self.path), *args])
            self.process = process
            deadline = time.monotonic() + 20
            while not self.accepts():
                assert process.poll() is None, "the backend ended"
                assert time.monotonic() < deadline, "the backend does not listen"
                time.sleep(0.02)

    def accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.path))
            except OSError:
                return False
        return True

    def kill(self) -> None:
        with self._changing:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None
            self.path.unlink(missing_ok=True)

    def end(self) -> None:
        """Kill it for good."""
        self._over = True
        self.kill()


@pytest.fixture(scope="module")
def backend():
    """One backend for the tests of a module."""
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        running = Backend(Path(folder) / "b.sock")
        running.start()
        yield running
        running.end()


@pytest.fixture
def own_backend():
    """A backend of the test's own, which it may kill."""
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        running = Backend(Path(folder) / "b.sock")
        running.start()
        yield running
        running.end()


@pytest.fixture
def key_home(home):
    """A state folder that holds an identity key only."""
    secrets = home / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    (secrets / "identity.key").write_text(KEY + "\n")
    return home


@pytest.fixture
def extension_config():
    """Traits of the extension; tests override this fixture."""
    return {}


@pytest.fixture
def backend_path(backend):
    return str(backend.path)


@pytest.fixture
def jp_server_config(key_home, backend_path, extension_config):
    return {
        "ServerApp": {"jpserver_extensions": {"rootbound_server_ext": True}},
        "RootboundApp": {
            "home": str(key_home),
            "backend_socket": backend_path,
            **extension_config,
        },
    }


@pytest.fixture
def app(jp_serverapp):
    """The extension of the running server."""
    return jp_serverapp.extension_manager.extension_points["rootbound"].app


@pytest.fixture
def seen(jp_fetch):
    """Poll what the backend saw until a condition holds."""

    async def poll(condition, timeout=10.0):
        deadline = time.monotonic() + timeout
        while True:
            value = json.loads((await jp_fetch("rootbound", "api", "seen")).body)
            if condition(value):
                return value
            assert time.monotonic() < deadline, value
            await asyncio.sleep(0.02)

    return poll


@pytest.fixture
def open_gate(jp_fetch):
    async def opened(name):
        await jp_fetch("rootbound", "api", "open", params={"gate": name})

    return opened


@pytest.fixture
def refused(jp_fetch):
    """Make a request that must fail; return its status, problem and headers."""

    async def fetch(*parts, **kwargs):
        kwargs.setdefault("follow_redirects", False)
        with pytest.raises(HTTPClientError) as caught:
            await jp_fetch(*parts, **kwargs)
        response = caught.value.response
        assert response.headers["Content-Type"] == "application/problem+json", response.body
        return caught.value.code, json.loads(response.body), response.headers

    return fetch


class RawClient:
    """A client that reads and writes when it is told to."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def head(self):
        return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin1")


@pytest.fixture
def raw(jp_serverapp, http_server, jp_http_port, jp_base_url, jp_auth_header):
    """Open a connection and send the head of a request."""
    opened = []

    async def send(method, path, headers=(), limit=65536):
        reader, writer = await asyncio.open_connection("127.0.0.1", jp_http_port, limit=limit)
        opened.append(writer)
        lines = [
            f"{method} {jp_base_url}{path} HTTP/1.1",
            f"Host: localhost:{jp_http_port}",
            f"Authorization: {jp_auth_header['Authorization']}",
            *headers,
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        return RawClient(reader, writer)

    yield send
    for writer in opened:
        writer.close()


@pytest.fixture(autouse=True)
def quiet_environment():
    """The host must leave the process' environment alone."""
    before = dict(os.environ)
    yield
    changed = {k for k in os.environ if before.get(k) != os.environ[k]}
    assert not {k for k in changed if k.startswith(("ROOTBOUND", "DJANGO", "TZ"))}
