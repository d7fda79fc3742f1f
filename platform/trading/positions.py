"""Open positions, and the arithmetic of opening, adding to and closing them.

A position remembers which part of it stands at which provider, because a close follows its opening: the A part goes back
to the provider that holds it, rounded cumulatively, and the last close takes the remainder, so that the provider ends flat.
Costs (price x volume) are kept exactly rather than an average price, so that partial closes lose nothing to rounding.
"""

from decimal import Decimal

from msgspec import Struct

from trading.numbers import ZERO
from trading.orders import Side
from trading.protection import UNPROTECTED, Protection


class Position(Struct, frozen=True, kw_only=True):
    """One position of an account; of a netting account the only one in its symbol.

    Volumes are lots, costs are price x lots in the quote currency's price units.
    """

    id: int
    account: int
    symbol: str
    side: Side
    opened_us: int
    updated_us: int
    volume_opened: Decimal
    """Everything ever opened under this ticket."""
    volume: Decimal
    """Still open."""
    cost: Decimal
    """Sum of open price x volume of what is still open: open price = cost / volume."""
    margin: Decimal
    """Margin of what is still open, in the account's currency, at the rate of the opening."""
    lp: str = ""
    volume_a_opened: Decimal = ZERO
    volume_a: Decimal = ZERO
    """The part that stands at `lp`; volume - volume_a is the house's."""
    cost_a: Decimal = ZERO
    """The provider's own cost of `volume_a` (its prices, without markup)."""
    locked: Decimal = ZERO
    """Volume in a pending close: it cannot be closed twice."""
    protection: Protection = UNPROTECTED
    hedged: Decimal = ZERO
    unleveraged: Decimal = ZERO
    notional: Decimal = ZERO
    """With `margin`, its part in the account's margin: the amounts of `margining.modes.Exposure`."""
    swap: Decimal = ZERO
    """Swaps accrued and not yet posted, in the account's currency, with fractions of a cent."""
    rolled_us: int = 0
    """Every swap instant up to this one is charged."""

    @property
    def open_price(self) -> Decimal:
        return self.cost / self.volume if self.volume else ZERO

    @property
    def volume_b(self) -> Decimal:
        return self.volume - self.volume_a
