"""A liquidity provider and the FIX session to it, at the level of `fix_gateway.initiator`.

The session is ordered and numbered. What the provider says waits until our callback has returned for it; after every logon it
says again, marked PossDup(43), what was not. Our own messages are never repeated: what the line lost is a gap (DoNotSend).
The provider keeps its own truth about every order, which is compared with ours at the end.
"""

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from fix_gateway.initiator import Handler, Sending
from fix_gateway.wire.message import SOH, Outgoing, plain_quantity
from tests.simulation.clockwork import SECOND_US, Crash, Process, Time

MS = 1_000
LOT = Decimal(1000)
"""Units of base in which parts of an order are dealt: a hundredth of a lot of any pair."""
PRICES = Callable[[str, str], Decimal | None]
"""What a symbol costs now on this side, by the provider's own name for it."""


@dataclass
class VenueOrder:
    """One order as the provider has it."""

    cl_ord_id: str
    order_id: str
    lp_symbol: str
    side: str
    quantity: Decimal
    limit: Decimal | None
    cum: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    status: str = "0"
    silent_until_us: int = 0
    fills: dict[str, Decimal] = field(default_factory=dict)
    """Quantity by ExecID(17), as it was dealt."""
    given_back: Decimal = Decimal(0)
    """What busts and corrections have taken off CumQty(14)."""
    is_changed: bool = False
    """Some of it was taken back or corrected: what it counts need not be what its fills say."""
    is_settled: bool = False
    """The desks have agreed what became of it: the provider does nothing more about it."""

    @property
    def is_open(self) -> bool:
        return self.status in {"0", "1"}

    @property
    def price(self) -> Decimal:
        """What it was dealt at on average."""
        return (self.cost / self.cum).quantize(Decimal("0.00001"))


@dataclass
class Dealt:
    """One execution as the provider counts it now, whoever it was for."""

    order: VenueOrder
    lp_symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    name: str
    """ExecID(17) of the execution, or of its last correction."""


@dataclass
class Said:
    """One message of the provider's, under its sequence number."""

    body: str
    due_us: int
    exec_id: str = ""
    was_sent: bool = False


class Line:
    """Our end of the session, as TradeSession is given it. Dies with its process."""

    def __init__(self, provider: "Provider", process: Process, handler: Handler) -> None:
        self._provider = provider
        self.process = process
        self.handler = handler

    @property
    def is_logged_on(self) -> bool:
        return self._provider.line is self and self._provider.is_up

    def start(self) -> None:
        self._provider.line = self

    def send(self, message: Outgoing, may_leave: Callable[[], bool] = lambda: True) -> Sending:
        """`may_leave` is asked at the last moment, by versions that ask it."""
        if not self.is_logged_on:
            return Sending.NOT_LOGGED_ON
        if not may_leave():
            return Sending("too_late")
        fault = self.process.strike("send") if self.process.armed else ""
        if fault == "crash_before_send":
            raise Crash(self.process)
        if fault == "line_lost_before_send":
            self._provider.cut(keep=True)
            return Sending.UNKNOWN
        self._provider.hear(message)
        if fault == "crash_after_send":
            raise Crash(self.process)
        if fault == "line_lost_after_send":
            self._provider.cut(keep=False)
        if fault == "send_unknown":
            return Sending.UNKNOWN
        return Sending.SENT

    def log_out(self) -> None:
        self._provider.cut(keep=True)


class Provider:
    """Fills, rejects, is late, is silent, says things twice, deals what nobody ordered, takes back. All by the seed."""

    def __init__(self, name: str, time: Time, rng: random.Random, price: PRICES, counts: Counter[str]) -> None:
        self.name = name
        self.time = time
        self.random = rng
        self.price = price
        self.counts = counts
        self.line: Line | None = None
        self.is_up = False
        self.up_again_us = 0
        self.misbehaves: frozenset[str] = frozenset()
        self.on_order: Callable[[str], None] = lambda _: None
        """Told of every order at the moment when it leaves the house."""
        self.orders: dict[str, VenueOrder] = {}
        self.received: Counter[str] = Counter()
        """NewOrderSingle(35=D) per ClOrdID: at most one each, for ever."""
        self.net: Counter[tuple[str, str]] = Counter()
        self.dealt: dict[str, Dealt] = {}
        """By the ExecID that each had first."""
        self.strays: set[str] = set()
        """Executions that no order of ours asked for: of another side or symbol, or of an order that we never sent."""
        self.taken_back: dict[str, bool] = {}
        """ExecIDs of busts and corrections; whether there was anything to take back."""
        self.heard: set[str] = set()
        """ExecIDs of what our callback has returned for."""
        self.said: list[Said] = []
        self.next_in = 0
        """Index of the first message whose callback has not returned: what our store calls the expected number."""
        self.on_wire: deque[tuple[int, Outgoing]] = deque()
        self.withheld: list[tuple[str, str]] = []
        self._plans: list[tuple[int, int, VenueOrder, str, Decimal, str]] = []
        self._planned = 0
        self._execs = 0

    # ------------------------------------------------------------------------------------------------------ the session

    def cut(self, *, keep: bool, away_us: int = 0) -> None:
        """The line breaks. What was under way to the provider still arrives (`keep`), or is lost from some point on."""
        arrives = len(self.on_wire) if keep else self.random.randint(0, len(self.on_wire))
        for _ in range(arrives):
            self._take(self.on_wire.popleft()[1])
        self.on_wire.clear()
        was_up, self.is_up = self.is_up, False
        self.up_again_us = max(self.up_again_us, self.time.now_us + away_us)
        line = self.line
        if was_up and line is not None and line.process.alive:
            line.handler.logged_out()

    def hear(self, message: Outgoing) -> None:
        if message.msg_type == "D":
            self.on_order(dict(message.fields)[11])
        delay = self.random.choice((1, 2, 5, 20)) * MS
        after = self.on_wire[-1][0] if self.on_wire else 0
        self.on_wire.append((max(after, self.time.now_us + delay), message))

    def turn(self) -> None:
        """Everything that is due: a logon, orders that arrive, executions, messages to us."""
        now = self.time.now_us
        line = self.line
        if not self.is_up and line is not None and line.process.alive and now >= self.up_again_us:
            self.is_up = True
            line.handler.logged_on()
        while self.on_wire and self.on_wire[0][0] <= now:
            self._take(self.on_wire.popleft()[1])
        if self._plans and self._plans[0][0] <= now:
            self._carry_out(now)
        while self.is_up and self.next_in < len(self.said):
            said = self.said[self.next_in]
            if said.due_us > now or not self._deliver(said):
                break

    def _deliver(self, said: Said) -> bool:
        """Hand one message over; it counts as received when the callback returns."""
        line = self.line
        if line is None or not line.process.alive:
            return False
        seq = self.next_in + 1
        possdup = f"43=Y{SOH}" if said.was_sent else ""
        said.was_sent = True
        raw = f"8=FIX.4.4{SOH}35=8{SOH}34={seq}{SOH}{possdup}{said.body}"
        if line.process.armed and line.process.strike("callback"):
            raise Crash(line.process)
        line.handler.received(raw)
        if line.process.armed and line.process.strike("after_callback"):
            raise Crash(line.process)
        if self.line is line and line.process.alive:
            self.next_in = seq
            self.heard.add(said.exec_id)
        return True

    # --------------------------------------------------------------------------------------------------------- the desk

    def _take(self, message: Outgoing) -> None:
        fields = dict(message.fields)
        if message.msg_type == "D":
            self._new_order(fields)
        elif message.msg_type == "H":
            self._status(fields)

    def _new_order(self, fields: dict[int, str]) -> None:
        name = fields[11]
        self.received[name] += 1
        if name in self.orders:
            return
        limit = Decimal(fields[44]) if 44 in fields else None
        order = VenueOrder(
            name, f"{self.name[0]}{len(self.orders) + 1}", fields[55], fields[54], Decimal(fields[38]), limit
        )
        self.orders[name] = order
        self._plan(order)

    def _plan(self, order: VenueOrder) -> None:
        """What will become of the order, decided when it arrives."""
        chance, now = self.random, self.time.now_us
        at = now + chance.choice((1, 5, 20, 100, 400)) * MS
        kind = chance.choices(("fill", "parts", "part_cancel", "cancel", "reject"), (50, 22, 10, 8, 10))[0]
        wrong = self.misbehaves
        if "silent" in wrong and chance.random() < 0.1:
            self.counts["lp.silent"] += 1
            order.silent_until_us = at = now + chance.randint(2, 40) * SECOND_US
        if chance.random() < 0.6 and kind != "reject":
            self._later(at, order, "ack")
        if kind == "parts":
            rest = order.quantity
            for _ in range(chance.randint(1, 3)):
                part = (rest * chance.randint(1, 9) / 10 / LOT).to_integral_value(ROUND_DOWN) * LOT
                if 0 < part < rest:
                    at += chance.choice((0, 5, 300)) * MS
                    self._later(at, order, "fill", part)
                    rest -= part
            self._later(at + chance.choice((0, 5, 300)) * MS, order, "fill", rest)
        elif kind == "part_cancel":
            part = (order.quantity * chance.randint(1, 9) / 10 / LOT).to_integral_value(ROUND_DOWN) * LOT
            if part:
                self._later(at, order, "fill", part)
            self._later(at + chance.choice((0, 50)) * MS, order, "cancel")
        elif kind == "fill":
            too_much = "excess" in wrong and chance.random() < 0.02
            self._later(at, order, "fill", order.quantity + (min(LOT, order.quantity) if too_much else 0))
        else:
            self._later(at, order, kind)
        if "excess" in wrong and kind in {"fill", "parts"} and chance.random() < 0.04:
            self._later(at + chance.choice((0, 5, 300)) * MS, order, "excess", min(LOT, order.quantity))
        if "stray" in wrong and chance.random() < 0.04:
            self._later(at + chance.choice((-1, 5, 300)) * MS, order, "stray", min(LOT, order.quantity))
        if kind in {"cancel", "part_cancel"} and "late_fill" in wrong and chance.random() < 0.3:
            self._later(at + chance.choice((60, 5000)) * MS, order, "late_fill", min(LOT, order.quantity))

    def _later(
        self, at_us: int, order: VenueOrder, what: str, quantity: Decimal = Decimal(0), exec_id: str = ""
    ) -> None:
        """`exec_id`: the execution that a bust or a correction is about."""
        self._planned += 1
        self._plans.append((at_us, self._planned, order, what, quantity, exec_id))
        self._plans.sort(key=lambda plan: plan[:2])

    def _carry_out(self, now: int) -> None:
        while self._plans and self._plans[0][0] <= now:
            _, _, order, what, quantity, exec_id = self._plans.pop(0)
            if what == "ack":
                if order.is_open:
                    self._report(order, "0", "")
            elif what in {"fill", "late_fill", "excess"}:
                self._fill(order, quantity, what)
            elif what == "stray":
                self._stray(order, quantity)
            elif what in {"bust", "correct"}:
                self._take_back(order, what, exec_id)
            elif order.is_open:
                order.status = "8" if what == "reject" else "4"
                self._report(order, order.status, self._exec_id())

    def _fill(self, order: VenueOrder, quantity: Decimal, what: str) -> None:
        """`late_fill`: after it has ended. `excess`: more than was ordered."""
        is_over = order.cum >= order.quantity
        is_due = {"fill": order.is_open, "late_fill": not order.is_open, "excess": is_over}[what]
        if order.is_settled or not is_due:
            return
        if what == "late_fill":
            self.counts["lp.late_fill"] += 1
        elif order.cum + quantity > order.quantity:
            self.counts["lp.excess"] += 1
        price = self.price(order.lp_symbol, order.side) or Decimal(1)
        if order.limit is not None:
            price = min(price, order.limit) if order.side == "1" else max(price, order.limit)
        order.cum += quantity
        order.cost += quantity * price
        if what == "fill":
            order.status = "2" if order.cum >= order.quantity else "1"
        name = self._exec_id()
        order.fills[name] = quantity
        self._deal(name, Dealt(order, order.lp_symbol, order.side, quantity, price, name))

    def _stray(self, order: VenueOrder, quantity: Decimal) -> None:
        """Something else than was ordered: the other side, another symbol, or an order that is not ours at all."""
        kind = self.random.choice(("side", "symbol", "order"))
        self.counts[f"lp.stray_{kind}"] += 1
        side, lp_symbol = order.side, order.lp_symbol
        if kind == "side":
            side = "2" if side == "1" else "1"
        elif kind == "symbol":
            lp_symbol = self.random.choice([other.lp_symbol for other in self.orders.values()])
            if lp_symbol == order.lp_symbol:
                return
        else:
            order = VenueOrder(
                f"X{len(self.dealt)}", order.order_id, lp_symbol, side, quantity, None, cum=quantity, status="2"
            )
        name = self._exec_id()
        self.strays.add(name)
        self._deal(name, Dealt(order, lp_symbol, side, quantity, self.price(lp_symbol, side) or Decimal(1), name))

    def _deal(self, name: str, dealt: Dealt) -> None:
        self.dealt[name] = dealt
        self._hold(dealt, dealt.quantity)
        self._report(dealt.order, "F", name, dealt=dealt)
        for what in ("bust", "correct"):
            if what in self.misbehaves and self.random.random() < 0.05:
                at = self.time.now_us + self.random.choice((300, 3_000, 20_000)) * MS
                self._later(at, dealt.order, what, exec_id=name)

    def _hold(self, dealt: Dealt, quantity: Decimal) -> None:
        change = quantity if dealt.side == "1" else -quantity
        self.net[self.name, dealt.lp_symbol] += change  # type: ignore[assignment]

    def _take_back(self, order: VenueOrder, what: str, name: str) -> None:
        """An execution that we have heard of is taken back, or gets another quantity or price. Now and then one that is not
        there, or not any more."""
        if order.is_settled:
            return
        if name not in self.heard:
            self._later(self.time.now_us + SECOND_US, order, what, exec_id=name)
            return
        dealt = self.dealt[name]
        before, is_void = dealt.quantity, not dealt.quantity
        ref = dealt.name if self.random.random() < 0.8 else name
        if self.random.random() < 0.1:
            is_void, ref = True, f"{self.name}-NONE"
        self.counts[f"lp.{what}{'_of_nothing' if is_void else ''}"] += 1
        exec_id = self._exec_id()
        self.taken_back[exec_id] = not is_void
        if not is_void:
            if what == "bust":
                dealt.quantity = Decimal(0)
            else:
                dealt.quantity += self.random.choice((LOT, Decimal(0), -LOT) if before > LOT else (Decimal(0),))
                dealt.price += self.random.choice((-1, 0, 1)) * dealt.price / 1000
                dealt.price = dealt.price.quantize(Decimal("0.00001"))
                dealt.name = exec_id
            self._hold(dealt, dealt.quantity - before)
            if name in order.fills:
                order.is_changed = True
                order.given_back += before - dealt.quantity
        self._report(order, "H" if what == "bust" else "G", exec_id, dealt=dealt, ref=ref)
        if self.random.random() < 0.2:
            self._later(self.time.now_us + SECOND_US, order, "bust", exec_id=name)

    def _exec_id(self) -> str:
        self._execs += 1
        return f"{self.name}-E{self._execs}"

    def _status(self, fields: dict[int, str]) -> None:
        order = self.orders.get(fields[11])
        if order is None:
            body = f"37=NONE|17=0|150=8|39=8|103=5|11={fields[11]}|55={fields[55]}|54={fields[54]}|14=0|151=0|58=unknown order"
            self._say(f"{body}|{self._dated()}")
        elif self.time.now_us >= order.silent_until_us:
            self._report(order, "I", "0")

    # ----------------------------------------------------------------------------------------------------- what is said

    def _report(
        self, order: VenueOrder, exec_type: str, exec_id: str, *, dealt: Dealt | None = None, ref: str = ""
    ) -> None:
        """`dealt`: the execution that it tells of; `ref`: the ExecID of the one that it changes."""
        exec_id = exec_id or self._exec_id()
        leaves = order.quantity - order.cum if order.is_open else Decimal(0)
        lp_symbol, side, last = order.lp_symbol, order.side, ""
        if dealt is not None:
            lp_symbol, side = dealt.lp_symbol, dealt.side
            last = f"32={plain_quantity(dealt.quantity or LOT)}|31={plain_quantity(dealt.price)}|"
        body = (
            f"37={order.order_id}|17={exec_id}|150={exec_type}|39={order.status}|11={order.cl_ord_id}|"
            f"55={lp_symbol}|54={side}|38={plain_quantity(order.quantity)}|{last}"
            f"14={plain_quantity(max(order.cum - order.given_back, Decimal(0)))}|"
            f"151={plain_quantity(max(leaves, Decimal(0)))}|{self._dated()}" + (f"|19={ref}" if ref else "")
        )
        if exec_type != "I" and self._is_lost(exec_type, body, exec_id):
            return
        self._say(body, exec_id)
        if exec_type != "I" and "duplicate" in self.misbehaves and self.random.random() < 0.08:
            self.counts["lp.duplicate"] += 1
            self._say(f"97=Y|{body}" if self.random.random() < 0.5 else body, exec_id)
        if "reorder" in self.misbehaves and len(self.said) - self.next_in >= 2 and self.random.random() < 0.1:
            self._swap_last()

    def _is_lost(self, exec_type: str, body: str, exec_id: str) -> bool:
        """An acknowledgement or an end may never be said: our question finds out. A fill is said after all, very late."""
        if exec_type in {"G", "H"} or "drop" not in self.misbehaves or self.random.random() > 0.05:
            return False
        self.counts["lp.drop"] += 1
        if exec_type == "F":
            self.withheld.append((body, exec_id))
        return True

    def _swap_last(self) -> None:
        last, before = self.said[-1], self.said[-2]
        if last.exec_id in self.taken_back and before.exec_id in self.taken_back:
            return  # of two about one execution nobody could tell which came first
        if not last.was_sent and not before.was_sent:
            self.counts["lp.reorder"] += 1
            last.body, before.body = before.body, last.body
            last.exec_id, before.exec_id = before.exec_id, last.exec_id

    def _dated(self) -> str:
        day = f"{self.time.now_us // (86_400 * SECOND_US)}"
        return f"75=202311{14 + int(day) - 19675:02d}"

    def _say(self, body: str, exec_id: str = "") -> None:
        delay = 0
        if "delay" in self.misbehaves and self.random.random() < 0.1:
            self.counts["lp.delay"] += 1
            delay = self.random.choice((300, 2_000, 8_000)) * MS
        due_us = self.time.now_us + delay + self.random.choice((0, 1, 10)) * MS
        self.said.append(Said(body.replace("|", SOH), due_us, exec_id))

    # ------------------------------------------------------------------------------------------------------- in the end

    def behave(self) -> None:
        """No more misfortune: everything that was planned or kept back is said."""
        self.misbehaves = frozenset()
        self.up_again_us = 0
        for order in self.orders.values():
            order.silent_until_us = 0
        for body, exec_id in self.withheld:
            self._say(body, exec_id)
        self.withheld = []

    @property
    def is_quiet(self) -> bool:
        return not self._plans and not self.on_wire and self.next_in == len(self.said)
