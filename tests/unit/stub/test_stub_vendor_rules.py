"""What the stub refuses and offers, seen over raw HTTP."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator

import httpx
import pytest

from rootbound.testing import ModelStub, Steps, ToolCall, Turn

CALL = Turn(thinking="Look.", calls=(ToolCall("ls", {"path": "."}), ToolCall("pwd")))
GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with (
        ModelStub(Steps([CALL, Turn(text="Done.")])) as stub,
        httpx.Client(base_url=stub.url, headers={"authorization": "Bearer s3cret"}) as client,
    ):
        client.stub = stub  # type: ignore[attr-defined]
        yield client


def chat(http: httpx.Client, messages: list, **extra: object) -> httpx.Response:
    body = {"model": "glm-7", "messages": messages, **extra}
    return http.post("/any/base/v4/chat/completions", json=body)


def generate(http: httpx.Client, contents: list, path: str = GEMINI, **extra: object):
    headers = {"x-goog-api-key": "s3cret"}
    return http.post(path, json={"contents": contents, **extra}, headers=headers)


USER = {"role": "user", "content": "Hi"}
HI = {"role": "user", "parts": [{"text": "Hi"}]}


def test_no_key_is_refused_and_no_key_is_recorded(http: httpx.Client) -> None:
    base = str(http.base_url)
    assert httpx.post(f"{base}/v1/chat/completions", json={}).status_code == 401
    assert httpx.post(f"{base}{GEMINI}", json={}).status_code == 403
    assert chat(http, [USER]).status_code == 200
    assert generate(http, [HI]).status_code == 200
    requests = http.stub.requests
    assert [r.key for r in requests] == ["", "", "hidden", "hidden"]
    assert "s3cret" not in repr(requests)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "must not be empty"),
        ([{"role": "robot", "content": "x"}], "Unknown role"),
        ([USER, {"role": "tool", "tool_call_id": "c", "content": ""}], "must answer, once"),
        ([{"role": "system", "content": "x"}], "at least one message"),
        (
            [
                USER,
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "ls", "arguments": "{"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": ""},
            ],
            "not valid JSON",
        ),
        (
            [
                USER,
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "ls", "arguments": "{}"}}],
                },
                USER,
            ],
            "missing: c",
        ),
    ],
)
def test_chat_history_rules(http: httpx.Client, messages: list, words: str) -> None:
    reply = chat(http, messages)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


def test_chat_forced_tool_choice_unknown_model_and_broken_body(http: httpx.Client) -> None:
    assert chat(http, [USER], tool_choice="required").status_code == 400
    assert chat(http, [USER], model="gpt-0").status_code == 404
    assert http.post("/v1/chat/completions", content=b"{").status_code == 400
    assert http.get("/v1/chat/completions").status_code == 405
    assert http.get("/nothing").status_code == 404


def test_tool_arguments_come_in_fragments_only_when_asked(http: httpx.Client) -> None:
    def frames(**extra: object) -> list[dict]:
        text = chat(http, [USER], stream=True, **extra).text
        assert text.endswith("data: [DONE]\n\n")
        return [json.loads(x[6:]) for x in text.split("\n\n")[:-2]]

    def calls(found: list[dict]) -> list[dict]:
        deltas = [f["choices"][0]["delta"] for f in found]
        return [c for d in deltas for c in d.get("tool_calls", ())]

    assert [c["function"]["arguments"] for c in calls(frames())] == ['{"path":"."}', "{}"]
    fragmented = frames(tool_stream=True)
    assert [c["function"]["arguments"] for c in calls(fragmented)] == [
        "",
        '{"path":"."}',
        "",
        "{}",
    ]
    assert fragmented[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert fragmented[-1]["usage"]["total_tokens"] > 0


def test_models_lists(http: httpx.Client) -> None:
    assert [m["id"] for m in http.get("/v1/models").json()["data"]] == [
        "glm-7",
        "gemini-2.5-flash",
    ]
    for version in ("v1", "v1beta"):
        listed = http.get(f"/{version}/models", params={"key": "k"}).json()["models"]
        assert listed[1]["name"] == "models/gemini-2.5-flash"
        one = http.get(f"/{version}/models/gemini-2.5-flash", params={"key": "k"})
        assert "generateContent" in one.json()["supportedGenerationMethods"]


def model_turn(http: httpx.Client) -> dict:
    content = generate(http, [HI]).json()["candidates"][0]["content"]
    assert [sorted(p) for p in content["parts"]] == [
        ["functionCall", "thoughtSignature"],
        ["functionCall"],
    ]
    assert "id" not in content["parts"][0]["functionCall"]
    return content


def answers(*names: str) -> dict:
    parts = [{"functionResponse": {"name": n, "response": {"return_value": "ok"}}} for n in names]
    return {"role": "user", "parts": parts}


def snake(content: dict) -> dict:
    text = json.dumps(content).replace("functionCall", "function_call")
    text = text.replace("functionResponse", "function_response")
    return json.loads(text.replace("thoughtSignature", "thought_signature"))


@pytest.mark.parametrize("path", [GEMINI, GEMINI.replace("v1beta", "v1")])
def test_gemini_history_is_accepted_in_both_casings(http: httpx.Client, path: str) -> None:
    history = [HI, model_turn(http), answers("ls", "pwd")]
    for each in (history, [snake(content) for content in history]):
        reply = generate(http, each, path)
        assert reply.status_code == 200, reply.text
        assert reply.json()["candidates"][0]["content"]["parts"] == [{"text": "Done."}]
    assert http.stub.requests[-1].body["contents"][1]["parts"][0]["thought_signature"]


def test_gemini_signature_missing_changed_or_skipped(http: httpx.Client) -> None:
    turn = model_turn(http)

    def status(change: str | None) -> int:
        changed = copy.deepcopy(turn)
        if change is None:
            del changed["parts"][0]["thoughtSignature"]
        else:
            changed["parts"][0]["thoughtSignature"] = change
        return generate(http, [HI, changed, answers("ls", "pwd")]).status_code

    assert status(None) == 400
    assert status(base64.b64encode(b"forged").decode()) == 400
    assert status(base64.b64encode(b"skip_thought_signature_validator").decode()) == 200
    moved = copy.deepcopy(turn)
    moved["parts"][0]["functionCall"]["args"] = {"path": "/"}
    assert generate(http, [HI, moved, answers("ls", "pwd")]).status_code == 400


def test_gemini_order_rules(http: httpx.Client) -> None:
    turn = model_turn(http)
    for history in (
        [],
        [HI, HI],
        [turn],
        [HI, turn],
        [HI, turn, answers("ls")],
        [HI, turn, answers("ls", "ls")],
        [HI, turn, HI],
        [answers("ls")],
    ):
        assert generate(http, history).status_code == 400, history
    # After the answers to its calls, and only there, the user may speak in a content of its own.
    assert generate(http, [HI, turn, answers("ls", "pwd"), HI]).status_code == 200
    assert generate(http, [HI, turn, answers("ls", "pwd"), HI, HI]).status_code == 400


def test_gemini_forced_call_needs_a_call_and_stream_needs_sse(http: httpx.Client) -> None:
    forced = {"functionCallingConfig": {"mode": "ANY"}}
    history = [HI, model_turn(http), answers("ls", "pwd")]
    assert generate(http, history, toolConfig=forced).status_code == 400
    assert generate(http, [HI], tool_config=forced).status_code == 200
    stream = GEMINI.replace("generate", "streamGenerate")
    assert generate(http, [HI], stream).status_code == 400
    reply = generate(http, [HI], f"{stream}?alt=sse")
    assert reply.text.count("\r\n\r\n") == reply.text.count("data: ") == 3


def test_port_is_freed_and_a_taken_one_is_an_os_error() -> None:
    with ModelStub(Steps([])) as stub:
        port = int(stub.url.rsplit(":", 1)[1])
        with pytest.raises(OSError):
            ModelStub(Steps([]), port=port).start()
    with pytest.raises(RuntimeError):
        _ = stub.url
    with ModelStub(Steps([]), port=port) as again:
        assert again.url.endswith(str(port))
