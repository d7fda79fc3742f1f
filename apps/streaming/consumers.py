"""The sockets: each message is parsed, answered from the database or the hub, and that is all.

A client logs in with its first message, or with a browser's session at the handshake. Rights are read again at every
subscription.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import AnonymousUser
from django.db import Error as DatabaseError

from apps.accounts.models import User
from apps.accounts.tokens import Refused, user_from_access_token
from apps.streaming import protocol, queries
from apps.streaming.client import Client
from apps.streaming.identity import Credential
from apps.streaming.limits import MESSAGES_BURST, MESSAGES_PER_S, TokenBucket
from apps.streaming.protocol import Channel, Close, Tag
from apps.streaming.resume import AccountEvent, Follower
from apps.streaming.runtime import runtime
from apps.streaming.storage import in_database
from trading.refusals import Refusal
from trading.views import rfc3339

log = structlog.get_logger(__name__)


class StreamConsumer(AsyncWebsocketConsumer):
    """`/v1/stream`: everything over one socket."""

    channel_layer_alias = "none"
    """No channel layer: nothing is fanned out through one, and a mailbox per socket would be paid for nothing."""

    async def connect(self) -> None:
        runtime.start()
        await self.accept()
        self.client = Client(now_us=runtime.now_us, business_clock=runtime.business_clock)
        self._bucket = TokenBucket(MESSAGES_PER_S, MESSAGES_BURST, runtime.now_us())
        loop = asyncio.get_running_loop()
        self._too_late = loop.call_later(protocol.AUTH_WITHIN_S, self.client.finish, Close.AUTH_TIMEOUT, "no login")
        if runtime.hub.has_room():
            runtime.hub.add(self.client)
        else:
            self.client.finish(Close.LIMIT, "too many connections")
        self._serving = loop.create_task(self._serve())
        runtime.serving.add(self._serving)
        self._serving.add_done_callback(runtime.serving.discard)
        user = self.scope.get("user") or AnonymousUser()
        if user.is_authenticated and self.client.close_code is None:
            await self._guarded(self._log_in(None, user, self.scope["session"].session_key))

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 - the library's signature
        runtime.hub.remove(self.client)
        self._too_late.cancel()
        self._serving.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        if self.client.close_code is not None:
            return
        if not self._bucket.take(runtime.now_us()):
            self._refuse(None, Refusal.RATE_LIMITED, Close.LIMIT)
            return
        try:
            request = protocol.parse(text_data)
        except protocol.BadMessage as error:
            self._refuse(None, Refusal.INVALID_REQUEST, Close.BAD_MESSAGE, str(error))
            return
        if self.client.credential is None and not isinstance(request, protocol.Auth):
            self._refuse(request.id, Refusal.NOT_AUTHENTICATED, Close.NOT_AUTHENTICATED)
            return
        await self._guarded(self._obey(request))

    async def _obey(self, request: protocol.AnyRequest) -> None:
        match request:
            case protocol.Auth():
                await self._log_in_with_token(request)
            case protocol.Subscribe():
                await self._subscribe(request)
            case protocol.Unsubscribe():
                self._unsubscribe(request)
            case protocol.Ping():
                self.client.say(protocol.pong(request.id, rfc3339(runtime.business_clock())))

    # ----------------------------------------------------------------------------------------------------------- login

    async def _log_in_with_token(self, request: protocol.Auth) -> None:
        try:
            user = await in_database(user_from_access_token, request.token)
        except Refused as refused:
            self._refuse(request.id, refused.code, Close.NOT_AUTHENTICATED)
            return
        await self._log_in(request.id, user, None)

    async def _log_in(self, tag: Tag, user: User | AnonymousUser, session_key: str | None) -> None:
        credential = queries.credential_of(user, session_key)
        known = self.client.credential
        if credential is None or (known is not None and known.user_id != credential.user_id):
            self._refuse(tag, Refusal.NOT_AUTHENTICATED, Close.NOT_AUTHENTICATED)
            return
        if known is None and not runtime.hub.has_room(credential.user_id):
            self._refuse(tag, Refusal.RATE_LIMITED, Close.LIMIT, "too many connections of one user")
            return
        if not await self._recognise(tag, credential):
            return
        self._too_late.cancel()
        self.client.credential = credential
        identity = self.client.identity
        assert identity is not None
        self.client.say(protocol.authenticated(tag, sorted(identity.accounts)))
        if known is None:
            await self._logged_in()

    async def _logged_in(self) -> None:
        """What this socket begins with."""

    async def _recognise(self, tag: Tag, credential: Credential) -> bool:
        """Read the rights again. False, and the socket is closed, when there are none any more."""
        identity = (await in_database(queries.identities, {credential})).get(credential)
        if identity is None:
            self._refuse(tag, Refusal.TOKEN_EXPIRED, Close.NOT_AUTHENTICATED)
            return False
        runtime.hub.recognise(self.client, identity)
        return True

    # --------------------------------------------------------------------------------------------------- subscriptions

    async def _subscribe(self, request: protocol.Subscribe) -> None:
        channel = protocol.channel_named(request.channel)
        if channel is None:
            self.client.say(protocol.error(request.id, protocol.UNKNOWN_CHANNEL, request.channel))
            return
        assert self.client.credential is not None
        if not await self._recognise(request.id, self.client.credential):
            return
        if request.account is not None and not self._owns(request.account):
            self.client.say(protocol.error(request.id, Refusal.UNKNOWN_ACCOUNT))
        elif channel is Channel.QUOTES:
            self._subscribe_quotes(request)
        else:
            await self._subscribe_private(request, channel)

    def _subscribe_quotes(self, request: protocol.Subscribe) -> None:
        client, hub = self.client, runtime.hub
        known = [symbol for symbol in dict.fromkeys(request.symbols) if hub.knows(symbol)]
        if not request.symbols:
            client.say(protocol.error(request.id, Refusal.INVALID_REQUEST, "name at least one symbol"))
            return
        if len(client.slots) + sum(symbol not in client.slots for symbol in known) > protocol.SYMBOLS_PER_CLIENT_MAX:
            client.say(protocol.error(request.id, protocol.SUBSCRIPTION_LIMIT))
            return
        assert client.identity is not None
        client.pricing_account = request.account if request.account is not None else client.pricing_account
        hub.recognise(client, client.identity)
        tier_us = client.identity.interval_us(client.identity.pricing_account(client.pricing_account))
        asked_us = request.conflate_ms * 1000
        rejected = [symbol for symbol in dict.fromkeys(request.symbols) if symbol not in known]
        client.say(protocol.quotes_ack(request.id, known, rejected, max(tier_us, asked_us) // 1000))
        for symbol in known:
            hub.watch(client, symbol, asked_us=asked_us, from_newest=request.snapshot)

    async def _subscribe_private(self, request: protocol.Subscribe, channel: Channel) -> None:
        client = self.client
        assert client.identity is not None
        account = request.account if request.account is not None else _only(client.identity.accounts)
        if account is None:
            client.say(protocol.error(request.id, Refusal.INVALID_REQUEST, "name the account"))
            return
        if (account, channel) not in client.followers and len(client.followers) >= protocol.PRIVATE_SUBSCRIPTIONS_MAX:
            client.say(protocol.error(request.id, protocol.SUBSCRIPTION_LIMIT))
            return
        newest = await in_database(queries.newest_event, account)
        since = newest if request.since is None else request.since
        if since > newest:
            client.say(protocol.error(request.id, protocol.GAP, f"the newest event is {newest}"))
            return
        client.say(protocol.private_ack(request.id, channel, account, since))
        runtime.hub.follow(client, Follower(account, channel, since))

    def _unsubscribe(self, request: protocol.Unsubscribe) -> None:
        client, hub = self.client, runtime.hub
        channel = protocol.channel_named(request.channel)
        if channel is None:
            client.say(protocol.error(request.id, protocol.UNKNOWN_CHANNEL, request.channel))
            return
        symbols = [s for s in request.symbols or client.slots.symbols if s in client.slots]
        if channel is Channel.QUOTES:
            for symbol in symbols:
                hub.unwatch(client, symbol)
        else:
            symbols = []
            for account, followed in list(client.followers):
                if followed is channel and request.account in (None, account):
                    hub.unfollow(client, account, channel)
        client.say(protocol.unsubscribed(request.id, channel, symbols))

    def _owns(self, account: int) -> bool:
        return self.client.identity is not None and account in self.client.identity.accounts

    # --------------------------------------------------------------------------------------------------------- sending

    async def _serve(self) -> None:
        client = self.client
        try:
            await client.run(self._send_text, _events_after)
        except OSError:
            return  # the connection is gone; `disconnect` follows
        except DatabaseError as error:
            log.warning("events_unread", error=str(error))
            client.finish(Close.RESTART, "try again")
        runtime.hub.mute(client)
        log.info("client_closed", code=client.close_code, reason=client.close_reason)
        with suppress(OSError):
            # However long a slow client takes to read so far: the server's own pings give up on a dead one.
            await self.close(client.close_code, client.close_reason)

    async def _send_text(self, text: str) -> None:
        await self.base_send({"type": "websocket.send", "text": text})

    def _refuse(self, tag: Tag, refusal: Refusal, code: Close, detail: str = "") -> None:
        self.client.say(protocol.error(tag, refusal, detail))
        self.client.finish(code, detail[:100] or refusal.value)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except DatabaseError as error:
            log.warning("database_unreachable", error=str(error))
            self.client.finish(Close.RESTART, "try again")


class MarketDataConsumer(StreamConsumer):
    """`/v1/market-data/{symbol}`: the same protocol, subscribed to one symbol's quotes from the login on."""

    async def _logged_in(self) -> None:
        symbol = self.scope["url_route"]["kwargs"]["symbol"]
        if runtime.hub.knows(symbol):
            self._subscribe_quotes(protocol.Subscribe(channel=Channel.QUOTES, symbols=(symbol,)))
        else:
            self._refuse(None, Refusal.UNKNOWN_SYMBOL, Close.BAD_MESSAGE)


class NotHere(AsyncWebsocketConsumer):
    """Any other address: refused before the handshake is accepted."""

    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.close()


async def _events_after(account: int, since: int) -> list[AccountEvent]:
    return await in_database(queries.events_after, account, since)


def _only(accounts: dict[int, Any]) -> int | None:
    return next(iter(accounts)) if len(accounts) == 1 else None
