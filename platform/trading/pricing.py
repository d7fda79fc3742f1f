"""From the raw aggregate to what one group sees: the only place where markup is applied."""

from decimal import Decimal

from trading.configuration import Config, Group, Markup
from trading.instruments import Instrument
from trading.numbers import point
from trading.orders import Side
from trading.quotes import ClientQuote, Quote


def client_quote(quote: Quote, group: Group, instrument: Instrument) -> ClientQuote:
    """The aggregate with the group's markup: bid lowered, ask raised by its points."""
    return marked_up(quote, group.markup_for(quote.symbol), instrument)


def marked_up(quote: Quote, markup: Markup, instrument: Instrument) -> ClientQuote:
    """The aggregate as everybody with this markup sees it."""
    step = point(instrument.digits)
    return ClientQuote(
        symbol=quote.symbol, bid=quote.bid - markup.bid * step, ask=quote.ask + markup.ask * step, at_us=quote.at_us
    )


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
