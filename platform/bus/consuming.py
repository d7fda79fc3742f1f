"""A queue's messages into effects, each once: delivered at least once, remembered in the same transaction as its effect.

A message is acknowledged only after a COMMIT that the server answers with COMMIT. What a handler cannot take is tried again
up to the queue's limit and is then a dead letter and an alert; the others go on. A database that is away is nobody's
fault: the message waits, the broker's connection is kept alive meanwhile.
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import psycopg
import structlog
from msgspec import Struct

from bus.alerts import Severity, raise_alert
from bus.database import connect
from bus.health import Pulse, beat
from bus.publishing import CRASHES_MAX, DELIVERIES_MAX, Message, Unreadable, message_from

log = structlog.get_logger()

DbConnection = psycopg.Connection[Any]
Handler = Callable[[DbConnection, Message], None]
"""The message's effect, inside the caller's transaction. Raises Unreadable when no further try can help."""
RETRY_S = 0.2
RETRY_S_MAX = 5.0
RECEIVE_S = 0.25
SESSION = "SET statement_timeout = '15s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '10s'"


class Unreachable(Exception):
    """The broker cannot be reached; what was not settled comes again."""


class NotCommitted(Exception):
    """The server answered something else to COMMIT: nothing of the message's effect is there."""


class Delivery(Struct, frozen=True, kw_only=True):
    """A message as it came, which may be anything."""

    identity: str
    headers: Mapping[str, object]
    payload: bytes
    tries: int
    """1 for the first time."""
    tag: object
    """The broker's own name for this delivery."""


class Subscription(Protocol):
    """One consumer of one queue. Every method raises Unreachable, except `close` and `idle`."""

    queue: str

    def receive(self, within_s: float) -> list[Delivery]:
        """What has come, in order; nothing when nothing came in time."""

    def done(self, delivery: Delivery) -> None: ...

    def again(self, delivery: Delivery) -> None:
        """Put it back, counted."""

    def park(self, delivery: Delivery) -> None:
        """Make it a dead letter."""

    def idle(self, seconds: float) -> None: ...

    def close(self) -> None: ...


class Consumer:
    """`name` remembers; two consumers of one name share the work and the memory. Used by one thread."""

    def __init__(
        self, *, name: str, subscription: Subscription, handle: Handler, connecting: Callable[[], DbConnection]
    ) -> None:
        self.name = name
        self.applied = 0
        self.repeated = 0
        self.parked = 0
        self.problem = ""
        self._subscription = subscription
        self._handle = handle
        self._connecting = connecting
        self._connection: DbConnection | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until `stop`. What cannot be reached is tried again, ever more rarely."""
        wait_s = RETRY_S
        while not self._stopped.is_set():
            try:
                self.work(RECEIVE_S)
                wait_s, self.problem = RETRY_S, ""
            except Unreachable as error:
                self.problem = f"the broker cannot be reached: {error}"
                self._stopped.wait(wait_s)
                wait_s = min(wait_s * 2, RETRY_S_MAX)

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._subscription.close()
        self._disconnect()

    def work(self, within_s: float) -> None:
        """Take what has come to its end. Raises Unreachable."""
        deliveries = self._subscription.receive(within_s)
        if len(deliveries) > 1 and all(one.tries == 1 for one in deliveries) and self._took_all(deliveries):
            return
        for delivery in deliveries:
            if self._stopped.is_set():
                return
            self._settle(delivery)

    def _took_all(self, deliveries: list[Delivery]) -> bool:
        """All in one transaction, since a commit costs more than its rows; False when they must be taken one by one."""
        try:
            messages = [message_from(one.identity, one.headers, one.payload) for one in deliveries]
            new = apply_all(self._connect(), self.name, messages, self._handle)
        except Exception:  # noqa: BLE001 - whose fault it was shows when each is taken alone
            return False
        for delivery in deliveries:
            self._subscription.done(delivery)
        self.applied += new
        self.repeated += len(deliveries) - new
        return True

    def _settle(self, delivery: Delivery) -> None:
        wait_s = RETRY_S
        while not self._stopped.is_set():
            try:
                self._take(delivery)
                return
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self._disconnect()
                self.problem = f"the database cannot be reached: {str(error).strip()[:300]}"
                self._subscription.idle(wait_s)
                wait_s = min(wait_s * 2, RETRY_S_MAX)

    def _take(self, delivery: Delivery) -> None:
        """Raises psycopg.Error when the database is to blame."""
        connection = self._connect()
        try:
            if delivery.tries > CRASHES_MAX:
                raise Unreadable("its consumers did not live to say why")
            message = message_from(delivery.identity, delivery.headers, delivery.payload)
            is_new = apply_once(connection, self.name, message, self._handle)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except (Unreadable, msgspec.DecodeError) as error:
            self._park(connection, delivery, error)
        except Exception as error:  # noqa: BLE001 - whatever a handler stumbles over, the other messages go on
            log.warning(
                "not_taken", consumer=self.name, message=delivery.identity, tries=delivery.tries, error=repr(error)
            )
            if delivery.tries >= DELIVERIES_MAX:
                self._park(connection, delivery, error)
            else:
                self._subscription.again(delivery)
        else:
            self._subscription.done(delivery)
            self.applied += is_new
            self.repeated += not is_new

    def _park(self, connection: DbConnection, delivery: Delivery, error: Exception) -> None:
        """The alert first: a message that is put aside unseen would be a lost one."""
        raise_alert(
            connection,
            kind="dead_letter",
            subject=self._subscription.queue,
            severity=Severity.CRITICAL,
            text=f"{self.name} could not take message {delivery.identity[:80]!r} after {delivery.tries} tries: {error!r}. "
            "See `manage.py bus dead-letters`.",
        )
        self._subscription.park(delivery)
        self.parked += 1

    def _connect(self) -> DbConnection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connecting()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def apply_once(connection: DbConnection, consumer: str, message: Message, handle: Handler) -> bool:
    """The message's effect and the memory of it, or neither; False when `consumer` had it already.

    The connection is in autocommit mode and outside of a transaction. Raises whatever the handler or the database raises.
    """
    return bool(apply_all(connection, consumer, [message], handle))


def apply_all(connection: DbConnection, consumer: str, messages: Sequence[Message], handle: Handler) -> int:
    """The same for several, all or none; how many `consumer` had not had."""
    with rolled_back_unless_committed(connection):
        return sum(_apply(connection, consumer, message, handle) for message in messages)


def _apply(connection: DbConnection, consumer: str, message: Message, handle: Handler) -> bool:
    inserted = connection.execute(
        "INSERT INTO task_effect (consumer, key, at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (consumer, message.id, datetime.now(UTC)),
    ).rowcount
    if inserted:
        handle(connection, message)
    return bool(inserted)


class rolled_back_unless_committed:  # noqa: N801 - reads as what it does
    """BEGIN; at the end a COMMIT that must be answered with COMMIT; ROLLBACK after any exception."""

    def __init__(self, connection: DbConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            with suppress(psycopg.Error):
                self._connection.execute("ROLLBACK")
            return
        answered = self._connection.execute("COMMIT").statusmessage
        if answered != "COMMIT":
            raise NotCommitted(f"the server answered {answered} to COMMIT")


# ------------------------------------------------------------------------------------------------------------ processes


def connect_database(url: str, *, name: str) -> DbConnection:
    """Autocommit, and noticing a dead server. Raises psycopg.OperationalError."""
    return connect(url, name=f"tribook {name}", session=SESSION)


def run_consumer(*, name: str, queue: str, handle: Handler) -> int:
    """A consumer's process until SIGTERM: DATABASE_URL, REDIS_URL and AMQP_URL as for everybody."""
    from bus.brokers import subscribe_from

    database, redis_url = os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
    consumer = Consumer(
        name=name,
        subscription=subscribe_from(os.environ, queue),
        handle=handle,
        connecting=lambda: connect_database(database, name=name),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: consumer.stop())
    pulse = Pulse(redis_url, lambda client: beat(client, name, *condition(consumer)))
    pulse.start()
    consumer.run()
    consumer.close()
    pulse.stop()
    return 0


def condition(consumer: Consumer) -> tuple[str, Mapping[str, object]]:
    figures = {"applied": consumer.applied, "repeated": consumer.repeated, "parked": consumer.parked}
    return "waiting" if consumer.problem else "up", {**figures, "problem": consumer.problem}
