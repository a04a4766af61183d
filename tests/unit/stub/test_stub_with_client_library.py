"""The stub against the client library the agent loop uses, on both wires."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydantic import BaseModel, model_validator
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.exceptions import ContentFilterError, ModelAPIError, UserError
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from rootbound.testing import Conversation, Fault, FaultKind, Routed, Steps, ToolCall, Turn

TOOLS = ModelRequestParameters(
    function_tools=[
        ToolDefinition(
            name="read_file",
            description="Read a file.",
            parameters_json_schema={
                "type": "object",
                "properties": {"path": {"type": "string"}},
                "required": ["path"],
                "additionalProperties": False,
            },
        )
    ],
    allow_text_output=True,
)
GREETING = Turn(text="Hello there, this is a text that spans several frames of the stream. " * 3)
READ_TWO = Turn(
    thinking="I need both files before I can say anything about them, so I read both at once.",
    text="Reading.",
    calls=(
        ToolCall("read_file", {"path": "a.py"}),
        ToolCall("read_file", {"path": "naïve ✓.py"}),
    ),
)


def start(prompt: str = "Say hello") -> list:
    return [ModelRequest(parts=[UserPromptPart(prompt)], instructions="You are terse.")]


async def ask(model: Model, messages: list) -> ModelResponse:
    async with model_request_stream(model, messages, model_request_parameters=TOOLS) as stream:
        async for _event in stream:
            pass
        return stream.get()


def returns(response: ModelResponse) -> ModelRequest:
    return ModelRequest(
        parts=[
            ToolReturnPart(
                call.tool_name, f"content of {call.args_as_dict()['path']}", call.tool_call_id
            )
            for call in response.tool_calls
        ]
    )


@pytest.mark.asyncio
async def test_text_arrives_streamed_and_whole(connect) -> None:
    stub, model = connect(Steps([GREETING]))
    streamed = await ask(model, start())
    whole = await model_request(model, start(), model_request_parameters=TOOLS)
    assert streamed.text == whole.text == GREETING.text
    assert streamed.finish_reason == whole.finish_reason == "stop"
    assert streamed.usage.input_tokens > 0
    assert streamed.usage.output_tokens == whole.usage.output_tokens > 40
    assert [r.status for r in stub.requests] == [200, 200]


@pytest.mark.asyncio
async def test_thinking_tools_and_history_round_trip(connect) -> None:
    seen: list[Conversation] = []

    def last(conversation: Conversation) -> Turn:
        seen.append(conversation)
        return Turn(text="Done.")

    stub, model = connect(Steps([READ_TWO, last]))
    messages = start("Compare a and b")
    first = await ask(model, messages)
    assert [p.content for p in first.parts if isinstance(p, ThinkingPart)] == [READ_TWO.thinking]
    assert [p.content for p in first.parts if isinstance(p, TextPart)] == ["Reading."]
    calls = [p for p in first.parts if isinstance(p, ToolCallPart)]
    assert [c.args_as_dict()["path"] for c in calls] == ["a.py", "naïve ✓.py"]
    second = await ask(model, [*messages, first, returns(first)])
    assert second.text == "Done."
    conversation = seen[0]
    assert conversation.step == 1
    assert conversation.prompt == "Compare a and b"
    assert conversation.system == "You are terse."
    assert conversation.tool_names == ("read_file",)
    assert [r.text for r in conversation.last_results] == [
        "content of a.py",
        "content of naïve ✓.py",
    ]
    assert [r.name for r in conversation.last_results] == ["read_file", "read_file"]
    assert {r.key for r in stub.requests} == {"replay"}
    assert not any("replay" in str(r.headers) for r in stub.requests)


@pytest.mark.asyncio
async def test_unanswered_and_twice_answered_calls_are_refused(connect) -> None:
    stub, model = connect(Steps([READ_TWO, Turn(text="never")]))
    messages = start()
    first = await ask(model, messages)
    answered = returns(first)
    for parts in (answered.parts[:1], [*answered.parts, answered.parts[0]]):
        with pytest.raises(ModelAPIError) as caught:
            await ask(model, [*messages, first, ModelRequest(parts=list(parts))])
        assert caught.value.status_code == 400
    assert [r.status for r in stub.requests] == [200, 400, 400]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.rate_limited(retry_after=2), 429),
        (Fault.http(500), 500),
        (Fault.http(503), 503),
        (Fault.http(401), 401),
    ],
)
async def test_error_statuses_reach_the_client_and_a_retry_succeeds(connect, fault, status) -> None:
    _stub, model = connect(Steps([Turn(text="Second try.", faults=(fault,))]))
    with pytest.raises(ModelAPIError) as caught:
        await ask(model, start())
    assert caught.value.status_code == status
    if status == 429:
        assert caught.value.retry_after == 2
    assert (await ask(model, start())).text == "Second try."


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fault",
    [Fault.reset(), Fault.cut(), Fault.malformed_frame(), Fault.error_frame()],
    ids=lambda f: f.kind,
)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_broken_replies_raise_and_a_retry_succeeds(connect, fault, streamed) -> None:
    async def request() -> str | None:
        if streamed:
            return (await ask(model, start())).text
        return (await model_request(model, start(), model_request_parameters=TOOLS)).text

    stub, model = connect(Steps([Turn(text=GREETING.text, faults=(fault,))]))
    with pytest.raises(Exception) as caught:
        await request()
    assert not isinstance(caught.value, (AssertionError, UserError))
    assert await request() == GREETING.text
    assert [r.fault for r in stub.requests] == [fault.kind, None]


@pytest.mark.asyncio
async def test_clean_early_end_gives_no_finish_reason(connect) -> None:
    stub, model = connect(Steps([Turn(text=GREETING.text, faults=(Fault.early_eof(),))]))
    if stub_wire(model) == "openai":
        with pytest.raises(Exception, match="finish"):
            await ask(model, start())
    else:
        response = await ask(model, start())
        assert response.finish_reason is None
        assert GREETING.text.startswith(response.text or "")
        assert response.text != GREETING.text
    assert (await ask(model, start())).text == GREETING.text
    assert stub.requests[0].fault is FaultKind.EARLY_EOF


@pytest.mark.asyncio
async def test_html_with_status_200_is_never_an_answer(connect) -> None:
    _stub, model = connect(Steps([Turn(text="Real.", faults=(Fault.html(),))]))
    try:
        response = await ask(model, start())
    except Exception as error:
        assert "Sign in" not in str(getattr(error, "text", ""))
    else:
        assert not response.text
    assert (await ask(model, start())).text == "Real."


@pytest.mark.asyncio
async def test_stall_ends_by_the_clients_timeout_and_the_server_notices(connect) -> None:
    stub, model = connect(Steps([Turn(text=GREETING.text, faults=(Fault.stall(30),))]))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(model, start()), 0.5)
    assert time.monotonic() - began < 3
    began = time.monotonic()
    stub.stop()
    assert time.monotonic() - began < 5


@pytest.mark.asyncio
async def test_delay_is_kept(connect) -> None:
    _stub, model = connect(Steps([Turn(text="Late.", faults=(Fault.delay(0.3),))]))
    began = time.monotonic()
    assert (await ask(model, start())).text == "Late."
    assert time.monotonic() - began >= 0.3


@pytest.mark.asyncio
async def test_length_blocked_empty_and_thinking_only(connect) -> None:
    _stub, model = connect(Steps([Turn(text="Half of a sen", finish="length")]))
    assert (await ask(model, start())).finish_reason == "length"
    _stub, model = connect(Steps([Turn(thinking="Only thoughts and no answer.")]))
    response = await ask(model, start())
    assert not response.text and not response.tool_calls
    assert response.finish_reason == "stop"
    _stub, model = connect(Steps([Turn(text="Bad", finish="blocked")]))
    try:
        reason = (await ask(model, start())).finish_reason
    except ContentFilterError:
        reason = "content_filter"
    assert reason == "content_filter"


@pytest.mark.asyncio
async def test_malformed_call_is_no_usable_call(connect) -> None:
    _stub, model = connect(
        Steps([Turn(calls=(ToolCall("read_file", {"path": "a"}),), finish="malformed_call")])
    )
    response = await ask(model, start())
    if stub_wire(model) == "gemini":
        assert response.finish_reason == "error"
        assert not response.tool_calls
    else:
        (call,) = response.tool_calls
        with pytest.raises(ValueError):
            call.args_as_dict(raise_if_invalid=True)


@pytest.mark.asyncio
async def test_routes_choose_the_script(connect) -> None:
    script = Routed({"pm": Steps([Turn(text="plan")]), "x/qa": Steps([Turn(text="check")])})
    stub, model = connect(script, "x/qa")
    assert (await ask(model, start())).text == "check"
    assert stub.requests[0].route == "x/qa"
    _stub, model = connect(script, "nobody")
    with pytest.raises(ModelAPIError) as caught:
        await ask(model, start())
    assert caught.value.status_code == 400


@pytest.mark.asyncio
async def test_exhausted_script_is_a_clear_400(connect) -> None:
    _stub, model = connect(Steps([]))
    with pytest.raises(ModelAPIError, match="asked for one more") as caught:
        await ask(model, start())
    assert caught.value.status_code == 400


class Plan(BaseModel):
    summary: str
    steps: list[str]

    @model_validator(mode="after")
    def _two_steps(self) -> Plan:
        if len(self.steps) < 2:
            raise ValueError("A plan needs two steps.")
        return self


@pytest.mark.asyncio
async def test_agent_with_tool_output_corrects_itself(connect) -> None:
    stub, model = connect(
        Steps(
            [
                Turn(
                    thinking="Hm.",
                    calls=(ToolCall("submit_plan", {"summary": "s", "steps": ["a"]}),),
                ),
                Turn(calls=(ToolCall("submit_plan", {"summary": "s", "steps": ["a", "b"]}),)),
            ]
        )
    )
    agent = Agent(model, output_type=ToolOutput(Plan, name="submit_plan"), retries=4)
    result = await agent.run("Plan it")
    assert result.output.steps == ["a", "b"]
    assert len(stub.requests) == 2


def stub_wire(model: Model) -> str:
    return "gemini" if "gemini" in model.model_name else "openai"
