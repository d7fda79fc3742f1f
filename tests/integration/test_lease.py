"""The lease in a real PostgreSQL: who may take the shard, when, and who must wait."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from engine.journal import connect
from engine.lease import FencedError, HaltedError, Lease, LeaseHeldError, take_over
from tests.support.trading import one

Connection = psycopg.Connection[Any]
Claimant = Callable[..., Lease]


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def claimant(house_database: str, clock: Hands) -> Iterator[Claimant]:
    leases: list[Lease] = []

    def make(name: str = "engine", **terms: Any) -> Lease:
        leases.append(
            Lease(
                lambda application: connect(house_database, name=application),
                shard=0,
                name=name,
                monotonic=clock,
                **terms,
            )
        )
        return leases[-1]

    yield make
    for lease in leases:
        lease.close()


def take(database: Connection, lease: Lease) -> int:
    seen = lease.claim()
    epoch, _ = take_over(database, 0, owned=seen.epoch if seen else None, name=lease.name)
    lease.taken(epoch)
    return epoch


def run_out(database: Connection) -> None:
    database.execute("UPDATE shard SET lease_until = now() - interval '1 millisecond'")


def test_an_empty_database_is_anybodys(database: Connection, claimant: Claimant) -> None:
    assert take(database, claimant("standby")) == 1
    assert one(database, "SELECT owner, lease_until > now() FROM shard") == ("standby", True)


def test_another_waits_until_the_lease_has_run_out(database: Connection, claimant: Claimant) -> None:
    take(database, claimant())
    other = claimant("standby")
    with pytest.raises(LeaseHeldError, match="engine has it in epoch 1"):
        other.claim()
    run_out(database)
    assert take(database, other) == 2


def test_a_successor_of_the_same_name_need_not_wait(database: Connection, claimant: Claimant) -> None:
    take(database, claimant())
    assert take(database, claimant()) == 2


def test_an_owner_takes_its_own_shard_again_whatever_its_lease_says(database: Connection, claimant: Claimant) -> None:
    owner = claimant()
    take(database, owner)
    run_out(database)
    assert take(database, owner) == 2


def test_a_fenced_owner_waits_also_for_one_of_its_own_name(database: Connection, claimant: Claimant) -> None:
    old, new = claimant(), claimant()
    take(database, old)
    take(database, new)
    with pytest.raises(FencedError):
        old.claim()
    assert not old.renew()
    old.lost()
    with pytest.raises(LeaseHeldError):
        old.claim()
    new.release()
    assert take(database, old) == 3


def test_of_two_that_saw_it_free_one_gets_it(database: Connection, claimant: Claimant) -> None:
    take(database, claimant())
    run_out(database)
    first, second = claimant("a"), claimant("b")
    seen = second.claim()
    take(database, first)
    assert seen is not None
    with pytest.raises(FencedError):
        take_over(database, 0, owned=seen.epoch, name="b")
    assert one(database, "SELECT owner FROM shard") == "a"


def test_a_lease_is_renewed_about_every_second_and_released_at_the_end(
    database: Connection, claimant: Claimant, clock: Hands
) -> None:
    owner = claimant()
    take(database, owner)
    assert owner.is_due
    assert owner.renew()
    assert one(database, "SELECT lease_until < now() + interval '6 seconds' FROM shard")
    due = []
    for _ in range(3):
        due.append(owner.is_due)
        clock.now += 0.6
    assert due == [False, False, True]
    owner.release()
    assert one(database, "SELECT lease_until <= now() FROM shard")
    assert take(database, claimant("standby")) == 2


def test_who_lost_it_releases_nothing(database: Connection, claimant: Claimant) -> None:
    old, new = claimant(), claimant()
    take(database, old)
    take(database, new)
    old.release()
    with pytest.raises(LeaseHeldError):
        claimant("standby").claim()


def test_a_standby_leaves_a_free_shard_to_its_engine_for_a_while(
    database: Connection, claimant: Claimant, clock: Hands
) -> None:
    take(database, claimant())
    run_out(database)
    standby = claimant("standby", patience_s=5.0)
    with pytest.raises(LeaseHeldError):
        standby.claim()
    clock.now += 5.0
    assert take(database, standby) == 2


def test_a_standby_that_has_seen_an_owner_is_patient_no_more(database: Connection, claimant: Claimant) -> None:
    take(database, claimant())
    standby = claimant("standby", patience_s=5.0)
    with pytest.raises(LeaseHeldError):
        standby.claim()
    run_out(database)
    assert take(database, standby) == 2


def test_a_lease_from_a_clock_that_went_back_has_run_out(database: Connection, claimant: Claimant) -> None:
    take(database, claimant())
    database.execute("UPDATE shard SET lease_until = now() + interval '1 hour'")
    assert take(database, claimant("standby")) == 2


def test_nobody_takes_a_halted_shard(database: Connection, claimant: Claimant) -> None:
    owner = claimant()
    take(database, owner)
    database.execute("UPDATE shard SET halted = 'look at this'")
    with pytest.raises(HaltedError, match="look at this"):
        owner.claim()
    with pytest.raises(LeaseHeldError):
        claimant("standby").claim()
    run_out(database)
    with pytest.raises(HaltedError, match="look at this"):
        claimant("standby").claim()
