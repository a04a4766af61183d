"""Where packages come from, as the user's own configuration of npm and pip says, without its keys.

A run has a home of its own, so npm and pip would not find the user's configuration there; and the
user's files hold tokens, so no run can read them. What they say about registries and about how to
reach them is laid into the run's home instead, where it counts exactly as it does for the user:
before a project's own configuration, after the machine's.

An address stays when its password goes: without the user's own index, the public one would be asked
for packages of the same names.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from .machine_settings import machine_secrets, pip_files
from .places import home

__all__ = [
    "is_download_variable",
    "lay_configuration",
    "pip_configuration",
    "withheld",
    "without_credentials",
]

_NPM: Final = frozenset({
    "registry", "replace-registry-host", "omit-lockfile-registry-resolved", "ca", "ca[]", "cafile",
    "strict-ssl", "proxy", "http-proxy", "https-proxy", "noproxy", "maxsockets", "fetch-retries",
    "fetch-retry-factor", "fetch-retry-mintimeout", "fetch-retry-maxtimeout", "fetch-timeout",
    "prefer-online", "prefer-offline", "nodedir", "ignore-scripts", "legacy-peer-deps",
    "engine-strict", "audit", "fund", "update-notifier",
})  # fmt: skip
"""Settings of npm that runs are given; a scope's registry (``@scope:registry``) is one as well."""

_PIP: Final = frozenset({
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "proxy",
    "timeout", "default-timeout", "retries", "prefer-binary", "only-binary", "no-binary",
    "use-feature", "use-deprecated",
})  # fmt: skip
_UV: Final = frozenset({
    "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS",
    "UV_NO_INDEX", "UV_INDEX_STRATEGY", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
    "UV_HTTP_TIMEOUT", "UV_LINK_MODE", "UV_PRERELEASE", "UV_RESOLUTION",
})  # fmt: skip
_NPM_PREFIX: Final = "npm_config_"
_PIP_SECTIONS: Final = ("global", "install", "download", "wheel")
_SCOPE: Final = re.compile(r"@[\w.~-]+:registry")
_USER: Final = re.compile(r"(?<=//)[^/?#]*@")
_USER_ALONE: Final = re.compile(r"^[^/.@][^/?#]*@")
"""Before a proxy without a scheme, such as ``me:secret@proxy:3128``."""
_MAX_BYTES: Final = 256 * 1024
_QUOTES: Final = "\"'"


def lay_configuration(folder: Path) -> None:
    """Write what the user's configuration says of downloads into a run's home.

    Parameters
    ----------
    folder
        The home; no process of the run may be alive.
    """
    for relative, lines in ((".npmrc", _npm()), (".config/pip/pip.conf", _pip())):
        if lines:
            path = folder / relative
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_download_variable(name: str) -> bool:
    """Return whether a variable of the environment tells pip, uv or npm how to download."""
    if name.startswith("PIP_"):
        return name != "PIP_CONFIG_FILE"
    if name.lower().startswith(_NPM_PREFIX):
        return name[len(_NPM_PREFIX) :].lower().replace("_", "-") in _NPM
    return name in _UV


def withheld() -> str:
    """Return which of npm and pip have credentials that runs are not given, ``""`` for none."""
    found = []
    if any(key.startswith(("//", "_")) for key, _ in _npm_settings()):
        found.append("npm")
    if any(_has_credentials(value) for _, _, value in pip_configuration()):
        found.append("pip")
    return " and ".join(found)


def _has_credentials(value: str) -> bool:
    return without_credentials(value) != " ".join(value.split())


def without_credentials(value: str) -> str:
    """Return a value whose addresses, apart by space, hold neither user nor password."""
    return " ".join(
        _USER.sub("", part) if "//" in part else _USER_ALONE.sub("", part) for part in value.split()
    )


def _npm() -> list[str]:
    lines = []
    for key, value in _npm_settings():
        named = key in _NPM or _SCOPE.fullmatch(key)
        text = without_credentials(value.strip(_QUOTES))
        # npm puts variables of its environment in; a token among them would be in a file then.
        if named and "${" not in text:
            lines.append(f"{key}={text}")
    return lines


def _npm_settings() -> Iterator[tuple[str, str]]:
    own = _named("NPM_CONFIG_USERCONFIG", "npm_config_userconfig") or ".npmrc"
    # What npm can read in a run it reads itself.
    closed = [str(path) for path in machine_secrets() if path.name == "npmrc"]
    for line in [line for file in (*closed, own) for line in _text(file)]:
        key, equals, value = line.partition("=")
        if line[:1] not in ("", ";", "#", "["):
            yield key.strip(), value.strip() if equals else "true"


def _pip() -> list[str]:
    lines: list[str] = []
    section = ""
    for within, key, value in pip_configuration():
        values = without_credentials(value).split()
        if within not in _PIP_SECTIONS or key not in _PIP or not values:
            continue
        if within != section:
            section = within
            lines.append(f"[{section}]")
        lines.append(f"{key} = " + "\n    ".join(values))
    return lines


def pip_configuration(
    environ: Mapping[str, str] = os.environ,
) -> Iterator[tuple[str, str, str]]:
    """Yield section, option and value of the user's files, as pip merges them; with passwords.

    The machine's own file is left to pip, which can read it in a run too, unless it holds a
    password: then it is closed to runs, and counts here. `environ` names other files; default
    this process'.
    """
    closed = {str(path) for path in machine_secrets()}
    files = [file for file in pip_files() if os.path.realpath(file) in closed]
    files += [".pip/pip.conf", ".config/pip/pip.conf"]
    if base := environ.get("XDG_CONFIG_HOME"):
        files[-1] = f"{base}/pip/pip.conf"
    if own := environ.get("PIP_CONFIG_FILE"):
        files = [] if own == os.devnull else [*files, own]
    merged = configparser.RawConfigParser(strict=False)
    for file in files:
        try:
            merged.read_string("\n".join(_text(file, strip=False)))
        except configparser.Error:
            continue  # pip itself says what is wrong with it
    for section in merged.sections():
        for key, value in merged.items(section):
            yield section, key.replace("_", "-"), value


def _named(*variables: str) -> str:
    return next((os.environ[name] for name in variables if os.environ.get(name)), "")


def _text(path: str, *, strip: bool = True) -> Iterable[str]:
    """Return the lines of one of the user's files; relative to the user's home."""
    try:
        with (home() / path).open("rb") as file:
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines] if strip else lines
