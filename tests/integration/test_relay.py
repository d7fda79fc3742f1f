"""The outbox, the relay, a broker, a consumer: whatever dies or is blocked, nothing is lost and every effect is had once."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from broker.embedded.rabbitmq import RunningRabbit
from broker.embedded.redis import redis_service
from broker.embedded.service import Running as RunningService
from broker.embedded.service import start as start_service
from bus import names
from bus.amqp import AmqpPublisher
from bus.publishing import LOG, NotPublished, Unreadable
from bus.relay import BEHIND_S, Gap, Relay, contiguous, read_cursor
from tests.support.buses import Bus, emptied, messages
from tests.support.total_queue import Running, Writer, complaints, effects, effects_of, record, relay_of
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
QUEUE = "notifications"


@pytest.fixture
def writer(house_database: str) -> Iterator[Writer]:
    writer = Writer(house_database)
    yield writer
    writer.stop()


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    """Sets a relay or a consumer to work; all are stopped at the end."""
    at_work: list[Running] = []

    def begin(worker: object) -> Running:
        at_work.append(Running(worker))  # type: ignore[arg-type]
        return at_work[-1]

    yield begin
    for one in reversed(at_work):
        one.stop()


def alerts(url: str) -> dict[str, bool]:
    """Kind and whether it stands."""
    with psycopg.connect(url) as connection:
        return {kind: cleared is None for kind, cleared in connection.execute("SELECT kind, cleared_at FROM alert")}


def drained(url: str, writer: Writer, *, within_s: float = 40) -> None:
    eventually(lambda: effects(url) >= writer.written, within_s=within_s)
    eventually(lambda: cursor_of(url) == writer.written)


def cursor_of(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        return read_cursor(connection, 0)


# --- The quiet way ------------------------------------------------------------------------------------------------------


def test_every_row_comes_out_once_and_in_order(
    event_bus: Bus, house_database: str, writer: Writer, running: Callable[..., Running]
) -> None:
    writer.write(700)
    relay = running(relay_of(house_database, event_bus.publisher()))
    running(effects_of(house_database, event_bus.subscribe(QUEUE)))
    writer.write(50)
    drained(house_database, writer)
    assert complaints(house_database) == []
    state, detail = eventually(lambda: up(relay.worker))
    assert (state, detail["published_seq"], detail["lag"]) == ("up", 750, 0)


def up(relay: object) -> tuple[str, dict[str, object]] | None:
    assert isinstance(relay, Relay)
    state, detail = relay.condition()
    return (state, dict(detail)) if state == "up" and not detail["lag"] else None


def test_a_missing_row_stops_it_and_calls_a_person_and_is_never_passed_over(
    event_bus: Bus, house_database: str
) -> None:
    writer = Writer(house_database)
    writer.write(10)
    with psycopg.connect(house_database, autocommit=True) as connection:
        kept = connection.execute("DELETE FROM outbox WHERE shard_seq = 6 RETURNING *").fetchone()
        relay = relay_of(house_database, event_bus.publisher())
        for _ in range(2):
            with pytest.raises(Gap, match="row 6 is missing, 7 is there"):
                relay.step()
        thread = Running(relay)
        eventually(lambda: alerts(house_database).get("outbox_gap"))
        assert read_cursor(connection, 0) == 5
        assert kept is not None
        connection.execute("INSERT INTO outbox SELECT (%s::outbox).*", (kept_row(kept),))
        eventually(lambda: read_cursor(connection, 0) == 10)
        eventually(lambda: alerts(house_database) == {"outbox_gap": False})
        thread.stop()
    assert [message.shard_seq for message in event_bus.broker().log_from(0)] == list(range(1, 11))
    writer.stop()


def kept_row(row: tuple[object, ...]) -> str:
    import json

    text = [json.dumps(part) if isinstance(part, dict) else str(part) for part in row]
    quoted = ('"' + part.replace('"', '""') + '"' for part in text)
    return f"({','.join(quoted)})"


def test_only_the_relay_with_the_lock_publishes_and_the_other_takes_over(
    event_bus: Bus, house_database: str, writer: Writer
) -> None:
    writer.write(5)
    first, second = (relay_of(house_database, event_bus.publisher()) for _ in range(2))
    assert first.step()
    second.stop()  # so that it does not wait before it says that it has nothing to do
    second.step()
    assert second.condition()[1]["problem"] == "another relay is at work"
    writer.write(5)
    second.step()
    assert cursor_of(house_database) == 5
    first.close()
    eventually(lambda: second.step() and cursor_of(house_database) == 10)
    assert [message.shard_seq for message in event_bus.broker().log_from(0)] == list(range(1, 11))
    second.close()


def test_a_cursor_that_another_has_moved_is_left_alone(event_bus: Bus, house_database: str, writer: Writer) -> None:
    """A relay whose lock was lost without its knowledge: it may publish twice, the cursor never goes back."""
    writer.write(5)
    publisher = event_bus.publisher()

    class Overtaken:
        """The publisher, and another relay that is done with the same run and the next before this one says so."""

        def __getattr__(self, name: str) -> object:
            return getattr(publisher, name)

        def publish(self, run: list[object]) -> None:
            publisher.publish(run)  # type: ignore[arg-type]
            with psycopg.connect(house_database, autocommit=True) as other:
                other.execute("UPDATE relay_cursor SET published_seq = 99")

    relay = relay_of(house_database, Overtaken())  # type: ignore[arg-type]
    relay.step()
    assert cursor_of(house_database) == 99
    relay.close()


def test_rows_follow_the_cursor_without_a_gap() -> None:
    assert contiguous(messages([4, 5, 7]), 3) == messages([4, 5])
    assert contiguous(messages([5]), 3) == []
    assert contiguous([], 3) == []


# --- Killed and blocked -------------------------------------------------------------------------------------------------


class Killable:
    """A broker that can die on the spot and come back at the same address: RabbitMQ with its data, Redis without."""

    def __init__(
        self, bus: Bus, drop: Callable[[], object], kill: Callable[[], None], start_again: Callable[[], None]
    ) -> None:
        self.bus, self.drop, self.kill, self.start_again = bus, drop, kill, start_again


@pytest.fixture(params=["amqp", "redis"])
def killable(request: pytest.FixtureRequest, data_folder: Path) -> Iterator[Killable]:
    if request.param == "amqp":
        rabbit: RunningRabbit = request.getfixturevalue("rabbitmq")
        emptied({"AMQP_URL": rabbit.url})
        yield Killable(Bus("amqp", {"AMQP_URL": rabbit.url}), rabbit.drop_connections, rabbit.kill, rabbit.start_again)
        return
    service, log = redis_service(data_folder), data_folder / "redis.log"
    server: list[RunningService] = [start_service(service, log=log)]

    def kill() -> None:
        server[0].process.kill()
        server[0].process.wait()

    def start_again() -> None:
        server[0] = start_service(service, log=log)

    def drop() -> None:
        redis.Redis.from_url(server[0].url).client_kill_filter(_type="normal", skipme=True)

    yield Killable(Bus("redis", {"REDIS_URL": server[0].url}), drop, kill, start_again)
    server[0].stop()


@pytest.mark.timeout(300)
def test_a_broker_that_throws_everybody_out_and_dies_under_load_loses_nothing_and_holds_up_nobody(
    killable: Killable, house_database: str, writer: Writer, running: Callable[..., Running]
) -> None:
    """Its queues may need a minute to find their leader after a kill: consumers wait that long."""
    bus = killable.bus
    relay = relay_of(house_database, bus.publisher())
    consumer = effects_of(house_database, bus.subscribe(QUEUE))
    running(relay)
    running(consumer)
    writer.start()
    for _ in range(3):
        writer.until(150)
        killable.drop()
        writer.until(150)
    killable.kill()
    writer.until(300)
    eventually(lambda: relay.condition()[0] == "waiting", within_s=15)
    killable.start_again()
    writer.until(100)
    writer.stop()
    drained(house_database, writer, within_s=120)
    assert complaints(house_database) == []
    assert consumer.parked == 0


@pytest.fixture
def start_relay(
    house_database: str, redis_url: str, tmp_path: Path
) -> Iterator[Callable[[Bus], "subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(bus: Bus) -> "subprocess.Popen[bytes]":
        paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "DATABASE_URL": house_database, "REDIS_URL": redis_url}
        with (tmp_path / "relay.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bus.relay"],
                env={**os.environ, **paths, **bus.environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_a_relay_killed_between_publishing_and_its_cursor_repeats_and_loses_nothing(
    event_bus: Bus,
    house_database: str,
    redis_url: str,
    writer: Writer,
    running: Callable[..., Running],
    start_relay: Callable[[Bus], "subprocess.Popen[bytes]"],
) -> None:
    """Killed as soon as the first message of a run is seen: its hundreds of others are on their way, the cursor is not."""
    consumer = effects_of(house_database, event_bus.subscribe(QUEUE))
    running(consumer)
    for _ in range(3):
        before = effects(house_database)
        process = start_relay(event_bus)
        writer.write(400)
        eventually(lambda seen=before: effects(house_database) > seen, within_s=20)  # type: ignore[misc]
        process.kill()
        process.wait()
    process = start_relay(event_bus)
    drained(house_database, writer)
    client: redis.Redis = redis.Redis.from_url(redis_url, decode_responses=True)
    eventually(lambda: client.hget(names.health("relay"), "pid") == str(process.pid))
    assert complaints(house_database) == []
    assert consumer.applied == writer.written
    process.terminate()
    assert process.wait(60) == 0


def test_a_memory_alarm_blocks_the_publisher_and_nobody_else(
    rabbitmq: RunningRabbit, house_database: str, writer: Writer, running: Callable[..., Running]
) -> None:
    bus = Bus("amqp", {"AMQP_URL": rabbitmq.url})
    emptied(bus.environment)
    relay = relay_of(house_database, AmqpPublisher(rabbitmq.url, confirm_within_s=1.0))
    running(relay)
    running(effects_of(house_database, bus.subscribe(QUEUE)))
    writer.start()
    writer.until(100)
    eventually(lambda: effects(house_database) >= 100)
    rabbitmq.set_memory_watermark(0.0001)
    try:
        writer.until(500)
        eventually(lambda: relay.condition()[0] == "waiting", within_s=30)
        writer.until(500)
        assert cursor_of(house_database) <= writer.written - 500
    finally:
        rabbitmq.set_memory_watermark(0.4)
    writer.until(50)
    writer.stop()
    drained(house_database, writer)
    assert complaints(house_database) == []


def test_who_waits_too_long_is_told_about_and_no_longer_when_it_is_over(
    event_bus: Bus, house_database: str, writer: Writer
) -> None:
    now = [1000.0]
    relay = Relay(
        shard=0,
        publisher=AmqpPublisher("amqp://nobody:x@127.0.0.1:1/nowhere"),
        connecting=lambda: psycopg.connect(house_database, autocommit=True),
        monotonic=lambda: now[0],
    )
    writer.write(3)
    for _ in range(2):
        with pytest.raises(NotPublished, match="AMQPConnectionError"):
            relay.step()
        assert "relay_behind" not in alerts(house_database)
        now[0] += BEHIND_S - 1
    with pytest.raises(NotPublished, match="AMQPConnectionError"):
        relay.step()
    assert alerts(house_database) == {"relay_behind": True}
    assert relay.condition()[1]["lag"] == 3
    relay.close()
    second = relay_of(house_database, event_bus.publisher())
    second.step()
    second.step()
    assert alerts(house_database) == {"relay_behind": False}
    second.close()


# --- Consumers ----------------------------------------------------------------------------------------------------------


def test_poison_is_parked_after_its_tries_and_the_others_flow(
    event_bus: Bus, house_database: str, writer: Writer, running: Callable[..., Running]
) -> None:
    tries: list[str] = []

    def stumble(connection: object, message: object) -> None:
        key = message.id  # type: ignore[attr-defined]
        if key in ("0:3", "0:7"):
            tries.append(key)
            record(connection, message)  # type: ignore[arg-type]
            raise Unreadable("never") if key == "0:7" else ZeroDivisionError(key)
        record(connection, message)  # type: ignore[arg-type]

    writer.write(20)
    running(relay_of(house_database, event_bus.publisher()))
    consumer = effects_of(house_database, event_bus.subscribe(QUEUE), stumble)
    running(consumer)
    eventually(lambda: effects(house_database) == 18 and consumer.parked == 2, within_s=20)
    eventually(lambda: cursor_of(house_database) == 20)
    assert complaints(house_database, without=["0:3", "0:7"]) in ([], ["account 4's effects are out of order"])
    assert tries.count("0:3") in (5, 6), "five times alone, and perhaps once together with the others"
    assert alerts(house_database)["dead_letter"]
    broker = event_bus.broker()
    assert sorted(identity for identity, _ in broker.dead_letters(QUEUE, 10)) == ["0:3", "0:7"]


def test_a_database_that_is_away_costs_no_message_a_try(
    event_bus: Bus, house_database: str, writer: Writer, running: Callable[..., Running]
) -> None:
    writer.write(30)
    running(relay_of(house_database, event_bus.publisher()))
    consumer = effects_of(house_database, event_bus.subscribe(QUEUE))
    running(consumer)
    eventually(lambda: effects(house_database) == 30)
    with psycopg.connect(house_database, autocommit=True) as operator:
        for _ in range(8):  # more often than a message may be tried
            writer.write(3)
            operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tribook counter'"
            )
    drained(house_database, writer)
    assert complaints(house_database) == []
    assert consumer.parked == 0


def test_replaying_the_log_repeats_nothing(
    event_bus: Bus, house_database: str, writer: Writer, running: Callable[..., Running]
) -> None:
    from bus.consuming import apply_once, connect_database

    writer.write(40)
    running(relay_of(house_database, event_bus.publisher()))
    running(effects_of(house_database, event_bus.subscribe(QUEUE)))
    drained(house_database, writer)
    with psycopg.connect(house_database, autocommit=True) as operator:
        operator.execute("DELETE FROM bus_effect WHERE key = '0:9'")
        operator.execute("DELETE FROM task_effect WHERE key = '0:9'")
    connection = connect_database(house_database, name="replay")
    again = [apply_once(connection, "counter", message, record) for message in event_bus.broker().log_from(5)]
    assert again.count(True) == 1, "what was lost is had, the rest is remembered"
    assert len(again) == 36
    assert effects(house_database) == 40
    assert LOG == "events"
