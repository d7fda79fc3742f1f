"""Housekeeping forgets what is over, and only that."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.accounts.models import RefreshToken, User
from apps.doors.models import IdempotentResponse
from apps.operations.models import TaskEffect
from apps.operations.tasks import prune

pytestmark = pytest.mark.django_db


def test_answers_of_yesterday_and_expired_tokens_are_forgotten() -> None:
    now = timezone.now()
    user = User.objects.create(username="somebody")
    for hours in (23, 25):
        IdempotentResponse.objects.create(
            user_id=user.pk, key=f"k{hours}", request_hash="h", created_at=now - timedelta(hours=hours)
        )
    for days in (-1, 1):
        RefreshToken.objects.create(
            jti=uuid4(), family=uuid4(), user=user, issued_at=now, expires_at=now + timedelta(days=days)
        )
    for days in (89, 91):
        TaskEffect.objects.create(consumer="somebody", key=f"0:{days}", at=now - timedelta(days=days))
    assert prune() == {"responses": 1, "refresh_tokens": 1, "effects": 1}
    assert [effect.key for effect in TaskEffect.objects.all()] == ["0:89"]
    assert [row.key for row in IdempotentResponse.objects.all()] == ["k23"]
    assert prune() == {"responses": 0, "refresh_tokens": 0, "effects": 0}
