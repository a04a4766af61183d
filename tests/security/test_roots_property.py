# ruff: noqa: E501
"""Allowed if and only if it really lands beneath a root, for trees and paths of all shapes.

What really happens is found out by doing the same in a plain copy and looking at what changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rootbound_lda.audit import MemorySink
from rootbound_lda.files import AccessDenied, FileAccess
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox import Sandbox
from tests.security.attack_world import PYTHON

ROOTS = ("tree", "root2", "tree/nested")
PLACES = (*ROOTS, "tree/a", "outside", "outside/a", "readable", "treehouse")
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/proc")

# Composed and decomposed forms of one letter are two names; `.GIT` is git's on some systems.
NAMES = ("a", "b", "l1", "l2", "\u00e9", "e\u0301", ".git", ".GIT", "git")
names = st.sampled_from(NAMES)
parts = st.lists(st.one_of(names, st.sampled_from(["..", ".", "nested"])), min_size=1, max_size=4)
tails = parts.map("/".join)
starts = st.sampled_from(
    ["", "", "", "../", "{base}/", "{base}/tree/", "{base}/outside/", "{base}/root2/",
     "{base}/tree/nested/", "../outside/", "../treehouse/", "//{base}/tree/", "{base}/tree/../"]
)  # fmt: skip
paths = st.tuples(starts, tails).map("".join)
plain = st.sampled_from(["b", "git", ".git", "nested", "\u00e9", "..", "."])
targets = st.one_of(
    st.tuples(starts, st.lists(plain, min_size=1, max_size=4).map("/".join)).map("".join),
    # Chains and circles.
    st.sampled_from(["l1", "l2", "a", "./l1"]),
)
entries = st.one_of(
    st.tuples(st.just("file"), st.sampled_from(PLACES), names, st.just("")),
    st.tuples(st.just("folder"), st.sampled_from(PLACES), names, st.just("")),
    st.tuples(
        st.just("link"), st.sampled_from(PLACES), st.sampled_from(["l1", "l2", "a"]), targets
    ),
)
trees = st.lists(entries, max_size=8)
VERBS = ("write", "append", "create", "mkdir", "unlink", "rmdir", "chmod", "truncate", "utime",
         "symlink", "link", "read")  # fmt: skip
operations = st.lists(st.tuples(st.sampled_from(VERBS), paths), min_size=4, max_size=16)

PERFORM = '''
import os
def perform(verb, path, number, beside):
    """Do it; returns what was read, or an empty text."""
    if verb in ("write", "append", "create"):
        with open(path, {"write": "w", "append": "a", "create": "x"}[verb]) as file:
            file.write(f"operation {number}")
    elif verb == "read":
        with open(path) as file:
            return file.read()
    elif verb == "mkdir": os.mkdir(path)
    elif verb == "unlink": os.unlink(path)
    elif verb == "rmdir": os.rmdir(path)
    elif verb == "chmod": os.chmod(path, 0o700 + number)
    elif verb == "truncate": os.truncate(path, 100 + number)
    elif verb == "utime": os.utime(path, (1000 + number, 1000 + number))
    elif verb == "symlink": os.symlink("anything", path)
    elif verb == "link": os.link(beside, path)
    return ""
'''
CONFINED = (
    PERFORM
    + """
import json, sys
job = json.load(sys.stdin)
results = []
for number, (verb, path) in enumerate(job["operations"]):
    try:
        results.append(["ok", perform(verb, path, number, job["beside"])])
    except (OSError, UnicodeError) as error:
        results.append(["refused", getattr(error, "errno", 0)])
print(json.dumps(results))
"""
)
_space: dict[str, Any] = {}
exec(PERFORM, _space)  # the same source in both worlds
perform = _space["perform"]

Snapshot = dict[str, tuple[Any, ...]]


# A path holds five times `..` at most and four links, each of which holds as many but no further
# link in its middle: from a place as deep as this nothing climbs out, whatever is generated.
DEPTH = 30


def deep(top: str) -> Path:
    """Return a folder for a world so deep below `top` that nothing in it leads above."""
    base = Path(os.path.realpath(top), *["x"] * DEPTH, "world")
    base.mkdir(parents=True)
    return base


def build(base: Path, tree: list[tuple[str, str, str, str]]) -> None:
    for place in PLACES:
        (base / place).mkdir(parents=True, exist_ok=True)
        (base / place / "keep").write_text(f"first of {place}")
    for kind, place, name, target in tree:
        path = base / place / name
        try:
            if kind == "file":
                path.write_text(f"content of {place}/{name}")
            elif kind == "folder":
                path.mkdir()
            else:
                path.symlink_to(target.replace("{base}", str(base)))
        except OSError:
            # Taken, or led astray by a link that is there already.
            continue
    (base / "home").mkdir(exist_ok=True)
    (base / "tmp").mkdir(exist_ok=True)


def look(base: Path) -> Snapshot:
    """Return what there is, by its path from `base`; times only where somebody set them."""
    found: Snapshot = {}
    for folder, folders, files in os.walk(base.parents[DEPTH]):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, base)
            if relative.split("/")[0] in ("home", "tmp"):
                continue
            facts = os.lstat(path)
            when = int(facts.st_mtime) if facts.st_mtime < 100_000 else 0
            links = 0 if os.path.isdir(path) and not os.path.islink(path) else facts.st_nlink
            if os.path.islink(path):
                content: Any = os.readlink(path).replace(str(base), "{base}")
            else:
                content = Path(path).read_bytes() if os.path.isfile(path) else None
            found[relative] = (facts.st_mode, when, links, content)
    return found


def permitted(changed: set[str]) -> bool:
    return all(
        any(path == root or path.startswith(f"{root}/") for root in ROOTS)
        and ".git" not in path.lower().split("/")
        for path in changed
    )


class Copy:
    """The plain copy: everything is done in it, and what leaves the roots is undone again."""

    def __init__(self, base: Path, tree: Any) -> None:
        self.base = base
        self._tree = tree
        self._done: list[tuple[int, str, str]] = []
        self._make()

    def _make(self) -> None:
        top = self.base.parents[DEPTH - 1]
        if top.exists():
            shutil.rmtree(top)
        self.base.mkdir(parents=True)
        build(self.base, self._tree)
        for one in self._done:
            self._perform(*one)

    def _perform(self, number: int, verb: str, path: str) -> str:
        where = os.path.join(self.base, "tree", path.replace("{base}", str(self.base)))
        read: str = perform(verb, where, number, str(self.base / "tree/keep"))
        return read

    def expect(self, number: int, verb: str, path: str) -> tuple[str, str]:
        """Find out what an operation really does; returns the verdict, and what was read."""
        before = look(self.base)
        try:
            read = self._perform(number, verb, path)
        except (OSError, UnicodeError):
            return "impossible", ""
        if verb == "read":
            place = read.split(" of ")[-1] if " of " in read else "tree"
            return ("ok" if place.startswith(("tree/", "root2", "readable")) or place == "tree"
                    else "refused"), read  # fmt: skip
        after = look(self.base)
        changed = {path for path in before.keys() | after if before.get(path) != after.get(path)}
        if permitted(changed):
            self._done.append((number, verb, path))
            return "ok", ""
        self._make()
        return "refused", ""


def policy_of(base: Path) -> Policy:
    return Policy(
        run_id="property", worktree=base / "tree",
        writable=tuple(base / root for root in ROOTS),
        readable=(*(Path(os.path.realpath(place)) for place in (*SYSTEM, os.path.dirname(os.path.dirname(PYTHON)))),
                  base / "readable"),
        protected=(base / "tree" / ".git",), private_home=base / "home", private_tmp=base / "tmp",
    )  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox()
    asyncio.run(started.start())
    yield started
    asyncio.run(started.stop())


COMMON = settings(
    deadline=None,
    derandomize=True,
    database=None,
    # Finding out is enough; making the example small takes long.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(COMMON, max_examples=15)
@given(tree=trees, wanted=operations)
def test_commands(sandbox: Sandbox, tree: Any, wanted: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory(prefix="rb-p-") as one, tempfile.TemporaryDirectory() as two:
        base, copy = deep(one), deep(two)
        build(base, tree)
        plain = Copy(copy, tree)
        expected = [plain.expect(number, *one) for number, one in enumerate(wanted)]
        job = {
            "operations": [(verb, path.replace("{base}", str(base))) for verb, path in wanted],
            "beside": str(base / "tree/keep"),
        }
        sink = MemorySink()
        result = asyncio.run(
            sandbox.runner(policy_of(base), sink).run(
                [PYTHON, "-I", "-S", "-c", CONFINED],
                cwd=base / "tree",
                env={"PATH": os.defpath},
                network=False,
                timeout_s=30,
                stdin=json.dumps(job).encode(),
            )
        )
        assert result.exit_code == 0, result.output
        for number, (verdict, read) in enumerate(expected):
            found, what = json.loads(result.output)[number]
            assert found == ("ok" if verdict == "ok" else "refused"), (
                number, wanted[number], verdict, what, sink.entries[-20:],
            )  # fmt: skip
            if verdict == "ok":
                assert what == read
        assert look(base) == look(copy)


def _stays_inside(base: Path, path: str) -> bool:
    """Tell whether a path leads, step by step and by relative links alone, within one root."""
    text = path.replace("{base}", str(base))
    if text.startswith("//"):
        return False
    start = base / "tree"
    if text.startswith("/"):
        roots = [base / root for root in ROOTS if text.startswith(f"{base / root}/")]
        if not roots:
            return False
        start = max(roots, key=lambda root: len(root.parts))
        text = text.removeprefix(f"{start}/")
    if "nested" in text or ".." in text.split("/"):
        return False
    here = start
    for part in Path(text).parts:
        here = here / part
        if here.is_symlink():
            return False
    return ".git" not in text.lower().split("/") and not text.endswith(("/", "."))


@settings(COMMON, max_examples=40)
@given(
    tree=trees,
    wanted=st.lists(st.tuples(st.sampled_from(["write", "delete", "read"]), paths), max_size=6),
)
def test_file_tools(tree: Any, wanted: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory(prefix="rb-p-") as one:
        base = deep(one)
        build(base, tree)
        with FileAccess(policy_of(base), MemorySink()) as files:
            for verb, path in wanted:
                before = look(base)
                simple = _stays_inside(base, path)
                target = path.replace("{base}", str(base))
                try:
                    if verb == "write":
                        files.write_bytes(target, b"operation")
                    elif verb == "delete":
                        files.delete(target)
                    else:
                        text = files.read_bytes(target, max_bytes=1000)
                        assert b" of outside" not in text
                        assert b" of treehouse" not in text
                except AccessDenied:
                    assert not simple, (verb, path)
                    refused = True
                except (OSError, ValueError):
                    # Not there, or not a file: it would be the same outside of any policy.
                    refused = False
                else:
                    refused = False
                after = look(base)
                changed = {p for p in before.keys() | after if before.get(p) != after.get(p)}
                assert permitted(changed), (verb, path, changed)
                assert not (refused and changed), (verb, path, changed)
