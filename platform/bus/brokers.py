"""Which message broker this house has: RabbitMQ where AMQP_URL names one, else Redis."""

from collections.abc import Mapping

from bus.amqp import AmqpBroker, AmqpPublisher, AmqpSubscription
from bus.consuming import Subscription
from bus.publishing import Broker, Publisher
from bus.redis_streams import RedisBroker, RedisPublisher, RedisSubscription


def publisher_from(environment: Mapping[str, str]) -> Publisher:
    amqp = environment.get("AMQP_URL")
    return AmqpPublisher(amqp) if amqp else RedisPublisher(environment["REDIS_URL"])


def subscribe_from(environment: Mapping[str, str], queue: str) -> Subscription:
    amqp = environment.get("AMQP_URL")
    return AmqpSubscription(amqp, queue) if amqp else RedisSubscription(environment["REDIS_URL"], queue)


def broker_from(environment: Mapping[str, str]) -> Broker:
    amqp = environment.get("AMQP_URL")
    return AmqpBroker(amqp) if amqp else RedisBroker(environment["REDIS_URL"])
