"""The doors to the trading rules: what a request becomes as a command, and how rows are shown. On the real database, with an
engine on paper: what the engine makes of the commands is told elsewhere.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.contrib.auth.models import Permission
from django.test import Client as Browser

from apps import published
from apps.accounts import access
from apps.accounts.models import Account, Profile, User
from apps.doors import connections
from apps.doors.schema import (
    ACCOUNT,
    CORRECTION,
    EFFECTIVE_TERMS,
    MARGIN_NOTE,
    ORDER,
    POSITION,
    SYMBOL_SHAPE,
    WITHDRAWAL,
)
from apps.ledger.models import Balance, Transfer
from apps.margin.models import MarginNote
from apps.operations.demo import seed_configuration
from apps.operations.models import AuditEntry, Batch, DealCorrection
from apps.operations.services import publish_config
from apps.orders.models import Deal
from apps.positions.models import Position
from bus import codec, names
from bus.clock import wall
from tests.fakes.engine import EngineOnPaper
from trading.accounts import ClientClass, Rights
from trading.answers import Answer
from trading.commands import (
    Adjust,
    ChangeAccount,
    CloseBy,
    ClosePositions,
    CorrectDeal,
    ExpireInstrument,
    GrantBonus,
    GrantCredit,
    ModifyProtection,
    PayDividend,
    PlaceOrder,
    RequestWithdrawal,
    ReversePosition,
    SetSwitch,
    SettleWithdrawal,
    SplitInstrument,
    SwitchScope,
    Which,
)
from trading.orders import Order, OrderStatus, OrderType, Side
from trading.protection import ProtectionTerms, StopTriggerMethod
from trading.quotes import Quote

pytestmark = pytest.mark.django_db
ACCOUNT_OF_HERS, SOMEBODY_ELSES = 1, 2
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[EngineOnPaper]:
    """The demo broker published, carla's account with a position, and the paper engine behind the doors."""
    for cache in (published, access):
        cache.forget()
    connections.redis_connection.cache_clear()
    redis.Redis.from_url(redis_url).flushdb()
    seed_configuration()
    publish_config("staff:1", tell=False)
    on_paper = EngineOnPaper()
    monkeypatch.setattr(connections, "_engine", lambda: on_paper)
    yield on_paper
    for cache in (published, access):
        cache.forget()
    connections.redis_connection.cache_clear()


def account_row(number: int, **changes: Any) -> Account:
    terms = {"group": "vip", "currency": "USD", "leverage": 100, "client_class": "retail", "rights": "full"}
    money = {"balance": Decimal(1000), "credit": Decimal(0), "shard": 0, "version": 0, "seq": 0}
    return Account.objects.create(**{"id": number, **terms, **money, **changes})


def position_row(number: int, account: int = ACCOUNT_OF_HERS, **changes: Any) -> Position:
    sizes = {"volume": Decimal("0.10"), "volume_opened": Decimal("0.10"), "cost": Decimal("0.126500")}
    rest = {"margin": Decimal("126.50"), "volume_a_opened": 0, "volume_a": 0, "cost_a": 0, "locked": 0}
    fields = {"id": number, "account": account, "symbol": "GBPUSD", "side": "buy", "opened_at": NOW, "updated_at": NOW}
    return Position.objects.create(**{**fields, **sizes, **rest, **changes})


@pytest.fixture
def carla(engine: EngineOnPaper) -> Browser:
    user = User.objects.create_user("carla")
    Profile.objects.create(user=user, account=ACCOUNT_OF_HERS)
    Profile.objects.create(user=User.objects.create_user("ben"), account=SOMEBODY_ELSES)
    account_row(ACCOUNT_OF_HERS)
    account_row(SOMEBODY_ELSES)
    position_row(7)
    position_row(8, side="sell")
    position_row(9, SOMEBODY_ELSES)
    return logged_in(user)


def logged_in(user: User) -> Browser:
    browser = Browser()
    browser.force_login(user)
    return browser


def send(browser: Browser, method: str, address: str, body: Any = None, **headers: str) -> Any:
    data = "" if body is None else codec.encode(body).decode()
    return browser.generic(method, f"/v1/{address}", data, content_type="application/json", headers=headers)


def told(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = codec.decode(answer.content, dict[str, Any])
    return found


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "id": 70, "uuid": str(uuid4()), "account": ACCOUNT_OF_HERS, "client_order_id": "c", "symbol": "GBPUSD",
        "side": Side.SELL, "type": OrderType.MARKET, "volume": Decimal("0.10"), "status": OrderStatus.FILLED,
        "filled_volume": Decimal("0.10"), "filled_cost": Decimal("0.1265"), "created_us": 0, "updated_us": 0, **changes,
    }  # fmt: skip
    return Order(**fields)


# --- orders and positions ------------------------------------------------------------------------------------------------


def test_an_order_carries_all_of_its_terms(engine: EngineOnPaper, carla: Browser) -> None:
    placed = order(status=OrderStatus.NEW, type=OrderType.STOP, stop_price=Decimal("1.30000"), oco_group="breakout",
                   stop_trigger=StopTriggerMethod.OPPOSITE, filled_volume=Decimal(0), filled_cost=Decimal(0),
                   protection=ProtectionTerms(stop_loss=Decimal("1.20000"), is_guaranteed=True, trailing_points=50,
                                              trailing_activation=0, break_even_points=30, break_even_offset=2))  # fmt: skip
    engine.answers = [Answer(command_id="", order=placed)]
    asked = {
        "account": ACCOUNT_OF_HERS, "symbol": "GBPUSD", "side": "buy", "volume": "0.10", "type": "stop",
        "stop_price": "1.30000", "oco_group": "breakout", "stop_trigger": "opposite",
        "stop_loss": {"price": "1.20000", "guaranteed": True, "trigger": "double_trade"},
        "trailing_stop": {"distance": 50, "step": 5, "activation": 0}, "break_even": {"distance": 30, "offset": 2},
    }  # fmt: skip
    answer = send(carla, "POST", "orders", asked)
    assert answer.status_code == 201, answer.content
    command = engine.last
    assert isinstance(command, PlaceOrder)
    assert (command.oco_group, command.stop_trigger) == ("breakout", StopTriggerMethod.OPPOSITE)
    assert command.protection == ProtectionTerms(
        stop_loss=Decimal("1.20000"), is_guaranteed=True, stop_trigger=StopTriggerMethod.DOUBLE_TRADE,
        trailing_points=50, trailing_step=5, trailing_activation=0, break_even_points=30, break_even_offset=2,
    )  # fmt: skip
    shown = told(answer)
    assert set(shown) == set(ORDER().fields)
    assert (shown["oco_group"], shown["stop_trigger"]) == ("breakout", "opposite")
    assert shown["stop_loss"] == {"price": "1.20000", "distance": None, "guaranteed": True, "trigger": None}
    assert shown["trailing_stop"] == {"distance": 50, "step": 0, "activation": 0}
    assert shown["break_even"] == {"distance": 30, "offset": 2}


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        ({"oco_group": "two words"}, "/oco_group"),
        ({"stop_trigger": "sideways"}, "/stop_trigger"),
        ({"stop_loss": {"price": "1.2", "guaranteed": "yes"}}, "/stop_loss/guaranteed"),
        ({"stop_loss": {"guaranteed": True}}, "/stop_loss"),
        ({"take_profit": {"price": "1.2", "guaranteed": True}}, "/take_profit/guaranteed"),
        ({"trailing_stop": {"distance": 5, "activation": -1}}, "/trailing_stop/activation"),
        ({"break_even": {"offset": 5}}, "/break_even/distance"),
    ],
)
def test_terms_without_sense_are_named(
    engine: EngineOnPaper, carla: Browser, terms: dict[str, Any], pointer: str
) -> None:
    body = {"account": ACCOUNT_OF_HERS, "symbol": "GBPUSD", "side": "buy", "volume": "0.10", **terms}
    answer = send(carla, "POST", "orders", body)
    assert (answer.status_code, [error["pointer"] for error in told(answer)["errors"]]) == (422, [pointer])
    assert engine.commands == []


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"take_profit": None}, {"stop_loss", "trailing_stop", "break_even", "guaranteed", "stop_trigger"}),
        ({"stop_loss": {"price": "1.2"}}, {"take_profit", "trailing_stop", "break_even", "guaranteed", "stop_trigger"}),
        ({"stop_loss": {"price": "1.2", "guaranteed": False}}, {"take_profit", "trailing_stop", "break_even", "stop_trigger"}),
        ({"stop_loss": {"price": "1.2", "trigger": None}}, {"take_profit", "trailing_stop", "break_even", "guaranteed"}),
        ({"stop_loss": None, "break_even": {"distance": 9}}, {"take_profit", "trailing_stop"}),
    ],
)  # fmt: skip
def test_a_change_of_protection_keeps_what_it_does_not_name(
    engine: EngineOnPaper, carla: Browser, changes: dict[str, Any], kept: set[str]
) -> None:
    answer = send(carla, "PATCH", "positions/7", changes)
    assert answer.status_code == 200, answer.content
    assert set(told(answer)) == set(POSITION().fields)
    command = engine.last
    assert isinstance(command, ModifyProtection)
    assert (command.position_id, set(command.keep)) == (7, kept)


def test_a_position_is_closed_by_another(engine: EngineOnPaper, carla: Browser) -> None:
    engine.answers = [Answer(command_id="", order=order())]
    answer = send(
        carla, "POST", "positions/7/close-by", {"by_position_id": 8, "client_order_id": "mine", "comment": "x"}
    )
    assert answer.status_code == 201, answer.content
    command = engine.last
    assert isinstance(command, CloseBy)
    assert (command.account, command.position_id, command.by_position_id) == (ACCOUNT_OF_HERS, 7, 8)
    assert (command.key, command.comment) == ("mine", "x")


def test_a_position_is_reversed_once_per_key(engine: EngineOnPaper, carla: Browser) -> None:
    engine.answers = [Answer(command_id="", order=order())]
    same = key()
    first = send(carla, "POST", "positions/7/reverse", {}, **same)
    again = send(carla, "POST", "positions/7/reverse", {}, **same)
    assert (first.status_code, first.content) == (201, again.content)
    assert isinstance(engine.last, ReversePosition)
    assert len(engine.commands) == 1


def test_many_are_closed_at_once(engine: EngineOnPaper, carla: Browser) -> None:
    engine.answers = [Answer(command_id="", reference=2)]
    answer = send(carla, "POST", "positions/close", {"account": ACCOUNT_OF_HERS, "which": "losers", "symbol": "GBPUSD"})
    assert (answer.status_code, told(answer)) == (202, {"closing": 2})
    command = engine.last
    assert isinstance(command, ClosePositions)
    assert (command.account, command.which, command.symbol) == (ACCOUNT_OF_HERS, Which.LOSERS, "GBPUSD")


@pytest.mark.parametrize(
    ("address", "body", "code"),
    [
        ("positions/9/close-by", {"by_position_id": 8}, "not_found"),
        ("positions/9/reverse", {}, "not_found"),
        ("positions/close", {"account": SOMEBODY_ELSES}, "unknown_account"),
        ("positions/close", {"account": ACCOUNT_OF_HERS, "symbol": "BTCUSD"}, "unknown_symbol"),
        ("positions/close", {"account": ACCOUNT_OF_HERS, "which": "some"}, "invalid_request"),
        ("positions/7/close-by", {}, "invalid_request"),
    ],
)
def test_nobody_closes_anothers_positions_or_by_mistake(
    engine: EngineOnPaper, carla: Browser, address: str, body: dict[str, Any], code: str
) -> None:
    assert told(send(carla, "POST", address, body))["code"] == code
    assert engine.commands == []


# --- money ---------------------------------------------------------------------------------------------------------------


def transfer(number: int, kind: str, source: str, target: str, amount: str, reference: str = "") -> None:
    Transfer.objects.create(
        transaction_id=number, line=1, kind=kind, source=source, target=target, currency="USD", amount=Decimal(amount),
        order_id=0, deal_id=0, position_id=0, reference=reference, at=NOW,
    )  # fmt: skip


def test_a_withdrawal_is_asked_for(engine: EngineOnPaper, carla: Browser) -> None:
    transfer(5, "withdrawal_requested", "client:1", "withdrawal:1", "12.5", "rent")
    engine.answers = [Answer(command_id="", reference=5)]
    answer = send(carla, "POST", "accounts/1/withdrawals", {"amount": "12.50", "reference": "rent"}, **key())
    shown = told(answer)
    assert (answer.status_code, set(shown)) == (201, set(WITHDRAWAL().fields))
    assert (shown["transaction_id"], shown["amount"], shown["status"]) == (5, "12.50", "requested")
    command = engine.last
    assert isinstance(command, RequestWithdrawal)
    assert (command.account, command.amount, command.reference) == (1, Decimal("12.50"), "rent")
    assert command.key.startswith("withdrawal/")


@pytest.mark.parametrize(
    ("account", "body", "headers", "code"),
    [
        (1, {"amount": "5"}, {}, "idempotency_key_required"),
        (2, {"amount": "5"}, {"Idempotency-Key": "k"}, "unknown_account"),
        (1, {"amount": "-5"}, {"Idempotency-Key": "k"}, "invalid_amount"),
        (1, {}, {"Idempotency-Key": "k"}, "invalid_amount"),
    ],
)
def test_a_withdrawal_that_is_not_clear_is_not_asked_for(
    engine: EngineOnPaper, carla: Browser, account: int, body: dict[str, str], headers: dict[str, str], code: str
) -> None:
    assert told(send(carla, "POST", f"accounts/{account}/withdrawals", body, **headers))["code"] == code
    assert engine.commands == []


def test_withdrawals_show_how_they_ended(engine: EngineOnPaper, carla: Browser) -> None:
    for number in (5, 6, 7):
        transfer(number, "withdrawal_requested", "client:1", "withdrawal:1", "10")
    transfer(8, "withdrawal", "withdrawal:1", "bank", "10", "request:5 sepa")
    transfer(9, "withdrawal_returned", "withdrawal:1", "client:1", "10", "request:6")
    shown = told(send(carla, "GET", "accounts/1/withdrawals"))["data"]
    assert [(row["transaction_id"], row["status"]) for row in shown] == [(7, "requested"), (6, "returned"), (5, "paid")]
    assert told(send(carla, "GET", "accounts/2/withdrawals"))["code"] == "unknown_account"


def test_a_stop_out_is_explained(engine: EngineOnPaper, carla: Browser) -> None:
    MarginNote.objects.create(
        id=3, account=1, kind="position_closed", rule="stop-out 50", equity=Decimal("49.9"), margin=Decimal(100),
        level=Decimal("49.90"), order_id=0, position_id=7, detail="the largest loss", at=NOW,
        prices={"GBPUSD": ["1.26499", "1.26513"]},
    )  # fmt: skip
    MarginNote.objects.create(
        id=4, account=2, kind="margin_call", rule="margin call 80", equity=1, margin=1, level=None, order_id=0,
        position_id=0, detail="", at=NOW, prices={},
    )  # fmt: skip
    [note] = told(send(carla, "GET", "accounts/1/margin-notes"))["data"]
    assert set(note) == set(MARGIN_NOTE().fields)
    assert (note["rule"], note["equity"], note["level"], note["position_id"]) == ("stop-out 50", "49.90", "49.90", 7)
    assert (note["order_ticket"], note["prices"]) == (None, {"GBPUSD": {"bid": "1.26499", "ask": "1.26513"}})
    assert told(send(carla, "GET", "accounts/2/margin-notes"))["code"] == "unknown_account"


def quoted(symbol: str, bid: str, ask: str) -> None:
    quote = Quote(symbol=symbol, seq=1, bid=Decimal(bid), ask=Decimal(ask), at_us=wall(), tops=())
    connections.redis_connection().hset(names.quote(symbol), "quote", codec.encode(quote))


def test_an_account_shows_what_it_is_made_of(engine: EngineOnPaper, carla: Browser) -> None:
    Position.objects.filter(id=8).delete()
    Position.objects.filter(id=7).update(swap=Decimal("-1.2345"))
    Account.objects.filter(id=1).update(credit=50, commission_blocked=Decimal("0.70"), alarm=2, jurisdiction="EU")
    quoted("GBPUSD", "1.26001", "1.26015")
    shown = told(send(carla, "GET", "accounts/1"))
    assert set(shown) == set(ACCOUNT().fields)
    # Bought 0.10 at 1.26500, seen at 1.26000: -50.00. 1000 + 50 - 50 - 1.2345 - 0.70, rounded down.
    assert (shown["swap"], shown["commission_blocked"], shown["equity"]) == ("-1.2345", "0.70", "998.06")
    assert (shown["free_margin"], shown["margin"]) == ("871.56", "126.50")
    # What is the client's own after losses, 948.06, is more than the free margin, which credit carries.
    assert (shown["withdrawable"], shown["buying_power"]) == ("871.56", "873.50")
    assert shown["margin_call"] == {"reached": "80", "levels": ["100", "80", "60"], "stop_out": "50"}
    assert (shown["client_class"], shown["jurisdiction"]) == ("retail", "EU")
    assert (shown["regulation"]["rule"], shown["regulation"]["close_out_share"]) == ("ESMA CFD measures", "0.5")


def test_an_account_without_prices_still_shows_what_is_known(engine: EngineOnPaper, carla: Browser) -> None:
    shown = told(send(carla, "GET", "accounts/1"))
    assert (shown["equity"], shown["free_margin"], shown["withdrawable"], shown["unpriced"]) == (
        None, None, None, ["GBPUSD"],
    )  # fmt: skip
    assert (shown["buying_power"], shown["regulation"], shown["margin_call"]["reached"]) == ("873.50", None, None)


def test_a_symbols_terms_are_those_of_the_accounts_group(engine: EngineOnPaper, carla: Browser) -> None:
    own, hers = (told(send(carla, "GET", f"symbols/XAUUSD{query}")) for query in ("", "?account=1"))
    assert set(own) == set(hers) == set(SYMBOL_SHAPE().fields)
    assert (own["volume_max"], hers["volume_max"]) == ("100", "20")
    assert (own["swap"]["mode"], own["swap"]["long"], own["swap"]["multipliers"][2]) == ("points", "-38.5", "3")
    assert told(send(carla, "GET", "symbols?account=2"))["code"] == "unknown_account"
    assert told(send(Browser(), "GET", "symbols/XAUUSD?account=1"))["code"] == "not_authenticated"


# --- staff ---------------------------------------------------------------------------------------------------------------


def member(name: str, *rights: str) -> Browser:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return logged_in(user)


RIGHTS = ("move_money", "manage_accounts", "stop_trading", "carry_out_events", "correct_deals")
DONE_BY_STAFF: tuple[tuple[str, str, dict[str, Any], type[Any], dict[str, Any]], ...] = (
    ("POST", "accounts/1/withdrawals/5/settle", {"is_paid": False, "reference": "no"}, SettleWithdrawal,
     {"account": 1, "transaction_id": 5, "is_paid": False, "reference": "no"}),
    ("POST", "accounts/1/adjust", {"amount": "-5.25", "reference": "fee"}, Adjust,
     {"account": 1, "amount": Decimal("-5.25"), "reference": "fee"}),
    ("POST", "accounts/1/credit", {"amount": "-5"}, GrantCredit, {"account": 1, "amount": Decimal(-5)}),
    ("POST", "accounts/1/bonus", {"amount": "5"}, GrantBonus, {"account": 1, "amount": Decimal(5)}),
    ("PATCH", "accounts/1", {"jurisdiction": "", "stp_only": True, "leverage": 20}, ChangeAccount,
     {"account": 1, "jurisdiction": "", "stp_only": True, "leverage": 20, "group": None, "rights": None}),
    ("PATCH", "accounts/1", {"rights": "close_only", "client_class": "professional", "group": "pro"}, ChangeAccount,
     {"rights": Rights.CLOSE_ONLY, "client_class": ClientClass.PROFESSIONAL, "group": "pro", "stp_only": None}),
    ("POST", "switches", {"scope": "firm", "stops": True}, SetSwitch, {"scope": SwitchScope.FIRM, "stops": True}),
    ("POST", "switches", {"scope": "account", "target": "1", "stops": False}, SetSwitch,
     {"scope": SwitchScope.ACCOUNT, "target": "1", "stops": False}),
    ("POST", "switches", {"scope": "lp", "target": "YOFX1", "stops": True}, SetSwitch,
     {"scope": SwitchScope.LP, "target": "YOFX1", "stops": True}),
    ("POST", "dividends",
     {"symbol": "EURUSD", "long_per_unit": "0.5", "short_per_unit": "-0.5", "ex_at": "2026-01-01T00:00:00Z"},
     PayDividend,
     {"long_per_unit": Decimal("0.5"), "short_per_unit": Decimal("-0.5"), "ex_us": 1_767_225_600_000_000}),
    ("POST", "splits", {"symbol": "EURUSD", "new": 4, "old": 1}, SplitInstrument, {"new": 4, "old": 1}),
    ("POST", "expiries", {"symbol": "EURUSD", "price": "1.1"}, ExpireInstrument, {"price": Decimal("1.1")}),
)  # fmt: skip


@pytest.mark.parametrize(("method", "address", "body", "kind", "fields"), DONE_BY_STAFF)
def test_staff_send_a_command_and_leave_a_record(
    engine: EngineOnPaper,
    carla: Browser,
    method: str,
    address: str,
    body: dict[str, Any],
    kind: type[Any],
    fields: dict[str, Any],
) -> None:
    dealer = member("dealer", *RIGHTS)
    engine.answers = [Answer(command_id="", reference=17)]
    answer = send(dealer, method, f"staff/{address}", body, **key())
    assert (answer.status_code, told(answer)) == (200, {"reference": 17, "changed": True})
    command = engine.last
    assert isinstance(command, kind)
    assert {name: getattr(command, name) for name in fields} == fields
    assert command.actor == f"staff:{User.objects.get(username='dealer').pk}"
    before, after = AuditEntry.objects.order_by("id")
    assert after.action == f"{before.action}:done"
    assert (after.detail["reference"], before.detail["key"]) == (17, command.key)


@pytest.mark.parametrize(("method", "address", "body", "kind", "fields"), DONE_BY_STAFF)
def test_staff_without_the_right_and_clients_are_refused_and_recorded(
    engine: EngineOnPaper,
    carla: Browser,
    method: str,
    address: str,
    body: dict[str, Any],
    kind: type[Any],
    fields: dict[str, Any],
) -> None:
    for browser in (carla, member("clerk")):
        answer = send(browser, method, f"staff/{address}", body, **key())
        assert (answer.status_code, told(answer)["code"]) == (403, "forbidden")
    assert engine.commands == []
    assert [entry.action.partition(":")[2] for entry in AuditEntry.objects.all()] == ["refused", "refused"]


@pytest.mark.parametrize(
    ("method", "address", "body", "code"),
    [
        ("POST", "accounts/1/adjust", {"amount": "5"}, "invalid_request"),
        ("POST", "accounts/1/adjust", {"amount": "5", "reference": " "}, "invalid_request"),
        ("POST", "accounts/1/adjust", {"amount": "0", "reference": "x"}, "invalid_amount"),
        ("POST", "accounts/1/bonus", {"amount": "-5"}, "invalid_amount"),
        ("POST", "accounts/99/credit", {"amount": "5"}, "unknown_account"),
        ("POST", "accounts/1/withdrawals/x/settle", {"is_paid": True}, "withdrawal_not_found"),
        ("POST", "accounts/1/withdrawals/5/settle", {"is_paid": "true"}, "invalid_request"),
        ("PATCH", "accounts/1", {}, "invalid_request"),
        ("PATCH", "accounts/1", {"jurisdiction": "MARS"}, "invalid_request"),
        ("PATCH", "accounts/1", {"leverage": 0}, "invalid_request"),
        ("POST", "switches", {"scope": "firm", "target": "EURUSD", "stops": True}, "invalid_request"),
        ("POST", "switches", {"scope": "symbol", "stops": True}, "invalid_request"),
        ("POST", "switches", {"scope": "account", "target": "one", "stops": True}, "invalid_request"),
        ("POST", "dividends", {"symbol": "EURUSD", "long_per_unit": "1", "short_per_unit": "1"}, "invalid_request"),
        ("POST", "splits", {"symbol": "BTCUSD", "new": 2, "old": 1}, "unknown_symbol"),
        ("POST", "splits", {"symbol": "EURUSD", "new": 2, "old": 0}, "invalid_request"),
        ("POST", "expiries", {"symbol": "EURUSD", "price": "0"}, "invalid_price"),
    ],
)
def test_staff_are_told_what_makes_no_sense(
    engine: EngineOnPaper, carla: Browser, method: str, address: str, body: dict[str, Any], code: str
) -> None:
    assert told(send(member("dealer", *RIGHTS), method, f"staff/{address}", body, **key()))["code"] == code
    assert engine.commands == []


def test_money_needs_a_key_and_a_switch_does_not(engine: EngineOnPaper, carla: Browser) -> None:
    dealer = member("dealer", *RIGHTS)
    refused = send(dealer, "POST", "staff/accounts/1/credit", {"amount": "5"})
    assert told(refused)["code"] == "idempotency_key_required"
    assert send(dealer, "POST", "staff/switches", {"scope": "firm", "stops": True}).status_code == 200


def test_a_refusal_is_told_and_recorded_and_nothing_to_change_is_none(engine: EngineOnPaper, carla: Browser) -> None:
    dealer = member("dealer", *RIGHTS)
    engine.answers = [Answer(command_id="", refusal="bonus_banned", detail="ESMA bans it"), None]
    refused = send(dealer, "POST", "staff/accounts/1/bonus", {"amount": "5"}, **key())
    assert (refused.status_code, told(refused)["detail"]) == (422, "ESMA bans it")
    unknown = send(dealer, "POST", "staff/accounts/1/bonus", {"amount": "5"}, **key())
    assert (unknown.status_code, told(unknown)["code"]) == (504, "timeout_unknown")
    engine.answers = [Answer(command_id="", refusal="no_changes")]
    same = send(dealer, "POST", "staff/switches", {"scope": "firm", "stops": True})
    assert (same.status_code, told(same)) == (200, {"reference": 0, "changed": False})
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == [
        "grant_bonus", "grant_bonus:refused", "grant_bonus", "grant_bonus:unknown", "set_switch", "set_switch:done",
    ]  # fmt: skip


def test_what_is_stopped_is_shown(engine: EngineOnPaper, carla: Browser) -> None:
    clerk = member("clerk")
    assert told(send(clerk, "GET", "staff/switches")) == {
        "firm": False,
        "symbols": [],
        "accounts": [],
        "lps": [],
        "is_disk_low": False,
    }
    Batch.objects.create(
        shard=0, seq=1, epoch=1, inbox_cursors={}, config_version=1, counters={}, outbox_seq=0, commands=1, inputs=b"",
        at=NOW, desk={"switches": {"firm": True, "symbols": ["EURUSD"], "accounts": [7]}, "rolled_us": 0},
    )  # fmt: skip
    assert told(send(clerk, "GET", "staff/switches")) == {
        "firm": True,
        "symbols": ["EURUSD"],
        "accounts": [7],
        "lps": [],
        "is_disk_low": False,
    }


def test_withdrawals_that_wait_are_listed_for_staff(engine: EngineOnPaper, carla: Browser) -> None:
    for number in (5, 6):
        transfer(number, "withdrawal_requested", "client:1", "withdrawal:1", "10")
    transfer(8, "withdrawal", "withdrawal:1", "bank", "10", "request:5")
    Balance.objects.create(account="withdrawal:1", currency="USD", balance=10)
    shown = told(send(member("clerk"), "GET", "staff/withdrawals"))["data"]
    assert [(row["transaction_id"], row["account"], row["status"]) for row in shown] == [(6, 1, "requested")]


def test_effective_terms_are_answered_and_recorded(engine: EngineOnPaper, carla: Browser) -> None:
    clerk = member("clerk")
    found = told(send(clerk, "GET", "staff/effective-terms?group=vip&symbol=XAUUSD&jurisdiction=EU"))
    assert set(found) == set(EFFECTIVE_TERMS().fields)
    assert {"field": "volume_max", "value": "20", "rule": "VIP metals"} in found["terms"]
    assert (found["regulation"]["rule"], found["group_terms"]["stop_out"]["level"]) == ("ESMA CFD measures", "50")
    early = send(clerk, "GET", "staff/effective-terms?group=vip&symbol=XAUUSD&at=2020-01-01T00:00:00Z")
    assert told(early)["code"] == "not_found"
    assert told(send(clerk, "GET", "staff/effective-terms?symbol=XAUUSD"))["code"] == "invalid_request"
    assert told(send(carla, "GET", "staff/effective-terms?group=vip&symbol=XAUUSD"))["code"] == "forbidden"
    assert AuditEntry.objects.filter(action="read_effective_terms").count() == 2


# --- two people ----------------------------------------------------------------------------------------------------------


def deal_row() -> None:
    Deal.objects.create(
        id=30, order_id=1, position_id=7, account=1, symbol="GBPUSD", side="buy", entry="in", volume=Decimal("0.1"),
        price=Decimal("1.3"), profit=0, commission=0, book="B", at=NOW,
    )  # fmt: skip


def proposed(browser: Browser, **body: Any) -> dict[str, Any]:
    answer = send(browser, "POST", "staff/deals/30/corrections", {"reason": "bad tick", **body})
    assert answer.status_code == 201, answer.content
    return told(answer)


def test_a_deal_is_corrected_by_two_people(engine: EngineOnPaper, carla: Browser) -> None:
    deal_row()
    first, second = member("first", *RIGHTS), member("second", *RIGHTS)
    asked = proposed(first, price="1.265")
    assert set(asked) == set(CORRECTION().fields)
    assert (asked["status"], asked["price"], asked["proposed_by"]) == ("proposed", "1.265", "first")
    alone = send(first, "POST", f"staff/corrections/{asked['id']}/approve")
    assert (alone.status_code, told(alone)["code"]) == (422, "second_person_required")
    assert engine.commands == []
    done = told(send(second, "POST", f"staff/corrections/{asked['id']}/approve"))
    assert (done["status"], done["decided_by"]) == ("approved", "second")
    command = engine.last
    assert isinstance(command, CorrectDeal)
    people = [f"staff:{User.objects.get(username=name).pk}" for name in ("first", "second")]
    assert [command.actor, command.approved_by] == people
    assert (command.deal_id, command.account, command.price, command.reason) == (30, 1, Decimal("1.265"), "bad tick")
    assert told(send(second, "POST", f"staff/corrections/{asked['id']}/approve"))["code"] == "not_found"
    assert told(send(second, "GET", "staff/corrections"))["data"] == [done]


def test_a_correction_can_be_tried_again_until_the_engine_has_answered(engine: EngineOnPaper, carla: Browser) -> None:
    deal_row()
    first, second = member("first", *RIGHTS), member("second", *RIGHTS)
    number = proposed(first)["id"]
    engine.answers = [None, Answer(command_id="", refusal="deal_not_correctable", detail="it is closed")]
    assert told(send(second, "POST", f"staff/corrections/{number}/approve"))["code"] == "timeout_unknown"
    assert DealCorrection.objects.get().status == "proposed"
    assert told(send(second, "POST", f"staff/corrections/{number}/approve"))["code"] == "deal_not_correctable"
    assert {command.key for command in engine.commands} == {f"correction/{number}"}
    ended = DealCorrection.objects.get()
    assert (ended.status, ended.refusal) == ("refused", "deal_not_correctable")


def test_a_proposed_correction_is_dropped(engine: EngineOnPaper, carla: Browser) -> None:
    deal_row()
    first = member("first", *RIGHTS)
    number = proposed(first)["id"]
    assert told(send(first, "POST", f"staff/corrections/{number}/reject"))["status"] == "rejected"
    assert told(send(first, "POST", f"staff/corrections/{number}/reject"))["code"] == "not_found"
    missing = send(first, "POST", "staff/deals/31/corrections", {"reason": "x"})
    assert told(missing)["code"] == "deal_not_found"
    assert told(send(first, "POST", "staff/deals/30/corrections", {"reason": " "}))["code"] == "invalid_request"
    assert engine.commands == []
