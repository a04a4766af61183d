"""What a server answers to the screens: nothing, failures, or a day of work."""

from __future__ import annotations

from typing import Any

MOMENT = "2026-03-02T09:30:00Z"
STATS = {"files": 1, "additions": 2, "deletions": 1}
ERROR = {
    "code": "internal",
    "title": "Internal error",
    "detail": "Rootbound failed here; `rootbound logs backend` shows why.",
}
PATCH = """--- a/src/money.py
+++ b/src/money.py
@@ -1,5 +1,6 @@
 def total(prices, rate):
-    return sum(prices) * rate
+    \"\"\"Return the sum with tax, rounded to cents.\"\"\"
+    return round(sum(prices) * (1 + rate), 2)


 def parse(text):
"""
GATES = [
    {
        "name": name, "commit": "c" * 40, "command": command, "exit_code": 0,
        "duration_s": seconds, "log_digest": "0" * 64, "log_artifact": None, "flaky": False,
    }
    for name, command, seconds in (
        ("install", "pip install -e .", 12.0), ("lint", "ruff check .", 0.4),
        ("test", "pytest -q", 41.0),
    )
]  # fmt: skip


def attempt(number: int, status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"a{number}", "task": f"t{number}", "task_title": "Round the total to cents",
        "project": "p1", "number": 1, "status": status,
        "branch_name": f"attempt/a{number}", "base_commit": "b" * 40, "head_commit": "c" * 40,
        "started_at": MOMENT, "completed_at": None, "exit_code": None, "failure": None,
        "failure_message": None, "waiting_for": "", "queue_place": None, "continues": None,
        "summary": "", "diff_stats": {"files": 2, "additions": 24, "deletions": 5},
        "agent": {"name": "GLM BACKEND", "provider": "GLM", "model": "glm-7", "is_replay": True,
                  "max_steps": 40},
        "usage": {"steps": 9, "input_tokens": 48_000, "output_tokens": 5_200, "cost_usd": 0.31},
        "first_seq": 1, "last_seq": len(EVENTS), "denied_count": 0, "created_at": MOMENT,
        "gates": GATES if status in ("REVIEW", "SUCCESS") else [], **fields,
    }  # fmt: skip


def task(number: int, title: str, status: str, role: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"t{number}", "project": "p1", "title": title, "description": "", "status": status,
        "priority": 0, "agent_role": role, "dependencies": [], "blocked_by": [],
        "failed_dependencies": [], "waiting_reason": "", "queue_place": None, "auto_start": True,
        "version": 1, "created_at": MOMENT, "latest_attempt": None, **fields,
    }  # fmt: skip


def _event(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "payload": payload, "timestamp": MOMENT}


EVENTS = [
    {**event, "seq": seq}
    for seq, event in enumerate(
        (
            _event("STATUS", {"status": "RUNNING"}),
            _event("LOG", {"kind": "text", "step": 1, "delta": "The tax is added, not multiplied: "
                           "`total` forgets the one. I read the tests first."}),
            _event("LOG", {"kind": "tool_call", "step": 1, "call_id": "1", "tool": "read_file",
                           "args": {"path": "src/money.py"}}),
            _event("LOG", {"kind": "tool_result", "step": 1, "call_id": "1", "ok": True,
                           "text": "def total(prices, rate):\n    return sum(prices) * rate\n",
                           "duration_s": 0.02}),
            _event("LOG", {"kind": "tool_call", "step": 2, "call_id": "2", "tool": "edit_file",
                           "args": {"path": "src/money.py", "old": "sum(prices) * rate",
                                    "new": "round(sum(prices) * (1 + rate), 2)"}}),
            _event("LOG", {"kind": "tool_result", "step": 2, "call_id": "2", "ok": True,
                           "text": "1 replacement", "duration_s": 0.03}),
            _event("LOG", {"kind": "tool_call", "step": 3, "call_id": "3", "tool": "run_command",
                           "args": {"command": "pytest -q"}}),
            _event("LOG", {"kind": "output", "step": 3, "call_id": "3", "source": "tool:3",
                           "text": "\x1b[32m.....\x1b[0m\n\x1b[32m5 passed\x1b[0m in 0.12s\n"}),
            _event("LOG", {"kind": "tool_result", "step": 3, "call_id": "3", "ok": True,
                           "text": "exit code 0", "duration_s": 0.9}),
        ),
        start=1,
    )
]  # fmt: skip

TASKS = [
    task(1, "Round the total to cents", "REVIEW", "BACKEND", priority=3,
         latest_attempt=attempt(1, "REVIEW", denied_count=1)),
    task(2, "Show the tax on the page", "TODO", "FRONTEND", priority=1, dependencies=["t1"],
         blocked_by=["t1"]),
    task(3, "Read prices with a comma", "IN_PROGRESS", "BACKEND", priority=2,
         latest_attempt=attempt(3, "RUNNING")),
    task(4, "Write the changelog", "TODO", "QA",
         latest_attempt=attempt(4, "FAILED", failure="GATE_TEST", completed_at=MOMENT,
                                failure_message="The tests fail; the log has their output.")),
    task(5, "Run the tests on every push", "DONE", "DEVOPS",
         latest_attempt=attempt(5, "SUCCESS", completed_at=MOMENT)),
]  # fmt: skip
SCHEDULES = [
    {
        "id": f"s{number}", "name": name, "project_id": "p1", "kind": kind, "crontab": crontab,
        "timezone": "Europe/Berlin", "overlap": "SKIP", "is_enabled": fires is not None,
        "prompt": prompt,
        "notebook": notebook, "parameters": {}, "max_parallel": None, "budget": None,
        "next_run_at": fires, "created_at": MOMENT,
        "last_status": status,
    }
    for number, name, kind, crontab, fires, prompt, notebook, status in (
        (1, "Nightly tidying", "PLAN", "30 2 * * MON-FRI", "2026-03-03T01:30:00Z",
         "Fix what the linter finds", "",
         "SUCCESS"),
        (2, "Weekly report", "BATCH", "0 7 * * 1", "2026-03-09T06:00:00Z", "",
         "/home/ann/notebooks/report.ipynb", "FAILED"),
        (3, "Update the pins", "PLAN", "0 4 1 * *", None, "Update dependencies, one a task", "",
         None),
    )
]  # fmt: skip
_GUARANTEES = [
    {"title": "Nothing outside the roots is written", "by": "Landlock + supervisor"},
    {"title": "Nothing outside the roots is deleted", "by": "Landlock + supervisor"},
    {"title": "No network but the install command's", "by": "seccomp"},
    {"title": "An outer wall round each run", "by": None},
]
_NAMES = ("postgres", "redis", "backend", "worker", "beat", "lda")

FULL: dict[str, Any] = {
    "api/projects/": {"results": [{"id": "p1", "name": "Shop", "repo_path": "/home/ann/shop"}],
                      "next": None},
    "api/attempts/a1/": TASKS[0]["latest_attempt"],
    "api/attempts/a1/diff/": {
        "base": "b" * 40, "head": "c" * 40,
        "files": [{"path": "src/money.py", "old_path": None, "status": "modified", "additions": 2,
                   "deletions": 1, "binary": False, "patch": PATCH, "truncated": False}],
        "stats": STATS,
    },
    "api/attempts/a1/comments/": {"results": [
        {"id": "c1", "attempt": "a1", "author": "ann", "path": "src/money.py", "side": "new",
         "line": 3, "commit": "c" * 40, "text": "Is half a cent rounded up?",
         "created_at": MOMENT}]},
    "api/attempts/a1/merge-preview/": {
        "base_branch": "main", "base": "b" * 40, "head": "c" * 40, "behind": 0, "clean": True,
        "merged": False, "files": [], "checkout": "/home/ann/shop", "checkout_dirty": False},
    "api/tasks/t1/compare/": {"results": []},
    "api/access-requests/": {"results": [], "next": None},
    "api/audit/logs/": {"next": None, "results": [
        {"id": 40 - at, "run_id": "r1", "attempt": "a1", "seq": 40 - at, "timestamp": MOMENT,
         "operation": ("READ", "WRITE", "DELETE")[at % 3],
         "result": "DENIED" if at == 4 else "ALLOWED",
         "path": "/home/ann/.ssh/id_ed25519" if at == 4 else f"/home/ann/shop/src/part_{at}.py",
         "source": "kernel" if at % 2 else "tool",
         "detail": {"program": "/usr/bin/python3.11"} if at % 2 else {}} for at in range(24)]},
    "api/audit/summary/": {"counts": [
        {"operation": "READ", "result": "ALLOWED", "count": 812},
        {"operation": "WRITE", "result": "ALLOWED", "count": 96},
        {"operation": "WRITE", "result": "DENIED", "count": 1}]},
    "api/audit/timeline/": {"bucket_s": 1, "buckets": [
        {"timestamp": f"2026-03-02T09:30:{at:02}Z", "allowed": 3 + at * 7 % 19,
         "denied": int(at == 31)} for at in range(60)]},
    "api/audit/tree/": {"path": "/", "truncated": False, "children": []},
    "stack": {"state": "ready", "rootbound": "0.1.0", "python": "/usr/bin/python3", "services": {
        name: {"state": "ready", "pid": 100 + at, "address": "unix socket"}
        for at, name in enumerate(_NAMES)}},
    "api/local-access/status/": {
        "lda": {"reachable": True, "version": "0.1.0", "live_runs": 1, "outbox_depth": 0,
                "protected": ["/home/ann/.ssh", "/home/ann/.aws"],
                "sandbox": {"tier": "B", "missing": ["bubblewrap"], "guarantees": _GUARANTEES}},
        "roots": [{"id": f"r{at}", "path": path, "canonical_path": path, "is_enabled": at == 0}
                  for at, path in enumerate(("/home/ann/shop", "/home/ann/results"))]},
    "api/health/": {"services": {
        name: {"state": "ready", "detail": f"{name} answers"} for name in _NAMES}},
    "api/usage/": {"disk": {"measured_at": MOMENT, "parts": {"worktrees": 2e9, "postgres": 3e8},
                            "free_bytes": 81e9, "total_bytes": 250e9}, "projects": []},
    "api/costs/": {"since": "2026-02-25", "until": "2026-03-02", "results": [
        {"day": f"2026-0{2 + (at > 3)}-{(25, 26, 27, 28, 1, 2)[at]:02}", "project": f"p{which}",
         "project_name": name, "role": "BACKEND", "runs": 3, "input_tokens": 90_000 * (1 + at),
         "output_tokens": 9000, "cost_usd": (0.4, 0.25)[which] * (1 + at * 5 % 4),
         "unpriced_runs": 0} for at in range(6) for which, name in enumerate(("Shop", "Notes"))]},
    "api/keys/": {"results": [{"name": "GLM_API_KEY", "source": "environment"}]},
    "api/agents/": {"results": [], "next": None},
    "api/schedules/": {"results": SCHEDULES, "next": None},
    "api/notices/": {"next": None, "results": [
        {"id": 1, "text": "The schedule “Weekly report” failed: cell 3 raised ValueError.",
         "project_id": "p1", "schedule_id": "s2", "schedule_run_id": "n1",
         "created_at": MOMENT}]},
}  # fmt: skip


def _emptied(value: Any) -> Any:
    """Return an answer of the same shape in which every list is empty, and no event is."""
    if isinstance(value, list):
        return []
    if value is STATS:
        return dict.fromkeys(STATS, 0)
    if isinstance(value, dict):
        return {k: 0 if k == "last_seq" else _emptied(v) for k, v in value.items()}
    return value


def answer(state: str, path: str) -> tuple[int, Any]:
    """Return the status and body of ``empty``, ``error`` or ``full`` for a path without query."""
    if state == "error":
        return 500, ERROR
    found = FULL.get(path)
    if found is None:
        return 404, {"code": "not-found", "title": "Not found", "detail": f"No {path} here."}
    return 200, found if state == "full" else _emptied(found)


def frames(state: str, path: str) -> list[dict[str, Any]]:
    """Return what a socket says when it is opened."""
    if state != "full":
        return [{"type": "hello", "last_seq": 0, "status": "RUNNING"}] if state == "empty" else []
    if path.startswith("ws/projects/"):
        return [{"type": "snapshot", "tasks": TASKS}]
    hello = {"type": "hello", "last_seq": len(EVENTS), "status": "REVIEW"}
    return [hello, {"type": "events", "events": EVENTS}]
