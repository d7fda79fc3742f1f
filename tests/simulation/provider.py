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
    """Quantity by ExecID(17)."""

    @property
    def is_open(self) -> bool:
        return self.status in {"0", "1"}


@dataclass
class Said:
    """One message of the provider's, under its sequence number."""

    body: str
    due_us: int
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
    """Fills, rejects, is late, is silent, says things twice. All by the seed."""

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
        self.said: list[Said] = []
        self.next_in = 0
        """Index of the first message whose callback has not returned: what our store calls the expected number."""
        self.on_wire: deque[tuple[int, Outgoing]] = deque()
        self.withheld: list[str] = []
        self._plans: list[tuple[int, int, VenueOrder, str, Decimal]] = []
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
            self._later(at, order, "fill", order.quantity)
        else:
            self._later(at, order, kind)
        if kind in {"cancel", "part_cancel"} and "late_fill" in wrong and chance.random() < 0.3:
            self._later(at + chance.choice((60, 5000)) * MS, order, "late_fill", min(LOT, order.quantity))

    def _later(self, at_us: int, order: VenueOrder, what: str, quantity: Decimal = Decimal(0)) -> None:
        self._planned += 1
        self._plans.append((at_us, self._planned, order, what, quantity))
        self._plans.sort(key=lambda plan: plan[:2])

    def _carry_out(self, now: int) -> None:
        while self._plans and self._plans[0][0] <= now:
            _, _, order, what, quantity = self._plans.pop(0)
            if what == "ack":
                if order.is_open:
                    self._report(order, "0", "")
            elif what in {"fill", "late_fill"}:
                self._fill(order, quantity, late=what == "late_fill")
            elif order.is_open:
                order.status = "8" if what == "reject" else "4"
                self._report(order, order.status, self._exec_id())

    def _fill(self, order: VenueOrder, quantity: Decimal, *, late: bool) -> None:
        if late:
            self.counts["lp.late_fill"] += 1
        elif not order.is_open:
            return
        name = self._exec_id()
        price = self.price(order.lp_symbol, order.side) or Decimal(1)
        if order.limit is not None:
            price = min(price, order.limit) if order.side == "1" else max(price, order.limit)
        order.cum += quantity
        order.cost += quantity * price
        order.fills[name] = quantity
        self.net[self.name, order.lp_symbol] += quantity if order.side == "1" else -quantity  # type: ignore[assignment]
        if not late:
            order.status = "2" if order.cum >= order.quantity else "1"
        self._report(order, "F", name, last=(quantity, price))

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
        self, order: VenueOrder, exec_type: str, exec_id: str, *, last: tuple[Decimal, Decimal] | None = None
    ) -> None:
        leaves = order.quantity - order.cum if order.is_open else Decimal(0)
        dealt = "" if last is None else f"32={plain_quantity(last[0])}|31={plain_quantity(last[1])}|"
        body = (
            f"37={order.order_id}|17={exec_id or self._exec_id()}|150={exec_type}|39={order.status}|11={order.cl_ord_id}|"
            f"55={order.lp_symbol}|54={order.side}|38={plain_quantity(order.quantity)}|{dealt}14={plain_quantity(order.cum)}|"
            f"151={plain_quantity(max(leaves, Decimal(0)))}|{self._dated()}"
        )
        if exec_type != "I" and self._is_lost(exec_type, body):
            return
        self._say(body)
        if exec_type != "I" and "duplicate" in self.misbehaves and self.random.random() < 0.08:
            self.counts["lp.duplicate"] += 1
            self._say(f"97=Y|{body}" if self.random.random() < 0.5 else body)
        if "reorder" in self.misbehaves and len(self.said) - self.next_in >= 2 and self.random.random() < 0.1:
            self._swap_last()

    def _is_lost(self, exec_type: str, body: str) -> bool:
        """An acknowledgement or an end may never be said: our question finds out. A fill is said after all, very late."""
        if "drop" not in self.misbehaves or self.random.random() > 0.05:
            return False
        self.counts["lp.drop"] += 1
        if exec_type == "F":
            self.withheld.append(body)
        return True

    def _swap_last(self) -> None:
        last, before = self.said[-1], self.said[-2]
        if not last.was_sent and not before.was_sent:
            self.counts["lp.reorder"] += 1
            last.body, before.body = before.body, last.body

    def _dated(self) -> str:
        day = f"{self.time.now_us // (86_400 * SECOND_US)}"
        return f"75=202311{14 + int(day) - 19675:02d}"

    def _say(self, body: str) -> None:
        delay = 0
        if "delay" in self.misbehaves and self.random.random() < 0.1:
            self.counts["lp.delay"] += 1
            delay = self.random.choice((300, 2_000, 8_000)) * MS
        self.said.append(Said(body.replace("|", SOH), self.time.now_us + delay + self.random.choice((0, 1, 10)) * MS))

    # ------------------------------------------------------------------------------------------------------- in the end

    def behave(self) -> None:
        """No more misfortune: everything that was planned or kept back is said."""
        self.misbehaves = frozenset()
        self.up_again_us = 0
        for order in self.orders.values():
            order.silent_until_us = 0
        for body in self.withheld:
            self._say(body)
        self.withheld = []

    @property
    def is_quiet(self) -> bool:
        return not self._plans and not self.on_wire and self.next_in == len(self.said)
