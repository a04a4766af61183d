"""Everything that models and vendors are known to do wrong, on both wires, in one run each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootbound.testing.script import Conversation, Fault, Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "add adds now."}),))
READ = ToolCall("read_file", {"path": "calc.py"})
COMMANDS = {"install_cmd": "", "lint_cmd": "", "test_cmd": "python3 check.py"}


def edit(old: str, new: str, path: str = "calc.py") -> ToolCall:
    return ToolCall("edit_file", {"path": path, "old_string": old, "new_string": new})


def finished(lda: Any, receiver: Any, payload: dict[str, Any]) -> dict[str, Any]:
    answer = lda.call("POST", "/run", payload)
    assert answer.status_code == 202, answer.text
    attempt = payload["attempt_id"]
    return dict(wait_for(lambda: receiver.status(attempt), "the end of the run"))


class Once:
    """Says one thing the first time and another one when it is asked again."""

    def __init__(self, first: Turn, then: Turn) -> None:
        self._turns = [first]
        self._then = then

    def __call__(self, _: Conversation) -> Turn:
        return self._turns.pop() if self._turns else self._then


@pytest.mark.parametrize("provider", ["GLM", "GEMINI"])
def test_a_run_survives_what_goes_wrong(
    provider: str, lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    (repo / "many.txt").write_text("same\nsame\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "Two lines alike")
    outside = repo.parent / "outside.txt"
    heard: list[str] = []

    def listening(turn: Turn | Callable[[Conversation], Turn]) -> Callable[[Conversation], Turn]:
        def step(conversation: Conversation) -> Turn:
            heard.extend(result.text for result in conversation.last_results)
            return turn if isinstance(turn, Turn) else turn(conversation)

        return step

    model = stub(
        Steps(
            [
                Turn(calls=(READ,), faults=(Fault.rate_limited(retry_after=0.2),)),
                Turn(calls=(READ,), faults=(Fault.http(503),)),
                Turn(text="Half of this is lost.", calls=(READ,), faults=(Fault.cut(),)),
                Turn(text="And of this as well.", calls=(READ,), faults=(Fault.early_eof(),)),
                Once(Turn(thinking="Only thinking."), Turn(text="Cut", finish="length")),
                Once(Turn(calls=(READ,), finish="malformed_call"), Turn(calls=(READ,))),
                Turn(calls=(ToolCall("open_browser", {"url": "x"}),)),
                listening(Turn(calls=(ToolCall("read_file", {"file": "calc.py"}),))),
                listening(
                    Turn(
                        calls=(
                            ToolCall("read_file", {"path": "calc.py"}, "same"),
                            ToolCall("read_file", {"path": "check.py"}, "other"),
                            ToolCall("list_files", {}, "third"),
                        )
                    )
                ),
                listening(Turn(calls=(ToolCall("read_file", {"path": "check.py"}, "same"),))),
                listening(
                    Turn(calls=(ToolCall("run_command", {"command": "echo '#' >> calc.py"}),))
                ),
                Turn(calls=(edit("return a - b", "return a + b"),)),
                listening(Turn(calls=(edit("same", "other", "many.txt"),))),
                listening(Turn(calls=(edit("x", "y", str(outside)),))),
                listening(Turn(calls=(READ,))),
                Turn(calls=(edit("return a - b", "return a + b"),)),
                listening(DONE),
            ]
        )
    )
    payload = run_payload(repo, receiver, model, provider=provider, commands=COMMANDS)
    status = finished(lda, receiver, payload)
    assert status["status"] == "REVIEW", status
    attempt = payload["attempt_id"]
    text = "".join(item["delta"] for item in receiver.payloads(attempt, "text"))
    assert text.count("Half of this is lost.") >= 1
    said = "\n".join(heard)
    for expected in (
        "There is no tool 'open_browser'. The tools are: read_file",
        "read_file has no argument 'file'; it takes path",
        "calc.py has changed since you last read it; read it again first.",
        "old_string occurs 2 times, at lines 1, 2",
        "outside.txt",
    ):
        assert expected in said, expected
    retried = receiver.payloads(attempt, "retry")
    # One request for each step and each of our retries: nobody below us tries again as well.
    steps = receiver.payloads(attempt, "usage")[-1]["steps"]
    assert (len(retried), len(model.requests)) == (4, steps + 4)
    assert git(repo, "show", f"{status['head_commit']}:calc.py").startswith(
        "def add(a, b):\n    return a + b"
    )
    assert not outside.exists()


@pytest.mark.parametrize("provider", ["GLM", "GEMINI"])
def test_nothing_but_thinking_ends_the_run_with_a_sentence(
    provider: str, lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    model = stub(Steps([], exhausted=Turn(thinking="Hm.")))
    payload = run_payload(repo, receiver, model, provider=provider, commands=COMMANDS)
    status = finished(lda, receiver, payload)
    assert status["failure"] == "PROVIDER_UNAVAILABLE"
    assert "3 times without anything usable" in status["message"]


@pytest.mark.parametrize("provider", ["GLM", "GEMINI"])
def test_an_agent_that_edits_the_test_is_flagged_and_one_that_does_nothing_fails(
    provider: str, lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    (repo / "test_calc.py").write_text("from calc import add\nassert add(2, 3) == 5\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "A test")
    cheat = Turn(calls=(ToolCall("write_file", {"path": "test_calc.py", "content": "pass\n"}),))
    commands = {"test_cmd": "python3 test_calc.py"}
    lazy = run_payload(repo, receiver, stub(Steps([DONE])), provider=provider, commands=commands)
    assert finished(lda, receiver, lazy)["failure"] == "NO_CHANGES"
    payload = run_payload(
        repo, receiver, stub(Steps([cheat, DONE])), provider=provider, commands=commands
    )
    assert finished(lda, receiver, payload)["status"] == "REVIEW"
    attempt = payload["attempt_id"]
    assert receiver.payloads(attempt, "diff")[-1]["tests"] == ["test_calc.py"]
    files = lda.call("GET", f"/runs/{attempt}/diff").json()["files"]
    assert [(file["path"], file["test"]) for file in files] == [("test_calc.py", True)]


def test_old_failures_are_told_from_new_ones_and_chance_from_both(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    (repo / "suite.py").write_text(
        "import pathlib, sys\n"
        "from calc import add\n"
        "bad = ['FAILED suite.py::old - broken for long']\n"
        "if 'sub' in pathlib.Path('calc.py').read_text():\n"
        "    bad.append('FAILED suite.py::new - no sub wanted')\n"
        "print('\\n'.join(bad)); sys.exit(1)\n"
    )
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "A suite that fails")
    work = Turn(
        calls=(ToolCall("write_file", {"path": "calc.py", "content": "add = sub = max\n"}),)
    )
    commands = {"test_cmd": "python3 suite.py"}
    asked: list[str] = []

    def again(conversation: Conversation) -> Turn:
        asked.append(next(m.text for m in reversed(conversation.messages) if m.role == "user"))
        return DONE

    limits = {"gate_retries": 1}
    model = stub(Steps([work, DONE, again]))
    payload = run_payload(repo, receiver, model, commands=commands, limits=limits)
    status = finished(lda, receiver, payload)
    assert status["failure"] == "GATE_TEST"
    attempt = payload["attempt_id"]
    found = receiver.payloads(attempt, "baseline")
    assert [(b["exit_code"], b["before"], b["new"], b["cached"]) for b in found] == [
        (1, ["suite.py::old"], ["suite.py::new"], False),
        (1, ["suite.py::old"], ["suite.py::new"], True),
    ]
    assert "New with this work: suite.py::new." in asked[0]
    assert "Failing before it as well: suite.py::old." in status["message"]

    # Chance: the second run of the same gate at the same commit is green.
    flag = repo.parent / "seen"
    flaky = f"test -e .seen && python3 check.py || (touch .seen; exit 1) # {flag}"
    fix = Turn(calls=(edit("return a - b", "return a + b"),))
    payload = run_payload(
        repo, receiver, stub(Steps([fix, DONE])), commands={"test_cmd": flaky}, limits=limits
    )
    assert finished(lda, receiver, payload)["status"] == "REVIEW"
    evidence = receiver.payloads(payload["attempt_id"], "gate")
    assert [(item["exit_code"], item["flaky"]) for item in evidence] == [(1, False), (0, True)]
    notices = " ".join(n["text"] for n in receiver.payloads(payload["attempt_id"], "notice"))
    assert "is flaky" in notices


def test_a_message_reaches_the_next_request_and_delays_the_end(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    gate = repo.parent / "go"
    waiting = Turn(
        calls=(
            ToolCall("run_command", {"command": f"until test -e {gate}; do sleep 0.05; done"}),
            ToolCall("finish", {"status": "done", "summary": "Done."}),
        )
    )
    heard: list[str] = []

    def obey(conversation: Conversation) -> Turn:
        heard.append(next(m.text for m in reversed(conversation.messages) if m.role == "user"))
        return Turn(calls=(edit("return a - b", "return a + b"),))

    model = stub(Steps([waiting, obey, DONE]))
    payload = run_payload(
        repo, receiver, model, commands=COMMANDS, readable_paths=[str(repo.parent)]
    )
    attempt = payload["attempt_id"]
    assert lda.call("POST", "/run", payload).status_code == 202
    wait_for(lambda: receiver.payloads(attempt, "tool_call"), "the command")
    sent = lda.call("POST", f"/runs/{attempt}/messages", {"text": "Add, do not subtract."})
    assert sent.status_code == 202, sent.text
    gate.write_text("")
    status = wait_for(lambda: receiver.status(attempt), "the end of the run")
    assert status["status"] == "REVIEW", status
    assert "The user says: Add, do not subtract." in heard[0]
    assert [m["text"] for m in receiver.payloads(attempt, "user_message")] == [
        "Add, do not subtract."
    ]
    late = lda.call("POST", f"/runs/{attempt}/messages", {"text": "More."})
    assert (late.status_code, late.json()["code"]) == (409, "run-over")


def test_notes_and_references_are_read_for_the_agent(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    (repo / "AGENTS.md").write_text("Use four spaces.\n")
    (repo / "guides").mkdir()
    (repo / "guides" / "style.md").write_text("Short.\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "Notes")
    spec = repo.parent / "spec.txt"
    spec.write_text("A sum adds.\n")
    model = stub(Steps([Turn(calls=(edit("return a - b", "return a + b"),)), DONE]))
    payload = run_payload(
        repo, receiver, model, commands=COMMANDS, limits={"max_steps": 2},
        reference_paths=[str(spec), "calc.py", "missing.txt", "guides"],
        readable_paths=[str(spec)],
    )  # fmt: skip
    assert finished(lda, receiver, payload)["status"] == "REVIEW"
    prompt = next(m["content"] for m in model.requests[0].body["messages"] if m["role"] == "user")
    for expected in (
        "Use four spaces.",
        "A sum adds.",
        "return a - b",
        "missing.txt: ",
        "guides/style.md",
    ):
        assert expected in prompt
    read = {e["path"] for e in receiver.audit[payload["attempt_id"]] if e["operation"] == "READ"}
    assert str(spec) in read, "what is read for the agent is audited too"
    notices = " ".join(n["text"] for n in receiver.payloads(payload["attempt_id"], "notice"))
    assert "2 of 2 steps" in notices, "the reader is told at 80 % of a limit"


def test_old_outputs_are_left_out_once_the_window_is_half_full(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    (repo / "long.txt").write_text("".join(f"line {n} of many\n" for n in range(1, 201)))
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "A long file")
    reads = [
        Turn(calls=(ToolCall("read_file", {"path": "long.txt", "limit": 100 + n}),))
        for n in range(14)
    ]
    fix = Turn(calls=(edit("return a - b", "return a + b"),))
    model = stub(Steps([fix, *reads, DONE]))
    payload = run_payload(repo, receiver, model, commands=COMMANDS)
    payload["agent_config"]["settings"] = {"context_window": 4_000}
    payload["limits"] = {"max_cost_usd": 5.0}
    assert finished(lda, receiver, payload)["status"] == "REVIEW"
    told = [m["content"] for m in model.requests[-1].body["messages"] if m["role"] == "tool"]
    assert told[0].startswith("Changed calc.py"), "what was done stays"
    left_out = [text.startswith("[output left out, ") for text in told[1:]]
    # Ten, and the one that came after they were counted.
    assert left_out == [True] * 3 + [False] * 11
    # Not a replayed model, and one without a price: only tokens are counted, which is said once.
    used = receiver.payloads(payload["attempt_id"], "usage")
    assert (used[-1]["steps"], {one["cost_usd"] for one in used}) == (16, {None})
    said = [n["text"] for n in receiver.payloads(payload["attempt_id"], "notice")]
    (text,) = [text for text in said if "price" in text]
    assert text.startswith("The price of glm-7 is not known, so only tokens are counted, and a ")
    assert "guess counts against the limit of $5.00; settings.price in the agent's" in text
