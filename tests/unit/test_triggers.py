"""Which tick triggers what: the table of sides, the order of hits, and the book against a scan over everything."""

from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.orders import Side
from trading.protection import StopTriggerMethod
from trading.triggers import (
    STOPS,
    WATCHES,
    Direction,
    PriceSide,
    Trigger,
    TriggerBook,
    TriggerKind,
    margin_watch,
    ticks,
    trigger_for,
    watch_for,
)

K, M = TriggerKind, StopTriggerMethod
BUY, SELL = Side.BUY, Side.SELL


def buy_stop(order: int, level: str, method: StopTriggerMethod = M.TRADE) -> Trigger:
    return trigger_for(K.STOP, order, side=BUY, level=Decimal(level), method=method)


def sell_stop(order: int, level: str, method: StopTriggerMethod = M.TRADE) -> Trigger:
    return trigger_for(K.STOP, order, side=SELL, level=Decimal(level), method=method)


def buy_limit(order: int, level: str) -> Trigger:
    return trigger_for(K.LIMIT, order, side=BUY, level=Decimal(level))


def long_stop_loss(position: int, level: str, method: StopTriggerMethod = M.TRADE) -> Trigger:
    return trigger_for(K.STOP_LOSS, position, side=BUY, level=Decimal(level), method=method)


def long_take_profit(position: int, level: str) -> Trigger:
    return trigger_for(K.TAKE_PROFIT, position, side=BUY, level=Decimal(level))


class Stream:
    """Shows a book one quote after the other and says what fired, as 'kind owner'."""

    def __init__(self, *triggers: Trigger) -> None:
        self.book = TriggerBook(triggers)
        self.seq = 0

    def tick(self, bid: str, ask: str) -> list[str]:
        self.seq += 1
        return [f"{hit.kind} {hit.owner}" for hit in self.book.hits(self.seq, Decimal(bid), Decimal(ask))]


# --- the table: kind, side, the quotes just before, at and beyond the level 1.1000 (the other side is out of the way) ---


@pytest.mark.parametrize(
    ("kind", "side", "quiet", "at", "beyond"),
    [
        (K.LIMIT, BUY, ("1.0000", "1.1001"), ("1.0000", "1.1000"), ("1.0000", "1.0999")),
        (K.LIMIT, SELL, ("1.0999", "1.2000"), ("1.1000", "1.2000"), ("1.1001", "1.2000")),
        (K.STOP, BUY, ("1.0000", "1.0999"), ("1.0000", "1.1000"), ("1.0000", "1.1001")),
        (K.STOP, SELL, ("1.1001", "1.2000"), ("1.1000", "1.2000"), ("1.0999", "1.2000")),
        (K.STOP_LIMIT, BUY, ("1.0000", "1.0999"), ("1.0000", "1.1000"), ("1.0000", "1.1001")),
        (K.STOP_LIMIT, SELL, ("1.1001", "1.2000"), ("1.1000", "1.2000"), ("1.0999", "1.2000")),
        (K.STOP_LOSS, BUY, ("1.1001", "1.2000"), ("1.1000", "1.2000"), ("1.0999", "1.2000")),
        (K.STOP_LOSS, SELL, ("1.0000", "1.0999"), ("1.0000", "1.1000"), ("1.0000", "1.1001")),
        (K.TAKE_PROFIT, BUY, ("1.0999", "1.2000"), ("1.1000", "1.2000"), ("1.1001", "1.2000")),
        (K.TAKE_PROFIT, SELL, ("1.0000", "1.1001"), ("1.0000", "1.1000"), ("1.0000", "1.0999")),
    ],
)
def test_each_kind_watches_the_side_that_it_is_dealt_at(
    kind: TriggerKind, side: Side, quiet: tuple[str, str], at: tuple[str, str], beyond: tuple[str, str]
) -> None:
    stream = Stream(trigger_for(kind, 7, side=side, level=Decimal("1.1000")))
    assert stream.tick(*quiet) == []
    assert stream.tick(*at) == [f"{kind} 7"]
    assert stream.tick(*beyond) == [f"{kind} 7"]


@pytest.mark.parametrize(
    ("kind", "side", "quiet", "at"),
    [
        (K.STOP, BUY, ("1.0999", "1.1002"), ("1.1000", "1.1003")),
        (K.STOP, SELL, ("1.0998", "1.1001"), ("1.0997", "1.1000")),
        (K.STOP_LIMIT, BUY, ("1.0999", "1.1002"), ("1.1000", "1.1003")),
        (K.STOP_LIMIT, SELL, ("1.0998", "1.1001"), ("1.0997", "1.1000")),
        (K.STOP_LOSS, BUY, ("1.0998", "1.1001"), ("1.0997", "1.1000")),
        (K.STOP_LOSS, SELL, ("1.0999", "1.1002"), ("1.1000", "1.1003")),
    ],
)
def test_opposite_waits_for_the_other_side_of_the_spread(
    kind: TriggerKind, side: Side, quiet: tuple[str, str], at: tuple[str, str]
) -> None:
    stream = Stream(trigger_for(kind, 7, side=side, level=Decimal("1.1000"), method=M.OPPOSITE))
    assert stream.tick(*quiet) == []
    assert stream.tick(*at) == [f"{kind} 7"]


def test_the_table_is_total_over_everything_that_has_a_side() -> None:
    without_side = {K.MARGIN_WATCH_DOWN, K.MARGIN_WATCH_UP}
    assert set(WATCHES) == {(kind, side) for kind in set(K) - without_side for side in Side}


@pytest.mark.parametrize("kind", sorted(set(K) - STOPS - {K.MARGIN_WATCH_DOWN, K.MARGIN_WATCH_UP}))
@pytest.mark.parametrize("method", sorted(set(M) - {M.TRADE}))
def test_limits_and_take_profits_have_no_method(kind: TriggerKind, method: StopTriggerMethod) -> None:
    with pytest.raises(AssertionError):
        watch_for(kind, BUY, method)


def test_a_margin_watch_looks_at_the_side_that_moves_against_the_account_first() -> None:
    down = margin_watch(3, Direction.AT_OR_BELOW, Decimal("1.0900"))
    up = margin_watch(3, Direction.AT_OR_ABOVE, Decimal("1.1100"))
    stream = Stream(down, up)
    assert stream.tick("1.0901", "1.1099") == []
    assert stream.tick("1.0900", "1.1099") == ["margin_watch_down 3"]
    assert stream.tick("1.0901", "1.1100") == ["margin_watch_up 3"]


# --- two consecutive ticks ---


def test_one_spike_does_not_trigger_a_double_stop() -> None:
    stream = Stream(buy_stop(1, "1.1000", M.DOUBLE_TRADE))
    assert stream.tick("1.0998", "1.1000") == []
    assert stream.tick("1.0997", "1.0999") == []
    assert stream.tick("1.0998", "1.1000") == []
    assert stream.tick("1.1003", "1.1005") == ["stop 1"]


def test_double_opposite_wants_the_bid_there_twice_for_a_buy_stop() -> None:
    stream = Stream(buy_stop(1, "1.1000", M.DOUBLE_OPPOSITE))
    assert stream.tick("1.0999", "1.1001") == []
    assert stream.tick("1.1000", "1.1002") == []
    assert stream.tick("1.1001", "1.1003") == ["stop 1"]


def test_a_double_stop_that_was_added_or_moved_begins_counting_anew() -> None:
    stream = Stream()
    assert stream.tick("1.0998", "1.1000") == []
    stream.book.add(buy_stop(1, "1.1000", M.DOUBLE_TRADE))
    assert stream.tick("1.0998", "1.1000") == []
    stream.book.move(K.STOP, 1, Decimal("1.0999"))
    assert stream.tick("1.0998", "1.1000") == []
    assert stream.tick("1.0998", "1.1000") == ["stop 1"]


def test_a_break_separates_two_ticks() -> None:
    stream = Stream(sell_stop(1, "1.1000", M.DOUBLE_TRADE), sell_stop(2, "1.1000"))
    assert stream.tick("1.1000", "1.1002") == ["stop 2"]
    stream.book.after_break()
    assert stream.tick("1.1000", "1.1002") == ["stop 2"]
    assert stream.tick("1.1000", "1.1002") == ["stop 1", "stop 2"]


# --- order of hits ---


def test_a_gap_triggers_the_level_that_was_passed_first_first() -> None:
    stream = Stream(long_stop_loss(1, "1.0800"), long_stop_loss(2, "1.0900"), long_stop_loss(3, "1.0850"))
    assert stream.tick("1.0700", "1.0702") == ["stop_loss 2", "stop_loss 3", "stop_loss 1"]


def test_at_one_level_the_lowest_owner_comes_first() -> None:
    stream = Stream(*(buy_limit(order, "1.1000") for order in (11, 2, 101, 3)))
    assert stream.tick("1.0998", "1.1000") == ["limit 2", "limit 3", "limit 11", "limit 101"]


def test_closes_come_before_margin_watches_and_these_before_openings() -> None:
    stream = Stream(
        buy_limit(1, "1.0990"),
        sell_stop(2, "1.0990"),
        margin_watch(3, Direction.AT_OR_BELOW, Decimal("1.0950")),
        long_stop_loss(4, "1.0910"),
        trigger_for(K.TAKE_PROFIT, 5, side=SELL, level=Decimal("1.0920")),
    )
    expected = ["take_profit 5", "stop_loss 4", "margin_watch_down 3", "stop 2", "limit 1"]
    assert stream.tick("1.0900", "1.0902") == expected


def test_sides_are_compared_by_how_far_the_price_is_beyond_the_level() -> None:
    """The spread widens: the ask is 20 points beyond the short's stop, the bid 30 beyond the long's."""
    short = trigger_for(K.STOP_LOSS, 1, side=SELL, level=Decimal("1.1030"))
    stream = Stream(short, long_stop_loss(2, "1.0980"))
    assert stream.tick("1.0950", "1.1050") == ["stop_loss 2", "stop_loss 1"]


# --- the book ---


def test_a_quote_whose_seq_does_not_rise_triggers_nothing() -> None:
    book = TriggerBook([buy_limit(1, "1.1000")])
    low, high = (Decimal("1.0990"), Decimal("1.0992")), (Decimal("1.1010"), Decimal("1.1012"))
    assert book.hits(5, *high) == []
    assert book.hits(5, *low) == []
    assert book.hits(4, *low) == []
    assert [hit.owner for hit in book.hits(6, *low)] == [1]
    assert book.hits(1, *low) == []
    book.after_break()
    assert [hit.owner for hit in book.hits(1, *low)] == [1]


def test_what_is_removed_no_longer_fires_and_what_rests_fires_until_it_is_removed() -> None:
    stream = Stream(long_stop_loss(1, "1.0900"), long_take_profit(1, "1.1100"))
    assert stream.tick("1.0890", "1.0892") == ["stop_loss 1"]
    assert stream.tick("1.0890", "1.0892") == ["stop_loss 1"]
    removed = stream.book.remove(K.STOP_LOSS, 1)
    assert removed is not None
    assert removed.level == Decimal("1.0900")
    assert stream.book.remove(K.STOP_LOSS, 1) is None
    assert stream.tick("1.0890", "1.0892") == []
    assert stream.tick("1.1100", "1.1102") == ["take_profit 1"]
    assert len(stream.book) == 1


def test_a_moved_level_fires_at_its_new_price_only() -> None:
    stream = Stream(long_stop_loss(1, "1.0900"))
    assert stream.book.move(K.STOP_LOSS, 1, Decimal("1.0800")).level == Decimal("1.0800")
    assert stream.tick("1.0850", "1.0852") == []
    assert stream.tick("1.0800", "1.0802") == ["stop_loss 1"]
    with pytest.raises(KeyError):
        stream.book.move(K.TAKE_PROFIT, 1, Decimal("1.2"))


def test_an_owner_cannot_rest_twice_under_one_kind() -> None:
    book = TriggerBook([buy_limit(1, "1.1000")])
    with pytest.raises(AssertionError):
        book.add(buy_limit(1, "1.0900"))
    book.add(buy_stop(1, "1.2000"))
    assert book.get(K.STOP, 1) == buy_stop(1, "1.2000")
    assert book.get(K.STOP, 2) is None


def test_a_stop_limit_that_fired_goes_on_resting_as_a_limit() -> None:
    stream = Stream(trigger_for(K.STOP_LIMIT, 1, side=BUY, level=Decimal("1.1010")))
    assert stream.tick("1.1010", "1.1012") == ["stop_limit 1"]
    stream.book.remove(K.STOP_LIMIT, 1)
    stream.book.add(buy_limit(1, "1.1005"))
    assert stream.tick("1.1004", "1.1006") == []
    assert stream.tick("1.1003", "1.1005") == ["limit 1"]


def test_negative_prices_and_prices_finer_than_a_point_are_compared_exactly() -> None:
    stream = Stream(long_stop_loss(1, "-37.63"), buy_limit(2, "-37.63"))
    assert stream.tick("-37.6299999999", "-37.6299999999") == []
    assert stream.tick("-37.63", "-37.6299999999") == ["stop_loss 1"]
    assert stream.tick("-37.63", "-37.63") == ["stop_loss 1", "limit 2"]


def test_a_price_with_more_than_ten_decimals_is_our_bug() -> None:
    assert ticks(Decimal("999999999999999999.9999999999")) == 10**28 - 1
    with pytest.raises(AssertionError):
        ticks(Decimal("1.00000000001"))


# --- against a scan over everything ---


class Scan:
    """The same book without any ordering: every trigger is looked at on every tick, and remembers its own last tick."""

    def __init__(self) -> None:
        self.resting: dict[tuple[TriggerKind, int], Trigger] = {}
        self.was_beyond: dict[tuple[TriggerKind, int], bool] = {}
        self.seq = -1

    def put(self, trigger: Trigger) -> None:
        self.resting[trigger.kind, trigger.owner] = trigger
        self.was_beyond[trigger.kind, trigger.owner] = False

    def remove(self, key: tuple[TriggerKind, int]) -> None:
        self.resting.pop(key, None)

    def after_break(self) -> None:
        self.seq = -1
        self.was_beyond = dict.fromkeys(self.was_beyond, False)

    def hits(self, seq: int, bid: Decimal, ask: Decimal) -> list[Trigger]:
        if seq <= self.seq:
            return []
        self.seq = seq
        found = []
        for key, trigger in self.resting.items():
            beyond = overshoot(trigger, bid, ask) >= 0
            if beyond and (self.was_beyond[key] or not trigger.is_double):
                found.append(trigger)
            self.was_beyond[key] = beyond
        turns: list[Iterable[TriggerKind]] = [
            (K.STOP_LOSS, K.TAKE_PROFIT),
            (K.MARGIN_WATCH_DOWN, K.MARGIN_WATCH_UP),
            (K.LIMIT, K.STOP, K.STOP_LIMIT),
        ]
        turn = {kind: number for number, kinds in enumerate(turns) for kind in kinds}
        return sorted(found, key=lambda t: (turn[t.kind], -overshoot(t, bid, ask), t.owner, list(K).index(t.kind)))


def overshoot(trigger: Trigger, bid: Decimal, ask: Decimal) -> Decimal:
    """How far the watched price is beyond the level; below zero before it gets there."""
    price = bid if trigger.price_side is PriceSide.BID else ask
    return price - trigger.level if trigger.direction is Direction.AT_OR_ABOVE else trigger.level - price


# Few levels and owners, so that ties, replaced owners and quotes exactly at a level are frequent; some are off the point.
levels = st.integers(-3, 12).map(lambda n: Decimal(n).scaleb(-5)) | st.integers(-30, 120).map(
    lambda n: Decimal(n).scaleb(-6)
)
any_trigger = st.builds(
    Trigger,
    kind=st.sampled_from(TriggerKind),
    owner=st.sampled_from([1, 2, 3, 4, 5, 2**63 - 1]),
    level=levels,
    price_side=st.sampled_from(PriceSide),
    direction=st.sampled_from(Direction),
    is_double=st.booleans(),
)
steps = (
    st.tuples(st.just("put"), any_trigger)
    | st.tuples(st.just("move"), any_trigger)
    | st.tuples(st.just("remove"), any_trigger)
    | st.tuples(st.just("tick"), levels, levels, st.sampled_from([-1, 0, 1, 1, 1, 1, 5]))
    | st.tuples(st.just("break"))
)


@settings(max_examples=400)
@given(resting=st.lists(any_trigger, max_size=12, unique_by=lambda t: (t.kind, t.owner)), history=st.lists(steps))
def test_the_book_reports_what_a_scan_over_everything_reports_in_the_same_order(
    resting: list[Trigger], history: list[tuple[object, ...]]
) -> None:
    book, scan, seq = TriggerBook(resting), Scan(), 10
    for trigger in resting:
        scan.put(trigger)
    for step in history:
        match step:
            case ("put", Trigger() as trigger):
                book.remove(trigger.kind, trigger.owner)
                book.add(trigger)
                scan.put(trigger)
            case ("move", Trigger() as wanted) if book.get(wanted.kind, wanted.owner) is not None:
                scan.put(book.move(wanted.kind, wanted.owner, wanted.level))
            case ("remove", Trigger() as gone):
                assert book.remove(gone.kind, gone.owner) == scan.resting.get((gone.kind, gone.owner))
                scan.remove((gone.kind, gone.owner))
            case ("tick", Decimal() as bid, Decimal() as ask, int() as further):
                seq += further
                assert book.hits(seq, bid, ask) == scan.hits(seq, bid, ask)
            case ("break",):
                book.after_break()
                scan.after_break()
                seq = 10
        assert len(book) == len(scan.resting)
