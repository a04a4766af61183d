"""What each service of the stack is: its command, environment, readiness and way to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from rootbound import paths
from rootbound_server_ext.stack import ports, secrets
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.leftovers import marker_environment
from rootbound_server_ext.stack.postgres import PostgresServer, check_database
from rootbound_server_ext.stack.process import READY_LINE, Command, base_environment, run
from rootbound_server_ext.stack.redis import RedisServer, check_redis
from rootbound_server_ext.stack.state import read_stack

__all__ = [
    "BACKEND_PORT",
    "LDA_PORT",
    "MODEL_KEYS",
    "Running",
    "ServiceSpec",
    "Stack",
    "lda_environment",
    "redacted",
]

BACKEND_PORT = 8787
LDA_PORT = 8001
MODEL_KEYS = ("GLM_API_KEY", "GEMINI_API_KEY")
"""Variables that hold model keys; only the LDA gets them."""

_LDA_VARIABLES = (
    *MODEL_KEYS,
    *(f"ROOTBOUND_{name.removesuffix('_API_KEY')}_BASE_URL" for name in MODEL_KEYS),
    # The keyring, the user's git, and the way to the model's server.
    *("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
# Where install commands of projects find their packages.
_LDA_PREFIXES = ("PIP_", "UV_", "NPM_CONFIG_", "npm_config_", "ROOTBOUND_LDA_", "PYTHON_KEYRING_")
_BACKEND_VARIABLES = (
    "ROOTBOUND_MAX_PARALLEL",
    "ROOTBOUND_LOG_LEVEL",
    "ROOTBOUND_RETENTION_DAYS",
    "ROOTBOUND_RETENTION_MAX_MB",
    "ROOTBOUND_MIN_FREE_MB",
    "ROOTBOUND_ACCESS_REQUEST_TTL_S",
)
_CELERY = ("-m", "rootbound_server_ext.stack.celery_service", "-A", "rootbound_backend.celery")


@dataclass(frozen=True)
class Running:
    """A started service, as its readiness check sees it.

    Attributes
    ----------
    pid
        Process id; None for an external service.
    log
        Its log file.
    log_offset
        Size of the log when it was started, in bytes.
    """

    pid: int | None
    log: Path
    log_offset: int = 0

    def logged(self, text: str) -> bool:
        """Whether it wrote ``text`` since it was started."""
        try:
            with self.log.open("rb") as file:
                file.seek(self.log_offset)
                return text.encode() in file.read()
        except FileNotFoundError:
            return False


def _nothing() -> None:
    return None


def _no_address() -> str | None:
    return None


@dataclass(frozen=True)
class ServiceSpec:
    """How one service is run.

    Attributes
    ----------
    name
        Its name.
    title
        Its name for people.
    check
        Raises `StackError` while the service is not ready; runs in a thread.
    command
        Makes the command; None for an external service that is only checked.
    prepare
        Runs in a thread before each start.
    address
        Its address once ready.
    after
        Services that must be ready first.
    stop_signal, stop_timeout_s
        How it is asked to end, and how long it may take until it is killed.
    start_timeout_s
        How long it may take to get ready.
    hang_restart
        Restart it when it lives but fails its check several times in a row.
    """

    name: str
    title: str
    check: Callable[[Running], None]
    command: Callable[[], Command] | None = None
    prepare: Callable[[], None] = _nothing
    address: Callable[[], str | None] = _no_address
    after: tuple[str, ...] = ()
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10
    start_timeout_s: float = 60
    hang_restart: bool = False


def lda_environment() -> dict[str, str]:
    """Return the variables of this process that the LDA, and no other service, is given."""
    return {
        name: value
        for name, value in os.environ.items()
        if value and (name in _LDA_VARIABLES or name.startswith(_LDA_PREFIXES))
    }


def redacted(url: str) -> str:
    """Return a URL without its password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    return f"{parts.scheme}://{user + '@' if user else ''}{host}{parts.path}"


@dataclass
class Stack:
    """The services of one state folder, with the addresses they share.

    Parameters
    ----------
    home
        State folder, canonical, existing, with its secrets.
    stack_id
        Marks the processes.
    """

    home: Path
    stack_id: str
    listener: socket.socket | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.socket_folder = paths.ensure_private_dir(paths.socket_dir(self.home))
        self.backend_socket = self.socket_folder / "backend.sock"
        self.database_url = os.environ.get("ROOTBOUND_DATABASE_URL", "").strip()
        self.redis_url = os.environ.get("ROOTBOUND_REDIS_URL", "").strip()
        self._migrated = False
        before = read_stack(self.home)
        self._recorded_port = urlsplit(before.url).port if before else None
        self._postgres = PostgresServer(self.home, self._marker("postgres"))
        self._redis = RedisServer(self.home, self._marker("redis"))

    def _marker(self, service: str) -> dict[str, str]:
        return marker_environment(self.home, self.stack_id, service)

    def listen(self) -> None:
        """Open the backend's loopback port and keep it for the guard's life.

        The backend inherits the listening socket: no other program can take the port over while
        the backend restarts and receive the LDA's reports.

        Raises
        ------
        StackError
            When no port can be had.
        """
        demanded = ports.configured_port("ROOTBOUND_BACKEND_PORT")
        # The recorded port first: reports and notebooks may still know the backend by it.
        preferred = demanded or self._recorded_port or BACKEND_PORT
        self.listener = ports.listen_loopback(preferred, strict=demanded is not None)

    @property
    def url(self) -> str:
        """The backend's loopback URL."""
        if self.listener is None:
            return f"http://127.0.0.1:{self._recorded_port or BACKEND_PORT}"
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self) -> None:
        """Close the loopback port."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def specs(self) -> list[ServiceSpec]:
        """Return the services in starting order."""
        return [self.postgres(), self.redis(), *self.backend_services(), self.lda()]

    def postgres(self) -> ServiceSpec:
        """PostgreSQL: ours, or the one of ``ROOTBOUND_DATABASE_URL``."""
        if self.database_url:
            password = None if urlsplit(self.database_url).password else self._password()
            return ServiceSpec(
                "postgres",
                "PostgreSQL",
                check=lambda _: check_database(self.database_url, password),
                address=lambda: redacted(self.database_url),
                start_timeout_s=5,
            )
        return ServiceSpec(
            "postgres",
            "PostgreSQL",
            check=lambda _: self._postgres.check(),
            command=self._postgres.command,
            prepare=self._postgres.prepare,
            address=lambda: str(self._postgres.socket_folder),
            stop_signal=signal.SIGINT,
            stop_timeout_s=20,
        )

    def _password(self) -> str:
        return secrets.read_secret(self.home, secrets.POSTGRES_PASSWORD)

    def redis(self) -> ServiceSpec:
        """Redis: ours, or the one of ``ROOTBOUND_REDIS_URL``."""
        if self.redis_url:
            return ServiceSpec(
                "redis",
                "Redis",
                check=lambda _: check_redis(self.redis_url),
                address=lambda: redacted(self.redis_url),
                start_timeout_s=5,
            )
        return ServiceSpec(
            "redis",
            "Redis",
            check=lambda _: self._redis.check(),
            command=self._redis.command,
            prepare=self._redis.prepare,
            address=lambda: str(self._redis.socket),
            start_timeout_s=30,
        )

    def backend_environment(self, service: str) -> dict[str, str]:
        """Return the whole environment of a backend process."""
        passed_on = {name: os.environ[name] for name in _BACKEND_VARIABLES if name in os.environ}
        own = {
            "DJANGO_SETTINGS_MODULE": "rootbound_backend.settings",
            "ROOTBOUND_DATABASE_URL": self.database_url or self._postgres.url,
            "ROOTBOUND_REDIS_URL": self.redis_url or self._redis.url,
            "ROOTBOUND_BACKEND_URL": self.url,
            "PYTHONUNBUFFERED": "1",
        }
        return base_environment(passed_on | own | self._marker(service))

    def _python(self, service: str, *arguments: str, descriptors: tuple[int, ...] = ()) -> Command:
        # -P: the working folder is no place to import from.
        argv = (sys.executable, "-P", *arguments)
        environment = self.backend_environment(service)
        return Command(argv, environment, self.home, descriptors=descriptors)

    def _celery(self, service: str, *arguments: str) -> Command:
        # Celery's orderly end waits for Redis, which has gone too when the guard has died.
        command = self._python(service, *_CELERY, *arguments, "-l", "INFO")
        return replace(command, death_signal=signal.SIGKILL)

    def backend_services(self) -> list[ServiceSpec]:
        """Daphne, the Celery worker and Celery beat."""
        worker = ("worker", "-P", "threads", "-c", "4")
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        beat = ("beat", "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler")
        return [
            ServiceSpec(
                "backend",
                "The backend",
                check=lambda _: self._check_backend(),
                command=self._backend_command,
                prepare=self._prepare_backend,
                address=lambda: str(self.backend_socket),
                after=("postgres", "redis"),
                hang_restart=True,
            ),
            ServiceSpec(
                "worker",
                "The Celery worker",
                check=_check_celery,
                command=lambda: self._celery("worker", *worker, *quiet),
                after=("backend",),
            ),
            ServiceSpec(
                "beat",
                "Celery beat",
                check=_check_celery,
                command=lambda: self._celery("beat", *beat),
                after=("backend",),
            ),
        ]

    def _backend_command(self) -> Command:
        if self.listener is None:
            raise StackError("The backend's port is not open.", service="backend")
        descriptor = self.listener.fileno()
        escaped = str(self.backend_socket).replace("\\", "\\\\").replace(":", "\\:")
        # No lock file: it trusts a process id, and a dead socket is removed on proof before.
        unix = f"unix:{escaped}:mode=600:lockfile=0"
        # Without -v 0 every request is logged, and the LDA reports many times a second.
        endpoints = ("-v", "0", "-e", unix, "-e", f"fd:fileno={descriptor}")
        application = "rootbound_backend.asgi:application"
        return self._python(
            "backend", "-m", "daphne", *endpoints, application, descriptors=(descriptor,)
        )

    def _prepare_backend(self) -> None:
        self._remove_dead_socket(self.backend_socket)
        if not self._migrated:  # once in a guard's life: a restart must be quick
            self.migrate()
            self._migrated = True

    def _remove_dead_socket(self, path: Path) -> None:
        if not path.exists():
            return
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            try:
                client.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)  # refused: no process listens on it
                return
            except OSError as error:
                raise StackError(
                    f"{path} is in the way of the backend's socket ({error.strerror}); remove it.",
                    service="backend",
                ) from error
        raise StackError(
            f"Another program answers on {path}; stop it, then run `rootbound up`.",
            service="backend",
        )

    def migrate(self) -> None:
        """Bring the database's tables up to date.

        Raises
        ------
        StackError
            When Django refuses, with the end of its output.
        """
        command = self._python("migrate", "-m", "django", "migrate", "--noinput")
        result = run(command, timeout_s=300)
        with contextlib.suppress(OSError):  # the log is a convenience; the result counts
            secrets.write_private(
                paths.logs_dir(self.home) / "migrate.log", result.stdout.encode(errors="replace")
            )
        if result.returncode != 0:
            raise StackError(
                "The database's tables cannot be brought up to date.",
                service="backend",
                log_tail="\n".join(result.stdout.splitlines()[-20:]),
            )

    def _check_backend(self) -> None:
        transport = httpx.HTTPTransport(uds=str(self.backend_socket))
        for name, client in (
            ("its socket", httpx.Client(transport=transport, timeout=5, trust_env=False)),
            ("its port", httpx.Client(timeout=5, trust_env=False)),
        ):
            with client:
                _expect_ok(client, f"{self.url}/api/health/", name)

    def lda(self) -> ServiceSpec:
        """LDA: the process that touches the user's files."""
        return ServiceSpec(
            "lda",
            "The Local Desktop Agent",
            check=self._check_lda,
            command=self._lda_command,
            prepare=lambda: paths.lda_file(self.home).unlink(missing_ok=True),
            address=self._lda_url,
            after=("backend",),
            stop_timeout_s=15,
        )

    def _lda_command(self) -> Command:
        demanded = ports.configured_port("ROOTBOUND_LDA_PORT")
        port = ports.free_port(demanded or LDA_PORT, strict=demanded is not None)
        own = {
            "ROOTBOUND_LDA_PORT": str(port),
            "ROOTBOUND_BACKEND_URL": self.url,
            "PYTHONUNBUFFERED": "1",
        }
        environment = base_environment(lda_environment() | own | self._marker("lda"))
        argv = (sys.executable, "-P", "-m", "rootbound_lda")
        return Command(argv, environment, self.home)

    def _lda_record(self) -> tuple[str, int] | None:
        try:
            data = json.loads(paths.lda_file(self.home).read_text(encoding="utf-8"))
            return str(data["url"]), int(data["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _lda_url(self) -> str | None:
        record = self._lda_record()
        return record[0] if record else None

    def _check_lda(self, running: Running) -> None:
        record = self._lda_record()
        if record is None:
            raise StackError("The Local Desktop Agent has not said its address.", service="lda")
        url, pid = record
        if pid != running.pid and not _descends(pid, running.pid):
            raise StackError("lda.json is of another process.", service="lda")
        parts = urlsplit(url)
        try:
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=3).close()
        except OSError as error:
            raise StackError(
                f"The Local Desktop Agent does not answer on {url}: {error}.", service="lda"
            ) from error


def _descends(pid: int, ancestor: int | None) -> bool:
    try:
        return ancestor in [parent.pid for parent in psutil.Process(pid).parents()]
    except psutil.Error:
        return False


def _check_celery(running: Running) -> None:
    if not running.logged(READY_LINE):
        raise StackError("It has not said that it is ready.")


def _expect_ok(client: httpx.Client, url: str, name: str) -> None:
    try:
        response = client.get(url)
    except (httpx.HTTPError, OSError) as error:
        raise StackError(
            f"The backend does not answer on {name}: {error}.", service="backend"
        ) from error
    if response.status_code != 200:
        raise StackError(
            f"The backend answers {response.status_code} on {name}.", service="backend"
        )
