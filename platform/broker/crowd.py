"""`python -m broker.crowd`: simulated clients who trade until a given business time, through the bus like any door.

It opens and funds its accounts, follows prices and account events, and lets the planner deal the next step, so many a second
and never two at once for the same account. A crowd that is started again goes on with the accounts that are there. It judges
nothing: `broker.crowd_watch` does, in a process of its own.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import psycopg
import redis
import structlog

from apps.doors.ids import uuid7
from broker.crowd_book import Book, Books, Holding, Told, Waiting
from broker.crowd_people import FIRST_ACCOUNT, Person, people
from broker.crowd_plan import ACTOR, Planner, Scene, Step, Top
from bus import names
from bus.client import AnswerTimeout, Busy, Client
from bus.clock import Clock, clock_from_environment
from bus.codec import DecodeError, decode, decode_quote
from bus.health import beat
from bus.store import LONG_LOOKS, load_config
from trading.answers import Answer
from trading.commands import AnyCommand, Deposit, OpenAccount, RequestWithdrawal
from trading.configuration import Config
from trading.orders import OrderType, Side
from trading.quotes import Quote

RATE_PER_S = 70.0
"""Commands per second in all, unless said otherwise: what two cores carry beside everything else."""
IN_FLIGHT_MAX = 24
WAIT_S = 8.0
SENT_AGAIN_MAX = 2
"""How often a command without an answer is sent once more, under the same key."""
LOOK_EVERY_S = 0.05
RETRY_S = 0.2
BEAT_S = 1.0
UP_WITHIN_S = 60.0

log = structlog.get_logger("crowd")


def main() -> int:
    parser = argparse.ArgumentParser(prog="crowd", description="Simulated clients.")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--until-us", type=int, required=True, help="business time at which nothing new is sent any more"
    )
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="commands per second in all")
    given = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    crowd = Crowd(os.environ["DATABASE_URL"], os.environ["REDIS_URL"], clock_from_environment(), stopping)
    crowd.run(count=given.clients, seed=given.seed, until_us=given.until_us, rate_per_s=given.rate)
    return 0


class Crowd:
    """The process. One thread plans, some send and wait, one listens, one shows that it is alive."""

    def __init__(self, database_url: str, redis_url: str, clock: Clock, stopping: threading.Event) -> None:
        self._database_url, self._redis_url = database_url, redis_url
        self._clock, self._stopping = clock, stopping
        self._client = Client(redis_url, clock)
        self._bus = _redis(redis_url)
        self._lock = threading.Lock()
        self._books = Books({})
        self._busy: set[int] = set()
        self._counts = {name: Counter[str]() for name in ("sent", "shields", "refused")}
        self._unanswered = 0
        self._state = "opening"

    def run(self, *, count: int, seed: int, until_us: int, rate_per_s: float) -> None:
        """Trade until the time has come or we are told to stop; then stay, so that nobody starts us again."""
        log.info("crowd", clients=count, seed=seed)
        for work in (self._keep_beating, self._keep_listening):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        config = self._configuration()
        everybody = self._opened(_planned(config, count, seed), seed)
        planner = Planner(seed=seed, day_us=max(until_us - self._clock(), 1), new_id=lambda: str(uuid7()))
        self._state = "trading"
        log.info("crowd_trading", accounts=len(everybody))
        with ThreadPoolExecutor(IN_FLIGHT_MAX, thread_name_prefix="client") as senders:
            self._trade(planner, everybody, config, senders, until_us, rate_per_s)
        self._state = "done"
        log.info("crowd_done", unanswered=self._unanswered, **{name: dict(c) for name, c in self._counts.items()})
        self._stopping.wait()

    # ------------------------------------------------------------------------------------------------------- accounts

    def _configuration(self) -> Config:
        while not self._stopping.is_set():
            with suppress(psycopg.Error, LookupError), self._database() as connection:
                return load_config(connection)
            self._stopping.wait(RETRY_S)
        raise SystemExit(0)

    def _database(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._database_url, connect_timeout=5, options=LONG_LOOKS)

    def _opened(self, planned: Sequence[Person], seed: int) -> list[Person]:
        """The people with funded accounts. An account that exists already keeps its terms, whatever was planned for it."""
        with ThreadPoolExecutor(IN_FLIGHT_MAX) as senders:
            for done in [senders.submit(self._open, person, seed) for person in planned]:
                done.result()
        with self._database() as connection, self._lock:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            found = load_books(connection, [person.account for person in planned])
            self._books.of.update(found)
        return [person for person in planned if person.account in self._books.of]

    def _open(self, person: Person, seed: int) -> None:
        opening = OpenAccount(
            id=str(uuid7()),
            key=f"crowd/{seed}/open",
            account=person.account,
            actor=ACTOR,
            group=person.group,
            currency=person.currency,
            leverage=person.leverage,
            client_class=person.client_class,
        )
        money = Deposit(
            id=str(uuid7()),
            key=f"crowd/{seed}/deposit",
            account=person.account,
            actor=ACTOR,
            amount=person.deposit,
            reference="demo money",
        )
        deadline = time.monotonic() + UP_WITHIN_S
        for command in (opening, money):
            while self._answer_to(command) is None and time.monotonic() < deadline and not self._stopping.is_set():
                self._stopping.wait(RETRY_S)

    # -------------------------------------------------------------------------------------------------------- trading

    def _trade(
        self,
        planner: Planner,
        everybody: Sequence[Person],
        config: Config,
        senders: ThreadPoolExecutor,
        until_us: int,
        rate_per_s: float,
    ) -> None:
        due_s, looked_s, tops = time.monotonic(), 0.0, {}
        while self._clock() < until_us and not self._stopping.is_set():
            now_s = time.monotonic()
            if now_s - looked_s >= LOOK_EVERY_S:
                looked_s, tops = now_s, self._tops(config)
            step = self._next_step(planner, everybody, tops)
            due_s = max(due_s, now_s - 1) + (len(step.commands) / rate_per_s if step else LOOK_EVERY_S)
            if step is not None:
                senders.submit(self._carry_out, step).add_done_callback(_report)
            if due_s > time.monotonic():
                self._stopping.wait(due_s - time.monotonic())

    def _next_step(self, planner: Planner, everybody: Sequence[Person], tops: dict[str, Top]) -> Step | None:
        with self._lock:
            if len(self._busy) >= IN_FLIGHT_MAX:
                return None
            idle = [person for person in everybody if person.account not in self._busy]
            step = planner.next(Scene(tops, self._books.of, idle, self._clock()))
            if step is not None:
                self._busy.add(step.person.account)
        return step

    def _carry_out(self, step: Step) -> None:
        try:
            for command in step.commands:
                answer = self._answer_to(command)
                self._note(step, command, answer)
        finally:
            with self._lock:
                self._busy.discard(step.person.account)

    def _note(self, step: Step, command: AnyCommand, answer: Answer | None) -> None:
        with self._lock:
            self._counts["sent"][step.action] += 1
            if step.shield:
                self._counts["shields"][step.shield] += 1
            if answer is None:
                self._unanswered += 1
                return
            if answer.refusal:
                self._counts["refused"][answer.refusal] += 1
            elif isinstance(command, RequestWithdrawal):
                self._books.of[command.account].withdrawals.append(answer.reference)
            self._books.answered(command, answer.refusal)

    def _answer_to(self, command: AnyCommand) -> Answer | None:
        """The last answer; None when there is none after sending the same again. A key makes that safe."""
        for _ in range(1 + SENT_AGAIN_MAX):
            try:
                return self._client.submit_and_follow(command, WAIT_S)
            except AnswerTimeout:
                continue
            except Busy:
                self._stopping.wait(RETRY_S)
        return None

    # ------------------------------------------------------------------------------------------------- what is seen

    def _tops(self, config: Config) -> dict[str, Top]:
        """The newest fresh price of every symbol; none while the bus is away."""
        with suppress(redis.RedisError):
            pipeline = self._bus.pipeline(transaction=False)
            for symbol in config.instruments:
                pipeline.hget(names.quote(symbol), "quote")
            quotes = [decode_quote(found) for found in pipeline.execute() if found]
            now_us = self._clock()
            return {
                quote.symbol: _top(config, quote)
                for quote in quotes
                if now_us - quote.at_us <= config.instruments[quote.symbol].quote_age_max_us
            }
        return {}

    def _keep_listening(self) -> None:
        while not self._stopping.is_set():
            with suppress(redis.RedisError, OSError), closing(_redis(self._redis_url)) as client:
                self._listen(client)
            self._stopping.wait(RETRY_S)

    def _listen(self, client: Any) -> None:
        with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(names.events(0))
            while not self._stopping.is_set():
                message = pubsub.get_message(timeout=1.0)
                if message is not None:
                    with suppress(DecodeError), self._lock:
                        self._books.hear(decode(message["data"], list[Told]))

    def _keep_beating(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                detail = {name: dict(counter) for name, counter in self._counts.items()}
            with suppress(redis.RedisError), closing(_redis(self._redis_url)) as client:
                beat(client, "crowd", self._state, {**detail, "unanswered": self._unanswered})
            self._stopping.wait(BEAT_S)


def load_books(connection: "psycopg.Connection[Any]", accounts: Sequence[int]) -> dict[int, Book]:
    """What the database says of these accounts, with the numbers of their last events: later ones are heard."""
    query = "SELECT id, seq, balance FROM account WHERE id = ANY(%s)"
    books = {number: Book(seq, balance) for number, seq, balance in connection.execute(query, (accounts,))}
    for account, number, symbol, side, volume, price in connection.execute(OPEN_POSITIONS, (accounts,)):
        held = Holding(id=number, symbol=symbol, side=Side(side), volume=volume, open_price=price)
        books[account].positions[number] = held
    for account, ticket, symbol, side, kind, volume, price, stop_price in connection.execute(WAITING, (accounts,)):
        books[account].orders[ticket] = Waiting(
            ticket=ticket,
            symbol=symbol,
            side=Side(side),
            type=OrderType(kind),
            volume=volume,
            price=price,
            stop_price=stop_price,
        )
    return books


OPEN_POSITIONS = """
SELECT account, id, symbol, side, volume, cost / volume FROM position
WHERE volume > 0 AND account = ANY(%s) ORDER BY id
"""
WAITING = """
SELECT account, id, symbol, side, type, volume, price, stop_price FROM trade_order
WHERE status = 'new' AND NOT closes AND account = ANY(%s) ORDER BY id
"""


def _planned(config: Config, count: int, seed: int) -> tuple[Person, ...]:
    leverages = {name: group.leverage_max for name, group in config.groups.items()}
    return people(count, seed=seed, leverages=leverages, digits=config.currency_digits, first=FIRST_ACCOUNT)


def _top(config: Config, quote: Quote) -> Top:
    instrument = config.instruments[quote.symbol]
    return Top(
        symbol=quote.symbol,
        base=instrument.base,
        bid=quote.bid,
        ask=quote.ask,
        digits=instrument.digits,
        contract_size=instrument.contract_size,
        volume_step=instrument.volume_step,
        guarantee_points=instrument.guarantee.distance_min_points if instrument.guarantee else None,
    )


def _redis(url: str) -> "redis.Redis":
    client: redis.Redis = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2, retry=None)
    return client


def _report(done: "Future[None]") -> None:
    error = done.exception()
    if error is not None:
        log.error("step_failed", error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
