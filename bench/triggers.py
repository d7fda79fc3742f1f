"""What a tick costs while a million levels rest, and what resting, moving and trailing cost.

Half a million positions of one price stream with stop loss and take profit each, spread over 4,500 points on either side of
the price; another book of 100,000 trailing positions. Deciding and storing what a hit leads to is not measured here.
"""

import gc
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from bench.report import figure, inputs, percentile
from trading.orders import Side
from trading.protection import StopTriggerMethod
from trading.trailing import Trail, TrailBook, TrailingTerms
from trading.triggers import Trigger, TriggerBook, TriggerKind, trigger_for

T = TypeVar("T")

POSITIONS = 500_000
TRAILING = 100_000
MEASURED = 20_000
DIGITS = 5
POINT = Decimal("0.00001")
BID = Decimal("1.10000")
SPREAD = 10 * POINT
QUIET_POINTS = 100
"""No level is nearer to the price than this: ticks within it trigger nothing."""
WIDEST_POINTS = 4_500
DOUBLE_PART = 10
"""One stop loss in so many waits for two ticks."""


def main() -> None:
    inputs(f"{2 * POSITIONS} resting levels, 1 in {2 * DOUBLE_PART} double; {TRAILING} trailing positions; seed 1")
    chance = random.Random(1)
    triggers = [trigger for position in range(POSITIONS) for trigger in _protection(position, chance)]
    started = time.perf_counter()
    book = TriggerBook(triggers)
    figure("triggers_build_s_1000000_levels", time.perf_counter() - started, 2)
    trails = TrailBook(DIGITS, (_trail(position, chance) for position in range(TRAILING)))
    gc.collect()
    gc.freeze()
    _ticks(book, chance)
    _hits(book)
    _changes(book, chance)
    _trailing_ticks(trails, chance)
    gc.unfreeze()


def _protection(position: int, chance: random.Random) -> tuple[Trigger, Trigger]:
    """Below the price for a long's stop loss and a short's take profit, above it for the others."""
    side = Side.BUY if position % 2 else Side.SELL
    method = StopTriggerMethod.TRADE if position % DOUBLE_PART else StopTriggerMethod.DOUBLE_TRADE
    loss, profit = (BID - side.sign * way * chance.randint(2 * QUIET_POINTS, WIDEST_POINTS) * POINT for way in (1, -1))
    return (
        trigger_for(TriggerKind.STOP_LOSS, position, side=side, level=loss, method=method),
        trigger_for(TriggerKind.TAKE_PROFIT, position, side=side, level=profit),
    )


def _trail(position: int, chance: random.Random) -> Trail:
    """Their stops move one after the other while the price makes new highs (longs) or lows (shorts)."""
    side = Side.BUY if position % 2 else Side.SELL
    distance = chance.randint(2 * QUIET_POINTS, WIDEST_POINTS) * POINT
    return Trail(position=position, side=side, open_price=BID, stop_loss=None, terms=TrailingTerms(distance=distance))


def _ticks(book: TriggerBook, chance: random.Random) -> None:
    quotes = [BID + chance.randint(-QUIET_POINTS, QUIET_POINTS) * POINT for _ in range(MEASURED)]
    seq = iter(range(1, MEASURED + 1))

    def quiet_tick(bid: Decimal) -> None:
        hit = book.hits(next(seq), bid, bid + SPREAD)
        assert not hit

    _report("triggers_quiet_tick_us", [_timed(quiet_tick, bid) for bid in quotes])


def _hits(book: TriggerBook) -> None:
    """The price steps down into the levels a point at a time and what it hits is taken out."""
    times_us, hits = [], 0
    for number in range(100):
        bid = BID - (2 * QUIET_POINTS + number) * POINT
        started = time.perf_counter_ns()
        hit = book.hits(MEASURED + 1 + number, bid, bid + SPREAD)
        for trigger in hit:
            book.remove(trigger.kind, trigger.owner)
        times_us.append((time.perf_counter_ns() - started) / 1000)
        hits += len(hit)
    figure("triggers_hits_taken_out", hits, 0)
    figure("triggers_us_per_hit_taken_out", sum(times_us) / max(hits, 1), 2)


def _changes(book: TriggerBook, chance: random.Random) -> None:
    def new_level() -> Decimal:
        return BID - chance.randint(2 * WIDEST_POINTS, 3 * WIDEST_POINTS) * POINT

    orders = range(MEASURED)
    added = [trigger_for(TriggerKind.LIMIT, order, side=Side.BUY, level=new_level()) for order in orders]
    moved = [(order, new_level()) for order in orders]
    _report("triggers_add_us", [_timed(book.add, trigger) for trigger in added])
    _report("triggers_move_us", [_timed(lambda to: book.move(TriggerKind.LIMIT, *to), to) for to in moved])
    _report("triggers_remove_us", [_timed(lambda order: book.remove(TriggerKind.LIMIT, order), n) for n in orders])


def _trailing_ticks(book: TrailBook, chance: random.Random) -> None:
    quotes = [BID + chance.randint(-QUIET_POINTS, QUIET_POINTS) * POINT for _ in range(MEASURED)]
    seq = iter(range(1, 2 * MEASURED))

    def quiet_tick(bid: Decimal) -> None:
        moved = book.moves(next(seq), bid, bid + SPREAD)
        assert not moved

    _report("trailing_quiet_tick_us", [_timed(quiet_tick, bid) for bid in quotes])
    moved, started = 0, time.perf_counter_ns()
    for number in range(100):
        bid = BID + (2 * QUIET_POINTS + number) * POINT
        for move in book.moves(next(seq), bid, bid + SPREAD):
            book.move(move.position, move.after)
            moved += 1
    elapsed_us = (time.perf_counter_ns() - started) / 1000
    figure("trailing_stops_moved", moved, 0)
    figure("trailing_us_per_stop_moved", elapsed_us / max(moved, 1), 2)


def _timed(call: Callable[[T], object], argument: T) -> float:
    started = time.perf_counter_ns()
    call(argument)
    return (time.perf_counter_ns() - started) / 1000


def _report(name: str, times_us: list[float]) -> None:
    figure(f"{name}_median", percentile(times_us, 0.5), 2)
    figure(f"{name}_p99", percentile(times_us, 0.99), 2)
