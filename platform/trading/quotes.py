"""A symbol's price at one instant: the aggregate and the providers' tops behind it.

The raw quote (before any client's markup) is what the LP manager publishes and what decisions store. Markup is applied
by `pricing.client_quote`, in the engine and in the stream alike, so both show and fill the same price.
"""

from decimal import Decimal

from msgspec import Struct


class LpTop(Struct, frozen=True, kw_only=True):
    """One provider's best bid and offer. Sizes are in lots."""

    lp: str
    bid: Decimal
    ask: Decimal
    bid_size: Decimal
    ask_size: Decimal
    quote_id: str
    at_us: int
    """Business time at which the provider's price was received."""
    tradable: bool
    """The provider's trade session is logged on and its price is fresh."""


class Quote(Struct, frozen=True, kw_only=True):
    """The aggregate over fresh, uncrossed providers: best bid and best ask, and who stands behind them."""

    symbol: str
    seq: int
    """Contiguous per symbol within one run of the LP manager."""
    bid: Decimal
    ask: Decimal
    at_us: int
    tops: tuple[LpTop, ...] = ()


class ClientQuote(Struct, frozen=True, kw_only=True):
    """What a client of one group sees and is filled at."""

    symbol: str
    bid: Decimal
    ask: Decimal
    at_us: int
    is_dealable: bool = True
    """False while its spread is wider than the group is dealt at: shown, not dealt."""
