"""Which accounts a price could bring to a threshold: per price stream two ladders of levels, and the accounts in doubt.

An account that was valued is safe while every price it depends on stays within its watch; what these bounds are is worked
out in `guard`. An account in doubt (something of it changed) is valued at the next price. Derived, never hashed: after a
start, and when the configuration changes, every account with anything open is in doubt.

The shown price of a symbol is a stream per markup and spread limit; a conversion looks at the raw price.
"""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from trading.calendar import DAY_US
from trading.configuration import Config
from trading.pricing import Shade, shade_of, shaded
from trading.quotes import Quote
from trading.triggers import Ladder, entry_of, owner_of, ticks

if TYPE_CHECKING:
    from engine.state import State

DOUBTS_MAX = 1_000
"""Accounts in doubt that one price values: after a start there are many, and a price must not wait for all of them."""
ALWAYS = 10**40
"""A level that every price has passed."""
NEVER_US = 2**63
EPOCH_DAY = date(1970, 1, 1).toordinal()


class PriceStream:
    """The levels that wait for one price: `down` for the lower of bid and ask, `up` for the higher one."""

    __slots__ = ("digits", "down", "shade", "up")

    def __init__(self, shade: Shade | None = None, digits: int = 0) -> None:
        self.down = Ladder()
        self.up = Ladder()
        self.shade = shade
        """How its groups see the price; None for the raw one."""
        self.digits = digits

    def passed(self, quote: Quote) -> list[int]:
        """The accounts whose levels this price has passed."""
        seen = quote if self.shade is None else shaded(quote, self.shade, self.digits)
        bid, ask = ticks(seen.bid), ticks(seen.ask)
        low, high = (bid, ask) if bid <= ask else (ask, bid)
        found = [owner_of(entry) for entry in self.down.passed(-low)]
        found += [owner_of(entry) for entry in self.up.passed(high)]
        return found


class Bound(Struct, frozen=True):
    """Value the account again once the stream's price is at or beyond a level. None: whatever it does on that side."""

    stream: PriceStream
    low: Decimal | None = None
    high: Decimal | None = None
    is_urgent: bool = False
    """At every price."""


class Watches:
    """All watches of a shard."""

    __slots__ = ("_doubts", "_entries", "_of_group", "_raw", "_shown", "_until_us", "_waiting")

    def __init__(self) -> None:
        self._clear()
        self._until_us = 0
        """When the next regulatory rule begins."""

    def _clear(self) -> None:
        self._shown: dict[str, dict[Shade, PriceStream]] = {}
        self._raw: dict[str, PriceStream] = {}
        self._of_group: dict[tuple[str, str], PriceStream] = {}
        self._entries: dict[int, list[tuple[Ladder, int]]] = {}
        self._doubts: dict[int, None] = {}
        self._waiting: dict[str, dict[int, None]] = {}

    def touch(self, account: int) -> None:
        """Something of the account changed: it is in doubt."""
        self._doubts[account] = None

    def renew(self, state: "State") -> None:
        """All of it anew: terms or groups may have changed. An account that holds nothing may still have a margin call."""
        self._clear()
        called = (account.id for account in state.accounts.values() if account.alarm)
        self._doubts = dict.fromkeys(sorted({*state.portfolios, *called}))

    def await_price(self, account: int, symbol: str) -> None:
        """The account cannot be valued before `symbol` has a price."""
        self.drop(account)
        self._waiting.setdefault(symbol, {})[account] = None

    def candidates(self, state: "State", quote: Quote) -> list[int]:
        """The accounts to value at this price, in order: those whose levels it passed, and those in doubt."""
        if quote.at_us >= self._until_us:
            self._begin_day(state, quote.at_us)
        for account in self._waiting.pop(quote.symbol, ()):
            self._doubts[account] = None
        found = set(self._take_doubts())
        for stream in self._shown.get(quote.symbol, {}).values():
            found.update(stream.passed(quote))
        raw = self._raw.get(quote.symbol)
        if raw is not None:
            found.update(raw.passed(quote))
        return sorted(found)

    def _begin_day(self, state: "State", at_us: int) -> None:
        assert state.config is not None
        self.renew(state)
        self._until_us = next_rule_us(state.config, at_us)

    def _take_doubts(self) -> Iterable[int]:
        doubts = self._doubts
        if len(doubts) <= DOUBTS_MAX:
            self._doubts = {}
            return doubts
        taken = list(doubts)[:DOUBTS_MAX]
        for account in taken:
            del doubts[account]
        return taken

    def shown(self, state: "State", group: str, symbol: str) -> PriceStream:
        """The stream of a symbol as a group sees it."""
        known = self._of_group.get((group, symbol))
        if known is not None:
            return known
        assert state.config is not None, "no account without a configuration"
        terms = state.terms.of(group, symbol)
        assert terms is not None, f"{symbol} is not offered"
        own = state.config.groups[group]
        streams = self._shown.setdefault(symbol, {})
        stream = streams.setdefault(shade_of(own, terms), PriceStream(shade_of(own, terms), terms.digits))
        self._of_group[group, symbol] = stream
        return stream

    def raw(self, symbol: str) -> PriceStream:
        """The stream of a symbol that converts."""
        stream = self._raw.get(symbol)
        if stream is None:
            stream = self._raw[symbol] = PriceStream()
        return stream

    def watch(self, account: int, bounds: Iterable[Bound]) -> None:
        """The account is safe within these bounds."""
        self.drop(account)
        entries: list[tuple[Ladder, int]] = []
        for bound in bounds:
            if bound.is_urgent:
                entries.append((bound.stream.down, entry_of(-ALWAYS, account)))
                continue
            if bound.low is not None:
                entries.append((bound.stream.down, entry_of(-ticks(bound.low), account)))
            if bound.high is not None:
                entries.append((bound.stream.up, entry_of(ticks(bound.high), account)))
        for ladder, entry in entries:
            ladder.add(entry)
        if entries:
            self._entries[account] = entries

    def drop(self, account: int) -> None:
        for ladder, entry in self._entries.pop(account, ()):
            ladder.remove(entry)

    def watched(self) -> int:
        """How many accounts have a watch."""
        return len(self._entries)


def next_rule_us(config: Config, at_us: int) -> int:
    """The business time at which the next regulatory rule begins to hold."""
    begins = ((date.fromisoformat(r.valid_from).toordinal() - EPOCH_DAY) * DAY_US for r in config.regulation)
    return min((us for us in begins if us > at_us), default=NEVER_US)


def day_of(at_us: int) -> date:
    return date.fromordinal(EPOCH_DAY + at_us // DAY_US)
