"""Margin and equity: what a position ties up, what an account is worth.

Margin is fixed at the opening's rate and kept on the position. Per symbol only the larger leg of a hedge counts. Running
sums per account, symbol and side (`Holding`) make equity and margin cost as much as the account has symbols, however many
positions it holds.
"""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from trading.configuration import Config
from trading.instruments import Instrument
from trading.numbers import ZERO, round_up
from trading.orders import Side
from trading.positions import Position
from trading.pricing import conversion_key
from trading.quotes import ClientQuote, Quote


class SideSum(Struct):
    """What an account holds on one side of one symbol."""

    volume: Decimal = ZERO
    cost: Decimal = ZERO
    margin: Decimal = ZERO

    def add(self, position: Position) -> None:
        self.volume += position.volume
        self.cost += position.cost
        self.margin += position.margin

    def remove(self, position: Position) -> None:
        self.volume -= position.volume
        self.cost -= position.cost
        self.margin -= position.margin


class Holding:
    """Both sides of one symbol in one account."""

    __slots__ = ("long", "short")

    def __init__(self) -> None:
        self.long = SideSum()
        self.short = SideSum()

    def side(self, side: Side) -> SideSum:
        return self.long if side is Side.BUY else self.short

    @property
    def margin(self) -> Decimal:
        return max(self.long.margin, self.short.margin)

    @property
    def is_empty(self) -> bool:
        return not self.long.volume and not self.short.volume

    def margin_with(self, side: Side, extra: Decimal) -> Decimal:
        """The margin if `extra` were added to one side."""
        if side is Side.BUY:
            return max(self.long.margin + extra, self.short.margin)
        return max(self.long.margin, self.short.margin + extra)


def leverage_of(account_leverage: int, group_leverage_max: int) -> int:
    return min(account_leverage, group_leverage_max)


def initial_margin(
    *,
    instrument: Instrument,
    side: Side,
    volume: Decimal,
    price: Decimal,
    leverage: int,
    currency: str,
    config: Config,
    quotes: dict[str, Quote],
) -> Decimal | None:
    """Margin of a forex-mode position in the account's currency, rounded up; None when it cannot be converted.

    Volume x contract size / leverage, counted in the base currency. Where the traded pair itself converts, its deal price
    is the rate; otherwise the market's ask for buys and bid for sells.
    """
    in_base = volume * instrument.contract_size / leverage
    path = config.conversions.get(conversion_key(instrument.base, currency))
    if path is None:
        return None
    amount = in_base
    for step in path:
        if step.symbol == instrument.symbol:
            rate = price
        else:
            quote = quotes.get(step.symbol)
            if quote is None:
                return None
            rate = quote.ask if (side is Side.BUY) is not step.inverse else quote.bid
        amount = amount / rate if step.inverse else amount * rate
    return round_up(amount, config.currency_digits[currency])


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
