"""The vendors' keys: taken from the environment once, else from the keyring, by name."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Final

KEYRING_SERVICE: Final = "rootbound"
REPLAY_KEY: Final = "replay"
"""What a replayed model is sent; a real key never goes to it."""

_NAME = re.compile(r"^[A-Z][A-Z0-9_]{0,63}_API_KEY$")


_handed_out: Final[set[str]] = set()
"""The keys that this process has used: what must be in no sentence of ours."""


class KeyMissing(Exception):  # noqa: N818 - it reads as what it says
    """There is no key of that name; the text says how to set one."""


def without_keys(text: str) -> str:
    """Return a text without the keys that were handed out.

    What a vendor answers, or a proxy before it, may quote the request with its key; so may a
    library that could not send it.
    """
    for key in tuple(_handed_out):  # another thread may be handed one meanwhile
        text = text.replace(key, "[key]")
    return text


class Keys:
    """Holds the keys of this process and forgets where they came from.

    Parameters
    ----------
    environ
        The process's environment. Everything that is named ``*_API_KEY`` is taken out of it,
        so that no child process can inherit it.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        names = [name for name in environ if _NAME.match(name)]
        self._keys = {name: environ.pop(name) for name in names}

    def __repr__(self) -> str:
        return f"Keys({sorted(self._keys)})"

    def source(self, name: str) -> str:
        """Return where a key of this name would come from: environment, keyring or none."""
        if not _NAME.match(name):
            return "none"
        if self._keys.get(name, "").strip():
            return "environment"
        return "keyring" if _from_keyring(name) else "none"

    def resolve(self, provider: str, name: str | None) -> str:
        """Return the key for a profile.

        Parameters
        ----------
        provider
            ``GLM`` or ``GEMINI``; gives the name when ``name`` is not set.
        name
            The profile's ``key_name``.

        Returns
        -------
        str
            The key.

        Raises
        ------
        KeyMissing
            When neither the environment nor the keyring has it, or what they have cannot be sent.
        """
        wanted = name or f"{provider}_API_KEY"
        if not _NAME.match(wanted):
            raise KeyMissing(
                f"{wanted!r} is not the name of a key; use a name such as GLM_API_KEY in the "
                "agent's profile."
            )
        key = self._keys.get(wanted, "").strip() or _from_keyring(wanted)
        if not key:
            raise KeyMissing(
                f"There is no key {wanted}: set the environment variable {wanted} before "
                f"`rootbound up`, or store it with `rootbound keys set {wanted}`."
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise KeyMissing(
                f"The key {wanted} holds a space, a line break or a letter that no key has; copy "
                f"it again and store it with `rootbound keys set {wanted}`."
            )
        _handed_out.add(key)
        return key


def _from_keyring(name: str) -> str:
    """Ask the OS keyring; a machine without one has no key, which is no error."""
    import keyring
    from keyring.errors import KeyringError

    try:
        return (keyring.get_password(KEYRING_SERVICE, name) or "").strip()
    except (KeyringError, OSError, RuntimeError):
        return ""
