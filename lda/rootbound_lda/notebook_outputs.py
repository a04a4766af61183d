"""What changed in a cell's outputs and metadata: texts as patches, pictures, the rest by name."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from typing import Any, Final

from .patches import hunks

__all__ = ["Allowance", "metadata_changes", "output_changes"]

MAX_TEXT: Final = 400_000
"""Characters of patches that are shown of a notebook."""

MAX_OUTPUT_LINES: Final = 5_000
"""Of one output that are compared."""

MAX_PICTURE: Final = 512 * 1024
"""Bytes of one picture, as base64; a larger one is only named."""

MAX_PICTURES: Final = 4 * 1024 * 1024
"""Bytes of all pictures that are shown of a notebook, as base64."""

MAX_VALUE: Final = 300
"""Characters of a value of the metadata."""

MAX_OUTPUTS: Final = 200
"""That are shown of a cell."""

_PICTURES: Final = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
"""What is shown, and how it begins. No SVG: it may hold scripts."""

_NOISE: Final = frozenset({"execution", "ExecuteTime", "collapsed", "scrolled"})
"""Metadata that each run, or a look at the notebook, changes."""

# Escape sequences (CSI, OSC, and of one letter), then what else is no text.
_ANSI: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Allowance:
    """How much of a notebook's changes is shown still."""

    def __init__(self) -> None:
        self._text = MAX_TEXT
        self._pictures = MAX_PICTURES

    def patch(self, text: str) -> tuple[str, bool]:
        """Return a patch, and whether it was cut to what may be shown."""
        if len(text) <= self._text:
            self._text -= len(text)
            return text, False
        kept, self._text = text[: self._text].rpartition("\n")[0], 0
        return kept, True

    def picture(self, data: str | None) -> str | None:
        """Return a picture's base64, ``None`` when it is too much."""
        if data is None or len(data) > min(MAX_PICTURE, self._pictures):
            return None
        self._pictures -= len(data)
        return data


def output_changes(old: list[Any], new: list[Any], allowance: Allowance) -> list[dict[str, Any]]:
    """Return the outputs that differ, as the API's ``NotebookOutput`` has them, in their order.

    Parameters
    ----------
    old, new
        A cell's outputs before and after.
    allowance
        What may be shown; it gets less.
    """
    before, after = ([_comparable(output) for output in outputs] for outputs in (old, new))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    found: list[dict[str, Any]] = []
    for kind, i, to_i, j, to_j in matcher.get_opcodes():
        if kind == "equal":
            continue
        for left, right in _paired(old[i:to_i], new[j:to_j]):
            if len(found) == MAX_OUTPUTS:
                return found
            found.append(_output(left, right, allowance))
    return found


def _comparable(output: Any) -> str:
    """Return an output without what says nothing of the result: when it ran, and how."""
    told = {key: output[key] for key in output if key not in ("execution_count", "metadata")}
    return json.dumps(told, sort_keys=True)


def _paired(old: list[Any], new: list[Any]) -> list[tuple[Any, Any]]:
    """Put each output beside the one of its kind that takes its place."""
    rest = list(new)
    pairs: list[tuple[Any, Any]] = []
    for left in old:
        right = next((one for one in rest if _kind(one) == _kind(left)), None)
        if right is not None:
            rest.remove(right)
        pairs.append((left, right))
    return pairs + [(None, right) for right in rest]


def _kind(output: Any) -> tuple[str, str]:
    return str(output.get("output_type")), str(output.get("name", ""))


def _output(left: Any, right: Any, allowance: Allowance) -> dict[str, Any]:
    shown = right if right is not None else left
    old_lines, old_cut = _lines(left)
    new_lines, new_cut = _lines(right)
    patch, cut = allowance.patch(hunks(old_lines, new_lines))
    old, new = _data(left), _data(right)
    kind = "added" if left is None else "deleted" if right is None else "modified"
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return {
        "kind": kind,
        "name": _name(shown),
        "patch": patch,
        "truncated": cut or old_cut or new_cut,
        "pictures": [
            _picture(mime, old, new, allowance) for mime in differing if mime in _PICTURES
        ],
        "others": [mime for mime in differing if mime not in (*_PICTURES, "text/plain")],
    }


def _name(output: Any) -> str:
    """Return what an output is called, in the words of the notebook format."""
    kind = str(output.get("output_type"))
    detail = output.get("name") if kind == "stream" else output.get("ename")
    return str(detail)[:100] if detail and kind in ("stream", "error") else kind[:100]


def _data(output: Any) -> dict[str, Any]:
    data = {} if output is None else output.get("data")
    return {str(key)[:100]: value for key, value in data.items()} if isinstance(data, dict) else {}


def _lines(output: Any) -> tuple[list[str], bool]:
    """Return an output's text, and whether it was cut."""
    if output is None:
        return [], False
    kind = output.get("output_type")
    if kind == "stream":
        text = output.get("text", "")
    elif kind == "error":
        text = output.get("traceback") or f"{output.get('ename')}: {output.get('evalue')}"
        text = "\n".join(map(str, text)) if isinstance(text, list) else text
    else:
        text = _data(output).get("text/plain", "")
    lines = _CONTROL.sub("", _ANSI.sub("", str(text))).splitlines()
    return lines[:MAX_OUTPUT_LINES], len(lines) > MAX_OUTPUT_LINES


def _picture(
    mime: str, old: dict[str, Any], new: dict[str, Any], allowance: Allowance
) -> dict[str, Any]:
    before, after = (_checked(mime, data.get(mime)) for data in (old, new))
    shown = [allowance.picture(data) for data in (before, after)]
    left_out = any(
        mime in data and picture is None for data, picture in zip((old, new), shown, strict=True)
    )
    return {"mime": mime, "before": shown[0], "after": shown[1], "left_out": left_out}


def _checked(mime: str, value: Any) -> str | None:
    """Return a picture's base64 in one line, ``None`` when it is not what it says it is."""
    if not isinstance(value, str) or len(value) > 2 * MAX_PICTURE:
        return None
    text = "".join(value.split())
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return text if data.startswith(_PICTURES[mime]) else None


def metadata_changes(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Return which values differ, as JSON that is cut; ``None`` stands for one that is not there.

    What each run changes is left out: times, and how far an output is scrolled.
    """
    keys = sorted(key for key in old.keys() | new.keys() if key not in _NOISE)
    return [
        {"key": key[:100], "before": _value(old, key), "after": _value(new, key)}
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _value(metadata: dict[str, Any], key: str) -> str | None:
    if key not in metadata:
        return None
    text = json.dumps(metadata[key], ensure_ascii=False, sort_keys=True)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"
