"""The composite keys of the engine's tables, which the models cannot name, and the function that keeps rows for ever."""

from django.db import migrations

KEYS = """
ALTER TABLE engine_batch DROP CONSTRAINT engine_batch_pkey;
ALTER TABLE engine_batch ADD PRIMARY KEY (shard, seq);
ALTER TABLE engine_key DROP CONSTRAINT engine_key_pkey;
ALTER TABLE engine_key ADD PRIMARY KEY (account, key);
ALTER TABLE outbox DROP CONSTRAINT outbox_pkey;
ALTER TABLE outbox ADD PRIMARY KEY (shard, shard_seq);
DROP INDEX IF EXISTS engine_key_key_6d53b1f5_like;
DROP INDEX IF EXISTS parked_command_command_id_e5b2fa55_like;
"""

# A statement-level trigger costs inserts nothing: it fires only on the statements that it refuses.
APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON config_version
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON operations_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("operations", "0001_initial")]
    operations = [migrations.RunSQL(KEYS), migrations.RunSQL(APPEND_ONLY)]
