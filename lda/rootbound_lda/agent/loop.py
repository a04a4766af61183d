"""The agent's loop: ask the model, do what it says, until it is finished or at a limit.

Every step is in the journal before it is acted upon. A request that fails half-way is asked
again as a whole, with one retry policy for both vendors; nothing that a tool does is repeated.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ContentFilterError, UnexpectedModelBehavior
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from ..keys import without_keys
from ..reports import MAX_TEXT, Reporter
from ..wire import AgentConfig, Limits, Retry, ToolCall, ToolResult, Usage
from .faults import AgentStopped, understand
from .journal import Journal, Past
from .limits import Warnings, check, unpriced
from .models import Codec
from .prices import Meter
from .schemas import BY_NAME, TOOLS, ToolError, parse_arguments
from .tools import Answer, Finish, Toolbox

REQUEST_S: Final = 900.0
"""Wall time of one model request, in seconds; the SDKs only bound the gaps."""

SAME_CALL_HINT: Final = 3
SAME_CALL_STOP: Final = 5
MAX_EMPTY: Final = 3
KEPT_OUTPUTS: Final = 10
_ELIDABLE: Final = ("read_file", "list_files", "search_files", "run_command")

NUDGE_TEXT: Final = (
    "You answered without calling a tool. Go on with the tools, or call finish if the task is "
    "complete or you cannot go on."
)
NUDGE_EMPTY: Final = "Your answer was empty. Call a tool, or finish."
NUDGE_LENGTH: Final = (
    "Your answer was cut off because it was too long, and nothing of it was done. Work in smaller "
    "steps: edit parts of files rather than writing long ones."
)
INTERRUPTED: Final = (
    "Interrupted: Rootbound was restarted while this call was under way, and its result is not "
    "known. It was not repeated. Check what it has done before you call it again."
)


@dataclass(slots=True)
class AgentLoop:
    """One conversation; `run` may be called again with more to say, the limits go on.

    Attributes
    ----------
    system
        The system prompt.
    """

    config: AgentConfig
    codec: Codec
    toolbox: Toolbox
    reporter: Reporter
    journal: Journal
    limits: Limits
    meter: Meter
    system: str
    messages: list[ModelMessage] = field(default_factory=list)
    _past: Past | None = None
    _notes: list[str] = field(default_factory=list)
    _asked: bool = False
    _seconds: float = 0.0
    _started: float = 0.0
    _last_call: str = ""
    _same_calls: int = 0
    _warnings: Warnings = field(default_factory=Warnings)

    @property
    def has_notes(self) -> bool:
        """Whether the user has asked for something that no request has carried yet."""
        return self._asked

    @property
    def last_round(self) -> int:
        """The number of the last round that an earlier process began, -1 when there is none."""
        return self._past.round if self._past is not None else -1

    def note(self, text: str, *, asks: bool = True) -> None:
        """Take a message to the agent; the next request carries it.

        Parameters
        ----------
        text
            What is said.
        asks
            Whether the agent may not finish before it has read it. Default true.
        """
        self.journal.write("note", text=text, asks=asks)
        self._notes.append(text)
        self._asked = self._asked or asks

    def recall(self, past: Past) -> None:
        """Take up a conversation that an earlier process left."""
        self.messages = list(past.messages)
        self._past = past
        self._notes = list(past.notes)
        self._asked = past.asked
        used = past.usage
        self.meter.steps = int(used.get("steps", 0))
        self.meter.input_tokens = int(used.get("input_tokens", 0))
        self.meter.output_tokens = int(used.get("output_tokens", 0))
        self.meter.cost = float(used.get("cost", 0.0))
        self._seconds = float(used.get("seconds", 0.0))
        self._warnings.said = set(past.warned)

    async def run(self, prompt: str, number: int = 0) -> Finish:
        """Work until the agent says that it is finished.

        Parameters
        ----------
        prompt
            The task, or what went wrong after the last time.
        number
            Of this round, from 0; a round that an earlier process began is gone on with.

        Returns
        -------
        Finish
            How the agent ended it.

        Raises
        ------
        AgentStopped
            At a limit, when the vendor fails for good, or when the agent goes in circles.
        AuditUnavailable
            When nothing can be recorded any more.
        """
        left = self.limits.max_seconds - self._seconds
        self._started = time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                finish = await self._begin(prompt, number)
                self.journal.write("finish", status=finish.status, summary=finish.summary)
                return finish
        except TimeoutError as error:
            raise AgentStopped(
                "AGENT_LIMIT_TIME",
                f"The agent was stopped at its time limit of {self.limits.max_seconds:.0f} s; its "
                "branch is kept. Raise the limit or split the task.",
            ) from error
        finally:
            self._seconds += time.monotonic() - self._started

    async def _begin(self, prompt: str, number: int) -> Finish:
        past, self._past = self._past, None
        if past is not None and past.round >= number and past.messages:
            return await self._go_on(past)
        if self.messages and isinstance(self.messages[-1], ModelRequest):
            # The answers to the last calls are in an open request: roles must alternate.
            self._add(prompt)
            self.journal.write("round", number=number)
            return await self._converse()
        self.journal.write("round", number=number)
        parts: list[Any] = [UserPromptPart(prompt)]
        if not self.messages:
            parts.insert(0, SystemPromptPart(self.system))
        self._say(ModelRequest(parts=parts))
        return await self._converse()

    async def _go_on(self, past: Past) -> Finish:
        """Finish the step that was under way, repeating nothing that may have had an effect."""
        last = self.messages[-1]
        calls = [part for part in last.parts if isinstance(part, ToolCallPart)]
        if calls:
            finish = await self._act(calls, past)
            if finish is not None:
                return finish
        elif past.finish is not None and not self._asked:
            return _finish(past.finish)
        elif isinstance(last, ModelResponse):
            self._say(ModelRequest(parts=[UserPromptPart(NUDGE_TEXT)]))
        else:
            reason = "Rootbound was restarted; the model is asked again."
            self.reporter(Retry(self.meter.steps + 1, reason, 0.0))
        return await self._converse()

    async def _converse(self) -> Finish:
        nudged, empty = False, 0
        while True:
            check(self.limits, self.meter)
            self._say_notes()
            response = await self._ask()
            calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
            text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
            cut = response.finish_reason == "length"
            if cut and not _complete(calls):
                # Half a tool call cannot be sent back; only what came before it is kept.
                whole = [part for part in response.parts if not isinstance(part, ToolCallPart)]
                self._answer(replace(response, parts=whole) if text else None, NUDGE_LENGTH)
                empty += 1
            elif calls:
                self._say(response)
                finish = await self._act(calls)
                if finish is not None:
                    return finish
                empty, nudged = 0, False
                continue
            elif text.strip():
                if nudged and not self._asked:
                    self._say(response)
                    return Finish("done", text.strip())
                nudged = True
                self._answer(response, NUDGE_TEXT)
                continue
            else:
                empty += 1
                self._answer(None, NUDGE_EMPTY)
            if empty >= MAX_EMPTY:
                raise AgentStopped(
                    "PROVIDER_UNAVAILABLE",
                    f"{self.config.model} answered {empty} times without anything usable; try "
                    "again or use another model.",
                )

    def _say_notes(self) -> None:
        """Put what the user has said meanwhile into the open request."""
        if not self._notes:
            return
        self._add("\n\n".join(self._notes))
        self.journal.write("notes_said", count=len(self._notes))
        self._notes.clear()
        self._asked = False

    def _say(self, message: ModelMessage) -> None:
        self.journal.message(message)
        self.messages.append(message)

    def _answer(self, response: ModelResponse | None, nudge: str) -> None:
        """Keep an answer, if it says something, and ask for a better one."""
        if response is not None:
            self._say(response)
            self._say(ModelRequest(parts=[UserPromptPart(nudge)]))
            return
        # Without an answer the nudge goes into the request that is open.
        self._add(nudge)

    def _add(self, text: str) -> None:
        """Add to the request that is open: roles must alternate."""
        last = self.messages[-1]
        if isinstance(last, ModelRequest):
            self.messages[-1] = replace(last, parts=[*last.parts, UserPromptPart(text)])
            self.journal.write("nudge", text=text)

    # Asking

    async def _ask(self) -> ModelResponse:
        """Ask for the next step, again and again where that can help."""
        self.meter.steps += 1
        step = self.meter.steps
        attempt = 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout(REQUEST_S):
                    response = await self._stream(step)
                if response.finish_reason == "content_filter":
                    raise ContentFilterError("the answer was withheld")  # noqa: TRY301
                if response.finish_reason == "error":
                    raise UnexpectedModelBehavior("the answer was malformed")  # noqa: TRY301
            except Exception as error:
                fault = understand(error, self.config)
                delay = fault.delay(attempt)
                if delay is None:
                    raise AgentStopped(fault.failure, fault.sentence) from error
                told = without_keys(repr(error))
                self.journal.write("retry", step=step, error=told, delay_s=delay)
                self.reporter(Retry(step, fault.sentence, round(delay, 2)))
                await asyncio.sleep(delay)
            else:
                self._count(response)
                return response

    async def _stream(self, step: int) -> ModelResponse:
        request = model_request_stream(
            self.codec.model,
            self.messages,
            model_settings=self.codec.settings,
            model_request_parameters=_PARAMETERS,
        )
        async with request as stream:
            async for event in stream:
                if isinstance(event, PartStartEvent):
                    if isinstance(event.part, TextPart):
                        self.reporter.text(step, _clean(event.part.content))
                    elif isinstance(event.part, ThinkingPart):
                        self.reporter.thinking(step, _clean(event.part.content))
                elif isinstance(event, PartDeltaEvent):
                    if isinstance(event.delta, TextPartDelta):
                        self.reporter.text(step, _clean(event.delta.content_delta))
                    elif isinstance(event.delta, ThinkingPartDelta):
                        self.reporter.thinking(step, _clean(event.delta.content_delta or ""))
            return stream.get()

    def _count(self, response: ModelResponse) -> None:
        used = response.usage
        self.meter.add(used.input_tokens, used.output_tokens, used.cache_read_tokens)
        meter = self.meter
        self.journal.write(
            "usage",
            steps=meter.steps,
            input_tokens=meter.input_tokens,
            output_tokens=meter.output_tokens,
            cost=meter.cost,
            seconds=self._seconds + time.monotonic() - self._started,
        )
        self.reporter(Usage(meter.steps, meter.input_tokens, meter.output_tokens, meter.cost_usd))
        if meter.steps == 1 and not meter.price.known:
            self.reporter.notice(unpriced(self.config.model, self.limits))
        if used.input_tokens > self.codec.window // 2:
            self._elide()

    def _elide(self) -> None:
        """Leave out old outputs of tools; all at once, so that the vendor's cache holds longer."""
        returns = [
            (index, part)
            for index, message in enumerate(self.messages)
            if isinstance(message, ModelRequest)
            for part in message.parts
            if isinstance(part, ToolReturnPart) and part.tool_name in _ELIDABLE
        ]
        for index, part in returns[:-KEPT_OUTPUTS]:
            content = str(part.content)
            if len(content) < 500 or content.startswith("[output left out"):
                continue
            short = ToolReturnPart(
                part.tool_name,
                f"[output left out, {len(content)} chars; run or read it again]",
                part.tool_call_id,
                outcome=part.outcome,
            )
            message = self.messages[index]
            if isinstance(message, ModelRequest):
                parts = [short if other is part else other for other in message.parts]
                self.messages[index] = replace(message, parts=parts)

    # Acting

    async def _act(self, calls: list[ToolCallPart], past: Past | None = None) -> Finish | None:
        """Run the tools one after the other and send back what they say.

        Parameters
        ----------
        calls
            Of the last response.
        past
            What an earlier process has already done of them.
        """
        finish: Finish | None = None
        parts: list[ToolReturnPart] = []
        for call in calls:
            answer = (_remembered(call, past) if past else None) or await self._call(call)
            finish = answer.finish or finish
            outcome: Any = "success" if answer.ok else "failed"
            parts.append(
                ToolReturnPart(call.tool_name, answer.text, call.tool_call_id, outcome=outcome)
            )
        seconds = self._seconds + time.monotonic() - self._started
        used = self._warnings.due(self.limits, self.meter, seconds)
        if used:
            self.reporter.notice(f"The agent has used {used}; it will be stopped at its limit.")
        warning = f"You have used {used}. Bring the work to an end and call finish." if used else ""
        more: list[Any] = [UserPromptPart(warning)] if warning else []
        self._say(ModelRequest(parts=[*parts, *more]))
        if used:
            self.journal.write("warned", of=sorted(self._warnings.said))
        # The user has said something that the agent has not read: it is not finished yet.
        return None if self._asked else finish

    async def _call(self, call: ToolCallPart) -> Answer:
        step, name, call_id = self.meter.steps, call.tool_name, call.tool_call_id
        self.journal.write("tool_start", step=step, call_id=call_id, tool=name)
        self.reporter(ToolCall(step, call_id, name, _shown(call.args)))
        # What is about to happen is on the disk before it happens.
        await self.reporter.sync()
        started = time.monotonic()
        answer = await self.toolbox.call(name, call.args, call_id)
        answer = self._in_circles(call, answer)
        took = round(time.monotonic() - started, 3)
        end = {"status": answer.finish.status, "summary": answer.finish.summary} if (
            answer.finish
        ) else None  # fmt: skip
        self.journal.write(
            "tool_end", step=step, call_id=call_id, ok=answer.ok, text=answer.text, finish=end,
            duration_s=took,
        )  # fmt: skip
        text = _clean(answer.text)[:MAX_TEXT]
        self.reporter(ToolResult(step, call_id, name, answer.ok, text, took))
        return answer

    def _in_circles(self, call: ToolCallPart, answer: Answer) -> Answer:
        """Notice the same call again and again: first a hint, then the end."""
        key = f"{call.tool_name} {call.args_as_json_str()}"
        self._same_calls = self._same_calls + 1 if key == self._last_call else 1
        self._last_call = key
        if self._same_calls >= SAME_CALL_STOP:
            raise AgentStopped(
                "AGENT_BLOCKED",
                f"The agent called {call.tool_name} {self._same_calls} times with the same "
                "arguments and was stopped; reword the task or use another model.",
            )
        if self._same_calls >= SAME_CALL_HINT:
            hint = "[You made this same call before. Do something else, or finish as blocked.]"
            return replace(answer, text=f"{answer.text}\n{hint}")
        return answer


_PARAMETERS: Final = ModelRequestParameters(
    function_tools=[
        ToolDefinition(
            name=tool.name, description=tool.description, parameters_json_schema=tool.schema
        )
        for tool in TOOLS
    ]
)


def _remembered(call: ToolCallPart, past: Past) -> Answer | None:
    """Return what an earlier process knows of a call; ``None`` when it may be made (again)."""
    ended = past.answers.get(call.tool_call_id)
    if ended:
        entry = ended.pop(0)
        past.started[call.tool_call_id] -= 1
        end = entry.get("finish")
        finish = _finish(end) if end else None
        return Answer(ok=bool(entry["ok"]), text=str(entry["text"]), finish=finish)
    if not past.started.get(call.tool_call_id):
        return None
    past.started[call.tool_call_id] -= 1
    tool = BY_NAME.get(call.tool_name)
    if tool is None or tool.reads_only or tool.name == "finish":
        return None
    return Answer(ok=False, text=INTERRUPTED)


def _finish(noted: dict[str, str]) -> Finish:
    return Finish("blocked" if noted["status"] == "blocked" else "done", noted["summary"])


def _complete(calls: list[ToolCallPart]) -> bool:
    """Return whether there are calls and all their arguments can be read."""
    try:
        for call in calls:
            parse_arguments(call.args)
    except ToolError:
        return False
    return bool(calls)


def _shown(args: str | dict[str, Any] | None) -> dict[str, Any]:
    """Return a call's arguments for the event: long texts cut, broken ones as text."""
    try:
        values = parse_arguments(args)
    except ToolError:
        return {"invalid": _clean(str(args))[:2_000]}
    return {
        _clean(str(key)): _clean(value)[:8_000] if isinstance(value, str) else value
        for key, value in values.items()
    }


def _clean(text: str) -> str:
    """Replace what JSON in PostgreSQL cannot hold."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
