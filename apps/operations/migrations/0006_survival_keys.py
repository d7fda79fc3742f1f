"""The composite key of the effects that consumers have had, which the model cannot name."""

from django.db import migrations

KEYS = """
ALTER TABLE task_effect DROP CONSTRAINT task_effect_pkey;
ALTER TABLE task_effect ADD PRIMARY KEY (consumer, key);
DROP INDEX IF EXISTS task_effect_key_like;
"""


class Migration(migrations.Migration):
    dependencies = [("operations", "0005_survival")]
    operations = [migrations.RunSQL(KEYS)]
