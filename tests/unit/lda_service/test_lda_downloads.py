"""What runs are given of the user's configuration of npm and pip: where packages are, no keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootbound_lda.downloads import (
    is_download_variable,
    lay_configuration,
    withheld,
    without_credentials,
)

NPMRC = """\
; mine
registry=https://registry.example.org/
@team:registry = https://team.example.org/npm/
//team.example.org/npm/:_authToken=npm_s3cret
_auth = czNjcmV0
strict-ssl
proxy="http://me:s3cret@proxy.example.org:3128"
@other:registry=https://x.example.org/${S3CRET}/
cafile=/etc/ssl/corp.pem
prefix=/home/me/.local
email=me@example.org
"""
PIP = """\
[global]
index-url = https://pypi.example.org/simple
extra_index_url =
    https://me:s3cret@private.example.org/simple
    https://open.example.org/simple
cert = /etc/ssl/corp.pem
user = true
[install]
find-links = /srv/wheels
[list]
format = json
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home folder of a user, with nothing set in the environment."""
    for name in list(os.environ):
        if is_download_variable(name) or name in ("PIP_CONFIG_FILE", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def test_where_packages_are_is_laid_into_the_home_and_no_key(user: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lay_configuration(run)
    assert list(run.iterdir()) == [], "who has no configuration gets none"
    assert withheld() == ""

    (user / ".npmrc").write_text(NPMRC)
    (user / ".config/pip").mkdir(parents=True)
    (user / ".config/pip/pip.conf").write_text(PIP)
    lay_configuration(run)
    assert (run / ".npmrc").read_text().splitlines() == [
        "registry=https://registry.example.org/",
        "@team:registry=https://team.example.org/npm/",
        "strict-ssl=true",
        "proxy=http://proxy.example.org:3128",
        "cafile=/etc/ssl/corp.pem",
    ]
    assert (run / ".config/pip/pip.conf").read_text().splitlines() == [
        "[global]",
        "index-url = https://pypi.example.org/simple",
        "extra-index-url = https://private.example.org/simple",
        "    https://open.example.org/simple",
        "cert = /etc/ssl/corp.pem",
        "[install]",
        "find-links = /srv/wheels",
    ]
    assert withheld() == "npm and pip"


def test_files_that_the_environment_names_and_broken_ones(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (user / ".pip").mkdir()
    (user / ".pip/pip.conf").write_text("no section = here\n")
    (user / ".npmrc").write_bytes(b"\xff\xfe\0registry\n")
    run = tmp_path / "run"
    run.mkdir()
    lay_configuration(run)
    assert list(run.iterdir()) == []

    (user / "npm").write_text("registry=https://named.example.org/\n")
    (user / "pip").write_text("[global]\nretries = 2\n")
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(user / "npm"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(user / "pip"))
    lay_configuration(run)
    assert (run / ".npmrc").read_text() == "registry=https://named.example.org/\n"
    assert (run / ".config/pip/pip.conf").read_text() == "[global]\nretries = 2\n"


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("PIP_INDEX_URL", True), ("PIP_CONFIG_FILE", False), ("UV_DEFAULT_INDEX", True),
        ("UV_PUBLISH_TOKEN", False), ("UV_INDEX_CORP_PASSWORD", False),
        ("npm_config_registry", True), ("NPM_CONFIG_STRICT_SSL", True),
        ("npm_config__authtoken", False), ("NPM_CONFIG__AUTH", False), ("npm_config_prefix", False),
        ("GLM_API_KEY", False), ("NPM_TOKEN", False),
    ],
)  # fmt: skip
def test_variables_are_passed_on_by_name(name: str, passed: bool) -> None:
    assert is_download_variable(name) is passed


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("https://me:s3cret@x.example.org/simple", "https://x.example.org/simple"),
        ("https://t0ken@x.example.org/@team/a@1", "https://x.example.org/@team/a@1"),
        ("corp=https://me:s3c@ret@x.example.org/a b=//u@y/", "corp=https://x.example.org/a b=//y/"),
        ("me:s3cret@proxy.example.org:3128", "proxy.example.org:3128"),
        ("/srv/wheels@2 ./here@3", "/srv/wheels@2 ./here@3"),
        ("3", "3"),
    ],
)
def test_an_address_stays_when_its_password_goes(value: str, kept: str) -> None:
    assert without_credentials(value) == kept
