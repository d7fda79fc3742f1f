"""From providers' prices to one quote per symbol: which ticks to believe, and who is best. Pure: time is handed in.

A tick is believed when a witness agrees with it, bid and offer each within a bound: the provider's own last believed price,
its tick before, or another provider's fresh price. Without a witness (the first tick after a logon or a break, or one that
jumps) it waits, updates nothing and triggers nothing, until the next tick or another provider bears it out.

Before that comes the symbol's own filter, where it has one: it measures each provider's ticks from the last that was
believed of it. What it holds back is no witness either.

Choices made here, and why:
* A provider's locked price (bid = offer) is dropped like a crossed one: it is no market, only a feed in motion.
* Providers crossing each other are each still a real market. The quote then shows both sides at the middle (the rule for a
  minimum spread of zero): nobody can buy and sell at a profit against the house, and which feed lags need not be guessed.
  The tops stay as they are, since legs are dealt at the provider's own price.
* A price leaves the aggregate a little before it is too old to deal on, so that nobody is ever handed one that is.
* A provider of whom nothing was believed for long enough to count as a break is measured by no filter: a market that has
  really gone beyond the discard level comes back, by two ticks that bear each other out.
* A quote is as old as the older of its two sides, but never older than the quote before it: readers keep the newest.
"""

from collections import Counter
from collections.abc import Iterable
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum

from msgspec import Struct

from bus.messages import LpPrice
from trading.configuration import Config, LpSettings
from trading.instruments import AssetClass, Instrument
from trading.numbers import ZERO, floor_to_step, point
from trading.quotefilter import NO_FILTER, FilterTerms, Judgement, QuoteFilter
from trading.quotes import LpTop, Quote

FRESH_SHARE_PERCENT = 90
"""Of the symbol's quote_age_max_us: how long a provider's price stays in the aggregate."""
BREAK_AGES = 10
"""A provider silent for so many times quote_age_max_us has had a break: its next tick is a first tick."""

DEVIATION_MAX = {
    AssetClass.FX: Decimal("0.003"),
    AssetClass.METAL: Decimal("0.005"),
    AssetClass.INDEX: Decimal("0.01"),
    AssetClass.COMMODITY: Decimal("0.01"),
    AssetClass.SHARE: Decimal("0.02"),
    AssetClass.CRYPTO: Decimal("0.02"),
}
"""How far a tick may be from its witness, as a share of the price."""


class Verdict(StrEnum):
    """What became of a tick. All but ACCEPTED are reasons for leaving it out."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    """No such symbol or provider in the configuration, or the provider is disabled."""
    ZERO = "zero"
    """A side is missing, zero or negative: the provider has withdrawn its price."""
    CROSSED = "crossed"
    LOCKED = "locked"
    STALE = "stale"
    """Older than the symbol allows, or than the provider's last believed price."""
    SPIKE = "spike"
    """Far from the provider's last price, and nobody bears it out yet."""
    UNCONFIRMED = "unconfirmed"
    """The first after a logon or a break, and nobody bears it out yet."""
    SPREAD_OUTSIDE = Judgement.SPREAD_OUTSIDE.value
    DISCARDED = Judgement.DISCARDED.value
    WITHHELD_HARD = Judgement.WITHHELD_HARD.value
    WITHHELD_SOFT = Judgement.WITHHELD_SOFT.value
    """These four by the symbol's filter."""


class _Line(Struct):
    """One provider's price of one symbol: what is believed, and what waits for a witness."""

    believed: LpPrice | None = None
    is_shown: bool = False
    waiting: LpPrice | None = None
    filter: QuoteFilter | None = None
    """Only where the symbol has one."""


class Aggregator:
    """Believed prices of every provider and symbol, and the quotes made of them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._filters = _filters(config)
        self.counters: dict[str, Counter[str]] = {}
        """Ticks by provider and verdict, since they were last taken away."""
        self.crossings = 0
        """Quotes shown at the middle because providers crossed each other."""
        self.changed: dict[str, None] = {}
        """Symbols whose quote must be published anew, in order."""
        self._lines: dict[str, dict[str, _Line]] = {}
        self._sessions: dict[tuple[str, str], bool] = {}
        self._published: dict[str, Quote] = {}

    # ----------------------------------------------------------------------------------------------------- what happens

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration; prices already believed stay."""
        self.config = config
        self._filters = _filters(config)
        for symbol in [known for known in self._lines if known not in config.instruments]:
            del self._lines[symbol]
        self._published = {s: quote for s, quote in self._published.items() if s in config.instruments}
        self.changed = dict.fromkeys(self._lines)

    def session(self, lp: str, session: str, *, is_up: bool) -> None:
        """A provider's session is up or down. When its price session goes down, nothing of it is believed any more."""
        if self._sessions.get((lp, session)) == is_up:
            return
        self._sessions[lp, session] = is_up
        for symbol, lines in self._lines.items():
            if lp in lines:
                self.changed[symbol] = None
                if session == "price" and not is_up:
                    lines[lp] = _Line()

    def take(self, price: LpPrice, now_us: int) -> Verdict:
        """Judge one tick, and count it."""
        verdict = self._judge(price, now_us)
        counter = self.counters.setdefault(price.lp, Counter())
        counter["received"] += 1
        if verdict is not Verdict.ACCEPTED:
            counter[verdict.value] += 1
        return verdict

    def expire(self, now_us: int) -> None:
        """Take prices that have grown old out of the aggregate."""
        for symbol, lines in self._lines.items():
            fresh_us = self._fresh_us(symbol)
            for lp, line in lines.items():
                if line.is_shown and line.believed and now_us - line.believed.at_us > fresh_us:
                    line.is_shown = False
                    self.changed[symbol] = None
                    self.counters.setdefault(lp, Counter())["expired"] += 1

    # --------------------------------------------------------------------------------------------------------- judging

    def _judge(self, price: LpPrice, now_us: int) -> Verdict:
        instrument = self.config.instruments.get(price.symbol)
        settings = self.config.lps.get(price.lp)
        if instrument is None or settings is None or not settings.enabled or price.symbol not in settings.instruments:
            return Verdict.UNKNOWN
        lines = self._lines.setdefault(price.symbol, {})
        line = lines.setdefault(price.lp, _Line())
        if price.bid <= 0 or price.ask <= 0:
            self._withdraw(line, price.symbol)
            return Verdict.ZERO
        if price.bid >= price.ask:
            return Verdict.CROSSED if price.bid > price.ask else Verdict.LOCKED
        if self._is_late(line, price, now_us - instrument.quote_age_max_us):
            return Verdict.STALE
        break_us = price.at_us - BREAK_AGES * instrument.quote_age_max_us
        own = line.believed if line.believed and line.believed.at_us >= break_us else None
        terms = self._filters.get(price.symbol)
        if terms is not None:
            judgement = _filtered(line, price, own, terms, instrument.digits)
            if judgement is not Judgement.PASSED:
                return Verdict(judgement.value)
        return self._believe_or_wait(lines, line, price, own, DEVIATION_MAX[instrument.asset_class], break_us)

    def _is_late(self, line: _Line, price: LpPrice, oldest_us: int) -> bool:
        return price.at_us < oldest_us or (line.believed is not None and price.at_us < line.believed.at_us)

    def _withdraw(self, line: _Line, symbol: str) -> None:
        """The provider shows no market: it has none with us either. What it last believed remains a witness."""
        line.waiting = None
        if line.is_shown:
            line.is_shown = False
            self.changed[symbol] = None

    def _believe_or_wait(
        self, lines: dict[str, _Line], line: _Line, price: LpPrice, own: LpPrice | None, bound: Decimal, break_us: int
    ) -> Verdict:
        if own is not None and _agree(price, own, bound):
            self._believe(line, price)
            return Verdict.ACCEPTED
        witnesses = self._witnesses(lines, line, price, break_us)
        if any(_agree(price, witness, bound) for witness in witnesses):
            self._believe(line, price)
            self._promote(lines, price, bound)
            return Verdict.ACCEPTED
        line.waiting = price
        return Verdict.UNCONFIRMED if own is None else Verdict.SPIKE

    def _witnesses(self, lines: dict[str, _Line], own: _Line, price: LpPrice, break_us: int) -> Iterable[LpPrice]:
        """The provider's tick before, and what others say now, believed or waiting."""
        if own.waiting is not None and own.waiting.at_us >= break_us:
            yield own.waiting
        fresh_from_us = price.at_us - self._fresh_us(price.symbol)
        for other in lines.values():
            if other is own:
                continue
            if other.believed is not None and other.is_shown and other.believed.at_us >= fresh_from_us:
                yield other.believed
            if other.waiting is not None and other.waiting.at_us >= fresh_from_us:
                yield other.waiting

    def _promote(self, lines: dict[str, _Line], price: LpPrice, bound: Decimal) -> None:
        """What one provider has borne out of another's waiting tick is believed there too."""
        fresh_from_us = price.at_us - self._fresh_us(price.symbol)
        for line in lines.values():
            if line.waiting and line.waiting.at_us >= fresh_from_us and _agree(price, line.waiting, bound):
                self._believe(line, line.waiting)

    def _believe(self, line: _Line, price: LpPrice) -> None:
        line.believed, line.is_shown, line.waiting = price, True, None
        self.changed[price.symbol] = None

    def _fresh_us(self, symbol: str) -> int:
        return self.config.instruments[symbol].quote_age_max_us * FRESH_SHARE_PERCENT // 100

    # ----------------------------------------------------------------------------------------------------- aggregating

    def quote(self, symbol: str) -> Quote | None:
        """The symbol's next quote, or None when there is nothing new to say. Counts as published."""
        previous = self._published.get(symbol)
        tops = self._tops(symbol)
        quote = self._with_tops(symbol, tops, previous) if tops else self._without_tops(previous)
        if quote is not None:
            self._published[symbol] = quote
        return quote

    def _without_tops(self, previous: Quote | None) -> Quote | None:
        """Nobody stands behind the last price any more: it is said again without a provider, and not made younger."""
        if previous is None or not previous.tops:
            return None
        return Quote(
            symbol=previous.symbol, seq=previous.seq + 1, bid=previous.bid, ask=previous.ask, at_us=previous.at_us
        )

    def _with_tops(self, symbol: str, tops: tuple[LpTop, ...], previous: Quote | None) -> Quote | None:
        if previous is not None and previous.tops == tops:
            return None
        best_bid = max(tops, key=lambda top: top.bid)
        best_ask = min(tops, key=lambda top: top.ask)
        bid, ask = best_bid.bid, best_ask.ask
        if bid > ask:
            self.crossings += 1
            bid = ask = _middle(bid, ask, self.config.instruments[symbol].digits)
        at_us = min(best_bid.at_us, best_ask.at_us)
        return Quote(
            symbol=symbol,
            seq=previous.seq + 1 if previous else 1,
            bid=bid,
            ask=ask,
            at_us=max(at_us, previous.at_us) if previous else at_us,
            tops=tops,
        )

    def _tops(self, symbol: str) -> tuple[LpTop, ...]:
        """Every shown price, the provider of the first priority first."""
        instrument = self.config.instruments[symbol]
        shown = []
        for lp, line in self._lines.get(symbol, {}).items():
            settings = self.config.lps.get(lp)
            if line.is_shown and line.believed and settings and settings.enabled and symbol in settings.instruments:
                shown.append((settings, line.believed))
        shown.sort(key=_by_priority)
        return tuple(
            self._top(price, instrument, settings.instruments[symbol].volume_step) for settings, price in shown
        )

    def _top(self, price: LpPrice, instrument: Instrument, step: Decimal) -> LpTop:
        return LpTop(
            lp=price.lp,
            bid=price.bid,
            ask=price.ask,
            bid_size=_lots(price.bid_size, instrument, step),
            ask_size=_lots(price.ask_size, instrument, step),
            quote_id=price.quote_id,
            at_us=price.at_us,
            tradable=self._sessions.get((price.lp, "trade"), False),
        )


def _filters(config: Config) -> dict[str, FilterTerms]:
    """Those of the symbols that have one."""
    return {s: terms.quote_filter for s, terms in config.instruments.items() if terms.quote_filter != NO_FILTER}


def _filtered(line: _Line, price: LpPrice, own: LpPrice | None, terms: FilterTerms, digits: int) -> Judgement:
    if line.filter is None:
        line.filter = QuoteFilter()
    reference = None if own is None else (own.bid, own.ask)
    return line.filter.judge((price.bid, price.ask), reference=reference, terms=terms, digits=digits)


def _agree(price: LpPrice, witness: LpPrice, bound: Decimal) -> bool:
    """Bid and offer are judged each for itself."""
    return abs(price.bid - witness.bid) <= bound * witness.bid and abs(price.ask - witness.ask) <= bound * witness.ask


def _middle(bid: Decimal, ask: Decimal, digits: int) -> Decimal:
    """For a crossed bid and ask: bid - floor(excess / 2) in points, which is also ask + the rest of the excess, up."""
    half = ((bid - ask) / 2).quantize(point(digits), rounding=ROUND_FLOOR)
    return bid - half


def _by_priority(line: tuple[LpSettings, LpPrice]) -> tuple[int, str]:
    settings, _ = line
    return settings.priority, settings.name


def _lots(units: Decimal, instrument: Instrument, step: Decimal) -> Decimal:
    """A provider's size in lots, down to its last whole step: what is shown must be there."""
    return floor_to_step(units / instrument.contract_size, step) if units > 0 else ZERO
