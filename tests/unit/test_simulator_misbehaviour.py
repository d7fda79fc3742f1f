"""Everything a simulated provider can be told to do wrong: what it says then, and what it really holds."""

from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from fix_gateway.wire.message import Outgoing, parse
from lp_adapters.simulators.desk import Answer, Desk
from lp_adapters.simulators.disorder import value_of
from lp_adapters.simulators.market import Side, Top
from lp_adapters.simulators.misbehaviour import ControlRefused, Misbehaviour, for_order, number_of
from lp_adapters.simulators.misbehaviour import parse as parse_control
from tests.unit.test_simulator_desk import AT, EURUSD, new_order

DEEP = Top(Side("1.08500", 10_000_000), Side("1.08504", 10_000_000), "q1")
THIN = Top(Side("1.08500", 100_000), Side("1.08504", 100_000), "q1")


@dataclass
class Provider:
    """A desk whose answers are collected, and whose later acts happen when told to."""

    wrong: Misbehaviour
    top: Top = DEEP
    desk: Desk = field(default_factory=lambda: Desk("YOFX1", name_of_run="r"))
    messages: list[Outgoing] = field(default_factory=list)

    def order(self, cl_ord_id: str = "T0-1", quantity: str = "10000") -> "Provider":
        return self._take(self.desk.place(new_order(cl_ord_id, quantity), EURUSD, self.top, self.wrong, AT))

    def ask(self, cl_ord_id: str = "T0-1") -> "Provider":
        message = parse(f"35=H|11={cl_ord_id}|55=EUR/USD|54=1|")
        self.messages += self.desk.status(message, AT, (self.wrong,)).messages
        return self

    def _take(self, answer: Answer) -> "Provider":
        self.messages += answer.messages
        self.held = answer.held
        return self

    def later(self, within_ms: int) -> "Provider":
        assert self.held is not None
        assert self.held.delay_ms == within_ms
        return self._take(self.desk.later(self.held, EURUSD, self.top, AT))

    def said(self, *tags: int) -> list[tuple[str, ...]]:
        return [tuple(value_of(message, tag) for tag in tags) for message in self.messages]

    @property
    def holds(self) -> int:
        return int(self.desk.positions().get("EURUSD", Decimal(0)))


def test_a_good_provider_for_comparison() -> None:
    good = Provider(Misbehaviour()).order().ask()
    assert good.said(150, 39, 14) == [("0", "0", "0"), ("F", "2", "10000"), ("I", "2", "10000")]
    assert good.holds == 10_000


def test_silent_to_status_answers_no_question_and_deals_all_the_same() -> None:
    silent = Provider(Misbehaviour(silent_to_status=True)).order().ask().ask("T0-9")
    assert (silent.said(150), silent.holds) == ([("0",), ("F",)], 10_000)


def test_a_late_fill_comes_after_the_end() -> None:
    late = Provider(Misbehaviour(late_fill_ms=5000)).order()
    assert (late.said(150, 14), late.holds) == ([("0", "0"), ("4", "0")], 0)
    late.ask().later(5000).ask()
    assert late.said(150, 39, 14)[2:] == [("I", "4", "0"), ("F", "2", "10000"), ("I", "2", "10000")]
    assert late.holds == 10_000


def test_the_same_report_twice() -> None:
    twice = Provider(Misbehaviour(duplicate_report=True)).order()
    assert twice.messages[1] == twice.messages[2]
    assert twice.holds == 10_000


def test_the_same_exec_id_with_another_price() -> None:
    twice = Provider(Misbehaviour(conflicting_report=True)).order()
    assert twice.said(150, 17, 31)[1:] == [("F", "YOFX1-r-E2", "1.08504"), ("F", "YOFX1-r-E2", "1.08505")]
    assert twice.holds == 10_000


@pytest.mark.parametrize("delay_ms", [0, 80])
def test_reports_in_the_opposite_order(delay_ms: int) -> None:
    turned = Provider(Misbehaviour(out_of_order=True, partial=Decimal("0.5"), delay_ms=delay_ms), THIN).order(
        quantity="300000"
    )
    if delay_ms:
        assert turned.messages == []
        turned.later(delay_ms)
    assert turned.said(150, 14) == [("4", "150000"), ("F", "150000"), ("F", "100000"), ("0", "0")]
    assert turned.holds == 150_000


def test_one_report_is_lost_and_the_provider_knows_better() -> None:
    lost = Provider(Misbehaviour(lose_fill=True), THIN).order(quantity="150000").ask()
    assert lost.said(150, 14) == [("0", "0"), ("F", "100000"), ("I", "150000")]
    assert lost.holds == 150_000


def test_more_is_dealt_than_was_ordered() -> None:
    over = Provider(Misbehaviour(overfill=True)).order().ask()
    assert over.said(150, 32, 14, 151)[1:] == [
        ("F", "10000", "10000", "0"),
        ("F", "1000", "11000", "0"),
        ("I", "", "11000", "0"),
    ]
    assert len(set(over.said(17))) == 4
    assert over.holds == 11_000


def test_fills_tell_the_other_side() -> None:
    odd = Provider(Misbehaviour(wrong_side=True)).order().ask()
    assert (odd.said(150, 54), odd.holds) == ([("0", "1"), ("F", "2"), ("I", "1")], 10_000)


def test_a_bust_takes_the_last_fill_back() -> None:
    busted = Provider(Misbehaviour(bust_after_ms=300), THIN).order(quantity="150000").later(300).ask()
    assert busted.said(150, 19, 32, 14)[1:] == [
        ("F", "", "100000", "100000"),
        ("F", "", "50000", "150000"),
        ("H", "YOFX1-r-E3", "50000", "100000"),
        ("I", "", "", "100000"),
    ]
    assert busted.holds == 100_000
    assert busted.held is None


def test_a_bust_said_twice_takes_back_once() -> None:
    twice = Provider(Misbehaviour(bust_after_ms=1, bust_times=2)).order().later(1)
    assert twice.said(150, 17, 19)[2:] == [("H", "YOFX1-r-E3", "YOFX1-r-E2"), ("H", "YOFX1-r-E4", "YOFX1-r-E2")]
    assert twice.holds == 0


def test_a_bust_of_a_fill_that_never_was_takes_nothing_back() -> None:
    odd = Provider(Misbehaviour(bust_after_ms=1, bust_reference="nobody")).order().later(1)
    assert (odd.said(150, 19)[2:], odd.holds) == ([("H", "nobody")], 10_000)


@pytest.mark.parametrize(("points", "price"), [(7, "1.08511"), (-7, "1.08497")])
def test_a_correction_tells_another_price_of_the_last_fill(points: int, price: str) -> None:
    corrected = Provider(Misbehaviour(correct_after_ms=1, correct_points=points)).order().later(1)
    assert corrected.said(150, 19, 32, 31, 6)[2:] == [("G", "YOFX1-r-E2", "10000", price, price)]
    assert corrected.holds == 10_000


def test_a_bust_follows_a_last_look_too() -> None:
    busted = Provider(Misbehaviour(delay_ms=80, bust_after_ms=300)).order().later(80).later(300)
    assert (busted.said(150), busted.holds) == ([("0",), ("F",), ("H",)], 0)


def test_what_was_not_filled_is_neither_busted_nor_corrected() -> None:
    assert Provider(Misbehaviour(bust_after_ms=1, reject=True)).order().held is None
    assert Provider(Misbehaviour(correct_after_ms=1), Top(Side("1", 0), Side("1", 0), "q")).order(quantity="1000").held


def test_an_orphan_is_about_an_order_that_nobody_sent() -> None:
    orphan = Provider(Misbehaviour(orphan_report=True)).order()
    assert orphan.said(150, 11, 17)[1:] == [
        ("F", "T0-1", "YOFX1-r-E2"),
        ("F", "orphan-YOFX1-r-E2", "YOFX1-r-E2-orphan"),
    ]
    assert orphan.holds == 10_000


def test_a_storm_of_rejections() -> None:
    storm = Provider(Misbehaviour(reject=True))
    for number in range(50):
        storm.order(f"T0-{number}")
    assert storm.said(150, 103) == [("8", "99")] * 50
    assert storm.holds == 0


@pytest.mark.parametrize(
    ("cl_ord_id", "number"), [("T0-12", 12), ("T0-0", 0), ("x", 1), ("", 1), ("T0-" + "9" * 30, 10**18 - 1)]
)
def test_an_order_has_the_number_at_its_end(cl_ord_id: str, number: int) -> None:
    assert number_of(cl_ord_id) == number


def test_the_same_orders_are_picked_in_every_run() -> None:
    ordered = parse_control('[{"reject": true, "every": 3}, {"delay_ms": 5}]')
    picked = [number for number in range(10) if for_order(ordered, "EURUSD", Decimal(1), f"T0-{number}").reject]
    assert picked == [0, 3, 6, 9]


@pytest.mark.parametrize(
    "text",
    [
        '{"every": 0}',
        '{"bust_times": 0}',
        '{"late_fill_ms": -1}',
        '{"bust_after_ms": 1, "correct_after_ms": 1}',
        '{"lose_fill": 1}',
    ],
)
def test_a_control_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ControlRefused):
        parse_control(text)
