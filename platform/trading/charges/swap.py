"""Swaps: what holding a position over a rollover costs or earns, per position and business date.

A night's amount is rate x weekday factor, in the account's currency with fractions of a cent; it builds up on the position
and reaches the balance at the close (`accrual`). When nights happen, which positions were held over them, and that each is
charged once, is the engine's. Amounts are the client's: positive is credited, negative is charged, whatever the mode.
"""

from collections.abc import Collection
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.calendar import business_date, rollover_us
from trading.charges.accrual import ACCRUAL_DIGITS
from trading.conversion import ConversionRule, Converter, Traded
from trading.numbers import ONE, ZERO, plain, point, round_half_up
from trading.orders import Side
from trading.profit import ProfitMode, RoundingSetting

HOLIDAY_RUN_DAYS_MAX = 31
"""No market is shut for longer: how far ahead closed days are looked for."""

YEAR_DAYS = (360, 365, 366)
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Week = tuple[Decimal, Decimal, Decimal, Decimal, Decimal, Decimal, Decimal]
"""Multipliers, Monday first."""

THREE = Decimal(3)
FOREX_WEEK: Week = (ONE, ONE, THREE, ONE, ONE, ZERO, ZERO)
"""Delivery two days after the deal: the night of Wednesday carries the value date over the weekend."""
NEXT_DAY_WEEK: Week = (ONE, ONE, ONE, THREE, ONE, ZERO, ZERO)
"""Pairs that deliver the next day (USDCAD, USDTRY): the weekend lies in the night of Thursday."""
CRYPTO_WEEK: Week = (ONE, ONE, ONE, ONE, ONE, ONE, ONE)


class SwapMode(StrEnum):
    """What the rates are (V lots, C contract size, P price)."""

    NONE = "none"
    POINTS = "points"
    """Points of the price on V x C."""
    BASE = "base"
    """Money per lot in the base currency; below, in others. Converted at the worse side for the client."""
    MARGIN = "margin"
    PROFIT = "profit"
    ACCOUNT = "account"
    PERCENT_CURRENT = "percent_current"
    """Per cent a year of the value at the rollover's price; converted at the bid for buys, at the ask for sells."""
    PERCENT_OPEN = "percent_open"
    """Per cent a year of the value at the open price."""
    REOPEN_CLOSE = "reopen_close"
    """Points of the price: the position is closed at the day's last price and reopened that much away from it."""
    REOPEN_BID = "reopen_bid"
    """The same from the bid, for buys and sells."""


REOPENING = frozenset({SwapMode.REOPEN_CLOSE, SwapMode.REOPEN_BID})
PERCENT = frozenset({SwapMode.PERCENT_CURRENT, SwapMode.PERCENT_OPEN})


class HolidayRule(StrEnum):
    SHIFT = "shift"
    """What a closed day would count is added to the open day before it."""
    IGNORE = "ignore"
    """Every date counts what its weekday says."""


class SwapFreeTerms(Struct, frozen=True, kw_only=True):
    """No interest; a fee per lot and night once a position has been held for `free_nights`."""

    free_nights: int = 0
    fee_per_lot: Decimal = ZERO
    currency: str = "USD"
    multipliers: Week = FOREX_WEEK


class SwapTerms(Struct, frozen=True, kw_only=True):
    """One symbol's swap. The default charges nothing. Positive rates are credited, negative ones charged."""

    mode: SwapMode = SwapMode.NONE
    long: Decimal = ZERO
    short: Decimal = ZERO
    value: ProfitMode = ProfitMode.FOREX
    """How the percentage modes value a lot: C of the base (FOREX), C x P, or with tick value / tick size (FUTURES)."""
    tick_size: Decimal = ONE
    tick_value: Decimal = ONE
    year_days: int = 360
    multipliers: Week = FOREX_WEEK
    open_weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    """On which closed days' multipliers can be shifted, Monday is 0."""
    holidays: HolidayRule = HolidayRule.SHIFT
    periods_per_day: int = 1
    """A day's charge in equal parts: 3 is every eight hours."""
    rounding: RoundingSetting = RoundingSetting.PER_POSTING
    """PER_POSTING accrues fractions of a cent; PER_COMPONENT rounds a point's worth and the night; PER_STEP one lot's."""


class SwapTermsRefused(ValueError):
    """The terms contradict each other: says what is wrong, in a sentence."""


def check_swap_terms(symbol: str, terms: SwapTerms) -> None:
    """Raise SwapTermsRefused unless every number can be used."""
    rates = (terms.long, terms.short, *terms.multipliers)
    if any(not number.is_finite() for number in rates) or any(m < 0 for m in terms.multipliers):
        raise SwapTermsRefused(f"{symbol}: swap rates must be numbers, weekday multipliers not negative")
    if any(not tick.is_finite() or tick <= 0 for tick in (terms.tick_size, terms.tick_value)):
        raise SwapTermsRefused(f"{symbol}: tick size and tick value must be positive")
    if terms.year_days not in YEAR_DAYS:
        raise SwapTermsRefused(f"{symbol}: a year has 360, 365 or 366 days")
    if not 1 <= terms.periods_per_day <= 24:
        raise SwapTermsRefused(f"{symbol}: a day has 1 to 24 swap periods")
    if not terms.open_weekdays or not set(terms.open_weekdays) <= set(range(7)):
        raise SwapTermsRefused(f"{symbol}: open weekdays are numbers from 0 (Monday) to 6, at least one")
    if terms.mode in REOPENING and terms.periods_per_day != 1:
        raise SwapTermsRefused(f"{symbol}: a position is reopened once a day")


def check_swap_free_terms(name: str, terms: SwapFreeTerms) -> None:
    """Raise SwapTermsRefused unless the fee is one."""
    if any(not m.is_finite() or m < 0 for m in (terms.fee_per_lot, *terms.multipliers)) or terms.free_nights < 0:
        raise SwapTermsRefused(f"{name}: free nights, fee and multipliers must not be negative")


class SwapPosition(Struct, frozen=True, kw_only=True):
    """A position at the rollover, and the client's prices of that instant."""

    side: Side
    symbol: str
    volume: Decimal
    open_price: Decimal
    bid: Decimal
    ask: Decimal
    contract_size: Decimal
    digits: int
    base: str
    profit_currency: str
    margin_currency: str
    account_currency: str
    account_digits: int

    @property
    def closing_price(self) -> Decimal:
        return self.bid if self.side is Side.BUY else self.ask


class DayFactor(Struct, frozen=True, kw_only=True):
    """How many nights a business date counts, and how that comes about."""

    date: str
    factor: Decimal
    why: str


class SwapCharge(Struct, frozen=True, kw_only=True):
    """One position's night (or part of it): kept as a row, so that every cent of an accrual can be explained."""

    date: str
    factor: Decimal
    rate: Decimal
    """As the terms state it; for a swap-free fee, the fee per lot."""
    amount: Decimal
    """In the account's currency, positive for a credit."""
    why: str
    period: int = 1


class Reopening(Struct, frozen=True, kw_only=True):
    """The position is closed at one price and opened again at the other, under the same ticket."""

    date: str
    factor: Decimal
    rate: Decimal
    close_price: Decimal
    open_price: Decimal
    why: str


# --- the day ---


def day_factor(terms: SwapTerms, day: date, closed: Collection[date] = ()) -> DayFactor:
    """What `day` counts. `closed` are the dates on which the market is shut besides its usual week, as far as known."""
    return _factor(terms.multipliers, terms, day, closed)


def _factor(week: Week, terms: SwapTerms, day: date, closed: Collection[date]) -> DayFactor:
    own = week[day.weekday()]
    name = DAY_NAMES[day.weekday()]
    if terms.holidays is HolidayRule.IGNORE or not closed:
        return DayFactor(date=day.isoformat(), factor=own, why=f"{name} counts {plain(own)}")
    if day in closed:
        why = f"{name} is closed: its {plain(own)} counted on the open day before"
        return DayFactor(date=day.isoformat(), factor=ZERO, why=why)
    shifted = _closed_after(terms, day, closed)
    factor = own + sum((week[one.weekday()] for one in shifted), ZERO)
    parts = [f"{name} counts {plain(own)}"]
    parts += [f"closed {DAY_NAMES[one.weekday()]} adds {plain(week[one.weekday()])}" for one in shifted]
    return DayFactor(date=day.isoformat(), factor=factor, why=", ".join(parts))


def _closed_after(terms: SwapTerms, day: date, closed: Collection[date]) -> list[date]:
    """The closed dates that follow `day` with no open day between; nothing for a day that is itself no open day."""
    if day.weekday() not in terms.open_weekdays:
        return []
    found = []
    for ahead in range(1, HOLIDAY_RUN_DAYS_MAX + 1):
        one = day + timedelta(days=ahead)
        if one in closed:
            found.append(one)
        elif one.weekday() in terms.open_weekdays:
            break
    return found


def swap_instants(terms: SwapTerms, day: date) -> tuple[int, ...]:
    """When the periods of a business date end, in microseconds UTC: the last one ends with the date, at its rollover.

    A position pays for a period when it was opened before that instant and not closed by it. The date's 23, 24 or 25 hours
    are cut into equal parts.
    """
    start, end = rollover_us(day - timedelta(days=1)), rollover_us(day)
    return tuple(start + (end - start) * n // terms.periods_per_day for n in range(1, terms.periods_per_day + 1))


def nights_held(opened_us: int, day: date) -> int:
    """Business dates that a position has been held over before the night of `day`."""
    return (day - business_date(opened_us)).days


# --- the charge ---


def swap_charge(
    terms: SwapTerms,
    position: SwapPosition,
    day: date,
    *,
    converter: Converter,
    closed: Collection[date] = (),
    period: int = 1,
) -> SwapCharge | None:
    """The night of `day` for one position that was held over it; None when it cannot be converted now.

    With several periods a day, `period` counts from 1; if nothing changes during the day, its parts add up to the whole.
    """
    assert terms.mode not in REOPENING, "a reopening changes the position's price: see reopening()"
    assert 1 <= period <= terms.periods_per_day
    counted = day_factor(terms, day, closed)
    rate = terms.long if position.side is Side.BUY else terms.short
    night = _night(terms, position, rate, converter) if rate and counted.factor else ZERO
    if night is None:
        return None
    whole = night * counted.factor
    return SwapCharge(
        date=counted.date,
        factor=counted.factor,
        rate=rate,
        amount=_part(whole, period, terms.periods_per_day, _places(terms.rounding, position)),
        why=_explained(counted.why, terms.periods_per_day, period),
        period=period,
    )


def swap_free_charge(
    fee: SwapFreeTerms,
    terms: SwapTerms,
    position: SwapPosition,
    day: date,
    *,
    nights_held: int,
    converter: Converter,
    closed: Collection[date] = (),
) -> SwapCharge | None:
    """The night of a swap-free account: the symbol's rates do not count, its calendar does; None as `swap_charge`.

    `nights_held` are the business dates that the position has been held over before this one.
    """
    counted = _factor(fee.multipliers, terms, day, closed)
    if nights_held < fee.free_nights:
        why = f"night {nights_held + 1} of {fee.free_nights} without fee"
        return SwapCharge(date=counted.date, factor=ZERO, rate=fee.fee_per_lot, amount=ZERO, why=why)
    due = -fee.fee_per_lot * position.volume * counted.factor
    traded = Traded(side=position.side)
    amount = converter.convert(
        due, fee.currency, position.account_currency, rule=ConversionRule.MARKET_WORST, traded=traded
    )
    if amount is None:
        return None
    return SwapCharge(
        date=counted.date,
        factor=counted.factor,
        rate=fee.fee_per_lot,
        amount=round_half_up(amount, _places(terms.rounding, position)),
        why=f"swap-free fee, {counted.why}",
    )


def reopening(terms: SwapTerms, position: SwapPosition, day: date, *, closed: Collection[date] = ()) -> Reopening:
    """The prices at which a position changes its day. A positive rate makes the new open price the better one."""
    assert terms.mode in REOPENING
    counted = day_factor(terms, day, closed)
    rate = terms.long if position.side is Side.BUY else terms.short
    price = position.bid if terms.mode is SwapMode.REOPEN_BID else position.closing_price
    away = rate * counted.factor * point(position.digits)
    return Reopening(
        date=counted.date,
        factor=counted.factor,
        rate=rate,
        close_price=price,
        open_price=price - position.side.sign * away,
        why=counted.why,
    )


def _night(terms: SwapTerms, position: SwapPosition, rate: Decimal, converter: Converter) -> Decimal | None:
    """One night at a factor of 1 in the account's currency, rounded only where the setting says."""
    if terms.rounding is RoundingSetting.PER_STEP:
        one = _amount(terms, position, ONE, rate, converter)
        return None if one is None else round_half_up(one, position.account_digits) * position.volume
    return _amount(terms, position, position.volume, rate, converter)


def _amount(
    terms: SwapTerms, position: SwapPosition, volume: Decimal, rate: Decimal, converter: Converter
) -> Decimal | None:
    if terms.mode is SwapMode.NONE:
        return ZERO
    if terms.mode is SwapMode.POINTS:
        return _points(terms, position, volume, rate, converter)
    if terms.mode in PERCENT:
        return _percent(terms, position, volume, rate, converter)
    currency = {
        SwapMode.BASE: position.base,
        SwapMode.MARGIN: position.margin_currency,
        SwapMode.PROFIT: position.profit_currency,
        SwapMode.ACCOUNT: position.account_currency,
    }[terms.mode]
    return _worst(converter, position, rate * volume, currency)


def _points(
    terms: SwapTerms, position: SwapPosition, volume: Decimal, rate: Decimal, converter: Converter
) -> Decimal | None:
    """One point's worth in the account's currency, at the side of a credit or a debt, times the points."""
    worth = volume * position.contract_size * point(position.digits)
    converted = _worst(converter, position, worth.copy_sign(rate), position.profit_currency)
    if converted is None:
        return None
    if terms.rounding is not RoundingSetting.PER_POSTING:
        converted = round_half_up(converted, position.account_digits)
    return abs(converted) * rate


def _percent(
    terms: SwapTerms, position: SwapPosition, volume: Decimal, rate: Decimal, converter: Converter
) -> Decimal | None:
    units = volume * position.contract_size
    if terms.value is ProfitMode.FOREX:
        value, currency = units, position.base
    else:
        is_current = terms.mode is SwapMode.PERCENT_CURRENT
        value = units * (position.closing_price if is_current else position.open_price)
        currency = position.profit_currency
    if terms.value is ProfitMode.FUTURES:
        value = value * terms.tick_value / terms.tick_size
    rule = ConversionRule.BID if position.side is Side.BUY else ConversionRule.ASK
    traded = Traded(side=position.side)
    return converter.convert(
        value * rate / (100 * terms.year_days), currency, position.account_currency, rule=rule, traded=traded
    )


def _worst(converter: Converter, position: SwapPosition, amount: Decimal, currency: str) -> Decimal | None:
    """A credit sold at the bid, a debt bought at the ask."""
    traded = Traded(side=position.side)
    return converter.convert(
        amount, currency, position.account_currency, rule=ConversionRule.MARKET_WORST, traded=traded
    )


def _places(rounding: RoundingSetting, position: SwapPosition) -> int:
    return ACCRUAL_DIGITS if rounding is RoundingSetting.PER_POSTING else position.account_digits


def _part(whole: Decimal, period: int, periods: int, places: int) -> Decimal:
    """The period's part of the day: what is due up to it less what was due before it."""
    due, before = (round_half_up(whole * n / periods, places) for n in (period, period - 1))
    return due - before


def _explained(why: str, periods: int, period: int) -> str:
    return why if periods == 1 else f"{why}, period {period} of {periods}"
