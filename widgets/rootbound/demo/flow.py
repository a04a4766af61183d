"""The main job through the public SDK: plan, attempts in order, review, merge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import rootbound as rb
from rootbound.demo.console import Console, EventLines
from rootbound.demo.errors import DemoError
from rootbound.demo.replay import PROMPT

T = TypeVar("T")

CONFIG = {
    "install_cmd": "python3 -m venv .venv && .venv/bin/python -m pip install -q -e . pytest flake8",
    "lint_cmd": ".venv/bin/python -m flake8 sqlparse",
    "test_cmd": ".venv/bin/python -m pytest -q",
    "gate_timeout_s": 600,
}
_PLAN_TIMEOUT = 600.0  # seconds
_MERGE_TIMEOUT = 120.0
_AUTO_START_GRACE = 15.0
_POLL = 0.3


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An attempt that reached its review.

    Parameters
    ----------
    task : Task
        The task.
    attempt : Attempt
        The attempt, as of the end of the flow.
    gates : tuple[Gate, ...]
        The gates with their evidence.
    diff : Diff
        What it changes.
    """

    task: rb.Task
    attempt: rb.Attempt
    gates: tuple[rb.Gate, ...]
    diff: rb.Diff


def until(read: Callable[[], T], done: Callable[[T], bool], seconds: float) -> T:
    """Read again and again until `done`, or until the time is over.

    Parameters
    ----------
    read : callable
        Gives the present state.
    done : callable
        Whether a state is the one waited for.
    seconds : float
        Longest time.

    Returns
    -------
    T
        The last state read, whether done or not.
    """
    deadline = time.monotonic() + seconds
    while not done(state := read()) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return state


def create_project(client: rb.Client, repository: Path, name: str) -> rb.Project:
    """Grant the repository's folder as a root and create the project."""
    client.roots.add(repository)
    return client.projects.create(name=name, repo_path=repository, config=CONFIG)


def plan(
    project: rb.Project, agents: Mapping[str, rb.Agent], console: Console
) -> tuple[rb.Task, ...]:
    """Let the PM decompose the wish, and give each task its agent.

    Parameters
    ----------
    project : Project
        The project.
    agents : Mapping[str, Agent]
        Profile by role.
    console : Console
        Where to print.

    Returns
    -------
    tuple[Task, ...]
        The tasks made.

    Raises
    ------
    DemoError
        When the plan has fewer than two tasks or no dependency.
    """
    console.line(f'asking the PM agent: "{PROMPT}"')
    decomposition = project.plan(
        PROMPT, auto_approve=True, timeout=_PLAN_TIMEOUT, agent_id=agents["PM"].id
    )
    summary = decomposition.plan.get("summary")
    if summary:
        console.line(f"the plan: {summary}")
    titles = {task.id: task.title for task in decomposition.tasks()}
    for task in decomposition.tasks():
        agent = agents.get(task.agent_role, agents["BACKEND"])
        changes: dict[str, object] = {"assigned_agent_id": agent.id}
        if task.dependencies:
            changes["auto_start"] = True
        task.update(**changes)
        after = ", ".join(titles.get(each, each) for each in task.dependencies)
        console.line(
            f"{task.agent_role:<8} {task.title}" + (f"  (after: {after})" if after else "")
        )
    tasks = tuple(task.refresh() for task in decomposition.tasks())
    if len(tasks) < 2 or not any(task.dependencies for task in tasks):
        raise DemoError("The plan has no two tasks with a dependency between them.")
    return tasks


def work(project: rb.Project, console: Console, *, merge: bool) -> Iterator[Reviewed]:
    """Do the tasks in the order of their dependencies.

    Parameters
    ----------
    project : Project
        The project.
    console : Console
        Where to print the events.
    merge : bool
        Approve each attempt whose gates are green; otherwise stop at the first review.

    Yields
    ------
    Reviewed
        Each attempt, merged when `merge`.

    Raises
    ------
    DemoError
        When an attempt fails, its evidence does not hold, or it cannot be merged.
    """
    while task := _next_task(project):
        attempt = _follow(_start(task, console), task, console)
        reviewed = _review(task, attempt, console)
        if not merge:
            yield reviewed
            return
        attempt = _merge(attempt)
        console.line(f"merged   {task.title}")
        console.line()
        yield Reviewed(task.refresh(), attempt, reviewed.gates, reviewed.diff)


def _next_task(project: rb.Project) -> rb.Task | None:
    left = [task for task in project.tasks() if task.status != "DONE"]
    ready = sorted((t for t in left if not t.blocked_by), key=lambda t: -t.priority)
    if left and not ready:
        raise DemoError("The tasks that are left all wait for each other.")
    return ready[0] if ready else None


def _start(task: rb.Task, console: Console) -> rb.Attempt:
    if task.auto_start and task.dependencies:
        task = until(task.refresh, lambda t: t.latest_attempt is not None, _AUTO_START_GRACE)
    attempt = task.latest_attempt
    by_itself = attempt is not None
    if attempt is None:
        attempt = task.start()
    how = "started by itself, its dependencies are done" if by_itself else "started"
    console.line(f"{task.agent_role}: {task.title}")
    console.line(f"attempt {attempt.number} {how}; branch {attempt.branch_name}")
    return attempt


def _follow(attempt: rb.Attempt, task: rb.Task, console: Console) -> rb.Attempt:
    lines = EventLines()
    for event in attempt.events(follow=True):
        for line in lines.feed(event):
            console.line(line)
    for line in lines.flush():
        console.line(line)
    attempt = until(attempt.refresh, lambda a: not a.is_live, _AUTO_START_GRACE)
    if attempt.status not in ("REVIEW", "SUCCESS"):
        reason = attempt.failure_message or attempt.failure or attempt.status
        raise DemoError(f'Attempt {attempt.number} of "{task.title}" failed: {reason}')
    return attempt


def _review(task: rb.Task, attempt: rb.Attempt, console: Console) -> Reviewed:
    gates, diff = tuple(attempt.gates()), attempt.diff()
    # The same gate may have run before, at an earlier commit that did not pass.
    green = {gate.name for gate in gates if gate.passed and gate.commit == attempt.head_commit}
    missing = {"install", "lint", "test"} - green
    if missing:
        raise DemoError(
            f"The attempt waits for review without a green {', '.join(sorted(missing))} gate at "
            f"its commit {str(attempt.head_commit)[:10]}."
        )
    stats = diff.stats
    console.line(
        f"review   {stats.get('files')} files, +{stats.get('additions')} "
        f"-{stats.get('deletions')}, gates green at {str(attempt.head_commit)[:10]}"
    )
    return Reviewed(task, attempt, gates, diff)


def _merge(attempt: rb.Attempt) -> rb.Attempt:
    attempt = until(attempt.approve().refresh, lambda a: a.status != "REVIEW", _MERGE_TIMEOUT)
    if attempt.status != "SUCCESS":
        reason = attempt.failure_message or attempt.failure or f"it is in {attempt.status}"
        raise DemoError(f"The attempt was approved but not merged: {reason}")
    return attempt
