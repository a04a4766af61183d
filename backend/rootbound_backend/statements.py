"""Statements that are written once and prepared: for what every attempt waits for.

Django writes a query's SQL anew each time, and PostgreSQL plans it anew, which together take ten
times as long as the answer [locking an attempt with its task and project: 0.92 ms, prepared
0.07 ms]. Here Django writes it the first time and PostgreSQL keeps the plan of each connection.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg
from django.conf import settings
from django.db import connection
from django.db.models import Model, QuerySet
from django.db.models import query as django_query
from django.db.transaction import TransactionManagementError
from psycopg import sql

__all__ = ["Prepared", "fetch", "insert_row", "update_row"]

T = TypeVar("T")

_MARKS: Mapping[type, Callable[[], Any]] = {
    uuid.UUID: uuid.uuid4,
    str: lambda: uuid.uuid4().hex,
    int: lambda: uuid.uuid4().int >> 65,
}
"""Values that stand for the arguments while a query is written; no other value is the same."""


def fetch(statement: str, values: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Execute a statement of ours, prepared, and return its rows, if it has any.

    Parameters
    ----------
    statement
        SQL with psycopg's placeholders; a constant.
    values
        What stands for them.
    """
    # What is logged is logged with its values.
    opened = connection.cursor() if connection.queries_logged else _preparing()
    with opened as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


@contextlib.contextmanager
def _preparing() -> Iterator[Any]:
    """Open a cursor on Django's connection whose statements are prepared the first time.

    Django's own puts the values into the text, of which no plan can be kept.
    """
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    held: Any = connection.connection
    with connection.make_cursor(psycopg.Cursor(held)) as cursor:  # type: ignore[arg-type]
        # For these alone: psycopg would remember the text of Django's statements, values and all.
        held.prepare_threshold = 0 if settings.PREPARED_STATEMENTS else None
        try:
            yield cursor
        finally:
            held.prepare_threshold = None


class Prepared(Generic[T]):
    """A query that Django writes when it is first asked.

    Parameters
    ----------
    build
        Returns the query for its arguments, which may only be values to compare with.
    kinds
        The arguments' types: UUID, str or int.
    """

    def __init__(self, build: Callable[..., QuerySet[Any, T]], *kinds: type) -> None:
        self._build = build
        self._kinds = kinds

    def __call__(self, *values: Any) -> list[T]:
        """Return the rows: instances, or tuples of a ``values_list``.

        Raises
        ------
        TransactionManagementError
            When it locks rows outside of a transaction, in which nothing would hold them.
        """
        written = self._written
        if written.locks and connection.get_autocommit():
            raise TransactionManagementError("A row is locked in a transaction only.")
        rows = fetch(written.text, [values[place] for place in written.places])
        return [written.load(row) for row in rows]

    def first(self, *values: Any) -> T | None:
        """Return the first row, None when there is none."""
        return next(iter(self(*values)), None)

    @functools.cached_property
    def _written(self) -> _Written:
        marks = [_MARKS[kind]() for kind in self._kinds]
        compiler: Any = self._build(*marks).query.get_compiler(connection=connection)
        text, values = compiler.as_sql()
        text, places = _filled_in(text, values, marks)
        whole = compiler.query.default_cols
        load = _instances(compiler) if whole else _converted(compiler)
        return _Written(text, places, bool(compiler.query.select_for_update), load)


@dataclass(frozen=True, slots=True)
class _Written:
    """A query as it is sent, which argument stands where in it, and what makes of a row."""

    text: str
    places: list[int]
    locks: bool
    load: Callable[[Sequence[Any]], Any]


def _filled_in(text: str, values: Sequence[Any], marks: list[Any]) -> tuple[str, list[int]]:
    """Put all but the arguments into the text; return also which argument stands where."""
    parts = text.split("%s")
    if len(parts) != len(values) + 1:
        raise ValueError(f"This query cannot be prepared: {text}")
    connection.ensure_connection()
    held: Any = connection.connection
    filled, places = [parts[0]], []
    for value, part in zip(values, parts[1:], strict=True):
        if value in marks:
            places.append(marks.index(value))
            filled.append("%s")
        else:
            # A plan for any value would pass by the indexes that hold for this one.
            filled.append(sql.Literal(value).as_string(held).replace("%", "%%"))
        filled.append(part)
    return "".join(filled), places


def _converted(compiler: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what makes of the database's values what Django would."""
    converters = compiler.get_converters([one[0] for one in compiler.select]).items()

    def converted(row: Sequence[Any]) -> Sequence[Any]:
        values = list(row)
        for place, (convert, expression) in converters:
            for one in convert:
                values[place] = one(values[place], expression, connection)
        return tuple(values)

    return converted


def _instances(compiler: Any) -> Callable[[Sequence[Any]], Any]:
    """Return what makes of a row an instance with those that were selected with it."""
    converted, info, select = _converted(compiler), compiler.klass_info, compiler.select
    begin, end = info["select_fields"][0], info["select_fields"][-1] + 1
    names = [one[0].target.attname for one in select[begin:end]]
    private: Any = django_query
    related = private.get_related_populators(info, select, connection.alias)

    def loaded(row: Sequence[Any]) -> Any:
        values = converted(row)
        found = info["model"].from_db(connection.alias, names, values[begin:end])
        for one in related:
            one.populate(values, found)
        for name, place in compiler.annotation_col_map.items():
            setattr(found, name, values[place])
        return found

    return loaded


def insert_row(row: Model) -> None:
    """Store a new instance, whose values are all known but a number that the database gives."""
    statement, fields = _insertion(type(row))
    fetch(statement, [_stored(one, row, add=True) for one in fields])
    row._state.adding = False


def update_row(row: Model, *names: str) -> None:
    """Store fields of an instance that exists.

    Parameters
    ----------
    row
        The instance.
    names
        Which fields. Default all.
    """
    statement, fields = _update(type(row), names)
    fetch(statement, [*(_stored(one, row, add=False) for one in fields), row.pk])


def _stored(field: Any, row: Model, *, add: bool) -> Any:
    return field.get_db_prep_save(field.pre_save(row, add), connection)


@functools.cache
def _insertion(model: type[Model]) -> tuple[str, list[Any]]:
    generated = model._meta.auto_field
    fields: list[Any] = [one for one in model._meta.concrete_fields if one is not generated]
    text = sql.SQL("INSERT INTO {table} ({columns}) VALUES ({places})").format(
        table=sql.Identifier(model._meta.db_table),
        columns=sql.SQL(", ").join(sql.Identifier(one.column) for one in fields),
        places=sql.SQL(", ").join(sql.Placeholder() for _ in fields),
    )
    return text.as_string(), fields


@functools.cache
def _update(model: type[Model], names: tuple[str, ...]) -> tuple[str, list[Any]]:
    key: Any = model._meta.pk
    own: list[Any] = [one for one in model._meta.concrete_fields if one is not key]
    fields = [one for one in own if not names or one.name in names]
    if len(fields) < len(names):
        raise ValueError(f"{model.__name__} has not all of the fields {names}.")
    text = sql.SQL("UPDATE {table} SET {columns} WHERE {key} = %s").format(
        table=sql.Identifier(model._meta.db_table),
        columns=sql.SQL(", ").join(
            sql.SQL("{} = %s").format(sql.Identifier(one.column)) for one in fields
        ),
        key=sql.Identifier(key.column),
    )
    return text.as_string(), fields
