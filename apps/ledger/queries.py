"""Questions about money: a client's own postings, withdrawals and what became of them, and the sums that must be zero."""

from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from apps.ledger.models import Balance, Transfer
from apps.shapes import trimmed
from apps.times import micros
from trading.configuration import Config
from trading.funds import request_of
from trading.ledger import TransactionKind, client_account, withdrawal_account
from trading.views import rfc3339

POSTINGS = """
SELECT transaction_id, line, kind, account, currency, amount, order_id, deal_id, position_id, reference, at
FROM ledger_posting
WHERE account = ANY(%s) AND account >= 'client:' AND account < 'client;'
  AND (%s::bigint IS NULL OR transaction_id < %s)
ORDER BY transaction_id DESC, line DESC
LIMIT %s
"""
"""The range repeats what the equality implies: without it the planner cannot prove that the partial indexes hold the rows."""


def client_postings(
    accounts: list[int], config: Config, *, before: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Postings of these clients in whole transactions, newest first, and the transaction to go on below (None at the end).

    A page ends between transactions, so it may hold a few rows less than `limit`; a transaction has far fewer than that.
    """
    with connection.cursor() as cursor:
        cursor.execute(POSTINGS, [[client_account(a) for a in accounts], before, before, limit + 1])
        rows = cursor.fetchall()
    following = None
    if len(rows) > limit:
        cut = rows[-1][0]
        rows = [row for row in rows if row[0] != cut]
        following = cut + 1
    return [_shape(row, config) for row in rows], following


def _shape(row: tuple[Any, ...], config: Config) -> dict[str, Any]:
    transaction_id, line, kind, account, currency, amount, order_id, deal_id, position_id, reference, at = row
    return {
        "transaction_id": transaction_id,
        "line": line,
        "account": int(account.partition(":")[2]),
        "kind": kind,
        "currency": currency,
        "amount": trimmed(amount, config.currency_digits.get(currency, 2)),
        "order_ticket": order_id or None,
        "deal_id": deal_id or None,
        "position_id": position_id or None,
        "reference": reference,
        "at": rfc3339(micros(at)),
    }


def ledger_sums() -> dict[str, Decimal]:
    """The sum of all postings per currency: zero, or something is very wrong."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT currency, sum(amount) FROM ledger_posting GROUP BY currency ORDER BY currency")
        return dict(cursor.fetchall())


def balance_sums() -> dict[str, Decimal]:
    """The sum of all running balances per currency: zero as well."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT currency, sum(balance) FROM ledger_balance GROUP BY currency ORDER BY currency")
        return dict(cursor.fetchall())


def deposit_of(transaction_id: int, account: int) -> Transfer | None:
    """The transfer of a deposit to this client."""
    return Transfer.objects.filter(Q(transaction_id=transaction_id), target=client_account(account)).first()


# --- withdrawals ---------------------------------------------------------------------------------------------------------

CLIENTS_OUT = {"source__gte": "client:", "source__lt": "client;"}
"""What the equality on `source` implies, said again for the planner: the index holds only such rows."""
ENDS = {TransactionKind.WITHDRAWAL.value: "paid", TransactionKind.WITHDRAWAL_RETURNED.value: "returned"}
OPEN_ACCOUNTS_MAX = 1000


def withdrawals_of(account: int) -> QuerySet[Transfer]:
    """The requests of one client, each a transfer out of the cash."""
    return Transfer.objects.filter(
        source=client_account(account), kind=TransactionKind.WITHDRAWAL_REQUESTED.value, **CLIENTS_OUT
    )


def ends_of(account: int) -> dict[int, Transfer]:
    """How the client's settled requests ended, by the request's number."""
    held = Transfer.objects.filter(source=withdrawal_account(account), kind__in=list(ENDS))
    return {request_of(end.reference): end for end in held}


def withdrawal_shape(request: Transfer, end: Transfer | None, config: Config) -> dict[str, Any]:
    digits = config.currency_digits.get(request.currency, 2)
    return {
        "transaction_id": request.transaction_id,
        "account": int(request.source.partition(":")[2]),
        "currency": request.currency,
        "amount": trimmed(request.amount, digits),
        "status": "requested" if end is None else ENDS[end.kind],
        "reference": request.reference,
        "requested_at": rfc3339(micros(request.at)),
        "settled_at": None if end is None else rfc3339(micros(end.at)),
    }


def open_withdrawals(config: Config) -> list[dict[str, Any]]:
    """Every request that waits to be settled, oldest first; found by the balances that hold their money."""
    held = Balance.objects.filter(account__gte="withdrawal:", account__lt="withdrawal;", balance__gt=0)
    found = []
    for name in held.order_by("account").values_list("account", flat=True)[:OPEN_ACCOUNTS_MAX]:
        account = int(name.partition(":")[2])
        ended = ends_of(account)
        found += [row for row in withdrawals_of(account) if row.transaction_id not in ended]
    return [withdrawal_shape(row, None, config) for row in sorted(found, key=lambda row: row.transaction_id)]
