"""The trading rules over REST, with the real engine behind the doors: what clients ask of positions and money, and what the
desk does to accounts, symbols and deals.

Most of it is carla's, in GBPUSD: the desk shows a bid of 1.26500, her group's markup makes that 1.26499.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from apps.doors.schema import ACCOUNT, CORRECTION, EFFECTIVE_TERMS, MARGIN_NOTE, ORDER, SYMBOL_SHAPE, WITHDRAWAL
from tests.functional.conftest import ANNA, House, fresh_id
from tests.waiting import eventually

CARLA = 10003
SYMBOL = "GBPUSD"
BID = "1.26499"


@pytest.fixture
def carla(house: House) -> Iterator[httpx.Client]:
    """A retail client without jurisdiction, with account 10003 in USD. What she leaves open is closed."""
    house.redis.delete(f"limit:orders:account:{CARLA}", f"limit:closes:account:{CARLA}")
    with house.client("carla") as client:
        house.desk.settle()
        eventually(lambda: _sees(client, BID))
        yield client
        house.desk.settle()
        client.delete("/v1/orders", params={"account": CARLA})
        for position in positions(client):
            client.post(f"/v1/positions/{position['id']}/close")


def _sees(client: httpx.Client, bid: str, symbol: str = SYMBOL) -> bool:
    answer = client.get("/v1/quotes", params={"symbols": symbol})
    return answer.status_code == 200 and answer.json()["data"][0]["bid"] == bid


def positions(client: httpx.Client) -> list[dict[str, Any]]:
    return list(client.get("/v1/positions", params={"account": CARLA, "symbol": SYMBOL}).json()["data"])


def place(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post(
        "/v1/orders", json={"account": CARLA, "symbol": SYMBOL, "side": "buy", "volume": "0.10", **changes}
    )


def opened(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = place(client, **changes)
    assert (answer.status_code, answer.json()["status"]) == (201, "filled"), answer.text
    return dict(client.get(f"/v1/positions/{answer.json()['position_id']}").json())


def now(client: httpx.Client, position: dict[str, Any]) -> dict[str, Any]:
    return dict(client.get(f"/v1/positions/{position['id']}").json())


def balance(client: httpx.Client, account: int = CARLA) -> Decimal:
    return Decimal(client.get(f"/v1/accounts/{account}").json()["balance"])


def keyed() -> dict[str, str]:
    return {"Idempotency-Key": fresh_id()}


def staff(dealer: httpx.Client, method: str, address: str, body: dict[str, Any]) -> httpx.Response:
    return dealer.request(method, f"/v1/staff/{address}", json=body, headers=keyed())


# --- closing -------------------------------------------------------------------------------------------------------------


def test_opposite_positions_are_closed_by_each_other_without_a_spread(carla: httpx.Client) -> None:
    long, short = opened(carla, volume="0.30"), opened(carla, side="sell", volume="0.10")
    answer = carla.post(f"/v1/positions/{long['id']}/close-by", json={"by_position_id": short["id"]})
    order = answer.json()
    assert (answer.status_code, order["status"], order["reason"]) == (201, "filled", "close_by"), answer.text
    assert set(order) == set(ORDER().fields)
    assert (now(carla, long)["volume"], now(carla, short)["status"]) == ("0.20", "closed")
    deals = carla.get("/v1/deals", params={"account": CARLA, "position_id": short["id"]}).json()["data"]
    assert (deals[0]["entry"], deals[0]["swap"]) == ("out_by", "0.00")


def test_a_position_cannot_be_closed_by_one_of_its_own_side(carla: httpx.Client) -> None:
    one, other = opened(carla), opened(carla)
    answer = carla.post(f"/v1/positions/{one['id']}/close-by", json={"by_position_id": other["id"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_close_by")
    assert now(carla, one)["volume"] == "0.10"


def test_a_position_is_turned_round_in_one_request(carla: httpx.Client) -> None:
    long = opened(carla)
    headers = keyed()
    answer = carla.post(f"/v1/positions/{long['id']}/reverse", json={}, headers=headers)
    assert answer.status_code == 201, answer.text
    assert now(carla, long)["status"] == "closed"
    [short] = positions(carla)
    assert (short["side"], short["volume"]) == ("sell", "0.10")
    again = carla.post(f"/v1/positions/{long['id']}/reverse", json={}, headers=headers)
    assert again.content == answer.content
    assert positions(carla) == [short]


def test_losers_are_closed_and_winners_stay(house: House, carla: httpx.Client) -> None:
    long, short = opened(carla), opened(carla, side="sell")
    house.desk.move(SYMBOL, "1.26800", "1.26812")
    eventually(lambda: _sees(carla, "1.26799"))
    body = {"account": CARLA, "which": "losers", "symbol": SYMBOL}
    answer = carla.post("/v1/positions/close", json=body)
    assert (answer.status_code, answer.json()) == (202, {"closing": 1})
    eventually(lambda: now(carla, short)["status"] == "closed")
    assert now(carla, long)["status"] == "open"
    assert carla.post("/v1/positions/close", json={**body, "which": "all"}).json() == {"closing": 1}
    eventually(lambda: positions(carla) == [])


# --- orders and protection -----------------------------------------------------------------------------------------------


def test_one_order_cancels_the_other(house: House, carla: httpx.Client) -> None:
    name = fresh_id("oco")
    up = place(carla, type="stop", stop_price="1.26700", oco_group=name).json()
    down = place(carla, side="sell", type="stop", stop_price="1.26300", oco_group=name).json()
    assert (up["oco_group"], down["status"]) == (name, "new")
    house.desk.move(SYMBOL, "1.26710", "1.26720")
    eventually(lambda: carla.get(f"/v1/orders/{up['id']}").json()["status"] == "filled")
    assert carla.get(f"/v1/orders/{down['id']}").json()["status"] == "canceled"


def test_a_stop_that_watches_the_other_side_waits_for_it(house: House, carla: httpx.Client) -> None:
    order = place(carla, type="stop", stop_price="1.26600", stop_trigger="opposite").json()
    assert (order["status"], order["stop_trigger"]) == ("new", "opposite")
    house.desk.move(SYMBOL, "1.26510", "1.26650")
    eventually(lambda: _sees(carla, "1.26509"))
    assert carla.get(f"/v1/orders/{order['id']}").json()["status"] == "new"
    house.desk.move(SYMBOL, "1.26610", "1.26650")
    eventually(lambda: carla.get(f"/v1/orders/{order['id']}").json()["status"] == "filled")


def test_protection_is_shown_as_it_was_asked_for_and_changed_in_parts(carla: httpx.Client) -> None:
    position = opened(
        carla,
        stop_loss={"price": "1.26000", "trigger": "double_trade"},
        trailing_stop={"distance": 400, "step": 5, "activation": 600},
        break_even={"distance": 500, "offset": 10},
    )
    trailing = {"distance": 400, "step": 5, "activation": 600}
    assert position["stop_loss"] == {
        "price": "1.26000", "distance": None, "guaranteed": False, "trigger": "double_trade",
    }  # fmt: skip
    assert (position["trailing_stop"], position["break_even"]) == (trailing, {"distance": 500, "offset": 10})
    moved = carla.patch(f"/v1/positions/{position['id']}", json={"stop_loss": {"price": "1.26100"}, "break_even": None})
    changed = moved.json()
    assert (changed["stop_loss"]["price"], changed["stop_loss"]["trigger"]) == ("1.26100", "double_trade")
    assert (changed["trailing_stop"], changed["break_even"]) == (trailing, None)


def test_a_guarantee_needs_a_symbol_that_offers_one(carla: httpx.Client) -> None:
    answer = place(carla, stop_loss={"price": "1.26000", "guaranteed": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "no_guarantee")


def test_a_symbol_shows_its_own_terms_and_those_of_the_group(carla: httpx.Client) -> None:
    own = carla.get("/v1/symbols/XAUUSD").json()
    hers = carla.get("/v1/symbols/XAUUSD", params={"account": CARLA}).json()
    assert set(own) == set(SYMBOL_SHAPE().fields)
    assert (own["volume_max"], hers["volume_max"]) == ("100", "20")
    answer = place(carla, symbol="XAUUSD", volume="20.01")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_volume")


# --- money ---------------------------------------------------------------------------------------------------------------


def test_a_withdrawal_leaves_the_cash_and_comes_back_when_it_is_not_paid(
    carla: httpx.Client, dealer: httpx.Client
) -> None:
    before = balance(carla)
    asked = carla.post(f"/v1/accounts/{CARLA}/withdrawals", json={"amount": "100.00"}, headers=keyed())
    request = asked.json()
    assert (asked.status_code, set(request)) == (201, set(WITHDRAWAL().fields)), asked.text
    assert (request["status"], balance(carla)) == ("requested", before - 100)
    waiting = dealer.get("/v1/staff/withdrawals").json()["data"]
    assert request["transaction_id"] in [row["transaction_id"] for row in waiting]
    address = f"accounts/{CARLA}/withdrawals/{request['transaction_id']}/settle"
    assert staff(dealer, "POST", address, {"is_paid": False, "reference": "bounced"}).status_code == 200
    assert balance(carla) == before
    listed = carla.get(f"/v1/accounts/{CARLA}/withdrawals").json()["data"]
    assert (listed[0]["transaction_id"], listed[0]["status"]) == (request["transaction_id"], "returned")
    again = staff(dealer, "POST", address, {"is_paid": True})
    assert (again.status_code, again.json()["code"]) == (404, "withdrawal_not_found")


def test_a_withdrawal_is_paid_once_per_key(carla: httpx.Client, dealer: httpx.Client, house: House) -> None:
    before, headers = balance(carla), keyed()
    address = f"/v1/accounts/{CARLA}/withdrawals"
    first = carla.post(address, json={"amount": "5.00"}, headers=headers)
    house.sql("DELETE FROM doors_idempotentresponse WHERE key = %s", headers["Idempotency-Key"])
    again = carla.post(address, json={"amount": "5.00"}, headers=headers)
    assert first.json()["transaction_id"] == again.json()["transaction_id"]
    settle = f"accounts/{CARLA}/withdrawals/{first.json()['transaction_id']}/settle"
    assert staff(dealer, "POST", settle, {"is_paid": True}).json()["changed"] is True
    assert balance(carla) == before - 5
    assert carla.get(address).json()["data"][0]["status"] == "paid"


def test_what_positions_need_cannot_be_withdrawn(carla: httpx.Client) -> None:
    opened(carla)
    account = carla.get(f"/v1/accounts/{CARLA}").json()
    assert set(account) == set(ACCOUNT().fields)
    assert Decimal(account["withdrawable"]) < Decimal(account["balance"])
    answer = carla.post(f"/v1/accounts/{CARLA}/withdrawals", json={"amount": account["balance"]}, headers=keyed())
    assert (answer.status_code, answer.json()["code"]) == (422, "funds_not_withdrawable")


def test_staff_adjust_and_give_credit_and_the_law_forbids_a_bonus(
    house: House, carla: httpx.Client, dealer: httpx.Client
) -> None:
    before = balance(carla)
    for amount, reference in (("12.50", "goodwill"), ("-12.50", "taken back")):
        done = staff(dealer, "POST", f"accounts/{CARLA}/adjust", {"amount": amount, "reference": reference})
        assert done.status_code == 200, done.text
    assert balance(carla) == before
    assert staff(dealer, "POST", f"accounts/{CARLA}/credit", {"amount": "50"}).status_code == 200
    account = carla.get(f"/v1/accounts/{CARLA}").json()
    assert Decimal(account["equity"]) - Decimal(account["balance"]) >= 50
    assert Decimal(account["withdrawable"]) <= Decimal(account["balance"])
    assert staff(dealer, "POST", f"accounts/{CARLA}/credit", {"amount": "-50"}).status_code == 200
    banned = staff(dealer, "POST", f"accounts/{ANNA}/bonus", {"amount": "50"})
    assert (banned.status_code, banned.json()["code"]) == (422, "bonus_banned")
    recorded = house.sql("SELECT action FROM operations_auditentry WHERE action LIKE 'grant_bonus%%' ORDER BY id")
    assert [action for (action,) in recorded][-2:] == ["grant_bonus", "grant_bonus:refused"]


def test_a_protected_client_sees_the_rule(anna: httpx.Client) -> None:
    account = anna.get(f"/v1/accounts/{ANNA}").json()
    assert (account["jurisdiction"], account["regulation"]["rule"]) == ("EU", "ESMA CFD measures")
    assert account["regulation"]["leverage_caps"]["fx_major"] == 30
    assert account["margin_call"]["levels"] == ["100", "80", "60"]


# --- the desk ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "target"), [("firm", ""), ("symbol", SYMBOL), ("account", str(CARLA))])
def test_a_kill_switch_stops_openings_and_never_closings(
    carla: httpx.Client, dealer: httpx.Client, scope: str, target: str
) -> None:
    position = opened(carla)
    body = {"scope": scope, **({"target": target} if target else {})}
    try:
        assert staff(dealer, "POST", "switches", {**body, "stops": True}).json()["changed"] is True
        assert staff(dealer, "POST", "switches", {**body, "stops": True}).json()["changed"] is False
        stopped = dealer.get("/v1/staff/switches").json()
        assert stopped["firm"] or SYMBOL in stopped["symbols"] or CARLA in stopped["accounts"]
        refused = place(carla)
        assert (refused.status_code, refused.json()["code"]) == (422, "trade_disabled")
        assert carla.post(f"/v1/positions/{position['id']}/close").status_code == 201
    finally:
        staff(dealer, "POST", "switches", {**body, "stops": False})
    assert not any(dealer.get("/v1/staff/switches").json().values())
    assert place(carla).status_code == 201


def test_an_account_that_may_only_close(carla: httpx.Client, dealer: httpx.Client) -> None:
    position = opened(carla)
    try:
        changed = staff(dealer, "PATCH", f"accounts/{CARLA}", {"rights": "close_only"})
        assert (changed.status_code, changed.json()["reference"]) == (200, CARLA)
        assert place(carla).json()["code"] == "close_only"
        assert carla.post(f"/v1/positions/{position['id']}/close").status_code == 201
        assert carla.get(f"/v1/accounts/{CARLA}").json()["rights"] == "close_only"
    finally:
        staff(dealer, "PATCH", f"accounts/{CARLA}", {"rights": "full"})
    assert place(carla).status_code == 201


def test_an_account_under_another_regime(carla: httpx.Client, dealer: httpx.Client) -> None:
    try:
        assert staff(dealer, "PATCH", f"accounts/{CARLA}", {"jurisdiction": "UK"}).status_code == 200
        assert carla.get(f"/v1/accounts/{CARLA}").json()["regulation"]["rule"] == "FCA COBS 22.5 and 22.6"
    finally:
        staff(dealer, "PATCH", f"accounts/{CARLA}", {"jurisdiction": ""})
    assert carla.get(f"/v1/accounts/{CARLA}").json()["regulation"] is None


def test_a_dividend_is_paid_to_who_held_the_symbol(carla: httpx.Client, dealer: httpx.Client) -> None:
    """0.01 USD on each of 10,000 units."""
    opened(carla)
    before = balance(carla)
    moment = carla.get("/v1/time").json()["business_time"]
    body = {"symbol": SYMBOL, "long_per_unit": "0.01", "short_per_unit": "-0.01", "ex_at": moment}
    paid = staff(dealer, "POST", "dividends", body)
    assert paid.status_code == 200, paid.text
    assert balance(carla) == before + 100
    assert carla.get("/v1/ledger", params={"account": CARLA}).json()["data"][0]["kind"] == "dividend"


def test_staff_see_the_terms_and_the_rule_behind_each(dealer: httpx.Client, anna: httpx.Client) -> None:
    params = {"group": "vip", "symbol": "XAUUSD", "jurisdiction": "EU"}
    found = dealer.get("/v1/staff/effective-terms", params=params).json()
    assert set(found) == set(EFFECTIVE_TERMS().fields)
    assert {"field": "volume_max", "value": "20", "rule": "VIP metals"} in found["terms"]
    assert found["leverage_max"] == 20
    assert anna.get("/v1/staff/effective-terms", params=params).status_code == 403


MAKE_DEPUTY = """
from apps.accounts.models import User
User.objects.filter(username="deputy").exists() or User.objects.create_superuser("deputy", password="{password}")
"""


@pytest.fixture
def deputy(house: House) -> Iterator[httpx.Client]:
    """A second member of staff."""
    house.passwords["deputy"] = "deputy-of-the-dealer"
    house.manage("shell", "-c", MAKE_DEPUTY.format(password=house.passwords["deputy"]))
    with house.client("deputy") as client:
        yield client


def test_a_deal_at_a_bad_price_is_corrected_by_two_people(
    carla: httpx.Client, dealer: httpx.Client, deputy: httpx.Client
) -> None:
    position = opened(carla)
    before = balance(carla)
    [deal] = carla.get("/v1/deals", params={"account": CARLA, "position_id": position["id"]}).json()["data"]
    body = {"reason": "bad tick"}
    asked = dealer.post(f"/v1/staff/deals/{deal['id']}/corrections", json=body)
    assert (asked.status_code, set(asked.json())) == (201, set(CORRECTION().fields)), asked.text
    approve = f"/v1/staff/corrections/{asked.json()['id']}/approve"
    assert dealer.post(approve).json()["code"] == "second_person_required"
    assert now(carla, position)["status"] == "open"
    done = deputy.post(approve)
    assert (done.status_code, done.json()["status"], done.json()["decided_by"]) == (200, "approved", "deputy"), (
        done.text
    )
    assert now(carla, position)["status"] == "closed"
    assert balance(carla) >= before


# --- stop-out ------------------------------------------------------------------------------------------------------------


def test_a_stop_out_explains_itself(house: House, anna: httpx.Client) -> None:
    """Bought 0.10 with 500 USD and a margin of 421.71: the market falls until the level is below 50."""
    account = anna.post("/v1/accounts", json={"currency": "USD", "leverage": 30, "name": "short of money"}).json()["id"]
    paid = anna.post("/v1/user/deposit", json={"account": account, "amount": "500.00"}, headers=keyed())
    assert paid.status_code == 201, paid.text
    assert anna.get(f"/v1/accounts/{account}/margin-notes").json()["data"] == []
    bought = place(anna, account=account)
    assert bought.status_code == 201, bought.text
    try:
        house.desk.move(SYMBOL, "1.23000", "1.23012")
        notes = eventually(lambda: _closings(anna, account))
    finally:
        house.desk.settle()
    assert set(notes[0]) == set(MARGIN_NOTE().fields)
    assert (notes[0]["rule"], notes[0]["position_id"]) == ("stop-out 50", bought.json()["position_id"])
    assert Decimal(notes[0]["level"]) <= 50
    assert SYMBOL in notes[0]["prices"]
    closed = anna.get("/v1/orders", params={"account": account}).json()["data"][0]
    assert closed["reason"] == "stop_out"


def _closings(client: httpx.Client, account: int) -> list[dict[str, Any]] | None:
    notes = client.get(f"/v1/accounts/{account}/margin-notes").json()["data"]
    return [note for note in notes if note["kind"] == "position_closed"] or None
