"""Redis killed, stopped, full, emptied, or out of step: the doors fail closed, and nobody gets another's answer."""

import asyncio
import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.sessions.models import Session
from django.test import Client as Browser
from django.urls import URLPattern

from apps import published
from apps.accounts import access, tokens
from apps.accounts.models import Profile, User
from apps.doors import connections, limits
from apps.marketdata.queries import newest_quotes
from apps.operations.demo import seed_configuration
from apps.operations.services import publish_config, tell_config
from apps.published import current_config
from apps.streaming.feeds import Feeds
from apps.streaming.hub import Hub
from broker.embedded.redis import start_redis
from broker.embedded.service import Running
from broker.urls import v1
from bus import codec, names
from bus.client import AnswerTimeout, Client
from bus.clock import wall
from tests.integration.test_doors_rules import account_row, position_row
from tests.support.slow_redis import SlowRedis
from tests.waiting import eventually
from trading.answers import Answer
from trading.commands import Deposit
from trading.quotes import Quote

pytestmark = pytest.mark.django_db(transaction=True)
ANNA, BEN = 1, 2
COUNTED_PER_ACCOUNT = frozenset({
    "orders", "positions/1/close", "positions/1/close-by", "positions/1/reverse", "positions/close",
})  # fmt: skip
"""Once the request has named one: what is malformed, or about nothing of the caller's, is refused before."""
ANSWERED_WITHIN_S = 12.0
"""Of a Redis that stands still: two looks of two seconds, on a busy machine."""


@pytest.fixture
def own(data_folder: Path, settings: Any) -> Iterator[Running]:
    """A Redis that this test may hurt, behind the doors."""
    running = start_redis(data_folder)
    settings.REDIS_URL = running.url
    forget_connections()
    yield running
    running.stop()
    forget_connections()


def forget_connections() -> None:
    for cache in (published, access):
        cache.forget()
    connections.redis_connection.cache_clear()
    connections._engine.cache_clear()
    limits._take_script.cache_clear()


@pytest.fixture
def anna(own: Running, transactional_db: None) -> Browser:
    """A logged-in client, with the demo broker published."""
    seed_configuration()
    publish_config("staff:1", tell=False)
    user = User.objects.create_user("anna", password="a long password")
    Profile.objects.create(user=user, account=ANNA)
    account_row(ANNA)
    return bearer(tokens.issue(user).access)


def bearer(token: str) -> Browser:
    return Browser(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)


def kill(running: Running) -> None:
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()


def code_of(answer: Any) -> str:
    return str(json.loads(answer.content)["code"])


# --- gone ---


def routes() -> list[str]:
    """Every address of the API, with something in the place of ids."""
    found = [str(pattern.pattern) for pattern in v1 if isinstance(pattern, URLPattern)]
    return sorted(re.sub(r"<str:\w+>", "1", route) for route in found)


def test_with_redis_killed_no_route_lets_anything_through_uncounted_and_none_breaks(
    anna: Browser, own: Running, caplog: pytest.LogCaptureFixture
) -> None:
    anna.get("/v1/accounts")
    kill(own)
    told = {}
    with caplog.at_level(logging.ERROR):
        for route in routes():
            for method in ("GET", "POST"):
                answer = anna.generic(method, f"/v1/{route}", "{}", content_type="application/json")
                told[method, route] = answer.status_code, b"Traceback" in answer.content
    passed = {place: status for place, (status, _) in told.items() if status not in {401, 403, 405, 429, 503}}
    assert passed.pop(("GET", "schema")) == 200
    assert set(passed.values()) <= {404, 422}, f"only what names nothing that could be counted: {passed}"
    assert {route for _, route in passed} <= COUNTED_PER_ACCOUNT, passed
    assert not [place for place, (_, has_traceback) in told.items() if has_traceback]
    assert not [record for record in caplog.records if record.exc_info], "nothing is an error of ours"


@pytest.mark.parametrize("route", ["accounts", "quotes", "positions", "ledger", "status"])
def test_the_refusal_is_stable_and_says_when_to_come_again(anna: Browser, own: Running, route: str) -> None:
    kill(own)
    answer = anna.get(f"/v1/{route}")
    assert (answer.status_code, code_of(answer), answer["Retry-After"]) == (503, "busy", "1")


@pytest.mark.parametrize("route", ["orders", "positions/7/close", "positions/close"])
def test_what_is_counted_per_account_does_not_pass_either(anna: Browser, own: Running, route: str) -> None:
    position_row(7, ANNA)
    kill(own)
    order = {"symbol": "EURUSD", "side": "buy", "type": "market", "volume": "0.10", "account": ANNA}
    body = {"orders": order, "positions/close": {"which": "all", "account": ANNA}}.get(route, {})
    answer = anna.post(f"/v1/{route}", body, content_type="application/json")
    assert (answer.status_code, code_of(answer)) == (503, "busy"), answer.content


def test_nobody_logs_in_uncounted(anna: Browser, own: Running) -> None:
    kill(own)
    body = {"username": "anna", "password": "a long password"}
    answer = Browser().post("/v1/auth/token", body, content_type="application/json")
    assert (answer.status_code, code_of(answer)) == (503, "busy")


def test_when_it_is_back_the_first_request_is_answered(anna: Browser, own: Running, data_folder: Path) -> None:
    """Though the pool's connections are to the one that died, and the script is not known to the new one."""
    assert anna.get("/v1/accounts").status_code == 200
    kill(own)
    again = start_redis(data_folder)
    try:
        assert anna.get("/v1/accounts").status_code == 200
    finally:
        again.stop()


def test_one_that_stands_still_is_given_up_soon(anna: Browser, own: Running) -> None:
    assert anna.get("/v1/accounts").status_code == 200
    os.kill(own.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        answer = anna.get("/v1/accounts")
    finally:
        os.kill(own.pid, signal.SIGCONT)
    assert (answer.status_code, code_of(answer)) == (503, "busy")
    assert time.monotonic() - began < ANSWERED_WITHIN_S
    assert anna.get("/v1/accounts").status_code == 200


def test_one_that_refuses_to_write_counts_nobody_and_lets_nobody_through(anna: Browser, own: Running) -> None:
    server = redis.Redis.from_url(own.url)
    server.config_set("maxmemory", "1")
    answer = anna.get("/v1/accounts")
    assert (answer.status_code, code_of(answer)) == (503, "busy")
    server.config_set("maxmemory", "0")
    assert anna.get("/v1/accounts").status_code == 200


def test_publishing_a_configuration_does_not_need_it(anna: Browser, own: Running) -> None:
    kill(own)
    assert tell_config(current_config(), "staff:1") is False


# --- emptied ---


def test_a_flush_brings_no_login_back(anna: Browser, own: Running) -> None:
    """Tokens and sessions live in PostgreSQL: what was ended stays ended, what lives goes on."""
    user = User.objects.get(username="anna")
    browser = Browser()
    browser.force_login(user)
    ended = browser.cookies["sessionid"].value
    Session.objects.filter(session_key=ended).delete()
    old = tokens.issue(user)
    tokens.revoke_all(user)
    fresh = bearer(tokens.issue(User.objects.get(pk=user.pk)).access)
    redis.Redis.from_url(own.url).flushall()
    assert bearer(old.access).get("/v1/accounts").status_code == 401
    refreshed = Browser().post("/v1/auth/refresh", {"refresh": old.refresh}, content_type="application/json")
    assert refreshed.status_code == 401
    assert browser.get("/v1/accounts").status_code == 401
    assert fresh.get("/v1/accounts").status_code == 200


def test_limits_begin_anew_and_are_exact_again(anna: Browser, own: Running, settings: Any) -> None:
    """What a flush gives is one window's worth of requests, once; nobody outside can flush."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "history": "3/minute"}
    limits._item.cache_clear()
    try:
        asked = [anna.get("/v1/ledger").status_code for _ in range(4)]
        redis.Redis.from_url(own.url).flushall()
        asked += [anna.get("/v1/ledger").status_code for _ in range(4)]
    finally:
        limits._item.cache_clear()
    assert asked == [200, 200, 200, 429] * 2


# --- another request's answer ---


@pytest.fixture
def proxy(own: Running) -> Iterator[SlowRedis]:
    proxy = SlowRedis(own.url)
    yield proxy
    proxy.close()


def deposit(name: str, account: int) -> Deposit:
    return Deposit(id=name, key=name, account=account, amount=Decimal(1))


def echo(server: "redis.Redis", stopped: threading.Event) -> None:
    """An engine that answers every command with its account."""
    last = "0-0"
    while not stopped.is_set():
        found: Any = server.xread({names.commands(0): last}, block=50)
        for _, entries in found or ():
            for entry_id, fields in entries:
                last = entry_id.decode()
                command = codec.decode_command(fields[b"c"])
                answer = Answer(command_id=command.id, reference=command.account)
                server.xadd(names.replies(command.reply_to), {"a": codec.encode([answer])})


@pytest.fixture
def echoing(own: Running) -> Iterator[None]:
    stopped = threading.Event()
    thread = threading.Thread(target=echo, args=(redis.Redis.from_url(own.url), stopped))
    thread.start()
    yield
    stopped.set()
    thread.join()


def test_a_command_whose_question_timed_out_leaves_no_answer_for_the_next(proxy: SlowRedis, echoing: None) -> None:
    client = Client(f"{proxy.url}?socket_timeout=0.3", wall)
    try:
        assert client.submit(deposit("warm", ANNA), 5).reference == ANNA
        proxy.hold()
        with pytest.raises(AnswerTimeout):
            client.submit(deposit("slow", ANNA), 0.5)
        before = proxy.connections
        proxy.release()
        assert client.submit(deposit("next", BEN), 5).reference == BEN
        assert proxy.connections > before, "the connection that owed an answer was dropped"
    finally:
        client.close()


class Interrupted(BaseException):
    """What ends a thread's call from outside: a worker's timeout, an interrupt."""


def test_a_command_that_was_broken_off_leaves_no_answer_for_the_next(
    proxy: SlowRedis, echoing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(proxy.url, wall)
    read = redis.Connection.read_response

    def broken_off(self: "redis.Connection", *given: Any, **named: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            raise Interrupted
        return read(self, *given, **named)

    try:
        assert client.submit(deposit("warm", ANNA), 5).reference == ANNA
        with monkeypatch.context() as patched:
            patched.setattr(redis.Connection, "read_response", broken_off)
            with pytest.raises(Interrupted):
                client.submit(deposit("broken-off", ANNA), 5)
        pool: Any = client._pool
        connection = pool.get_connection()
        assert not connection.can_read(timeout=0.2), "nothing is owed to somebody else on it"
        pool.release(connection)
        assert client.submit(deposit("next", BEN), 5).reference == BEN
    finally:
        client.close()


def stored(server: "redis.Redis", *symbols: str) -> None:
    for number, symbol in enumerate(symbols):
        price = Decimal(number + 1)
        quote = Quote(symbol=symbol, seq=1, bid=price, ask=price, at_us=1, tops=())
        server.hset(names.quote(symbol), "quote", codec.encode(quote))


def test_a_cancelled_look_of_the_stream_gives_its_answer_to_nobody(proxy: SlowRedis, own: Running) -> None:
    symbols = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD")
    stored(redis.Redis.from_url(own.url), *symbols)

    async def story() -> dict[str, Quote]:
        hub = Hub()
        feeds = Feeds(hub, redis_url=proxy.url, now_us=wall)
        await feeds._load_quotes()
        for _ in range(5):
            hub._quotes.clear()
            held = proxy.held
            proxy.hold()
            look = asyncio.create_task(feeds._load_quotes())
            await asyncio.to_thread(eventually, partial(_has_held, proxy, held), within_s=5)
            look.cancel()
            await asyncio.gather(look, return_exceptions=True)
            proxy.release()
            await feeds._load_quotes()
        await feeds._redis.aclose()
        return dict(hub._quotes)

    found = asyncio.run(story())
    assert {symbol: quote.symbol for symbol, quote in found.items()} == {symbol: symbol for symbol in symbols}
    assert len({quote.bid for quote in found.values()}) == len(symbols)


def _has_held(proxy: SlowRedis, before: int) -> bool:
    return proxy.held > before


def test_what_is_kept_under_another_symbols_key_is_not_believed(anna: Browser, own: Running) -> None:
    server = redis.Redis.from_url(own.url)
    stored(server, "GBPUSD")
    other = server.hget(names.quote("GBPUSD"), "quote")
    server.hset(names.quote("EURUSD"), "quote", other or b"")
    with pytest.raises(redis.RedisError):
        newest_quotes(["EURUSD"])
    answer = anna.get("/v1/quotes")
    assert (answer.status_code, code_of(answer)) == (503, "busy")


def test_a_count_of_somebody_elses_requests_lets_nobody_through(
    anna: Browser, own: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_another(**_: Any) -> list[Any]:
        return [50, 1_000_000, b"limit:other:user:77"]

    with monkeypatch.context() as patched:
        patched.setattr(limits, "_take_script", lambda: of_another)
        answer = anna.get("/v1/accounts")
    assert (answer.status_code, code_of(answer)) == (503, "busy")


def test_every_thread_is_counted_once_when_many_ask_at_once(
    own: Running, transactional_db: None, settings: Any
) -> None:
    """And none of them is told another's count."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "other": "40/minute"}
    limits._item.cache_clear()
    refused: list[int] = []

    def ask() -> None:
        browser = Browser(raise_request_exception=False)
        refused.extend(browser.get("/v1/time").status_code for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limits._item.cache_clear()
    assert sorted(refused) == [200] * 40 + [429] * 40
