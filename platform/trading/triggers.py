"""Which resting orders, stop losses, take profits and margin watches does this tick trigger?

Here are the sides and directions that each kind watches, and `TriggerBook`: all levels of one price stream (a symbol as one
markup profile sees it), ordered so that a tick costs the same whether ten or a million rest. What a trigger leads to, at
which price it fills, and whether a quote is fresh and confirmed enough to be shown to a book, is decided by the caller.

The trick: a falling price passes high levels first, a rising one low levels first, so levels that wait for a fall are kept
negated. Then `passed` means `level <= price` everywhere, and only the front of each ladder is looked at.

One tick may trigger and trail: ask `TriggerBook.hits` first, with the old stop losses, act on it, and only then move stops
with `trailing.TrailBook.moves`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace
from sortedcontainers import SortedList

from trading.orders import Side
from trading.protection import StopTriggerMethod


class TriggerKind(StrEnum):
    """What fires. At one price for one owner, earlier kinds are reported before later ones."""

    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    MARGIN_WATCH_DOWN = "margin_watch_down"
    """The bid fell so far that an account's slack could be used up: the account is to be re-valued."""
    MARGIN_WATCH_UP = "margin_watch_up"
    """The same for a rising ask. An account that is long and short has both."""
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class PriceSide(StrEnum):
    BID = "bid"
    ASK = "ask"

    @property
    def opposite(self) -> "PriceSide":
        return PriceSide.ASK if self is PriceSide.BID else PriceSide.BID


class Direction(StrEnum):
    AT_OR_BELOW = "at_or_below"
    AT_OR_ABOVE = "at_or_above"


class Watch(Struct, frozen=True):
    """The side of the price that is looked at, and which way it must pass the level."""

    price_side: PriceSide
    direction: Direction


_BID_FALLS = Watch(PriceSide.BID, Direction.AT_OR_BELOW)
_BID_RISES = Watch(PriceSide.BID, Direction.AT_OR_ABOVE)
_ASK_FALLS = Watch(PriceSide.ASK, Direction.AT_OR_BELOW)
_ASK_RISES = Watch(PriceSide.ASK, Direction.AT_OR_ABOVE)

WATCHES: dict[tuple[TriggerKind, Side], Watch] = {
    (TriggerKind.LIMIT, Side.BUY): _ASK_FALLS,
    (TriggerKind.LIMIT, Side.SELL): _BID_RISES,
    (TriggerKind.STOP, Side.BUY): _ASK_RISES,
    (TriggerKind.STOP, Side.SELL): _BID_FALLS,
    (TriggerKind.STOP_LIMIT, Side.BUY): _ASK_RISES,
    (TriggerKind.STOP_LIMIT, Side.SELL): _BID_FALLS,
    (TriggerKind.STOP_LOSS, Side.BUY): _BID_FALLS,
    (TriggerKind.STOP_LOSS, Side.SELL): _ASK_RISES,
    (TriggerKind.TAKE_PROFIT, Side.BUY): _BID_RISES,
    (TriggerKind.TAKE_PROFIT, Side.SELL): _ASK_FALLS,
}
"""By the order's side for LIMIT, STOP and STOP_LIMIT, by the position's side for STOP_LOSS and TAKE_PROFIT."""

STOPS = frozenset({TriggerKind.STOP, TriggerKind.STOP_LIMIT, TriggerKind.STOP_LOSS})
"""The kinds that a StopTriggerMethod applies to."""


class Trigger(Struct, frozen=True, kw_only=True, gc=False):
    """One resting level. (kind, owner) is its key within a book. The level is a price of at most 10 decimals."""

    kind: TriggerKind
    owner: int
    """The order, for LIMIT, STOP and STOP_LIMIT; the position, for STOP_LOSS and TAKE_PROFIT; the account, for a watch."""
    level: Decimal
    price_side: PriceSide
    direction: Direction
    is_double: bool = False
    """Only the second of two consecutive ticks at or beyond the level triggers."""


def watch_for(kind: TriggerKind, side: Side, method: StopTriggerMethod = StopTriggerMethod.TRADE) -> Watch:
    """What `kind` of an order or position on `side` looks at. A method other than TRADE is for STOPS alone."""
    assert method is StopTriggerMethod.TRADE or kind in STOPS, (kind, method)
    watch = WATCHES[kind, side]
    return Watch(watch.price_side.opposite, watch.direction) if method.is_opposite else watch


def trigger_for(
    kind: TriggerKind, owner: int, *, side: Side, level: Decimal, method: StopTriggerMethod = StopTriggerMethod.TRADE
) -> Trigger:
    """The trigger of an order (`side` is the order's) or of a position's protection (`side` is the position's)."""
    watch = watch_for(kind, side, method)
    return Trigger(
        kind=kind,
        owner=owner,
        level=level,
        price_side=watch.price_side,
        direction=watch.direction,
        is_double=method.is_double,
    )


def margin_watch(account: int, direction: Direction, level: Decimal) -> Trigger:
    """Re-value the account when the bid has fallen, or the ask has risen, to `level`.

    The bid is never above the ask, so each watches the side that gets there first.
    """
    falls = direction is Direction.AT_OR_BELOW
    return Trigger(
        kind=TriggerKind.MARGIN_WATCH_DOWN if falls else TriggerKind.MARGIN_WATCH_UP,
        owner=account,
        level=level,
        price_side=PriceSide.BID if falls else PriceSide.ASK,
        direction=direction,
    )


_SignedPrices = tuple[int, int, int, int]


class TriggerBook:
    """All triggers of one price stream. Not thread-safe: it has one writer.

    A trigger that is added or moved to where the price already is fires at the next tick (a double one at the one after).
    """

    __slots__ = ("_armed", "_doubles", "_previous", "_seq", "_singles", "_ticks", "_triggers")

    def __init__(self, triggers: Iterable[Trigger] = ()) -> None:
        self._triggers: dict[TriggerKind, dict[int, Trigger]] = {kind: {} for kind in TriggerKind}
        self._armed: dict[int, int] = {}
        """Tag of a double trigger: how many ticks had been seen when it was added or moved."""
        self._ticks = 0
        self._seq: int | None = None
        self._previous: _SignedPrices | None = None
        entries = self._enter_all(triggers)
        self._singles = tuple(Ladder(entries[False, slot]) for slot in range(len(_SLOTS)))
        self._doubles = tuple(Ladder(entries[True, slot]) for slot in range(len(_SLOTS)))

    def _enter_all(self, triggers: Iterable[Trigger]) -> dict[tuple[bool, int], list[int]]:
        """By (is double, slot). Sorting a million at once, at a start, is several times faster than adding one by one."""
        entries: dict[tuple[bool, int], list[int]] = defaultdict(list)
        for trigger in triggers:
            entries[trigger.is_double, _slot(trigger)].append(self._enter(trigger))
        return entries

    def __len__(self) -> int:
        return sum(len(of_kind) for of_kind in self._triggers.values())

    def resting(self) -> Iterator[tuple[TriggerKind, int]]:
        """(kind, owner) of everything that rests."""
        return ((kind, owner) for kind, of_kind in self._triggers.items() for owner in of_kind)

    def get(self, kind: TriggerKind, owner: int) -> Trigger | None:
        return self._triggers[kind].get(owner)

    def add(self, trigger: Trigger) -> None:
        """Rest `trigger`. Its (kind, owner) must not rest already: a changed level is a `move`. O(log n)."""
        self._ladder(trigger).add(self._enter(trigger))

    def remove(self, kind: TriggerKind, owner: int) -> Trigger | None:
        """Take it out and return it; None when there is none, as for a position without take profit. O(log n)."""
        trigger = self._triggers[kind].pop(owner, None)
        if trigger is not None:
            self._ladder(trigger).remove(_entry(trigger))
            self._armed.pop(tag(owner, _RANK[kind]), None)
        return trigger

    def move(self, kind: TriggerKind, owner: int, level: Decimal) -> Trigger:
        """Change its level. A double trigger begins counting anew. Raises KeyError for one that does not rest. O(log n)."""
        moved = replace(self._triggers[kind][owner], level=level)
        self.remove(kind, owner)
        self.add(moved)
        return moved

    def after_break(self) -> None:
        """The price stream was interrupted or began anew: any seq may follow, and its first tick is no tick's successor."""
        self._seq = None
        self._previous = None

    def is_half_passed(self) -> bool:
        """The last tick was beyond a double trigger: the next one must be shown to the book wherever it is, because the two
        are consecutive only if none was left out."""
        before = self._previous
        return bool(self._armed) and before is not None and any(map(Ladder.is_passed, self._doubles, before))

    def is_passed(self, bid: Decimal, ask: Decimal) -> bool:
        """Whether any level is passed at these prices: a look at the front of each ladder, which counts no tick."""
        prices = _signed_prices(bid, ask) * 2
        return any(
            ladder.is_passed(price) for ladder, price in zip((*self._singles, *self._doubles), prices, strict=True)
        )

    def hits(self, quote_seq: int, bid: Decimal, ask: Decimal) -> list[Trigger]:
        """Everything that this quote triggers; nothing for one whose seq does not rise. O(log n + hits).

        Both prices are of one composite quote. In order: closes (stop losses, take profits) before margin watches before
        openings, so that what frees margin goes first and an account that must be closed takes no new risk; within
        these, the level passed by most, which is the one passed first; then the lowest owner; then as TriggerKind lists them.

        Consecutive ticks are those that this book was shown, whatever was conflated in between. Nothing is removed: what
        rests beyond the price is reported at every tick until the caller removes or moves it. Acting on one hit may
        make a later one moot (its owner is gone): the caller checks.
        """
        if self._seq is not None and quote_seq <= self._seq:
            return []
        self._seq = quote_seq
        self._ticks += 1
        prices, before = _signed_prices(bid, ask), self._previous
        self._previous = prices
        found = [
            _in_order(entry, price)
            for ladder, price in zip(self._singles, prices, strict=True)
            for entry in ladder.passed(price)
        ]
        if before is not None:
            found += self._passed_twice(prices, before)
        if not found:
            return []
        found.sort()
        return [self._triggers[_KINDS[rank]][owner] for _, _, owner, rank in found]

    def _passed_twice(self, prices: _SignedPrices, before: _SignedPrices) -> list[tuple[int, int, int, int]]:
        """The double triggers that this tick and the one before are both beyond, and that rested at both."""
        return [
            _in_order(entry, price)
            for ladder, price, price_before in zip(self._doubles, prices, before, strict=True)
            for entry in ladder.passed(min(price, price_before))
            if self._ticks - self._armed[entry & _TAG_MASK] >= _DOUBLE_TICKS
        ]

    def _ladder(self, trigger: Trigger) -> "Ladder":
        return (self._doubles if trigger.is_double else self._singles)[_slot(trigger)]

    def _enter(self, trigger: Trigger) -> int:
        of_kind = self._triggers[trigger.kind]
        assert trigger.owner not in of_kind, trigger
        entry = _entry(trigger)
        of_kind[trigger.owner] = trigger
        if trigger.is_double:
            self._armed[entry & _TAG_MASK] = self._ticks
        return entry


_DOUBLE_TICKS = 2
_KINDS = tuple(TriggerKind)
_RANK = {kind: rank for rank, kind in enumerate(_KINDS)}
_TURN = (0, 0, 1, 1, 2, 2, 2)
"""By rank: closes, then margin watches, then openings."""

_SLOTS = (_BID_FALLS, _BID_RISES, _ASK_FALLS, _ASK_RISES)
"""A book has a ladder for each, and another for its double triggers."""


def _slot(trigger: Trigger) -> int:
    """Where its watch stands in _SLOTS."""
    return 2 * (trigger.price_side is PriceSide.ASK) + (trigger.direction is Direction.AT_OR_ABOVE)


def _signed_prices(bid: Decimal, ask: Decimal) -> _SignedPrices:
    """In the order of _SLOTS."""
    bid_ticks, ask_ticks = ticks(bid), ticks(ask)
    return -bid_ticks, bid_ticks, -ask_ticks, ask_ticks


def _entry(trigger: Trigger) -> int:
    level = ticks(trigger.level)
    signed = level if trigger.direction is Direction.AT_OR_ABOVE else -level
    return entry_of(signed, trigger.owner, _RANK[trigger.kind])


def _in_order(entry: int, price: int) -> tuple[int, int, int, int]:
    """(turn, minus what the price is beyond the level, owner, rank): sorted, the order in which hits are reported."""
    rank = entry & _RANK_MASK
    return _TURN[rank], level_of(entry) - price, owner_of(entry), rank


# --- the ladder, which trailing uses as well ---

PRICE_DECIMALS = 10
"""Prices are compared as whole numbers of 10^-10: every price that `numbers.is_plain` admits is one exactly."""

_RANK_BITS = 3
_OWNER_BITS = 64
_RANK_MASK = (1 << _RANK_BITS) - 1
_TAG_BITS = _OWNER_BITS + _RANK_BITS
_TAG_MASK = (1 << _TAG_BITS) - 1


def ticks(price: Decimal) -> int:
    """`price` in units of 10^-10. It has no more decimals than that."""
    scaled = price.scaleb(PRICE_DECIMALS)
    whole = int(scaled)
    assert whole == scaled, price
    return whole


def tag(owner: int, rank: int = 0) -> int:
    """The part of an entry that tells owners apart."""
    return owner << _RANK_BITS | rank


def entry_of(signed_level: int, owner: int, rank: int = 0) -> int:
    """Level, owner and rank in one integer that sorts like the three: small, quick to compare, nothing for the collector."""
    assert 0 <= owner < 1 << _OWNER_BITS, owner
    return signed_level << _TAG_BITS | tag(owner, rank)


def level_of(entry: int) -> int:
    return entry >> _TAG_BITS


def owner_of(entry: int) -> int:
    return (entry & _TAG_MASK) >> _RANK_BITS


class Ladder:
    """Entries that wait for one price to reach their signed level, the first to be passed in front."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[int] = ()) -> None:
        self._entries = SortedList(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: int) -> None:
        self._entries.add(entry)

    def remove(self, entry: int) -> None:
        """Raises ValueError for an entry that is not there."""
        self._entries.remove(entry)

    def is_passed(self, price: int) -> bool:
        """The front entry's level is at or before the signed price."""
        entries = self._entries
        return bool(entries) and entries[0] >> _TAG_BITS <= price

    def passed(self, price: int) -> Iterable[int]:
        """Every entry whose signed level is at or before the signed price, in order."""
        entries = self._entries
        if not entries or entries[0] >> _TAG_BITS > price:
            return ()
        beyond = (price + 1) << _TAG_BITS
        found: Iterable[int] = entries.irange(maximum=beyond, inclusive=(True, False))
        return found
