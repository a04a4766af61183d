"""What an agent is given to read at the start is bounded, and says what was left out."""

from __future__ import annotations

from pathlib import Path

from rootbound_lda.agent.context import MAX_FILE, MAX_LISTED, MAX_NOTES, MAX_TOTAL, gather
from rootbound_lda.audit import MemorySink
from rootbound_lda.files import FileAccess
from rootbound_lda.policy import build_policy


def test_references_and_notes_are_cut_and_each_read_is_audited(tmp_path: Path) -> None:
    top = tmp_path / "granted" / "project"
    (top / ".git").mkdir(parents=True)
    state, shared, secret = (tmp_path / name for name in ("state", "shared", "secret.txt"))
    state.mkdir()
    shared.mkdir()
    (top / "AGENTS.md").write_text("n" * (MAX_NOTES + 7))
    for n in range(5):
        (shared / f"long{n}.txt").write_text(f"{n}" * (MAX_FILE + 1_000 + n))
    (shared / "huge.bin").write_bytes(b"x" * (1024 * 1024 + 1))
    (shared / "image.png").write_bytes(b"\x89PNG\0" * 10)
    (shared / "latin.txt").write_bytes(b"caf\xe9")
    many = shared / "many"
    many.mkdir()
    for n in range(MAX_LISTED + 5):
        (many / f"{n:03d}.txt").write_text("")
    secret.write_text("hidden")
    (shared / "out").symlink_to(secret)
    sink = MemorySink()
    policy = build_policy(
        run_id="r", worktree=top, repo_path=top, git_common_dir=top / ".git",
        private_dir=state / "runs/r", state_dir=state, writable_roots=[str(top.parent)],
        readable_paths=[str(shared)], network={}, limits={},
    )  # fmt: skip
    asked = [str(shared / name) for name in ("latin.txt", "long0.txt", "long1.txt", "long2.txt",
             "long3.txt", "long4.txt", "huge.bin", "image.png", "many", "out", "gone")]  # fmt: skip
    with FileAccess(policy, sink) as files:
        text = gather(files, [*asked, str(secret)])

    parts = dict(zip(["notes", *asked, str(secret)], text.split("\n\n"), strict=True))
    assert parts["notes"].endswith("[7 characters left out; read the file for them]")
    assert parts["notes"].count("n" * MAX_NOTES) == 1
    for n in range(3):
        assert f"{n}" * MAX_FILE in parts[asked[1 + n]]
        assert f"[{1_000 + n} characters left out" in parts[asked[1 + n]]
    # The fourth gets what is left of all together, the fifth only its name.
    assert 1_000 < parts[asked[4]].count("3") < MAX_FILE
    assert parts[asked[5]].endswith("long4.txt: 17004 characters; read it yourself.")
    shown = sum(len(parts[path]) for path in asked[:5])
    assert shown <= MAX_TOTAL + 5 * 200
    assert "caf\ufffd" in parts[asked[0]]
    assert parts[asked[6]].endswith("huge.bin: too large to show here; read the parts you need.")
    assert "a binary file of 50 bytes" in parts[asked[7]]
    assert parts[asked[8]].count(".txt") == MAX_LISTED
    assert parts[asked[8]].endswith("[more files are there; list the folder]")
    for path in (asked[9], str(secret)):
        assert "hidden" not in parts[path]
    assert "gone: " in parts[asked[10]]
    read = {entry["path"] for entry in sink.entries if entry["result"] == "ALLOWED"}
    assert {str(top / "AGENTS.md"), *asked[:6]} <= read
    denied = {entry["path"] for entry in sink.entries if entry["result"] == "DENIED"}
    assert str(secret) in denied
