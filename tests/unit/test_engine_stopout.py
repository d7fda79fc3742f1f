"""Margin calls, stop-outs, close-outs and negative balances: accounts that run out of margin, told as stories.

Unless a story says otherwise, the account holds 10,000 USD at a leverage of 100, pays no commission and no markup, and each
lot of EURUSD bought at 1.10000 ties up 1,100 USD.
"""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core import Executed
from engine.state import APPLY
from tests.support.builders import config, group, instrument, policy, rule
from tests.support.laws import reborn
from tests.support.world import World, leg_of
from trading.accounts import ClientClass, Rights
from trading.calendar import Session, SessionTerms
from trading.commands import ChangeAccount, Deposit
from trading.configuration import Config, Markup
from trading.desk import MarginNote, MarginNoteKind
from trading.events import LedgerPosted, MarginNoted, OrderCanceled
from trading.ledger import HOUSE_BONUS, TransactionKind, Transfer, credit_account
from trading.liquidity import ReportKind
from trading.margining.terms import Accounting, HedgedMode, MarginPolicy, MarginTerms
from trading.orders import OrderReason, OrderStatus, OrderType, Side
from trading.protection import ProtectionTerms
from trading.stopout import StopOutStrategy, StopOutTerms

K = MarginNoteKind
NO_CALLS = StopOutTerms(margin_calls=())


def house(
    stop_out: StopOutTerms = NO_CALLS, *, instruments: dict[str, dict[str, Any]] | None = None, **terms: Any
) -> Config:
    """A broker with one group, `plain`, whose orders the house deals."""
    plain_group = group("plain", **{
        "commission_per_lot": Decimal(0), "leverage_max": 100, "markup": Markup(), "stop_out": stop_out, **terms,
    })  # fmt: skip
    symbols = {
        **config().instruments,
        **{symbol: instrument(symbol, **fields) for symbol, fields in (instruments or {}).items()},
    }
    return config(groups={"plain": plain_group}, policy=policy(rule()), instruments=symbols)


def world_of(
    stop_out: StopOutTerms = NO_CALLS, *, deposit: str = "10000", account: dict[str, Any] | None = None, **terms: Any
) -> World:
    world = World(house(stop_out, **terms))
    world.price("EURUSD", "1.10000", "1.10000")
    world.price("GBPUSD", "1.30000", "1.30000")
    fields = {"group": "plain", "leverage": 100, **(account or {})}
    world.open_account(1, deposit=deposit, **fields)
    return world


def notes(*done: Executed | None) -> list[MarginNote]:
    return [event.note for one in done if one for event in one.events if isinstance(event, MarginNoted)]


def said(*done: Executed | None) -> list[tuple[MarginNoteKind, str]]:
    return [(note.kind, note.rule) for note in notes(*done)]


def falls(world: World, bid: str, symbol: str = "EURUSD") -> Executed | None:
    return world.price(symbol, bid, bid)


def closed(done: Executed | None) -> list[tuple[int, str]]:
    """What the command dealt: position and lots."""
    assert done is not None, "the price set nothing off"
    deals = [event.deal for event in done.events if hasattr(event, "deal")]
    return [(deal.position_id, f"{deal.volume:f}") for deal in deals]


# --- margin calls -------------------------------------------------------------------------------------------------------


def test_three_margin_calls_are_told_once_each_and_again_after_the_account_was_above_them() -> None:
    world = world_of(StopOutTerms())
    world.place(1, "EURUSD", Side.BUY, "5.00")  # margin 5,500
    assert falls(world, "1.09101") is None  # equity 5,505
    assert said(falls(world, "1.09100")) == [(K.MARGIN_CALL, "margin call 100")]  # 5,500
    assert falls(world, "1.09090") is None
    assert said(falls(world, "1.08880")) == [(K.MARGIN_CALL, "margin call 80")]  # 4,400
    assert said(falls(world, "1.08660")) == [(K.MARGIN_CALL, "margin call 60")]  # 3,300
    assert world.state.accounts[1].alarm == 3
    assert falls(world, "1.08600") is None
    assert said(falls(world, "1.08900")) == [(K.MARGIN_RESTORED, "margin call 80")]  # 4,500
    assert world.state.accounts[1].alarm == 1
    assert falls(world, "1.09100") is None
    assert said(falls(world, "1.09101")) == [(K.MARGIN_RESTORED, "margin call 100")]
    assert said(falls(world, "1.09000")) == [(K.MARGIN_CALL, "margin call 100")]


def test_a_gap_through_three_thresholds_tells_all_three_and_the_owner_hears_of_each() -> None:
    world = world_of(StopOutTerms())
    world.place(1, "EURUSD", Side.BUY, "5.00")
    done = falls(world, "1.08650")
    assert done is not None
    assert [note.level for note in notes(done)] == [Decimal("59.09")] * 3
    assert notes(done)[0].prices == {"EURUSD": (Decimal("1.08650"), Decimal("1.08650"))}
    assert [told.kind for told in done.told] == ["account.changed", *["margin.call"] * 3]
    assert b'"rule":"margin call 100"' in done.told[1].payload


def test_money_ends_a_margin_call_at_the_next_price() -> None:
    world = world_of(StopOutTerms())
    world.place(1, "EURUSD", Side.BUY, "5.00")
    falls(world, "1.09000")
    request = world.request()
    world.run(Deposit(id=request, key=request, account=1, amount=Decimal(1000)))
    assert said(falls(world, "1.09000")) == [(K.MARGIN_RESTORED, "margin call 100")]


def test_a_margin_call_stops_no_trading() -> None:
    world = world_of(StopOutTerms())
    world.place(1, "EURUSD", Side.BUY, "5.00")
    falls(world, "1.09000")
    world.close(1, world.positions(1)[0].id, "1.00")
    assert world.positions(1)[0].volume == 4


# --- the stop-out -------------------------------------------------------------------------------------------------------


def two_positions(world: World) -> tuple[int, int]:
    """1 lot GBPUSD (margin 1,300) and 5 lots EURUSD (5,500): half of 6,800 is 3,400."""
    world.place(1, "GBPUSD", Side.BUY, "1.00")
    world.place(1, "EURUSD", Side.BUY, "5.00")
    pound, euro = world.positions(1)
    return pound.id, euro.id


def test_at_the_level_the_largest_loss_is_closed_first_and_the_rest_stays() -> None:
    world = world_of()
    pound, _ = two_positions(world)
    assert falls(world, "1.26000", "GBPUSD") is None  # 4,000 lost, equity 6,000
    assert falls(world, "1.09481") is None  # 2,595 lost, equity 3,405: 50.07 %
    done = falls(world, "1.09480")  # 3,400: 50 %
    assert closed(done) == [(pound, "1.00")]
    (order,) = [event.order for event in done.events if hasattr(event, "order")]  # type: ignore[union-attr]
    assert (order.reason, order.comment, order.status) == (OrderReason.STOP_OUT, "[so 50.00%]", OrderStatus.FILLED)
    assert len(world.positions(1)) == 1  # 3,400 against 5,500
    (note,) = notes(done)
    assert (note.kind, note.rule, note.position_id, note.order_id) == (
        K.POSITION_CLOSED,
        "stop-out 50",
        pound,
        order.id,
    )
    assert (note.equity, note.margin, note.level) == (Decimal(3400), Decimal(6800), Decimal("50.00"))


def test_a_stop_out_that_takes_nothing_away_is_an_error_and_no_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of()
    two_positions(world)
    monkeypatch.setattr("engine.stopout._carry_out", lambda *_: None)
    with pytest.raises(AssertionError, match="account 1 takes nothing away"):
        falls(world, "1.00000")


def test_the_other_strategy_closes_what_ties_up_most_margin() -> None:
    world = world_of(StopOutTerms(margin_calls=(), strategy=StopOutStrategy.MOST_MARGIN))
    _, euro = two_positions(world)
    falls(world, "1.26000", "GBPUSD")
    assert closed(falls(world, "1.09480")) == [(euro, "5.00")]


def test_in_parts_only_as_much_is_closed_as_brings_the_account_above() -> None:
    world = world_of(StopOutTerms(margin_calls=(), is_partial=True))
    world.place(1, "EURUSD", Side.BUY, "5.00")
    (position,) = world.positions(1)
    done = falls(world, "1.08500")  # equity 2,500 of margin 5,500: 4.54 lots tie up 4,994, half of it is 2,497
    assert closed(done) == [(position.id, "0.46")]
    assert world.positions(1)[0].volume == Decimal("4.54")
    assert falls(world, "1.08500") is None


def test_positions_go_one_after_the_other_until_the_account_is_above_its_level() -> None:
    world = world_of()
    pound, euro = two_positions(world)
    falls(world, "1.28000", "GBPUSD")  # 2,000 lost
    done = falls(world, "1.08480")  # 7,600 lost: equity 400 of 6,800, and still 30 % without the euro position
    assert closed(done) == [(euro, "5.00"), (pound, "1.00")]
    assert [note.level for note in notes(done)] == [Decimal("5.88"), Decimal("30.76")]
    assert world.positions(1) == []


def test_waiting_orders_go_first_the_largest_reserve_before_the_others() -> None:
    world = world_of()
    world.place(1, "EURUSD", Side.BUY, "5.00")
    world.place(1, "EURUSD", Side.BUY, "0.50", type=OrderType.LIMIT, price=Decimal("1.00000"))
    world.place(1, "EURUSD", Side.BUY, "1.00", type=OrderType.LIMIT, price=Decimal("1.00000"))
    small, large = sorted(world.state.orders)
    done = falls(world, "1.08600")  # equity 3,000 of 7,000; of 6,000 without the large one, of 5,500 without both
    assert done is not None
    gone = [event.order for event in done.events if isinstance(event, OrderCanceled)]
    assert [order.id for order in gone] == [large, small]
    assert [order.detail for order in gone] == ["[so 42.85%]", "[so 50.00%]"]
    assert [note.kind for note in notes(done)] == [K.ORDER_CANCELED, K.ORDER_CANCELED]
    assert len(world.positions(1)) == 1


def shuts(world: World, symbol: str) -> None:
    """From now on the symbol trades only in the first hour of the week."""
    shut = instrument(symbol, sessions=SessionTerms(trade=(Session(start=0, end=3600),)))
    reconfigure(world, replace(world.config, instruments={**world.config.instruments, symbol: shut}))


def reconfigure(world: World, changed: Config) -> None:
    world.config = replace(changed, version=world.config.version + 1)
    world.state.use_config(world.config)


def test_a_symbol_whose_session_is_closed_is_passed_over() -> None:
    world = world_of()
    pound, euro = two_positions(world)
    falls(world, "1.26000", "GBPUSD")
    shuts(world, "GBPUSD")
    assert closed(falls(world, "1.09400")) == [(euro, "5.00")]
    assert world.positions(1)[0].id == pound


def test_a_netting_account_is_closed_in_chunks_of_the_largest_volume() -> None:
    world = world_of(margin=MarginPolicy(accounting=Accounting.NETTING))
    world.place(1, "EURUSD", Side.BUY, "5.00")
    (position,) = world.positions(1)
    smaller = instrument("EURUSD", volume_max=Decimal(2))
    reconfigure(world, replace(world.config, instruments={**world.config.instruments, "EURUSD": smaller}))
    assert closed(falls(world, "1.07500")) == [(position.id, "2.00"), (position.id, "2.00"), (position.id, "1.00")]


def test_a_stale_price_is_not_dealt_on() -> None:
    world = world_of()
    _, euro = two_positions(world)
    falls(world, "1.26000", "GBPUSD")
    world.wait(10)
    assert closed(falls(world, "1.09400")) == [(euro, "5.00")]


def test_nothing_left_is_told_once_and_tried_again_when_the_symbol_trades() -> None:
    world = world_of()
    world.place(1, "EURUSD", Side.BUY, "5.00")
    open_again = world.config
    shuts(world, "EURUSD")
    assert said(falls(world, "1.08400")) == [(K.NOTHING_LEFT, "stop-out 50")]
    assert falls(world, "1.08300") is None
    assert falls(world, "1.08200") is None
    reconfigure(world, open_again)
    done = falls(world, "1.08300")
    assert [note.kind for note in notes(done)] == [K.POSITION_CLOSED]
    assert world.state.accounts[1].alarm == 0


def test_an_account_that_may_not_trade_is_closed_as_well() -> None:
    world = world_of()
    world.place(1, "EURUSD", Side.BUY, "5.00")
    request = world.request()
    world.run(ChangeAccount(id=request, key=request, account=1, rights=Rights.NO_TRADING))
    assert len(closed(falls(world, "1.08000"))) == 1


def test_protection_goes_before_the_stop_out_at_the_same_price() -> None:
    world = world_of()
    world.place(1, "EURUSD", Side.BUY, "5.00", protection=ProtectionTerms(stop_loss=Decimal("1.08550")))
    done = falls(world, "1.08540")
    assert len(closed(done)) == 1
    assert notes(done) == []
    (order,) = [event.order for event in done.events if hasattr(event, "order")]  # type: ignore[union-attr]
    assert order.reason is OrderReason.STOP_LOSS


def test_by_money_positions_are_closed_while_equity_is_at_or_below_an_amount() -> None:
    world = world_of(StopOutTerms(margin_calls=(), level=None, equity=Decimal(9000)))
    world.place(1, "EURUSD", Side.BUY, "1.00")
    assert falls(world, "1.09001") is None
    done = falls(world, "1.09000")
    assert len(closed(done)) == 1
    assert notes(done)[0].rule == "stop-out at 9000 USD"
    assert falls(world, "1.09000") is None, "an account that holds nothing is left alone"


def test_credit_counts_for_the_brokers_level_only_where_the_group_says_so() -> None:
    for counts, closings in ((True, 0), (False, 1)):
        world = world_of(StopOutTerms(margin_calls=(), counts_credit=counts))
        give_credit(world, "1000")
        world.place(1, "EURUSD", Side.BUY, "5.00")
        done = falls(world, "1.08500")  # 2,500 of the client's own, 3,500 with credit; half the margin is 2,750
        assert len(closed(done) if done else []) == closings


def give_credit(world: World, amount: str) -> None:
    state = world.state
    transfer = Transfer(
        transaction_id=state.counters.transaction, line=1, kind=TransactionKind.CREDIT, source=HOUSE_BONUS,
        target=credit_account(1), currency="USD", amount=Decimal(amount), at_us=world.now_us,
    )  # fmt: skip
    account = state.accounts[1]
    given = LedgerPosted((transfer,), replace(account, credit=account.credit + Decimal(amount)))
    APPLY[LedgerPosted](state, given)


def test_the_law_closes_out_strictly_below_half_and_without_credit() -> None:
    world = world_of(
        StopOutTerms(margin_calls=(), level=Decimal(20)), deposit="5000", account={"leverage": 30, "jurisdiction": "EU"}
    )
    world.place(1, "EURUSD", Side.BUY, "1.00")  # 1.1 x 100,000 / 30 = 3,666.67; half is 1,833.335
    give_credit(world, "500")
    assert falls(world, "1.06834") is None  # 5,000 - 3,166 = 1,834
    done = falls(world, "1.06833")
    assert len(closed(done)) == 1
    assert notes(done)[0].rule == "ESMA CFD measures"
    (order,) = [event.order for event in done.events if hasattr(event, "order")]  # type: ignore[union-attr]
    assert (order.reason, order.comment) == (OrderReason.CLOSE_OUT, "[so 63.62%]")


# --- closes in flight ---------------------------------------------------------------------------------------------------


def market_world(stop_out: StopOutTerms = NO_CALLS) -> World:
    """Everything goes to a provider."""
    world = World(replace(house(stop_out), policy=policy(rule("market", action="A"))))
    world.price("EURUSD", "1.10000", "1.10000")
    world.price("GBPUSD", "1.30000", "1.30000")
    world.open_account(1, group="plain", leverage=100)
    return world


def test_a_close_at_a_provider_counts_as_closed_until_it_answers_and_is_sent_once() -> None:
    world = market_world()
    world.fill(leg_of(world.place(1, "EURUSD", Side.BUY, "5.00")), "1.10000")
    done = falls(world, "1.08500")
    assert done is not None
    leg = leg_of(done)
    assert world.positions(1)[0].locked == 5
    assert falls(world, "1.08400") is None
    assert falls(world, "1.08300") is None
    world.fill(leg, "1.08300")
    assert world.positions(1) == []
    assert world.balance(1) == 1500


def test_after_a_rejected_close_the_account_is_looked_at_again() -> None:
    world = market_world()
    world.fill(leg_of(world.place(1, "EURUSD", Side.BUY, "5.00")), "1.10000")
    first = falls(world, "1.08500")
    assert first is not None
    world.report(leg_of(first), ReportKind.REJECTED, text="no")
    second = falls(world, "1.08500")
    assert second is not None
    assert leg_of(second).cl_ord_id != leg_of(first).cl_ord_id


def test_what_is_in_flight_keeps_the_next_position_open() -> None:
    world = market_world()
    world.fill(leg_of(world.place(1, "EURUSD", Side.BUY, "4.00")), "1.10000")
    world.fill(leg_of(world.place(1, "GBPUSD", Side.BUY, "1.00")), "1.30000")
    done = falls(world, "1.08200")  # equity 2,800 of 5,700; 1,300 without the euro position
    assert done is not None
    assert [position.locked for position in world.positions(1)] == [4, 0]


# --- hedges -------------------------------------------------------------------------------------------------------------


def test_both_legs_of_a_hedge_go_when_neither_alone_would_help() -> None:
    """Long 5 and short 5 of one symbol tie up one side's margin: closing one of them frees nothing."""
    world = world_of(deposit="6000", commission_per_lot=Decimal(1))
    world.place(1, "EURUSD", Side.BUY, "5.00")
    world.place(1, "EURUSD", Side.SELL, "5.00")
    done = world.price("EURUSD", "1.09500", "1.10200")  # 3,500 of spread lost, less commission; 5,500 of margin
    assert [lots for _, lots in closed(done)] == ["5.00", "5.00"]
    assert world.positions(1) == []


def test_the_uncovered_part_of_a_hedge_goes_before_a_covered_leg() -> None:
    """Long 5, short 3: only 2 lots of the long are at risk, and the margin of the rest stays as it is."""
    terms = MarginTerms(hedged_mode=HedgedMode.NET)
    world = world_of(instruments={"EURUSD": {"margin": terms}})
    world.place(1, "EURUSD", Side.BUY, "5.00")
    world.place(1, "EURUSD", Side.SELL, "3.00")
    long, short = world.positions(1)
    assert world.state.margin_used(1) == 2200
    done = falls(world, "1.05400")  # 2 lots net lose 9,200; equity 800 of 2,200
    assert closed(done) == [(long.id, "2.00")]
    assert world.positions(1)[1].id == short.id


def hedged_account(*, closes_hedged: bool) -> Executed | None:
    terms = MarginTerms(hedged_mode=HedgedMode.NET)
    world = world_of(
        StopOutTerms(margin_calls=(), closes_hedged=closes_hedged), instruments={"EURUSD": {"margin": terms}}
    )
    world.place(1, "EURUSD", Side.BUY, "5.00")
    world.place(1, "EURUSD", Side.SELL, "5.00")
    assert world.state.margin_used(1) == 0
    assert world.price("EURUSD", "1.09000", "1.11000") is None  # equity 0
    return world.price("EURUSD", "1.09000", "1.11001")


def test_a_hedge_without_margin_and_with_negative_equity_is_closed_by_its_own_switch_alone() -> None:
    assert hedged_account(closes_hedged=False) is None
    assert [lots for _, lots in closed(hedged_account(closes_hedged=True))] == ["5.00", "5.00"]


# --- negative balance ---------------------------------------------------------------------------------------------------


def kinds(*done: Executed | None) -> list[TransactionKind]:
    return [
        transfer.kind
        for one in done
        if one
        for event in one.events
        if isinstance(event, LedgerPosted)
        for transfer in event.transfers
    ]


def test_after_a_gap_a_retail_client_owes_nothing_and_the_house_pays_once() -> None:
    world = world_of()
    world.place(1, "EURUSD", Side.BUY, "5.00")
    done = falls(world, "1.07000")  # 15,000 lost of 10,000
    assert kinds(done) == [TransactionKind.REALISED_PNL, TransactionKind.NEGATIVE_BALANCE]
    assert world.balance(1) == 0
    assert world.state.balances["house:negative_balance", "USD"] == -5000
    assert notes(done)[-1].kind is K.NEGATIVE_BALANCE
    assert set(world.ledger_sums().values()) == {Decimal(0)}
    request = world.request()
    assert kinds(world.run(Deposit(id=request, key=request, account=1, amount=Decimal(300)))) == [
        TransactionKind.DEPOSIT
    ]
    assert world.balance(1) == 300


def test_a_stop_loss_over_a_gap_and_a_clients_own_close_are_covered_too() -> None:
    world = world_of(StopOutTerms(margin_calls=(), level=None))
    world.place(1, "EURUSD", Side.BUY, "5.00", protection=ProtectionTerms(stop_loss=Decimal("1.09000")))
    falls(world, "1.07000")
    assert world.balance(1) == 0
    own = world_of(StopOutTerms(margin_calls=(), level=None))
    own.place(1, "EURUSD", Side.BUY, "5.00")
    falls(own, "1.07000")
    own.close(1, own.positions(1)[0].id)
    assert own.balance(1) == 0


def test_credit_is_taken_by_its_own_entry_before_the_house_pays() -> None:
    world = world_of(StopOutTerms(margin_calls=(), level=None))
    give_credit(world, "1000")
    world.place(1, "EURUSD", Side.BUY, "5.00")
    falls(world, "1.07000")
    done = world.close(1, world.positions(1)[0].id)
    assert kinds(done)[1:] == [TransactionKind.CREDIT_REMOVED, TransactionKind.NEGATIVE_BALANCE]
    account = world.state.accounts[1]
    assert (account.balance, account.credit) == (Decimal(0), Decimal(0))
    assert world.state.balances["credit:1", "USD"] == 0


def test_nothing_is_paid_while_the_other_leg_of_a_hedge_is_open() -> None:
    world = world_of(StopOutTerms(margin_calls=(), level=None))
    world.place(1, "EURUSD", Side.BUY, "5.00")
    world.place(1, "EURUSD", Side.SELL, "5.00")
    falls(world, "1.07000")
    long, short = world.positions(1)
    world.close(1, long.id)
    assert world.balance(1) == -5000
    done = world.close(1, short.id)
    assert world.balance(1) == 10_000
    assert TransactionKind.NEGATIVE_BALANCE not in kinds(done)


def test_nothing_is_paid_while_an_order_waits() -> None:
    world = world_of(StopOutTerms(margin_calls=(), level=None))
    world.place(1, "EURUSD", Side.BUY, "5.00")
    world.place(1, "EURUSD", Side.BUY, "0.01", type=OrderType.LIMIT, price=Decimal("1.00000"))
    falls(world, "1.07000")
    world.close(1, world.positions(1)[0].id)
    assert world.balance(1) == -5000


@pytest.mark.parametrize(
    ("account", "terms", "balance"),
    [
        ({"client_class": ClientClass.PROFESSIONAL}, {}, -5000),
        ({"client_class": ClientClass.PROFESSIONAL}, {"negative_balance_protection": True}, 0),
        ({}, {}, 0),
    ],
)
def test_professionals_owe_what_they_lost_unless_their_group_protects_them(
    account: dict[str, Any], terms: dict[str, Any], balance: int
) -> None:
    world = world_of(account=account, **terms)
    world.place(1, "EURUSD", Side.BUY, "5.00")
    falls(world, "1.07000")
    assert world.balance(1) == balance


# --- memory -------------------------------------------------------------------------------------------------------------


def test_an_account_that_was_loaded_anew_is_stopped_out_at_the_same_price() -> None:
    world = world_of()
    world.place(1, "EURUSD", Side.BUY, "5.00")
    quotes = world.state.quotes
    world.state = reborn(world.state)
    world.state.quotes = quotes
    assert falls(world, "1.08551") is None
    assert len(closed(falls(world, "1.08550"))) == 1


def test_a_margin_call_of_an_account_that_holds_nothing_any_more_ends_after_a_start_too() -> None:
    world = world_of(StopOutTerms())
    world.place(1, "EURUSD", Side.BUY, "5.00")
    falls(world, "1.09000")
    world.close(1, world.positions(1)[0].id)
    assert world.state.accounts[1].alarm == 1
    quotes = world.state.quotes
    world.state = reborn(world.state)
    world.state.quotes = quotes
    assert said(falls(world, "1.09000")) == [(K.MARGIN_RESTORED, "margin call 100")]
