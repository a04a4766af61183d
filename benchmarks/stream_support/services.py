"""PostgreSQL, Redis, two Daphnes and a Jupyter server on a state folder of their own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets as random_secrets
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import psycopg

from rootbound_server_ext.stack import postgres, redis, secrets

HERE = Path(__file__).parent


@dataclass
class Services:
    """What runs, and how to reach it."""

    home: Path
    url: str
    stock_url: str
    jupyter_url: str
    database_url: str
    redis_url: str
    password: str
    backend: psutil.Process

    def database(self) -> psycopg.Connection[Any]:
        """Return a new connection."""
        return psycopg.connect(self.database_url, password=self.password, autocommit=True)

    def through_jupyter(self) -> dict[str, str]:
        """Return the headers of a person for Jupyter."""
        return {"Authorization": f"token {self.password}"}

    def gaps(self) -> list[float]:
        """Return how late Jupyter's event loop was since the last call, in seconds each."""
        answer = httpx.get(
            f"{self.jupyter_url}/bench/gaps", headers=self.through_jupyter(), trust_env=False
        )
        found: list[float] = answer.raise_for_status().json()
        return found

    def _token(self, audience: str, **claims: Any) -> str:
        now = int(time.time())
        key = (self.home / "secrets/django.key").read_text().strip()
        facts = {"iss": "rootbound", "aud": audience, "iat": now, "exp": now + 7200, **claims}
        return jwt.encode(facts, key, algorithm="HS256")

    def reader(self) -> dict[str, str]:
        """Return the headers of a person."""
        token = self._token("rootbound-api", sub=secrets.local_owner(), scope="api")
        return {"Authorization": f"Bearer {token}"}

    def writer(self, attempt_id: str, generation: int = 1) -> dict[str, str]:
        """Return the headers of a run."""
        token = self._token(
            "rootbound-ingest", run_id=attempt_id, attempt_id=attempt_id, decomposition_id=None,
            user_id=str(uuid.uuid4()), lease_generation=generation,
        )  # fmt: skip
        return {"Authorization": f"Bearer {token}"}

    def new_attempt(self) -> str:
        """Make a running attempt of the local owner's."""
        httpx.get(f"{self.url}/api/me/", headers=self.reader(), trust_env=False)
        ids = [str(uuid.uuid4()) for _ in range(3)]
        with self.database() as db:
            ((owner,),) = db.execute("SELECT id FROM users_user").fetchall()
            _insert(db, "projects_project", id=ids[0], owner_id=owner, name="Bench",
                    repo_path="/srv/bench", default_branch="main", config="{}")  # fmt: skip
            _insert(db, "tasks_task", id=ids[1], project_id=ids[0], title="Bench",
                    status="IN_PROGRESS", agent_role="BACKEND")  # fmt: skip
            _insert(db, "attempts_attempt", id=ids[2], task_id=ids[1], number=1, status="RUNNING",
                    branch_name="bench", lease_generation=1, handed_over_at="now",
                    started_at="now")  # fmt: skip
        return ids[2]


def _insert(db: psycopg.Connection[Any], table: str, **values: Any) -> None:
    """Insert a row; columns that must be given and are not get their type's empty value."""
    empty = {"text": "", "varchar": "", "int": 0, "jsonb": "{}", "bool": False, "now": "now"}
    columns = db.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s "
        "AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'", [table],
    ).fetchall()  # fmt: skip
    for name, kind in columns:
        short = {"character varying": "varchar", "timestamp with time zone": "now",
                 "boolean": "bool"}.get(kind, kind)  # fmt: skip
        short = "int" if "int" in short else short
        values.setdefault(name, "[]" if name in {"dependencies", "reference_paths"}
                          else 1 if name == "first_seq" else empty.get(short))  # fmt: skip
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(["%s"] * len(values))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running() -> Iterator[Services]:
    """Start everything; stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="rb-bench-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder) / "home"
        secrets.ensure_secrets(home)
        database_url = stack.enter_context(postgres.PostgresServer(home).running())
        redis_url = stack.enter_context(redis.RedisServer(home).running())
        environment = {
            **os.environ, "ROOTBOUND_HOME": str(home), "ROOTBOUND_DATABASE_URL": database_url,
            "ROOTBOUND_REDIS_URL": redis_url, "ROOTBOUND_LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "rootbound_backend.settings",
            "PYTHONPATH": str(HERE.parents[1]),
        }  # fmt: skip
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "-v0"], env=environment, check=True
        )
        urls, processes = [], []
        for application in (
            "rootbound_backend.asgi:application", "benchmarks.stream_support.stock:application",
        ):  # fmt: skip
            port = _free_port()
            ends = ["-e", f"tcp:port={port}:interface=127.0.0.1"]
            if not urls:
                ends += ["-u", f"{folder}/backend.sock"]
            # As the stack starts it: with -v 0, without a line for each request.
            daphne = ("daphne", "-v", "0", *ends, application)
            processes.append(_run(stack, Path(folder), environment, *daphne))
            urls.append(f"http://127.0.0.1:{port}")
        password = (home / "secrets/postgres.password").read_text().strip()
        urls.append(_jupyter(stack, Path(folder), environment, password))
        for url, path in zip(urls, ("/api/health/", "/api/health/", "/bench/gaps"), strict=True):
            _await(url + path)
        yield Services(
            home, *urls, database_url, redis_url, password,
            psutil.Process(processes[0].pid),
        )  # fmt: skip


def _run(
    stack: contextlib.ExitStack, folder: Path, environment: dict[str, str], *command: str
) -> subprocess.Popen[bytes]:
    """Run a module until the stack of contexts ends."""
    log = stack.enter_context((folder / f"{random_secrets.token_hex(4)}.log").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stdout=log, stderr=log, cwd=folder
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def _jupyter(
    stack: contextlib.ExitStack, folder: Path, environment: dict[str, str], token: str
) -> str:
    """Start a Jupyter server in front of the backend, with the probe in its event loop."""
    port = _free_port()
    config = {
        "ServerApp": {
            "jpserver_extensions": {
                "rootbound_server_ext": True, "benchmarks.stream_support.probe": True,
            },
            "port": port, "port_retries": 0, "open_browser": False, "root_dir": str(folder),
        },
        "IdentityProvider": {"token": token},
        "RootboundApp": {"backend_socket": f"{folder}/backend.sock", "home": str(folder / "home")},
    }  # fmt: skip
    (folder / "jupyter.json").write_text(json.dumps(config))
    options = ["--config", str(folder / "jupyter.json")]
    if os.geteuid() == 0:
        options.append("--allow-root")
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR",
                                                         "JUPYTER_RUNTIME_DIR")}  # fmt: skip
    _run(stack, folder, {**environment, **own}, "jupyter_server", *options)
    return f"http://127.0.0.1:{port}"


def _await(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(url, trust_env=False, timeout=5)
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def event(seq: int, text: str = "") -> dict[str, Any]:
    """Return an event of about 230 bytes, or with the given text."""
    return {
        "seq": seq,
        "timestamp": "2026-01-02T03:04:05.000006Z",
        "type": "LOG",
        "payload": {"kind": "output", "source": "gate:test", "stream": "stdout",
                    "text": text or f"line {seq} " + random_secrets.token_hex(45)},
    }  # fmt: skip
