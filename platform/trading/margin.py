"""What an account holds, summed: so that its equity costs as much as it has symbols, however many positions it holds.

What positions and orders tie up is `margining`'s.
"""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from trading.numbers import ZERO
from trading.orders import Side
from trading.positions import Position
from trading.quotes import ClientQuote


class SideSum(Struct):
    """What an account holds on one side of one symbol."""

    volume: Decimal = ZERO
    cost: Decimal = ZERO
    swap: Decimal = ZERO
    """Accrued and not yet posted, in the account's currency."""

    def add(self, position: Position) -> None:
        self.volume += position.volume
        self.cost += position.cost
        if position.swap:
            self.swap += position.swap

    def remove(self, position: Position) -> None:
        self.volume -= position.volume
        self.cost -= position.cost
        if position.swap:
            self.swap -= position.swap


class Holding:
    """Both sides of one symbol in one account."""

    __slots__ = ("long", "short")

    def __init__(self) -> None:
        self.long = SideSum()
        self.short = SideSum()

    def side(self, side: Side) -> SideSum:
        return self.long if side is Side.BUY else self.short

    @property
    def swap(self) -> Decimal:
        """Accrued on both sides."""
        return self.long.swap + self.short.swap

    @property
    def is_empty(self) -> bool:
        return not self.long.volume and not self.short.volume


def unrealised(holding: Holding, quote: ClientQuote, contract_size: Decimal) -> Decimal:
    """Profit of both sides in the quote currency, unrounded: longs valued at the bid, shorts at the ask."""
    profit = ZERO
    if holding.long.volume:
        profit += (quote.bid * holding.long.volume - holding.long.cost) * contract_size
    if holding.short.volume:
        profit += (holding.short.cost - quote.ask * holding.short.volume) * contract_size
    return profit


def holdings_of(positions: Iterable[Position]) -> dict[int, dict[str, Holding]]:
    """The running sums from nothing: what the incremental ones must always equal."""
    accounts: dict[int, dict[str, Holding]] = {}
    for position in positions:
        holding = accounts.setdefault(position.account, {}).setdefault(position.symbol, Holding())
        holding.side(position.side).add(position)
    return accounts
