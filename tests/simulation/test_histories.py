"""Random histories of the real engine core: clients trade, providers fill, reject, repeat and stay silent, memory is lost.

Every history is made from a seed, which a failure prints. Conservation is checked after every step; what is expensive (the
running sums against new ones, the hash of the state rebuilt from stored values) every hundredth and after each loss of memory.
"""

import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from bus import codec
from engine.state import state_hash
from tests.support import laws
from tests.support.laws import SYMBOLS, every_rule, reborn
from tests.support.random_terms import near, resting_terms, some_protection
from tests.support.world import World, order_of
from trading.accounts import ClientClass
from trading.commands import (
    Adjust,
    AnyCommand,
    CancelAll,
    CancelOrder,
    CloseBy,
    ClosePositions,
    Deposit,
    ExpireOrders,
    GrantCredit,
    LiftHalt,
    ModifyOrder,
    ModifyProtection,
    RequestWithdrawal,
    ReversePosition,
    SettleLeg,
    SettleWithdrawal,
    Which,
)
from trading.desk import MarginNoteKind
from trading.events import (
    ChildOrderRouted,
    CommandKeyed,
    DealMade,
    ErrorBooked,
    ExecutionKept,
    MarginNoted,
    OrderRouted,
    PositionOpened,
)
from trading.liquidity import LpOrder, ReportKind, Settlement, is_settled
from trading.orders import DealEntry, Order, OrderType, Side
from trading.positions import Position

OPERATIONS = 2_000


class History:
    """One seeded run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(every_rule())
        self.counts: Counter[str] = Counter()
        self.said: list[tuple[LpOrder, dict[str, Any]]] = []
        self.undone: dict[str, Decimal] = {}
        """What is left of fills that were taken back or corrected, by ExecID."""
        self.lp_books: Counter[tuple[str, str]] = Counter()
        self.accounts = [
            self.world.open_account(1, currency="USD", group="retail", deposit="50000"),
            self.world.open_account(
                2, currency="EUR", group="pro", leverage=200, client_class=ClientClass.PROFESSIONAL
            ),
            self.world.open_account(3, currency="USD", group="vip", deposit="500000", leverage=100),
            self.world.open_account(4, currency="USD", group="net", deposit="100000", leverage=200),
            self.world.open_account(
                5, currency="EUR", group="net", deposit="50000", leverage=200, client_class=ClientClass.PROFESSIONAL
            ),
            self.world.open_account(6, currency="USD", group="tight", deposit="1500", leverage=200),
        ]
        for symbol in SYMBOLS:
            self.move_price(symbol)
        self.world.price("EURJPY", "165.000", "165.010")
        self.world.price("EURGBP", "0.85000", "0.85010")

    def run(self, operations: int) -> str:
        """Play; returns everything that happened, as bytes' text, to compare two runs of one seed."""
        moves = [
            (self.move_price, 40), (self.place, 20), (self.rest, 20), (self.close, 15), (self.answer, 45),
            (self.repeat, 4), (self.protect, 8), (self.change, 6), (self.take_back, 3), (self.expire, 2),
            (self.wait, 5), (self.lose_memory, 1), (self.close_by, 8), (self.reverse, 6), (self.close_many, 1),
            (self.rest_pair, 4), (self.move_money, 4), (self.top_up, 10),
            (self.risk, 30), (self.misbehave, 8), (self.settle, 1),
        ]  # fmt: skip
        names, weights = zip(*moves, strict=True)
        for step in range(operations):
            move = self.random.choices(names, weights)[0]
            move()
            self.counts[move.__name__] += 1
            self.check_conservation()
            if step % 100 == 0:
                self.check_running_sums()
        self.finish()
        return codec.encode([done.events for done in self.world.executed]).hex()

    # --- what happens ---

    def move_price(self, symbol: str = "") -> None:
        symbol = symbol or self.random.choice(list(SYMBOLS))
        base, digits = SYMBOLS[symbol]
        step = Decimal(1).scaleb(-digits)
        bid = Decimal(base) + step * self.random.randint(-400, 400)
        lps = self.random.choice([("YOFX1", "PRIMEXM"), ("YOFX1", "PRIMEXM"), ("PRIMEXM",), ()])
        self.world.price(symbol, str(bid), str(bid + step * self.random.randint(1, 20)), lps=lps)

    def place(self) -> None:
        volume = Decimal(self.random.choice([1, 3, 7, 10, 55, 100, 133, 250])) / 100
        side = self.random.choice([Side.BUY, Side.SELL])
        self.world.place(self.random.choice(self.accounts), self.random.choice(list(SYMBOLS)), side, f"{volume:.2f}")

    def rest(self) -> None:
        """An order that waits, on the right side of the price or not, with or without protection and end."""
        symbol = self.random.choice(list(SYMBOLS))
        terms = resting_terms(self.random, symbol, self.world.now_us)
        volume = Decimal(self.random.choice([1, 5, 20, 90, 150])) / 100
        side = self.random.choice([Side.BUY, Side.SELL])
        self.world.place(self.random.choice(self.accounts), symbol, side, f"{volume:.2f}", **terms)

    def protect(self) -> None:
        position = self.some_position()
        if position is not None:
            name = self.world.request()
            terms = some_protection(self.random)
            self.world.run(
                ModifyProtection(id=name, key=name, account=position.account, position_id=position.id, protection=terms)
            )

    def change(self) -> None:
        order = self.some_order()
        if order is not None:
            name = self.world.request()
            price = near(self.random, order.symbol) if order.price is not None else None
            self.world.run(
                ModifyOrder(id=name, key=name, account=order.account, order_id=order.id, price=price, expires_us=0)
            )

    def take_back(self) -> None:
        order = self.some_order()
        if order is not None:
            name = self.world.request()
            self.world.run(CancelOrder(id=name, key=name, account=order.account, order_id=order.id))

    def expire(self) -> None:
        name = self.world.request()
        self.world.run(ExpireOrders(id=name, key=name))

    def some_order(self) -> Order | None:
        orders = list(self.world.state.orders.values())
        return self.random.choice(orders) if orders else None

    def close(self) -> None:
        position = self.some_position()
        if position is None:
            return
        free = position.volume - position.locked
        part = None if self.random.random() < 0.5 or free <= 0 else f"{free * self.random.randint(1, 99) / 100:.2f}"
        self.world.close(position.account, position.id, part)

    def close_by(self) -> None:
        """Two positions of one account and symbol where there are some, opposite or not."""
        position = self.some_position()
        if position is None:
            return
        others = [
            other.id
            for other in self.world.state.positions.values()
            if (other.account, other.symbol) == (position.account, position.symbol) and other.id != position.id
        ]
        name = self.world.request()
        by = self.random.choice(others or [position.id])
        self.world.run(CloseBy(id=name, key=name, account=position.account, position_id=position.id, by_position_id=by))

    def reverse(self) -> None:
        position = self.some_position()
        if position is not None:
            name = self.world.request()
            self.world.run(
                ReversePosition(id=name, key=name, account=position.account, position_id=position.id, reply_to="test")
            )

    def close_many(self) -> None:
        name = self.world.request()
        which = self.random.choice(list(Which))
        account = self.random.choice(self.accounts)
        self.world.run(ClosePositions(id=name, key=name, account=account, which=which))

    def rest_pair(self) -> None:
        """Two orders around the price, of which one at most shall be dealt."""
        symbol, account = self.random.choice(list(SYMBOLS)), self.random.choice(self.accounts)
        pair = f"pair {self.world.requests}"
        for side in (Side.BUY, Side.SELL):
            done = self.world.place(
                account, symbol, side, "0.40", type=OrderType.LIMIT, price=near(self.random, symbol), oco_group=pair
            )
            if not order_of(done).is_resting:
                return  # dealt already: there is nobody to cancel it

    def some_position(self) -> Position | None:
        positions = list(self.world.state.positions.values())
        return self.random.choice(positions) if positions else None

    def answer(self) -> None:
        """A provider says something about one of its live orders."""
        legs = list(self.world.state.legs.values())
        if not legs:
            return
        leg = self.random.choice(legs)
        kind = self.random.choices(["fill", "part", "reject", "cancel", "ack", "early end"], [50, 25, 10, 5, 10, 5])[0]
        rest = leg.volume - leg.filled_volume
        some = max(Decimal("0.01"), (rest * self.random.randint(1, 9) / 10).quantize(Decimal("0.01")))
        if leg.missing:
            self.fill(leg, leg.missing)
        elif kind == "part":
            self.fill(leg, some)
        elif kind == "fill":
            self.fill(leg, rest)
        elif kind == "early end":  # before the fills that it counts
            counted = (leg.filled_volume + some) * leg.quantity / leg.volume
            self.world.report(leg, ReportKind.CANCELED, cum_qty=counted, text=kind)
        else:
            kinds = {"reject": ReportKind.REJECTED, "cancel": ReportKind.CANCELED, "ack": ReportKind.ACKNOWLEDGED}
            self.world.report(leg, kinds[kind], lp_order_id=f"O{leg.id}", text=kind)

    def fill(self, leg: LpOrder, lots: Decimal, **fields: Any) -> None:
        """The provider deals these lots; its own book is what it says."""
        said = {
            "last_px": self.some_price(leg.symbol),
            "last_qty": lots * leg.quantity / leg.volume,
            "exec_id": f"X{len(self.said)}",
            "side": leg.side,
            **fields,
        }
        self.said.append((leg, said))
        self.count(leg, said["side"].sign * said["last_qty"])
        self.world.report(leg, ReportKind.FILL, **said)

    def count(self, leg: LpOrder, quantity: Decimal) -> None:
        self.lp_books[leg.lp, leg.symbol] += quantity  # type: ignore[assignment]

    def some_price(self, symbol: str) -> Decimal:
        base, digits = SYMBOLS[symbol]
        return Decimal(base) + Decimal(1).scaleb(-digits) * self.random.randint(-400, 400)

    def repeat(self) -> None:
        """A provider repeats an old fill, word for word."""
        if self.said:
            leg, fields = self.random.choice(self.said)
            assert self.world.report(leg, ReportKind.FILL, **fields).events == []

    def misbehave(self) -> None:
        """A provider does what it must not."""
        live = [leg for leg in self.world.state.legs.values() if not leg.missing]
        ended = [x for name, x in self.world.legs.items() if name not in self.world.state.legs and not is_settled(x)]
        kind = self.random.choice(["late", "excess", "orphan", "wrong side", "conflict", "bust", "correct"])
        lots = Decimal(self.random.randint(1, 30)) / 100
        if kind == "late" and ended:
            self.fill(self.random.choice(ended), lots)
        elif kind == "excess" and live:
            leg = self.random.choice(live)
            self.fill(leg, leg.volume - leg.filled_volume + lots)
        elif kind == "orphan" and ended:
            self.fill(self.random.choice(ended), lots, cl_ord_id=f"nobody's {len(self.said)}")
        elif kind == "wrong side" and live:
            leg = self.random.choice(live)
            self.fill(leg, lots, side=leg.side.opposite)
        elif kind == "conflict" and self.said:
            leg, said = self.random.choice(self.said)
            self.world.report(leg, ReportKind.FILL, **{**said, "last_px": said["last_px"] + 1})
        elif kind == "bust" and self.said:
            self.take_back_fill(*self.random.choice(self.said))
        elif kind == "correct" and self.said:
            self.correct_fill(*self.random.choice(self.said))
        else:
            return
        self.counts[kind] += 1

    def take_back_fill(self, leg: LpOrder, said: dict[str, Any]) -> None:
        standing = self.standing(said)
        self.undone[said["exec_id"]] = Decimal(0)
        self.count(leg, -said["side"].sign * standing)
        self.world.report(leg, ReportKind.BUST, exec_ref_id=said["exec_id"])

    def correct_fill(self, leg: LpOrder, said: dict[str, Any]) -> None:
        standing, size = self.standing(said), leg.quantity / leg.volume
        quantity = self.random.randint(1, 50) * size / 100
        if standing:
            self.undone[said["exec_id"]] = quantity
            self.count(leg, said["side"].sign * (quantity - standing))
        price = self.some_price(leg.symbol)
        terms = {"exec_ref_id": said["exec_id"], "side": said["side"], "last_qty": quantity, "last_px": price}
        self.world.report(leg, ReportKind.CORRECT, **terms)

    def standing(self, said: dict[str, Any]) -> Decimal:
        """What is left of a fill after busts and corrections, in units of base."""
        quantity: Decimal = self.undone.get(said["exec_id"], said["last_qty"])
        return quantity

    def settle(self) -> None:
        """The desk says what became of an order, or that a provider may be dealt with again."""
        name = self.world.request()
        people: dict[str, Any] = {"actor": "staff:1", "approved_by": "staff:2"}
        for lp, symbol in self.world.state.desk.halts:
            self.world.run(LiftHalt(id=name, key=name, lp=lp, symbol=symbol))
            return
        for leg in self.world.state.legs.values():
            terms: dict[str, Any] = {"outcome": Settlement.NOT_FILLED}
            if self.random.random() < 0.5:
                quantity = (leg.volume - leg.filled_volume) * leg.quantity / leg.volume
                terms = {"outcome": Settlement.FILLED, "quantity": quantity, "price": self.some_price(leg.symbol)}
                self.count(leg, leg.side.sign * quantity)
            done = self.world.run(SettleLeg(id=name, key=name, cl_ord_id=leg.cl_ord_id, **terms, **people))
            assert done.events, "settled"
            return

    def move_money(self) -> None:
        """Somebody takes money out, gives some, or settles what waits."""
        name, account = self.world.request(), self.random.choice(self.accounts)
        amount = Decimal(self.random.randint(1, 100_000)) / 100
        waiting = next(iter(self.world.state.withdrawals), 0)
        commands: list[AnyCommand] = [
            RequestWithdrawal(id=name, key=name, account=account, amount=amount),
            SettleWithdrawal(id=name, key=name, transaction_id=waiting, is_paid=self.random.random() < 0.5),
            Adjust(id=name, key=name, account=account, amount=amount - 500, reference="why"),
            GrantCredit(id=name, key=name, account=account, amount=amount - 400),
        ]
        self.world.run(self.random.choice(commands))

    def top_up(self) -> None:
        """The account that trades on little margin gets money again once it has lost most of it."""
        if self.world.balance(6) < 400:
            name = self.world.request()
            self.world.run(Deposit(id=name, key=name, account=6, amount=Decimal(1100)))

    def risk(self) -> None:
        """As much as it can carry, on one side."""
        self.world.place(6, "GBPUSD", self.random.choice([Side.BUY, Side.SELL]), self.random.choice(["1.00", "2.20"]))

    def wait(self) -> None:
        self.world.wait(self.random.choice([0.1, 1, 5]))
        self.move_price()

    def lose_memory(self) -> None:
        """The process dies; a new one starts from the stored values. Prices are not stored and come anew."""
        before = self.world.state
        after = reborn(before)
        assert state_hash(after) == state_hash(before)
        after.quotes = before.quotes
        after.keys = before.keys
        self.world.state = after
        self.check_running_sums()

    def finish(self) -> None:
        """Orders are taken back, providers answer what is open, clients close what they hold: everybody must end flat."""
        while self.world.state.legs or self.world.state.positions or self.world.state.desk.errors:
            self.world.wait(400)
            for symbol, (base, digits) in SYMBOLS.items():
                self.world.price(symbol, base, str(Decimal(base) + Decimal(1).scaleb(-digits)))
            self.expire()
            for account in self.accounts:
                name = self.world.request()
                self.world.run(CancelAll(id=name, key=name, account=account))
            for leg in list(self.world.state.legs.values()):
                self.fill(leg, leg.missing or leg.volume - leg.filled_volume)
            for position in list(self.world.state.positions.values()):
                if position.locked == 0:
                    self.world.close(position.account, position.id)
        self.check_conservation()
        self.check_keys()
        assert set(self.lp_books.values()) <= {0}
        assert self.world.state.orders == {}
        self.check_pairs()
        assert all(self.world.state.margin_used(account) == 0 for account in self.accounts)

    def notes(self) -> set[MarginNoteKind]:
        return {e.note.kind for done in self.world.executed for e in done.events if isinstance(e, MarginNoted)}

    # --- what must hold ---

    def check_pairs(self) -> None:
        """Of orders that cancel each other one at most was dealt."""
        events = [event for done in self.world.executed for event in done.events]
        last = {event.order.id: event.order for event in events if hasattr(event, "order")}
        dealt = Counter((o.account, o.oco_group) for o in last.values() if o.oco_group and o.filled_volume)
        assert set(dealt.values()) <= {1}

    def check_keys(self) -> None:
        """What a table holds once is said once: the database would refuse the batch with the second."""
        events = [event for done in self.world.executed for event in done.events]
        for kind, key in (
            (OrderRouted, lambda event: event.order_id),
            (DealMade, lambda event: event.deal.id),
            (ChildOrderRouted, lambda event: event.leg.cl_ord_id),
            (PositionOpened, lambda event: event.position.id),
            (CommandKeyed, lambda event: (event.account, event.key)),
            (ExecutionKept, lambda event: event.execution.key),
            (ErrorBooked, lambda event: event.fill.id),
        ):
            said = Counter(key(event) for event in events if isinstance(event, kind))
            assert [one for one, times in said.items() if times > 1] == [], kind.__name__

    def check_conservation(self) -> None:
        laws.check_conservation(self.world)

    def check_running_sums(self) -> None:
        laws.check_running_sums(self.world)
        at_providers: Counter[tuple[str, str]] = Counter()
        for position in self.world.state.positions.values():
            size = self.world.config.instruments[position.symbol].contract_size
            at_providers[position.lp, position.symbol] += position.side.sign * position.volume_a * size  # type: ignore[assignment]
        for holding in self.world.state.desk.errors:
            size = self.world.config.instruments[holding.symbol].contract_size
            at_providers[holding.lp, holding.symbol] += holding.volume * size  # type: ignore[assignment]
        for key in set(self.lp_books) | {k for k in at_providers if k[0]}:
            assert self.lp_books[key] == at_providers[key], key


@pytest.mark.parametrize("seed", range(8))
def test_random_histories_conserve_money_and_positions(seed: int) -> None:
    history = History(seed)
    history.run(OPERATIONS)
    assert history.counts["lose_memory"] > 0, f"seed {seed} never lost its memory"
    assert history.notes() >= {MarginNoteKind.MARGIN_CALL, MarginNoteKind.POSITION_CLOSED}, f"seed {seed}: no stop-out"
    assert len(history.said) > 100, f"seed {seed} hardly traded: {history.counts}"
    entries = Counter(deal.entry for deal in history.world.deals())
    wrong = {"late", "excess", "orphan", "wrong side", "conflict", "bust", "correct"}
    assert wrong <= set(history.counts), f"seed {seed} saw too little go wrong: {history.counts}"
    assert set(entries) == set(DealEntry), f"seed {seed} never closed in every way: {entries}"


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert History(7).run(500) == History(7).run(500)
