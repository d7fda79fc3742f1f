"""A whole account's margin: hedges, netting and tiers as stories; fast against slow after every change of random histories."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.conversion import SAME_CURRENCY, Rate
from trading.margining import reference
from trading.margining.account import AccountMargin, Intent, account_margin, slices
from trading.margining.modes import Exposure, charge, merged, split
from trading.margining.terms import (
    LEVERAGED,
    Accounting,
    HedgedMode,
    MarginKind,
    MarginMode,
    MarginPolicy,
    MarginRates,
    MarginRounding,
    MarginTerms,
    SymbolRule,
    Tier,
    TierBasis,
    Tiers,
    TierStyle,
    check_pools,
    check_terms,
)
from trading.orders import Side

BUY, SELL = Side.BUY, Side.SELL
POSITION, MARKET, LIMIT, STOP = MarginKind.POSITION, MarginKind.MARKET, MarginKind.LIMIT, MarginKind.STOP
SYMBOLS = ("EURUSD", "GBPUSD", "BTCUSD")


def d(text: str) -> Decimal:
    return Decimal(text)


# --- Stories ------------------------------------------------------------------------------------------------------------


def lot(side: Side, volume: str, margin: str, kind: MarginKind = POSITION, **amounts: str) -> Exposure:
    extra = {name: d(text) for name, text in amounts.items()}
    return Exposure(symbol="EURUSD", side=side, kind=kind, volume=d(volume), margin=d(margin), **extra)


def account(
    *exposures: Exposure, accounting: Accounting = Accounting.HEDGING, contract_size: str = "100000", **fields: Any
) -> AccountMargin:
    rules = {"EURUSD": SymbolRule(MarginTerms(**fields), d(contract_size))}
    return account_margin(exposures, rules=rules, policy=MarginPolicy(accounting=accounting), digits=2)


LONG_2 = lot(BUY, "2", "200")


@pytest.mark.parametrize(
    ("exposures", "expected"),
    [
        ([LONG_2], "200"),
        ([LONG_2, lot(SELL, "1", "100", LIMIT)], "200"),  # smaller than the position: nothing on top
        ([LONG_2, lot(SELL, "2", "220", LIMIT)], "200"),  # as large as the position, at a dearer price
        ([LONG_2, lot(SELL, "3", "300", LIMIT)], "300"),  # would reverse: the dearer of both
        ([LONG_2, lot(SELL, "2.01", "150", LIMIT)], "200"),
        ([LONG_2, lot(BUY, "1", "100", LIMIT)], "300"),
        ([LONG_2, lot(BUY, "1", "100", LIMIT), lot(SELL, "1", "100", LIMIT)], "300"),
        ([LONG_2, lot(BUY, "1", "100", LIMIT), lot(SELL, "5", "500", LIMIT)], "500"),
        ([lot(BUY, "1", "100", LIMIT), lot(SELL, "5", "500", MARKET)], "500"),
        ([LONG_2, lot(SELL, "1", "100", STOP)], "300"),  # stop orders always add
        ([LONG_2, lot(SELL, "1", "100", MARKET)], "200"),  # a started order may only add
        ([LONG_2, lot(BUY, "1", "100", MARKET)], "300"),
    ],
)
def test_netting_accounts_charge_the_dearer_side_and_always_the_stops(exposures: list[Exposure], expected: str) -> None:
    assert account(*exposures, accounting=Accounting.NETTING).margin == d(expected)


@pytest.mark.parametrize(
    ("mode", "hedged", "expected"),
    [
        (HedgedMode.LARGER_LEG, "0", "300"),
        (HedgedMode.NET, "100000", "200"),
        (HedgedMode.BASIC, "0", "200"),
        (HedgedMode.BASIC, "50000", "250"),
        (HedgedMode.BASIC, "100000", "300"),
    ],
)
def test_three_lots_against_one(mode: HedgedMode, hedged: str, expected: str) -> None:
    share = d(hedged) / d("100000")
    lines = [lot(BUY, "3", "300", hedged=str(300 * share)), lot(SELL, "1", "100", hedged=str(100 * share))]
    assert account(*lines, hedged_mode=mode, hedged=d(hedged)).margin == d(expected)


def test_an_opposite_order_in_flight_never_lowers_the_margin_of_a_hedge() -> None:
    held = account(LONG_2, hedged_mode=HedgedMode.NET)
    held.add(lot(SELL, "2", "200", MARKET))
    assert held.margin == d("200")
    held.replace(lot(SELL, "2", "200", MARKET), lot(SELL, "2", "200"))
    assert held.margin == d("0")


def test_pending_orders_join_the_larger_leg_but_are_added_to_a_basic_hedge() -> None:
    lines = [LONG_2, lot(SELL, "1", "100"), lot(SELL, "2", "200", LIMIT)]
    assert account(*lines).margin == d("300")
    assert account(*lines, hedged_mode=HedgedMode.BASIC).margin == d("300")
    lines = [LONG_2, lot(SELL, "1", "100"), lot(SELL, "1", "100", LIMIT)]
    assert account(*lines).margin == d("200")
    assert account(*lines, hedged_mode=HedgedMode.BASIC).margin == d("200")


def test_leverage_caps_count_per_side_and_the_smaller_leverage_holds() -> None:
    """An account at 1:500: the first million at 1:500, two more at 1:200, the rest at 1:50."""
    steps = (Tier(to=d("1000000"), leverage=1000), Tier(to=d("3000000"), leverage=200), Tier(leverage=50))
    tiers = Tiers(style=TierStyle.LEVERAGE_CAPS, basis=TierBasis.NOTIONAL, steps=steps)
    held = account(tiers=tiers)

    def million(side: Side, number: int) -> Exposure:
        value = number * 1000000
        return lot(side, str(number * 10), str(value // 500), unleveraged=str(value), notional=str(value))

    held.add(million(BUY, 1))
    assert held.margin == d("2000")
    held.add(million(BUY, 2))
    assert held.margin == d("12000")
    held.add(million(BUY, 1))
    assert held.margin == d("32000")
    held.add(million(SELL, 3))
    assert held.margin == d("32000")


def test_symbols_of_a_pool_share_its_tiers() -> None:
    """Ten lots free of extra, then double: eight lots each of two symbols make sixteen."""
    steps = (Tier(to=d("10")), Tier(initial=d("2"), maintenance=d("2")))
    terms = MarginTerms(tiers=Tiers(style=TierStyle.RATES, basis=TierBasis.VOLUME, steps=steps, pool="majors"))
    rules = {symbol: SymbolRule(terms, d("100000")) for symbol in SYMBOLS}
    lines = [
        Exposure(symbol=symbol, side=BUY, kind=POSITION, volume=d("8"), margin=d(margin))
        for symbol, margin in (("EURUSD", "800"), ("GBPUSD", "1600"))
    ]
    both = account_margin(lines, rules=rules, policy=MarginPolicy(), digits=2)
    assert both.margin == both.margin_of("EURUSD") == d("3300")  # 2400 / 16 x (10 + 6 x 2)
    both.remove(lines[1])
    assert both.margin == d("800")


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [("0", "10", ["10"]), ("0", "10.5", ["10", "0.5"]), ("12", "35", ["8", "15"]), ("20", "20", []), ("0", "0", [])],
)
def test_slices_give_back_the_whole_and_the_last_tier_goes_on(start: str, end: str, parts: list[str]) -> None:
    steps = (Tier(to=d("10")), Tier(to=d("20")), Tier(to=d("30")))
    assert [part for _, part in slices(steps, d(start), d(end))] == [d(part) for part in parts]


def test_one_leg_of_a_hedge_costs_margin_to_close_but_a_reversal_is_checked_as_a_whole() -> None:
    long, short = lot(BUY, "1", "100"), lot(SELL, "1", "100")
    hedge = account(long, short, hedged_mode=HedgedMode.NET)
    assert hedge.margin_after(Intent(closes=(short,))) == d("100")
    assert hedge.margin_after(Intent(closes=(short, long))) == d("0")
    assert hedge.margin_after(Intent(closes=(long,), opens=(lot(BUY, "1", "105"),))) == d("0")
    assert hedge.margin == d("0"), "asking changes nothing"


def test_closing_the_last_unhedged_risk_is_never_checked_with_more_than_is_tied_up() -> None:
    """A cheap lot on top of a dear hedge: without it the covered average rises, yet closing it is not dearer to check."""
    lines = (
        lot(BUY, "1", "0", hedged="1000"),
        lot(BUY, "1", "0", hedged="10"),
        lot(SELL, "1", "50", hedged="2000"),
    )
    held = account(*lines, hedged_mode=HedgedMode.BASIC, hedged=d("100000"))
    closing = Intent(closes=(lines[1],))
    assert held.margin == d("1003.34")
    assert held.margin_if(closing) == d("1500")
    assert held.margin_after(closing) == d("1003.34")
    covered = Intent(closes=(lines[2],))
    assert not held.only_reduces(covered)
    assert held.margin_after(covered) == held.margin_if(covered)


# --- Random histories ---------------------------------------------------------------------------------------------------

VOLUMES = st.decimals(min_value="0.01", max_value="40", places=2)
PRICES = st.decimals(min_value="0.5", max_value="2", places=5)
AMOUNTS = st.sampled_from([d("0"), d("50000"), d("100000"), d("333.33")])
MULTIPLIERS = st.sampled_from([d("0"), d("0.5"), d("1"), d("1.15"), d("2"), d("4")])
BOUNDS = [d("5"), d("20.5"), d("700000"), d("2500000")]


@st.composite
def tier_tables(draw: st.DrawFn, *, leveraged: bool) -> Tiers:
    style = draw(st.sampled_from(TierStyle)) if leveraged else TierStyle.RATES
    bounds = sorted(draw(st.sets(st.sampled_from(BOUNDS), max_size=3)))
    count = len(bounds) + 1
    low = sorted(draw(st.lists(MULTIPLIERS, min_size=count, max_size=count)))
    high = [rate + draw(MULTIPLIERS) for rate in low[:1]] * count
    caps = sorted(draw(st.lists(st.integers(1, 300), min_size=count, max_size=count)), reverse=True)
    steps = tuple(
        Tier(to=to, maintenance=held, initial=max(held, asked), leverage=cap)
        for to, held, asked, cap in zip([*bounds, None], low, high, caps, strict=True)
    )
    return Tiers(style=style, basis=draw(st.sampled_from(TierBasis)), steps=steps)


@st.composite
def margin_terms(draw: st.DrawFn, tiers: Tiers | None = None) -> MarginTerms:
    mode = draw(st.sampled_from(MarginMode))
    initial = draw(st.sampled_from([d("0"), d("1000"), d("777.77")]))
    if mode is MarginMode.FUTURES:
        initial = initial or d("1000")
    if tiers is None and draw(st.booleans()):
        tiers = draw(tier_tables(leveraged=mode in LEVERAGED))
    return MarginTerms(
        mode=mode,
        initial=initial,
        maintenance=draw(st.sampled_from([d("0"), d("500"), d("12.34")])) if initial else d("0"),
        hedged_mode=draw(st.sampled_from(HedgedMode)),
        hedged=draw(AMOUNTS),
        rates=MarginRates(**{name: draw(MULTIPLIERS) for name in MarginRates.__struct_fields__}),
        tick_size=draw(st.sampled_from([d("1"), d("0.25")])),
        tick_value=draw(st.sampled_from([d("1"), d("12.5"), d("0.3")])),
        tiers=tiers,
    )


class World:
    """An account's exposures by ticket beside the fast sums; every change is checked against the slow margin."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.policy = MarginPolicy(
            accounting=self.draw(st.sampled_from(Accounting)), rounding=self.draw(st.sampled_from(MarginRounding))
        )
        self.digits = self.draw(st.sampled_from([0, 2, 3]))
        self.leverage = self.draw(st.sampled_from([1, 30, 33, 100, 500]))
        self.rules = self._rules()
        self.fast = AccountMargin(rules=self.rules, policy=self.policy, digits=self.digits)
        self.live: dict[int, Exposure] = {}
        self.tickets = 0

    def _rules(self) -> dict[str, SymbolRule]:
        shared = None
        if self.draw(st.booleans()):
            table = self.draw(tier_tables(leveraged=False))
            shared = Tiers(style=table.style, basis=table.basis, steps=table.steps, pool="majors")
        terms = {
            "EURUSD": self.draw(margin_terms(shared)),
            "GBPUSD": self.draw(margin_terms(shared)),
            "BTCUSD": self.draw(margin_terms()),
        }
        for symbol, one in terms.items():
            check_terms(symbol, one)
        check_pools(terms)
        return {symbol: SymbolRule(one, d("100000")) for symbol, one in terms.items()}

    # what a dealer sees happen

    def order(self) -> None:
        kind = self.draw(st.sampled_from([MARKET, MARKET, LIMIT, STOP, MarginKind.STOP_LIMIT]))
        symbol, side = self.draw(st.sampled_from(SYMBOLS)), self.draw(st.sampled_from(Side))
        before, only_adds = self.fast.margin, self.only_adds(symbol)
        placed = self.charged(symbol, side, kind, self.draw(VOLUMES))
        asked = self.fast.margin_after(Intent(opens=(placed,)))
        self.put(placed)
        assert self.fast.margin == asked, "what was checked is what is then tied up"
        if only_adds:
            assert self.fast.margin >= before

    def fill(self) -> None:
        """All or a part of an order; the rest stays in flight or pending."""
        ticket, order = self.pick(is_position=False)
        volume = min(order.volume, self.draw(VOLUMES))
        rest = self.take_part(ticket, order, volume)
        self.open(order.symbol, order.side, volume)
        assert rest.volume + volume == order.volume

    def leave(self) -> None:
        """Cancelled, refused or expired."""
        ticket, order = self.pick(is_position=False)
        asked = self.fast.margin_after(Intent(closes=(order,)))
        before = self.fast.margin
        assert asked <= before
        self.drop(ticket)

    def close(self) -> None:
        ticket, position = self.pick(is_position=True)
        volume = min(position.volume, self.draw(VOLUMES))
        part, _ = split(position, volume, rounding=self.policy.rounding, digits=self.digits)
        intent = Intent(closes=(part,))
        projected, before = self.fast.margin_if(intent), self.fast.margin
        asked = self.fast.margin_after(intent)
        assert asked <= before if self.fast.only_reduces(intent) else asked == projected
        self.take_part(ticket, position, volume)
        assert self.fast.margin == projected
        if self.rules[position.symbol].terms.hedged_mode is HedgedMode.LARGER_LEG and not self.has_tiers(
            position.symbol
        ):
            assert self.policy.accounting is Accounting.NETTING or projected <= before

    def only_adds(self, symbol: str) -> bool:
        """Orders only add, but for averages over several in flight: a further, cheaper one can lower a hedge's or a cap's."""
        terms = self.rules[symbol].terms
        if terms.tiers is not None and terms.tiers.style is TierStyle.LEVERAGE_CAPS:
            return False
        in_flight = any(line.kind is MARKET and line.symbol == symbol for line in self.live.values())
        return not in_flight or terms.hedged_mode is not HedgedMode.BASIC

    def has_tiers(self, symbol: str) -> bool:
        return self.rules[symbol].terms.tiers is not None

    def flatten(self) -> None:
        """Everything in one symbol is closed and cancelled at once."""
        symbol = self.draw(st.sampled_from(SYMBOLS))
        gone = {ticket: line for ticket, line in self.live.items() if line.symbol == symbol}
        projected = self.fast.margin_if(Intent(closes=tuple(gone.values())))
        for ticket in gone:
            self.drop(ticket)
        assert self.fast.margin == projected
        assert symbol not in self.fast.books

    # how it reaches the margin

    def open(self, symbol: str, side: Side, volume: Decimal) -> None:
        """Hedging: one more position. Netting: added to, reduced, closed or reversed."""
        held = [
            (ticket, line)
            for ticket, line in self.live.items()
            if line.symbol == symbol and line.kind is POSITION and self.policy.accounting is Accounting.NETTING
        ]
        for ticket, line in held:
            if line.side is side:
                self.swap(ticket, merged(line, self.charged(symbol, side, POSITION, volume)))
                return
            closed = min(volume, line.volume)
            self.take_part(ticket, line, closed)
            volume -= closed
        if volume:
            self.put(self.charged(symbol, side, POSITION, volume))

    def charged(self, symbol: str, side: Side, kind: MarginKind, volume: Decimal) -> Exposure:
        price = self.draw(PRICES)
        rate = self.draw(
            st.sampled_from([SAME_CURRENCY, Rate(price), Rate(d("1"), d("0.81233")), Rate(d("7"), d("3"))])
        )
        what: dict[str, Any] = {
            "symbol": symbol,
            "side": side,
            "kind": kind,
            "volume": volume,
            "price": price,
            "leverage": self.leverage,
            "rate": rate,
            "rounding": self.policy.rounding,
            "digits": self.digits,
            "notional_rate": Rate(price),
        }
        fast = charge(self.rules[symbol], **what)
        assert fast == reference.charge(self.rules[symbol], **what)
        return fast

    def pick(self, *, is_position: bool) -> tuple[int, Exposure]:
        some = [item for item in self.live.items() if (item[1].kind is POSITION) is is_position]
        if not some:
            self.open("EURUSD", BUY, d("1")) if is_position else self.put(self.charged("EURUSD", BUY, MARKET, d("1")))
            return self.pick(is_position=is_position)
        return self.draw(st.sampled_from(some))

    def put(self, exposure: Exposure) -> None:
        self.tickets += 1
        self.live[self.tickets] = exposure
        self.fast.add(exposure)
        self.check()

    def drop(self, ticket: int) -> None:
        self.fast.remove(self.live.pop(ticket))
        self.check()

    def swap(self, ticket: int, after: Exposure) -> None:
        self.fast.replace(self.live[ticket], after)
        self.live[ticket] = after
        self.check()

    def take_part(self, ticket: int, exposure: Exposure, volume: Decimal) -> Exposure:
        _, left = split(exposure, volume, rounding=self.policy.rounding, digits=self.digits)
        if left.volume:
            self.swap(ticket, left)
        else:
            self.drop(ticket)
        return left

    def check(self) -> None:
        slow = reference.account_margin(self.live.values(), rules=self.rules, policy=self.policy, digits=self.digits)
        assert self.fast.margin == slow
        assert self.fast.margin >= 0
        assert self.fast.margin == sum(self.fast.by_key.values())


ACTIONS = st.sampled_from(["order", "order", "order", "fill", "fill", "leave", "close", "close", "flatten"])


@given(data=st.data(), actions=st.lists(ACTIONS, min_size=3, max_size=14))
def test_fast_equals_slow_after_every_change(data: st.DataObject, actions: list[str]) -> None:
    world = World(data)
    for action in actions:
        getattr(world, action)()
    shuffled = data.draw(st.permutations(list(world.live.values())))
    again = account_margin(shuffled, rules=world.rules, policy=world.policy, digits=world.digits)
    assert again.margin == world.fast.margin, "the order in which symbols came does not matter"
    for ticket in list(world.live):
        world.drop(ticket)
    assert world.fast.margin == 0
