"""Rate limits are exact, told in headers, and never keep a client from closing."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.functional.conftest import House, market_order
from tests.waiting import eventually

ATTEMPTS = 120
PER_SECOND = 50


def test_orders_are_limited_per_account_exactly_even_in_parallel(house: House) -> None:
    """An unknown symbol counts like any order, and costs the engine nothing."""
    with house.client("anna") as client:
        with ThreadPoolExecutor(16) as pool:

            def hurried() -> list[httpx.Response]:
                """A fresh account's answers, some of them refused: a machine may be too slow for the limit once, not always."""
                opened = client.post("/v1/accounts", json={"currency": "USD"}).json()["id"]
                body = market_order(account=opened, symbol="NOTHING")
                answers = list(pool.map(lambda _: client.post("/v1/orders", json=body), range(ATTEMPTS)))
                return answers if any(answer.status_code == 429 for answer in answers) else []

            answers = eventually(lambda: hurried() or None, within_s=60)
        limited = [answer for answer in answers if answer.status_code == 429]
        passed = [answer for answer in answers if answer.status_code == 404]
        assert len(limited) + len(passed) == ATTEMPTS
        assert len(passed) >= PER_SECOND
        refused = limited[0]
        assert refused.json()["code"] == "rate_limited"
        assert refused.json()["retryable"]
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["RateLimit-Policy"] == f'"orders";q={PER_SECOND};w=1'
        assert passed[0].headers["X-RateLimit-Limit"] == str(PER_SECOND)


def test_a_client_at_its_limit_can_still_close(house: House, anna: httpx.Client) -> None:
    position = anna.post("/v1/orders", json=market_order(volume="0.01")).json()["position_id"]
    for _ in range(ATTEMPTS):
        if anna.post("/v1/orders", json=market_order(symbol="NOTHING")).status_code == 429:
            break
    else:
        raise AssertionError("the limit was never reached")
    assert anna.post(f"/v1/positions/{position}/close").status_code == 201
