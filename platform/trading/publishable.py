"""Whether one symbol's terms can be published: every part of them checked, told as sentences.

The same questions are asked of a symbol's own terms and of what a group's overrides make of them. Each part's rules live
where the part lives; here they are only all asked.
"""

from collections.abc import Callable, Container, Iterator
from typing import TypeVar

from trading.calendar import session_problems
from trading.charges.fees import FeeScheduleRefused, check_fee_schedule
from trading.charges.swap import SwapTermsRefused, check_swap_terms
from trading.controls import symbol_control_problems
from trading.guarantee import guarantee_problems
from trading.instruments import Instrument
from trading.margining.terms import MarginTermsRefused, check_terms
from trading.profit import ProfitTermsRefused, check_profit_terms
from trading.quotefilter import filter_problems
from trading.spreads import spread_problems

T = TypeVar("T")
REFUSED = (MarginTermsRefused, ProfitTermsRefused, SwapTermsRefused, FeeScheduleRefused)


def instrument_problems(instrument: Instrument, currencies: Container[str]) -> Iterator[str]:
    """What is wrong with a symbol's terms, one sentence each. `currencies` are those with a number of decimals."""
    symbol = instrument.symbol
    yield from _shape_problems(instrument)
    yield from session_problems(symbol, instrument.sessions)
    yield from _currency_problems(instrument, currencies)
    yield from told(check_terms, symbol, instrument.margin)
    yield from told(check_profit_terms, symbol, instrument.profit)
    yield from told(check_swap_terms, symbol, instrument.swap)
    yield from spread_problems(symbol, instrument.spread)
    yield from filter_problems(symbol, instrument.quote_filter)
    yield from symbol_control_problems(symbol, instrument.controls)
    if instrument.guarantee is not None:
        yield from guarantee_problems(symbol, instrument.guarantee)
    if instrument.fees is not None:
        yield from told(check_fee_schedule, symbol, instrument.fees)


def told(check: Callable[[str, T], None], name: str, terms: T) -> Iterator[str]:
    """The sentence of a check that raises one."""
    try:
        check(name, terms)
    except REFUSED as refused:
        yield str(refused)


def _shape_problems(instrument: Instrument) -> Iterator[str]:
    steps_fit = 0 < instrument.volume_step <= instrument.volume_min <= instrument.volume_max
    if not steps_fit or instrument.contract_size <= 0 or not 0 <= instrument.digits <= 10:
        yield f"{instrument.symbol}: volumes, contract size or digits do not fit together"
    if instrument.quote_age_max_us <= 0:
        yield f"{instrument.symbol}: a quote must be allowed some age"
    if instrument.stops_level < 0 or instrument.freeze_level < 0:
        yield f"{instrument.symbol}: stops level and freeze level must not be negative"
    if instrument.expires_us < 0:
        yield f"{instrument.symbol}: it cannot expire before 1970"


def _currency_problems(instrument: Instrument, currencies: Container[str]) -> Iterator[str]:
    for currency in (instrument.base, instrument.quote, instrument.margin_currency or instrument.base):
        if currency not in currencies:
            yield f"{instrument.symbol}: currency {currency} has no number of decimals"
