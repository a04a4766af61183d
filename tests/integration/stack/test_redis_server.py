"""The embedded Redis: started, killed, started again."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import psutil
import pytest
import redis

from rootbound import paths
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.redis import RedisServer, find_binary


@pytest.fixture
def server(home: Path) -> RedisServer:
    paths.ensure_state_dir(home)
    return RedisServer(home)


def test_private_socket_and_no_port(server: RedisServer) -> None:
    with server.running() as url:
        client = redis.Redis.from_url(url)
        assert client.ping()
        configuration = client.config_get("*")
        assert configuration["port"] == "0"
        assert configuration["appendonly"] == "yes"
        assert configuration["appendfsync"] == "everysec"
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        process = server.leftovers()[0]
        assert not [one for one in process.net_connections() if one.family.name != "AF_UNIX"]


def test_data_survive_kill_9(server: RedisServer) -> None:
    url = server.start()
    client = redis.Redis.from_url(url)
    for number in range(500):
        client.rpush("queue", number)
    client.close()
    for process in server.leftovers():
        process.send_signal(signal.SIGKILL)
    server.stop()
    assert server.socket.exists()
    with server.running():
        assert redis.Redis.from_url(url).llen("queue") == 500


def test_a_second_server_on_the_same_data_is_refused(server: RedisServer) -> None:
    with server.running() as url:
        with pytest.raises(StackError, match="Another Redis server runs"):
            RedisServer(server.home).start()
        assert redis.Redis.from_url(url).ping()


def test_a_refused_configuration_shows_the_log(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_configuration", lambda: "no-such-setting 1\n")
    with pytest.raises(StackError) as caught:
        server.start(timeout_s=5)
    assert "no-such-setting" in caught.value.log_tail


def test_old_servers_on_path_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0 bits=64'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_binary().program != program
    assert int(find_binary().version.split(".")[0]) >= 7


def test_stop_leaves_no_process(server: RedisServer) -> None:
    with server.running():
        process = server.leftovers()[0]
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert not server.socket.exists()
