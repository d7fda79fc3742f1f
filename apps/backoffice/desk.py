"""What positions are worth and what they add up to: the desk's arithmetic. Pure."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from trading.configuration import Config
from trading.effective import EffectiveTerms
from trading.numbers import ZERO, round_half_up
from trading.orders import Side
from trading.pricing import client_quote, convert
from trading.quotes import Quote


class OpenPosition(NamedTuple):
    """One client's open position as stored. Volumes are lots, `cost` is price x lots."""

    id: int
    account: int
    group: str
    currency: str
    symbol: str
    side: Side
    volume: Decimal
    volume_a: Decimal
    cost: Decimal
    lp: str


class Exposure(NamedTuple):
    """Net lots in a symbol, buys plus. What clients hold, `house` has against them and the LPs cover: they cancel out."""

    symbol: str
    clients: Decimal
    house: Decimal
    lp: Decimal


def floating(position: OpenPosition, config: Config, terms: EffectiveTerms, quotes: dict[str, Quote]) -> Decimal | None:
    """Profit in the account's currency if closed now at the group's price; None without a quote or a conversion."""
    quote = quotes.get(position.symbol)
    group = config.groups.get(position.group)
    instrument = None if group is None else terms.of(position.group, position.symbol)
    digits = config.currency_digits.get(position.currency)
    if quote is None or group is None or instrument is None or digits is None:
        return None
    shown = client_quote(quote, group, instrument)
    price = shown.bid if position.side is Side.BUY else shown.ask
    profit = (price * position.volume - position.cost) * position.side.sign * instrument.lot_value
    converted = convert(profit, instrument.quote, position.currency, config, quotes)
    return None if converted is None else round_half_up(converted, digits)


def exposures(positions: Iterable[OpenPosition]) -> list[Exposure]:
    """Net exposure per symbol. The house takes the other side of B; of A it has passed everything on to the LPs."""
    nets: dict[str, tuple[Decimal, Decimal]] = {}
    for position in positions:
        clients, covered = nets.get(position.symbol, (ZERO, ZERO))
        sign = position.side.sign
        nets[position.symbol] = (clients + sign * position.volume, covered + sign * position.volume_a)
    return [
        Exposure(symbol=symbol, clients=clients, house=covered - clients, lp=covered)
        for symbol, (clients, covered) in sorted(nets.items())
    ]


def spread_points(quote: Quote, digits: int) -> Decimal:
    """The aggregate's spread in points: negative when providers cross each other."""
    return (quote.ask - quote.bid).scaleb(digits)
