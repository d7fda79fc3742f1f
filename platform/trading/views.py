"""What an account's owner is shown of its orders, deals, positions and money: the same shapes over REST and WebSocket.

Allow-lists by construction: the book, the provider, the markup and the split have no field here.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from msgspec import Struct

from trading.accounts import Account
from trading.numbers import round_half_up
from trading.orders import Deal, Order
from trading.positions import Position
from trading.protection import Protection, ProtectionTerms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at_us: int) -> datetime:
    """The aware UTC datetime of a business time."""
    return _EPOCH + timedelta(microseconds=at_us)


@lru_cache(maxsize=4096)
def rfc3339(at_us: int) -> str:
    """A business time as clients read it: 2026-01-31T12:00:00.000000Z."""
    return moment(at_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class RejectView(Struct, frozen=True):
    code: str
    detail: str


class LevelView(Struct, frozen=True):
    """A stop loss or take profit: a price, or a distance in points while there is no opening price to count it from."""

    price: Decimal | None
    distance: int | None


class StopLossView(Struct, frozen=True):
    """A stop loss, and what was agreed about it."""

    price: Decimal | None
    distance: int | None
    guaranteed: bool
    trigger: str | None
    """How it watches the price; None for the symbol's way."""


class TrailingView(Struct, frozen=True):
    """How a stop loss follows the price, in points."""

    distance: int
    step: int
    activation: int | None
    """Profit from which on it follows; None for the distance itself."""


class BreakEvenView(Struct, frozen=True):
    """At which profit the stop loss moves to the open price, and how far beyond it. Points."""

    distance: int
    offset: int


class OrderView(Struct, frozen=True, kw_only=True, omit_defaults=False):
    id: str
    ticket: int
    client_order_id: str
    account: int
    symbol: str
    side: str
    type: str
    volume: Decimal
    filled_volume: Decimal
    avg_price: Decimal | None
    price: Decimal | None
    stop_price: Decimal | None
    time_in_force: str
    expires_at: str | None
    max_slippage: int | None
    stop_loss: StopLossView | None
    take_profit: LevelView | None
    trailing_stop: TrailingView | None
    break_even: BreakEvenView | None
    oco_group: str | None
    stop_trigger: str | None
    status: str
    reason: str
    position_id: int | None
    reduce_only: bool
    comment: str
    reject: RejectView | None
    created_at: str
    updated_at: str


class DealView(Struct, frozen=True, kw_only=True):
    id: int
    order_ticket: int
    position_id: int
    account: int
    symbol: str
    side: str
    entry: str
    volume: Decimal
    price: Decimal
    profit: Decimal
    commission: Decimal
    swap: Decimal
    fee: Decimal
    at: str


class PositionView(Struct, frozen=True, kw_only=True):
    id: int
    account: int
    symbol: str
    side: str
    volume: Decimal
    open_price: Decimal
    stop_loss: StopLossView | None
    take_profit: LevelView | None
    trailing_stop: TrailingView | None
    break_even: BreakEvenView | None
    margin: Decimal
    swap: Decimal
    locked_volume: Decimal
    opened_at: str
    updated_at: str


class BalanceView(Struct, frozen=True, kw_only=True):
    account: int
    balance: Decimal
    credit: Decimal
    currency: str
    version: int
    kind: str
    amount: Decimal
    transaction_id: int


class MarginCallView(Struct, frozen=True, kw_only=True):
    """A margin call threshold that the account came down to, or is above again."""

    account: int
    currency: str
    rule: str
    """`margin call 80`."""
    equity: Decimal
    margin: Decimal
    level: Decimal | None
    """Per cent; null without margin."""


class AccountView(Struct, frozen=True, kw_only=True):
    account: int
    currency: str
    leverage: int
    rights: str
    client_class: str
    jurisdiction: str
    commission_blocked: Decimal


def average_price(cost: Decimal, volume: Decimal, digits: int) -> Decimal | None:
    """Cost over volume, shown with at least the price's decimals and two more where it does not divide evenly."""
    if not volume:
        return None
    price = cost / volume
    shown = round_half_up(price, digits)
    return shown if shown == price else round_half_up(price, digits + 2)


def level_view(price: Decimal | None, distance: int) -> LevelView | None:
    return LevelView(price, distance or None) if price is not None or distance else None


def stop_loss_view(protection: ProtectionTerms | Protection, distance: int) -> StopLossView | None:
    if protection.stop_loss is None and not distance:
        return None
    trigger = protection.stop_trigger
    return StopLossView(
        price=protection.stop_loss,
        distance=distance or None,
        guaranteed=protection.is_guaranteed,
        trigger=trigger.value if trigger else None,
    )


def trailing_view(protection: ProtectionTerms | Protection) -> TrailingView | None:
    if not protection.trailing_points:
        return None
    return TrailingView(protection.trailing_points, protection.trailing_step, protection.trailing_activation)


def break_even_view(protection: ProtectionTerms | Protection) -> BreakEvenView | None:
    if not protection.break_even_points:
        return None
    return BreakEvenView(protection.break_even_points, protection.break_even_offset)


def order_view(order: Order, digits: int) -> OrderView:
    asked = order.protection
    return OrderView(
        id=order.uuid,
        ticket=order.id,
        client_order_id=order.client_order_id,
        account=order.account,
        symbol=order.symbol,
        side=order.side.value,
        type=order.type.value,
        volume=order.volume,
        filled_volume=order.filled_volume,
        avg_price=average_price(order.filled_cost, order.filled_volume, digits),
        price=order.price,
        stop_price=order.stop_price,
        time_in_force=order.time_in_force.value,
        expires_at=rfc3339(order.expires_us) if order.expires_us else None,
        max_slippage=order.max_slippage,
        stop_loss=stop_loss_view(asked, asked.stop_loss_points),
        take_profit=level_view(asked.take_profit, asked.take_profit_points),
        trailing_stop=trailing_view(asked),
        break_even=break_even_view(asked),
        oco_group=order.oco_group or None,
        stop_trigger=order.stop_trigger.value if order.stop_trigger else None,
        status=order.status.value,
        reason=order.reason.value,
        position_id=order.position_id or None,
        reduce_only=order.closes,
        comment=order.comment,
        reject=RejectView(order.refusal, order.detail) if order.refusal else None,
        created_at=rfc3339(order.created_us),
        updated_at=rfc3339(order.updated_us),
    )


def deal_view(deal: Deal) -> DealView:
    return DealView(
        id=deal.id,
        order_ticket=deal.order_id,
        position_id=deal.position_id,
        account=deal.account,
        symbol=deal.symbol,
        side=deal.side.value,
        entry=deal.entry.value,
        volume=deal.volume,
        price=deal.price,
        profit=deal.profit,
        commission=deal.commission,
        swap=deal.swap,
        fee=deal.fee,
        at=rfc3339(deal.at_us),
    )


def position_view(position: Position, digits: int) -> PositionView:
    return PositionView(
        id=position.id,
        account=position.account,
        symbol=position.symbol,
        side=position.side.value,
        volume=position.volume,
        open_price=average_price(position.cost, position.volume, digits) or Decimal(0),
        stop_loss=stop_loss_view(position.protection, 0),
        take_profit=level_view(position.protection.take_profit, 0),
        trailing_stop=trailing_view(position.protection),
        break_even=break_even_view(position.protection),
        margin=position.margin,
        swap=position.swap,
        locked_volume=position.locked,
        opened_at=rfc3339(position.opened_us),
        updated_at=rfc3339(position.updated_us),
    )


def account_view(account: Account) -> AccountView:
    return AccountView(
        account=account.id,
        currency=account.currency,
        leverage=account.leverage,
        rights=account.rights.value,
        client_class=account.client_class.value,
        jurisdiction=account.jurisdiction,
        commission_blocked=account.commission_blocked,
    )
