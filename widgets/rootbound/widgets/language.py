"""JupyterLab's language packs, for views in notebooks."""

from __future__ import annotations

import gettext
import json
import re
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

GROUP = "jupyterlab.languagepack"

_DOMAIN = "rootbound"
_FORMS = re.compile(r"plural=(?P<rule>[^;]+)")
# As gettext has it for a catalogue that does not say.
_GERMANIC = "n != 1"
# Every known rule looks at small counts, or at the last two digits of others.
_COUNTS = 200


def catalogue(language: str) -> dict[str, Any] | None:
    """Return what the views say in a language, of the language pack that has it.

    The packs are those of JupyterLab, installed in the kernel's environment; each holds the
    messages of many extensions, ours in ``locale/de_DE/LC_MESSAGES/rootbound.json``.

    Parameters
    ----------
    language : str
        Such as ``"de"``, ``"de-DE"`` or ``"de_DE"``; a pack of another country will do.

    Returns
    -------
    dict or None
        ``messages``, the forms of each by its English one, and ``plurals``, the index of the
        form for the counts from 0 to 199; None when no pack has our messages.
    """
    wanted = language.replace("-", "_").lower()
    packs = sorted(entry_points(group=GROUP), key=lambda pack: pack.name.lower() != wanted)
    for pack in packs:
        if pack.name.lower().split("_")[0] == wanted.split("_")[0]:
            found = _messages_of(pack)
            if found is not None:
                return found
    return None


def _messages_of(pack: EntryPoint) -> dict[str, Any] | None:
    spec = find_spec(pack.module)
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, "locale", pack.name, "LC_MESSAGES", f"{_DOMAIN}.json")
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(raw, dict):
            return _checked(raw)
    return None


def _checked(raw: dict[str, Any]) -> dict[str, Any]:
    """Return only what a view can use of a pack's file."""
    head = raw.pop("", None)
    forms = head.get("plural_forms") if isinstance(head, dict) else None
    messages = {
        message: texts
        for message, texts in raw.items()
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    }
    return {"messages": messages, "plurals": _plurals(str(forms or ""))}


def _plurals(forms: str) -> list[int]:
    found = _FORMS.search(forms)
    try:
        # Parses the rule by itself; nothing of a pack is executed as it stands.
        rule = gettext.c2py(found["rule"] if found else _GERMANIC)
        return [rule(count) for count in range(_COUNTS)]
    except (ValueError, RecursionError, ZeroDivisionError):
        return [int(count != 1) for count in range(_COUNTS)]
