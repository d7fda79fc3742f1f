"""The composite keys, the view of single postings, and rows that stay for ever."""

from django.db import migrations

KEYS = """
ALTER TABLE ledger_transfer DROP CONSTRAINT ledger_transfer_pkey;
ALTER TABLE ledger_transfer ADD PRIMARY KEY (transaction_id, line);
ALTER TABLE ledger_balance DROP CONSTRAINT ledger_balance_pkey;
ALTER TABLE ledger_balance ADD PRIMARY KEY (account, currency);
DROP INDEX IF EXISTS ledger_balance_account_387d6449_like;
"""

VIEW = """
CREATE VIEW ledger_posting AS
SELECT transaction_id, line, kind, source AS account, currency, -amount AS amount,
       order_id, deal_id, position_id, reference, at
FROM ledger_transfer
UNION ALL
SELECT transaction_id, line, kind, target AS account, currency, amount,
       order_id, deal_id, position_id, reference, at
FROM ledger_transfer;
"""

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial"), ("operations", "0002_keys_and_append_only")]
    operations = [migrations.RunSQL(KEYS), migrations.RunSQL(VIEW), migrations.RunSQL(APPEND_ONLY)]
