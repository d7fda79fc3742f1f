"""The inbox's composite key, which its model cannot name, and messages that stay as they came."""

from django.db import migrations

KEYS = """
ALTER TABLE lp_inbox DROP CONSTRAINT lp_inbox_pkey;
ALTER TABLE lp_inbox ADD PRIMARY KEY (lp, seq);
"""

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON lp_inbox FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("liquidity", "0001_initial"), ("operations", "0002_keys_and_append_only")]
    operations = [migrations.RunSQL(KEYS), migrations.RunSQL(APPEND_ONLY)]
