"""The addresses of the backend that an LDA connects to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

__all__ = ["BackendAddressError", "Backends"]

_LOCAL: Final = ("127.0.0.1", "localhost", "::1")


class BackendAddressError(Exception):
    """An address cannot be used; the text is one sentence for the user."""


class Backends:
    """The addresses of one backend; the one that answered last is asked first.

    Parameters
    ----------
    urls
        Base URLs, at least one.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = list(urls)

    @property
    def url(self) -> str:
        """The address to try."""
        return self._urls[0]

    def failed(self, url: str) -> None:
        """Go on with the next address after `url` did not answer."""
        if url == self._urls[0]:
            self._urls.append(self._urls.pop(0))

    @classmethod
    def parse(cls, text: str, *, allow_http: bool) -> Backends:
        """Read addresses separated by commas.

        Raises
        ------
        BackendAddressError
            When one is no ``https`` address, or plain ``http`` to another machine without leave.
        """
        urls = [part.strip().rstrip("/") for part in text.split(",") if part.strip()]
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise BackendAddressError(
                    f"{url!r} is no address of a backend; give https://HOST[:PORT]."
                )
            if parts.scheme == "http" and parts.hostname not in _LOCAL and not allow_http:
                raise BackendAddressError(
                    f"{url} is not encrypted, so the machine's token could be read on the way; "
                    "use https, or set ROOTBOUND_LDA_ALLOW_HTTP=1 in a network that you trust."
                )
        if not urls:
            raise BackendAddressError("ROOTBOUND_LDA_CONNECT is empty; give the backend's address.")
        return cls(urls)
