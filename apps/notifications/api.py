"""Notifications over REST: an owner's own, newest first, and marking one as read."""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import accounts_of, caller_of, chosen_accounts
from apps.doors.paging import PAGE_FIELDS, page_of, paged
from apps.doors.parsing import WHOLE, Fields
from apps.doors.problems import Problem
from apps.doors.schema import NOTIFICATION, NOTIFICATION_PAGE, PAGE_PARAMETERS, PROBLEMS, UNREAD_ONLY
from apps.doors.views import DoorView
from apps.notifications.models import Notification
from apps.times import micros
from trading.refusals import Refusal
from trading.views import rfc3339


class NotificationsView(DoorView):
    """What the caller was told: margin calls, stop-outs, money that came and went, orders that had waited."""

    bucket = "history"

    @extend_schema(
        operation_id="list_notifications",
        parameters=[*PAGE_PARAMETERS, UNREAD_ONLY],
        responses={200: NOTIFICATION_PAGE, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        fields = Fields(request.query_params, known=("account", "unread", *PAGE_FIELDS))
        page = page_of(fields)
        unread = fields.text("unread", default="false")
        if unread not in ("true", "false"):
            fields.error("unread", "true or false.")
        accounts = chosen_accounts(request, fields)
        fields.done()
        rows = Notification.objects.filter(account__in=accounts)
        if unread == "true":
            rows = rows.filter(read_at__isnull=True)
        return paged(request, rows, page, number="id", show=shape)


class ReadNotificationView(DoorView):
    """Mark one as read. Again does nothing more."""

    @extend_schema(operation_id="read_notification", request=None, responses={200: NOTIFICATION, **PROBLEMS})
    def post(self, request: Request, notification: str) -> Response:
        rows = Notification.objects.filter(account__in=accounts_of(caller_of(request)))
        row = rows.filter(pk=int(notification)).first() if WHOLE.fullmatch(notification) else None
        if row is None:
            raise Problem(Refusal.NOT_FOUND)
        if row.read_at is None:
            Notification.objects.filter(pk=row.pk, read_at__isnull=True).update(read_at=datetime.now(UTC))
            row.refresh_from_db()
        return Response(shape(row))


def shape(row: Notification) -> dict[str, Any]:
    return {
        "id": row.pk,
        "account": row.account,
        "kind": row.kind,
        "text": row.text,
        "at": rfc3339(micros(row.at)),
        "read_at": None if row.read_at is None else rfc3339(micros(row.read_at)),
    }
