"""The checks of the stored data: quiet while the engine writes, and loud when somebody else does."""

from decimal import Decimal
from typing import Any

import psycopg
import pytest

from broker.invariants import Auditor, in_flight, nothing_is_parked, snapshot, violations
from tests.integration.test_journal import Shard, buy, close, connection, deposit, shard

Connection = psycopg.Connection[Any]

__all__ = ["connection", "shard"]


@pytest.fixture
def traded(shard: Shard, connection: Connection) -> Connection:
    """Account 1 has opened twice and closed one half; account 2 waits for its provider."""
    shard.do(buy(1), buy(2, volume="0.20"))
    shard.do(close(3, 1, "0.05"), buy(4, account=2))
    for table in ("deal", "ledger_transfer", "outbox", "engine_batch"):
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    return connection


def found(connection: Connection) -> str:
    return "\n".join(violations(connection))


def test_what_the_engine_wrote_is_sound_at_the_first_look_and_at_every_later_one(
    shard: Shard, connection: Connection
) -> None:
    auditor = Auditor()
    for step in ([buy(1), buy(2)], [close(3, 1, "0.05")], [deposit("more")], [close(4, 1), close(5, 2)], []):
        if step:
            shard.do(*step)
        with snapshot(connection):
            assert auditor.look(connection) == []
    assert auditor.looks == 5
    assert violations(connection) == []
    assert set(auditor.longest_s) > {"look", "ledger", "orders", "outbox"}


HURTS: dict[str, tuple[str, str]] = {
    "a balance that nobody posted": (
        "UPDATE ledger_balance SET balance = balance + 1 WHERE account = 'client:1'",
        "I2",
    ),
    "a ledger that does not add up": ("DELETE FROM ledger_balance WHERE account = 'bank'", "I1: all balances"),
    "a client shown more than it has": ("UPDATE account SET balance = balance + 5 WHERE id = 1", "I2: account 1"),
    "a credit from nowhere": ("UPDATE account SET credit = 5 WHERE id = 1", "I2: account 1"),
    "a deposit that came from the house": (
        "UPDATE ledger_transfer SET source = 'house:pnl:B' WHERE kind = 'deposit' AND target = 'client:1'",
        "I2: bank",
    ),
    "money of nobody": (
        "UPDATE ledger_balance SET account = 'nobody:1' WHERE account = 'house:commission'",
        "nobody stands behind",
    ),
    "a profit that was called a deposit": (
        "UPDATE ledger_transfer SET kind = 'deposit' WHERE kind = 'commission' AND order_id = 1",
        "results: in USD",
    ),
    "a deal that was not posted": (
        "UPDATE deal SET profit = profit + 3 WHERE entry = 'out'",
        "I7: the deals of account 1",
    ),
    "an order filled by nothing": ("UPDATE trade_order SET filled_volume = 0.01 WHERE id = 1", "I5: order 1"),
    "more filled than ordered": ("UPDATE trade_order SET volume = 0.05 WHERE id = 1", "I5: order 1"),
    "margin of an ended order": ("UPDATE trade_order SET margin_reserved = 7 WHERE id = 1", "I11: order 1"),
    "a leg filled too far": ("UPDATE lp_order SET filled_volume = volume + 1", "I5: leg"),
    "a position without deals": ("UPDATE position SET volume = 0.01 WHERE id = 2", "I7: position 2"),
    "a provider's part from nowhere": ("UPDATE position SET volume_a = 0.01 WHERE id = 2", "I7: position 2"),
    "a lock without a close": ("UPDATE position SET locked = 0.01 WHERE id = 2", "I8: position 2"),
    "an order that nobody deals": ("UPDATE lp_order SET status = 'canceled'", "is pending_new and no provider"),
    "an order that waits for nothing": (
        "UPDATE trade_order SET status = 'new', filled_volume = volume WHERE id = 1",
        "I8: order 1 is new",
    ),
    "an order that outlived its time": (
        "UPDATE trade_order SET status = 'new', filled_volume = 0, expires_at = '2020-01-01Z' WHERE id = 1",
        "I8: order 1 rests until",
    ),
    "a message that was lost": ("DELETE FROM outbox WHERE shard_seq = 3", "I6"),
    "an account that was told less": ("UPDATE account SET seq = seq + 1 WHERE id = 1", "I6: account 1"),
    "a batch that was lost": ("DELETE FROM engine_batch WHERE seq = 2", "I9"),
    "an epoch that fell": ("UPDATE engine_batch SET epoch = 0 WHERE seq = 3", "I9: batch 3"),
    "a fill dealt twice": ("UPDATE deal SET lp = 'X', exec_id = 'E1'", "I4: fill X E1"),
}


@pytest.mark.parametrize("name", HURTS)
def test_a_hurt_is_found_and_named(name: str, traded: Connection) -> None:
    statement, told = HURTS[name]
    assert found(traded) == ""
    assert traded.execute(statement.encode()).rowcount > 0
    assert told in found(traded)


def test_a_later_look_finds_what_was_hurt_since(shard: Shard, traded: Connection) -> None:
    auditor = Auditor()
    assert auditor.look(traded) == []
    shard.do(buy(9))
    traded.execute("UPDATE ledger_balance SET balance = balance + 1 WHERE account = 'client:2'")
    traded.execute("UPDATE trade_order SET filled_volume = 0 WHERE id IN (1, 5)")
    said = "\n".join(auditor.look(traded))
    assert "I2: client:2" in said
    assert "I5: order 5" in said
    assert "I5: order 1" not in said, "nothing of it has changed since"


def test_positions_older_than_a_split_are_not_held_against_their_deals(traded: Connection) -> None:
    traded.execute("UPDATE position SET volume = 10, volume_opened = 10 WHERE id = 2")
    assert "I7: position 2" in found(traded)
    split = "UPDATE engine_batch SET desk = jsonb_build_object('splits', jsonb_build_array(jsonb_build_array(%s::text, {})))"
    traded.execute(split.format(4_000_000_000_000_000).encode(), ("EURUSD",))
    assert found(traded) == ""
    traded.execute(split.format(0).encode(), ("EURUSD",))
    assert "I7: position 2" in found(traded)


def test_what_a_provider_is_dealing_is_in_flight_and_no_violation(traded: Connection) -> None:
    assert len(in_flight(traded)) == 2
    assert found(traded) == ""


def test_a_command_that_was_put_aside_is_told(connection: Connection) -> None:
    assert nothing_is_parked(connection) == []
    connection.execute("INSERT INTO parked_command VALUES ('c', 1, '{}', 'KeyError: 1', now())")
    assert nothing_is_parked(connection) == ["command c was put aside: KeyError: 1"]


def test_a_snapshot_reads_one_moment_and_writes_nothing(connection: Connection, house_database: str) -> None:
    with psycopg.connect(house_database, autocommit=True) as other, snapshot(connection):
        before = connection.execute("SELECT count(*) FROM parked_command").fetchone()
        other.execute("INSERT INTO parked_command VALUES ('c', 1, '{}', 'KeyError: 1', now())")
        assert connection.execute("SELECT count(*) FROM parked_command").fetchone() == before
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM parked_command")


def test_sums_are_exact(traded: Connection) -> None:
    traded.execute(
        "UPDATE ledger_balance SET balance = balance + %s WHERE account = 'client:1'", (Decimal("0.00000001"),)
    )
    assert "I2: client:1" in found(traded)
