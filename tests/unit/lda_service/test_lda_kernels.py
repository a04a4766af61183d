"""Confined kernels in the LDA: when they are refused, and what their policy holds."""

from __future__ import annotations

import configparser
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootbound_lda.config import load
from rootbound_lda.kernel_pip import (
    pip_environment,
    pip_places,
    pip_settings,
    write_pip_settings,
)
from rootbound_lda.kernel_policy import build_kernel_policy, folder_to_start_in
from rootbound_lda.kernel_startup import explain
from rootbound_lda.kernels import KernelHost, KernelRequest
from rootbound_lda.keys import Keys
from rootbound_lda.outbox import Outbox
from rootbound_lda.pins import GRANTED
from rootbound_lda.runs import RunRefused
from rootbound_lda.sandbox import SandboxFacts
from rootbound_lda.services import Services
from rootbound_lda.wire import Ingest


@pytest.fixture
def services(home: Path) -> Iterator[Services]:
    config = load({"ROOTBOUND_HOME": str(home)})
    made = Services(config, Outbox(config.outbox), Keys({}))
    made.ready.set()
    yield made
    made.outbox.close()


def request(**fields: Any) -> KernelRequest:
    return KernelRequest(
        session_id=str(uuid.uuid4()), kernel_id=str(uuid.uuid4()), argv=[sys.executable],
        writable_roots=[], ingest=Ingest("http://127.0.0.1:9", "t"), api_token="t", **fields,
    )  # fmt: skip


@pytest.mark.asyncio
async def test_a_machine_that_enforces_too_little_is_refused_unless_told(
    services: Services,
) -> None:
    host = KernelHost(services)
    services.facts = SandboxFacts("C", {}, ["Landlock is missing."])
    with pytest.raises(RunRefused, match=r"tier C only. Landlock is missing.*--accept-tier C"):
        await host.submit(request())
    host._check_tier(request(accept_tier="C"))
    services.facts = SandboxFacts("F", {}, ["Nothing works."])
    for accepted in (None, "C", "F"):
        with pytest.raises(RunRefused, match="use another kernel"):
            await host.submit(request(accept_tier=accepted))
    assert not list((services.config.home / "run" / "k").glob("*")), "nothing was made"


@pytest.mark.asyncio
async def test_a_state_folder_with_too_long_a_path_is_told(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.facts = SandboxFacts("A", {}, [])
    host = KernelHost(services)
    monkeypatch.setattr(host, "_sockets", services.config.home / ("x" * 100))
    with pytest.raises(RunRefused, match="too long a path"):
        await host.submit(request())


def test_what_a_kernel_could_have_written_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path.resolve()
    for part in ("home/.ssh", "state/run/k/1", "root", "beside", "editable", "far/bin"):
        (base / part).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(base / "home"))
    GRANTED.grant(base / "root")
    for place, added in (("root/venv", "beside"), ("venv", "editable")):
        packages = base / place / "lib/python3.11/site-packages"
        packages.mkdir(parents=True)
        (base / place / "bin").mkdir()
        (packages / "_editable.pth").write_text(f"import x\n{base / added}\n")
        (base / place / "bin/python").symlink_to(base / "far/bin/python")
    policy = build_kernel_policy(
        session_id="s", private_dir=base / "state/kernels/1", sockets=base / "state/run/k/1",
        state_dir=base / "state", writable_roots=[str(base / "root")],
        readable_paths=[str(base / "home"), str(base / "state"), str(base / "home/.ssh")],
        programs=[str(base / "root/venv/bin/python"), str(base / "venv/bin/python")],
        shared=None, network=False, loopback=False, terminals=False, limits={},
    )  # fmt: skip
    assert base / "venv" in policy.readable and base / "editable" in policy.readable
    assert base / "beside" not in policy.readable
    for closed in ("home", "home/.ssh", "state", "root/venv"):
        assert base / closed not in policy.readable, closed
    assert policy.writable == (base / "root",)
    assert folder_to_start_in(str(base / "root/venv"), policy) == base / "root/venv"
    assert folder_to_start_in(str(base / "beside"), policy) == policy.private_home


def test_pip_is_set_as_the_machine_is_but_knows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    certificates = tmp_path / "corporate.pem"
    certificates.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    own = (
        f"index_url = https://ada:s3cret@index.invalid/simple\ncert = {certificates}\n"
        f"target = /srv/elsewhere\nfind-links =\n  {tmp_path}\n  https://t0ken@wheels.invalid/"
    )
    older = "index-url = https://old.invalid/simple\nretries = 7"
    for place, text in ((".pip", older), (".config/pip", own)):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "pip.conf").write_text(f"[global]\n{text}\n")
    environ = {
        "PIP_EXTRA_INDEX_URL": "https://other.invalid/a https://u:s3cret@other.invalid/b",
        "PIP_CLIENT_CERT": "/srv/key.pem",
        "PIP_PROXY": "http://p:s3cret@proxy.invalid",
    }
    settings = pip_settings(environ)
    assert pip_places(settings) == [str(tmp_path)]
    for network in (True, False):
        folder = tmp_path / f"kernel-{network}"
        folder.mkdir()
        withheld = write_pip_settings(folder, settings, network=network)
        written = configparser.RawConfigParser()
        written.read(folder / "pip.conf")
        known = dict(written["global"])
        text = "".join(path.read_text() for path in folder.iterdir())
        assert not any(secret in text for secret in ("s3cret", "t0ken", "ada", "target", "key.pem"))
        assert Path(known["cert"]).read_bytes() == certificates.read_bytes()
        assert Path(known["cert"]).parent == folder
        assert known["retries"] == "7"
        note = pip_environment(folder, withheld, network=network)["ROOTBOUND_PIP_NOTE"]
        if network:
            assert known["index-url"] == "https://index.invalid/simple"
            assert known["find-links"].split() == [str(tmp_path), "https://wheels.invalid/"]
            assert known["extra-index-url"].split()[1] == "https://other.invalid/b"
            assert "password for index.invalid, other.invalid, proxy.invalid, wheels" in note
        else:
            assert (known["no-index"], known["find-links"]) == ("true", str(tmp_path))
            assert not {"index-url", "extra-index-url", "proxy"} & known.keys()
            assert "no network" in note
    assert pip_settings({"PIP_CONFIG_FILE": os.devnull}) == {}


def test_a_refusal_is_explained_only_where_a_root_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    outside = str(tmp_path / "new" / "deep" / "file")
    said = explain(PermissionError(13, "Permission denied", outside), [str(root)])
    assert said is not None
    assert f"{tmp_path} is in no root" in said and f"roots add {tmp_path}`" in said
    assert str(root) in said
    moved = OSError(13, "x", str(root / "a"), None, outside)
    assert "in no root" in (explain(moved, [str(root)]) or "")
    assert "no folder at all" in (explain(PermissionError(1, "x", outside.encode()), []) or "")
    for other in (
        PermissionError(13, "x", str(root / ".git/config")),
        PermissionError(13, "x"),
        PermissionError("no such thing"),
        FileNotFoundError(2, "x", outside),
        PermissionError(13, "x", 7),
    ):
        assert explain(other, [str(root)]) is None
