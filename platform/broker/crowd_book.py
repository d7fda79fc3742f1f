"""What the crowd knows of its accounts: balance, positions, waiting orders, withdrawals, from the account events it hears.

Events that are missed (a bus that was away) leave entries that are gone in truth; the refusal that acting on one brings
takes it out of the book. Nothing here sends or stores.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from msgspec import Struct

from trading.commands import (
    AnyCommand,
    CancelOrder,
    CloseBy,
    ClosePosition,
    ModifyOrder,
    ModifyProtection,
    ReversePosition,
)
from trading.numbers import ZERO
from trading.orders import OrderType, Side
from trading.refusals import Refusal

GONE = frozenset({Refusal.ORDER_NOT_FOUND, Refusal.POSITION_CLOSED})
"""Refusals that tell that what a command is about does not exist any more."""
WAITS = frozenset({"new", "partially_filled"})


class Told(Struct, frozen=True):
    """One account event as the engine publishes it."""

    account: int
    seq: int
    kind: str
    payload: msgspec.Raw


class Waiting(Struct, frozen=True, kw_only=True):
    """An order that waits for its price."""

    ticket: int
    symbol: str
    side: Side
    type: OrderType
    volume: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    status: str = "new"
    reduce_only: bool = False


class Holding(Struct, frozen=True, kw_only=True):
    """An open position."""

    id: int
    symbol: str
    side: Side
    volume: Decimal
    open_price: Decimal


class _OrderMessage(Struct, frozen=True):
    order: Waiting


class _BalanceMessage(Struct, frozen=True):
    balance: Decimal


@dataclass(slots=True)
class Book:
    """One account as far as its owner has heard."""

    seq: int = 0
    balance: Decimal = ZERO
    positions: dict[int, Holding] = field(default_factory=dict)
    orders: dict[int, Waiting] = field(default_factory=dict)
    withdrawals: list[int] = field(default_factory=list)
    """Transactions of withdrawals that were asked for and are not settled."""


class Books:
    """Every account of the crowd."""

    def __init__(self, books: dict[int, Book]) -> None:
        self.of = books

    def hear(self, events: Iterable[Told]) -> None:
        """Take in what is newer than what is known; other accounts' events are passed over."""
        for told in events:
            book = self.of.get(told.account)
            if book is None or told.seq <= book.seq:
                continue
            book.seq = told.seq
            subject = told.kind.partition(".")[0]
            if subject == "order":
                _note_order(book, msgspec.json.decode(told.payload, type=_OrderMessage).order)
            elif subject == "position":
                _note_position(book, msgspec.json.decode(told.payload, type=Holding))
            elif told.kind == "account.balance":
                book.balance = msgspec.json.decode(told.payload, type=_BalanceMessage).balance

    def answered(self, command: AnyCommand, refusal: str) -> None:
        """Believe a refusal that says that the order or position is gone."""
        if refusal not in GONE:
            return
        book = self.of[command.account]
        if isinstance(command, ModifyOrder | CancelOrder):
            book.orders.pop(command.order_id, None)
        elif isinstance(command, CloseBy):
            book.positions.pop(command.position_id, None)
            book.positions.pop(command.by_position_id, None)
        elif isinstance(command, ClosePosition | ModifyProtection | ReversePosition):
            book.positions.pop(command.position_id, None)


def _note_order(book: Book, order: Waiting) -> None:
    if order.status in WAITS and not order.reduce_only:
        book.orders[order.ticket] = order
    else:
        book.orders.pop(order.ticket, None)


def _note_position(book: Book, position: Holding) -> None:
    if position.volume:
        book.positions[position.id] = position
    else:
        book.positions.pop(position.id, None)
