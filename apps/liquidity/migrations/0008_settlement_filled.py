"""A settlement knows what was booked when it was proposed. One that waits from before is refused unless that is nothing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("liquidity", "0007_misbehaviour")]
    operations = [
        migrations.AddField(
            "legsettlement",
            "filled_volume",
            models.DecimalField(
                max_digits=28, decimal_places=8, default=0, help_text="Lots that were booked when it was proposed."
            ),
        )
    ]
