"""What crosses the process boundary: run payload, event, audit entry and plan, version 1.

The structs are the source; the JSON Schemas beside this module are written from them with
``python -m rootbound_lda.wire`` and a test fails when they differ. Unknown fields are
ignored, so a newer backend may add some; a missing or mistyped one is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from .wire_types import AbsolutePath as AbsolutePath
from .wire_types import Failure as Failure
from .wire_types import GateName as GateName
from .wire_types import Identifier as Identifier
from .wire_types import Provider as Provider
from .wire_types import Seconds as Seconds
from .wire_types import Sequence as Sequence
from .wire_types import Sha as Sha
from .wire_types import Timestamp as Timestamp


class Commands(Struct, frozen=True):
    """The project's commands. An empty one means that this gate does not exist."""

    install_cmd: str | None = None
    test_cmd: str | None = None
    lint_cmd: str | None = None


class Limits(Struct, frozen=True):
    """Where a run stops.

    Attributes
    ----------
    max_steps
        Model requests that lead to a step of the agent. Default 60.
    max_tokens
        Input plus output tokens over all steps; ``None`` for no limit. Default 3,000,000.
    max_cost_usd
        Money over all steps, in US dollars, by the price table; ``None`` for no limit.
    max_seconds
        Wall time of the agent, without gates, in seconds. Default 3600.
    gate_timeout_s
        Wall time of one gate, in seconds. Default 900.
    gate_retries
        How often a failing gate goes back to the agent. Default 2.
    command_timeout_s
        The longest ``timeout_s`` that ``run_command`` grants, in seconds. Default 600.
    max_output_bytes
        Bytes that the log of a gate or a command keeps, half of its output's beginning and half
        of its end. Default 16 MiB.
    trace_reads, strict_reads, record_system_reads, strict_audit
        What the audit of commands records, as in `AuditRule`.
    """

    max_steps: Annotated[int, Meta(ge=1)] = 60
    max_tokens: Annotated[int, Meta(ge=1)] | None = 3_000_000
    max_cost_usd: Annotated[float, Meta(ge=0)] | None = None
    max_seconds: Annotated[float, Meta(gt=0)] = 3600.0
    gate_timeout_s: Annotated[float, Meta(gt=0)] = 900.0
    gate_retries: Annotated[int, Meta(ge=0)] = 2
    command_timeout_s: Annotated[float, Meta(gt=0)] = 600.0
    max_output_bytes: Annotated[int, Meta(ge=1024)] = 16 * 1024 * 1024
    trace_reads: bool = True
    strict_reads: bool = False
    record_system_reads: bool = False
    strict_audit: bool = False


class Network(Struct, frozen=True):
    """Whether the agent's commands and gates, and the install command, reach the network."""

    agent: bool = False
    install: bool = True


class AgentConfig(Struct, frozen=True):
    """One agent profile, as the backend snapshots it into a run. Never holds a key."""

    provider: Provider
    model: Annotated[str, Meta(min_length=1, max_length=255)]
    profile_id: str | None = None
    name: str = ""
    base_url: str | None = None
    system_prompt: str = ""
    role: str = ""
    settings: dict[str, Any] = {}
    key_name: str | None = None

    @property
    def is_replay(self) -> bool:
        """Whether the model is a replayed one, which is never given a real key."""
        return self.settings.get("replay") is True


class TaskText(Struct, frozen=True):
    """What the agent is asked to do."""

    title: str
    description: str = ""
    context: Any = None
    id: str | None = None


class Ingest(Struct, frozen=True):
    """Where reports go, and the token that is scoped to this one attempt."""

    base_url: Annotated[str, Meta(pattern=r"^https?://")]
    token: Annotated[str, Meta(min_length=1)]


class RunPayload(Struct, frozen=True):
    """The body of ``POST /run``.

    Attributes
    ----------
    start_commit
        Where the branch begins when the attempt goes on with the work of an earlier one;
        ``base_commit`` is then that one's. Default the base itself.
    update
        ``rebase`` puts the work of ``start_commit`` on the base branch as it is now and runs the
        gates; ``resolve`` has the agent settle the conflicts that this meets. Default neither.
    """

    version: Literal[1]
    attempt_id: Identifier
    project_id: Identifier
    user_id: Identifier
    repo_path: AbsolutePath
    base_ref: Annotated[str, Meta(min_length=1, max_length=255)]
    agent_config: AgentConfig
    task: TaskText
    ingest: Ingest
    lease_generation: Annotated[int, Meta(ge=0)]
    run_id: Identifier | None = None
    base_commit: Sha | None = None
    start_commit: Sha | None = None
    update: Literal["", "rebase", "resolve"] = ""
    writable_roots: list[AbsolutePath] = []
    readable_paths: list[AbsolutePath] = []
    reference_paths: list[str] = []
    commands: Commands = Commands()
    limits: Limits = Limits()
    network: Network = Network()
    accept_tier: Literal["A", "B", "C", "D", "E", "F"] | None = None


class PlanPayload(Struct, frozen=True):
    """The body of ``POST /plans``."""

    version: Literal[1]
    decomposition_id: Identifier
    project_id: Identifier
    user_id: Identifier
    repo_path: AbsolutePath
    prompt: Annotated[str, Meta(min_length=1)]
    agent_config: AgentConfig
    ingest: Ingest
    limits: Limits = Limits()
    lease_generation: Annotated[int, Meta(ge=0)] = 0
    writable_roots: list[AbsolutePath] = []
    readable_paths: list[AbsolutePath] = []


# Payloads of events. ``kind`` tells them apart within a type.


class Text(Struct, frozen=True, tag_field="kind", tag="text"):
    """Text of the model, as it arrives."""

    step: int
    delta: str


class Thinking(Struct, frozen=True, tag_field="kind", tag="thinking"):
    """Reasoning of the model, as it arrives."""

    step: int
    delta: str


class ToolCall(Struct, frozen=True, tag_field="kind", tag="tool_call"):
    """A tool is about to run."""

    step: int
    call_id: str
    tool: str
    args: dict[str, Any]


class ToolResult(Struct, frozen=True, tag_field="kind", tag="tool_result"):
    """A tool has answered."""

    step: int
    call_id: str
    tool: str
    ok: bool
    text: str
    duration_s: Seconds


class Output(Struct, frozen=True, tag_field="kind", tag="output"):
    """Output of a gate or a command; ``source`` is ``gate:<name>`` or ``command:<call_id>``."""

    source: str
    stream: Literal["stdout", "stderr"]
    text: str


class Usage(Struct, frozen=True, tag_field="kind", tag="usage"):
    """Running totals; ``cost_usd`` is ``null`` when the price of the model is not known."""

    steps: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


class Retry(Struct, frozen=True, tag_field="kind", tag="retry"):
    """A model request is repeated; readers drop the partial text of this step."""

    step: int
    reason: str
    delay_s: Seconds


class Enforcement(Struct, frozen=True, tag_field="kind", tag="enforcement"):
    """What holds the run: the first event of every run."""

    tier: str
    missing: list[str]
    writable: list[str]
    network: Network


class Notice(Struct, frozen=True, tag_field="kind", tag="notice"):
    """A remark of the LDA to the reader."""

    text: str


class UserMessage(Struct, frozen=True, tag_field="kind", tag="user_message"):
    """The user told the agent something while it works."""

    text: str


class GateStarted(Struct, frozen=True, tag_field="kind", tag="gate_started"):
    """A gate begins."""

    name: GateName
    command: str


class ErrorText(Struct, frozen=True, tag_field="kind", tag="error"):
    """Something went wrong."""

    message: str


class GateEvidence(Struct, frozen=True, tag_field="kind", tag="gate"):
    """A gate ran at ``commit``; ``log_digest`` is of the log that is kept of its output.

    ``flaky`` says that it had failed at this very commit and passed when it was run again.
    """

    name: GateName
    commit: Sha
    command: str
    exit_code: int
    duration_s: Seconds
    log_digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
    log_artifact: str | None = None
    flaky: bool = False


class Baseline(Struct, frozen=True, tag_field="kind", tag="baseline"):
    """What a gate that fails now says about the base commit.

    Attributes
    ----------
    cached
        Whether this was known from an earlier run.
    before
        Failures, by name, that the base commit has too; empty when the output names none.
    new
        Failures that only the attempt has.
    """

    name: GateName
    commit: Sha
    command: str
    exit_code: int
    cached: bool
    before: list[str] = []
    new: list[str] = []


class CommitMade(Struct, frozen=True, tag_field="kind", tag="commit"):
    """The agent's work was committed on the attempt's branch."""

    commit: Sha
    base: Sha
    message: str


class DiffSize(Struct, frozen=True, tag_field="kind", tag="diff"):
    """How much the attempt changes against its base; ``tests`` are changed test files."""

    files: int
    additions: int
    deletions: int
    tests: list[str] = []


class Status(Struct, frozen=True):
    """The LDA reports a transition."""

    status: Literal["RUNNING", "GATES", "REVIEW", "FAILED"]
    failure: Failure | None = None
    message: str | None = None
    head_commit: Sha | None = None
    exit_code: int | None = None


LogPayload = (
    Text
    | Thinking
    | ToolCall
    | ToolResult
    | Output
    | Usage
    | Retry
    | Enforcement
    | Notice
    | UserMessage
    | GateStarted
)
ArtifactPayload = GateEvidence | Baseline | CommitMade | DiffSize
Payload = LogPayload | ErrorText | ArtifactPayload | Status


class LogEvent(Struct, frozen=True, tag_field="type", tag="LOG"):
    """Progress."""

    seq: Sequence
    timestamp: Timestamp
    payload: LogPayload


class ErrorEvent(Struct, frozen=True, tag_field="type", tag="ERROR"):
    """A problem."""

    seq: Sequence
    timestamp: Timestamp
    payload: ErrorText


class ArtifactEvent(Struct, frozen=True, tag_field="type", tag="ARTIFACT"):
    """A lasting result."""

    seq: Sequence
    timestamp: Timestamp
    payload: ArtifactPayload


class StatusEvent(Struct, frozen=True, tag_field="type", tag="STATUS"):
    """A transition."""

    seq: Sequence
    timestamp: Timestamp
    payload: Status


Event = LogEvent | ErrorEvent | ArtifactEvent | StatusEvent


class AuditEntry(Struct, frozen=True):
    """One file operation; ``hash`` chains it to the entry before."""

    seq: Sequence
    timestamp: Timestamp
    operation: Literal["READ", "WRITE", "DELETE"]
    result: Literal["ALLOWED", "DENIED"]
    path: Annotated[str, Meta(max_length=1024)]
    source: Literal["tool", "kernel", "provisioner"]
    detail: dict[str, Any]
    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class PlanTask(Struct, frozen=True):
    """One task of a plan; ``depends_on`` names keys of other tasks in it."""

    key: Annotated[str, Meta(min_length=1, max_length=64)]
    title: Annotated[str, Meta(min_length=1, max_length=255)]
    description: str
    role: Literal["FRONTEND", "BACKEND", "QA", "DEVOPS"]
    priority: int = 0
    depends_on: list[str] = []
    acceptance: str = ""
    files: list[str] = []


class Plan(Struct, frozen=True):
    """What the PM submits."""

    summary: str
    tasks: Annotated[list[PlanTask], Meta(min_length=1, max_length=50)]


class PlanUsage(Struct, frozen=True):
    """What a decomposition cost."""

    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class PlanReport(Struct, frozen=True):
    """The result of a decomposition: a plan, or a failure with one sentence."""

    plan: Plan | None = None
    response: str = ""
    usage: PlanUsage = PlanUsage()
    failure: Failure | None = None
    message: str | None = None


def event_for(seq: int, timestamp: str, payload: Payload) -> Event:
    """Wrap a payload into the event type that carries it.

    Parameters
    ----------
    seq
        Number of the event within its attempt, from 1.
    timestamp
        RFC 3339, UTC, ending in ``Z``.
    payload
        One of the payload structs.

    Returns
    -------
    Event
        The event, ready to be encoded with ``msgspec.json.encode``.
    """
    if isinstance(payload, Status):
        return StatusEvent(seq, timestamp, payload)
    if isinstance(payload, ErrorText):
        return ErrorEvent(seq, timestamp, payload)
    if isinstance(payload, GateEvidence | Baseline | CommitMade | DiffSize):
        return ArtifactEvent(seq, timestamp, payload)
    return LogEvent(seq, timestamp, payload)


_SCHEMAS: Final[dict[str, Any]] = {
    "run.v1": RunPayload,
    "event.v1": Event,
    "audit.v1": AuditEntry,
    "plan.v1": PlanReport,
}


def schemas() -> dict[str, dict[str, Any]]:
    """Build the JSON Schemas (draft 2020-12) of everything that crosses the boundary.

    Returns
    -------
    dict
        Schema by file name without ``.json``.
    """
    built: dict[str, dict[str, Any]] = {}
    for name, kind in _SCHEMAS.items():
        schema = msgspec.json.schema(kind)
        built[name] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"https://rootbound.dev/schema/{name}.json",
            **schema,
        }
    return built


def write_schemas(folder: Path) -> None:
    """Write every schema into ``folder`` as ``<name>.json``."""
    for name, schema in schemas().items():
        text = json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(__file__).parent / "schema")
