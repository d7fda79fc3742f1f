"""Both message brokers behind one shape, so that what must hold of the bus is asked of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import pika
import redis

from bus import brokers
from bus.amqp import connect
from bus.consuming import Subscription
from bus.publishing import DEAD_EXCHANGE, EXCHANGE, LOG, QUEUES, Broker, Message, Publisher, dead
from bus.redis_streams import PREFIX


@dataclass(frozen=True)
class Bus:
    """One broker, by the environment that leads to it."""

    name: str
    environment: Mapping[str, str]

    def publisher(self) -> Publisher:
        return brokers.publisher_from(self.environment)

    def broker(self) -> Broker:
        return brokers.broker_from(self.environment)

    def subscribe(self, queue: str) -> Subscription:
        return brokers.subscribe_from(self.environment, queue)


def emptied(environment: Mapping[str, str]) -> None:
    """Nothing of the bus is left in the broker."""
    if "AMQP_URL" not in environment:
        client: redis.Redis = redis.Redis.from_url(environment["REDIS_URL"])
        for key in client.scan_iter(f"{PREFIX}*"):
            client.delete(key)
        client.close()
        return
    connection = connect(environment["AMQP_URL"])
    channel = connection.channel()
    for queue in (LOG, *QUEUES, *(dead(queue) for queue in QUEUES)):
        channel.queue_delete(queue)
    for exchange in (EXCHANGE, DEAD_EXCHANGE):
        channel.exchange_delete(exchange)
    connection.close()


def message(seq: int, kind: str = "order.filled", *, account: int = 1, payload: bytes | None = None) -> Message:
    return Message(
        shard=0,
        shard_seq=seq,
        account=account,
        account_seq=seq,
        kind=kind,
        payload=b'{"n":%d}' % seq if payload is None else payload,
        at_us=1_700_000_000_000_000 + seq,
    )


def messages(numbers: Iterable[int], kind: str = "order.filled") -> list[Message]:
    return [message(number, kind) for number in numbers]


def put_raw(bus: Bus, queue: str, identity: str, payload: bytes) -> None:
    """Something in the queue that no relay has written."""
    if bus.name == "redis":
        redis.Redis.from_url(bus.environment["REDIS_URL"]).xadd(
            f"{PREFIX}{queue}", {"id": identity, "payload": payload}
        )
        return
    connection = connect(bus.environment["AMQP_URL"])
    publish = partial(connection.channel().basic_publish, "", queue, payload)
    publish(pika.BasicProperties(message_id=identity, delivery_mode=2))
    connection.close()
