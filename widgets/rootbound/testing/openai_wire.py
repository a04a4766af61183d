"""The OpenAI-compatible wire (GLM): chat completions, streamed and whole."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rootbound.testing.script import (
    Conversation,
    Message,
    ToolCall,
    ToolResult,
    ToolSpec,
    Turn,
    compact_json,
)
from rootbound.testing.wire import BadRequest, Reply, as_list, as_object, pieces, tokens

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FINISH = {"stop": "stop", "length": "length", "blocked": "sensitive"}
# The codes are strings, and 1214 is what z.ai gives for a bad parameter.
_CODES = {400: "1214", 401: "1000", 404: "1211", 429: "1302", 500: "500", 503: "1305"}


def parse(body: object, *, route: str) -> Conversation:
    """Check a chat completion request as the vendor does and parse it.

    Parameters
    ----------
    body : object
        The decoded JSON body.
    route : str
        Path prefix of the request.

    Returns
    -------
    Conversation
        The request in the vocabulary of scripts.

    Raises
    ------
    BadRequest
        When the vendor would answer 400.
    """
    request = as_object(body, "The body")
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' must be a string.")
    raw = [as_object(item, "A message") for item in as_list(request.get("messages"), "'messages'")]
    if not raw:
        raise BadRequest("'messages' must not be empty.")
    _check_order(raw)
    choice = request.get("tool_choice", "auto")
    if choice not in ("auto", "none", None):
        raise BadRequest("'tool_choice' supports only 'auto'.")
    names: dict[str, str] = {}
    messages: list[Message] = []
    system: list[str] = []
    for item in raw:
        if item["role"] in ("system", "developer"):
            system.append(_text(item.get("content")))
            continue
        message = _message(item, names)
        messages.append(message)
        names.update({call.call_id: call.name for call in message.calls})
    if not messages:
        raise BadRequest("'messages' must hold at least one message of the user.")
    return Conversation(
        wire="openai",
        route=route,
        model=model,
        system="\n\n".join(system),
        messages=tuple(messages),
        tools=_tools(request.get("tools")),
        stream=bool(request.get("stream", False)),
    )


def _check_order(messages: Sequence[Mapping[str, Any]]) -> None:
    open_ids: list[str] = []
    for item in messages:
        role = item.get("role")
        if role not in ("system", "developer", "user", "assistant", "tool"):
            raise BadRequest(f"Unknown role {role!r}.")
        if role == "tool":
            call_id = item.get("tool_call_id")
            if call_id not in open_ids:
                raise BadRequest(
                    "A message with role 'tool' must answer, once, a 'tool_call_id' of the "
                    f"preceding assistant message; got {call_id!r}."
                )
            open_ids.remove(call_id)
            continue
        _check_answered(open_ids)
        if role == "assistant":
            open_ids = [str(call.get("id")) for call in item.get("tool_calls") or ()]
            if len(set(open_ids)) != len(open_ids):
                raise BadRequest("Two tool calls of one message have the same id.")
    _check_answered(open_ids)


def _check_answered(open_ids: Sequence[str]) -> None:
    if open_ids:
        raise BadRequest(
            "An assistant message with 'tool_calls' must be followed by tool messages answering "
            f"each 'tool_call_id'; missing: {', '.join(open_ids)}."
        )


def _message(item: Mapping[str, Any], names: Mapping[str, str]) -> Message:
    role = item["role"]
    text = _text(item.get("content"))
    if role == "tool":
        call_id = str(item["tool_call_id"])
        result = ToolResult(name=names.get(call_id, ""), text=_result(text), call_id=call_id)
        return Message(role="tool", results=(result,))
    if role == "user":
        return Message(role="user", text=text)
    calls = tuple(_call(call) for call in item.get("tool_calls") or ())
    thinking = str(item.get("reasoning_content") or "")
    if not calls and item.get("content") is None and not thinking:
        raise BadRequest("An assistant message needs 'content' or 'tool_calls'.")
    return Message(role="assistant", text=text, thinking=thinking, calls=calls)


def _result(text: str) -> str:
    # Client libraries wrap the text of a failed tool; scripts see the text itself, as on Gemini.
    try:
        value = json.loads(text)
    except ValueError:
        return text
    wrapped = isinstance(value, dict) and list(value) == ["error"]
    return str(value["error"]) if wrapped else text


def _call(raw: object) -> ToolCall:
    call = as_object(raw, "A tool call")
    function = as_object(call.get("function"), "'function' of a tool call")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        raise BadRequest("'arguments' of a tool call must be a string of JSON.")
    try:
        parsed = json.loads(arguments or "{}")
    except ValueError as error:
        raise BadRequest("'arguments' of a tool call is not valid JSON.") from error
    args = as_object(parsed, "'arguments' of a tool call")
    return ToolCall(name=str(function.get("name")), args=args, call_id=str(call.get("id")))


def _text(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = [as_object(part, "A content part") for part in as_list(content, "'content'")]
    return "".join(str(part.get("text", "")) for part in parts)


def _tools(raw: object) -> tuple[ToolSpec, ...]:
    specs = []
    for item in as_list(raw or [], "'tools'"):
        function = as_object(as_object(item, "A tool").get("function"), "'function' of a tool")
        name = function.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadRequest(f"The tool name {name!r} is not valid.")
        schema = as_object(function.get("parameters") or {}, "'parameters' of a tool")
        specs.append(ToolSpec(name, str(function.get("description") or ""), schema))
    return tuple(specs)


def render(
    conversation: Conversation, turn: Turn, body: Mapping[str, Any], *, serial: int
) -> Reply:
    """Render a turn as a chat completion.

    Parameters
    ----------
    conversation : Conversation
        What was asked; `stream` decides the form.
    turn : Turn
        What to say.
    body : Mapping[str, Any]
        The request; `tool_stream` decides whether arguments come in fragments.
    serial : int
        Number of the request, for ids.

    Returns
    -------
    Reply
        Status 200 and the frames.
    """
    calls = _wire_calls(turn, serial)
    base = {
        "id": f"stub-{serial}",
        "created": 1_700_000_000,
        "model": conversation.model,
    }
    spent = _usage(conversation, turn)
    if not conversation.stream:
        return _whole(base, turn, calls, spent)
    deltas = _deltas(turn, calls, fragments=bool(body.get("tool_stream")))
    chunk = {**base, "object": "chat.completion.chunk"}
    frames = [_frame({**chunk, "choices": [_choice(delta=delta)]}) for delta in deltas]
    last = _choice(delta={"role": "assistant", "content": ""}, finish=_finish(turn))
    frames.append(_frame({**chunk, "choices": [last], "usage": spent}))
    frames.append(b"data: [DONE]\n\n")
    return Reply(200, "text/event-stream; charset=utf-8", tuple(frames))


def _whole(
    base: Mapping[str, Any],
    turn: Turn,
    calls: Sequence[Mapping[str, Any]],
    spent: Mapping[str, Any],
) -> Reply:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.thinking:
        message["reasoning_content"] = turn.thinking
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": _finish(turn)}
    payload = {**base, "object": "chat.completion", "choices": [choice], "usage": spent}
    return Reply(200, "application/json", (compact_json(payload).encode(),))


def _wire_calls(turn: Turn, serial: int) -> list[dict[str, Any]]:
    calls = turn.calls
    if turn.finish == "malformed_call" and not calls:
        calls = (ToolCall("run_command", {}),)
    rendered = []
    for index, call in enumerate(calls):
        arguments = compact_json(dict(call.args))
        if turn.finish == "malformed_call":
            arguments = '{"command": "echo ' if arguments == "{}" else arguments[:-1]
        function = {"name": call.name, "arguments": arguments}
        call_id = call.call_id or f"call_{serial}_{index}"
        rendered.append({"id": call_id, "type": "function", "function": function})
    return rendered


def _deltas(
    turn: Turn, calls: Sequence[Mapping[str, Any]], *, fragments: bool
) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for piece in pieces(turn.thinking):
        yield {"role": "assistant", "reasoning_content": piece}
    for piece in pieces(turn.text):
        yield {"role": "assistant", "content": piece}
    for index, call in enumerate(calls):
        if not fragments:
            yield {"tool_calls": [{"index": index, **call}]}
            continue
        # With `tool_stream` the first frame has the id and the name, later ones arguments only.
        function = call["function"]
        head = {**call, "function": {"name": function["name"], "arguments": ""}}
        yield {"tool_calls": [{"index": index, **head}]}
        for piece in pieces(function["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _choice(*, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _finish(turn: Turn) -> str:
    if turn.finish in _FINISH:
        return _FINISH[turn.finish]
    return "tool_calls" if turn.calls or turn.finish == "malformed_call" else "stop"


def _usage(conversation: Conversation, turn: Turn) -> dict[str, Any]:
    spent = tokens(conversation, turn)
    return {
        "prompt_tokens": spent.prompt,
        "completion_tokens": spent.answer + spent.thinking,
        "total_tokens": spent.total,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": spent.thinking},
    }


def _frame(payload: Mapping[str, Any]) -> bytes:
    return f"data: {compact_json(payload)}\n\n".encode()


def error(status: int, message: str, *, code: str = "", retry_after: float | None = None) -> Reply:
    """Render an error as z.ai does: a string code and a sentence.

    Parameters
    ----------
    status : int
        HTTP status.
    message : str
        What is wrong.
    code : str, default ""
        Vendor's code; the usual one for the status when empty.
    retry_after : float or None, default None
        Seconds for the `Retry-After` header.

    Returns
    -------
    Reply
        The error reply.
    """
    payload = {"error": {"code": code or _CODES.get(status, str(status)), "message": message}}
    return Reply(
        status,
        "application/json",
        (compact_json(payload).encode(),),
        {} if retry_after is None else {"retry-after": f"{retry_after:g}"},
    )


def error_frame(message: str) -> bytes:
    """Render an error inside a stream that began well."""
    return _frame({"error": {"code": "500", "message": message}})


def models(names: Sequence[str]) -> Reply:
    """Render the list of models."""
    serial = itertools.count(1_700_000_000)
    data = [
        {"id": name, "object": "model", "created": next(serial), "owned_by": "stub"}
        for name in names
    ]
    payload = {"object": "list", "data": data}
    return Reply(200, "application/json", (compact_json(payload).encode(),))
