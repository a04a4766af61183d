"""Fixtures for every layer: a state folder, real services, a wheel in an empty venv."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.live import LiveStack

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
# Read by pytest-django when it configures; set here because a settings module named in the
# configuration file would be imported before this folder can be.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.support.django_settings")


LAYERS = ("unit", "integration", "security", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick layers first, and the browser last: Playwright keeps an event loop running."""
    tests = ROOT / "tests"
    items.sort(key=lambda item: LAYERS.index(item.path.relative_to(tests).parts[0]))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The session's PostgreSQL; yields its URL."""
    from tests.support.session import POSTGRES

    with POSTGRES.running() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The session's Redis; yields its URL."""
    from tests.support.session import REDIS

    with REDIS.running() as url:
        yield url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    postgres_server: str, redis_server: str, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """Start the services before pytest-django makes the test database."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let the tests empty the audit log between them, which nobody else can."""
    from django.db import connection

    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE local_access_fsauditevent DISABLE TRIGGER audit_no_truncate")
    connection.close()
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        # Threads of the tests may still hold connections, which would bar dropping the database.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    connection.close()


@pytest.fixture(scope="session")
def live() -> Iterator[LiveStack]:
    """The whole stack, shared by the tests that need it; each makes its own project."""
    from tests.support.live import live_stack

    with live_stack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def silent_replay(request: pytest.FixtureRequest) -> None:
    """Let each test that uses the shared stack say anew what the model answers."""
    if "live" in request.fixturenames:
        request.getfixturevalue("live").replay.reset()


@pytest.fixture
def home() -> Iterator[Path]:
    """A state folder of the test's own, with a short path (unix sockets)."""
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        yield Path(folder) / "home"


@pytest.fixture(scope="session")
def wheel_venv(distribution: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment with the built wheel and its server extra installed."""
    venv = tmp_path_factory.mktemp("wheel") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    (wheel,) = distribution.glob("*.whl")
    # uv installs the 190 packages in a tenth of pip's time, but does not read pip's configuration.
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    mirror = {"UV_DEFAULT_INDEX": index} if index else {}
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", str(venv / "bin/python"),
         f"{wheel}[server]"],
        env={**os.environ, "UV_SYSTEM_CERTS": "1", **mirror},
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return venv


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and from it the wheel, as a release does."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    return out
