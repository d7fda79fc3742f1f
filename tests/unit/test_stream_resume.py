"""Following an account without a gap and without a repetition, whatever the live channel loses."""

import random

import pytest
from msgspec import Raw

from apps.streaming.protocol import Channel
from apps.streaming.resume import PAGE_ROWS, AccountEvent, Follower, Progress

ACCOUNT = 10001
KINDS = ("order.filled", "position.opened", "account.balance")


def event(seq: int, kind: str = "order.filled") -> AccountEvent:
    return AccountEvent(ACCOUNT, seq, kind, Raw(b"{}"), 0)


def live(since: int = 0) -> Follower:
    """A follower that has read an empty table."""
    follower = Follower(ACCOUNT, Channel.ORDERS, since)
    assert follower.read([]) == []
    assert follower.settle([]) is Progress.LIVE
    return follower


def test_the_next_live_event_is_told_and_a_repeated_one_is_not() -> None:
    follower = live(since=4)
    assert follower.hear(event(5)) is True
    assert follower.hear(event(5)) is False
    assert follower.hear(event(4)) is False
    assert follower.hear(event(6)) is True
    assert follower.needs_reading is False


def test_other_channels_events_count_but_are_not_told() -> None:
    follower = live()
    assert follower.hear(event(1, "position.opened")) is False
    assert follower.hear(event(2, "order.filled")) is True


def test_a_gap_asks_for_a_reading_that_closes_it() -> None:
    follower = live()
    assert follower.hear(event(3)) is False
    assert follower.needs_reading is True
    page = [event(1), event(2, "account.balance"), event(3)]
    assert [e.seq for e in follower.read(page)] == [1, 3]
    assert follower.settle(page) is Progress.LIVE
    assert follower.hear(event(4)) is True


def test_live_events_during_the_replay_are_neither_lost_nor_told_twice() -> None:
    follower = Follower(ACCOUNT, Channel.ORDERS, 0)
    assert follower.hear(event(1)) is False
    assert follower.hear(event(2)) is False
    early_page = [event(1)]
    assert [e.seq for e in follower.read(early_page)] == [1]
    assert follower.settle(early_page) is Progress.READ_MORE, "event 2 was announced and is not here yet"
    late_page = [event(2)]
    assert [e.seq for e in follower.read(late_page)] == [2]
    assert follower.settle(late_page) is Progress.LIVE
    assert follower.hear(event(3)) is True


def test_a_full_page_means_that_there_may_be_more() -> None:
    follower = Follower(ACCOUNT, Channel.ORDERS, 0)
    page = [event(seq) for seq in range(1, PAGE_ROWS + 1)]
    assert len(follower.read(page)) == PAGE_ROWS
    assert follower.settle(page) is Progress.READ_MORE


def test_an_event_that_never_comes_is_told_as_a_gap_and_not_skipped() -> None:
    follower = Follower(ACCOUNT, Channel.ORDERS, 0)
    page = [event(1), event(3)]
    assert [e.seq for e in follower.read(page)] == [1]
    outcomes = []
    for _ in range(4):
        outcomes.append(follower.settle([event(3)]))
        follower.read([event(3)])
    assert outcomes[0] is Progress.READ_MORE
    assert outcomes[-1] is Progress.BROKEN
    assert follower.last == 1


@pytest.mark.parametrize("seed", range(200))
def test_any_order_of_losses_and_readings_tells_every_event_once_in_order(seed: int) -> None:
    """A table that grows, a live channel that drops and repeats, readings that lag: seeded, the seed is the test's name."""
    rng = random.Random(seed)
    since = rng.randrange(5)
    table = [event(seq, rng.choice(KINDS)) for seq in range(1, since + rng.randrange(5) + 1)]
    follower = Follower(ACCOUNT, Channel.ORDERS, since)
    told: list[int] = []

    def read(rows: list[AccountEvent]) -> None:
        page = [e for e in rows if e.seq > follower.last][:PAGE_ROWS]
        told.extend(e.seq for e in follower.read(page))
        assert follower.settle(page) is not Progress.BROKEN

    for _ in range(60):
        as_read = list(table)
        if rng.random() < 0.6:
            table.append(event(len(table) + 1, rng.choice(KINDS)))
            heard = [] if rng.random() < 0.3 else [table[-1]] * rng.choice((1, 1, 2))
            told.extend(e.seq for e in heard if follower.hear(e))
        if rng.random() < 0.1:
            follower.doubt()
        if follower.needs_reading and rng.random() < 0.5:
            read(as_read if follower.seen <= len(as_read) else table)
    follower.doubt()
    while follower.needs_reading:
        read(table)
    assert told == [e.seq for e in table if e.kind == "order.filled" and e.seq > since]
