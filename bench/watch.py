"""What a price costs on a symbol that 100,000 accounts hold, none of them near a margin call.

All accounts were valued once and have their watches; the prices walk within them. Beside it what one re-valuation costs, which
is what every account would cost at every price without watches.
"""

import gc
import time
from decimal import Decimal

from bench.decide import NOW_US
from bench.report import figure, inputs, percentile
from engine.core import execute, take_quote
from engine.guard import bounds_of
from engine.standing import Look, look_at
from engine.state import State
from engine.work import Work
from tests.support.builders import config, lp_top
from trading.commands import Deposit, OpenAccount, PlaceOrder
from trading.orders import Side
from trading.quotes import Quote

HOLDERS = 100_000
MEASURED = 20_000
REVALUED = 2_000
POINT = Decimal("0.00001")
BID = Decimal("1.10000")
GROUPS = ("retail", "pro", "vip")


def main() -> None:
    inputs(f"{HOLDERS} accounts in {len(GROUPS)} groups with 0.10 EURUSD each, {MEASURED} prices within all watches")
    state = State(0, config())
    take_quote(state, _eurusd(0, 0))
    for number in range(1, HOLDERS + 1):
        _open(state, number)
    started = time.perf_counter()
    ticks = 0
    while state.watches.watched() < HOLDERS:
        ticks += 1
        assert take_quote(state, _eurusd(ticks, 0)) is None
    figure("watch_all_valued_s_100000_accounts", time.perf_counter() - started)
    figure("watch_prices_until_all_were_valued", ticks, 0)
    gc.collect()
    gc.freeze()
    quotes = [_eurusd(ticks + 1 + number, number % 41 - 20) for number in range(MEASURED)]
    times_us = [_timed(state, quote) for quote in quotes]
    figure("watch_quiet_tick_us_median", percentile(times_us, 0.5))
    figure("watch_quiet_tick_us_p99", percentile(times_us, 0.99))
    figure("watch_one_revaluation_us", _revaluation_us(state))
    gc.unfreeze()


def _open(state: State, number: int) -> None:
    group = GROUPS[number % len(GROUPS)]
    name = f"a{number}"
    execute(state, OpenAccount(id=name, key=name, account=number, group=group, currency="USD", leverage=30), NOW_US)
    execute(state, Deposit(id=name, key=f"d{number}", account=number, amount=Decimal(5000)), NOW_US)
    side = Side.BUY if number % 2 else Side.SELL
    order = PlaceOrder(id=name, key=f"o{number}", account=number, symbol="EURUSD", side=side, volume=Decimal("0.10"))
    execute(state, order, NOW_US)


def _eurusd(seq: int, moved: int) -> Quote:
    bid = BID + moved * POINT
    top = lp_top("YOFX1", bid=str(bid), ask=str(bid + 10 * POINT), at_us=NOW_US)
    return Quote(symbol="EURUSD", seq=seq, bid=bid, ask=bid + 10 * POINT, at_us=NOW_US, tops=(top,))


def _timed(state: State, quote: Quote) -> float:
    started = time.perf_counter_ns()
    arrived = take_quote(state, quote)
    elapsed = time.perf_counter_ns() - started
    assert arrived is None
    return elapsed / 1000


def _revaluation_us(state: State) -> float:
    assert state.config is not None
    started = time.perf_counter_ns()
    for number in range(1, REVALUED + 1):
        work = Work(state, state.config, NOW_US)
        look = look_at(work, state.accounts[number])
        assert isinstance(look, Look)
        bounds_of(work, look)
    return (time.perf_counter_ns() - started) / 1000 / REVALUED
