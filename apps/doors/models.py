"""Answers kept for repeated requests."""

from django.db import models


class IdempotentResponse(models.Model):
    """The bytes that were answered under an Idempotency-Key, for 24 hours; `status` 0 while the request is being worked on."""

    user_id = models.BigIntegerField()
    key = models.CharField(max_length=64)
    request_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    content_type = models.CharField(max_length=100, blank=True)
    location = models.CharField(max_length=200, blank=True)
    body = models.BinaryField(default=b"")
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user_id", "key"], name="idempotent_response_key")]

    def __str__(self) -> str:
        return f"{self.user_id}/{self.key}"
