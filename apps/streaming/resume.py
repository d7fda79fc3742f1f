"""Following an account's numbered events without a gap and without a repetition, across two sources.

The live channel is fast but may lose messages; the outbox table is complete. So a follower takes a live event only when it
is the very next one, and otherwise asks for a reading of the table from where it stands. Live events that arrive
meanwhile are only noted: the table has them too, so nothing is buffered and nothing can overflow. Pure.
"""

from enum import Enum, auto

from msgspec import Raw, Struct

from apps.streaming.protocol import Channel, channel_of, event_message
from trading.views import rfc3339

PAGE_ROWS = 200
"""Rows of one reading."""
READINGS_WITHOUT_PROGRESS_MAX = 3
"""After so many readings that lack what the live channel has announced, the gap is told to the client."""


class AccountEvent(Struct, frozen=True):
    """One event as published and as stored. `payload` is the client's view, JSON untouched."""

    account: int
    seq: int
    kind: str
    payload: Raw
    at_us: int

    def text(self) -> str | None:
        """The message for the kind's channel; None for a kind that no channel tells."""
        channel = channel_of(self.kind)
        if channel is None:
            return None
        return event_message(channel, self.kind, self.account, self.seq, rfc3339(self.at_us), bytes(self.payload))


class Progress(Enum):
    """Where a follower stands after a reading."""

    LIVE = auto()
    READ_MORE = auto()
    BROKEN = auto()
    """What the live channel announced is not in the table: a gap that reading again does not close."""


class Follower:
    """One client's subscription to one channel of one account."""

    __slots__ = ("_fruitless", "account", "channel", "last", "needs_reading", "seen")

    def __init__(self, account: int, channel: Channel, since: int) -> None:
        """Starts with a reading: `since` is the client's word, and events may have happened after it."""
        self.account = account
        self.channel = channel
        self.last = since
        self.seen = since
        self.needs_reading = True
        self._fruitless = 0

    def hear(self, event: AccountEvent) -> bool:
        """A live event. True when it is the next one and is to be told now."""
        self.seen = max(self.seen, event.seq)
        if self.needs_reading or event.seq <= self.last:
            return False
        if event.seq > self.last + 1:
            self.needs_reading = True
            return False
        self.last = event.seq
        return channel_of(event.kind) is self.channel

    def doubt(self) -> None:
        """The live channel was interrupted: read, since messages may be missing without a trace."""
        self.needs_reading = True

    def read(self, page: list[AccountEvent]) -> list[AccountEvent]:
        """Rows of the table after `last`, in order. Returns those to be told, up to the first that is missing."""
        told = []
        before = self.last
        for event in page:
            if event.seq <= self.last:
                continue
            if event.seq != self.last + 1:
                break
            self.last = event.seq
            if channel_of(event.kind) is self.channel:
                told.append(event)
        self._fruitless = 0 if self.last > before else self._fruitless + 1
        return told

    def settle(self, page: list[AccountEvent]) -> Progress:
        """Whether the reading of `page` was the last one needed. Call it in the same step as `read`."""
        behind_table = bool(page) and page[-1].seq > self.last
        if len(page) < PAGE_ROWS and not behind_table and self.last >= self.seen:
            self.needs_reading = False
            return Progress.LIVE
        return Progress.BROKEN if self._fruitless >= READINGS_WITHOUT_PROGRESS_MAX else Progress.READ_MORE
