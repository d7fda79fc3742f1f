"""From a tick on Redis to a WebSocket client: the real stream process, and clients that take every quote they can get.

A tick carries the moment it was published at and every message repeats it: latency ends when the client has the message in
its hands, on the same machine's clock. Every tick moves the price, so it is news to everybody who watches the symbol.
"""

import asyncio
import json
import multiprocessing
import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import redis

from bench.house import House, cpu_s, logged_in, open_house
from bench.report import figure, inputs, percentile
from bus import names
from bus.clock import wall
from bus.codec import encode
from tests.support.builders import config, instrument, lp_top
from trading.quotes import Quote

CLIENTS = 200
SYMBOLS = tuple(f"SYM{number:02d}" for number in range(50))
SYMBOLS_EACH = 5
TICKS_PER_S = 1_000
WARM_UP_S = 3.0
MEASURED_S = 10.0
CONNECTING_AT_ONCE = 10
WITHIN_S = 30.0
_TS = re.compile(rb'"ts":"([^"]*)"')


def main() -> None:
    instruments = {symbol: instrument(symbol, base="EUR", quote="USD") for symbol in SYMBOLS}
    with open_house(("stream",), config(version=1, instruments=instruments)) as place:
        inputs(
            f"{CLIENTS} clients without a throttle, {SYMBOLS_EACH} of {len(SYMBOLS)} symbols each, one group; "
            f"{TICKS_PER_S} ticks/s evenly spaced, every one a new price, for {MEASURED_S:.0f} s; "
            f"ticks and clients come from two processes on the same cores"
        )
        tokens = logged_in(place, CLIENTS)
        asyncio.run(_measure(place, list(tokens.values())))


async def _measure(place: House, tokens: list[str]) -> None:
    clients = await _connected(place.layout.stream_port, tokens)
    ticks = multiprocessing.get_context("spawn").Process(target=publish_ticks, args=(place.layout.redis_url,))
    ticks.start()
    try:
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(client.was_told.wait() for client in clients))
        await asyncio.sleep(WARM_UP_S)
        for client in clients:
            client.heard.clear()
        before, own_before, started = cpu_s(place.pids["stream"]), time.process_time(), time.perf_counter()
        await asyncio.sleep(MEASURED_S)
        heard = [one for client in clients for one in client.heard]
        elapsed = time.perf_counter() - started
        busy, own_busy = cpu_s(place.pids["stream"]) - before, time.process_time() - own_before
    finally:
        ticks.kill()
        ticks.join()
    latencies_ms = _latencies_ms(heard)
    figure("stream_messages_per_s", len(heard) / elapsed, 0)
    wanted_per_s = TICKS_PER_S * CLIENTS * SYMBOLS_EACH / len(SYMBOLS)
    figure("stream_messages_share_of_ticks", len(heard) / elapsed / wanted_per_s, 2)
    figure("stream_tick_to_client_ms_p50", percentile(latencies_ms, 0.5))
    figure("stream_tick_to_client_ms_p99", percentile(latencies_ms, 0.99))
    figure("stream_cpu_us_per_message", busy / len(heard) * 1e6)
    figure("stream_cpu_share_of_a_core", busy / elapsed, 2)
    figure("clients_cpu_share_of_a_core", own_busy / elapsed, 2)
    detail = await _condition(place.layout.redis_url)
    figure("stream_sends", detail["sends"], 0)
    figure("stream_conflated", detail["conflated"], 0)
    for client in clients:
        client.leave()


def _latencies_ms(heard: Iterable[tuple[int, bytes]]) -> list[float]:
    """Milliseconds between a message's own `ts` and when it was read."""
    return [(read_us - datetime.fromisoformat(ts.decode()).timestamp() * 1e6) / 1000 for read_us, ts in heard]


async def _condition(redis_url: str) -> Mapping[str, Any]:
    """What the stream says of itself, said after now."""
    asked_at, deadline = time.time(), time.monotonic() + WITHIN_S
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        while time.monotonic() < deadline:
            found: Any = client.hgetall(names.health("stream"))
            if found and float(found["at"]) > asked_at:
                told: dict[str, Any] = json.loads(found["detail"])
                return told
            await asyncio.sleep(0.1)
    raise SystemExit("the stream does not say how it is")


# ---------------------------------------------------------------------------------------------------------------- ticks


def publish_ticks(redis_url: str) -> None:
    """One tick per symbol in turn, evenly spaced, late ones at once, until killed."""
    connection = redis.Redis.from_url(redis_url)
    started, number = time.perf_counter(), 0
    while True:
        ahead_s = started + number / TICKS_PER_S - time.perf_counter()
        if ahead_s > 0:
            time.sleep(ahead_s)
        connection.publish(names.QUOTES, encode(_tick(number)))
        number += 1


def _tick(number: int) -> Quote:
    turn, place = divmod(number, len(SYMBOLS))
    at_us = wall()
    bid, ask = Decimal(108_500 + turn % 100).scaleb(-5), Decimal(108_510 + turn % 100).scaleb(-5)
    tops = tuple(lp_top(lp, bid=str(bid), ask=str(ask), at_us=at_us) for lp in ("YOFX1", "PRIMEXM"))
    return Quote(symbol=SYMBOLS[place], seq=turn + 1, bid=bid, ask=ask, at_us=at_us, tops=tops)


# -------------------------------------------------------------------------------------------------------------- clients


async def _connected(port: int, tokens: list[str]) -> list["Listener"]:
    """All clients logged in and subscribed, some at a time."""
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def connect(number: int, token: str) -> Listener:
        async with gate, asyncio.timeout(WITHIN_S):
            _, client = await asyncio.get_running_loop().create_connection(Listener, "127.0.0.1", port)
            await client.begin(token, [SYMBOLS[(number + step) % len(SYMBOLS)] for step in range(SYMBOLS_EACH)])
            return client

    return await asyncio.gather(*(connect(number, token) for number, token in enumerate(tokens)))


class Listener(asyncio.Protocol):
    """A WebSocket client (RFC 6455) that does as little as can be, because it shares the cores with what is measured.

    It reads whole unmasked text frames below 64 kB, which is all that the stream sends, and notes when each quote came.
    """

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        """When a quote was read, and its own `ts`."""
        self.was_told = asyncio.Event()
        """It has had a quote."""
        self._buffer = b""
        self._said: asyncio.Queue[bytes] = asyncio.Queue()
        self._is_open = False

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    async def begin(self, token: str, symbols: list[str]) -> None:
        """Upgrade, log in and subscribe. Raises SystemExit when the stream says anything but yes."""
        self._transport.write(
            b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await self._expect(b"HTTP/1.1 101")
        self._say({"op": "auth", "token": token})
        await self._expect(b'{"type":"ack"')
        self._say({"op": "subscribe", "channel": "quotes", "symbols": symbols, "snapshot": False})
        await self._expect(b'{"type":"ack"')

    def leave(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        read_us = wall()
        self._buffer += data
        if not self._is_open:
            self._take_handshake()
        start, whole = 0, len(self._buffer)
        while whole - start >= 2:
            length, head = self._buffer[start + 1], 2
            if length == 126:
                length, head = int.from_bytes(self._buffer[start + 2 : start + 4], "big"), 4
            end = start + head + length
            if end > whole:
                break
            self._take(self._buffer[start + head : end], read_us)
            start = end
        self._buffer = self._buffer[start:]

    def _take_handshake(self) -> None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if separator:
            self._is_open, self._buffer = True, rest
            self._said.put_nowait(head)

    def _take(self, message: bytes, read_us: int) -> None:
        if message.startswith((b'{"type":"update"', b'{"type":"snapshot"')):
            found = _TS.search(message)
            assert found is not None
            self.heard.append((read_us, found[1]))
            self.was_told.set()
        elif message.startswith((b'{"type":"ack"', b'{"type":"error"')):
            self._said.put_nowait(message)

    def _say(self, request: dict[str, object]) -> None:
        """One text frame, masked with zeros: clients must mask, and nobody says with what."""
        body = json.dumps(request).encode()
        length = bytes([0x80 | len(body)]) if len(body) <= 125 else bytes([0xFE]) + len(body).to_bytes(2, "big")
        self._transport.write(b"\x81" + length + bytes(4) + body)

    async def _expect(self, beginning: bytes) -> None:
        said = await self._said.get()
        if not said.startswith(beginning):
            raise SystemExit(f"the stream answered {said!r}")
