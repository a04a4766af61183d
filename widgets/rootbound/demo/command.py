"""The demonstration from beginning to end."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import rootbound as rb
from rootbound import paths
from rootbound.demo.console import Console
from rootbound.demo.errors import DemoError

if TYPE_CHECKING:
    from rootbound.demo.models import Provider
    from rootbound.demo.replay import Knowledge, Trespass
    from rootbound.demo.verify import Checker
    from rootbound.testing import ModelStub

_FAILING = 5  # tests of the newer release that fail on the older one
_PASSING = 479  # tests that pass with the fix


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folders of one run of the demonstration.

    Parameters
    ----------
    folder : Path
        Holds all the others; new for every run.
    """

    folder: Path

    @property
    def repository(self) -> Path:
        """The git repository the agents work on, and the only root."""
        return self.folder / "sqlparse"

    @property
    def outside(self) -> Path:
        """An empty folder outside every root."""
        return self.folder / "outside"

    @property
    def releases(self) -> Path:
        """The unpacked downloads."""
        return self.folder / "releases"

    @property
    def check(self) -> Path:
        """The environment in which the project's tests run."""
        return self.folder / "check"


def run_demo(*, workdir: Path | None, provider: str, keep: bool, merge: bool) -> int:
    """Run the demonstration and say how it went.

    Parameters
    ----------
    workdir : Path or None
        Folder for this run's scratch folder; `~/rootbound-demo` when None.
    provider : {"auto", "glm", "gemini", "replay"}
        Whose model works.
    keep : bool
        Keep the unpacked releases and the test environment.
    merge : bool
        Approve and merge; otherwise stop at the first review.

    Returns
    -------
    int
        0 when everything held, 1 when something did not, 130 after Ctrl-C.
    """
    console = Console()
    try:
        # The stub model server and the stack come with the extra `server`.
        from rootbound.demo.models import choose_provider  # noqa: PLC0415, RUF100
        from rootbound_server_ext.stack.errors import StackError  # noqa: PLC0415, RUF100
    except ModuleNotFoundError as error:
        console.raw(f"`rootbound demo` needs {error.name}: pip install 'rootbound[server]'")
        return 1
    scratch: Scratch | None = None
    try:
        chosen = choose_provider(provider)
        console.raw(f"Rootbound demo. {chosen.describe()}")
        scratch = make_scratch(workdir or Path.home() / "rootbound-demo")
        _Demonstration(console, chosen, scratch, merge=merge, keep=keep).run()
    except KeyboardInterrupt:
        console.raw(
            "\nStopped watching. The stack runs on, and what an agent has done is kept; a replayed "
            "model ends with this command, so its running attempt will fail. "
            f"`{_in_shell('rootbound down')}` stops everything."
        )
        return 130
    except (DemoError, StackError, rb.RootboundError, OSError) as error:
        console.raw(f"\nThe demo did not hold: {error}")
        service = getattr(error, "service", None)
        if service:
            console.raw(f"`rootbound logs {service}` says more.")
        if scratch is not None:
            console.raw(
                f"Everything is left in {scratch.folder}; `{_in_shell('rootbound down')}` ends the "
                "stack."
            )
        return 1
    return 0


def _in_shell(command: str) -> str:
    """Return a command as it must be typed to reach this stack."""
    home = os.environ.get("ROOTBOUND_HOME")
    return f"ROOTBOUND_HOME={shlex.quote(home)} {command}" if home else command


def make_scratch(parent: Path) -> Scratch:
    """Make a new folder for a run; earlier ones stay.

    Parameters
    ----------
    parent : Path
        Where to make it.

    Returns
    -------
    Scratch
        The folders.

    Raises
    ------
    DemoError
        When the folder cannot be made.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        scratch = Scratch(parent.expanduser().resolve() / f"{stamp}{suffix}")
        try:
            scratch.outside.parent.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise DemoError(f"Cannot make {scratch.folder} ({error}); use --workdir.") from error
        scratch.outside.mkdir()
        scratch.releases.mkdir()
        return scratch
    raise DemoError(f"{parent} has too many runs of this second; try again.")


class _Demonstration:
    """One run, section by section."""

    def __init__(
        self, console: Console, provider: Provider, scratch: Scratch, *, merge: bool, keep: bool
    ) -> None:
        self._console = console
        self._provider = provider
        self._scratch = scratch
        self._merge = merge
        self._keep = keep

    def run(self) -> None:
        """Run all sections; raises when something does not hold."""
        from rootbound.demo.models import serve  # noqa: PLC0415, RUF100
        from rootbound.demo.replay import Trespass, build_script  # noqa: PLC0415, RUF100

        knowledge, checker = self._prepare()
        outside = self._scratch.outside
        trespass = Trespass(outside / "by-tool.txt", outside / "by-command.txt")
        self._start_stack()
        with (
            serve(self._provider, build_script(knowledge, trespass)) as stub,
            rb.connect(home=paths.state_dir()) as client,
        ):
            if stub is not None:
                self._console.line(f"replayed model listens on {stub.url}")
            self._work(client, stub, checker, trespass)
        self._tidy(checker)
        self._farewell()

    def _prepare(self) -> tuple[Knowledge, Checker]:
        from rootbound.demo import releases, replay, verify  # noqa: PLC0415, RUF100

        console, scratch = self._console, self._scratch
        console.section("Real input")
        cache = paths.ensure_state_dir() / "cache" / "demo"
        name, old, new = releases.PACKAGE, releases.OLD_VERSION, releases.NEW_VERSION
        console.line(f"getting the source packages of {name} {old} and {new} with pip ...")
        both = releases.unpack(releases.download(cache), scratch.releases)
        commit = releases.build_repository(both, scratch.repository)
        console.line(f"{name} {old} with the tests of {new}: {scratch.repository}")
        console.line(f"commit {commit[:10]} on main; running its tests ...")
        checker = verify.Checker(scratch.check)
        checker.prepare()
        counts = checker.test(scratch.repository, "main")
        console.line(f"the starting point: {counts.line}")
        if counts.failed != _FAILING or counts.errors:
            raise DemoError(f"The starting point should have {_FAILING} failing tests.")
        return replay.learn(both), checker

    def _start_stack(self) -> None:
        from rootbound_server_ext.stack import api  # noqa: PLC0415, RUF100

        self._console.section("The stack")
        info = api.start(progress=self._console.line)
        self._console.line(f"ready; state in {paths.state_dir()}, headless API at {info.url}")

    def _work(
        self,
        client: rb.Client,
        stub: ModelStub | None,
        checker: Checker,
        trespass: Trespass,
    ) -> None:
        from rootbound.demo import flow, report  # noqa: PLC0415, RUF100
        from rootbound.demo.models import ensure_agents  # noqa: PLC0415, RUF100

        console, scratch = self._console, self._scratch
        console.section("The project and its plan")
        project = flow.create_project(
            client, scratch.repository, f"sqlparse demo {scratch.folder.name}"
        )
        console.line(f"writable root and project: {scratch.repository}")
        agents = ensure_agents(client, self._provider, stub)
        console.line(f"agents: {', '.join(agent.name for agent in agents.values())}")
        flow.plan(project, agents, console)
        console.section("The tasks, in the order of their dependencies")
        reviewed = list(flow.work(project, console, merge=self._merge))
        console.section("What came of it")
        report.show_board(project, console)
        report.show_attempts(reviewed, console)
        attempted = trespass if self._provider.is_replay else None
        report.show_audit(client, project, attempted, console)
        report.check_outside(scratch.outside, console)
        if self._merge:
            counts = checker.test(scratch.repository, "main")
            report.check_merged(scratch.repository, counts, _PASSING, console)

    def _tidy(self, checker: Checker) -> None:
        if self._keep:
            return
        checker.remove()
        shutil.rmtree(self._scratch.releases, ignore_errors=True)

    def _farewell(self) -> None:
        say: Callable[[str], None] = self._console.raw
        kind = "a replay" if self._provider.is_replay else f"{self._provider.model}, a real vendor"
        say(f"\nAll of it held. The model was {kind}.")
        say(f"The repository:            {self._scratch.repository}")
        if not self._merge:
            say("An attempt waits for your review; a replayed model ends with this command.")
        if os.environ.get("JUPYTER_SERVER_URL"):  # as in the terminals of JupyterLab
            say("See it in JupyterLab:      open the task board, the sprout in the left side bar")
        else:
            say(f"See it in JupyterLab:      make lab      (or: {_in_shell('jupyter lab')})")
        say(f"Stop the stack:            make down     (or: {_in_shell('rootbound down')})")
