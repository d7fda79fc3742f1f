"""Questions about orders, always within the accounts of the caller."""

from uuid import UUID

from django.db.models import QuerySet

from apps.doors.parsing import CLIENT_ORDER_ID, WHOLE
from apps.orders.models import Order
from apps.orders.rows import order_value
from trading import orders
from trading.orders import TERMINAL

CLOSED = [status.value for status in TERMINAL]
BIGINT_MAX = 2**63 - 1


def orders_of(accounts: list[int]) -> QuerySet[Order]:
    return Order.objects.filter(account__in=accounts)


def order_by_key(account: int, key: str) -> orders.Order | None:
    """The order that was placed under this client_order_id."""
    row = Order.objects.filter(account=account, client_order_id=key).first()
    return order_value(row) if row else None


def order_by_ticket(account: int, ticket: int) -> orders.Order | None:
    row = Order.objects.filter(account=account, id=ticket).first()
    return order_value(row) if row else None


def order_by_reference(accounts: list[int], reference: str) -> orders.Order | None:
    """The order that a UUID, a ticket or `client:ID` names; None when it names none of these accounts'."""
    row = _lookup(orders_of(accounts), reference)
    return order_value(row) if row else None


def _lookup(mine: QuerySet[Order], reference: str) -> Order | None:
    if WHOLE.fullmatch(reference):
        return mine.filter(id=int(reference)).first()
    kind, _, key = reference.partition(":")
    if kind == "client" and CLIENT_ORDER_ID.fullmatch(key):
        return mine.filter(client_order_id=key).order_by("-id").first()
    try:
        return mine.filter(uuid=UUID(reference)).first()
    except ValueError:
        return None
