"""Audit entries become a chain: each carries a number without gaps and a hash of itself and of the one before.

The database links them, so that whoever stores one, by whatever way, is linked too; one transaction after the other.
"""

from django.db import migrations, models

LINK = """
ALTER TABLE operations_auditentry ADD COLUMN number bigint, ADD COLUMN hash text;
CREATE FUNCTION audit_entry_hash(entry operations_auditentry, hash_before text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(convert_to(hash_before || jsonb_build_array(
        entry.number, to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), entry.actor, entry.action,
        entry.request_id, entry.address, entry.detail)::text, 'UTF8')), 'hex')
$$;
CREATE FUNCTION link_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    number_before bigint := 0;
    hash_before text := repeat('0', 64);
    newest record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('operations_auditentry'));
    SELECT number, hash INTO newest FROM operations_auditentry WHERE number IS NOT NULL ORDER BY number DESC LIMIT 1;
    IF FOUND THEN
        number_before := newest.number;
        hash_before := newest.hash;
    END IF;
    NEW.number := number_before + 1;
    NEW.hash := audit_entry_hash(NEW, hash_before);
    RETURN NEW;
END
$$;
ALTER TABLE operations_auditentry DISABLE TRIGGER append_only;
DO $$
DECLARE
    entry operations_auditentry;
    links bigint := 0;
    newest text := repeat('0', 64);
BEGIN
    FOR entry IN SELECT * FROM operations_auditentry ORDER BY id LOOP
        links := links + 1;
        entry.number := links;
        newest := audit_entry_hash(entry, newest);
        UPDATE operations_auditentry SET number = links, hash = newest WHERE id = entry.id;
    END LOOP;
END
$$;
ALTER TABLE operations_auditentry ENABLE TRIGGER append_only;
ALTER TABLE operations_auditentry
    ALTER COLUMN number SET DEFAULT 0, ALTER COLUMN number SET NOT NULL,
    ALTER COLUMN hash SET DEFAULT '', ALTER COLUMN hash SET NOT NULL,
    ADD CONSTRAINT operations_auditentry_number UNIQUE (number);
CREATE TRIGGER link BEFORE INSERT ON operations_auditentry FOR EACH ROW EXECUTE FUNCTION link_audit_entry();
"""


class Migration(migrations.Migration):
    dependencies = [("operations", "0007_breaker")]
    operations = [
        migrations.RunSQL(
            LINK,
            state_operations=[
                migrations.AddField(
                    "auditentry", "number", models.BigIntegerField(unique=True, editable=False, db_default=0)
                ),
                migrations.AddField("auditentry", "hash", models.TextField(editable=False, db_default="")),
            ],
        )
    ]
