"""Start services in order, watch them, restart them with back-off, stop them in order.

Everything here runs on the event loop of the process's *main thread*: the kernel ties the
parent-death signal of a child to the thread that made it. Only preparations and readiness checks
run in other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.leftovers import is_alive, terminate
from rootbound_server_ext.stack.process import (
    Command,
    helper_pids,
    kill_helpers,
    log_tail,
    open_log,
    spawn,
)
from rootbound_server_ext.stack.services import Running, ServiceSpec
from rootbound_server_ext.stack.state import ServiceInfo, ServiceState

__all__ = ["Backoff", "Service", "Supervisor"]

_log = logging.getLogger("rootbound.guard")

_CHECK_INTERVAL_S = 0.1
_HEALTH_INTERVAL_S = 15.0
_HEALTH_FAILURES = 3


class Backoff:
    """How long to wait before the next restart, and when to give up.

    Parameters
    ----------
    first_s, longest_s
        First delay and upper bound, in seconds; each delay doubles.
    quick_s
        A service that was ready for less than this died "quickly".
    limit
        Quick deaths in a row after which the service is given up.
    """

    def __init__(
        self,
        *,
        first_s: float = 0.25,
        longest_s: float = 10.0,
        quick_s: float = 10.0,
        limit: int = 5,
    ) -> None:
        self.first_s = first_s
        self.longest_s = longest_s
        self.quick_s = quick_s
        self.limit = limit
        self.deaths = 0

    def died(self, ready_for_s: float) -> float | None:
        """Count a death.

        Parameters
        ----------
        ready_for_s
            Seconds for which the service had been ready; 0 when it never was.

        Returns
        -------
        float or None
            Seconds to wait, or None to give up.
        """
        if ready_for_s >= self.quick_s:
            self.deaths = 0
        self.deaths += 1
        if self.deaths >= self.limit:
            return None
        return min(self.first_s * float(2 ** (self.deaths - 1)), self.longest_s)

    def forget(self) -> None:
        """Forgive what happened, because somebody asked for a new try."""
        self.deaths = 0


class Service:
    """One service: its process and state.

    Parameters
    ----------
    spec
        How it is run.
    logs
        Folder of logs.
    changed
        Called after each change of state.
    """

    def __init__(self, spec: ServiceSpec, logs: Path, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        self.state: ServiceState = "stopped"
        self.failure: StackError | None = None
        self.backoff = Backoff()
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_at = 0.0
        self.next_check = 0.0
        self.failed_checks = 0
        self._log_offset = 0
        self._changed = changed

    @property
    def info(self) -> ServiceInfo:
        """Its entry in ``stack.json``."""
        address = self.spec.address() if self.state == "ready" else None
        return ServiceInfo(self.state, address, self.process.pid if self.process else None)

    @property
    def external(self) -> bool:
        """Whether somebody else runs it and it is only checked."""
        return self.spec.command is None

    def set_state(self, state: ServiceState) -> None:
        """Change the state and announce it."""
        if state != self.state:
            self.state = state
            self._changed()

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises
        ------
        StackError
            When it ends, or is not ready in time; it is stopped then.
        """
        self.set_state("starting")
        self.failure = None
        try:
            await asyncio.to_thread(self.spec.prepare)
            if self.spec.command is not None:
                self._spawn(self.spec.command())
            self._changed()
            await self._wait_ready()
        except StackError as error:
            await self._give_up(error)
            raise
        except OSError as error:
            failure = StackError(f"{self.spec.title} cannot be started: {error}.")
            await self._give_up(failure)
            raise failure from error
        self.ready_at = time.monotonic()
        self.next_check = self.ready_at + _HEALTH_INTERVAL_S
        self.failed_checks = 0
        self.set_state("ready")

    async def _give_up(self, failure: StackError) -> None:
        await self.stop("stopped")
        failure.service = failure.service or self.spec.name
        failure.log_tail = failure.log_tail or log_tail(self.log)
        self.failure = failure

    def _spawn(self, command: Command) -> None:
        with open_log(self.log) as log:
            self._log_offset = os.fstat(log.fileno()).st_size
            self.process = spawn(command, log)

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + self.spec.start_timeout_s
        while True:
            try:
                await self.check()
            except StackError as error:
                if self.process is not None and self.process.poll() is not None:
                    raise StackError(
                        f"{self.spec.title} ended at once ({_exit_text(self.process.returncode)})."
                    ) from error
                if time.monotonic() > deadline:
                    raise StackError(
                        f"{self.spec.title} was not ready within "
                        f"{self.spec.start_timeout_s:.0f} seconds: {error.message}"
                    ) from error
            else:
                return
            await asyncio.sleep(_CHECK_INTERVAL_S)

    async def check(self) -> None:
        """Ask it whether it is ready; raises `StackError` when it is not."""
        pid = self.process.pid if self.process else None
        running = Running(pid, self.log, self._log_offset)
        await asyncio.to_thread(self.spec.check, running)

    async def stop(self, state: ServiceState = "stopped") -> None:
        """Ask its process group to end, and kill what stays."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.spec.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, self.spec.stop_timeout_s)
            # The group outlives its leader when the leader left children behind.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.set_state(state)


def _exit_text(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


class Supervisor:
    """All services of a stack.

    Parameters
    ----------
    specs
        In starting order.
    logs
        Folder of logs.
    changed
        Called after each change of a service's state.
    progress
        Gets one sentence for people at each step.
    """

    def __init__(
        self,
        specs: Iterable[ServiceSpec],
        logs: Path,
        *,
        changed: Callable[[], None],
        progress: Callable[[str], None],
    ) -> None:
        self.services = {spec.name: Service(spec, logs, changed) for spec in specs}
        self._progress = progress
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._children_changed = asyncio.Event()
        self._checks: dict[str, asyncio.Task[None]] = {}

    def child_ended(self) -> None:
        """Say that some child ended (SIGCHLD)."""
        self._children_changed.set()

    @property
    def failures(self) -> list[StackError]:
        """Why services were given up."""
        failed = [one for one in self.services.values() if one.state == "failed"]
        return [one.failure for one in failed if one.failure is not None]

    async def start_all(self) -> None:
        """Start every service that does not run, each after those it needs.

        Raises
        ------
        StackError
            The first failure; the others that were starting have been stopped by then.
        """
        tasks: dict[str, asyncio.Task[None]] = {}

        async def start(service: Service) -> None:
            await asyncio.gather(*(tasks[name] for name in service.spec.after if name in tasks))
            await self._start_one(service)

        idle = [one for one in self.services.values() if one.state in ("stopped", "failed")]
        for service in idle:
            service.backoff.forget()
            tasks[service.spec.name] = asyncio.create_task(start(service))
        try:
            await asyncio.gather(*tasks.values())
        except StackError:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            raise

    async def _start_one(self, service: Service) -> None:
        began = time.monotonic()
        self._progress(f"{service.spec.title} is starting")
        try:
            await service.start()
        except asyncio.CancelledError:
            await service.stop()
            raise
        except StackError:
            service.set_state("failed")
            raise
        took = time.monotonic() - began
        where = "answers" if service.external else f"is ready after {took:.1f} s"
        self._progress(f"{service.spec.title} {where}")

    async def restart(self, name: str) -> None:
        """Stop and start one service.

        Raises
        ------
        StackError
            When there is no such service, it is not ours, or it does not start.
        """
        service = self.services.get(name)
        if service is None:
            raise StackError(f"There is no service {name!r}; one of {', '.join(self.services)}.")
        if service.external:
            raise StackError(f"{service.spec.title} is not run by Rootbound.", service=name)
        pending = self._restarts.pop(name, None)
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        service.backoff.forget()
        await service.stop("starting")
        await self.kill_orphans()
        await self._start_one(service)

    async def watch(self) -> None:
        """Notice deaths and hangs, and restart; runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which swallows a cancellation that comes with a child's end.
                async with asyncio.timeout(1):
                    await self._children_changed.wait()
            ended = self._children_changed.is_set()
            self._children_changed.clear()
            for service in self.services.values():
                if service.state == "ready":
                    self._watch_one(service)
            if ended:
                self._reap_strangers()

    def _watch_one(self, service: Service) -> None:
        process = service.process
        if process is not None and process.poll() is not None:
            self._progress(f"{service.spec.title} ended ({_exit_text(process.returncode)})")
            self._begin_restart(service)
        elif time.monotonic() >= service.next_check and service.spec.name not in self._checks:
            task = asyncio.create_task(self._check_health(service))
            self._checks[service.spec.name] = task
            task.add_done_callback(lambda _: self._checks.pop(service.spec.name, None))

    async def _check_health(self, service: Service) -> None:
        try:
            await service.check()
            service.failed_checks = 0
        except StackError as error:
            service.failed_checks += 1
            self._progress(f"{service.spec.title} fails its check: {error.message}")
        service.next_check = time.monotonic() + _HEALTH_INTERVAL_S
        hangs = service.failed_checks >= _HEALTH_FAILURES and service.state == "ready"
        if hangs and service.spec.hang_restart and service.process is not None:
            self._begin_restart(service)

    def _begin_restart(self, service: Service) -> None:
        service.set_state("starting")
        task = asyncio.create_task(self._restart_until(service))
        task.add_done_callback(lambda task: self._restart_ended(service, task))
        self._restarts[service.spec.name] = task

    def _restart_ended(self, service: Service, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s cannot be restarted", service.spec.title, exc_info=error)
            service.failure = StackError(
                f"{service.spec.title} cannot be restarted: {error}", service=service.spec.name
            )
            service.set_state("failed")

    async def _restart_until(self, service: Service) -> None:
        ready_for = time.monotonic() - service.ready_at
        tail = log_tail(service.log)
        await service.stop("starting")
        # What the dead service started must not go on beside its successor's.
        await self.kill_orphans()
        while True:
            delay = service.backoff.died(ready_for)
            if delay is None:
                last_words = service.failure.log_tail if service.failure else tail
                service.failure = StackError(
                    f"{service.spec.title} ended {service.backoff.limit} times in a row and was "
                    "given up; look into its log and run `rootbound up` for another try.",
                    service=service.spec.name,
                    log_tail=last_words,
                )
                service.set_state("failed")
                self._progress(service.failure.message)
                return
            await asyncio.sleep(delay)
            try:
                await self._start_one(service)
            except StackError as error:
                self._progress(error.message)
                service.set_state("starting")
                ready_for = 0.0
                continue
            return

    async def stop_all(self) -> None:
        """Stop every service before those it needs, then whatever they left behind."""
        kill_helpers()
        for task in [*self._restarts.values(), *self._checks.values()]:
            task.cancel()
        await asyncio.gather(
            *self._restarts.values(), *self._checks.values(), return_exceptions=True
        )
        self._restarts.clear()
        left = list(self.services.values())
        while left:
            needed = {name for one in left for name in one.spec.after}
            # Those that nothing needs any more do not wait for each other.
            free = [one for one in reversed(left) if one.spec.name not in needed]
            for service in free:
                if service.process is not None:
                    self._progress(f"{service.spec.title} is stopping")
            await asyncio.gather(
                *(one.stop("failed" if one.state == "failed" else "stopped") for one in free)
            )
            left = [one for one in left if one not in free]
            await self.kill_orphans()

    def _known_pids(self) -> set[int]:
        pids = {one.process.pid for one in self.services.values() if one.process is not None}
        return pids | helper_pids()

    def _strangers(self) -> list[psutil.Process]:
        # Children first, known ones second, and on the loop's thread, where services are started:
        # a child that is one of ours is then always known.
        children = psutil.Process().children()
        known = self._known_pids()
        return [one for one in children if one.pid not in known]

    async def kill_orphans(self) -> None:
        """Stop children that were handed to us when a service died (we are their subreaper)."""
        for _ in range(5):  # killing a parent may hand us its children
            orphans = [one for one in self._strangers() if is_alive(one)]
            if not orphans:
                break
            family = {one.pid: one for one in orphans}
            for orphan in orphans:
                with contextlib.suppress(psutil.Error):
                    family |= {one.pid: one for one in orphan.children(recursive=True)}
            await asyncio.to_thread(terminate, list(family.values()), timeout_s=3)
        self._reap_strangers()

    def _reap_strangers(self) -> None:
        for stranger in self._strangers():
            with contextlib.suppress(psutil.Error, ChildProcessError):
                if stranger.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(stranger.pid, os.WNOHANG)
