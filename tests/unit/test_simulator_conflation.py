"""Newest price wins, crossed and good ones apart."""

from lp_adapters.simulators.conflation import UPDATES_PER_SECOND_MAX, Conflator
from lp_adapters.simulators.ticks import Tick


def tick(bid: str, ask: str, symbol: str = "EURUSD") -> Tick:
    return Tick("YOFX1", symbol, bid, ask, 1, 1)


GOOD, BETTER, CROSSED, TOUCHING = tick("1.1", "1.2"), tick("1.15", "1.2"), tick("1.3", "1.2"), tick("1.2", "1.2")


def test_a_single_tick_passes_at_once() -> None:
    conflator = Conflator()
    conflator.offer(GOOD)
    assert conflator.take(0.0) == [GOOD]
    assert conflator.take(0.0) == []
    assert (conflator.taken, conflator.conflated, conflator.crossed) == (1, 0, 0)


def test_the_newest_good_and_the_newest_crossed_tick_pass_in_their_order() -> None:
    conflator = Conflator()
    for one in (GOOD, CROSSED, TOUCHING, BETTER):
        conflator.offer(one)
    assert conflator.take(0.0) == [TOUCHING, BETTER]
    assert (conflator.conflated, conflator.crossed) == (2, 1)
    for one in (GOOD, CROSSED):
        conflator.offer(one)
    assert conflator.take(9.0) == [GOOD, CROSSED]


def test_a_symbol_waits_its_pause_and_does_not_hold_up_another() -> None:
    conflator = Conflator()
    conflator.offer(GOOD)
    conflator.take(0.0)
    conflator.offer(BETTER)
    conflator.offer(tick("5.1", "5.2", "XAUUSD"))
    assert [one.symbol for one in conflator.take(0.04)] == ["XAUUSD"]
    assert conflator.take(0.05) == [BETTER]


def test_a_flood_is_sent_at_the_bounded_rate_and_counted() -> None:
    conflator = Conflator()
    offered = sent = 0
    for step in range(1_000):
        conflator.offer(CROSSED if step % 3 == 0 else GOOD)
        offered += 1
        sent += len(conflator.take(step / 100))
    assert sent <= 10 * UPDATES_PER_SECOND_MAX + 2
    assert sent + conflator.conflated + len(conflator.take(1e9)) == offered
