"""All that one shard knows, in memory: rebuilt from PostgreSQL at start, changed only by applying events.

Live things only: orders and legs that reached a terminal state and positions that are closed leave the dictionaries; their
last value stays in the events and the tables. Running sums (`holdings`, `margins`) are derived: `rebuild` makes them anew.
"""

import hashlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from engine.books import Books
from engine.nets import Nets
from engine.tidy import Tidy
from engine.watch import Watches
from trading.accounts import Account, DayTurnover
from trading.breaker import Breaker
from trading.configuration import Config
from trading.controls import KillSwitches, RecentOrders, Throttle
from trading.desk import CommissionBlock, CommissionDay, Desk, ErrorHolding
from trading.effective import EffectiveTerms
from trading.events import (
    AccountChanged,
    AccountNumbered,
    AccountOpened,
    CaseOpened,
    ChildOrderRouted,
    ChildOrderUpdated,
    CommandKeyed,
    CommissionBlocked,
    CommissionSettled,
    ConfigLoaded,
    DealMade,
    DeskChanged,
    ErrorBooked,
    Event,
    ExecutionKept,
    LedgerPosted,
    MarginNoted,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderPartiallyFilled,
    OrderRejected,
    OrderRouted,
    OrderTriggered,
    OrderUpdated,
    PositionChanged,
    PositionClosed,
    PositionOpened,
    SwapAccrued,
)
from trading.funds import request_of
from trading.ledger import TransactionKind, Transfer
from trading.liquidity import Execution, LpOrder
from trading.margin import Holding, holdings_of
from trading.margining.account import AccountMargin
from trading.margining.exposures import order_exposure, position_exposure
from trading.margining.modes import Exposure
from trading.numbers import ZERO
from trading.orders import TRANSITIONS, Deal, Order, OrderCommission
from trading.positions import Position
from trading.protection import UNPROTECTED, Protection, ProtectionTerms
from trading.quotes import Quote

RECENT_KEYS_MAX = 100_000
"""Idempotency keys kept in memory; older ones are looked up in PostgreSQL by the loop before deciding."""


RECENT_EXECUTIONS_MAX = 20_000
"""Executions kept in memory, by their own names and by those they refer to: many more than two batches can bring, which is
what PostgreSQL may not show yet."""


class Counters(Struct):
    """The next id of each kind: 63-bit integers, never reused."""

    order: int = 1
    deal: int = 1
    position: int = 1
    transaction: int = 1
    leg: int = 1
    case: int = 1
    note: int = 1
    error: int = 1


class KeyRecord(Struct, frozen=True):
    """What an idempotency key was used for."""

    body_hash: str
    kind: str
    reference: int
    refusal: str


class Prior(Struct, frozen=True):
    """Facts from PostgreSQL about things that are no longer in memory, fetched before deciding."""

    key: KeyRecord | None = None
    leg: LpOrder | None = None
    deals: tuple[Deal, ...] = ()
    """All deals of the position whose deal is to be corrected, oldest first."""
    position: Position | None = None
    """That position, when it is closed."""
    executions: tuple[Execution, ...] = ()
    """Of a report's provider: those under its ExecID, those that it refers to, and those that refer to either."""


class Portfolio:
    """One account's live positions and orders, by number, in the order they came."""

    __slots__ = ("orders", "positions")

    def __init__(self) -> None:
        self.positions: dict[int, None] = {}
        self.orders: dict[int, None] = {}

    @property
    def is_empty(self) -> bool:
        return not self.positions and not self.orders


class Waiter(Struct, frozen=True):
    """Somebody who was told `working` and is owed the final answer."""

    reply_to: str
    command_id: str


class State:
    """One shard. Not thread-safe: it has one writer."""

    __slots__ = (
        "accounts", "balances", "blocks", "books", "closing", "config", "counters", "desk", "executions", "holdings",
        "inbox_cursors", "keys",
        "legs", "margins", "negative", "nets", "oco", "orders", "outbox_seq", "portfolios", "positions", "quotes", "recent",
        "shard", "terms", "throttles", "turnovers", "waiters", "watches", "withdrawals",
    )  # fmt: skip

    def __init__(self, shard: int = 0, config: Config | None = None) -> None:
        self.shard = shard
        self.config = config
        self.terms = EffectiveTerms(config)
        self.counters = Counters()
        self.accounts: dict[int, Account] = {}
        self.orders: dict[int, Order] = {}
        self.positions: dict[int, Position] = {}
        self.legs: dict[str, LpOrder] = {}
        self.balances: dict[tuple[str, str], Decimal] = {}
        self.inbox_cursors: dict[str, int] = {}
        self.outbox_seq = 0
        self.desk = Desk()
        self.blocks: dict[tuple[int, str], dict[str, CommissionBlock]] = {}
        """Daily commission not yet posted, per account and rule, by key."""
        self.turnovers: dict[tuple[int, str], CommissionDay] = {}
        """The last settled day, per account and rule."""
        self.withdrawals: dict[int, Transfer] = {}
        """Withdrawals that were asked for and not yet settled, by transaction."""
        # Below: derived, volatile or bounded; outside the state hash.
        self.holdings: dict[int, dict[str, Holding]] = {}
        self.margins: dict[int, AccountMargin] = {}
        self.portfolios: dict[int, Portfolio] = {}
        self.closing: dict[int, set[int]] = {}
        """Per account, the positions with a close in flight."""
        self.negative: set[int] = set()
        """Accounts whose balance is below zero."""
        self.books = Books()
        self.nets = Nets()
        self.nets.renew(self)
        self.oco: dict[tuple[int, str], set[int]] = {}
        """Live orders that cancel each other, per account and name."""
        self.watches = Watches()
        self.quotes: dict[str, Quote] = {}
        self.keys: dict[tuple[int, str], KeyRecord] = {}
        self.executions: dict[tuple[str, str], tuple[Execution, ...]] = {}
        """Recent ones, per provider and ExecID: their own, and that they refer to."""
        self.waiters: dict[int, Waiter] = {}
        self.throttles: dict[int, Throttle] = {}
        self.recent: dict[int, RecentOrders] = {}

    def use_config(self, config: Config) -> None:
        """Decide by this document from now on; everything derived from the former one is made anew."""
        self.config = config
        self.terms = EffectiveTerms(config)
        self.books.renew(self)
        for account in list(self.margins):
            self.renew_margin(account)
        self.nets.renew(self)
        self.watches.renew(self)

    def margin_used(self, account: int) -> Decimal:
        """Margin of open positions and of waiting and working orders together, in the account's currency."""
        margin = self.margins.get(account)
        return margin.margin if margin is not None else ZERO

    def margin_of(self, account: int) -> AccountMargin:
        """The account's running margin, made empty where there is none yet."""
        margin = self.margins.get(account)
        if margin is None:
            margin = self.margins[account] = self._new_margin(account)
        return margin

    def renew_margin(self, account: int) -> None:
        """The account's margin from its positions and orders, by the rules of its group as they are now."""
        self.margins.pop(account, None)
        portfolio = self.portfolios.get(account)
        if portfolio is None or portfolio.is_empty or self.config is None:
            return
        margin = self.margins[account] = self._new_margin(account)
        for exposure in self.exposures(account):
            margin.add(exposure)

    def exposures(self, account: int) -> Iterator[Exposure]:
        """Every part of the account's margin, positions first."""
        portfolio = self.portfolios.get(account)
        if portfolio is None:
            return
        yield from (position_exposure(self.positions[number]) for number in portfolio.positions)
        for number in portfolio.orders:
            exposure = order_exposure(self.orders[number])
            if exposure is not None:
                yield exposure

    def _new_margin(self, number: int) -> AccountMargin:
        assert self.config is not None, "nothing is charged without a configuration"
        account = self.accounts[number]
        return AccountMargin(
            rules=self.terms.rules(account.group),
            policy=self.config.groups[account.group].margin,
            digits=self.config.currency_digits[account.currency],
        )


def rebuild(
    *,
    shard: int,
    config: Config | None,
    counters: Counters,
    accounts: Iterable[Account],
    orders: Iterable[Order],
    positions: Iterable[Position],
    legs: Iterable[LpOrder],
    balances: dict[tuple[str, str], Decimal],
    inbox_cursors: dict[str, int],
    outbox_seq: int,
    desk: Desk | None = None,
    blocks: Iterable[CommissionBlock] = (),
    days: Iterable[CommissionDay] = (),
    withdrawals: Iterable[Transfer] = (),
) -> State:
    """The state that PostgreSQL's rows describe, with every running sum made anew."""
    state = State(shard, config)
    state.counters = counters
    tidy = Tidy(config)
    state.accounts = {account.id: tidy.account(account) for account in accounts}
    state.orders = {order.id: tidy.order(order) for order in orders}
    state.positions = {position.id: tidy.position(position) for position in positions}
    state.legs = {leg.cl_ord_id: tidy.leg(leg) for leg in legs}
    state.balances = {key: tidy.money(key[1], amount) for key, amount in balances.items()}
    state.inbox_cursors = dict(inbox_cursors)
    state.outbox_seq = outbox_seq
    state.desk = desk or Desk()
    for block in blocks:
        state.blocks.setdefault((block.account, block.rule), {})[block.key] = block
    state.turnovers = {(day.account, day.rule): day for day in days}
    state.withdrawals = {one.transaction_id: tidy.transfer(one) for one in withdrawals}
    state.holdings = holdings_of(state.positions.values())
    for position in state.positions.values():
        _portfolio(state, position.account).positions[position.id] = None
        if position.locked:
            _note_closing(state, position)
    for order in state.orders.values():
        _portfolio(state, order.account).orders[order.id] = None
        if order.oco_group:
            _set_oco(state, order)
    for account_number in state.portfolios:
        state.renew_margin(account_number)
    state.negative = {account.id for account in state.accounts.values() if account.balance < 0}
    state.books.renew(state)
    state.nets.renew(state)
    state.watches.renew(state)
    return state


def _set_account(state: State, event: Any) -> None:
    account: Account = event.account
    before = state.accounts.get(account.id)
    state.accounts[account.id] = account
    state.watches.touch(account.id)
    if account.balance < 0 or state.negative:
        _note_sign(state, account)
    if before is not None and before.group != account.group:
        state.renew_margin(account.id)


def _number_account(state: State, event: Any) -> None:
    state.accounts[event.account.id] = event.account


def _note_sign(state: State, account: Account) -> None:
    if account.balance < 0:
        state.negative.add(account.id)
    else:
        state.negative.discard(account.id)


def _set_order(state: State, event: Any) -> None:
    order: Order = event.order
    before = state.orders.get(order.id)
    status_before = before.status if before else None
    assert order.status in TRANSITIONS[status_before] or order.status is status_before, (order, status_before)
    if before is not None or not order.is_terminal:
        _change_live_order(state, before, order)
    state.books.set_order(state, order)
    if order.oco_group:
        _set_oco(state, order)
    if state.nets.groups:
        state.nets.set_order(state, order)
    if order.id >= state.counters.order:
        state.counters.order = order.id + 1


def _set_oco(state: State, order: Order) -> None:
    place = order.account, order.oco_group
    if not order.is_terminal:
        state.oco.setdefault(place, set()).add(order.id)
        return
    left = state.oco.get(place, set()) - {order.id}
    if left:
        state.oco[place] = left
    else:
        state.oco.pop(place, None)


def _change_live_order(state: State, before: Order | None, order: Order) -> None:
    """The order among the live ones and in its account's margin, as it is now."""
    portfolio = _portfolio(state, order.account)
    if order.is_terminal:
        state.orders.pop(order.id, None)
        portfolio.orders.pop(order.id, None)
    else:
        state.orders[order.id] = order
        portfolio.orders[order.id] = None
    removed = None if before is None else order_exposure(before)
    added = order_exposure(order)
    if removed != added:
        _move_margin(state, order.account, removed, added)


def _move_margin(state: State, account: int, removed: Exposure | None, added: Exposure | None) -> None:
    state.watches.touch(account)
    margin = state.margins.get(account)
    if margin is None:
        margin = state.margin_of(account)
    if removed is None:
        assert added is not None
        margin.add(added)
    elif added is None:
        margin.remove(removed)
    else:
        margin.replace(removed, added)


def _portfolio(state: State, account: int) -> Portfolio:
    portfolio = state.portfolios.get(account)
    if portfolio is None:
        portfolio = state.portfolios[account] = Portfolio()
    return portfolio


def _count_deal(state: State, event: Any) -> None:
    state.counters.deal = event.deal.id + 1


def _set_position(state: State, event: Any) -> None:
    position: Position = event.position
    held = state.holdings.setdefault(position.account, {})
    holding = held.get(position.symbol)
    if holding is None:
        holding = held[position.symbol] = Holding()
    side = holding.side(position.side)
    before = state.positions.get(position.id)
    if before is not None:
        side.remove(before)
    if position.volume:
        side.add(position)
        state.positions[position.id] = position
        if before is None:
            _portfolio(state, position.account).positions[position.id] = None
    else:
        state.positions.pop(position.id, None)
        state.portfolios[position.account].positions.pop(position.id, None)
        if holding.is_empty:
            del held[position.symbol]
    if before is None or (before.volume, before.margin, before.hedged) != (
        position.volume,
        position.margin,
        position.hedged,
    ):
        removed = None if before is None else position_exposure(before)
        _move_margin(state, position.account, removed, position_exposure(position) if position.volume else None)
    if position.locked or (before is not None and before.locked):
        _note_closing(state, position)
    state.watches.touch(position.account)
    if _protection_moved(before, position):
        state.books.set_position(state, position)
    if state.nets.groups:
        state.nets.set_position(state, position)
    if position.id >= state.counters.position:
        state.counters.position = position.id + 1


def _note_closing(state: State, position: Position) -> None:
    closing = state.closing.setdefault(position.account, set())
    if position.locked and position.volume:
        closing.add(position.id)
    else:
        closing.discard(position.id)
    if not closing:
        del state.closing[position.account]


def _protection_moved(before: Position | None, position: Position) -> bool:
    """What waits for a price on the position's behalf is another now: it was changed, grew, or closed."""
    if position.protection is UNPROTECTED and (before is None or before.protection is UNPROTECTED):
        return False
    if before is None or not position.volume:
        return True
    return position.volume_opened != before.volume_opened or position.protection != before.protection


def _post(state: State, event: Any) -> None:
    for transfer in event.transfers:
        source, target = (transfer.source, transfer.currency), (transfer.target, transfer.currency)
        state.balances[source] = state.balances.get(source, ZERO) - transfer.amount
        state.balances[target] = state.balances.get(target, ZERO) + transfer.amount
        state.counters.transaction = transfer.transaction_id + 1
    if event.account is not None:
        _set_account(state, event)
    first = event.transfers[0]
    if first.kind in _WITHDRAWALS:
        _track_withdrawal(state, first)


_WITHDRAWALS = frozenset(
    {TransactionKind.WITHDRAWAL_REQUESTED, TransactionKind.WITHDRAWAL, TransactionKind.WITHDRAWAL_RETURNED}
)


def _track_withdrawal(state: State, transfer: Transfer) -> None:
    """Open from its request to the transfer that names it."""
    if transfer.kind is TransactionKind.WITHDRAWAL_REQUESTED:
        state.withdrawals[transfer.transaction_id] = transfer
    else:
        state.withdrawals.pop(request_of(transfer.reference), None)


def _set_leg(state: State, event: Any) -> None:
    leg: LpOrder = event.leg
    if leg.status.is_terminal:
        state.legs.pop(leg.cl_ord_id, None)
    else:
        state.legs[leg.cl_ord_id] = leg
    if leg.id >= state.counters.leg:
        state.counters.leg = leg.id + 1


def _count_case(state: State, event: Any) -> None:
    state.counters.case = event.case.id + 1


def _keep_execution(state: State, event: Any) -> None:
    execution: Execution = event.execution
    for name in {execution.exec_id, execution.ref} - {""}:
        place = execution.lp, name
        state.executions[place] = (*state.executions.get(place, ()), execution)
        if len(state.executions) > RECENT_EXECUTIONS_MAX:
            del state.executions[next(iter(state.executions))]


def _count_error(state: State, event: Any) -> None:
    state.counters.error = event.fill.id + 1


def _set_desk(state: State, event: Any) -> None:
    state.desk = event.desk


def _count_note(state: State, event: Any) -> None:
    state.counters.note = event.note.id + 1


def _block(state: State, event: Any) -> None:
    block: CommissionBlock = event.block
    state.blocks.setdefault((block.account, block.rule), {})[block.key] = block


def _settle(state: State, event: Any) -> None:
    """Only blocks of later dates stay."""
    day: CommissionDay = event.day
    place = day.account, day.rule
    state.turnovers[place] = day
    left = {key: block for key, block in state.blocks.pop(place, {}).items() if block.date > day.date}
    if left:
        state.blocks[place] = left


def _remember_key(state: State, event: Any) -> None:
    keys = state.keys
    keys[event.account, event.key] = KeyRecord(event.body_hash, event.kind, event.reference, event.refusal)
    if len(keys) > RECENT_KEYS_MAX:
        del keys[next(iter(keys))]


def _nothing(state: State, event: Any) -> None:
    """A record only: no state follows from it."""


APPLY: dict[type[Event], Any] = {
    AccountOpened: _set_account,
    AccountChanged: _set_account,
    AccountNumbered: _number_account,
    OrderAccepted: _set_order,
    OrderRejected: _set_order,
    OrderUpdated: _set_order,
    OrderPartiallyFilled: _set_order,
    OrderFilled: _set_order,
    OrderCanceled: _set_order,
    OrderTriggered: _set_order,
    OrderModified: _set_order,
    OrderExpired: _set_order,
    OrderRouted: _nothing,
    DealMade: _count_deal,
    PositionOpened: _set_position,
    PositionChanged: _set_position,
    PositionClosed: _set_position,
    LedgerPosted: _post,
    ChildOrderRouted: _set_leg,
    ChildOrderUpdated: _set_leg,
    CaseOpened: _count_case,
    ExecutionKept: _keep_execution,
    ErrorBooked: _count_error,
    DeskChanged: _set_desk,
    MarginNoted: _count_note,
    SwapAccrued: _nothing,
    CommissionBlocked: _block,
    CommissionSettled: _settle,
    ConfigLoaded: _nothing,
    CommandKeyed: _remember_key,
}
"""How each event is made true. Plain assignments: an event that got here cannot fail."""


def state_hash(state: State) -> str:
    """`layout:hex`: SHA-256 over everything authoritative, in id order. Equal values hash equally however their decimals are
    written."""
    digest = hashlib.sha256()
    for entities in (state.accounts, state.orders, state.positions):
        for key in sorted(entities):
            _feed(digest, entities[key])
    for cl_ord_id in sorted(state.legs):
        _feed(digest, state.legs[cl_ord_id])
    for account in sorted(state.balances):
        if state.balances[account]:
            digest.update(repr((account, _canonical(state.balances[account]))).encode())
    for blocked in sorted(state.blocks):
        for block_key in sorted(state.blocks[blocked]):
            _feed(digest, state.blocks[blocked][block_key])
    for settled in sorted(state.turnovers):
        _feed(digest, state.turnovers[settled])
    for request in sorted(state.withdrawals):
        _feed(digest, state.withdrawals[request])
    _feed(digest, state.desk)
    digest.update(repr(sorted(state.inbox_cursors.items())).encode())
    version = state.config.version if state.config else 0
    digest.update(repr((msgspec.structs.astuple(state.counters), state.outbox_seq, version)).encode())
    return f"{LAYOUT}:{digest.hexdigest()}"


def is_same_state(stored: str, live: str) -> bool | None:
    """Whether two state hashes name the same state; None when they were made by versions that keep other fields."""
    return stored == live if stored.partition(":")[0] == live.partition(":")[0] else None


def _layout() -> str:
    """Which fields are hashed, in short: hashes of different layouts cannot be compared."""
    kinds = (
        Account, DayTurnover, Order, OrderCommission, ProtectionTerms, Position, Protection, LpOrder, Counters, Desk,
        ErrorHolding, KillSwitches, Breaker, CommissionBlock, CommissionDay, Transfer,
    )  # fmt: skip
    names = repr([(kind.__name__, kind.__struct_fields__) for kind in kinds])
    return hashlib.sha256(names.encode()).hexdigest()[:8]


LAYOUT = _layout()


def _feed(digest: Any, value: Struct) -> None:
    digest.update(repr(_canonical(value)).encode())


_PLAIN = frozenset({str, int, bool, type(None)})


def _canonical(value: object) -> object:
    """Everything open is written so after a stop and at the next start: the common kinds come first."""
    kind = type(value)
    if kind in _PLAIN:
        return str(value)
    if kind is Decimal:
        return format(value.normalize(), "f") if value else "0"  # type: ignore[attr-defined]
    if value is UNPROTECTED:
        return _UNPROTECTED
    if isinstance(value, Struct):
        return [_canonical(field) for field in msgspec.structs.astuple(value)]
    if isinstance(value, tuple):
        return [_canonical(part) for part in value]
    return str(value)


_UNPROTECTED = [_canonical(field) for field in msgspec.structs.astuple(UNPROTECTED)]
