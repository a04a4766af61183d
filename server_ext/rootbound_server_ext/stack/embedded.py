"""What the embedded servers have in common: start, readiness, stop, and what a dead one left."""

from __future__ import annotations

import abc
import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psutil

from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.process import Command, log_tail, open_log, spawn

__all__ = ["EmbeddedServer"]

_POLL_S = 0.03


class EmbeddedServer(abc.ABC):
    """A server program with its data in the state folder.

    Attributes
    ----------
    log : Path
        Where its output goes.
    """

    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGKILL)
    """Signals to stop it with, one after the other, from polite to final."""

    process_names: ClassVar[tuple[str, ...]]
    """What the names of its processes begin with."""

    log: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """The server's URL, without a password."""

    @property
    @abc.abstractmethod
    def working_folder(self) -> Path:
        """The folder its processes work in, by which they are recognised."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make what it needs; raise StackError when that is impossible."""

    @abc.abstractmethod
    def command(self) -> Command:
        """Return the server's command; call `prepare` first."""

    @abc.abstractmethod
    def check(self) -> None:
        """Connect and ask something; raise StackError when it does not answer."""

    def leftovers(self) -> list[psutil.Process]:
        """Return its live processes, whoever started them."""
        found = []
        folder = str(self.working_folder.resolve())
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (
                    process.name().startswith(self.process_names)
                    and process.status() != psutil.STATUS_ZOMBIE
                    and process.cwd() == folder
                ):
                    found.append(process)
        return found

    def start(self, timeout_s: float = 30) -> str:
        """Start the server, wait until it answers, and return its URL.

        Parameters
        ----------
        timeout_s
            Limit in seconds. Default 30.

        Raises
        ------
        StackError
            When it ends or does not answer in time; nothing is left running then.
        """
        self.prepare()
        with open_log(self.log) as log:
            self._process = spawn(self.command(), log, bound=False)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.check()
            except StackError as error:
                if self._process.poll() is None and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
                    continue
                self.stop()
                error.log_tail = log_tail(self.log)
                raise
            return self.url

    def stop(self, timeout_s: float = 20) -> None:
        """Stop the server that `start` started.

        Parameters
        ----------
        timeout_s
            Seconds to wait after each signal. Default 20.
        """
        process, self._process = self._process, None
        if process is None:
            return
        for stop_signal in self.stop_signals:
            if process.poll() is None:
                process.send_signal(stop_signal)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                continue
            return

    @contextlib.contextmanager
    def running(self, timeout_s: float = 30) -> Iterator[str]:
        """Start the server for the length of a ``with`` block; yields its URL."""
        url = self.start(timeout_s)
        try:
            yield url
        finally:
            self.stop()
