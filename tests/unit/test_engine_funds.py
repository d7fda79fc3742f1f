"""Money in and out: withdrawals in two steps, adjustments, credit, bonus, and the desk's switches."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import Executed
from engine.state import state_hash
from tests.support.laws import reborn
from tests.support.world import World, refusal_of
from trading.accounts import ClientClass
from trading.commands import (
    Adjust,
    Deposit,
    GrantBonus,
    GrantCredit,
    NoteDiskSpace,
    RequestWithdrawal,
    SetSwitch,
    SettleWithdrawal,
    SwitchScope,
)
from trading.controls import KillSwitches
from trading.ledger import TransactionKind
from trading.orders import Side


@pytest.fixture
def world() -> World:
    world = World()
    world.open_account(1, currency="USD", group="pro", deposit="1000", leverage=100)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def say(world: World, kind: Any, amount: str = "", *, account: int = 1, key: str = "", **terms: Any) -> Executed:
    request = world.request()
    if amount:
        terms["amount"] = Decimal(amount)
    return world.run(kind(id=request, key=key or request, account=account, reply_to="test", **terms))


def usd(*amounts: int) -> tuple[Decimal, ...]:
    return tuple(Decimal(amount) for amount in amounts)


def reference_of(done: Executed) -> int:
    assert refusal_of(done) == ""
    return done.answers[0][1].reference


def held(world: World, name: str, currency: str = "USD") -> Decimal:
    return world.state.balances.get((name, currency), Decimal(0))


def hold_a_position(world: World) -> None:
    """0.10 lots bought of the house at leverage 100: 110.01 of margin, 0.25 of commission."""
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10")) == ""


# --- withdrawals --------------------------------------------------------------------------------------------------------


def test_a_withdrawal_leaves_the_cash_at_once_and_waits(world: World) -> None:
    version = world.state.accounts[1].version
    request = reference_of(say(world, RequestWithdrawal, "400.00", reference="to my bank"))
    assert world.balance(1) == 600
    assert held(world, "withdrawal:1") == 400
    assert held(world, "bank") == -1000  # not yet out of the house
    assert world.state.withdrawals[request].reference == "to my bank"
    assert world.state.accounts[1].version == version + 1
    assert set(world.ledger_sums().values()) == {0}


def test_a_paid_withdrawal_leaves_the_house(world: World) -> None:
    request = reference_of(say(world, RequestWithdrawal, "400"))
    done = say(world, SettleWithdrawal, account=0, transaction_id=request, is_paid=True)
    settled = reference_of(done)
    transfer = world.transfers()[-1]
    assert (transfer.transaction_id, transfer.kind) == (settled, TransactionKind.WITHDRAWAL)
    assert transfer.reference == f"request:{request}"
    assert (world.balance(1), held(world, "withdrawal:1"), held(world, "bank")) == usd(600, 0, -600)
    assert world.state.withdrawals == {}
    assert [told.kind for told in done.told] == ["account.balance"]  # its owner hears of it


def test_a_withdrawal_that_is_not_paid_comes_back(world: World) -> None:
    request = reference_of(say(world, RequestWithdrawal, "400"))
    say(world, SettleWithdrawal, transaction_id=request, is_paid=False, reference="closed bank account")
    transfer = world.transfers()[-1]
    assert (transfer.kind, transfer.amount) == (TransactionKind.WITHDRAWAL_RETURNED, Decimal(400))
    assert transfer.reference == f"request:{request} closed bank account"
    assert (world.balance(1), held(world, "withdrawal:1"), held(world, "bank")) == usd(1000, 0, -1000)
    assert world.state.withdrawals == {}


def test_a_request_is_settled_once_and_by_its_own_account(world: World) -> None:
    world.open_account(2, group="pro")
    request = reference_of(say(world, RequestWithdrawal, "400"))
    foreign = say(world, SettleWithdrawal, account=2, transaction_id=request, is_paid=True)
    assert refusal_of(foreign) == "withdrawal_not_found"
    assert refusal_of(say(world, SettleWithdrawal, transaction_id=request + 99, is_paid=True)) == "withdrawal_not_found"
    say(world, SettleWithdrawal, transaction_id=request, is_paid=True)
    again = say(world, SettleWithdrawal, transaction_id=request, is_paid=False)
    assert refusal_of(again) == "withdrawal_not_found"
    assert world.balance(1) == 600


def test_the_same_withdrawal_said_twice_is_one(world: World) -> None:
    first = say(world, RequestWithdrawal, "400", key="w1")
    again = say(world, RequestWithdrawal, "400.00", key="w1")
    assert reference_of(again) == reference_of(first)
    assert again.answers[0][1].replayed
    assert world.balance(1) == 600


def test_margin_and_losses_stay_and_profit_does_not_go(world: World) -> None:
    hold_a_position(world)  # 999.75 after commission, margin 110.01
    world.price("EURUSD", "1.11010", "1.11020")  # 100 of profit, which is not realised
    refused = say(world, RequestWithdrawal, "889.75")
    assert refusal_of(refused) == "funds_not_withdrawable"
    assert "889.74 USD" in refused.answers[0][1].detail
    world.price("EURUSD", "1.09010", "1.09020")  # 100 of loss
    assert refusal_of(say(world, RequestWithdrawal, "789.75")) == "funds_not_withdrawable"
    assert refusal_of(say(world, RequestWithdrawal, "789.74")) == ""


def test_credit_carries_a_position_and_never_leaves(world: World) -> None:
    say(world, GrantCredit, "500")
    assert refusal_of(say(world, RequestWithdrawal, "1000.01")) == "funds_not_withdrawable"
    hold_a_position(world)
    assert (
        refusal_of(say(world, RequestWithdrawal, "998.75")) == ""
    )  # all but the spread; the margin rests on the credit now
    account = world.state.accounts[1]
    assert (account.balance, account.credit) == (Decimal("1.00"), Decimal(500))


def test_what_is_lost_already_is_not_paid_out_of_credit(world: World) -> None:
    say(world, GrantCredit, "500")
    hold_a_position(world)
    world.price("EURUSD", "1.09010", "1.09020")  # 100 of loss
    assert refusal_of(say(world, RequestWithdrawal, "899.76")) == "funds_not_withdrawable"
    assert refusal_of(say(world, RequestWithdrawal, "899.75")) == ""


def test_nothing_leaves_an_account_that_cannot_be_valued(world: World) -> None:
    hold_a_position(world)
    world.state.quotes.clear()
    assert refusal_of(say(world, RequestWithdrawal, "1")) == "no_quotes"


@pytest.mark.parametrize("amount", ["0.00", "-1", "0.001", "NaN", "1000000000000"])
def test_nonsense_is_not_withdrawn(world: World, amount: str) -> None:
    assert refusal_of(say(world, RequestWithdrawal, amount)) == "invalid_amount"


def test_open_requests_outlive_a_restart(world: World) -> None:
    request = reference_of(say(world, RequestWithdrawal, "400"))
    settled = reference_of(say(world, RequestWithdrawal, "100"))
    say(world, SettleWithdrawal, transaction_id=settled, is_paid=True)
    after = reborn(world.state)
    assert state_hash(after) == state_hash(world.state)
    world.state = after
    assert list(world.state.withdrawals) == [request]
    say(world, SettleWithdrawal, transaction_id=request, is_paid=False)
    assert world.balance(1) == 900


def test_an_open_request_is_part_of_the_states_hash(world: World) -> None:
    say(world, RequestWithdrawal, "400")
    before = state_hash(world.state)
    world.state.withdrawals.clear()
    assert state_hash(world.state) != before


# --- by staff -----------------------------------------------------------------------------------------------------------


def test_an_adjustment_goes_up_or_down_against_the_house_and_says_why(world: World) -> None:
    reference_of(say(world, Adjust, "25.50", reference="goodwill, ticket 8"))
    reference_of(say(world, Adjust, "-1025.50", reference="chargeback"))
    assert (world.balance(1), held(world, "house:adjustments")) == usd(0, 1000)
    assert [t.reference for t in world.transfers()[-2:]] == ["goodwill, ticket 8", "chargeback"]
    assert all(t.amount > 0 for t in world.transfers())


def test_an_adjustment_needs_a_reason_and_leaves_no_debt(world: World) -> None:
    assert refusal_of(say(world, Adjust, "1", reference=" ")) == "invalid_request"
    assert refusal_of(say(world, Adjust, "-1000.01", reference="chargeback")) == "invalid_amount"
    assert refusal_of(say(world, Adjust, "0", reference="nothing")) == "invalid_amount"
    assert refusal_of(say(world, Adjust, "1", account=9, reference="nobody")) == "unknown_account"
    assert world.balance(1) == 1000


def test_an_adjustment_may_lessen_a_debt(world: World) -> None:
    account = world.state.accounts[1]
    world.state.accounts[1] = replace(account, balance=Decimal(-50), client_class=ClientClass.PROFESSIONAL)
    assert refusal_of(say(world, Adjust, "20", reference="part of it")) == "", "nobody protects a professional"
    assert world.balance(1) == -30


def test_credit_is_its_own_ledger_account_and_can_be_taken_back(world: World) -> None:
    done = say(world, GrantCredit, "200")
    account = world.state.accounts[1]
    assert (account.balance, account.credit, held(world, "credit:1"), held(world, "house:bonus")) == usd(
        1000, 200, 200, -200
    )
    assert b'"amount":"200.00"' in done.told[0].payload
    assert refusal_of(say(world, GrantCredit, "-200.01")) == "invalid_amount"
    done = say(world, GrantCredit, "-150")
    assert world.transfers()[-1].kind is TransactionKind.CREDIT_REMOVED
    assert b'"amount":"-150.00"' in done.told[0].payload
    assert (world.state.accounts[1].credit, held(world, "credit:1")) == usd(50, 50)


def test_a_bonus_is_money(world: World) -> None:
    say(world, GrantBonus, "50")
    assert (world.balance(1), held(world, "house:bonus")) == usd(1050, -50)
    assert refusal_of(say(world, GrantBonus, "-50")) == "invalid_amount"


@pytest.mark.parametrize("kind", [GrantCredit, GrantBonus])
def test_bonuses_are_banned_where_the_regime_bans_them(world: World, kind: Any) -> None:
    account = replace(world.state.accounts[1], jurisdiction="EU")
    world.state.accounts[1] = account
    banned = say(world, kind, "50")
    assert refusal_of(banned) == "bonus_banned"
    assert "ESMA" in banned.answers[0][1].detail
    world.state.accounts[1] = replace(account, client_class=ClientClass.PROFESSIONAL)
    assert refusal_of(say(world, kind, "50")) == ""
    world.state.accounts[1] = replace(account, jurisdiction="Atlantis")
    assert refusal_of(say(world, kind, "50")) == "bonus_banned"


def test_credit_given_before_a_ban_can_be_taken_back(world: World) -> None:
    say(world, GrantCredit, "50")
    world.state.accounts[1] = replace(world.state.accounts[1], jurisdiction="EU")
    assert refusal_of(say(world, GrantCredit, "-50")) == ""


def test_a_command_that_waited_too_long_moves_nothing(world: World) -> None:
    for kind, why in ((RequestWithdrawal, ""), (Adjust, "r"), (GrantCredit, ""), (GrantBonus, "")):
        done = say(world, kind, "10", valid_until_us=world.now_us - 1, reference=why)
        assert refusal_of(done) == "command_expired"
    assert world.balance(1) == 1000


# --- switches -----------------------------------------------------------------------------------------------------------


def turn(world: World, scope: SwitchScope, target: str = "", *, stops: bool = True) -> Executed:
    return say(world, SetSwitch, account=0, scope=scope, target=target, stops=stops)


def test_switches_stop_the_firm_a_symbol_and_an_account_and_allow_them_again(world: World) -> None:
    turn(world, SwitchScope.FIRM)
    turn(world, SwitchScope.SYMBOL, "EURUSD")
    turn(world, SwitchScope.ACCOUNT, "1")
    stopped = KillSwitches(firm=True, symbols=("EURUSD",), accounts=(1,))
    assert world.state.desk.switches == stopped
    assert reborn(world.state).desk.switches == stopped
    turn(world, SwitchScope.FIRM, stops=False)
    turn(world, SwitchScope.SYMBOL, "EURUSD", stops=False)
    turn(world, SwitchScope.ACCOUNT, "1", stops=False)
    assert world.state.desk.switches == KillSwitches()


@pytest.mark.parametrize(
    ("scope", "target", "refusal"),
    [
        (SwitchScope.FIRM, "EURUSD", "invalid_request"),
        (SwitchScope.SYMBOL, "NOPE", "unknown_symbol"),
        (SwitchScope.ACCOUNT, "7", "unknown_account"),
        (SwitchScope.ACCOUNT, "١", "unknown_account"),
        (SwitchScope.ACCOUNT, "9" * 5000, "unknown_account"),
    ],
)
def test_a_switch_names_something_that_exists(world: World, scope: SwitchScope, target: str, refusal: str) -> None:
    assert refusal_of(turn(world, scope, target)) == refusal
    assert world.state.desk.switches == KillSwitches()


def test_the_disk_guards_switch_stands_beside_the_desks(world: World) -> None:
    say(world, NoteDiskSpace, account=0, is_low=True)
    turn(world, SwitchScope.FIRM)
    turn(world, SwitchScope.FIRM, stops=False)
    assert world.state.desk.switches == KillSwitches(is_disk_low=True)
    assert reborn(world.state).desk.switches == KillSwitches(is_disk_low=True)
    say(world, NoteDiskSpace, account=0, is_low=False)
    assert world.state.desk.switches == KillSwitches()


def test_with_a_full_disk_positions_are_closed_and_not_opened(world: World) -> None:
    hold_a_position(world)
    (position,) = world.state.positions.values()
    say(world, NoteDiskSpace, account=0, is_low=True)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.01")) == "close_only"
    assert refusal_of(world.close(1, position.id)) == ""


def test_a_switch_that_stands_so_already_changes_nothing(world: World) -> None:
    assert refusal_of(turn(world, SwitchScope.FIRM, stops=False)) == "no_changes"


# --- whatever is asked --------------------------------------------------------------------------------------------------

CENTS = st.integers(-200_000, 200_000).map(lambda cents: f"{Decimal(cents) / 100:.2f}")
MOVES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([Deposit, RequestWithdrawal, GrantCredit, GrantBonus, Adjust]), CENTS),
        st.tuples(st.just(SettleWithdrawal), st.booleans()),
        st.tuples(st.just(Side), st.integers(108_000, 112_000)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(moves=MOVES)
def test_money_is_conserved_and_a_withdrawal_never_undermines_the_margin(moves: list[tuple[Any, Any]]) -> None:
    world = World()
    world.open_account(1, currency="USD", group="retail", deposit="1000")
    world.price("EURUSD", "1.10000", "1.10010")
    world.place(1, "EURUSD", Side.BUY, "0.10")
    for kind, value in moves:
        before = world.state.accounts[1]
        if kind is Side:
            world.price("EURUSD", f"{Decimal(value) / 100_000:.5f}", f"{Decimal(value + 10) / 100_000:.5f}")
        elif kind is SettleWithdrawal:
            say(world, kind, transaction_id=next(iter(world.state.withdrawals), 0), is_paid=value)
        else:
            done = say(world, kind, value, reference="why")
            if kind is RequestWithdrawal and refusal_of(done) == "":
                assert Decimal(value) <= before.balance
                assert free_without_profit(world) >= 0
        after = world.state.accounts[1]
        assert set(world.ledger_sums().values()) <= {Decimal(0)}
        assert (after.balance, after.credit) == (held(world, "client:1"), held(world, "credit:1"))
        assert held(world, "withdrawal:1") == sum(t.amount for t in world.state.withdrawals.values()) >= 0
        assert after.version == before.version + (after != before and after.version != before.version)
    assert state_hash(reborn(world.state)) == state_hash(world.state)


def free_without_profit(world: World) -> Decimal:
    """Reckoned anew: retail sees the bid two points lower."""
    account = world.state.accounts[1]
    (position,) = world.positions(1)
    bid = world.state.quotes["EURUSD"].bid - Decimal("0.00002")
    profit = (bid - position.open_price) * 10_000
    return account.balance + account.credit + min(profit, Decimal(0)) - world.state.margin_used(1)
