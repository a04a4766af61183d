"""The SDK's results have only fields of the API's own schema, and of the same type."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import datetime
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from rootbound import (
    access_models,
    audit_models,
    costs,
    diff_models,
    machine_models,
    models,
    review,
    schedules,
)

COMPONENTS: dict[type[models.Model], str] = {
    models.Me: "Me",
    models.Health: "Health",
    models.Status: "LocalAccessStatus",
    models.Gate: "Gate",
    models.Event: "Event",
    models.BaseAttempt: "Attempt",
    models.BaseTask: "Task",
    models.BaseProject: "Project",
    models.BaseDecomposition: "Decomposition",
    models.Root: "Root",
    models.Agent: "Agent",
    diff_models.FileDiff: "DiffFile",
    diff_models.Diff: "Diff",
    diff_models.NotebookDiff: "NotebookDiff",
    diff_models.CellDiff: "NotebookCell",
    diff_models.OutputDiff: "NotebookOutput",
    models.AuditEntry: "Audit",
    models.AuditSummary: "AuditSummary",
    audit_models.AuditFinding: "AuditFinding",
    audit_models.AuditVerification: "AuditVerify",
    audit_models.AuditNode: "AuditTreeNode",
    audit_models.AuditTree: "AuditTree",
    audit_models.AuditBucket: "AuditBucket",
    audit_models.AuditTimeline: "AuditTimeline",
    access_models.BaseAccessRequest: "AccessRequest",
    review.Comment: "Comment",
    review.MergePreview: "MergePreview",
    review.Comparison: "Comparison",
    review.Worktree: "Worktree",
    review.Removed: "WorktreesGone",
    review.AgentTest: "AgentTest",
    review.Key: "Key",
    costs.Costs: "CostList",
    machine_models.Machine: "MachineWithToken",
    schedules.Schedule: "Schedule",
    schedules.ScheduleRun: "ScheduleRun",
    schedules.Notice: "Notice",
}
RENAMED = {(models.BaseAttempt, "gate_list"): "gates"}
PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str, datetime),
    "integer": (int,),
    "number": (float, int),
    "boolean": (bool,),
    "array": (tuple, models.Gates),
    "object": (dict, models.Model),
}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return dict(schema["components"]["schemas"])


def own_fields(cls: type[models.Model]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    hidden = ("raw", "_client")
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.name not in hidden}


def alternatives(hint: Any) -> set[Any]:
    """Return the plain classes that a hint allows; ``list[str]`` counts as ``list``."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return {kind for part in typing.get_args(hint) for kind in alternatives(part)}
    return {typing.get_origin(hint) or hint}


def declared(spec: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """Return the JSON types that a property may have; empty when the schema leaves it open."""
    if "$ref" in spec:
        return declared(schemas[spec["$ref"].rsplit("/", 1)[1]], schemas)
    for joined in ("oneOf", "allOf", "anyOf"):
        if joined in spec:
            return {kind for part in spec[joined] for kind in declared(part, schemas)}
    kinds = spec.get("type", [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


@pytest.mark.parametrize("cls", COMPONENTS, ids=lambda cls: cls.__name__)
def test_fields_are_those_of_the_schema(cls: type[models.Model], schemas: dict[str, Any]) -> None:
    properties = schemas[COMPONENTS[cls]]["properties"]
    for name, hint in own_fields(cls).items():
        wire = RENAMED.get((cls, name), name)
        assert wire in properties, f"{cls.__name__}.{name} is not in the API's schema"
        spec = properties[wire]
        mine = alternatives(hint)
        for kind in declared(spec, schemas) - {"null"}:
            fits = [one for one in mine if isinstance(one, type) and issubclass(one, PYTHON[kind])]
            assert fits, f"{cls.__name__}.{name} is {hint}, the API sends {kind}"
        if spec.get("format") == "date-time":
            assert datetime in mine, f"{cls.__name__}.{name} is a time"


def test_every_result_of_the_sdk_is_checked() -> None:
    def below(cls: type[models.Model]) -> set[type[models.Model]]:
        return {cls, *(found for child in cls.__subclasses__() for found in below(child))}

    known = below(models.Model) - {models.Model}
    unchecked = {cls for cls in known if not any(issubclass(cls, one) for one in COMPONENTS)}
    assert not unchecked
