"""Results as tables: pandas and Arrow, both optional."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from . import _html as html
from .errors import MissingDependencyError
from .models import Event, Model

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

__all__ = ["AsyncEvents", "Events", "Listing", "arrow_stream", "frame"]

M = TypeVar("M", bound=Model)

_EVENT_COLUMNS = ("seq", "timestamp", "type", "kind", "payload")
_MAX_COLUMNS = 7


def columns_of(cls: type[Model]) -> tuple[str, ...]:
    """Return the names of a result's fields, in order."""
    hidden = ("raw", "_client")
    return tuple(item.name for item in dataclasses.fields(cls) if item.name not in hidden)


def frame(
    items: Iterable[Any], columns: Sequence[str], get: Callable[[Any, str], Any] = getattr
) -> pd.DataFrame:
    """Return results as a pandas DataFrame, one row each.

    Parameters
    ----------
    items : iterable
        The results.
    columns : sequence of str
        Attributes to show.
    get : callable, default getattr
        How an item gives one of them.

    Returns
    -------
    pandas.DataFrame
        Containers stay Python objects.

    Raises
    ------
    MissingDependencyError
        If pandas is not installed.
    """
    try:
        import pandas as pd  # optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            "df() needs pandas, which is not installed; run `pip install pandas`, or iterate "
            "over the result instead."
        ) from error
    rows = [[get(item, name) for name in columns] for item in items]
    return pd.DataFrame(rows, columns=list(columns))


def arrow_stream(items: Iterable[Any], columns: Sequence[str], requested_schema: Any = None) -> Any:
    """Return results as an Arrow C stream, which polars, DuckDB, pandas and others read.

    Numbers, texts, times and truth values keep their type; containers become JSON texts.

    Parameters
    ----------
    items : iterable
        The results.
    columns : sequence of str
        Attributes to give.
    requested_schema : PyCapsule or None, default None
        What the consumer would like; passed on.

    Returns
    -------
    PyCapsule
        The stream.

    Raises
    ------
    MissingDependencyError
        If arro3-core is not installed.
    """
    try:
        from arro3 import core as arrow  # optional
    except ImportError as error:
        raise MissingDependencyError(
            "An Arrow stream needs arro3-core, which is not installed; run "
            "`pip install arro3-core`, or iterate over the result instead."
        ) from error
    rows = [[_plain(getattr(item, name)) for name in columns] for item in items]
    data = {name: _array(arrow, [row[place] for row in rows]) for place, name in enumerate(columns)}
    return arrow.Table.from_pydict(data).__arrow_c_stream__(requested_schema)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, datetime)):
        return value
    return json.dumps(value, ensure_ascii=False, default=_jsonable)


def _jsonable(value: Any) -> Any:
    return value.raw if isinstance(value, Model) else str(value)


def _array(arrow: Any, values: list[Any]) -> Any:
    """Return a column, typed by what is in it; a mixed one becomes texts."""
    types, kinds = arrow.DataType, {type(value) for value in values if value is not None}
    if kinds == {datetime}:
        micro = [None if value is None else int(value.timestamp() * 1_000_000) for value in values]
        return arrow.Array(micro, types.int64()).cast(types.timestamp("us", tz="UTC"))
    if kinds == {bool}:
        return arrow.Array(values, types.bool())
    if kinds and kinds <= {int, float}:
        return arrow.Array(values, types.int64() if kinds == {int} else types.float64())
    return arrow.Array([None if value is None else str(value) for value in values], types.string())


class Listing(list[M]):
    """A list of results that shows itself as a table.

    Parameters
    ----------
    cls : type
        The class of the results, so that an empty list has its columns too.
    items : iterable, default ()
        The results.
    """

    def __init__(self, cls: type[M], items: Iterable[M] = ()) -> None:
        super().__init__(items)
        self._cls = cls

    def df(self) -> pd.DataFrame:
        """Return the results as a pandas DataFrame; raises `MissingDependencyError`."""
        return frame(self, columns_of(self._cls))

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the results as an Arrow stream, for polars, DuckDB and others."""
        return arrow_stream(self, columns_of(self._cls), requested_schema)

    def _repr_html_(self) -> str:
        names = columns_of(self._cls)
        used = [name for name in names if any(getattr(item, name) not in _EMPTY for item in self)]
        title = html.words(self._cls.__name__)
        return html.listing(title, self, (used or list(names))[:_MAX_COLUMNS])


_EMPTY: tuple[Any, ...] = (None, "", (), {}, [])


class Events(Iterator[Event]):
    """An attempt's events, read as you iterate; once.

    Parameters
    ----------
    source : Iterator
        Where they come from.
    """

    def __init__(self, source: Iterator[Event]) -> None:
        self._source = source

    def __next__(self) -> Event:
        return next(self._source)

    def close(self) -> None:
        """Stop reading; the attempt is not affected."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def df(self) -> pd.DataFrame:
        """Return all (further) events as a pandas DataFrame; raises `MissingDependencyError`."""
        return frame(self, _EVENT_COLUMNS)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return all (further) events as an Arrow stream; the payload is JSON text."""
        return arrow_stream(self, _EVENT_COLUMNS, requested_schema)


class AsyncEvents(AsyncIterator[Event]):
    """As `Events`, for ``async for``."""

    def __init__(self, source: AsyncIterator[Event]) -> None:
        self._source = source

    async def __anext__(self) -> Event:
        return await anext(self._source)

    async def close(self) -> None:
        """As `Events.close`, awaited."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    async def df(self) -> pd.DataFrame:
        """As `Events.df`, awaited."""
        return frame([event async for event in self], _EVENT_COLUMNS)
