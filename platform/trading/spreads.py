"""How the price that clients see is built from depth and kept within a minimum and a maximum spread.

Markup comes first (`pricing`), the limits here come after it. They change only what is shown: what a limit adds or takes
is handed back as a shift per side, so that the house knows what it gains or absorbs, and a client whose part goes to a
provider still gets the provider's price plus the shown markup. Nobody is quoted again after the fact: beyond the maximum
the house absorbs the difference, or does not deal while the spread is that wide.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import ONE, ZERO, point
from trading.orders import Side


class TooWide(StrEnum):
    """What happens while the marked-up spread is above its maximum."""

    ABSORB = "absorb"
    """The narrower spread is shown and dealt; the house pays the difference."""
    REFUSE = "refuse"
    """The true spread is shown and not dealt."""


class SpreadTerms(Struct, frozen=True, kw_only=True):
    """Points between the shown bid and ask. The default clips nothing."""

    min_points: int | None = None
    """0 already uncrosses a crossed price."""
    max_points: int | None = None
    too_wide: TooWide = TooWide.ABSORB

    @property
    def clips(self) -> bool:
        """There is a limit at all."""
        return self.min_points is not None or self.max_points is not None


class Shown(Struct, frozen=True, kw_only=True):
    """A price as shown: marked-up bid = bid + bid_shift, marked-up ask = ask - ask_shift."""

    bid: Decimal
    ask: Decimal
    bid_shift: Decimal = ZERO
    """Price units that the limit took from the client's bid; below zero when the house adds them."""
    ask_shift: Decimal = ZERO
    """Price units that the limit put on the client's ask; below zero when the house bears them."""
    is_dealable: bool = True


def clip_spread(*, bid: Decimal, ask: Decimal, digits: int, terms: SpreadTerms) -> Shown:
    """The marked-up price within the limits, half of the difference on each side; an odd point goes to the ask."""
    step = point(digits)
    spread = ask - bid
    if terms.min_points is not None and spread < terms.min_points * step:
        return _widened(bid, ask, terms.min_points * step - spread, step)
    if terms.max_points is None or spread <= terms.max_points * step:
        return Shown(bid=bid, ask=ask)
    if terms.too_wide is TooWide.REFUSE:
        return Shown(bid=bid, ask=ask, is_dealable=False)
    return _widened(bid, ask, terms.max_points * step - spread, step)


def _widened(bid: Decimal, ask: Decimal, by: Decimal, step: Decimal) -> Shown:
    """`by` below zero narrows. The bid moves by whole points towards its old place, the ask by the rest."""
    half = int(by / step / 2) * step
    return Shown(bid=bid - half, ask=ask + (by - half), bid_shift=half, ask_shift=by - half)


# --- depth ---


class Level(Struct, frozen=True):
    """Volume at one price of the aggregated depth. Lots."""

    price: Decimal
    volume: Decimal


class Band(Struct, frozen=True, kw_only=True):
    """One level of the shown book: cumulative lots from the top, and points of markup on either side."""

    volume: Decimal | None
    """None for the last one: it takes every larger order."""
    markup_bid: int = 0
    markup_ask: int = 0


class BandPrice(Struct, frozen=True, kw_only=True):
    """What an order of up to `volume` lots is shown; None for any larger one."""

    volume: Decimal | None
    price: Decimal


def vwap(levels: Iterable[Level], volume: Decimal) -> Decimal | None:
    """The average price, unrounded, of taking `volume` lots (above zero) from the top, best level first.

    Where depth is smaller, the average of all there is; None for an empty book.
    """
    left, cost, taken = volume, ZERO, ZERO
    for level in levels:
        part = min(level.volume, left)
        cost, taken, left = cost + part * level.price, taken + part, left - part
        if left <= 0:
            break
    return cost / taken if taken else None


def band_prices(levels: Sequence[Level], side: Side, bands: Sequence[Band], digits: int) -> tuple[BandPrice, ...]:
    """The shown book for a buy (asks) or a sell (bids): VWAP down to each band's volume, with its markup.

    The volume shown is the band's, also where depth is smaller. The last band without volume carries the average of the
    band before it, or the top's price where it is the only one. Rounded to a point against the client, so that a shown
    price can be dealt at cost. An empty book shows nothing.
    """
    return tuple(_priced(levels, side, bands, digits)) if levels else ()


def _priced(levels: Sequence[Level], side: Side, bands: Sequence[Band], digits: int) -> Iterator[BandPrice]:
    average = levels[0].price
    for band in bands:
        if band.volume is not None:
            average = vwap(levels, band.volume) or average
        yield BandPrice(volume=band.volume, price=_marked_up(average, side, band, digits))


def _marked_up(average: Decimal, side: Side, band: Band, digits: int) -> Decimal:
    step = point(digits)
    if side is Side.BUY:
        return round_against(average, side, digits) + band.markup_ask * step
    return round_against(average, side, digits) - band.markup_bid * step


def round_against(price: Decimal, side: Side, digits: int) -> Decimal:
    """To a point, in the house's favour: up for a buyer, down for a seller."""
    step = point(digits)
    return (price / step).quantize(ONE, rounding=ROUND_CEILING if side is Side.BUY else ROUND_FLOOR) * step


def price_for(volume: Decimal, prices: Sequence[BandPrice]) -> Decimal | None:
    """The price of the first band that takes the whole volume; None when the bands end before it."""
    return next((band.price for band in prices if band.volume is None or volume <= band.volume), None)


# --- what may be published ---


def spread_problems(symbol: str, terms: SpreadTerms) -> tuple[str, ...]:
    """What is wrong with these limits, as sentences; empty when they can be published."""
    return tuple(f"{symbol}: {problem}" for problem in _problems(terms))


def _problems(terms: SpreadTerms) -> Iterator[str]:
    if terms.min_points is not None and terms.min_points < 0:
        yield "the minimum spread cannot be below zero"
    if terms.max_points is not None and terms.max_points < 1:
        yield "the maximum spread must be at least one point"
    if terms.min_points is not None and terms.max_points is not None and terms.min_points > terms.max_points:
        yield "the minimum spread is above the maximum"


def band_problems(symbol: str, bands: Sequence[Band]) -> tuple[str, ...]:
    """What is wrong with these bands, as sentences; empty when they can be published."""
    volumes = [band.volume for band in bands[:-1]]
    rising = [volume for volume in (*volumes, bands[-1].volume if bands else None) if volume is not None]
    problems = []
    if any(volume is None for volume in volumes):
        problems.append("only the last band may be without volume")
    if any(volume <= 0 for volume in rising) or sorted(set(rising)) != rising:
        problems.append("the bands' volumes must be above zero and rise")
    return tuple(f"{symbol}: {problem}" for problem in problems)
