"""Watches find exactly the accounts that re-valuing everybody at every price would find, at the same price."""

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import take_quote
from engine.guard import bounds_of
from engine.standing import Look, look_at, profit_at
from engine.stopout import is_due
from engine.watch import next_rule_us
from engine.work import Work
from tests.support.builders import condition, config, group, lp_top, policy, rule
from tests.support.laws import reborn
from tests.support.world import START_US, World
from trading.commands import Deposit
from trading.configuration import Config, Markup
from trading.liquidity import ReportKind
from trading.orders import OrderType, Side
from trading.quotes import Quote
from trading.spreads import SpreadTerms, TooWide
from trading.stopout import StopOutStrategy, StopOutTerms

SYMBOLS = {"EURUSD": "1.10", "GBPUSD": "1.30", "USDJPY": "150", "EURGBP": "0.85", "XAUUSD": "2400"}
DIGITS = {"EURUSD": 5, "GBPUSD": 5, "USDJPY": 3, "EURGBP": 5, "XAUUSD": 2}
GROUPS = {
    "retail": StopOutTerms(),
    "pro": StopOutTerms(margin_calls=(Decimal(120),), level=Decimal(30), strategy=StopOutStrategy.MOST_MARGIN),
    "vip": StopOutTerms(is_partial=True, equity=Decimal(200), counts_credit=False, closes_hedged=True),
}

LARGE_TO_MARKET = rule("large tickets to the market", condition("volume", ">=", "0.3"), action="A", id=2)


def house() -> Config:
    markups = {"retail": Markup(bid=2, ask=3), "pro": Markup(), "vip": Markup(bid=2, ask=3)}
    groups = {
        name: group(name, stop_out=terms, markup=markups[name], leverage_max=200) for name, terms in GROUPS.items()
    }
    plain = config()
    limits = {
        "GBPUSD": SpreadTerms(min_points=4, max_points=12),
        "XAUUSD": SpreadTerms(max_points=20, too_wide=TooWide.REFUSE),
    }
    limited = {symbol: replace(plain.instruments[symbol], spread=spread) for symbol, spread in limits.items()}
    instruments = {**plain.instruments, **limited}
    return replace(plain, groups=groups, policy=policy(LARGE_TO_MARKET, rule()), instruments=instruments)


positions = st.lists(
    st.tuples(st.sampled_from(sorted(SYMBOLS)), st.sampled_from(Side), st.integers(1, 60), st.booleans()),
    min_size=1,
    max_size=5,
)
accounts = st.lists(
    st.tuples(
        st.sampled_from(["USD", "EUR", "GBP"]),
        st.sampled_from(sorted(GROUPS)),
        st.integers(300, 9000),
        st.sampled_from(["", "EU"]),
        positions,
    ),
    min_size=1,
    max_size=5,
)
HAPPENINGS = ("", "", "", "", "", "", "filled", "filled", "refused", "deposit", "reborn")
steps = st.lists(
    st.tuples(
        st.sampled_from(sorted(SYMBOLS)), st.integers(-250, 250), st.integers(-3, 30), st.sampled_from(HAPPENINGS)
    ),
    min_size=5,
    max_size=40,
)


class Walk:
    """Accounts that hold what they hold, and prices that walk."""

    def __init__(self) -> None:
        self.world = World(house())
        self.bids = {symbol: Decimal(bid) for symbol, bid in SYMBOLS.items()}
        for symbol in SYMBOLS:
            self.tick(symbol, 0, 5)

    def open(self, number: int, currency: str, group_name: str, deposit: int, law: str, held: list[Any]) -> None:
        self.world.open_account(
            number, currency=currency, group=group_name, deposit=str(deposit), leverage=200, jurisdiction=law
        )
        for symbol, side, size, waits in held:
            lots = f"{Decimal(size) / 100:.2f}"
            terms: dict[str, Any] = (
                {"type": OrderType.LIMIT, "price": self.far(symbol, side)} if waits and size % 2 else {}
            )
            self.world.place(number, symbol, side, lots, **terms)
            self.answer(is_filled=True)

    def answer(self, *, is_filled: bool) -> None:
        """The providers fill what they were sent, at the last price, or refuse it."""
        for leg in list(self.world.state.legs.values()):
            if is_filled:
                self.world.fill(leg, str(self.bids[leg.symbol]))
            else:
                self.world.report(leg, ReportKind.REJECTED)

    def deposit(self, number: int) -> None:
        name = self.world.request()
        self.world.run(Deposit(id=name, key=name, account=number, amount=Decimal(150)))

    def far(self, symbol: str, side: Side) -> Decimal:
        """A limit that the walk hardly comes to."""
        part = Decimal("0.5") if side is Side.BUY else Decimal("1.5")
        return (self.bids[symbol] * part).quantize(Decimal(1).scaleb(-DIGITS[symbol]))

    def tick(self, symbol: str, moved: int, spread: int) -> tuple[int, ...]:
        """Move by hundredths of a per cent; a negative spread is a crossed price. Returns who acted, having compared it."""
        point = Decimal(1).scaleb(-DIGITS[symbol])
        self.bids[symbol] = (self.bids[symbol] * (1 + Decimal(moved) / 10_000)).quantize(point)
        bid = self.bids[symbol]
        self.world.now_us += 1000
        quote = self.quote(symbol, bid, bid + spread * point)
        self.world.state.quotes[symbol] = quote
        expected = self.everybody_due()
        arrived = take_quote(self.world.state, quote)
        found = arrived.accounts if arrived is not None else ()
        assert found == expected
        if arrived is not None:
            assert self.world.run(arrived).events
            assert self.everybody_due() == (), "nothing is left to do at this price"
        return found

    def quote(self, symbol: str, bid: Decimal, ask: Decimal) -> Quote:
        now = self.world.now_us
        seq = self.world.state.quotes[symbol].seq + 1 if symbol in self.world.state.quotes else 1
        return Quote(symbol=symbol, seq=seq, bid=bid, ask=ask, at_us=now, tops=(lp_top(at_us=now),))

    def everybody_due(self) -> tuple[int, ...]:
        state = self.world.state
        due = []
        for number in sorted(state.accounts):
            work = Work(state, self.world.config, self.world.now_us)
            look = look_at(work, state.accounts[number])
            if isinstance(look, Look):
                assert profit_at(work, look.account, look.seen) == look.worth.profit
                if is_due(work, look):
                    due.append(number)
        return tuple(due)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(accounts, steps)
@example(
    [("USD", "retail", 2000, "EU", [("EURUSD", Side.BUY, 50, False), ("EURUSD", Side.SELL, 20, False)])],
    [("EURUSD", -50, 3, "")] * 12 + [("EURUSD", 80, 3, "filled")] * 5,
)
def test_who_acts_is_exactly_who_would_act_if_everybody_were_valued_at_every_price(
    opened: list[Any], walked: list[Any]
) -> None:
    walk = Walk()
    for number, terms in enumerate(opened, start=1):
        walk.open(number, *terms)
    for symbol, moved, spread, happening in walked:
        walk.tick(symbol, moved, spread)
        if happening == "reborn":
            quotes = walk.world.state.quotes
            walk.world.state = reborn(walk.world.state)
            walk.world.state.quotes = quotes
        elif happening == "deposit":
            walk.deposit(1)
        elif happening:
            walk.answer(is_filled=happening == "filled")
        assert set(walk.world.ledger_sums().values()) <= {Decimal(0)}


def test_an_account_far_from_its_thresholds_is_not_looked_at_and_one_near_them_is() -> None:
    walk = Walk()
    walk.open(1, "USD", "pro", 9000, "", [("EURUSD", Side.BUY, 10, False)])
    walk.open(2, "USD", "pro", 700, "", [("EURUSD", Side.BUY, 60, False)])
    walk.tick("EURUSD", 0, 5)
    state = walk.world.state
    assert state.watches.watched() == 2
    walk.world.now_us += 1000
    near = walk.quote("EURUSD", Decimal("1.09450"), Decimal("1.09455"))
    assert state.watches.candidates(state, near) == [2]


def test_a_watch_is_put_only_on_the_side_that_can_hurt() -> None:
    """A long in euros for a dollar account fears a lower bid; its conversion fears nothing, since there is none."""
    walk = Walk()
    walk.open(1, "USD", "pro", 2000, "", [("EURUSD", Side.BUY, 60, False)])
    walk.open(2, "EUR", "pro", 2000, "", [("XAUUSD", Side.SELL, 10, False)])
    state = walk.world.state
    work = Work(state, walk.world.config, walk.world.now_us)
    long, short = (look_at(work, state.accounts[number]) for number in (1, 2))
    assert isinstance(long, Look)
    assert isinstance(short, Look)
    (bound,) = bounds_of(work, long)
    assert bound.high is None
    assert bound.low is not None
    assert bound.low < Decimal("1.10")
    gold, euro = bounds_of(work, short)
    assert (gold.low, gold.high is not None) == (None, True)
    # a loss in dollars costs more euros when EURUSD falls
    assert (euro.high, euro.low is not None) == (None, True)


def test_accounts_are_valued_anew_when_a_rule_of_the_law_begins() -> None:
    later = next_rule_us(house(), START_US)
    assert later == 2**63
    assert next_rule_us(house(), 0) == 1_533_081_600_000_000  # 2018-08-01
