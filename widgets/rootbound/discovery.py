"""Where is the server? `find_endpoint` answers, or says everything that was tried."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import httpx

from . import paths
from ._version import __version__
from .errors import AuthenticationError, DiscoveryError

_PROBE_TIMEOUT_S = 5.0
_WAY_OUT = (
    "Start Rootbound with `rootbound up`, or name a server: ROOTBOUND_URL and ROOTBOUND_TOKEN, or "
    "url= and token= in Python."
)

Kind = Literal["jupyter", "headless"]


class Misfit(str):
    """Why a server's version does not fit this SDK; the way out is in it."""

    __slots__ = ()


@dataclass
class Endpoint:
    """A server's address and the token for it.

    Parameters
    ----------
    url : str
        What ``/api/...`` is appended to; no slash at the end.
    token : str or None
        The secret; it is never shown in a repr.
    kind : {"jupyter", "headless"}
        Decides the form of the Authorization header.
    source : str
        How it was found, for people.
    reload : callable or None, default None
        Reads address and token again, for the headless stack, whose token is renewed in place.
    socket : str or None, default None
        Unix socket to reach it by, in a confined kernel.
    """

    url: str
    token: str | None = field(repr=False)
    kind: Kind
    source: str
    reload: Callable[[], tuple[str, str] | None] | None = field(default=None, repr=False)
    socket: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header; empty without a token."""
        if not self.token:
            return {}
        scheme = "token" if self.kind == "jupyter" else "Bearer"
        return {"Authorization": f"{scheme} {self.token}"}

    @property
    def ws_url(self) -> str:
        """The same address for WebSockets."""
        return "ws" + self.url.removeprefix("http")

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine, so that no proxy may be in between."""
        return self.socket is not None or is_loopback(self.url)

    def refresh(self) -> bool:
        """Read address and token again.

        Returns
        -------
        bool
            True when one of them changed, so that trying again makes sense.
        """
        found = self.reload() if self.reload else None
        if found is None or found == (self.url, self.token):
            return False
        self.url, self.token = found
        return True


def is_loopback(url: str) -> bool:
    """Return whether a URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _tls(encrypted: bool) -> ssl.SSLContext:
    """Return the one TLS context; reading the certificates costs more than a request."""
    return httpx.create_ssl_context() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_options(url: str, timeout: float) -> dict[str, Any]:
    """Return the options of an httpx client for an address.

    Parameters
    ----------
    url : str
        The server's address.
    timeout : float
        Seconds for connecting, and between two bytes of an answer.

    Returns
    -------
    dict
        Keyword arguments of `httpx.Client` and `httpx.AsyncClient`.
    """
    return {
        "timeout": timeout,
        "verify": _tls(not url.startswith("http:")),
        # Proxies and .netrc of the environment have no business between us and this machine.
        "trust_env": not is_loopback(url),
        "headers": {"User-Agent": f"rootbound/{__version__}"},
    }


def find_endpoint(
    url: str | None = None, token: str | None = None, *, home: str | Path | None = None
) -> Endpoint:
    """Find the server: arguments, environment, JupyterHub, Jupyter servers, headless stack.

    Parameters
    ----------
    url : str or None, default None
        A Jupyter server (with or without ``/rootbound``) or a headless stack.
    token : str or None, default None
        The token for `url`.
    home : str or Path or None, default None
        The state folder of a headless stack; given, only that stack is considered.

    Returns
    -------
    Endpoint
        A server that answered.

    Raises
    ------
    DiscoveryError
        If none answers, or several Jupyter servers do and none is the obvious one.
    AuthenticationError
        If the server named by arguments or environment refuses the token.
    """
    env = os.environ
    if env.get("ROOTBOUND_SOCKET") and not url:
        # In a confined kernel there is one way out, whichever state folder is asked for.
        return _confined(Path(env["ROOTBOUND_SOCKET"]))
    if url:
        return _named(url, token or env.get("ROOTBOUND_TOKEN"), "the url argument")
    if token:
        raise DiscoveryError("A token was given without a url; pass both, or neither.")
    tried: list[str] = []
    if home is not None:
        return _headless(Path(home), tried) or _give_up(tried)
    if env.get("ROOTBOUND_URL"):
        return _named(env["ROOTBOUND_URL"], env.get("ROOTBOUND_TOKEN"), "ROOTBOUND_URL")
    tried.append("ROOTBOUND_URL is not set")
    return (
        _jupyterhub(env, tried)
        or _jupyter_server(tried)
        or _headless(paths.state_dir(), tried)
        or _give_up(tried)
    )


def _confined(socket: Path) -> Endpoint:
    """Return the backend as a confined kernel reaches it."""
    source = "the confined kernel's own socket"
    try:
        token = socket.with_name("token").read_text(encoding="ascii").strip()
    except OSError as error:
        raise DiscoveryError(f"{source.capitalize()} is gone; restart the kernel.") from error
    endpoint = Endpoint("http://rootbound", token, "headless", source, socket=str(socket))
    answer = probe(endpoint.url, endpoint.headers, "/api/me/", socket=endpoint.socket)
    if answer != 200:
        raise DiscoveryError(f"Rootbound does not answer at {source}: {_reason(answer)}.")
    return endpoint


def _give_up(tried: list[str]) -> Endpoint:
    raise DiscoveryError(f"No Rootbound server was found: {'; '.join(tried)}. {_WAY_OUT}")


def version_refusal(server: str, client: str = __version__) -> Misfit | None:
    """Return why a server's version does not fit this SDK, None when it does.

    The rule: the major version must be the same, and as long as it is 0 the minor one as well.
    Within that, either side may be newer: the SDK ignores fields it does not know, and the server
    keeps those that it had.

    Parameters
    ----------
    server : str
        The server's version; "" (a server that does not say) fits.
    client : str
        The SDK's version.

    Returns
    -------
    Misfit or None
        One clause with the way out.
    """
    theirs, ours = _series(server), _series(client)
    if not server or theirs == ours:
        return None
    return Misfit(
        f"it runs Rootbound {server} and this SDK is {client}, which speaks with {ours}.* only; "
        f"run `pip install 'rootbound=={theirs}.*'` here, or bring the server to {ours}.*"
    )


def _series(version: str) -> str:
    parts = version.split(".")
    return ".".join(parts[:2]) if parts[0] == "0" else parts[0]


def probe(
    url: str, headers: Mapping[str, str], path: str, *, socket: str | None = None
) -> int | str:
    """Ask an address for a JSON page.

    Returns
    -------
    int or str
        The HTTP status (0 for a 200 that is not JSON), or the reason why there was none or why
        the server's version does not fit.
    """
    try:
        transport = httpx.HTTPTransport(uds=socket) if socket else None
        with httpx.Client(**http_options(url, _PROBE_TIMEOUT_S), transport=transport) as client:
            answer = client.get(f"{url}{path}", headers={"Accept": "application/json", **headers})
    except httpx.TimeoutException:
        return f"it did not answer within {_PROBE_TIMEOUT_S:.0f} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    if answer.status_code == 200 and "json" not in answer.headers.get("Content-Type", ""):
        return 0
    if answer.status_code == 200:
        return version_refusal(_version_of(answer)) or 200
    return answer.status_code


def _version_of(answer: httpx.Response) -> str:
    try:
        said: Any = answer.json()
    except ValueError:
        return ""
    return str(said.get("version") or "") if isinstance(said, dict) else ""


def _clean(url: str) -> str:
    """Return a URL without query, fragment and closing slash."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DiscoveryError(f"{url!r} is not an http:// or https:// address.")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _named(url: str, token: str | None, source: str) -> Endpoint:
    """Return the endpoint for an address the user named; find out which kind it is."""
    clean = _clean(url)
    candidates = [Endpoint(f"{clean}/rootbound", token, "jupyter", source)]
    if clean.endswith("/rootbound"):
        candidates = [Endpoint(clean, token, "jupyter", source)]
    elif (answer := probe(clean, {}, "/api/health/")) == 200 or isinstance(answer, Misfit):
        # Only the backend itself has this page at the root, and it needs no token.
        candidates = [Endpoint(clean, token, "headless", source)]
    elif isinstance(answer, str):
        raise DiscoveryError(f"Nothing answers at {clean} (from {source}): {answer}. {_WAY_OUT}")
    endpoint = candidates[0]
    answer = probe(endpoint.url, endpoint.headers, "/api/me/")
    if answer == 200:
        return endpoint
    if answer in (401, 403):
        shown = "`rootbound token` prints a new one"
        if endpoint.kind == "jupyter":
            shown = "`jupyter server list` shows the one it takes"
        how = (
            f"refused the token; it may have expired, and {shown}"
            if token
            else "needs a token; pass token= or set ROOTBOUND_TOKEN"
        )
        raise AuthenticationError(
            f"The server at {endpoint.url} (from {source}) {how}.", status=401
        )
    if isinstance(answer, int) and (answer >= 500 or answer == 429):
        raise DiscoveryError(
            f"The server at {endpoint.url} (from {source}) is not ready (HTTP status {answer}); "
            "`rootbound status` shows which service is missing."
        )
    reason = answer if isinstance(answer, str) else "there is no Rootbound at this address"
    way_out = "" if isinstance(answer, Misfit) else f" {_WAY_OUT}"
    raise DiscoveryError(f"{endpoint.url} (from {source}) cannot be used: {reason}.{way_out}")


def _jupyterhub(env: Mapping[str, str], tried: list[str]) -> Endpoint | None:
    """Return the single-user server this process belongs to, under JupyterHub."""
    prefix, token = env.get("JUPYTERHUB_SERVICE_PREFIX"), env.get("JUPYTERHUB_API_TOKEN")
    if not (prefix and token):
        tried.append("no JupyterHub variables")
        return None
    for origin in _hub_origins(env):
        url = f"{origin}/{prefix.strip('/')}/rootbound"
        endpoint = Endpoint(url, token, "jupyter", "JupyterHub")
        answer = probe(url, endpoint.headers, "/api/me/")
        if answer == 200:
            return endpoint
        tried.append(f"JupyterHub server {url}: {_reason(answer)}")
    return None


def _hub_origins(env: Mapping[str, str]) -> Iterator[str]:
    """Yield where the single-user server may listen: beside us first, then the public address."""
    for name in ("JUPYTERHUB_SERVICE_URL", "JUPYTERHUB_PUBLIC_URL"):
        parts = urlsplit(env.get(name, ""))
        if parts.scheme in ("http", "https"):
            # The service URL is what the server binds to: "every address" is not one to call.
            host = parts.hostname or "0.0.0.0"  # noqa: S104
            if host in ("0.0.0.0", "::", "*"):  # noqa: S104
                host = "127.0.0.1"
            host = f"[{host}]" if ":" in host else host
            yield f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _reason(answer: int | str) -> str:
    if isinstance(answer, str):
        return answer
    known = {0: "no Rootbound there", 401: "refused the token", 403: "refused the token"}
    return known.get(answer, f"HTTP status {answer}")


@dataclass(frozen=True)
class _JupyterServer:
    endpoint: Endpoint
    pid: int
    root_dir: Path

    @property
    def label(self) -> str:
        return f"{self.endpoint.url} (folder {self.root_dir}, pid {self.pid})"


def _runtime_dir() -> Path | None:
    """Return Jupyter's runtime folder; None when nothing of Jupyter is installed here."""
    if os.environ.get("JUPYTER_RUNTIME_DIR"):
        return Path(os.environ["JUPYTER_RUNTIME_DIR"])
    try:
        from jupyter_core.paths import jupyter_runtime_dir
    except ImportError:
        return None
    return Path(jupyter_runtime_dir())


def _is_alive(pid: int) -> bool:
    """Return whether a process lives, so that a stale file's port is never sent a token."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_server(path: Path) -> _JupyterServer | None:
    """Return the server a jpserver file describes; None when it is stale or not usable."""
    try:
        info: Any = json.loads(path.read_text(encoding="utf-8"))
        pid = int(info["pid"])
        url = _clean(str(info["url"]))
        root = Path(info["root_dir"])
    except (OSError, ValueError, KeyError, TypeError, DiscoveryError):
        # Half-written, removed meanwhile, or a server on a unix socket: not one we can call.
        return None
    if not _is_alive(pid):
        return None
    token = str(info.get("token") or "") or None
    endpoint = Endpoint(f"{url}/rootbound", token, "jupyter", f"the Jupyter server of {root}")
    return _JupyterServer(endpoint, pid, root)


def _answering(servers: list[_JupyterServer], tried: list[str]) -> list[_JupyterServer]:
    """Return the servers where Rootbound knows us."""
    found = []
    for server in servers:
        answer = probe(server.endpoint.url, server.endpoint.headers, "/api/me/")
        if answer == 200:
            found.append(server)
        else:
            tried.append(f"Jupyter server {server.label}: {_reason(answer)}")
    return found


def _jupyter_server(tried: list[str]) -> Endpoint | None:
    """Return the running Jupyter server that is meant: our parent, or the one of this folder."""
    folder = _runtime_dir()
    if folder is None:
        tried.append("jupyter_core is not installed, so no Jupyter servers were looked for")
        return None
    servers = [
        found for path in sorted(folder.glob("jpserver-*.json")) if (found := _read_server(path))
    ]
    if not servers:
        tried.append(f"no running Jupyter server in {folder}")
        return None
    parent = os.environ.get("JPY_PARENT_PID")
    ours = _answering([server for server in servers if str(server.pid) == parent], tried)
    if ours:
        return ours[0].endpoint
    cwd = Path.cwd().resolve()
    others = [server for server in servers if str(server.pid) != parent]
    near = [server for server in others if cwd.is_relative_to(server.root_dir.resolve())]
    tried += [
        f"Jupyter server {server.label} is for another folder than {cwd}"
        for server in others
        if server not in near
    ]
    return _closest(_answering(near, tried), cwd)


def _closest(servers: list[_JupyterServer], cwd: Path) -> Endpoint | None:
    """Return the server whose folder is nearest above `cwd`; refuse when several are."""
    if not servers:
        return None
    depth = max(len(server.root_dir.resolve().parts) for server in servers)
    nearest = [server for server in servers if len(server.root_dir.resolve().parts) == depth]
    if len(nearest) > 1:
        choices = "; ".join(server.label for server in nearest)
        raise DiscoveryError(
            f"{len(nearest)} Jupyter servers run Rootbound for {cwd}: {choices}. "
            "Choose one with rootbound.connect(url=..., token=...); `jupyter server list` shows "
            "their tokens."
        )
    return nearest[0].endpoint


def noted_endpoint(home: Path) -> Endpoint | None:
    """Return the headless stack as its state folder notes it, whether or not it answers now.

    None when there is no stack, or its version does not fit.
    """
    found = _read_stack(home)
    try:
        noted: Any = json.loads(paths.stack_file(home).read_text(encoding="utf-8"))
        fits = version_refusal(str(noted.get("rootbound") or "")) is None
    except (OSError, ValueError, AttributeError):
        return None
    if found is None or not fits:
        return None
    return Endpoint(*found, "headless", f"the headless stack in {home}", lambda: _read_stack(home))


def _read_stack(home: Path) -> tuple[str, str] | None:
    """Return address and token of the headless stack; None when either file is missing."""
    try:
        stack: Any = json.loads(paths.stack_file(home).read_text(encoding="utf-8"))
        token = (paths.secrets_dir(home) / "headless.token").read_text(encoding="ascii").strip()
        return _clean(str(stack["url"])), token
    except (OSError, ValueError, KeyError, TypeError, DiscoveryError):
        # Absent or half-written files mean the same to the caller: no stack to use now.
        return None


def _headless(home: Path, tried: list[str]) -> Endpoint | None:
    """Return the headless stack of a state folder, when it answers."""
    found = _read_stack(home)
    if found is None:
        tried.append(f"no headless stack in {home}")
        return None
    url, token = found
    source = f"the headless stack in {home}"
    endpoint = Endpoint(url, token, "headless", source, lambda: _read_stack(home))
    answer = probe(url, endpoint.headers, "/api/me/")
    if answer == 200:
        return endpoint
    tried.append(f"{source} ({url}): {_reason(answer)}")
    return None
