"""Fixtures for every layer: a state folder, real services, a wheel in an empty venv."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
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


# A shell has what it starts in the background ignore Ctrl-C, and so would all that tests start:
# what is interrupted would only end when it is killed, many seconds later.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LAYERS = ("unit", "integration", "security", "e2e")
# The longest files of the last layer, begun first, so that two workers end at about the same time.
LONGEST = ("test_wheel.py", "test_native.py", "test_bare_host.py", "test_schedules.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick layers first, and the browser last: Playwright keeps an event loop running."""
    tests = ROOT / "tests"

    def place(item: pytest.Item) -> tuple[int, int]:
        name = item.path.name
        layer = LAYERS.index(item.path.relative_to(tests).parts[0])
        return layer, LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The session's PostgreSQL; yields its URL."""
    from tests.support.session import POSTGRES

    with POSTGRES.running() as url:
        # What a power cut would take is of no account here, and each test that empties the tables
        # would wait for the disk. The stack's own server, in tests of the stack, keeps its word.
        with (POSTGRES.data / "postgresql.auto.conf").open("a") as settings:
            settings.write("fsync = off\n")
        process = (POSTGRES.data / "postmaster.pid").read_text().split()[0]
        os.kill(int(process), signal.SIGHUP)
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


@contextlib.contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """Yield a folder that all workers share, and whether it is still to be filled."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / ".done"
        yield folder, not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demonstration's two real downloads, by version."""
    from rootbound.demo import releases

    with made_once(tmp_path_factory, "demo") as (folder, _):
        return releases.download(folder)


@pytest.fixture(scope="session")
def index() -> dict[str, str]:
    """Variables by which uv, with a tenth of pip's time, finds what pip's configuration names."""
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    mirror = {"UV_DEFAULT_INDEX": index} if index else {}
    return {"UV_SYSTEM_CERTS": "1", **mirror}


@pytest.fixture(scope="session")
def wheel_venv(
    distribution: Path, index: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An empty virtual environment with the built wheel and its server extra installed."""
    uv = [sys.executable, "-m", "uv"]
    with made_once(tmp_path_factory, "wheel") as (folder, is_new):
        venv = folder / "venv"
        if is_new:
            (wheel,) = distribution.glob("*.whl")
            folder.mkdir(exist_ok=True)
            for command in (
                [*uv, "venv", "-q", "--python", sys.executable, str(venv)],
                [*uv, "pip", "install", "-q", "--python", str(venv / "bin/python"),
                 f"{wheel}[server]"],
            ):  # fmt: skip
                subprocess.run(
                    command, env={**os.environ, **index}, check=True, capture_output=True,
                    timeout=300,
                )  # fmt: skip
    return venv


@pytest.fixture(scope="session")
def distribution(index: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and from it the wheel, as a release does."""
    with made_once(tmp_path_factory, "dist") as (out, is_new):
        if is_new:
            subprocess.run(
                [sys.executable, "-m", "build", "--installer", "uv", "--outdir", str(out),
                 str(ROOT)],
                env={**os.environ, **index}, check=True, capture_output=True, timeout=240,
            )  # fmt: skip
    return out
