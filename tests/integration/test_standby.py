"""A follower beside an owner on a real PostgreSQL: what it knows, and what it does when it cannot know."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from bus.codec import encode
from bus.store import load_config
from engine import standby
from engine.batch import QUOTES_EVERY, Batch
from engine.journal import Journal, connect
from engine.lease import take_over
from engine.recovery import load, recover
from engine.standby import DivergedError, Follower
from engine.state import state_hash
from engine.step import CommandsTaken, Committed, QuotesTaken, Recovered, Step, Stopping, Taken, Write
from tests.support.builders import NOW_US, config, eurusd, group, quote
from tests.support.trading import buy
from trading.commands import (
    AnyCommand,
    ClosePosition,
    Deposit,
    OpenAccount,
    ReloadConfig,
    SetSwitch,
    SwitchScope,
)
from trading.controls import AccountControls

Connection = psycopg.Connection[Any]


class Owner:
    """A step and a journal on one database, driven by hand."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.step = Step()
        self.journal = Journal(url)
        self.made = 0
        self.recover()

    def recover(self) -> None:
        with connect(self.url, name="test") as connection:
            self.step.handle(recover(connection, 0))
        self.step.handle(QuotesTaken([eurusd("1.08510"), quote("GBPUSD", "1.25000"), quote("USDJPY", "150.000")]))

    def do(self, *commands: AnyCommand) -> Batch:
        self.made += 1
        taken = [Taken(command, f"{self.made}-0") for command in commands]
        (write,) = self.step.handle(CommandsTaken(taken, NOW_US + self.made, "life"))
        return self.settle(write)

    def settle(self, write: object) -> Batch:
        assert isinstance(write, Write)
        self.journal.write(write.batch)
        self.step.handle(Committed(write.batch.seq))
        return write.batch


@pytest.fixture
def database(house_database: str) -> Iterator[Connection]:
    with psycopg.connect(house_database, autocommit=True) as connection:
        publish(connection, 1)
        yield connection


@pytest.fixture
def owner(house_database: str, database: Connection) -> Iterator[Owner]:
    """Configured, with account 1 funded and a position open."""
    owner = Owner(house_database)
    owner.do(reload(database, 1))
    opened = OpenAccount(id="open", key="open", account=1, group="retail", currency="USD", leverage=30)
    owner.do(opened, deposit("d1", "100000.00"), buy(1))
    yield owner
    owner.journal.close()


class Hands:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def follower(house_database: str, clock: Hands) -> Iterator[Follower]:
    follower = Follower(lambda name: connect(house_database, name=name), monotonic=clock)
    yield follower
    follower.close()


def publish(connection: Connection, version: int, **terms: Any) -> None:
    document = encode(config(version=version, **terms)).decode()
    connection.execute("INSERT INTO config_version VALUES (%s, %s, now(), 'test')", (version, document))


def reload(connection: Connection, version: int) -> ReloadConfig:
    name = f"config:{version}"
    return ReloadConfig(id=name, key=name, version=version, config=load_config(connection, version))


def deposit(name: str, amount: str = "1.00") -> Deposit:
    return Deposit(id=name, key=name, account=1, amount=Decimal(amount))


def close(number: int, position_id: int) -> ClosePosition:
    name = f"00000000-0000-7000-8000-{number:012d}"
    return ClosePosition(id=name, key=name, account=1, position_id=position_id)


def taken_over(database: Connection, follower: Follower) -> Recovered | None:
    epoch, seq = take_over(database, 0, owned=None)
    return follower.finish(database, epoch=epoch, seq=seq)


def followed(follower: Follower, owner: Owner) -> None:
    while follower.follow(owner.step.seq):
        pass
    assert follower.seq == owner.step.seq


def test_what_is_followed_is_what_would_be_loaded(owner: Owner, follower: Follower, database: Connection) -> None:
    followed(follower, owner)
    for number in range(2, 40):
        owner.step.handle(QuotesTaken([eurusd(f"1.0851{number % 10}")]))
        owner.do(buy(number))
    owner.do(close(1000, 3), deposit("d2"))
    owner.do(SetSwitch(id="s", key="s", scope=SwitchScope.SYMBOL, target="EURUSD", stops=True))
    followed(follower, owner)
    owner.do(buy(1001, symbol="GBPUSD"))
    recovered = taken_over(database, follower)
    assert recovered is not None
    loaded = load(database, 0, epoch=recovered.epoch, seq=recovered.seq)
    assert state_hash(recovered.state) == state_hash(loaded.state) == state_hash(owner.step.state)
    assert (recovered.seq, recovered.position, recovered.at_us) == (loaded.seq, loaded.position, loaded.at_us)


def test_decisions_after_a_take_over_are_those_of_a_loaded_engine(
    owner: Owner, follower: Follower, database: Connection
) -> None:
    followed(follower, owner)
    owner.do(buy(2), buy(3))
    recovered = taken_over(database, follower)
    assert recovered is not None
    made = []
    for start in (recovered, load(database, 0, epoch=recovered.epoch, seq=recovered.seq)):
        step = Step()
        step.handle(start)
        step.handle(QuotesTaken([eurusd("1.08600")]))
        (write,) = step.handle(
            CommandsTaken([Taken(c, "9-0") for c in (buy(4), close(5, 1), buy(2))], NOW_US + 99, "life")
        )
        assert isinstance(write, Write)
        made.append(encode([write.batch.events, write.batch.told, write.batch.counters]))
    assert made[0] == made[1]


def test_who_joins_late_knows_the_quotes_that_are_used_without_being_journaled_again(
    owner: Owner, follower: Follower
) -> None:
    inputs = owner.do(buy(2)).inputs
    assert len(inputs) == 1
    followed(follower, owner)
    owner.do(buy(3))
    followed(follower, owner)


def test_quotes_are_journaled_anew_after_so_many_batches(owner: Owner, follower: Follower) -> None:
    while owner.step.seq < QUOTES_EVERY:
        assert len(owner.do(buy(100 + owner.step.seq)).inputs) == 1
    followed(follower, owner)
    assert len(owner.do(buy(2)).inputs) == 2
    followed(follower, owner)


def test_a_change_of_owner_is_followed(owner: Owner, follower: Follower, database: Connection) -> None:
    followed(follower, owner)
    owner.recover()
    owner.do(buy(2))
    owner.recover()
    owner.do(buy(3), close(4, 1))
    followed(follower, owner)
    assert taken_over(database, follower) is not None


def test_a_new_configuration_is_followed(owner: Owner, follower: Follower, database: Connection) -> None:
    followed(follower, owner)
    publish(database, 2, groups={"retail": group("retail", controls=AccountControls(positions_max=1))})
    owner.do(reload(database, 2))
    owner.do(buy(2))
    followed(follower, owner)
    recovered = taken_over(database, follower)
    assert recovered is not None
    assert recovered.state.config is not None
    assert recovered.state.config.version == 2


def test_an_orderly_end_is_checked_by_its_hash(owner: Owner, follower: Follower, database: Connection) -> None:
    followed(follower, owner)
    write, *_ = owner.step.handle(Stopping(NOW_US + 50))
    assert owner.settle(write).state_hash
    assert taken_over(database, follower) is not None


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE account SET balance = balance + 1",
        "UPDATE position SET locked = 0.01",
        "DELETE FROM position",
        "UPDATE trade_order SET status = 'pending_new', filled_volume = 0",
        "UPDATE ledger_balance SET balance = balance + 1 WHERE account = 'client:1'",
    ],
)
def test_a_memory_that_is_not_what_the_tables_say_is_not_used(
    owner: Owner, follower: Follower, database: Connection, harm: str
) -> None:
    followed(follower, owner)
    database.execute(harm.encode())
    with pytest.raises(DivergedError, match="in the tables"):
        taken_over(database, follower)
    assert not follower.is_following


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE engine_batch SET outbox_seq = outbox_seq + 1 WHERE seq = 3",
        """UPDATE engine_batch SET counters = jsonb_set(counters::jsonb, '{deal}', '77') WHERE seq = 3""",
        """UPDATE engine_batch SET inbox_cursors = '{"YOFX1": 3}' WHERE seq = 3""",
        "UPDATE engine_batch SET config_version = 9 WHERE seq = 3",
        "UPDATE engine_batch SET desk = jsonb_set(desk::jsonb, '{rolled_us}', '5') WHERE seq = 3",
    ],
)
def test_a_batch_that_left_something_else_makes_it_load_again(
    owner: Owner, follower: Follower, database: Connection, clock: Hands, harm: str
) -> None:
    followed(follower, owner)
    owner.do(buy(2))
    try:
        database.execute("ALTER TABLE engine_batch DISABLE TRIGGER USER")
        database.execute(harm.encode())
    finally:
        database.execute("ALTER TABLE engine_batch ENABLE TRIGGER USER")
    with pytest.raises(DivergedError, match="of batch 3 is"):
        follower.follow(3)
    assert not follower.is_following
    follower.follow(3)
    assert not follower.is_following, "it loads at most every few seconds"


def test_a_row_that_is_not_there_makes_it_load_again(
    owner: Owner, follower: Follower, database: Connection, clock: Hands
) -> None:
    followed(follower, owner)
    owner.do(buy(2))
    owner.do(buy(3))
    database.execute("ALTER TABLE engine_batch DISABLE TRIGGER USER")
    database.execute("DELETE FROM engine_batch WHERE seq = 3")
    with pytest.raises(DivergedError, match="batch 3 is not there"):
        follower.follow(4)
    clock.now += standby.RELOAD_S
    followed(follower, owner)
    assert taken_over(database, follower) is not None


def test_what_a_late_joiner_cannot_know_is_noticed(
    owner: Owner, follower: Follower, database: Connection, clock: Hands
) -> None:
    """The owner remembers the key of an order; who loaded since does not, and the owner's input does not say."""
    owner.do(buy(2))
    followed(follower, owner)
    owner.do(buy(2))
    with pytest.raises(DivergedError) as caught:
        follower.follow(owner.step.seq)
    assert not caught.value.was_exact
    clock.now += standby.RELOAD_S
    followed(follower, owner)
    assert taken_over(database, follower) is not None


def test_who_has_seen_an_epoch_begin_knows_everything(owner: Owner, follower: Follower, database: Connection) -> None:
    followed(follower, owner)
    owner.recover()
    owner.do(buy(2))
    owner.do(buy(2))
    followed(follower, owner)
    assert taken_over(database, follower) is not None


def test_too_far_behind_is_not_followed(
    owner: Owner, follower: Follower, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed(follower, owner)
    monkeypatch.setattr(standby, "FINISH_MAX", 1)
    for number in (2, 3):
        owner.do(buy(number))
    assert taken_over(database, follower) is None


def test_a_standby_that_lost_sight_of_the_shard_loads_it_again(
    owner: Owner, follower: Follower, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed(follower, owner)
    monkeypatch.setattr(standby, "BEHIND_MAX", 1)
    for number in (2, 3):
        owner.do(buy(number))
    with pytest.raises(DivergedError, match="far from"):
        follower.follow(owner.step.seq)
    clock.now += standby.RELOAD_S
    followed(follower, owner)


def test_an_empty_shard_can_be_followed(house_database: str, follower: Follower) -> None:
    with psycopg.connect(house_database, autocommit=True) as connection:
        take_over(connection, 0, owned=None)
        follower.follow(0)
        assert follower.is_following
        publish(connection, 1)
        owner = Owner(house_database)
        owner.do(reload(connection, 1))
        followed(follower, owner)
        assert taken_over(connection, follower) is not None
        owner.journal.close()
