"""Everything shown as HTML is escaped; results keep what they do not know."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest

from rootbound import _html, models
from rootbound.diff_models import Diff
from rootbound.errors import ServerError

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.attributes, self.open = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        # A "<b>" in a value that was not escaped would leave the page unbalanced.
        assert self.open
        assert self.open.pop() == tag


def assert_harmless(html):
    tags = Tags()
    tags.feed(html)
    known = [
        "section",
        "b",
        "span",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "p",
        "details",
        "summary",
        "pre",
        "div",
    ]
    assert tags.seen <= {*known, "br"}
    assert tags.attributes <= {"style", "scope", "class", "open"}
    assert "alert(1)" in html


def evil_attempt():
    gate = {"name": EVIL, "commit": EVIL, "command": EVIL, "exit_code": 1, "log_digest": EVIL}
    return {
        "id": EVIL,
        "status": EVIL,
        "number": EVIL,
        "branch_name": EVIL,
        "head_commit": EVIL,
        "failure": EVIL,
        "failure_message": EVIL,
        "last_seq": EVIL,
        "denied_count": EVIL,
        "agent": {"name": EVIL, "model": EVIL, "is_replay": True},
        "gates": [gate],
    }


EVIL_FILE = {"path": EVIL, "old_path": EVIL, "status": EVIL, "additions": EVIL, "patch": f"+{EVIL}"}
EVIL_CHANGE = {"key": EVIL, "before": EVIL, "after": EVIL}
EVIL_OUTPUT = {
    "kind": EVIL, "name": EVIL, "patch": f"+{EVIL}", "others": [EVIL],
    "pictures": [
        {"mime": EVIL, "before": "AAAA", "after": "AAAA"},
        {"mime": "image/svg+xml", "before": "AAAA", "after": "AAAA"},
        {"mime": "image/png", "before": EVIL, "after": '" onload="alert(1)'},
    ],
}  # fmt: skip
EVIL_CELL = {
    "kind": EVIL, "cell_type": EVIL, "cell_id": EVIL, "execution_count": EVIL, "after": EVIL,
    "patch": f"+{EVIL}", "outputs": [EVIL_OUTPUT], "metadata": [EVIL_CHANGE],
}  # fmt: skip
EVIL_NOTEBOOK = {"note": EVIL, "metadata": [EVIL_CHANGE], "cells": [EVIL_CELL]}
EVIL_TASK = {
    "id": "1",
    "title": EVIL,
    "status": "TODO",
    "agent_role": EVIL,
    "blocked_by": [EVIL],
    "latest_attempt": evil_attempt(),
}
EVIL_PLAN = {
    "summary": EVIL,
    "tasks": [{"key": EVIL, "title": EVIL, "role": EVIL, "depends_on": [EVIL], "priority": EVIL}],
}
EVIL_STATUS = {
    "lda": {"reachable": True, "version": EVIL, "sandbox": {"tier": EVIL, "missing": [EVIL]}},
    "roots": [{"id": "1", "path": EVIL}],
}


@pytest.mark.parametrize(
    "result",
    [
        models.Me.from_json({"username": EVIL}),
        models.BaseAttempt.from_json(evil_attempt()),
        models.Event.from_json({"seq": 1, "type": EVIL, "payload": {"kind": EVIL, "delta": EVIL}}),
        models.Event.from_json(
            {"seq": 1, "type": "LOG", "payload": {"kind": "tool_call", "tool": EVIL, "args": EVIL}}
        ),
        models.BaseTask.from_json(EVIL_TASK),
        models.BaseProject.from_json({"id": EVIL, "name": EVIL, "config": {EVIL: EVIL}}),
        models.BaseDecomposition.from_json(
            {"id": "1", "user_prompt": EVIL, "status": EVIL, "plan": EVIL_PLAN}
        ),
        Diff.from_json({"files": [EVIL_FILE], "stats": {"files": EVIL}}),
        Diff.from_json({"files": [EVIL_FILE | {"notebook": EVIL_NOTEBOOK}]}),
        models.Gates.from_json([{"name": EVIL, "command": EVIL}]),
        models.AuditEntry.from_json({"path": EVIL, "result": EVIL, "operation": EVIL}),
        models.AuditSummary.from_json({"counts": [{"operation": EVIL, "result": "", "count": 1}]}),
        models.Status.from_json(EVIL_STATUS),
        models.Root.from_json({"id": "1", "path": EVIL}),
        models.Agent.from_json({"id": "1", "name": EVIL}),
    ],
    ids=lambda result: type(result).__name__,
)
def test_reprs_are_escaped(result):
    assert_harmless(result._repr_html_())


def test_lists_and_boards_are_escaped():
    roots = [models.Root.from_json({"id": EVIL, "path": EVIL, "canonical_path": EVIL})]
    assert_harmless(_html.listing(EVIL, roots, ("canonical_path", "is_enabled", "id")))
    assert_harmless(_html.board([EVIL_TASK], title=EVIL))
    assert_harmless(_html.section(EVIL, "", note=EVIL))


def test_long_texts_are_cut_with_a_note():
    shown = _html.escape("x" * 5000)
    assert shown.endswith("(3000 more characters)")
    patch = "\n".join(f"+{number}" for number in range(1000))
    diff = Diff.from_json({"files": [{"path": "a", "patch": patch}]})
    assert "600 more lines" in diff._repr_html_()


def test_unknown_fields_stay_in_raw_and_results_are_frozen():
    me = models.Me.from_json({"username": "ada", "shoe_size": 39})
    assert me.raw["shoe_size"] == 39
    assert not hasattr(me, "shoe_size")
    with pytest.raises(dataclasses.FrozenInstanceError):
        me.username = "eve"


def test_unreadable_fields_are_a_server_error():
    with pytest.raises(ServerError, match="'timestamp' is unreadable"):
        models.Event.from_json({"seq": 1, "type": "LOG", "timestamp": "yesterday"})
    assert models.parse_time("2026-11-22T12:00:00Z").utcoffset().total_seconds() == 0


def test_a_notebook_is_shown_by_cell_with_its_pictures():
    picture = {"mime": "image/png", "before": None, "after": "iVBORw0KGgo="}
    output = {"kind": "modified", "name": "stdout", "patch": "@@ -1,1 +1,1 @@\n-1\n+2"}
    cell = {
        "kind": "moved", "cell_type": "code", "execution_count": 4, "before": 2, "after": 3,
        "patch": "@@ -9,1 +9,1 @@\n-x = 1\n+x = 2",
        "outputs": [output, {"kind": "added", "name": "display_data", "pictures": [picture],
                             "others": ["text/html"]}],
        "metadata": [{"key": "tags", "before": None, "after": '["a"]'}],
    }  # fmt: skip
    found = {"path": "a.ipynb", "by_cell": True, "patch": "flat", "notebook": {"cells": [cell]}}
    diff = Diff.from_json({"files": [found]})
    shown = diff._repr_html_()
    assert "Cell 3 (code) In [4] moved from place 2" in shown
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in shown
    assert "Output display_data added: image/png, text/html" in shown
    assert "tags added: [&quot;a&quot;]" in shown
    assert "flat" not in shown
    assert diff.files[0].notebook.text.splitlines() == [
        "=== Cell 3 (code) In [4] moved from place 2",
        'Metadata tags added: ["a"]',
        "@@ -9,1 +9,1 @@", "-x = 1", "+x = 2",
        "--- Output stdout changed",
        "@@ -1,1 +1,1 @@", "-1", "+2",
        "--- Output display_data added: image/png, text/html",
    ]  # fmt: skip
    failed = Diff.from_json({"files": [found | {"notebook": {"note": "Too large."}}]})
    assert "flat" in failed._repr_html_()
    assert "Too large." in failed._repr_html_()
