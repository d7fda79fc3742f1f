"""The words that all rooms share: the order's states, ledger names, refusals, and what makes two requests the same."""

import re
from decimal import Decimal
from typing import get_args

import pytest

from tests.support.builders import lots, usd
from trading.accounts import ClientClass, Rights
from trading.commands import (
    Adjust,
    AnyCommand,
    ApplyExecution,
    CancelAll,
    CancelOrder,
    ChangeAccount,
    CloseBy,
    ClosePosition,
    ClosePositions,
    Command,
    CorrectDeal,
    Deposit,
    ExpireInstrument,
    ExpireOrders,
    GrantBonus,
    GrantCredit,
    LiftHalt,
    ModifyOrder,
    ModifyProtection,
    NoteDiskSpace,
    OpenAccount,
    PayDividend,
    PlaceOrder,
    QuoteArrived,
    ReloadConfig,
    RequestWithdrawal,
    ReversePosition,
    RollOver,
    SetSwitch,
    SettleCommission,
    SettleLeg,
    SettleWithdrawal,
    SplitInstrument,
    SwitchScope,
    Which,
    body,
)
from trading.ledger import BANK, HOUSE_COMMISSION, client_account, house_pnl, lp_account
from trading.liquidity import ExecutionReport, ReportKind, Settlement
from trading.orders import TERMINAL, TRANSITIONS, OrderStatus, Side
from trading.protection import ProtectionTerms
from trading.refusals import REGISTRY, Refusal

S = OrderStatus


# --- the order's life ---


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == {None, *OrderStatus}


def test_terminal_states_are_left_by_nothing() -> None:
    assert {S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED} == TERMINAL


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (S.FILLED, S.CANCELED),
        (S.REJECTED, S.FILLED),
        (S.CANCELED, S.PARTIALLY_FILLED),
        (S.PARTIALLY_FILLED, S.REJECTED),
        (S.PARTIALLY_FILLED, S.PENDING_NEW),
        (S.EXPIRED, S.NEW),
        (S.NEW, S.PARTIALLY_FILLED),
        (None, S.PARTIALLY_FILLED),
    ],
)
def test_illegal_moves_are_absent(before: OrderStatus | None, after: OrderStatus) -> None:
    assert after not in TRANSITIONS[before]


def test_every_state_can_be_reached() -> None:
    reached = {after for following in TRANSITIONS.values() for after in following}
    assert reached == set(OrderStatus)


def test_the_other_side_of_the_other_side_is_the_side() -> None:
    assert [(side.opposite, side.sign) for side in Side] == [(Side.SELL, 1), (Side.BUY, -1)]
    assert all(side.opposite.opposite is side for side in Side)


# --- the ledger's names ---


def test_ledger_accounts_are_named_by_whose_money_it_is() -> None:
    names = [client_account(10001), house_pnl("A"), house_pnl("B"), lp_account("YOFX1"), HOUSE_COMMISSION, BANK]
    assert names == ["client:10001", "house:pnl:A", "house:pnl:B", "lp:YOFX1", "house:commission", "bank"]


# --- refusals ---


def test_every_refusal_has_its_terms_and_nothing_else_has() -> None:
    assert set(REGISTRY) == set(Refusal)


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_can_be_told_over_every_door(refusal: Refusal) -> None:
    terms = REGISTRY[refusal]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", refusal.value)
    assert 400 <= terms.http < 600 or refusal is Refusal.NO_CHANGES
    assert 10004 <= terms.mt <= 10046
    assert terms.fix is None or terms.fix in {0, 1, 2, 3, 4, 5, 6, 11, 13, 15, 99}
    assert terms.title.endswith(".")
    assert terms.remedy.endswith(".")


@pytest.mark.parametrize(
    ("refusal", "http"),
    [
        (Refusal.MALFORMED_JSON, 400),
        (Refusal.NOT_AUTHENTICATED, 401),
        (Refusal.TOKEN_EXPIRED, 401),
        (Refusal.UNKNOWN_ACCOUNT, 404),
        (Refusal.UNKNOWN_SYMBOL, 404),
        (Refusal.CLIENT_ORDER_ID_REUSED, 409),
        (Refusal.IDEMPOTENCY_KEY_REUSED, 422),
        (Refusal.INVALID_VOLUME, 422),
        (Refusal.INSUFFICIENT_MARGIN, 422),
        (Refusal.NO_QUOTES, 503),
        (Refusal.NO_CONNECTION, 503),
    ],
)
def test_the_promised_statuses_stand(refusal: Refusal, http: int) -> None:
    assert REGISTRY[refusal].http == http


def test_only_what_did_nothing_may_be_retried_blindly() -> None:
    """An unknown outcome is never retryable: the order may be there."""
    assert not REGISTRY[Refusal.TIMEOUT_UNKNOWN].retryable
    assert REGISTRY[Refusal.BUSY].retryable


# --- what makes two requests the same ---


def place(**overrides: object) -> PlaceOrder:
    fields: dict[str, object] = {
        "id": "1",
        "key": "k",
        "account": 10001,
        "symbol": "EURUSD",
        "side": Side.BUY,
        "volume": lots("0.10"),
        **overrides,
    }
    return PlaceOrder(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "same",
    [
        {"volume": Decimal("0.1")},
        {"volume": Decimal("0.1000")},
        {"id": "2"},
        {"valid_until_us": 5},
        {"reply_to": "web-1"},
        {"actor": "user:5"},
    ],
)
def test_spelling_and_transport_do_not_make_another_order(same: dict[str, object]) -> None:
    assert body(place(**same)) == body(place())


@pytest.mark.parametrize(
    "other",
    [{"symbol": "GBPUSD"}, {"side": Side.SELL}, {"volume": Decimal("0.11")}, {"comment": "again"}],
)
def test_another_wish_is_another_order(other: dict[str, object]) -> None:
    assert body(place(**other)) != body(place())


EACH: tuple[Command, ...] = (
    place(),
    ClosePosition(id="1", key="k", position_id=7),
    ClosePosition(id="1", key="k", position_id=7, volume=lots("0.10")),
    OpenAccount(id="1", key="k", group="retail", currency="EUR", leverage=30),
    OpenAccount(id="1", key="k", group="retail", currency="EUR", leverage=30, client_class=ClientClass.PROFESSIONAL),
    ChangeAccount(id="1", key="k", group="vip"),
    ChangeAccount(id="1", key="k", leverage=10),
    ChangeAccount(id="1", key="k", rights=Rights.CLOSE_ONLY),
    ChangeAccount(id="1", key="k", client_class=ClientClass.PROFESSIONAL),
    Deposit(id="1", key="k", amount=usd("10.00")),
    Deposit(id="1", key="k", amount=usd("10.00"), reference="wire 7"),
    ReloadConfig(id="1", key="k", version=3),
    ModifyOrder(id="1", key="k", order_id=3, price=Decimal("1.10000")),
    ModifyOrder(id="1", key="k", order_id=3, stop_price=Decimal("1.10000")),
    CancelOrder(id="1", key="k", order_id=3),
    CancelAll(id="1", key="k"),
    CancelAll(id="1", key="k", symbol="EURUSD"),
    ModifyProtection(id="1", key="k", position_id=3, protection=ProtectionTerms(stop_loss=Decimal("1.10000"))),
    ExpireOrders(id="1", key="k"),
    CloseBy(id="1", key="k", position_id=3, by_position_id=4),
    ReversePosition(id="1", key="k", position_id=3),
    ClosePositions(id="1", key="k"),
    ClosePositions(id="1", key="k", which=Which.LOSERS),
    RequestWithdrawal(id="1", key="k", amount=Decimal(10)),
    SettleWithdrawal(id="1", key="k", transaction_id=3, is_paid=True),
    SettleWithdrawal(id="1", key="k", transaction_id=3, is_paid=False),
    Adjust(id="1", key="k", amount=Decimal(10), reference="x"),
    GrantCredit(id="1", key="k", amount=Decimal(10)),
    GrantBonus(id="1", key="k", amount=Decimal(10)),
    SetSwitch(id="1", key="k", scope=SwitchScope.FIRM, stops=True),
    SetSwitch(id="1", key="k", scope=SwitchScope.SYMBOL, target="EURUSD", stops=True),
    NoteDiskSpace(id="1", key="k", is_low=True),
    RollOver(id="1", key="k"),
    SettleCommission(id="1", key="k"),
    PayDividend(
        id="1", key="k", symbol="XAUUSD", long_per_unit=Decimal("0.10"), short_per_unit=Decimal("-0.10"), ex_us=1
    ),
    SplitInstrument(id="1", key="k", symbol="XAUUSD", new=2, old=1),
    ExpireInstrument(id="1", key="k", symbol="XAUUSD", price=Decimal(2400)),
    CorrectDeal(id="1", key="k", deal_id=3),
    CorrectDeal(id="1", key="k", deal_id=3, price=Decimal("1.10000")),
    SettleLeg(id="1", key="k", cl_ord_id="T0-1", outcome=Settlement.NOT_FILLED),
    SettleLeg(id="1", key="k", cl_ord_id="T0-1", outcome=Settlement.FILLED, quantity=Decimal(1), price=Decimal(2)),
    LiftHalt(id="1", key="k", lp="YOFX1", symbol="EURUSD"),
)


def test_different_commands_never_have_equal_bodies() -> None:
    bodies = [body(command) for command in EACH]
    assert len(set(bodies)) == len(EACH)


def test_every_command_but_a_providers_report_has_a_body() -> None:
    assert {type(command) for command in EACH} == set(get_args(AnyCommand)) - {ApplyExecution, QuoteArrived}
    report = ExecutionReport(lp="YOFX1", kind=ReportKind.FILL, cl_ord_id="T0-1")
    with pytest.raises(AssertionError):
        body(ApplyExecution(id="1", key="", inbox_seq=1, report=report))


@pytest.mark.parametrize("volume", ["NaN", "Infinity", "1E+1000000", "0E-400"])
def test_a_volume_that_will_be_refused_still_has_a_short_body(volume: str) -> None:
    assert len("".join(body(place(volume=Decimal(volume))))) < 100
