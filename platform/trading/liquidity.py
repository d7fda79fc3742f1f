"""Our orders at liquidity providers, and what providers say about them.

A leg is a row committed before anything is sent. Two hands write it, each its own column: the engine its `status` (from
executions), the provider's process its dispatch state (NEW -> DISPATCHING -> SENT). No answer is never a rejection.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import ZERO
from trading.orders import Side


class DispatchState(StrEnum):
    """Owned by the provider's process."""

    NEW = "new"
    DISPATCHING = "dispatching"
    SENT = "sent"
    NOT_SENT = "not_sent"
    """Given up before anything left the building: too old, or no session."""


class LegStatus(StrEnum):
    """Owned by the engine, moved by executions only."""

    WORKING = "working"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"

    @property
    def is_terminal(self) -> bool:
        return self in {LegStatus.FILLED, LegStatus.CANCELED, LegStatus.REJECTED}


class LpOrder(Struct, frozen=True, kw_only=True):
    """One child order in the provider's units: immediate-or-cancel or fill-or-kill, at market or with a limit."""

    id: int
    order_id: int
    account: int
    lp: str
    cl_ord_id: str
    """ClOrdID(11), derived from shard and id, so that a resend could only repeat it."""
    symbol: str
    lp_symbol: str
    side: Side
    volume: Decimal
    """Lots, in our terms."""
    quantity: Decimal
    """OrderQty(38), in units of the base currency."""
    position_id: int
    """The position that it closes, 0 when it opens."""
    status: LegStatus
    created_us: int
    updated_us: int
    limit_price: Decimal | None = None
    """Price(44): never dealt worse than this; None for a market order."""
    all_or_none: bool = False
    """TimeInForce(59) 4, fill or kill, instead of 3, immediate or cancel."""
    expires_us: int
    """Not sent after this business time: an old order must not meet a new price."""
    filled_volume: Decimal = ZERO
    filled_cost: Decimal = ZERO
    """Sum of LastPx x lots over its fills."""
    lp_order_id: str = ""
    exec_ids: tuple[str, ...] = ()
    """Keys `trade_date/ExecID` of the fills applied, against repetition."""
    text: str = ""
    price_shift: Decimal = ZERO
    """What the client's price is above the provider's besides the markup: a spread limit clipped the shown price."""
    client_price: Decimal | None = None
    """What the client is dealt at whatever the provider deals at: a guaranteed stop's price."""


class ReportKind(StrEnum):
    """What an inbox row says, normalised from ExecType(150) and from our own dispatcher."""

    ACKNOWLEDGED = "acknowledged"
    """150=0 or A: the provider has it."""
    FILL = "fill"
    """150=F, partial or last."""
    CANCELED = "canceled"
    """150=4 or C: what is unfilled will not be."""
    REJECTED = "rejected"
    """150=8."""
    STATUS = "status"
    """150=I: an answer to OrderStatusRequest(35=H); compared, never applied as a fill."""
    NOT_SENT = "not_sent"
    """Our dispatcher gave the leg up before sending."""
    UNRESOLVED = "unresolved"
    """Our resolver has asked for too long without an answer: a dealer must ask in another way. It decides nothing."""
    OTHER = "other"
    """Anything else the provider said, kept for the dealer."""


UNKNOWN_ORDER = "5"
"""OrdRejReason(103) of a provider that has no such order."""


class ExecutionReport(Struct, frozen=True, kw_only=True):
    """One message of a provider about one of our orders, in our symbols' terms. Quantities are units of base."""

    lp: str
    kind: ReportKind
    cl_ord_id: str
    exec_id: str = ""
    trade_date: str = ""
    """TradeDate(75), else the UTC date of TransactTime(60) or SendingTime(52), as YYYYMMDD."""
    lp_order_id: str = ""
    side: Side | None = None
    lp_symbol: str = ""
    last_qty: Decimal = ZERO
    last_px: Decimal = ZERO
    cum_qty: Decimal = ZERO
    leaves_qty: Decimal = ZERO
    ord_status: str = ""
    """OrdStatus(39) as received."""
    ord_rej_reason: str = ""
    text: str = ""
    received_us: int = 0

    @property
    def denies_order(self) -> bool:
        """The provider says that it never had the order."""
        return self.kind is ReportKind.REJECTED and self.ord_rej_reason == UNKNOWN_ORDER

    @property
    def fill_key(self) -> str:
        """What makes a fill, correction or bust unique with its provider."""
        return f"{self.trade_date}/{self.exec_id}"


class CaseKind(StrEnum):
    """Why a dealer must look: nothing a provider says is dropped in silence."""

    ORPHAN_REPORT = "orphan_report"
    LATE_FILL = "late_fill"
    EXCESS_FILL = "excess_fill"
    CONFLICTING_FILL = "conflicting_fill"
    MISMATCHED_FILL = "mismatched_fill"
    """Wrong side or wrong symbol."""
    STATUS_MISMATCH = "status_mismatch"
    UNHANDLED_REPORT = "unhandled_report"


class Case(Struct, frozen=True, kw_only=True):
    """Something for the dealing desk. Fills in a case belong to the house's error account, never to a client."""

    id: int
    kind: CaseKind
    lp: str
    lp_order_id: int
    report: ExecutionReport
    opened_us: int
