"""What an account's owner is told: events turned into numbered, clean messages for the outbox and the stream.

One message per happening, numbered per account without a gap. A fill's deals travel with its order.
"""

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.work import Work
from trading.accounts import Account
from trading.desk import MarginNote, MarginNoteKind
from trading.events import (
    AccountChanged,
    AccountNumbered,
    AccountOpened,
    DealMade,
    Event,
    LedgerPosted,
    MarginNoted,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderPartiallyFilled,
    OrderRejected,
    OrderTriggered,
    PositionChanged,
    PositionClosed,
    PositionOpened,
)
from trading.ledger import TransactionKind, client_account, credit_account, moved
from trading.numbers import ZERO
from trading.views import (
    BalanceView,
    DealView,
    MarginCallView,
    OrderView,
    account_view,
    deal_view,
    order_view,
    position_view,
)

_encode = msgspec.json.Encoder(decimal_format="string").encode


class AccountEvent(Struct, frozen=True):
    """One numbered message: an outbox row and, after the commit, a message to the streams."""

    account: int
    seq: int
    kind: str
    payload: bytes
    """JSON of the view, ready to store and send."""
    shard_seq: int
    at_us: int


class OrderMessage(Struct, frozen=True):
    order: OrderView
    deals: tuple[DealView, ...]


_ORDER_KINDS: dict[type[Event], str] = {
    OrderAccepted: "order.accepted",
    OrderRejected: "order.rejected",
    OrderPartiallyFilled: "order.partially_filled",
    OrderFilled: "order.filled",
    OrderCanceled: "order.canceled",
    OrderTriggered: "order.triggered",
    OrderModified: "order.modified",
    OrderExpired: "order.expired",
}
_POSITION_KINDS: dict[type[Event], str] = {
    PositionOpened: "position.opened",
    PositionChanged: "position.changed",
    PositionClosed: "position.closed",
}
_ACCOUNT_KINDS: dict[type[Event], str] = {AccountOpened: "account.opened", AccountChanged: "account.changed"}
_NOTE_KINDS = {
    MarginNoteKind.MARGIN_CALL: "margin.call",
    MarginNoteKind.MARGIN_RESTORED: "margin.restored",
}
"""Of the other notes the orders, positions and postings themselves tell."""


_TOLD = frozenset({*_ORDER_KINDS, *_POSITION_KINDS, *_ACCOUNT_KINDS, DealMade, LedgerPosted, MarginNoted})
"""The events that mean something to an account's owner."""


def announce(work: Work) -> list[AccountEvent]:
    """Number what the command's events mean to their accounts' owners, and leave the numbers on the accounts."""
    told: list[AccountEvent] = []
    deals: list[DealView] = []
    seqs: dict[int, int] = {}
    for event in work.events:
        if type(event) not in _TOLD:
            continue
        if isinstance(event, DealMade):
            if event.deal.order_id:  # a reopening's deals belong to no order
                deals.append(deal_view(event.deal))
            continue
        account, kind, view = _message(work, event, deals)
        if not kind:
            continue
        if kind.startswith("order."):
            deals = []
        seq = seqs.get(account)
        seqs[account] = seq = (work.state.accounts[account].seq if seq is None else seq) + 1
        work.state.outbox_seq += 1
        told.append(AccountEvent(account, seq, kind, _encode(view), work.state.outbox_seq, work.now_us))
    for account, seq in seqs.items():
        work.emit(AccountNumbered(replace(work.state.accounts[account], seq=seq)))
    return told


def _message(work: Work, event: Any, deals: list[DealView]) -> tuple[int, str, object]:
    kind = type(event)
    if kind in _ORDER_KINDS:
        order = event.order
        return (
            order.account,
            _ORDER_KINDS[kind],
            OrderMessage(order_view(order, _digits(work, order.symbol)), tuple(deals)),
        )
    if kind in _POSITION_KINDS:
        position = event.position
        return position.account, _POSITION_KINDS[kind], position_view(position, _digits(work, position.symbol))
    if kind in _ACCOUNT_KINDS:
        return event.account.id, _ACCOUNT_KINDS[kind], account_view(event.account)
    if kind is LedgerPosted and event.account is not None:
        return event.account.id, "account.balance", _balance_view(event, event.account)
    if kind is MarginNoted and event.note.kind in _NOTE_KINDS:
        return event.note.account, _NOTE_KINDS[event.note.kind], _margin_call_view(work, event.note)
    return 0, "", None


def _digits(work: Work, symbol: str) -> int:
    instrument = work.config.instruments.get(symbol)
    return instrument.digits if instrument else 5


def _margin_call_view(work: Work, note: MarginNote) -> MarginCallView:
    return MarginCallView(
        account=note.account,
        currency=work.account(note.account).currency,
        rule=note.rule,
        equity=note.equity,
        margin=note.margin,
        level=note.level,
    )


def _balance_view(event: LedgerPosted, account: Account) -> BalanceView:
    first = event.transfers[0]
    own = credit_account(account.id) if first.kind in _OF_CREDIT else client_account(account.id)
    amount = sum((moved(transfer, own) for transfer in event.transfers), ZERO)
    return BalanceView(
        account=account.id,
        balance=account.balance,
        credit=account.credit,
        currency=account.currency,
        version=account.version,
        kind=first.kind.value,
        amount=amount,
        transaction_id=first.transaction_id,
    )


_OF_CREDIT = frozenset({TransactionKind.CREDIT, TransactionKind.CREDIT_REMOVED})
