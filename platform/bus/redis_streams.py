"""The same bus over Redis streams, for houses without RabbitMQ: a stream per queue, read by one consumer group.

An acknowledged message leaves its stream, so that a stream's length is what waits. Redis may lose all of it: a mark says
whether it has, and the relay then publishes again what may have waited (consumers know what they have had).
"""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import redis
from msgspec.structs import replace

from bus.consuming import Delivery, Unreachable
from bus.publishing import LOG, QUEUES, Depth, Message, NotPublished, dead, message_from, queues_of

PREFIX = "bus:"
MARK = "bus:remembers"
QUEUE_MAX = 50_000
"""Messages in a queue, about 50 MB: a full Redis would refuse the engine's commands too."""
DEAD_MAX = 5_000
LOG_MAX = 50_000
LOG_AGE_MS = 7 * 86_400_000
PREFETCH = 32
CLAIM_AFTER_MS = 10_000
"""A consumer that has not settled a message for so long is taken for dead."""
PAGE = 500
HEADERS = ("account", "account_seq", "kind", "at")


def key(name: str) -> str:
    return f"{PREFIX}{name}"


class RedisPublisher:
    """One transaction per run: all of it is in all its streams, or none."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)

    def publish(self, messages: Sequence[Message]) -> None:
        oldest_ms = int(time.time() * 1000) - LOG_AGE_MS
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                for message in messages:
                    fields = fields_of(message)
                    pipeline.xadd(key(LOG), fields, maxlen=LOG_MAX, approximate=True)
                    for queue in queues_of(message.kind):
                        pipeline.xadd(key(queue), fields, maxlen=QUEUE_MAX, approximate=True)
                pipeline.xtrim(key(LOG), minid=oldest_ms, approximate=True)
                pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise NotPublished(_said(error)) from error

    def remembers(self) -> bool:
        try:
            return bool(self._client.exists(MARK))
        except (redis.RedisError, OSError) as error:
            raise NotPublished(_said(error)) from error

    def remember(self) -> None:
        try:
            self._client.set(MARK, "1")
        except (redis.RedisError, OSError) as error:
            raise NotPublished(_said(error)) from error

    def idle(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        self._client.close()


class RedisSubscription:
    """One consumer of a queue's group (`bus.consuming.Subscription`)."""

    def __init__(self, url: str, queue: str, *, prefetch: int = PREFETCH, claim_after_ms: int = CLAIM_AFTER_MS) -> None:
        self.queue = queue
        self._client = connect(url)
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._prefetch = prefetch
        self._claim_after_ms = claim_after_ms
        self._again: list[Delivery] = []
        self._claim_at = 0.0

    def receive(self, within_s: float) -> list[Delivery]:
        """What must be tried again, what dead consumers left, then what is new."""
        try:
            again, self._again = self._again, []
            if again:
                return again
            return self._claimed() or self._new(within_s)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise Unreachable(_said(error)) from error
            self._make_group()
            return []
        except (redis.RedisError, OSError) as error:
            raise Unreachable(_said(error)) from error

    def done(self, delivery: Delivery) -> None:
        self._leave(delivery, parked=False)

    def again(self, delivery: Delivery) -> None:
        """Ours still, and counted: claiming it once more is a delivery."""
        try:
            self._client.xclaim(key(self.queue), self.queue, self._name, 0, [str(delivery.tag)], justid=False)
        except (redis.RedisError, OSError) as error:
            raise Unreachable(_said(error)) from error
        self._again.append(replace(delivery, tries=delivery.tries + 1))

    def park(self, delivery: Delivery) -> None:
        self._leave(delivery, parked=True)

    def idle(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        """What is unsettled is claimed by the next consumer. The name is forgotten unless something hangs on it."""
        with suppress(redis.RedisError, OSError):
            pending = self._client.xpending_range(key(self.queue), self.queue, "-", "+", 1, self._name)
            if not pending:
                self._client.xgroup_delconsumer(key(self.queue), self.queue, self._name)
        self._client.close()

    def _leave(self, delivery: Delivery, *, parked: bool) -> None:
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                if parked:
                    fields: dict[Any, Any] = {
                        **{name: str(value) for name, value in delivery.headers.items()},
                        "id": delivery.identity,
                        "payload": delivery.payload,
                    }
                    pipeline.xadd(key(dead(self.queue)), fields, maxlen=DEAD_MAX, approximate=True)
                pipeline.xack(key(self.queue), self.queue, str(delivery.tag))
                pipeline.xdel(key(self.queue), str(delivery.tag))
                pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise Unreachable(_said(error)) from error

    def _new(self, within_s: float) -> list[Delivery]:
        found: Any = self._client.xreadgroup(
            self.queue,
            self._name,
            {key(self.queue): ">"},
            count=self._prefetch,
            block=max(int(within_s * 1000), 1),
        )
        return [_delivery(entry, fields, tries=1) for _, entries in found or () for entry, fields in entries]

    def _claimed(self) -> list[Delivery]:
        """Now and then: entries that some consumer took long ago and never settled."""
        if time.monotonic() < self._claim_at:
            return []
        self._claim_at = time.monotonic() + self._claim_after_ms / 2000
        stream, group = key(self.queue), self.queue
        claimed: Any = self._client.xautoclaim(
            stream, group, self._name, self._claim_after_ms, "0-0", count=self._prefetch
        )
        entries = [(entry, fields) for entry, fields in claimed[1] if fields]
        if not entries:
            return []
        self._claim_at = 0.0
        first, last = entries[0][0], entries[-1][0]
        pending: Any = self._client.xpending_range(stream, group, first, last, PAGE, self._name)
        counts = {one["message_id"]: int(one["times_delivered"]) for one in pending}
        return [_delivery(entry, fields, tries=counts.get(entry, 1)) for entry, fields in entries]

    def _make_group(self) -> None:
        """From the stream's beginning: what was published before its first consumer came is for it too."""
        try:
            self._client.xgroup_create(key(self.queue), self.queue, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise Unreachable(_said(error)) from error
        except (redis.RedisError, OSError) as error:
            raise Unreachable(_said(error)) from error


class RedisBroker:
    """What operators ask (`bus.publishing.Broker`)."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)

    def depths(self) -> list[Depth]:
        try:
            return [Depth(queue, self._length(queue), self._length(dead(queue))) for queue in QUEUES]
        except (redis.RedisError, OSError) as error:
            raise NotPublished(_said(error)) from error

    def log_from(self, shard_seq: int) -> Iterator[Message]:
        after = "-"
        while True:
            try:
                found: Any = self._client.xrange(key(LOG), min=after, count=PAGE)
            except (redis.RedisError, OSError) as error:
                raise NotPublished(_said(error)) from error
            for entry, fields in found:
                after = f"({entry.decode()}"
                message = _message(fields)
                if message.shard_seq >= shard_seq:
                    yield message
            if len(found) < PAGE:
                return

    def dead_letters(self, queue: str, limit: int) -> list[tuple[str, str]]:
        try:
            found: Any = self._client.xrange(key(dead(queue)), count=limit)
        except (redis.RedisError, OSError) as error:
            raise NotPublished(_said(error)) from error
        return [(_text(fields, b"id"), _text(fields, b"payload")) for _, fields in found]

    def requeue(self, queue: str, limit: int) -> int:
        try:
            found: Any = self._client.xrange(key(dead(queue)), count=limit)
            for entry, fields in found:
                with self._client.pipeline(transaction=True) as pipeline:
                    pipeline.xadd(key(queue), fields, maxlen=QUEUE_MAX, approximate=True)
                    pipeline.xdel(key(dead(queue)), entry)
                    pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise NotPublished(_said(error)) from error
        return len(found)

    def close(self) -> None:
        self._client.close()

    def _length(self, name: str) -> int:
        return int(str(self._client.xlen(key(name))))


def connect(url: str) -> "redis.Redis":
    client: redis.Redis = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2, retry=None)
    return client


def fields_of(message: Message) -> dict[Any, Any]:
    return {"id": message.id, **message.headers, "payload": message.payload}


def _message(fields: Mapping[bytes, bytes]) -> Message:
    return message_from(_text(fields, b"id"), _headers(fields), fields.get(b"payload", b""))


def _headers(fields: Mapping[bytes, bytes]) -> dict[str, object]:
    return {name: _text(fields, name.encode()) for name in HEADERS if name.encode() in fields}


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode(errors="replace")


def _delivery(entry: bytes, fields: Mapping[bytes, bytes], *, tries: int) -> Delivery:
    return Delivery(
        identity=_text(fields, b"id"),
        headers=_headers(fields),
        payload=fields.get(b"payload", b""),
        tries=tries,
        tag=entry.decode(),
    )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
