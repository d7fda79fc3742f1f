"""Our orders at liquidity providers, and what providers say about them.

A leg is a row committed before anything is sent. Two hands write it, each its own column: the engine its `status` (from
executions), the provider's process its dispatch state (NEW -> DISPATCHING -> SENT). No answer is never a rejection.

What a report means depends on where the leg stands: `REACTIONS` has a row for every status and a column for every kind. A leg's
state follows from the quantities and executions that it was told of, not from the order in which they arrived.
"""

import hashlib
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import ZERO, plain
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


LIVE_LEGS = sorted(status.value for status in LegStatus if not status.is_terminal)
"""As they are stored."""


class LpOrder(Struct, frozen=True, kw_only=True):
    """One child order in the provider's units: immediate-or-cancel or fill-or-kill, at market or with a limit."""

    id: int
    order_id: int
    """0 for a leg of the house's own, which brings an error holding back to nothing."""
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
    told_cum: Decimal = ZERO
    """Lots: the most that the provider ever said to have dealt in all, CumQty(14)."""
    told_end: LegStatus | None = None
    """How the provider said that the rest ended, while fills that it counts are still to come."""
    gap_us: int = 0
    """Since when it has counted more than we have heard of; 0 while it has not."""
    is_in_case: bool = False
    """A dealer was told of what is missing: no second case about the same."""

    @property
    def missing(self) -> Decimal:
        """Lots that the provider counts as dealt and that no fill has told us of."""
        return max(min(self.told_cum, self.volume) - self.filled_volume, ZERO)


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
    BUST = "bust"
    """150=H: the execution that ExecRefID(19) names is taken back."""
    CORRECT = "correct"
    """150=G: it has another quantity or price."""
    OTHER = "other"
    """Anything else the provider said, kept for the dealer."""


KEYED = frozenset({ReportKind.FILL, ReportKind.BUST, ReportKind.CORRECT})
"""Kinds that are applied once per (provider, trade date, ExecID)."""

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
    exec_ref_id: str = ""
    """ExecRefID(19): the execution that a bust or correction is about."""

    @property
    def content(self) -> str:
        """A short hash of what a keyed report says: a repetition has the same, and another under its ExecID is a conflict."""
        side = self.side.value if self.side else ""
        said = (self.kind.value, self.cl_ord_id, side, self.lp_symbol, self.exec_ref_id)
        numbers = (plain(number.normalize()) if number else "0" for number in (self.last_qty, self.last_px))
        return hashlib.blake2b("\x1f".join((*said, *numbers)).encode(), digest_size=8).hexdigest()

    @property
    def denies_order(self) -> bool:
        """The provider says that it never had the order."""
        return self.kind is ReportKind.REJECTED and self.ord_rej_reason == UNKNOWN_ORDER

    @property
    def fill_key(self) -> str:
        """What makes a fill, correction or bust unique with its provider."""
        return f"{self.trade_date}/{self.exec_id}"


SETTLED = "settled/"
"""How the ExecIDs begin that are given to what a dealer settles."""


def is_settled(leg: LpOrder) -> bool:
    """A dealer said what was dealt of the leg: a fill that comes after all may be the same."""
    return any(key.partition("/")[2].startswith(SETTLED) for key in leg.exec_ids)


class Owner(StrEnum):
    """Whose an execution is."""

    CLIENT = "client"
    """The client's, as far as the leg went; what was beyond it is the house's."""
    HOUSE = "house"
    """In the error account."""
    NOBODY = "nobody"
    """Booked nowhere: a dealer decides."""


class Execution(Struct, frozen=True, kw_only=True):
    """One keyed report of a provider and what became of it: the memory against repetition, and what a bust refers to."""

    lp: str
    exec_id: str
    trade_date: str
    kind: ReportKind
    content: str
    cl_ord_id: str
    owner: Owner
    at_us: int
    symbol: str = ""
    """In our terms; empty where it could not be told."""
    side: Side | None = None
    volume: Decimal = ZERO
    """Lots that count: of a fill or of what a correction made of it; none of a bust."""
    price: Decimal = ZERO
    ref: str = ""
    """Of a bust or correction the fill that it is about: ExecRefID(19), or what the correction named there corrected."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.lp, self.exec_id, self.trade_date

    @property
    def signed_volume(self) -> Decimal:
        return self.volume * self.side.sign if self.side else ZERO


def names_in(report: ExecutionReport) -> tuple[str, ...]:
    """The ExecIDs that a keyed report is about: its own, and the one that it refers to."""
    return tuple(name for name in (report.exec_id, report.exec_ref_id) if name) if report.kind in KEYED else ()


def related(named: Iterable[str], under: Callable[[str], Iterable[Execution]]) -> dict[tuple[str, str, str], Execution]:
    """What is known about these executions, by their keys. `under` gives those of a name, and those that refer to it."""
    found: dict[tuple[str, str, str], Execution] = {}
    names = list(named)
    for name in names:  # grows: a correction leads to what it corrected
        for execution in under(name):
            found[execution.key] = execution
            if execution.kind is ReportKind.CORRECT and execution.ref not in names:
                names.append(execution.ref)
    return found


class Settlement(StrEnum):
    """What a dealer says became of what is still open of a leg."""

    NOT_FILLED = "not_filled"
    FILLED = "filled"
    """As far as the quantity that the dealer names; the rest was not."""


class CaseKind(StrEnum):
    """Why a dealer must look: nothing a provider says is dropped in silence."""

    ORPHAN_REPORT = "orphan_report"
    LATE_FILL = "late_fill"
    EXCESS_FILL = "excess_fill"
    CONFLICTING_FILL = "conflicting_fill"
    """Its ExecID was used before for something else, or for what a dealer has settled: not applied."""
    MISMATCHED_FILL = "mismatched_fill"
    """Wrong side or wrong symbol."""
    PRICE_OUT_OF_RANGE = "price_out_of_range"
    """So far from the market that nothing is booked until a dealer settles it."""
    MISSED_FILL = "missed_fill"
    """The provider has counted more than its fills say for too long."""
    BUSTED_FILL = "busted_fill"
    """Taken back by the provider: the house's side is reversed, the client's is for two people to decide."""
    CORRECTED_FILL = "corrected_fill"
    """Changed by the provider; as above."""
    UNMATCHED_BUST = "unmatched_bust"
    """A bust or correction of what we never heard of, or of what was taken back already: nothing is booked."""
    UNRESOLVED_ORDER = "unresolved_order"
    """The provider has not said for too long what became of an order."""
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


class Reaction(StrEnum):
    """What the engine does about a report, given where its leg stands."""

    ACKNOWLEDGE = "acknowledge"
    """Keep the provider's own number."""
    DEAL = "deal"
    """Book it to whom the leg belongs."""
    END = "end"
    """Nothing more will be dealt: end the leg once every fill that the provider counts is here."""
    END_IN_DOUBT = "end_in_doubt"
    """The same, though it contradicts what was dealt: a dealer hears of it."""
    COMPARE = "compare"
    """Learn what the provider counts, and whether it says that the leg has ended."""
    ASK_DEALER = "ask_dealer"
    """Nobody knows: a case, and the order stays pending."""
    REVERSE = "reverse"
    """Take an execution back, out of the house's error account."""
    RE_PRICE = "re_price"
    """The house takes the difference."""
    SHOW_DEALER = "show_dealer"
    """Not understood: a case."""
    TAKE_LATE = "take_late"
    """After the client was told that nothing more comes: the house's."""
    TAKE_EXCESS = "take_excess"
    """More than was ordered: the house's, and nothing more is opened there."""
    TAKE_ORPHAN = "take_orphan"
    """Of an order that we do not know: the house's."""
    SHOW_ORPHAN = "show_orphan"
    """About an order that we do not know: a case."""
    COMPARE_ENDED = "compare_ended"
    """A case where it tells another quantity than was dealt, or denies the order."""
    QUIET = "quiet"
    """Late news of what is known already."""


_R, _K, _S = Reaction, ReportKind, LegStatus
REACTIONS: dict[LegStatus | None, dict[ReportKind, Reaction]] = {
    _S.WORKING: {
        _K.ACKNOWLEDGED: _R.ACKNOWLEDGE,
        _K.FILL: _R.DEAL,
        _K.CANCELED: _R.END,
        _K.REJECTED: _R.END,
        _K.STATUS: _R.COMPARE,
        _K.NOT_SENT: _R.END,
        _K.UNRESOLVED: _R.ASK_DEALER,
        _K.BUST: _R.REVERSE,
        _K.CORRECT: _R.RE_PRICE,
        _K.OTHER: _R.SHOW_DEALER,
    },
    _S.PARTIALLY_FILLED: {
        _K.ACKNOWLEDGED: _R.ACKNOWLEDGE,  # the acknowledgement was overtaken by the fill
        _K.FILL: _R.DEAL,
        _K.CANCELED: _R.END,
        _K.REJECTED: _R.END,  # some reject the rest, where others cancel it
        _K.STATUS: _R.COMPARE,
        _K.NOT_SENT: _R.END_IN_DOUBT,  # what was dealt had been sent
        _K.UNRESOLVED: _R.ASK_DEALER,
        _K.BUST: _R.REVERSE,
        _K.CORRECT: _R.RE_PRICE,
        _K.OTHER: _R.SHOW_DEALER,
    },
    _S.FILLED: {
        _K.ACKNOWLEDGED: _R.QUIET,
        _K.FILL: _R.TAKE_EXCESS,
        _K.CANCELED: _R.QUIET,  # a cancel that crossed with the last fill takes nothing back
        _K.REJECTED: _R.COMPARE_ENDED,
        _K.STATUS: _R.COMPARE_ENDED,
        _K.NOT_SENT: _R.QUIET,
        _K.UNRESOLVED: _R.QUIET,
        _K.BUST: _R.REVERSE,
        _K.CORRECT: _R.RE_PRICE,
        _K.OTHER: _R.SHOW_DEALER,
    },
    _S.CANCELED: {
        _K.ACKNOWLEDGED: _R.QUIET,
        _K.FILL: _R.TAKE_LATE,  # it crossed with the cancel, and the client was told
        _K.CANCELED: _R.COMPARE_ENDED,
        _K.REJECTED: _R.COMPARE_ENDED,
        _K.STATUS: _R.COMPARE_ENDED,
        _K.NOT_SENT: _R.QUIET,
        _K.UNRESOLVED: _R.QUIET,
        _K.BUST: _R.REVERSE,
        _K.CORRECT: _R.RE_PRICE,
        _K.OTHER: _R.SHOW_DEALER,
    },
    _S.REJECTED: {
        _K.ACKNOWLEDGED: _R.QUIET,
        _K.FILL: _R.TAKE_LATE,  # dealt after all: another provider may have the order by now
        _K.CANCELED: _R.COMPARE_ENDED,
        _K.REJECTED: _R.COMPARE_ENDED,
        _K.STATUS: _R.COMPARE_ENDED,
        _K.NOT_SENT: _R.QUIET,
        _K.UNRESOLVED: _R.QUIET,
        _K.BUST: _R.REVERSE,
        _K.CORRECT: _R.RE_PRICE,
        _K.OTHER: _R.SHOW_DEALER,
    },
    None: {
        _K.ACKNOWLEDGED: _R.SHOW_ORPHAN,
        _K.FILL: _R.TAKE_ORPHAN,
        _K.CANCELED: _R.SHOW_ORPHAN,
        _K.REJECTED: _R.SHOW_ORPHAN,
        _K.STATUS: _R.SHOW_ORPHAN,
        _K.NOT_SENT: _R.SHOW_ORPHAN,
        _K.UNRESOLVED: _R.SHOW_ORPHAN,
        _K.BUST: _R.REVERSE,  # what it names may be known though its order is not
        _K.CORRECT: _R.RE_PRICE,
        _K.OTHER: _R.SHOW_ORPHAN,
    },
}
"""Every cell there is. None stands for an order that we never had."""
