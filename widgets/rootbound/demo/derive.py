"""Edits derived from the difference of two trees, as an agent would make them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rootbound.demo.errors import DemoError


@dataclass(frozen=True, slots=True)
class Edit:
    """One exact replacement in a file.

    Parameters
    ----------
    path : str
        File, relative to the project, with forward slashes.
    old : str
        Text to replace; occurs exactly once when the edits before this one are applied.
        None for a file that does not exist yet.
    new : str or None
        Text to put there; None deletes the file.
    """

    path: str
    old: str | None
    new: str | None


def changed_files(old: Path, new: Path) -> tuple[str, ...]:
    """List the files that differ between two trees.

    Parameters
    ----------
    old, new : Path
        Top folders.

    Returns
    -------
    tuple[str, ...]
        Relative paths with forward slashes, sorted; added and removed files too.
    """
    names = _files(old) | _files(new)
    return tuple(sorted(name for name in names if _bytes(old / name) != _bytes(new / name)))


def _files(top: Path) -> set[str]:
    return {
        PurePosixPath(path.relative_to(top)).as_posix() for path in top.rglob("*") if path.is_file()
    }


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def derive_edits(old: Path, new: Path, names: Iterable[str]) -> tuple[Edit, ...]:
    """Derive the edits that turn files of one tree into those of another.

    Parameters
    ----------
    old, new : Path
        Top folders.
    names : Iterable[str]
        Relative paths of the files.

    Returns
    -------
    tuple[Edit, ...]
        Edits in the order of making, file by file, from top to bottom.

    Raises
    ------
    DemoError
        When a file is not text.
    """
    edits: list[Edit] = []
    for name in names:
        before, after = _text(old / name), _text(new / name)
        if before is None or after is None:
            edits.append(Edit(name, before, after))
        else:
            edits.extend(Edit(name, *pair) for pair in replacements(before, after))
    return tuple(edits)


def _text(path: Path) -> str | None:
    raw = _bytes(path)
    if raw is None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DemoError(f"{path} is not a text file.") from error


def replacements(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Yield exact replacements that turn one text into another.

    Every old text occurs exactly once in the text as it is when its turn comes: it is
    widened by neighbouring lines until it does.

    Parameters
    ----------
    before, after : str
        The texts.

    Yields
    ------
    tuple[str, str]
        Old and new text.
    """
    a, b = before.splitlines(keepends=True), after.splitlines(keepends=True)
    codes = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    for tag, i1, i2, j1, j2 in codes:
        if tag == "equal":
            continue
        # What stands above is done already, what stands below is not.
        current = [*b[:j1], *a[i1:]]
        start, stop = _widen(current, j1, j1 + i2 - i1)
        yield (
            "".join(current[start:stop]),
            "".join([*current[start:j1], *b[j1:j2], *current[j1 + i2 - i1 : stop]]),
        )


def _widen(lines: Sequence[str], start: int, stop: int) -> tuple[int, int]:
    whole = "".join(lines)
    while start == stop or _occurrences(whole, "".join(lines[start:stop])) > 1:
        if start == 0 and stop == len(lines):
            break
        start, stop = max(0, start - 1), min(len(lines), stop + 1)
    return start, stop


def _occurrences(text: str, part: str) -> int:
    """Count occurrences, overlapping ones too."""
    count, at = 0, text.find(part)
    while at >= 0:
        count, at = count + 1, text.find(part, at + 1)
    return count
