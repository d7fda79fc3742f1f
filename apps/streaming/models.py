"""No table: only the right to be streamed to without a throttle."""

from django.db import models


class StreamRight(models.Model):
    """Carries the permission `streaming.unthrottled`, which is given to users and groups in the admin."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [("unthrottled", "Quotes without a throttle")]

    def __str__(self) -> str:
        return "stream"
