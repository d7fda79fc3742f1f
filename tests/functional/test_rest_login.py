"""Logging in and staying logged in: what a token proves, and when it stops proving it."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest

from tests.functional.conftest import House

ME = "/v1/accounts"


def ask(house: House, token: str) -> httpx.Response:
    with house.anonymous() as client:
        return client.get(ME, headers={"Authorization": f"Bearer {token}"})


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def signed(house_key: str, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token made by hand with the tokens' own key, to try what only a wrong claim would give away."""
    text = f"{part(header)}.{part(claims)}"
    key = hashlib.sha256(b"tribook access tokens\0" + house_key.encode()).hexdigest().encode()
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


KEY = "functional-tests-functional-tests-functional-tests"
HS256 = {"alg": "HS256", "typ": "JWT"}


def test_a_token_made_by_hand_with_the_right_claims_is_valid(house: House) -> None:
    """Guards the tests below: they fail for their one wrong claim, not for being handmade."""
    claims = claims_of(house.log_in("carla")["access"])
    assert ask(house, signed(KEY, HS256, claims)).status_code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"aud": "somebody-else"}, "not_authenticated"),
        ({"iss": "somebody-else"}, "not_authenticated"),
        ({"typ": "refresh"}, "not_authenticated"),
        ({"exp": int(time.time()) - 5}, "token_expired"),
        ({"nbf": int(time.time()) + 600}, "not_authenticated"),
        ({"ver": -1}, "token_expired"),
        ({"ver": "0"}, "not_authenticated"),
        ({"sub": "999999"}, "token_expired"),
        ({"sub": "1 OR 1=1"}, "not_authenticated"),
        ({"exp": None}, "not_authenticated"),
    ],
)
def test_a_token_with_one_wrong_claim_is_refused(house: House, change: dict[str, Any], code: str) -> None:
    claims = {**claims_of(house.log_in("carla")["access"]), **change}
    claims = {name: value for name, value in claims.items() if value is not None}
    answer = ask(house, signed(KEY, HS256, claims))
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "JWT"},
        {"alg": "RS256", "typ": "JWT"},
        {"alg": "HS512", "typ": "JWT"},
        {"alg": "HS256", "jku": "http://127.0.0.1/keys", "kid": "../../etc/passwd"},
    ],
)
def test_what_a_tokens_header_proposes_is_not_followed(house: House, header: dict[str, str]) -> None:
    claims = claims_of(house.log_in("carla")["access"])
    unsigned = f"{part(header)}.{part(claims)}."
    assert ask(house, unsigned).status_code == 401
    if header["alg"] != "HS256":
        assert ask(house, signed(KEY, header, claims)).status_code == 401


@pytest.mark.parametrize("token", ["-", "x", "a.b.c", "x" * 5000, "é"])
def test_nonsense_is_not_a_token(house: House, token: str) -> None:
    with house.anonymous() as client:
        answer = client.get(ME, headers=[(b"authorization", b"Bearer " + token.encode())])
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_a_refresh_token_is_not_an_access_token(house: House) -> None:
    assert ask(house, house.log_in("carla")["refresh"]).json()["code"] == "not_authenticated"


def test_a_refresh_token_is_used_once_and_its_second_use_ends_everything(house: House) -> None:
    first = house.log_in("carla")
    with house.anonymous() as client:
        second = client.post("/v1/auth/refresh", json={"refresh": first["refresh"]}).json()
        assert ask(house, second["access"]).status_code == 200
        stolen = client.post("/v1/auth/refresh", json={"refresh": first["refresh"]})
        assert (stolen.status_code, stolen.json()["code"]) == (401, "token_expired")
        family = client.post("/v1/auth/refresh", json={"refresh": second["refresh"]})
        assert family.status_code == 401
    assert ask(house, second["access"]).json()["code"] == "token_expired"


def test_logging_out_ends_every_token_at_once(house: House) -> None:
    pair = house.log_in("carla")
    with house.anonymous() as client:
        client.headers["Authorization"] = f"Bearer {pair['access']}"
        assert client.post("/v1/auth/logout").status_code == 204
        assert client.get(ME).json()["code"] == "token_expired"
        assert client.post("/v1/auth/refresh", json={"refresh": pair["refresh"]}).status_code == 401


def test_a_disabled_user_is_out_at_once(house: House) -> None:
    token = house.log_in("carla")["access"]
    house.sql("UPDATE accounts_user SET is_active = false WHERE username = 'carla'")
    try:
        assert ask(house, token).json()["code"] == "token_expired"
        with house.anonymous() as client:
            answer = client.post("/v1/auth/token", json={"username": "carla", "password": house.passwords["carla"]})
        assert answer.status_code == 401
    finally:
        house.sql("UPDATE accounts_user SET is_active = true WHERE username = 'carla'")


def test_a_wrong_name_and_a_wrong_password_are_answered_alike(house: House) -> None:
    with house.anonymous() as client:
        answers = [
            client.post("/v1/auth/token", json={"username": name, "password": "wrong"}).json()
            for name in ("carla", "nobody")
        ]
    assert [{**answer, "request_id": ""} for answer in answers] == [{**answers[0], "request_id": ""}] * 2
    assert answers[0]["code"] == "not_authenticated"


def test_a_browser_session_needs_the_csrf_token(house: House) -> None:
    """A browser logs in at the admin; from then on every unsafe request must carry the token."""
    with httpx.Client(base_url=house.url, follow_redirects=False) as browser:
        page = browser.get("/admin/login/")
        cookie = browser.cookies["csrftoken"]
        form = {"username": "dealer", "password": house.passwords["dealer"], "csrfmiddlewaretoken": cookie}
        assert browser.post("/admin/login/", data={**form, "csrfmiddlewaretoken": "x"}).status_code == 403
        assert browser.post("/admin/login/?next=/admin/", data=form).status_code == 302
        assert page.status_code == 200
        assert browser.get(ME).status_code == 200
        body = {"currency": "USD"}
        assert browser.post(ME, json=body).status_code == 403
        assert browser.post(ME, json=body, headers={"X-CSRFToken": browser.cookies["csrftoken"]}).status_code == 201
        session = next(c for c in browser.cookies.jar if c.name == "sessionid")
        assert session.has_nonstandard_attr("HttpOnly")
