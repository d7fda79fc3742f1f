"""Orders and deals: the client's instruction, its life as one total table, and the executions it led to."""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import ZERO
from trading.protection import ProtectionTerms, StopTriggerMethod


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell: profit is sign x (price now - price then)."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    """Dealt at its price or better, at once or when the market comes to it."""
    STOP = "stop"
    """Becomes a market order when the market reaches its stop price."""
    STOP_LIMIT = "stop_limit"
    """Becomes a limit order when the market reaches its stop price."""


class TimeInForce(StrEnum):
    """How long an order lives: FIX TimeInForce(59) in words."""

    GTC = "gtc"
    DAY = "day"
    """Until the symbol's trading session or the business day ends, whichever is first."""
    GTD = "gtd"
    """Until `expires_us`."""
    IOC = "ioc"
    """What cannot be dealt at once is cancelled."""
    FOK = "fok"
    """All at once or nothing."""


class OrderReason(StrEnum):
    """Who or what placed the order."""

    CLIENT = "client"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    STOP_OUT = "stop_out"
    """The broker's own stop-out level."""
    CLOSE_OUT = "close_out"
    """The regulatory margin close-out."""
    DEALER = "dealer"
    ROLLOVER = "rollover"
    EXPIRY = "expiry"
    """The contract ended."""
    CORPORATE = "corporate"
    CLOSE_BY = "close_by"


class Book(StrEnum):
    """Who takes the other side: A the market, B the house, C both."""

    A = "A"
    B = "B"
    C = "C"


class OrderStatus(StrEnum):
    """FIX OrdStatus(39) in words."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"


S = OrderStatus

TRANSITIONS: dict[OrderStatus | None, frozenset[OrderStatus]] = {
    None: frozenset({S.PENDING_NEW, S.NEW, S.FILLED, S.REJECTED, S.CANCELED}),
    S.NEW: frozenset({S.NEW, S.PENDING_NEW, S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED}),
    S.PENDING_NEW: frozenset({S.NEW, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.REJECTED}),
    S.PARTIALLY_FILLED: frozenset({S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED}),
    S.FILLED: frozenset(),
    S.CANCELED: frozenset(),
    S.REJECTED: frozenset(),
    S.EXPIRED: frozenset(),
}
"""Every state has a row; a state that is missing from a row is an illegal move. None is 'not yet known to us'.

An order that the house deals at once is born FILLED; PENDING_NEW while a provider holds its A part; NEW while it rests and
waits for its price. A limit order that its provider would not take goes back from PENDING_NEW to NEW and waits again. An
immediate order that finds no price is born CANCELED. CANCELED or EXPIRED with a filled volume is what remains of an order
that was filled in part. A resting order is REJECTED when its turn comes and the margin is not there.
"""

TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if status is not None and not following)
LIVE_ORDERS = sorted(status.value for status in OrderStatus if status not in TERMINAL)
"""As they are stored."""


class OrderCommission(Struct, frozen=True, kw_only=True):
    """One order's commission under one rule so far: kept with the order while it may still be filled."""

    units: Decimal = ZERO
    volume: Decimal = ZERO
    charged: Decimal = ZERO


class Order(Struct, frozen=True, kw_only=True):
    """A client's order. Volumes are lots; `filled_cost` is the sum of price x volume over its deals."""

    id: int
    """The ticket."""
    uuid: str
    """The id of the request that placed it (UUIDv7, minted at the door)."""
    account: int
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    volume: Decimal
    status: OrderStatus
    created_us: int
    updated_us: int
    filled_volume: Decimal = ZERO
    filled_cost: Decimal = ZERO
    position_id: int = 0
    """The position it closes, or, once filled, the one it opened; 0 before that."""
    closes: bool = False
    refusal: str = ""
    """The refusal's stable code when REJECTED (or CANCELED by the provider)."""
    detail: str = ""
    comment: str = ""
    book: Book | None = None
    volume_a: Decimal = ZERO
    """The part sent to a provider; volume - volume_a is the house's."""
    filled_a: Decimal = ZERO
    margin_reserved: Decimal = ZERO
    """Margin held in the account's currency while the order is in flight."""
    attempts: tuple[str, ...] = ()
    """The providers its A part was sent to, in order, since it last became dealable."""
    price: Decimal | None = None
    """The limit: never dealt worse than this."""
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    expires_us: int = 0
    """Business time from which it is no longer dealt; 0 for never."""
    max_slippage: int | None = None
    """For a market order with a price: how many points, either way, the market may have moved from it."""
    protection: ProtectionTerms = ProtectionTerms()
    """Stop loss, take profit and trailing stop that its position will have."""
    is_triggered: bool = False
    """A stop whose stop price was reached."""
    reason: OrderReason = OrderReason.CLIENT
    hedged_reserved: Decimal = ZERO
    unleveraged_reserved: Decimal = ZERO
    notional_reserved: Decimal = ZERO
    """With `margin_reserved`, the order's part in the account's margin: the amounts of `margining.modes.Exposure`."""
    oco_group: str = ""
    """Orders of one account with the same name cancel each other: when one is dealt, the others are taken back."""
    netted: Decimal = ZERO
    """The first lots of the order, which close `position_id` before the rest opens the other way."""
    stop_trigger: StopTriggerMethod | None = None
    """How its stop price watches the market; None for the symbol's way."""
    commissions: tuple[OrderCommission, ...] = ()
    """Per rule of its group that counts whole orders, in the rules' order."""

    @property
    def is_resting(self) -> bool:
        """Waits for its price: a trigger stands for it, and no provider is dealing it."""
        waits = self.status is OrderStatus.NEW or self.status is OrderStatus.PARTIALLY_FILLED
        return waits and not self.attempts

    @property
    def open_volume(self) -> Decimal:
        return self.volume - self.filled_volume

    @property
    def is_closing(self) -> bool:
        """The next lot that is filled closes a part of its position."""
        return self.closes or self.netted > self.filled_volume

    @property
    def closing_volume(self) -> Decimal:
        """Lots that are still to close its position."""
        if self.closes:
            return self.open_volume
        return max(self.netted - self.filled_volume, ZERO)

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


class DealEntry(StrEnum):
    IN = "in"
    OUT = "out"
    INOUT = "inout"
    """The part of a reversal that opens the other way."""
    OUT_BY = "out_by"
    """Closed against an opposite position."""

    @property
    def opens(self) -> bool:
        return self in (DealEntry.IN, DealEntry.INOUT)


class Deal(Struct, frozen=True, kw_only=True):
    """One execution told to the client. `profit` and `commission` are in the account's currency."""

    id: int
    order_id: int
    position_id: int
    account: int
    symbol: str
    side: Side
    entry: DealEntry
    volume: Decimal
    price: Decimal
    profit: Decimal
    commission: Decimal
    at_us: int
    book: Book
    """A or B: which book this part was dealt in. Never shown to clients."""
    lp: str = ""
    exec_id: str = ""
    """The provider's ExecID(17) for an A deal."""
    lp_price: Decimal | None = None
    swap: Decimal = ZERO
    """The part of the position's accrued swap that this closing posts."""
    fee: Decimal = ZERO
    """Maker, taker, conversion and guarantee fees: positive is paid by the client."""
