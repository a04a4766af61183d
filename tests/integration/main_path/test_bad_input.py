"""What a newcomer gets wrong: one clear sentence each, and nothing half-made."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import LiveStack, fix_calculator
from tests.support.repos import git, make_repository


def refused(live: LiveStack, path: str, body: dict[str, Any], status: int = 422) -> Any:
    """Expect a problem with one clear sentence, and return it."""
    answer = live.http.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert re.match(r"""^(git |[A-Z`'"“/]).*[.!]$""", problem["detail"]), problem["detail"]
    assert "Traceback" not in problem["detail"]
    return problem


def missing(folder: Path) -> str:
    return str(folder / "nothing-here")


def relative(folder: Path) -> str:
    return "src/app"


def plain_folder(folder: Path) -> str:
    (folder / "plain").mkdir()
    return str(folder / "plain")


def bare(folder: Path) -> str:
    (folder / "bare.git").mkdir()
    git(folder / "bare.git", "init", "-q", "--bare")
    return str(folder / "bare.git")


def without_commit(folder: Path) -> str:
    (folder / "empty").mkdir()
    git(folder / "empty", "init", "-q")
    return str(folder / "empty")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (missing, "repo-missing"),
        (relative, "repo-not-absolute"),
        (plain_folder, "repo-not-git"),
        (bare, "repo-bare"),
        (without_commit, "repo-empty"),
    ],
)
def test_repository_that_cannot_be_a_project(
    live: LiveStack, tmp_path: Path, make: Callable[[Path], str], code: str
) -> None:
    live.call("POST", "/api/local-access/roots/", {"path": str(tmp_path)})
    before = live.call("GET", "/api/projects/?limit=200")["results"]
    body = {"name": "bad", "repo_path": make(tmp_path), "config": {}}
    problem = refused(live, "/api/projects/", body)
    assert problem["code"] == code
    assert live.call("GET", "/api/projects/?limit=200")["results"] == before


def test_repository_outside_every_root(live: LiveStack, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "app")
    problem = refused(live, "/api/projects/", {"name": "x", "repo_path": str(repository)})
    assert problem["code"] == "repo-outside-roots"
    assert "grant it" in problem["detail"]


def test_repository_without_git_identity(live: LiveStack, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "app")
    live.call("POST", "/api/local-access/roots/", {"path": str(repository)})
    # An empty value in the repository hides whatever identity the machine has.
    git(repository, "config", "user.name", "")
    git(repository, "config", "user.email", "")
    problem = refused(live, "/api/projects/", {"name": "x", "repo_path": str(repository)})
    assert problem["code"] == "repo-no-identity"
    assert "git config" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", "root-is-filesystem-root"),
        ("~", "root-is-home"),
        ("HOME", "root-protected"),
        ("FILE", "root-not-directory"),
        ("relative/folder", "root-not-absolute"),
        ("/nothing/here", "root-missing"),
    ],
)
def test_root_that_cannot_be_granted(live: LiveStack, tmp_path: Path, path: str, code: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    known = {
        "~": os.path.expanduser("~"), "HOME": str(live.home), "FILE": str(tmp_path / "file.txt"),
    }  # fmt: skip
    before = live.call("GET", "/api/local-access/roots/?limit=200")["results"]
    problem = refused(live, "/api/local-access/roots/", {"path": known.get(path, path)})
    assert problem["code"] == code
    assert live.call("GET", "/api/local-access/roots/?limit=200")["results"] == before


def test_gate_command_that_does_not_exist(live: LiveStack) -> None:
    project = live.make_project("no-such-gate", lint_cmd="no-such-linter --all")
    task = live.make_task(project, "Repair addition")
    live.replay.turns = [*fix_calculator(), *[fix_calculator()[-1]] * 4]
    made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
    attempt = live.wait_for_attempt(made["id"])
    assert (attempt["status"], attempt["failure"]) == ("FAILED", "GATE_LINT")
    assert "no-such-linter" in attempt["failure_message"]
    assert "lint_cmd" in attempt["failure_message"]


def test_task_without_an_agent_for_its_role(live: LiveStack) -> None:
    project = live.make_project("no-agent")
    agents = live.call("GET", "/api/agents/")["results"]
    (devops,) = [agent for agent in agents if agent["role"] == "DEVOPS"]
    live.call("DELETE", f"/api/agents/{devops['id']}/")
    try:
        task = live.make_task(project, "Deploy", agent_role="DEVOPS")
        problem = refused(live, f"/api/tasks/{task['id']}/attempts/", {}, 409)
        assert "agent" in problem["detail"]
    finally:
        keep = ("name", "role", "provider", "model", "base_url", "system_prompt", "settings")
        live.call("POST", "/api/agents/", {key: devops[key] for key in keep})


def test_unknown_token_is_refused(live: LiveStack) -> None:
    answer = live.http.get("/api/projects/", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_root_that_is_gone_bars_no_other_project(live: LiveStack, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    live.call("POST", "/api/local-access/roots/", {"path": str(gone)})
    gone.rmdir()
    project = live.make_project("beside-a-gone-root")
    live.replay.turns = fix_calculator()
    task = live.make_task(project, "Repair addition")
    made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
    assert live.wait_for_attempt(made["id"])["status"] == "REVIEW"
