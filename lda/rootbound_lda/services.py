"""What all runs share."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .backends import Backends
from .baseline import Baselines
from .config import Config
from .git import RepositoryLocks
from .keys import Keys
from .outbox import Outbox
from .sandbox import Sandbox, SandboxFacts, SandboxUnavailable, probe
from .unsaved import UnsavedDocuments


@dataclass(slots=True)
class Services:
    """The parts of one LDA process.

    Attributes
    ----------
    backends
        Where reports go; None for where each hand-over says.
    facts
        What the sandbox really enforces here; set by `start`.
    """

    config: Config
    outbox: Outbox
    keys: Keys
    backends: Backends | None = None
    locks: RepositoryLocks = field(default_factory=RepositoryLocks)
    sandbox: Sandbox = field(default_factory=Sandbox)
    facts: SandboxFacts = field(default_factory=lambda: SandboxFacts("F", {}, ["Still probing."]))
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    unsaved: UnsavedDocuments = field(init=False)
    cache_locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _baselines: Baselines | None = None
    _modules: dict[str, asyncio.Future[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Recall what editors had open when an earlier process ended."""
        self.unsaved = UnsavedDocuments(self.config.unsaved)

    @property
    def baselines(self) -> Baselines:
        """What gates said about base commits."""
        if self._baselines is None:
            self._baselines = Baselines(self.config.baselines)
        return self._baselines

    async def start(self) -> None:
        """Probe and start the sandbox; a machine without one gets tier F, and no commands."""
        self.facts = await probe(bubblewrap=self.config.bubblewrap)
        self.sandbox = Sandbox(wall=self.facts.wall)
        if self.facts.tier != "F":
            try:
                await self.sandbox.start()
            except SandboxUnavailable as error:
                self.facts = SandboxFacts("F", self.facts.facts, [str(error)])
        self.ready.set()

    async def module(self, name: str) -> ModuleType:
        """Import a module of the agent in a thread, once: the model libraries take seconds."""
        future = self._modules.get(name)
        if future is None:
            future = _imported(f"rootbound_lda.agent.{name}")
            self._modules[name] = future
        return await asyncio.shield(future)

    async def stop(self) -> None:
        """End the sandbox and every command in it."""
        if self.facts.tier != "F" and self.ready.is_set():
            await self.sandbox.stop()


def _imported(name: str) -> asyncio.Future[ModuleType]:
    """Import a module in a thread of its own; a process that ends does not wait for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ModuleType] = loop.create_future()

    def settle(found: ModuleType | BaseException) -> None:
        if future.done():
            return
        if isinstance(found, BaseException):
            future.set_exception(found)
        else:
            future.set_result(found)

    def load() -> None:
        found: ModuleType | BaseException
        try:
            found = importlib.import_module(name)
        except BaseException as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=load, name=f"import {name}", daemon=True).start()
    return future
