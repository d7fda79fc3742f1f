"""What RabbitMQ and Redis streams both promise: confirmed is kept, in order, delivered until settled, counted, replayable."""

import os

import pytest

from broker.embedded.rabbitmq import RunningRabbit
from bus.consuming import Delivery, Subscription
from bus.publishing import LOG, QUEUES, Message, NotPublished, Unreadable, Unroutable, fits, message_from, queues_of
from tests.support.buses import Bus, emptied, message, messages, put_raw
from tests.waiting import eventually


def take(subscription: Subscription, count: int) -> list[Delivery]:
    """The next deliveries, unsettled."""
    taken: list[Delivery] = []

    def look() -> bool:
        taken.extend(subscription.receive(0.05))
        return len(taken) >= count

    eventually(look)
    return taken


def read(delivery: Delivery) -> Message:
    return message_from(delivery.identity, delivery.headers, delivery.payload)


def test_what_is_confirmed_is_delivered_in_order_with_all_it_had(event_bus: Bus) -> None:
    publisher, subscription = event_bus.publisher(), event_bus.subscribe("notifications")
    sent = messages(range(1, 301))
    publisher.publish(sent[:200])
    publisher.publish(sent[200:])
    got: list[Message] = []
    while len(got) < 300:
        for delivery in take(subscription, 1):
            got.append(read(delivery))
            subscription.done(delivery)
    assert got == sent
    assert subscription.receive(0.05) == []
    subscription.close()
    publisher.close()


def test_every_kind_goes_to_its_queues_and_all_to_the_log(event_bus: Bus) -> None:
    publisher, broker = event_bus.publisher(), event_bus.broker()
    kinds = ["order.accepted", "order.filled", "position.closed", "margin.call", "account.balance", "account.opened"]
    sent = [message(seq, kind) for seq, kind in enumerate(kinds, 1)]
    publisher.publish(sent)
    wanted = {queue: sum(queue in queues_of(kind) for kind in kinds) for queue in QUEUES}
    assert wanted == {"orders": 2, "executions": 2, "notifications": 3}
    eventually(lambda: {depth.queue: depth.waiting for depth in broker.depths()} == wanted)
    assert list(broker.log_from(0)) == sent
    assert list(broker.log_from(4)) == sent[3:]
    assert list(broker.log_from(0)) == sent, "reading takes nothing away"
    publisher.close()
    broker.close()


def test_what_a_consumer_leaves_unsettled_is_delivered_to_the_next(event_bus: Bus) -> None:
    publisher, first = event_bus.publisher(), event_bus.subscribe("orders")
    publisher.publish(messages(range(1, 4)))
    [one, *_] = take(first, 3)
    first.done(one)
    first.close()
    second = again_at_once(event_bus, "orders")
    assert sorted(read(delivery).shard_seq for delivery in take(second, 2)) == [2, 3]
    second.close()
    publisher.close()


def again_at_once(event_bus: Bus, queue: str) -> Subscription:
    """A consumer that does not wait to take a dead one's messages."""
    if event_bus.name == "amqp":
        return event_bus.subscribe(queue)
    from bus.redis_streams import RedisSubscription

    again: Subscription = RedisSubscription(event_bus.environment["REDIS_URL"], queue, claim_after_ms=1)
    return again


def test_what_is_put_back_comes_again_counted_and_what_is_parked_is_a_dead_letter(event_bus: Bus) -> None:
    publisher, subscription, broker = event_bus.publisher(), event_bus.subscribe("orders"), event_bus.broker()
    publisher.publish(messages([1]))
    for tries in (1, 2, 3):
        [delivery] = take(subscription, 1)
        assert (delivery.tries, read(delivery).shard_seq) == (tries, 1)
        (subscription.again if tries < 3 else subscription.park)(delivery)
    eventually(lambda: [(d.waiting, d.dead) for d in broker.depths() if d.queue == "orders"] == [(0, 1)])
    assert broker.dead_letters("orders", 10) == [("0:1", '{"n":1}')]
    assert broker.requeue("orders", 10) == 1
    [delivery] = take(subscription, 1)
    assert (delivery.tries, read(delivery)) == (1, message(1))
    subscription.done(delivery)
    eventually(lambda: [(d.waiting, d.dead) for d in broker.depths() if d.queue == "orders"] == [(0, 0)])
    subscription.close()
    publisher.close()


def test_what_is_none_of_ours_can_be_told(event_bus: Bus) -> None:
    event_bus.publisher().publish(messages([1], "account.opened"))
    put_raw(event_bus, "orders", "nonsense", b"\xff{")
    subscription = event_bus.subscribe("orders")
    [delivery] = take(subscription, 1)
    with pytest.raises(Unreadable):
        read(delivery)
    subscription.park(delivery)
    subscription.close()


def test_a_message_without_a_queue_is_not_published_and_the_next_try_heals_it(rabbitmq: RunningRabbit) -> None:
    from bus.amqp import connect

    event_bus = Bus("amqp", {"AMQP_URL": rabbitmq.url})
    emptied(event_bus.environment)
    publisher = event_bus.publisher()
    publisher.publish(messages([1]))
    connection = connect(rabbitmq.url)
    connection.channel().queue_unbind(LOG, "tribook.events", "#")
    with pytest.raises(Unroutable, match=r"account\.opened"):
        publisher.publish([message(2), message(3, "account.opened"), message(4)])
    publisher.publish([message(2), message(3, "account.opened"), message(4)])
    assert [found.shard_seq for found in event_bus.broker().log_from(0)] == [1, 2, 3, 4]
    connection.close()
    publisher.close()


def test_a_broker_that_is_not_there_is_said_so() -> None:
    nowhere = {"AMQP_URL": "amqp://tribook:x@127.0.0.1:1/tribook", "REDIS_URL": "unix:///nowhere/redis.sock"}
    for environment in (nowhere, {"REDIS_URL": nowhere["REDIS_URL"]}):
        event_bus = Bus("nowhere", environment)
        with pytest.raises(NotPublished):
            event_bus.publisher().publish(messages([1]))
        with pytest.raises(NotPublished):
            event_bus.broker().depths()
    assert os.environ["REDIS_URL"] != nowhere["REDIS_URL"]


def test_kinds_and_patterns() -> None:
    assert fits("order.*", "order.filled")
    assert not fits("order.*", "orders.filled")
    assert not fits("order.filled", "order.filled.again")
