"""The simulated providers as a process: `python -m lp_adapters.simulators.lpsim`.

Environment: REDIS_URL, TRIBOOK_DATA, LPSIM_PASSWORD, LPSIM_PORT_BASE. Prices arrive on `lpsim:feed:{lp}`, misbehaviour
is read at `lpsim:control:{lp}` for each order, positions are shown in `lpsim:positions:{lp}`. Redis may come and go:
sessions and orders do not depend on it, only prices do.
"""

import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import quickfix as fix
import redis

from bus.health import beat
from lp_adapters.simulators.counterparty import Counterparty, guarded
from lp_adapters.simulators.later import Later
from lp_adapters.simulators.misbehaviour import ControlRefused, Misbehaviour, parse
from lp_adapters.simulators.profiles import PROFILES, control_key, feed_channel, positions_key
from lp_adapters.simulators.sessions import SettingsRefused, data_folder, session_text
from lp_adapters.simulators.ticks import Tick

logger = logging.getLogger("tribook.lpsim")

EXIT_BAD_SETTINGS = 2
BEAT_S = 1.0
RETRY_S = 0.5
LOGOUT_WITHIN_S = 2.0
REDIS_TIMEOUT_S = 1.0

_ticks = msgspec.json.Decoder(list[Tick])


def main() -> int:
    """Run until told to stop. Ends the process itself: taking QuickFIX's acceptor apart can crash it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        connection = _redis(os.environ.get("REDIS_URL", ""))
        changed = threading.Event()
        providers = _providers(data_folder(os.environ), connection, changed)
    except (SettingsRefused, fix.ConfigError, fix.RuntimeError, msgspec.MsgspecError, OSError) as error:
        sys.stderr.write(f"lpsim cannot start: {error}\n")
        return EXIT_BAD_SETTINGS
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _in_thread("feed", partial(listen, connection, providers))
    _in_thread("health", partial(show_health, connection, providers, changed))
    logger.info("lpsim_up providers=%s", ",".join(providers))
    stop.wait()
    _log_out(providers)
    logging.shutdown()
    os._exit(0)


def _redis(url: str) -> "redis.Redis":
    if not url:
        raise SettingsRefused("REDIS_URL is not set: prices come through Redis.")
    try:
        return redis.Redis.from_url(url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)
    except ValueError as error:
        raise SettingsRefused(f"REDIS_URL cannot be used: {error}.") from error


def _providers(folder: Path, connection: "redis.Redis", changed: threading.Event) -> dict[str, Counterparty]:
    """Start every provider. Raises SettingsRefused, and what QuickFIX raises when a port is taken."""
    _own(folder)
    later = Later()
    _in_thread("later", later.run)
    providers = {
        name: Counterparty(
            profile,
            session_text(name, folder, os.environ),
            folder,
            later=later,
            ordered=partial(misbehaviour_of, connection, name),
            changed=changed,
        )
        for name, profile in PROFILES.items()
    }
    for provider in providers.values():
        _in_thread(f"prices-{provider.name}", provider.prices)
        provider.start()
    return providers


def _own(folder: Path) -> None:
    """Hold the folder for this process alone, for as long as it lives. Waits for a predecessor that is still going."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "owner", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _in_thread(name: str, work: Callable[[], None]) -> None:
    threading.Thread(target=guarded(work), name=name, daemon=True).start()


# -------------------------------------------------------------------------------------------------------- what Redis does


def listen(connection: "redis.Redis", providers: dict[str, Counterparty]) -> None:
    """For ever: hand the feed's prices to the providers, and subscribe again when Redis was away."""
    channels = {feed_channel(name).encode(): provider for name, provider in providers.items()}
    while True:
        try:
            with connection.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
                subscription.subscribe(*channels)
                while True:
                    message = subscription.get_message(timeout=BEAT_S)
                    if message:
                        _show(channels[message["channel"]], message["data"])
        except redis.RedisError as error:
            logger.warning("feed_lost error=%s", error)
            time.sleep(RETRY_S)


def _show(provider: Counterparty, data: bytes) -> None:
    try:
        provider.show(_ticks.decode(data))
    except msgspec.MsgspecError as error:
        logger.warning("feed_unreadable lp=%s error=%s", provider.name, error)


def misbehaviour_of(connection: "redis.Redis", lp: str) -> tuple[Misbehaviour, ...]:
    """What the provider is told to do wrong now. When that cannot be read, nothing."""
    try:
        given: Any = connection.get(control_key(lp))
        return parse(given)
    except (redis.RedisError, ControlRefused) as error:
        logger.warning("control_unreadable lp=%s error=%s", lp, error)
        return ()


def show_health(connection: "redis.Redis", providers: dict[str, Counterparty], changed: threading.Event) -> None:
    """For ever: say what the providers hold whenever it changes, and all of it again with every heartbeat."""
    while True:
        changed.clear()
        try:
            for name, provider in providers.items():
                _write_positions(connection, name, provider.positions())
            beat(connection, "lpsim", detail=_detail(providers))
        except redis.RedisError as error:
            logger.warning("redis_away error=%s", error)
            time.sleep(RETRY_S)
        changed.wait(BEAT_S)


def _write_positions(connection: "redis.Redis", lp: str, held: dict[str, str]) -> None:
    key = positions_key(lp)
    fields: dict[Any, Any] = dict(held)
    with connection.pipeline(transaction=True) as pipeline:
        pipeline.delete(key)
        if fields:
            pipeline.hset(key, mapping=fields)
        pipeline.execute()


def _detail(providers: dict[str, Counterparty]) -> dict[str, object]:
    return {
        name: {"quote": provider.is_up("QUOTE"), "trade": provider.is_up("TRADE"), "dropped": provider.dropped}
        for name, provider in providers.items()
    }


def _log_out(providers: dict[str, Counterparty]) -> None:
    deadline = time.monotonic() + LOGOUT_WITHIN_S
    for provider in providers.values():
        provider.log_out()
    while time.monotonic() < deadline and not all(provider.is_logged_out for provider in providers.values()):
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
