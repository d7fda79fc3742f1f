"""Why an order is refused, in the order that we promise to report it.

Each check looks at facts only. After the last one passes nothing may fail. Opening risk passes all of them; closing is
exempt from everything but a halted market, a missing price, and its own arithmetic.
"""

from decimal import Decimal

from msgspec import Struct

from trading.accounts import Account, Rights
from trading.calendar import is_open
from trading.configuration import Group
from trading.instruments import Instrument, TradeMode
from trading.numbers import is_on_step, is_plain, plain
from trading.orders import Side
from trading.positions import Position
from trading.pricing import client_quote, is_fresh
from trading.quotes import Quote
from trading.refusals import Refusal
from trading.spreads import TooWide


class Refused(Struct, frozen=True):
    """A refusal and the sentence that tells this case apart."""

    code: Refusal
    detail: str


def check_opening(*, account: Account, instrument: Instrument | None, side: Side, volume: Decimal) -> Refused | None:
    """What can be said against opening whatever the market does. `instrument` is the symbol as the account's group has it."""
    if instrument is None:
        return Refused(Refusal.UNKNOWN_SYMBOL, "the symbol is not offered")
    return (
        check_volume(instrument, volume)
        or _check_volume_limits(instrument, volume)
        or _check_rights(account)
        or _check_trade_mode(instrument, side)
    )


def check_closing(
    *,
    position: Position | None,
    account: int,
    instrument: Instrument | None,
    volume: Decimal,
    quote: Quote | None,
    now_us: int,
) -> Refused | None:
    """Everything that can be said against a close. Minimum volume and rights do not bind: closing is always possible."""
    if position is None or position.account != account:
        return Refused(Refusal.POSITION_CLOSED, "the account has no such open position")
    if instrument is None:
        return Refused(Refusal.UNKNOWN_SYMBOL, "the symbol is not offered")
    refused = check_volume(instrument, volume)
    if refused:
        return refused
    if volume > position.volume:
        return Refused(Refusal.CLOSE_VOLUME_TOO_LARGE, f"{plain(position.volume)} lots are open")
    if volume > position.volume - position.locked:
        return Refused(Refusal.CLOSE_ORDER_EXISTS, f"{plain(position.locked)} lots are being closed already")
    if instrument.trade_mode is TradeMode.HALTED:
        return Refused(Refusal.MARKET_CLOSED, f"{instrument.symbol} is halted")
    return check_price(instrument, quote, now_us)


def check_volume(instrument: Instrument, volume: Decimal) -> Refused | None:
    """A plain positive number on the symbol's step."""
    if not is_plain(volume) or volume <= 0:
        return Refused(Refusal.INVALID_VOLUME, "the volume must be a positive plain number")
    if not is_on_step(volume, instrument.volume_step):
        return Refused(Refusal.INVALID_VOLUME, f"the volume must be a multiple of {plain(instrument.volume_step)} lots")
    return None


def _check_volume_limits(instrument: Instrument, volume: Decimal) -> Refused | None:
    if volume < instrument.volume_min:
        return Refused(Refusal.INVALID_VOLUME, f"the smallest volume is {plain(instrument.volume_min)} lots")
    if volume > instrument.volume_max:
        return Refused(Refusal.INVALID_VOLUME, f"the largest volume is {plain(instrument.volume_max)} lots")
    return None


def _check_rights(account: Account) -> Refused | None:
    if account.rights is Rights.NO_TRADING:
        return Refused(Refusal.TRADE_DISABLED, "trading is disabled for the account")
    if account.rights is Rights.CLOSE_ONLY:
        return Refused(Refusal.CLOSE_ONLY, "the account may only close positions")
    return None


def _check_trade_mode(instrument: Instrument, side: Side) -> Refused | None:
    mode = instrument.trade_mode
    if mode is TradeMode.FULL:
        return None
    if mode is TradeMode.HALTED:
        return Refused(Refusal.MARKET_CLOSED, f"{instrument.symbol} is halted")
    if mode is TradeMode.HALTED_WITH_PENDINGS:
        return Refused(Refusal.MARKET_CLOSED, f"{instrument.symbol} takes no new orders now")
    return check_side(instrument, side)


def check_side(instrument: Instrument, side: Side) -> Refused | None:
    """What can be said against opening on this side: of a new order, and of one that has waited when its turn comes."""
    mode = instrument.trade_mode
    if mode is TradeMode.CLOSE_ONLY:
        return Refused(Refusal.CLOSE_ONLY, f"{instrument.symbol} may only be closed")
    if mode is TradeMode.LONG_ONLY and side is Side.SELL:
        return Refused(Refusal.LONG_ONLY, f"{instrument.symbol} may only be bought")
    if mode is TradeMode.SHORT_ONLY and side is Side.BUY:
        return Refused(Refusal.SHORT_ONLY, f"{instrument.symbol} may only be sold")
    return None


def check_spread(instrument: Instrument, group: Group, quote: Quote | None) -> Refused | None:
    """The spread that the group is shown is not wider than it is dealt at."""
    if instrument.spread.too_wide is not TooWide.REFUSE or quote is None:
        return None
    if client_quote(quote, group, instrument).is_dealable:
        return None
    return Refused(Refusal.NO_QUOTES, f"the spread of {instrument.symbol} is too wide to deal on")


def check_price(instrument: Instrument, quote: Quote | None, now_us: int) -> Refused | None:
    """The symbol trades now and has a price young enough to deal on."""
    if instrument.expires_us and now_us >= instrument.expires_us:
        return Refused(Refusal.MARKET_CLOSED, f"the contract {instrument.symbol} has ended")
    if not is_open(instrument.sessions, now_us):
        return Refused(Refusal.MARKET_CLOSED, f"{instrument.symbol} does not trade at this hour")
    if quote is None:
        return Refused(Refusal.NO_QUOTES, f"no price for {instrument.symbol} yet")
    if not is_fresh(quote, instrument, now_us):
        age_ms = (now_us - quote.at_us) // 1000
        return Refused(Refusal.NO_QUOTES, f"the last price of {instrument.symbol} is {age_ms} ms old")
    return None
