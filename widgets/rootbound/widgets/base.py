"""What all widgets share: bundles, the message protocol, life cycle, snapshots."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import anywidget
import traitlets
from ipywidgets import (  # type: ignore[import-untyped]
    CallbackDispatcher,
    widget_serialization,
)

from .. import _html as html
from ..errors import InvalidRequestError, RootboundError
from .bundle import Bundle, read_bundle, shared_bundle
from .feed import Feed, Source
from .language import catalogue

_log = logging.getLogger("rootbound.widgets")

Handler = Callable[[dict[str, Any]], Any]


# Messages of the views among themselves; everything else is something that a person did.
_INNER = frozenset({
    "hello", "ack", "bundle", "load_more", "access_requests", "timeline", "tree", "verify",
    "catalogue", "read", "events_page", "search_events",
})  # fmt: skip


class BaseWidget(anywidget.AnyWidget):
    """Base of Rootbound's widgets.

    The front end sends ``{"id", "method", "params"}`` and always gets
    ``{"reply_to", "ok", "result" | "problem"}``; Python pushes ``{"push", "data"}``.

    Parameters
    ----------
    **kwargs
        Traits, such as ``theme``.

    Attributes
    ----------
    theme : {"auto", "light", "dark"}
        Colours; ``"auto"`` follows JupyterLab.
    locale : str
        Language of the view, such as ``"de_DE"``; ``"auto"``, the default, is the page's. The
        messages are those of JupyterLab's language packs in the kernel's environment; what no
        pack has is said in English.
    problem : dict or None
        The last problem of the live updates; None while they work.
    """

    _bundle_name: ClassVar[str]
    # All that a front end may change of a widget's state.
    _client_writable: ClassVar[frozenset[str]] = frozenset({"theme"})

    _esm = traitlets.Unicode().tag(sync=True)
    _bundle = traitlets.Instance(Bundle).tag(sync=True, **widget_serialization)
    _state = traitlets.Dict().tag(sync=True)
    theme = traitlets.Enum(["auto", "light", "dark"], default_value="auto").tag(sync=True)
    locale = traitlets.Unicode("auto").tag(sync=True)
    problem = traitlets.Any(default_value=None)

    # Class attribute, so that close() also works on an instance whose __init__ failed.
    _feed: Feed | None = None

    def __init__(self, **kwargs: Any) -> None:
        loader, _ = read_bundle("loader")
        bundle = shared_bundle(self._bundle_name)
        self._actions = CallbackDispatcher()
        self._handlers: dict[str, Handler] = {
            "hello": self._hello,
            "ack": lambda _params: {},
            "catalogue": lambda params: catalogue(text_param(params, "language")),
            # For hosts in which one model cannot find another.
            "bundle": lambda _params: {
                "script": bundle.script, "style": bundle.style, "digest": bundle.digest,
            },
        }  # fmt: skip
        super().__init__(_esm=loader, _bundle=bundle, _state=self._load(), **kwargs)
        self.on_msg(self._receive)

    def on_action(
        self, callback: Callable[[BaseWidget, str, dict[str, Any]], Any], remove: bool = False
    ) -> None:
        """Have a function called after somebody did something in the view.

        Parameters
        ----------
        callback : callable
            Called with the widget, the action's name (``"approve"``, ``"grant_access"``,
            ``"start_attempt"``, ``"select"``, ...) and its parameters, after it succeeded. What
            is sent by a form is a ``"write"``, with the API's ``method``, ``path`` and ``body``.
        remove : bool, default False
            Stop calling it.
        """
        self._actions.register_callback(callback, remove=remove)

    def _load(self) -> dict[str, Any]:
        """Read from the server and return the whole `_state`."""
        raise NotImplementedError

    def _snapshot(self) -> dict[str, Any]:
        """Return the `_state` as it is now; by default by reading it again."""
        return self._load()

    def _source(self) -> Source | None:
        """Return what to follow while a front end shows the widget; None for nothing."""
        return None

    def _take(self, items: list[Any]) -> None:
        """Take what the source yielded; runs on the main loop."""

    def to_html(self) -> str:
        """Return a static picture as HTML, for saved notebooks, papermill and mail.

        Returns
        -------
        str
            HTML without scripts; everything in it is escaped.
        """
        raise NotImplementedError

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take a state update of the front end, and of it only what a front end may change.

        In a shared notebook one person's browser could otherwise put a script of its own into
        ``_esm`` and so run it in everybody's.
        """
        allowed = {
            name: value for name, value in sync_data.items() if name in self._client_writable
        }
        if allowed:
            super().set_state(allowed)

    def _receive(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """Answer one message of the front end, whatever happens."""
        if isinstance(content, dict) and "id" in content:
            self.send(self._answer(content))

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = {"reply_to": message["id"], "ok": True, "result": self._handle(message)}
        except RootboundError as error:
            problem = error.as_problem()
        except KeyboardInterrupt:
            detail = "The kernel was interrupted; look at the current state before trying again."
            problem = RootboundError(detail, code="interrupted").as_problem()
        except Exception as error:
            _log.exception("A widget's method %r failed.", message.get("method"))
            detail = f"The widget's Python side failed: {type(error).__name__}: {error}"
            problem = RootboundError(detail, code="widget-failed").as_problem()
        else:
            if message["method"] not in _INNER:
                self._actions(self, message["method"], message.get("params") or {})
            return answer
        return {"reply_to": message["id"], "ok": False, "problem": problem}

    def _handle(self, message: dict[str, Any]) -> Any:
        method, params = message.get("method"), message.get("params") or {}
        handler = self._handlers.get(method) if isinstance(method, str) else None
        if handler is None:
            raise InvalidRequestError(
                f"{type(self).__name__} has no method {method!r}.", code="unknown-method"
            )
        if not isinstance(params, dict):
            raise InvalidRequestError("params must be an object.", code="invalid-params")
        return handler(params)

    def _hello(self, _params: dict[str, Any]) -> dict[str, Any]:
        """Bring a new view up to date and begin to follow."""
        # The state goes out before the answer, on the same comm: a view that has the answer has it.
        state = self._snapshot()
        self._state = state
        self._follow()
        return state

    def _follow(self) -> None:
        if self._feed is not None and self._feed.is_alive:
            return
        source = self._source()
        if source is not None:
            self._feed = Feed(source, self._take_alive, self._take_failure)
            self._feed.start()

    def _take_alive(self, items: list[Any]) -> None:
        self.problem = None
        self._take(items)

    def _take_failure(self, error: RootboundError) -> None:
        self.problem = error.as_problem()

    def _push(self, name: str, data: Any) -> None:
        self.send({"push": name, "data": data})

    def close(self) -> None:
        """Stop following and remove all views."""
        if self._feed is not None:
            self._feed.stop()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Offer the live view, and static HTML to viewers that have no widgets."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            try:
                bundle[0]["text/html"] = self.to_html()
            except RootboundError as error:
                bundle[0]["text/html"] = f"<p>{html.escape(error.detail)}</p>"
        return bundle


def text_param(params: dict[str, Any], name: str) -> str:
    """Return a required text of a message's params.

    Raises
    ------
    InvalidRequestError
        If it is missing, empty or no text.
    """
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"{name} must be a text.", code="invalid-params")
    return value
