"""Planted where the simulator has only a model: each is held to a check of the real thing, as cheap as it can be."""

import importlib.util
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import quickfix as fix

from bench.durable import Generator, publish
from bench.services import migrated_database
from bus.clock import wall
from engine import journal
from engine.driver import Driver
from engine.journal import connect
from engine.recovery import recover
from engine.state import state_hash
from engine.step import Step
from engine.work import Work
from fix_gateway.initiator import _Application
from fix_gateway.settings import SessionFile
from tests.mutants.mutant import Mutant, replaced
from tests.simulation.run import run_seed
from trading.commands import AnyCommand, Deposit, OpenAccount
from trading.numbers import parse_decimal

Plant = AbstractContextManager[object]


@contextmanager
def _database() -> Iterator[str]:
    """A migrated database on a server of its own: workers end without a word, so nothing may outlive the check."""
    with migrated_database() as address:
        publish(address)
        yield address


# ----------------------------------------------------------------------------------------------------------- a restart


def float_column() -> Plant:
    """A balance passes through `double precision` on its way into the table."""
    return replaced(
        journal, "balances_statement", lambda original: lambda: original().replace("b::numeric", "b::float8")
    )


def a_restart_finds_every_digit() -> list[str]:
    """An engine on a real PostgreSQL takes in sixteen digits of money; the next one holds the same state."""
    with _database() as url:
        return _restarted(url)


def _restarted(url: str) -> list[str]:
    money = parse_decimal("999999999999.97")
    commands: list[AnyCommand] = [
        OpenAccount(id="a", key="a", account=1, group="retail", currency="USD", leverage=30, reply_to="b"),
        *(Deposit(id=f"d{n}", key=f"d{n}", account=1, amount=money, reply_to="b") for n in range(49)),
    ]
    generator = Generator(commands, outstanding=1)
    driver = Driver(step=Step(0), url=url, source=generator, tell=generator, clock=wall)
    driver.run(until=lambda: generator.is_done)
    driver.close()
    assert not generator.refused, "the sums are too large"
    with connect(url, name="mutants") as connection:
        again = recover(connection, 0).state
    live = driver.step.state
    if state_hash(again) == state_hash(live):
        return []
    return [f"real restart: {again.balances} is loaded, {live.balances} was acknowledged"]


# ------------------------------------------------------------------------------------------------------------- QuickFIX


def resend_allowed() -> Plant:
    """QuickFIX answers a ResendRequest(35=2) with the orders themselves."""
    return replaced(_Application, "toApp", lambda _original: lambda _self, _message, _session: None)


def a_resent_order_is_held_back() -> list[str]:
    """What QuickFIX asks our callback before it repeats an order: PossDupFlag(43) is on it."""
    nowhere = SessionFile(Path("/"), Path("/"), "", "", keeps_store=True, account="", update_type="0")
    application: Any = _Application("mutants", nowhere, mock.Mock())
    application._up.set()
    message = fix.Message()
    for tag, value in ((35, "D"), (34, "7"), (43, "Y")):
        message.getHeader().setField(fix.StringField(tag, value))
    message.setField(fix.StringField(11, "T1"))
    try:
        application.toApp(message, None)
    except fix.DoNotSend:
        return []
    return ["real resend: an order with PossDupFlag(43) leaves again"]


# --------------------------------------------------------------------------------------------------------------- outbox


def every_row_after_the_last() -> Plant:
    """The poller that everybody writes first: WHERE number > last, and on from the greatest that was seen."""
    return replaced(_relay(), "contiguous", lambda _original: lambda messages, _after: list(messages))


def rows_committed_out_of_order_are_published() -> list[str]:
    """Two writers, the later number committed first: a relay's reading of a real outbox gives each row once, in order."""
    with _database() as url:
        published = _published(url, _relay())
    return [] if published == [1, 2] else [f"real outbox: rows 1 and 2 are committed, {published} is published"]


def _published(url: str, relay: Any) -> list[int]:
    columns = "shard, shard_seq, account, account_seq, kind, payload, at"
    insert = f"INSERT INTO outbox ({columns}) VALUES (0, %s, 1, %s, 'k', '{{}}', now())"
    published: list[int] = []

    def poll(reader: Any) -> None:
        after = published[-1] if published else 0
        published.extend(m.shard_seq for m in relay.contiguous(relay.outbox_after(reader, 0, after, 100), after))

    with psycopg.connect(url) as slow, psycopg.connect(url) as quick, psycopg.connect(url, autocommit=True) as reader:
        slow.execute(insert, (1, 1))
        quick.execute(insert, (2, 2))
        quick.commit()
        poll(reader)
        slow.commit()
        poll(reader)
    return published


def _relay() -> Any:
    return importlib.import_module("bus.relay")


# --------------------------------------------------------------------------------------------------------------- replay


def clock_in_a_decision() -> Plant:
    """A decision looks at the machine's clock instead of the time that it was handed."""

    def make(original: Any) -> Any:
        def begin(self: Work, state: Any, config: Any, now_us: int) -> None:
            original(self, state, config, now_us + time.perf_counter_ns() % 1000)

        return begin

    return replaced(Work, "__init__", make)


def the_same_twice() -> list[str]:
    """One seed, two runs, one history."""
    one, other = run_seed(1, 200), run_seed(1, 200)
    return [] if one.digest == other.digest else [f"replay: {one.digest[:12]} is not {other.digest[:12]}"]


OUTBOX = Mutant(
    "naive outbox poller",
    "every event is told",
    every_row_after_the_last,
    check=rows_committed_out_of_order_are_published,
)
REAL = (
    *([OUTBOX] if importlib.util.find_spec("bus.relay") else []),
    Mutant("money in a float column", "money is exact", float_column, check=a_restart_finds_every_digit),
    Mutant(
        "orders resent by QuickFIX", "no order leaves after its time", resend_allowed, check=a_resent_order_is_held_back
    ),
    Mutant("decision reads the clock", "a replay says the same", clock_in_a_decision, check=the_same_twice),
)
