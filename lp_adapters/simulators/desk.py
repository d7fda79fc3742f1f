"""A simulated provider's dealing desk: orders in, reports out, and its own record of both. Pure.

In: NewOrderSingle(35=D), OrderStatusRequest(35=H), OrderMassStatusRequest(35=AF), OrderCancelRequest(35=F). Every answer
comes with the images of the orders it changed; they must be durable before the answer is sent. Orders are immediate: a
rest that cannot be filled is cancelled (150=4), so an order is open only while a last look holds it.

Choices a real provider also has to make: a ClOrdID(11) said twice with the same content gets its last report again with
PossResend(97)=Y, with other content 39=8 and 103=6; no price is 103=2; the trade date is the UTC date.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from fix_gateway.wire.message import Field, Message, Outgoing, clean, number, plain_quantity
from fix_gateway.wire.orders import utc_timestamp
from lp_adapters.simulators.disorder import disordered, is_fill, value_of
from lp_adapters.simulators.market import Top
from lp_adapters.simulators.misbehaviour import NONE, Misbehaviour, for_order
from lp_adapters.simulators.profiles import Instrument
from trading.numbers import ZERO, floor_to_step, is_on_step, point

BUY, SELL = "1", "2"
MARKET, LIMIT = "1", "2"
IMMEDIATE_OR_CANCEL, FILL_OR_KILL = "3", "4"
NEW, PARTIALLY_FILLED, FILLED, CANCELED, REJECTED = "0", "1", "2", "4", "8"
"""OrdStatus(39)."""
TRADE, STATUS, CORRECTED, BUSTED = "F", "I", "G", "H"
"""ExecType(150), where it differs from the status."""
UNKNOWN_SYMBOL, NO_PRICE, UNKNOWN_ORDER, DUPLICATE_ORDER, UNSUPPORTED, BAD_QUANTITY, OTHER = (
    *("1", "2", "5", "6", "11", "13", "99"),
)
"""OrdRejReason(103)."""
CANCEL_TOO_LATE, CANCEL_UNKNOWN, CANCEL_DUPLICATE = "0", "1", "6"
"""CxlRejReason(102)."""

SLICES_MAX = 50
"""Of one order: how deep the simulated book goes, in tops, each a point worse than the one before."""
IDENTIFIER_MAX = 120
QUANTITY_MAX = Decimal(10_000_000_000)
AVERAGE_DIGITS = 8


class Order(Struct, frozen=True, kw_only=True):
    """One order as the provider keeps it. The newest image of an order is the truth."""

    cl_ord_id: str
    order_id: str
    lp_symbol: str
    symbol: str
    side: str
    quantity: Decimal
    kind: str
    """OrdType(40)."""
    limit: Decimal | None
    time_in_force: str
    account: str
    status: str = NEW
    cum: Decimal = ZERO
    value: Decimal = ZERO
    """Sum of LastPx(31) x LastQty(32)."""
    last: tuple[Field, ...] = ()
    """The last report about it, to repeat."""
    executions: int = 0
    """How many ExecIDs the desk had given out by then."""

    @property
    def is_open(self) -> bool:
        return self.status in (NEW, PARTIALLY_FILLED)

    @property
    def average(self) -> Decimal:
        if not self.cum:
            return ZERO
        return (self.value / self.cum).quantize(point(AVERAGE_DIGITS), rounding=ROUND_HALF_EVEN)

    @property
    def content(self) -> tuple[object, ...]:
        """What the client said, to tell a repetition from another order."""
        return (self.lp_symbol, self.side, self.quantity, self.kind, self.limit, self.time_in_force, self.account)


class Later(StrEnum):
    """What happens to an order after a while."""

    LOOK = "look"
    LATE_FILL = "late_fill"
    BUST = "bust"
    CORRECT = "correct"


class Held(Struct, frozen=True):
    """An order that something happens to later: mostly an acknowledged one that waits for its last look."""

    cl_ord_id: str
    delay_ms: int
    what: Later = Later.LOOK


class Answer(Struct, frozen=True):
    """What a message led to: the newest image of each order it changed, messages to send after that, a later look."""

    images: tuple[Order, ...] = ()
    messages: tuple[Outgoing, ...] = ()
    held: Held | None = None
    kept_as: int = 0
    """The journal's number of the messages; 0 while they are not kept."""


class Slice(Struct, frozen=True):
    quantity: Decimal
    price: Decimal


class Desk:
    """One provider's orders and positions. `name_of_run` must be the same as long as `images` outlives runs."""

    def __init__(self, lp: str, *, name_of_run: str, images: Iterable[Order] = ()) -> None:
        self._prefix = f"{lp}-{name_of_run}"
        self._orders: dict[str, Order] = {}
        self._executions = 0
        self._held: dict[str, Misbehaviour] = {}
        self._last_fills: dict[str, tuple[str, Slice]] = {}
        """ExecID and terms of the last fill of an order that is to be busted or corrected."""
        self._positions: dict[str, Decimal] = {}
        for image in images:
            self._remember(image)
            self._executions = max(self._executions, image.executions)

    def positions(self) -> dict[str, Decimal]:
        """What its client holds at the provider: our symbol to signed units of base. Flat symbols once dealt in stay."""
        return dict(self._positions)

    def orders(self) -> tuple[Order, ...]:
        return tuple(self._orders.values())

    # ----------------------------------------------------------------------------------------------------- new orders

    def place(
        self, message: Message, instrument: Instrument | None, top: Top | None, wrong: Misbehaviour, at: datetime
    ) -> Answer:
        """Answer a NewOrderSingle(35=D)."""
        order = self._order_of(message, instrument)
        earlier = self._orders.get(order.cl_ord_id)
        if earlier is not None:
            return self._said_again(earlier, order, at)
        if wrong.no_answer == "lost":
            return Answer()
        refusal = _refusal(message, order, instrument, top, wrong)
        if refusal:
            return self._rejected(order, *refusal, at)
        assert instrument is not None
        accepted, acknowledgement = self._reported(order, NEW, at)
        if wrong.late_fill_ms:
            self._held[order.cl_ord_id] = wrong
            canceled, end = self._canceled(accepted, "the market is closed to you", at)
            held = Held(order.cl_ord_id, wrong.late_fill_ms, Later.LATE_FILL)
            return self._kept((canceled,), (acknowledgement, end), wrong, held)
        if wrong.delay_ms:
            self._held[order.cl_ord_id] = wrong
            held = Held(order.cl_ord_id, wrong.delay_ms)
            return self._kept((accepted,), () if wrong.out_of_order else (acknowledgement,), wrong, held)
        images, reports = self._dealt(accepted, instrument, top, wrong, at)
        return self._kept((accepted, *images), (acknowledgement, *reports), wrong, _undoing(accepted, reports, wrong))

    def later(self, held: Held, instrument: Instrument, top: Top | None, at: datetime) -> Answer:
        """What was to happen to an order after a while happens now."""
        match held.what:
            case Later.LOOK:
                return self.look(held.cl_ord_id, instrument, top, at)
            case Later.LATE_FILL:
                return self._late_fill(held.cl_ord_id, instrument, top, at)
            case Later.BUST | Later.CORRECT:
                return self._undone(held, instrument, at)

    def look(self, cl_ord_id: str, instrument: Instrument, top: Top | None, at: datetime) -> Answer:
        """Deal an order that was held, at the price of now; nothing when it is not open any more."""
        order, wrong = self._orders.get(cl_ord_id), self._held.pop(cl_ord_id, NONE)
        if order is None or not order.is_open:
            return Answer()
        images, reports = self._dealt(order, instrument, top, wrong, at)
        if wrong.out_of_order:
            reports = (Outgoing(msg_type="8", fields=order.last), *reports)
        return self._kept(images, reports, wrong, _undoing(order, reports, wrong))

    def _late_fill(self, cl_ord_id: str, instrument: Instrument, top: Top | None, at: datetime) -> Answer:
        """Deal what was told to be cancelled."""
        order, wrong = self._orders.get(cl_ord_id), self._held.pop(cl_ord_id, NONE)
        if order is None or order.status != CANCELED:
            return Answer()
        images, reports = self._dealt(replace(order, status=NEW), instrument, top, wrong, at)
        return self._kept(images, reports, wrong)

    def _undone(self, held: Held, instrument: Instrument, at: datetime) -> Answer:
        """Bust or correct the last fill of an order."""
        order, wrong = self._orders.get(held.cl_ord_id), self._held.pop(held.cl_ord_id, NONE)
        filled = self._last_fills.pop(held.cl_ord_id, None)
        if order is None or filled is None:
            return Answer()
        exec_id, part = filled
        if held.what is Later.CORRECT:
            towards = Decimal(1) if order.side == BUY else Decimal(-1)
            price = part.price + towards * instrument.point * wrong.correct_points
            order = replace(order, value=order.value + part.quantity * (price - part.price))
            terms = ((19, exec_id), (32, plain_quantity(part.quantity)), (31, format(price, "f")))
            order, report = self._reported(order, CORRECTED, at, terms)
            return self._kept((order,), (report,), NONE)
        if not wrong.bust_reference:
            order = replace(
                order, cum=order.cum - part.quantity, value=order.value - part.quantity * part.price, status=CANCELED
            )
        terms = (
            (19, wrong.bust_reference or exec_id),
            (32, plain_quantity(part.quantity)),
            (31, format(part.price, "f")),
        )
        reports: list[Outgoing] = []
        for _ in range(wrong.bust_times):
            order, report = self._reported(order, BUSTED, at, terms)
            reports.append(report)
        return self._kept((order,), tuple(reports), NONE)

    def cancel_held(self, at: datetime) -> Answer:
        """Cancel what an earlier run was still holding: nobody is left to take the last look."""
        ended = [self._canceled(order, "not dealt before the restart", at) for order in self.orders() if order.is_open]
        return self._kept(tuple(image for image, _ in ended), tuple(report for _, report in ended), NONE)

    def _kept(
        self, images: tuple[Order, ...], reports: tuple[Outgoing, ...], wrong: Misbehaviour, held: Held | None = None
    ) -> Answer:
        """Remember what became of an order. A provider that does not answer remembers it all the same."""
        if held and held.what in (Later.BUST, Later.CORRECT):
            self._held[held.cl_ord_id] = wrong
            self._last_fills[held.cl_ord_id] = _last_fill(reports)
        newest = tuple({image.cl_ord_id: image for image in images}.values())
        for image in newest:
            self._remember(image)
        return Answer(newest, () if wrong.no_answer else disordered(reports, wrong), held)

    def _remember(self, image: Order) -> None:
        earlier = self._orders.get(image.cl_ord_id)
        dealt = image.cum - (earlier.cum if earlier else ZERO)
        if dealt:
            signed = dealt if image.side == BUY else -dealt
            self._positions[image.symbol] = self._positions.get(image.symbol, ZERO) + signed
        self._orders[image.cl_ord_id] = image

    def _order_of(self, message: Message, instrument: Instrument | None) -> Order:
        quantity = number(message.get(38))
        return Order(
            cl_ord_id=clean(message.get(11), IDENTIFIER_MAX),
            order_id=f"{self._prefix}-O{len(self._orders) + 1}",
            lp_symbol=clean(message.get(55), IDENTIFIER_MAX),
            symbol=instrument.symbol if instrument else "",
            side=message.get(54),
            quantity=ZERO if quantity is None else quantity,
            kind=message.get(40),
            limit=number(message.get(44)),
            time_in_force=message.get(59),
            account=clean(message.get(1), IDENTIFIER_MAX),
        )

    def _said_again(self, earlier: Order, order: Order, at: datetime) -> Answer:
        if earlier.content == order.content:
            return Answer(messages=(Outgoing(msg_type="8", fields=((97, "Y"), *earlier.last)),))
        other = replace(order, order_id="NONE", status=REJECTED)
        # Not kept, so its ExecID must come from elsewhere than the counter, which a restart sets back to what was kept.
        exec_id = f"{self._prefix}-R{int(at.timestamp() * 1_000_000)}"
        extra = ((103, DUPLICATE_ORDER), (58, "ClOrdID names another order"))
        return Answer(messages=(_execution_report(other, REJECTED, exec_id, at, extra),))

    def _rejected(self, order: Order, reason: str, text: str, at: datetime) -> Answer:
        rejected, report = self._reported(replace(order, status=REJECTED), REJECTED, at, ((103, reason), (58, text)))
        return self._kept((rejected,), (report,), NONE)

    # -------------------------------------------------------------------------------------------------------- dealing

    def _dealt(
        self, order: Order, instrument: Instrument, top: Top | None, wrong: Misbehaviour, at: datetime
    ) -> tuple[tuple[Order, ...], tuple[Outgoing, ...]]:
        """Fill what can be filled and cancel the rest: images and reports in order."""
        images: list[Order] = []
        reports: list[Outgoing] = []
        for part in slices(order, instrument, top, wrong) if top else ():
            order, report = self._filled(order, part, at)
            images.append(order)
            reports.extend([report, report] if wrong.duplicate_report else [report])
        if wrong.overfill and images and not order.is_open:
            more = Slice(Decimal(instrument.quantity_step), number(value_of(reports[-1], 31)) or ZERO)
            order, report = self._filled(order, more, at)
            images.append(order)
            reports.append(report)
        if order.is_open:
            order, report = self._canceled(order, "the rest cannot be filled now", at)
            images.append(order)
            reports.append(report)
        return tuple(images), tuple(reports)

    def _filled(self, order: Order, part: Slice, at: datetime) -> tuple[Order, Outgoing]:
        cum = order.cum + part.quantity
        filled = replace(
            order,
            cum=cum,
            value=order.value + part.quantity * part.price,
            status=FILLED if cum >= order.quantity else PARTIALLY_FILLED,
        )
        extra = ((32, plain_quantity(part.quantity)), (31, format(part.price, "f")))
        return self._reported(filled, TRADE, at, extra)

    def _canceled(
        self, order: Order, text: str, at: datetime, request: tuple[Field, ...] = ()
    ) -> tuple[Order, Outgoing]:
        return self._reported(replace(order, status=CANCELED), CANCELED, at, (*request, (58, text)))

    # -------------------------------------------------------------------------------------------------------- reports

    def _reported(
        self, order: Order, exec_type: str, at: datetime, extra: tuple[Field, ...] = ()
    ) -> tuple[Order, Outgoing]:
        """The order as it stands after its report, and the report."""
        self._executions += 1
        report = _execution_report(order, exec_type, f"{self._prefix}-E{self._executions}", at, extra)
        return replace(order, last=report.fields, executions=self._executions), report

    # --------------------------------------------------------------------------------------------- questions, cancels

    def status(self, message: Message, at: datetime, ordered: tuple[Misbehaviour, ...] = ()) -> Answer:
        """Answer an OrderStatusRequest(35=H): 150=I with ExecID(17)=0; or not at all, when `ordered` so for this order."""
        cl_ord_id = clean(message.get(11), IDENTIFIER_MAX)
        known = self._orders.get(cl_ord_id)
        if for_order(
            ordered, known.symbol if known else "", known.quantity if known else ZERO, cl_ord_id
        ).silent_to_status:
            return Answer()
        asked = ((790, clean(message.get(790), IDENTIFIER_MAX)),) if message.get(790) else ()
        order = self._orders.get(cl_ord_id)
        if order is None:
            unknown = _unknown_order(message, cl_ord_id)
            extra = (*asked, (103, UNKNOWN_ORDER), (58, "unknown order"))
            return Answer(messages=(_execution_report(unknown, STATUS, "0", at, extra),))
        return Answer(messages=(_execution_report(order, STATUS, "0", at, asked),))

    def mass_status(self, message: Message, at: datetime) -> Answer:
        """Answer an OrderMassStatusRequest(35=AF): a report per open order, or one that says there is none."""
        symbol = clean(message.get(55), IDENTIFIER_MAX)
        asked = (584, clean(message.get(584), IDENTIFIER_MAX))
        found = [o for o in self.orders() if o.is_open and (message.get(585) != "1" or o.lp_symbol == symbol)]
        if not found:
            nothing = ((911, "0"), (912, "Y"), (103, UNKNOWN_ORDER), (58, "no open orders"))
            none = _unknown_order(message, "")
            return Answer(messages=(_execution_report(none, STATUS, "0", at, (asked, *nothing)),))
        return Answer(
            messages=tuple(
                _execution_report(
                    *(order, STATUS, "0", at),
                    (asked, (911, str(len(found))), (912, "Y" if order is found[-1] else "N")),
                )
                for order in found
            )
        )

    def cancel(self, message: Message, at: datetime) -> Answer:
        """Answer an OrderCancelRequest(35=F): cancelled if it is still held, else OrderCancelReject(35=9)."""
        cl_ord_id, original = clean(message.get(11), IDENTIFIER_MAX), clean(message.get(41), IDENTIFIER_MAX)
        order = self._orders.get(original)
        if order is None or cl_ord_id in self._orders or not order.is_open:
            return Answer(messages=(_cancel_reject(order, cl_ord_id, original, cl_ord_id in self._orders, at),))
        self._held.pop(original, None)
        image, report = self._canceled(order, "cancelled on request", at, ((41, original),))
        told = Outgoing(
            msg_type="8", fields=tuple((11, cl_ord_id) if tag == 11 else (tag, v) for tag, v in report.fields)
        )
        return Answer(images=self._kept((image,), (), NONE).images, messages=(told,))


def slices(order: Order, instrument: Instrument, top: Top, wrong: Misbehaviour) -> list[Slice]:
    """How an order is filled: tops of the same size, each a point worse, as far as its limit and its terms allow."""
    step, towards = Decimal(instrument.quantity_step), Decimal(1) if order.side == BUY else Decimal(-1)
    shown = top.ask if order.side == BUY else top.bid
    size = max(floor_to_step(Decimal(shown.size), step), step)
    wanted = order.quantity
    if wrong.partial is not None:
        wanted = floor_to_step(order.quantity * wrong.partial, step)
    parts: list[Slice] = []
    while wanted > 0 and len(parts) < SLICES_MAX:
        worse = towards * instrument.point * (len(parts) + wrong.slippage_points)
        price = Decimal(shown.price) + worse
        if order.limit is not None and order.kind == LIMIT and (price - order.limit) * towards > 0:
            break
        parts.append(Slice(min(wanted, size), price))
        wanted -= parts[-1].quantity
    all_or_none = order.time_in_force == FILL_OR_KILL
    return [] if all_or_none and sum(part.quantity for part in parts) != order.quantity else parts


def _undoing(order: Order, reports: tuple[Outgoing, ...], wrong: Misbehaviour) -> Held | None:
    """What is to happen to the last fill later, if there is one."""
    if not any(is_fill(report) for report in reports):
        return None
    if wrong.bust_after_ms:
        return Held(order.cl_ord_id, wrong.bust_after_ms, Later.BUST)
    return Held(order.cl_ord_id, wrong.correct_after_ms, Later.CORRECT) if wrong.correct_after_ms else None


def _last_fill(reports: tuple[Outgoing, ...]) -> tuple[str, Slice]:
    last = [report for report in reports if is_fill(report)][-1]
    return value_of(last, 17), Slice(number(value_of(last, 32)) or ZERO, number(value_of(last, 31)) or ZERO)


def _refusal(
    message: Message, order: Order, instrument: Instrument | None, top: Top | None, wrong: Misbehaviour
) -> tuple[str, str] | None:
    """Why an order is refused, in the order checked: OrdRejReason(103) and a sentence."""
    if order.cl_ord_id != message.get(11) or not order.cl_ord_id:
        return OTHER, f"ClOrdID is printable and at most {IDENTIFIER_MAX} characters long"
    if instrument is None:
        return UNKNOWN_SYMBOL, "unknown symbol"
    if not 0 < order.quantity <= QUANTITY_MAX or not is_on_step(order.quantity, Decimal(instrument.quantity_step)):
        return BAD_QUANTITY, f"the quantity is a positive multiple of {instrument.quantity_step}"
    if order.kind not in (MARKET, LIMIT) or order.time_in_force not in (IMMEDIATE_OR_CANCEL, FILL_OR_KILL):
        return UNSUPPORTED, "orders are market or limit, immediate-or-cancel or fill-or-kill"
    if order.kind == LIMIT and (order.limit is None or order.limit <= 0):
        return OTHER, "a limit order needs a positive price"
    if wrong.reject:
        return OTHER, "not dealt"
    if top is None:
        return NO_PRICE, "no price"
    return None


def _unknown_order(message: Message, cl_ord_id: str) -> Order:
    return Order(
        cl_ord_id=cl_ord_id,
        order_id="NONE",
        lp_symbol=clean(message.get(55), IDENTIFIER_MAX) or "NONE",
        symbol="",
        side=message.get(54) or BUY,
        quantity=ZERO,
        kind="",
        limit=None,
        time_in_force="",
        account="",
        status=REJECTED,
    )


def _execution_report(
    order: Order, exec_type: str, exec_id: str, at: datetime, extra: tuple[Field, ...] = ()
) -> Outgoing:
    """ExecutionReport(35=8) of an order as it stands."""
    leaves = order.quantity - order.cum if order.is_open else ZERO
    optional = (
        (11, order.cl_ord_id),
        (1, order.account),
        (40, order.kind if order.kind in (MARKET, LIMIT) else ""),
        (44, "" if order.limit is None else format(order.limit, "f")),
        (59, order.time_in_force),
    )
    return Outgoing(
        msg_type="8",
        fields=(
            (37, order.order_id),
            (17, exec_id),
            (150, exec_type),
            (39, order.status),
            (55, order.lp_symbol),
            (54, order.side),
            (38, plain_quantity(order.quantity)),
            *((tag, value) for tag, value in optional if value),
            (151, plain_quantity(leaves)),
            (14, plain_quantity(order.cum)),
            (6, plain_quantity(order.average)),
            (75, at.strftime("%Y%m%d")),
            (60, utc_timestamp(at)),
            *extra,
        ),
    )


def _cancel_reject(order: Order | None, cl_ord_id: str, original: str, is_duplicate: bool, at: datetime) -> Outgoing:
    """OrderCancelReject(35=9)."""
    reason = CANCEL_UNKNOWN if order is None else CANCEL_DUPLICATE if is_duplicate else CANCEL_TOO_LATE
    return Outgoing(
        msg_type="9",
        fields=(
            (37, order.order_id if order else "NONE"),
            (11, cl_ord_id),
            (41, original),
            (39, order.status if order else REJECTED),
            (434, "1"),
            (102, reason),
            (60, utc_timestamp(at)),
        ),
    )
