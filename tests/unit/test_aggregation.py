"""Which ticks are believed, and the quote made of them. Prices of two providers, times in seconds after a start."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import LpPrice
from lp_adapters.aggregation import DEVIATION_MAX, Aggregator, Verdict
from tests.support.builders import NOW_US, SECOND_US, config, instrument, lp_settings
from trading.instruments import AssetClass
from trading.quotefilter import FilterTerms
from trading.quotes import Quote

A, B = "YOFX1", "PRIMEXM"
AGE_S = 3
BREAK_S = 30


def at(seconds: float) -> int:
    return NOW_US + int(seconds * SECOND_US)


class Desk:
    """An aggregator with hands on it."""

    def __init__(self, **overrides: object) -> None:
        self.aggregator = Aggregator(config(**overrides))
        for lp in (A, B):
            for session in ("price", "trade"):
                self.aggregator.session(lp, session, is_up=True)

    def tick(
        self, lp: str, bid: str, ask: str, s: float = 0.0, *, symbol: str = "EURUSD", size: str = "1000000"
    ) -> str:
        price = LpPrice(
            lp=lp,
            symbol=symbol,
            bid=Decimal(bid),
            ask=Decimal(ask),
            bid_size=Decimal(size),
            ask_size=Decimal(size),
            quote_id=f"{lp}@{s}",
            at_us=at(s),
        )
        return self.aggregator.take(price, at(s)).value

    def believed(self, lp: str, bid: str, ask: str, s: float = 0.0, *, symbol: str = "EURUSD") -> None:
        """Twice, as a provider alone needs it."""
        self.tick(lp, bid, ask, s, symbol=symbol)
        assert self.tick(lp, bid, ask, s, symbol=symbol) == "accepted"

    def quote(self, symbol: str = "EURUSD") -> Quote:
        quote = self.aggregator.quote(symbol)
        assert quote is not None
        return quote

    def shown(self, symbol: str = "EURUSD") -> tuple[str, str]:
        quote = self.quote(symbol)
        return str(quote.bid), str(quote.ask)


# ---------------------------------------------------------------------------------------------------------- one provider


@pytest.mark.parametrize(
    ("bid", "ask", "verdict"),
    [
        ("1.0850", "1.0851", "accepted"),
        ("1.0851", "1.0851", "locked"),
        ("1.0852", "1.0851", "crossed"),
        ("0", "1.0851", "zero"),
        ("1.0850", "0", "zero"),
        ("-1.0850", "1.0851", "zero"),
        ("1.0850", "-1", "zero"),
        ("1.0817", "1.0818", "accepted"),
        ("1.0817", "1.0890", "spike"),
        ("0.9000", "0.9001", "spike"),
    ],
)
def test_a_tick_is_judged(bid: str, ask: str, verdict: str) -> None:
    desk = Desk()
    desk.believed(A, "1.0849", "1.0850")
    assert desk.tick(A, bid, ask, 0.1) == verdict
    assert desk.aggregator.counters[A]["received"] == 3
    assert desk.aggregator.counters[A][verdict] == (verdict != "accepted")


@pytest.mark.parametrize(("symbol", "lp"), [("EURTRY", A), ("EURUSD", "NOBODY")])
def test_what_is_not_configured_is_left_out(symbol: str, lp: str) -> None:
    assert Desk().tick(lp, "1.1", "1.2", symbol=symbol) == "unknown"


def test_a_disabled_provider_is_left_out() -> None:
    assert Desk(lps={A: lp_settings(A, enabled=False)}).tick(A, "1.1", "1.2") == "unknown"


def test_the_first_tick_shows_nothing_until_the_second_agrees() -> None:
    desk = Desk()
    assert desk.tick(A, "1.0850", "1.0851") == "unconfirmed"
    assert desk.aggregator.quote("EURUSD") is None
    assert desk.tick(A, "1.0850", "1.0852", 0.1) == "accepted"
    assert desk.shown() == ("1.0850", "1.0852")


def test_another_provider_can_bear_a_first_tick_out_and_both_are_believed() -> None:
    desk = Desk()
    assert desk.tick(A, "1.0850", "1.0852") == "unconfirmed"
    assert desk.tick(B, "1.0851", "1.0853", 0.1) == "accepted"
    assert [top.lp for top in desk.quote().tops] == [A, B]


@pytest.mark.parametrize(("silence_s", "verdict"), [(BREAK_S - 1, "accepted"), (BREAK_S + 1, "unconfirmed")])
def test_after_a_break_the_first_tick_waits(silence_s: float, verdict: str) -> None:
    desk = Desk()
    desk.believed(A, "1.0850", "1.0851")
    assert desk.tick(A, "1.0850", "1.0851", silence_s) == verdict


def test_after_a_logon_the_first_tick_waits() -> None:
    desk = Desk()
    desk.believed(A, "1.0850", "1.0851")
    desk.aggregator.session(A, "price", is_up=False)
    desk.aggregator.session(A, "price", is_up=True)
    assert desk.tick(A, "1.0850", "1.0851", 0.2) == "unconfirmed"


def test_a_single_spike_moves_nothing() -> None:
    desk = Desk()
    desk.believed(A, "1.0850", "1.0851")
    before = desk.shown()
    assert desk.tick(A, "0.8680", "0.8681", 0.1) == "spike"
    assert "EURUSD" not in desk.aggregator.changed or desk.aggregator.quote("EURUSD") is None
    assert desk.tick(A, "1.0850", "1.0851", 0.2) == "accepted"
    assert desk.shown() == before


def test_a_jump_is_believed_when_it_stays() -> None:
    desk = Desk()
    desk.believed(A, "1.2000", "1.2002")
    assert desk.tick(A, "0.9000", "0.9002", 0.1) == "spike"
    assert desk.tick(A, "0.9001", "0.9003", 0.2) == "accepted"
    assert desk.shown() == ("0.9001", "0.9003")


def test_a_jump_is_believed_when_another_provider_jumped_too() -> None:
    desk = Desk()
    desk.believed(A, "1.2000", "1.2002")
    desk.tick(B, "1.2000", "1.2002")
    assert desk.tick(A, "0.9000", "0.9002", 0.1) == "spike"
    assert desk.tick(B, "0.9001", "0.9003", 0.2) == "accepted"
    assert [str(top.bid) for top in desk.quote().tops] == ["0.9000", "0.9001"]


def test_a_stale_provider_bears_nothing_out() -> None:
    desk = Desk()
    desk.believed(B, "0.9000", "0.9002")
    assert desk.tick(A, "0.9000", "0.9002", AGE_S + 1) == "unconfirmed"


def test_old_and_overtaken_ticks_are_stale() -> None:
    desk = Desk()
    desk.believed(A, "1.0850", "1.0851", 10)
    assert desk.tick(A, "1.0840", "1.0841", 9.9) == "stale"
    one, two = Decimal(1), Decimal(2)
    late = LpPrice(lp=B, symbol="EURUSD", bid=one, ask=two, bid_size=one, ask_size=one, quote_id="", at_us=at(0))
    assert desk.aggregator.take(late, at(AGE_S + 0.1)) is Verdict.STALE


# -------------------------------------------------------------------------------------------------------- the aggregate


def test_best_bid_and_best_offer_come_from_whoever_shows_them() -> None:
    desk = Desk()
    desk.tick(A, "1.08500", "1.08512", 1)
    desk.tick(B, "1.08502", "1.08515", 2)
    quote = desk.quote()
    assert (str(quote.bid), str(quote.ask)) == ("1.08502", "1.08512")
    assert quote.at_us == at(1), "as old as its older side"
    assert [(top.lp, str(top.bid_size), top.tradable) for top in quote.tops] == [(A, "10.00", True), (B, "10.00", True)]


@pytest.mark.parametrize(
    ("bid", "ask", "shown"),
    [
        ("100.00", "90.00", "95.00"),
        ("100.00", "99.99", "100.00"),
        ("100.00", "99.97", "99.99"),
        ("100.00", "100.00", "100.00"),
    ],
)
def test_providers_that_cross_each_other_meet_in_the_middle(bid: str, ask: str, shown: str) -> None:
    desk = Desk(instruments={"XAUUSD": instrument("XAUUSD")})
    desk.believed(A, bid, "120.00", symbol="XAUUSD")
    desk.believed(B, "80.00", ask, symbol="XAUUSD")
    assert desk.shown("XAUUSD") == (shown, shown)


def test_the_tops_of_a_crossing_stay_as_they_are() -> None:
    desk = Desk()
    desk.tick(A, "1.08520", "1.08522")
    desk.tick(B, "1.08500", "1.08512")
    quote = desk.quote()
    assert quote.bid == quote.ask == Decimal("1.08516")
    assert [(str(top.bid), str(top.ask)) for top in quote.tops] == [("1.08520", "1.08522"), ("1.08500", "1.08512")]


def test_an_old_price_leaves_before_it_is_too_old_to_deal_on() -> None:
    desk = Desk()
    desk.tick(A, "1.08500", "1.08512", 0)
    desk.tick(B, "1.08490", "1.08520", 2)
    first = desk.quote()
    desk.aggregator.changed.clear()
    desk.aggregator.expire(at(2.6))
    assert not desk.aggregator.changed
    desk.aggregator.expire(at(2.8))
    assert desk.aggregator.changed == {"EURUSD": None}
    quote = desk.quote()
    assert ([top.lp for top in quote.tops], str(quote.bid), quote.seq) == ([B], "1.08490", first.seq + 1)


@pytest.mark.parametrize("how", ["zero", "session", "age"])
def test_a_price_that_nobody_stands_behind_is_told_and_not_made_younger(how: str) -> None:
    desk = Desk()
    desk.believed(A, "1.08500", "1.08512", 0)
    first = desk.quote()
    if how == "zero":
        desk.tick(A, "0", "0", 1)
    elif how == "session":
        desk.aggregator.session(A, "price", is_up=False)
    else:
        desk.aggregator.expire(at(10))
    quote = desk.quote()
    assert (quote.tops, quote.at_us, quote.seq, quote.bid) == ((), first.at_us, 2, first.bid)
    assert desk.aggregator.quote("EURUSD") is None


def test_a_trade_session_going_down_is_shown_in_the_tops() -> None:
    desk = Desk()
    desk.believed(A, "1.08500", "1.08512")
    assert desk.quote().tops[0].tradable
    desk.aggregator.session(A, "trade", is_up=False)
    assert desk.aggregator.changed == {"EURUSD": None}
    assert not desk.quote().tops[0].tradable


def test_nothing_new_is_not_said_again_and_a_repeated_price_is_new() -> None:
    desk = Desk()
    desk.believed(A, "1.08500", "1.08512")
    desk.quote()
    assert desk.aggregator.quote("EURUSD") is None
    desk.tick(A, "1.08500", "1.08512", 1)
    assert desk.quote().at_us == at(1)


def test_a_new_configuration_takes_a_provider_out() -> None:
    desk = Desk()
    desk.tick(A, "1.08500", "1.08512")
    desk.tick(B, "1.08490", "1.08520")
    desk.quote()
    desk.aggregator.reconfigure(config(version=2, lps={B: lp_settings(B)}))
    assert [top.lp for top in desk.quote().tops] == [B]


def test_sizes_are_lots_down_to_the_providers_step() -> None:
    desk = Desk()
    desk.tick(A, "1.08500", "1.08512", size="1999")
    desk.tick(B, "1.08500", "1.08512", size="0")
    assert [str(top.bid_size) for top in desk.quote().tops] == ["0.01", "0"]


# ---------------------------------------------------------------------------------------------------- the symbol's filter

FILTER = FilterTerms(
    soft_points=20, soft_count=1, hard_points=50, hard_count=1, discard_points=100, spread_max_points=40
)


def filtering() -> Desk:
    """EURUSD with a filter; YOFX1 is believed at 1.08500 / 1.08510."""
    plain = config()
    desk = Desk(instruments={**plain.instruments, "EURUSD": instrument(quote_filter=FILTER)})
    desk.believed(A, "1.08500", "1.08510")
    desk.quote()
    desk.aggregator.changed.clear()
    desk.aggregator.counters.clear()
    return desk


@pytest.mark.parametrize(
    ("bid", "ask", "reason"),
    [
        ("1.08521", "1.08531", "withheld_soft"),
        ("1.08551", "1.08561", "withheld_hard"),
        ("1.08601", "1.08611", "discarded"),
        ("1.08500", "1.08541", "spread_outside"),
    ],
)
def test_what_the_filter_holds_back_updates_nothing_and_is_counted(bid: str, ask: str, reason: str) -> None:
    desk = filtering()
    assert desk.tick(A, bid, ask, 0.1) == reason
    assert desk.aggregator.changed == {}
    assert desk.aggregator.quote("EURUSD") is None
    assert desk.aggregator.counters == {A: {"received": 1, reason: 1}}
    assert desk.tick(A, "1.08501", "1.08511", 0.2) == "accepted"
    assert desk.shown() == ("1.08501", "1.08511")


def test_what_stays_beyond_the_soft_level_is_shown_and_measured_from_then_on() -> None:
    desk = filtering()
    assert [desk.tick(A, "1.08530", "1.08540", s / 10) for s in range(3)] == ["withheld_soft", "accepted", "accepted"]
    assert desk.shown() == ("1.08530", "1.08540")
    assert desk.tick(A, "1.08500", "1.08510", 1) == "withheld_soft"


def test_every_provider_is_filtered_by_its_own_prices() -> None:
    desk = filtering()
    assert desk.tick(B, "1.08540", "1.08550") == "accepted", "the first of its stream, borne out by the other"
    assert desk.tick(A, "1.08540", "1.08550", 0.1) == "withheld_soft"
    assert desk.tick(B, "1.08541", "1.08551", 0.1) == "accepted"
    assert desk.tick(A, "1.08540", "1.08550", 0.2) == "accepted"


def test_what_is_held_back_bears_nothing_out() -> None:
    desk = filtering()
    assert desk.tick(A, "1.20000", "1.20010", 0.1) == "discarded"
    assert desk.tick(B, "1.20000", "1.20010", 0.1) == "unconfirmed"


@pytest.mark.parametrize("how", ["logon", "silence"])
def test_after_a_break_the_filter_lets_the_first_through_and_it_still_waits_to_be_borne_out(how: str) -> None:
    desk = filtering()
    seconds = float(BREAK_S + 1)
    if how == "logon":
        seconds = 1
        desk.aggregator.session(A, "price", is_up=False)
        desk.aggregator.session(A, "price", is_up=True)
    assert desk.tick(A, "0.90000", "0.90010", seconds) == "unconfirmed"
    assert desk.tick(A, "1.08500", "1.08510", seconds) == "unconfirmed", "one wild first tick is no reference"
    assert desk.tick(A, "1.08501", "1.08511", seconds) == "accepted"
    assert desk.tick(A, "1.08701", "1.08711", seconds) == "discarded"


def test_a_market_that_has_gone_beyond_the_discard_level_comes_back_after_a_break() -> None:
    desk = filtering()
    verdicts = [desk.tick(A, "1.07000", "1.07010", s) for s in range(1, BREAK_S + 3)]
    assert verdicts == ["discarded"] * BREAK_S + ["unconfirmed", "accepted"]


def test_a_filter_comes_and_goes_with_the_configuration() -> None:
    desk = filtering()
    assert desk.tick(A, "1.08601", "1.08611", 0.1) == "discarded"
    desk.aggregator.reconfigure(config(version=2))
    assert desk.tick(A, "1.08601", "1.08611", 0.2) == "accepted"


@given(st.lists(st.tuples(st.integers(-150, 150), st.integers(1, 45), st.sampled_from([0.1, 1.0, 31.0]))))
def test_what_a_filtered_provider_shows_was_said_in_that_order_and_never_leaps(
    ticks: list[tuple[int, int, float]],
) -> None:
    desk, seconds = filtering(), 0.0
    shown, shown_s = Decimal("1.08500"), 0.0
    for moved, spread, pause in ticks:
        seconds += pause
        bid = Decimal("1.08500") + Decimal(moved) / 100_000
        verdict = desk.tick(A, str(bid), str(bid + Decimal(spread) / 100_000), seconds)
        quote = desk.aggregator.quote("EURUSD")
        assert (quote is not None) == (verdict == "accepted")
        if quote is None:
            continue
        assert (quote.bid, quote.ask) == (bid, bid + Decimal(spread) / 100_000)
        assert abs(bid - shown) <= 100 * Decimal("0.00001") or seconds > shown_s + BREAK_S
        shown, shown_s = bid, seconds


ticks = st.lists(
    st.tuples(
        st.sampled_from([A, B]),
        st.integers(-5, 200_000),
        st.integers(-5, 30),
        st.sampled_from([0.0, 0.01, 0.5, 2.0, 4.0, 40.0]),
        st.sampled_from(["tick", "price down", "price up", "trade down", "expire"]),
    ),
    max_size=60,
)


@given(ticks)
def test_whatever_comes_the_quote_can_be_shown(steps: list[tuple[str, int, int, float, str]]) -> None:
    """No crossing, no gap in the sequence, no step back in time, nothing older than allowed, and only believed tops."""
    desk, seconds, seq, at_us = Desk(), 0.0, 0, 0
    for lp, bid, spread, pause, what in steps:
        seconds += pause
        if what in ("tick", "expire"):
            desk.tick(lp, str(Decimal(bid) / 100_000), str(Decimal(bid + spread) / 100_000), seconds)
        else:
            desk.aggregator.session(lp, what.split()[0], is_up=what.endswith("up"))
        desk.aggregator.expire(at(seconds))
        quote = desk.aggregator.quote("EURUSD")
        if quote is None:
            continue
        assert quote.seq == seq + 1
        assert quote.at_us >= at_us
        assert 0 < quote.bid <= quote.ask
        assert all(top.bid < top.ask and at(seconds) - top.at_us < AGE_S * SECOND_US for top in quote.tops)
        seq, at_us = quote.seq, quote.at_us


def test_every_asset_class_has_a_bound() -> None:
    assert set(DEVIATION_MAX) == set(AssetClass)
