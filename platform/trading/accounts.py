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
