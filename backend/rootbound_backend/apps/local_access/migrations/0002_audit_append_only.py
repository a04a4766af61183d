from django.db import migrations

KEY = """
ALTER TABLE local_access_fsauditevent DROP CONSTRAINT local_access_fsauditevent_pkey;
ALTER TABLE local_access_fsauditevent ADD CONSTRAINT local_access_fsauditevent_pkey
    PRIMARY KEY (id, "timestamp");
"""

KEY_BACK = """
ALTER TABLE local_access_fsauditevent DROP CONSTRAINT local_access_fsauditevent_pkey;
ALTER TABLE local_access_fsauditevent ADD CONSTRAINT local_access_fsauditevent_pkey
    PRIMARY KEY (id);
"""

APPEND_ONLY = """
CREATE FUNCTION local_access_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit log is append-only: % refused.', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_append_only
    BEFORE UPDATE OR DELETE ON local_access_fsauditevent
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
CREATE TRIGGER audit_no_truncate
    BEFORE TRUNCATE ON local_access_fsauditevent
    FOR EACH STATEMENT EXECUTE FUNCTION local_access_audit_append_only();
-- ALWAYS: not even a session that poses as a replica gets round them.
ALTER TABLE local_access_fsauditevent ENABLE ALWAYS TRIGGER audit_append_only;
ALTER TABLE local_access_fsauditevent ENABLE ALWAYS TRIGGER audit_no_truncate;
"""

APPEND_ONLY_BACK = """
DROP TRIGGER audit_no_truncate ON local_access_fsauditevent;
DROP TRIGGER audit_append_only ON local_access_fsauditevent;
DROP FUNCTION local_access_audit_append_only();
"""


class Migration(migrations.Migration):
    """Give the audit log a key that holds its time, and make it append-only."""

    dependencies = [("local_access", "0001_initial")]

    operations = [
        migrations.RunSQL(KEY, KEY_BACK),
        migrations.RunSQL(APPEND_ONLY, APPEND_ONLY_BACK),
    ]
