"""Orders as a client meets them over REST: placed, told, found again, closed, paid for."""

import json
import os
import signal
from decimal import Decimal
from typing import Any

import httpx
import pytest

from apps.doors.schema import DEAL, ENTRY, ORDER, POSITION
from bus import codec, names
from bus.clock import wall
from tests.functional.conftest import ANNA, BEN, PRICES, House, fresh_id, market_order
from tests.waiting import eventually
from trading.liquidity import ExecutionReport, ReportKind
from trading.orders import Side

SECRETS = ("YOFX1", "PRIMEXM", '"book"', "volume_a", "lp_price", "attempts", "markup")
"""What no trader is ever shown."""


def place(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/v1/orders", json=market_order(**changes))


def test_a_small_retail_order_is_filled_by_the_house_at_the_marked_up_price(anna: httpx.Client) -> None:
    answer = place(anna, volume="0.10", comment="first")
    order = answer.json()
    assert answer.status_code == 201
    assert order["status"] == "filled"
    assert order["avg_price"] == "1.08512"
    assert (order["volume"], order["quantity"], order["filled_volume"]) == ("0.10", "10000", "0.10")
    assert answer.headers["Location"] == f"/v1/orders/{order['id']}"
    assert not any(secret in answer.text for secret in SECRETS)


def test_what_is_answered_is_what_is_documented(anna: httpx.Client) -> None:
    order = place(anna).json()
    deal = anna.get("/v1/deals", params={"order_ticket": order["ticket"]}).json()["data"][0]
    position = anna.get(f"/v1/positions/{order['position_id']}").json()
    entry = anna.get("/v1/ledger").json()["data"][0]
    for shown, shape in ((order, ORDER), (deal, DEAL), (position, POSITION), (entry, ENTRY)):
        assert set(shown) == set(shape().fields)


def test_an_order_is_found_by_id_ticket_and_client_order_id(anna: httpx.Client) -> None:
    name = fresh_id()
    order = place(anna, client_order_id=name).json()
    for reference in (order["id"], order["ticket"], f"client:{name}"):
        assert anna.get(f"/v1/orders/{reference}").json() == order
    listed = anna.get("/v1/orders", params={"client_order_id": name, "status": "closed"}).json()["data"]
    assert listed == [order]


def test_the_same_order_again_is_answered_with_the_order_and_another_one_is_refused(anna: httpx.Client) -> None:
    name = fresh_id()
    first = place(anna, client_order_id=name, volume="0.10")
    same = place(anna, client_order_id=name, volume=0.1)
    other = place(anna, client_order_id=name, volume="0.20")
    assert (first.status_code, same.status_code, other.status_code) == (201, 200, 409)
    assert same.json() == first.json()
    assert other.json()["code"] == "client_order_id_reused"
    assert len(anna.get("/v1/orders", params={"client_order_id": name}).json()["data"]) == 1


def test_an_idempotency_key_gets_the_same_bytes(anna: httpx.Client) -> None:
    headers = {"Idempotency-Key": fresh_id()}
    first = anna.post("/v1/orders", json=market_order(), headers=headers)
    again = anna.post("/v1/orders", json=market_order(), headers=headers)
    other = anna.post("/v1/orders", json=market_order(volume="0.20"), headers=headers)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_the_short_address_places_the_same_order(anna: httpx.Client) -> None:
    answer = anna.post("/api/orders/market", json=market_order(side="sell"))
    assert (answer.status_code, answer.json()["avg_price"]) == (201, "1.08498")


def test_quantity_is_lots_times_the_contract(anna: httpx.Client) -> None:
    body = {"account": ANNA, "symbol": "XAUUSD", "side": "buy", "quantity": "1"}
    order = anna.post("/v1/orders", json=body).json()
    assert (order["volume"], order["quantity"]) == ("0.01", "1")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"volume": "0.001"}, "invalid_volume"),
        ({"volume": "0.015"}, "invalid_volume"),
        ({"volume": "100.01"}, "invalid_volume"),
        ({"volume": "90"}, "insufficient_margin"),
    ],
)
def test_a_refused_order_is_kept_and_told_again(anna: httpx.Client, changes: dict[str, str], code: str) -> None:
    name = fresh_id()
    refused = place(anna, client_order_id=name, **changes)
    problem = refused.json()
    assert refused.status_code == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert problem["code"] == code
    assert problem["order"]["status"] == "rejected"
    assert problem["order"]["reject"]["code"] == code
    assert anna.get(f"/v1/orders/client:{name}").json() == problem["order"]
    again = place(anna, client_order_id=name, **changes).json()
    assert again["order"] == problem["order"]


def test_an_unknown_symbol_is_refused(anna: httpx.Client) -> None:
    answer = place(anna, symbol="EURXXX")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_symbol")


def test_a_stale_price_is_neither_shown_nor_dealt_on(house: House, anna: httpx.Client) -> None:
    house.desk.silent.add("NZDUSD")
    try:
        stale = eventually(lambda: _refused_quote(anna, "NZDUSD"))
        assert (stale["code"], stale["retryable"]) == ("no_quotes", True)
        answer = place(anna, symbol="NZDUSD")
        assert (answer.status_code, answer.json()["code"]) == (422, "no_quotes")
        several = anna.get("/v1/quotes", params={"symbols": "NZDUSD,EURUSD"}).json()["data"]
        assert [(quote["symbol"], quote["error"]) for quote in several] == [("NZDUSD", "no_quotes"), ("EURUSD", None)]
    finally:
        house.desk.silent.discard("NZDUSD")


def _refused_quote(client: httpx.Client, symbol: str) -> dict[str, Any] | None:
    answer = client.get("/v1/quotes", params={"symbols": symbol})
    return dict(answer.json()) if answer.status_code == 503 else None


def test_quotes_carry_the_groups_markup(anna: httpx.Client, ben: httpx.Client) -> None:
    retail = anna.get("/v1/quotes", params={"symbols": "EURUSD"}).json()["data"][0]
    professional = ben.get("/v1/quotes", params={"symbols": "EURUSD"}).json()["data"][0]
    assert (retail["bid"], retail["ask"]) == ("1.08498", "1.08512")
    assert (professional["bid"], professional["ask"]) == PRICES["EURUSD"]


def test_a_position_closes_in_parts_and_the_ledger_adds_up(house: House, anna: httpx.Client) -> None:
    before = Decimal(anna.get(f"/v1/accounts/{ANNA}").json()["balance"])
    opened = place(anna, volume="0.30").json()
    position = f"/v1/positions/{opened['position_id']}"
    part = anna.post(f"{position}/close", json={"volume": "0.10"})
    assert (part.status_code, part.json()["reduce_only"]) == (201, True)
    assert anna.get(position).json()["volume"] == "0.20"
    rest = anna.post(f"{position}/close")
    assert rest.json()["filled_volume"] == "0.20"
    assert anna.get(position).json()["status"] == "closed"
    deals = anna.get("/v1/deals", params={"position_id": opened["position_id"]}).json()["data"]
    moved = sum(Decimal(deal["profit"]) - Decimal(deal["commission"]) for deal in deals)
    account = anna.get(f"/v1/accounts/{ANNA}").json()
    assert Decimal(account["balance"]) == before + moved
    assert moved < 0
    posted = house.sql("SELECT currency, sum(amount) FROM ledger_posting GROUP BY currency")
    assert all(total == 0 for _, total in posted)
    again = anna.post(f"{position}/close")
    assert (again.status_code, again.json()["code"]) == (409, "position_closed")


def test_the_own_ledger_sums_to_the_balance(anna: httpx.Client) -> None:
    place(anna)
    total, cursor = Decimal(0), None
    while True:
        page = anna.get("/v1/ledger", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        total += sum((Decimal(entry["amount"]) for entry in page["data"]), Decimal(0))
        assert {entry["account"] for entry in page["data"]} <= {ANNA}
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert total == Decimal(anna.get(f"/v1/accounts/{ANNA}").json()["balance"])


def test_pages_hold_every_order_once(anna: httpx.Client) -> None:
    for _ in range(5):
        place(anna, volume="0.01")
    whole = [order["ticket"] for order in anna.get("/v1/orders", params={"limit": 500}).json()["data"]]
    paged: list[int] = []
    following: str | None = "/v1/orders?limit=2"
    while following and len(paged) < 6:
        answer = anna.get(following)
        paged += [order["ticket"] for order in answer.json()["data"]]
        following = answer.links.get("next", {}).get("url")
    assert paged == whole[: len(paged)]
    assert len(paged) == 6


def test_an_account_is_valued_at_the_clients_prices(anna: httpx.Client) -> None:
    answer = anna.post("/v1/accounts", json={"currency": "USD", "leverage": 30, "name": "valued"})
    assert answer.status_code == 201, answer.text
    account = answer.json()["id"]
    paid = anna.post(
        "/v1/user/deposit", json={"account": account, "amount": "1000.00"}, headers={"Idempotency-Key": fresh_id()}
    )
    assert (paid.status_code, paid.json()["balance"]) == (201, "1000.00")
    place(anna, account=account, volume="0.10")
    shown = anna.get(f"/v1/accounts/{account}").json()
    # Bought 0.10 at 1.08512, worth 1.08498 now; commission 0.35; margin 10,000 x 1.08512 / 30.
    assert (shown["balance"], shown["equity"]) == ("999.65", "998.25")
    assert (shown["margin"], shown["free_margin"]) == ("361.71", "636.54")
    assert shown["margin_level"] == "275.98"


def test_money_arrives_once_per_key(house: House, anna: httpx.Client) -> None:
    before = Decimal(anna.get(f"/v1/accounts/{ANNA}").json()["balance"])
    headers = {"Idempotency-Key": fresh_id("deposit")}
    body = {"account": ANNA, "amount": "25.00"}
    first = anna.post("/v1/user/deposit", json=body, headers=headers)
    again = anna.post("/v1/user/deposit", json=body, headers=headers)
    house.sql("DELETE FROM doors_idempotentresponse WHERE key = %s", headers["Idempotency-Key"])
    forgotten = anna.post("/v1/user/deposit", json=body, headers=headers)
    other = anna.post("/v1/user/deposit", json={**body, "amount": "26.00"}, headers=headers)
    assert (first.status_code, again.status_code, forgotten.status_code, other.status_code) == (201, 201, 201, 422)
    assert again.content == first.content
    assert forgotten.json()["transaction_id"] == first.json()["transaction_id"]
    assert Decimal(anna.get(f"/v1/accounts/{ANNA}").json()["balance"]) == before + 25


def test_a_deposit_needs_a_key(anna: httpx.Client) -> None:
    answer = anna.post("/v1/user/deposit", json={"account": ANNA, "amount": "1.00"})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")


@pytest.mark.parametrize("amount", ["0.001", "-5", "0", "2000000"])
def test_an_amount_is_positive_whole_cents_and_bounded(anna: httpx.Client, amount: str) -> None:
    headers = {"Idempotency-Key": fresh_id()}
    answer = anna.post("/v1/user/deposit", json={"account": ANNA, "amount": amount}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_amount")


def test_an_order_at_a_provider_works_until_the_provider_has_spoken(house: House, ben: httpx.Client) -> None:
    answer = ben.post("/v1/orders", json=market_order(account=BEN), headers={"Prefer": "wait=0"})
    order = answer.json()
    assert (answer.status_code, order["status"]) == (202, "pending_new")
    location = answer.headers["Location"]
    assert ben.get("/v1/orders", params={"status": "open"}).json()["data"] == [order]
    fill_as_provider(house, order["ticket"], price="1.08509")
    done = eventually(lambda: _final(ben, location))
    assert (done["status"], done["avg_price"]) == ("filled", "1.08509")
    assert not any(secret in json.dumps(done) for secret in SECRETS)


def _final(client: httpx.Client, location: str) -> dict[str, Any] | None:
    order = client.get(location).json()
    return dict(order) if order["status"] not in ("pending_new", "partially_filled") else None


def fill_as_provider(house: House, ticket: int, *, price: str) -> None:
    """What the provider's process does with a fill: the inbox row, committed, then the nudge."""
    [(lp, cl_ord_id, side, lp_symbol, quantity)] = house.sql(
        "SELECT lp, cl_ord_id, side, lp_symbol, quantity FROM lp_order WHERE order_id = %s", ticket
    )
    exec_id = fresh_id("exec")
    report = ExecutionReport(
        lp=lp, kind=ReportKind.FILL, cl_ord_id=cl_ord_id, exec_id=exec_id, trade_date="20260105", lp_order_id="L1",
        side=Side(side), lp_symbol=lp_symbol, last_qty=quantity, last_px=Decimal(price), cum_qty=quantity,
        ord_status="2", received_us=wall(),
    )  # fmt: skip
    house.sql(
        "INSERT INTO lp_inbox SELECT %s, coalesce(max(seq), 0) + 1, 'fill', %s, %s, '20260105', %s::json, '', now()"
        " FROM lp_inbox WHERE lp = %s",
        lp, cl_ord_id, exec_id, codec.encode(report).decode(), lp,
    )  # fmt: skip
    house.redis.publish(names.NUDGE_ENGINE, lp)


def test_a_lost_answer_is_unknown_and_found_by_its_key(house: House, anna: httpx.Client) -> None:
    """The engine sleeps through the order: the client is told 'unknown', asks again, and has one order."""
    name = fresh_id("lost")
    os.kill(house.engine.pid, signal.SIGSTOP)
    try:
        lost = anna.post("/v1/orders", json=market_order(client_order_id=name), headers={"Prefer": "wait=1"})
    finally:
        os.kill(house.engine.pid, signal.SIGCONT)
    assert (lost.status_code, lost.json()["code"]) == (504, "timeout_unknown")
    order = eventually(lambda: _placed(anna, name))
    again = place(anna, client_order_id=name)
    assert again.json().get("order", again.json()) == order
    assert len(anna.get("/v1/orders", params={"client_order_id": name}).json()["data"]) == 1


def _placed(client: httpx.Client, name: str) -> dict[str, Any] | None:
    answer = client.get(f"/v1/orders/client:{name}")
    return dict(answer.json()) if answer.status_code == 200 else None
