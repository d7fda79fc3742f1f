"""Invented prices that look like a market: seed and time in, ticks out. Pure, and nothing is remembered between calls.

A price is a function of the seed and the instant: noise on several time scales, each four times slower and twice as
large than the one before, which together move like a random walk that never strays far. So a restarted feed goes on
where it was, and the same seed always tells the same story. Crosses follow their two legs. Floats shape the noise only;
prices are whole points. Ticks come by the second: every provider shows every symbol at least once in each.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from random import Random
from zoneinfo import ZoneInfo

from msgspec import Struct

from lp_adapters.simulators.profiles import INSTRUMENTS
from lp_adapters.simulators.ticks import Tick

SECOND_US = 1_000_000
OCTAVES_US = tuple(250_000 * 4**octave for octave in range(10))
"""From a quarter of a second to eighteen hours."""
WALK = 0.6
"""Makes the sum of the octaves move about as fast as a random walk of the given sigma."""
FAST_OCTAVES = 4
"""The fastest ones, to 16 s, swell with sessions and bursts; slower ones would jump when those change."""
REGIME_US = 8 * SECOND_US
TICKS_PER_SECOND_MAX = 20
SPREAD_MAX = 5
"""Times the tightest."""
NEW_YORK, LONDON, TOKYO = ZoneInfo("America/New_York"), ZoneInfo("Europe/London"), ZoneInfo("Asia/Tokyo")


class Leg(Struct, frozen=True):
    """A symbol that walks by itself."""

    base: Decimal
    sigma: float
    """Points per square root of a second."""


class Cross(Struct, frozen=True):
    """A symbol that follows two others: first x second, or first / second."""

    first: str
    second: str
    divide: bool


class Manner(Struct, frozen=True):
    """How a symbol is quoted."""

    spread: int
    """Points at the busiest hours."""
    rate: float
    """Ticks per second and provider in an ordinary hour."""


class Regime(Struct, frozen=True):
    """What is going on in a symbol for some seconds."""

    movement: float
    rate: float
    spread: float


LEGS = {
    "EURUSD": Leg(Decimal("1.08500"), 1.9),
    "GBPUSD": Leg(Decimal("1.27000"), 2.4),
    "USDJPY": Leg(Decimal("151.500"), 2.8),
    "USDCHF": Leg(Decimal("0.88500"), 1.6),
    "AUDUSD": Leg(Decimal("0.65500"), 1.5),
    "NZDUSD": Leg(Decimal("0.60000"), 1.5),
    "XAUUSD": Leg(Decimal("2400.00"), 7.3),
}
CROSSES = {"EURGBP": Cross("EURUSD", "GBPUSD", divide=True), "EURJPY": Cross("EURUSD", "USDJPY", divide=False)}
MANNERS = {
    "EURUSD": Manner(2, 6.0),
    "GBPUSD": Manner(5, 5.0),
    "USDJPY": Manner(4, 5.0),
    "USDCHF": Manner(6, 3.5),
    "AUDUSD": Manner(4, 3.5),
    "NZDUSD": Manner(6, 3.5),
    "EURGBP": Manner(5, 3.5),
    "EURJPY": Manner(7, 3.5),
    "XAUUSD": Manner(20, 6.0),
}
LPS = {"YOFX1": 1.0, "PRIMEXM": 1.15}
"""How much wider than the tightest each provider quotes."""
ORDINARY, BURST, QUIET = Regime(1.0, 1.0, 1.0), Regime(3.0, 2.5, 1.5), Regime(0.5, 0.4, 1.1)


class Generator:
    """The prices of `symbols` under `seed`. `anchors` are mid prices to walk around instead of the built-in ones.

    `real_hours` keeps the market closed from Friday to Sunday, 17:00 in New York; otherwise it never closes.
    """

    def __init__(
        self,
        seed: int,
        symbols: Iterable[str] = tuple(INSTRUMENTS),
        *,
        anchors: Mapping[str, Decimal] | None = None,
        real_hours: bool = False,
    ) -> None:
        self._seed = seed
        self._symbols = tuple(symbols)
        self._real_hours = real_hours
        bases = {symbol: leg.base for symbol, leg in LEGS.items()} | dict(anchors or {})
        self._bases = {symbol: int(bases[symbol].scaleb(INSTRUMENTS[symbol].digits + 1)) for symbol in LEGS}
        self._node = lru_cache(maxsize=8192)(self._new_node)

    def ticks(self, second: int) -> list[tuple[int, Tick]]:
        """All ticks of one second since 1970, with their instants in microseconds, in order."""
        if self._real_hours and is_closed(second):
            return []
        found = [tick for lp in LPS for symbol in self._symbols for tick in self._ticks_of(lp, symbol, second)]
        return sorted(found, key=lambda tick: tick[0])

    def _ticks_of(self, lp: str, symbol: str, second: int) -> Iterable[tuple[int, Tick]]:
        chance = Random(f"{self._seed}|{lp}|{symbol}|{second}")
        activity, widening = session(second // 60)
        regime = self._regime(symbol, second * SECOND_US)
        mean = MANNERS[symbol].rate * activity * regime.rate
        count = min(max(1, round(chance.gauss(mean, mean / 2))), TICKS_PER_SECOND_MAX)
        for offset in sorted(chance.randrange(SECOND_US) for _ in range(count)):
            at_us = second * SECOND_US + offset
            wide = min(widening * regime.spread * LPS[lp] * chance.uniform(0.9, 1.3), SPREAD_MAX)
            yield at_us, self._tick(lp, symbol, at_us, max(1, round(MANNERS[symbol].spread * wide)), chance)

    def _tick(self, lp: str, symbol: str, at_us: int, spread: int, chance: Random) -> Tick:
        """One quote round the mid, a little off it as each provider is."""
        skew = round(chance.gauss(0, 0.1) * spread * 10)
        bid = (self.mid_tenths(symbol, at_us) + skew - spread * 5) // 10
        return Tick(
            lp, symbol, _price(symbol, bid), _price(symbol, bid + spread), _size(symbol, chance), _size(symbol, chance)
        )

    def mid_tenths(self, symbol: str, at_us: int) -> int:
        """The price both providers quote around, in tenths of a point."""
        cross = CROSSES.get(symbol)
        if cross is None:
            return self._bases[symbol] + round(self._noise(symbol, at_us) * 10)
        first, second = (self.mid_tenths(leg, at_us) for leg in (cross.first, cross.second))
        one_first, one_second, one = (_one(name) for name in (cross.first, cross.second, symbol))
        if cross.divide:
            return first * one_second * one // (second * one_first)
        return first * second * one // (one_first * one_second)

    def _noise(self, symbol: str, at_us: int) -> float:
        """How far the symbol is from its base, in points."""
        swell = session(at_us // (60 * SECOND_US))[0] * self._regime(symbol, at_us).movement
        total = 0.0
        for octave, period_us in enumerate(OCTAVES_US):
            cell, inside = divmod(at_us, period_us)
            left, right = self._node(symbol, octave, cell), self._node(symbol, octave, cell + 1)
            height = left + (right - left) * inside / period_us
            total += height * (period_us / SECOND_US) ** 0.5 * (swell if octave < FAST_OCTAVES else 1.0)
        return total * WALK * LEGS[symbol].sigma

    def _new_node(self, symbol: str, octave: int, cell: int) -> float:
        return Random(f"{self._seed}|{symbol}|{octave}|{cell}").gauss(0, 1)

    def _regime(self, symbol: str, at_us: int) -> Regime:
        return _regime(self._seed, symbol, at_us // REGIME_US)


@lru_cache(maxsize=256)
def _regime(seed: int, symbol: str, cell: int) -> Regime:
    drawn = Random(f"{seed}|{symbol}|regime|{cell}").random()
    return BURST if drawn < 0.06 else QUIET if drawn < 0.20 else ORDINARY


@lru_cache(maxsize=16)
def session(minute: int) -> tuple[float, float]:
    """How busy the market is (1 is ordinary) and how much wider than at its best it quotes, in that minute since 1970."""
    now = datetime.fromtimestamp(minute * 60, UTC)
    new_york = now.astimezone(NEW_YORK)
    if _is_weekend(new_york):
        return 0.75, 1.8
    if new_york.hour == 17:
        return 0.7, 3.0
    open_places = [
        weight for zone, weight in ((TOKYO, 0.2), (LONDON, 0.5), (NEW_YORK, 0.4)) if 8 <= now.astimezone(zone).hour < 17
    ]
    return 0.6 + sum(open_places), 2.0 - 1.1 * sum(open_places)


def is_closed(second: int) -> bool:
    """The weekend as the market keeps it: Friday to Sunday, 17:00 in New York."""
    return _is_weekend(datetime.fromtimestamp(second, UTC).astimezone(NEW_YORK))


def _is_weekend(new_york: datetime) -> bool:
    return (new_york + timedelta(hours=7)).weekday() in (5, 6)


def _one(symbol: str) -> int:
    """The price 1 in tenths of a point."""
    return int(10 ** (INSTRUMENTS[symbol].digits + 1))


def _price(symbol: str, points: int) -> str:
    return format(Decimal(points).scaleb(-INSTRUMENTS[symbol].digits), "f")


def _size(symbol: str, chance: Random) -> int:
    """0.1 to 5 million of base, small ones more often; gold in ounces."""
    tenths = max(1, min(50, round(chance.expovariate(1 / 12))))
    return tenths * (100 if symbol == "XAUUSD" else 100_000)
