"""Swaps: what a position pays or earns for every swap instant that it was held over, each charged once.

The trick is that it does not matter when this happens. A position carries up to which instant it is charged; the command
`RollOver` charges what is due on all of them, and before a position's volume changes it is charged first, at the volume that it
had. So whoever held a position over 17:00 New York pays, and nobody else, however late the command comes. A charge that comes
late is valued at the newest prices: the prices of the instant are not kept.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from engine.costs import converter_of, result_of
from engine.recharging import recharge_all
from engine.replies import Asked
from engine.work import Work
from trading.accounts import Account
from trading.answers import Answer
from trading.calendar import DAY_S, SessionTerms, business_date, rollover_us
from trading.charges.accrual import ACCRUAL_DIGITS
from trading.charges.swap import (
    HOLIDAY_RUN_DAYS_MAX,
    REOPENING,
    Reopening,
    SwapCharge,
    SwapFreeTerms,
    SwapMode,
    SwapPosition,
    SwapTerms,
    nights_held,
    reopening,
    swap_charge,
    swap_free_charge,
    swap_instants,
)
from trading.commands import RollOver
from trading.desk import SwapAccrual
from trading.effective import margin_currency_of
from trading.events import DealMade, DeskChanged, LedgerPosted, PositionChanged, SwapAccrued
from trading.instruments import Instrument
from trading.ledger import TransactionKind, Transfer, client_account, house_pnl, moving
from trading.numbers import ZERO, round_half_up
from trading.orders import Book, Deal, DealEntry, Side
from trading.positions import Position
from trading.pricing import client_quote
from trading.quotes import ClientQuote

ROLL_MAX = 1000
"""Positions charged per command: nobody waits long behind it."""

REFERENCE = "rollover"
"""What the transfers of a reopening are marked with: they belong to no order."""

PRICED = REOPENING | {SwapMode.PERCENT_CURRENT}
"""Modes that look at the symbol's own price."""


class Due(Struct, frozen=True):
    """One swap instant that a position was held over."""

    day: date
    period: int
    at_us: int


class Reopened(Struct, frozen=True, kw_only=True):
    """One book's part of a position, closed and opened again."""

    book: Book
    volume: Decimal
    profit: Decimal


class Night(Struct, frozen=True, kw_only=True):
    """What one instant comes to: an amount that accrues, or a reopening."""

    due: Due
    charge: SwapCharge
    reopening: Reopening | None = None
    parts: tuple[Reopened, ...] = ()


def roll_over(work: Work, command: RollOver, asked: Asked) -> None:
    """Charge what is due, oldest tickets first. The answer's reference is how many positions are still behind.

    A position whose charge cannot be valued yet stays behind and holds nobody up.
    """
    behind = _roll_all(work) if _is_anything_due(work) else 0
    if work.state.terms.recharges:
        recharge_all(work)
    work.answer(asked.command.reply_to, Answer(command_id=command.id, reference=behind))


def roll_position(work: Work, position: Position) -> Position:
    """The position with everything charged that is due by now. To be called before its volume changes, after `can_roll`."""
    if work.terms_for(work.account(position.account), position.symbol).swap.mode is SwapMode.NONE:
        return position
    nights = _nights(work, position)
    assert nights is not None, "a swap that cannot be valued must keep the position as it is"
    return _charge(work, position, nights) if nights else position


def can_roll(work: Work, position: Position) -> bool:
    """Whether everything that is due could be charged now. False while a price that values it was not seen yet."""
    if work.terms_for(work.account(position.account), position.symbol).swap.mode is SwapMode.NONE:
        return True
    return _nights(work, position) is not None


# --- all positions ------------------------------------------------------------------------------------------------------


def _is_anything_due(work: Work) -> bool:
    """Whether any swap instant has passed since everybody was charged: a look at the clock, not at the positions."""
    rolled = work.state.desk.rolled_us
    return any(last_instant(periods, work.now_us) > rolled for periods in work.state.terms.swap_periods)


def _roll_all(work: Work) -> int:
    """How many stay behind. When nobody does, the desk remembers it."""
    rolled, behind = 0, 0
    cannot: set[tuple[str, str, str, Side]] = set()
    for position in _behind(work):
        account = work.account(position.account)
        alike = (account.group, account.currency, position.symbol, position.side)
        if rolled == ROLL_MAX or alike in cannot:
            behind += 1
            continue
        nights = _nights(work, position)
        if nights is None:
            cannot.add(alike)
            behind += 1
            continue
        _charge(work, position, nights)
        rolled += 1
    if not behind:
        work.emit(DeskChanged(replace(work.state.desk, rolled_us=work.now_us)))
    return behind


def _behind(work: Work) -> list[Position]:
    """Positions with an instant due, in the order of their tickets."""
    state = work.state
    lasts: dict[tuple[str, str], int] = {}
    found: list[Position] = []
    for number in sorted(state.positions):
        position = state.positions[number]
        group = state.accounts[position.account].group
        last = lasts.get((group, position.symbol))
        if last is None:
            terms = state.terms.of(group, position.symbol)
            is_charged = terms is not None and terms.swap.mode is not SwapMode.NONE
            last = last_instant(terms.swap.periods_per_day, work.now_us) if terms is not None and is_charged else 0
            lasts[group, position.symbol] = last
        if last > _rolled_us(work, position):
            found.append(position)
    return found


def _rolled_us(work: Work, position: Position) -> int:
    """Up to where the position is charged. What cost nothing when everybody was charged does not catch up later."""
    return max(position.rolled_us, work.state.desk.rolled_us) or position.opened_us


# --- one position -------------------------------------------------------------------------------------------------------


def _nights(work: Work, position: Position) -> list[Night] | None:
    """What every instant that is due comes to; None when one of them cannot be valued now."""
    account = work.account(position.account)
    terms = work.terms_for(account, position.symbol)
    nights: list[Night] = []
    for due in _due(terms.swap, _rolled_us(work, position), work.now_us):
        night = _night(work, account, terms, position, due)
        if night is None:
            return None
        nights.append(night)
        position = _after(work, position, night)
    return nights


def _due(terms: SwapTerms, after_us: int, until_us: int) -> Iterator[Due]:
    """The swap instants after `after_us`, up to and including `until_us`."""
    if last_instant(terms.periods_per_day, until_us) <= after_us:
        return
    day = business_date(after_us)
    while rollover_us(day - timedelta(days=1)) <= until_us:
        for period, at_us in enumerate(swap_instants(terms, day), start=1):
            if after_us < at_us <= until_us:
                yield Due(day, period, at_us)
        day += timedelta(days=1)


@lru_cache(maxsize=256)
def last_instant(periods: int, now_us: int) -> int:
    """The newest swap instant by now where a business date has so many."""
    day = business_date(now_us)
    terms = SwapTerms(periods_per_day=periods)
    passed = [at_us for at_us in swap_instants(terms, day) if at_us <= now_us]
    return passed[-1] if passed else rollover_us(day - timedelta(days=1))


def _night(work: Work, account: Account, terms: Instrument, position: Position, due: Due) -> Night | None:
    fee = work.group_of(account).swap_free
    if fee is not None:
        return _swap_free_night(work, terms, fee, _held(work, account, terms, position, None), position, due)
    seen = _seen(work, account, terms) if terms.swap.mode in PRICED else None
    if seen is None and terms.swap.mode in PRICED:
        return None
    held = _held(work, account, terms, position, seen)
    if terms.swap.mode in REOPENING:
        return _reopening_night(work, terms, position, held, due)
    closed = closed_dates(terms.sessions, due.day)
    charge = swap_charge(terms.swap, held, due.day, converter=converter_of(work), closed=closed, period=due.period)
    return None if charge is None else Night(due=due, charge=charge)


def _swap_free_night(
    work: Work, terms: Instrument, fee: SwapFreeTerms, held: SwapPosition, position: Position, due: Due
) -> Night | None:
    """A fee for the night, taken with the last period of its date."""
    if due.period != terms.swap.periods_per_day:
        why = "the fee comes with the end of the date"
        charge = SwapCharge(date=due.day.isoformat(), factor=ZERO, rate=fee.fee_per_lot, amount=ZERO, why=why)
        return Night(due=due, charge=charge)
    charged = swap_free_charge(
        fee,
        terms.swap,
        held,
        due.day,
        nights_held=nights_held(position.opened_us, due.day),
        converter=converter_of(work),
        closed=closed_dates(terms.sessions, due.day),
    )
    return None if charged is None else Night(due=due, charge=charged)


def _reopening_night(work: Work, terms: Instrument, position: Position, held: SwapPosition, due: Due) -> Night | None:
    """Closed at one price and opened again at the other, in each book as far as the position stands in it."""
    prices = reopening(terms.swap, held, due.day, closed=closed_dates(terms.sessions, due.day))
    charge = SwapCharge(date=prices.date, factor=prices.factor, rate=prices.rate, amount=ZERO, why=prices.why)
    if not prices.factor:
        return Night(due=due, charge=charge)
    parts: list[Reopened] = []
    for book, volume, cost in _in_books(position):
        profit = result_of(work, position, volume=volume, closed_cost=cost, close_cost=prices.close_price * volume)
        if profit is None:
            return None
        parts.append(Reopened(book=book, volume=volume, profit=profit))
    return Night(due=due, charge=charge, reopening=prices, parts=tuple(parts))


def _in_books(position: Position) -> list[tuple[Book, Decimal, Decimal]]:
    """(book, lots, their share of the cost), adding up to the position."""
    in_a = position.cost
    if position.volume_b:
        in_a = _cost(position.cost * position.volume_a / position.volume)
    both = [(Book.A, position.volume_a, in_a), (Book.B, position.volume_b, position.cost - in_a)]
    return [one for one in both if one[1]]


def _cost(cost: Decimal) -> Decimal:
    return round_half_up(cost, ACCRUAL_DIGITS)


def _seen(work: Work, account: Account, terms: Instrument) -> ClientQuote | None:
    quote = work.quote(terms.symbol)
    return None if quote is None else client_quote(quote, work.group_of(account), terms)


def _held(
    work: Work, account: Account, terms: Instrument, position: Position, seen: ClientQuote | None
) -> SwapPosition:
    """The position at the prices that its client sees, where the mode looks at them."""
    return SwapPosition(
        side=position.side,
        symbol=position.symbol,
        volume=position.volume,
        open_price=position.open_price,
        bid=seen.bid if seen else ZERO,
        ask=seen.ask if seen else ZERO,
        contract_size=terms.contract_size,
        digits=terms.digits,
        base=terms.base,
        profit_currency=terms.quote,
        margin_currency=margin_currency_of(terms),
        account_currency=account.currency,
        account_digits=work.config.currency_digits[account.currency],
    )


@lru_cache(maxsize=4096)
def closed_dates(sessions: SessionTerms, day: date) -> frozenset[date]:
    """The dates from `day` on, as far as a shift may look, that are holidays from beginning to end."""
    whole = [h for h in sessions.holidays if h.start == 0 and h.end == DAY_S]
    if not whole:
        return frozenset()
    ahead = (day + timedelta(days=n) for n in range(HOLIDAY_RUN_DAYS_MAX + 1))
    return frozenset(
        one
        for one in ahead
        if any((h.month, h.day) == (one.month, one.day) and h.year in (None, one.year) for h in whole)
    )


# --- what becomes of it -------------------------------------------------------------------------------------------------


def _charge(work: Work, position: Position, nights: list[Night]) -> Position:
    """Every night on its own record; the position as the last of them leaves it, or each reopening."""
    for night in nights:
        work.emit(SwapAccrued(_accrual(work, position, night)))
        deals = [_reopen(work, position, night.reopening, part) for part in night.parts if night.reopening is not None]
        position = _after(work, position, night)
        if deals or night is nights[-1]:
            work.emit(PositionChanged(position))
        _post(work, [deal for deal in deals if deal.profit])
    return position


def _after(work: Work, position: Position, night: Night) -> Position:
    charged = replace(
        position, swap=position.swap + night.charge.amount, rolled_us=night.due.at_us, updated_us=work.now_us
    )
    if night.reopening is None:
        return charged
    return replace(
        charged,
        cost=_cost(night.reopening.open_price * position.volume),
        volume_opened=position.volume_opened + position.volume,
        volume_a_opened=position.volume_a_opened + position.volume_a,
    )


def _accrual(work: Work, position: Position, night: Night) -> SwapAccrual:
    charge = night.charge
    return SwapAccrual(
        position_id=position.id,
        account=position.account,
        symbol=position.symbol,
        date=charge.date,
        period=night.due.period,
        due_us=night.due.at_us,
        at_us=work.now_us,
        factor=charge.factor,
        rate=charge.rate,
        amount=charge.amount,
        why=charge.why,
    )


def _reopen(work: Work, position: Position, prices: Reopening, part: Reopened) -> Deal:
    """Two deals of no order, out and in again. Returns the one that closes."""
    closing = Deal(
        id=work.state.counters.deal,
        order_id=0,
        position_id=position.id,
        account=position.account,
        symbol=position.symbol,
        side=position.side.opposite,
        entry=DealEntry.OUT,
        volume=part.volume,
        price=prices.close_price,
        profit=part.profit,
        commission=ZERO,
        at_us=work.now_us,
        book=part.book,
    )
    work.emit(DealMade(closing))
    opening = replace(
        closing,
        id=work.state.counters.deal,
        side=position.side,
        entry=DealEntry.IN,
        price=prices.open_price,
        profit=ZERO,
    )
    work.emit(DealMade(opening))
    return closing


def _post(work: Work, deals: list[Deal]) -> None:
    """The results of one reopening, as one transaction."""
    if not deals:
        return
    account = work.account(deals[0].account)
    transaction = work.state.counters.transaction
    transfers = tuple(_result(deal, account, transaction, line) for line, deal in enumerate(deals, start=1))
    balance = account.balance + sum((deal.profit for deal in deals), ZERO)
    work.emit(LedgerPosted(transfers, replace(account, balance=balance, version=account.version + 1)))


def _result(deal: Deal, account: Account, transaction: int, line: int) -> Transfer:
    return moving(
        transaction_id=transaction,
        line=line,
        kind=TransactionKind.REALISED_PNL,
        source=house_pnl(deal.book.value),
        target=client_account(account.id),
        currency=account.currency,
        amount=deal.profit,
        at_us=deal.at_us,
        deal_id=deal.id,
        position_id=deal.position_id,
        reference=REFERENCE,
    )
