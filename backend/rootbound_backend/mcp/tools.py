"""The tools, as a table over the REST API: each is one request in the caller's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

__all__ = ["READ", "REVIEW", "TOOLS", "WRITE", "Tool", "granted"]

READ = "mcp:read"
WRITE = "mcp:write"
REVIEW = "mcp:review"
"""Merging; no token has it unless it was asked for by name."""

_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_ROLES = ["PM", "FRONTEND", "BACKEND", "QA", "DEVOPS"]


def _id(of: str) -> dict[str, Any]:
    return {"type": "string", "pattern": _UUID, "description": f"Id of the {of}."}


@dataclass(frozen=True)
class Tool:
    """One tool.

    Attributes
    ----------
    scope
        What a token must have.
    method, path
        The request; the path names arguments in braces.
    properties
        JSON Schema of the arguments.
    required
        Names of those that must be there.
    query
        Names of those that go into the query; all others go into the body.
    """

    name: str
    description: str
    scope: str
    method: str
    path: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    query: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its arguments."""
        return {
            "type": "object",
            "properties": dict(self.properties),
            "required": list(self.required),
            "additionalProperties": False,
        }

    def request(self, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
        """Return target and body of the request for validated arguments."""
        rest = {
            name: value
            for name, value in arguments.items()
            if "{" + name + "}" not in self.path and value is not None
        }
        target = self.path.format_map(arguments)
        query = {name: rest.pop(name) for name in self.query if name in rest}
        if query:
            target += "?" + urlencode(query)
        return target, rest if self.method != "GET" else None


_PAGE = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
    "cursor": {"type": "string", "description": "`next` of the page before."},
}

TOOLS = (
    Tool("list_projects", "List your projects, newest first.", READ, "GET", "/api/projects/",
         _PAGE, query=("limit", "cursor")),
    Tool("list_agents", "List your agent profiles.", READ, "GET", "/api/agents/",
         _PAGE, query=("limit", "cursor")),
    Tool("create_task", "Add a task to a project; nothing is started by that.", WRITE, "POST",
         "/api/projects/{project_id}/tasks/",
         {
             "project_id": _id("project"),
             "title": {"type": "string", "minLength": 1, "maxLength": 255},
             "description": {"type": "string", "description": "What is to be done, in full."},
             "agent_role": {"type": "string", "enum": _ROLES},
             "priority": {"type": "integer"},
             "dependencies": {"type": "array", "items": _id("task that must be done before")},
         }, required=("project_id", "title")),
    Tool("list_tasks", "List a project's tasks with their latest attempts.", READ, "GET",
         "/api/projects/{project_id}/tasks/", {"project_id": _id("project"), **_PAGE},
         required=("project_id",), query=("limit", "cursor")),
    Tool("get_task", "Read one task.", READ, "GET", "/api/tasks/{task_id}/",
         {"task_id": _id("task")}, required=("task_id",)),
    Tool("start_attempt", "Have an agent work on a task, confined; it ends in REVIEW or FAILED.",
         WRITE, "POST", "/api/tasks/{task_id}/attempts/",
         {"task_id": _id("task"), "agent_id": _id("agent to use; default by the task's role")},
         required=("task_id",)),
    Tool("get_attempt", "Read one attempt: status, failure, gates' evidence.", READ, "GET",
         "/api/attempts/{attempt_id}/", {"attempt_id": _id("attempt")}, required=("attempt_id",)),
    Tool("read_events", "Read an attempt's events; go on with `after` = `next` of the last page.",
         READ, "GET", "/api/attempts/{attempt_id}/events/",
         {
             "attempt_id": _id("attempt"),
             "after": {"type": "integer", "minimum": 0, "description": "Events behind this seq."},
             "limit": {"type": "integer", "minimum": 1, "maximum": 500},
         }, required=("attempt_id",), query=("after", "limit")),
    Tool("cancel_attempt", "Cancel a live attempt; its branch is kept.", WRITE, "POST",
         "/api/attempts/{attempt_id}/cancel/", {"attempt_id": _id("attempt")},
         required=("attempt_id",)),
    Tool("approve_attempt", "Merge an attempt in REVIEW into the base branch.", REVIEW, "POST",
         "/api/attempts/{attempt_id}/approve/", {"attempt_id": _id("attempt")},
         required=("attempt_id",)),
)  # fmt: skip


def granted(scopes: frozenset[str]) -> dict[str, Tool]:
    """Return the tools that a token's scopes allow, by name; ``api`` reads and writes."""
    wide = scopes | ({READ, WRITE} if "api" in scopes else set())
    return {tool.name: tool for tool in TOOLS if tool.scope in wide}
