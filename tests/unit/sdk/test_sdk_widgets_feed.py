"""Live updates of a widget: read in a thread, delivered on the main loop."""

from __future__ import annotations

import gc
import threading
import weakref
from unittest import mock

from widget_comm import until

import rootbound as rb
from rootbound.widgets import feed


def test_updates_go_through_the_main_loop_in_batches():
    queue, taken = [], []
    running = feed.Feed(
        lambda _stop: iter(range(50)), taken.extend, mock.Mock(), dispatch=queue.append
    )
    running.start()
    running._thread.join(5)
    assert taken == []  # never from the reading thread
    assert len(queue) == 1
    queue.pop()()
    assert taken == list(range(50))


def test_a_busy_kernel_holds_the_reader_back():
    queue, taken, read = [], [], []

    def source(_stop):
        for number in range(100):
            read.append(number)
            yield number

    running = feed.Feed(source, taken.extend, mock.Mock(), max_pending=10, dispatch=queue.append)
    running.start()
    until(lambda: running._room._waiters)  # it stands still until there is room
    assert len(read) == 11
    while len(taken) < 100:
        until(lambda: queue or not running._thread.is_alive())
        queue.pop()()
    assert taken == list(range(100))


def test_a_collected_owner_ends_the_feed():
    class Owner:
        def take(self, items):
            pass

        def failed(self, error):
            pass

    def source(stop):
        while not stop.wait(0.01):
            yield 1

    owner = Owner()
    running = feed.Feed(source, owner.take, owner.failed)
    running.start()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    running._thread.join(5)
    assert not running._thread.is_alive()


def test_feed_reports_problems_and_recovers(monkeypatch):
    monkeypatch.setattr(feed, "_RETRY_S", 0.01)
    tries, taken, failed = [], [], []

    def source(_stop):
        tries.append(1)
        if len(tries) == 1:
            raise rb.ConnectionFailedError("away")
        if len(tries) == 2:
            yield "back"
            raise ValueError("a bug")

    running = feed.Feed(source, taken.extend, failed.append)
    with mock.patch.object(feed._log, "exception"):
        running.start()
        running._thread.join(5)
    assert taken == ["back"]
    assert [str(error) for error in failed] == ["away", "The live view stopped: a bug"]
    assert threading.current_thread() is threading.main_thread()
