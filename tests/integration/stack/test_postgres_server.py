"""The embedded PostgreSQL: made, started, killed, started again."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from rootbound_server_ext.stack import postgres, secrets
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.postgres import PostgresServer, find_binaries


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a fresh cluster; making one takes longer than most tests here."""
    folder = tmp_path_factory.mktemp("template") / "home"
    secrets.ensure_secrets(folder)
    PostgresServer(folder).prepare()
    return folder


@pytest.fixture
def server(home: Path, template: Path) -> PostgresServer:
    home.rmdir()
    subprocess.run(["cp", "-a", template, home], check=True)
    return PostgresServer(home)


@pytest.fixture
def new_server(home: Path) -> PostgresServer:
    secrets.ensure_secrets(home)
    return PostgresServer(home)


def connect(server: PostgresServer) -> psycopg.Connection:
    password = secrets.read_secret(server.home, secrets.POSTGRES_PASSWORD)
    return psycopg.connect(server.url, password=password, autocommit=True)


def postmaster(server: PostgresServer) -> psutil.Process:
    return psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))


def test_cluster_is_private_checksummed_and_unprivileged(new_server: PostgresServer) -> None:
    server = new_server
    with server.running():
        with connect(server) as connection:
            row = connection.execute(
                "SELECT current_setting('data_checksums'), current_setting('listen_addresses'),"
                " rolsuper, rolcreatedb, current_setting('server_version_num')::int"
                " FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row is not None
            assert row[:4] == ("on", "", False, True)
            assert row[4] >= 160000
        for folder in (server.folder, server.data, server.socket_folder):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        process = postmaster(server)
        assert process.uids().real != 0
        assert not [one for one in process.net_connections() if one.family.name != "AF_UNIX"]
        password = secrets.read_secret(server.home, secrets.POSTGRES_PASSWORD)
        assert password not in " ".join(process.cmdline())
        assert password not in server.log.read_text()


def test_login_needs_the_password_and_the_superuser_cannot_log_in(server: PostgresServer) -> None:
    with server.running():
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url, password="wrong")
        password = secrets.read_secret(server.home, secrets.POSTGRES_PASSWORD)
        with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
            psycopg.connect(server.url, user="postgres", password=password)


def test_committed_rows_survive_kill_9(
    server: PostgresServer, eventually: Callable[..., None]
) -> None:
    server.start()
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
    victim = postmaster(server)
    family = [victim, *victim.children(recursive=True)]
    for process in family:
        # A child may end of itself once its postmaster is gone.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    server.stop()
    eventually(lambda: not server.leftovers(), "the server's processes end")
    assert (server.data / "postmaster.pid").exists()

    with server.running(), connect(server) as connection:
        row = connection.execute("SELECT count(*), sum(n) FROM kept").fetchone()
        assert row == (1000, 500500)


def test_a_lock_file_with_a_living_strangers_pid_is_no_obstacle(server: PostgresServer) -> None:
    with server.running():
        content = (server.data / "postmaster.pid").read_text().splitlines()
    # After a reboot the id may belong to anybody, for instance to this process.
    stale = "\n".join([str(os.getppid()), *content[1:]]) + "\n"
    (server.data / "postmaster.pid").write_text(stale)
    with server.running(), connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_second_server_on_the_same_cluster_is_refused(server: PostgresServer) -> None:
    with server.running():
        with pytest.raises(StackError, match="Another PostgreSQL server runs"):
            PostgresServer(server.home).start()
        with connect(server) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_lost_password_is_replaced(server: PostgresServer) -> None:
    with server.running(), connect(server) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    (server.home / "secrets/postgres.password").unlink()
    secrets.ensure_secrets(server.home)
    with server.running(), connect(server) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_half_made_cluster_is_not_used(new_server: PostgresServer) -> None:
    server = new_server
    server.folder.mkdir(mode=0o700)
    (server.folder / "data.new").mkdir()
    (server.folder / "data.new/PG_VERSION").write_text("16\n")
    with server.running(), connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not (server.folder / "data.new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a folder nobody else can enter")
def test_root_can_keep_its_state_below_a_private_folder(home: Path) -> None:
    private = home / "private"
    private.mkdir(mode=0o700)
    deep = private / "s"
    secrets.ensure_secrets(deep)
    server = PostgresServer(deep)
    with server.running(), connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.run_as is not None
        assert server.run_as.uid != 0
        assert len(server.run_as.capabilities) == 1  # search, nothing more
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert private.stat().st_uid == 0


def test_an_old_server_on_path_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.18 (Debian)'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = find_binaries()
    assert found.folder != tmp_path
    assert found.version >= 16


def test_a_new_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.2'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_binaries().origin == "PATH"
    # A cluster of another version keeps its own programs.
    assert find_binaries(16).version == 16
    with pytest.raises(StackError, match="PostgreSQL 99 is needed"):
        find_binaries(99)


def test_a_cluster_of_another_version_is_refused(server: PostgresServer) -> None:

    (server.data / "PG_VERSION").write_text("99\n")
    with pytest.raises(StackError, match="PostgreSQL 99 is needed"):
        server.start()


def test_check_never_shows_the_password() -> None:
    url = "postgresql://rootbound:topsecret@127.0.0.1:1/rootbound"
    with pytest.raises(StackError) as caught:
        postgres.check_database(url)
    assert "topsecret" not in caught.value.message
