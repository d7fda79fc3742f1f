"""A position's night is charged once, and stays as it was charged."""

from django.db import migrations

SQL = """
ALTER TABLE swap_accrual DROP CONSTRAINT swap_accrual_pkey;
ALTER TABLE swap_accrual ADD PRIMARY KEY (position_id, date, period);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON swap_accrual
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("positions", "0003_trading_rules"), ("operations", "0002_keys_and_append_only")]
    operations = [migrations.RunSQL(SQL)]
