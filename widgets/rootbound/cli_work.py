"""The command line over the SDK: ``rootbound project | task | attempt | plan | roots | agents``."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rootbound.cli_common import CommandError, Subparsers, add_verb, names_of, printable, show

if TYPE_CHECKING:
    from rootbound.client import Client
    from rootbound.models import Root
    from rootbound.objects import Attempt, Decomposition, Task

__all__ = ["add_parser", "assignment"]

_ROLES = ("PM", "FRONTEND", "BACKEND", "QA", "DEVOPS")
_PROJECT = ("id", "name", "repo_path", "default_branch", "task_counts")
_TASK = ("id", "status", "agent_role", "priority", "title")
_ATTEMPT = ("id", "number", "status", "failure", "branch_name", "last_seq", "denied_count")
_ONE_ATTEMPT = (
    *_ATTEMPT, "failure_message", "base_commit", "head_commit", "agent", "usage", "diff_stats",
    "started_at", "completed_at", "summary", "task_version",
)  # fmt: skip
_GATE = ("name", "passed", "exit_code", "duration_s", "commit", "command")
_PLAN = ("id", "status", "user_prompt", "plan", "failure_message", "tasks_created")
_ROOT = ("id", "is_enabled", "canonical_path")
_AGENT = ("id", "name", "provider", "model", "role", "is_replay")
_COMPARED = (
    "number", "status", "agent", "model", "diff_stats", "cost_usd", "tokens", "seconds",
    "denied_count", "failure",
)  # fmt: skip

_PROJECT_NAMES = names_of(lambda client: [project.name for project in client.projects])
_AGENT_NAMES = names_of(lambda client: [agent.name for agent in client.agents])


def add_parser(subparsers: Subparsers) -> None:
    """Add the groups.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    _add_projects(_group(subparsers, "project", "make, show and change projects"))
    _add_tasks(_group(subparsers, "task", "make, show, start and change tasks"))
    _add_attempts(_group(subparsers, "attempt", "watch, review and steer attempts"))
    _add_plans(_group(subparsers, "plan", "have the PM agent break a wish down"))
    _add_roots(_group(subparsers, "roots", "grant and withdraw the folders agents may write in"))
    _add_agents(_group(subparsers, "agents", "make, show, try and change agent profiles"))


def _group(subparsers: Subparsers, name: str, help_text: str) -> Subparsers:
    parser = subparsers.add_parser(name, help=help_text)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def assignment(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``NAME=VALUE``; the value is JSON, or else a text."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return float(text)


def _project_argument(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    text = "id or name" + ("; default the newest" if optional else "")
    argument = parser.add_argument(
        "project", metavar="PROJECT", nargs="?" if optional else None, help=text
    )
    argument.completer = _PROJECT_NAMES  # type: ignore[attr-defined]


def _set_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        dest="changes", help=f"{what}; repeat it for several",
    )  # fmt: skip


def _removed(options: argparse.Namespace, what: str) -> int:
    print(json.dumps({"removed": what}) if options.json else f"Removed {printable(what)}.")
    return 0


# Projects


def _add_projects(verbs: Subparsers) -> None:
    add_verb(verbs, "list", _projects, help="show all projects")
    for name, act, text in (
        ("show", _project, "show a project"),
        ("delete", _project_delete, "delete it in Rootbound; the repository is not touched"),
    ):
        _project_argument(add_verb(verbs, name, act, help=text))
    create = add_verb(verbs, "create", _project_create, help="make a project of a git repository")
    create.add_argument("name", metavar="NAME", help="what to call it")
    create.add_argument("repository", metavar="PATH", help="beneath an enabled root")
    for gate in ("install", "test", "lint"):
        create.add_argument(f"--{gate}-cmd", metavar="COMMAND", help=f"the {gate} gate")
    _set_argument(create, "further settings, such as max_parallel=2")
    update = add_verb(verbs, "update", _project_update, help="change name or settings")
    _project_argument(update)
    update.add_argument("--name", metavar="NAME", help="a new name")
    _set_argument(update, "settings, such as test_cmd='pytest -q' or budget=2.5")


def _projects(client: Client, options: argparse.Namespace) -> int:
    found = client.projects.list()
    return show(options, found, _PROJECT, "There is no project yet: `rootbound project create`.")


def _project(client: Client, options: argparse.Namespace) -> int:
    return show(options, client.projects.find(options.project), (*_PROJECT, "config"))


def _project_create(client: Client, options: argparse.Namespace) -> int:
    made = client.projects.create(
        options.name,
        options.repository,
        install_cmd=options.install_cmd,
        test_cmd=options.test_cmd,
        lint_cmd=options.lint_cmd,
        config=dict(options.changes),
    )
    return show(options, made, (*_PROJECT, "config"))


def _project_update(client: Client, options: argparse.Namespace) -> int:
    project = client.projects.find(options.project)
    changes: dict[str, Any] = {"name": options.name} if options.name else {}
    if options.changes:
        changes["config"] = {**project.config, **dict(options.changes)}
    if not changes:
        raise CommandError("Say what to change: --name NAME, or --set test_cmd='pytest -q'.")
    return show(options, project.update(**changes), (*_PROJECT, "config"))


def _project_delete(client: Client, options: argparse.Namespace) -> int:
    project = client.projects.find(options.project)
    project.delete()
    return _removed(options, f"project {project.name}")


# Tasks


def _add_tasks(verbs: Subparsers) -> None:
    _project_argument(add_verb(verbs, "list", _tasks, help="show the board"), optional=True)
    create = add_verb(verbs, "create", _task_create, help="make a task")
    _project_argument(create)
    create.add_argument("title", metavar="TITLE", help="what is to be done, in a line")
    create.add_argument(
        "--description", default="", metavar="TEXT", help="what the agent is told besides"
    )
    create.add_argument("--role", choices=_ROLES, default="BACKEND", help="default BACKEND")
    create.add_argument("--priority", type=int, default=0, metavar="N", help="higher goes first")
    create.add_argument(
        "--after",
        action="append",
        default=[],
        metavar="TASK",
        help="to be done before; repeat it",
    )
    create.add_argument(
        "--auto-start", action="store_true", default=None, help="start when nothing blocks it"
    )
    for name, act, text in (
        ("show", _task, "show a task"),
        ("delete", _task_delete, "delete a task"),
        ("compare", _task_compare, "show its attempts side by side"),
        ("attempts", _task_attempts, "list its attempts"),
    ):
        add_verb(verbs, name, act, help=text).add_argument("task", metavar="TASK", help="its id")
    start = add_verb(verbs, "start", _task_start, help="start an attempt")
    start.add_argument("task", metavar="TASK", help="its id")
    start.add_argument("--agent", metavar="AGENT", help="name or id; default by the task's role")
    start.add_argument(
        "--read", action="append", metavar="PATH", help="a folder to read as well; repeat it"
    )
    update = add_verb(verbs, "update", _task_update, help="change fields")
    update.add_argument("task", metavar="TASK", help="its id")
    _set_argument(update, "fields, such as priority=5 or title='Fix it'")


def _tasks(client: Client, options: argparse.Namespace) -> int:
    return show(options, client.projects.find(options.project).tasks(), _TASK, "No task yet.")


def _task_create(client: Client, options: argparse.Namespace) -> int:
    made = client.projects.find(options.project).create_task(
        options.title,
        description=options.description,
        role=options.role,
        priority=options.priority,
        dependencies=options.after,
        auto_start=options.auto_start,
    )
    return show(options, made, _TASK)


def _of_task(act: Callable[[Task, argparse.Namespace], int]) -> Any:
    return lambda client, options: act(client.task(options.task), options)


def _show_task(task: Task, options: argparse.Namespace) -> int:
    names = ("description", "dependencies", "blocked_by", "waiting_reason", "auto_start", "version")
    return show(options, task, (*_TASK, *names))


def _delete_task(task: Task, options: argparse.Namespace) -> int:
    task.delete()
    return _removed(options, f"task {task.title}")


def _update_task(task: Task, options: argparse.Namespace) -> int:
    if not options.changes:
        raise CommandError("Say what to change, such as --set priority=5.")
    return show(options, task.update(**dict(options.changes)), _TASK)


_task = _of_task(_show_task)
_task_delete = _of_task(_delete_task)
_task_update = _of_task(_update_task)
_task_compare = _of_task(
    lambda task, options: show(options, task.compare(), _COMPARED, "No attempt yet.")
)
_task_attempts = _of_task(
    lambda task, options: show(options, task.attempts(), _ATTEMPT, "No attempt yet.")
)


def _task_start(client: Client, options: argparse.Namespace) -> int:
    agent = _agent_id(client, options.agent) if options.agent else None
    return show(options, client.task(options.task).start(options.read, agent_id=agent), _ATTEMPT)


# Attempts


def _add_attempts(verbs: Subparsers) -> None:
    for name, act, text in (
        ("show", lambda attempt, options: show(options, attempt, _ONE_ATTEMPT), "show an attempt"),
        ("diff", _diff, "print the change as a patch"),
        ("gates", lambda a, options: show(options, a.gates(), _GATE, "No gate ran yet."),
         "show the evidence"),
        ("approve", _decision(lambda a, o: a.approve(version=o.version)), "merge it"),
        ("cancel", _decision(lambda a, o: a.cancel(version=o.version)),
         "stop it; its branch stays"),
        ("preview", _preview, "say what merging would do now"),
    ):  # fmt: skip
        parser = _attempt_verb(verbs, name, act, text)
        if name in ("approve", "cancel"):
            _add_version(parser)
    wait = _attempt_verb(
        verbs, "wait", _wait, "wait for its end or review; exit code 1 when it failed"
    )
    wait.add_argument("--timeout", type=_seconds, metavar="S", help="seconds; default for ever")
    for name, option, act, text in (
        ("reject", "--reason",
         _decision(lambda a, o: a.reject(o.text or "", version=o.version)), "end it unmerged"),
        ("retry", "--feedback", _decision(lambda a, o: a.retry(o.text, version=o.version)),
         "start another attempt"),
        ("changes", "--feedback",
         _decision(lambda a, o: a.request_changes(o.text or "", version=o.version)),
         "have the work gone on with"),
    ):  # fmt: skip
        parser = _attempt_verb(verbs, name, act, text)
        parser.add_argument(option, dest="text", metavar="TEXT", help="what the agent is told")
        _add_version(parser)
    tell = _attempt_verb(
        verbs, "tell", _decision(lambda a, o: a.tell(o.text)), "tell a running agent something"
    )
    tell.add_argument("text", metavar="TEXT", help="heard with its next request to the model")


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task-version", dest="version", type=int, metavar="N",
        help="the task's version you saw; refused when somebody changed the task since",
    )  # fmt: skip


def _attempt_verb(
    verbs: Subparsers, name: str, act: Callable[[Attempt, argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    def run(client: Client, options: argparse.Namespace) -> int:
        return act(client.attempt(options.attempt), options)

    parser = add_verb(verbs, name, run, help=text)
    parser.add_argument("attempt", metavar="ATTEMPT", help="its id")
    return parser


def _decision(decide: Callable[[Attempt, argparse.Namespace], Attempt]) -> Any:
    return lambda attempt, options: show(options, decide(attempt, options), _ATTEMPT)


def _diff(attempt: Attempt, options: argparse.Namespace) -> int:
    diff = attempt.diff()
    if options.json:
        print(json.dumps(diff.raw, indent=2))
    else:
        for file in diff.files:
            text = file.patch
            if file.notebook is not None:
                # What could not be compared by cell says why, before the patch.
                told = f"{file.path}\n{file.notebook.text}"
                text = told if file.notebook.cells else f"{told}\n{text}"
            for line in text.split("\n") if text else ():
                print(printable(line.replace("\t", "        ")))
    return 0


def _preview(attempt: Attempt, options: argparse.Namespace) -> int:
    names = ("base_branch", "behind", "clean", "merged", "files", "checkout", "checkout_dirty")
    return show(options, attempt.merge_preview(), names)


def _wait(attempt: Attempt, options: argparse.Namespace) -> int:
    done = attempt.wait(options.timeout, progress=not options.json)
    show(options, done, _ATTEMPT)
    return 1 if done.status == "FAILED" else 0


# Plans


def _add_plans(verbs: Subparsers) -> None:
    make = add_verb(verbs, "make", _plan_make, help="ask for a plan")
    _project_argument(make)
    make.add_argument("prompt", metavar="PROMPT", help="what is wanted, in your words")
    make.add_argument("--approve", action="store_true", help="make the tasks without asking back")
    make.add_argument("--timeout", type=_seconds, metavar="S", help="seconds; default for ever")
    for name, act, text in (
        ("show", lambda client, o: _show_plan(client.decomposition(o.plan), o), "show a plan"),
        ("approve", lambda client, o: _show_plan(client.decomposition(o.plan).approve(), o),
         "make its tasks"),
    ):  # fmt: skip
        add_verb(verbs, name, act, help=text).add_argument("plan", metavar="PLAN", help="its id")


def _plan_make(client: Client, options: argparse.Namespace) -> int:
    project = client.projects.find(options.project)
    return _show_plan(
        project.plan(options.prompt, options.approve, timeout=options.timeout), options
    )


def _show_plan(plan: Decomposition, options: argparse.Namespace) -> int:
    return show(options, plan, _PLAN)


# Roots


def _add_roots(verbs: Subparsers) -> None:
    add_verb(verbs, "list", _roots, help="show the granted folders")
    add = add_verb(verbs, "add", _root_add, help="grant a folder")
    add.add_argument("path", metavar="PATH", help="where agents may write from now on")
    for name, act, text in (
        ("remove", _root_remove, "withdraw a folder; live runs lose it at once"),
        ("enable", _root_switch(enabled=True), "switch a folder on"),
        ("disable", _root_switch(enabled=False), "switch a folder off"),
    ):
        argument = add_verb(verbs, name, act, help=text).add_argument(
            "root", metavar="ROOT", help="id or path"
        )
        argument.completer = names_of(lambda client: [root.path for root in client.roots])  # type: ignore[attr-defined]


def _roots(client: Client, options: argparse.Namespace) -> int:
    return show(options, client.roots.list(), _ROOT, "No folder is granted: `rootbound roots add`.")


def _root_add(client: Client, options: argparse.Namespace) -> int:
    return show(options, client.roots.add(options.path), _ROOT)


def _find_root(client: Client, wanted: str) -> Root:
    from rootbound import _operations as ops

    names = {wanted, ops.absolute(wanted)}
    for root in client.roots:
        if names & {root.id, root.path, root.canonical_path}:
            return root
    raise CommandError(f"{wanted} is no root; `rootbound roots list` shows them.")


def _root_remove(client: Client, options: argparse.Namespace) -> int:
    root = _find_root(client, options.root)
    client.roots.remove(root.id)
    return _removed(options, f"root {root.path}")


def _root_switch(*, enabled: bool) -> Any:
    def run(client: Client, options: argparse.Namespace) -> int:
        root = _find_root(client, options.root)
        return show(options, client.roots.enable(root.id, enabled), _ROOT)

    return run


# Agents


def _add_agents(verbs: Subparsers) -> None:
    add_verb(verbs, "list", _agents, help="show the profiles")
    create = add_verb(verbs, "create", _agent_create, help="make a profile")
    create.add_argument("name", metavar="NAME", help="what to call it")
    create.add_argument(
        "--provider", required=True, type=str.upper, metavar="GLM|GEMINI", help="whose model"
    )
    create.add_argument("--model", required=True, metavar="MODEL", help="such as glm-7")
    create.add_argument(
        "--role", required=True, type=str.upper, choices=_ROLES, help="whose tasks it takes"
    )
    _set_argument(create, "further fields, such as system_prompt='Be brief.'")
    for name, act, text in (
        ("show", _agent, "show a profile"),
        ("delete", _agent_delete, "delete a profile"),
        ("test", _agent_test, "ask its model one small question"),
    ):  # fmt: skip
        _agent_verb(verbs, name, act, text)
    update = _agent_verb(
        verbs, "update",
        lambda client, o, a: show(o, client.agents.update(a, **dict(o.changes)), _AGENT),
        "change fields",
    )  # fmt: skip
    _set_argument(update, "fields, such as model=glm-7")


def _agent_verb(
    verbs: Subparsers,
    name: str,
    act: Callable[[Client, argparse.Namespace, str], int],
    text: str,
) -> argparse.ArgumentParser:
    def run(client: Client, options: argparse.Namespace) -> int:
        return act(client, options, _agent_id(client, options.agent))

    parser = add_verb(verbs, name, run, help=text)
    argument = parser.add_argument("agent", metavar="AGENT", help="name or id")
    argument.completer = _AGENT_NAMES  # type: ignore[attr-defined]
    return parser


def _agent_id(client: Client, wanted: str) -> str:
    found = [agent.id for agent in client.agents if wanted in (agent.id, agent.name)]
    if len(found) != 1:
        how = "No agent is" if not found else f"{len(found)} agents are"
        raise CommandError(f"{how} called {wanted}; `rootbound agents list` shows them.")
    return found[0]


def _agents(client: Client, options: argparse.Namespace) -> int:
    return show(options, client.agents.list(), _AGENT, "No agent yet: `rootbound agents create`.")


def _agent(client: Client, options: argparse.Namespace, agent: str) -> int:
    return show(options, client.agents.get(agent), (*_AGENT, "settings", "limits"))


def _agent_create(client: Client, options: argparse.Namespace) -> int:
    made = client.agents.create(
        options.name,
        provider=options.provider,
        model=options.model,
        role=options.role,
        **dict(options.changes),
    )
    return show(options, made, _AGENT)


def _agent_delete(client: Client, options: argparse.Namespace, agent: str) -> int:
    client.agents.delete(agent)
    return _removed(options, f"agent {options.agent}")


def _agent_test(client: Client, options: argparse.Namespace, agent: str) -> int:
    result = client.test_agent(agent)
    show(options, result, ("ok", "message", "seconds"))
    return 0 if result.ok else 1
