"""Whatever is sent, the answer is a problem with a stable code, quickly, and nothing happens."""

import time
from typing import Any

import httpx
import pytest

from tests.functional.conftest import ANNA, House, fresh_id, market_order

RAW = {"Content-Type": "application/json"}
ANSWERED_WITHIN_S = 5
"""On a busy machine; a number that Python would chew on takes half a minute."""
NOT_NUMBERS = [
    '"NaN"', '"sNaN"', '"Infinity"', '"-0"', '"1E1000000"', '"1E-999999999"', '"1_000"', '"١٢٣"', '"１２３"',
    '" 5"', '"+1"', '"0x10"', '"1e5"', '""', "null", "true", "[1]", '{"a": 1}', "1e5", "1E400", "-1",
    '"0.12345678901"', "9" * 5000, '"' + "9" * 5000 + '"', '"0"', "0", "0.0", '"-0.1"', '".1"', '"1."',
]  # fmt: skip


def send(client: httpx.Client, body: str, address: str = "/v1/orders") -> tuple[httpx.Response, float]:
    started = time.monotonic()
    answer = client.post(address, content=body.encode("utf-8", "surrogatepass"), headers=RAW)
    return answer, time.monotonic() - started


@pytest.mark.parametrize("number", NOT_NUMBERS)
def test_a_volume_is_a_plain_positive_decimal(anna: httpx.Client, number: str) -> None:
    name = fresh_id()
    body = f'{{"account":{ANNA},"symbol":"EURUSD","side":"buy","volume":{number},"client_order_id":"{name}"}}'
    answer, took_s = send(anna, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_volume")
    assert took_s < ANSWERED_WITHIN_S
    assert anna.get(f"/v1/orders/client:{name}").status_code == 404


@pytest.mark.parametrize("number", NOT_NUMBERS)
def test_an_amount_is_a_plain_positive_decimal(anna: httpx.Client, number: str) -> None:
    body = f'{{"account":{ANNA},"amount":{number}}}'
    answer = anna.post("/v1/user/deposit", content=body.encode(), headers={**RAW, "Idempotency-Key": fresh_id()})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_amount")


@pytest.mark.parametrize("number", ["0.1", '"0.10"', "0.10"])
def test_a_plain_number_is_taken_as_text_or_as_number(anna: httpx.Client, number: str) -> None:
    answer, _ = send(anna, f'{{"account":{ANNA},"symbol":"EURUSD","side":"buy","volume":{number}}}')
    assert (answer.status_code, answer.json()["volume"]) == (201, "0.10")


GOOD = f'"account":{ANNA},"symbol":"EURUSD","side":"buy"'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("", 422, "invalid_request"),
        ("{", 400, "malformed_json"),
        ("{'a': 1}", 400, "malformed_json"),
        (f'{{{GOOD},"volume":"0.10","volume":"5"}}', 400, "malformed_json"),
        (f'{{{GOOD},"volume":NaN}}', 400, "malformed_json"),
        (f'{{{GOOD},"volume":-Infinity}}', 400, "malformed_json"),
        ("[" * 10_000 + "]" * 10_000, 400, "malformed_json"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, 400, "malformed_json"),
        (f'{{{GOOD},"volume":"0.10","comment":"{"x" * 70_000}"}}', 413, "request_too_large"),
        (f'{{{GOOD},"volume":"0.10","comment":"a\\u0000b"}}', 400, "malformed_json"),
        (f'{{{GOOD},"volume":"0.10","comment":"\\ud800"}}', 400, "malformed_json"),
        (f'{{{GOOD},"volume":"0.10","comment":"\ud800"}}', 400, "malformed_json"),
        ("[]", 422, "invalid_request"),
        ('"text"', 422, "invalid_request"),
        ("null", 422, "invalid_request"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_json_is_read_strictly(anna: httpx.Client, body: str, status: int, code: str) -> None:
    answer, took_s = send(anna, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert took_s < ANSWERED_WITHIN_S


@pytest.mark.parametrize("comment", ["\u0001 44=1", "a\x0144=1", "line\nbreak", "\u200b", "naïve", "x" * 65])
def test_a_comment_cannot_reach_into_another_protocol(anna: httpx.Client, comment: str) -> None:
    answer = anna.post("/v1/orders", json=market_order(comment=comment))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "/comment"


@pytest.mark.parametrize("name", ["", "a b", "a\x01b", "a/b", "ａ", "x" * 49, "=cmd|'/c'"])
def test_a_client_order_id_has_an_allow_list(anna: httpx.Client, name: str) -> None:
    answer = anna.post("/v1/orders", json=market_order(client_order_id=name))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/client_order_id"


@pytest.mark.parametrize(
    "symbol", ["ＥＵＲＵＳＤ", "EURUSD\u200b", "\u202eEURUSD", "ЕURUSD", "eurusd", "EURUSD ", "EURUSD\t"]
)
def test_a_lookalike_is_not_the_symbol(anna: httpx.Client, symbol: str) -> None:
    answer = anna.post("/v1/orders", json=market_order(symbol=symbol))
    assert answer.status_code in (404, 422)
    assert answer.json()["code"] in ("unknown_symbol", "invalid_request")


@pytest.mark.parametrize(
    "name",
    [
        "is_staff",
        "balance",
        "leverage",
        "book",
        "status",
        "limit_price",
        "kyc_level",
        "volume_a",
        "sl",
        "id",
        "ticket",
    ],
)
def test_an_unknown_field_is_refused_and_not_ignored(anna: httpx.Client, name: str) -> None:
    answer = anna.post("/v1/orders", json=market_order(**{name: "1"}))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{name}")


def test_all_wrong_fields_are_told_at_once(anna: httpx.Client) -> None:
    answer = anna.post("/v1/orders", json={"account": "x", "side": "up", "volume": "NaN"}).json()
    assert answer["code"] == "invalid_request"
    assert {error["pointer"] for error in answer["errors"]} == {"/account", "/symbol", "/side", "/volume"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=x", "cursor=x", "cursor=%00", "status=all", "symbol=%00", "account=1e3",
        "account=" + "9" * 400, "account=1&account=2", "unknown=1", "client_order_id=a%01b", "symbol=EURUSD%0d%0aX:1",
        "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5",
    ],
)  # fmt: skip
def test_a_query_string_is_read_strictly(anna: httpx.Client, query: str) -> None:
    answer = anna.get(f"/v1/orders?{query}")
    assert answer.status_code in (404, 422), answer.text
    assert answer.json()["code"] in ("invalid_request", "unknown_account")


@pytest.mark.parametrize("reference", ["0", "9" * 30, "client:", "client:%00", "%00", "x", "-1", "1.0", "..%2f", "١"])
def test_a_strange_reference_names_nothing(anna: httpx.Client, reference: str) -> None:
    for room in ("orders", "positions", "accounts", "symbols", "errors"):
        answer = anna.get(f"/v1/{room}/{reference}")
        assert answer.status_code == 404, (room, answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml"]
)
def test_only_json_is_understood(anna: httpx.Client, content_type: str) -> None:
    answer = anna.post("/v1/orders", content=b"{}", headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_what_does_not_exist_is_a_problem_too(anna: httpx.Client) -> None:
    assert anna.get("/v1/nothing").json()["code"] == "not_found"
    answer = anna.put("/v1/orders")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]
    assert anna.options("/v1/orders").status_code == 405


def test_a_request_id_comes_back_and_a_bad_one_is_replaced(anna: httpx.Client) -> None:
    assert anna.get("/v1/time", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    for bad in ("a b", "x" * 65, 'a"b'):
        answer = anna.get("/v1/nothing", headers={"X-Request-ID": bad})
        assert len(answer.headers["X-Request-ID"]) == 36
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


def test_every_problem_type_leads_to_its_entry_in_the_catalogue(house: House) -> None:
    with house.anonymous() as client:
        listed: list[dict[str, Any]] = client.get("/v1/errors").json()["data"]
        assert {entry["code"] for entry in listed} >= {"no_quotes", "internal", "insufficient_margin"}
        for entry in listed:
            assert client.get(f"/v1/errors/{entry['code']}").json() == entry
        problem = client.get("/v1/accounts").json()
        assert client.get(problem["type"]).json()["code"] == problem["code"] == "not_authenticated"


def test_a_strange_host_is_refused_without_a_word_about_us(house: House) -> None:
    with house.anonymous() as client:
        answer = client.get("/v1/time", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "Traceback" not in answer.text
    assert "ALLOWED_HOSTS" not in answer.text
