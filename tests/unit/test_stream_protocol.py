"""The words of the stream: what is a request, what is refused, and how messages are spelt."""

import json

import pytest

from apps.streaming import protocol
from apps.streaming.origins import is_own_origin
from apps.streaming.protocol import Auth, BadMessage, Channel, Ping, Subscribe, Unsubscribe, parse
from trading.refusals import Refusal


def test_requests_are_read_with_their_defaults() -> None:
    assert parse('{"op":"auth","token":"t"}') == Auth(token="t")
    assert parse('{"op":"ping","id":"x"}') == Ping(id="x")
    assert parse('{"op":"subscribe","id":1,"channel":"quotes","symbols":["EURUSD"]}') == Subscribe(
        id=1, channel="quotes", symbols=("EURUSD",), snapshot=True, conflate_ms=0
    )
    assert parse('{"op":"subscribe","channel":"orders","account":10001,"since":7}') == Subscribe(
        channel="orders", account=10001, since=7
    )
    assert parse('{"op":"unsubscribe","channel":"quotes"}') == Unsubscribe(channel="quotes")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "null",
        "[]",
        "{",
        '{"op":"subscribe"}',
        '{"op":"sell"}',
        '{"token":"t"}',
        '{"op":"auth","token":""}',
        '{"op":"auth","token":7}',
        '{"op":"subscribe","channel":"orders","sinse":3}',
        '{"op":"subscribe","channel":"orders","since":-1}',
        '{"op":"subscribe","channel":"orders","since":1.5}',
        '{"op":"subscribe","channel":"orders","since":"7"}',
        '{"op":"subscribe","channel":"orders","account":9223372036854775808}',
        '{"op":"subscribe","channel":"quotes","symbols":[""]}',
        '{"op":"subscribe","channel":"quotes","symbols":["' + "X" * 33 + '"]}',
        '{"op":"subscribe","channel":"quotes","symbols":' + json.dumps(["EURUSD"] * 201) + "}",
        '{"op":"subscribe","channel":"quotes","symbols":"EURUSD"}',
        '{"op":"subscribe","channel":"quotes","conflate_ms":60001}',
        '{"op":"ping","id":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"op":"ping","id":"' + "é" * 40_000 + '"}',
        '{"op":"ping"}' + " " * 65_536,
        '{"op":"ping","id":"\ud800"}',
    ],
)
def test_everything_else_is_a_bad_message(text: str | None) -> None:
    with pytest.raises(BadMessage):
        parse(text)


def test_a_request_of_exactly_the_largest_size_is_read_and_one_byte_more_is_not() -> None:
    largest = '{"op":"ping"}'.ljust(protocol.MESSAGE_BYTES_MAX)
    assert parse(largest) == Ping()
    with pytest.raises(BadMessage):
        parse(largest + " ")


def test_messages_are_spelt_as_documented() -> None:
    ts = "2026-01-30T12:00:00.000000Z"
    spelt = {
        protocol.quotes_ack(1, ["EURUSD"], ["XXXYYY"], 1000): {
            "type": "ack",
            "id": 1,
            "channel": "quotes",
            "symbols": ["EURUSD"],
            "rejected": ["XXXYYY"],
            "conflate_ms": 1000,
        },
        protocol.quote_message("update", "EURUSD", 8812, 8811, ts, {"bid": "1.08313"}): {
            "type": "update",
            "channel": "quotes",
            "symbol": "EURUSD",
            "seq": 8812,
            "prev": 8811,
            "ts": ts,
            "data": {"bid": "1.08313"},
        },
        protocol.event_message(Channel.ORDERS, "order.filled", 10001, 9, ts, b'{"order":{"ticket":3},"deals":[]}'): {
            "type": "event",
            "channel": "orders",
            "event_id": 9,
            "event": "order.filled",
            "account": 10001,
            "ts": ts,
            "order": {"ticket": 3},
            "deals": [],
        },
        protocol.event_message(Channel.ACCOUNT, "account.balance", 10001, 10, ts, b'{"balance":"5.00"}'): {
            "type": "event",
            "channel": "account",
            "event_id": 10,
            "event": "account.balance",
            "account": 10001,
            "ts": ts,
            "balance": {"balance": "5.00"},
        },
        protocol.event_message(Channel.POSITIONS, "position.closed", 10001, 11, ts, b'{"id":4}'): {
            "type": "event",
            "channel": "positions",
            "event_id": 11,
            "event": "position.closed",
            "account": 10001,
            "ts": ts,
            "position": {"id": 4},
        },
        protocol.heartbeat(ts): {"type": "heartbeat", "ts": ts},
    }
    for text, meant in spelt.items():
        assert json.loads(text) == meant


@pytest.mark.parametrize("code", [*Refusal, protocol.UNKNOWN_CHANNEL, protocol.SUBSCRIPTION_LIMIT, protocol.GAP])
def test_every_refusal_can_be_told(code: str) -> None:
    told = json.loads(protocol.error(2, code, "why"))
    assert (told["type"], told["id"], told["code"], told["problem"]["detail"]) == ("error", 2, code, "why")
    assert told["problem"]["title"].endswith(".")


@pytest.mark.parametrize(
    ("kind", "channel"),
    [
        ("order.filled", Channel.ORDERS),
        ("position.opened", Channel.POSITIONS),
        ("account.balance", Channel.ACCOUNT),
        ("margin.call", Channel.ACCOUNT),
        ("transfer.done", None),
        ("orders.filled", None),
    ],
)
def test_an_events_kind_names_its_channel(kind: str, channel: Channel | None) -> None:
    assert protocol.channel_of(kind) is channel


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8001", True),
        ("https://trade.example.com", "trade.example.com", True),
        ("http://[::1]:8000", "[::1]:8001", True),
        ("https://partner.example.org", "trade.example.com", True),
        ("https://evil.example", "trade.example.com", False),
        ("https://trade.example.com.evil.example", "trade.example.com", False),
        ("https://evil.trade.example.com", "trade.example.com", False),
        ("null", "trade.example.com", False),
        ("", "trade.example.com", False),
        ("file://trade.example.com", "trade.example.com", False),
        ("//trade.example.com", "trade.example.com", False),
        ("http://[", "trade.example.com", False),
    ],
)
def test_only_our_own_and_trusted_pages_may_use_a_cookie(origin: str, host: str, is_own: bool) -> None:
    assert is_own_origin(origin, host, ["https://partner.example.org"]) is is_own
