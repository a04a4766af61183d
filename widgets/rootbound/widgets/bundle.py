"""One front end for all widgets of a kind, however many there are.

A notebook saves the state of every widget. If each carried its own script, a notebook with ten
views would hold it ten times; so each carries a loader of a few lines and a reference to a model
that holds the script once.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import traitlets
from ipywidgets import Widget  # type: ignore[import-untyped]

from ..errors import MissingDependencyError

STATIC = Path(__file__).parent.parent / "static"


class Bundle(Widget):  # type: ignore[misc]  # ipywidgets has no types
    """Holds a front end; has no view.

    Attributes
    ----------
    script, style : str
        The JavaScript module and its CSS.
    digest : str
        SHA-256 of both, under which a page keeps the module.
    """

    script = traitlets.Unicode().tag(sync=True)
    style = traitlets.Unicode().tag(sync=True)
    digest = traitlets.Unicode().tag(sync=True)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take nothing from a front end: a page must not put its code into other people's."""


def read_bundle(name: str) -> tuple[str, str]:
    """Return a widget's front end, its script and its style.

    Parameters
    ----------
    name : str
        The bundle's name, such as ``"task_board"``.

    Returns
    -------
    tuple of str
        The JavaScript module and the CSS (empty when the widget has none).

    Raises
    ------
    MissingDependencyError
        If the front end is not built, as in a fresh checkout.
    """
    script, style = STATIC / f"{name}.js", STATIC / f"{name}.css"
    try:
        text = script.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingDependencyError(
            f"The widget's front end {script.name} is not built; run `npm --prefix widgets/ui ci "
            "&& npm --prefix widgets/ui run build:widgets` in the checkout, or install a wheel."
        ) from error
    return text, style.read_text(encoding="utf-8") if style.is_file() else ""


@cache
def _known() -> dict[str, Bundle]:
    return {}


def shared_bundle(name: str) -> Bundle:
    """Return the model of a bundle, the same for all widgets of this kernel.

    Parameters
    ----------
    name : str
        As for `read_bundle`, which says what is raised.
    """
    script, style = read_bundle(name)
    digest = hashlib.sha256(f"{script}\0{style}".encode()).hexdigest()
    found = _known().get(digest)
    # `Widget.close_all()` closes this one as well.
    if found is None or found.comm is None:
        found = _known()[digest] = Bundle(script=script, style=style, digest=digest)
    return found
