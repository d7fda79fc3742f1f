"""`python -m lp_adapters.fix --lp NAME --session price|trade`: one FIX session with one provider, a process of its own.

The wiring of the sessions in `prices` and `trades`: settings, threads to Redis, a main thread that works when there is
something to do, and an orderly end on SIGTERM. Nothing here decides.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping

import redis

from bus import names
from bus.clock import Clock, clock_from_environment
from bus.codec import encode
from bus.health import beat
from bus.messages import LpState
from fix_gateway.initiator import end_process
from fix_gateway.settings import SessionFile, SettingsRefused, session_file
from lp_adapters.inbox import Inbox
from lp_adapters.prices import PriceSession
from lp_adapters.telling import Listener, Teller
from lp_adapters.trades import TradeSession

logger = logging.getLogger("tribook.lp")

POLL_S = 0.25
PRICE_POLL_S = 1.0
STOP_WITHIN_S = 6.0


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # QuickFIX took SIGINT when it was imported.
        signal.signal(number, lambda _number, _frame: _stop(stopping))
    try:
        file = session_file(options.lp, options.session, os.environ)
    except SettingsRefused as refusal:
        sys.exit(f"lp-{options.lp}-{options.session}: {refusal}")
    run = _prices if options.session == "price" else _trades
    try:
        run(options.lp, file, clock_from_environment(), stopping)
    except BaseException:  # noqa: BLE001 - threads of QuickFIX would keep a dead process standing
        end_process("the main thread failed")


def _stop(stopping: threading.Event) -> None:
    """Stop in order, but not for ever: whoever waits for PostgreSQL then goes without, and loses nothing by it."""
    if not stopping.is_set():
        stopping.set()
        last = threading.Timer(STOP_WITHIN_S, lambda: os._exit(0))
        last.daemon = True
        last.start()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lp_adapters.fix", description="One FIX session with one liquidity provider.")
    parser.add_argument("--lp", required=True)
    parser.add_argument("--session", required=True, choices=("price", "trade"))
    return parser.parse_args()


def _prices(lp: str, file: SessionFile, clock: Clock, stopping: threading.Event) -> None:
    database_url, redis_url = os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
    reporter = Reporter(lp, "price", clock)
    teller = Teller(redis_url, reporter)
    session = PriceSession(lp, file, teller, clock)
    reporter.watch(lambda: session.initiator.is_logged_on, lambda: session.detail)
    teller.start()
    Listener(redis_url, (names.CONFIG,), lambda _channel, _data: session.config_changed()).start()
    session.initiator.start()
    while not stopping.is_set():
        session.work(database_url)
        session.work_waits.wait(PRICE_POLL_S)
        session.work_waits.clear()
    session.initiator.log_out()
    _end(reporter, redis_url)


def _trades(lp: str, file: SessionFile, clock: Clock, stopping: threading.Event) -> None:
    database_url, redis_url = os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
    reporter = Reporter(lp, "trade", clock)
    teller = Teller(redis_url, reporter)
    inbox = Inbox(database_url, lp, clock)
    teller.start()
    inbox.acquire(waiting=lambda: os._exit(0) if stopping.is_set() else None)
    session = TradeSession(lp, file, inbox, teller, clock)
    reporter.watch(lambda: session.initiator.is_logged_on, lambda: session.detail)
    Listener(redis_url, (names.nudge_lp(lp),), lambda _channel, _data: session.work_waits.set()).start()
    session.initiator.start()
    while not stopping.is_set():
        session.work()
        session.work_waits.wait(POLL_S)
        session.work_waits.clear()
    session.initiator.log_out()
    _end(reporter, redis_url)


class Reporter:
    """Tells, about once a second, how the session is: the health hash, the provider's state hash and its channel.

    Silent until it has a session to watch: a process that waits for another to end must not speak over it.
    """

    def __init__(self, lp: str, session: str, clock: Clock) -> None:
        self._lp = lp
        self._session = session
        self._clock = clock
        self._is_up: Callable[[], bool] = lambda: False
        self._detail: Callable[[], Mapping[str, object]] = dict
        self._is_watching = False
        self._lock = threading.Lock()
        self._is_over = False

    def watch(self, is_up: Callable[[], bool], detail: Callable[[], Mapping[str, object]]) -> None:
        self._is_up, self._detail, self._is_watching = is_up, detail, True

    def __call__(self, connection: "redis.Redis") -> None:
        with self._lock:
            if self._is_watching and not self._is_over:
                self._say(connection, is_up=self._is_up())

    def last_word(self, connection: "redis.Redis") -> None:
        """The session is down, and nothing else is said after this."""
        with self._lock:
            self._is_over = True
            self._say(connection, is_up=False)

    def _say(self, connection: "redis.Redis", *, is_up: bool) -> None:
        text = "logged on" if is_up else "not logged on"
        state = LpState(lp=self._lp, session=self._session, up=is_up, at_us=self._clock(), text=text)
        with connection.pipeline(transaction=True) as pipeline:
            pipeline.hset(
                names.lp_state(self._lp),
                mapping={
                    self._session: "up" if is_up else "down",
                    f"{self._session}_at_us": str(state.at_us),
                    "text": f"{self._session}: {text}",
                },
            )
            pipeline.expire(names.lp_state(self._lp), names.STATE_TTL_S)
            pipeline.publish(names.LP_STATE, encode(state))
            pipeline.execute()
        process = f"lp-{self._lp}-{self._session}"
        beat(connection, process, "up" if is_up else "waiting", {"session": text, **self._detail()})


def _end(reporter: Reporter, redis_url: str) -> None:
    """Say that the session is down, and go. Stopping QuickFIX itself can crash the process, so it is not stopped."""
    try:
        reporter.last_word(redis.Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1))
    except (redis.RedisError, OSError) as error:
        logger.warning("redis_away error=%s", error)
    logger.info("stopped")
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
