"""The command line, without services."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest

from rootbound import cli
from rootbound_server_ext.stack import api, doctor, secrets
from tests.support.environment import interruptible


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROOTBOUND_HOME", str(tmp_path))
    return tmp_path


def test_status_of_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 3
    assert "not running" in capsys.readouterr().out
    assert cli.main(["status", "--json"]) == 3
    facts = json.loads(capsys.readouterr().out)
    assert facts["running"] is False
    assert facts["disk"]["parts"] == {}


def test_down_of_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down"]) == 0
    assert capsys.readouterr().out == "Rootbound was not running.\n"


def test_token(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token"]) == 1
    assert "run `rootbound up`" in capsys.readouterr().err
    secrets.ensure_secrets(home)
    assert cli.main(["token", "--ttl", "2h"]) == 0
    key = secrets.read_secret(home, secrets.DJANGO_KEY)
    text = capsys.readouterr().out.strip()
    claims = jwt.decode(text, key, algorithms=["HS256"], audience="rootbound-api")
    assert claims["exp"] - time.time() == pytest.approx(7200, abs=30)


@pytest.mark.parametrize("text", ["0", "abc", "5w", "-3", ""])
def test_a_wrong_ttl_is_refused(home: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["token", f"--ttl={text}"])
    assert caught.value.code == 2
    assert "is no time such as" in capsys.readouterr().err


def test_logs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", "lda"]) == 1
    assert "There is no log" in capsys.readouterr().err
    (home / "logs").mkdir()
    (home / "logs/lda.log").write_text("".join(f"line {n}\n" for n in range(30_000)))
    assert cli.main(["logs", "lda", "-n", "3"]) == 0
    assert capsys.readouterr().out == "line 29997\nline 29998\nline 29999\n"
    assert cli.main(["logs", "lda", "-n", "20000"]) == 0
    assert capsys.readouterr().out.count("\n") == 20_000


@pytest.mark.timeout(30)
def test_logs_follow_a_log_that_grows_and_is_rotated(home: Path) -> None:
    (home / "logs").mkdir()
    log = home / "logs/lda.log"
    log.write_text("old\n")
    argv = [sys.executable, "-m", "rootbound.cli", "logs", "lda", "-f"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, preexec_fn=interruptible
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "old\n"
        with log.open("a") as file:
            file.write("grown\n")
        assert process.stdout.readline() == "grown\n"
        log.rename(home / "logs/lda.log.1")
        log.write_text("new file\n")
        assert process.stdout.readline() == "new file\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_groups_of_commands_from_other_modules(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more_commands.py").write_text(
        "def add_parser(subparsers):\n"
        "    subparsers.add_parser('hello').set_defaults(run=lambda options: print('hi') or 0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "_GROUPS", ("rootbound.cli", "more_commands", "rootbound.not_there"))
    assert cli.main(["hello"]) == 0
    assert capsys.readouterr().out == "hi\n"


def test_without_the_server_part(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rootbound_server_ext.stack.api", None)
    assert cli.main(["up"]) == 1
    assert 'pip install "rootbound[server]"' in capsys.readouterr().err


def test_doctor_never_prints_a_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLM_API_KEY", "topsecret-value")
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    cli.main(["doctor", "--json"])
    text = capsys.readouterr().out
    assert "topsecret-value" not in text
    checks = {check["name"]: check for check in json.loads(text)}
    assert checks["GLM_API_KEY"]["state"] == "ok"
    assert checks["GEMINI_API_KEY"]["state"] == "warn"
    assert checks["GEMINI_API_KEY"]["fix"]
    assert checks["Python"]["state"] == "ok"
    assert all(check["fix"] for check in checks.values() if check["state"] != "ok")


def test_doctor_finds_loose_modes_and_a_missing_identity(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = secrets.ensure_secrets(home)
    (folder / "django.key").chmod(0o644)
    home.chmod(0o750)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir(home)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    checks = {check.name: check for check in doctor.examine(home)}
    assert checks["state folder"].state == "warn"
    assert checks["secrets"].state == "fail"
    assert "django.key" in checks["secrets"].detail
    assert checks["git identity"].state == "fail"
    assert "git config --global user.name" in checks["git identity"].fix


def test_too_little_disk_is_one_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "MINIMUM_FREE_BYTES", 1 << 60)
    assert cli.main(["up"]) == 1
    error = capsys.readouterr().err
    assert "MiB are free on the disk" in error
    assert error.count("\n") == 1


def test_a_state_folder_that_is_a_file_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROOTBOUND_HOME", str(tmp_path / "file"))
    assert cli.main(["up"]) == 1
    error = capsys.readouterr().err
    assert "The state folder cannot be used" in error
    assert error.count("\n") == 1
    monkeypatch.setenv("ROOTBOUND_HOME", str(tmp_path / "file" / "below"))
    assert cli.main(["up"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
