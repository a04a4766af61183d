"""The extension in a real Jupyter server process: environment of kernels, endings of all kinds."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import httpx
import psutil
import pytest

BACKEND = Path(__file__).parents[2] / "unit/host/echo_backend.py"
KEY = "5ec2e7" * 10 + "abcd"
TOKEN = "jupyter-token-of-this-test"
# What Jupyter itself and the kernel launcher add to a kernel's environment.
KERNEL_ADDITIONS = {"JPY_SESSION_NAME", "JPY_PARENT_PID", "PYDEVD_USE_FRAME_EVAL", "LC_CTYPE"}


def wait_for(condition, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)
    return value


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        (Path(name) / "home/secrets").mkdir(parents=True)
        (Path(name) / "home/secrets/identity.key").write_text(KEY)
        yield Path(name)


@pytest.fixture(scope="module")
def backend(folder):
    path = folder / "b.sock"
    process = subprocess.Popen([sys.executable, str(BACKEND), str(path)])
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost"
    ) as client:

        def answers():
            try:
                return client.get("/api/seen").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers)
        yield client
    process.kill()
    process.wait()


class Jupyter:
    """A Jupyter server in a process of its own."""

    def __init__(self, folder, name):
        self.folder = folder / name
        self.folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "ROOTBOUND_HOME": str(folder / "home"),
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "IPYTHONDIR": str(self.folder / "ipython"),
        }
        argv = [
            sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser",
            f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={self.folder}",
            "--ServerApp.jpserver_extensions={'rootbound_server_ext': True}",
            f"--IdentityProvider.token={TOKEN}",
            f"--RootboundApp.backend_socket={folder / 'b.sock'}",
        ]  # fmt: skip
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"token {TOKEN}"},
            timeout=20,
        )
        wait_for(self.answers)

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/api/status").status_code == 200
        except httpx.TransportError:
            return False

    def end(self):
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def jupyter(folder, backend, tmp_path_factory):
    started = []

    def start(name):
        server = Jupyter(folder, name)
        started.append(server)
        return server

    yield start
    for server in started:
        server.end()


def test_kernel_environment_and_orphans_after_sigkill(jupyter, backend):
    server = jupyter("killed")
    assert server.client.get("/rootbound/api/me").status_code == 200
    assert psutil.Process(server.process.pid).children(recursive=True) == []

    # Kernels get what the server was given, and nothing of the extension.
    assert server.client.post("/api/kernels", json={"name": "python3"}).status_code == 201
    (kernel,) = wait_for(lambda: psutil.Process(server.process.pid).children())
    environ = wait_for(lambda: "JPY_PARENT_PID" in kernel.environ() and kernel.environ())
    assert {k: v for k, v in environ.items() if k in server.environ and k != "PATH"} == {
        k: v for k, v in server.environ.items() if k != "PATH"
    }
    assert set(environ) - set(server.environ) <= KERNEL_ADDITIONS
    text = json.dumps(environ)
    assert KEY not in text
    assert TOKEN not in text
    command = " ".join(psutil.Process(server.process.pid).cmdline())
    assert KEY not in command

    # A stream is open when the server is killed: the backend learns of it, nothing is left.
    stream = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/rootbound/api/trickle",
        headers={"Authorization": f"token {TOKEN}"},
    )
    with urllib.request.urlopen(stream, timeout=20) as response:
        assert response.read(5) == b"first"
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    wait_for(lambda: backend.get("/api/seen").json()["trickle"] == "disconnected")
    wait_for(lambda: not alive(kernel.pid))  # ipykernel watches its parent
    left = [
        p for p in psutil.process_iter() if session_of(p) == server.process.pid and alive(p.pid)
    ]
    assert left == []


def session_of(process):
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def test_two_servers_share_one_backend_and_sigterm_ends_one_in_time(jupyter, backend):
    server, other = jupyter("one"), jupyter("two")
    pids = {one.client.get("/rootbound/api/me").json()["pid"] for one in (server, other)}
    assert len(pids) == 1
    with server.client.stream("GET", "/rootbound/api/trickle") as response:
        assert next(response.iter_bytes()) == b"first"
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=20)
        assert time.monotonic() - started < 10
    assert other.client.get("/rootbound/api/me").status_code == 200
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "rootbound_server_ext | extension was successfully loaded" in log
    assert TOKEN not in log.replace(f"?token={TOKEN}", "")
    assert KEY not in log
