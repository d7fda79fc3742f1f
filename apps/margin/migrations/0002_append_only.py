"""What was noted about margin stays as it was noted."""

from django.db import migrations

SQL = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON margin_note
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("margin", "0001_trading_rules"), ("operations", "0002_keys_and_append_only")]
    operations = [migrations.RunSQL(SQL)]
