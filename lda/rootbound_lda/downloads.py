"""Where packages come from, as the user's own configuration of npm and pip says, without its keys.

A run has a home of its own, so npm and pip would not find the user's configuration there; and the
user's files hold tokens, so no run can read them. What they say about registries and about how to
reach them is laid into the run's home instead, where it counts exactly as it does for the user:
before a project's own configuration, after the machine's.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .places import home

__all__ = ["has_credentials", "is_download_variable", "lay_configuration", "withheld"]

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
_MAX_BYTES: Final = 256 * 1024


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
    if any(has_credentials(value) for _, _, value in _pip_settings()):
        found.append("pip")
    return " and ".join(found)


def has_credentials(value: str) -> bool:
    """Return whether one of the addresses in a value holds a user or a password."""
    for part in value.split():
        try:
            if "@" in urlsplit(part).netloc:
                return True
        except ValueError:
            return True
    return False


def _npm() -> list[str]:
    lines = []
    for key, value in _npm_settings():
        named = key in _NPM or _SCOPE.fullmatch(key)
        # npm puts variables of its environment in; a token among them would be in a file then.
        if named and "${" not in value and not has_credentials(value.strip("\"'")):
            lines.append(f"{key}={value}")
    return lines


def _npm_settings() -> Iterator[tuple[str, str]]:
    for line in _text(_named("NPM_CONFIG_USERCONFIG", "npm_config_userconfig") or ".npmrc"):
        key, equals, value = line.partition("=")
        if line[:1] not in ("", ";", "#", "["):
            yield key.strip(), value.strip() if equals else "true"


def _pip() -> list[str]:
    lines: list[str] = []
    section = ""
    for within, key, value in _pip_settings():
        values = [part for part in value.split() if not has_credentials(part)]
        if within not in _PIP_SECTIONS or key not in _PIP or not values:
            continue
        if within != section:
            section = within
            lines.append(f"[{section}]")
        lines.append(f"{key} = " + "\n    ".join(values))
    return lines


def _pip_settings() -> Iterator[tuple[str, str, str]]:
    """Yield section, key and value; the file that pip reads last comes last."""
    files = [".pip/pip.conf", ".config/pip/pip.conf"]
    if base := os.environ.get("XDG_CONFIG_HOME"):
        files[1] = f"{base}/pip/pip.conf"
    if own := _named("PIP_CONFIG_FILE"):
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
