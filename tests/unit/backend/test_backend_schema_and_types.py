"""The front end's types speak of nothing that the API's own schema does not have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

MODEL = Path(__file__).resolve().parents[3] / "widgets/ui/src/model"
TYPES = "\n".join((MODEL / name).read_text() for name in ("types.ts", "machine.ts", "schedule.ts"))
COMPONENTS = {
    "Project": "Project",
    "Gate": "Gate",
    "AgentSnapshot": "AttemptAgent",
    "Usage": "Usage",
    "Attempt": "Attempt",
    "Task": "Task",
    "AttemptEvent": "Event",
    "AuditRow": "Audit",
    "AuditCount": "AuditCount",
    "AuditNode": "AuditTreeNode",
    "AuditTree": "AuditTree",
    "AuditBucket": "AuditBucket",
    "AuditTimeline": "AuditTimeline",
    "Diff": "Diff",
    "DiffFile": "DiffFile",
    "MetadataChange": "MetadataChange",
    "PictureChange": "PictureChange",
    "NotebookOutput": "NotebookOutput",
    "NotebookCell": "NotebookCell",
    "NotebookDiff": "NotebookDiff",
    "WritableRoot": "Root",
    "AuditFinding": "AuditFinding",
    "AuditVerification": "AuditVerify",
    "CostRow": "CostRow",
    "CostList": "CostList",
    "DiskReport": "Disk",
    "ProjectUse": "ProjectUse",
    "KeyReport": "Key",
    "AgentProfile": "Agent",
    "LiveAttempt": "LiveAttempt",
    "LiveReport": "Live",
    "Notice": "Notice",
    "Schedule": "Schedule",
    "ScheduleRun": "ScheduleRun",
    "SchedulePreview": "SchedulePreview",
}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return dict(schema["components"]["schemas"])


def fields_of(interface: str) -> set[str]:
    """Return the field names of a TypeScript interface."""
    body = re.search(rf"export interface {interface} {{\n(.*?)\n}}", TYPES, re.DOTALL)
    assert body, f"no interface {interface}"
    fields = set(re.findall(r"^  (\w+)\??:", body[1], re.MULTILINE))
    assert fields
    return fields


@pytest.mark.parametrize("interface", sorted(COMPONENTS))
def test_fields_exist_in_the_schema(interface: str, schemas: dict[str, Any]) -> None:
    known = set(schemas[COMPONENTS[interface]]["properties"])
    assert fields_of(interface) <= known


@pytest.mark.parametrize(
    ("union", "component"),
    [("TaskStatus", "TaskStatusEnum"), ("AttemptStatus", "AttemptStatusEnum")],
)
def test_unions_are_the_schemas_enumerations(
    union: str, component: str, schemas: dict[str, Any]
) -> None:
    declared = re.search(rf"export type {union} =(.*?);", TYPES, re.DOTALL)
    assert declared
    assert set(re.findall(r"'(\w+)'", declared[1])) == set(schemas[component]["enum"])
