"""Orders out and everything about them in: NewOrderSingle(35=D), OrderStatusRequest(35=H), ExecutionReport(35=8),
OrderCancelReject(35=9), BusinessMessageReject(35=j) and the session's Reject(35=3).

The kind comes from ExecType(150) alone. A report whose numbers or names cannot be trusted keeps its place but becomes
OTHER: a dealer reads it, nothing is booked from it.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from fix_gateway.wire.message import Message, Outgoing, clean, number, plain_quantity
from trading.liquidity import ExecutionReport, ReportKind
from trading.numbers import ZERO
from trading.orders import Side

IDENTIFIER_MAX = 120
MARKET, LIMIT = "1", "2"
"""OrdType(40)."""
IMMEDIATE_OR_CANCEL, FILL_OR_KILL = "3", "4"
"""TimeInForce(59)."""
UNKNOWN_ORDER = "5"
REJECTED = "8"

SIDES = {Side.BUY: "1", Side.SELL: "2"}
"""Side(54)."""
SIDES_IN = {text: side for side, text in SIDES.items()}

KINDS = {
    "0": ReportKind.ACKNOWLEDGED,
    "A": ReportKind.ACKNOWLEDGED,
    "F": ReportKind.FILL,
    "4": ReportKind.CANCELED,
    "C": ReportKind.CANCELED,
    "3": ReportKind.CANCELED,
    "8": ReportKind.REJECTED,
    "I": ReportKind.STATUS,
    "H": ReportKind.BUST,
    "G": ReportKind.CORRECT,
}
"""ExecType(150) by what it means to us; done for the day (3) ends an order like a cancel. Any other is OTHER: restatements,
pending states."""

NUMBERS = {32: "LastQty", 31: "LastPx", 14: "CumQty", 151: "LeavesQty"}


def new_order_single(
    *,
    cl_ord_id: str,
    lp_symbol: str,
    side: Side,
    quantity: Decimal,
    at: datetime,
    account: str = "",
    limit_price: Decimal | None = None,
    all_or_none: bool = False,
) -> Outgoing:
    """NewOrderSingle(35=D), `quantity` in units of base: at market or with a limit, immediate-or-cancel or fill-or-kill."""
    owner = ((1, account),) if account else ()
    return Outgoing(
        msg_type="D",
        fields=(
            (11, cl_ord_id),
            *owner,
            (55, lp_symbol),
            (54, SIDES[side]),
            (60, utc_timestamp(at)),
            (38, plain_quantity(quantity)),
            *(((40, MARKET),) if limit_price is None else ((40, LIMIT), (44, plain_quantity(limit_price)))),
            (59, FILL_OR_KILL if all_or_none else IMMEDIATE_OR_CANCEL),
        ),
    )


def order_status_request(*, cl_ord_id: str, lp_symbol: str, side: Side, lp_order_id: str = "") -> Outgoing:
    """OrderStatusRequest(35=H)."""
    known = ((37, lp_order_id),) if lp_order_id else ()
    return Outgoing(msg_type="H", fields=((11, cl_ord_id), *known, (55, lp_symbol), (54, SIDES[side])))


def utc_timestamp(at: datetime) -> str:
    """UTCTimestamp with milliseconds."""
    return at.strftime("%Y%m%d-%H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def execution_report(message: Message, *, lp: str, received_us: int) -> ExecutionReport:
    """What an ExecutionReport(35=8) says. Never fails."""
    numbers = {tag: number(message.get(tag) or "0") for tag in NUMBERS}
    kind = KINDS.get(message.get(150), ReportKind.OTHER)
    faults = _faults(message, kind, numbers)
    text = clean(message.get(58))
    return ExecutionReport(
        lp=lp,
        kind=ReportKind.OTHER if faults else kind,
        cl_ord_id=_name(message, 11),
        exec_id=_name(message, 17),
        trade_date=trade_date(message),
        lp_order_id=_name(message, 37),
        side=SIDES_IN.get(message.get(54)),
        lp_symbol=_name(message, 55),
        last_qty=numbers[32] or ZERO,
        last_px=numbers[31] or ZERO,
        cum_qty=numbers[14] or ZERO,
        leaves_qty=numbers[151] or ZERO,
        ord_status=clean(message.get(39), 8),
        ord_rej_reason=clean(message.get(103), 8),
        text="; ".join([*faults, text] if text else faults),
        received_us=received_us,
        exec_ref_id=_name(message, 19),
    )


def _faults(message: Message, kind: ReportKind, numbers: dict[int, Decimal | None]) -> list[str]:
    """What makes the report unfit for booking, in words."""
    faults = [f"{name}({tag}) is unreadable" for tag, name in NUMBERS.items() if numbers[tag] is None]
    faults += [
        f"{NUMBERS[tag]}({tag}) is negative" for tag, value in numbers.items() if value is not None and value < 0
    ]
    faults += [
        f"tag {tag} is not a usable name" for tag in (11, 17, 19, 37, 55) if _name(message, tag) != message.get(tag)
    ]
    needed = {tag: value for tag, value in numbers.items() if tag in (31, 32)}
    match kind:
        case ReportKind.FILL:
            faults += _lacking(message, "a fill", {**needed, 17: message.get(17)})
        case ReportKind.BUST:
            faults += _lacking(message, "a bust", {17: message.get(17), 19: message.get(19)})
        case ReportKind.CORRECT:
            faults += _lacking(message, "a correction", {**needed, 17: message.get(17), 19: message.get(19)})
    return faults


NEEDED = {31: "LastPx", 32: "LastQty", 17: "ExecID", 19: "ExecRefID"}


def _lacking(message: Message, what: str, found: Mapping[int, object]) -> list[str]:
    """What this kind of report cannot be booked without."""
    missing = [f"{what} without {NEEDED[tag]}({tag})" for tag, value in found.items() if not value]
    return missing if trade_date(message) else [*missing, f"{what} without a date"]


def _name(message: Message, tag: int) -> str:
    return clean(message.get(tag), IDENTIFIER_MAX)


def trade_date(message: Message) -> str:
    """TradeDate(75), else the day of TransactTime(60), else of SendingTime(52); empty when none can be read."""
    candidates = (message.get(tag)[:8] for tag in (75, 60, 52))
    return next((day for day in candidates if len(day) == 8 and day.isascii() and day.isdigit()), "")


def is_unknown_order(message: Message) -> bool:
    """True when the provider says that it has no such order: OrdStatus(39)=8 with OrdRejReason(103)=5."""
    return message.msg_type == "8" and message.get(39) == REJECTED and message.get(103) == UNKNOWN_ORDER


def refusal_report(message: Message, *, lp: str, cl_ord_id: str, received_us: int) -> ExecutionReport:
    """A Reject(35=3) or BusinessMessageReject(35=j). `cl_ord_id` is our order that RefSeqNum(45) was, if it was one.

    The refusal of a NewOrderSingle is as good as a rejection: what was refused as a message never became an order.
    """
    named = cl_ord_id or (_name_of_refused(message))
    is_order = bool(named) and message.get(372) in ("D", "")
    return ExecutionReport(
        lp=lp,
        kind=ReportKind.REJECTED if is_order else ReportKind.OTHER,
        cl_ord_id=named,
        trade_date=trade_date(message),
        ord_rej_reason=clean(message.get(380) or message.get(373), 8),
        text=clean(message.get(58)) or f"35={clean(message.msg_type, 4)} without a text",
        received_us=received_us,
    )


def _name_of_refused(message: Message) -> str:
    """BusinessRejectRefID(379) of a refused order is its ClOrdID."""
    return clean(message.get(379), IDENTIFIER_MAX) if message.msg_type == "j" and message.get(372) == "D" else ""


def other_report(message: Message, *, lp: str, received_us: int) -> ExecutionReport:
    """Any other message, such as OrderCancelReject(35=9), kept for the dealer."""
    text = clean(message.get(58))
    return ExecutionReport(
        lp=lp,
        kind=ReportKind.OTHER,
        cl_ord_id=_name(message, 11),
        trade_date=trade_date(message),
        lp_order_id=_name(message, 37),
        ord_status=clean(message.get(39), 8),
        text=f"35={clean(message.msg_type, 4)}" + (f": {text}" if text else ""),
        received_us=received_us,
    )
