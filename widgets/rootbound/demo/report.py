"""What the demonstration shows at the end, and what it insists on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rootbound as rb
from rootbound.demo.console import Console, shorten
from rootbound.demo.errors import DemoError
from rootbound.demo.flow import Reviewed, until
from rootbound.demo.releases import git
from rootbound.demo.replay import Trespass
from rootbound.demo.verify import TestCounts

_AUDIT_TIMEOUT = 30.0  # seconds until the last entries have arrived
_STATUSES = ("TODO", "IN_PROGRESS", "REVIEW", "DONE")


def show_board(project: rb.Project, console: Console) -> None:
    """Print the tasks by status."""
    tasks = project.tasks()
    console.line("Board")
    for status in _STATUSES:
        here = [f"{task.title} [{task.agent_role}]" for task in tasks if task.status == status]
        console.line(f"  {status:<12} {'; '.join(here) or '-'}")
    console.line()


def show_attempts(reviewed: Sequence[Reviewed], console: Console) -> None:
    """Print every attempt's gates with their evidence, and its diff's size."""
    for each in reviewed:
        stats = each.diff.stats
        console.line(f"{each.task.title}: attempt {each.attempt.number}, {each.attempt.status}")
        console.line(
            f"  diff: {stats.get('files')} files, +{stats.get('additions')} "
            f"-{stats.get('deletions')}: {', '.join(file.path for file in each.diff.files)}"
        )
        rows = [
            (
                f"  {gate.name}",
                gate.exit_code,
                f"{gate.duration_s:.1f} s",
                gate.commit[:10],
                str(gate.log_digest)[:23],
                shorten(gate.command, 60),
            )
            for gate in each.gates
        ]
        header = ("  gate", "exit", "took", "commit", "log digest", "command")
        console.table(header, rows)
        console.line()


def show_audit(
    client: rb.Client, project: rb.Project, trespass: Trespass | None, console: Console
) -> None:
    """Print the audit summary and, for a replay, the writes that were refused.

    Parameters
    ----------
    client : Client
        The connection.
    project : Project
        The project.
    trespass : Trespass or None
        The two files the replayed model tried to write; None for a real vendor.
    console : Console
        Where to print.

    Raises
    ------
    DemoError
        When one of the two refusals is not in the audit log.
    """
    denied = _denied(client, project, trespass)
    summary = client.audit_summary(project=project.id)
    console.line("Audit: file operations of the runs")
    rows = [(f"  {row['operation']}", row["result"], row["count"]) for row in summary.counts]
    console.table(("  operation", "result", "count"), rows)
    console.line("  writes that were refused outside the root:" if denied else "  none refused")
    for entry in denied:
        console.line(f"    {entry.operation} {entry.result} by {entry.source}: {entry.path}")
    console.line()


def _denied(
    client: rb.Client, project: rb.Project, trespass: Trespass | None
) -> list[rb.AuditEntry]:
    def read() -> list[rb.AuditEntry]:
        query = client.audit(project=project.id, operation="WRITE", result="DENIED", limit=500)
        return list(query)

    if trespass is None:
        return read()[:10]
    wanted = {str(trespass.by_tool), str(trespass.by_command)}
    entries = until(read, lambda found: wanted <= {e.path for e in found}, _AUDIT_TIMEOUT)
    missing = wanted - {entry.path for entry in entries}
    if missing:
        raise DemoError(f"The audit log has no refused write of {', '.join(sorted(missing))}.")
    return [entry for entry in entries if entry.path in wanted]


def check_outside(folder: Path, console: Console) -> None:
    """Make sure that nothing was written in the folder outside the root.

    Raises
    ------
    DemoError
        When something was.
    """
    found = sorted(path.name for path in folder.iterdir())
    if found:
        raise DemoError(f"An agent wrote outside its root: {folder} holds {', '.join(found)}.")
    console.line(f"nothing was written in {folder}")


def check_merged(repository: Path, counts: TestCounts, expected: int, console: Console) -> None:
    """Make sure that the default branch has the fix and the checkout is as committed.

    Parameters
    ----------
    repository : Path
        The scratch repository.
    counts : TestCounts
        What the project's own tests say on the default branch.
    expected : int
        Number of tests that must pass.
    console : Console
        Where to print.

    Raises
    ------
    DemoError
        When tests fail, or the checkout differs from its commit.
    """
    console.line(f"the project's own tests on the branch main: {counts.line}")
    if counts.failed or counts.errors or counts.passed != expected:
        raise DemoError(f"The merged branch does not pass its {expected} tests ({counts.line}).")
    changed = git(repository, "status", "--porcelain").strip()
    if changed:
        raise DemoError(f"The checkout {repository} differs from its commit: {shorten(changed)}")
    for line in git(repository, "log", "--oneline", "--no-decorate", "-6").splitlines():
        console.line(f"  {shorten(line)}")
