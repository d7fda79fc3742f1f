"""What keeps the hub fed and honest: one Redis subscription, the configuration, and the regular looks at every client."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import redis
import redis.asyncio
import structlog
from django.db import Error as DatabaseError
from redis.exceptions import RedisError

from apps.streaming import queries
from apps.streaming.client import Client
from apps.streaming.hub import Hub
from apps.streaming.limits import LIFE_MAX_US
from apps.streaming.protocol import Close
from apps.streaming.resume import AccountEvent
from apps.streaming.storage import in_database
from bus import names
from bus.clock import Clock
from bus.codec import DecodeError, decode_quote
from bus.health import beat

SHARD = 0
RETRY_AFTER_S = 0.5
QUIET_POLL_S = 5.0
BEAT_EVERY_S = 1.0
RECHECK_EVERY_S = 2.0
"""A revoked token, a logout or a disabled user closes its sockets within this and one query."""
CONFIG_EVERY_S = 30.0
PROCESS = "stream"

log = structlog.get_logger(__name__)
_events = msgspec.json.Decoder(list[AccountEvent])


class Feeds:
    """The tasks beside the clients' own. Each survives a lost Redis or PostgreSQL; anything else is a bug and ends us."""

    def __init__(self, hub: Hub, *, redis_url: str, now_us: Clock) -> None:
        self.hub = hub
        self.broken_messages = 0
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=QUIET_POLL_S * 2, socket_connect_timeout=2, health_check_interval=10
        )
        self._health = redis.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._now_us = now_us
        self._config_wanted = asyncio.Event()
        self._handlers: dict[bytes, Callable[[bytes], None]] = {
            names.QUOTES.encode(): self._hear_quote,
            names.events(SHARD).encode(): self._hear_events,
            names.CONFIG.encode(): self._hear_config,
        }

    async def run(self) -> None:
        """Until cancelled. Raises the first exception that is not an outage."""
        await asyncio.gather(self._listen(), self._configure(), self._recheck(), self._beat())

    # ---------------------------------------------------------------------------------------------------------- Redis

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                log.warning("subscription_lost", error=str(error))
            with suppress(RedisError, OSError):
                await self._redis.connection_pool.disconnect()
            await asyncio.sleep(RETRY_AFTER_S)

    async def _listen_once(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(*self._handlers)
            await self._load_quotes()
            self._config_wanted.set()
            self.hub.doubt()
            while True:
                message = await subscription.get_message(timeout=QUIET_POLL_S)
                if message is not None:
                    self._dispatch(message)

    def _dispatch(self, message: dict[str, Any]) -> None:
        try:
            self._handlers[message["channel"]](message["data"])
        except DecodeError as error:
            self.broken_messages += 1
            log.error("message_broken", channel=message["channel"].decode(), error=str(error))
            self.hub.doubt()

    def _hear_quote(self, data: bytes) -> None:
        self.hub.quote(decode_quote(data))

    def _hear_events(self, data: bytes) -> None:
        self.hub.events(_events.decode(data))

    def _hear_config(self, data: bytes) -> None:
        log.info("configuration_published", version=data.decode(errors="replace"))
        self._config_wanted.set()

    async def _load_quotes(self) -> None:
        async for key in self._redis.scan_iter(match=names.quote("*"), count=500):
            text = await self._redis.hget(key, "quote")
            if text is not None:
                self._take_stored(key, text)

    def _take_stored(self, key: bytes, text: bytes | str) -> None:
        """The quote that is kept under this key. Raises RedisError when it is another key's: then the connection is not in step
        with its questions, and must go."""
        try:
            quote = decode_quote(text)
        except DecodeError as error:
            self.broken_messages += 1
            log.error("quote_broken", key=key.decode(errors="replace"), error=str(error))
            return
        if names.quote(quote.symbol).encode() != key:
            raise RedisError(f"asked for {key!r}, answered with {quote.symbol}")
        self.hub.stored_quote(quote)

    # ------------------------------------------------------------------------------------------------------ PostgreSQL

    async def _configure(self) -> None:
        """Read the newest configuration when told to, and now and then in case nobody was heard telling."""
        while True:
            try:
                config = await in_database(queries.newest_config)
                if config is not None and (self.hub.config is None or config.version != self.hub.config.version):
                    self.hub.configure(config)
            except DatabaseError as error:
                log.warning("configuration_unread", error=str(error))
            wait_s = CONFIG_EVERY_S if self.hub.config else RETRY_AFTER_S
            try:
                await asyncio.wait_for(self._config_wanted.wait(), wait_s)
            except TimeoutError:
                continue
            self._config_wanted.clear()

    async def _recheck(self) -> None:
        """Look again at everybody's rights: close who lost them, and follow a change of group or class."""
        while True:
            await asyncio.sleep(RECHECK_EVERY_S)
            clients = [client for client in self.hub.clients if client.credential is not None]
            if not clients:
                continue
            try:
                good = await in_database(queries.identities, {c.credential for c in clients if c.credential})
            except DatabaseError as error:
                log.warning("rights_unread", error=str(error))
                continue
            for client in clients:
                self._apply_rights(client, good)

    def _apply_rights(self, client: Client, good: dict[Any, Any]) -> None:
        identity = good.get(client.credential)
        if identity is None:
            client.finish(Close.NOT_AUTHENTICATED, "the login was revoked")
        elif any(account not in identity.accounts for account, _ in client.followers):
            client.finish(Close.FORBIDDEN, "an account that was followed is no longer yours")
        elif client in self.hub.clients:
            self.hub.recognise(client, identity)

    # ----------------------------------------------------------------------------------------------------- every second

    async def _beat(self) -> None:
        while True:
            now_us = self._now_us()
            for client in list(self.hub.clients):
                if client.is_stalled(now_us):
                    client.cut(Close.LIMIT, "too slow")
                elif now_us - client.connected_us > LIFE_MAX_US:
                    client.finish(Close.NOT_AUTHENTICATED, "log in again")
            try:
                await self._tell_health()
            except (RedisError, OSError) as error:
                log.warning("health_untold", error=str(error))
            await asyncio.sleep(BEAT_EVERY_S)

    async def _tell_health(self) -> None:
        detail = {"clients": len(self.hub.clients), "sends": self.hub.sends, "conflated": self.hub.conflated}
        state = "up" if self.hub.config else "waiting for a configuration"
        await asyncio.to_thread(beat, self._health, PROCESS, state, detail)
