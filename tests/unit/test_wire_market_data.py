"""Books kept from snapshots and increments, as raw messages tell them."""

from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fix_gateway.wire.market_data import (
    ENTRIES_MAX,
    Books,
    Subscription,
    UpdateType,
    market_data_reject,
    market_data_request,
)
from fix_gateway.wire.message import parse

SNAPSHOT = "35=W|55=EURUSD|268=2|269=0|270=1.08500|271=1000000|299=b1|269=1|270=1.08512|271=2000000|299=a1|"


def shown(books: Books, raw: str) -> list[tuple[str, str, str]]:
    return [(top.lp_symbol, str(top.bid), str(top.ask)) for top in books.apply(parse(raw))]


def entry(action: str, key: str, side: str, price: str = "", *, symbol: str = "") -> str:
    return (
        f"279={action}|278={key}|269={side}|" + (f"55={symbol}|" if symbol else "") + (f"270={price}|" if price else "")
    )


def increments(*entries: str) -> str:
    return f"35=X|268={len(entries)}|" + "".join(entries)


def test_a_snapshot_is_the_whole_book() -> None:
    books = Books()
    (top,) = books.apply(parse(SNAPSHOT))
    assert (top.bid, top.ask, top.bid_size, top.ask_size) == tuple(
        map(Decimal, ("1.08500", "1.08512", "1000000", "2000000"))
    )
    assert top.quote_id == "b1/a1"
    assert shown(books, "35=W|55=EURUSD|268=1|269=0|270=1.09|") == [("EURUSD", "1.09", "0")]


def test_the_best_of_several_levels_is_shown() -> None:
    raw = "35=W|55=X|268=4|269=0|270=1.1|269=1|270=1.4|269=0|270=1.2|269=1|270=1.3|"
    for order in permutations(raw.split("268=4|")[1].split("269=")[1:]):
        assert shown(Books(), "35=W|55=X|268=4|" + "".join(f"269={part}" for part in order)) == [("X", "1.2", "1.3")]


def test_increments_add_change_and_delete_by_entry_id() -> None:
    books = Books()
    assert shown(books, increments(entry("0", "1", "0", "1.1", symbol="X"), entry("0", "2", "1", "1.3"))) == [
        ("X", "1.1", "1.3")
    ]
    assert shown(books, increments(entry("0", "3", "0", "1.2", symbol="X"))) == [("X", "1.2", "1.3")]
    assert shown(books, increments(entry("1", "3", "0", "1.15", symbol="X"))) == [("X", "1.15", "1.3")]
    assert shown(books, increments(entry("2", "3", "0", symbol="X"))) == [("X", "1.1", "1.3")]
    assert shown(books, increments(entry("2", "9", "0", symbol="X"))) == [("X", "1.1", "1.3")]


def test_one_increment_may_touch_several_symbols() -> None:
    raw = increments(entry("0", "1", "0", "1.1", symbol="X"), entry("0", "1", "1", "7.2", symbol="Y"))
    assert shown(Books(), raw) == [("X", "1.1", "0"), ("Y", "0", "7.2")]


def test_a_provider_without_entry_ids_has_one_entry_per_side() -> None:
    books = Books()
    shown(books, SNAPSHOT)
    assert shown(books, "35=X|268=1|279=1|269=1|55=EURUSD|270=1.08520|") == [("EURUSD", "1.08500", "1.08520")]
    assert shown(books, "35=X|268=1|279=0|269=0|55=EURUSD|270=1.08490|") == [("EURUSD", "1.08490", "1.08520")]
    assert shown(books, "35=X|268=1|279=2|269=1|55=EURUSD|") == [("EURUSD", "1.08490", "0")]


def test_a_change_of_size_keeps_the_price_and_a_reference_is_replaced() -> None:
    books = Books()
    shown(books, increments(entry("0", "1", "0", "1.1", symbol="X"), entry("0", "2", "1", "1.3")))
    (top,) = books.apply(parse("35=X|268=1|279=1|278=1|269=0|55=X|271=500|"))
    assert (str(top.bid), str(top.bid_size)) == ("1.1", "500")
    assert shown(books, "35=X|268=1|279=0|278=8|280=1|269=0|55=X|270=1.0|") == [("X", "1.0", "1.3")]


@pytest.mark.parametrize("price", ["NaN", "1E3", "", "1.1.1", "inf", "1" * 40])
def test_an_unreadable_price_is_no_price_and_never_the_old_one(price: str) -> None:
    books = Books()
    shown(books, increments(entry("0", "1", "0", "1.1", symbol="X"), entry("0", "2", "1", "1.3")))
    assert shown(books, f"35=X|268=1|279=0|278=1|269=0|55=X|270={price}|") == [("X", "0", "1.3")]
    assert books.unreadable == 1


def test_an_increment_that_does_not_add_up_empties_every_book() -> None:
    books = Books()
    shown(books, SNAPSHOT)
    assert shown(books, "35=X|268=3|279=0|278=1|269=0|55=EURUSD|270=1.2|") == [("EURUSD", "0", "0")]
    assert shown(books, increments(entry("0", "1", "0", "1.1", symbol="EURUSD"))) == [("EURUSD", "1.1", "0")]


def test_entries_of_one_symbol_are_bounded() -> None:
    books = Books()
    for number in range(ENTRIES_MAX + 1):
        (top,) = books.apply(parse(increments(entry("0", str(number), "0", "1.1", symbol="X"))))
        assert (str(top.bid) == "1.1") is (number < ENTRIES_MAX)


def test_trades_and_other_entries_are_no_quotes() -> None:
    assert shown(Books(), "35=W|55=X|268=1|269=2|270=1.1|") == [("X", "0", "0")]


tags = st.sampled_from([55, 262, 268, 269, 270, 271, 278, 279, 280, 299, 10])
values = st.one_of(st.sampled_from(["0", "1", "2", "3", "X", "1.1", "1E5", "NaN", ""]), st.text(max_size=8))


@given(st.lists(st.tuples(st.sampled_from("WXY"), st.lists(st.tuples(tags, values), max_size=14)), max_size=6))
def test_no_message_breaks_the_books(messages: list[tuple[str, list[tuple[int, str]]]]) -> None:
    books = Books()
    for kind, fields in messages:
        raw = f"35={kind}\x01" + "".join(f"{tag}={value}\x01" for tag, value in fields)
        for top in books.apply(parse(raw)):
            assert top.bid.is_finite()
            assert top.ask.is_finite()
            assert top.bid_size >= 0
            assert top.quote_id.isprintable()


def test_a_request_asks_for_both_sides_of_one_symbol() -> None:
    request = market_data_request(
        request_id="r1", lp_symbol="EUR/USD", subscription=Subscription.SUBSCRIBE, update_type=UpdateType.INCREMENTAL
    )
    assert request.msg_type == "V"
    assert request.fields == ((262, "r1"), (263, "1"), (264, "1"), (265, "1"))
    assert [(g.count_tag, g.entries) for g in request.groups] == [
        (267, (((269, "0"),), ((269, "1"),))),
        (146, (((55, "EUR/USD"),),)),
    ]


def test_a_reject_tells_why() -> None:
    refused = market_data_reject(parse("35=Y|262=r1|281=0|58=no such symbol\x07|"))
    assert (refused.request_id, refused.reason, refused.text) == ("r1", "0", "no such symbol?")
