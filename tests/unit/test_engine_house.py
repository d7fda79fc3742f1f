"""Orders that the house deals: opening, closing, money, refusals. Stories with prices a dealer can follow."""

from decimal import Decimal

import pytest

from tests.support.world import World, order_of, refusal_of
from trading.accounts import Rights
from trading.commands import ChangeAccount, Deposit, OpenAccount, PlaceOrder
from trading.orders import Book, OrderStatus, Side


@pytest.fixture
def world() -> World:
    world = World()
    world.open_account(1, currency="USD", group="retail", deposit="10000")
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def test_a_small_retail_order_is_dealt_by_the_house_at_the_marked_up_ask(world: World) -> None:
    done = world.place(1, "EURUSD", Side.BUY, "0.10")
    order = order_of(done)
    assert (order.status, order.book, order.filled_volume) == (OrderStatus.FILLED, Book.B, Decimal("0.10"))
    assert world.deals()[-1].price == Decimal("1.10012")  # 2 points of markup on 1.10010


def test_opening_costs_commission_and_takes_margin(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    assert world.balance(1) == Decimal("9999.65")  # 3.50 per lot and side
    # 0.10 x 100,000 EUR / 30 x 1.10012 = 366.7067, rounded up
    assert world.state.margin_used(1) == Decimal("366.71")


def test_a_round_trip_realises_the_difference_and_leaves_nothing(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    world.price("EURUSD", "1.10512", "1.10522")
    world.close(1, world.positions(1)[0].id)
    # (1.10510 - 1.10012) x 10,000 = 49.80, less 2 x 0.35 commission
    assert world.balance(1) == Decimal("10049.10")
    assert world.positions(1) == []
    assert world.state.margin_used(1) == 0
    assert world.state.balances["house:pnl:B", "USD"] == Decimal("-49.80")
    assert world.state.balances["house:commission", "USD"] == Decimal("0.70")


def test_a_short_position_gains_when_the_price_falls(world: World) -> None:
    world.place(1, "EURUSD", Side.SELL, "0.10")  # at 1.09998
    world.price("EURUSD", "1.09500", "1.09510")
    world.close(1, world.positions(1)[0].id)  # at 1.09512
    assert world.balance(1) == Decimal(10000) + Decimal("48.60") - Decimal("0.70")


def test_partial_closes_add_up_to_the_whole(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    position = world.positions(1)[0].id
    world.price("EURUSD", "1.10102", "1.10112")
    for volume in ("0.03", "0.03"):
        world.close(1, position, volume)
    assert world.positions(1)[0].volume == Decimal("0.04")
    world.close(1, position)
    profits = [deal.profit for deal in world.deals() if deal.profit]
    assert profits == [Decimal("2.64"), Decimal("2.64"), Decimal("3.52")]
    assert world.positions(1) == []


def test_a_result_in_another_currency_is_converted_at_the_worse_side() -> None:
    world = World()
    world.open_account(2, currency="EUR", group="pro", deposit="5000")
    world.price("EURUSD", "1.10000", "1.10010")
    world.price("USDJPY", "150.000", "150.010")
    assert refusal_of(world.place(2, "USDJPY", Side.BUY, "0.10")) == "no_quotes"  # what it may earn cannot be valued
    world.price("EURJPY", "165.000", "165.010")
    world.place(2, "USDJPY", Side.BUY, "0.10")
    world.price("USDJPY", "151.000", "151.010")
    world.close(2, world.positions(2)[0].id)
    # (151.000 - 150.010) x 10,000 = 9,900 JPY; sold for EUR at the ask 165.010
    assert world.deals()[-1].profit == Decimal("60.00")


def test_too_little_margin_refuses_and_books_nothing(world: World) -> None:
    done = world.place(1, "EURUSD", Side.BUY, "0.90")
    assert refusal_of(done) == ""
    done = world.place(1, "EURUSD", Side.BUY, "0.90", key="second")
    assert refusal_of(done) == ""
    balance = world.balance(1)
    done = world.place(1, "EURUSD", Side.BUY, "0.95", key="third")
    assert refusal_of(done) == "insufficient_margin"
    assert order_of(done).status is OrderStatus.REJECTED
    assert world.balance(1) == balance
    assert len(world.positions(1)) == 2


def test_the_other_side_of_a_hedge_needs_no_more_margin(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.50")
    used = world.state.margin_used(1)
    world.place(1, "EURUSD", Side.SELL, "0.50")
    assert world.state.margin_used(1) == used
    assert len(world.positions(1)) == 2


@pytest.mark.parametrize(
    ("symbol", "volume", "code"),
    [
        ("EURXXX", "0.10", "unknown_symbol"),
        ("EURUSD", "0", "invalid_volume"),
        ("EURUSD", "-0.10", "invalid_volume"),
        ("EURUSD", "0.015", "invalid_volume"),
        ("EURUSD", "0.001", "invalid_volume"),
        ("EURUSD", "100.01", "invalid_volume"),
        ("EURUSD", "NaN", "invalid_volume"),
        ("EURUSD", "Infinity", "invalid_volume"),
        ("EURUSD", "1E+1000000", "invalid_volume"),
        ("EURUSD", "999999999999999999", "invalid_volume"),
        ("GBPUSD", "0.10", "no_quotes"),
        ("EURUSD", "100", "insufficient_margin"),
    ],
)
def test_refusals_name_their_reason_and_are_kept(world: World, symbol: str, volume: str, code: str) -> None:
    done = world.place(1, symbol, Side.BUY, volume)
    assert refusal_of(done) == code
    assert order_of(done).refusal == code
    assert 0 <= order_of(done).volume < 10**12, "what the table cannot hold is kept as zero"
    assert world.positions(1) == []


def test_a_stale_price_deals_nothing(world: World) -> None:
    world.wait(3.1)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10")) == "no_quotes"


def test_an_order_that_waited_too_long_is_refused_not_filled_late(world: World) -> None:
    done = world.place(1, "EURUSD", Side.BUY, "0.10", valid_until_us=world.now_us - 1)
    assert refusal_of(done) == "command_expired"


def test_a_close_only_account_may_close_but_not_open(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    world.run(ChangeAccount(id="c1", key="c1", account=1, rights=Rights.CLOSE_ONLY))
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10")) == "close_only"
    assert refusal_of(world.close(1, world.positions(1)[0].id)) == ""


def test_a_disabled_account_may_still_close(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    world.run(ChangeAccount(id="c1", key="c1", account=1, rights=Rights.NO_TRADING))
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10")) == "trade_disabled"
    assert refusal_of(world.close(1, world.positions(1)[0].id)) == ""


def test_closing_more_than_is_open_is_refused(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    assert refusal_of(world.close(1, world.positions(1)[0].id, "0.11")) == "close_volume_too_large"


def test_nobody_closes_somebody_elses_position(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    world.open_account(2)
    assert refusal_of(world.close(2, world.positions(1)[0].id)) == "position_closed"


def test_the_same_key_and_body_is_answered_again_and_done_once(world: World) -> None:
    first = world.place(1, "EURUSD", Side.BUY, "0.10", key="mine")
    again = world.place(1, "EURUSD", Side.BUY, "0.1", key="mine")  # one volume, two spellings
    assert again.events == []
    assert again.answers[0][1].replayed
    assert again.answers[0][1].reference == order_of(first).id
    assert len(world.positions(1)) == 1


def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10", key="mine")
    done = world.place(1, "EURUSD", Side.SELL, "0.10", key="mine")
    assert refusal_of(done) == "client_order_id_reused"
    assert done.events == []


def test_two_accounts_may_use_the_same_key(world: World) -> None:
    world.open_account(2)
    world.place(1, "EURUSD", Side.BUY, "0.10", key="mine")
    assert refusal_of(world.place(2, "EURUSD", Side.BUY, "0.10", key="mine")) == ""


def test_a_refused_key_stays_refused(world: World) -> None:
    world.place(1, "GBPUSD", Side.BUY, "0.10", key="early")
    world.price("GBPUSD", "1.30000", "1.30010")
    done = world.place(1, "GBPUSD", Side.BUY, "0.10", key="early")
    assert refusal_of(done) == "no_quotes"
    assert done.answers[0][1].replayed


@pytest.mark.parametrize("amount", ["0", "-5", "0.001", "NaN", "1E+20", "1000000000000"])
def test_deposits_of_impossible_amounts_are_refused(world: World, amount: str) -> None:
    done = world.run(Deposit(id="d", key="d", account=1, amount=Decimal(amount), reply_to="test"))
    assert refusal_of(done) == "invalid_amount"
    assert world.balance(1) == Decimal(10000)


def test_deposits_come_from_the_bank_once(world: World) -> None:
    for _ in range(2):
        world.run(Deposit(id="d", key="d", account=1, amount=Decimal("250.5"), reply_to="test"))
    assert world.balance(1) == Decimal("10250.50")
    assert world.state.balances["bank", "USD"] == Decimal("-10250.50")


def test_accounts_are_opened_once_with_terms_that_exist(world: World) -> None:
    def open_as(**terms: object) -> str:
        wanted = {"group": "retail", "currency": "EUR", "leverage": 30, "account": 7, **terms}
        request = world.request()
        return refusal_of(world.run(OpenAccount(id=request, key=request, reply_to="test", **wanted)))  # type: ignore[arg-type]

    assert open_as(group="nobody") == "unknown_group"
    assert open_as(currency="XXX") == "unknown_currency"
    assert open_as(leverage=0) == "invalid_request"
    assert open_as() == ""
    assert open_as() == "account_exists"


def test_an_unknown_account_gets_no_order(world: World) -> None:
    done = world.place(99, "EURUSD", Side.BUY, "0.10")
    assert refusal_of(done) == "unknown_account"
    assert done.events == []


def test_owners_are_told_in_numbered_order_and_never_which_book(world: World) -> None:
    told = [message for done in world.executed for message in done.told]
    done = world.place(1, "EURUSD", Side.BUY, "0.10")
    told += done.told
    assert [m.seq for m in told] == list(range(1, len(told) + 1))
    assert [m.kind for m in done.told] == ["position.opened", "account.balance", "order.filled"]
    assert not any(b"book" in m.payload or b'"lp' in m.payload for m in told)
    assert world.state.accounts[1].seq == told[-1].seq


def test_without_a_configuration_nothing_is_done() -> None:
    world = World()
    world.state.config = None
    done = world.run(
        PlaceOrder(id="1", key="1", account=1, symbol="EURUSD", side=Side.BUY, volume=Decimal("0.1"), reply_to="test")
    )
    assert refusal_of(done) == "busy"
    assert done.events == []
