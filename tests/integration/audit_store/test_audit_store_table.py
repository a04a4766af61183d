"""The audit log's table: partitions in time, and nothing that was written can be changed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from rootbound_backend.apps.local_access.audit import partitions
from rootbound_backend.apps.local_access.audit.partitions import (
    list_partitions,
    prepare_partitions,
)
from rootbound_backend.apps.local_access.models import FsAuditEvent
from tests.integration.audit_store.audit_support import (
    TABLE,
    chained,
    findings,
    make_run,
    records,
    row,
    store,
    stored_run,
    tampering,
)

SIDE_TABLES = [
    "local_access_auditwatermark",
    "local_access_auditretention",
    "local_access_auditretentionanchor",
]


def partition_of(attempt, seq):
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT tableoid::regclass::text FROM {TABLE} WHERE run_id = %s AND seq = %s",
            [attempt.pk, seq],
        )
        return cursor.fetchone()[0]


@pytest.mark.django_db
def test_entries_lie_in_the_partition_of_their_month(user):
    times = [
        ("1970-01-01T00:00:00+00:00", "early"),
        ("2024-12-31T23:59:59.999999+00:00", "early"),
        ("2031-05-31T23:59:59.999999+00:00", "y2031m05"),
        ("2031-06-01T00:00:00+00:00", "y2031m06"),
        ("2150-01-01T00:00:00+00:00", "late"),
    ]
    run = make_run(user)
    some = [next(records(1, start=datetime.fromisoformat(text))) for text, _ in times]
    assert store(run, chained(some)) == len(times)
    for seq, (_, name) in enumerate(times, 1):
        assert partition_of(run, seq) == f"{TABLE}_{name}"
    assert findings(run) == []


@pytest.mark.django_db
def test_the_months_to_come_are_made_once():
    now = datetime(2040, 11, 30, 23, 59, tzinfo=UTC)
    assert prepare_partitions(now) == 4
    assert prepare_partitions(now) == 0
    made = [one for one in list_partitions() if one.name.startswith(f"{TABLE}_y204")]
    assert [one.name[-8:] for one in made] == ["y2040m11", "y2040m12", "y2041m01", "y2041m02"]
    assert made[1].end == made[2].start == datetime(2041, 1, 1, tzinfo=UTC)


@pytest.mark.django_db
def test_a_partition_that_was_dropped_is_made_again(user, monkeypatch):
    monkeypatch.setattr(partitions, "_known", {(2026, 1)})
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}_y2026m01")
    run = stored_run(user, 3)
    assert partition_of(run, 3) == f"{TABLE}_y2026m01"


@pytest.mark.django_db
def test_a_partition_has_the_indexes_and_guards_of_the_log(user):
    stored_run(user, 1)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FILTER (WHERE inhparent = ANY(SELECT indexrelid FROM pg_index "
            f"WHERE indrelid = '{TABLE}'::regclass)), count(*) FROM pg_index "
            f"JOIN pg_inherits ON inhrelid = indexrelid "
            f"WHERE indrelid = '{TABLE}_y2026m01'::regclass"
        )
        attached, total = cursor.fetchone()
        assert attached == total == 8
        cursor.execute(
            "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal "
            f"AND tgrelid = '{TABLE}_y2026m01'::regclass ORDER BY tgname"
        )
        # ALWAYS: also in sessions that pose as a replica.
        assert cursor.fetchall() == [
            ("audit_append_only", "A"),
            ("audit_no_truncate", "A"),
            ("audit_row_append_only", "A"),
        ]


@pytest.mark.django_db
@pytest.mark.parametrize("table", [TABLE, f"{TABLE}_y2026m01", *SIDE_TABLES])
@pytest.mark.parametrize("verb", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_application_cannot_change_it(user, table, verb):
    run = stored_run(user, 2)
    change = {
        "local_access_auditwatermark": "last_seq = 1",
        "local_access_auditretention": "rows = 1",
        "local_access_auditretentionanchor": "last_seq = 1",
    }.get(table, "path = 'x'")
    with connection.cursor() as cursor:
        # The tests' own session may empty the log; here it is as it is for everybody else.
        cursor.execute(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER audit_no_truncate")
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(verb.format(table, change))
    assert findings(run) == []


@pytest.mark.django_db
def test_the_application_role_is_no_superuser():
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper, rolreplication, rolbypassrls FROM pg_roles "
                       "WHERE rolname = current_user")  # fmt: skip
        assert cursor.fetchone() == (False, False, False)
        # Without that it cannot pose as a replica either.
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            cursor.execute("SET session_replication_role = replica")


@pytest.mark.django_db
def test_the_models_and_the_migrations_agree():
    call_command("makemigrations", "local_access", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_the_migration_keeps_the_log_both_ways(user):
    run = stored_run(user, 40, step_s=86_400.0)
    before = list(FsAuditEvent.objects.order_by("id").values())
    try:
        call_command("migrate", "local_access", "0002", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT relkind FROM pg_class WHERE oid = '{TABLE}'::regclass")
            assert cursor.fetchone() == ("r",)
            cursor.execute(f"SELECT count(*) FROM {TABLE}")
            assert cursor.fetchone() == (40,)
            with pytest.raises(DatabaseError, match="append-only"):
                cursor.execute(f"DELETE FROM {TABLE}")
    finally:
        # All of it: going back took the migrations with it that build on this one.
        call_command("migrate", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {TABLE} DISABLE TRIGGER audit_no_truncate")
    assert list(FsAuditEvent.objects.order_by("id").values()) == before
    assert findings(run) == []
    store(run, chained(records(1), seq=41, prev=row(run, 40).hash))
    assert row(run, 41).id > before[-1]["id"]
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET path = ''")


@pytest.mark.django_db
def test_tampering_by_the_tests_is_real(user):
    run = stored_run(user, 1)
    with tampering() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET path = '/x' WHERE run_id = %s", [run.pk])
    assert row(run, 1).path == "/x"


def test_without_timescaledb_nothing_is_converted(db):
    with pytest.raises(CommandError, match="CREATE EXTENSION timescaledb"):
        call_command("audit_hypertable")


@pytest.mark.django_db
def test_the_conversion_keeps_rows_names_and_guards(user):
    """All but TimescaleDB's own part, which a function of its name stands for."""
    run = stored_run(user, 30, step_s=86_400.0)
    index_names = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass"
    with connection.cursor() as cursor:
        cursor.execute(index_names, [TABLE])
        before = sorted(cursor.fetchall())
        cursor.execute(
            "CREATE FUNCTION create_hypertable(regclass, name, chunk_time_interval interval, "
            "create_default_indexes boolean) RETURNS void LANGUAGE sql AS 'SELECT'"
        )
        call_command("audit_hypertable", verbosity=0)
        cursor.execute(index_names, [TABLE])
        assert sorted(cursor.fetchall()) == before
        cursor.execute(f"SELECT relkind FROM pg_class WHERE oid = '{TABLE}'::regclass")
        assert cursor.fetchone() == ("r",)
    assert findings(run) == []
    store(run, chained(records(1), seq=31, prev=row(run, 30).hash))
    assert findings(run) == []
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"UPDATE {TABLE} SET path = ''")
