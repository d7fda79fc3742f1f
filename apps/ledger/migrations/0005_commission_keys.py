"""A deal's commission is blocked once, a day's is posted once, and both stay."""

from django.db import migrations

SQL = """
ALTER TABLE commission_block DROP CONSTRAINT commission_block_pkey;
ALTER TABLE commission_block ADD PRIMARY KEY (account, rule, key);
ALTER TABLE commission_day DROP CONSTRAINT commission_day_pkey;
ALTER TABLE commission_day ADD PRIMARY KEY (account, rule, date);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON commission_block
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON commission_day
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_trading_rules"), ("operations", "0002_keys_and_append_only")]
    operations = [migrations.RunSQL(SQL)]
