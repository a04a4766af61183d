"""Secrets: modes, formats, creation by several at once, tokens."""

from __future__ import annotations

import re
import stat
import threading
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from rootbound_server_ext.stack import secrets
from rootbound_server_ext.stack.errors import StackError

NAMES = {
    "django.key",
    "identity.key",
    "postgres.password",
    "lda_signing.pem",
    "lda_verify.pem",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_are_made_private(tmp_path: Path) -> None:
    folder = secrets.ensure_secrets(tmp_path / "home")
    assert {path.name for path in folder.iterdir()} == NAMES
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("django.key", "identity.key"):
        assert re.fullmatch(r"[0-9a-f]{64}", (folder / name).read_text())


def test_the_verify_key_checks_what_the_signing_key_signed(tmp_path: Path) -> None:
    folder = secrets.ensure_secrets(tmp_path)
    signing = (folder / "lda_signing.pem").read_bytes()
    verify = (folder / "lda_verify.pem").read_bytes()
    token = jwt.encode({"sub": "x"}, signing.decode(), algorithm="EdDSA")
    assert jwt.decode(token, verify.decode(), algorithms=["EdDSA"]) == {"sub": "x"}
    with pytest.raises(ValueError, match=r".+"):
        serialization.load_pem_private_key(verify, password=None)


def test_a_second_call_keeps_everything(tmp_path: Path) -> None:
    folder = secrets.ensure_secrets(tmp_path)
    before = contents(folder)
    secrets.ensure_secrets(tmp_path)
    assert contents(folder) == before


def test_loose_modes_are_tightened(tmp_path: Path) -> None:
    folder = secrets.ensure_secrets(tmp_path)
    (folder / "django.key").chmod(0o644)
    folder.chmod(0o755)
    secrets.ensure_secrets(tmp_path)
    assert stat.S_IMODE((folder / "django.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_many_at_once_agree(tmp_path: Path) -> None:
    seen: list[dict[str, bytes]] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        folder = secrets.ensure_secrets(tmp_path)
        names = ("django.key", "identity.key", "postgres.password", "lda_signing.pem")
        seen.append({name: (folder / name).read_bytes() for name in names})

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize("name", ["django.key", "lda_signing.pem"])
def test_an_empty_secret_is_refused(tmp_path: Path, name: str) -> None:
    folder = secrets.ensure_secrets(tmp_path)
    (folder / name).write_bytes(b"")
    with pytest.raises(StackError, match="is empty; remove it"):
        secrets.ensure_secrets(tmp_path)


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    folder = secrets.ensure_secrets(tmp_path)
    (folder / "lda_signing.pem").write_text("nonsense")
    with pytest.raises(StackError, match="is damaged; remove it"):
        secrets.ensure_secrets(tmp_path)


def test_a_link_in_the_place_of_a_secret_is_refused(tmp_path: Path) -> None:
    folder = secrets.ensure_secrets(tmp_path / "home")
    (folder / "django.key").unlink()
    (tmp_path / "elsewhere").write_text("x")
    (folder / "django.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StackError, match="not a regular file"):
        secrets.ensure_secrets(tmp_path / "home")


def test_headless_token(tmp_path: Path) -> None:
    folder = secrets.ensure_secrets(tmp_path)
    path = secrets.write_headless_token(tmp_path, ttl_s=600)
    assert path == folder / "headless.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = (folder / "django.key").read_text()
    claims = jwt.decode(
        path.read_text(), key, algorithms=["HS256"], audience="rootbound-api", issuer="rootbound"
    )
    assert claims["sub"] == secrets.local_owner()
    assert claims["scope"] == "api"
    assert claims["exp"] - claims["iat"] == 600


def test_a_token_without_life_is_refused(tmp_path: Path) -> None:
    secrets.ensure_secrets(tmp_path)
    with pytest.raises(StackError, match="at least one second"):
        secrets.issue_api_token(tmp_path, ttl_s=0)


def test_reading_before_making_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="run `rootbound up`"):
        secrets.read_secret(tmp_path, secrets.DJANGO_KEY)
