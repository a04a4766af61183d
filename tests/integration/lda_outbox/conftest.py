"""A backend process on the test database, which the outbox ships to."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.lda.lda_support import Lda, repo, stub

__all__ = ["repo", "stub"]

# The tests import models, and pytest-django sets Django up only after the folder's conftest.
django.setup()


class BackendProcess:
    """The real backend behind a port of its own; a test starts it when it needs it."""

    def __init__(self, folder: Path, database: str) -> None:
        from tests.support.session import session_environment

        environment = session_environment()
        url = urlsplit(environment["ROOTBOUND_DATABASE_URL"])
        environment["ROOTBOUND_DATABASE_URL"] = url._replace(path=f"/{database}").geturl()
        environment["DJANGO_SETTINGS_MODULE"] = "rootbound_backend.settings"
        self._env = {**os.environ, **environment}
        self._log = folder / "backend.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run."""
        from tests.support.environment import wait_for

        if self._process is not None and self._process.poll() is None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "daphne", "rootbound_backend.asgi:application", "-e",
                 f"tcp:port={self._port}:interface=127.0.0.1"],
                env=self._env, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self._answers, within_s=150, what="the backend")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self.url}/api/health/", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None

    def log(self) -> str:
        return self._log.read_text()[-3000:]


@pytest.fixture(scope="session")
def backend_process(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackendProcess]:
    from django.db import connection

    process = BackendProcess(tmp_path_factory.mktemp("backend"), connection.settings_dict["NAME"])
    yield process
    process.kill()


@pytest.fixture
def backend_up(backend_process: BackendProcess) -> BackendProcess:
    backend_process.start()
    return backend_process


@pytest.fixture
def attempt(transactional_db: None) -> Any:
    from rootbound_backend.apps.users.services import ensure_user
    from tests.integration.backend.backend_support import make_attempt

    made = make_attempt(ensure_user(username="alice"))
    assert made.task.project.owner_id
    return made


@pytest.fixture
def token(attempt: Any) -> str:
    from rootbound_backend.tokens import issue_ingest_token

    return issue_ingest_token(
        user_id=attempt.task.project.owner_id, attempt_id=attempt.pk, lease_generation=1
    )


@pytest.fixture
def lda_process(tmp_path: Path) -> Iterator[Lda]:
    """A real LDA on a state folder of its own, not started yet."""
    key = Ed25519PrivateKey.generate()
    home = tmp_path / "state"
    for folder in ("secrets", "outbox", "run"):
        (home / folder).mkdir(parents=True, mode=0o700)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (home / "secrets/lda_verify.pem").write_bytes(public)
    user = tmp_path / "user"
    user.mkdir()
    env = {"ROOTBOUND_HOME": str(home), "ROOTBOUND_LDA_PORT": "18600", "HOME": str(user)}
    lda = Lda(home, key, env)
    yield lda
    if lda.process is not None and lda.process.poll() is None:
        lda.stop()


@pytest.fixture
def seed() -> int:
    """Return a new chance for each run; shown with the output of a test that fails."""
    chosen = random.randrange(1 << 32)
    print(f"seed {chosen}")
    return chosen
