"""Double entry: every movement of money is a transaction of transfers, and a transfer is balanced by construction.

A transfer takes `amount` (positive) out of one ledger account and puts it into another, in one currency: so the sum of all
postings is zero per transaction and currency whatever a writer does, and the database enforces it by the row's own shape.
Signs are from the view of whoever stands behind the account: a client's plus is the house's debt to that client, a minus at
the bank or at a provider is the house's money there. So clients, providers and house add up to zero, profit and loss too.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import ZERO


class TransactionKind(StrEnum):
    DEPOSIT = "deposit"
    REALISED_PNL = "realised_pnl"
    COMMISSION = "commission"
    LP_PNL = "lp_pnl"
    WITHDRAWAL_REQUESTED = "withdrawal_requested"
    """Out of the client's cash, not yet out of the house."""
    WITHDRAWAL = "withdrawal"
    WITHDRAWAL_RETURNED = "withdrawal_returned"
    ADJUSTMENT = "adjustment"
    CREDIT = "credit"
    """Given; it carries positions and never leaves the house."""
    CREDIT_REMOVED = "credit_removed"
    BONUS = "bonus"
    SWAP = "swap"
    FEE = "fee"
    """Maker and taker fees."""
    GUARANTEE_FEE = "guarantee_fee"
    CONVERSION_FEE = "conversion_fee"
    DIVIDEND = "dividend"
    NEGATIVE_BALANCE = "negative_balance"
    """The house pays what a client would owe."""
    CORRECTION = "correction"
    """Reverses or re-prices a deal: two people decide."""
    ERROR_PNL = "error_pnl"
    """What the house's error account won or lost at a provider."""
    PRICE_SHIFT = "price_shift"
    """What a spread limit or a guarantee put between the provider's price and the client's."""


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


def moving(
    *,
    transaction_id: int,
    kind: TransactionKind,
    source: str,
    target: str,
    currency: str,
    amount: Decimal,
    at_us: int,
    line: int = 1,
    order_id: int = 0,
    deal_id: int = 0,
    position_id: int = 0,
    reference: str = "",
) -> Transfer:
    """The transfer of `amount` from `source` to `target`; below zero it goes the other way. Zero is no transfer."""
    if amount < 0:
        source, target, amount = target, source, -amount
    return Transfer(
        transaction_id=transaction_id,
        line=line,
        kind=kind,
        source=source,
        target=target,
        currency=currency,
        amount=amount,
        at_us=at_us,
        order_id=order_id,
        deal_id=deal_id,
        position_id=position_id,
        reference=reference,
    )


def moved(transfer: Transfer, account: str) -> Decimal:
    """What a transfer did to this ledger account: nothing, when it went between two others."""
    if transfer.target == account:
        return transfer.amount
    return -transfer.amount if transfer.source == account else ZERO


def client_account(account: int) -> str:
    """The client's cash."""
    return f"client:{account}"


def house_pnl(book: str) -> str:
    """The house's trading result of one book (A or B): the other side of clients' and providers' profit."""
    return f"house:pnl:{book}"


def lp_account(lp: str) -> str:
    """A provider, as our counterparty: plus is what it has won from us, minus what we have won from it."""
    return f"lp:{lp}"


def credit_account(account: int) -> str:
    """The client's credit: the house's money in the client's equity."""
    return f"credit:{account}"


def withdrawal_account(account: int) -> str:
    """What the client has asked for and not yet got."""
    return f"withdrawal:{account}"


HOUSE_COMMISSION = "house:commission"
HOUSE_SWAP = "house:swap"
HOUSE_FEES = "house:fees"
HOUSE_BONUS = "house:bonus"
"""The other side of credit and bonus: minus what has been given away."""
HOUSE_ADJUSTMENTS = "house:adjustments"
HOUSE_NEGATIVE_BALANCE = "house:negative_balance"
HOUSE_DIVIDENDS = "house:dividends"
HOUSE_ERROR = "house:error"
"""Late, excess and corrected fills: what went wrong is the house's."""
BANK = "bank"
"""The outside world, where clients' money comes from: minus what it has paid in."""
