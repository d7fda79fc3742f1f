"""What clients and the stream say to each other: one text JSON format for every socket.

Only words live here: requests parsed, messages spelt, close codes and limits named. Nothing is sent, read or timed. An
unknown field is refused rather than ignored, because a misspelt `since` would silently lose events.
"""

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trading.refusals import REGISTRY, Refusal

MESSAGE_BYTES_MAX = 64 * 1024
SYMBOLS_PER_CLIENT_MAX = 200
PRIVATE_SUBSCRIPTIONS_MAX = 20
CONFLATE_MS_MAX = 60_000
AUTH_WITHIN_S = 5.0
HEARTBEAT_S = 5.0


class Close(IntEnum):
    """Why the server closed the socket."""

    BAD_MESSAGE = 4400
    NOT_AUTHENTICATED = 4401
    FORBIDDEN = 4403
    AUTH_TIMEOUT = 4408
    LIMIT = 4429
    """Too slow, or too much."""
    RESTART = 4503
    """Come back in a moment, after a random delay."""


class Channel(StrEnum):
    QUOTES = "quotes"
    ORDERS = "orders"
    POSITIONS = "positions"
    ACCOUNT = "account"


PRIVATE = frozenset({Channel.ORDERS, Channel.POSITIONS, Channel.ACCOUNT})
_CHANNEL_OF_KIND = {
    "order": Channel.ORDERS,
    "position": Channel.POSITIONS,
    "account": Channel.ACCOUNT,
    "margin": Channel.ACCOUNT,
}

UNKNOWN_CHANNEL = "unknown_channel"
SUBSCRIPTION_LIMIT = "subscription_limit"
GAP = "gap"
_STREAM_ONLY = {
    UNKNOWN_CHANNEL: ("There is no such channel.", "Use quotes, orders, positions or account."),
    SUBSCRIPTION_LIMIT: ("Too many subscriptions.", "Unsubscribe from something, or open a second connection."),
    GAP: ("Events are missing.", "Subscribe again with the last event_id that you have."),
}

Tag = int | Annotated[str, Meta(max_length=64)] | None
"""A client's own number for a request, echoed in the answer."""
SymbolName = Annotated[str, Meta(min_length=1, max_length=32)]


class Request(Struct, frozen=True, tag_field="op", forbid_unknown_fields=True, kw_only=True):
    """What all requests have in common."""

    id: Tag = None


class Auth(Request, frozen=True, tag="auth", kw_only=True):
    token: Annotated[str, Meta(min_length=1, max_length=8192)]


class Subscribe(Request, frozen=True, tag="subscribe", kw_only=True):
    channel: Annotated[str, Meta(max_length=64)]
    symbols: Annotated[tuple[SymbolName, ...], Meta(max_length=SYMBOLS_PER_CLIENT_MAX)] = ()
    snapshot: bool = True
    conflate_ms: Annotated[int, Meta(ge=0, le=CONFLATE_MS_MAX)] = 0
    account: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    since: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    """The last event id that the client has; everything after it is replayed."""


class Unsubscribe(Request, frozen=True, tag="unsubscribe", kw_only=True):
    channel: Annotated[str, Meta(max_length=64)]
    symbols: Annotated[tuple[SymbolName, ...], Meta(max_length=SYMBOLS_PER_CLIENT_MAX)] = ()
    """Empty: all of the channel's."""
    account: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class Ping(Request, frozen=True, tag="ping", kw_only=True):
    pass


AnyRequest = Auth | Subscribe | Unsubscribe | Ping
_requests: "msgspec.json.Decoder[AnyRequest]" = msgspec.json.Decoder(AnyRequest)
_encoder = msgspec.json.Encoder(decimal_format="string")


class BadMessage(ValueError):
    """What the client sent is not a request; the text says why."""


def parse(text: str | None) -> AnyRequest:
    """The request that one frame holds. Raises BadMessage for binary frames, over-long, broken or unknown ones."""
    if text is None:
        raise BadMessage("only text frames are understood")
    try:
        data = text[: MESSAGE_BYTES_MAX + 1].encode()
        if len(data) > MESSAGE_BYTES_MAX:
            raise BadMessage(f"a message has at most {MESSAGE_BYTES_MAX} bytes")
        return _requests.decode(data)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadMessage(str(error)) from None


def channel_named(name: str) -> Channel | None:
    return Channel(name) if name in Channel.__members__.values() else None


def channel_of(kind: str) -> Channel | None:
    """The channel that an account event's kind belongs to: order.filled is told on orders."""
    return _CHANNEL_OF_KIND.get(kind.partition(".")[0])


# ----------------------------------------------------------------------------------------------------------- messages


def authenticated(tag: Tag, accounts: Sequence[int]) -> str:
    return _text({"type": "ack", "id": tag, "op": "auth", "accounts": accounts})


def quotes_ack(tag: Tag, symbols: Sequence[str], rejected: Sequence[str], conflate_ms: int) -> str:
    return _text(
        {
            "type": "ack",
            "id": tag,
            "channel": Channel.QUOTES,
            "symbols": symbols,
            "rejected": rejected,
            "conflate_ms": conflate_ms,
        }
    )


def private_ack(tag: Tag, channel: Channel, account: int, since: int) -> str:
    """`since` is the event id after which events will follow: the caller's own, or the newest when it named none."""
    return _text({"type": "ack", "id": tag, "channel": channel, "account": account, "since": since})


def unsubscribed(tag: Tag, channel: Channel, symbols: Sequence[str]) -> str:
    return _text({"type": "ack", "id": tag, "op": "unsubscribe", "channel": channel, "symbols": symbols})


def pong(tag: Tag, ts: str) -> str:
    return _text({"type": "pong", "id": tag, "ts": ts})


def heartbeat(ts: str) -> str:
    return _text({"type": "heartbeat", "ts": ts})


def error(tag: Tag, code: str, detail: str = "") -> str:
    """A refusal: the code is stable, the problem is for people. Codes that orders share have the same words there."""
    return _text({"type": "error", "id": tag, "code": code, "problem": _problem(code, detail)})


def _problem(code: str, detail: str) -> dict[str, str | bool]:
    if code in _STREAM_ONLY:
        title, remedy = _STREAM_ONLY[code]
        return {"title": title, "detail": detail, "remedy": remedy, "retryable": False}
    terms = REGISTRY[Refusal(code)]
    return {"title": terms.title, "detail": detail, "remedy": terms.remedy, "retryable": terms.retryable}


def quote_message(kind: str, symbol: str, seq: int, prev: int | None, ts: str, data: dict[str, str]) -> str:
    """A snapshot has no `prev`; an update names the message it changes."""
    message: dict[str, object] = {"type": kind, "channel": Channel.QUOTES, "symbol": symbol, "seq": seq}
    if prev is not None:
        message["prev"] = prev
    return _text({**message, "ts": ts, "data": data})


def event_message(channel: Channel, kind: str, account: int, seq: int, ts: str, payload: bytes) -> str:
    """One account event. An order's message brings `order` and `deals`; others have one object named for what it is."""
    head = {"type": "event", "channel": channel, "event_id": seq, "event": kind, "account": account, "ts": ts}
    raw = msgspec.Raw(payload)
    if channel is Channel.ORDERS:
        return _text({**head, **msgspec.json.decode(payload, type=dict[str, msgspec.Raw])})
    return _text({**head, _BODY_NAMES.get(kind, channel.removesuffix("s")): raw})


_BODY_NAMES = {
    "account.balance": "balance",
    "account.opened": "terms",
    "account.changed": "terms",
    "margin.call": "margin",
    "margin.restored": "margin",
}


def _text(message: object) -> str:
    return _encoder.encode(message).decode()
