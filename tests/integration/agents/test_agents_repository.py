"""Several attempts in one repository: merged after each other, brought up to date, in parallel."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from rootbound.testing.script import Conversation, Fault, Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "It is done."}),))
COMMANDS = {"test_cmd": "python3 -m py_compile calc.py"}


def writes(path: str, content: str) -> Turn:
    return Turn(calls=(ToolCall("write_file", {"path": path, "content": content}),))


def start(lda: Any, repo: Path, receiver: Any, model: Any, **changes: Any) -> str:
    payload = run_payload(repo, receiver, model, **{"commands": COMMANDS, **changes})
    answer = lda.call("POST", "/run", payload)
    assert answer.status_code == 202, answer.text
    return str(payload["attempt_id"])


def ended(receiver: Any, attempt: str) -> dict[str, Any]:
    return dict(wait_for(lambda: receiver.status(attempt), "the end of the run"))


def merge(lda: Any, attempt: str, head: str) -> Any:
    return lda.call("POST", f"/runs/{attempt}/merge", {"head_commit": head, "message": "Merge"})


def test_merged_after_each_other_with_and_without_conflict(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    base = git(repo, "rev-parse", "main")
    (repo / "notes.txt").write_text("not committed\n")
    adds = stub(Steps([writes("calc.py", "def add(a, b):\n    return a + b\n"), DONE]))
    other = stub(Steps([writes("other.txt", "other\n"), DONE]))
    clash = stub(Steps([writes("calc.py", "def add(a, b):\n    return sum((a, b))\n"), DONE]))
    user = str(uuid.uuid4())
    attempts = [start(lda, repo, receiver, model, user_id=user) for model in (adds, other, clash)]
    heads = [ended(receiver, attempt)["head_commit"] for attempt in attempts]

    before = lda.call("GET", f"/runs/{attempts[1]}/merge-preview").json()
    assert (before["behind"], before["clean"], before["checkout_dirty"]) == (0, True, False)

    # What the user has open with unsaved changes is theirs until they save or close it.
    def unsaved(who: str, *paths: str) -> None:
        body = {"user_id": who, "editor": "page", "paths": [str(repo / path) for path in paths]}
        assert lda.call("POST", "/unsaved", body).status_code == 200

    unsaved(user, "calc.py", "check.py")
    refused = merge(lda, attempts[0], heads[0])
    assert (refused.status_code, refused.json()["code"]) == (409, "unsaved-changes")
    assert refused.json()["files"] == ["calc.py"]
    assert refused.json()["detail"].startswith("“calc.py” is open in JupyterLab with unsaved")
    assert git(repo, "rev-parse", "main") == base
    unsaved(user, "check.py")  # saved; what the merge does not touch may stay as it is
    unsaved(str(uuid.uuid4()), "calc.py")  # nor do others decide on this user's checkout
    assert merge(lda, attempts[0], heads[0]).json()["fast_forward"] is True
    clean = lda.call("GET", f"/runs/{attempts[1]}/merge-preview").json()
    assert (clean["behind"], clean["clean"], clean["files"]) == (2, True, [])
    # Its worktree was opened and changed by hand: that is nowhere else, so it stays.
    mine = lda.home / "worktrees" / attempts[1] / "other.txt"
    mine.write_text("by hand\n")
    assert merge(lda, attempts[1], heads[1]).status_code == 200
    assert attempts[1] not in lda.call("POST", "/worktrees/tend", {}).json()["removed"]
    assert mine.read_text() == "by hand\n"
    assert not (lda.home / "worktrees" / attempts[0]).exists()
    tried = lda.call("GET", f"/runs/{attempts[2]}/merge-preview").json()
    assert (tried["clean"], tried["files"], tried["merged"]) == (False, ["calc.py"], False)
    tip = git(repo, "rev-parse", "main")
    refused = merge(lda, attempts[2], heads[2])
    assert (refused.status_code, refused.json()["code"]) == (409, "merge-conflict")
    assert refused.json()["files"] == ["calc.py"]
    assert git(repo, "rev-parse", "main") == tip
    assert (repo / "notes.txt").read_text() == "not committed\n"
    assert "return a + b" in (repo / "calc.py").read_text()

    # Brought onto the branch as it is now: a rebase says where it fails and changes nothing.
    again = {"start_commit": heads[2], "base_commit": base}
    failed = start(lda, repo, receiver, stub(Steps([])), update="rebase", **again)
    status = ended(receiver, failed)
    assert (status["failure"], "calc.py" in status["message"]) == ("MERGE_CONFLICT", True)

    # An agent settles it, the gates run, and the result merges.
    seen: list[str] = []

    def settle(conversation: Conversation) -> Turn:
        seen.append(conversation.prompt)
        return writes("calc.py", "def add(a, b):\n    return sum([a, b])\n")

    solved = start(lda, repo, receiver, stub(Steps([settle, DONE])), update="resolve", **again)
    status = ended(receiver, solved)
    assert status["status"] == "REVIEW", status
    assert "- calc.py" in seen[0]
    answer = merge(lda, solved, status["head_commit"])
    assert answer.status_code == 200, answer.text
    assert "sum([a, b])" in (repo / "calc.py").read_text()
    assert "<<<<" not in (repo / "calc.py").read_text()


def test_work_is_rebased_and_judged_again_without_asking_the_model(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    base = git(repo, "rev-parse", "main")
    model = stub(Steps([writes("other.txt", "other\n"), DONE]))
    first = start(lda, repo, receiver, model)
    head = ended(receiver, first)["head_commit"]
    (repo / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    git(repo, "commit", "-q", "-a", "-m", "By hand")
    tip = git(repo, "rev-parse", "main")
    silent = stub(Steps([]))
    second = start(
        lda, repo, receiver, silent, update="rebase", start_commit=head, base_commit=base
    )
    status = ended(receiver, second)
    assert status["status"] == "REVIEW", status
    assert silent.requests == ()
    assert git(repo, "rev-parse", f"{status['head_commit']}~1") == tip
    assert "Co-authored-by: Fixer" in git(repo, "log", "-1", "--format=%B", status["head_commit"])
    gates = [(g["commit"], g["exit_code"]) for g in receiver.payloads(second, "gate")]
    assert gates == [(status["head_commit"], 0)]
    assert merge(lda, second, status["head_commit"]).json()["fast_forward"] is True


def test_changes_are_asked_for_on_the_same_work(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    cells = [new_code_cell(f"{name} = 1", id=name, execution_count=1) for name in ("x", "y")]
    book = new_notebook(cells=cells)
    (repo / "book.ipynb").write_text(nbformat.writes(book))
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "A notebook")
    base = git(repo, "rev-parse", "main")
    cell = {"path": "book.ipynb", "old_string": "x = 1", "new_string": "x = 2"}
    by_cell = Turn(calls=(ToolCall("edit_file", cell), *writes("one.txt", "1\n").calls))
    first = start(lda, repo, receiver, stub(Steps([by_cell, DONE])))
    head = ended(receiver, first)["head_commit"]
    lda.call("POST", f"/runs/{first}/discard")
    model = stub(Steps([writes("two.txt", "2\n"), DONE]))
    second = start(lda, repo, receiver, model, start_commit=head, base_commit=base)
    status = ended(receiver, second)
    files = lda.call("GET", f"/runs/{second}/diff").json()["files"]
    assert [file["path"] for file in files] == ["book.ipynb", "one.txt", "two.txt"]
    assert "# %% [code] id=x\n-x = 1\n+x = 2" in files[0]["patch"]
    [changed] = files[0]["notebook"]["cells"]
    assert (changed["kind"], changed["cell_id"]) == ("modified", "x")
    assert changed["patch"] == "@@ -2,1 +2,1 @@\n-x = 1\n+x = 2"
    assert "notebook" not in files[1]
    lazy = start(lda, repo, receiver, stub(Steps([DONE])), start_commit=head, base_commit=base)
    assert ended(receiver, lazy)["failure"] == "NO_CHANGES"
    assert git(repo, "rev-parse", f"{status['head_commit']}~1") == head

    # Run again and edited in another cell meanwhile: a conflict of lines, and none of cells.
    book.cells[0].execution_count, book.cells[1].source = 5, "y = 2"
    (repo / "book.ipynb").write_text(nbformat.writes(book))
    git(repo, "commit", "-q", "-a", "-m", "Run again")
    preview = lda.call("GET", f"/runs/{second}/merge-preview").json()
    assert (preview["clean"], preview["files"]) == (False, ["book.ipynb"])
    silent = stub(Steps([]))
    settled = start(
        lda, repo, receiver, silent, start_commit=head, base_commit=base, update="resolve"
    )
    status = ended(receiver, settled)
    assert status["status"] == "REVIEW", status
    assert silent.requests == ()
    told = [notice["text"] for notice in receiver.payloads(settled, "notice")]
    assert "Merged cell by cell, for no cell has two changes: book.ipynb." in told
    both = nbformat.reads(git(repo, "show", f"{status['head_commit']}:book.ipynb"), as_version=4)
    assert [cell.source for cell in both.cells] == ["x = 2", "y = 2"]
    assert merge(lda, settled, status["head_commit"]).status_code == 200


def test_twelve_at_once_lose_no_commit_and_leave_no_worktree(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    def numbered(conversation: Conversation) -> Turn:
        number = conversation.prompt.split("Number ")[1].split()[0]
        return writes(f"file-{number}.txt", f"{number}\n")

    model = stub(Steps([numbered, DONE]))
    broken = stub(Steps([Turn(faults=(Fault.http(401),))]))
    attempts = [
        start(lda, repo, receiver, model, task={"title": f"Number {n} of twelve"})
        for n in range(12)
    ]
    empty = start(lda, repo, receiver, broken)
    heads = {attempt: ended(receiver, attempt)["head_commit"] for attempt in attempts}
    for attempt, head in heads.items():
        assert merge(lda, attempt, head).status_code == 200
    assert sorted(p.name for p in repo.glob("file-*.txt")) == sorted(
        f"file-{n}.txt" for n in range(12)
    )
    for head in heads.values():
        git(repo, "merge-base", "--is-ancestor", head, "main")
    assert git(repo, "status", "--porcelain") == ""

    # What failed without any change goes by itself; its branch's tip keeps a name.
    assert ended(receiver, empty)["failure"] == "PROVIDER_AUTH"
    folder = lda.home / "worktrees"
    wait_for(lambda: not (folder / empty).exists(), "the removal of the empty worktree")
    assert git(repo, "rev-parse", f"refs/rootbound/discarded/{empty}")
    left = {row["attempt_id"] for row in lda.call("GET", "/worktrees").json()["worktrees"]}
    assert left.isdisjoint({*attempts, empty})


def test_a_profile_is_tried_and_keys_are_named(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    good = run_payload(repo, receiver, stub(Steps([Turn(text="OK")])))["agent_config"]
    answer = lda.call("POST", "/agents/test", {"agent_config": good}).json()
    assert (answer["ok"], answer["failure"]) == (True, None), answer
    refusing = stub(Steps([Turn(faults=(Fault.http(401),))]))
    bad = run_payload(repo, receiver, refusing, provider="GEMINI")["agent_config"]
    answer = lda.call("POST", "/agents/test", {"agent_config": bad}).json()
    assert (answer["ok"], answer["failure"]) == (False, "PROVIDER_AUTH")
    missing = {**bad, "settings": {}, "key_name": "OTHER_API_KEY"}
    answer = lda.call("POST", "/agents/test", {"agent_config": missing}).json()
    assert "rootbound keys set OTHER_API_KEY" in answer["message"]
    listed = lda.call("GET", "/keys?names=GLM_API_KEY,OTHER_API_KEY").json()["keys"]
    assert [key["source"] for key in listed] == ["environment", "none"]
