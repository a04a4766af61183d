"""``python -m rootbound_lda``: the LDA process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import IO

import uvicorn

from .backends import BackendAddressError, Backends
from .config import BIND_HOST, Config, ConfigError, load, version, write_atomic
from .guard import GuardedProtocol
from .keys import Keys
from .outbox import Outbox, OutboxUnavailable
from .outward import HOST, MachineToken, Outward
from .server import as_json, build_app
from .services import Services

PORTS_TRIED = 100


def bind(port: int) -> socket.socket:
    """Listen on the loopback address: at ``port``, else the next free one above it.

    Raises
    ------
    ConfigError
        When none of them is free.
    """
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        # Without the protocol's name asyncio leaves Nagle's algorithm on.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((BIND_HOST, candidate))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            continue
        return listener
    raise ConfigError(
        f"No port from {port} to {port + PORTS_TRIED - 1} is free; set ROOTBOUND_LDA_PORT to one "
        "that is."
    )


def announce(config: Config, port: int) -> None:
    """Write where this process listens, for the backend."""
    facts = {
        "id": config.lda_id,
        "boot_id": config.boot_id,
        "url": f"http://{BIND_HOST}:{port}",
        "pid": os.getpid(),
        "version": version(),
    }
    write_atomic(config.run_folder / "lda.json", as_json(facts))


class _Server(uvicorn.Server):
    """Ends with exit code 0 when it is asked to end; the library's own dies of the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as the request to stop."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


async def serve(config: Config, keys: Keys) -> None:
    """Run the LDA until it is told to stop.

    Raises
    ------
    ConfigError
        When a key or token is missing or no port is free.
    OutboxUnavailable
        When the outbox cannot be opened.
    """
    await (serve_outward if config.connect else serve_loopback)(config, keys)


async def serve_loopback(config: Config, keys: Keys) -> None:
    """Listen on loopback for the backend on this machine."""
    verify_keys = config.verify_keys()
    with bind(config.port) as listener:
        port = int(listener.getsockname()[1])
        outbox = Outbox(config.outbox, max_bytes=config.outbox_max_bytes)
        services = Services(config, outbox, keys)
        app = build_app(
            services,
            keys=verify_keys,
            hosts=frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost")),
            announce=lambda: announce(config, port),
        )
        settings = uvicorn.Config(
            app,
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=GuardedProtocol,
            h11_max_incomplete_event_size=64 * 1024,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
        try:
            await _Server(settings).serve(sockets=[listener])
        finally:
            services.outbox.close()
            forget(config)


async def serve_outward(config: Config, keys: Keys) -> None:
    """Connect to the backend, and listen nowhere."""
    allow_http = os.environ.get("ROOTBOUND_LDA_ALLOW_HTTP") == "1"
    backends = Backends.parse(config.connect, allow_http=allow_http)
    token = MachineToken.parse(config.machine_token())
    config.verify_key.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(config.verify_key, token.pem())
    lock = _only_one(config)
    outbox = Outbox(config.outbox, max_bytes=config.outbox_max_bytes)
    services = Services(config, outbox, keys, backends)
    door = build_app(
        services, keys=config.verify_keys(), hosts=frozenset({HOST}), announce=lambda: None
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with door.app.router.lifespan_context(door.app):
            connection = asyncio.create_task(Outward(config, backends, token, door).run())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({connection, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (connection, stopping):
                task.cancel()
            await asyncio.gather(connection, stopping, return_exceptions=True)
    finally:
        services.outbox.close()
        lock.close()


def _only_one(config: Config) -> IO[str]:
    """Take the lock of this state folder: two LDAs would write to one outbox.

    Raises
    ------
    ConfigError
        When another process has it.
    """
    file = (config.run_folder / "lda.lock").open("a", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigError(
            f"Another local desktop agent works with {config.home}; stop it, or set "
            "ROOTBOUND_HOME to another folder."
        ) from error
    return file


def forget(config: Config) -> None:
    """Take the address file away, unless another process has written its own."""
    path = config.run_folder / "lda.json"
    try:
        if config.boot_id in path.read_text(encoding="utf-8"):
            path.unlink()
    except OSError:
        logging.getLogger(__name__).debug("There was no address file to remove")


def main() -> int:
    """Start the LDA; an error that the user can mend is one sentence and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("httpx", "httpx2", "google_genai"):
        logging.getLogger(name).setLevel(logging.WARNING)
    keys = Keys(os.environ)
    try:
        config = load(os.environ)
        os.umask(0o077)
        # Files, outbox and records have threads beside the loop, for which it would wait 5 ms.
        sys.setswitchinterval(0.0005)
        asyncio.run(serve(config, keys))
    except (BackendAddressError, ConfigError, OutboxUnavailable) as error:
        sys.stderr.write(f"rootbound-lda: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
