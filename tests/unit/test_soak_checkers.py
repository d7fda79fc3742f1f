"""Each checker of the soak passes what is right and finds what was planted: one that cannot fail would prove nothing."""

import itertools
import math
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.soak.checkers import (
    Balances,
    Finding,
    Leg,
    Stored,
    Wrong,
    acknowledged_is_stored,
    append_only,
    bank,
    deposits_are_booked,
    followed,
    linearizable,
    nothing_is_pending,
    order_register,
    providers_agree,
    reads_are_stored,
    registers,
    total_queue,
    unique,
)
from tests.soak.history import Kind, Op, Outcome, Told

D = Decimal


def op(kind: Kind = Kind.PLACE, began_s: float = 0, ended_s: float = 1, key: str = "k", **rest: Any) -> Op:
    given: dict[str, Any] = {"client": "c", "account": 1, "outcome": Outcome.OK, **rest}
    return Op(kind=kind, began_s=began_s, ended_s=ended_s, key=key, **given)


def kinds(findings: list[Finding]) -> list[Wrong]:
    return [finding.kind for finding in findings]


# ------------------------------------------------------------------------------------------------- acknowledged orders

FILLED = Told(7, "filled", D("0.10"))
ROW = Stored(1, "k", 7, "filled", D("0.10"))


def test_an_acknowledged_order_that_is_stored_as_told_is_right() -> None:
    assert acknowledged_is_stored([op(told=FILLED)], [ROW]) == []
    assert acknowledged_is_stored([op(told=Told(7, "pending_new"))], [ROW]) == []
    assert acknowledged_is_stored([op(outcome=Outcome.FAIL, code="no_quotes")], []) == []


@pytest.mark.parametrize(
    ("told", "rows", "wrong"),
    [
        (FILLED, [], Wrong.LOST),
        (FILLED, [ROW, ROW], Wrong.DUPLICATED),
        (FILLED, [Stored(1, "k", 8, "filled", D("0.10"))], Wrong.VIOLATED),
        (FILLED, [Stored(1, "k", 7, "filled", D("0.20"))], Wrong.VIOLATED),
        (FILLED, [Stored(1, "k", 7, "canceled", D("0.10"))], Wrong.VIOLATED),
        (Told(7, "partially_filled", D("0.05")), [Stored(1, "k", 7, "partially_filled")], Wrong.VIOLATED),
        (None, [ROW], Wrong.VIOLATED),
    ],
    ids=["lost", "twice", "other ticket", "more filled", "canceled after filled", "unfilled", "refused and done"],
)
def test_what_happened_to_an_acknowledged_order_is_found(told: Told | None, rows: list[Stored], wrong: Wrong) -> None:
    outcome = Outcome.OK if told else Outcome.FAIL
    assert kinds(acknowledged_is_stored([op(told=told, outcome=outcome)], rows)) == [wrong]


def test_an_order_that_was_never_answered_is_unresolved_and_one_that_nobody_asked_for_is_found() -> None:
    assert kinds(acknowledged_is_stored([op(outcome=Outcome.INFO)], [])) == [Wrong.UNRESOLVED]
    assert kinds(acknowledged_is_stored([], [ROW])) == [Wrong.VIOLATED]


def test_what_was_read_must_lead_to_what_is_stored() -> None:
    read = op(Kind.READ, about="k", told=FILLED)
    assert reads_are_stored([read], [ROW]) == []
    assert kinds(reads_are_stored([read], [])) == [Wrong.LOST]
    assert kinds(reads_are_stored([read], [Stored(1, "k", 7, "new")])) == [Wrong.VIOLATED]


def test_an_order_that_has_not_ended_is_unresolved_unless_it_is_meant_to_rest() -> None:
    resting = Stored(1, "k", 7, "new")
    assert nothing_is_pending([ROW, resting], resting={"k"}) == []
    assert kinds(nothing_is_pending([ROW, resting])) == [Wrong.UNRESOLVED]


# ---------------------------------------------------------------------------------------------------------------- bank

SOUND = Balances({"EUR": {"clients": D(90), "house": D(15), "providers": D(-5)}}, {"EUR": D(100)}, {})


def test_money_that_only_moves_is_right() -> None:
    assert bank([SOUND, SOUND]) == []


@pytest.mark.parametrize(
    "planted",
    [
        Balances({"EUR": {"clients": D(90), "house": D(15), "providers": D("-4.99")}}, {"EUR": D(100)}, {}),
        Balances({"EUR": {"clients": D(100)}, "USD": {"house": D(1)}}, {"EUR": D(100)}, {}),
        Balances({}, {"EUR": D(100)}, {}),
        Balances(SOUND.parties, SOUND.paid_in, {10001: D("-0.01")}),
    ],
    ids=["a cent appeared", "in another currency", "all vanished", "a client owes"],
)
def test_money_that_appears_vanishes_or_is_owed_is_found(planted: Balances) -> None:
    assert kinds(bank([SOUND, planted])) == [Wrong.VIOLATED]


def test_deposits() -> None:
    paid = op(Kind.DEPOSIT, about="10.00", told=Told(5))
    assert deposits_are_booked([paid], {5: D(10)}) == []
    assert kinds(deposits_are_booked([paid], {})) == [Wrong.LOST]
    assert kinds(deposits_are_booked([paid], {5: D(11)})) == [Wrong.VIOLATED]
    assert kinds(deposits_are_booked([paid], {5: D(10), 6: D(10)})) == [Wrong.DUPLICATED]
    assert kinds(deposits_are_booked([paid, paid], {5: D(10)})) == [Wrong.DUPLICATED]
    assert kinds(deposits_are_booked([op(Kind.DEPOSIT, outcome=Outcome.INFO)], {5: D(10)})) == [Wrong.UNRESOLVED]


# ------------------------------------------------------------------------------------------------------ order register


def place(began_s: float, ended_s: float, price: int = 1, **rest: Any) -> Op:
    return op(Kind.PLACE, began_s, ended_s, about="o", price=D(price), **rest)


def read(began_s: float, ended_s: float, status: str, price: int = 1) -> Op:
    told = Told(7, status, price=D(price)) if status else None
    return op(Kind.READ, began_s, ended_s, about="o", told=told)


def modify(began_s: float, ended_s: float, price: int, **rest: Any) -> Op:
    return op(Kind.MODIFY, began_s, ended_s, about="o", price=D(price), **rest)


def cancel(began_s: float, ended_s: float, **rest: Any) -> Op:
    return op(Kind.CANCEL, began_s, ended_s, about="o", **rest)


REFUSED: dict[str, Any] = {"outcome": Outcome.FAIL, "code": "order_not_found"}
LINEARIZABLE = {
    "one after the other": [place(0, 1), read(2, 3, "new"), modify(4, 5, 2), read(6, 7, "new", 2), cancel(8, 9)],
    "overlapping reads see before and after": [
        *(place(0, 1), modify(2, 9, 2)),
        *(read(3, 4, "new", 1), read(5, 6, "new", 2)),
    ],
    "an unanswered change that happened": [place(0, 1), modify(2, math.inf, 2, outcome=Outcome.INFO), read(5, 6, "new", 2)],
    "one that did not": [place(0, 1), modify(2, math.inf, 2, outcome=Outcome.INFO), read(5, 6, "new", 1)],
    "a change refused because a cancel overtook it": [place(0, 1), cancel(2, 6), modify(3, 7, 2, **REFUSED)],
    "a read before it was there": [read(0, 1, ""), place(0.5, 2), read(3, 4, "new")],
    "too old to be done": [place(0, 1), cancel(2, 3, outcome=Outcome.FAIL, code="command_expired"), read(4, 5, "new")],
    "canceled twice": [place(0, 1), cancel(2, 3), cancel(4, 5), read(6, 7, "canceled")],
}  # fmt: skip
NOT_LINEARIZABLE = {
    "a change that was acknowledged is lost": [place(0, 1), modify(2, 3, 2), read(4, 5, "new", 1)],
    "back in time": [place(0, 1), modify(2, 9, 2), read(3, 4, "new", 2), read(5, 6, "new", 1)],
    "alive after it was canceled": [place(0, 1), cancel(2, 3), read(4, 5, "new")],
    "changed after it was canceled": [place(0, 1), cancel(2, 3), modify(4, 5, 2)],
    "acknowledged and not there": [place(0, 1), read(2, 3, "")],
    "a price that nobody asked for": [place(0, 1), read(2, 3, "new", 9)],
    "refused although it rests": [place(0, 1), modify(2, 3, 2, **REFUSED)],
    "placed twice": [place(0, 1), place(2, 3)],
    "an unanswered change that was undone": [
        *(place(0, 1), modify(2, math.inf, 2, outcome=Outcome.INFO)),
        *(read(3, 4, "new", 2), read(5, 6, "new", 1)),
    ],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_histories_that_one_register_could_tell(name: str) -> None:
    assert registers(LINEARIZABLE[name]) == []


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_histories_that_no_register_could_tell(name: str) -> None:
    assert kinds(registers(NOT_LINEARIZABLE[name])) == [Wrong.VIOLATED]


@pytest.mark.parametrize("seed", range(10))
def test_the_search_agrees_with_trying_every_order(seed: int) -> None:
    rng = random.Random(seed)
    makers: list[Callable[[float, float], Op]] = [
        lambda a, b: modify(a, b, rng.choice((1, 2))),
        lambda a, b: read(a, b, "new", rng.choice((1, 2))),
        cancel,
    ]
    for _ in range(12):
        spans = [(began := rng.random() * 4, began + rng.random() * 3) for _ in range(4)]
        history = [place(-2, -1), *(rng.choice(makers)(*span) for span in spans)]
        assert linearizable(history, None, order_register) is by_trying_all(history)


def by_trying_all(history: list[Op]) -> bool:
    return any(fits_the_clock(order) and is_right(order) for order in itertools.permutations(history))


def fits_the_clock(order: tuple[Op, ...]) -> bool:
    return all(earlier.began_s <= later.ended_s for earlier, later in itertools.combinations(order, 2))


def is_right(order: tuple[Op, ...]) -> bool:
    state = None
    for one in order:
        after = order_register(state, one)
        if not after:
            return False
        (state,) = after
    return True


# ------------------------------------------------------------------------------------------------- journals and queues


def test_a_journal_only_grows() -> None:
    assert append_only("a", [[], [1], [1, 2]], [1, 2, 3]) == []


@pytest.mark.parametrize("read_", [[2], [1, 3], [1, 2, 3, 4], [2, 1], [1, 1]])
def test_a_reading_that_is_no_beginning_is_found(read_: list[int]) -> None:
    assert kinds(append_only("a", [[1], read_], [1, 2, 3])) == [Wrong.VIOLATED]


JOURNAL = [(1, "order.new"), (2, "order.filled"), (4, "order.new")]


def test_a_follower_that_was_told_everything_once_is_right() -> None:
    assert followed("f", JOURNAL[1:], JOURNAL, since=1) == []


@pytest.mark.parametrize(
    ("received", "wrong"),
    [
        (JOURNAL[:2], [Wrong.LOST]),
        ([*JOURNAL, JOURNAL[2]], [Wrong.DUPLICATED]),
        ([JOURNAL[1], JOURNAL[0], JOURNAL[2]], [Wrong.VIOLATED]),
        ([*JOURNAL, (5, "order.new")], [Wrong.VIOLATED]),
        ([JOURNAL[0], (2, "order.new"), JOURNAL[2]], [Wrong.LOST, Wrong.VIOLATED]),
    ],
    ids=["lost", "twice", "out of order", "invented", "changed"],
)
def test_a_follower_that_was_told_otherwise_is_found(received: list[tuple[int, str]], wrong: list[Wrong]) -> None:
    assert kinds(followed("f", received, JOURNAL, since=0)) == wrong


def test_a_queue_loses_and_invents_nothing() -> None:
    assert total_queue("q", [1, 2], [2, 1]) == []
    assert total_queue("q", [1, 2], [2, 1, 1], may_repeat=True) == []
    assert kinds(total_queue("q", [1, 2], [1])) == [Wrong.LOST]
    assert kinds(total_queue("q", [1], [1, 2])) == [Wrong.VIOLATED]
    assert kinds(total_queue("q", [1], [1, 1])) == [Wrong.DUPLICATED]


def test_ids_are_given_once() -> None:
    assert unique("tickets", [1, 2, 3]) == []
    assert kinds(unique("tickets", [1, 2, 1])) == [Wrong.DUPLICATED]


# ----------------------------------------------------------------------------------------------------------- providers


def test_providers_agree_with_our_legs() -> None:
    held = [("a", "L1", D(1000)), ("b", "L2", D(500))]
    assert providers_agree(held, [Leg("a", D(1000)), Leg("b", D(200), in_cases=D(300)), Leg("c", D(0))]) == []


@pytest.mark.parametrize(
    ("held", "leg", "wrong"),
    [
        ([("a", "L1", D(1000)), ("a", "L2", D(1000))], Leg("a", D(1000)), [Wrong.DUPLICATED]),
        ([("a", "L1", D(1000))], Leg("a", D(0)), [Wrong.VIOLATED]),
        ([("a", "L1", D(1000))], Leg("a", D(2000)), [Wrong.VIOLATED]),
        ([], Leg("a", D(1000)), [Wrong.VIOLATED]),
        ([("a", "L1", D(1000))], Leg("a", D(1000), is_settled=False), [Wrong.UNRESOLVED]),
    ],
    ids=["ordered twice", "fill lost", "fill twice", "fill invented", "still out"],
)
def test_what_providers_know_otherwise_is_found(
    held: list[tuple[str, str, Decimal]], leg: Leg, wrong: list[Wrong]
) -> None:
    assert kinds(providers_agree(held, [leg])) == wrong
