"""What a client is shown of the market: the newest quote, at its own pace, as steps that fit together."""

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.streaming.conflation import QuoteSlots, Shown
from apps.streaming.limits import (
    PROFESSIONAL_INTERVAL_US,
    RETAIL_INTERVAL_US,
    TokenBucket,
    interval_us,
)
from trading.accounts import ClientClass
from trading.quotes import ClientQuote

SECOND = 1_000_000


def shown(seq: int, bid: str, ask: str, symbol: str = "EURUSD") -> Shown:
    return Shown(ClientQuote(symbol=symbol, bid=Decimal(bid), ask=Decimal(ask), at_us=seq * SECOND), seq)


def taken(slots: QuoteSlots, now_us: int) -> list[dict[str, Any]]:
    texts = [slots.take(symbol, now_us) for symbol in slots.due(now_us)]
    return [json.loads(text) for text in texts if text is not None]


def test_the_first_message_is_whole_and_the_next_brings_the_changed_side_only() -> None:
    slots = QuoteSlots()
    slots.subscribe("EURUSD")
    slots.offer(shown(7, "1.08312", "1.08319"))
    (first,) = taken(slots, 0)
    slots.offer(shown(8, "1.08313", "1.08319"))
    (second,) = taken(slots, 1)
    assert (first["type"], first["seq"], first["data"]) == ("snapshot", 7, {"bid": "1.08312", "ask": "1.08319"})
    assert "prev" not in first
    assert (second["type"], second["seq"], second["prev"]) == ("update", 8, 7)
    assert second["data"] == {"bid": "1.08313"}
    assert second["ts"] == "1970-01-01T00:00:08.000000Z"


def test_a_throttled_client_gets_the_newest_of_what_came_meanwhile() -> None:
    slots = QuoteSlots(RETAIL_INTERVAL_US)
    slots.subscribe("EURUSD")
    slots.offer(shown(1, "1.1", "1.2"))
    assert len(taken(slots, 0)) == 1
    for seq in (2, 3, 4):
        slots.offer(shown(seq, f"1.{seq}", "1.9"))
    assert taken(slots, SECOND - 1) == []
    assert slots.next_due_us() == SECOND
    (update,) = taken(slots, SECOND)
    assert (update["seq"], update["prev"], update["data"]) == (4, 1, {"bid": "1.4", "ask": "1.9"})
    assert slots.conflated == 2
    assert slots.next_due_us() is None


def test_a_client_can_ask_for_a_slower_pace_but_not_for_a_faster_one() -> None:
    slots = QuoteSlots(SECOND)
    slots.subscribe("EURUSD", 5 * SECOND)
    slots.subscribe("GBPUSD", SECOND // 10)
    for symbol in ("EURUSD", "GBPUSD"):
        slots.offer(shown(1, "1.1", "1.2", symbol))
    assert len(taken(slots, 0)) == 2
    for symbol in ("EURUSD", "GBPUSD"):
        slots.offer(shown(2, "1.0", "1.2", symbol))
    assert [m["symbol"] for m in taken(slots, SECOND - 1)] == []
    assert [m["symbol"] for m in taken(slots, SECOND)] == ["GBPUSD"]
    assert [m["symbol"] for m in taken(slots, 5 * SECOND)] == ["EURUSD"]


def test_a_price_that_stands_still_is_confirmed_once_a_second_and_a_move_overtakes_the_confirmation() -> None:
    slots = QuoteSlots()
    slots.subscribe("EURUSD")
    slots.offer(shown(1, "1.1", "1.2"))
    taken(slots, 0)
    assert slots.offer(shown(2, "1.1", "1.2")) is True
    assert slots.next_due_us() == SECOND
    assert slots.offer(shown(3, "1.1", "1.2")) is False
    assert slots.offer(shown(4, "1.1", "1.3")) is True, "now something is due earlier: the client must be woken"
    assert [m["seq"] for m in taken(slots, 1)] == [4]
    slots.offer(shown(5, "1.1", "1.3"))
    (confirmation,) = taken(slots, 1 + SECOND)
    assert (confirmation["prev"], confirmation["data"]) == (4, {})


def test_what_is_not_subscribed_any_more_is_not_shown() -> None:
    slots = QuoteSlots()
    slots.subscribe("EURUSD")
    slots.offer(shown(1, "1.1", "1.2"))
    slots.unsubscribe("EURUSD")
    assert slots.offer(shown(2, "1.1", "1.2")) is False
    assert taken(slots, 0) == []
    assert len(slots) == 0


def test_after_a_change_of_group_everything_is_told_whole() -> None:
    slots = QuoteSlots()
    slots.subscribe("EURUSD")
    slots.offer(shown(1, "1.1", "1.2"))
    taken(slots, 0)
    slots.forget_sent()
    slots.offer(shown(2, "1.05", "1.25"))
    (message,) = taken(slots, 1)
    assert message["type"] == "snapshot"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offer", "take"]), st.integers(100, 103), st.integers(104, 106), st.integers(0, 700_000)
        ),
        max_size=60,
    ),
    st.sampled_from([0, PROFESSIONAL_INTERVAL_US, RETAIL_INTERVAL_US]),
)
def test_applying_every_message_always_gives_the_newest_quote(
    steps: list[tuple[str, int, int, int]], pace_us: int
) -> None:
    """Whatever is skipped, the steps chain by `prev`, keep the pace, and end at what is true."""
    slots = QuoteSlots(pace_us)
    slots.subscribe("EURUSD")
    view: dict[str, str] = {}
    now_us = seq = last = 0
    sent_at: list[int] = []
    newest: Shown | None = None

    def read(messages: list[dict[str, Any]]) -> None:
        nonlocal last
        for message in messages:
            assert message.get("prev", 0) == last
            last = message["seq"]
            view.update(message["data"])
            sent_at.append(now_us)

    for what, bid, ask, passed_us in steps:
        now_us += passed_us
        if what == "offer":
            seq += 1
            newest = shown(seq, str(bid), str(ask))
            slots.offer(newest)
        else:
            read(taken(slots, now_us))
    now_us += 2 * SECOND
    read(taken(slots, now_us))
    assert all(later - earlier >= pace_us for earlier, later in pairwise(sent_at))
    if newest is not None:
        assert view == {"bid": newest.bid, "ask": newest.ask}


@pytest.mark.parametrize(
    ("client_class", "is_unthrottled", "pace_us"),
    [
        (ClientClass.RETAIL, False, SECOND),
        (None, False, SECOND),
        (ClientClass.PROFESSIONAL, False, SECOND // 10),
        (ClientClass.ELIGIBLE_COUNTERPARTY, False, SECOND // 10),
        (ClientClass.RETAIL, True, 0),
    ],
)
def test_the_pace_follows_the_tier(client_class: ClientClass | None, is_unthrottled: bool, pace_us: int) -> None:
    assert interval_us(client_class, is_unthrottled=is_unthrottled) == pace_us


def test_a_burst_is_allowed_and_the_average_is_kept() -> None:
    bucket = TokenBucket(2, 3, 0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(499_999), bucket.take(500_000), bucket.take(500_001)] == [False, True, False]
    assert [bucket.take(60 * SECOND) for _ in range(4)] == [True, True, True, False]
