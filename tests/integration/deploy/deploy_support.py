"""Backends, workers, a JupyterHub and two users' machines, each a process of its own.

Nothing but PostgreSQL, Redis, ports of the backends and the Hub is shared: the machines' state
folders are their own, and their LDAs listen nowhere.
"""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from websockets.sync.client import connect

from rootbound.testing.model_stub import ModelStub
from rootbound_server_ext.stack import redis
from rootbound_server_ext.stack.secrets import ensure_secrets
from tests.support.environment import clean_env, wait_for
from tests.support.live import LIVE, Replay
from tests.support.repos import CALCULATOR_COMMANDS, make_repository
from tests.support.session import SESSION_HOME

HUB_CONFIG = """
from jupyterhub.proxy import Proxy


class NoProxy(Proxy):
    should_start = False
    routes = {}

    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return self.routes


c.JupyterHub.proxy_class = NoProxy  # nobody starts a server here; the Hub's API is what counts
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allowed_users = {"ada", "bob"}
c.JupyterHub.hub_port = %(port)d
c.JupyterHub.bind_url = "http://127.0.0.1:%(public)d"
c.JupyterHub.api_tokens = %(tokens)r
c.JupyterHub.services = [{"name": "rootbound", "api_token": "%(service)s"}]
c.JupyterHub.db_url = "sqlite://"
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Process:
    """One process, its log, and how to start it once more."""

    name: str
    argv: list[str]
    env: dict[str, str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.argv, env=self.env, stdout=log, stderr=log, start_new_session=True,
                cwd=self.log.parent,
            )  # fmt: skip

    def kill(self) -> None:
        """End it with SIGKILL, as a crash or the kernel's memory killer does."""
        if self.popen is not None:
            self.popen.send_signal(signal.SIGKILL)
            self.popen.wait(10)

    def end(self) -> None:
        """End it and its children."""
        if self.popen is None:
            return
        children = []
        if self.popen.poll() is None:
            children = psutil.Process(self.popen.pid).children(recursive=True)
            self.popen.terminate()
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        for child in children:
            if child.is_running():
                child.kill()

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def connections(self, kind: str) -> list[Any]:
        """Return the sockets of it and its children in one state."""
        assert self.popen is not None
        top = psutil.Process(self.popen.pid)
        return [
            one
            for process in (top, *top.children(recursive=True))
            for one in process.net_connections("inet")
            if one.status == kind
        ]


def end_together(processes: list[Process]) -> None:
    """End processes; none waits for another one's good-byes."""
    with ThreadPoolExecutor(len(processes)) as pool:
        list(pool.map(Process.end, processes))


@dataclass
class Person:
    """A user of the Hub with a machine."""

    name: str
    token: str
    home: Path
    files: Path
    api: httpx.Client
    machine: dict[str, Any] = field(default_factory=dict)
    lda: Process | None = None
    project: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        answer = self.api.request(method, path, json=body)
        wanted = range(200, 300) if expect is None else (expect,)
        assert answer.status_code in wanted, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def start(self, title: str) -> str:
        """Start an attempt on a new task and return its id."""
        body = {"title": title, "description": title, "agent_role": "BACKEND"}
        task = self.call("POST", f"/api/projects/{self.project['id']}/tasks/", body)
        return str(self.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"])

    def attempt(self, attempt_id: str) -> Any:
        return self.call("GET", f"/api/attempts/{attempt_id}/")

    def wait(self, attempt_id: str, *statuses: str, within_s: float = 60) -> Any:
        def probe() -> Any:
            found = self.attempt(attempt_id)
            done = found["status"] in statuses if statuses else found["status"] not in LIVE
            return found if done else None

        return wait_for(probe, within_s=within_s, what=f"{attempt_id} {statuses}")


@dataclass
class Deployment:
    """All of it."""

    folder: Path
    env: dict[str, str]
    stub: ModelStub
    replay: Replay
    ports: list[int]
    hub_url: str
    processes: dict[str, Process] = field(default_factory=dict)

    def run(self, name: str, *argv: str, **env: str) -> Process:
        process = Process(
            name, [sys.executable, "-P", *argv], {**self.env, **env}, self.folder / f"{name}.log"
        )
        process.start()
        self.processes[name] = process
        return process

    def backend(self, number: int) -> Process:
        port = str(self.ports[number])
        argv = ("-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", port)
        return self.run(f"backend{number}", *argv, "rootbound_backend.asgi:application")

    def worker(self, number: int) -> Process:
        return self.run(
            f"worker{number}", "-m", "celery", "-A", "rootbound_backend.celery", "worker",
            "-P", "threads", "-c", "2", "-n", f"w{number}@%h", "-l", "INFO", "--without-gossip",
            "--without-mingle", "--without-heartbeat",
        )  # fmt: skip

    def connect_machine(self, person: Person, token: str) -> None:
        """Start the LDA of a person's machine, which knows both backends."""
        path = person.home / "secrets" / "machine.token"
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        path.write_text(token)
        path.chmod(0o600)
        urls = ",".join(f"http://127.0.0.1:{port}" for port in self.ports)
        person.lda = Process(
            f"lda-{person.name}",
            [sys.executable, "-P", "-m", "rootbound_lda"],
            clean_env(person.home, ROOTBOUND_LDA_CONNECT=urls, GLM_API_KEY="unused"),
            self.folder / f"lda-{person.name}.log",
        )
        self.processes[person.lda.name] = person.lda
        person.lda.start()

    def jupyter(self, person: Person, number: int) -> tuple[Process, httpx.Client]:
        """Start a Jupyter server on a person's machine, whose panels use a backend of ours."""
        port, folder = free_port(), self.folder / f"jupyter-{person.name}"
        folder.mkdir()
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        own = {name: str(folder / name.lower()) for name in names}
        argv = [
            sys.executable, "-P", "-m", "jupyter_server", "--allow-root", "--no-browser",
            f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.root_dir={person.files}", "--IdentityProvider.token=of-jupyter",
            "--ServerApp.jpserver_extensions={'rootbound_server_ext': True}",
            f"--RootboundApp.backend_url=http://127.0.0.1:{self.ports[number]}",
        ]  # fmt: skip
        env = clean_env(person.home, ROOTBOUND_TOKEN=person.token, **own)
        offer = [sys.executable, "-m", "rootbound.cli", "kernels", "install", "--user"]
        subprocess.run(offer, env=env, check=True, capture_output=True, timeout=60)
        server = Process(f"jupyter-{person.name}", argv, env, folder / "log.txt")
        server.start()
        self.processes[server.name] = server
        headers = {"Authorization": "token of-jupyter"}
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30, trust_env=False
        )
        url = f"http://127.0.0.1:{port}/api"
        wait_for(lambda: _answers(url), within_s=60, what="Jupyter")
        return server, client

    def run_cell(self, jupyter: httpx.Client, kernel: str, code: str) -> str:
        """Run code in a kernel of a Jupyter server; return what it printed, or its error."""
        header = {
            "msg_id": secrets.token_hex(8), "msg_type": "execute_request", "username": "",
            "session": "s", "date": "", "version": "5.3",
        }  # fmt: skip
        content = {"code": code, "silent": False, "allow_stdin": False}
        message = {
            "channel": "shell", "header": header, "parent_header": {}, "metadata": {},
            "content": content, "buffers": [],
        }  # fmt: skip
        url = f"ws://127.0.0.1:{jupyter.base_url.port}/api/kernels/{kernel}/channels"
        headers = {"Authorization": str(jupyter.headers["Authorization"])}
        said = ""
        with connect(url, additional_headers=headers) as socket:
            socket.send(json.dumps(message))
            while True:
                heard = json.loads(socket.recv(timeout=60))
                if heard["parent_header"].get("msg_id") != header["msg_id"]:
                    continue
                said += heard["content"].get("text", "") + heard["content"].get("evalue", "")
                if heard["content"].get("execution_state") == "idle":
                    return said

    def is_connected(self, person: Person) -> bool:
        found = person.call("GET", f"/api/machines/{person.machine['id']}/")
        return bool(found["connected"])


def _hub(deployment: Deployment, tokens: dict[str, str], port: int) -> None:
    folder = deployment.folder / "hub"
    folder.mkdir()
    facts = {
        "port": port, "public": free_port(), "tokens": {v: k for k, v in tokens.items()},
        "service": secrets.token_hex(20),
    }  # fmt: skip
    (folder / "jupyterhub_config.py").write_text(HUB_CONFIG % facts)
    hub = deployment.run("hub", "-m", "jupyterhub", "-f", str(folder / "jupyterhub_config.py"))
    hub.log.touch()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def running_deployment(folder: Path, database: str) -> Iterator[tuple[Deployment, Person, Person]]:
    """Start everything; stop it again, and fail if a machine's LDA listened anywhere."""
    home = folder / "server"
    home.mkdir(mode=0o700)
    ensure_secrets(home)
    password = (SESSION_HOME / "secrets" / "postgres.password").read_text().strip()
    with psycopg.connect(database, password=password, autocommit=True) as admin:
        admin.execute("CREATE DATABASE deployed")
    (home / "secrets" / "postgres.password").write_text(password)
    base, _, query = database.partition("?")
    database = base.rpartition("/")[0] + "/deployed" + (f"?{query}" if query else "")
    tokens = {name: secrets.token_hex(20) for name in ("ada", "bob")}
    hub_port, ports = free_port(), [free_port(), free_port()]
    replay = Replay()
    with ExitStack() as stack:
        redis_url = stack.enter_context(redis.RedisServer(home).running())
        stub = stack.enter_context(ModelStub(replay))
        env = clean_env(
            home,
            DJANGO_SETTINGS_MODULE="rootbound_backend.settings",
            ROOTBOUND_DATABASE_URL=database,
            ROOTBOUND_REDIS_URL=redis_url,
            ROOTBOUND_BACKEND_URL=f"http://127.0.0.1:{ports[0]}",
            ROOTBOUND_LDA="outward",
            ROOTBOUND_HUB_API_URL=f"http://127.0.0.1:{hub_port}/hub/api",
        )
        hub_url = f"http://127.0.0.1:{hub_port}/hub/api"
        deployment = Deployment(folder, env, stub, replay, ports, hub_url)
        stack.callback(lambda: end_together(list(deployment.processes.values())))
        _hub(deployment, tokens, hub_port)
        migrate = [sys.executable, "-P", "-m", "django", "migrate", "--noinput", "-v", "0"]
        subprocess.run(migrate, env=env, check=True, timeout=120, cwd=folder)
        for number in (0, 1):
            deployment.backend(number)
        for number in (0, 1, 2):
            deployment.worker(number)
        deployment.run(
            "beat", "-m", "celery", "-A", "rootbound_backend.celery", "beat",
            "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler", "--pidfile=",
        )  # fmt: skip
        for port in ports:
            url = f"http://127.0.0.1:{port}/api/health/"
            wait_for(lambda url=url: _answers(url), within_s=60, what=url)
        wait_for(lambda: _answers(f"{hub_url}/"), within_s=60, what="the Hub")
        people = [_person(stack, deployment, name, token) for name, token in tokens.items()]
        yield deployment, people[0], people[1]
        for person in people:
            assert person.lda is not None
            assert person.lda.connections("LISTEN") == []


def _person(stack: ExitStack, deployment: Deployment, name: str, token: str) -> Person:
    number = 0 if name == "ada" else 1
    files = deployment.folder / name
    files.mkdir()
    api = stack.enter_context(
        httpx.Client(
            base_url=f"http://127.0.0.1:{deployment.ports[number]}", timeout=60, trust_env=False,
            headers={"Authorization": f"Bearer {token}"},
        )
    )  # fmt: skip
    person = Person(name, token, deployment.folder / f"home-{name}", files, api)
    body = {"name": f"{name}'s laptop", "paths": [str(files)]}
    added = person.call("POST", "/api/machines/", body, expect=201)
    person.machine = {key: value for key, value in added.items() if key != "token"}
    deployment.connect_machine(person, added["token"])
    wait_for(lambda: deployment.is_connected(person), within_s=60, what=f"{name}'s machine")
    repository = make_repository(files / "app")
    person.call("POST", "/api/local-access/roots/", {"path": str(repository)}, expect=201)
    person.call(
        "POST", "/api/agents/",
        {
            "name": "Replayed", "role": "BACKEND", "provider": "GLM", "model": "glm-7",
            "base_url": deployment.stub.glm_url(), "system_prompt": "",
            "settings": {"replay": True},
        },
    )  # fmt: skip
    person.project = person.call(
        "POST", "/api/projects/",
        {"name": f"{name}'s app", "repo_path": str(repository), "config": {**CALCULATOR_COMMANDS}},
    )  # fmt: skip
    return person
