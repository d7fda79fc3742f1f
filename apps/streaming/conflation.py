"""What one client has yet to be shown of the market: a slot per symbol in which the newest quote wins.

Pure: the time is given, in microseconds of any steady clock. Nothing can pile up here, because a slot holds one quote; a
client that is slow or throttled sees fewer steps, each from what it saw last (`prev`) to what is true now.
"""

from apps.streaming.protocol import quote_message
from trading.numbers import plain
from trading.quotes import ClientQuote
from trading.views import rfc3339

CONFIRM_EVERY_US = 1_000_000
"""A price that has not moved is told again this often and not at every tick: its age is news, its repetition is not."""


class Shown:
    """A group's quote as text, spelt once for every client that goes the same step."""

    __slots__ = ("_texts", "ask", "bid", "seq", "symbol", "ts")

    def __init__(self, quote: ClientQuote, seq: int) -> None:
        self.symbol = quote.symbol
        self.seq = seq
        self.bid = plain(quote.bid)
        self.ask = plain(quote.ask)
        self.ts = rfc3339(quote.at_us)
        self._texts: dict[int | None, str] = {}

    def step_from(self, sent: "Shown | None") -> str:
        """The message that takes a client from what it was sent to this quote: changed sides only, all at first."""
        prev = sent.seq if sent else None
        text = self._texts.get(prev)
        if text is None:
            text = self._texts[prev] = self._spell(sent)
        return text

    def is_same_price(self, other: "Shown | None") -> bool:
        return other is not None and self.bid == other.bid and self.ask == other.ask

    def _spell(self, sent: "Shown | None") -> str:
        if sent is None:
            return quote_message("snapshot", self.symbol, self.seq, None, self.ts, {"bid": self.bid, "ask": self.ask})
        data = {}
        if self.bid != sent.bid:
            data["bid"] = self.bid
        if self.ask != sent.ask:
            data["ask"] = self.ask
        return quote_message("update", self.symbol, self.seq, sent.seq, self.ts, data)


class _Slot:
    __slots__ = ("asked_us", "newest", "sent", "sent_us")

    def __init__(self, asked_us: int) -> None:
        self.asked_us = asked_us
        self.newest: Shown | None = None
        self.sent: Shown | None = None
        self.sent_us = 0

    def due_us(self, interval_us: int) -> int:
        """When the newest quote may be sent: at once when it is the first."""
        if self.sent is None or self.newest is None:
            return 0
        unmoved = self.newest.is_same_price(self.sent)
        return self.sent_us + max(interval_us, self.asked_us, CONFIRM_EVERY_US if unmoved else 0)


class QuoteSlots:
    """One client's subscribed symbols. `conflated` counts the quotes that a newer one replaced unsent."""

    __slots__ = ("_interval_us", "_slots", "_waiting", "conflated")

    def __init__(self, interval_us: int = 0) -> None:
        """`interval_us` is the client's tier: the least time between two messages about one symbol."""
        self._interval_us = interval_us
        self._slots: dict[str, _Slot] = {}
        self._waiting: dict[str, _Slot] = {}
        self.conflated = 0

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._slots)

    def subscribe(self, symbol: str, asked_us: int = 0) -> None:
        """Begin, or begin anew: what is offered next is told whole. `asked_us` can only slow the tier's pace down."""
        self._slots[symbol] = _Slot(asked_us)
        self._waiting.pop(symbol, None)

    def unsubscribe(self, symbol: str) -> None:
        self._slots.pop(symbol, None)
        self._waiting.pop(symbol, None)

    def change_pace(self, interval_us: int) -> None:
        self._interval_us = interval_us

    def forget_sent(self) -> None:
        """The client's prices changed their meaning (another group): the next quote of each symbol is told whole."""
        for symbol, slot in list(self._slots.items()):
            self.subscribe(symbol, slot.asked_us)

    def offer(self, quote: Shown) -> bool:
        """Put the newest quote into its slot. True when something may be due earlier than it was before."""
        slot = self._slots.get(quote.symbol)
        if slot is None:
            return False
        if quote.symbol not in self._waiting:
            slot.newest = quote
            self._waiting[quote.symbol] = slot
            return True
        self.conflated += 1
        due_before = slot.due_us(self._interval_us)
        slot.newest = quote
        return slot.due_us(self._interval_us) < due_before

    def due(self, now_us: int) -> list[str]:
        """The symbols whose message may be sent now."""
        return [symbol for symbol, slot in self._waiting.items() if slot.due_us(self._interval_us) <= now_us]

    def take(self, symbol: str, now_us: int) -> str | None:
        """The message for the symbol's newest quote, which counts as sent; None when nothing waits any more.

        Taken one at a time: while a slow client reads the first, the others still conflate.
        """
        slot = self._waiting.pop(symbol, None)
        if slot is None or slot.newest is None:
            return None
        text = slot.newest.step_from(slot.sent)
        slot.sent, slot.sent_us = slot.newest, now_us
        return text

    def next_due_us(self) -> int | None:
        """When to look again; None while nothing waits."""
        return min((slot.due_us(self._interval_us) for slot in self._waiting.values()), default=None)
