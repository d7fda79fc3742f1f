"""Double entry: every movement of money is a transaction of transfers, and a transfer is balanced by construction.

A transfer takes `amount` (positive) out of one ledger account and puts it into another, in one currency: so the sum of all
postings is zero per transaction and currency whatever a writer does, and the database enforces it by the row's own shape.
Signs are from the view of whoever stands behind the account: a client's plus is the house's debt to that client, a minus at
the bank or at a provider is the house's money there. So clients, providers and house add up to zero, profit and loss too.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct


class TransactionKind(StrEnum):
    DEPOSIT = "deposit"
    REALISED_PNL = "realised_pnl"
    COMMISSION = "commission"
    LP_PNL = "lp_pnl"


class Transfer(Struct, frozen=True, kw_only=True):
    """One balanced movement: `amount` > 0 of `currency` from `source` to `target`."""

    transaction_id: int
    line: int
    kind: TransactionKind
    source: str
    target: str
    currency: str
    amount: Decimal
    at_us: int
    order_id: int = 0
    deal_id: int = 0
    position_id: int = 0
    reference: str = ""


def client_account(account: int) -> str:
    """The client's cash."""
    return f"client:{account}"


def house_pnl(book: str) -> str:
    """The house's trading result of one book (A or B): the other side of clients' and providers' profit."""
    return f"house:pnl:{book}"


def lp_account(lp: str) -> str:
    """A provider, as our counterparty: plus is what it has won from us, minus what we have won from it."""
    return f"lp:{lp}"


HOUSE_COMMISSION = "house:commission"
BANK = "bank"
"""The outside world, where clients' money comes from: minus what it has paid in."""
