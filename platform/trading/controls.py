"""Pre-trade controls: the last gate before new risk, in the order in which we promise to report refusals.

1. message throttle      2. kill switches: firm, disk space, symbol, account      3. duplicate order      4. price collar
5. order volume          6. order value                               7. volume per symbol and direction
8. number of positions   9. number of pending orders

The throttle is taken first and apart (`take_message`), because every message counts, also one that is refused
afterwards. The rest is `check_controls`. Nothing here binds what closes: closes, cancels and changes of stop loss and
take profit pass with a bucket of their own, and `check_controls` lets them through before looking at anything.

All limits are off until a broker sets them. State is small, immutable and handed in with the time; what a check spends
(a token, a place in the list of recent orders) is in the state that it hands back, so that it counts at once.
"""

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from trading.numbers import ZERO, is_plain, plain, point
from trading.orders import Side

SECOND_US = 1_000_000

RECENT_ORDERS_MAX = 256
"""Orders per account that the duplicate guard remembers; the oldest is forgotten first."""


class Control(StrEnum):
    """Which control said no."""

    THROTTLE = "throttle"
    KILL_FIRM = "kill_firm"
    DISK_SPACE = "disk_space"
    KILL_SYMBOL = "kill_symbol"
    KILL_ACCOUNT = "kill_account"
    DUPLICATE = "duplicate"
    COLLAR = "collar"
    ORDER_VOLUME = "order_volume"
    ORDER_VALUE = "order_value"
    SYMBOL_VOLUME = "symbol_volume"
    POSITIONS = "positions"
    ORDERS = "orders"


CODES: dict[Control, str] = {
    Control.THROTTLE: "rate_limited",
    Control.KILL_FIRM: "trade_disabled",
    Control.DISK_SPACE: "close_only",
    Control.KILL_SYMBOL: "trade_disabled",
    Control.KILL_ACCOUNT: "trade_disabled",
    Control.DUPLICATE: "duplicate_order",
    Control.COLLAR: "price_collar",
    Control.ORDER_VOLUME: "volume_limit",
    Control.ORDER_VALUE: "value_limit",
    Control.SYMBOL_VOLUME: "volume_limit",
    Control.POSITIONS: "position_limit",
    Control.ORDERS: "order_limit",
}
"""The stable refusal that each control is told as."""


class Denied(Struct, frozen=True):
    """A control's refusal, and the sentence that tells this case apart."""

    control: Control
    detail: str

    @property
    def code(self) -> str:
        """The refusal's stable code."""
        return CODES[self.control]


class SymbolControls(Struct, frozen=True, kw_only=True):
    """Limits of one symbol, for each account that trades it. None: no limit."""

    collar_points: int | None = None
    collar_percent: Decimal | None = None
    """How far an order's price may lie from the market, either way; with both, the narrower binds."""
    order_volume_max: Decimal | None = None
    """Lots."""
    order_value_max: Decimal | None = None
    """Notional, in the currency that the caller counts value in."""
    fill_deviation_percent: Decimal | None = None
    """How far a provider's fill may lie from the middle of the market, in per cent of it; None for the firm's limit."""
    volume_limit: Decimal | None = None
    """Lots per direction: open positions, pending orders and orders in flight together."""


class AccountControls(Struct, frozen=True, kw_only=True):
    """Limits of one account, as its group has them. None or 0: no limit."""

    positions_max: int | None = None
    orders_max: int | None = None
    duplicate_window_us: int = 0
    messages_per_second: int = 0
    """Orders and changes of orders on average."""
    messages_burst: int = 1
    """How many may come at once."""
    closing_messages_per_second: int = 0
    """Closes, cancels, changes of stop loss and take profit: a generous bucket of their own."""
    closing_messages_burst: int = 1


class KillSwitches(Struct, frozen=True, kw_only=True):
    """Where new risk is stopped. The names and numbers are sorted, so that equal switches are equal values."""

    firm: bool = False
    symbols: tuple[str, ...] = ()
    accounts: tuple[int, ...] = ()
    lps: tuple[str, ...] = ()
    """Providers that are sent no new risk: no refusal of their own, since an order may go elsewhere. The router looks."""
    is_disk_low: bool = False
    """Set by the engine's own guard, not by the desk: neither undoes the other's."""


class NewOrder(Struct, frozen=True, kw_only=True):
    """What the controls need to know about an order."""

    account: int
    symbol: str
    side: Side
    volume: Decimal
    price: Decimal | None = None
    """The client's price; None for a market order without one."""
    value: Decimal = ZERO
    """Notional of the whole volume, in the currency of `order_value_max`."""
    is_pending: bool = False
    """It will wait for its price, and counts as an order until then."""
    is_closing: bool = False
    """Closes only: no control binds it."""
    volume_netted: Decimal = ZERO
    """The part that closes an opposite position at once, on netting accounts; never with a pending order."""
    adds_position: bool = True
    """False where it joins a position of a netting account."""


class Exposure(Struct, frozen=True, kw_only=True):
    """What the account has already, orders in flight included. Volumes are lots in the order's symbol, per direction."""

    volume_long: Decimal = ZERO
    volume_short: Decimal = ZERO
    pending_buys: Decimal = ZERO
    pending_sells: Decimal = ZERO
    positions: int = 0
    """In all symbols, orders in flight that will open one included."""
    orders: int = 0
    """Pending orders in all symbols."""


# --- kill switches ---


def kill_firm(switches: KillSwitches) -> KillSwitches:
    return replace(switches, firm=True)


def revive_firm(switches: KillSwitches) -> KillSwitches:
    """The firm's switch alone: symbols and accounts that were stopped one by one stay stopped."""
    return replace(switches, firm=False)


def kill_symbol(switches: KillSwitches, symbol: str) -> KillSwitches:
    return replace(switches, symbols=tuple(sorted({*switches.symbols, symbol})))


def revive_symbol(switches: KillSwitches, symbol: str) -> KillSwitches:
    return replace(switches, symbols=tuple(other for other in switches.symbols if other != symbol))


def kill_account(switches: KillSwitches, account: int) -> KillSwitches:
    return replace(switches, accounts=tuple(sorted({*switches.accounts, account})))


def revive_account(switches: KillSwitches, account: int) -> KillSwitches:
    return replace(switches, accounts=tuple(other for other in switches.accounts if other != account))


def kill_lp(switches: KillSwitches, lp: str) -> KillSwitches:
    return replace(switches, lps=tuple(sorted({*switches.lps, lp})))


def revive_lp(switches: KillSwitches, lp: str) -> KillSwitches:
    return replace(switches, lps=tuple(other for other in switches.lps if other != lp))


def note_disk(switches: KillSwitches, *, is_low: bool) -> KillSwitches:
    return replace(switches, is_disk_low=is_low)


def check_switches(order: NewOrder, switches: KillSwitches) -> Denied | None:
    if switches.firm:
        return Denied(Control.KILL_FIRM, "the firm has stopped all new orders")
    if switches.is_disk_low:
        return Denied(Control.DISK_SPACE, "the broker's storage is nearly full: positions can be closed, not opened")
    if order.symbol in switches.symbols:
        return Denied(Control.KILL_SYMBOL, f"new orders in {order.symbol} are stopped")
    if order.account in switches.accounts:
        return Denied(Control.KILL_ACCOUNT, "new orders of the account are stopped")
    return None


# --- message throttle ---


class Bucket(Struct, frozen=True):
    """A token bucket: millionths of a message that may still come, and when that was counted."""

    level: int
    at_us: int


class Throttle(Struct, frozen=True, kw_only=True):
    """One account's two buckets; None until the first message."""

    opening: Bucket | None = None
    closing: Bucket | None = None


def take_message(
    throttle: Throttle, terms: AccountControls, *, is_closing: bool, at_us: int
) -> tuple[Throttle, Denied | None]:
    """Count one message, and say whether it came too soon. A denied message costs nothing."""
    if is_closing:
        bucket, denied = _take(throttle.closing, terms.closing_messages_per_second, terms.closing_messages_burst, at_us)
        return replace(throttle, closing=bucket), denied
    bucket, denied = _take(throttle.opening, terms.messages_per_second, terms.messages_burst, at_us)
    return replace(throttle, opening=bucket), denied


def _take(bucket: Bucket | None, per_second: int, burst: int, at_us: int) -> tuple[Bucket | None, Denied | None]:
    """Integers throughout: in a microsecond `per_second` millionths come back, never more than the burst."""
    if not per_second:
        return None, None
    full = burst * SECOND_US
    level = full if bucket is None else min(full, bucket.level + max(0, at_us - bucket.at_us) * per_second)
    latest = at_us if bucket is None else max(at_us, bucket.at_us)
    if level < SECOND_US:
        wait_ms = -((level - SECOND_US) // (per_second * 1000))
        return Bucket(level, latest), Denied(Control.THROTTLE, f"too many messages, the next may come in {wait_ms} ms")
    return Bucket(level - SECOND_US, latest), None


# --- duplicate orders ---


class RecentOrder(Struct, frozen=True):
    symbol: str
    side: Side
    volume: Decimal
    at_us: int


RecentOrders = tuple[RecentOrder, ...]
"""One account's accepted orders of the last moments, oldest first."""


def remember(recent: RecentOrders, order: NewOrder, terms: AccountControls, at_us: int) -> RecentOrders:
    """With an order that was accepted, and without those that are too old to matter."""
    if not terms.duplicate_window_us:
        return ()
    young = tuple(other for other in recent if at_us - other.at_us < terms.duplicate_window_us)
    return (*young, RecentOrder(order.symbol, order.side, order.volume, at_us))[-RECENT_ORDERS_MAX:]


def check_duplicate(order: NewOrder, recent: RecentOrders, terms: AccountControls, at_us: int) -> Denied | None:
    """Same symbol, side and volume as an order accepted less than the window ago. Under another key, but the same thumb."""
    for other in reversed(recent):
        is_same = (other.symbol, other.side, other.volume) == (order.symbol, order.side, order.volume)
        if is_same and at_us - other.at_us < terms.duplicate_window_us:
            age_ms = (at_us - other.at_us) // 1000
            return Denied(Control.DUPLICATE, f"the same order was accepted {age_ms} ms ago")
    return None


# --- price, size, number ---


def check_collar(order: NewOrder, terms: SymbolControls, *, reference: Decimal | None, digits: int) -> Denied | None:
    """The client's price against the market's side that the order would meet: the ask for a buy, the bid for a sell.

    Without a reference nothing can be judged, so a price under a collar is refused.
    """
    if order.price is None or (terms.collar_points is None and terms.collar_percent is None):
        return None
    if reference is None:
        return Denied(Control.COLLAR, "there is no market price to judge the order's price by")
    allowed = min(_allowed_distances(terms, reference, digits))
    if abs(order.price - reference) <= allowed:
        return None
    return Denied(
        Control.COLLAR,
        f"{plain(order.price)} lies more than {plain(allowed)} from the market at {plain(reference)}",
    )


def _allowed_distances(terms: SymbolControls, reference: Decimal, digits: int) -> Iterator[Decimal]:
    if terms.collar_points is not None:
        yield terms.collar_points * point(digits)
    if terms.collar_percent is not None:
        yield abs(reference) * terms.collar_percent / 100


def check_order_volume(order: NewOrder, terms: SymbolControls) -> Denied | None:
    if terms.order_volume_max is None or order.volume <= terms.order_volume_max:
        return None
    return Denied(Control.ORDER_VOLUME, f"an order may have at most {plain(terms.order_volume_max)} lots")


def check_order_value(order: NewOrder, terms: SymbolControls) -> Denied | None:
    if terms.order_value_max is None or order.value <= terms.order_value_max:
        return None
    return Denied(Control.ORDER_VALUE, f"an order may be worth at most {plain(terms.order_value_max)}")


def check_symbol_volume(order: NewOrder, exposure: Exposure, terms: SymbolControls) -> Denied | None:
    """Each direction for itself: opposite positions give no room, since they may be closed before a pending order triggers."""
    if terms.volume_limit is None:
        return None
    is_buy = order.side is Side.BUY
    held = exposure.volume_long if is_buy else exposure.volume_short
    waiting = exposure.pending_buys if is_buy else exposure.pending_sells
    if held + waiting + order.volume - order.volume_netted <= terms.volume_limit:
        return None
    return Denied(
        Control.SYMBOL_VOLUME,
        f"at most {plain(terms.volume_limit)} lots per direction in {order.symbol}: "
        f"{plain(held)} are open and {plain(waiting)} are ordered",
    )


def check_counts(order: NewOrder, exposure: Exposure, terms: AccountControls) -> Denied | None:
    """A pending order counts as an order now, and as a position when it triggers."""
    if order.is_pending:
        if terms.orders_max is not None and exposure.orders >= terms.orders_max:
            return Denied(Control.ORDERS, f"the account may have at most {terms.orders_max} pending orders")
        return None
    if order.adds_position and terms.positions_max is not None and exposure.positions >= terms.positions_max:
        return Denied(Control.POSITIONS, f"the account may have at most {terms.positions_max} open positions")
    return None


# --- all of them, in order ---


def check_controls(
    order: NewOrder,
    *,
    switches: KillSwitches,
    symbol_terms: SymbolControls,
    account_terms: AccountControls,
    exposure: Exposure,
    recent: RecentOrders,
    reference: Decimal | None,
    digits: int,
    at_us: int,
) -> Denied | None:
    """The first control that says no, in the promised order; None lets the order pass, as every closing order does.

    `reference` is the client's ask for a buy, the bid for a sell; None while there is no price.
    """
    if order.is_closing:
        return None
    return (
        check_switches(order, switches)
        or check_duplicate(order, recent, account_terms, at_us)
        or check_collar(order, symbol_terms, reference=reference, digits=digits)
        or check_order_volume(order, symbol_terms)
        or check_order_value(order, symbol_terms)
        or check_symbol_volume(order, exposure, symbol_terms)
        or check_counts(order, exposure, account_terms)
    )


# --- what may be published ---


def symbol_control_problems(symbol: str, terms: SymbolControls) -> tuple[str, ...]:
    """What is wrong with these limits, as sentences; empty when they can be published."""
    limits = {
        "collar_percent": terms.collar_percent,
        "fill_deviation_percent": terms.fill_deviation_percent,
        "order_volume_max": terms.order_volume_max,
        "order_value_max": terms.order_value_max,
        "volume_limit": terms.volume_limit,
    }
    wrong = [name for name, limit in limits.items() if limit is not None and not (is_plain(limit) and limit > 0)]
    if terms.collar_points is not None and terms.collar_points <= 0:
        wrong.insert(0, "collar_points")
    return tuple(f"{symbol}: {name} must be above zero, or not set" for name in wrong)


def account_control_problems(group: str, terms: AccountControls) -> tuple[str, ...]:
    """What is wrong with these limits, as sentences; empty when they can be published."""
    return tuple(f"group {group}: {problem}" for problem in _account_problems(terms))


def _account_problems(terms: AccountControls) -> Iterator[str]:
    for name in (
        "positions_max",
        "orders_max",
        "duplicate_window_us",
        "messages_per_second",
        "closing_messages_per_second",
    ):
        limit = getattr(terms, name)
        if limit is not None and limit < 0:
            yield f"{name} cannot be below zero"
    if terms.messages_burst < 1 or terms.closing_messages_burst < 1:
        yield "a burst must let at least one message through"
    if terms.closing_messages_per_second and (
        not terms.messages_per_second or terms.closing_messages_per_second < terms.messages_per_second
    ):
        yield "closing messages must flow at least as freely as opening ones"
