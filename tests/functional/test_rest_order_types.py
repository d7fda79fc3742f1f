"""Limit, stop and stop-limit orders over REST: placed, resting, reached by the market, changed, taken back, expired; and
stop loss, take profit and trailing stop.

All of it is carla's, in GBPUSD: the desk shows 1.26500/1.26512, her group's markup makes that 1.26499/1.26513, and the
rules send her to the house, which deals at what she sees.
"""

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from apps.doors.schema import ORDER, POSITION
from tests.functional.conftest import BEN, House, fresh_id
from tests.functional.test_rest_orders import SECRETS, fill_as_provider
from tests.waiting import eventually

CARLA = 10003
SYMBOL = "GBPUSD"
BID, ASK = "1.26499", "1.26513"
"""What carla sees while nothing moves."""
PLAIN = {"guaranteed": False, "trigger": None}
"""A stop loss without guarantee that watches the price as the symbol does."""


@pytest.fixture
def carla(house: House) -> Iterator[httpx.Client]:
    """A retail client with account 10003 in USD, far from her limits. What she leaves resting is taken back."""
    house.redis.delete(f"limit:orders:account:{CARLA}", f"limit:closes:account:{CARLA}")
    with house.client("carla") as client:
        house.desk.settle()
        eventually(lambda: _sees(client, BID))
        yield client
        client.delete("/v1/orders", params={"account": CARLA})
        house.desk.settle()


def _sees(client: httpx.Client, bid: str) -> bool:
    answer = client.get("/v1/quotes", params={"symbols": SYMBOL})
    return answer.status_code == 200 and answer.json()["data"][0]["bid"] == bid


def body(**changes: Any) -> dict[str, Any]:
    return {"account": CARLA, "symbol": SYMBOL, "side": "buy", "volume": "0.10", **changes}


def place(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/v1/orders", json=body(**changes))


def rest(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    """An order that rests: a buy limit far below the market unless the test says otherwise."""
    answer = place(client, **{"type": "limit", "price": "1.20000", **changes})
    assert (answer.status_code, answer.json()["status"]) == (201, "new"), answer.text
    return dict(answer.json())


def open_position(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = place(client, **changes)
    assert (answer.status_code, answer.json()["status"]) == (201, "filled"), answer.text
    return dict(client.get(f"/v1/positions/{answer.json()['position_id']}").json())


def order_now(client: httpx.Client, order: dict[str, Any]) -> dict[str, Any]:
    return dict(client.get(f"/v1/orders/{order['id']}").json())


def becomes(client: httpx.Client, order: dict[str, Any], status: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        now = order_now(client, order)
        return now if now["status"] == status else None

    return eventually(look)


def open_tickets(client: httpx.Client) -> list[int]:
    listed = client.get("/v1/orders", params={"status": "open", "account": CARLA}).json()["data"]
    return [order["ticket"] for order in listed]


def soon(**ahead: float) -> str:
    return (datetime.now(tz=UTC) + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- resting, and the market coming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "terms", "market", "dealt"),
    [
        ("buy", {"type": "limit", "price": "1.26400"}, ("1.26380", "1.26390"), "1.26391"),
        ("sell", {"type": "limit", "price": "1.26600"}, ("1.26620", "1.26630"), "1.26619"),
        ("buy", {"type": "stop", "stop_price": "1.26600"}, ("1.26610", "1.26620"), "1.26621"),
        ("sell", {"type": "stop", "stop_price": "1.26400"}, ("1.26380", "1.26390"), "1.26379"),
        ("buy", {"type": "stop_limit", "stop_price": "1.26600", "price": "1.26630"}, ("1.26610", "1.26620"), "1.26621"),
        (
            "sell",
            {"type": "stop_limit", "stop_price": "1.26400", "price": "1.26370"},
            ("1.26380", "1.26390"),
            "1.26379",
        ),
    ],
)
def test_an_order_rests_until_the_market_comes_to_it(
    house: House, carla: httpx.Client, side: str, terms: dict[str, str], market: tuple[str, str], dealt: str
) -> None:
    answer = place(carla, side=side, **terms)
    order = answer.json()
    assert (answer.status_code, order["status"], order["reason"]) == (201, "new", "client")
    assert {name: order[name] for name in terms} == terms
    assert (order["time_in_force"], order["expires_at"], order["position_id"]) == ("gtc", None, None)
    assert order["ticket"] in open_tickets(carla)
    assert order_now(carla, order) == order
    assert set(order) == set(ORDER().fields)
    house.desk.move(SYMBOL, *market)
    filled = becomes(carla, order, "filled")
    assert (filled["avg_price"], filled["filled_volume"]) == (dealt, "0.10")
    assert order["ticket"] not in open_tickets(carla)
    assert not any(secret in json.dumps([order, filled]) for secret in SECRETS)


def test_a_stop_limit_that_the_market_jumped_over_waits_at_its_limit(house: House, carla: httpx.Client) -> None:
    order = rest(carla, type="stop_limit", stop_price="1.26600", price="1.26630")
    house.desk.move(SYMBOL, "1.26700", "1.26710")
    eventually(lambda: house.sql("SELECT is_triggered FROM trade_order WHERE id = %s", order["ticket"])[0][0])
    assert order_now(carla, order)["status"] == "new"
    house.desk.move(SYMBOL, "1.26615", "1.26625")
    assert becomes(carla, order, "filled")["avg_price"] == "1.26626"


@pytest.mark.parametrize("life", ["gtc", "ioc", "fok"])
def test_a_limit_that_the_market_meets_is_dealt_at_once_at_the_markets_price(carla: httpx.Client, life: str) -> None:
    order = place(carla, type="limit", price="1.27000", time_in_force=life).json()
    assert (order["status"], order["avg_price"], order["time_in_force"]) == ("filled", ASK, life)


@pytest.mark.parametrize("life", ["ioc", "fok"])
def test_an_immediate_limit_whose_price_is_not_there_is_canceled(carla: httpx.Client, life: str) -> None:
    answer = place(carla, type="limit", price="1.26000", time_in_force=life)
    order = answer.json()
    assert (answer.status_code, order["status"], order["reject"]["code"]) == (201, "canceled", "price_changed")
    assert order["ticket"] not in open_tickets(carla)


def test_a_market_order_is_dealt_within_its_slippage_and_not_beyond(carla: httpx.Client) -> None:
    near = place(carla, price="1.26510", max_slippage=3)
    assert (near.status_code, near.json()["avg_price"], near.json()["max_slippage"]) == (201, ASK, 3)
    far = place(carla, price="1.26510", max_slippage="2")
    assert (far.status_code, far.json()["code"]) == (422, "price_changed")
    assert far.json()["order"]["status"] == "rejected"


def test_a_resting_order_sent_again_is_the_same_order(carla: httpx.Client) -> None:
    name = fresh_id("rest")
    first = place(carla, type="limit", price="1.20000", client_order_id=name)
    again = place(carla, type="limit", price="1.2", client_order_id=name)
    other = place(carla, type="limit", price="1.20001", client_order_id=name)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json() == first.json()


def test_a_resting_order_is_answered_at_once_however_long_one_would_wait(carla: httpx.Client) -> None:
    answer = carla.post("/v1/orders", json=body(type="limit", price="1.20000"), headers={"Prefer": "wait=10"})
    assert answer.status_code == 201
    assert answer.elapsed < timedelta(seconds=5)


def test_the_short_address_is_for_market_orders_only(carla: httpx.Client) -> None:
    limit = carla.post("/api/orders/market", json=body(type="limit", price="1.20000"))
    assert (limit.status_code, limit.json()["errors"][0]["pointer"]) == (422, "/type")
    market = carla.post("/api/orders/market", json=body(stop_loss={"distance": 500}))
    assert (market.status_code, market.json()["type"], market.json()["status"]) == (201, "market", "filled")


# --- changing -----------------------------------------------------------------------------------------------------------


def test_a_resting_order_gets_new_terms_one_by_one(carla: httpx.Client) -> None:
    order = rest(carla, stop_loss={"distance": 100})
    address, expiry = f"/v1/orders/{order['ticket']}", soon(hours=1)
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"price": "1.21"}, {"price": "1.21000"}),
        ({"volume": "0.20"}, {"volume": "0.20", "quantity": "20000"}),
        ({"expires_at": expiry}, {"expires_at": expiry, "time_in_force": "gtd"}),
        ({"expires_at": None}, {"expires_at": None, "time_in_force": "gtc"}),
        ({"take_profit": {"price": "1.25"}}, {"take_profit": {"price": "1.25000", "distance": None}}),
        (
            {"trailing_stop": {"distance": 50, "step": 5}},
            {"trailing_stop": {"distance": 50, "step": 5, "activation": None}},
        ),
        ({"stop_loss": None}, {"stop_loss": None}),
    ]
    expected = order
    for change, seen in steps:
        answer = carla.patch(address, json=change)
        expected = {**expected, **seen}
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert {**told, "updated_at": ""} == {**expected, "updated_at": ""}
        assert order_now(carla, order) == told


def test_a_change_that_changes_nothing_is_answered_with_the_order(carla: httpx.Client) -> None:
    order = rest(carla)
    for change in ({}, {"price": "1.2"}, {"volume": 0.1, "expires_at": None}, {"stop_loss": None}):
        answer = carla.patch(f"/v1/orders/{order['id']}", json=change)
        assert (answer.status_code, answer.json()) == (200, order)


def test_an_order_moved_to_the_market_is_dealt(carla: httpx.Client) -> None:
    order = rest(carla)
    answer = carla.patch(f"/v1/orders/{order['id']}", json={"price": "1.27000"})
    assert (answer.status_code, answer.json()["status"], answer.json()["avg_price"]) == (200, "filled", ASK)
    late = carla.patch(f"/v1/orders/{order['id']}", json={"price": "1.20000"})
    assert (late.status_code, late.json()["code"]) == (404, "order_not_found")
    assert late.json()["detail"] == "The order is filled already."


def test_a_change_under_one_key_happens_once(house: House, carla: httpx.Client) -> None:
    order = rest(carla)
    address, headers = f"/v1/orders/{order['id']}", {"Idempotency-Key": fresh_id("change")}
    first = carla.patch(address, json={"price": "1.21000"}, headers=headers)
    carla.patch(address, json={"price": "1.22000"})
    again = carla.patch(address, json={"price": "1.21000"}, headers=headers)
    assert (again.status_code, again.content) == (200, first.content)
    other = carla.patch(address, json={"price": "1.23000"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    house.sql("DELETE FROM doors_idempotentresponse WHERE key = %s", headers["Idempotency-Key"])
    forgotten = carla.patch(address, json={"price": "1.21000"}, headers=headers)
    assert (forgotten.status_code, forgotten.json()["price"]) == (200, "1.22000")
    house.sql("DELETE FROM doors_idempotentresponse WHERE key = %s", headers["Idempotency-Key"])
    forgotten_too = carla.patch(address, json={"price": "1.23000"}, headers=headers)
    assert (forgotten_too.status_code, forgotten_too.json()["code"]) == (422, "idempotency_key_reused")
    assert order_now(carla, order)["price"] == "1.22000"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"stop_price": "1.30000"}, "invalid_price"),
        ({"price": "1.200001"}, "invalid_price"),
        ({"volume": "0.015"}, "invalid_volume"),
        ({"volume": "1000"}, "invalid_volume"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "invalid_expiration"),
        ({"stop_loss": {"price": "1.21000"}}, "invalid_stops"),
        ({"take_profit": {"price": "1.19000"}}, "invalid_stops"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(carla: httpx.Client, change: dict[str, Any], code: str) -> None:
    order = rest(carla)
    answer = carla.patch(f"/v1/orders/{order['id']}", json=change)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert order_now(carla, order) == order


def test_a_resting_order_holds_its_margin_and_gives_it_back(carla: httpx.Client) -> None:
    def margin() -> Decimal:
        return Decimal(carla.get(f"/v1/accounts/{CARLA}").json()["margin"])

    before = margin()
    order = rest(carla)
    assert margin() == before + Decimal("120.00"), "10,000 x 1.20000 at 100"
    carla.patch(f"/v1/orders/{order['id']}", json={"volume": "0.20"})
    assert margin() == before + Decimal("240.00")
    carla.delete(f"/v1/orders/{order['id']}")
    assert margin() == before


# --- taking back --------------------------------------------------------------------------------------------------------


def test_an_order_is_taken_back_once_and_saying_it_again_is_no_error(carla: httpx.Client) -> None:
    name = fresh_id("back")
    order = rest(carla, client_order_id=name)
    first = carla.delete(f"/v1/orders/client:{name}")
    assert (first.status_code, first.json()["status"], first.json()["reject"]) == (200, "canceled", None)
    again = carla.delete(f"/v1/orders/{order['ticket']}", headers={"Idempotency-Key": fresh_id()})
    assert (again.status_code, again.json()) == (200, first.json())
    assert order["ticket"] not in open_tickets(carla)


def test_a_filled_order_cannot_be_taken_back(carla: httpx.Client) -> None:
    order = place(carla).json()
    answer = carla.delete(f"/v1/orders/{order['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "order_not_found")
    assert answer.json()["detail"] == "The order is filled already."


def test_a_lost_answer_to_a_take_back_is_unknown_and_asking_again_settles_it(house: House, carla: httpx.Client) -> None:
    order = rest(carla)
    os.kill(house.engine.pid, signal.SIGSTOP)
    try:
        lost = carla.delete(f"/v1/orders/{order['id']}")
    finally:
        os.kill(house.engine.pid, signal.SIGCONT)
    assert (lost.status_code, lost.json()["code"]) == (504, "timeout_unknown")
    again = carla.delete(f"/v1/orders/{order['id']}")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")


def test_all_resting_orders_are_taken_back_or_those_of_a_symbol(carla: httpx.Client) -> None:
    pounds = [rest(carla), rest(carla)]
    francs = rest(carla, symbol="USDCHF", price="0.80000")
    answer = carla.delete("/v1/orders", params={"account": CARLA, "symbol": SYMBOL})
    assert (answer.status_code, answer.json()) == (200, {"canceled": 2})
    assert [order_now(carla, order)["status"] for order in (*pounds, francs)] == ["canceled", "canceled", "new"]
    assert carla.delete("/v1/orders", params={"account": CARLA}).json() == {"canceled": 1}
    assert carla.delete("/v1/orders", params={"account": CARLA}).json() == {"canceled": 0}
    assert open_tickets(carla) == []


def test_taking_all_back_under_one_key_counts_the_query_too(house: House, carla: httpx.Client) -> None:
    headers = {"Idempotency-Key": fresh_id("all")}
    rest(carla)
    first = carla.delete("/v1/orders", params={"account": CARLA, "symbol": SYMBOL}, headers=headers)
    rest(carla)
    again = carla.delete("/v1/orders", params={"account": CARLA, "symbol": SYMBOL}, headers=headers)
    other = carla.delete("/v1/orders", params={"account": CARLA}, headers=headers)
    assert (first.json(), again.content) == ({"canceled": 1}, first.content)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    house.sql("DELETE FROM doors_idempotentresponse WHERE key = %s", headers["Idempotency-Key"])
    forgotten = carla.delete("/v1/orders", params={"account": CARLA, "symbol": SYMBOL}, headers=headers)
    assert forgotten.json() == {"canceled": 1}
    assert len(open_tickets(carla)) == 1


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "invalid_request"),
        ("account=x", 422, "invalid_request"),
        ("account=10003&symbol=EURXXX", 404, "unknown_symbol"),
        ("account=10003&symbol=", 422, "invalid_request"),
        ("account=10003&symbol=gbp%00", 422, "invalid_request"),
        ("account=10003&side=buy", 422, "invalid_request"),
        ("account=10001", 404, "unknown_account"),
        ("account=19999", 404, "unknown_account"),
    ],
)
def test_taking_all_back_says_exactly_whose_and_what(carla: httpx.Client, query: str, status: int, code: str) -> None:
    order = rest(carla)
    answer = carla.delete(f"/v1/orders?{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert order_now(carla, order)["status"] == "new"


def test_a_client_at_its_limit_can_still_take_back_and_protect(carla: httpx.Client) -> None:
    account = carla.post("/v1/accounts", json={"currency": "USD", "leverage": 30}).json()["id"]
    money = {"account": account, "amount": "5000.00"}
    assert carla.post("/v1/user/deposit", json=money, headers={"Idempotency-Key": fresh_id()}).status_code == 201
    order, position = rest(carla, account=account), open_position(carla, account=account)
    for _ in range(120):
        if place(carla, account=account, symbol="NOTHING").status_code == 429:
            break
    else:
        raise AssertionError("the limit was never reached")
    protected = carla.patch(f"/v1/positions/{position['id']}", json={"stop_loss": {"price": "1.20000"}})
    assert protected.status_code == 200
    assert carla.delete(f"/v1/orders/{order['id']}").status_code == 200
    assert carla.delete("/v1/orders", params={"account": account}).status_code == 200


def test_an_order_at_a_provider_is_locked_until_the_provider_has_spoken(house: House, ben: httpx.Client) -> None:
    limit = {"account": BEN, "symbol": SYMBOL, "side": "buy", "volume": "0.10", "type": "limit", "price": "1.26600"}
    answer = ben.post("/v1/orders", json=limit, headers={"Prefer": "wait=0"})
    order = answer.json()
    assert (answer.status_code, order["status"]) == (202, "pending_new")
    for refused in (
        ben.delete(f"/v1/orders/{order['id']}"),
        ben.patch(f"/v1/orders/{order['id']}", json={"price": "1"}),
    ):
        assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (409, "order_locked", True)
    fill_as_provider(house, order["ticket"], price="1.26511")
    filled = becomes(ben, order, "filled")
    assert (filled["avg_price"], filled["price"]) == ("1.26511", "1.26600")


# --- expiring -----------------------------------------------------------------------------------------------------------


def expire(house: House) -> int:
    """One round of the task that beat starts every few seconds; how many orders it ended."""
    code = "from apps.operations.tasks import expire_orders; print('ended', expire_orders())"
    return int(house.manage("shell", "-v", "0", "-c", code).rpartition("ended ")[2])


def test_an_order_that_is_good_till_a_time_ends_then_and_is_not_dealt_after(house: House, carla: httpx.Client) -> None:
    expiry = soon(seconds=1)
    order = rest(carla, time_in_force="gtd", expires_at=expiry, price="1.26400")
    keeps = rest(carla, time_in_force="gtd", expires_at=soon(hours=1))
    assert (order["time_in_force"], order["expires_at"]) == ("gtd", expiry)
    eventually(lambda: carla.get("/v1/time").json()["business_time"] > expiry)
    house.desk.move(SYMBOL, "1.26000", "1.26010")
    later = rest(carla, price="1.25000")
    assert expire(house) == 1
    ended = order_now(carla, order)
    assert (ended["status"], ended["filled_volume"]) == ("expired", "0.00")
    assert sorted(open_tickets(carla)) == [keeps["ticket"], later["ticket"]]
    assert expire(house) == 0
    answer = carla.delete(f"/v1/orders/{order['id']}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "The order is expired already.")


def test_an_order_for_the_day_is_told_when_its_day_ends(carla: httpx.Client) -> None:
    order = rest(carla, time_in_force="day")
    assert order["time_in_force"] == "day"
    assert soon() < order["expires_at"]
    for_good = carla.patch(f"/v1/orders/{order['id']}", json={"expires_at": None}).json()
    assert (for_good["time_in_force"], for_good["expires_at"]) == ("gtc", None)


# --- protection ---------------------------------------------------------------------------------------------------------


def closing_order(client: httpx.Client, position: dict[str, Any]) -> dict[str, Any]:
    """The order that closed the position, once it is closed."""

    def look() -> dict[str, Any] | None:
        orders = client.get("/v1/orders", params={"account": CARLA, "symbol": SYMBOL}).json()["data"]
        return next((o for o in orders if o["position_id"] == position["id"] and o["reduce_only"]), None)

    return eventually(look)


@pytest.mark.parametrize(
    ("side", "protection", "shown", "market", "reason", "dealt"),
    [
        ("buy", {"stop_loss": {"distance": 200}}, "1.26313", ("1.26300", "1.26310"), "stop_loss", "1.26299"),
        ("buy", {"stop_loss": {"price": "1.26300"}}, "1.26300", ("1.26290", "1.26300"), "stop_loss", "1.26289"),
        ("buy", {"take_profit": {"distance": "100"}}, "1.26613", ("1.26620", "1.26630"), "take_profit", "1.26619"),
        ("sell", {"stop_loss": {"distance": 200}}, "1.26699", ("1.26700", "1.26710"), "stop_loss", "1.26711"),
        ("sell", {"take_profit": {"price": "1.26300"}}, "1.26300", ("1.26280", "1.26290"), "take_profit", "1.26291"),
    ],
)
def test_a_position_opened_with_protection_is_closed_by_it(
    house: House,
    carla: httpx.Client,
    side: str,
    protection: dict[str, Any],
    shown: str,
    market: tuple[str, str],
    reason: str,
    dealt: str,
) -> None:
    position = open_position(carla, side=side, **protection)
    [name] = protection
    assert (position[name]["price"], position[name]["distance"]) == (shown, None)
    assert set(position) == set(POSITION().fields)
    house.desk.move(SYMBOL, *market)
    closed = closing_order(carla, position)
    assert (closed["reason"], closed["status"], closed["avg_price"]) == (reason, "filled", dealt)
    assert carla.get(f"/v1/positions/{position['id']}").json()["status"] == "closed"


def test_protection_asked_for_with_a_resting_order_is_its_positions(house: House, carla: httpx.Client) -> None:
    protection = {
        "stop_loss": {"distance": 300},
        "take_profit": {"price": "1.27000"},
        "trailing_stop": {"distance": 400},
    }
    order = rest(carla, price="1.26400", **protection)
    assert order["stop_loss"] == {"price": None, "distance": 300, **PLAIN}
    assert order["take_profit"] == {"price": "1.27000", "distance": None}
    assert order["trailing_stop"] == {"distance": 400, "step": 0, "activation": None}
    house.desk.move(SYMBOL, "1.26380", "1.26390")
    filled = becomes(carla, order, "filled")
    position = carla.get(f"/v1/positions/{filled['position_id']}").json()
    assert position["stop_loss"] == {"price": "1.26091", "distance": None, **PLAIN}
    assert position["take_profit"] == order["take_profit"]
    assert position["trailing_stop"] == order["trailing_stop"]


def test_a_positions_protection_is_set_kept_and_removed_part_by_part(carla: httpx.Client) -> None:
    position = open_position(carla)
    assert (position["stop_loss"], position["take_profit"], position["trailing_stop"]) == (None, None, None)
    stop, target = {"price": "1.25000", "distance": None, **PLAIN}, {"price": "1.28000", "distance": None}
    trail = {"distance": 900, "step": 10, "activation": None}
    by_points = {"price": "1.26213", "distance": None, **PLAIN}
    steps: list[tuple[dict[str, Any], tuple[Any, Any, Any]]] = [
        ({"stop_loss": {"price": "1.25"}}, (stop, None, None)),
        ({"take_profit": {"price": "1.28"}}, (stop, target, None)),
        ({"stop_loss": {"distance": 300}}, (by_points, target, None)),
        ({"trailing_stop": trail}, (by_points, target, trail)),
        ({"trailing_stop": None, "stop_loss": stop}, (stop, target, None)),
        ({"stop_loss": None}, (None, target, None)),
        ({"take_profit": None}, (None, None, None)),
    ]
    for change, expected in steps:
        answer = carla.patch(f"/v1/positions/{position['id']}", json=change)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["stop_loss"], told["take_profit"], told["trailing_stop"]) == expected
        assert carla.get(f"/v1/positions/{position['id']}").json() == told
    unchanged = carla.patch(f"/v1/positions/{position['id']}", json={"stop_loss": None})
    assert (unchanged.status_code, unchanged.json()) == (200, told)


def test_a_trailing_stop_follows_the_price_and_closes_where_it_stands(house: House, carla: httpx.Client) -> None:
    position = open_position(carla, trailing_stop={"distance": 100})
    address = f"/v1/positions/{position['id']}"
    house.desk.move(SYMBOL, "1.26800", "1.26810")
    eventually(lambda: (carla.get(address).json()["stop_loss"] or {}).get("price") == "1.26699")
    house.desk.move(SYMBOL, "1.26750", "1.26760")
    house.desk.move(SYMBOL, "1.26690", "1.26700")
    closed = closing_order(carla, position)
    assert (closed["reason"], closed["avg_price"]) == ("stop_loss", "1.26689")


@pytest.mark.parametrize(
    "protection",
    [
        {"stop_loss": {"price": "1.26500"}},
        {"take_profit": {"price": "1.26499"}},
        {"stop_loss": {"price": "1.250001"}},
        {"stop_loss": {"distance": 14}},
    ],
)
def test_protection_that_would_fire_at_once_is_refused(carla: httpx.Client, protection: dict[str, Any]) -> None:
    refused = place(carla, **protection)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_stops")
    assert refused.json()["order"]["status"] == "rejected"
    position = open_position(carla)
    later = carla.patch(f"/v1/positions/{position['id']}", json=protection)
    assert (later.status_code, later.json()["code"]) == (422, "invalid_stops")
    assert carla.get(f"/v1/positions/{position['id']}").json() == position


def test_a_closed_position_cannot_be_protected(carla: httpx.Client) -> None:
    position = open_position(carla)
    assert carla.post(f"/v1/positions/{position['id']}/close").status_code == 201
    answer = carla.patch(f"/v1/positions/{position['id']}", json={"stop_loss": {"price": "1.20000"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "position_closed")


# --- others -------------------------------------------------------------------------------------------------------------


def test_nobody_changes_or_takes_back_what_is_anothers(carla: httpx.Client, ben: httpx.Client) -> None:
    order, position = rest(carla), open_position(carla)
    attempts = [
        (ben.delete(f"/v1/orders/{order['id']}"), "order_not_found"),
        (ben.delete(f"/v1/orders/{order['ticket']}"), "order_not_found"),
        (ben.delete(f"/v1/orders/client:{order['client_order_id']}"), "order_not_found"),
        (ben.patch(f"/v1/orders/{order['id']}", json={"price": "1.10000"}), "order_not_found"),
        (ben.patch(f"/v1/positions/{position['id']}", json={"stop_loss": {"price": "1.1"}}), "not_found"),
        (ben.delete("/v1/orders", params={"account": CARLA}), "unknown_account"),
        (ben.post("/v1/orders", json=body(type="limit", price="1.20000")), "unknown_account"),
    ]
    for answer, code in attempts:
        assert (answer.status_code, answer.json()["code"]) == (404, code)
        assert "1.2" not in answer.text
    assert order_now(carla, order) == order
    assert carla.get(f"/v1/positions/{position['id']}").json() == position


# --- bad input ----------------------------------------------------------------------------------------------------------

NOT_PRICES = ["0", "-1", "NaN", "Infinity", "1e5", "1_0", "٣", "", " 1", "1" * 19, "1000000000.1", True, [], {}]
NOT_POINTS = ["-1", "1.5", 1.5, "1e3", "x", "", True, [], {}, 10_000_001, "9" * 400]
NOT_TIMES = [
    "2026", "2026-01-31", "2026-01-31 12:00:00Z", "2026-01-31T12:00:00", "2026-01-31T12:00:00+00:00", "2026-02-30T12:00:00Z",
    "2026-01-31T25:00:00Z", "2026-01-31T12:00:00.1234567Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
    "0000-01-01T00:00:00Z", "２026-01-31T12:00:00Z", 1_790_000_000, True, [], {},
]  # fmt: skip
BAD: list[tuple[str, list[Any], str]] = [
    ("/price", NOT_PRICES, "invalid_price"),
    ("/stop_price", NOT_PRICES, "invalid_price"),
    ("/expires_at", NOT_TIMES, "invalid_expiration"),
    ("/stop_loss/price", NOT_PRICES, "invalid_stops"),
    ("/take_profit/price", NOT_PRICES, "invalid_stops"),
    ("/stop_loss/distance", ["0", 0, *NOT_POINTS], "invalid_stops"),
    ("/take_profit/distance", ["0", 0, *NOT_POINTS], "invalid_stops"),
    ("/trailing_stop/distance", [0, None, *NOT_POINTS], "invalid_stops"),
    (
        "/stop_loss",
        [{}, {"price": None}, {"price": "1.2", "distance": 5}, {"price": None, "distance": None}],
        "invalid_stops",
    ),
    ("/stop_loss", ["1.2", 1, [], True], "invalid_request"),
    ("/take_profit", ["1.3", False, []], "invalid_request"),
    ("/trailing_stop", ["100", 100, []], "invalid_request"),
    ("/stop_loss/points", ["1"], "invalid_request"),
    ("/trailing_stop/price", ["1"], "invalid_request"),
]
BAD_IN_ORDERS: list[tuple[str, list[Any], str]] = [
    *BAD,
    ("/type", ["", "MARKET", "close_by", None, 1, []], "invalid_request"),
    ("/time_in_force", ["", "GTC", "week", 1, [], {}], "invalid_request"),
    ("/max_slippage", NOT_POINTS, "invalid_request"),
    ("/reason", ["stop_loss"], "invalid_request"),
]
BAD_IN_CHANGES: list[tuple[str, list[Any], str]] = [
    *BAD,
    ("/price", [None], "invalid_price"),
    ("/stop_price", [None], "invalid_price"),
    ("/volume", [None, *NOT_PRICES], "invalid_volume"),
    ("/type", ["market"], "invalid_request"),
    ("/time_in_force", ["gtc"], "invalid_request"),
    ("/max_slippage", [1], "invalid_request"),
    ("/status", ["filled"], "invalid_request"),
]
BAD_IN_PROTECTION: list[tuple[str, list[Any], str]] = [
    *(line for line in BAD if line[0].startswith(("/stop_loss", "/take_profit", "/trailing_stop"))),
    ("/volume", ["0.10"], "invalid_request"),
    ("/price", ["1.2"], "invalid_request"),
]


def nested(pointer: str, value: Any) -> dict[str, Any]:
    """A body in which only this is wrong: what else its object needs is there."""
    _, name, *inner = pointer.split("/")
    if not inner:
        return {name: value}
    needs_distance = name == "trailing_stop" or inner[0] == "points"
    return {name: {**({"distance": 9} if needs_distance else {}), inner[0]: value}}


def assert_refused(answer: httpx.Response, pointer: str, value: Any, code: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, code), (pointer, value, answer.text)
    assert [error["pointer"] for error in problem["errors"]] == [pointer], (pointer, value)


@pytest.mark.parametrize(("pointer", "values", "code"), BAD_IN_ORDERS, ids=lambda value: str(value)[:24])
def test_every_field_of_an_order_is_read_strictly(
    house: House, carla: httpx.Client, pointer: str, values: list[Any], code: str
) -> None:
    before = house.sql("SELECT count(*) FROM trade_order WHERE account = %s", CARLA)
    for value in values:
        assert_refused(place(carla, **nested(pointer, value)), pointer, value, code)
    assert house.sql("SELECT count(*) FROM trade_order WHERE account = %s", CARLA) == before


@pytest.mark.parametrize(("pointer", "values", "code"), BAD_IN_CHANGES, ids=lambda value: str(value)[:24])
def test_every_field_of_a_change_is_read_strictly(
    carla: httpx.Client, pointer: str, values: list[Any], code: str
) -> None:
    order = rest(carla)
    for value in values:
        answer = carla.patch(f"/v1/orders/{order['id']}", json=nested(pointer, value))
        assert_refused(answer, pointer, value, code)
    assert order_now(carla, order) == order


@pytest.mark.parametrize(("pointer", "values", "code"), BAD_IN_PROTECTION, ids=lambda value: str(value)[:24])
def test_every_field_of_a_positions_protection_is_read_strictly(
    carla: httpx.Client, pointer: str, values: list[Any], code: str
) -> None:
    position = open_position(carla)
    for value in values:
        answer = carla.patch(f"/v1/positions/{position['id']}", json=nested(pointer, value))
        assert_refused(answer, pointer, value, code)
    assert carla.get(f"/v1/positions/{position['id']}").json() == position


def test_what_makes_no_sense_together_is_refused_and_kept(carla: httpx.Client) -> None:
    table: list[tuple[dict[str, Any], str]] = [
        ({"type": "limit"}, "invalid_price"),
        ({"type": "stop", "price": "1.3"}, "invalid_price"),
        ({"type": "stop_limit", "price": "1.3"}, "invalid_price"),
        ({"type": "limit", "price": "1.2", "stop_price": "1.3"}, "invalid_price"),
        ({"price": "1.2"}, "invalid_price"),
        ({"type": "limit", "price": "1.200001"}, "invalid_price"),
        ({"type": "stop", "stop_price": "1.2"}, "invalid_price"),
        ({"time_in_force": "gtc"}, "invalid_fill"),
        ({"type": "stop", "stop_price": "1.3", "time_in_force": "ioc"}, "invalid_fill"),
        ({"type": "limit", "price": "1.2", "time_in_force": "gtd"}, "invalid_expiration"),
        ({"type": "limit", "price": "1.2", "expires_at": soon(hours=1)}, "invalid_expiration"),
        (
            {"type": "limit", "price": "1.2", "time_in_force": "gtd", "expires_at": "2020-01-01T00:00:00Z"},
            "invalid_expiration",
        ),
        ({"max_slippage": 5}, "invalid_request"),
        ({"type": "limit", "price": "1.2", "max_slippage": 5}, "invalid_request"),
    ]
    for terms, code in table:
        answer = place(carla, **terms)
        assert (answer.status_code, answer.json()["code"]) == (422, code), (terms, answer.text)
        kept = answer.json()["order"]
        assert kept["status"] == "rejected"
        assert order_now(carla, kept) == kept
