"""kill -9 of the LDA at every stage: the run goes on, and nothing is done twice."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from rootbound.testing.script import Conversation, Fault, Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "add adds now."}),))
GOOD = Turn(
    calls=(
        ToolCall(
            "write_file", {"path": "calc.py", "content": "def add(a, b):\n    return a + b\n"}
        ),
    )
)
SIMPLE = {"install_cmd": "", "lint_cmd": "", "test_cmd": "python3 check.py"}


def command(text: str) -> Turn:
    return Turn(calls=(ToolCall("run_command", {"command": text}),))


def alive(mark: str) -> bool:
    return any(
        mark in " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline"])
    )


def finished(lda: Any, receiver: Any, payload: dict[str, Any]) -> dict[str, Any]:
    attempt = payload["attempt_id"]
    status = wait_for(lambda: receiver.status(attempt), "the end of the run")
    seqs = [event["seq"] for event in receiver.events[attempt]]
    assert seqs == list(range(1, len(seqs) + 1)), "the stream has no hole and nothing twice"
    return dict(status)


def test_killed_during_model_calls_a_command_and_a_gate(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    mark = f"41{time.time_ns() % 10**9}"
    heard: list[str] = []

    def listen(conversation: Conversation) -> Turn:
        heard.extend(result.text for result in conversation.last_results)
        return GOOD

    def started(turns: Any, **changes: Any) -> tuple[dict[str, Any], Any]:
        model = stub(Steps(turns))
        payload = run_payload(repo, receiver, model, **{"commands": SIMPLE, **changes})
        assert lda.call("POST", "/run", payload).status_code == 202
        return payload, model

    # In a model call, on both wires, after a command that must not run again.
    stalled = Turn(calls=GOOD.calls, faults=(Fault.stall(60),))
    calls = [
        started([command("echo ran >> runs.txt"), stalled, DONE], provider=provider)
        for provider in ("GLM", "GEMINI")
    ]
    # In the second of three commands.
    three = Turn(
        calls=(
            ToolCall("run_command", {"command": "echo first >> runs.txt"}),
            ToolCall("run_command", {"command": f"echo second >> runs.txt; sleep {mark}"}),
            ToolCall("run_command", {"command": "echo third >> runs.txt"}),
        )
    )
    commands, _ = started([three, listen, DONE])
    # In a gate.
    flag = repo.parent / "go"
    gate = f"test -e {flag} || sleep {mark}7; python3 check.py"
    gated, gate_model = started(
        [GOOD, DONE], commands={"test_cmd": gate}, readable_paths=[str(repo.parent)]
    )
    # In a command of a run whose journal is lost.
    lost, _ = started([command(f"sleep {mark}8")])

    wait_for(lambda: all(len(model.requests) == 2 for _, model in calls), "the model calls")
    wait_for(lambda: alive(f"sleep {mark}"), "the commands")
    wait_for(lambda: alive(f"sleep {mark}7") and alive(f"sleep {mark}8"), "gate and command")
    wait_for(lambda: len(receiver.payloads(commands["attempt_id"], "tool_call")) == 2, "the second")
    lda.stop(signal.SIGKILL)
    wait_for(lambda: not alive(mark), "the end of all processes")
    flag.write_text("")
    (lda.home / "runs" / lost["attempt_id"] / "journal.jsonl").write_text("no journal\n")
    lda.start()

    for payload, model in calls:
        status = finished(lda, receiver, payload)
        assert status["status"] == "REVIEW", status
        assert git(repo, "show", f"{status['head_commit']}:runs.txt") == "ran", "it ran once"
        assert len(model.requests) == 4, "only the call that was not answered is made again"
        reasons = [item["reason"] for item in receiver.payloads(payload["attempt_id"], "retry")]
        assert reasons == ["Rootbound was restarted; the model is asked again."]

    status = finished(lda, receiver, commands)
    assert status["status"] == "REVIEW", status
    lines = git(repo, "show", f"{status['head_commit']}:runs.txt").split()
    assert lines == ["first", "second", "third"], "each ran exactly once"
    assert [text.split()[0] for text in heard] == ["exit", "Interrupted:", "exit"]

    status = finished(lda, receiver, gated)
    assert status["status"] == "REVIEW", status
    assert len(gate_model.requests) == 2, "the agent is not asked again"
    evidence = receiver.payloads(gated["attempt_id"], "gate")
    assert [(item["exit_code"], item["commit"]) for item in evidence] == [
        (0, status["head_commit"])
    ]

    status = finished(lda, receiver, lost)
    assert (status["status"], status["failure"]) == ("FAILED", "LDA_LOST")
    assert "its journal cannot be read" in status["message"]


def test_a_stopped_lda_goes_on_and_a_merge_is_never_made_twice(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    merging = run_payload(repo, receiver, stub(Steps([GOOD, DONE])), commands=SIMPLE)
    lda.call("POST", "/run", merging)
    head = finished(lda, receiver, merging)["head_commit"]
    mark = f"43{time.time_ns() % 10**9}"
    model = stub(Steps([command(f"sleep {mark}"), GOOD, DONE]))
    payload = run_payload(repo, receiver, model, commands=SIMPLE)
    attempt = payload["attempt_id"]
    lda.call("POST", "/run", payload)
    wait_for(lambda: alive(mark), "the command")
    # A merge that was made while the process died before it could answer or tidy up.
    before = git(repo, "rev-parse", "main")
    tree = git(repo, "merge-tree", "--write-tree", before, head)
    made = git(repo, "commit-tree", tree, "-p", before, "-p", head, "-m", "Merge")
    git(repo, "merge", "--ff-only", "--quiet", made)

    assert lda.stop() == 0
    assert not alive(mark)
    assert receiver.status(attempt) is None, "it has not ended"
    lda.start()
    assert lda.call("GET", f"/runs/{attempt}").json()["live"] is True
    body = {"head_commit": head, "message": "Merge"}
    answer = lda.call("POST", f"/runs/{merging['attempt_id']}/merge", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["merge_commit"] == made, "the merge that was made is the answer"
    assert git(repo, "rev-parse", "main") == made, "and none is made on top of it"
    assert not (lda.home / "worktrees" / merging["attempt_id"]).exists()
    assert finished(lda, receiver, payload)["status"] == "REVIEW"


def test_killed_in_a_merge_which_is_then_made_exactly_once(
    lda: Any, repo: Path, receiver: Any, stub: Any, tmp_path: Path
) -> None:
    # A git that stops before it makes the merge's commit, or after it has moved the branch.
    tools, real = tmp_path / "tools", shutil.which("git")
    tools.mkdir()
    (tools / "git").write_text(
        "#!/bin/sh\nstep=none\n"
        'for word; do case "$word" in commit-tree|--ff-only) step=$word;; esac; done\n'
        f'if [ $step = --ff-only ]; then {real} "$@"; code=$?; fi\n'
        f"if [ -e {tools}/hold$step ]; then : > {tools}/in$step; fi\n"
        f"while [ -e {tools}/hold$step ]; do sleep 0.05; done\n"
        "if [ $step = --ff-only ]; then exit $code; fi\n"
        f'exec {real} "$@"\n'
    )
    (tools / "git").chmod(0o755)
    lda.stop()
    lda.env["PATH"] = f"{tools}:{os.environ['PATH']}"
    lda.start()

    for step in ("commit-tree", "--ff-only"):
        name = f"made-{step.strip('-')}.txt"
        write = Turn(calls=(ToolCall("write_file", {"path": name, "content": "made\n"}),))
        commands = {"test_cmd": f"test -e {name}"}
        payload = run_payload(repo, receiver, stub(Steps([write, DONE])), commands=commands)
        assert lda.call("POST", "/run", payload).status_code == 202
        head = finished(lda, receiver, payload)["head_commit"]
        before = git(repo, "rev-parse", "main")
        hold, merge = tools / f"hold{step}", f"/runs/{payload['attempt_id']}/merge"
        hold.touch()
        body = {"head_commit": head, "message": "Merge"}
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lda.call, "POST", merge, body)
            wait_for((tools / f"in{step}").exists, "the merge")
            lda.stop(signal.SIGKILL)
            assert asked.exception() is not None, "nobody was told that it is merged"
        hold.unlink()
        made = git(repo, "rev-parse", "main")
        assert (made == before) == (step == "commit-tree")
        lda.start()
        answer = lda.call("POST", merge, body)
        assert answer.status_code == 200, answer.text
        now = git(repo, "rev-parse", "main")
        assert answer.json()["merge_commit"] == now
        assert now != before and made in (before, now)
        assert git(repo, "rev-list", "--count", "--merges", f"{before}..main") == "1"
        assert git(repo, "status", "--porcelain") == ""
        assert (repo / name).read_text() == "made\n"
    wait_for(lambda: not alive(f"{tools}/git"), "the end of all processes")
