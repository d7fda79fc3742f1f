"""What an account's owner is told in words. Written by the notifier, once per event; only `read_at` changes."""

from django.db import models

from apps.notifications.telling import Kind
from apps.tables import one_of


class Notification(models.Model):
    """One sentence. `event` is the outbox row that it tells of."""

    event = models.TextField(unique=True)
    account = models.BigIntegerField()
    kind = models.TextField()
    text = models.TextField()
    payload = models.JSONField()
    at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "notification"
        constraints = [one_of("notification", "kind", [kind.value for kind in Kind])]
        indexes = [models.Index(fields=["account", "id"], name="notification_account")]

    def __str__(self) -> str:
        return f"{self.account} {self.kind}"
