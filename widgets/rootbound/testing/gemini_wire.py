"""The Gemini wire: generateContent and streamGenerateContent, in both key casings."""

from __future__ import annotations

import base64
import hashlib
import hmac
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

# What the vendor documents for histories that another model wrote.
SKIP_SIGNATURE = base64.b64encode(b"skip_thought_signature_validator").decode()

_FINISH = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "blocked": "SAFETY",
    "malformed_call": "MALFORMED_FUNCTION_CALL",
}
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def get(obj: Mapping[str, Any], camel: str) -> Any:
    """Return the value of a key in camel or snake case; None when it has neither."""
    if camel in obj:
        return obj[camel]
    return obj.get(re.sub(r"(?<!^)(?=[A-Z])", "_", camel).lower())


def signature(key: bytes, call: ToolCall) -> str:
    """Return the thought signature the stub issues for a call, base64.

    It is a MAC of the call, so that a changed or foreign one is found without memory.

    Parameters
    ----------
    key : bytes
        Signing key of the stub.
    call : ToolCall
        The first call of a turn.

    Returns
    -------
    str
        Signature in standard base64.
    """
    text = json.dumps([call.name, dict(call.args)], sort_keys=True)
    return base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()


def parse(body: object, *, route: str, model: str, stream: bool, key: bytes) -> Conversation:
    """Check a request as the vendor does and parse it.

    Parameters
    ----------
    body : object
        The decoded JSON body.
    route : str
        Path prefix of the request.
    model : str
        Model named in the path.
    stream : bool
        Whether the streaming method was called.
    key : bytes
        Signing key of the stub, for thought signatures.

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
    contents = [as_object(c, "A content") for c in as_list(request.get("contents"), "contents")]
    if not contents:
        raise BadRequest("contents is not specified.")
    config = as_object(
        get(as_object(get(request, "toolConfig") or {}, "toolConfig"), "functionCallingConfig")
        or {},
        "functionCallingConfig",
    )
    instruction = as_object(get(request, "systemInstruction") or {}, "systemInstruction")
    return Conversation(
        wire="gemini",
        route=route,
        model=model,
        system="\n\n".join(str(part.get("text", "")) for part in _parts(instruction)),
        messages=tuple(_history(contents, key)),
        tools=_tools(request),
        stream=stream,
        must_call=config.get("mode") == "ANY",
    )


def _history(contents: Sequence[Mapping[str, Any]], key: bytes) -> list[Message]:
    messages: list[Message] = []
    open_calls: tuple[ToolCall, ...] = ()
    previous = "model"
    answered = False
    for content in contents:
        role = content.get("role", "user")
        if role not in ("user", "model", "function"):
            raise BadRequest(f"Please use a valid role: user, model. Got {role!r}.")
        role = "user" if role == "function" else role
        # The one exception: what the user says after function responses stands in a content of
        # its own, because Gemini 3 may ignore text in the same one.
        if role == previous and not (role == "user" and answered):
            raise BadRequest("Please ensure that multiturn requests alternate user and model.")
        previous = role
        if role == "model":
            message = _model_message(content, key)
            open_calls = message.calls
            messages.append(message)
        else:
            messages.extend(_user_messages(content, open_calls))
        answered = role == "user" and bool(open_calls)
        if role == "user":
            open_calls = ()
    if open_calls:
        raise BadRequest("Please ensure that the last turn answers every function call.")
    return messages


def _parts(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [as_object(part, "A part") for part in as_list(content.get("parts") or [], "parts")]


def _model_message(content: Mapping[str, Any], key: bytes) -> Message:
    text: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    parts = _parts(content)
    if not parts:
        raise BadRequest("A content must have at least one part.")
    for part in parts:
        raw = get(part, "functionCall")
        if raw is None:
            (thinking if part.get("thought") else text).append(str(part.get("text", "")))
            continue
        function = as_object(raw, "functionCall")
        args = as_object(function.get("args") or {}, "args")
        call = ToolCall(str(function.get("name")), args, str(function.get("id") or ""))
        # Of parallel calls only the first has a signature.
        if not calls:
            _check_signature(get(part, "thoughtSignature"), call, key)
        calls.append(call)
    return Message("assistant", "".join(text), "".join(thinking), tuple(calls))


def _check_signature(found: object, call: ToolCall, key: bytes) -> None:
    if not found:
        raise BadRequest(
            f"Function call `{call.name}` is missing a thought_signature in functionCall parts."
        )
    # The SDK sends url-safe base64; the vendor takes both alphabets.
    text = str(found).replace("-", "+").replace("_", "/")
    accepted = (signature(key, call), SKIP_SIGNATURE.replace("_", "/"))
    if not any(hmac.compare_digest(text, each) for each in accepted):
        raise BadRequest(f"Thought signature of function call `{call.name}` is not valid.")


def _user_messages(content: Mapping[str, Any], open_calls: Sequence[ToolCall]) -> Iterator[Message]:
    results: list[ToolResult] = []
    text: list[str] = []
    for part in _parts(content):
        raw = get(part, "functionResponse")
        if raw is None:
            text.append(str(part.get("text", "")))
            continue
        function = as_object(raw, "functionResponse")
        response = as_object(function.get("response"), "response of a functionResponse")
        results.append(
            ToolResult(
                str(function.get("name")), _result_text(response), str(function.get("id") or "")
            )
        )
    _check_results(results, open_calls)
    if results:
        yield Message("tool", results=tuple(results))
    if text or not results:
        yield Message("user", text="\n".join(text))


def _check_results(results: Sequence[ToolResult], calls: Sequence[ToolCall]) -> None:
    if len(results) != len(calls):
        raise BadRequest(
            "Please ensure that the number of function response parts is equal to the number of "
            f"function call parts of the function call turn ({len(results)} for {len(calls)})."
        )
    by_id = all(r.call_id for r in results) and all(c.call_id for c in calls)
    answered = sorted(r.call_id if by_id else r.name for r in results)
    asked = sorted(c.call_id if by_id else c.name for c in calls)
    if answered != asked:
        raise BadRequest(f"Function responses {answered} do not answer the calls {asked}.")


def _result_text(response: Mapping[str, Any]) -> str:
    for name in ("return_value", "output", "result", "error"):
        if name in response and len(response) == 1:
            value = response[name]
            return value if isinstance(value, str) else compact_json(value)
    return compact_json(response)


def _tools(request: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    specs = []
    for tool in as_list(request.get("tools") or [], "tools"):
        declared = get(as_object(tool, "A tool"), "functionDeclarations") or []
        for item in as_list(declared, "functionDeclarations"):
            function = as_object(item, "A function declaration")
            name = function.get("name")
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.:-]{0,127}", name):
                raise BadRequest(f"Invalid function name {name!r}.")
            schema = get(function, "parametersJsonSchema") or function.get("parameters") or {}
            specs.append(ToolSpec(name, str(function.get("description") or ""), schema))
    return tuple(specs)


def render(
    conversation: Conversation, turn: Turn, body: Mapping[str, Any], *, serial: int, key: bytes
) -> Reply:
    """Render a turn as generateContent does.

    Parameters
    ----------
    conversation : Conversation
        What was asked; `stream` decides the form.
    turn : Turn
        What to say.
    body : Mapping[str, Any]
        The request; thoughts are sent only when it asks for them.
    serial : int
        Number of the request, for ids.
    key : bytes
        Signing key for thought signatures.

    Returns
    -------
    Reply
        Status 200 and the frames.
    """
    config = get(body, "generationConfig") or {}
    thinking = get(config, "thinkingConfig") or {}
    parts = list(_render_parts(turn, key, thoughts=bool(get(thinking, "includeThoughts"))))
    spent = tokens(conversation, turn)
    usage = {
        "promptTokenCount": spent.prompt,
        "candidatesTokenCount": spent.answer,
        "thoughtsTokenCount": spent.thinking,
        "totalTokenCount": spent.total,
    }
    meta = {"modelVersion": conversation.model, "responseId": f"stub-{serial}"}
    finish = _FINISH.get(turn.finish, "STOP")
    if not conversation.stream:
        payload = {
            "candidates": [_candidate(_joined(parts), finish)],
            "usageMetadata": usage,
            **meta,
        }
        return Reply(200, "application/json; charset=UTF-8", (compact_json(payload).encode(),))
    frames = [_frame({"candidates": [_candidate([part])], **meta}) for part in parts]
    last = {"candidates": [_candidate([], finish)], "usageMetadata": usage, **meta}
    return Reply(200, "text/event-stream", (*frames, _frame(last)))


def _render_parts(turn: Turn, key: bytes, *, thoughts: bool) -> Iterator[dict[str, Any]]:
    if thoughts:
        for piece in pieces(turn.thinking):
            yield {"text": piece, "thought": True}
    for piece in pieces(turn.text):
        yield {"text": piece}
    if turn.finish == "malformed_call":
        return
    for index, call in enumerate(turn.calls):
        function: dict[str, Any] = {"name": call.name, "args": dict(call.args)}
        if call.call_id:
            function["id"] = call.call_id
        part: dict[str, Any] = {"functionCall": function}
        if index == 0:
            part["thoughtSignature"] = signature(key, call)
        yield part


def _joined(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for part in parts:
        previous = joined[-1] if joined else {}
        same = "text" in part and "text" in previous
        if same and part.get("thought") == previous.get("thought"):
            previous["text"] += part["text"]
        else:
            joined.append(dict(part))
    return joined


def _candidate(parts: Sequence[Mapping[str, Any]], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0}
    if parts or finish in (None, "STOP"):
        candidate["content"] = {"role": "model", **({"parts": parts} if parts else {})}
    if finish:
        candidate["finishReason"] = finish
    return candidate


def _frame(payload: Mapping[str, Any]) -> bytes:
    return f"data: {compact_json(payload)}\r\n\r\n".encode()


def error(status: int, message: str, *, code: str = "", retry_after: float | None = None) -> Reply:
    """Render an error as the vendor does.

    Parameters
    ----------
    status : int
        HTTP status.
    message : str
        What is wrong.
    code : str, default ""
        Vendor's status word; the usual one for the status when empty.
    retry_after : float or None, default None
        Seconds for the `Retry-After` header and the RetryInfo detail.

    Returns
    -------
    Reply
        The error reply.
    """
    problem: dict[str, Any] = {
        "code": status,
        "message": message,
        "status": code or _STATUS.get(status, "UNKNOWN"),
    }
    headers = {}
    if retry_after is not None:
        info = "type.googleapis.com/google.rpc.RetryInfo"
        problem["details"] = [{"@type": info, "retryDelay": f"{retry_after:g}s"}]
        headers["retry-after"] = f"{retry_after:g}"
    body = compact_json({"error": problem}).encode()
    return Reply(status, "application/json; charset=UTF-8", (body,), headers)


def error_frame(message: str) -> bytes:
    """Render an error inside a stream that began well."""
    return _frame({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})


def describe_model(name: str) -> dict[str, Any]:
    """Return the entry of one model in the list of models."""
    methods = ["generateContent", "countTokens"]
    return {
        "name": f"models/{name}",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": methods,
    }


def models(names: Sequence[str]) -> Reply:
    """Render the list of models."""
    payload = {"models": [describe_model(name) for name in names]}
    return Reply(200, "application/json; charset=UTF-8", (compact_json(payload).encode(),))
