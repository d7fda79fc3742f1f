"""The plain forex account's margin, told once more step by step: what the settings' defaults must always equal."""

from decimal import Decimal

from trading.configuration import Config
from trading.instruments import Instrument
from trading.numbers import round_up
from trading.orders import Side
from trading.pricing import conversion_key
from trading.quotes import Quote


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
