"""Ports, back-off, logs, environments of services, state file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rootbound_server_ext.stack import ports, secrets
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.process import log_tail, open_log
from rootbound_server_ext.stack.services import Stack, redacted
from rootbound_server_ext.stack.state import ServiceInfo, StackInfo, read_stack, write_stack
from rootbound_server_ext.stack.supervisor import Backoff


def test_the_preferred_port_or_the_next() -> None:
    with ports.listen_loopback(28700) as first:
        taken = first.getsockname()[1]
        with ports.listen_loopback(taken) as second:
            assert second.getsockname()[1] != taken
        with pytest.raises(StackError, match=f"Port {taken} on 127.0.0.1 is taken"):
            ports.listen_loopback(taken, strict=True)
    assert ports.free_port(taken, strict=True) == taken


@pytest.mark.parametrize("text", ["http", "0", "70000", "-1", "80.5"])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ROOTBOUND_BACKEND_PORT", text)
    with pytest.raises(StackError, match="ROOTBOUND_BACKEND_PORT must be a port number"):
        ports.configured_port("ROOTBOUND_BACKEND_PORT")


def test_backoff_doubles_and_gives_up() -> None:
    backoff = Backoff(first_s=1, longest_s=3, quick_s=10, limit=5)
    assert [backoff.died(0) for _ in range(5)] == [1, 2, 3, 3, None]


def test_backoff_forgives_after_a_long_life() -> None:
    backoff = Backoff(first_s=1, longest_s=8, quick_s=10, limit=3)
    assert [backoff.died(0), backoff.died(0), backoff.died(11), backoff.died(0)] == [1, 2, 1, 2]
    backoff.forget()
    assert backoff.died(0) == 1


def test_logs_are_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootbound_server_ext.stack.process.LOG_LIMIT_BYTES", 100)
    path = tmp_path / "x.log"
    for number in range(8):
        with open_log(path) as log:
            log.write(f"{number}\n".encode() * 60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "x.log",
        "x.log.1",
        "x.log.2",
        "x.log.3",
    ]
    assert log_tail(path, 2) == "7\n7"
    assert log_tail(tmp_path / "none.log") == ""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    for name in list(os.environ):
        if name.startswith("ROOTBOUND_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GLM_API_KEY", "glm-secret")
    monkeypatch.setenv("GEMINI_API_KEY", "gemini-secret")
    monkeypatch.setenv("ROOTBOUND_GLM_BASE_URL", "http://127.0.0.1:1/glm")
    monkeypatch.setenv("JUPYTER_TOKEN", "jupyter-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
    secrets.ensure_secrets(tmp_path)
    return Stack(tmp_path, "the-id")


def environments(stack: Stack) -> dict[str, dict[str, str]]:
    stack.listen()
    try:
        commands = {spec.name: spec.command for spec in stack.specs()}
        return {name: make().environment for name, make in commands.items() if make is not None}
    finally:
        stack.close()


def test_only_the_lda_gets_the_model_keys(stack: Stack) -> None:
    by_service = environments(stack)
    assert set(by_service) == {"postgres", "redis", "backend", "worker", "beat", "lda"}
    lda = by_service.pop("lda")
    assert lda["GLM_API_KEY"] == "glm-secret"
    assert lda["ROOTBOUND_GLM_BASE_URL"] == "http://127.0.0.1:1/glm"
    assert "ROOTBOUND_DATABASE_URL" not in lda
    for environment in [*by_service.values(), lda]:
        assert not {"jupyter-secret", "aws-secret"} & set(environment.values())
        assert environment["ROOTBOUND_STACK_ID"] == "the-id"
        assert environment["ROOTBOUND_HOME"] == str(stack.home)
    for environment in by_service.values():
        assert not {"glm-secret", "gemini-secret"} & set(environment.values())


def test_the_backend_learns_every_address(stack: Stack) -> None:
    backend = environments(stack)["backend"]
    assert backend["DJANGO_SETTINGS_MODULE"] == "rootbound_backend.settings"
    assert backend["ROOTBOUND_DATABASE_URL"].startswith("postgresql://rootbound@/rootbound?host=")
    assert backend["ROOTBOUND_REDIS_URL"].startswith("unix:///")
    assert backend["ROOTBOUND_BACKEND_URL"].startswith("http://127.0.0.1:")
    password = secrets.read_secret(stack.home, secrets.POSTGRES_PASSWORD)
    assert password not in str(backend)


def test_external_servers_are_adopted_and_not_started(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOTBOUND_DATABASE_URL", "postgresql://me:pw@db.example:5433/rb?sslmode=x")
    monkeypatch.setenv("ROOTBOUND_REDIS_URL", "redis://:pw@cache.example:6379/1")
    adopted = Stack(stack.home, "the-id")
    specs = {spec.name: spec for spec in adopted.specs()}
    assert specs["postgres"].command is None
    assert specs["redis"].command is None
    assert specs["postgres"].address() == "postgresql://me@db.example:5433/rb"
    assert specs["redis"].address() == "redis://cache.example:6379/1"
    assert environments(adopted)["worker"]["ROOTBOUND_REDIS_URL"].endswith("/1")


def test_no_secret_on_any_command_line(stack: Stack) -> None:
    stack.listen()
    known = [path.read_text() for path in (stack.home / "secrets").iterdir()]
    for spec in stack.specs():
        assert spec.command is not None
        line = " ".join(spec.command().argv)
        assert not any(secret in line for secret in [*known, "glm-secret"])
    stack.close()


def test_the_recorded_port_is_asked_for_again(stack: Stack) -> None:
    with ports.listen_loopback(28900) as free:
        port = free.getsockname()[1]
    info = StackInfo(f"http://127.0.0.1:{port}", "/s", None, "/g", "2026-01-01T00:00:00+00:00")
    write_stack(stack.home, info)
    again = Stack(stack.home, "the-id")
    again.listen()
    assert again.url == info.url
    again.close()


def test_stack_file_round_trip(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert read_stack(tmp_path) is None
    services = {"redis": ServiceInfo("ready", "/r.sock", 12)}
    info = StackInfo("http://127.0.0.1:1", "/s", 1, "/g", "2026-01-01T00:00:00+00:00", services)
    write_stack(tmp_path, info)
    assert read_stack(tmp_path) == info
    assert stat.S_IMODE((tmp_path / "run/stack.json").stat().st_mode) == 0o600
    (tmp_path / "run/stack.json").write_text('{"services": 3}')
    assert read_stack(tmp_path) is None


def test_redacted() -> None:
    assert redacted("postgresql://u:p@h:1/d?x=y") == "postgresql://u@h:1/d"
