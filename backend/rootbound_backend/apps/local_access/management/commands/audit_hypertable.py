"""Make the audit log a TimescaleDB hypertable."""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from rootbound_backend.apps.local_access.audit.partitions import (
    TABLE,
    forget_partitions,
    layout,
)

_NEW = f"{TABLE}_new"

_COPY = f"""
LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE;
CREATE TABLE {_NEW} (LIKE {TABLE} INCLUDING ALL);
ALTER SEQUENCE {TABLE}_id_seq OWNED BY {_NEW}.id;
"""

_FILL = f"""
INSERT INTO {_NEW} SELECT * FROM {TABLE} ORDER BY "timestamp", id;
DROP TABLE {TABLE};
ALTER TABLE {_NEW} RENAME TO {TABLE};
"""  # noqa: S608

_GUARD = f"""
CREATE TRIGGER audit_row_append_only BEFORE UPDATE OR DELETE ON {TABLE}
    FOR EACH ROW EXECUTE FUNCTION local_access_audit_append_only();
ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER audit_row_append_only;
SELECT local_access_audit_guard('{TABLE}');
"""


class Command(BaseCommand):
    """Implements ``audit_hypertable``."""

    help = "Make the audit log a TimescaleDB hypertable, with everything that is in it."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        if layout() != "partitions":
            raise CommandError("The audit log is not kept in partitions; nothing was done.")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'create_hypertable')"
            )
            if not cursor.fetchone()[0]:
                raise CommandError(
                    "This database has no TimescaleDB; install it and run "
                    "`CREATE EXTENSION timescaledb` as a superuser first."
                )
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_COPY)
            names = _index_names(cursor)
            cursor.execute(
                f"SELECT create_hypertable('{_NEW}', 'timestamp', "
                "chunk_time_interval => interval '1 month', create_default_indexes => false)"
            )
            cursor.execute(_FILL)
            for made, wanted in names.items():
                cursor.execute(f"ALTER INDEX {made} RENAME TO {wanted}")
            cursor.execute(_GUARD)
        forget_partitions()
        self.stdout.write("The audit log is a hypertable now.")


def _index_names(cursor: CursorWrapper) -> dict[str, str]:
    """Return the names that the new table's indexes are to have."""
    found: list[dict[str, str]] = []
    for table in (TABLE, _NEW):
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
            "WHERE indrelid = %s::regclass",
            [table],
        )
        found.append({_shape(text): name for name, text in cursor.fetchall()})
    old, new = found
    return {name: old[shape] for shape, name in new.items()}


def _shape(definition: str) -> str:
    """Return an index's definition without its name and table."""
    return re.sub(r"INDEX \S+ ON (ONLY )?\S+", "INDEX", definition)
