"""One connected client: what it follows, what waits for it, and the task that sends it.

Everybody else only puts something here and goes on: quotes into slots, account events into a bounded queue. The client's
own task is the only one that ever waits for its connection. Answers and account events go first, then a reading of the
outbox where one is needed, then quotes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from apps.streaming.conflation import QuoteSlots, Shown
from apps.streaming.identity import Credential, Identity
from apps.streaming.limits import EVENTS_QUEUED_MAX, SEND_STALLED_US
from apps.streaming.protocol import GAP, HEARTBEAT_S, Channel, Close, error, heartbeat
from apps.streaming.resume import AccountEvent, Follower, Progress
from bus.clock import Clock
from trading.views import rfc3339

Send = Callable[[str], Awaitable[None]]
ReadPage = Callable[[int, int], Awaitable[list[AccountEvent]]]
"""(account, after this event id) -> the next rows of its outbox, in order."""
HEARTBEAT_US = int(HEARTBEAT_S * 1e6)


class Client:
    """`now_us` is a steady clock; `business_clock` only stamps heartbeats."""

    def __init__(self, *, now_us: Clock, business_clock: Clock) -> None:
        self.slots = QuoteSlots()
        self.followers: dict[tuple[int, Channel], Follower] = {}
        self.identity: Identity | None = None
        self.credential: Credential | None = None
        self.pricing_account: int | None = None
        """The account whose group prices the quotes; None for the first of the identity's."""
        self.group = ""
        self.sends = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self.connected_us = now_us()
        self._sending_since_us = 0
        self._now_us = now_us
        self._business_clock = business_clock
        self._queue: deque[str] = deque()
        self._wake = asyncio.Event()
        self._heartbeat_due_us = now_us() + HEARTBEAT_US
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------- what others do, without waiting

    def say(self, text: str) -> None:
        """An answer or an account event: never dropped. One too many closes the client."""
        if self.close_code is not None:
            return
        if len(self._queue) >= EVENTS_QUEUED_MAX:
            self.cut(Close.LIMIT, "too slow: resume from the last event_id")
            return
        self._queue.append(text)
        self._wake.set()

    def offer(self, quote: Shown) -> None:
        if self.slots.offer(quote):
            self._wake.set()

    def hear(self, event: AccountEvent, text: str | None) -> None:
        """A live account event of an account that this client follows."""
        for channel in Channel:
            follower = self.followers.get((event.account, channel))
            if follower is None:
                continue
            if follower.hear(event) and text is not None:
                self.say(text)
            elif follower.needs_reading:
                self._wake.set()

    def doubt(self) -> None:
        """Live events may have been lost: every follower reads the outbox once more."""
        for follower in self.followers.values():
            follower.doubt()
        self._wake.set()

    def wake(self) -> None:
        """There is something new to look at."""
        self._wake.set()

    def finish(self, code: Close, reason: str) -> None:
        """Close once what waits in the queue has been sent."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
        self._wake.set()

    def cut(self, code: Close, reason: str) -> None:
        """Close now, whatever waits, even in the middle of a send that does not move."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()

    def is_stalled(self, now_us: int) -> bool:
        return bool(self._sending_since_us) and now_us - self._sending_since_us > SEND_STALLED_US

    # ----------------------------------------------------------------------------------------------- the client's task

    async def run(self, send: Send, read_page: ReadPage) -> None:
        """Send until the client is to be closed; afterwards `close_code` says why."""
        self._task = asyncio.current_task()
        try:
            while self.close_code is None or self._queue:
                await self._turn(send, read_page)
        except asyncio.CancelledError:
            if self.close_code is None:
                raise
        finally:
            self._task = None

    async def _turn(self, send: Send, read_page: ReadPage) -> None:
        self._wake.clear()
        while self._queue:
            await self._send(send, self._queue.popleft())
        behind = next((follower for follower in self.followers.values() if follower.needs_reading), None)
        if behind is not None:
            # One follower and one page per turn: events that were queued meanwhile go out before later pages.
            await self._catch_up(behind, send, read_page)
            return
        for symbol in self.slots.due(self._now_us()):
            text = self.slots.take(symbol, self._now_us())
            if text is not None:
                await self._send(send, text)
        if self._now_us() >= self._heartbeat_due_us:
            self._heartbeat_due_us = self._now_us() + HEARTBEAT_US
            await self._send(send, heartbeat(rfc3339(self._business_clock())))
        if self.close_code is None:
            await self._rest()

    async def _catch_up(self, follower: Follower, send: Send, read_page: ReadPage) -> None:
        page = await read_page(follower.account, follower.last)
        key = (follower.account, follower.channel)
        if self.followers.get(key) is not follower:
            return
        told = follower.read(page)
        if follower.settle(page) is Progress.BROKEN:
            del self.followers[key]
            self.say(error(None, GAP, f"{follower.channel} of {follower.account} after event {follower.last}"))
        for event in told:
            text = event.text()
            if text is not None:
                await self._send(send, text)

    async def _send(self, send: Send, text: str) -> None:
        self._sending_since_us = self._now_us()
        await send(text)
        self._sending_since_us = 0
        self.sends += 1

    async def _rest(self) -> None:
        due_us = self.slots.next_due_us()
        until_us = self._heartbeat_due_us if due_us is None else min(due_us, self._heartbeat_due_us)
        if self._wake.is_set():
            await asyncio.sleep(0)  # others' turn, even under a flood of quotes
            return
        timer = asyncio.get_running_loop().call_later(max(0, until_us - self._now_us()) / 1e6, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
