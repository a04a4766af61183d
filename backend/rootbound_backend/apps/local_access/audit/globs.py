"""Path globs as regular expressions of PostgreSQL."""

from __future__ import annotations

__all__ = ["glob_prefix", "glob_regex"]

_WILD = frozenset("*?[")


def glob_prefix(pattern: str) -> str:
    """Return what every path that matches begins with; "" when that is not fixed."""
    if not pattern.startswith("/"):
        return ""
    for index, character in enumerate(pattern):
        if character in _WILD:
            return pattern[:index]
    return pattern


def glob_regex(pattern: str) -> str:
    """Translate a glob.

    ``*`` and ``?`` stay within one folder, ``**`` crosses folders, ``[a-z]`` and ``[!a-z]`` are
    sets. A pattern that does not begin with a slash matches at any depth.

    Parameters
    ----------
    pattern
        The glob.

    Returns
    -------
    str
        A regular expression for PostgreSQL's ``~``, anchored at both ends.
    """
    text = pattern if pattern.startswith("/") else f"/**/{pattern}"
    parts: list[str] = []
    index = 0
    while index < len(text):
        if text.startswith("/**/", index):
            parts.append("/(?:.*/)?")
            index += 4
            # `/**/**/` is `/**/`.
            while text.startswith("**/", index):
                index += 3
            continue
        character = text[index]
        if text.startswith("**", index):
            parts.append(".*")
            index += 2
            continue
        index += 1
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[" and (end := _end_of_set(text, index)) is not None:
            parts.append(_set(text[index:end]))
            index = end + 1
        else:
            parts.append(_literal(character))
    return f"^(?:{''.join(parts)})$"


def _literal(character: str) -> str:
    return character if character.isalnum() or ord(character) > 127 else f"\\{character}"


def _end_of_set(text: str, start: int) -> int | None:
    """Return where the set that begins at `start` ends, or None when it does not."""
    first = start + 1 if text.startswith("!", start) else start
    end = text.find("]", first + 1)
    return None if end < 0 else end


def _set(body: str) -> str:
    negated = body.startswith("!")
    rest = body[1:] if negated else body
    parts: list[str] = []
    index = 0
    while index < len(rest):
        low = rest[index]
        if rest[index + 1 : index + 2] == "-" and index + 2 < len(rest):
            high = rest[index + 2]
            # A range that runs backwards matches nothing of its own.
            if low <= high:
                parts.append(f"{_literal(low)}-{_literal(high)}")
            index += 3
            continue
        parts.append(_literal(low))
        index += 1
    if not parts:
        return "[^/]" if negated else "(?!)"
    return f"[^/{''.join(parts)}]" if negated else f"[{''.join(parts)}]"
