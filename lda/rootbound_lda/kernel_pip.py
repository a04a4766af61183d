"""pip in a confined kernel: what this machine's pip is set to, as far as the kernel may know it.

The files that hold a user's settings are secrets, because an index may be named with its password.
A kernel gets a file of its own instead, with the settings that say where packages come from, and
no password in any address.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .downloads import pip_configuration, without_credentials

__all__ = ["pip_environment", "pip_places", "pip_settings", "write_pip_settings"]

_FILE: Final = "pip.conf"
_CERTIFICATES: Final = "pip-certificates.pem"
_MOST_CERTIFICATES: Final = 8 << 20

_REMOTE: Final = ("index-url", "extra-index-url", "proxy")
_TAKEN: Final = (
    *_REMOTE, "find-links", "constraint", "no-index", "trusted-host", "cert", "timeout",
    "default-timeout", "retries", "pre", "prefer-binary", "only-binary", "no-binary",
)  # fmt: skip
"""Where packages come from and which are taken; not what pip does to this machine."""

_OFFLINE: Final = (
    "This kernel has no network, so pip looks at local files only: install a wheel, such as `%pip "
    "install ./package.whl`, or use a kernel with the network, which `rootbound kernels install "
    "--network` in a terminal adds to the launcher and `rootbound batch run --network` starts."
)
_WITHHELD: Final = (
    "pip's settings hold a password for {}, which this kernel is not given: install what needs it "
    "in a terminal, or from a wheel."
)


def pip_settings(environ: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """Return what this machine's pip is set to, by option; passwords included.

    Parameters
    ----------
    environ
        Default this process'. Its ``PIP_*`` come before what the files say.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, list[str]] = {}
    told = list(pip_configuration(environ))
    for section in ("global", "install"):
        found |= {name: value.split() for within, name, value in told if within == section}
    for name, value in environ.items():
        if name.startswith("PIP_"):
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value.split()
    return {name: found[name] for name in _TAKEN if found.get(name)}


def pip_places(settings: Mapping[str, list[str]]) -> list[str]:
    """Return the folders and files of this machine that pip is to look into."""
    names = ("index-url", "extra-index-url", "find-links", "constraint")
    found = (value.removeprefix("file://") for name in names for value in settings.get(name, ()))
    return [value for value in found if value.startswith("/")]


def write_pip_settings(
    folder: Path, settings: Mapping[str, list[str]], *, network: bool
) -> list[str]:
    """Write pip's file for a kernel into a folder that the kernel can only read.

    Parameters
    ----------
    folder
        Where.
    settings
        From `pip_settings`.
    network
        Whether the kernel may reach the network; without, local files are all there is.

    Returns
    -------
    list of str
        The hosts whose passwords were left out.
    """
    withheld: list[str] = []
    kept = dict(settings)
    for name in (*_REMOTE, "find-links"):
        addresses = kept.pop(name, [])
        if not network:
            local = [one for one in addresses if "://" not in one or one.startswith("file:///")]
            addresses = local if name == "find-links" else []
        kept[name] = [without_credentials(one) for one in addresses]
        told = zip(addresses, kept[name], strict=True)
        withheld += [_host(bare) for address, bare in told if address != bare]
    if "cert" in kept:
        kept["cert"] = _copied(" ".join(kept["cert"]), folder)
    if not network:
        kept["no-index"] = ["true"]
    lines = [f"{name} = " + "\n    ".join(values) for name, values in kept.items() if values]
    (folder / _FILE).write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    return list(dict.fromkeys(withheld))


def pip_environment(folder: Path, withheld: Iterable[str], *, network: bool) -> dict[str, str]:
    """Return the variables that lead pip to the kernel's file, and what to say when it fails."""
    hosts = ", ".join(withheld)
    note = _WITHHELD.format(hosts) if hosts else ""
    return {
        "PIP_CONFIG_FILE": str(folder / _FILE),
        "ROOTBOUND_PIP_NOTE": note if network else _OFFLINE,
    }


def _host(address: str) -> str:
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or "?"
    except ValueError:
        return "?"  # no address that pip could use


def _copied(path: str, folder: Path) -> list[str]:
    """Return the certificates as the kernel can read them, wherever the user keeps them."""
    with suppress(OSError):
        data = Path(path).read_bytes()[:_MOST_CERTIFICATES]
        if b"-BEGIN CERTIFICATE-" in data and b"PRIVATE KEY-" not in data:
            (folder / _CERTIFICATES).write_bytes(data)
            return [str(folder / _CERTIFICATES)]
    return []
