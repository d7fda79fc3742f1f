"""A simulated provider's shop window: who asked for which prices, and the messages that every price becomes. Pure.

In: MarketDataRequest(35=V) and ticks. Out: snapshots(35=W), increments(35=X) and rejects(35=Y). All of one provider's
prices go through one thread, so nothing here locks; `top` alone may be read from others.
"""

from msgspec import Struct

from fix_gateway.wire.message import Message, Outgoing, Repeating, clean, group
from lp_adapters.simulators.profiles import INSTRUMENTS, Instrument, Profile
from lp_adapters.simulators.ticks import Tick

SNAPSHOT, SUBSCRIBE, UNSUBSCRIBE = "0", "1", "2"
BID, OFFER = "0", "1"
NEW, CHANGE, DELETE = "0", "1", "2"
FULL_REFRESH = "0"
UNKNOWN_SYMBOL, DUPLICATE_ID, UNSUPPORTED_TYPE, UNSUPPORTED_DEPTH, UNSUPPORTED_ENTRY = "0", "1", "4", "5", "8"
"""MDReqRejReason(281)."""
SUBSCRIPTIONS_MAX = 200
TOO_MANY = "2"
IDENTIFIER_MAX = 64

Entries = tuple[tuple[tuple[int, str], ...], ...]


class Side(Struct, frozen=True):
    """One side of a top: price and size as they are sent."""

    price: str
    size: int


class Top(Struct, frozen=True):
    """What the provider shows for a symbol, and deals at."""

    bid: Side
    ask: Side
    quote_id: str


class Subscription(Struct):
    """One request that is still running."""

    lp_symbols: tuple[str, ...]
    increments: bool
    told: dict[str, Top | None]
    """Per symbol, what this subscriber knows; None after it was told that the price is gone."""


class Market:
    """One provider's prices and their subscribers. `name_of_run` makes quote ids differ from those of an earlier run."""

    def __init__(self, profile: Profile, *, name_of_run: str) -> None:
        self._profile = profile
        self._run = name_of_run
        self._quotes = 0
        self._tops: dict[str, Top] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._names: dict[str, Instrument] = {profile.lp_symbol(name): one for name, one in INSTRUMENTS.items()}

    def instrument(self, lp_symbol: str) -> Instrument | None:
        return self._names.get(lp_symbol)

    def top(self, symbol: str) -> Top | None:
        """What is shown for our symbol now. May be called from any thread."""
        return self._tops.get(symbol)

    def forget_subscriptions(self) -> None:
        """The subscriber has left; what it asked for does not outlive its session."""
        self._subscriptions.clear()

    def request(self, message: Message) -> list[Outgoing]:
        """Answer a MarketDataRequest(35=V): snapshots of what is shown now, or one reject. Ending a request is silent."""
        request_id = message.get(262)
        if message.get(263) == UNSUBSCRIBE:
            self._subscriptions.pop(request_id, None)
            return []
        symbols = tuple(dict.fromkeys(entry.get(55, "") for entry in group(message, count_tag=146, delimiter=55) or ()))
        refusal = self._refusal(message, symbols)
        if refusal:
            return [_reject(request_id, *refusal)]
        increments = self._profile.sends_increments and message.get(265) != FULL_REFRESH
        subscription = Subscription(symbols, increments, {})
        if message.get(263) == SUBSCRIBE:
            self._subscriptions[request_id] = subscription
        return [out for symbol in symbols for out in self._told(request_id, subscription, symbol)]

    def _refusal(self, message: Message, symbols: tuple[str, ...]) -> tuple[str, str] | None:
        """Why the request is refused: MDReqRejReason(281) and a sentence."""
        unknown = [symbol for symbol in symbols if symbol not in self._names]
        sides = {entry.get(269) for entry in group(message, count_tag=267, delimiter=269) or ()}
        if message.get(263) not in (SNAPSHOT, SUBSCRIBE):
            return UNSUPPORTED_TYPE, "SubscriptionRequestType is 0, 1 or 2"
        if unknown or not symbols:
            return UNKNOWN_SYMBOL, f"unknown symbol {', '.join(unknown[:5])}"
        if message.get(262) in self._subscriptions:
            return DUPLICATE_ID, "MDReqID is in use"
        if message.get(264) != "1":
            return UNSUPPORTED_DEPTH, "only the top of the book is shown"
        if sides != {BID, OFFER}:
            return UNSUPPORTED_ENTRY, "bid and offer are shown together"
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            return TOO_MANY, f"at most {SUBSCRIPTIONS_MAX} requests run at a time"
        return None

    def tick(self, tick: Tick) -> list[Outgoing]:
        """Show a new price: the messages for everyone who asked. A symbol that the provider does not have is not shown."""
        if tick.symbol not in INSTRUMENTS:
            return []
        if tick.bid:
            self._quotes += 1
            quote_id = f"{self._run}-{self._quotes}"
            self._tops[tick.symbol] = Top(Side(tick.bid, tick.bid_size), Side(tick.ask, tick.ask_size), quote_id)
        else:
            self._tops.pop(tick.symbol, None)
        lp_symbol = self._profile.lp_symbol(tick.symbol)
        return [
            out
            for request_id, subscription in self._subscriptions.items()
            if lp_symbol in subscription.lp_symbols
            for out in self._told(request_id, subscription, lp_symbol)
        ]

    def _told(self, request_id: str, subscription: Subscription, lp_symbol: str) -> list[Outgoing]:
        """Tell one subscriber what is shown now, as the difference to what it knows if it may be told so."""
        top = self._tops.get(self._names[lp_symbol].symbol)
        if top is None:
            return self._told_that_it_is_gone(request_id, subscription, lp_symbol)
        is_first, known = lp_symbol not in subscription.told, subscription.told.get(lp_symbol)
        subscription.told[lp_symbol] = top
        if is_first or not subscription.increments:
            return [_snapshot(request_id, lp_symbol, top, named=subscription.increments)]
        return [_increment(request_id, _changes(lp_symbol, known, top))]

    def _told_that_it_is_gone(self, request_id: str, subscription: Subscription, lp_symbol: str) -> list[Outgoing]:
        """Increments delete both entries; a snapshot without entries says the same."""
        if subscription.told.get(lp_symbol) is None:
            return []
        subscription.told[lp_symbol] = None
        if not subscription.increments:
            return [Outgoing(msg_type="W", fields=((262, request_id), (55, lp_symbol), (268, "0")))]
        gone = tuple(
            ((279, DELETE), (269, side), (278, _entry_id(lp_symbol, side)), (55, lp_symbol)) for side in (BID, OFFER)
        )
        return [_increment(request_id, gone)]


def _snapshot(request_id: str, lp_symbol: str, top: Top, *, named: bool = False) -> Outgoing:
    """MarketDataSnapshotFullRefresh(35=W). Entries have a MDEntryID(278) when increments will refer to them."""

    def entry(code: str, side: Side) -> tuple[tuple[int, str], ...]:
        name = ((278, _entry_id(lp_symbol, code)),) if named else ()
        return ((269, code), *name, (270, side.price), (271, str(side.size)), (299, top.quote_id))

    return Outgoing(
        msg_type="W",
        fields=((262, request_id), (55, lp_symbol)),
        groups=(Repeating(count_tag=268, entries=(entry(BID, top.bid), entry(OFFER, top.ask))),),
    )


def _changes(lp_symbol: str, known: Top | None, top: Top) -> Entries:
    """The sides that changed; both when neither did, since a repeated price is still a fresh one."""
    sides = ((BID, known and known.bid, top.bid), (OFFER, known and known.ask, top.ask))
    changed = [(code, new) for code, old, new in sides if old != new] or [(code, new) for code, _, new in sides]
    return tuple(
        (
            (279, CHANGE if known else NEW),
            (269, code),
            (278, _entry_id(lp_symbol, code)),
            (55, lp_symbol),
            (270, side.price),
            (271, str(side.size)),
            (299, top.quote_id),
        )
        for code, side in changed
    )


def _entry_id(lp_symbol: str, side: str) -> str:
    return f"{lp_symbol}-{'B' if side == BID else 'A'}"


def _increment(request_id: str, entries: Entries) -> Outgoing:
    """MarketDataIncrementalRefresh(35=X)."""
    groups = (Repeating(count_tag=268, entries=entries),)
    return Outgoing(msg_type="X", fields=((262, request_id),), groups=groups)


def _reject(request_id: str, reason: str, text: str) -> Outgoing:
    """MarketDataRequestReject(35=Y)."""
    return Outgoing(msg_type="Y", fields=((262, clean(request_id, IDENTIFIER_MAX)), (281, reason), (58, clean(text))))
