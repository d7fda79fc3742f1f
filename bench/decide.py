"""What one decision costs, and that it does not grow with what is open.

Market orders of one retail account, dealt by the house: idempotency, checks, margin, routing, deal, position, ledger and the
account's messages, in memory. The account holds all open positions itself, which is the worst case for margin and equity.
"""

import gc
import time
from decimal import Decimal

from bench.report import figure, inputs, percentile
from engine.core import execute, take_quote
from engine.state import State
from tests.support.builders import config, lp_top
from trading.commands import Deposit, OpenAccount, PlaceOrder
from trading.orders import Side
from trading.quotes import Quote

NOW_US = 1_700_000_000_000_000
OPEN_POSITIONS = (10, 1_000, 100_000)
MEASURED = 5_000


def main() -> None:
    inputs(f"{MEASURED} orders of 0.10 EURUSD each, 3 routing rules, 2 providers, one account holds all positions")
    medians = [_measure(count) for count in OPEN_POSITIONS]
    figure("decide_100000_over_10_positions", medians[-1] / medians[0], 2)


def _measure(count: int) -> float:
    state = funded_state()
    for number in range(count):
        _place(state, number)
    gc.collect()
    gc.freeze()
    times_us = [_timed(state, count + number) for number in range(MEASURED)]
    gc.unfreeze()
    median = percentile(times_us, 0.5)
    figure(f"decide_us_median_{count}_positions", median)
    figure(f"decide_us_p99_{count}_positions", percentile(times_us, 0.99))
    return median


def funded_state() -> State:
    """One account with more money than it can lose, and a fresh EURUSD price."""
    state = State(0, config())
    execute(state, OpenAccount(id="a", key="a", account=1, group="retail", currency="USD", leverage=30), NOW_US)
    for number in range(9):
        money = Deposit(id=f"d{number}", key=f"d{number}", account=1, amount=Decimal(999999999999))
        execute(state, money, NOW_US)
    take_quote(state, eurusd(NOW_US))
    return state


def eurusd(at_us: int) -> Quote:
    tops = tuple(
        lp_top(lp, bid="1.10000", ask="1.10010", bid_size="50", ask_size="50", at_us=at_us)
        for lp in ("YOFX1", "PRIMEXM")
    )
    return Quote(symbol="EURUSD", seq=1, bid=Decimal("1.10000"), ask=Decimal("1.10010"), at_us=at_us, tops=tops)


def order(number: int, account: int = 1) -> PlaceOrder:
    name = f"00000000-0000-7000-8000-{number:012d}"
    side = Side.BUY if number % 2 else Side.SELL
    return PlaceOrder(
        id=name, key=name, account=account, symbol="EURUSD", side=side, volume=Decimal("0.10"), reply_to="bench"
    )


def _place(state: State, number: int) -> None:
    execute(state, order(number), NOW_US)


def _timed(state: State, number: int) -> float:
    command = order(number)
    started = time.perf_counter_ns()
    execute(state, command, NOW_US)
    return (time.perf_counter_ns() - started) / 1000
