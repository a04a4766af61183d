"""Fixtures of the tests of requests for access."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from rootbound.testing.script import Conversation, Turn


class Hold:
    """A turn that the model keeps to itself until the test lets go."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.seen: list[Conversation] = []
        self._free = threading.Event()

    def __call__(self, conversation: Conversation) -> Turn:
        self.seen.append(conversation)
        assert self._free.wait(60), "the test did not let go of the model"
        return self.turn

    def let_go(self) -> None:
        self._free.set()


@pytest.fixture
def hold() -> Iterator[Callable[[Turn], Hold]]:
    """Makes holds; all are let go at the end, so that a failed test does not block the model."""
    made: list[Hold] = []

    def make(turn: Turn) -> Hold:
        made.append(Hold(turn))
        return made[-1]

    yield make
    for one in made:
        one.let_go()
