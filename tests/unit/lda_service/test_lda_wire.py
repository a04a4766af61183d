"""The JSON Schemas and the structs say the same."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

import rootbound_lda
from rootbound_lda import wire
from rootbound_lda.audit import AuditRecord, MemorySink

FOLDER = Path(rootbound_lda.__file__).parent / "schema"


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


def run() -> dict[str, Any]:
    return {
        "version": 1,
        "attempt_id": str(uuid.uuid4()),
        "project_id": str(uuid.uuid4()),
        "user_id": str(uuid.uuid4()),
        "repo_path": "/srv/project",
        "base_ref": "main",
        "agent_config": {"provider": "GLM", "model": "glm-7"},
        "task": {"title": "Do it"},
        "ingest": {"base_url": "http://127.0.0.1:1", "token": "t"},
        "lease_generation": 1,
    }


def test_files_are_up_to_date() -> None:
    assert {name: schema(name) for name in wire.schemas()} == wire.schemas()
    for name in wire.schemas():
        jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"attempt_id": "../../etc"},
        {"attempt_id": ""},
        {"repo_path": "relative"},
        {"base_ref": ""},
        {"agent_config": {"provider": "OTHER", "model": "x"}},
        {"ingest": {"base_url": "ftp://x", "token": "t"}},
        {"limits": {"max_steps": 0}},
        {"lease_generation": "1"},
        {"task": None},
    ],
)
def test_both_refuse_the_same(change: dict[str, Any]) -> None:
    jsonschema.validate(run(), schema("run.v1"))
    msgspec.json.decode(json.dumps(run()), type=wire.RunPayload)
    bad = {**run(), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema("run.v1"))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(bad), type=wire.RunPayload)


@pytest.mark.parametrize(
    "payload",
    [
        wire.Text(1, "x"),
        wire.ToolCall(1, "c", "read_file", {"path": "x"}),
        wire.Usage(1, 2, 3, None),
        wire.Enforcement("A", [], ["/w"], wire.Network()),
        wire.ErrorText("x"),
        wire.GateEvidence("test", "a" * 40, "make", 0, 1.5, "sha256:" + "0" * 64),
        wire.CommitMade("a" * 40, "b" * 40, "m"),
        wire.Status("FAILED", "NO_CHANGES", "Nothing."),
    ],
)
def test_events_fit_their_schema(payload: wire.Payload) -> None:
    event = wire.event_for(1, "2026-01-02T03:04:05.000006Z", payload)
    plain = json.loads(msgspec.json.encode(event))
    jsonschema.validate(plain, schema("event.v1"))
    assert msgspec.json.decode(msgspec.json.encode(event), type=wire.Event) == event


def test_audit_entries_fit_their_schema() -> None:
    sink = MemorySink()
    sink.record(AuditRecord("WRITE", "DENIED", "/etc/x", "kernel", {"errno": 13}))
    jsonschema.validate(sink.entries[0], schema("audit.v1"))
    msgspec.convert(sink.entries[0], wire.AuditEntry)
