"""Deals stay for ever as they were made."""

from django.db import migrations

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON deal FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial"), ("operations", "0002_keys_and_append_only")]
    operations = [migrations.RunSQL(APPEND_ONLY)]
