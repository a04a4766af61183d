"""Telling failures that were there before from those that an attempt has brought."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from .config import write_atomic

MAX_NAMED: Final = 200
_FAILURES: Final = (
    # pytest's summary
    re.compile(r"^(?:FAILED|ERROR) (?P<name>\S+?)(?: - .*)?$", re.MULTILINE),
    # unittest
    re.compile(r"^(?:FAIL|ERROR): (?P<name>\S+ \([^)\n]*\))$", re.MULTILINE),
    # go test
    re.compile(r"^\s*--- FAIL: (?P<name>\S+)", re.MULTILINE),
    # jest, vitest
    re.compile(r"^\s*[●×✕] (?P<name>.+?)(?: \d+ ?ms)?$", re.MULTILINE),
)
_FINDING: Final = re.compile(
    r"^(?P<path>[^\s:][^:\n]*):\d+(?::\d+)?: (?P<what>(?:error|[A-Z]+\d+)\b.*)$", re.MULTILINE
)
"""A linter's or type checker's line; the line number is left out, because it moves."""

_TEST_FILE: Final = re.compile(
    r"(^|/)(tests?|__tests__|spec)/|(^|/)(test_[^/]*|[^/]*_test|conftest)\.[a-z]+$"
    r"|\.(test|spec)\.[a-z]+$"
)


def is_test_file(path: str) -> bool:
    """Return whether a file, by its name, decides what the test gate says."""
    return _TEST_FILE.search(path) is not None


def failures_in(output: str) -> list[str]:
    """Return the names of what failed, as the usual tools print them; empty when none is known."""
    found: dict[str, None] = {}
    for pattern in _FAILURES:
        for match in pattern.finditer(output):
            found[match["name"].strip()] = None
    for match in _FINDING.finditer(output):
        found[f"{match['path']}: {match['what'].strip()}"] = None
    return list(found)[:MAX_NAMED]


class Verdict(msgspec.Struct, frozen=True):
    """What a gate says about a commit."""

    exit_code: int
    failing: list[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A failing gate against the same gate on the base commit.

    Attributes
    ----------
    before
        Failures that the base has too.
    new
        Failures that only the attempt has.
    """

    base_exit_code: int
    cached: bool
    before: list[str]
    new: list[str]

    @property
    def text(self) -> str:
        """What to tell the agent and the user, in a few lines."""
        if self.base_exit_code == 0:
            return "On the base commit this gate is green, so the failure is new."
        if not self.before and not self.new:
            return "On the base commit this gate fails too; the output does not say what is new."
        parts = ["On the base commit this gate fails too."]
        if self.new:
            parts.append(f"New with this work: {_listed(self.new)}.")
        if self.before:
            parts.append(f"Failing before it as well: {_listed(self.before)}.")
        return " ".join(parts)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def compare(base: Verdict, output: str, *, cached: bool) -> Comparison:
    """Compare what fails now with what fails on the base commit."""
    known = set(base.failing)
    failing = failures_in(output)
    return Comparison(
        base.exit_code,
        cached,
        [name for name in failing if name in known],
        [name for name in failing if name not in known],
    )


class Baselines:
    """Verdicts on base commits, kept by repository, commit and commands.

    Parameters
    ----------
    folder
        Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}

    @staticmethod
    def key(repository: Path, commit: str, install: str, command: str) -> str:
        """Return the name under which a verdict is kept."""
        text = "\0".join((str(repository), commit, install, command))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def lock(self, key: str) -> asyncio.Lock:
        """Return the lock that keeps two runs from finding out the same thing at once."""
        return self._locks.setdefault(key, asyncio.Lock())

    def get(self, key: str) -> Verdict | None:
        """Return a verdict that is known."""
        try:
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=Verdict)
        except (OSError, msgspec.DecodeError):
            return None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._folder / f"{key}.json", msgspec.json.encode(verdict))
