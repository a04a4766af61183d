"""Frames that leave at once never overtake what waits to leave."""

from __future__ import annotations

import functools
import socket
from typing import Any

import pytest
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.tcp import Connection

from rootbound_backend.quick_frames import quick

pytestmark = pytest.mark.asyncio


class Reactor:
    """Notes who asked to be told when there is room."""

    def __init__(self) -> None:
        self.writers: set[Connection] = set()

    def addWriter(self, writer: Connection) -> None:  # noqa: N802 - Twisted's interface
        self.writers.add(writer)

    def removeWriter(self, writer: Connection) -> None:  # noqa: N802
        self.writers.remove(writer)


async def test_frames_leave_at_once_in_order_and_what_the_socket_does_not_take_later():
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for end in (ours, theirs):
        end.setblocking(False)
    reactor = Reactor()
    transport = Connection(ours, None, reactor)
    transport.connected = 1
    protocol = WebSocketProtocol()
    protocol.transport, protocol.state = transport, WebSocketProtocol.STATE_OPEN
    protocol._perMessageCompress, protocol.send_queue = None, []
    passed: list[Any] = []

    async def handle(_: Any, message: Any) -> None:
        passed.append(message)
        protocol.transport.write(message["text"].encode())

    send = quick(functools.partial(handle, protocol))
    await send({"type": "websocket.send", "text": "first"})
    assert theirs.recv(100) == b"\x81\x05first" and not reactor.writers
    long = "x" * 200_000
    await send({"type": "websocket.send", "text": long})
    assert reactor.writers == {transport}, "the rest waits for room"
    await send({"type": "websocket.send", "text": "behind"})
    assert passed == [{"type": "websocket.send", "text": "behind"}], "not past what waits"
    got = b""
    while reactor.writers:
        transport.doWrite()
        got += theirs.recv(1 << 20)
    assert got == b"\x81\x7f" + len(long).to_bytes(8) + long.encode() + b"behind"
    # Whoever is gone is found out by Twisted, which was told.
    theirs.close()
    await send({"type": "websocket.send", "text": "nobody"})
    assert reactor.writers == {transport}
    protocol.state = WebSocketProtocol.STATE_CLOSING
    close = {"type": "websocket.close", "text": "what is no frame"}
    await send(close)
    assert passed[-1] == close
    ours.close()


async def test_another_servers_send_is_left_alone():
    async def send(message: Any) -> None:
        pass

    assert quick(send) is send
