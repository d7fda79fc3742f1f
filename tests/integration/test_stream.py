"""The stream as a process of its own: a real ASGI server, Redis, PostgreSQL and WebSocket clients."""

import itertools
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client as Browser
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from apps.accounts import tokens
from apps.accounts.models import Account, Profile, User
from apps.operations.models import ConfigVersion, Outbox
from bus import names
from bus.codec import encode
from tests.waiting import eventually
from trading.configuration import Config, Group, Markup, Policy
from trading.instruments import Instrument
from trading.quotes import Quote

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 10.0
_versions = itertools.count(1)
_seqs = itertools.count(1000)


@dataclass
class Stream:
    """The process under test, and the ways to feed it."""

    port: int
    pid: int
    redis: "redis.Redis"
    told: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def open(self, path: str = "/v1/stream", **options: Any) -> Iterator[ClientConnection]:
        with connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, **options) as socket_:
            yield socket_

    @contextmanager
    def logged_in(self, user: User, path: str = "/v1/stream") -> Iterator[ClientConnection]:
        with self.open(path) as client:
            say(client, op="auth", token=tokens.issue(user).access)
            assert hear(client)["op"] == "auth"
            yield client

    def quote(self, bid: str, ask: str, symbol: str = "EURUSD") -> Quote:
        quote = Quote(
            symbol=symbol,
            seq=next(_seqs),
            bid=Decimal(bid),
            ask=Decimal(ask),
            at_us=1_700_000_000_000_000 + next(_seqs),
        )
        self.redis.publish(names.QUOTES, encode(quote))
        return quote

    def store(self, account: int, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Commit one event, as the engine does before anything is published."""
        return self.store_many(account, kind, payload, 1)[0]

    def store_many(self, account: int, kind: str, payload: dict[str, Any], count: int) -> list[dict[str, Any]]:
        events, rows = [], []
        for _ in range(count):
            seq = self.told[account] = self.told.get(account, 0) + 1
            at = datetime(2026, 1, 30, 12, 0, 0, seq, tzinfo=UTC)
            at_us = int(at.timestamp()) * 1_000_000 + seq
            events.append({"account": account, "seq": seq, "kind": kind, "payload": payload, "at_us": at_us})
            keys = {"shard": 0, "shard_seq": next(_seqs), "account": account, "account_seq": seq}
            rows.append(Outbox(**keys, kind=kind, payload=payload, at=at))
        Outbox.objects.bulk_create(rows)
        return events

    def publish(self, *events: dict[str, Any]) -> None:
        self.redis.publish(names.events(0), json.dumps(events))

    def happen(self, account: int, kind: str = "order.filled", payload: dict[str, Any] | None = None) -> None:
        self.publish(self.store(account, kind, {"order": {"ticket": 1}, "deals": []} if payload is None else payload))


def say(client: ClientConnection, **request: Any) -> None:
    client.send(json.dumps(request))


def hear(client: ClientConnection) -> dict[str, Any]:
    """The next message that is not a heartbeat."""
    while True:
        message: dict[str, Any] = json.loads(client.recv(WITHIN_S))
        if message["type"] != "heartbeat":
            return message


def closing_code(client: ClientConnection) -> int | None:
    """Read until the server closes; its code."""
    try:
        while True:
            client.recv(WITHIN_S)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def instrument(symbol: str, digits: int) -> Instrument:
    return Instrument(
        symbol=symbol,
        description=symbol,
        base=symbol[:3],
        quote=symbol[3:],
        digits=digits,
        contract_size=Decimal(100000),
        volume_min=Decimal("0.01"),
        volume_max=Decimal(100),
        volume_step=Decimal("0.01"),
        quote_age_max_us=3_000_000,
    )


def publish_config(stream: Stream) -> None:
    groups = {
        name: Group(name=name, commission_per_lot=Decimal(0), leverage_max=30, markup=Markup(bid=points, ask=points))
        for name, points in (("retail", 2), ("pro", 0))
    }
    config = Config(
        version=next(_versions),
        instruments={"EURUSD": instrument("EURUSD", 5), "USDJPY": instrument("USDJPY", 3)},
        groups=groups,
        lps={},
        policy=Policy(version=1, rules=()),
        currency_digits={"EUR": 2, "USD": 2, "JPY": 0},
        conversions={},
    )
    ConfigVersion.objects.create(
        version=config.version,
        document=json.loads(encode(config)),
        published_at=datetime(2026, 1, 30, tzinfo=UTC),
        published_by="test",
    )
    stream.redis.publish(names.CONFIG, str(config.version))


def open_account(user: User, number: int, group: str, client_class: str) -> None:
    Account.objects.create(
        id=number,
        shard=0,
        group=group,
        currency="USD",
        leverage=30,
        client_class=client_class,
        rights="full",
        balance=0,
        credit=0,
        version=0,
        seq=0,
    )
    Profile.objects.create(user=user, account=number)


def environment() -> dict[str, str]:
    """For a process that shares this test's database and Redis."""
    url = os.environ["DATABASE_URL"].replace("/tribook?", f"/{connection.settings_dict['NAME']}?")
    path = f"{ROOT}:{ROOT / 'platform'}"
    return {**os.environ, "DATABASE_URL": url, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "broker.settings"}


@contextmanager
def stream_process(redis_url: str, log: Path) -> Iterator[Stream]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "broker.asgi:application", "--lifespan", "off", "--host", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=environment(), cwd=ROOT, stdout=output, stderr=output
        )
    try:
        eventually(lambda: process.poll() is not None or serves(port), within_s=30)
        assert process.poll() is None, log.read_text()
        yield Stream(port=port, pid=process.pid, redis=redis.Redis.from_url(redis_url))
    finally:
        process.terminate()
        process.wait(60)


def serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def process(django_db_setup: None, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    with stream_process(redis_url, tmp_path_factory.mktemp("stream") / "stream.log") as stream:
        yield stream


@pytest.fixture
def stream(process: Stream, anna: User, ben: User) -> Stream:
    """The process with a configuration of this test's, and anna (retail) and ben (pro)."""
    process.told.clear()
    publish_config(process)
    with process.logged_in(ben) as client:

        def has_config() -> bool:
            say(client, op="subscribe", channel="quotes", symbols=["EURUSD"], snapshot=False)
            ack = hear(client)
            return bool(ack["symbols"] == ["EURUSD"])

        eventually(has_config)
    return process


@pytest.fixture
def anna(transactional_db: None) -> User:
    user = User.objects.create_user("anna")
    open_account(user, 10001, "retail", "retail")
    return user


@pytest.fixture
def ben(transactional_db: None) -> User:
    user = User.objects.create_user("ben")
    open_account(user, 10002, "pro", "professional")
    return user


# ---------------------------------------------------------------------------------------------------------------- login


def test_the_process_is_alive_without_a_client(stream: Stream) -> None:
    health = eventually(lambda: stream.redis.hgetall(names.health("stream")) or None)
    assert int(health[b"pid"]) == stream.pid
    assert set(json.loads(health[b"detail"])) == {"clients", "sends", "conflated"}


def test_a_token_in_the_first_message_logs_in_and_names_the_accounts(stream: Stream, anna: User) -> None:
    with stream.open() as client:
        say(client, op="auth", id=1, token=tokens.issue(anna).access)
        assert hear(client) == {"type": "ack", "id": 1, "op": "auth", "accounts": [10001]}
        say(client, op="ping", id="p")
        pong = hear(client)
        assert (pong["type"], pong["id"]) == ("pong", "p")


@pytest.mark.parametrize(
    ("message", "code", "close"),
    [
        ('{"op":"auth","token":"wrong"}', "not_authenticated", 4401),
        ('{"op":"subscribe","channel":"quotes","symbols":["EURUSD"]}', "not_authenticated", 4401),
        ('{"op":"ping"}', "not_authenticated", 4401),
        ("hello", "invalid_request", 4400),
        ('{"op":"sell"}', "invalid_request", 4400),
        (b"\x00\x01", "invalid_request", 4400),
        ('{"op":"ping","id":"' + "x" * 70_000 + '"}', "invalid_request", 4400),
    ],
)
def test_what_does_not_log_in_is_told_why_and_closed(
    stream: Stream, message: str | bytes, code: str, close: int
) -> None:
    with stream.open() as client:
        client.send(message)
        assert hear(client)["code"] == code
        assert closing_code(client) == close


def test_a_revoked_token_does_not_log_in(stream: Stream, anna: User) -> None:
    token = tokens.issue(anna).access
    anna.revoke_tokens()
    with stream.open() as client:
        say(client, op="auth", token=token)
        assert hear(client)["code"] == "token_expired"
        assert closing_code(client) == 4401


def test_silence_is_closed_after_five_seconds(stream: Stream) -> None:
    with stream.open() as client:
        assert closing_code(client) == 4408


def session_of(user: User) -> str:
    browser = Browser()
    browser.force_login(user)
    return f"sessionid={browser.cookies['sessionid'].value}"


def test_a_browser_with_its_session_and_our_origin_is_logged_in_at_the_handshake(stream: Stream, anna: User) -> None:
    with stream.open(origin="http://127.0.0.1:8000", additional_headers={"Cookie": session_of(anna)}) as client:
        assert hear(client) == {"type": "ack", "id": None, "op": "auth", "accounts": [10001]}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_a_foreign_page_is_refused_before_the_handshake(stream: Stream, anna: User, origin: str) -> None:
    cookies = {"Cookie": session_of(anna)}
    with pytest.raises(InvalidStatus) as refused, stream.open(origin=origin, additional_headers=cookies):
        pass
    assert refused.value.response.status_code == 403


def test_a_cookie_without_an_origin_logs_nobody_in(stream: Stream, anna: User) -> None:
    with stream.open(additional_headers={"Cookie": session_of(anna)}) as client:
        say(client, op="ping")
        assert hear(client)["code"] == "not_authenticated"


@pytest.mark.parametrize("path", ["/", "/v1/streams", "/v1/market-data/"])
def test_there_is_nothing_at_other_addresses(stream: Stream, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused, stream.open(path):
        pass
    assert refused.value.response.status_code == 403


def test_plain_http_is_told_to_use_a_websocket(stream: Stream) -> None:
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"http://127.0.0.1:{stream.port}/v1/stream", timeout=5)
    assert answer.value.code == 426


# --------------------------------------------------------------------------------------------------------------- quotes


def test_quotes_carry_the_groups_markup_and_come_as_snapshot_then_changes(
    stream: Stream, anna: User, ben: User
) -> None:
    first = stream.quote("1.08312", "1.08319")
    with stream.logged_in(anna) as retail, stream.logged_in(ben) as pro:
        for client in (retail, pro):
            say(client, op="subscribe", id=1, channel="quotes", symbols=["EURUSD", "XXXYYY"])
        acks = [hear(client) for client in (retail, pro)]
        snapshots = [hear(client) for client in (retail, pro)]
        stream.quote("1.08313", "1.08319")
        updates = [hear(client) for client in (retail, pro)]
    assert [(a["symbols"], a["rejected"], a["conflate_ms"]) for a in acks] == [
        (["EURUSD"], ["XXXYYY"], 1000),
        (["EURUSD"], ["XXXYYY"], 100),
    ]
    assert [s["type"] for s in snapshots] == ["snapshot", "snapshot"]
    assert snapshots[0]["data"] == {"bid": "1.08310", "ask": "1.08321"}
    assert snapshots[1]["data"] == {"bid": "1.08312", "ask": "1.08319"}
    assert snapshots[0]["seq"] == snapshots[1]["seq"]
    assert [u["data"] for u in updates] == [{"bid": "1.08311"}, {"bid": "1.08313"}]
    assert all(u["prev"] == s["seq"] < u["seq"] for u, s in zip(updates, snapshots, strict=True))
    assert first.bid == Decimal("1.08312")


def test_the_market_data_socket_begins_with_its_symbol(stream: Stream, ben: User) -> None:
    stream.quote("157.001", "157.011", "USDJPY")
    with stream.logged_in(ben, "/v1/market-data/USDJPY") as client:
        assert hear(client)["symbols"] == ["USDJPY"]
        assert hear(client)["data"] == {"bid": "157.001", "ask": "157.011"}


def test_the_market_data_socket_of_an_unknown_symbol_is_closed(stream: Stream, ben: User) -> None:
    with stream.logged_in(ben, "/v1/market-data/XXXYYY") as client:
        assert hear(client)["code"] == "unknown_symbol"
        assert closing_code(client) == 4400


def test_after_unsubscribing_nothing_comes(stream: Stream, ben: User) -> None:
    with stream.logged_in(ben) as client:
        say(client, op="subscribe", channel="quotes", symbols=["EURUSD"], snapshot=False)
        hear(client)
        say(client, op="unsubscribe", channel="quotes", symbols=["EURUSD"])
        assert hear(client)["op"] == "unsubscribe"
        stream.quote("1.2", "1.3")
        say(client, op="ping", id="after")
        assert hear(client)["id"] == "after"


# ------------------------------------------------------------------------------------------------------- account events


def test_events_are_replayed_from_where_the_client_was_and_go_on_live(stream: Stream, anna: User) -> None:
    stream.store_many(10001, "order.filled", {"order": {"ticket": 1}, "deals": []}, 450)  # more than two pages
    with stream.logged_in(anna) as client:
        say(client, op="subscribe", id=2, channel="orders", since=3)
        assert hear(client) == {"type": "ack", "id": 2, "channel": "orders", "account": 10001, "since": 3}
        for _ in range(5):
            stream.happen(10001)
        received = [hear(client) for _ in range(452)]
    assert [m["event_id"] for m in received] == list(range(4, 456))
    assert received[0]["event"] == "order.filled"
    assert received[0]["order"] == {"ticket": 1}
    assert received[0]["ts"] == "2026-01-30T12:00:00.000004Z"


def test_a_live_message_that_was_lost_is_read_from_the_outbox(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        say(client, op="subscribe", channel="orders", account=10001)
        hear(client)
        stream.store(10001, "order.accepted", {"order": {}, "deals": []})
        stream.happen(10001)
        assert [hear(client)["event"] for _ in range(2)] == ["order.accepted", "order.filled"]


def test_each_channel_gets_its_own_kinds(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        for channel in ("positions", "account"):
            say(client, op="subscribe", channel=channel)
            hear(client)
        stream.happen(10001)
        stream.happen(10001, "position.opened", {"id": 5})
        stream.happen(10001, "account.balance", {"balance": "10.00"})
        opened, balance = hear(client), hear(client)
    assert (opened["channel"], opened["event_id"], opened["position"]) == ("positions", 2, {"id": 5})
    assert (balance["channel"], balance["event_id"], balance["balance"]) == ("account", 3, {"balance": "10.00"})


def test_other_peoples_and_inexistent_accounts_are_equally_unknown(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        answers = []
        for account in (10002, 99999):
            say(client, op="subscribe", id=1, channel="orders", account=account)
            answers.append(hear(client))
        stream.happen(10002)
        say(client, op="ping", id="after")
        assert hear(client)["id"] == "after"
    assert answers[0] == answers[1]
    assert answers[0]["code"] == "unknown_account"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"channel": "depth", "symbols": ["EURUSD"]}, "unknown_channel"),
        ({"channel": "quotes"}, "invalid_request"),
        ({"channel": "orders", "since": 1}, "gap"),
    ],
)
def test_a_subscription_that_cannot_be_is_refused_and_the_socket_stays(
    stream: Stream, anna: User, request_: dict[str, Any], code: str
) -> None:
    with stream.logged_in(anna) as client:
        say(client, op="subscribe", id=9, **request_)
        refusal = hear(client)
        assert (refusal["type"], refusal["id"], refusal["code"]) == ("error", 9, code)
        say(client, op="ping", id="still")
        assert hear(client)["id"] == "still"


# ----------------------------------------------------------------------------------------------------- losing the right


def test_revoking_the_tokens_closes_the_socket_within_five_seconds(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        anna.revoke_tokens()
        assert closing_code(client) == 4401


def test_disabling_the_user_closes_the_socket(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        User.objects.filter(pk=anna.pk).update(is_active=False)
        assert closing_code(client) == 4401


def test_logging_out_closes_the_browsers_socket(stream: Stream, anna: User) -> None:
    browser = Browser()
    browser.force_login(anna)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"
    with stream.open(origin="http://127.0.0.1:8000", additional_headers={"Cookie": cookie}) as client:
        assert hear(client)["op"] == "auth"
        browser.logout()
        assert closing_code(client) == 4401


def test_losing_an_account_that_is_followed_closes_the_socket(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        say(client, op="subscribe", channel="orders")
        hear(client)
        Profile.objects.filter(account=10001).delete()
        assert closing_code(client) == 4403


def test_rights_are_read_again_at_each_subscription(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        Profile.objects.filter(account=10001).delete()
        say(client, op="subscribe", channel="orders", account=10001)
        assert hear(client)["code"] == "unknown_account"


# --------------------------------------------------------------------------------------------------------------- bounds


def test_too_many_messages_close_the_socket(stream: Stream, anna: User) -> None:
    with stream.logged_in(anna) as client:
        for _ in range(100):
            say(client, op="ping")
        codes = [m["code"] for m in read_all(client) if m["type"] == "error"]
        assert codes == ["rate_limited"]
        assert client.close_code == 4429


def read_all(client: ClientConnection) -> list[dict[str, Any]]:
    messages = []
    try:
        while True:
            messages.append(json.loads(client.recv(WITHIN_S)))
    except ConnectionClosed:
        return messages


class Stuck:
    """A client that sends and then reads nothing until it is told to: no thread empties its connection behind its back."""

    def __init__(self, port: int) -> None:
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/v1/stream"))
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while self._protocol.state is not State.OPEN:
            self._protocol.receive_data(self._socket.recv(65536))

    def say(self, **request: Any) -> None:
        self._protocol.send_text(json.dumps(request).encode())
        self._flush()

    def closing_code(self) -> int | None:
        """Read everything; the code that the server closed with."""
        while self._protocol.close_rcvd is None and (data := self._socket.recv(1 << 20)):
            self._protocol.receive_data(data)
        self._socket.close()
        return self._protocol.close_rcvd.code if self._protocol.close_rcvd else None

    def _flush(self) -> None:
        self._socket.sendall(b"".join(self._protocol.data_to_send()))


def test_a_client_that_does_not_read_is_closed_with_4429_while_another_gets_everything(
    stream: Stream, anna: User
) -> None:
    payload = {"order": {"ticket": 1, "comment": "x" * 20_000}, "deals": []}
    stuck = Stuck(stream.port)
    stuck.say(op="auth", token=tokens.issue(anna).access)
    stuck.say(op="subscribe", channel="orders", since=0)
    with stream.logged_in(anna) as quick:
        say(quick, op="subscribe", channel="orders", since=0)
        assert hear(quick)["type"] == "ack"
        received = 0
        for _ in range(20):
            stream.publish(*stream.store_many(10001, "order.filled", payload, 100))
            for _ in range(100):
                received += 1
                assert hear(quick)["event_id"] == received
    assert received == 2000
    assert stuck.closing_code() == 4429


def test_a_restart_tells_every_client_to_come_back(stream: Stream, anna: User, redis_url: str, tmp_path: Path) -> None:
    with stream_process(redis_url, tmp_path / "second.log") as second, second.logged_in(anna) as client:
        os.kill(second.pid, 15)
        assert closing_code(client) == 4503
