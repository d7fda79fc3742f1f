"""RabbitMQ: the exchange and its queues, a publisher that waits for confirms, a queue's consumer.

pika's blocking connection is used by one thread, which must come back to it now and then: heartbeats are answered only in
`process_data_events`. A broken connection is thrown away with all that was on it; unconfirmed messages are published
again, unacknowledged ones are delivered again.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pika
from msgspec import Struct
from pika.exceptions import AMQPError

from bus.consuming import Delivery, Unreachable
from bus.publishing import (
    CRASHES_MAX,
    DEAD_EXCHANGE,
    EXCHANGE,
    LOG,
    QUEUES,
    Depth,
    Message,
    NotPublished,
    Unroutable,
    dead,
    message_from,
)

CONFIRM_WITHIN_S = 10.0
"""A broker that blocks its publishers (memory or disk alarm) is as good as one that is away."""
CONNECT_WITHIN_S = 5.0
HEARTBEAT_S = 10
PREFETCH = 32
QUEUE_MAX = 1_000_000
"""Messages in a work queue; beyond it the oldest become dead letters."""
DEAD_MAX = 10_000
LOG_BYTES_MAX = 20 * 1024**3
LOG_SEGMENT_BYTES = 100 * 1024**2
LOG_AGE_MAX = "30D"
LOG_IDLE_S = 2.0
"""A log that says nothing for so long has been read to its end."""
DELIVERY_LIMIT = CRASHES_MAX + 5
"""The broker's own limit stands behind the consumer's, who also tells why."""
T = TypeVar("T")
logging.getLogger("pika").setLevel(logging.CRITICAL)  # it tells every refused connection six times; we tell it once

Connection = Any
Channel = Any
"""pika has no types."""


class AmqpPublisher:
    """Publishes with confirms, many on the way at once: pika's own channel would wait for each alone."""

    def __init__(self, url: str, *, confirm_within_s: float = CONFIRM_WITHIN_S) -> None:
        self._url = url
        self._within_s = confirm_within_s
        self._connection: Connection = None
        self._channel: Channel = None
        self._tag = 0
        self._waiting: dict[int, Message] = {}
        self._refused: list[str] = []
        self._returned: list[str] = []

    def publish(self, messages: Sequence[Message]) -> None:
        try:
            self._open()
            for message in messages:
                self._send(message)
            self._await_confirms()
        except (AMQPError, OSError) as error:
            self.close()
            raise NotPublished(_said(error)) from error
        if self._returned or self._refused:
            returned, refused = self._returned, self._refused
            self.close()
            if returned:
                raise Unroutable(f"no queue takes {', '.join(sorted(set(returned))[:5])}")
            raise NotPublished(f"the broker refused {', '.join(refused[:5])}")

    def remembers(self) -> bool:
        """Its queues are durable."""
        return True

    def remember(self) -> None:
        """Nothing to do: see `remembers`."""

    def idle(self, seconds: float) -> None:
        if self._connection is None:
            time.sleep(seconds)
            return
        try:
            self._connection.process_data_events(time_limit=seconds)
        except (AMQPError, OSError):
            self.close()

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._tag = 0
        self._waiting, self._refused, self._returned = {}, [], []
        close_quietly(connection)

    def _open(self) -> None:
        if self._connection is not None and self._connection.is_open and self._channel.is_open:
            return
        self.close()
        self._connection = connect(self._url, blocked_s=self._within_s)
        self._channel = self._connection.channel()
        declare(self._channel)
        channel = self._channel._impl  # noqa: SLF001 - the blocking channel can confirm only one message at a time
        channel.confirm_delivery(ack_nack_callback=self._on_confirm, callback=lambda _frame: None)
        channel.add_on_return_callback(lambda _channel, method, _properties, _body: self._on_return(method))

    def _send(self, message: Message) -> None:
        self._tag += 1
        self._waiting[self._tag] = message
        self._channel.basic_publish(
            EXCHANGE, message.kind, message.payload, properties_of(message.id, message), mandatory=True
        )

    def _await_confirms(self) -> None:
        deadline = time.monotonic() + self._within_s
        while self._waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AMQPError(f"{len(self._waiting)} messages were not confirmed within {self._within_s:g} s")
            if not self._channel.is_open:
                raise AMQPError("the broker closed the channel")
            self._connection.process_data_events(time_limit=left)

    def _on_confirm(self, frame: Any) -> None:
        """Basic.Ack or Basic.Nack; `multiple` settles every one up to the number."""
        method = frame.method
        first = next(iter(self._waiting), method.delivery_tag) if method.multiple else method.delivery_tag
        for tag in range(first, method.delivery_tag + 1):
            message = self._waiting.pop(tag, None)
            if message is not None and isinstance(method, pika.spec.Basic.Nack):
                self._refused.append(message.id)
        if not self._waiting:
            self._connection.call_later(0, lambda: None)  # ends the wait, which knows nothing of confirms

    def _on_return(self, method: Any) -> None:
        """Comes before the confirm of the same message."""
        self._returned.append(str(method.routing_key))


class _Tag(Struct, frozen=True):
    """Where an acknowledgement must go: delivery tags mean nothing on another channel."""

    connection: int
    number: int


class AmqpSubscription:
    """One consumer of a work queue (`bus.consuming.Subscription`)."""

    def __init__(self, url: str, queue: str, *, prefetch: int = PREFETCH) -> None:
        self.queue = queue
        self._url = url
        self._prefetch = prefetch
        self._connection: Connection = None
        self._channel: Channel = None
        self._ready: deque[Delivery] = deque()

    def receive(self, within_s: float) -> list[Delivery]:
        self._doing(lambda: None if self._ready else self._connection.process_data_events(time_limit=within_s))
        if self._channel is not None and not self._channel.is_open:
            self.close()
        taken, self._ready = list(self._ready), deque()
        return taken

    def done(self, delivery: Delivery) -> None:
        self._settle(delivery, lambda channel, tag: channel.basic_ack(tag))

    def again(self, delivery: Delivery) -> None:
        self._settle(delivery, lambda channel, tag: channel.basic_nack(tag, requeue=True))

    def park(self, delivery: Delivery) -> None:
        self._settle(delivery, lambda channel, tag: channel.basic_reject(tag, requeue=False))

    def idle(self, seconds: float) -> None:
        """What arrives meanwhile waits for `receive`."""
        with suppress(Unreachable):
            self._doing(lambda: self._connection.process_data_events(time_limit=seconds))

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._ready.clear()
        close_quietly(connection)

    def _settle(self, delivery: Delivery, act: Callable[[Channel, int], None]) -> None:
        """On a connection that is gone there is nothing to settle: the broker delivers the message again."""
        tag = delivery.tag
        assert isinstance(tag, _Tag)
        if self._connection is not None and tag.connection == id(self._connection):
            self._doing(lambda: act(self._channel, tag.number))

    def _doing(self, act: Callable[[], object]) -> None:
        try:
            self._open()
            act()
        except (AMQPError, OSError) as error:
            self.close()
            raise Unreachable(_said(error)) from error

    def _open(self) -> None:
        if self._connection is not None and self._connection.is_open:
            return
        self.close()
        self._connection = connect(self._url)
        self._channel = self._connection.channel()
        declare(self._channel)
        self._channel.basic_qos(prefetch_count=self._prefetch)
        self._channel.basic_consume(self.queue, self._on_message)

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        headers = properties.headers or {}
        self._ready.append(
            Delivery(
                identity=properties.message_id or "",
                headers={str(name): value for name, value in headers.items()},
                payload=body,
                tries=int(headers.get("x-delivery-count", 0)) + 1,
                tag=_Tag(id(self._connection), method.delivery_tag),
            )
        )


class AmqpBroker:
    """What operators ask (`bus.publishing.Broker`). A connection per question."""

    def __init__(self, url: str) -> None:
        self._url = url

    def depths(self) -> list[Depth]:
        def count(channel: Channel, name: str) -> int:
            return int(channel.queue_declare(name, passive=True).method.message_count)

        return self._asking(
            lambda _, channel: [Depth(queue, count(channel, queue), count(channel, dead(queue))) for queue in QUEUES]
        )

    def log_from(self, shard_seq: int) -> Iterator[Message]:
        connection = None
        try:
            connection = connect(self._url)
            channel = connection.channel()
            declare(channel)
            channel.basic_qos(prefetch_count=500)
            arguments = {"x-stream-offset": "first"}
            for method, properties, body in channel.consume(LOG, inactivity_timeout=LOG_IDLE_S, arguments=arguments):
                if method is None:
                    return
                message = message_from(properties.message_id or "", properties.headers or {}, body)
                channel.basic_ack(method.delivery_tag)
                if message.shard_seq >= shard_seq:
                    yield message
        except (AMQPError, OSError) as error:
            raise NotPublished(_said(error)) from error
        finally:
            close_quietly(connection)

    def dead_letters(self, queue: str, limit: int) -> list[tuple[str, str]]:
        """They go back where they were when the connection ends."""

        def look(_connection: Connection, channel: Channel) -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            while len(found) < limit:
                method, properties, body = channel.basic_get(dead(queue))
                if method is None:
                    break
                found.append((str(properties.message_id), body.decode(errors="replace")))
            return found

        return self._asking(look)

    def requeue(self, queue: str, limit: int) -> int:
        """Each is confirmed in its queue before it leaves the dead letters, without what the broker wrote on it."""

        def move(_connection: Connection, channel: Channel) -> int:
            channel.confirm_delivery()
            for number in range(limit):
                method, properties, body = channel.basic_get(dead(queue))
                if method is None:
                    return number
                own = {name: value for name, value in (properties.headers or {}).items() if not name.startswith("x-")}
                fresh = pika.BasicProperties(message_id=properties.message_id, headers=own, delivery_mode=2)
                channel.basic_publish("", queue, body, fresh, mandatory=True)
                channel.basic_ack(method.delivery_tag)
            return limit

        return self._asking(move)

    def close(self) -> None:
        """Nothing stays open."""

    def _asking(self, ask: Callable[[Connection, Channel], T]) -> T:
        connection = None
        try:
            connection = connect(self._url)
            channel = connection.channel()
            declare(channel)
            return ask(connection, channel)
        except (AMQPError, OSError) as error:
            raise NotPublished(_said(error)) from error
        finally:
            close_quietly(connection)


# ------------------------------------------------------------------------------------------------------------- topology


def declare(channel: Channel) -> None:
    """The exchanges, queues and bindings, unless they are there. Raises AMQPError when they are there with other terms."""
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    channel.exchange_declare(DEAD_EXCHANGE, "direct", durable=True)
    log = {
        "x-queue-type": "stream",
        "x-max-length-bytes": LOG_BYTES_MAX,
        "x-max-age": LOG_AGE_MAX,
        "x-stream-max-segment-size-bytes": LOG_SEGMENT_BYTES,
    }
    channel.queue_declare(LOG, durable=True, arguments=log)
    channel.queue_bind(LOG, EXCHANGE, "#")
    for queue, patterns in QUEUES.items():
        _declare_dead(channel, queue)
        terms = {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_EXCHANGE,
            "x-dead-letter-routing-key": queue,
            "x-max-length": QUEUE_MAX,
        }
        channel.queue_declare(queue, durable=True, arguments=terms)
        for pattern in patterns:
            channel.queue_bind(queue, EXCHANGE, pattern)


def _declare_dead(channel: Channel, queue: str) -> None:
    channel.queue_declare(dead(queue), durable=True, arguments={"x-queue-type": "quorum", "x-max-length": DEAD_MAX})
    channel.queue_bind(dead(queue), DEAD_EXCHANGE, queue)


def properties_of(identity: str, message: Message) -> Any:
    return pika.BasicProperties(
        message_id=identity, headers=message.headers, content_type="application/json", delivery_mode=2
    )


def connect(url: str, *, blocked_s: float = CONFIRM_WITHIN_S) -> Connection:
    """Raises AMQPError or OSError."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = HEARTBEAT_S
    parameters.blocked_connection_timeout = blocked_s
    parameters.socket_timeout = parameters.stack_timeout = CONNECT_WITHIN_S
    parameters.connection_attempts = 1
    return pika.BlockingConnection(parameters)


def close_quietly(connection: Connection) -> None:
    if connection is not None:
        with suppress(AMQPError, OSError):
            connection.close()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
