"""How a stop loss follows the price: stories a dealer knows, and the ordered book against asking every position."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.orders import Side
from trading.trailing import StopMove, Trail, TrailBook, TrailingTerms, trailed, trailing_problems, watch_level
from trading.triggers import TriggerBook, TriggerKind, trigger_for

BUY, SELL = Side.BUY, Side.SELL
DIGITS = 4


def pips(count: str) -> Decimal:
    return Decimal(count).scaleb(-4)


def trailing(distance: str = "20", step: str = "0", activation: str | None = None) -> TrailingTerms:
    """In pips."""
    return TrailingTerms(
        distance=pips(distance), step=pips(step), activation=None if activation is None else pips(activation)
    )


def long(terms: TrailingTerms, stop_loss: str | None = None, open_price: str = "1.1000", position: int = 1) -> Trail:
    stop = None if stop_loss is None else Decimal(stop_loss)
    return Trail(position=position, side=BUY, open_price=Decimal(open_price), stop_loss=stop, terms=terms)


def short(terms: TrailingTerms, stop_loss: str | None = None, open_price: str = "1.1000", position: int = 1) -> Trail:
    stop = None if stop_loss is None else Decimal(stop_loss)
    return Trail(position=position, side=SELL, open_price=Decimal(open_price), stop_loss=stop, terms=terms)


def rule(trail: Trail, bid: Decimal, ask: Decimal) -> Decimal | None:
    return trailed(
        side=trail.side,
        open_price=trail.open_price,
        stop_loss=trail.stop_loss,
        terms=trail.terms,
        bid=bid,
        ask=ask,
        digits=DIGITS,
    )


def followed(trail: Trail, *prices: str) -> list[str | None]:
    """The stop loss after each price: the bid of a long (its ask 2 pips above), the ask of a short (its bid 2 below)."""
    book = TrailBook(DIGITS, [trail])
    stops: list[str | None] = []
    for seq, price in enumerate(prices):
        spread = pips("2")
        at = Decimal(price)
        bid, ask = (at, at + spread) if trail.side is BUY else (at - spread, at)
        for move in book.moves(seq, bid, ask):
            book.move(move.position, move.after)
        now = book.get(trail.position)
        assert now is not None
        stops.append(None if now.stop_loss is None else str(now.stop_loss))
    return stops


# --- trailing ---


def test_a_long_trails_from_break_even_on_and_never_back() -> None:
    prices = ("1.1019", "1.1020", "1.1025", "1.1010", "1.1024", "1.1040")
    assert followed(long(trailing("20")), *prices) == [None, "1.1000", "1.1005", "1.1005", "1.1005", "1.1020"]


def test_a_short_is_its_mirror_on_the_ask() -> None:
    prices = ("1.0981", "1.0980", "1.0975", "1.0990", "1.0976", "1.0960")
    assert followed(short(trailing("20")), *prices) == [None, "1.1000", "1.0995", "1.0995", "1.0995", "1.0980"]


def test_a_stop_that_the_client_set_nearer_stays_until_the_price_is_far_enough_beyond_it() -> None:
    assert followed(long(trailing("20"), "1.1010"), "1.1029", "1.1030", "1.1031") == ["1.1010", "1.1010", "1.1011"]


def test_a_stop_below_the_open_price_waits_for_the_profit_too() -> None:
    assert followed(long(trailing("20"), "1.0950"), "1.1019", "1.1020") == ["1.0950", "1.1000"]


def test_a_step_lets_the_stop_jump_instead_of_creep() -> None:
    prices = ("1.1020", "1.1029", "1.1030", "1.1039", "1.1055")
    stops = ["1.1000", "1.1000", "1.1010", "1.1010", "1.1035"]
    assert followed(long(trailing("20", step="10")), *prices) == stops


def test_activation_later_than_the_distance_secures_profit_with_the_first_stop() -> None:
    assert followed(long(trailing("20", activation="50")), "1.1049", "1.1050") == [None, "1.1030"]


def test_activation_at_once_trails_a_loss() -> None:
    assert followed(long(trailing("20", activation="0")), "1.0999", "1.1000", "1.1001") == [None, "1.0980", "1.0981"]


def test_a_price_between_points_leaves_the_stop_at_least_the_distance_away() -> None:
    assert followed(long(trailing("20")), "1.10259") == ["1.1005"]
    assert followed(short(trailing("20")), "1.09741") == ["1.0995"]


# --- break-even ---


def test_break_even_moves_once_and_stays() -> None:
    terms = TrailingTerms(break_even_at=pips("15"), break_even_offset=pips("1"))
    assert followed(long(terms, "1.0950"), "1.1014", "1.1015", "1.1060") == ["1.0950", "1.1001", "1.1001"]
    assert followed(short(terms, "1.1050"), "1.0986", "1.0985", "1.0940") == ["1.1050", "1.0999", "1.0999"]


def test_break_even_comes_first_and_trailing_takes_over() -> None:
    terms = TrailingTerms(distance=pips("30"), break_even_at=pips("15"))
    assert followed(long(terms), "1.1015", "1.1029", "1.1030", "1.1031") == ["1.1000", "1.1000", "1.1000", "1.1001"]


def test_when_one_tick_reaches_both_the_better_stop_wins() -> None:
    terms = TrailingTerms(distance=pips("30"), activation=pips("10"), break_even_at=pips("15"))
    assert followed(long(terms, "1.0900"), "1.1015") == ["1.1000"]
    assert followed(long(terms, "1.0900"), "1.1050") == ["1.1020"]
    assert followed(short(terms, "1.1100"), "1.0950") == ["1.0980"]


def test_break_even_of_an_average_price_is_rounded_so_that_it_is_no_loss() -> None:
    terms = TrailingTerms(break_even_at=pips("15"))
    third = Decimal("3.3001") / 3
    assert followed(Trail(position=1, side=BUY, open_price=third, stop_loss=None, terms=terms), "1.1020") == ["1.1001"]
    assert followed(Trail(position=1, side=SELL, open_price=third, stop_loss=None, terms=terms), "1.0980") == ["1.1000"]


def test_a_better_stop_is_left_where_it_is() -> None:
    assert followed(long(TrailingTerms(break_even_at=pips("15")), "1.1005"), "1.1015") == ["1.1005"]


# --- trigger first, then trail ---


def test_the_old_stop_decides_and_the_new_one_is_beyond_the_reach_of_the_same_tick() -> None:
    """A gap down hits the old stop and moves nothing; a gap up moves the stop and cannot hit it."""
    stop_loss = trigger_for(TriggerKind.STOP_LOSS, 1, side=BUY, level=Decimal("1.1000"))
    triggers, trails = TriggerBook([stop_loss]), TrailBook(DIGITS, [long(trailing("20"), "1.1000")])
    up, down = (Decimal("1.1100"), Decimal("1.1102")), (Decimal("1.0900"), Decimal("1.0902"))

    assert triggers.hits(1, *up) == []
    (move,) = trails.moves(1, *up)
    assert move == StopMove(position=1, before=Decimal("1.1000"), after=Decimal("1.1080"))
    triggers.move(TriggerKind.STOP_LOSS, 1, move.after)
    trails.move(1, move.after)

    assert [hit.owner for hit in triggers.hits(2, *down)] == [1]
    assert trails.moves(2, *down) == []


# --- the book ---


def test_moves_are_reported_by_position_until_they_are_made_true() -> None:
    trails = [long(trailing(), position=9), short(trailing(), position=4, open_price="1.2000"), long(trailing())]
    book = TrailBook(DIGITS, trails)
    quote = (Decimal("1.1030"), Decimal("1.1032"))
    assert [move.position for move in book.moves(1, *quote)] == [1, 4, 9]
    book.move(4, Decimal("1.1052"))
    assert [move.position for move in book.moves(2, *quote)] == [1, 9]
    assert book.remove(9) == trails[0]
    assert book.remove(9) is None
    assert [move.position for move in book.moves(3, *quote)] == [1]
    assert len(book) == 2


def test_an_average_open_price_between_two_ticks_is_passed_at_the_next_one() -> None:
    third = Decimal("3.3001") / 3
    trail = Trail(position=1, side=BUY, open_price=third, stop_loss=None, terms=trailing("20"))
    assert followed(trail, "1.1020333333", "1.1020333334") == [None, "1.1000"]


def test_a_quote_whose_seq_does_not_rise_moves_nothing() -> None:
    book = TrailBook(DIGITS, [long(trailing())])
    quote = (Decimal("1.1030"), Decimal("1.1032"))
    assert len(book.moves(7, *quote)) == 1
    assert book.moves(7, *quote) == []
    assert book.moves(6, *quote) == []
    book.after_break()
    assert len(book.moves(1, *quote)) == 1


def test_a_position_follows_only_once_and_only_if_it_is_known() -> None:
    book = TrailBook(DIGITS, [long(trailing())])
    with pytest.raises(AssertionError):
        book.add(long(trailing("30")))
    book.replace(long(trailing("30")))
    assert book.get(1) == long(trailing("30"))
    assert book.get(2) is None
    with pytest.raises(KeyError):
        book.move(2, Decimal("1.1"))


def test_no_terms_follow_nothing() -> None:
    assert followed(long(TrailingTerms(), "1.0900"), "1.5000") == ["1.0900"]


# --- which terms a position can have ---


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        (TrailingTerms(distance=Decimal(0)), "the trailing distance must be above zero"),
        (TrailingTerms(distance=Decimal(1), step=Decimal(-1)), "the trailing step cannot be below zero"),
        (TrailingTerms(distance=Decimal(1), activation=Decimal(-1)), "the activation profit cannot be below zero"),
        (TrailingTerms(step=Decimal(1)), "a trailing step or activation needs a trailing distance"),
        (TrailingTerms(activation=Decimal(0)), "a trailing step or activation needs a trailing distance"),
        (TrailingTerms(break_even_at=Decimal(0)), "the break-even profit must be above zero"),
        (
            TrailingTerms(break_even_at=Decimal(1), break_even_offset=Decimal(-1)),
            "the break-even offset cannot be below zero",
        ),
        (
            TrailingTerms(break_even_at=Decimal(1), break_even_offset=Decimal(1)),
            "the break-even offset must be below the break-even profit",
        ),
        (TrailingTerms(break_even_offset=Decimal(1)), "the break-even offset must be below the break-even profit"),
    ],
)
def test_impossible_terms_are_named(terms: TrailingTerms, problem: str) -> None:
    assert trailing_problems(terms) == (problem,)


@pytest.mark.parametrize(
    "terms",
    [
        TrailingTerms(),
        trailing("20", "5", "0"),
        TrailingTerms(break_even_at=pips("10"), break_even_offset=pips("9.9")),
        TrailingTerms(distance=pips("20"), break_even_at=pips("10")),
    ],
)
def test_possible_terms_have_no_problem(terms: TrailingTerms) -> None:
    assert trailing_problems(terms) == ()


# --- against the naive way ---


def _pips(lowest: int, highest: int) -> st.SearchStrategy[Decimal]:
    """Whole points mostly, sometimes a tenth of one."""
    whole = st.integers(lowest, highest).map(lambda n: Decimal(n).scaleb(-4))
    return whole | st.integers(10 * lowest, 10 * highest).map(lambda n: Decimal(n).scaleb(-5))


any_terms = st.builds(
    TrailingTerms,
    distance=st.none() | _pips(1, 8),
    step=_pips(0, 5),
    activation=st.none() | _pips(0, 12),
    break_even_at=st.none() | _pips(4, 10),
    break_even_offset=_pips(0, 3),
)
open_prices = _pips(10_990, 11_010) | st.integers(32_970, 33_030).map(lambda n: Decimal(n).scaleb(-4) / 3)
any_trail = st.builds(
    Trail,
    position=st.integers(1, 6),
    side=st.sampled_from(Side),
    open_price=open_prices,
    stop_loss=st.none() | _pips(10_980, 11_020),
    terms=any_terms,
)
prices = _pips(10_980, 11_020)


@given(trail=any_trail, price=prices)
def test_the_watch_level_is_exactly_where_the_rule_begins_to_move(trail: Trail, price: Decimal) -> None:
    watch = watch_level(
        side=trail.side, open_price=trail.open_price, stop_loss=trail.stop_loss, terms=trail.terms, digits=DIGITS
    )
    reached = watch is not None and trail.side.sign * price >= trail.side.sign * watch
    assert (rule(trail, price, price) is not None) == reached


@given(trail=any_trail, price=prices)
def test_a_move_is_for_the_client_on_a_point_and_not_triggered_by_its_own_tick(trail: Trail, price: Decimal) -> None:
    after = rule(trail, price, price)
    if after is None:
        return
    sign = trail.side.sign
    assert trail.stop_loss is None or sign * after > sign * trail.stop_loss
    assert after == after.quantize(pips("1"))
    trails_now = trail.terms.distance is not None and sign * (price - after) >= trail.terms.distance
    evens_now = trail.terms.break_even_at is not None and sign * (after - trail.open_price) >= 0
    assert trails_now or evens_now


@settings(max_examples=300)
@given(
    trails=st.lists(any_trail, max_size=6, unique_by=lambda t: t.position),
    history=st.lists(
        st.tuples(prices, prices, st.sampled_from([0, 1, 1, 1, 3]), st.booleans(), st.none() | any_trail), max_size=40
    ),
)
def test_the_book_moves_what_asking_every_position_moves(
    trails: list[Trail], history: list[tuple[Decimal, Decimal, int, bool, Trail | None]]
) -> None:
    """Between ticks clients change stops and terms, positions close and open; some moves are made true a tick late."""
    book, known, seq, last = TrailBook(DIGITS, trails), {trail.position: trail for trail in trails}, 0, -1
    for bid, ask, further, made_true, change in history:
        seq += further
        naive = []
        if seq > last:
            for position in sorted(known):
                after = rule(known[position], bid, ask)
                if after is not None:
                    naive.append(StopMove(position=position, before=known[position].stop_loss, after=after))
            last = seq
        assert book.moves(seq, bid, ask) == naive
        for move in naive if made_true else ():
            book.move(move.position, move.after)
            trail = known[move.position]
            known[move.position] = Trail(
                position=trail.position,
                side=trail.side,
                open_price=trail.open_price,
                stop_loss=move.after,
                terms=trail.terms,
            )
        if change is not None and change.stop_loss is None:
            assert book.remove(change.position) == known.pop(change.position, None)
        elif change is not None:
            book.replace(change)
            known[change.position] = change
        assert len(book) == len(known)
