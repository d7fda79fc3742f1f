"""The engine as a process: what it waits for, what it answers, and what survives when it, Redis or PostgreSQL is hit."""

import re
import signal
import threading
from decimal import Decimal
from typing import Any

import redis

from bus import names
from bus.client import Client
from bus.clock import wall
from bus.codec import decode, encode
from tests import invariants
from tests.integration.conftest import Start
from tests.support.running import RunningEngine
from tests.support.trading import Connection, Load, ask_again, buy, check, filled, one, publish_config, subscriber
from tests.waiting import eventually
from trading.liquidity import ExecutionReport, ReportKind
from trading.orders import OrderStatus, Side

# --- Starting and stopping ----------------------------------------------------------------------------------------------


def test_without_tables_it_says_what_it_waits_for_and_can_be_stopped(start: Start, empty_database: str) -> None:
    engine = start(empty_database)
    engine.until("waiting", "the database is migrated")
    assert engine.stop() == 0


def test_it_waits_for_a_configuration_and_takes_it_when_it_is_published(
    start: Start, database: Connection, bus: "redis.Redis"
) -> None:
    engine = start()
    engine.until("waiting", "published configuration")
    publish_config(database)
    bus.publish(names.CONFIG, b"1")
    engine.until("up")
    assert one(database, "SELECT config_version FROM engine_batch ORDER BY seq DESC LIMIT 1") == 1


def test_a_newer_configuration_is_decided_by_without_a_restart(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    publish_config(database, version=2)
    bus.publish(names.CONFIG, b"2")
    eventually(lambda: one(database, "SELECT max(config_version) FROM engine_batch") == 2)
    filled(door, 1)
    assert one(database, "SELECT decision ->> 'config_version' FROM routing_decision") == "2"


def test_sigterm_leaves_a_hash_that_the_next_start_agrees_with(
    trading: RunningEngine, start: Start, database: Connection, door: Client
) -> None:
    filled(door, 1)
    assert trading.stop() == 0
    assert re.fullmatch(
        "[0-9a-f]{8}:[0-9a-f]{64}", one(database, "SELECT state_hash FROM engine_batch ORDER BY seq DESC LIMIT 1")
    )
    assert start().until("up")["positions"] == 1
    filled(door, 2)
    assert invariants.violations(database) == []


# --- Answers and events -------------------------------------------------------------------------------------------------


def test_an_order_is_filled_told_and_forgotten_by_the_stream(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    listener: Any = subscriber(bus)
    listener.subscribe(names.events(0))
    listener.get_message(timeout=1.0)
    answer = door.submit(buy(1), 5)
    assert answer.order is not None
    assert answer.order.status is OrderStatus.FILLED
    heard: Any = eventually(lambda: listener.get_message(timeout=0.1))
    events = decode(heard["data"], list[dict[str, Any]])
    assert [event["kind"] for event in events] == ["position.opened", "account.balance", "order.filled"]
    assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[0]["seq"] + 3))
    assert events[2]["payload"]["order"]["status"] == "filled"
    eventually(lambda: bus.xlen(names.commands(0)) == 0)
    listener.close()
    state, detail = trading.health()
    assert state == "up"
    assert detail["batch_ms_p50"] > 0


def test_the_same_key_is_answered_again_after_a_restart(
    trading: RunningEngine, start: Start, door: Client, database: Connection
) -> None:
    ticket = filled(door, 1)
    trading.kill()
    start().until("up")
    again = door.submit(buy(1), 5)
    other = door.submit(buy(1, volume="0.02"), 5)
    assert (again.replayed, again.reference) == (True, ticket)
    assert other.refusal == "client_order_id_reused"
    assert one(database, "SELECT count(*) FROM trade_order") == 1


def test_a_command_that_waited_too_long_is_refused(trading: RunningEngine, door: Client) -> None:
    assert door.submit(buy(1, valid_until_us=wall() - 1), 5).refusal == "command_expired"


def test_what_is_no_command_is_parked_and_the_rest_goes_on(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    for raw in (b"{", b'{"command":"Rob","id":"x1"}', b"\xff"):
        bus.xadd(names.commands(0), {"c": raw})
    filled(door, 1)
    assert one(database, "SELECT count(*) FROM parked_command") == 3


def test_text_that_no_database_takes_is_parked_and_answered(
    trading: RunningEngine, database: Connection, door: Client
) -> None:
    assert door.submit(buy(1, comment="nul \0"), 10).refusal == "internal"
    filled(door, 2)
    assert one(database, "SELECT count(*) FROM trade_order") == 1
    assert one(database, "SELECT command ->> 'comment' IS NOT NULL FROM parked_command")


def test_a_providers_fill_reaches_the_door_that_waits(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    listener: Any = subscriber(bus)
    listener.subscribe(names.nudge_lp("YOFX1"))
    listener.get_message(timeout=1.0)
    answers: list[Any] = []
    following = threading.Thread(target=lambda: answers.append(door.submit_and_follow(buy(1, account=2), 10)))
    following.start()
    eventually(lambda: listener.get_message(timeout=0.1))
    cl_ord_id, quantity = one(database, "SELECT cl_ord_id, quantity FROM lp_order")
    report = ExecutionReport(
        lp="YOFX1",
        kind=ReportKind.FILL,
        cl_ord_id=cl_ord_id,
        exec_id="E1",
        trade_date="20261121",
        side=Side.BUY,
        lp_symbol="EUR/USD",
        last_qty=quantity,
        last_px=Decimal("1.08520"),
    )
    database.execute(
        "INSERT INTO lp_inbox (lp, seq, kind, cl_ord_id, exec_id, trade_date, report, raw, received_at) "
        "VALUES ('YOFX1', 1, 'fill', %s, 'E1', '20261121', %s, '', now())",
        (cl_ord_id, encode(report).decode()),
    )
    bus.publish(names.NUDGE_ENGINE, b"YOFX1")
    following.join()
    listener.close()
    (answer,) = answers
    assert answer.final
    assert answer.order.status is OrderStatus.FILLED
    assert invariants.violations(database) == []


# --- Faults -------------------------------------------------------------------------------------------------------------


def test_a_killed_engine_loses_nothing_that_was_acknowledged(
    load: Load, trading: RunningEngine, start: Start, database: Connection, door: Client
) -> None:
    load.until(200)
    trading.kill()
    engine = start()
    load.until(200)
    engine.kill()
    start()
    load.until(100)
    load.stop()
    ask_again(door, load)
    check(database, load)


def test_connections_of_postgresql_that_are_cut_again_and_again(
    load: Load, trading: RunningEngine, database: Connection, door: Client
) -> None:
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'tribook engine%'"
    for _ in range(5):
        load.until(50)
        assert one(database, cut) >= 1
    load.until(50)
    load.stop()
    check(database, load)
    assert one(database, "SELECT max(epoch) FROM engine_batch") > 1


def test_redis_that_forgets_everything_moves_no_money_and_trading_goes_on(
    load: Load, trading: RunningEngine, database: Connection, bus: "redis.Redis"
) -> None:
    for _ in range(3):
        load.until(50)
        bus.flushall()
    load.until(50)
    load.stop()
    check(database, load)


def test_a_stream_that_begins_again_with_smaller_ids_is_read_from_its_beginning(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    filled(door, 1)
    bus.flushall()
    bus.xadd(names.commands(0), {"c": encode(buy(2))}, id="1-1")
    eventually(lambda: one(database, "SELECT count(*) FROM trade_order") == 2)
    assert one(database, "SELECT stream_id FROM engine_batch ORDER BY seq DESC LIMIT 1") == "1-1"


def test_an_older_owner_that_wakes_up_writes_nothing(
    load: Load, trading: RunningEngine, start: Start, database: Connection
) -> None:
    load.until(50)
    trading.process.send_signal(signal.SIGSTOP)
    start()
    load.until(50)
    trading.process.send_signal(signal.SIGCONT)
    eventually(lambda: "fenced" in trading.log.read_text(), within_s=20)
    load.until(50)
    load.stop()
    check(database, load)
    assert trading.process.poll() is None


def test_a_state_that_does_not_hash_as_it_was_left_halts_the_shard_for_everybody(
    trading: RunningEngine, start: Start, database: Connection
) -> None:
    assert trading.stop() == 0
    database.execute("UPDATE account SET leverage = 29 WHERE id = 1")
    start().until("halted", "does not hash")
    assert "does not hash" in one(database, "SELECT halted FROM shard")


def test_a_halted_shard_says_so_and_goes_on_when_an_operator_has_looked(
    trading: RunningEngine, start: Start, database: Connection, door: Client
) -> None:
    trading.kill()
    database.execute("UPDATE shard SET halted = 'the books do not add up'")
    engine = start()
    engine.until("halted", "the books do not add up")
    database.execute("UPDATE shard SET halted = ''")
    engine.until("up")
    filled(door, 1)
