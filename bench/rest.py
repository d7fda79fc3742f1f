"""Market orders over REST as clients place them: acknowledged after COMMIT, over keep-alive connections, on real processes.

Beside it, in the same run, its two floors: a trivial authenticated GET (what the web stack alone costs) and the same orders
through the bus client (what everything behind the web costs). Processor time per request is told too: unlike rates, it
does not depend on who else uses the machine.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

from bench.house import House, cpu_s, logged_in, open_house, quoting
from bench.report import figure, inputs, percentile
from bench.services import server_version
from bus.client import Client
from bus.clock import wall
from tests.support.builders import config
from trading.commands import Deposit, OpenAccount, PlaceOrder
from trading.numbers import parse_decimal
from trading.orders import Side

CLIENTS = 16
ACCOUNTS_EACH = 4
"""At 50 orders per second and account, the limits that everybody has leave room for 3,200 a second."""
ORDERS = 4_000
WARM_UP = 500
VOLUME = "0.10"
PROCESSES = ("engine", "web")
Spell = Callable[[int, int], bytes]
"""(account, number of the request) -> the bytes to send."""


def main() -> None:
    with open_house(PROCESSES, config(version=1)) as place:
        inputs(
            f"PostgreSQL {server_version(place.layout.database_url)}, fsync and synchronous_commit on; web and engine as "
            f"`make run` starts them; a small desk quotes instead of the simulated providers; the load comes from one "
            f"process on the same cores; {CLIENTS} clients, {CLIENTS * ACCOUNTS_EACH} accounts at the usual rate limits; "
            f"{ORDERS} market orders of {VOLUME} EURUSD, B-book"
        )
        tokens = logged_in(place, CLIENTS * ACCOUNTS_EACH)
        with quoting(place.layout.redis_url):
            _measure(place, tokens)


def _measure(place: House, tokens: Mapping[int, str]) -> None:
    bus = Client(place.layout.redis_url, wall)
    try:
        for account in tokens:
            _fund(bus, account)
        _measure_bus(place, bus)
    finally:
        bus.close()
    load = Load(place.layout.http_port, tokens)
    load.run(_get(tokens), WARM_UP, expected=200)
    with _processors(place, "rest_get", ORDERS):
        told = load.run(_get(tokens), ORDERS, expected=200)
    figure("rest_get_per_s", told.per_s, 0)
    load.run(_order(tokens), WARM_UP, expected=201)
    with _processors(place, "rest_order", ORDERS):
        told = load.run(_order(tokens), ORDERS, expected=201)
    figure("rest_orders_per_s", told.per_s, 0)
    figure("rest_order_ms_p50_full_load", percentile(told.latencies_ms, 0.5))
    figure("rest_order_ms_p99_full_load", percentile(told.latencies_ms, 0.99))
    half = told.per_s / 2
    told = load.run(_order(tokens), ORDERS, expected=201, per_s=half)
    figure("rest_half_load_per_s", told.per_s, 0)
    figure("rest_order_ms_p50_half_load", percentile(told.latencies_ms, 0.5))
    figure("rest_order_ms_p99_half_load", percentile(told.latencies_ms, 0.99))


def _fund(bus: Client, account: int) -> None:
    """An account with more money than it can lose."""
    first, second, money = str(uuid4()), str(uuid4()), parse_decimal("99999999999")
    bus.submit(OpenAccount(id=first, key=first, account=account, group="retail", currency="USD", leverage=30), 10.0)
    bus.submit(Deposit(id=second, key=second, account=account, amount=money), 10.0)


class _processors:  # noqa: N801 - reads as a phrase where it is used
    """Prints the processor time that each process spent per request inside the block."""

    def __init__(self, place: House, name: str, requests: int) -> None:
        self._place, self._name, self._requests = place, name, requests

    def __enter__(self) -> None:
        self._before = {name: cpu_s(pid) for name, pid in self._place.pids.items()}

    def __exit__(self, *_: object) -> None:
        for name, pid in self._place.pids.items():
            spent_us = (cpu_s(pid) - self._before[name]) * 1e6
            figure(f"{self._name}_cpu_us_{name}", spent_us / self._requests, 0)


# ------------------------------------------------------------------------------------------------------ through the bus


def _measure_bus(place: House, bus: Client) -> None:
    """As many threads as REST has clients, each waiting for its answer before it places the next order."""
    with _processors(place, "bus_order", ORDERS), ThreadPoolExecutor(CLIENTS) as threads:
        started = time.perf_counter()
        clients = [threads.submit(_bus_client, bus, number) for number in range(CLIENTS)]
        latencies_ms = [latency for client in clients for latency in client.result()]
        elapsed = time.perf_counter() - started
    figure("bus_orders_per_s", len(latencies_ms) / elapsed, 0)
    figure("bus_order_ms_p50", percentile(latencies_ms, 0.5))
    figure("bus_order_ms_p99", percentile(latencies_ms, 0.99))


def _bus_client(bus: Client, number: int) -> list[float]:
    latencies_ms = []
    for turn in range(ORDERS // CLIENTS):
        command = _command(account=1 + number * ACCOUNTS_EACH + turn % ACCOUNTS_EACH)
        started = time.perf_counter()
        answer = bus.submit(command, 10.0)
        latencies_ms.append((time.perf_counter() - started) * 1000)
        if answer.refusal:
            raise SystemExit(f"an order was refused: {answer.refusal} {answer.detail}")
    return latencies_ms


def _command(account: int) -> PlaceOrder:
    name = str(uuid4())
    return PlaceOrder(id=name, key=name, account=account, symbol="EURUSD", side=Side.BUY, volume=parse_decimal(VOLUME))


# ------------------------------------------------------------------------------------------------------ over HTTP


def _get(tokens: Mapping[int, str]) -> Spell:
    def spell(account: int, _number: int) -> bytes:
        return f"GET /v1/symbols/EURUSD HTTP/1.1\r\n{_headers(tokens[account])}\r\n".encode()

    return spell


_orders = itertools.count(1)


def _order(tokens: Mapping[int, str]) -> Spell:
    def spell(account: int, number: int) -> bytes:
        side = "buy" if number % 2 else "sell"
        body = (
            f'{{"account": {account}, "symbol": "EURUSD", "side": "{side}", "type": "market", "volume": "{VOLUME}", '
            f'"client_order_id": "bench-{next(_orders)}"}}'
        )
        head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"POST /v1/orders HTTP/1.1\r\n{_headers(tokens[account])}{head}\r\n{body}".encode()

    return spell


def _headers(token: str) -> str:
    return f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"


@dataclass
class Told:
    """What one run measured. With a pace, latency counts from when a request should have been sent."""

    per_s: float
    latencies_ms: list[float] = field(default_factory=list)


class Load:
    """So many connections kept alive, each with one request in flight at most and accounts of its own."""

    def __init__(self, port: int, tokens: Mapping[int, str]) -> None:
        self._port = port
        self._accounts = sorted(tokens)

    def run(self, spell: Spell, requests: int, *, expected: int, per_s: float = 0.0) -> Told:
        """Send so many requests: as fast as answers come, or `per_s` evenly spaced, late ones as soon as possible."""
        return asyncio.run(self._run(spell, requests, expected, per_s))

    async def _run(self, spell: Spell, requests: int, expected: int, per_s: float) -> Told:
        latencies_ms: list[float] = []
        due = self._due(requests, per_s, time.perf_counter())
        started = time.perf_counter()
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                accounts = itertools.cycle(self._accounts[number::CLIENTS])
                clients.create_task(self._client(spell, accounts, due, expected, latencies_ms))
        return Told(requests / (time.perf_counter() - started), latencies_ms)

    def _due(self, requests: int, per_s: float, start: float) -> Iterator[tuple[int, float]]:
        """Every request's number and moment; 0 for at once."""
        return ((number, start + number / per_s if per_s else 0.0) for number in range(requests))

    async def _client(
        self,
        spell: Spell,
        accounts: Iterator[int],
        due: Iterator[tuple[int, float]],
        expected: int,
        latencies_ms: list[float],
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for number, moment in due:
            if moment:
                await asyncio.sleep(moment - time.perf_counter())
            started = moment or time.perf_counter()
            writer.write(spell(next(accounts), number))
            status, body = await _answer(reader)
            latencies_ms.append((time.perf_counter() - started) * 1000)
            if status != expected:
                raise SystemExit(f"a request was answered {status}: {body!r}")
        writer.close()
        await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)
