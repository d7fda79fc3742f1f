"""The simulated dealing desk's record: what is kept, what comes back from it, and that parts add up to the whole."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fix_gateway.wire.message import Message, parse
from lp_adapters.simulators.desk import SLICES_MAX, Answer, Desk, Order, slices
from lp_adapters.simulators.journal import Journal
from lp_adapters.simulators.market import Side, Top
from lp_adapters.simulators.misbehaviour import NONE, ControlRefused, Misbehaviour, for_order
from lp_adapters.simulators.misbehaviour import parse as parse_control
from lp_adapters.simulators.profiles import INSTRUMENTS

AT = datetime(2026, 11, 17, 12, tzinfo=UTC)
EURUSD = INSTRUMENTS["EURUSD"]
TOP = Top(Side("1.08500", 100_000), Side("1.08504", 100_000), "q1")


def new_order(cl_ord_id: str = "o1", quantity: str = "250000", side: str = "1", more: str = "") -> Message:
    return parse(f"35=D|11={cl_ord_id}|55=EUR/USD|54={side}|38={quantity}|40=1|59=3|60=20261117-12:00:00|{more}")


def place(desk: Desk, message: Message, wrong: Misbehaviour = NONE, top: Top | None = TOP) -> Answer:
    return desk.place(message, EURUSD, top, wrong, AT)


def fields(answer: Answer, tag: int) -> list[str]:
    return [dict(message.fields).get(tag, "") for message in answer.messages]


@given(
    quantity=st.integers(1, 6_000),
    size=st.integers(0, 5_000_000),
    side=st.sampled_from("12"),
    terms=st.sampled_from("34"),
    limit=st.none() | st.integers(-10, 60),
    slippage=st.integers(-5, 5),
)
def test_fills_and_rest_add_up_and_respect_the_limit(
    quantity: int, size: int, side: str, terms: str, limit: int | None, slippage: int
) -> None:
    towards = 1 if side == "1" else -1
    price = Decimal("1.08504") if side == "1" else Decimal("1.08500")
    bound = None if limit is None else price + towards * limit * EURUSD.point
    order = Order(
        cl_ord_id="o",
        order_id="O",
        lp_symbol="EUR/USD",
        symbol="EURUSD",
        side=side,
        quantity=Decimal(quantity * 1000),
        kind="1" if bound is None else "2",
        limit=bound,
        time_in_force=terms,
        account="",
    )
    shown = Top(Side("1.08500", size), Side("1.08504", size), "q")
    parts = slices(order, EURUSD, shown, Misbehaviour(slippage_points=slippage))
    dealt = sum((part.quantity for part in parts), Decimal(0))
    assert all(part.quantity > 0 and part.quantity % 1000 == 0 for part in parts)
    assert dealt <= order.quantity
    assert len(parts) <= SLICES_MAX
    assert terms == "3" or dealt in (0, order.quantity)
    assert bound is None or all((part.price - bound) * towards <= 0 for part in parts)
    assert [part.price for part in parts] == [
        price + towards * (slippage + place) * EURUSD.point for place in range(len(parts))
    ]


def test_reports_of_an_order_carry_cum_leaves_and_average() -> None:
    answer = place(Desk("YOFX1", name_of_run="r"), new_order())
    assert fields(answer, 150) == ["0", "F", "F", "F"]
    assert fields(answer, 14) == ["0", "100000", "200000", "250000"]
    assert fields(answer, 151) == ["250000", "150000", "50000", "0"]
    assert fields(answer, 39) == ["0", "1", "1", "2"]
    assert fields(answer, 6)[-1] == "1.085048"
    assert fields(answer, 17) == ["YOFX1-r-E1", "YOFX1-r-E2", "YOFX1-r-E3", "YOFX1-r-E4"]
    assert [image.cum for image in answer.images] == [Decimal(250_000)]


def test_positions_follow_the_fills_with_their_sign() -> None:
    desk = Desk("YOFX1", name_of_run="r")
    place(desk, new_order("o1", "250000"))
    place(desk, new_order("o2", "100000", side="2"))
    assert desk.positions() == {"EURUSD": Decimal(150_000)}
    place(desk, new_order("o3", "150000", side="2"))
    assert desk.positions() == {"EURUSD": Decimal(0)}


def test_a_desk_remembers_from_its_images() -> None:
    first = Desk("YOFX1", name_of_run="r")
    answers = [place(first, new_order("o1")), place(first, new_order("o2"), Misbehaviour(delay_ms=5))]
    second = Desk("YOFX1", name_of_run="r", images=[image for answer in answers for image in answer.images])
    assert second.positions() == first.positions() == {"EURUSD": Decimal(250_000)}
    assert fields(place(second, new_order("o1")), 17) == ["YOFX1-r-E4"]
    ended = second.cancel_held(AT)
    assert (fields(ended, 11), fields(ended, 39)) == (["o2"], ["4"])
    given_out = {exec_id for answer in answers for exec_id in fields(answer, 17)}
    assert given_out.isdisjoint(fields(place(second, new_order("o3")), 17))


def test_a_held_order_is_dealt_once_at_the_price_of_the_later_look() -> None:
    desk = Desk("YOFX1", name_of_run="r")
    answer = place(desk, new_order(), Misbehaviour(delay_ms=250, partial=Decimal("0.5")))
    assert (fields(answer, 150), answer.held and answer.held.delay_ms) == (["0"], 250)
    later = Top(Side("1.09", 1_000_000), Side("1.09001", 1_000_000), "q2")
    looked = desk.look("o1", EURUSD, later, AT)
    assert fields(looked, 31) == ["1.09001", ""]
    assert fields(looked, 14) == ["125000", "125000"]
    assert desk.look("o1", EURUSD, later, AT) == Answer()
    desk = Desk("YOFX1", name_of_run="r")
    place(desk, new_order(), Misbehaviour(delay_ms=250))
    assert fields(desk.look("o1", EURUSD, None, AT), 39) == ["4"], "no price any more: cancelled"


@pytest.mark.parametrize("cl_ord_id", ["", "x" * 121, "caf\udce9", "a\tb"])
def test_a_name_that_cannot_be_repeated_is_refused(cl_ord_id: str) -> None:
    answer = place(Desk("YOFX1", name_of_run="r"), new_order(cl_ord_id))
    assert (fields(answer, 39), fields(answer, 103)) == (["8"], ["99"])
    assert all(field.isprintable() for message in answer.messages for _, field in message.fields)


def test_a_journal_gives_back_what_was_kept_and_drops_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "lp.orders.jsonl"
    journal = Journal(path)
    desk = Desk("YOFX1", name_of_run=journal.life)
    kept = [image for name in ("a", "b") for image in place(desk, new_order(name)).images]
    journal.keep(kept)
    with path.open("ab") as file:
        file.write(b'{"cl_ord_id":"c","order')
    again = Journal(path)
    assert again.life == journal.life
    assert list(again.images()) == kept
    again.keep(place(desk, new_order("d")).images)
    assert [image.cl_ord_id for image in Journal(path).images()] == ["a", "b", "d"]


def test_a_journal_knows_what_was_kept_and_not_said(tmp_path: Path) -> None:
    path = tmp_path / "lp.orders.jsonl"
    journal = Journal(path)
    desk = Desk("YOFX1", name_of_run=journal.life)
    first, second = (place(desk, new_order(name)) for name in ("a", "b"))
    journal.said(journal.keep(first.images, first.messages))
    number = journal.keep(second.images, second.messages)
    again = Journal(path)
    assert list(again.images()) == [*first.images, *second.images]
    (unsaid,) = again.unsaid()
    assert (unsaid.say, unsaid.messages) == (number, second.messages)
    assert again.keep(first.images, first.messages) == number + 1, "a number is given once"
    again.said(unsaid.say)
    again.said(number + 1)
    assert Journal(path).unsaid() == []


def test_the_first_misbehaviour_that_fits_counts() -> None:
    ordered = parse_control(
        '[{"symbol":"EURUSD","quantity_min":"100000","reject":true},{"symbol":"EURUSD","quantity_max":"5000","delay_ms":9},'
        '{"slippage_points":-2}]'
    )
    for symbol, quantity, expected in (
        ("EURUSD", "100000", ordered[0]),
        ("EURUSD", "99000", ordered[2]),
        ("EURUSD", "5000", ordered[1]),
        ("GBPUSD", "100000", ordered[2]),
    ):
        assert for_order(ordered, symbol, Decimal(quantity)) == expected
    assert for_order(ordered[:2], "GBPUSD", Decimal(1)) == NONE
    assert parse_control(None) == parse_control("") == ()


@pytest.mark.parametrize(
    "text",
    ['{"partial":"1"}', '{"partial":"0"}', '{"partial":"NaN"}', '{"delay_ms":-1}', '{"no_answer":"x"}', '{"a":1}', "{"],
)
def test_a_control_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ControlRefused):
        parse_control(text)
