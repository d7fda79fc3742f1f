"""Whatever clients, prices, providers, staff and the clock do, in any order: the laws of the engine hold after every step.

Hypothesis writes the stories and, when a law is broken, tells the shortest one that it finds.
"""

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bus import codec
from engine.core import Prior, execute
from engine.corrections import history_with
from engine.standing import Unpriced, look_at
from engine.state import State, state_hash
from engine.stopout import next_step
from engine.work import Work
from engine.worth import worth_of
from tests.support import laws
from tests.support.builders import group, policy
from tests.support.builders import rule as routed
from tests.support.laws import SYMBOLS, every_rule, reborn
from tests.support.second_books import SecondBooks, TapedWorld
from trading.accounts import Account, ClientClass
from trading.charges.commission import CommissionPosting, CommissionTerms, CommissionTier, CommissionTierBasis
from trading.charges.swap import SwapFreeTerms, SwapMode, SwapTerms
from trading.commands import (
    Adjust,
    AnyCommand,
    CancelAll,
    CancelOrder,
    CloseBy,
    ClosePositions,
    CorrectDeal,
    ExpireOrders,
    GrantBonus,
    GrantCredit,
    ModifyOrder,
    PayDividend,
    ReloadConfig,
    RequestWithdrawal,
    ReversePosition,
    RollOver,
    SetSwitch,
    SettleCommission,
    SettleWithdrawal,
    SplitInstrument,
    SwitchScope,
    Which,
)
from trading.commands import Deposit as PayIn
from trading.configuration import CommissionRule, Config, Markup
from trading.events import ErrorBooked
from trading.instruments import Instrument
from trading.ledger import HOUSE_NEGATIVE_BALANCE
from trading.liquidity import LpOrder, ReportKind
from trading.margining.terms import MarginRates, MarginTerms, Tier, TierBasis, Tiers, TierStyle
from trading.orders import Order, OrderType, Side, TimeInForce
from trading.positions import Position
from trading.pricing import client_quote, convert
from trading.protection import ProtectionTerms, StopTriggerMethod

DEAR_EVERY = 8
"""Steps between two looks at what is dear to check."""
ZERO = Decimal(0)
LPS = ("YOFX1", "PRIMEXM")
NUMBERS = st.integers(0, 1_000)
"""Which of the things that are there, counted round."""
SIDES = st.sampled_from(Side)
NAMES = st.sampled_from(list(SYMBOLS))
LOTS = st.sampled_from(["0.01", "0.07", "0.33", "1.00", "1.55", "4.00"])
POINTS = st.sampled_from([0, 0, 5, 30, 120, 400])
PROTECTIONS = st.builds(
    ProtectionTerms,
    stop_loss_points=POINTS,
    take_profit_points=POINTS,
    trailing_points=POINTS,
    trailing_step=st.sampled_from([0, 10]),
    trailing_activation=st.sampled_from([None, 0, 20]),
    break_even_points=POINTS,
    break_even_offset=st.sampled_from([0, 5]),
    is_guaranteed=st.booleans(),
    stop_trigger=st.sampled_from([None, *StopTriggerMethod]),
)
RETAIL, NET, FREE, SMALL = 1, 4, 6, 7


def all_rules(version: int = 1) -> Config:
    """Besides the rules of every symbol: swaps of three kinds, tiers of margin, daily commission, no interest for some. The
    second version has other prices, charges and routes."""
    plain = every_rule()
    is_first = version == 1
    tiers = Tiers(
        style=TierStyle.RATES,
        basis=TierBasis.NOTIONAL,
        steps=(Tier(to=Decimal(100_000)), Tier(to=Decimal(300_000), initial=Decimal(2), maintenance=Decimal(2)),
               Tier(initial=Decimal(4), maintenance=Decimal(4))),
    )  # fmt: skip
    terms: dict[str, dict[str, Any]] = {
        "EURUSD": {
            "swap": SwapTerms(mode=SwapMode.POINTS, long=Decimal("-6.53" if is_first else "-8"), short=Decimal("2.5"))
        },
        "GBPUSD": {
            "margin": MarginTerms(tiers=tiers),
            "swap": SwapTerms(mode=SwapMode.BASE, long=Decimal(-4), short=Decimal(1)),
        },
        "USDJPY": {"swap": SwapTerms(mode=SwapMode.REOPEN_CLOSE, long=Decimal(-5), short=Decimal(3))},
        "XAUUSD": {
            "swap": SwapTerms(mode=SwapMode.PERCENT_CURRENT, long=Decimal("-3.6"), short=Decimal("-1.1")),
            "margin": MarginTerms(rates=MarginRates(buy=Decimal("1.5" if is_first else "2"))),
        },
    }
    daily = CommissionTerms(
        rate=Decimal("3.50"),
        posting=CommissionPosting.DAILY,
        tier_basis=CommissionTierBasis.TURNOVER_LOTS,
        tiers=(CommissionTier(at_least=Decimal(3), rate=Decimal(2)),),
    )
    groups = {
        **plain.groups,
        "daily": group(
            "daily",
            leverage_max=100,
            commission_per_lot=ZERO,
            markup=Markup(bid=1 if is_first else 4, ask=1),
            commissions=(CommissionRule(name="daily", terms=daily),),
        ),
        "free": group("free", swap_free=SwapFreeTerms(free_nights=1, fee_per_lot=Decimal("4.4"))),
    }
    instruments = {**plain.instruments}
    for symbol, these in terms.items():
        instruments[symbol] = msgspec.structs.replace(instruments[symbol], **these)
    routes = plain.policy if is_first else policy(routed("shared", action="C"), version=version)
    return msgspec.structs.replace(plain, version=version, instruments=instruments, groups=groups, policy=routes)


CONFIGS = {version: all_rules(version) for version in (1, 2)}


def has_positions(machine: "Engine") -> bool:
    return bool(machine.world.state.positions)


def has_orders(machine: "Engine") -> bool:
    return bool(machine.world.state.orders)


def has_legs(machine: "Engine") -> bool:
    return bool(machine.world.state.legs)


class Engine(RuleBasedStateMachine):
    """One world, a second set of books of it, and everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = TapedWorld(CONFIGS[1])
        self.books = SecondBooks(self.world)
        self.said: list[tuple[LpOrder, dict[str, object]]] = []
        self.unasked: list[tuple[LpOrder, dict[str, Any], Decimal]] = []
        self.bids = {symbol: Decimal(base) for symbol, (base, _) in SYMBOLS.items()}
        self.steps = 0
        self.version = 1
        self.is_priced = False
        """The last thing that happened was a price that somebody stands behind."""

    @initialize(sides=st.lists(SIDES, min_size=7, max_size=7))
    def open(self, sides: list[Side]) -> None:
        world, professional = self.world, ClientClass.PROFESSIONAL
        self.accounts = [
            world.open_account(RETAIL, currency="EUR", group="retail", deposit="20000", jurisdiction="EU"),
            world.open_account(2, currency="EUR", group="pro", leverage=200, client_class=professional, deposit="50000"),
            world.open_account(3, currency="USD", group="vip", deposit="500000", leverage=100),
            world.open_account(NET, currency="USD", group="net", deposit="100000", leverage=200),
            world.open_account(5, currency="USD", group="daily", deposit="100000", leverage=100),
            world.open_account(FREE, currency="USD", group="free", deposit="30000"),
            world.open_account(SMALL, currency="USD", group="tight", deposit="1500", leverage=200),
        ]  # fmt: skip
        world.price("EURJPY", "165.000", "165.010")
        world.price("EURGBP", "0.85000", "0.85010")
        for symbol in SYMBOLS:
            self.tick(symbol)
        for account, side in zip(self.accounts, sides, strict=True):
            world.place(account, "GBPUSD", side, "0.90" if account == SMALL else "0.50")
        for symbol in ("XAUUSD", "USDJPY"):
            world.place(2, symbol, sides[0], "0.10")
        self.providers_fill_all()

    # --- prices and time ---

    def tick(self, symbol: str, *, spread: int = 2, lps: tuple[str, ...] = LPS) -> None:
        bid, step = self.bids[symbol], self.point(symbol)
        bid = bid.quantize(step)
        self.world.price(symbol, str(bid), str(bid + spread * step), lps=lps)
        self.is_priced = bool(lps)

    def point(self, symbol: str) -> Decimal:
        return Decimal(1).scaleb(-SYMBOLS[symbol][1])

    def move(self, symbol: str, by: Decimal) -> None:
        """Never to a price that is out of this world."""
        low, high = Decimal(SYMBOLS[symbol][0]) / 8, Decimal(SYMBOLS[symbol][0]) * 4
        self.bids[symbol] = min(max(self.bids[symbol] + by, low), high)

    @rule(
        symbol=NAMES,
        points=st.integers(-400, 400),
        spread=st.integers(0, 20),
        lps=st.sampled_from([LPS, LPS, LPS[1:], ()]),
    )
    def price_moves(self, symbol: str, points: int, spread: int, lps: tuple[str, ...]) -> None:
        self.move(symbol, points * self.point(symbol))
        self.tick(symbol, spread=spread, lps=lps)

    @rule(symbol=NAMES, per_mille=st.integers(-90, 90))
    def price_gaps(self, symbol: str, per_mille: int) -> None:
        self.move(symbol, self.bids[symbol] * per_mille / 1000)
        self.tick(symbol)

    @precondition(has_positions)
    @rule(which=NUMBERS, per_mille=st.integers(1, 90))
    def price_goes_against_somebody(self, which: int, per_mille: int) -> None:
        position = self.position(which)
        self.move(position.symbol, -position.side.sign * self.bids[position.symbol] * per_mille / 1000)
        self.tick(position.symbol)

    @precondition(has_positions)
    @rule(which=NUMBERS, points=st.integers(-250, 250))
    def price_of_a_position_moves(self, which: int, points: int) -> None:
        symbol = self.position(which).symbol
        self.move(symbol, points * self.point(symbol))
        self.tick(symbol)

    @rule(symbol=NAMES, seconds=st.sampled_from([0.5, 2, 10, 3600]), points=st.integers(-100, 100))
    def time_passes(self, symbol: str, seconds: float, points: int) -> None:
        self.world.wait(seconds)
        self.move(symbol, points * self.point(symbol))
        self.tick(symbol)

    @rule(hours=st.sampled_from([5, 24, 24, 70]), charges=st.booleans())
    def nights_pass(self, hours: int, charges: bool) -> None:
        self.world.wait(hours * 3600)
        if charges:
            self.tell(RollOver)
            self.tell(SettleCommission)
        for symbol in SYMBOLS:
            self.tick(symbol)

    @rule()
    def orders_expire(self) -> None:
        self.tell(ExpireOrders)
        waiting = [order for order in self.world.state.orders.values() if order.is_resting]
        assert [order for order in waiting if 0 < order.expires_us <= self.world.now_us] == []

    # --- clients ---

    def tell(self, kind: Any, **terms: Any) -> None:
        name = self.world.request()
        command: AnyCommand = kind(id=name, key=name, reply_to="test", **terms)
        self.run(command)

    def run(self, command: AnyCommand, prior: Prior = Prior()) -> None:  # noqa: B008  an immutable value
        self.is_priced = False
        self.world.run(command, prior)

    def account(self, number: int) -> int:
        return self.accounts[number % len(self.accounts)]

    def order(self, number: int) -> Order:
        """One that waits where any does."""
        orders = list(self.world.state.orders.values())
        orders = [order for order in orders if order.is_resting] or orders
        return orders[number % len(orders)]

    def position(self, number: int) -> Position:
        positions = list(self.world.state.positions.values())
        return positions[number % len(positions)]

    @rule(
        who=NUMBERS,
        symbol=NAMES,
        side=SIDES,
        lots=LOTS,
        protection=st.none() | PROTECTIONS,
        slip=st.sampled_from([None, 0, 10]),
    )
    def market_order(
        self, who: int, symbol: str, side: Side, lots: str, protection: ProtectionTerms | None, slip: int | None
    ) -> None:
        self.tick(symbol)
        terms: dict[str, Any] = {} if protection is None else {"protection": protection}
        if slip is not None:
            terms |= {"max_slippage": slip, "price": self.bids[symbol].quantize(self.point(symbol))}
        self.place(self.account(who), symbol, side, lots, **terms)

    @rule(symbol=NAMES, side=SIDES, lots=st.sampled_from(["0.50", "1.00", "2.20"]))
    def risk_it_all(self, symbol: str, side: Side, lots: str) -> None:
        self.tick(symbol)
        self.place(SMALL, symbol, side, lots)

    def place(self, account: int, symbol: str, side: Side, lots: str, **terms: Any) -> None:
        self.is_priced = False
        self.world.place(account, symbol, side, lots, **terms)

    def near(self, symbol: str, points: int) -> Decimal:
        return (self.bids[symbol] + points * self.point(symbol)).quantize(self.point(symbol))

    @rule(
        who=NUMBERS, symbol=NAMES, side=SIDES, lots=LOTS,
        kind=st.sampled_from([OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT]),
        limit=st.integers(-300, 300), stop=st.integers(-300, 300),
        force=st.sampled_from([None, TimeInForce.GTC, TimeInForce.DAY, TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK]),
        protection=st.none() | PROTECTIONS,
    )  # fmt: skip
    def waiting_order(
        self, who: int, symbol: str, side: Side, lots: str, kind: OrderType, limit: int, stop: int,
        force: TimeInForce | None, protection: ProtectionTerms | None,
    ) -> None:  # fmt: skip
        self.tick(symbol)
        terms: dict[str, Any] = {"type": kind, "time_in_force": force}
        if kind is not OrderType.STOP:
            terms["price"] = self.near(symbol, limit)
        if kind is not OrderType.LIMIT:
            terms["stop_price"] = self.near(symbol, stop)
        if force is TimeInForce.GTD:
            terms["expires_us"] = self.world.now_us + 5 * 10**6
        if protection is not None:
            terms["protection"] = protection
        self.place(self.account(who), symbol, side, lots, **terms)

    @rule(who=NUMBERS, symbol=NAMES, away=st.integers(1, 200), lots=LOTS)
    def pair_of_orders(self, who: int, symbol: str, away: int, lots: str) -> None:
        self.tick(symbol)
        pair = f"pair {self.world.requests}"
        for side in Side:
            price = self.near(symbol, -side.sign * away)
            self.place(self.account(who), symbol, side, lots, type=OrderType.LIMIT, price=price, oco_group=pair)

    @precondition(has_orders)
    @rule(which=NUMBERS, points=st.integers(-300, 300), lots=st.none() | LOTS, protection=st.none() | PROTECTIONS)
    def changed_order(self, which: int, points: int, lots: str | None, protection: ProtectionTerms | None) -> None:
        order = self.order(which)
        self.tick(order.symbol)
        self.tell(
            ModifyOrder,
            account=order.account,
            order_id=order.id,
            price=None if order.price is None else self.near(order.symbol, points),
            volume=None if lots is None else Decimal(lots),
            protection=protection,
        )

    @precondition(has_orders)
    @rule(which=NUMBERS, takes_all=st.booleans())
    def order_taken_back(self, which: int, takes_all: bool) -> None:
        order = self.order(which)
        if takes_all:
            self.tell(CancelAll, account=order.account)
        else:
            self.tell(CancelOrder, account=order.account, order_id=order.id)

    @precondition(has_positions)
    @rule(which=NUMBERS, percent=st.sampled_from([None, 1, 30, 99]), is_fresh=st.booleans())
    def position_closed(self, which: int, percent: int | None, is_fresh: bool) -> None:
        position = self.position(which)
        if is_fresh:
            self.tick(position.symbol)
            position = self.world.state.positions.get(position.id, position)
        lots = max(
            Decimal("0.01"), ((position.volume - position.locked) * (percent or 0) / 100).quantize(Decimal("0.01"))
        )
        self.is_priced = False
        self.world.close(position.account, position.id, None if percent is None else str(lots))

    @precondition(has_positions)
    @rule(which=NUMBERS, other=NUMBERS)
    def closed_by_another(self, which: int, other: int) -> None:
        one = self.position(which)
        alike = [p for p in self.world.positions(one.account) if p.symbol == one.symbol and p.side is not one.side]
        by = alike[other % len(alike)] if alike else self.position(other)
        self.tell(CloseBy, account=one.account, position_id=one.id, by_position_id=by.id)

    @precondition(has_positions)
    @rule(which=NUMBERS)
    def position_reversed(self, which: int) -> None:
        position = self.position(which)
        self.tick(position.symbol)
        self.tell(ReversePosition, account=position.account, position_id=position.id)

    @rule(who=NUMBERS, which=st.sampled_from(Which))
    def many_closed(self, who: int, which: Which) -> None:
        self.tell(ClosePositions, account=self.account(who), which=which)

    @precondition(has_positions)
    @rule(
        which=NUMBERS,
        protection=PROTECTIONS,
        keep=st.sampled_from([(), ("stop_loss",), ("take_profit", "trailing_stop")]),
    )
    def position_protected(self, which: int, protection: ProtectionTerms, keep: tuple[str, ...]) -> None:
        position = self.position(which)
        self.is_priced = False
        terms = {name: getattr(protection, name) for name in protection.__struct_fields__}
        self.world.protect(position.account, position.id, keep=keep, **terms)

    @rule(number=NUMBERS)
    def command_repeated(self, number: int) -> None:
        """An old command word for word: whatever it was, it does nothing again."""
        keyed = [e.command for e in self.world.tape if (e.command.account, e.command.key) in self.world.state.keys]
        done = self.world.run(keyed[number % len(keyed)])
        self.is_priced = False
        assert done.events == []

    # --- providers ---

    def leg(self, number: int) -> LpOrder:
        legs = list(self.world.state.legs.values())
        return legs[number % len(legs)]

    def fill(self, leg: LpOrder, lots: Decimal, points: int) -> None:
        self.is_priced = False
        price = self.near(leg.symbol, points)
        fields: dict[str, object] = {
            "last_px": price, "last_qty": lots * leg.quantity / leg.volume, "exec_id": f"X{len(self.said)}"
        }  # fmt: skip
        self.said.append((leg, fields))
        self.books.filled(leg.lp, leg.symbol, leg.side.sign, lots, price)
        self.world.report(leg, ReportKind.FILL, **fields)

    @precondition(has_legs)
    @rule(which=NUMBERS, points=st.integers(-300, 300))
    def provider_fills(self, which: int, points: int) -> None:
        leg = self.leg(which)
        self.fill(leg, leg.volume - leg.filled_volume, points)

    @precondition(has_legs)
    @rule()
    def providers_fill_all(self) -> None:
        for leg in list(self.world.state.legs.values()):
            self.fill(leg, leg.volume - leg.filled_volume, 0)

    @precondition(has_legs)
    @rule(which=NUMBERS, tenths=st.integers(1, 9), points=st.integers(-300, 300))
    def provider_fills_a_part(self, which: int, tenths: int, points: int) -> None:
        leg = self.leg(which)
        part = ((leg.volume - leg.filled_volume) * tenths / 10).quantize(Decimal("0.01"))
        self.fill(leg, max(Decimal("0.01"), part), points)

    @precondition(has_legs)
    @rule(which=NUMBERS, kind=st.sampled_from([ReportKind.REJECTED, ReportKind.CANCELED, ReportKind.ACKNOWLEDGED]))
    def provider_refuses(self, which: int, kind: ReportKind) -> None:
        leg = self.leg(which)
        self.is_priced = False
        self.world.report(leg, kind, lp_order_id=f"O{leg.id}", text="no")

    @precondition(lambda self: bool(self.said))
    @rule(which=NUMBERS)
    def provider_repeats(self, which: int) -> None:
        leg, fields = self.said[which % len(self.said)]
        if leg.cl_ord_id in self.world.state.legs:
            self.is_priced = False
            done = self.world.report(leg, ReportKind.FILL, **fields)
            assert not any(hasattr(event, "deal") for event in done.events)

    @precondition(lambda self: bool(self.said))
    @rule(
        which=NUMBERS, side=SIDES, hundredths=st.integers(1, 40), points=st.integers(-300, 300), is_known=st.booleans()
    )
    def provider_deals_unasked(self, which: int, side: Side, hundredths: int, points: int, is_known: bool) -> None:
        """Late, in excess, of the wrong side, or about nothing: all the house's."""
        leg, _ = self.said[which % len(self.said)]
        live = self.world.state.legs.get(leg.cl_ord_id)
        lots, price = Decimal(hundredths) / 100, self.near(leg.symbol, points)
        if is_known and live is not None and side is live.side:
            lots += live.volume - live.filled_volume
        said = {"last_px": price, "last_qty": lots * leg.quantity / leg.volume, "exec_id": f"U{len(self.unasked)}"}
        named = leg.cl_ord_id if is_known else "nobody's"
        self.is_priced = False
        self.unasked.append((leg, {**said, "side": side}, lots))
        self.books.filled(leg.lp, leg.symbol, side.sign, lots, price)
        self.world.report(leg, ReportKind.FILL, side=side, cl_ord_id=named, **said)

    @precondition(lambda self: bool(self.unasked) or bool(self.said))
    @rule(which=NUMBERS, is_asked=st.booleans())
    def provider_takes_back(self, which: int, is_asked: bool) -> None:
        told = [(leg, {"side": leg.side, **fields}) for leg, fields in self.said]
        told = told if is_asked and told else [(leg, fields) for leg, fields, _ in self.unasked] or told
        leg, said = told[which % len(told)]
        self.is_priced = False
        done = self.world.report(leg, ReportKind.BUST, exec_ref_id=said["exec_id"])
        for event in done.events:
            if isinstance(event, ErrorBooked):
                fill = event.fill
                assert (fill.side, fill.price) == (said["side"].opposite, said["last_px"])  # type: ignore[attr-defined]
                self.books.filled(leg.lp, leg.symbol, fill.side.sign, fill.volume, fill.price)

    # --- money and staff ---

    @rule(
        who=NUMBERS,
        cents=st.integers(1, 3_000_000),
        kind=st.sampled_from([PayIn, RequestWithdrawal, GrantCredit, GrantBonus, Adjust]),
        sign=st.sampled_from([1, -1]),
    )
    def money_moves(self, who: int, cents: int, kind: Any, sign: int) -> None:
        amount = Decimal(cents) / 100
        more: dict[str, Any] = {"reference": "why"} if kind is Adjust else {}
        amount *= sign if kind in (Adjust, GrantCredit) else 1
        self.tell(kind, account=self.account(who), amount=amount, **more)

    @precondition(lambda self: bool(self.world.state.withdrawals))
    @rule(which=NUMBERS, is_paid=st.booleans())
    def withdrawal_settled(self, which: int, is_paid: bool) -> None:
        waiting = list(self.world.state.withdrawals)
        self.tell(SettleWithdrawal, transaction_id=waiting[which % len(waiting)], is_paid=is_paid)

    @rule(scope=st.sampled_from(SwitchScope), symbol=NAMES, who=NUMBERS, stops=st.booleans())
    def switched(self, scope: SwitchScope, symbol: str, who: int, stops: bool) -> None:
        targets = {
            SwitchScope.FIRM: "",
            SwitchScope.SYMBOL: symbol,
            SwitchScope.ACCOUNT: str(self.account(who)),
            SwitchScope.LP: LPS[who % len(LPS)],
        }
        self.tell(SetSwitch, scope=scope, target=targets[scope], stops=stops)

    @rule(symbol=NAMES, long=st.integers(-50, 50))
    def dividend(self, symbol: str, long: int) -> None:
        per_unit = Decimal(long) * self.point(symbol)
        self.tell(
            PayDividend, symbol=symbol, long_per_unit=per_unit, short_per_unit=-per_unit,
            ex_us=self.world.now_us, reference="dividend",
        )  # fmt: skip

    @rule(is_doubled=st.booleans())
    def split(self, is_doubled: bool) -> None:
        """Gold comes in new ounces, and its next price is of these."""
        new, old = (2, 1) if is_doubled else (1, 2)
        then = self.bids["XAUUSD"] * old / new
        if not 600 <= then <= 9600:
            return
        self.tell(SplitInstrument, symbol="XAUUSD", new=new, old=old, reference="split")
        if self.world.tape[-1].done.events:
            self.bids["XAUUSD"] = then
            self.tick("XAUUSD")

    @precondition(lambda self: self.books.deals)
    @rule(which=NUMBERS, points=st.none() | st.integers(-200, 200))
    def deal_corrected(self, which: int, points: int | None) -> None:
        deals = self.books.deals
        deal = deals[-1 - which % min(len(deals), 12)]
        point = self.point(deal.symbol)
        price = None if points is None else (deal.price + points * point).quantize(point)
        events = [event for done in self.world.executed for event in done.events]
        name = self.world.request()
        command = CorrectDeal(
            id=name, key=name, deal_id=deal.id, price=price, actor="staff:1", approved_by="staff:2", reason="bad tick"
        )
        self.run(command, history_with(Prior(), deal.id, events))

    @rule()
    def terms_change(self) -> None:
        self.version = 3 - self.version
        self.tell(ReloadConfig, version=self.version, config=CONFIGS[self.version])
        self.world.config = CONFIGS[self.version]

    @rule()
    def memory_is_lost(self) -> None:
        self.world.state = self.again(self.world.state)
        self.world.turn += 1

    def again(self, before: State) -> State:
        """The state as a new process would load it; prices and keys come from elsewhere."""
        after = reborn(before)
        assert state_hash(after) == state_hash(before)
        after.quotes, after.keys = before.quotes, before.keys
        return after

    # --- what must hold ---

    @invariant()
    def everything_adds_up(self) -> None:
        self.books.take_in()
        self.steps += 1
        laws.check_conservation(self.world)
        self.books.check_money()
        self.check_protected()
        laws.check_margin(self.world)
        self.check_flat()
        if self.is_priced:
            self.check_watched()
        if self.steps % DEAR_EVERY == 0:
            self.books.check()
            laws.check_running_sums(self.world)
            self.check_worth()

    def check_flat(self) -> None:
        state = self.world.state
        for number in state.accounts:
            if not self.world.positions(number) and not any(o.account == number for o in state.orders.values()):
                assert state.margin_used(number) == 0, number

    def check_protected(self) -> None:
        """A retail client who has nothing open owes nothing; and is given nothing while something is open."""
        state = self.world.state
        for account in state.accounts.values():
            is_busy = any(
                each.account == account.id
                for kind in (state.positions, state.orders, state.legs)
                for each in kind.values()
            )
            if account.client_class is ClientClass.RETAIL and not is_busy:
                assert account.balance >= 0, account
            paid = [
                t for t in self.books.newest if (t.source, t.target) == (HOUSE_NEGATIVE_BALANCE, f"client:{account.id}")
            ]
            assert len(paid) <= 1, paid
            assert not paid or (account.client_class is ClientClass.RETAIL and not is_busy and account.balance == 0)

    def equity(self, account: Account) -> Decimal | None:
        """By each position on its own, and the money; None while a price is missing."""
        state, config, total = self.world.state, self.world.config, ZERO
        for symbol in sorted({position.symbol for position in self.world.positions(account.id)}):
            terms = state.terms.of(account.group, symbol)
            quote = state.quotes.get(symbol)
            if quote is None or terms is None:
                return None
            result = sum(
                (self.result(p, terms, account) for p in self.world.positions(account.id) if p.symbol == symbol), ZERO
            )
            converted = convert(result, terms.quote, account.currency, config, state.quotes)
            if converted is None:
                return None
            total += converted
        swaps = sum((position.swap for position in self.world.positions(account.id)), ZERO)
        return account.balance + account.credit + total + swaps - account.commission_blocked

    def result(self, position: Position, terms: Instrument, account: Account) -> Decimal:
        seen = client_quote(self.world.state.quotes[position.symbol], self.world.config.groups[account.group], terms)
        price = seen.bid if position.side is Side.BUY else seen.ask
        return position.side.sign * (price * position.volume - position.cost) * terms.lot_value

    def check_worth(self) -> None:
        work = Work(self.world.state, self.world.config, self.world.now_us)
        for account in self.world.state.accounts.values():
            expected, worth = self.equity(account), worth_of(work, account)
            assert (expected is None) is (worth is None)
            if expected is not None and worth is not None:
                running = worth.balance + worth.credit + worth.profit + worth.swap - worth.commission_blocked
                assert abs(running - expected) < Decimal("1E-9"), account

    def check_watched(self) -> None:
        """Right after a price, nobody stands at or below the stop-out with something that could be closed."""
        state, config = self.world.state, self.world.config
        work = Work(state, config, self.world.now_us)
        for account in state.accounts.values():
            level, margin, equity = (
                config.groups[account.group].stop_out.level,
                state.margin_used(account.id),
                self.equity(account),
            )
            held = {position.symbol for position in self.world.positions(account.id)}
            if not margin or level is None or equity is None or state.closing.get(account.id):
                continue
            if not all(quote.tops for symbol, quote in state.quotes.items() if symbol in held | CONVERTING):
                continue
            if equity * 100 <= level * margin:
                look = look_at(work, account)
                assert not isinstance(look, Unpriced)
                assert next_step(work, look) is None, f"account {account.id} stands at {equity} of {margin}"

    def teardown(self) -> None:
        if not hasattr(self, "accounts"):
            return
        self.books.take_in()
        self.books.check()
        self.again(self.world.state)
        self.play_again()

    def play_again(self) -> None:
        """The same commands, with no price but those that decisions looked at: the same bytes."""
        state, turn = State(0, CONFIGS[1]), 0
        for entry in self.world.tape:
            while turn < entry.turn:
                state, turn = self.again(state), turn + 1
            state.quotes.update({quote.symbol: quote for quote in entry.done.quotes_used})
            done = execute(state, entry.command, entry.at_us, entry.prior)
            assert codec.encode(done.events) == codec.encode(entry.done.events), entry.command
        while turn < self.world.turn:
            state, turn = self.again(state), turn + 1
        assert state_hash(state) == state_hash(self.world.state)


CONVERTING = {"EURUSD", "GBPUSD", "USDJPY", "EURJPY", "EURGBP"}

TestEngine = Engine.TestCase
TestEngine.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
