"""An account valued: the same pure functions as the engine's, over the rows and the newest quotes.

Where a price is missing or too old, equity is not guessed: it is None, and the symbols that lack a price are named.
"""

from decimal import Decimal
from typing import NamedTuple

from apps.accounts.models import Account
from apps.accounts.rows import account_value
from apps.doors.connections import clock
from apps.marketdata.queries import newest_quotes
from apps.orders.models import Order
from apps.orders.rows import order_value
from apps.positions.models import Position
from apps.positions.rows import position_value
from apps.published import effective_terms
from trading import accounts
from trading.configuration import Config
from trading.effective import EffectiveTerms
from trading.funds import buying_power, withdrawable
from trading.margin import Holding, holdings_of, unrealised
from trading.margining import level
from trading.margining.account import account_margin
from trading.margining.exposures import order_exposure, position_exposure
from trading.margining.modes import Exposure
from trading.numbers import ZERO, round_half_up
from trading.orders import LIVE_ORDERS
from trading.pricing import client_quote, conversion_key, convert, is_fresh
from trading.quotes import Quote


class Worth(NamedTuple):
    """What an account is worth now, in its currency."""

    account: accounts.Account
    margin: Decimal
    swap: Decimal
    """Accrued on open positions and not yet in the balance."""
    buying_power: Decimal
    equity: Decimal | None = None
    free_margin: Decimal | None = None
    withdrawable: Decimal | None = None
    unpriced: tuple[str, ...] = ()

    @property
    def margin_level(self) -> Decimal | None:
        """Percent; None without margin."""
        if self.equity is None or not self.margin:
            return None
        return round_half_up(self.equity / self.margin * 100, 2)


def worth_of(rows: list[Account], config: Config) -> list[Worth]:
    """Each account valued at the newest quotes."""
    numbers = [row.id for row in rows]
    open_rows = Position.objects.filter(account__in=numbers, volume__gt=0)
    positions = [position_value(row) for row in open_rows]
    held = holdings_of(positions)
    live = [order_value(row) for row in Order.objects.filter(account__in=numbers, status__in=LIVE_ORDERS)]
    exposures: dict[int, list[Exposure]] = {}
    for position in positions:
        exposures.setdefault(position.account, []).append(position_exposure(position))
    for order in live:
        exposure = order_exposure(order)
        if exposure is not None:
            exposures.setdefault(order.account, []).append(exposure)
    quotes = _fresh_quotes(config) if held else {}
    terms = effective_terms(config)
    found = []
    for row in rows:
        account = account_value(row)
        margin = margin_of(account, exposures.get(account.id, []), config, terms)
        swap = sum((position.swap for position in positions if position.account == account.id), ZERO)
        found.append(_worth(account, held.get(account.id, {}), _Dues(margin, swap), config, quotes))
    return found


def margin_of(account: accounts.Account, exposures: list[Exposure], config: Config, terms: EffectiveTerms) -> Decimal:
    """What the account's positions and orders tie up together, by its group's rules."""
    return account_margin(
        exposures,
        rules=terms.rules(account.group),
        policy=config.groups[account.group].margin,
        digits=config.currency_digits[account.currency],
    ).margin


class _Dues(NamedTuple):
    margin: Decimal
    swap: Decimal


def _fresh_quotes(config: Config) -> dict[str, Quote]:
    now_us = clock()()
    found = newest_quotes(config.instruments)
    return {symbol: q for symbol, q in found.items() if is_fresh(q, config.instruments[symbol], now_us)}


def _worth(
    account: accounts.Account, held: dict[str, Holding], dues: _Dues, config: Config, quotes: dict[str, Quote]
) -> Worth:
    """What can be said without prices, and all of it where every price is there."""
    margin = dues.margin
    known = Worth(account, margin, dues.swap, buying_power=buying_power(balance=account.balance, reserved=margin))
    unpriced = tuple(sorted(_unpriced(account, held, config, quotes)))
    if unpriced:
        return known._replace(unpriced=unpriced)
    made_of = level.Worth(
        balance=account.balance,
        credit=account.credit,
        profit=sum((_floating(account, symbol, held[symbol], config, quotes) for symbol in held), ZERO),
        swap=dues.swap,
        commission_blocked=account.commission_blocked,
    )
    digits = config.currency_digits[account.currency]
    policy = config.groups[account.group].margin.free_margin
    return known._replace(
        equity=level.equity(made_of, digits),
        free_margin=level.free_margin(made_of, margin, policy, digits),
        withdrawable=withdrawable(made_of, margin, digits),
    )


def _unpriced(
    account: accounts.Account, held: dict[str, Holding], config: Config, quotes: dict[str, Quote]
) -> set[str]:
    """Every symbol whose price is needed and not there."""
    needed: set[str] = set(held)
    for symbol in held:
        path = config.conversions.get(conversion_key(config.instruments[symbol].quote, account.currency))
        needed |= {symbol} if path is None else {step.symbol for step in path}
    return {symbol for symbol in needed if symbol not in quotes}


def _floating(
    account: accounts.Account, symbol: str, holding: Holding, config: Config, quotes: dict[str, Quote]
) -> Decimal:
    instrument = effective_terms(config).of(account.group, symbol) or config.instruments[symbol]
    seen = client_quote(quotes[symbol], config.groups[account.group], instrument)
    profit = unrealised(holding, seen, instrument.lot_value)
    converted = convert(profit, instrument.quote, account.currency, config, quotes)
    assert converted is not None, "a missing price was found above"
    return converted
