"""What may refuse new risk besides the order itself: messages, the law, switches and limits, day trades, cash.

The order in which an opening is refused: too late, too many messages, what the symbol and the account allow, the
instruction's shape, its price, the law, the desk's switches and the limits (`trading.controls`), the day-trade limit, cash,
margin. Nothing here binds what closes but its own, generous bucket of messages.

Buckets and the memory of recent orders are volatile: a restart begins with full buckets.
"""

from decimal import Decimal

from engine.work import Work
from engine.worth import equity_of
from trading.accounts import Account
from trading.calendar import business_date
from trading.checks import Refused
from trading.commands import (
    CancelAll,
    CancelOrder,
    CloseBy,
    ClosePosition,
    ClosePositions,
    Command,
    ModifyOrder,
    ModifyProtection,
    PlaceOrder,
    ReversePosition,
)
from trading.configuration import Group
from trading.controls import (
    Denied,
    Exposure,
    NewOrder,
    Throttle,
    check_controls,
    remember,
    take_message,
)
from trading.daytrading import is_limit_reached
from trading.instruments import Instrument
from trading.numbers import ZERO, plain
from trading.orders import Order, OrderType, Side
from trading.quotes import ClientQuote
from trading.refusals import Refusal
from trading.regulation import is_stp_only

OPENING = frozenset({PlaceOrder, ModifyOrder, ReversePosition})
CLOSING = frozenset({CancelOrder, CancelAll, ClosePosition, ClosePositions, CloseBy, ModifyProtection})


def check_messages(work: Work, command: Command) -> Refused | None:
    """Take one message out of the account's bucket; a repetition was answered before this and costs nothing."""
    account = work.state.accounts.get(command.account)
    if account is None or (type(command) not in OPENING and type(command) not in CLOSING):
        return None
    terms = work.group_of(account).controls
    if not (terms.messages_per_second or terms.closing_messages_per_second):
        return None
    throttles = work.state.throttles
    before = throttles.get(account.id, Throttle())
    is_closing = type(command) in CLOSING
    throttles[account.id], denied = take_message(before, terms, is_closing=is_closing, at_us=work.now_us)
    return None if denied is None else _refused(denied)


def check_gates(work: Work, account: Account, order: Order, seen: ClientQuote | None) -> Refused | None:
    """Everything that refuses an opening for other reasons than its own terms and its margin."""
    group, terms = work.group_of(account), work.terms_for(account, order.symbol)
    refused = _check_law(work, account, order) if account.jurisdiction else None
    if refused is None and (_has_switches(work) or work.state.terms.is_controlled(account.group, order.symbol)):
        refused = _check_controls(work, account, order, group, terms, seen)
    if refused is None and group.day_trades is not None:
        refused = _check_day_trades(work, account, group)
    if refused is None and terms.is_cash:
        refused = _check_cash(work, account, order, terms, seen)
    return refused


def remember_order(work: Work, order: Order) -> None:
    """An opening order was accepted: the duplicate guard looks for its like."""
    account = work.account(order.account)
    terms = work.group_of(account).controls
    if terms.duplicate_window_us:
        recent = work.state.recent.get(account.id, ())
        work.state.recent[account.id] = remember(recent, _new_order(account, order, ZERO), terms, work.now_us)


def stp_only(work: Work, account: Account, symbol: str) -> str:
    """Why everything of the account goes to the market, in words; empty where the policy decides."""
    group = work.group_of(account)
    if not (work.config.stp_only or group.stp_only or account.stp_only or account.jurisdiction):
        return ""
    law = work.state.terms.regulatory(account, symbol, work.now_us)
    if not is_stp_only(firm=work.config.stp_only, group=group.stp_only, account=account.stp_only, terms=law):
        return ""
    if work.config.stp_only:
        return "the firm takes no risk of its own"
    if group.stp_only:
        return f"group {group.name} goes to the market only"
    return "the account goes to the market only" if account.stp_only else f"{law.rule} demands it"


# --- the law ------------------------------------------------------------------------------------------------------------


def _check_law(work: Work, account: Account, order: Order) -> Refused | None:
    law = work.state.terms.regulatory(account, order.symbol, work.now_us)
    if law.is_banned:
        return Refused(Refusal.PRODUCT_BANNED, f"{order.symbol} may not be sold to you: {law.rule}")
    return None


# --- switches and limits ------------------------------------------------------------------------------------------------


def _has_switches(work: Work) -> bool:
    switches = work.state.desk.switches
    return switches.firm or switches.is_disk_low or bool(switches.symbols) or bool(switches.accounts)


def _check_controls(
    work: Work, account: Account, order: Order, group: Group, terms: Instrument, seen: ClientQuote | None
) -> Refused | None:
    value = ZERO
    if terms.controls.order_value_max is not None:
        found = _value_usd(work, order, seen)
        if found is None:
            return Refused(Refusal.NO_QUOTES, "a price that values the order is missing")
        value = found
    new = _new_order(account, order, value)
    denied = check_controls(
        new,
        switches=work.state.desk.switches,
        symbol_terms=terms.controls,
        account_terms=group.controls,
        exposure=_exposure(work, account, order.symbol),
        recent=work.state.recent.get(account.id, ()),
        reference=None if seen is None else (seen.ask if order.side is Side.BUY else seen.bid),
        digits=terms.digits,
        at_us=work.now_us,
    )
    return None if denied is None else _refused(denied)


def _refused(denied: Denied) -> Refused:
    return Refused(Refusal(denied.code), denied.detail)


def _new_order(account: Account, order: Order, value: Decimal) -> NewOrder:
    return NewOrder(
        account=account.id,
        symbol=order.symbol,
        side=order.side,
        volume=order.volume,
        price=order.price or order.stop_price,
        value=value,
        is_pending=order.type is not OrderType.MARKET,
        volume_netted=order.netted,
        adds_position=not order.closes,
    )


def _value_usd(work: Work, order: Order, seen: ClientQuote | None) -> Decimal | None:
    """Contract value in USD: the limits' currency."""
    instrument = work.instrument(order.symbol)
    if instrument.base == "USD":
        return order.volume * instrument.contract_size
    price = order.price or order.stop_price or (None if seen is None else seen.ask)
    if price is None:
        return None
    return work.convert(order.volume * instrument.contract_size * price, instrument.quote, "USD")


def _exposure(work: Work, account: Account, symbol: str) -> Exposure:
    """What the account has in the symbol and in all, orders in flight included."""
    state = work.state
    portfolio = state.portfolios.get(account.id)
    if portfolio is None:
        return Exposure()
    holding = state.holdings.get(account.id, {}).get(symbol)
    pending = [state.orders[number] for number in portfolio.orders if not state.orders[number].closes]
    here = [order for order in pending if order.symbol == symbol]
    return Exposure(
        volume_long=ZERO if holding is None else holding.long.volume,
        volume_short=ZERO if holding is None else holding.short.volume,
        pending_buys=sum((order.open_volume for order in here if order.side is Side.BUY), ZERO),
        pending_sells=sum((order.open_volume for order in here if order.side is Side.SELL), ZERO),
        positions=len(portfolio.positions)
        + sum(1 for order in pending if not order.is_resting and not order.position_id),
        orders=sum(1 for order in pending if order.is_resting),
    )


# --- day trades and cash ------------------------------------------------------------------------------------------------


def _check_day_trades(work: Work, account: Account, group: Group) -> Refused | None:
    terms, equity = group.day_trades, equity_of(work, account)
    assert terms is not None
    if equity is None:
        return Refused(Refusal.NO_QUOTES, "a price that values the account is missing")
    today = business_date(work.now_us)
    if is_limit_reached(terms, account.day_trades, equity=equity, today=today):
        return Refused(
            Refusal.DAY_TRADE_LIMIT,
            f"{terms.count_max} day trades in {terms.days} business days need an equity of {plain(terms.equity_min)}",
        )
    return None


def _check_cash(
    work: Work, account: Account, order: Order, terms: Instrument, seen: ClientQuote | None
) -> Refused | None:
    """Cash instruments are bought with the account's own money, and only what is owned is sold."""
    if order.side is Side.SELL:
        return Refused(Refusal.LONG_ONLY, f"{terms.symbol} is sold by closing what is held")
    price = order.price or order.stop_price or (None if seen is None else seen.ask)
    value = None
    if price is not None:
        cost = -(order.volume * terms.contract_size * price)
        value = work.convert(cost, terms.quote, account.currency)
    if value is None:
        return Refused(Refusal.NO_QUOTES, "a price that values the order is missing")
    cash = account.balance - account.commission_blocked - work.state.margin_used(account.id)
    if cash + value < 0:
        return Refused(
            Refusal.INSUFFICIENT_MARGIN, f"the order costs {plain(-value)} {account.currency}, {plain(cash)} is there"
        )
    return None
