"""Small patches of texts that are part of a larger one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

CONTEXT = 3


def hunks(old: Sequence[str], new: Sequence[str], old_start: int = 1, new_start: int = 1) -> str:
    """Return the hunks of a unified diff, without the lines that name files.

    Parameters
    ----------
    old, new
        Lines, without line breaks.
    old_start, new_start
        The number of the first line of each in the text that it is part of. Default 1.
    """
    lines: list[str] = []
    for group in difflib.SequenceMatcher(None, old, new).get_grouped_opcodes(CONTEXT):
        first, last = group[0], group[-1]
        before, after = last[2] - first[1], last[4] - first[3]
        lines.append(f"@@ -{old_start + first[1]},{before} +{new_start + first[3]},{after} @@")
        for kind, i, to_i, j, to_j in group:
            if kind == "equal":
                lines += [f" {line}" for line in old[i:to_i]]
                continue
            lines += [f"-{line}" for line in old[i:to_i]]
            lines += [f"+{line}" for line in new[j:to_j]]
    return "\n".join(lines)
