"""The house deals: at the price its client sees, at once, for any size that the symbol allows.

No last look, no delay, no slippage in anybody's favour: a price is either fresh and dealt on, or refused.
"""

from decimal import Decimal

from msgspec import Struct

from trading.checks import Refused, check_price
from trading.configuration import Group
from trading.instruments import Instrument
from trading.numbers import plain
from trading.orders import Side
from trading.pricing import client_price, price_shift, raw_price
from trading.quotes import Quote


class HouseFill(Struct, frozen=True):
    """The client's price, and how it came about."""

    price: Decimal
    raw: Decimal
    """The aggregate's price before markup and spread limits."""
    marked_up: Decimal
    side: Side

    @property
    def reason(self) -> str:
        return _reason(self.side, self.raw, self.marked_up, self.price)


def fill(*, quote: Quote | None, side: Side, group: Group, instrument: Instrument, now_us: int) -> HouseFill | Refused:
    """The house's fill of a client's `side`: the price that the group is shown, with its markup and spread limits.

    Refused as `no_quotes` when there is no price, or none young enough to deal on. Whether a spread is too wide to deal
    on is asked before (`trading.checks.check_spread`): here the shown price is dealt, whatever it is.
    """
    refused = check_price(instrument, quote, now_us)
    if refused is not None:
        return refused
    assert quote is not None, "check_price refuses a missing quote"
    raw = raw_price(quote, side)
    marked_up = client_price(raw, side, group, instrument)
    price = marked_up
    if instrument.spread.clips:
        price += price_shift(quote, side, group, instrument)
    return HouseFill(price, raw, marked_up, side)


def _reason(side: Side, raw: Decimal, marked_up: Decimal, price: Decimal) -> str:
    deals, name = ("sells", "ask") if side is Side.BUY else ("buys", "bid")
    markup = f"the {name} {plain(raw)} and {plain(abs(marked_up - raw))} of markup"
    limit = f", {plain(price - marked_up)} by the spread limit" if price != marked_up else ""
    return f"The house {deals} at {plain(price)}: {markup}{limit}."
