"""A client's trading account as the engine owns it: terms, rights and cached money."""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct


class Rights(StrEnum):
    """What the account may do now."""

    FULL = "full"
    CLOSE_ONLY = "close_only"
    NO_TRADING = "no_trading"


class ClientClass(StrEnum):
    """Regulatory category; retail has the protections."""

    RETAIL = "retail"
    PROFESSIONAL = "professional"
    ELIGIBLE_COUNTERPARTY = "eligible_counterparty"


class DayTurnover(Struct, frozen=True):
    """What an account traded on one business date: tiers of fees and commissions look at it."""

    date: str
    """ISO."""
    lots: Decimal
    money: Decimal
    """Contract value in the account's currency."""
    usd: Decimal


class Account(Struct, frozen=True, kw_only=True):
    """One hedging account. `balance` equals the sum of its ledger postings; `seq` numbers what its owner is told."""

    id: int
    group: str
    currency: str
    leverage: int
    client_class: ClientClass = ClientClass.RETAIL
    rights: Rights = Rights.FULL
    balance: Decimal = Decimal(0)
    credit: Decimal = Decimal(0)
    version: int = 0
    """Rises by one with every change of balance or terms."""
    seq: int = 0
    """The last account event's number: contiguous from 1, also the outbox's and the stream's."""
    jurisdiction: str = ""
    """The regime that protects the client (`trading.regulation`); empty for none."""
    stp_only: bool = False
    """Everything goes to the market, whatever the routing policy says."""
    alarm: int = 0
    """How many of its group's margin call thresholds the account stands at or below; one more than there are
    while it is below its stop-out and nothing is left that could be closed."""
    commission_blocked: Decimal = Decimal(0)
    """Commission of the day that is not yet taken: out of equity and free margin until then."""
    day_trades: tuple[str, ...] = ()
    """Business dates (ISO) of the day trades that still count, oldest first."""
    turnover: tuple[DayTurnover, ...] = ()
    """The last days' turnover, oldest first, where a schedule has tiers by it."""
