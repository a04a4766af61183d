"""The tools as the model sees them, and tolerant reading of the arguments it sends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final


class ToolError(Exception):
    """A tool call that did not work; the text tells the model what to do instead."""


def _tool(required: tuple[str, ...], **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _number(description: str, default: int, minimum: int, maximum: int) -> dict[str, Any]:
    return {
        "type": "integer",
        "description": description,
        "default": default,
        "minimum": minimum,
        "maximum": maximum,
    }


_PATH: Final = _text("Path relative to the top of the project.")


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes
    ----------
    reads_only
        Whether it leaves everything as it is, so that the PM may have it.
    """

    name: str
    description: str
    schema: dict[str, Any]
    reads_only: bool = False


TOOLS: Final = (
    Tool(
        "read_file",
        "Read a text file. Lines come numbered as `N<tab>line`; the footer says what is shown. A "
        "notebook (.ipynb) is read and edited as text with a heading line for each cell.",
        _tool(
            ("path",),
            path=_PATH,
            offset=_number("First line to show, from 1.", 1, 1, 10_000_000),
            limit=_number("How many lines to show.", 400, 1, 2_000),
        ),
        reads_only=True,
    ),
    Tool(
        "edit_file",
        "Replace a text in a file. `old_string` must occur exactly once, with its indentation, "
        "unless `replace_all` is true. Read the file first.",
        _tool(
            ("path", "old_string", "new_string"),
            path=_PATH,
            old_string=_text("The present text, without line numbers."),
            new_string=_text("The text to put in its place."),
            replace_all={
                "type": "boolean",
                "description": "Replace every occurrence.",
                "default": False,
            },
        ),
    ),
    Tool(
        "write_file",
        "Write a whole file; it is made, with its folders, or replaced.",
        _tool(("path", "content"), path=_PATH, content=_text("The whole new content.")),
    ),
    Tool("delete_file", "Delete one file.", _tool(("path",), path=_PATH)),
    Tool(
        "list_files",
        "List the project's files, without those that git ignores.",
        _tool(
            (),
            path=_text("Folder to list, relative to the top of the project.", default="."),
            pattern=_text("Glob on the path below it, such as `**/*.py`.", default="**"),
            limit=_number("How many paths to show.", 200, 1, 2_000),
        ),
        reads_only=True,
    ),
    Tool(
        "search_files",
        "Search the project's files, line by line, for a regular expression (Python syntax).",
        _tool(
            ("pattern",),
            pattern=_text("The regular expression."),
            path=_text("File or folder to search.", default="."),
            glob=_text("Only files whose path fits this glob, such as `*.py`.", default=""),
            limit=_number("How many lines to show.", 100, 1, 1_000),
        ),
        reads_only=True,
    ),
    Tool(
        "run_command",
        "Run a shell command at the top of the project. It is confined: it can write only inside "
        "the project, and there is usually no network. There is no input; use non-interactive "
        "options. All its processes are ended when it returns.",
        _tool(
            ("command",),
            command=_text("The command, for bash."),
            timeout_s=_number("Seconds after which it is killed.", 120, 1, 3_600),
        ),
    ),
    Tool(
        "finish",
        "End your work. Use `done` when the task is complete, `blocked` when you cannot go on.",
        _tool(
            ("status", "summary"),
            status=_text("How it ended.", enum=["done", "blocked"]),
            summary=_text("What you did, or what keeps you from it, for the reviewer."),
        ),
    ),
)
BY_NAME: Final = {tool.name: tool for tool in TOOLS}


def parse_arguments(raw: str | dict[str, Any] | None) -> dict[str, Any]:
    """Read the arguments of a tool call as the models really send them.

    Text may hold raw line breaks inside of strings, or be encoded twice.

    Raises
    ------
    ToolError
        When they are no JSON object.
    """
    value: Any = raw if raw not in (None, "") else {}
    for _ in range(2):
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value, strict=False)
        except ValueError as error:
            raise ToolError(
                f"The arguments are not valid JSON ({error}); they may have been cut off. Call the "
                "tool again with a complete JSON object, in smaller pieces if it was long."
            ) from error
    if not isinstance(value, dict):
        raise ToolError("The arguments must be a JSON object; call the tool again with one.")
    if set(value) == {"INVALID_JSON"}:
        raise ToolError("The arguments were not valid JSON; call the tool again.")
    return value


def check_arguments(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Fill in defaults, convert what is only written differently, and refuse the rest.

    Raises
    ------
    ToolError
        For an unknown tool, a missing, unknown or wrong argument.
    """
    tool = BY_NAME.get(name)
    if tool is None:
        raise ToolError(f"There is no tool {name!r}. The tools are: {', '.join(BY_NAME)}.")
    properties: dict[str, dict[str, Any]] = tool.schema["properties"]
    unknown = sorted(set(arguments) - set(properties))
    if unknown:
        raise ToolError(f"{name} has no argument {unknown[0]!r}; it takes {', '.join(properties)}.")
    checked: dict[str, Any] = {}
    for key, rule in properties.items():
        value = arguments.get(key)
        if value is None:
            if key in tool.schema["required"]:
                raise ToolError(f"{name} needs the argument {key!r}: {rule['description']}")
            value = rule["default"]
        checked[key] = _converted(name, key, value, rule)
    return checked


def _converted(name: str, key: str, value: Any, rule: dict[str, Any]) -> Any:
    """Return one argument in its declared type, numbers drawn into their range."""
    kind = rule["type"]
    if kind == "integer":
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ToolError(f"{name}: {key!r} must be a whole number.") from error
        return min(max(number, rule["minimum"]), rule["maximum"])
    if kind == "boolean":
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise ToolError(f"{name}: {key!r} must be true or false.")
        return value
    if not isinstance(value, str):
        raise ToolError(f"{name}: {key!r} must be a text.")
    if "enum" in rule and value not in rule["enum"]:
        raise ToolError(f"{name}: {key!r} must be one of {', '.join(rule['enum'])}.")
    return value
