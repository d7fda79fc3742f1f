"""Market data: MarketDataRequest(35=V) out; snapshots(35=W), increments(35=X) and rejects(35=Y) in.

A book per symbol keeps the provider's entries by MDEntryID(278), or one per side where it gives no ids. Every message
yields the best bid and offer that are left. An entry that cannot be read is taken out of the book: an unknown price is
no price, and never the old one.
"""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from fix_gateway.wire.message import Message, Outgoing, Repeating, clean, group, number
from trading.numbers import ZERO

BID, OFFER = "0", "1"
NEW, CHANGE, DELETE = "0", "1", "2"
ENTRIES_MAX = 1_000
"""Of one symbol's book; a provider that sends more is not understood, and its book is emptied."""


class Subscription(StrEnum):
    """SubscriptionRequestType(263)."""

    SUBSCRIBE = "1"
    UNSUBSCRIBE = "2"


class UpdateType(StrEnum):
    """MDUpdateType(265): whole snapshots each time, or increments after the first."""

    FULL_REFRESH = "0"
    INCREMENTAL = "1"


class Top(Struct, frozen=True, kw_only=True):
    """A symbol's best bid and offer at the provider. A price of zero: nothing is shown on that side."""

    lp_symbol: str
    bid: Decimal = ZERO
    ask: Decimal = ZERO
    bid_size: Decimal = ZERO
    ask_size: Decimal = ZERO
    quote_id: str = ""


class Entry(Struct, frozen=True):
    """One MDEntry."""

    side: str
    price: Decimal
    size: Decimal
    quote_id: str


Book = dict[str, Entry]


class Books:
    """The provider's entries of every symbol on one session. Empty again after each logon."""

    def __init__(self) -> None:
        self._books: dict[str, Book] = {}
        self.unreadable = 0
        """Messages and entries that could not be used, since the start."""

    def clear(self) -> None:
        self._books.clear()

    def forget(self, lp_symbol: str) -> None:
        self._books.pop(lp_symbol, None)

    def apply(self, message: Message) -> list[Top]:
        """The tops of the symbols that a snapshot or an increment touched; empty for other messages."""
        if message.msg_type == "W":
            return self._snapshot(message)
        if message.msg_type == "X":
            return self._increments(message)
        return []

    def _snapshot(self, message: Message) -> list[Top]:
        symbol = message.get(55)
        if not symbol:
            self.unreadable += 1
            return []
        self._books[symbol] = {}
        entries = group(message, count_tag=268, delimiter=269)
        if entries is None:
            self.unreadable += 1
            entries = []
        for place, fields in enumerate(entries):
            first_of_side = f"{fields.get(269, '')}#0" not in self._books[symbol]
            self._put(symbol, _key(fields) if first_of_side or fields.get(278) else f"#{place}", fields)
        return [self._top(symbol)]

    def _increments(self, message: Message) -> list[Top]:
        entries = group(message, count_tag=268, delimiter=279)
        if entries is None:
            # Which prices it changed is unknown, so none that the session has shown can be trusted.
            self.unreadable += 1
            touched = list(self._books)
            self.clear()
            return [Top(lp_symbol=symbol) for symbol in touched]
        symbol = ""
        touched_in_order: dict[str, None] = {}
        for fields in entries:
            symbol = fields.get(55) or symbol
            if not symbol:
                self.unreadable += 1
                continue
            self._increment(symbol, fields)
            touched_in_order[symbol] = None
        return [self._top(symbol) for symbol in touched_in_order]

    def _increment(self, symbol: str, fields: dict[int, str]) -> None:
        book = self._books.setdefault(symbol, {})
        action, key = fields.get(279, ""), _key(fields)
        if action == DELETE:
            book.pop(key, None)
            return
        previous = book.get(fields.get(280, "") or key)
        book.pop(fields.get(280, ""), None)
        if action == CHANGE and previous is not None:
            fields = _filled_in(fields, previous)
        self._put(symbol, key, fields)

    def _put(self, symbol: str, key: str, fields: dict[int, str]) -> None:
        book = self._books[symbol]
        entry = _entry(fields)
        if entry is None:
            self.unreadable += 1
            book.pop(key, None)
        elif entry.side in (BID, OFFER):
            book[key] = entry
        if len(book) > ENTRIES_MAX:
            self.unreadable += 1
            book.clear()

    def _top(self, symbol: str) -> Top:
        book = self._books[symbol].values()
        bid = _best((entry for entry in book if entry.side == BID), highest=True)
        ask = _best((entry for entry in book if entry.side == OFFER), highest=False)
        ids = [entry.quote_id for entry in (bid, ask) if entry is not None and entry.quote_id]
        return Top(
            lp_symbol=symbol,
            bid=bid.price if bid else ZERO,
            ask=ask.price if ask else ZERO,
            bid_size=bid.size if bid else ZERO,
            ask_size=ask.size if ask else ZERO,
            quote_id="/".join(dict.fromkeys(ids)),
        )


def _key(fields: dict[int, str]) -> str:
    """What names the entry: its id, else its side, of which it is then the only one."""
    return fields.get(278) or f"{fields.get(269, '')}#0"


def _filled_in(fields: dict[int, str], previous: Entry) -> dict[int, str]:
    """A change names what it changes; the rest stays."""
    kept = {269: previous.side, 270: format(previous.price, "f"), 271: format(previous.size, "f")}
    return {**kept, **fields}


def _entry(fields: dict[int, str]) -> Entry | None:
    price = number(fields.get(270, ""))
    size = number(fields.get(271, "") or "0")
    if price is None or size is None or size < 0:
        return None
    return Entry(fields.get(269, ""), price, size, clean(fields.get(299) or fields.get(278, ""), 64))


def _best(entries: Iterable[Entry], *, highest: bool) -> Entry | None:
    best: Entry | None = None
    for entry in entries:
        if best is None or (entry.price > best.price if highest else entry.price < best.price):
            best = entry
    return best


def market_data_request(
    *, request_id: str, lp_symbol: str, subscription: Subscription, update_type: UpdateType
) -> Outgoing:
    """MarketDataRequest(35=V) for one symbol's top of book, bid and offer."""
    return Outgoing(
        msg_type="V",
        fields=((262, request_id), (263, subscription.value), (264, "1"), (265, update_type.value)),
        groups=(
            Repeating(count_tag=267, entries=(((269, BID),), ((269, OFFER),))),
            Repeating(count_tag=146, entries=(((55, lp_symbol),),)),
        ),
    )


class MarketDataRefused(Struct, frozen=True, kw_only=True):
    """MarketDataRequestReject(35=Y)."""

    request_id: str
    reason: str
    text: str


def market_data_reject(message: Message) -> MarketDataRefused:
    return MarketDataRefused(
        request_id=clean(message.get(262), 64), reason=clean(message.get(281), 8), text=clean(message.get(58))
    )
