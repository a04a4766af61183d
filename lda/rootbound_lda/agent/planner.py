"""The PM: one structured answer, checked, with tools that only read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, Literal

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_ai import Agent, Tool, ToolOutput
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.usage import RunUsage, UsageLimits

from ..wire import AgentConfig, Limits, Plan, PlanUsage
from .faults import AgentStopped, understand
from .models import Codec
from .prices import Meter
from .prompts import PLANNER
from .schemas import TOOLS
from .tools import Toolbox

MAX_REPAIRS: Final = 4
"""How often a plan that is not valid goes back to the model."""

MAX_REQUESTS: Final = 30
MAX_RESPONSE: Final = 200_000
"""Characters kept of what the PM says besides its plan."""


def _unpacked(value: Any) -> Any:
    """Read a list that the model has encoded as text once more."""
    if isinstance(value, str):
        try:
            return json.loads(value, strict=False)
        except ValueError:
            return value
    return value


def _storable(value: Any) -> Any:
    """Replace what JSON in PostgreSQL cannot hold: NUL characters and halves of pairs."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    return value


class PlannedTask(BaseModel):
    """One task."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    key: str = Field(min_length=1, max_length=64, description="Short name, unique in the plan.")
    title: str = Field(min_length=1, max_length=255)
    description: str = Field(
        min_length=1, max_length=50_000, description="What to do; it must stand alone."
    )
    role: Literal["FRONTEND", "BACKEND", "QA", "DEVOPS"]
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000, description="Greater is sooner.")
    depends_on: list[str] = Field(default_factory=list, description="Keys of tasks before it.")
    acceptance: str = Field(
        default="", max_length=20_000, description="How to tell that it is done."
    )
    files: list[str] = Field(
        default_factory=list, max_length=200, description="Files it is likely to touch."
    )

    @field_validator("depends_on", "files", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return _unpacked(value)

    @field_validator("acceptance", mode="before")
    @classmethod
    def _acceptance(cls, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    @field_validator("role", mode="before")
    @classmethod
    def _role(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


class SubmittedPlan(BaseModel):
    """The tasks that together do what the user asked for."""

    model_config = ConfigDict(extra="ignore")

    summary: str = Field(description="What the plan does, in a few sentences.")
    tasks: list[PlannedTask] = Field(min_length=1, max_length=50)

    @field_validator("tasks", mode="before")
    @classmethod
    def _tasks(cls, value: Any) -> Any:
        value = _unpacked(value)
        return [_unpacked(item) for item in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _graph(self) -> SubmittedPlan:
        keys = [task.key for task in self.tasks]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"the key {twice[0]!r} is used twice; keys must be unique")
        for task in self.tasks:
            for key in task.depends_on:
                if key not in keys:
                    raise ValueError(
                        f"task {task.key!r} depends on {key!r}, which is not in the plan; the keys "
                        f"are {', '.join(keys)}"
                    )
        try:
            TopologicalSorter({task.key: task.depends_on for task in self.tasks}).prepare()
        except CycleError as error:
            path = " -> ".join(error.args[1])
            raise ValueError(f"the dependencies form a cycle: {path}") from error
        return self


@dataclass(frozen=True, slots=True)
class Planned:
    """A valid plan, what the PM said besides, and what it cost."""

    plan: Plan
    response: str
    usage: PlanUsage


async def make_plan(
    config: AgentConfig, codec: Codec, toolbox: Toolbox, prompt: str, limits: Limits, meter: Meter
) -> Planned:
    """Ask the PM for a plan.

    Parameters
    ----------
    config
        The PM's profile.
    codec
        Its model.
    toolbox
        Read-only tools on the project.
    prompt
        What the user wants.
    limits
        ``max_steps`` and ``max_tokens`` bound it.
    meter
        Adds up the cost.

    Raises
    ------
    AgentStopped
        When the vendor fails, a limit is reached or no valid plan comes.
    """
    system = "\n\n".join(part for part in (PLANNER, config.system_prompt.strip()) if part)
    attempt = 0
    while True:
        attempt += 1
        agent: Agent[None, SubmittedPlan] = Agent(
            codec.model,
            output_type=ToolOutput(SubmittedPlan, name="submit_plan", max_retries=MAX_REPAIRS),
            system_prompt=system,
            model_settings=codec.settings,
            tools=_tools(toolbox),
            retries=MAX_REPAIRS,
        )
        usage = RunUsage()
        try:
            result = await agent.run(
                prompt,
                usage=usage,
                usage_limits=UsageLimits(
                    request_limit=min(limits.max_steps, MAX_REQUESTS),
                    total_tokens_limit=limits.max_tokens,
                ),
            )
        except UsageLimitExceeded as error:
            raise AgentStopped(
                "AGENT_LIMIT_STEPS", f"The PM reached a limit before it had a plan: {error}"
            ) from error
        except UnexpectedModelBehavior as error:
            if "retries" not in str(error).lower():
                await _wait(error, config, attempt)
                continue
            raise AgentStopped(
                "PROVIDER_REFUSED",
                f"{config.model} made no valid plan in {MAX_REPAIRS + 1} tries; reword the request "
                f"or use another model ({_why(error.__cause__ or error)}).",
            ) from error
        except Exception as error:
            await _wait(error, config, attempt)
            continue
        finally:
            meter.steps += usage.requests
            meter.add(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
        plan = msgspec.convert(_storable(result.output.model_dump()), Plan)
        said = [
            part.content
            for message in result.all_messages()
            if isinstance(message, ModelResponse)
            for part in message.parts
            if isinstance(part, TextPart)
        ]
        cost = PlanUsage(meter.steps, meter.input_tokens, meter.output_tokens, meter.cost_usd)
        response = "\n\n".join(said).strip() or plan.summary
        return Planned(plan, _storable(response)[:MAX_RESPONSE], cost)


def _why(error: BaseException) -> str:
    """Return what was wrong with the last plan, in one line."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())[:500]
    found = error.errors(include_url=False, include_input=False)
    lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in found[:3]]
    return "; ".join(lines) + (" and more" if len(found) > 3 else "")


async def _wait(error: Exception, config: AgentConfig, attempt: int) -> None:
    """Wait before the next attempt, or end."""
    fault = understand(error, config)
    delay = fault.delay(attempt)
    if delay is None:
        raise AgentStopped(fault.failure, fault.sentence) from error
    await asyncio.sleep(delay)


def _tools(toolbox: Toolbox) -> list[Tool[None]]:
    """Return the reading tools for the library's own agent."""

    def bound(name: str) -> Callable[..., Awaitable[str]]:
        async def call(**arguments: Any) -> str:
            answer = await toolbox.call(name, arguments, name)
            return answer.text

        return call

    return [
        Tool.from_schema(bound(tool.name), tool.name, tool.description, tool.schema)
        for tool in TOOLS
        if tool.reads_only
    ]
