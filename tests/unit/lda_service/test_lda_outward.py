"""What an LDA needs to connect outwards, and the sentence for each thing that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rootbound_lda.backends import BackendAddressError, Backends
from rootbound_lda.config import ConfigError
from rootbound_lda.outward import MachineToken
from tests.support.environment import clean_env

KEY = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # of RFC 8032, section 7.1


def test_the_backend_that_answered_last_is_asked_first():
    backends = Backends.parse("https://a.example/, https://b.example", allow_http=False)
    assert backends.url == "https://a.example"
    backends.failed("https://b.example")
    assert backends.url == "https://a.example"
    backends.failed("https://a.example")
    assert backends.url == "https://b.example"


@pytest.mark.parametrize("text", ["http://a.example", "https://a.example,http://10.0.0.1:8000"])
def test_a_token_is_not_sent_in_the_clear(text):
    with pytest.raises(BackendAddressError, match=r"is not encrypted.*use https, or set"):
        Backends.parse(text, allow_http=False)
    assert Backends.parse(text, allow_http=True)
    assert Backends.parse("http://127.0.0.1:8000", allow_http=False)


@pytest.mark.parametrize("text", ["ftp://a.example", "a.example", "https://"])
def test_what_is_no_address(text):
    with pytest.raises(BackendAddressError, match="is no address of a backend; give https"):
        Backends.parse(text, allow_http=True)


@pytest.mark.parametrize("text", ["", "rbm.x.y", f"abc.x.y.{KEY}", "rbm.x.y.short", "rbm.x.y.ä"])
def test_a_damaged_token(text):
    with pytest.raises(ConfigError, match="token is damaged; make one with `rootbound machine"):
        MachineToken.parse(text)


def test_a_token_carries_the_key_that_requests_are_checked_with():
    assert b"BEGIN PUBLIC KEY" in MachineToken.parse(f"rbm.x.y.{KEY}").pem()


def test_without_a_token_the_process_says_so_and_two_do_not_share_a_folder(home):
    def started() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rootbound_lda"],
            env=clean_env(home, ROOTBOUND_LDA_CONNECT="https://rootbound.example"),
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    missing = started()
    assert missing.returncode == 2
    assert "machine.token cannot be read; make one with `rootbound machine add`" in missing.stderr

    import fcntl

    (home / "secrets").mkdir(mode=0o700, exist_ok=True)
    (home / "secrets/machine.token").write_text(f"rbm.x.y.{KEY}")
    lock = os.open(home / "run/lda.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    taken = started()
    os.close(lock)
    assert taken.returncode == 2
    assert taken.stderr.startswith("rootbound-lda: Another local desktop agent works with")
