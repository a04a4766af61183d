"""A shared reader ends when it is stopped, whatever it is about at that moment."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from rootbound_backend.readers import SharedReader
from rootbound_backend.websockets import end_task


class Idle(SharedReader):
    """Listens to announcements as all readers do, and finds nothing."""

    group = "attempt_stopping"
    tail_s = 60.0

    async def look(self) -> bool:
        return False


def _survivors(stop_at: int, end_at: int) -> set[asyncio.Task]:
    """Stop a reader after some turns of its loop, end the loop after some more, as a process does.

    Returns what still runs after a cancellation and ten seconds.
    """
    loop = asyncio.new_event_loop()

    async def use() -> None:
        reader = Idle(uuid.uuid4())
        reader.start()
        for _ in range(stop_at):
            await asyncio.sleep(0)
        reader.stop()
        for _ in range(end_at):
            await asyncio.sleep(0)

    async def left(tasks: set[asyncio.Task]) -> set[asyncio.Task]:
        for task in tasks:
            task.cancel()
        return (await asyncio.wait(tasks, timeout=10))[1]

    try:
        loop.run_until_complete(use())
        tasks = asyncio.all_tasks(loop)
        return loop.run_until_complete(left(tasks)) if tasks else set()
    finally:
        loop.close()


@pytest.mark.parametrize("end_at", [2, 5, 7])
def test_a_reader_ends_wherever_its_subscription_stands(redis_server, end_at, monkeypatch):
    monkeypatch.setattr("rootbound_backend.websockets.INSIST_S", 0.1)
    # Between connecting and listening the Redis client waits in asyncio.wait_for, which may
    # swallow a cancellation on Python 3.11; a second one can be lost in the next step.
    for stop_at in range(3, 28):
        assert _survivors(stop_at, end_at) == set(), stop_at


async def _stubborn(swallowed: int) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if swallowed == 0:
                raise
            swallowed -= 1


@pytest.mark.asyncio
async def test_a_task_that_loses_cancellations_ends_all_the_same(monkeypatch):
    monkeypatch.setattr("rootbound_backend.websockets.INSIST_S", 0.01)
    task = asyncio.create_task(_stubborn(3))
    await asyncio.sleep(0)
    end_task(task)
    assert await asyncio.wait([task], timeout=10) == ({task}, set())
    assert task.cancelled()
