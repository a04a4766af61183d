"""Puts an agent together: model, tools, journal and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ..config import Config
from ..files import FileAccess
from ..policy import Policy
from ..reports import Reporter
from ..sandbox import CommandRunner
from ..wire import RunPayload
from ..worktrees import Worktree
from .journal import Journal, read
from .loop import AgentLoop
from .models import open_model
from .prices import Meter, price_of
from .prompts import worker_system
from .tools import Toolbox


@asynccontextmanager
async def open_worker(
    payload: RunPayload,
    key: str,
    config: Config,
    worktree: Worktree,
    policy: Policy,
    *,
    files: FileAccess,
    runner: CommandRunner,
    reporter: Reporter,
    artifacts: Path,
    private: Path,
    is_unsaved: Callable[[Path], bool],
    resumed: bool = False,
) -> AsyncIterator[AgentLoop]:
    """Open an agent for a run; its connections and its journal are closed afterwards.

    Parameters
    ----------
    payload
        The run.
    key
        The vendor's key.
    config
        For the base URLs.
    worktree, policy
        Where the agent works, and what it may do.
    files, runner, reporter
        Its ways to files, commands and events.
    artifacts
        Folder for long outputs.
    private
        The run's own folder, for the journal.
    is_unsaved
        Tells of a file whether the user has it open with unsaved changes.
    resumed
        Whether it goes on where the journal ends. Default false.

    Raises
    ------
    JournalUnreadable
        When there is nothing to go on from.
    """
    agent = payload.agent_config
    path, generation = private / "journal.jsonl", payload.lease_generation
    past = read(path, generation) if resumed else None
    journal = Journal(path, generation, resumed=past is not None and past.round >= 0)
    toolbox = Toolbox(
        policy=policy,
        files=files,
        git=worktree.git,
        runner=runner,
        reporter=reporter,
        artifacts=artifacts,
        command_timeout_s=payload.limits.command_timeout_s,
        max_log_bytes=payload.limits.max_output_bytes,
        is_unsaved=is_unsaved,
    )
    try:
        async with open_model(agent, key, config.model_urls) as codec:
            loop = AgentLoop(
                config=agent,
                codec=codec,
                toolbox=toolbox,
                reporter=reporter,
                journal=journal,
                limits=payload.limits,
                meter=Meter(price_of(agent.provider, agent.model, agent.settings)),
                system=worker_system(agent, payload.commands),
            )
            if past is not None:
                loop.recall(past)
            yield loop
    finally:
        journal.close()
