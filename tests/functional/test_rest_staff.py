"""What staff may see and change: decisions, reconciliation, the policy; the admin over every model."""

from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.contrib import admin

from tests.functional.conftest import ANNA, House, market_order

STAFF = ["/v1/admin/orders/1/decision", "/v1/admin/reconciliation", "/v1/admin/policy"]
OWN = {
    "accounts.User", "accounts.Profile", "accounts.Group", "instruments.Currency", "instruments.Instrument",
    "liquidity.LiquidityProvider", "operations.FirmSettings", "routing_rules.Rule",
}  # fmt: skip
"""The models that a person edits. Everything else is a record."""


def models_of_ours() -> list[Any]:
    ours = [model for model in apps.get_models() if model.__module__.startswith("apps.")]
    return [model for model in ours if model._meta.label != "streaming.StreamRight"]  # a permission without a table


@pytest.mark.parametrize("address", STAFF)
def test_staff_rooms_are_closed_to_clients_and_attempts_are_recorded(
    house: House, anna: httpx.Client, address: str
) -> None:
    count = "SELECT count(*) FROM operations_auditentry WHERE action LIKE %s"
    [(before,)] = house.sql(count, "%:refused")
    answer = anna.get(address)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert anna.put("/v1/admin/policy", json={"rules": []}).status_code == 403
    assert house.sql(count, "%:refused") == [(before + 2,)]


def test_a_decision_says_why(anna: httpx.Client, dealer: httpx.Client) -> None:
    order = anna.post("/v1/orders", json=market_order()).json()
    found = dealer.get(f"/v1/admin/orders/{order['ticket']}/decision").json()
    assert (found["book"], found["rule_name"]) == ("B", "everyone else")
    seen = [(rule["name"], rule["matched"]) for rule in found["decision"]["rules"]]
    assert seen[-1] == ("everyone else", True)
    assert seen[0] == ("professionals to the market", False)
    assert found["decision"]["rules"][0]["conditions"][0]["actual"] == "retail"


def test_books_agree(anna: httpx.Client, dealer: httpx.Client) -> None:
    anna.post("/v1/orders", json=market_order())
    books = dealer.get("/v1/admin/reconciliation").json()
    assert set(books["ledger"].values()) <= {"0.00"}
    assert set(books["balances"].values()) <= {"0.00"}
    line = books["symbols"]["EURUSD"]
    at_providers = sum((Decimal(net) for net in line["clients_at_lps"].values()), Decimal(0))
    assert Decimal(line["clients"]) == at_providers - Decimal(line["house"])
    assert books["flat"] is False


def test_a_provider_that_counts_otherwise_is_shown(house: House, dealer: httpx.Client) -> None:
    """Providers count units of base; we show lots."""
    said = "lpsim:positions:ODDONE"
    house.redis.hset(said, "GBPUSD", "-150000")
    try:
        books = dealer.get("/v1/admin/reconciliation").json()
    finally:
        house.redis.delete(said)
    assert books["symbols"]["GBPUSD"]["lps_say"] == {"ODDONE": "-1.50"}
    assert books["reconciled"] is False
    assert dealer.get("/v1/admin/reconciliation").json()["reconciled"] is True


def test_a_new_policy_decides_the_next_order_and_the_old_one_comes_back(
    anna: httpx.Client, dealer: httpx.Client, house: House
) -> None:
    before = dealer.get("/v1/admin/policy").json()
    to_house = {"rules": [{"name": "all to the house", "conditions": [], "action": "B", "a_share": "0"}]}
    changed = dealer.put("/v1/admin/policy", json=to_house).json()
    try:
        assert changed["active"]
        assert changed["policy_version"] == before["policy_version"] + 1
        order = anna.post("/v1/orders", json=market_order(volume="0.01")).json()
        decision = dealer.get(f"/v1/admin/orders/{order['ticket']}/decision").json()
        assert (decision["rule_name"], decision["policy_version"]) == ("all to the house", changed["policy_version"])
    finally:
        restored = dealer.put("/v1/admin/policy", json={"rules": before["rules"]}).json()
    assert restored["rules"] == before["rules"]
    [(recorded,)] = house.sql("SELECT count(*) FROM operations_auditentry WHERE action = 'replace_policy'")
    assert recorded >= 2


GOOD_END: dict[str, Any] = {"name": "rest", "conditions": [], "action": "B", "a_share": "0"}


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "no end", "conditions": [{"field": "symbol", "operator": "=", "values": ["EURUSD"]}], "action": "B"},
        {**GOOD_END, "action": "D"},
        {**GOOD_END, "action": "C", "a_share": "1"},
        {**GOOD_END, "action": "A", "a_share": "NaN"},
        {**GOOD_END, "lps": ["NOBODY"]},
        {**GOOD_END, "color": "red"},
        {**GOOD_END, "name": ""},
        {**GOOD_END, "conditions": "none"},
        "rest",
    ],
)
def test_a_policy_that_could_not_decide_is_refused_and_changes_nothing(dealer: httpx.Client, rule: Any) -> None:
    before = dealer.get("/v1/admin/policy").json()
    answer = dealer.put("/v1/admin/policy", json={"rules": [rule]})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert dealer.get("/v1/admin/policy").json() == before


@pytest.mark.parametrize(
    "condition",
    [
        {"field": "volume", "operator": ">=", "values": ["abc"]},
        {"field": "volume", "operator": ">=", "values": ["1", "2"]},
        {"field": "volume", "operator": "mask", "values": ["1*"]},
        {"field": "symbol", "operator": ">", "values": ["EURUSD"]},
        {"field": "symbol", "operator": "=", "values": []},
        {"field": "password", "operator": "=", "values": ["x"]},
    ],
)
def test_a_condition_that_the_router_could_stumble_over_is_refused(dealer: httpx.Client, condition: Any) -> None:
    rules = [{**GOOD_END, "name": "odd", "conditions": [condition]}, GOOD_END]
    assert dealer.put("/v1/admin/policy", json={"rules": rules}).status_code == 422


@pytest.fixture(scope="module")
def back_office(house: House) -> Any:
    """The dealer, logged in at the admin."""
    with httpx.Client(base_url=house.url, follow_redirects=True, timeout=20) as client:
        client.get("/admin/login/")
        form = {"username": "dealer", "password": house.passwords["dealer"]}
        page = client.post(
            "/admin/login/?next=/admin/", data={**form, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        )
        assert page.url.path == "/admin/"
        yield client


@pytest.mark.parametrize("model", models_of_ours(), ids=lambda model: model._meta.label)
def test_every_model_is_in_the_admin_and_records_cannot_be_touched(
    back_office: httpx.Client, house: House, model: Any
) -> None:
    assert admin.site.is_registered(model) or model._meta.label == "liquidity.LpInstrument"
    if model._meta.label == "liquidity.LpInstrument":
        return
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    listing = back_office.get(base)
    assert listing.status_code == 200
    assert back_office.get(f"{base}?q=1").status_code == 200
    assert back_office.get(f"{base}add/").status_code == (200 if model._meta.label in OWN else 403)
    links = [part.split('"')[0] for part in listing.text.split(f'href="{base}')[1:] if "/change/" in part.split('"')[0]]
    if model._meta.label not in OWN and links:
        assert back_office.get(base + links[0]).status_code == 200
        answer = back_office.post(base + links[0].replace("change/", "delete/"), headers=_csrf(back_office, house))
        assert answer.status_code == 403
        assert (
            back_office.post(base + links[0], data={"_save": "1"}, headers=_csrf(back_office, house)).status_code == 403
        )


def _csrf(back_office: httpx.Client, house: House) -> dict[str, str]:
    return {"X-CSRFToken": back_office.cookies["csrftoken"], "Referer": house.url}


def test_records_are_really_opened(back_office: httpx.Client, anna: httpx.Client) -> None:
    """Guards the test above: composite keys lead to pages, and a decision reads as a table."""
    order = anna.post("/v1/orders", json=market_order(volume="0.01")).json()
    page = back_office.get(f"/admin/routing_rules/routingdecision/{order['ticket']}/change/")
    assert page.status_code == 200
    assert "professionals to the market (passed over)" in page.text
    assert back_office.get(f"/admin/operations/commandkey/{ANNA}|{order['client_order_id']}/change/").status_code == 200
    assert back_office.get("/admin/ledger/transfer/1|1/change/").status_code == 200


def test_publishing_asks_first_and_is_recorded(back_office: httpx.Client, house: House) -> None:
    versions = "SELECT max(version) FROM config_version"
    [(before,)] = house.sql(versions)
    house.sql("UPDATE accounts_group SET markup_ask = 3 WHERE name = 'vip'")
    asked = back_office.get("/admin/accounts/group/publish/")
    assert asked.status_code == 200
    assert house.sql(versions) == [(before,)]
    done = back_office.post("/admin/accounts/group/publish/", headers=_csrf(back_office, house))
    assert f"Version {before + 1} is published, and the engine decides by it." in done.text
    assert house.sql(versions) == [(before + 1,)]
    actions = house.sql(
        "SELECT detail->>'config_version' FROM operations_auditentry WHERE action = 'publish_configuration'"
    )
    assert (str(before + 1),) in actions
