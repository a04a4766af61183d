"""What an agent is given to read at the start: the project's notes and the references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..files import AccessDenied, FileAccess, FileTooLarge

NOTES: Final = "AGENTS.md"
MAX_NOTES: Final = 20_000
MAX_FILE: Final = 16_000
MAX_TOTAL: Final = 60_000
"""Characters of all references together that are put into the prompt."""

MAX_LISTED: Final = 200
_MAX_BYTES: Final = 1024 * 1024


def gather(files: FileAccess, references: Sequence[str]) -> str:
    """Read the project's notes and the references, within bounds; every read is audited.

    Parameters
    ----------
    files
        The run's way to files.
    references
        Files and folders that the user named.

    Returns
    -------
    str
        Text for the prompt; ``""`` when there is nothing.
    """
    parts = [_notes(files)]
    left = MAX_TOTAL
    for path in references:
        text = _reference(files, path, left)
        left = max(0, left - len(text))
        parts.append(text)
    return "\n\n".join(part for part in parts if part)


def _notes(files: FileAccess) -> str:
    try:
        text = files.read_bytes(NOTES, max_bytes=_MAX_BYTES).decode("utf-8", "replace").strip()
    except (AccessDenied, FileTooLarge, OSError):
        return ""
    return f"The project's notes for agents ({NOTES}):\n{_cut(text, MAX_NOTES)}" if text else ""


def _reference(files: FileAccess, path: str, left: int) -> str:
    """Return one reference: a file's text, a folder's files, or why neither can be shown."""
    try:
        if files.file_info(path).kind == "folder":
            return _folder(files, path)
        data = files.read_bytes(path, max_bytes=_MAX_BYTES)
    except FileTooLarge:
        return f"Reference {path}: too large to show here; read the parts you need."
    except AccessDenied as error:
        return f"Reference {path}: {error}"
    except OSError as error:
        return f"Reference {path}: it cannot be read ({error.strerror or error})."
    if b"\0" in data[:8192]:
        return f"Reference {path}: a binary file of {len(data)} bytes."
    text = data.decode("utf-8", "replace")
    if left < 1_000:
        return f"Reference {path}: {len(text)} characters; read it yourself."
    return f"Reference {path}:\n{_cut(text, min(MAX_FILE, left))}"


def _folder(files: FileAccess, path: str) -> str:
    names: list[str] = []
    for entry in files.walk(path):
        if entry.kind == "file":
            names.append(str(entry.path))
        if len(names) >= MAX_LISTED:
            names.append("[more files are there; list the folder]")
            break
    return f"Reference {path} is a folder with these files:\n" + "\n".join(names)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[{len(text) - limit} characters left out; read the file for them]"
