"""Minimum and maximum spread on a marked-up price, and the bands that depth is shown in."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.orders import Side
from trading.spreads import (
    Band,
    BandPrice,
    Level,
    Shown,
    SpreadTerms,
    TooWide,
    band_prices,
    band_problems,
    clip_spread,
    price_for,
    spread_problems,
    vwap,
)


def clipped(bid: str, ask: str, terms: SpreadTerms, digits: int = 0) -> Shown:
    return clip_spread(bid=Decimal(bid), ask=Decimal(ask), digits=digits, terms=terms)


@pytest.mark.parametrize(
    ("bid", "ask", "at_least", "at_most", "shown_bid", "shown_ask"),
    [
        ("100", "90", 5, None, "93", "98"),  # crossed by 10: 15 points to add, 7 below and 8 above
        ("100", "90", 0, None, "95", "95"),
        ("100", "90", None, None, "100", "90"),  # the default clips nothing, not even this
        ("100", "102", 5, None, "99", "104"),
        ("100", "104", 5, None, "100", "105"),
        ("100", "105", 5, None, "100", "105"),
        ("100", "105", 5, 5, "100", "105"),
        ("100.4", "105", 5, None, "100.4", "105.4"),  # prices finer than a point: the spread is met exactly
        ("100.4", "111", None, 10, "100.4", "110.4"),
        ("100", "106", 5, None, "100", "106"),
        ("100", "110", None, 10, "100", "110"),
        ("100", "111", None, 10, "100", "110"),
        ("100", "115", None, 10, "102", "112"),
        ("100", "116", None, 10, "103", "113"),
    ],
)
def test_the_spread_is_kept_within_its_limits(
    bid: str, ask: str, at_least: int | None, at_most: int | None, shown_bid: str, shown_ask: str
) -> None:
    shown = clipped(bid, ask, SpreadTerms(min_points=at_least, max_points=at_most))
    assert (shown.bid, shown.ask) == (Decimal(shown_bid), Decimal(shown_ask))
    assert shown.is_dealable
    assert shown.bid + shown.bid_shift == Decimal(bid)
    assert shown.ask - shown.ask_shift == Decimal(ask)


def test_points_are_the_symbols() -> None:
    shown = clipped("1.08510", "1.08512", SpreadTerms(min_points=10), digits=5)
    assert (shown.bid, shown.ask) == (Decimal("1.08506"), Decimal("1.08516"))


def test_beyond_the_maximum_the_house_absorbs_or_does_not_deal() -> None:
    absorbed = clipped("100", "116", SpreadTerms(max_points=10))
    assert absorbed.bid_shift == absorbed.ask_shift == Decimal(-3)
    refused = clipped("100", "116", SpreadTerms(max_points=10, too_wide=TooWide.REFUSE))
    assert refused == Shown(bid=Decimal(100), ask=Decimal(116), is_dealable=False)
    assert clipped("100", "110", SpreadTerms(max_points=10, too_wide=TooWide.REFUSE)).is_dealable


PRICES = st.decimals(Decimal("0.50000"), Decimal("2.00000"), places=5)
FINER = st.decimals(Decimal("0.50000"), Decimal("2.00000"), places=7)
LIMITS = st.tuples(st.integers(0, 500), st.integers(1, 500)).map(lambda two: (min(two), max(two)))
POINT = Decimal("0.00001")


@given(bid=PRICES | FINER, ask=PRICES | FINER, limits=LIMITS)
def test_a_shown_spread_lies_within_the_limits_and_stays_there(
    bid: Decimal, ask: Decimal, limits: tuple[int, int]
) -> None:
    terms = SpreadTerms(min_points=limits[0], max_points=limits[1])
    shown = clip_spread(bid=bid, ask=ask, digits=5, terms=terms)
    assert limits[0] * POINT <= shown.ask - shown.bid <= limits[1] * POINT
    again = clip_spread(bid=shown.bid, ask=shown.ask, digits=5, terms=terms)
    assert again == Shown(bid=shown.bid, ask=shown.ask)


@given(bid=PRICES, ask=PRICES, limits=LIMITS)
def test_both_sides_move_alike_to_the_point(bid: Decimal, ask: Decimal, limits: tuple[int, int]) -> None:
    terms = SpreadTerms(min_points=limits[0], max_points=limits[1])
    shown = clip_spread(bid=bid, ask=ask, digits=5, terms=terms)
    assert abs(shown.ask_shift) - abs(shown.bid_shift) in (0, POINT)
    assert shown.bid_shift * shown.ask_shift >= 0
    assert shown.bid % POINT == 0
    assert shown.ask % POINT == 0


@given(bid=PRICES, ask=PRICES)
def test_the_default_changes_nothing(bid: Decimal, ask: Decimal) -> None:
    assert clip_spread(bid=bid, ask=ask, digits=5, terms=SpreadTerms()) == Shown(bid=bid, ask=ask)


# --- depth ---


def levels(*rows: str) -> tuple[Level, ...]:
    """`2 @ 1.1000`: two lots at that price."""
    parts = (row.split(" @ ") for row in rows)
    return tuple(Level(Decimal(price), Decimal(volume)) for volume, price in parts)


ASKS = levels("1 @ 1.1000", "2 @ 1.1003", "5 @ 1.1010")
BIDS = levels("1 @ 1.0998", "2 @ 1.0995", "5 @ 1.0988")


@pytest.mark.parametrize(
    ("volume", "price"),
    [
        ("0.5", "1.1000"),
        ("1", "1.1000"),
        ("2", "1.10015"),
        ("3", "1.1002"),
        ("8", "1.1007"),
        ("100", "1.1007"),  # deeper than the book: the average of all there is
    ],
)
def test_the_average_of_a_sweep(volume: str, price: str) -> None:
    assert vwap(ASKS, Decimal(volume)) == Decimal(price)


def test_an_empty_book_has_no_price() -> None:
    assert vwap((), Decimal(1)) is None
    assert band_prices((), Side.BUY, (Band(volume=None),), digits=4) == ()


BANDS = (
    Band(volume=Decimal(1)),
    Band(volume=Decimal(3), markup_bid=1, markup_ask=2),
    Band(volume=None, markup_bid=5, markup_ask=5),
)


def test_bands_are_the_average_down_to_their_volume_and_their_markup() -> None:
    assert band_prices(ASKS, Side.BUY, BANDS, digits=4) == (
        BandPrice(volume=Decimal(1), price=Decimal("1.1000")),
        BandPrice(volume=Decimal(3), price=Decimal("1.1004")),
        BandPrice(volume=None, price=Decimal("1.1007")),  # the band before it, with the last one's own markup
    )
    assert band_prices(BIDS, Side.SELL, BANDS, digits=4) == (
        BandPrice(volume=Decimal(1), price=Decimal("1.0998")),
        BandPrice(volume=Decimal(3), price=Decimal("1.0995")),
        BandPrice(volume=None, price=Decimal("1.0991")),
    )


def test_a_band_is_shown_in_full_where_depth_is_smaller() -> None:
    thin = levels("1 @ 1.1000")
    assert band_prices(thin, Side.BUY, (Band(volume=Decimal(10)),), digits=4) == (
        BandPrice(volume=Decimal(10), price=Decimal("1.1000")),
    )


def test_an_average_between_two_points_is_rounded_against_the_client() -> None:
    two = (Band(volume=Decimal(2)),)
    assert band_prices(ASKS, Side.BUY, two, digits=4)[0].price == Decimal("1.1002")  # 1.10015
    assert band_prices(BIDS, Side.SELL, two, digits=4)[0].price == Decimal("1.0996")  # 1.09965


@pytest.mark.parametrize(
    ("volume", "price"), [("0.01", "1.1000"), ("1", "1.1000"), ("1.01", "1.1004"), ("3", "1.1004"), ("99", "1.1007")]
)
def test_an_order_takes_the_first_band_that_holds_it(volume: str, price: str) -> None:
    assert price_for(Decimal(volume), band_prices(ASKS, Side.BUY, BANDS, digits=4)) == Decimal(price)


def test_an_order_beyond_the_last_band_has_no_price() -> None:
    assert price_for(Decimal(4), band_prices(ASKS, Side.BUY, BANDS[:2], digits=4)) is None


@st.composite
def books(draw: st.DrawFn) -> tuple[Level, ...]:
    """Asks, best first."""
    prices = sorted(draw(st.lists(PRICES, min_size=1, max_size=6, unique=True)))
    return tuple(Level(price, draw(st.decimals(Decimal("0.01"), Decimal(50), places=2))) for price in prices)


@given(book=books(), volumes=st.lists(st.decimals(Decimal("0.01"), Decimal(400), places=2), min_size=1, max_size=5))
def test_larger_bands_are_never_better_and_never_dealt_below_cost(
    book: tuple[Level, ...], volumes: list[Decimal]
) -> None:
    bands = [*(Band(volume=volume) for volume in sorted(set(volumes))), Band(volume=None)]
    asks = band_prices(book, Side.BUY, bands, digits=5)
    assert all(better.price <= worse.price for better, worse in pairwise(asks))
    assert asks[-1].price == asks[-2].price
    for band in asks[:-1]:
        assert band.volume is not None
        average = vwap(book, band.volume)
        assert average is not None
        assert average <= band.price < average + POINT
    bids = band_prices(tuple(reversed(book)), Side.SELL, bands, digits=5)
    assert all(better.price >= worse.price for better, worse in pairwise(bids))


# --- publishing ---


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (SpreadTerms(min_points=-1), "the minimum spread cannot be below zero"),
        (SpreadTerms(max_points=0), "the maximum spread must be at least one point"),
        (SpreadTerms(min_points=6, max_points=5), "the minimum spread is above the maximum"),
    ],
)
def test_limits_that_make_no_sense_are_not_published(terms: SpreadTerms, sentence: str) -> None:
    assert spread_problems("EURUSD", terms) == (f"EURUSD: {sentence}",)


def test_sound_limits_are_published() -> None:
    for terms in (SpreadTerms(), SpreadTerms(min_points=0), SpreadTerms(min_points=5, max_points=5)):
        assert spread_problems("EURUSD", terms) == ()


@pytest.mark.parametrize(
    ("bands", "sentences"),
    [
        (BANDS, ()),
        ((), ()),
        ((BANDS[2], BANDS[0]), ("EURUSD: only the last band may be without volume",)),
        ((BANDS[1], BANDS[0]), ("EURUSD: the bands' volumes must be above zero and rise",)),
        ((BANDS[0], BANDS[0]), ("EURUSD: the bands' volumes must be above zero and rise",)),
        ((Band(volume=Decimal(0)),), ("EURUSD: the bands' volumes must be above zero and rise",)),
    ],
)
def test_bands_that_make_no_sense_are_not_published(bands: tuple[Band, ...], sentences: tuple[str, ...]) -> None:
    assert band_problems("EURUSD", bands) == sentences
