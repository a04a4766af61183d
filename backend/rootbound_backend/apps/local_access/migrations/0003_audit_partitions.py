from typing import Any

import django.db.models.deletion
import django.db.models.fields.json
from django.conf import settings
from django.db import migrations, models

GUARDS = """
CREATE OR REPLACE FUNCTION local_access_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- One switch: the other tables' guards against TRUNCATE follow the one of the log itself.
    IF TG_OP = 'TRUNCATE' AND TG_TABLE_NAME <> 'local_access_fsauditevent' AND EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'local_access_fsauditevent'::regclass
          AND tgname = 'audit_no_truncate' AND tgenabled = 'D'
    ) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'The audit log is append-only: % refused.', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE FUNCTION local_access_audit_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.last_seq < OLD.last_seq OR NEW.run_id <> OLD.run_id THEN
        RAISE EXCEPTION 'The audit log is append-only: its watermark goes forward only.'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
"""

GUARDS_BACK = """
DROP FUNCTION local_access_audit_forward();
CREATE OR REPLACE FUNCTION local_access_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit log is append-only: % refused.', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;
"""

# Makes the partition that a moment belongs to; true when it was missing. `LIKE` and `ATTACH` let
# readers and writers of the other partitions go on, which `PARTITION OF` does not.
ADD_PARTITION = """
CREATE FUNCTION local_access_audit_partition(moment timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    month timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
    name text;
BEGIN
    -- What lies outside is in the first or the last partition; a hypertable has no partitions.
    IF moment < '2025-01-01 00:00+00' OR moment >= '2100-01-01 00:00+00' OR EXISTS (
        SELECT FROM pg_class
        WHERE oid = 'local_access_fsauditevent'::regclass AND relkind <> 'p'
    ) THEN
        RETURN false;
    END IF;
    name := 'local_access_fsauditevent_' || to_char(month, '"y"YYYY"m"MM');
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('local_access_fsauditevent'));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE local_access_fsauditevent INCLUDING ALL)', name);
    EXECUTE format(
        'ALTER TABLE local_access_fsauditevent ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, month::text || '+00', (month + interval '1 month')::text || '+00'
    );
    PERFORM local_access_audit_guard(name);
    RETURN true;
END
$$;
CREATE FUNCTION local_access_audit_guard(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON %1$I '
        'FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();'
        'CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON %1$I '
        'FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();'
        -- ALWAYS: not even a session that poses as a replica gets round them.
        'ALTER TABLE %1$I ENABLE ALWAYS TRIGGER audit_append_only;'
        'ALTER TABLE %1$I ENABLE ALWAYS TRIGGER audit_no_truncate;',
        name
    );
END
$$;
"""

ADD_PARTITION_BACK = """
DROP FUNCTION local_access_audit_partition(timestamptz);
DROP FUNCTION local_access_audit_guard(text);
"""

COLUMNS = """
    run_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    "timestamp" timestamptz NOT NULL,
    operation varchar(8) NOT NULL,
    result varchar(8) NOT NULL,
    path varchar(1024) NOT NULL,
    source varchar(16) NOT NULL,
    detail jsonb NOT NULL,
    hash varchar(64) NOT NULL,
    attempt_id uuid,
    user_id uuid NOT NULL,
    CONSTRAINT audit_operation_known CHECK (operation IN ('READ', 'WRITE', 'DELETE')),
    CONSTRAINT audit_result_known CHECK (result IN ('ALLOWED', 'DENIED')),
    CONSTRAINT audit_source_known CHECK (source IN ('tool', 'kernel', 'provisioner'))
"""

NAMES = (
    'id, run_id, seq, "timestamp", operation, result, path, source, detail, hash, '
    "attempt_id, user_id"
)

KEYS = """
ALTER TABLE local_access_fsauditevent ADD CONSTRAINT local_access_fsauditevent_pkey
    PRIMARY KEY (id, "timestamp");
ALTER TABLE local_access_fsauditevent ADD CONSTRAINT audit_seq_once
    UNIQUE (run_id, seq, "timestamp");
CREATE INDEX audit_by_time ON local_access_fsauditevent USING brin ("timestamp");
CREATE INDEX audit_denied ON local_access_fsauditevent (run_id, seq) WHERE result IN ('DENIED');
"""

NO_KEYS = """
ALTER TABLE local_access_fsauditevent_old DROP CONSTRAINT local_access_fsauditevent_pkey;
ALTER TABLE local_access_fsauditevent_old DROP CONSTRAINT audit_seq_once;
DROP INDEX audit_by_time, audit_denied;
"""

PARTITION = f"""
ALTER TABLE local_access_fsauditevent RENAME TO local_access_fsauditevent_old;
ALTER TABLE local_access_fsauditevent_old ALTER COLUMN id DROP IDENTITY;
{NO_KEYS}
-- An identity column cannot be partitioned before PostgreSQL 17; a sequence can.
CREATE SEQUENCE local_access_fsauditevent_id_seq;
CREATE TABLE local_access_fsauditevent (
    id bigint NOT NULL DEFAULT nextval('local_access_fsauditevent_id_seq'),
    {COLUMNS}
) PARTITION BY RANGE ("timestamp");
ALTER SEQUENCE local_access_fsauditevent_id_seq OWNED BY local_access_fsauditevent.id;
{KEYS}
CREATE TRIGGER audit_row_append_only
    BEFORE UPDATE OR DELETE ON local_access_fsauditevent
    FOR EACH ROW EXECUTE FUNCTION local_access_audit_append_only();
ALTER TABLE local_access_fsauditevent ENABLE ALWAYS TRIGGER audit_row_append_only;
SELECT local_access_audit_guard('local_access_fsauditevent');
-- No default partition: with one, a list in the order of time would have to look into every
-- partition for its first row.
CREATE TABLE local_access_fsauditevent_early PARTITION OF local_access_fsauditevent
    FOR VALUES FROM (MINVALUE) TO ('2025-01-01 00:00+00');
CREATE TABLE local_access_fsauditevent_late PARTITION OF local_access_fsauditevent
    FOR VALUES FROM ('2100-01-01 00:00+00') TO (MAXVALUE);
SELECT local_access_audit_guard('local_access_fsauditevent_early');
SELECT local_access_audit_guard('local_access_fsauditevent_late');
SELECT local_access_audit_partition(month AT TIME ZONE 'UTC') FROM (
    SELECT DISTINCT date_trunc('month', "timestamp" AT TIME ZONE 'UTC') AS month
    FROM local_access_fsauditevent_old
    UNION
    SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + number * interval '1 month'
    FROM generate_series(0, 3) AS number
) AS months;
INSERT INTO local_access_fsauditevent ({NAMES})
    SELECT {NAMES} FROM local_access_fsauditevent_old ORDER BY id;
SELECT setval('local_access_fsauditevent_id_seq',
              (SELECT coalesce(max(id), 0) + 1 FROM local_access_fsauditevent), false);
DROP TABLE local_access_fsauditevent_old;
"""  # noqa: S608

PLAIN = f"""
ALTER TABLE local_access_fsauditevent RENAME TO local_access_fsauditevent_old;
ALTER TABLE local_access_fsauditevent_old ALTER COLUMN id DROP DEFAULT;
DROP SEQUENCE local_access_fsauditevent_id_seq;
{NO_KEYS}
CREATE TABLE local_access_fsauditevent (
    id bigint GENERATED BY DEFAULT AS IDENTITY,
    {COLUMNS}
);
INSERT INTO local_access_fsauditevent ({NAMES})
    SELECT {NAMES} FROM local_access_fsauditevent_old ORDER BY id;
{KEYS}
SELECT setval(pg_get_serial_sequence('local_access_fsauditevent', 'id'),
              (SELECT coalesce(max(id), 0) + 1 FROM local_access_fsauditevent), false);
DROP TABLE local_access_fsauditevent_old;
SELECT local_access_audit_guard('local_access_fsauditevent');
"""  # noqa: S608

SPANS = """
UPDATE local_access_auditwatermark mark
SET user_id = span.user_id, first_at = span.first_at, last_at = span.last_at
FROM (
    SELECT run_id, (array_agg(user_id))[1] AS user_id, min("timestamp") AS first_at,
           max("timestamp") AS last_at
    FROM local_access_fsauditevent GROUP BY run_id
) AS span
WHERE span.run_id = mark.run_id;
"""

SIDE_GUARDS = """
CREATE TRIGGER audit_append_only
    BEFORE UPDATE OR DELETE ON local_access_auditretention
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
CREATE TRIGGER audit_append_only
    BEFORE UPDATE OR DELETE ON local_access_auditretentionanchor
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
CREATE TRIGGER audit_append_only
    BEFORE DELETE ON local_access_auditwatermark
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
CREATE TRIGGER audit_forward
    BEFORE UPDATE ON local_access_auditwatermark
    FOR EACH ROW EXECUTE FUNCTION local_access_audit_forward();
CREATE TRIGGER audit_no_truncate
    BEFORE TRUNCATE ON local_access_auditretention
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
CREATE TRIGGER audit_no_truncate
    BEFORE TRUNCATE ON local_access_auditretentionanchor
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
CREATE TRIGGER audit_no_truncate
    BEFORE TRUNCATE ON local_access_auditwatermark
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
ALTER TABLE local_access_auditretention ENABLE ALWAYS TRIGGER audit_append_only;
ALTER TABLE local_access_auditretention ENABLE ALWAYS TRIGGER audit_no_truncate;
ALTER TABLE local_access_auditretentionanchor ENABLE ALWAYS TRIGGER audit_append_only;
ALTER TABLE local_access_auditretentionanchor ENABLE ALWAYS TRIGGER audit_no_truncate;
ALTER TABLE local_access_auditwatermark ENABLE ALWAYS TRIGGER audit_append_only;
ALTER TABLE local_access_auditwatermark ENABLE ALWAYS TRIGGER audit_no_truncate;
ALTER TABLE local_access_auditwatermark ENABLE ALWAYS TRIGGER audit_forward;
"""

SIDE_GUARDS_BACK = """
DROP TRIGGER audit_append_only ON local_access_auditretention;
DROP TRIGGER audit_no_truncate ON local_access_auditretention;
DROP TRIGGER audit_append_only ON local_access_auditretentionanchor;
DROP TRIGGER audit_no_truncate ON local_access_auditretentionanchor;
DROP TRIGGER audit_append_only ON local_access_auditwatermark;
DROP TRIGGER audit_no_truncate ON local_access_auditwatermark;
DROP TRIGGER audit_forward ON local_access_auditwatermark;
"""


def seal_watermarks(apps: Any, schema_editor: Any) -> None:
    from rootbound_backend.apps.local_access.audit.seals import seal_position

    watermark = apps.get_model("local_access", "AuditWatermark")
    for mark in watermark.objects.iterator():
        mark.seal = seal_position(mark.run_id, mark.last_seq, mark.last_hash)
        mark.save(update_fields=["seal"])


class Migration(migrations.Migration):
    """Partition the audit log by month, index it, seal its watermarks, and record retention."""

    dependencies = [
        ("local_access", "0002_audit_append_only"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(GUARDS, GUARDS_BACK),
        migrations.RunSQL(ADD_PARTITION, ADD_PARTITION_BACK),
        migrations.RunSQL(PARTITION, PLAIN),
        migrations.AddIndex(
            "fsauditevent",
            models.Index(fields=["user", "timestamp", "id"], name="audit_by_user"),
        ),
        migrations.AddIndex(
            "fsauditevent",
            models.Index(
                condition=models.Q(("result__in", ["DENIED"])),
                fields=["user", "timestamp", "id"],
                name="audit_denied_by_user",
            ),
        ),
        migrations.AddIndex(
            "fsauditevent",
            models.Index(
                fields=["user", "path"],
                name="audit_by_path",
                opclasses=["uuid_ops", "varchar_pattern_ops"],
            ),
        ),
        migrations.AddIndex(
            "fsauditevent",
            models.Index(
                models.F("user"),
                django.db.models.fields.json.KeyTextTransform("program", "detail"),
                name="audit_by_program",
            ),
        ),
        migrations.AddField("auditwatermark", "first_at", models.DateTimeField(null=True)),
        migrations.AddField("auditwatermark", "last_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "auditwatermark",
            "seal",
            models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            "auditwatermark",
            "user",
            models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunSQL(SPANS, migrations.RunSQL.noop),
        migrations.RunPython(seal_watermarks, migrations.RunPython.noop),
        migrations.CreateModel(
            name="AuditRetention",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("performed_at", models.DateTimeField()),
                ("performed_by", models.CharField(max_length=255)),
                ("reason", models.CharField(max_length=255)),
                ("partition", models.CharField(max_length=128)),
                ("range_from", models.DateTimeField(null=True)),
                ("range_to", models.DateTimeField(null=True)),
                ("first_at", models.DateTimeField(null=True)),
                ("last_at", models.DateTimeField(null=True)),
                ("rows", models.PositiveBigIntegerField()),
                ("bytes", models.PositiveBigIntegerField()),
                ("forced", models.BooleanField(default=False)),
                ("seal", models.CharField(max_length=64)),
            ],
            options={"ordering": ["-id"]},
        ),
        migrations.CreateModel(
            name="AuditRetentionAnchor",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("run_id", models.UUIDField(db_index=True)),
                ("first_seq", models.PositiveBigIntegerField()),
                ("last_seq", models.PositiveBigIntegerField()),
                ("last_hash", models.CharField(max_length=64)),
                ("seal", models.CharField(max_length=64)),
                (
                    "retention",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="anchors",
                        to="local_access.auditretention",
                    ),
                ),
            ],
            options={"ordering": ["run_id", "first_seq"]},
        ),
        migrations.RunSQL(SIDE_GUARDS, SIDE_GUARDS_BACK),
    ]
