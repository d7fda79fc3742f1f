"""One price from a feed to a simulated provider. Prices are text: a recorded one is passed on exactly as it was written."""

from decimal import Decimal

from msgspec import Struct


class Tick(Struct, frozen=True, array_like=True):
    """A provider's best bid and ask from now on. Both prices empty: it shows nothing any more."""

    lp: str
    symbol: str
    bid: str
    ask: str
    bid_size: int
    """Units of base."""
    ask_size: int

    @property
    def is_crossed(self) -> bool:
        """The bid is at or above the ask."""
        return bool(self.bid) and Decimal(self.bid) >= Decimal(self.ask)


def withdrawal(lp: str, symbol: str) -> Tick:
    return Tick(lp, symbol, "", "", 0, 0)
