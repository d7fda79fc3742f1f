"""From the raw aggregate to what one group sees: the only place where markup and spread limits are applied.

The `instrument` given here is always the symbol as the group has it (`trading.effective`), since its spread limits are.
"""

from decimal import Decimal

from msgspec import Struct

from trading.configuration import Config, Group, Markup
from trading.instruments import Instrument
from trading.numbers import ZERO, point
from trading.orders import Side
from trading.quotes import ClientQuote, Quote
from trading.spreads import SpreadTerms, clip_spread


class Shade(Struct, frozen=True):
    """What makes a shown price out of the raw one: groups with the same shade see the same price."""

    markup: Markup
    spread: SpreadTerms


def shade_of(group: Group, instrument: Instrument) -> Shade:
    """How the group sees the symbol's price."""
    return Shade(group.markup_for(instrument.symbol), instrument.spread)


def client_quote(quote: Quote, group: Group, instrument: Instrument) -> ClientQuote:
    """The aggregate with the group's markup (bid lowered, ask raised by its points), within its spread limits."""
    return _shown(quote, group.markup_for(quote.symbol), instrument.spread, instrument.digits)


def shaded(quote: Quote, shade: Shade, digits: int) -> ClientQuote:
    """The aggregate as everybody with this shade sees it."""
    return _shown(quote, shade.markup, shade.spread, digits)


def _shown(quote: Quote, markup: Markup, spread: SpreadTerms, digits: int) -> ClientQuote:
    step = point(digits)
    bid, ask = quote.bid - markup.bid * step, quote.ask + markup.ask * step
    if spread.max_points is None and spread.min_points is None:  # `clips`, without the call: it is asked at every tick
        return ClientQuote(symbol=quote.symbol, bid=bid, ask=ask, at_us=quote.at_us)
    shown = clip_spread(bid=bid, ask=ask, digits=digits, terms=spread)
    return ClientQuote(
        symbol=quote.symbol, bid=shown.bid, ask=shown.ask, at_us=quote.at_us, is_dealable=shown.is_dealable
    )


def price_shift(quote: Quote, side: Side, group: Group, instrument: Instrument) -> Decimal:
    """What the shown price of a deal on `side` is above the marked-up one: the spread limit's part, below zero as well."""
    if not instrument.spread.clips:
        return ZERO
    seen = client_quote(quote, group, instrument)
    shown = seen.ask if side is Side.BUY else seen.bid
    return shown - client_price(raw_price(quote, side), side, group, instrument)


def client_price(raw: Decimal, side: Side, group: Group, instrument: Instrument) -> Decimal:
    """One raw dealing price as the client gets it: a buy pays the ask's markup, a sell gives up the bid's."""
    markup = group.markup_for(instrument.symbol)
    step = point(instrument.digits)
    return raw + markup.ask * step if side is Side.BUY else raw - markup.bid * step


def raw_price(quote: Quote, side: Side) -> Decimal:
    """What a buy pays (ask) or a sell gets (bid), before markup."""
    return quote.ask if side is Side.BUY else quote.bid


def is_fresh(quote: Quote, instrument: Instrument, now_us: int) -> bool:
    """Young enough to deal on."""
    return now_us - quote.at_us <= instrument.quote_age_max_us


def conversion_key(source: str, target: str) -> str:
    return f"{source}/{target}"


def convert(amount: Decimal, source: str, target: str, config: Config, quotes: dict[str, Quote]) -> Decimal | None:
    """`amount` of `source` in `target`, unrounded; None when there is no path or a quote on it was never seen.

    The worse side for whoever holds the amount: an asset is sold at the bid, a debt is bought at the ask.
    """
    path = config.conversions.get(conversion_key(source, target))
    if path is None:
        return None
    for step in path:
        quote = quotes.get(step.symbol)
        if quote is None:
            return None
        if step.inverse:
            amount = amount / (quote.ask if amount >= 0 else quote.bid)
        else:
            amount = amount * (quote.bid if amount >= 0 else quote.ask)
    return amount
