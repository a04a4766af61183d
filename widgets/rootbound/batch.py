"""A batch: all tasks of a plan, done without anybody watching, and taken up again after a crash."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import _flows as flows
from . import _html as html
from . import _operations as ops
from .audit_export import whole_file
from .errors import ConflictError, InvalidRequestError, RootboundError
from .objects import Attempt, Decomposition, Project, Task
from .tables import Listing

if TYPE_CHECKING:
    from .client import Client

__all__ = ["LEDGER_VARIABLE", "Batch", "BatchFailedError", "BatchResult", "read_ledger"]

LEDGER_VARIABLE = "ROOTBOUND_BATCH_LEDGER"
"""Names the file of the batch in the environment of a notebook that papermill executes."""

_POLL_S = 0.5
"""Longest time between two looks; they are closer together after something has changed."""
_FIRST_POLL_S = 0.05
# Lost with a machine or a service, not by the agent: worth another attempt when going on.
_LOST = frozenset({"LDA_LOST", "LDA_UNREACHABLE"})


class BatchFailedError(RootboundError):
    """Attempts of the batch failed, or work was left; the message names them."""

    def _render_traceback_(self) -> list[str]:
        """Show one line in IPython: the report stands above it."""
        return [f"BatchFailedError: {self}"]


@dataclass(frozen=True)
class BatchResult:
    """What came of a batch.

    Attributes
    ----------
    project : Project
        As it is now.
    plan : Decomposition or None
        The plan, when the batch began with a prompt.
    tasks : Listing of Task
        As they are now.
    stopped : str
        Why no further attempt was started, "" when all were.
    resumed : bool
        Whether an earlier run was gone on with.
    refused : dict of str to str
        Why attempts could not be merged, or tasks not begun, by their id.
    """

    project: Project
    plan: Decomposition | None
    tasks: Listing[Task]
    stopped: str = ""
    resumed: bool = False
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def attempts(self) -> Listing[Attempt]:
        """The newest attempt of each task that has one."""
        return Listing(Attempt, [task.latest_attempt for task in self.tasks if task.latest_attempt])

    @property
    def failed(self) -> list[Task]:
        """The tasks whose newest attempt failed."""
        return [task for task in self.tasks if _status(task) == "FAILED"]

    @property
    def left(self) -> list[Task]:
        """The tasks that were not begun."""
        return [task for task in self.tasks if task.latest_attempt is None]

    @property
    def cost_usd(self) -> float | None:
        """US dollars in all; None when the price of a model that was used is not known."""
        return _sum_of_costs(self.tasks)

    def raise_for_failures(self) -> None:
        """Raise when not everything was done, so that whoever ran the notebook knows.

        Raises
        ------
        BatchFailedError
            If an attempt failed, or tasks were left.
        """
        parts = [f"{task.title}: {_reason(task).rstrip('.')}" for task in self.failed]
        if self.left:
            why = self.stopped or "they wait for other tasks"
            titles = ", ".join(task.title for task in self.left)
            parts.append(f"not begun, because {why.rstrip('.')}: {titles}")
        if parts:
            raise BatchFailedError(f"Not everything was done. {'; '.join(parts)}.")

    def summary(self) -> dict[str, Any]:
        """Return the outcome as a JSON object."""
        return {
            "project": self.project.id,
            "plan": None if self.plan is None else self.plan.id,
            "tasks": [_row(task, self.refused) for task in self.tasks],
            "cost_usd": self.cost_usd,
            "stopped": self.stopped,
            "resumed": self.resumed,
            "ok": not (self.failed or self.left),
        }

    def _repr_html_(self) -> str:
        rows = [
            (
                html.escape(row["title"]),
                html.word(row["status"]),
                html.escape(row["reason"] or None),
                html.escape(row["tokens"]),
                html.escape(row["cost_usd"]),
                html.escape(row["denied"]),
            )
            for row in (_row(task, self.refused) for task in self.tasks)
        ]
        head = ("task", "attempt", "reason", "tokens", "US dollars", "denied operations")
        note = self.stopped or ("went on with an earlier run" if self.resumed else "")
        title = f"Batch of {self.project.name}"
        return html.section(title, html.table(head, rows), note=note)


class Batch:
    """Has a plan's tasks done one after the other, or several at once.

    Parameters
    ----------
    project : Project
        Where to work.
    prompt : str
        What is wanted; the PM agent breaks it down into the tasks of the batch. With "" the
        project's open tasks are done.
    max_parallel : int, default 1
        Attempts at once.
    budget : float or None, default None
        US dollars; when they are spent no further attempt is started. The project's own ``budget``
        limits each attempt.
    approve : bool, default True
        Merge what passed its gates, so that the tasks behind it can begin. Otherwise results wait
        for your review.
    ledger : path or None, default None
        A file that remembers the batch; a batch that was cut off goes on with what is in it. None
        takes the file that ``rootbound batch run`` named, if any.

    Raises
    ------
    InvalidRequestError
        If a value has the wrong type, or the file belongs to another batch.
    """

    def __init__(
        self,
        project: Project,
        prompt: str = "",
        *,
        max_parallel: int = 1,
        budget: float | None = None,
        approve: bool = True,
        ledger: str | os.PathLike[str] | None = None,
    ) -> None:
        _check(prompt, max_parallel, budget, approve)
        self.project = project
        self._prompt = prompt
        self._max_parallel = max_parallel
        self._budget = budget
        self._approve = approve
        named = ledger or os.environ.get(LEDGER_VARIABLE)
        self._ledger = Path(named) if named else None
        self._refused: dict[str, str] = {}
        self._entry = self._open()

    @property
    def _client(self) -> Client:
        return self.project.client

    def run(self, *, progress: bool = True) -> BatchResult:
        """Do the work and wait for its end.

        Parameters
        ----------
        progress : bool, default True
            Show a tqdm progress bar.

        Returns
        -------
        BatchResult
            Also when attempts failed; `BatchResult.raise_for_failures` raises.

        Raises
        ------
        DecompositionFailedError
            If there is no usable plan.
        DetachedInterrupt
            On Ctrl-C; attempts that run go on.
        """
        sentence = "Stopped the batch; attempts that run go on. Run it again to go on with it."
        with flows.detaching(sentence), _bar(progress) as report:
            plan = self._plan()
            ids = self._tasks(plan)
            pause, seen = 0.0, ""
            while True:
                tasks = self._read(ids)
                report(tasks)
                known, seen = seen, repr([(task.status, _status(task)) for task in tasks])
                pause = min(_FIRST_POLL_S if seen != known else pause * 1.5, _POLL_S)
                if self._merge(tasks):
                    continue  # which frees the tasks behind it
                waiting = [task for task in tasks if self._may_start(task)]
                stopped = self._over_budget(tasks) if waiting else ""
                begun = 0 if stopped else self._start(tasks, waiting)
                # Judged by one look: what ends meanwhile is seen by the next.
                if not begun and not any(map(_is_live, tasks)):
                    break
                time.sleep(pause)
        resumed = bool(self._entry.get("resumed"))
        project = self.project.refresh()
        result = BatchResult(project, plan, tasks, stopped, resumed, self._refused)
        self._write(finished=True, result=result.summary())
        return result

    def _open(self) -> dict[str, Any]:
        """Return the entry of this batch: the one that was cut off, or a new one."""
        found = read_ledger(self._ledger) if self._ledger else None
        if found is None or found.get("finished"):
            return {"key": uuid.uuid4().hex, "project": self.project.id, "prompt": self._prompt}
        if (found.get("project"), found.get("prompt")) != (self.project.id, self._prompt):
            raise InvalidRequestError(
                f"{self._ledger} belongs to another batch that is not finished (its prompt: "
                f"{found.get('prompt')!r}); remove that file, or use another output.",
                code="other-batch",
            )
        return {**found, "resumed": True}

    def _write(self, **changes: Any) -> None:
        self._entry |= changes
        if self._ledger:
            with whole_file(self._ledger) as file:
                file.write(json.dumps(self._entry, indent=2).encode())

    def _plan(self) -> Decomposition | None:
        if not self._prompt:
            return None
        if self._entry.get("plan"):
            plan = self._client.decomposition(self._entry["plan"])
        else:
            # Written before it is asked for: the same key asks for the same plan once.
            self._write()
            body = {"prompt": self._prompt, "auto_approve": True}
            operation = ops.write(
                Decomposition, self._client, "POST", "projects", self.project.id,
                "decompositions", body=body,
            )  # fmt: skip
            plan = self._client._call(replace(operation, key=f"batch-{self._entry['key']}"))
            self._write(plan=plan.id)
        endpoint = self._client.endpoint
        return self._client._run(flows.wait_plan(endpoint, plan, auto_approve=True, timeout=None))

    def _tasks(self, plan: Decomposition | None) -> list[str]:
        if "tasks" not in self._entry:
            if plan is not None:
                ids = list(plan.tasks_created)
            else:
                ids = [task.id for task in self.project.tasks() if task.status != "DONE"]
            self._write(tasks=ids)
        return list(self._entry["tasks"])

    def _read(self, ids: list[str]) -> Listing[Task]:
        tasks = self._client._run(
            flows.patiently(
                lambda: flows.all_pages(
                    self._client.endpoint, Task, self._client, "projects", self.project.id, "tasks"
                )
            )
        )
        known = {task.id: task for task in tasks}
        return Listing(Task, [known[one] for one in ids if one in known])

    def _merge(self, tasks: Listing[Task]) -> int:
        """Merge what passed its gates; return how many were merged."""
        if not self._approve:
            return 0
        latest = [task.latest_attempt for task in tasks if task.latest_attempt]
        merged = 0
        for attempt in latest:
            if attempt.status != "REVIEW" or attempt.id in self._refused:
                continue
            try:
                attempt.approve()
                merged += 1
            except ConflictError as error:
                # As it stands it waits for a person; the batch goes on with the rest.
                self._refused[attempt.id] = error.detail
        return merged

    def _start(self, tasks: Listing[Task], waiting: list[Task]) -> int:
        """Start attempts as far as there is room; return how many are new."""
        free = max(self._max_parallel - sum(map(_is_live, tasks)), 0)
        begun = 0
        for task in sorted(waiting, key=lambda one: -one.priority)[:free]:
            again = task.latest_attempt.number if task.latest_attempt else 0
            operation = ops.write(
                Attempt, self._client, "POST", "tasks", task.id, "attempts", body={}
            )
            key = f"batch-{self._entry['key']}-{task.id}-{again}"
            try:
                self._client._call(replace(operation, key=key))
            except ConflictError as error:
                # One that began by itself meanwhile is as good; other refusals are final.
                if error.code != "attempt-live":
                    self._refused[task.id] = error.detail
                    continue
            begun += 1
        return begun

    def _may_start(self, task: Task) -> bool:
        if task.blocked_by or task.status == "DONE" or task.id in self._refused:
            return False
        attempt = task.latest_attempt
        if attempt is None:
            return True
        return bool(self._entry.get("resumed")) and attempt.failure in _LOST

    def _over_budget(self, tasks: Listing[Task]) -> str:
        if self._budget is None:
            return ""
        spent = _sum_of_costs(tasks)
        if spent is None:
            return "the price of a model that was used is not known, so the budget cannot be kept"
        if spent < self._budget:
            return ""
        return f"the budget of {self._budget:g} US dollars is spent ({spent:.4f})"


def read_ledger(path: Path) -> dict[str, Any] | None:
    """Return what a batch's file says; None when there is none.

    Raises
    ------
    InvalidRequestError
        If it is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{path} is no file of a batch; remove it.") from error
    if not isinstance(found, dict) or "key" not in found:
        raise InvalidRequestError(f"{path} is no file of a batch; remove it.")
    return found


def _check(prompt: Any, max_parallel: Any, budget: Any, approve: Any) -> None:
    """Refuse values of the wrong type, as papermill passes whatever it is given."""
    is_int = isinstance(max_parallel, int) and not isinstance(max_parallel, bool)
    is_number = isinstance(budget, (int, float)) and not isinstance(budget, bool)
    for name, value, fits, wanted in (
        ("prompt", prompt, isinstance(prompt, str), "a text"),
        ("max_parallel", max_parallel, is_int and max_parallel > 0, "a whole number from 1"),
        ("budget", budget, budget is None or (is_number and budget >= 0), "US dollars, or None"),
        ("approve", approve, isinstance(approve, bool), "True or False"),
    ):
        if not fits:
            raise InvalidRequestError(
                f"{name} must be {wanted}, not {value!r}.", code="invalid-parameter"
            )


def _is_live(task: Task) -> bool:
    return task.latest_attempt is not None and task.latest_attempt.is_live


def _status(task: Task) -> str:
    attempt = task.latest_attempt
    return "not begun" if attempt is None else attempt.status


def _reason(task: Task) -> str:
    attempt = task.latest_attempt
    if attempt is None:
        return task.waiting_reason
    return attempt.failure_message or attempt.failure or ""


def _row(task: Task, refused: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    attempt = task.latest_attempt
    usage = attempt.usage if attempt else {}
    refusal = refused.get(attempt.id if attempt else task.id)
    return {
        "id": task.id,
        "title": task.title,
        "status": _status(task),
        "reason": refusal or _reason(task),
        "attempt": attempt.id if attempt else None,
        "tokens": int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0),
        "cost_usd": usage.get("cost_usd"),
        "denied": attempt.denied_count if attempt else 0,
    }


def _sum_of_costs(tasks: Listing[Task]) -> float | None:
    total = 0.0
    for row in (_row(task) for task in tasks):
        if row["cost_usd"] is None and row["tokens"]:
            return None
        total += float(row["cost_usd"] or 0)
    return total


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[Listing[Task]], None]]:
    """Yield a function that shows how many tasks are through."""
    with flows.progress_bar(shown, unit=" tasks") as bar:

        def report(tasks: Listing[Task]) -> None:
            if bar is None:
                return
            bar.total = len(tasks)
            over = sum(_status(task) in ("REVIEW", "SUCCESS", "FAILED") for task in tasks)
            live = [task.title for task in tasks if _is_live(task)]
            bar.set_description_str(", ".join(live)[:60] or "batch", refresh=False)
            bar.update(max(over - bar.n, 0))
            bar.refresh()

        yield report
