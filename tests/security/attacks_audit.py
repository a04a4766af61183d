# ruff: noqa: E501
"""Attacks on the record itself, from within a command."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.security.attack_model import (
    SECRET,
    TREE,
    VICTIM,
    Attack,
    Effect,
    changed,
    denied,
    said,
    shown,
)

if TYPE_CHECKING:
    from tests.security.attack_world import World

_audit = partial(Attack, category="The audit")
FORGED = "/etc/forged"


def _naive_log(world: World) -> list[str]:
    """What a log of plain lines would hold: the stand-in where there is no audit."""
    rows = [f"WRITE ALLOWED {path}" for path in world.tree.rglob("*")]
    return "\n".join(rows).splitlines()


def _changes(world: World) -> list[dict[str, object]]:
    """Return the rows of what the attack did, without the reads of the program's own start."""
    return [row for row in world.entries if row["operation"] != "READ"]


def _lines(world: World) -> list[str]:
    if world.result is None:
        return _naive_log(world)
    return [f"{row['operation']} {row['result']} {row['path']}" for row in _changes(world)]


def _in_the_log(words: str, forged: str) -> Effect:
    return Effect(words, lambda w: forged in _lines(w))


def _row(path: str) -> object:
    return shown(
        "exactly one row, with the path as it is",
        lambda w: [row["path"] for row in _changes(w)] == [str(w.tree / path)],
        is_audit=True,
    )


def _unrecorded(world: World) -> bool:
    """Tell whether a file was made without a row."""
    made = {str(path) for path in world.tree.glob("made*")}
    return bool(made - world.paths("ALLOWED", "WRITE"))


# fmt: off
AUDIT = [
    _audit(name="line_break_in_a_name", code="os.makedirs('x\\nWRITE DENIED /etc'); open('x\\nWRITE DENIED /etc/forged', 'w')", effect=_in_the_log("a row that nobody wrote", f"WRITE DENIED {FORGED}"),
           evidence=shown("three rows, the line break inside of their paths", lambda w: [row["path"] for row in _changes(w)] == [str(w.tree / f"x\nWRITE DENIED {end}") for end in ("", "/etc", "/etc/forged")], is_audit=True)),
    _audit(name="carriage_return_in_a_name", code="open('x\\rDELETE DENIED everything', 'w')", effect=_in_the_log("a row that nobody wrote", "DELETE DENIED everything"), evidence=_row("x\rDELETE DENIED everything")),
    _audit(name="line_separator_in_a_name", code="open('x\\u2028DELETE DENIED everything', 'w')", effect=_in_the_log("a row that nobody wrote", "DELETE DENIED everything"), evidence=_row("x\u2028DELETE DENIED everything")),
    _audit(name="json_in_a_name", code="open('x\", \"result\": \"DENIED', 'w')", effect=Effect("a field of the row is replaced", lambda w: w.result is None or any(row["result"] == "DENIED" for row in _changes(w))), evidence=_row('x", "result": "DENIED')),
    _audit(name="control_sequence_in_a_name", code="open('x\\x1b[2K\\x1b[1A', 'w')", effect=Effect("the row before is wiped out where the log is shown", lambda w: "\x1b[2K" in "".join(_as_text(w))), evidence=_row("x\x1b[2K\x1b[1A")),
    _audit(name="reversed_text_in_a_name", code="open('x\\u202egnp.exe', 'w')", effect=Effect("the name reads backwards where the log is shown", lambda w: "\u202e" in "".join(_as_text(w))), evidence=_row("x\u202egnp.exe")),
    _audit(name="bytes_that_are_no_text", code="os.close(os.open(b'x\\xff\\xfe', os.O_CREAT)); open(victim, 'w')", effect=changed(VICTIM), evidence=shown("a row with the bytes written out, and WRITE DENIED", lambda w: str(w.tree) + "/x\\xff\\xfe" in w.paths("ALLOWED", "WRITE") and str(w.base / VICTIM) in w.paths("DENIED", "WRITE"), is_audit=True)),
    _audit(name="path_longer_than_a_row", code="""
for _ in range(8):
    os.mkdir('d' * 250); os.chdir('d' * 250)
os.mkdir('deep')
os.chdir('/')
open(victim, 'w')
""", effect=changed(VICTIM), evidence=shown("rows that end in a digest, and WRITE DENIED", lambda w: any("…sha256:" in str(row["path"]) and row["detail"]["path_length"] > 1500 for row in w.entries) and str(w.base / VICTIM) in w.paths("DENIED", "WRITE"), is_audit=True)),
    _audit(name="flood_before_the_deed", code="""
for n in range(5000):
    os.close(os.open(f'f{n % 50}', os.O_CREAT | os.O_WRONLY))
open(victim, 'w')
""", effect=changed(VICTIM), evidence=shown("5,000 rows and then WRITE DENIED", lambda w: len(_changes(w)) == 5001 and _changes(w)[-1]["result"] == "DENIED", is_audit=True)),
    _audit(name="killed_in_the_deed", code="""
for round in range(25):
    pid = os.fork()
    if pid == 0:
        for n in range(10000):
            os.close(os.open(f'made-{round}-{n}', os.O_CREAT | os.O_WRONLY))
    time.sleep(0.004)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
""", effect=Effect("a file is made without a row", _unrecorded), evidence=shown("a row for each file there is", lambda w: not _unrecorded(w) and len(_changes(w)) > 0, is_audit=True)),
    _audit(name="all_at_once", code="""
def make(n):
    for m in range(60):
        os.close(os.open(f'made-{n}-{m}', os.O_CREAT | os.O_WRONLY))
threads = [threading.Thread(target=make, args=(n,)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
""", effect=Effect("a file is made without a row", _unrecorded), evidence=shown("480 rows", lambda w: len(_changes(w)) == 480, is_audit=True)),
    _audit(name="read_by_a_way_of_its_own", code="os.symlink('/proc/self/cwd', 'c'); print(open('c/mine.txt').read(), 'the-secret-text')", effect=Effect("a file of the worktree is read without a row", lambda w: SECRET in w.output and str(w.tree / "mine.txt") not in w.paths("ALLOWED", "READ")), evidence=shown("READ ALLOWED `mine.txt`", lambda w: str(w.tree / "mine.txt") in w.paths("ALLOWED", "READ"), is_audit=True)),
    _audit(name="outbox", code="open(A['state'] + '/outbox/outbox.sqlite3', 'r+b').write(b'forged')", effect=changed("state/outbox/outbox.sqlite3"), evidence=denied("WRITE", "state/outbox/outbox.sqlite3")),
    _audit(name="outbox_removed", code="os.unlink(A['state'] + '/outbox/outbox.sqlite3')", effect=changed("state/outbox/outbox.sqlite3"), evidence=denied("DELETE", "state/outbox/outbox.sqlite3")),
    _audit(name="descriptors_left_open", code="""
import stat
found = []
for name in os.listdir('/proc/self/fd'):
    try:
        if int(name) > 2 and not stat.S_ISDIR(os.fstat(int(name)).st_mode):
            found.append((name, os.readlink(f'/proc/self/fd/{name}')))
    except OSError:
        continue
if A['boss']:
    found.append('stand-in')
print('FOUND' if found else 'CLEAN', found)
""", effect=said("FOUND", "a descriptor of the supervisor is in the command's hands"), evidence=shown("no file operation; only standard input, output and error are open", lambda w: "CLEAN" in w.output)),
    _audit(name="writes_to_every_descriptor", code="""
for fd in range(3, 1024):
    try:
        os.write(fd, b'{"t": "rec", "records": []}\\nKAAAAAAAA')
    except OSError:
        pass
open(victim, 'w')
""", effect=changed(VICTIM), evidence=denied("WRITE", VICTIM)),
]
# fmt: on


def _as_text(world: World) -> list[str]:
    """What is shown of the rows: as JSON, which is what leaves the LDA; else the plain lines."""
    import json

    if world.result is None:
        return _naive_log(world)
    return [json.dumps(row) for row in world.entries]


__all__ = ["AUDIT", "TREE"]
