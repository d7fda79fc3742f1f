"""The overview page as a dealer meets it: who may see it, what it says, and how it behaves in a browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from playwright.sync_api import Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from apps import published
from apps.accounts.models import User
from apps.backoffice.cache import Kept, kept
from apps.doors.connections import redis_connection
from apps.operations.models import Alert
from tests.functional import desk_scene

pytestmark = pytest.mark.django_db(transaction=True)
SIZES = {"desktop": (1280, 720), "phone": (390, 844)}


@pytest.fixture
def desk(redis_url: str, transactional_db: None) -> Iterator["redis.Redis"]:
    """The scene, in this test's database and Redis."""
    published.forget()
    kept.forget()
    redis_connection.cache_clear()
    server = redis.Redis.from_url(redis_url)
    server.flushdb()
    desk_scene.set_up(server)
    yield server
    server.flushdb()
    published.forget()
    kept.forget()


@pytest.fixture
def dealer(transactional_db: None) -> User:
    return User.objects.create_user("dealer", is_staff=True)


def logged_in(user: User) -> Browser:
    browser = Browser()
    browser.force_login(user)
    return browser


def figures(dealer: User) -> dict[str, Any]:
    kept.forget()
    answer = logged_in(dealer).get("/overview.json")
    assert answer.status_code == 200
    found: dict[str, Any] = json.loads(answer.content)
    return found


# -------------------------------------------------------------------------------------------------------------- who may


def test_strangers_are_sent_to_the_login(transactional_db: None) -> None:
    page = Browser().get("/")
    assert (page.status_code, page["Location"]) == (302, "/admin/login/?next=/")
    assert Browser().get("/overview.json").status_code == 401


def test_clients_are_not_staff(transactional_db: None) -> None:
    browser = logged_in(User.objects.create_user("anna"))
    assert browser.get("/").status_code == 302
    assert browser.get("/overview.json").status_code == 401


def test_the_page_is_not_kept_and_lets_no_foreign_script_in(dealer: User) -> None:
    page = logged_in(dealer).get("/")
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    assert "default-src 'none'; script-src 'self'" in page["Content-Security-Policy"]
    assert b"onclick" not in page.content
    assert b"<style" not in page.content


def test_nothing_can_be_posted(dealer: User) -> None:
    assert logged_in(dealer).post("/overview.json").status_code == 405


# --------------------------------------------------------------------------------------------------------- what it says


def test_positions_are_valued_at_the_groups_price_in_the_accounts_currency(desk: "redis.Redis", dealer: User) -> None:
    positions = {p["id"]: p for p in figures(dealer)["positions"]}
    # 0.10 lots bought at 1.08290, bid 1.08312 less 2 points: 0.0002 x 10,000 = 2.00 USD, bought with euros at 1.08319.
    assert (positions[1]["floating"], positions[1]["currency"]) == ("1.85", "EUR")
    # 1.5 lots of 100 oz sold at 2347.10, ask 2345.47 and 1 point: 1.62 x 150.
    assert positions[3]["floating"] == "243.00"
    assert (positions[3]["volume_a"], positions[3]["volume_b"]) == ("0.90000000", "0.60000000")


def test_clients_house_and_providers_cancel_out(desk: "redis.Redis", dealer: User) -> None:
    exposures = {e["symbol"]: e for e in figures(dealer)["exposures"]}
    shown = {s: tuple(float(e[k]) for k in ("clients", "house", "lp")) for s, e in exposures.items()}
    assert shown["EURUSD"] == (2.1, -0.1, 2.0)
    assert shown["XAUUSD"] == (-1.5, 0.6, -0.9)
    assert shown["USDJPY"] == (-0.25, 0.25, 0.0)
    assert all(abs(clients + house - lp) < 1e-9 for clients, house, lp in shown.values())


def test_the_ledger_sums_to_zero_and_a_missing_cent_is_seen(desk: "redis.Redis", dealer: User) -> None:
    sums = {s["currency"]: s["sum"] for s in figures(dealer)["ledger_sums"]}
    assert sums == {"EUR": "0.00000000", "USD": "0.00000000"}
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_balance SET balance = balance + 0.01 WHERE account = 'bank' AND currency = 'EUR'")
    sums = {s["currency"]: s["sum"] for s in figures(dealer)["ledger_sums"]}
    assert sums == {"EUR": "0.01000000", "USD": "0.00000000"}


def test_every_process_provider_and_symbol_is_there_also_when_silent(desk: "redis.Redis", dealer: User) -> None:
    desk.delete("quote:EURUSD", "lp:state:YOFX1", "supervisor:processes")
    found = figures(dealer)
    quotes = {q["symbol"]: q["bid"] for q in found["quotes"]}
    assert quotes["EURUSD"] is None
    assert len(quotes) == len(desk_scene.PRICES)
    states = {lp["lp"]: (lp["price"], lp["trade"]) for lp in found["lps"]}
    assert states == {"YOFX1": ("down", "down"), "PRIMEXM": ("up", "down")}
    assert {p["name"] for p in found["processes"]} == set(desk_scene.PROCESSES)


def test_decisions_come_with_every_condition_and_its_value(desk: "redis.Redis", dealer: User) -> None:
    decisions = figures(dealer)["decisions"]
    assert [d["order_id"] for d in decisions] == list(range(22, 2, -1))
    shared = next(d for d in decisions if d["book"] == "C")
    conditions = [c for rule in shared["decision"]["rules"] for c in rule["conditions"]]
    assert [(c["field"], c["expected"], c["actual"], c["passed"]) for c in conditions] == [
        ("client_class", ["professional"], "retail", False),
        ("volume", ["1"], "1.50", True),
    ]


def test_it_costs_a_handful_of_queries_however_much_is_open(desk: "redis.Redis", dealer: User) -> None:
    browser = logged_in(dealer)
    published.forget()
    kept.forget()
    with CaptureQueriesContext(connection) as asked:
        browser.get("/overview.json")
    assert len(asked) <= 9, [query["sql"][:60] for query in asked]


def test_alerts_are_shown_the_worst_first_until_they_are_cleared(desk: "redis.Redis", dealer: User) -> None:
    alerts = figures(dealer)["alerts"]
    assert [(alert["key"], alert["severity"]) for alert in alerts] == [
        ("invariant:I2", "critical"), ("lp_breaker:YOFX1", "warning"),
    ]  # fmt: skip
    Alert.objects.filter(key="invariant:I2").update(cleared_at=desk_scene.now())
    assert [alert["key"] for alert in figures(dealer)["alerts"]] == ["lp_breaker:YOFX1"]


def test_a_providers_breaker_is_told_beside_its_sessions(desk: "redis.Redis", dealer: User) -> None:
    assert {lp["lp"]: lp["breaker"] for lp in figures(dealer)["lps"]} == {"YOFX1": "open", "PRIMEXM": "killed"}


def test_without_redis_the_stored_figures_are_shown_all_the_same(
    desk: "redis.Redis", dealer: User, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    redis_connection.cache_clear()
    try:
        found = figures(dealer)
    finally:
        redis_connection.cache_clear()
    assert len(found["positions"]) == len(desk_scene.POSITIONS)
    assert {lp["trade"] for lp in found["lps"]} == {"down"}
    assert found["processes"] == []


def test_before_anything_is_published_the_processes_are_shown(redis_url: str, dealer: User) -> None:
    published.forget()
    redis_connection.cache_clear()
    assert figures(dealer)["config_version"] is None


def test_the_figures_are_made_once_for_all_screens() -> None:
    made: list[int] = []
    clock = [0.0]

    def make() -> bytes:
        made.append(1)
        return str(len(made)).encode()

    value = Kept(make, kept_s=0.5, now=lambda: clock[0])
    assert [value.get(), value.get()] == [b"1", b"1"]
    clock[0] = 0.49
    assert value.get() == b"1"
    clock[0] = 0.5
    assert value.get() == b"2"


# ---------------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def page(browser_type_launch_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page of a browser of this test's own: its driver runs a loop in this thread, which must be gone afterwards."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**browser_type_launch_args)
        yield browser.new_page()
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("size", list(SIZES))
def test_the_page_shows_it_all_live(
    desk: "redis.Redis",
    dealer: User,
    live_server: LiveServer,
    page: Page,
    size: str,
    tmp_path: Path,
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    cookie = logged_in(dealer).cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    page.goto(live_server.url + "/")

    expect(page.locator("#link")).to_have_text("live")
    quotes = page.locator('[data-table="quotes"] tr')
    expect(quotes).to_have_count(len(desk_scene.PRICES))
    eurusd = quotes.filter(has_text="EURUSD")
    expect(eurusd).to_contain_text("1.08312")
    expect(page.locator("#tile-ledger")).to_have_text("0.00 everywhere")
    expect(page.locator("#tile-alerts")).to_have_text("1 critical of 2")
    expect(page.locator('[data-table="alerts"] tr').first).to_contain_text("I2: account 10001 shows 9985.12")
    expect(page.locator('[data-table="lps"] tr').filter(has_text="YOFX1")).to_contain_text("breaker open")
    expect(page.locator('[data-table="lps"] tr').filter(has_text="PRIMEXM").locator(".light.off").first).to_have_text(
        "down"
    )

    desk_scene.show_quotes(desk, moved_points=7)
    expect(eurusd.locator(".price.up").first).to_have_text("1.08319")
    desk_scene.show_quotes(desk, moved_points=3)
    expect(eurusd.locator(".price.down").first).to_have_text("1.08315")

    why = page.get_by_role("button", name="Why order 22 went to C")
    why.click()
    detail = page.locator("td.detail")
    expect(detail).to_contain_text("client_class = professional")
    expect(detail).to_contain_text("YOFX1")
    take(page, tmp_path, f"overview-{size}-dark")
    page.get_by_role("button", name="Light").click()
    take(page, tmp_path, f"overview-{size}-light")
    expect(detail).to_be_visible()
    why.click()
    expect(detail).to_have_count(0)

    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0, "the page itself must not scroll sideways"
    page.context.clear_cookies()
    page.wait_for_url("**/admin/login/**")
    assert [text for text in complaints if "401" not in text] == []


def take(page: Page, folder: Path, name: str) -> None:
    target = Path(desk_scene.screenshots() or folder)
    page.screenshot(path=target / f"{name}.png", full_page=True)
    page.screenshot(path=target / f"{name}-first.png")
