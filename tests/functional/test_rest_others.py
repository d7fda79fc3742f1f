"""Nobody reaches what is another's: every address with an id, every filter, every body, tried by the wrong person.

The addresses come from the URL configuration itself, so that a new one cannot be forgotten here.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from tests.functional.conftest import ANNA, BEN, House, fresh_id, market_order

PUBLIC_IDS = {"symbols/<str:symbol>": "EURUSD", "errors/<str:code>": "no_quotes"}
"""Ids that belong to nobody."""
IDS = re.compile(r"<(?:\w+:)?(\w+)>")


def api_routes() -> dict[str, Any]:
    """Every route under /v1/ and /api/, with its view."""
    return {route: view for route, view in _walk("", get_resolver().url_patterns) if route.startswith(("v1/", "api/"))}


def _walk(prefix: str, patterns: list[URLPattern | URLResolver]) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(route, pattern.url_patterns)
        else:
            yield route, pattern.callback


WITH_IDS = sorted(route for route in api_routes() if IDS.search(route) and route.removeprefix("v1/") not in PUBLIC_IDS)


@pytest.fixture(scope="module")
def annas(house: House) -> dict[str, list[str]]:
    """Things of anna's, by the name of the id that addresses them."""
    with house.client("anna") as anna:
        order = anna.post("/v1/orders", json=market_order(client_order_id=fresh_id("anna"))).json()
        [deal] = anna.get("/v1/deals", params={"order_ticket": order["ticket"]}).json()["data"]
    return {
        "account": [str(ANNA)],
        "reference": [order["id"], str(order["ticket"]), f"client:{order['client_order_id']}"],
        "position": [str(order["position_id"])],
        "ticket": [str(order["ticket"])],
        "deal": [str(deal["id"])],
        "transaction": ["1"],
        "correction": ["1"],
        "case": ["1"],
        "cl_ord_id": ["T0-1"],
        "settlement": ["1"],
        "notification": ["1"],
    }


MISSING = {"account": "19999"}
"""999999999 for all others."""


def addressed(route: str, things: dict[str, str]) -> str:
    return "/" + IDS.sub(lambda found: things.get(found[1], "999999999"), route)


def bland(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    """The answer without what names the request itself."""
    return answer.status_code, {k: v for k, v in answer.json().items() if k not in ("instance", "request_id")}


def test_there_are_addresses_to_try() -> None:
    assert {"v1/accounts/<str:account>", "v1/orders/<str:reference>", "v1/positions/<str:position>/close"} <= set(
        WITH_IDS
    )


@pytest.mark.parametrize("route", WITH_IDS)
def test_anothers_thing_is_answered_like_one_that_does_not_exist(
    house: House, ben: httpx.Client, annas: dict[str, list[str]], route: str
) -> None:
    names = IDS.findall(route)
    for things in zip(*(annas[name] for name in names), strict=True):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            theirs = ben.request(method, addressed(route, dict(zip(names, things, strict=True))), json={})
            missing = ben.request(method, addressed(route, MISSING), json={})
            assert bland(theirs) == bland(missing)
            assert theirs.status_code in (403, 404, 405), (method, route, theirs.text)
            assert "1.08" not in theirs.text


@pytest.mark.parametrize("room", ["orders", "positions", "deals", "ledger", "quotes", "notifications"])
def test_anothers_account_in_a_filter_is_unknown(ben: httpx.Client, room: str) -> None:
    theirs = ben.get(f"/v1/{room}", params={"account": ANNA})
    missing = ben.get(f"/v1/{room}", params={"account": 19999})
    assert bland(theirs) == bland(missing)
    assert (theirs.status_code, theirs.json()["code"]) == (404, "unknown_account")


def test_anothers_account_in_a_body_is_unknown(house: House, ben: httpx.Client) -> None:
    before = house.sql("SELECT count(*) FROM trade_order WHERE account = %s", ANNA)
    for address in ("/v1/orders", "/api/orders/market"):
        assert bland(ben.post(address, json=market_order())) == bland(
            ben.post(address, json=market_order(account=19999))
        )
    paid = ben.post("/v1/user/deposit", json={"account": ANNA, "amount": "1"}, headers={"Idempotency-Key": fresh_id()})
    assert (paid.status_code, paid.json()["code"]) == (404, "unknown_account")
    assert house.sql("SELECT count(*) FROM trade_order WHERE account = %s", ANNA) == before


def test_lists_hold_only_the_callers_own(ben: httpx.Client, annas: dict[str, list[str]]) -> None:
    for room in ("orders", "positions", "deals", "ledger", "notifications"):
        rows = ben.get(f"/v1/{room}", params={"limit": 500}).json()["data"]
        assert {row["account"] for row in rows} <= {BEN}
    assert [account["id"] for account in ben.get("/v1/accounts").json()["data"]] == [BEN]
    stolen = ben.get("/v1/orders", params={"client_order_id": annas["reference"][2].partition(":")[2]})
    assert stolen.json()["data"] == []


def test_anothers_idempotency_key_answers_nothing_of_theirs(anna: httpx.Client, ben: httpx.Client) -> None:
    headers = {"Idempotency-Key": fresh_id()}
    anna.post("/v1/user/deposit", json={"account": ANNA, "amount": "3.00"}, headers=headers)
    answer = ben.post("/v1/user/deposit", json={"account": BEN, "amount": "4.00"}, headers=headers)
    assert (answer.status_code, answer.json()["account"], answer.json()["amount"]) == (201, BEN, "4.00")


@pytest.mark.parametrize("route", sorted(api_routes()))
def test_without_a_login_only_the_public_rooms_answer(house: House, route: str) -> None:
    public = ("v1/auth/", "v1/symbols", "v1/time", "v1/status", "v1/errors", "v1/schema")
    with house.anonymous() as client:
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = client.request(method, "/" + IDS.sub("1", route))
            if not route.startswith(public) or route == "v1/auth/logout":
                assert answer.status_code == 401, (method, route, answer.text)
                assert answer.json()["code"] == "not_authenticated"
            else:
                assert answer.status_code < 500


def test_every_address_is_in_the_document(house: House) -> None:
    with house.anonymous() as client:
        documented = set(client.get("/v1/schema").json()["paths"])
        assert client.get("/docs").status_code == 200
    mounted = {"/" + IDS.sub(r"{\1}", route) for route in api_routes()} - {"/v1/schema"}
    assert documented == mounted


def test_the_document_is_valid_and_complete() -> None:
    from io import StringIO

    from django.core.management import call_command

    call_command("spectacular", validate=True, fail_on_warn=True, stdout=StringIO())


def test_the_document_is_made_of_our_own_files(house: House) -> None:
    """The page must work where nothing but our own machine can be reached."""
    with house.anonymous() as client:
        page = client.get("/docs").text
        assert not re.findall(r'(?:src|href)="https?://', page)
        for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
            assert client.get(file).status_code == 200
    assert os.environ["DJANGO_SETTINGS_MODULE"] == "broker.settings"
