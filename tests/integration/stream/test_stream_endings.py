"""Readers end when told to, whatever the libraries below do with a cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import pytest

from rootbound_backend import readers
from rootbound_backend.readers import SharedReader


class SwallowingLayer:
    """A channel layer that loses a cancellation while it connects, as Redis clients may."""

    def __init__(self) -> None:
        self.connecting = asyncio.Event()
        self.waiting = False

    async def new_channel(self) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            self.connecting.set()
            await asyncio.Event().wait()
        return "channel"

    async def group_add(self, group: str, channel: str) -> None:
        pass

    async def group_discard(self, group: str, channel: str) -> None:
        pass

    async def receive(self, channel: str) -> dict[str, object]:
        self.waiting = True
        await asyncio.Event().wait()
        return {}


class Reader(SharedReader):
    """Swallows a cancellation in its look, too."""

    group = "group"
    tail_s = 3600.0

    async def look(self) -> bool:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return False


@pytest.mark.asyncio
async def test_a_swallowed_cancellation_ends_the_reader_all_the_same(monkeypatch):
    layer = SwallowingLayer()
    monkeypatch.setattr(readers, "get_channel_layer", lambda: layer)
    reader = Reader(uuid.uuid4())
    reader.start()
    tasks = list(reader._tasks)
    async with asyncio.timeout(10):
        await layer.connecting.wait()
        reader.stop()
        await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert not layer.waiting
