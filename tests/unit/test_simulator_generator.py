"""The invented market: the same story for the same seed, on the grid, never silent, never beyond belief."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from lp_adapters.simulators.generator import LPS, SECOND_US, Generator, is_closed
from lp_adapters.simulators.profiles import INSTRUMENTS
from trading.numbers import is_on_step

TUESDAY_NOON = int(datetime(2026, 11, 17, 12, tzinfo=UTC).timestamp())
SATURDAY = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp())
SECONDS = range(TUESDAY_NOON, TUESDAY_NOON + 30)


def test_the_same_seed_tells_the_same_story_from_wherever_it_starts() -> None:
    told = [tick for second in SECONDS for tick in Generator(7).ticks(second)]
    from_the_middle = Generator(7)
    assert [tick for second in SECONDS[15:] for tick in from_the_middle.ticks(second)] == [
        (at, tick) for at, tick in told if at >= SECONDS[15] * SECOND_US
    ]
    assert told != [tick for second in SECONDS for tick in Generator(8).ticks(second)]


@pytest.mark.parametrize("start", [TUESDAY_NOON, SATURDAY])
def test_every_provider_shows_every_symbol_in_every_second(start: int) -> None:
    generator = Generator(1)
    for second in range(start, start + 20):
        ticks = generator.ticks(second)
        assert {(tick.lp, tick.symbol) for _, tick in ticks} == {(lp, symbol) for lp in LPS for symbol in INSTRUMENTS}
        assert [at for at, _ in ticks] == sorted(at for at, _ in ticks)
        assert all(second * SECOND_US <= at < (second + 1) * SECOND_US for at, _ in ticks)
        assert 18 <= len(ticks) <= 360


def test_prices_are_whole_points_with_a_spread_and_a_size() -> None:
    generator = Generator(1)
    for _, tick in (timed for second in SECONDS for timed in generator.ticks(second)):
        instrument = INSTRUMENTS[tick.symbol]
        bid, ask = Decimal(tick.bid), Decimal(tick.ask)
        assert bid.as_tuple().exponent == ask.as_tuple().exponent == -instrument.digits
        assert 0 < bid < ask < bid + 120 * instrument.point
        assert is_on_step(Decimal(tick.bid_size), Decimal(instrument.quantity_step))
        assert 0 < tick.bid_size <= 5_000_000
        assert is_on_step(Decimal(tick.ask_size), Decimal(instrument.quantity_step))
        assert 0 < tick.ask_size <= 5_000_000


def test_the_euro_is_quoted_two_to_ten_points_wide() -> None:
    day = range(TUESDAY_NOON, TUESDAY_NOON + 86_400, 1201)
    ticks = [tick for second in day for _, tick in Generator(3, ("EURUSD",)).ticks(second)]
    spreads = {(Decimal(tick.ask) - Decimal(tick.bid)) / INSTRUMENTS["EURUSD"].point for tick in ticks}
    assert min(spreads) == 2
    assert max(spreads) <= 10


def test_the_providers_differ() -> None:
    ticks = [tick for second in SECONDS for _, tick in Generator(1, ("EURUSD",)).ticks(second)]
    shown = {lp: [(tick.bid, tick.ask) for tick in ticks if tick.lp == lp] for lp in LPS}
    assert shown["YOFX1"] != shown["PRIMEXM"]


def test_prices_move_but_never_stray_far() -> None:
    generator = Generator(5)
    base = generator.mid_tenths("EURUSD", TUESDAY_NOON * SECOND_US)
    mids = [generator.mid_tenths("EURUSD", (TUESDAY_NOON + hour * 3600) * SECOND_US) for hour in range(24 * 30)]
    assert len(set(mids)) > 500
    assert all(abs(mid - base) < base // 20 for mid in mids)


def test_a_cross_is_what_its_legs_make_it() -> None:
    generator = Generator(2)
    at_us = TUESDAY_NOON * SECOND_US + 123_456
    euro, pound, yen, cross, product = (
        Decimal(generator.mid_tenths(symbol, at_us)).scaleb(-INSTRUMENTS[symbol].digits - 1)
        for symbol in ("EURUSD", "GBPUSD", "USDJPY", "EURGBP", "EURJPY")
    )
    assert abs(euro / pound - cross) <= Decimal("0.000001")
    assert abs(euro * yen - product) <= Decimal("0.0001")


def test_an_anchor_is_walked_around() -> None:
    generator = Generator(1, anchors={"EURUSD": Decimal("1.38626")})
    (_, tick), *_ = [timed for timed in generator.ticks(TUESDAY_NOON) if timed[1].symbol == "EURJPY"]
    assert abs(Decimal(tick.bid) - Decimal("1.38626") * Decimal("151.5")) < 5


@pytest.mark.parametrize(
    ("when", "closed"),
    [
        (datetime(2026, 11, 20, 21, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 11, 20, 22, tzinfo=UTC), True),
        (datetime(2026, 11, 22, 21, 59, 59, tzinfo=UTC), True),
        (datetime(2026, 11, 22, 22, tzinfo=UTC), False),
        (datetime(2026, 7, 3, 21, tzinfo=UTC), True),
    ],
)
def test_real_hours_end_and_begin_at_five_in_new_york(when: datetime, closed: bool) -> None:
    second = int(when.timestamp())
    assert is_closed(second) is closed
    assert (Generator(1, real_hours=True).ticks(second) == []) is closed
    assert Generator(1).ticks(second) != []
