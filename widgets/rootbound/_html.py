"""Static HTML for results and snapshots. Every value goes through `escape`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ._notebook import heading, metadata_lines, output_heading

if TYPE_CHECKING:
    from .costs import Costs
    from .diff_models import Diff, NotebookDiff
    from .models import (
        AuditEntry,
        AuditSummary,
        BaseAttempt,
        BaseDecomposition,
        Event,
        Gate,
    )

COLUMNS = ("TODO", "IN_PROGRESS", "REVIEW", "DONE")
_COLUMN_TITLES = {"TODO": "To do", "IN_PROGRESS": "In progress", "REVIEW": "Review", "DONE": "Done"}
_MAX_TEXT = 2_000
_MAX_PATCH_LINES = 400
_MAX_PICTURE = 128 * 1024
_PICTURES = ("image/png", "image/jpeg")

# Inline styles only: sanitising viewers drop <style>. Lab's variables make it fit both themes.
_BORDER = "1px solid var(--jp-border-color2,#bdbdbd)"
_MUTED = "color:var(--jp-ui-font-color2,#616161)"
_CELL = f"padding:2px 10px 2px 0;text-align:left;vertical-align:top;border-bottom:{_BORDER}"
_BAD = "color:var(--jp-error-color1,#c62828);font-weight:600"
_GOOD = "color:var(--jp-success-color1,#2e7d32);font-weight:600"
_CODE = "font-family:var(--jp-code-font-family,monospace);font-size:.92em"
_BAD_WORDS = frozenset({"FAILED", "DENIED", "ERROR", "failed", "stopped"})
_GOOD_WORDS = frozenset({"SUCCESS", "DONE", "APPROVED", "ready", "ok", "passed"})


def escape(value: Any) -> str:
    """Return a value as HTML text, quotes included, cut with a note when it is very long."""
    text = plain(value)
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}… ({len(text) - _MAX_TEXT} more characters)"
    return html.escape(text, quote=True)


def span(value: Any, style: str) -> str:
    """Return an escaped value with an inline style; `style` is never user input."""
    return f'<span style="{style}">{escape(value)}</span>'


def word(value: Any) -> str:
    """Return a status word, coloured when it is good or bad news."""
    text = plain(value)
    if text in _BAD_WORDS:
        return span(text, _BAD)
    return span(text, _GOOD) if text in _GOOD_WORDS else escape(text)


def code(value: Any) -> str:
    """Return an escaped value in the code font."""
    return span(value, _CODE)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """Return a table; `head` and `caption` are escaped, `rows` hold finished HTML."""
    cells = "".join(f'<th scope="col" style="{_CELL}">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    title = f'<caption style="text-align:left;{_MUTED}">{escape(caption)}</caption>'
    return (
        f'<table style="border-collapse:collapse">{title if caption else ""}'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    )


def section(title: str, body: str, *, note: str = "") -> str:
    """Return a titled block; `body` is finished HTML."""
    remark = f' <span style="{_MUTED}">{escape(note)}</span>' if note else ""
    return f'<section class="rootbound-snapshot"><b>{escape(title)}</b>{remark}{body}</section>'


def words(name: str) -> str:
    """Return the name of a class or field as people write it."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removeprefix("Async")).replace("_", " ")
    return apart[:1].upper() + apart[1:].lower()


def facts(title: str, values: Mapping[str, Any]) -> str:
    """Return the two-column table of any result."""
    rows = [(span(words(name), _MUTED), _fact(value)) for name, value in values.items()]
    return section(title, table(("field", "value"), rows))


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return word("yes" if value else "no")
    if isinstance(value, Mapping) and not any(
        isinstance(one, (dict, list)) for one in value.values()
    ):
        return "<br>".join(f"{span(name, _MUTED)} {escape(one)}" for name, one in value.items())
    return word(value)


def services(states: Mapping[str, Mapping[str, Any]], title: str) -> str:
    """Return the state of each service, and what it says of itself."""
    rows = [
        (span(name, _MUTED), word(state.get("state")), escape(state.get("message") or ""))
        for name, state in states.items()
    ]
    return section(title, table(("service", "state", "says"), rows))


def listing(title: str, items: Sequence[Any], names: Sequence[str]) -> str:
    """Return a table of results, one row each, with the named attributes."""
    rows = [[word(plain(getattr(item, name))) for name in names] for item in items]
    return section(title, table(names, rows) if rows else _none(), note=f"{len(items)} in all")


def _none() -> str:
    return f'<p style="{_MUTED}">None.</p>'


def plain(value: Any) -> str:
    """Return any value as text that is not escaped yet: times readable, containers as JSON."""
    if value is None:
        return "—"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _card(task: Mapping[str, Any]) -> str:
    attempt_raw = task.get("latest_attempt")
    lines = [f"<b>{escape(task.get('title'))}</b>", span(task.get("agent_role") or "", _MUTED)]
    if task.get("blocked_by"):
        lines.append(span(f"waits for {len(task['blocked_by'])} task(s)", _MUTED))
    if isinstance(attempt_raw, Mapping):
        number = escape(attempt_raw.get("number"))
        lines.append(f"attempt {number}: {word(attempt_raw.get('status'))}")
        agent = attempt_raw.get("agent")
        if isinstance(agent, Mapping) and agent.get("is_replay"):
            lines.append(span("replayed model", _MUTED))
    body = "<br>".join(line for line in lines if line)
    return f'<div style="border:{_BORDER};border-radius:4px;padding:6px;margin:4px 0">{body}</div>'


def board(tasks: Iterable[Mapping[str, Any]], title: str = "Tasks") -> str:
    """Return the board: one column per task status, one card per task."""
    known = list(tasks)
    cells = []
    for status in COLUMNS:
        cards = [_card(task) for task in known if task.get("status") == status]
        cells.append(
            f'<td style="vertical-align:top;padding:4px 12px 4px 0;min-width:11em;text-align:left">'
            f'<span style="{_MUTED}">{_COLUMN_TITLES[status]} ({len(cards)})</span>'
            f"{''.join(cards)}</td>"
        )
    return section(title, f"<table><tbody><tr>{''.join(cells)}</tr></tbody></table>")


def event_text(payload: Mapping[str, Any]) -> str:
    """Return the one-line plain text of an event's payload."""
    for key in ("delta", "text", "message", "status"):
        if payload.get(key):
            text = str(payload[key])
            if key == "status" and payload.get("failure"):
                text += f" ({payload['failure']})"
            return text
    match payload:
        case {"kind": "tool_call", "tool": tool}:
            return f"{tool}({json.dumps(payload.get('args'), ensure_ascii=False)})"
        case {"kind": "gate_started", "name": name, "command": command}:
            return f"{name}: {command}"
        case {"kind": "gate", "name": name, "exit_code": exit_code, "commit": commit}:
            return f"{name}: exit code {exit_code} at {plain(commit)[:8]}"
        case {"kind": "diff", "files": files, "additions": added, "deletions": removed}:
            return f"{files} file(s), +{added} −{removed}"
        case {"kind": "enforcement", "tier": tier}:
            missing = "; ".join(payload.get("missing") or ())
            return f"tier {tier}" + (f", without: {missing}" if missing else "")
        case {"kind": "usage"}:
            tokens = f"{payload.get('input_tokens')} in, {payload.get('output_tokens')} out"
            return f"{payload.get('steps')} step(s), {tokens}"
    rest = {key: value for key, value in payload.items() if key != "kind"}
    return json.dumps(rest, ensure_ascii=False) if rest else ""


def events(items: Sequence[Event], title: str = "Events") -> str:
    """Return events as a table, oldest first."""
    rows = [
        (
            escape(event.seq),
            escape(event.timestamp.strftime("%H:%M:%S") if event.timestamp else None),
            word(event.type),
            escape(event.kind or ""),
            code(event_text(event.payload)),
        )
        for event in items
    ]
    return section(title, table(("seq", "time", "type", "kind", "text"), rows))


def gates(items: Sequence[Gate]) -> str:
    """Return gates with their evidence."""
    rows = [
        (
            escape(gate.name),
            word("passed" if gate.passed else "failed"),
            escape(gate.exit_code),
            escape(f"{gate.duration_s:.1f} s"),
            code(gate.commit[:12]),
            code(gate.command),
            code((gate.log_digest or "")[:19]),
        )
        for gate in items
    ]
    head = ("gate", "result", "exit code", "duration", "commit", "command", "log digest")
    return section("Gates", table(head, rows) if rows else f"<p>{escape('No gate ran yet.')}</p>")


def attempt(item: BaseAttempt) -> str:
    """Return an attempt's state, agent and gates."""
    agent = item.agent
    name = " ".join(str(agent[key]) for key in ("name", "model") if agent.get(key))
    if agent.get("is_replay"):
        name += " (replayed model)"
    rows = [
        ("status", word(item.status)),
        ("branch", code(item.branch_name)),
        ("head commit", code(item.head_commit)),
        ("agent", escape(name or None)),
        ("events", escape(item.last_seq)),
        ("denied operations", escape(item.denied_count)),
    ]
    if item.failure:
        rows.append(("failure", f"{span(item.failure, _BAD)} {escape(item.failure_message or '')}"))
    body = table(("field", "value"), [(span(key, _MUTED), value) for key, value in rows])
    return section(f"Attempt {item.number}", body + (gates(item.gate_list) or ""))


def plan(item: BaseDecomposition) -> str:
    """Return a decomposition with its planned tasks."""
    rows = [
        (
            code(task.get("key")),
            escape(task.get("title")),
            escape(task.get("role")),
            escape(task.get("priority")),
            code(", ".join(map(str, task.get("depends_on") or ()))),
        )
        for task in item.plan.get("tasks", [])
    ]
    summary = f"<p>{escape(item.plan.get('summary') or item.failure_message or '')}</p>"
    body = table(("key", "title", "role", "priority", "depends on"), rows) if rows else ""
    return section(f"Plan: {item.status}", summary + body, note=item.user_prompt)


def _patch_lines(patch: str) -> str:
    lines = patch.splitlines()
    out = []
    for line in lines[:_MAX_PATCH_LINES]:
        style = ""
        if line.startswith("+") and not line.startswith("+++"):
            style = "background:rgba(46,160,67,.18)"
        elif line.startswith("-") and not line.startswith("---"):
            style = "background:rgba(248,81,73,.18)"
        out.append(span(line, style) if style else escape(line))
    if len(lines) > _MAX_PATCH_LINES:
        out.append(span(f"… {len(lines) - _MAX_PATCH_LINES} more lines", _MUTED))
    return "\n".join(out)


def _pre(text: str) -> str:
    return f'<pre style="margin:2px 0;{_CODE}">{text}</pre>'


def _cells(found: NotebookDiff) -> str:
    """Return a notebook's change, cell by cell."""
    parts = [span(found.note, _MUTED)] if found.note else []
    parts += [_metadata(found.metadata)]
    for cell in found.cells:
        body = _metadata(cell.metadata)
        body += _pre(_patch_lines(cell.patch)) if cell.patch else ""
        for output in cell.outputs:
            body += f"<p>{span(output_heading(output), _MUTED)}</p>"
            body += _pre(_patch_lines(output.patch)) if output.patch else ""
            body += "".join(_pictures(picture) for picture in output.pictures)
        parts.append(f'<div style="margin:8px 0"><b>{escape(heading(cell))}</b>{body}</div>')
    return "".join(parts)


def _metadata(changes: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"<p>{span(line, _MUTED)}</p>" for line in metadata_lines(changes))


def _pictures(change: Mapping[str, Any]) -> str:
    """Return a picture before and after; one that is large, or none, is left out."""
    mime, shown = str(change.get("mime")), ""
    for when in ("before", "after"):
        data = change.get(when)
        if not isinstance(data, str) or mime not in _PICTURES or len(data) > _MAX_PICTURE:
            continue
        if re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", data):
            shown += (
                f'<figure style="display:inline-block;margin:4px"><figcaption>{when}</figcaption>'
                f'<img alt="{when}" style="max-width:320px" src="data:{mime};base64,{data}">'
                "</figure>"
            )
    return shown


def diff(item: Diff) -> str:
    """Return a diff, file by file."""
    parts = []
    for entry in item.files:
        name = f"{entry.old_path} → {entry.path}" if entry.old_path else entry.path
        size = f"{entry.status} +{entry.additions} −{entry.deletions}"
        head = f"{code(name)} {escape(size)}"
        text = "binary file" if entry.binary else ""
        if entry.notebook is not None and entry.notebook.cells:
            body = _cells(entry.notebook)
        else:
            body = _pre(_patch_lines(entry.patch) or text)
            if entry.notebook is not None and entry.notebook.note:
                body = f"<p>{span(entry.notebook.note, _MUTED)}</p>{body}"
        parts.append(f"<details open><summary>{head}</summary>{body}</details>")
    stats = item.stats
    note = (
        f"{stats.get('files', len(item.files))} file(s), "
        f"+{stats.get('additions', 0)} −{stats.get('deletions', 0)}"
    )
    return section("Diff", "".join(parts) or f"<p>{escape('No change.')}</p>", note=note)


def audit(items: Sequence[AuditEntry], title: str = "Audit", note: str = "") -> str:
    """Return audit entries as a table."""
    rows = [
        (
            escape(entry.seq),
            escape(entry.timestamp),
            escape(entry.operation),
            word(entry.result),
            code(entry.path),
            escape(entry.source),
        )
        for entry in items
    ]
    head = ("seq", "time", "operation", "result", "path", "source")
    return section(title, table(head, rows) if rows else _none(), note=note)


def audit_summary(item: AuditSummary) -> str:
    """Return the counts by operation and result."""
    rows = [
        (escape(row.get("operation")), word(row.get("result")), escape(row.get("count")))
        for row in item.counts
    ]
    return section("Audit summary", table(("operation", "result", "count"), rows))


def costs(item: Costs, title: str = "Cost") -> str:
    """Return tokens and money by project and role, and the sums."""
    sums: dict[tuple[str, str], list[float]] = {}
    for row in item.results:
        tokens = row["input_tokens"] + row["output_tokens"]
        known = sums.setdefault((row["project_name"], row["role"]), [0, 0, 0, 0])
        for index, value in enumerate((row["runs"], tokens, row["cost_usd"], row["unpriced_runs"])):
            known[index] += value
    rows = [
        (
            escape(project),
            escape(role),
            escape(int(runs)),
            escape(f"{int(tokens):,}"),
            escape(f"${money:.4f}" + (f" and {int(unpriced)} unpriced" if unpriced else "")),
        )
        for (project, role), (runs, tokens, money, unpriced) in sorted(sums.items())
    ]
    note = f"{item.since} to {item.until}: ${item.cost_usd:.4f}, {item.tokens:,} tokens"
    return section(title, table(("project", "role", "runs", "tokens", "US $"), rows), note=note)


def status(raw: Mapping[str, Any]) -> str:
    """Return what the LDA enforces and which roots are granted."""
    lda = raw.get("lda") or {}
    sandbox = lda.get("sandbox") or {}
    rows = [
        ("Local Desktop Agent", word("ready" if lda.get("reachable") else "stopped")),
        ("version", escape(lda.get("version"))),
        ("enforcement tier", escape(sandbox.get("tier"))),
        ("live runs", escape(lda.get("live_runs"))),
    ]
    rows += [("missing", span(sentence, _BAD)) for sentence in sandbox.get("missing") or ()]
    rows += [
        ("root", code(root.get("canonical_path") or root.get("path")))
        for root in raw.get("roots") or ()
        if isinstance(root, Mapping)
    ]
    return section("Stack", table(("field", "value"), [(span(k, _MUTED), v) for k, v in rows]))
