"""An environment for each worktree: Node's, whose packages come by the user's own configuration."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootbound.testing.script import Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "It is done."}),))
PACKAGE = "is-number"
INTEGRITY = {
    "7.0.0": "41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbG"
    "XYxxng==",
    "6.0.0": "Wu1VHeILBK8KAWJUAiSZQX94GmOE45Rg6/538fKwiloUu21KncEkYGPqob2oSZ5mUT73vLGrHQjKw3KM"
    "PwfDzg==",
}
INSTALL = "npm ci --prefer-offline --loglevel http; cat ~/.npmrc; echo ' ' >> package-lock.json"
CACHED, FETCHED = "(cache hit)", "npm http fetch GET 200"
TEST = (
    "node -e \"console.log('runs with', require('is-number/package.json').version, "
    "require.resolve('is-number'))\""
)


def manifests(version: str) -> dict[str, str]:
    """Return package.json and package-lock.json for one version of the package."""
    wanted = {PACKAGE: version}
    lock = {
        "name": "sample", "version": "1.0.0", "lockfileVersion": 3, "requires": True,
        "packages": {
            "": {"name": "sample", "version": "1.0.0", "dependencies": wanted},
            f"node_modules/{PACKAGE}": {
                "version": version,
                "resolved": f"https://registry.npmjs.org/{PACKAGE}/-/{PACKAGE}-{version}.tgz",
                "integrity": f"sha512-{INTEGRITY[version]}",
            },
        },
    }  # fmt: skip
    manifest = {"name": "sample", "version": "1.0.0", "dependencies": wanted}
    return {
        "package.json": json.dumps(manifest, indent=2) + "\n",
        "package-lock.json": json.dumps(lock, indent=2) + "\n",
    }


def log_of(lda: Any, receiver: Any, attempt: str, name: str, commit: str) -> str:
    """Return what a gate printed at a commit."""
    found = [
        one for one in receiver.payloads(attempt, "gate")
        if (one["name"], one["commit"]) == (name, commit)
    ]  # fmt: skip
    path = lda.home / "artifacts" / attempt / found[-1]["log_artifact"]
    return str(path.read_text())


@pytest.fixture
def registry(lda: Any) -> Iterator[str]:
    """Return where packages come from; the LDA's user has that, and a key, in a configuration."""
    said = subprocess.run(
        ["npm", "config", "get", "registry"], check=True, capture_output=True, text=True
    )
    mine, theirs = Path.home() / ".npmrc", Path(lda.env["HOME"]) / ".npmrc"
    own = mine.read_text() if mine.exists() else ""
    key = "//registry.example.org/:_authToken=npm_s3cret"
    theirs.write_text(f"{own}\nregistry={said.stdout.strip()}\n{key}\n")
    yield said.stdout.strip()
    theirs.unlink()


def test_two_worktrees_have_a_node_environment_each_and_share_downloads(
    lda: Any, repo: Path, receiver: Any, stub: Any, registry: str
) -> None:
    for name, text in manifests("7.0.0").items():
        (repo / name).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "A package of node's")
    base = git(repo, "rev-parse", "HEAD")
    # Both wait in their agent until both are there, so that the two environments live at once.
    flag = repo.parent / "both"
    until = f"until test -e {flag}; do sleep 0.05; done"

    def agent(*work: ToolCall) -> Any:
        first = ToolCall("run_command", {"command": f"{until}; {TEST}"})
        return stub(Steps([Turn(calls=(first,)), Turn(calls=work), DONE]))

    files = [
        ToolCall("write_file", {"path": name, "content": text})
        for name, text in manifests("6.0.0").items()
    ]
    note = ToolCall("write_file", {"path": "note.txt", "content": "x\n"})
    commands = {"install_cmd": INSTALL, "test_cmd": TEST}
    common = {"commands": commands, "readable_paths": [str(repo.parent)]}
    runs: list[dict[str, Any]] = []
    for model in (agent(*files), agent(note)):
        payload = run_payload(repo, receiver, model, **common)
        payload["project_id"] = runs[0]["project_id"] if runs else payload["project_id"]
        assert lda.call("POST", "/run", payload).status_code == 202
        runs.append(payload)
        # The second one begins with what the first has downloaded.
        attempt = payload["attempt_id"]
        wait_for(lambda a=attempt: receiver.payloads(a, "tool_call"), "the agent", 90)
    flag.write_text("")
    heads = {}
    for payload, version in zip(runs, ("6.0.0", "7.0.0"), strict=True):
        attempt = payload["attempt_id"]
        status = wait_for(lambda a=attempt: receiver.status(a), "the end of the run", 90)
        assert status["status"] == "REVIEW", status
        heads[attempt] = status["head_commit"]
        worktree = lda.home / "worktrees" / attempt
        said = log_of(lda, receiver, attempt, "test", heads[attempt])
        assert f"runs with {version} {worktree}/node_modules/{PACKAGE}/" in said
        installed = json.loads((worktree / f"node_modules/{PACKAGE}/package.json").read_text())
        assert installed["version"] == version
    first, second = (payload["attempt_id"] for payload in runs)

    assert FETCHED in log_of(lda, receiver, first, "install", base)
    assert FETCHED in log_of(lda, receiver, first, "install", heads[first])
    for commit in (base, heads[second]):
        said = log_of(lda, receiver, second, "install", commit)
        assert CACHED in said, said
        assert FETCHED not in said, said
        assert f"\nregistry={registry}\n" in said, "the user's own configuration counts"
        assert "s3cret" not in said, "but for its keys"

    # What an install makes and changes is nobody's work.
    notices = " ".join(one["text"] for one in receiver.payloads(second, "notice"))
    assert "The install command changed package-lock.json, which is put back" in notices
    changed = git(repo, "diff", "--name-only", "main", heads[second])
    assert changed.splitlines() == ["note.txt"]
    changed = git(repo, "diff", "--name-only", "main", heads[first])
    assert changed.splitlines() == ["package-lock.json", "package.json"]
    assert git(repo, "show", f"{heads[first]}:package-lock.json") == (
        manifests("6.0.0")["package-lock.json"].strip()
    )
    assert not (repo / "node_modules").exists()
    assert git(repo, "status", "--porcelain") == ""


def test_tests_import_the_attempts_code_and_not_the_users_checkout(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    # What an editable install does: a path in an environment, found from wherever tests run.
    install = (
        "python3 -m venv --without-pip .venv && "
        "pwd > \"$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/here.pth\""
    )
    test = (
        "top=$PWD; cd / && $top/.venv/bin/python -c "
        "'import calc; print(\"tested\", calc.__file__); assert calc.add(2, 3) == 5'"
    )
    subprocess.run(["bash", "-c", install], cwd=repo, check=True)
    (repo / ".gitignore").write_text(".venv/\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "An environment")
    fix = {"path": "calc.py", "content": "def add(a, b):\n    return a + b\n"}
    model = stub(Steps([Turn(calls=(ToolCall("write_file", fix),)), DONE]))
    commands = {"install_cmd": install, "test_cmd": test}
    payload = run_payload(repo, receiver, model, commands=commands)
    assert lda.call("POST", "/run", payload).status_code == 202
    attempt = payload["attempt_id"]
    status = wait_for(lambda: receiver.status(attempt), "the end of the run", 90)
    assert status["status"] == "REVIEW", status
    said = log_of(lda, receiver, attempt, "test", status["head_commit"])
    assert f"tested {lda.home}/worktrees/{attempt}/calc.py" in said
    assert git(repo, "diff", "--name-only", "main", status["head_commit"]) == "calc.py"
    assert git(repo, "status", "--porcelain") == ""
