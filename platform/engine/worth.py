"""What an account is worth and what an opening would tie up, with every quote that was looked at remembered as used."""

from decimal import Decimal

from engine.work import Work
from trading.accounts import Account
from trading.conversion import SAME_CURRENCY, ConversionRule, Converter, Rate, Traded
from trading.effective import margin_currency_of
from trading.instruments import Instrument
from trading.margin import unrealised
from trading.margining.exposures import KINDS
from trading.margining.level import Worth
from trading.margining.modes import Exposure, charge, conversion_rate
from trading.margining.terms import MarginKind, TierBasis
from trading.numbers import ZERO
from trading.orders import Order, Side
from trading.positions import Position
from trading.pricing import conversion_key
from trading.regulation import effective_leverage

TIER_CURRENCY = "USD"
"""Tiers by notional run in it."""


def worth_of(work: Work, account: Account) -> Worth | None:
    """What the account is made of, in its currency, unrounded; None when a needed price was never seen."""
    profit = swap = ZERO
    held = work.state.holdings.get(account.id)
    if held:
        for symbol in held if len(held) == 1 else sorted(held):  # in one order: sums may differ in the last digit
            found = profit_in(work, account, symbol)
            if found is None:
                return None
            profit += found
            swap += held[symbol].swap
    return Worth(
        balance=account.balance,
        credit=account.credit,
        profit=profit,
        swap=swap,
        commission_blocked=account.commission_blocked,
    )


def equity_of(work: Work, account: Account) -> Decimal | None:
    """Balance and credit and what is unrealised, less what is blocked; None when a needed price was never seen."""
    worth = worth_of(work, account)
    if worth is None:
        return None
    return worth.balance + worth.credit + worth.profit + worth.swap - worth.commission_blocked


def profit_in(work: Work, account: Account, symbol: str) -> Decimal | None:
    """The unrealised result of all the account's positions in one symbol, in its currency."""
    seen = work.seen_by(account, symbol)
    if seen is None:
        return None
    terms, holding = work.terms_for(account, symbol), work.state.holdings[account.id][symbol]
    return work.convert(unrealised(holding, seen, terms.lot_value), terms.quote, account.currency)


# --- margin of an opening -----------------------------------------------------------------------------------------------


def order_charge(work: Work, order: Order, volume: Decimal, price: Decimal) -> Exposure | None:
    """What `volume` lots of the order tie up while it waits or works; None when it cannot be converted now."""
    exposure = _charge(work, order, KINDS[order.type], volume, price)
    if exposure is not None and exposure.kind is MarginKind.MARKET and work.is_simple(order):
        work.charged = order.id, order.side, volume, price, exposure
    return exposure


def position_charge(work: Work, order: Order, volume: Decimal, price: Decimal) -> Exposure | None:
    """What `volume` lots tie up once they are opened at `price`; None when it cannot be converted now."""
    known = work.charged
    if known is not None and known[:4] == (order.id, order.side, volume, price):
        return known[4]
    return _charge(work, order, MarginKind.POSITION, volume, price)


def recharge(work: Work, position: Position) -> Exposure | None:
    """What the position would tie up if it were opened at the price that it could be closed at now."""
    account = work.account(position.account)
    seen = work.seen_by(account, position.symbol)
    if seen is None:
        return None
    price = seen.bid if position.side is Side.BUY else seen.ask
    return _charge_of(work, account, position.symbol, position.side, MarginKind.POSITION, position.volume, price)


def _charge(work: Work, order: Order, kind: MarginKind, volume: Decimal, price: Decimal) -> Exposure | None:
    return _charge_of(work, work.account(order.account), order.symbol, order.side, kind, volume, price)


def _charge_of(
    work: Work, account: Account, symbol: str, side: Side, kind: MarginKind, volume: Decimal, price: Decimal
) -> Exposure | None:
    group = work.group_of(account)
    terms = work.terms_for(account, symbol)
    rate = _margin_rate(work, account, terms, side, price)
    notional_rate = SAME_CURRENCY if terms.margin.tiers is None else _notional_rate(work, terms, side, price)
    if rate is None or notional_rate is None:
        return None
    return charge(
        work.state.terms.rules(account.group)[symbol],
        symbol=symbol,
        side=side,
        kind=kind,
        volume=volume,
        price=price,
        leverage=leverage_for(work, account, symbol),
        rate=rate,
        rounding=group.margin.rounding,
        digits=work.config.currency_digits[account.currency],
        notional_rate=notional_rate,
    )


def leverage_for(work: Work, account: Account, symbol: str) -> int:
    """The smallest of what the client chose, the group allows and the law caps."""
    cap = work.state.terms.regulatory(account, symbol, work.now_us).leverage_max if account.jurisdiction else None
    return effective_leverage(account=account.leverage, group=work.group_of(account).leverage_max, cap=cap)


def _margin_rate(work: Work, account: Account, terms: Instrument, side: Side, price: Decimal) -> Rate | None:
    source = margin_currency_of(terms)
    if source == account.currency:
        return SAME_CURRENCY
    rule = work.group_of(account).conversion.margin
    if rule is not ConversionRule.BY_DEAL:
        work.use_conversion(source, account.currency)
        traded = Traded(side=side, symbol=terms.symbol, price=price)
        return _converter(work).rate(source, account.currency, rule=rule, traded=traded)
    path = work.config.conversions.get(conversion_key(source, account.currency))
    if path is None:
        return None
    for step in path:
        work.quote(step.symbol)
    return conversion_rate(path, traded=terms.symbol, price=price, side=side, quotes=work.state.quotes)


def _notional_rate(work: Work, terms: Instrument, side: Side, price: Decimal) -> Rate | None:
    if terms.margin.tiers is None or terms.margin.tiers.basis is not TierBasis.NOTIONAL:
        return SAME_CURRENCY
    source = margin_currency_of(terms)
    work.use_conversion(source, TIER_CURRENCY)
    traded = Traded(side=side, symbol=terms.symbol, price=price)
    return _converter(work).rate(source, TIER_CURRENCY, rule=ConversionRule.BY_DEAL, traded=traded)


def _converter(work: Work) -> Converter:
    return Converter(work.config.conversions, work.state.quotes)
