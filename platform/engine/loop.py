"""The engine's connections to Redis: commands and quotes in, answers and events out, and a sign of life.

Nothing here is authoritative. When Redis is away nothing comes in and nobody is told; what was told into the void is asked
for again under its key. When Redis comes back empty, its stream has a new incarnation and is read from its beginning.
"""

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import redis
import structlog
from msgspec import Struct

from bus import names
from bus.codec import DecodeError, decode_command, decode_quote, encode
from bus.health import Pulse, beat
from engine.batch import StreamPosition
from engine.core import AccountEvent
from engine.driver import Arrived, Driver, Told
from engine.lease import OWNER
from engine.step import Ack, Forget, Nudge, Publish, Taken, Unreadable
from trading.answers import Answer
from trading.quotes import Quote

log = structlog.get_logger()

READ_COUNT = 256
READ_AHEAD_MAX = 512
"""Entries read from the stream and not yet decided; beyond it the stream itself is the queue."""
BLOCK_MS = 250
INCARNATION_CHECK_S = 0.25
REPLIES_MAX = 10_000
REPLIES_TTL_S = 600
RETRY_S = 0.2
TELL_S = 2.0
"""For telling one batch's answers. The deciding thread waits for it, and its lease must not run out meanwhile."""


def connect_redis(url: str, *, timeout_s: float = 5.0) -> "redis.Redis":
    """A client that gives up after a few seconds instead of hanging, and leaves repeating to its user."""
    client: redis.Redis = redis.Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=min(timeout_s, 2.0), retry=None
    )
    return client


class RedisSource:
    """The command stream and the quotes, read ahead by two threads. `take`, `quotes` and `seek` never block."""

    def __init__(self, url: str, *, shard: int) -> None:
        self._url = url
        self._stream = names.commands(shard)
        self._incarnation_key = names.incarnation(shard)
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._position: StreamPosition | None = None
        """Read up to here; None until the engine has said where to begin."""
        self._entries: deque[tuple[str, dict[bytes, bytes]]] = deque()
        self._fresh_quotes: dict[str, Quote] = {}
        self._stopped = threading.Event()
        self._wake: Callable[[], None] = _nothing
        self._nudge_inbox: Callable[[], None] = _nothing
        self._nudge_config: Callable[[], None] = _nothing

    def start(self, *, wake: Callable[[], None], inbox: Callable[[], None], config: Callable[[], None]) -> None:
        """Begin to read; call these when commands, inbox rows or a configuration have come."""
        self._wake, self._nudge_inbox, self._nudge_config = wake, inbox, config
        for work in (self._read_commands, self._read_quotes):
            threading.Thread(target=self._keep_trying, args=(work,), name=work.__name__, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        with self._room:
            self._room.notify_all()

    # For the deciding thread.

    def seek(self, position: StreamPosition) -> None:
        with self._room:
            self._position = position
            self._entries.clear()
            self._room.notify_all()

    def take(self, limit: int) -> Arrived:
        with self._room:
            taken = [self._entries.popleft() for _ in range(min(limit, len(self._entries)))]
            incarnation = self._position.incarnation if self._position else ""
            if taken:
                self._room.notify_all()
        return Arrived([read_entry(entry_id, fields, incarnation) for entry_id, fields in taken], incarnation)

    def quotes(self) -> Sequence[Quote]:
        if not self._fresh_quotes:
            return ()
        with self._lock:
            found = list(self._fresh_quotes.values())
            self._fresh_quotes.clear()
        return found

    # ---------------------------------------------------------------------------------------------------------- threads

    def _keep_trying(self, work: "Callable[[redis.Redis], None]") -> None:
        """Redis may go and come back as often as it likes."""
        told = ""
        while not self._stopped.is_set():
            try:
                with contextlib.closing(connect_redis(self._url)) as client:
                    work(client)
            except redis.RedisError as error:
                if str(error) != told:
                    log.warning("redis_away", work=work.__name__, error=str(error))
                told = str(error)
                self._stopped.wait(RETRY_S)

    def _read_commands(self, client: "redis.Redis") -> None:
        checked_at = 0.0
        while not self._stopped.is_set():
            position = self._await_room()
            if position is None:
                return
            if time.monotonic() - checked_at > INCARNATION_CHECK_S:
                position = self._settle_incarnation(client, position)
                checked_at = time.monotonic()
            reply: Any = client.xread({self._stream: position.id}, count=READ_COUNT, block=BLOCK_MS)
            for _, entries in reply or ():
                self._add(position, entries)

    def _await_room(self) -> StreamPosition | None:
        with self._room:
            while self._position is None or len(self._entries) >= READ_AHEAD_MAX:
                if self._stopped.is_set():
                    return None
                self._room.wait(1.0)
            return self._position

    def _settle_incarnation(self, client: "redis.Redis", position: StreamPosition) -> StreamPosition:
        """A stream that lost its memory counts from the beginning again; keys keep commands from being done twice."""
        client.set(self._incarnation_key, secrets.token_hex(8), nx=True)
        found: Any = client.get(self._incarnation_key)
        incarnation = found.decode() if found else ""
        if incarnation == position.incarnation:
            return position
        begun = StreamPosition(incarnation, "0-0")
        with self._room:
            if self._position is not position:
                return self._position or begun
            log.info("stream_incarnation", found=incarnation, was=position.incarnation)
            self._position = begun
            self._entries.clear()
        return begun

    def _add(self, position: StreamPosition, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Entries that were read before the engine looked elsewhere are dropped: they will be read again."""
        with self._room:
            if self._position is not position:
                return
            found = [(entry_id.decode(), fields) for entry_id, fields in entries]
            self._entries.extend(found)
            self._position = StreamPosition(position.incarnation, found[-1][0])
        self._wake()

    def _read_quotes(self, client: Any) -> None:
        with contextlib.closing(client.pubsub(ignore_subscribe_messages=True)) as pubsub:
            pubsub.subscribe(names.QUOTES, names.NUDGE_ENGINE, names.CONFIG)
            self._take_quotes(newest_quotes(client))
            while not self._stopped.is_set():
                message: Any = pubsub.get_message(timeout=1.0)
                if message is not None:
                    self._hear(message["channel"].decode(), message["data"])

    def _hear(self, channel: str, data: bytes) -> None:
        if channel == names.QUOTES:
            self._take_quotes([data])
        elif channel == names.NUDGE_ENGINE:
            self._nudge_inbox()
        else:
            self._nudge_config()

    def _take_quotes(self, found: "Iterator[bytes] | list[bytes]") -> None:
        """Newest per symbol; a quote does not wake the engine, it is there when a command needs it."""
        for data in found:
            try:
                quote = decode_quote(data)
            except DecodeError as error:
                log.warning("unreadable_quote", error=str(error))
                continue
            with self._lock:
                self._fresh_quotes[quote.symbol] = quote


def newest_quotes(client: "redis.Redis") -> Iterator[bytes]:
    """What `quote:{symbol}` hashes hold: for a start in the middle of the day."""
    keys: Any = client.scan_iter(match=names.quote("*"), count=500)
    for key in keys:
        found: Any = client.hget(key, "quote")
        if found:
            yield found


class _Addressed(Struct, frozen=True):
    """As much as an answer needs, of an entry that is no command."""

    id: str = ""
    reply_to: str = ""


def read_entry(entry_id: str, fields: dict[bytes, bytes], incarnation: str) -> Taken | Unreadable:
    """The command of a stream entry, or what is wrong with it."""
    raw = fields.get(b"c", b"null")
    try:
        return Taken(decode_command(raw), entry_id)
    except DecodeError as error:
        return _unreadable(raw, str(error), entry_id, incarnation)


def _unreadable(raw: bytes, error: str, entry_id: str, incarnation: str) -> Unreadable:
    addressed = _Addressed()
    try:
        addressed = msgspec.json.decode(raw, type=_Addressed)
        shown = raw
    except DecodeError:
        shown = encode(raw.decode(errors="replace"))
    return Unreadable(
        command_id=addressed.id or f"stream:{incarnation}:{entry_id}",
        raw=shown,
        error=f"not a command: {error}",
        stream_id=entry_id,
        reply_to=addressed.reply_to,
    )


class RedisTell:
    """Tells after the commit, one round trip per batch. What Redis cannot take is counted and left untold."""

    def __init__(self, url: str, *, shard: int) -> None:
        self.untold = 0
        self._client = connect_redis(url, timeout_s=TELL_S)
        self._shard = shard

    def tell(self, told: Sequence[Told]) -> None:
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for one in told:
                    self._add(pipeline, one)
                pipeline.execute()
        except redis.RedisError as error:
            self.untold += len(told)
            log.warning("untold", messages=len(told), error=str(error))

    def _add(self, pipeline: Any, told: Told) -> None:
        match told:
            case Ack():
                for client, answers in _by_client(told.answers).items():
                    key = names.replies(client)
                    pipeline.xadd(key, {"a": encode(answers)}, maxlen=REPLIES_MAX, approximate=True)
                    pipeline.expire(key, REPLIES_TTL_S)
            case Nudge():
                for lp in told.lps:
                    pipeline.publish(names.nudge_lp(lp), b"")
            case Publish():
                pipeline.publish(names.events(self._shard), encode([_shown(event) for event in told.events]))
            case Forget():
                if told.position.incarnation:
                    pipeline.xtrim(names.commands(self._shard), minid=_after(told.position.id), approximate=False)

    def close(self) -> None:
        self._client.close()


class _Shown(Struct, frozen=True):
    account: int
    seq: int
    kind: str
    payload: msgspec.Raw
    at_us: int


def _shown(event: AccountEvent) -> _Shown:
    return _Shown(event.account, event.seq, event.kind, msgspec.Raw(event.payload), event.at_us)


def _by_client(answers: list[tuple[str, Answer]]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for client, answer in answers:
        found.setdefault(client, []).append(answer)
    return found


def _after(entry_id: str) -> str:
    """The smallest id above this one."""
    milliseconds, _, number = entry_id.partition("-")
    return f"{milliseconds}-{int(number or 0) + 1}"


class Heart(Pulse):
    """Shows about every second that the process lives, and how it is. Its own thread: a long recovery is not death.

    `health:engine` is the word of whoever owns the shard. An engine that stands by says so under `health:engine-NAME`.
    """

    def __init__(self, url: str, driver: Driver, tell: RedisTell) -> None:
        super().__init__(url, self._tell_all, timeout_s=5.0)
        self._driver = driver
        self._tell = tell
        self._counted = (time.monotonic(), 0)

    def _tell_all(self, client: "redis.Redis") -> None:
        condition = self.condition()
        for process in self.speaks_as():
            beat(client, process, *condition)

    def speaks_as(self) -> tuple[str, ...]:
        """Whose place in the table of processes this is. The engine's own is the owner's while somebody else is that."""
        driver = self._driver
        place = names.engine(driver.name)
        if driver.is_owner:
            return (names.OWNER,) if driver.name == OWNER else (names.OWNER, place)
        return (names.OWNER,) if driver.name == OWNER and not driver.is_standby else (place,)

    def condition(self) -> tuple[str, dict[str, object]]:
        """State in a word, and the figures behind it."""
        driver = self._driver
        state = _state(driver)
        (then, before), now = self._counted, time.monotonic()
        self._counted = (now, driver.commands)
        latencies = sorted(driver.recent_latencies_s())
        return state, {
            "name": driver.name,
            "epoch": driver.step.epoch,
            "seq": driver.seq,
            "positions": len(driver.step.state.positions),
            "batch_ms_p50": _percentile_ms(latencies, 0.50),
            "batch_ms_p99": _percentile_ms(latencies, 0.99),
            "commands_per_s": round((driver.commands - before) / max(now - then, 0.001), 1),
            "untold": self._tell.untold,
            "problem": driver.problem,
        }


def _state(driver: Driver) -> str:
    if driver.is_halted:
        return "halted"
    if driver.is_standby:
        return "standby" if driver.is_ready_to_take_over else "waiting"
    return "waiting" if driver.problem else "up"


def _percentile_ms(ordered_s: list[float], part: float) -> float:
    return round(ordered_s[min(int(len(ordered_s) * part), len(ordered_s) - 1)] * 1000, 2) if ordered_s else 0.0


def _nothing() -> None:
    """Nobody listens yet."""
