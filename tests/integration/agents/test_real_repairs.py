"""Real repairs from neighbouring releases on the package index: red before, green after."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rootbound.demo.derive import derive_edits
from rootbound.demo.releases import unpack_archive
from rootbound.testing.script import Conversation, Fault, Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

# The interpreter of this session has pytest; an environment for each attempt would take minutes.
TEST = (
    f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONPATH=src:. {sys.executable} -m pytest -q "
    "-p no:cacheprovider --confcutdir ."
)
DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "As released."}),))


class Pair(NamedTuple):
    """Two neighbouring releases; the tests of the later one are red on the earlier one."""

    package: str
    old: str
    new: str
    tests: str
    source: str = "src"


PAIRS = [
    Pair("sqlparse", "0.5.4", "0.5.5", "tests/test_split.py", "."),
    Pair("cachetools", "7.0.2", "7.0.3", "tests/test_cachedmethod.py"),
    Pair("tomlkit", "0.13.2", "0.13.3", "tests/test_toml_document.py tests/test_items.py", "."),
    Pair("itsdangerous", "2.1.2", "2.2.0", "tests/test_itsdangerous/test_serializer.py"),
]

THOUGHT = Turn(thinking="Only thinking.")


def look(number: int) -> ToolCall:
    """Read the notes, never twice with the same arguments: that would be going in circles."""
    return ToolCall("read_file", {"path": "NOTES.txt", "limit": number})


def faulty() -> list[Turn | Callable[[Conversation], Turn]]:
    """What vendors do wrong, in every run."""
    return [
        Turn(calls=(look(1),), faults=(Fault.rate_limited(retry_after=0.2),)),
        Turn(calls=(look(2),), faults=(Fault.http(503),)),
        Turn(text="Half is lost.", calls=(look(3),), faults=(Fault.cut(),)),
        Turn(text="This as well.", calls=(look(4),), faults=(Fault.early_eof(),)),
        asked_again((THOUGHT, Turn(text="Cut", finish="length"), Turn(calls=(look(5),)))),
        asked_again((Turn(calls=(look(6),), finish="malformed_call"), Turn(calls=(look(7),)))),
    ]


def asked_again(turns: tuple[Turn, ...]) -> Callable[[Conversation], Turn]:
    """Say one thing after the other to the same step, and keep to the last."""
    left = list(turns)

    def step(_: Conversation) -> Turn:
        return left.pop(0) if len(left) > 1 else left[0]

    return step


def edit(old: str, path: str = "NOTES.txt") -> ToolCall:
    return ToolCall("edit_file", {"path": path, "old_string": old, "new_string": "new"})


def mistakes(outside: Path) -> list[Turn]:
    """What agents do wrong, in every run; each is answered with what to do instead."""
    grown = ToolCall("run_command", {"command": "echo three >> NOTES.txt"})
    return [
        Turn(calls=(ToolCall("open_browser", {"url": "x"}),)),
        Turn(calls=(ToolCall("read_file", {"file": "NOTES.txt"}),)),
        Turn(
            calls=(
                ToolCall("read_file", {"path": "NOTES.txt"}, "same"),
                ToolCall("list_files", {"limit": 3}, "other"),
                ToolCall("search_files", {"pattern": "same"}, "third"),
            )
        ),
        Turn(calls=(ToolCall("list_files", {"limit": 2}, "same"),)),
        Turn(calls=(edit("same"),)),
        Turn(calls=(grown,)),
        Turn(calls=(edit("same\nsame\n"),)),
        Turn(calls=(edit("x", str(outside)),)),
    ]


ANSWERS = (
    "There is no tool 'open_browser'. The tools are: read_file",
    "read_file has no argument 'file'; it takes path",
    "old_string occurs 2 times, at lines 1, 2",
    "NOTES.txt has changed since you last read it; read it again first.",
    "outside.txt",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Download and unpack a source release, once for both wires."""
    folder = tmp_path_factory.mktemp("releases")

    @lru_cache
    def unpacked(package: str, version: str) -> Path:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary"]
        subprocess.run([*command, ":all:", "-d", str(folder), f"{package}=={version}"], check=True)
        with tarfile.open(folder / f"{package}-{version}.tar.gz") as archive:
            unpack_archive(archive, folder)
        return folder / f"{package}-{version}"

    return unpacked


@dataclass
class Run:
    """One attempt, and what its agent was told."""

    payload: dict[str, Any]
    heard: list[str]

    @property
    def attempt(self) -> str:
        return str(self.payload["attempt_id"])


@dataclass
class Trial:
    """A repository at the earlier release, with the tests of the later one."""

    repo: Path
    command: str
    lda: Any
    receiver: Any
    stub: Any

    def start(self, provider: str, steps: Steps) -> Run:
        """Begin an attempt."""
        heard: list[str] = []

        def script(conversation: Conversation) -> Turn:
            heard.extend(result.text for result in conversation.last_results)
            return steps(conversation)

        payload = run_payload(
            self.repo, self.receiver, self.stub(script), provider=provider,
            commands={"test_cmd": self.command},
        )  # fmt: skip
        taken = self.lda.call("POST", "/run", payload)
        assert taken.status_code == 202, taken.text
        return Run(payload, heard)

    def ended(self, run: Run) -> dict[str, Any]:
        """Return how an attempt ended."""
        found = wait_for(lambda: self.receiver.status(run.attempt), "the end of the run", 120)
        return dict(found)


def make_repository(repo: Path, before: Path, after: Path, version: str) -> None:
    """Commit the earlier release with the later one's tests."""
    shutil.copytree(before, repo, ignore=shutil.ignore_patterns("*.egg-info", "PKG-INFO"))
    shutil.rmtree(repo / "tests")
    shutil.copytree(after / "tests", repo / "tests")
    for command in (
        ("init", "-q", "-b", "main"), ("config", "user.name", "Ada Owner"),
        ("config", "user.email", "ada@example.org"), ("add", "-A"), ("commit", "-q", "-m", version),
    ):  # fmt: skip
        git(repo, *command)


@pytest.mark.parametrize("pair", PAIRS, ids=[pair.package for pair in PAIRS])
def test_a_release_is_repaired_to_its_successor(
    pair: Pair, tree: Callable[[str, str], Path], tmp_path: Path,
    lda: Any, receiver: Any, stub: Any,
) -> None:  # fmt: skip
    """Every fault of vendors and agents, on both wires at once, so that their waits overlap."""
    package, old, new, tests, source = pair
    before, after = tree(package, old), tree(package, new)
    repo = tmp_path / "granted" / package
    make_repository(repo, before, after, old)
    trial = Trial(repo, f"{TEST} {tests}", lda, receiver, stub)
    names = sorted(
        str(path.relative_to(after))
        for path in (after / source / package).rglob("*.py")
        if (before / path.relative_to(after)).read_bytes() != path.read_bytes()
    )
    edits = [
        ToolCall("edit_file", {"path": e.path, "old_string": e.old, "new_string": e.new})
        for e in derive_edits(before, after, names)
    ]
    outside = tmp_path / "outside.txt"
    idle = ToolCall("write_file", {"path": "NOTES.txt", "content": "same\nsame\n"})
    tidy = ToolCall("delete_file", {"path": "NOTES.txt"})
    passes = "def test_nothing():\n    pass\n"
    cheat = Turn(
        calls=tuple(
            ToolCall("write_file", {"path": path, "content": passes}) for path in tests.split()
        )
    )

    def repair() -> Steps:
        repaired = Turn(calls=(*edits, tidy))
        return Steps([Turn(calls=(idle,)), *faulty(), *mistakes(outside), DONE, repaired, DONE])

    wires = ("GLM", "GEMINI")
    repairs = [trial.start(wire, repair()) for wire in wires]
    cheats = [trial.start(wire, Steps([cheat, DONE])) for wire in wires]
    idlers = [trial.start(wire, Steps([DONE])) for wire in wires]

    for run in idlers:
        assert trial.ended(run)["failure"] == "NO_CHANGES"
    for run in cheats:
        status = trial.ended(run)
        assert status["status"] == "REVIEW", status["message"]
        flagged = receiver.payloads(run.attempt, "diff")[-1]["tests"]
        assert flagged == sorted(tests.split()), "a green gate, and the reviewer is told why"
    for run in repairs:
        status = trial.ended(run)
        assert status["status"] == "REVIEW", status["message"]
        (base,) = receiver.payloads(run.attempt, "baseline")
        assert base["exit_code"] != 0, "the gate is red on the release before"
        assert base["new"] == []
        assert len(receiver.payloads(run.attempt, "retry")) >= 4
        said = "\n".join(run.heard)
        for answer in ANSWERS:
            assert answer in said
        head = status["head_commit"]
        shown = git(repo, "diff", "--name-only", "main", head).splitlines()
        assert shown == names, "nothing but what upstream changed"
        for name in names:
            blob = subprocess.run(
                ["git", "show", f"{head}:{name}"], cwd=repo, check=True, capture_output=True
            ).stdout
            assert blob == (after / name).read_bytes(), name
    assert not outside.exists()
