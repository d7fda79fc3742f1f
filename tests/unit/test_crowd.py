"""The crowd's planning: every kind of order comes round for any seed, and the same seed does the same things again."""

from collections import Counter
from decimal import Decimal
from itertools import count

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.crowd_book import Book, Books, Holding, Told, Waiting
from broker.crowd_people import CURRENCIES, Nerve, people
from broker.crowd_plan import DECK, OPENINGS, SHIELDS, Planner, Scene, Step, Top
from tests.support.builders import CURRENCY_DIGITS, NOW_US
from tests.support.builders import instrument as instrument_terms
from trading.accounts import ClientClass
from trading.commands import (
    CancelAll,
    CancelOrder,
    CloseBy,
    ClosePosition,
    ClosePositions,
    Deposit,
    PlaceOrder,
    RequestWithdrawal,
    ReversePosition,
    body,
)
from trading.guarantee import GuaranteeTerms
from trading.instructions import check_shape
from trading.orders import OrderType, Side, TimeInForce
from trading.refusals import Refusal

HOUR_US = 3_600_000_000
STEPS = 500
GROUPS = {"retail": 30, "pro": 200, "vip": 100}
EURUSD = Top(
    symbol="EURUSD",
    base="EUR",
    bid=Decimal("1.08510"),
    ask=Decimal("1.08522"),
    digits=5,
    contract_size=Decimal(100_000),
    volume_step=Decimal("0.01"),
    guarantee_points=50,
)
SEEDS = st.integers(0, 2**32)


class ObligingHouse:
    """Deals market orders at once, lets everything else wait, and does what it is asked: what an account hears of it."""

    def __init__(self, seed: int, clients: int = 10) -> None:
        numbers = count(1)
        self.people = people(clients, seed=seed, leverages=GROUPS, digits=CURRENCY_DIGITS)
        self.books = {person.account: Book(balance=person.deposit) for person in self.people}
        self.planner = Planner(
            seed=seed, day_us=24 * HOUR_US, new_id=lambda: f"00000000-0000-7000-8000-{next(numbers):012d}"
        )
        self.numbers = count(1)

    def steps(self, wanted: int = STEPS) -> list[Step]:
        made = []
        for place in range(wanted):
            scene = Scene({"EURUSD": EURUSD}, self.books, self.people, NOW_US + place)
            step = self.planner.next(scene)
            assert step is not None
            made.append(step)
            self.oblige(step)
        return made

    def oblige(self, step: Step) -> None:
        book = self.books[step.person.account]
        for command in step.commands:
            match command:
                case PlaceOrder(type=OrderType.MARKET):
                    self.open(book, command.side, command.volume)
                case PlaceOrder():
                    self.wait(book, command)
                case CancelOrder():
                    del book.orders[command.order_id]
                case CancelAll():
                    book.orders.clear()
                case ClosePosition(volume=None) | ReversePosition():
                    del book.positions[command.position_id]
                case CloseBy():
                    del book.positions[command.position_id], book.positions[command.by_position_id]
                case ClosePositions():
                    book.positions.clear()
                case Deposit():
                    book.balance += command.amount
                case RequestWithdrawal():
                    book.balance -= command.amount
                    book.withdrawals.append(next(self.numbers))

    def open(self, book: Book, side: Side, volume: Decimal) -> None:
        number = next(self.numbers)
        book.positions[number] = Holding(
            id=number, symbol="EURUSD", side=side, volume=volume, open_price=EURUSD.price(side)
        )

    def wait(self, book: Book, order: PlaceOrder) -> None:
        number = next(self.numbers)
        book.orders[number] = Waiting(
            ticket=number,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            volume=order.volume,
            price=order.price,
            stop_price=order.stop_price,
        )


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_every_kind_of_order_and_protection_comes_round_within_some_hundred_steps(seed: int) -> None:
    house = ObligingHouse(seed)
    house.books[house.people[0].account].balance = Decimal(1)  # one who has lost nearly everything
    steps = house.steps()
    seen = Counter(step.action for step in steps)
    assert set(DECK) - set(seen) == set()
    assert set(SHIELDS) - {step.shield for step in steps} == set()
    placed = [c for step in steps for c in step.commands if isinstance(c, PlaceOrder)]
    assert {(kind, life) for kind, life, _ in OPENINGS.values()} <= {(c.type, c.time_in_force) for c in placed}
    assert any(c.max_slippage is not None for c in placed)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_the_same_seed_does_the_same_again_and_another_something_else(seed: int) -> None:
    once, again, other = (ObligingHouse(number).steps(150) for number in (seed, seed, seed + 1))
    assert once == again
    assert once != other


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_what_is_planned_is_well_formed_and_never_asks_for_the_same_key_twice(seed: int) -> None:
    instrument = instrument_terms("EURUSD", guarantee=GuaranteeTerms(fee_points=Decimal(1), distance_min_points=50))
    commands = [command for step in ObligingHouse(seed).steps() for command in step.commands]
    for command in commands:
        assert body(command)
        if isinstance(command, PlaceOrder):
            assert check_shape(command, instrument, NOW_US) is None
            assert instrument.volume_min <= command.volume <= instrument.volume_max
            assert command.volume % instrument.volume_step == 0
    assert len({command.key for command in commands}) == len(commands)


def test_the_two_orders_of_a_pair_lie_on_both_sides_of_the_market_under_one_name() -> None:
    pairs = [step.commands for step in ObligingHouse(7).steps() if step.action == "oco pair"]
    assert pairs
    for limit, stop in pairs:
        assert isinstance(limit, PlaceOrder)
        assert isinstance(stop, PlaceOrder)
        assert limit.oco_group == stop.oco_group != ""
        assert limit.price is not None
        assert stop.stop_price is not None
        assert limit.side.sign * (stop.stop_price - limit.price) > 0


def test_an_order_till_a_date_ends_within_the_day() -> None:
    dated = [
        command
        for step in ObligingHouse(7).steps()
        for command in step.commands
        if isinstance(command, PlaceOrder) and command.time_in_force is TimeInForce.GTD
    ]
    assert dated
    assert all(NOW_US < command.expires_us < NOW_US + 12 * HOUR_US for command in dated)


def test_a_small_crowd_has_every_group_currency_class_and_nerve() -> None:
    crowd = people(20, seed=1, leverages=GROUPS, digits=CURRENCY_DIGITS)
    assert {person.group for person in crowd} == set(GROUPS)
    assert {person.nerve for person in crowd} == set(Nerve)
    assert {person.client_class for person in crowd} == set(ClientClass)
    assert {person.currency for person in crowd} == set(CURRENCIES) & set(CURRENCY_DIGITS)
    assert len({person.leverage for person in crowd}) > 4
    for person in crowd:
        assert person.leverage <= GROUPS[person.group]
        assert person.deposit > 0
        assert person.deposit == round(person.deposit, CURRENCY_DIGITS[person.currency])


def test_nobody_moves_without_prices_or_while_everybody_waits_for_an_answer() -> None:
    house = ObligingHouse(7)
    assert house.planner.next(Scene({}, house.books, house.people, NOW_US)) is None
    assert house.planner.next(Scene({"EURUSD": EURUSD}, house.books, (), NOW_US)) is None


# --- the books ----------------------------------------------------------------------------------------------------------


def told(seq: int, kind: str, payload: object, account: int = 1) -> Told:
    return Told(account, seq, kind, msgspec.Raw(msgspec.json.encode(payload)))


def an_order(status: str, **terms: object) -> dict[str, object]:
    told_of = {"ticket": 5, "symbol": "EURUSD", "side": "buy", "type": "limit", "volume": "0.10", "status": status}
    return {"order": {**told_of, "price": "1.08000", "stop_price": None, "reduce_only": False, **terms}, "deals": []}


def a_position(volume: str) -> dict[str, object]:
    return {"id": 9, "symbol": "EURUSD", "side": "buy", "volume": volume, "open_price": "1.08000", "swap": "0"}


@pytest.fixture
def books() -> Books:
    return Books({1: Book()})


def test_an_order_that_waits_is_in_the_book_until_it_waits_no_more(books: Books) -> None:
    books.hear([told(1, "order.accepted", an_order("new"))])
    assert books.of[1].orders[5].price == Decimal("1.08000")
    books.hear([told(2, "order.canceled", an_order("canceled"))])
    assert books.of[1].orders == {}


def test_what_closes_is_no_order_that_can_be_taken_back(books: Books) -> None:
    books.hear([told(1, "order.accepted", an_order("new", reduce_only=True))])
    assert books.of[1].orders == {}


def test_a_position_is_in_the_book_while_something_of_it_is_open(books: Books) -> None:
    books.hear([told(1, "position.opened", a_position("0.10")), told(2, "position.changed", a_position("0.04"))])
    assert books.of[1].positions[9].volume == Decimal("0.04")
    books.hear([told(3, "position.closed", a_position("0"))])
    assert books.of[1].positions == {}


def test_what_is_older_than_what_is_known_and_what_is_others_is_passed_over(books: Books) -> None:
    books.of[1].seq = 7
    books.hear([told(7, "position.opened", a_position("0.10")), told(1, "position.opened", a_position("0.10"), 2)])
    assert books.of[1].positions == {}


def test_a_refusal_that_says_that_it_is_gone_is_believed_and_no_other(books: Books) -> None:
    books.hear([told(1, "position.opened", a_position("0.10"))])
    close = ClosePosition(id="c", key="c", account=1, position_id=9)
    books.answered(close, Refusal.NO_QUOTES)
    assert 9 in books.of[1].positions
    books.answered(close, Refusal.POSITION_CLOSED)
    assert books.of[1].positions == {}
