"""Cursor pages over rows that are numbered by a bigint, newest first: `{data, next_cursor}` and a Link header."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from apps.doors.parsing import WHOLE, Fields
from apps.doors.problems import Problem
from trading.refusals import Refusal

LIMIT_DEFAULT = 100
LIMIT_MAX = 500
Row = TypeVar("Row", bound=Model)


class Page(NamedTuple):
    """Which rows are wanted."""

    limit: int
    before: int | None
    """Only rows numbered below this one."""


PAGE_FIELDS = ("limit", "cursor")


def page_of(fields: Fields) -> Page:
    """The page that `limit` and `cursor` of a query string ask for."""
    limit = fields.whole("limit", default=LIMIT_DEFAULT)
    if not 1 <= limit <= LIMIT_MAX:
        fields.error("limit", f"Between 1 and {LIMIT_MAX}.")
    cursor = fields.raw("cursor")
    return Page(limit, None if cursor is None else _decode(str(cursor)))


def paged(request: Request, rows: QuerySet[Row], page: Page, *, number: str, show: Callable[[Row], Any]) -> Response:
    """One page of `rows`, ordered by the column `number` downwards."""
    if page.before is not None:
        rows = rows.filter(**{f"{number}__lt": page.before})
    found = list(rows.order_by(f"-{number}")[: page.limit + 1])
    shown = found[: page.limit]
    following = encode_cursor(getattr(shown[-1], number)) if len(found) > page.limit else None
    return page_response(request, [show(row) for row in shown], following)


def page_response(request: Request, data: Sequence[Any], following: str | None) -> Response:
    response = Response({"data": data, "next_cursor": following})
    if following is not None:
        query = request.GET.copy()
        query["cursor"] = following
        response["Link"] = f'<{request.path}?{query.urlencode()}>; rel="next"'
    return response


def encode_cursor(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


def _decode(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        number = text.decode("ascii")
    except (ValueError, binascii.Error):
        number = ""
    if not WHOLE.fullmatch(number):
        raise Problem(Refusal.INVALID_REQUEST, "The cursor is not one of ours.")
    return int(number)
