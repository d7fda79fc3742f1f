"""Which prices of a stream are held back: stories in points around 1.00000, and what holds for any stream."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.quotefilter import NO_FILTER, FilterTerms, QuoteFilter, Sides, filter_problems

DIGITS = 5
SOFT = FilterTerms(soft_points=10, soft_count=2)
HARD = FilterTerms(hard_points=50, hard_count=2)
BOTH = FilterTerms(soft_points=10, soft_count=1, hard_points=50, hard_count=2)
PATIENT = FilterTerms(soft_points=10, soft_count=3, hard_points=50, hard_count=1)
ALL = FilterTerms(soft_points=10, soft_count=1, hard_points=50, hard_count=2, discard_points=100)
CODES = {
    "passed": ".", "withheld_soft": "s", "withheld_hard": "h", "discarded": "d", "spread_outside": "w", "zero": "0",
}  # fmt: skip


class Stream:
    """A stream and its filter; what passes is what the next price is measured from."""

    def __init__(self, terms: FilterTerms) -> None:
        self.terms = terms
        self.filter = QuoteFilter()
        self.reference: Sides | None = None
        self.counters: Counter[str] = Counter()

    def breaks(self) -> None:
        self.reference = None

    def price(self, bid: int, ask: int) -> str:
        """`bid` and `ask` in points from 1.00000."""
        price = sides(bid, ask)
        judgement = self.filter.judge(price, reference=self.reference, terms=self.terms, digits=DIGITS)
        if judgement == "passed":
            self.reference = price
        self.counters[judgement.value] += 1
        return judgement.value

    def story(self, bids: Iterable[int]) -> str:
        """One letter per price, each two points wide."""
        return "".join(CODES[self.price(bid, bid + 2)] for bid in bids)


def sides(bid: int, ask: int) -> Sides:
    return 1 + Decimal(bid) / 100_000, 1 + Decimal(ask) / 100_000


@pytest.mark.parametrize(
    ("terms", "bids", "story"),
    [
        # the soft level: the third in a row counts, and the reference is there from then on
        (SOFT, [0, 10, 20, 10, 0], "....."),
        (SOFT, [0, 11, 0], ".s."),
        (SOFT, [0, 11, 11, 11, 11], ".ss.."),
        (SOFT, [0, -11, -11, -11, 0, 0, 0], ".ss.ss."),
        (SOFT, [0, 11, 11, 0, 11, 11, 11], ".ss.ss."),  # not in a row: counted anew
        (SOFT, [0, 11, 5, 15, 26, 26, 26], ".s..ss."),  # measured from the last that passed
        (SOFT, [0, 5000, 5000, 5000], ".ss."),
        # the hard level alone
        (HARD, [0, 50, 0], "..."),
        (HARD, [0, 51, 51, 51, 51], ".hh.."),
        # both: the hard level takes both counts together, and a softer price begins the hard count anew
        (BOTH, [0, 11, 11], ".s."),
        (BOTH, [0, 51, 51, 51, 51, 51], ".hhh.."),
        (PATIENT, [0, 51, 20, 51, 51, 51, 51, 51], ".hshhhh."),
        (BOTH, [0, 51, 51, 20, 51], ".hh.s"),  # the softer price counts, and is measured from
        (BOTH, [0, 11, 51, 51, 51, 51], ".shhh."),
        (BOTH, [0, 51, 51, 11], ".hh."),
        # discarded however often, and as if it had never come
        (ALL, [0, 101, 101, 101, 101, 101, 101, 101], ".ddddddd"),
        (ALL, [0, 100, 100, 100, 100], ".hhh."),
        (ALL, [0, 11, 500, 11], ".sd."),
        (ALL, [0, 51, -900, 51, 51, 51], ".hdhh."),
        (FilterTerms(discard_points=5), [0, 5, 11, 10, 16, 5], "..d.d."),
        (NO_FILTER, [0, 5000, -5000], "..."),
    ],
)
def test_a_stream_is_filtered(terms: FilterTerms, bids: list[int], story: str) -> None:
    assert Stream(terms).story(bids) == story


def test_reasons_can_be_counted() -> None:
    stream = Stream(ALL)
    stream.story([0, 11, 101, 51, 0])
    assert stream.counters == {"passed": 2, "withheld_soft": 1, "discarded": 1, "withheld_hard": 1}


@pytest.mark.parametrize(
    ("prices", "story"),
    [
        ([(0, 2), (0, 13), (0, 13), (0, 13)], ".ss."),  # the ask alone
        ([(0, 20), (11, 20), (11, 20), (11, 20)], ".ss."),  # the bid alone
        ([(0, 2), (0, 13), (-11, 2), (0, 13), (0, 13), (0, 13)], ".ssss."),  # by turns: neither is in a row
        ([(0, 2), (0, 13), (-11, 13), (-11, 13), (-11, 13)], ".sss."),  # the bid came later and is waited for
    ],
)
def test_bid_and_ask_are_counted_each_for_itself(prices: list[tuple[int, int]], story: str) -> None:
    stream = Stream(SOFT)
    assert "".join(CODES[stream.price(bid, ask)] for bid, ask in prices) == story


@pytest.mark.parametrize(
    ("bid", "ask", "judgement"),
    [
        (0, 1, "spread_outside"),
        (0, 2, "passed"),
        (0, 20, "passed"),
        (0, 21, "spread_outside"),
        (5, 0, "spread_outside"),
        (-100_000, 5, "zero"),
        (-200_000, 5, "zero"),
        (5, -100_000, "zero"),
    ],
)
def test_the_spread_and_the_sign_are_looked_at_even_after_a_break(bid: int, ask: int, judgement: str) -> None:
    assert Stream(FilterTerms(spread_min_points=2, spread_max_points=20)).price(bid, ask) == judgement


def test_the_first_after_a_break_passes_and_nothing_is_left_of_the_run_before() -> None:
    stream = Stream(ALL)
    assert stream.story([0, 11]) == ".s"
    stream.breaks()
    assert stream.story([9000, 9000, 9011, 9011]) == "..s."


def test_a_reference_that_moves_without_the_filter_begins_the_run_anew() -> None:
    stream = Stream(SOFT)
    stream.story([0, 20, 20])
    stream.reference = sides(40, 42)
    assert stream.story([20, 20, 20]) == "ss."


# --- any stream ---

POINTS = st.integers(1, 60)
COUNTS = st.integers(1, 3)
PRICES = st.lists(st.tuples(st.integers(-300, 300), st.integers(-3, 40), st.sampled_from([False] * 9 + [True])))


@st.composite
def filters(draw: st.DrawFn) -> FilterTerms:
    """Any that can be published."""
    soft, hard, discard = sorted(draw(st.sets(POINTS, min_size=3, max_size=3)))
    has_soft, has_hard, has_discard, has_spread = draw(st.tuples(*[st.booleans()] * 4))
    terms = FilterTerms(
        soft_points=soft if has_soft else None,
        soft_count=draw(COUNTS) if has_soft else 0,
        hard_points=hard if has_hard else None,
        hard_count=draw(COUNTS) if has_hard else 0,
        discard_points=discard if has_discard else None,
        spread_min_points=0 if has_spread else None,
        spread_max_points=30 if has_spread else None,
    )
    assert filter_problems("EURUSD", terms) == ()
    return terms


@given(filters(), PRICES)
def test_nothing_beyond_the_discard_level_passes_and_what_lies_within_all_levels_does(
    terms: FilterTerms, prices: list[tuple[int, int, bool]]
) -> None:
    stream = Stream(terms)
    first_level = min(p for p in (terms.soft_points, terms.hard_points, terms.discard_points, 10**6) if p is not None)
    last: tuple[int, int] | None = None
    for bid, spread, is_after_break in prices:
        if is_after_break:
            stream.breaks()
            last = None
        ask = bid + spread
        is_passed = stream.price(bid, ask) == "passed"
        moved = 0 if last is None else max(abs(bid - last[0]), abs(ask - last[1]))
        spread_fits = terms.spread_max_points is None or 0 <= spread <= 30
        assert not is_passed or terms.discard_points is None or moved <= terms.discard_points
        assert not is_passed or spread_fits
        assert is_passed or moved > first_level or not spread_fits
        last = (bid, ask) if is_passed else last


@given(filters(), st.integers(-70, 70))
def test_a_move_that_stays_is_withheld_exactly_its_counts(terms: FilterTerms, move: int) -> None:
    held = ""
    if terms.discard_points is not None and abs(move) > terms.discard_points:
        held = "d" * 8
    elif terms.hard_points is not None and abs(move) > terms.hard_points:
        held = "h" * (terms.hard_count + terms.soft_count)
    elif terms.soft_points is not None and abs(move) > terms.soft_points:
        held = "s" * terms.soft_count
    assert Stream(terms).story([0, *[move] * 8]) == "." + held.ljust(8, ".")


@given(PRICES)
def test_the_default_passes_every_positive_price(prices: list[tuple[int, int, bool]]) -> None:
    stream = Stream(NO_FILTER)
    assert all(stream.price(bid, bid + spread) == "passed" for bid, spread, _ in prices)


# --- what may be published ---


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"soft_points": 10, "soft_count": 1, "hard_points": 10, "hard_count": 1}, "levels must rise"),
        ({"soft_points": 10, "soft_count": 1, "discard_points": 9}, "levels must rise"),
        ({"hard_points": 10, "hard_count": 1, "discard_points": 10}, "levels must rise"),
        ({"discard_points": 0}, "levels must be at least one point"),
        ({"soft_points": -1, "soft_count": 1}, "levels must be at least one point"),
        ({"soft_points": 10}, "with a soft level needs a soft count of at least one"),
        ({"hard_points": 10, "hard_count": -1}, "with a hard level needs a hard count of at least one"),
        ({"soft_count": 1}, "soft count needs a soft level"),
        ({"hard_count": 1}, "hard count needs a hard level"),
        ({"spread_min_points": -1}, "minimum spread cannot be below zero"),
        ({"spread_max_points": 0}, "maximum spread must be at least one point"),
        ({"spread_min_points": 6, "spread_max_points": 5}, "minimum spread is above its maximum"),
    ],
)
def test_a_filter_that_makes_no_sense_is_not_published(fields: dict[str, int], problem: str) -> None:
    problems = filter_problems("EURUSD", FilterTerms(**fields))
    assert len(problems) == 1
    assert problems[0].startswith("EURUSD: a quote filter")
    assert problem in problems[0]


@pytest.mark.parametrize(
    "terms", [NO_FILTER, SOFT, HARD, BOTH, ALL, FilterTerms(spread_min_points=5, spread_max_points=5)]
)
def test_a_filter_that_makes_sense_is_published(terms: FilterTerms) -> None:
    assert filter_problems("EURUSD", terms) == ()
