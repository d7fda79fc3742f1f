"""The modelled PostgreSQL against a real one: a seeded run's batches, written by the real journal into both, give equal tables.

What the model leaves out (the order of jsonb's members, how many zeros a number ends on) is what both sides are read through.
"""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from bus.codec import encode
from engine.batch import Batch
from engine.committer import write_batch
from engine.journal import Facts, Journal, connect
from engine.recovery import load
from engine.state import state_hash
from engine.step import Committed
from engine.tables import WRITTEN
from tests.simulation.columns import COLUMNS, array, moment
from tests.simulation.processes import Committer
from tests.simulation.tables import KEYS
from tests.simulation.world import House, quiet

TABLES = (*(table.name for table in WRITTEN), "shard")
ELSEWHERE = {"dispatch_state", "dispatched_at", "owner", "lease_until"}
"""Columns of the providers' processes, whose writes are not played into the real database, and the lease, which is time."""


@pytest.mark.parametrize("seed", [4])
def test_the_model_keeps_what_a_real_server_keeps(
    seed: int, house_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[Batch] = []
    deliver = Committer.work

    def work(self: Committer) -> bool:
        job = self.job
        done = deliver(self)
        if done and isinstance(job, Batch) and (0, job.seq) in self._house.server.tables.rows["engine_batch"]:
            batches.append(job)
        return done

    monkeypatch.setattr(Committer, "work", work)
    with quiet():
        house = House(seed, faults=frozenset({"engine.restart", "say.late_fill", "say.duplicate"}))
        house.run(400)
    assert house.checks.violations == []
    modelled = house.server.tables
    with psycopg.connect(house_database, autocommit=True) as connection:
        _play(connection, house_database, house, batches)
        for table in TABLES:
            assert _real(connection, table) == _modelled(house, table), table
    with connect(house_database, name="test") as reader:
        _, epoch, seq, *_ = modelled.rows["shard"][0,]
        assert state_hash(load(reader, 0, epoch=epoch, seq=seq).state) == state_hash(house.rebuilt())
    _ask_both(house_database, house)


def _play(connection: psycopg.Connection[Any], url: str, house: House, batches: list[Batch]) -> None:
    """Every batch again, under the epochs that it had."""
    connection.execute("INSERT INTO config_version VALUES (1, %s, now(), 'test')", (encode(house.config).decode(),))
    connection.execute("INSERT INTO shard (shard, epoch, seq, halted) VALUES (0, 0, 0, '')")
    journal = Journal(url)
    for batch in batches:
        connection.execute("UPDATE shard SET epoch = %s", (batch.epoch,))
        outcome = write_batch(journal, batch)
        assert isinstance(outcome, Committed), outcome
    journal.close()
    connection.execute("UPDATE shard SET epoch = %s", (house.server.tables.rows["shard"][0,][1],))


def _ask_both(url: str, house: House) -> None:
    """The reading side says the same of what is no longer in memory."""
    real = Facts(url)
    process = house.engine
    assert process is not None
    modelled = Facts("", connecting=process.connect)
    keys = [(int(key[0]), key[1]) for key in list(house.server.tables.rows["engine_key"])[:50]] + [(1, "never used")]
    legs = [*list(house.server.tables.leg_of)[:50], "T0-999999"]
    assert real.keys(keys) == modelled.keys(keys)
    assert real.legs(legs) == modelled.legs(legs)
    for deal in range(1, 40, 3):
        assert real.history(deal) == modelled.history(deal)
    assert real.newest_version() == modelled.newest_version()
    real.close()


def _real(connection: psycopg.Connection[Any], table: str) -> list[tuple[Any, ...]]:
    columns = [column for column in COLUMNS[table] if column not in ELSEWHERE]
    names = ", ".join(f'"{column}"' for column in columns)
    order = ", ".join(f'"{column}"' for column in KEYS[table])
    found = connection.execute(f'SELECT {names} FROM "{table}" ORDER BY {order}'.encode()).fetchall()
    return sorted(tuple(_plain(COLUMNS[table][c], v) for c, v in zip(columns, row, strict=True)) for row in found)


def _modelled(house: House, table: str) -> list[tuple[Any, ...]]:
    columns = {c: place for place, c in enumerate(COLUMNS[table]) if c not in ELSEWHERE}
    rows = house.server.tables.all_rows(table)
    return sorted(tuple(_plain(COLUMNS[table][c], row[place]) for c, place in columns.items()) for row in rows)


def _plain(kind: str, value: Any) -> Any:
    """One spelling per value, whichever side it comes from. Everything is text, so that rows can be sorted."""
    if value is None:
        return ""
    if kind.startswith("numeric"):
        return f"{Decimal(value).normalize() + 0:f}"
    if kind == "timestamptz":
        at = value if isinstance(value, datetime) else moment(value)
        assert at is not None
        return f"{at.timestamp():.6f}"
    if kind in {"json", "jsonb"}:
        return json.dumps(value if not isinstance(value, str) else json.loads(value), sort_keys=True)
    if kind == "text[]":
        return str(array(value))
    if kind == "bytea":
        return value.hex() if isinstance(value, bytes | memoryview) else value.removeprefix("\\x")
    if kind == "boolean":
        return "t" if value in {True, "t"} else "f"
    return str(value)
