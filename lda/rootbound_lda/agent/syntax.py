"""Noticing at once that an edit has left a file that does not parse; the edit itself stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final


def warning(path: str, content: str, before: str | None = None) -> str:
    """Return a line about a file that does not parse any more, ``""`` when there is nothing to say.

    Parameters
    ----------
    path
        Whose ending says what it is: Python, JSON or TOML.
    content
        The file as it is now.
    before
        As it was; what did not parse then is left alone, such as JSON with comments. Default none.
    """
    check = _CHECKS.get(PurePosixPath(path).suffix)
    said = check(content) if check is not None else ""
    if check is None or not said or (before is not None and check(before)):
        return ""
    return f"\nWarning: {path} does not parse{said}."


def _python(text: str) -> str:
    try:
        # Not for the tree alone: in Python 3.11 threads that ask for trees break each other.
        compile(text, "file", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return f"{f' at line {line}' if line else ''}: {getattr(error, 'msg', error)}"
    return ""


def _json(text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f" at line {error.lineno}: {error.msg}"
    except RecursionError:
        return ""
    return ""


def _toml(text: str) -> str:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return f": {error}".rstrip(".")
    except RecursionError:
        return ""
    return ""


_CHECKS: Final[dict[str, Callable[[str], str]]] = {
    ".py": _python, ".json": _json, ".toml": _toml,
}  # fmt: skip
