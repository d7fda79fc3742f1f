"""Messages that are not commands, quotes or answers: what provider processes tell the LP manager."""

from decimal import Decimal

from msgspec import Struct


class LpPrice(Struct, frozen=True, kw_only=True):
    """One provider's top of book as received, in our symbol's terms, unfiltered. Sizes are units of base, zero if unknown."""

    lp: str
    symbol: str
    bid: Decimal
    ask: Decimal
    bid_size: Decimal
    ask_size: Decimal
    quote_id: str
    at_us: int
    """Business time of receipt."""


class LpState(Struct, frozen=True, kw_only=True):
    """A provider's session went up or down, or is still so."""

    lp: str
    session: str
    """`price` or `trade`."""
    up: bool
    at_us: int
    """Business time."""
    text: str = ""
