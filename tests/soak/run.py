"""The soak from its start to its verdict: the steps stand in `Soak.run` in the order they happen."""

import contextlib
import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import redis

from tests.soak import (
    disk,
    faults_lines,
    faults_processes,
    faults_providers,
    faults_stores,
    faults_syscalls,
    sabotage,
    strace,
)
from tests.soak.checkers import Finding, Wrong
from tests.soak.clients import Caller, Depositor, Login, Registrar, Trader, Worker
from tests.soak.follower import Follower
from tests.soak.history import History
from tests.soak.house import SoakHouse, wait_until_whole
from tests.soak.nemesis import Fault, NotPossible, Plan, chosen, families
from tests.soak.report import SHOWN_MAX, Injected, shown, table, verdict
from tests.soak.settle import comes_to_rest, everything_agrees
from tests.soak.sweep import own_arena, strikes, told_in_a_line
from tests.soak.watch import Watch
from tests.waiting import eventually

RECOVERS_WITHIN_S = 90.0
"""From a fault's end until everything is up and every kind of client has had a fresh order filled."""
TRADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("anna", ("0.01", "0.04", "0.10")),
    ("ben", ("0.02", "0.10", "0.30")),
    ("carla", ("1.00", "1.21", "0.20")),
)
"""Users and the lots they trade: against the house, at the providers, and shared between both."""
FUNDS = "1000000.00"
STOPS_WITHIN_S = 240.0
SWEEP = "sweep"
ONLY_IF_NAMED = ("sabotage", "dealer")
"""Families that no soak can end well with."""


@dataclass(frozen=True, slots=True)
class Options:
    minutes: float
    seed: int
    faults: tuple[str, ...] = ()
    pace_s: float = 0.3
    """Between two requests of a client."""
    sweep: int = 0
    """How many places a private engine and its PostgreSQL are killed at, afterwards."""
    keep: bool = False
    """Leave the data folder behind."""


@dataclass
class Soak:
    options: Options
    folder: Path
    say: Callable[[str], None]
    injected: list[Injected] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)

    def run(self) -> int:
        """0 when nothing was lost, doubled, left unresolved or violated."""
        self.seed = str(self.options.seed)
        if self.options.faults != (SWEEP,):
            self._in_the_house()
        if self.options.sweep:
            self._sweep()
        for finding in self.findings[:SHOWN_MAX]:
            self.say(f"{finding.kind.value}: {finding.text}")
        self.say(verdict(self.findings))
        return 1 if self.findings else 0

    def _in_the_house(self) -> None:
        data = self.folder / "h"
        mount = self.folder / "wal"
        without_disk = disk.prepare(data, mount)
        house = SoakHouse(data, "--no-tour")
        try:
            house.up().remember_addresses()
            self._soak(house, self._faults(house, mount, without_disk))
        finally:
            house.end_at_last()
        ops = self.history.snapshot()
        self.say("the table\n" + shown(table(self.injected, ops, self.findings)))

    def _soak(self, house: SoakHouse, faults: list[Fault]) -> None:
        self.stop, self.watch_stop = threading.Event(), threading.Event()
        self.history = History(self.folder / "history.jsonl")
        self._people(house)
        watch = Watch(house, self.watch_stop)
        watch.start()
        for one in (*self.workers, *self.followers):
            one.start()
        try:
            house.order_providers(faults_providers.USUAL)
            self._everyone_trades(since_s=time.monotonic(), within_s=RECOVERS_WITHIN_S)
            self._harm(house, Plan(faults, self.seed))
            self.stop.set()
            self._workers_end()
            self._settle(house, watch)
        finally:
            self.stop.set()
            self.watch_stop.set()

    # -------------------------------------------------------------------------------------------------------- the plan

    def _faults(self, house: SoakHouse, mount: Path, without_disk: str) -> list[Fault]:
        everything = [
            *faults_processes.faults(house.names()),
            *faults_stores.faults(),
            *faults_lines.faults(house.lines),
            *faults_providers.faults(),
            *faults_syscalls.faults(),
            *disk.faults(None if without_disk else mount, without_disk),
        ]
        if any(name.startswith(ONLY_IF_NAMED) for name in self.options.faults):
            everything += [*sabotage.faults(), *faults_providers.faults_for_a_dealer()]
        found = []
        for fault in chosen(everything, [name for name in self.options.faults if name != SWEEP]):
            if reason := fault.needs(house):
                self.say(f"skipped {fault.name}: {reason}")
            else:
                found.append(fault)
        counted = ", ".join(f"{name} {len(members)}" for name, members in families(found).items())
        self.say(f"seed {self.seed}; {len(found)} faults by turns of {counted}")
        return found

    # ------------------------------------------------------------------------------------------------------ the people

    def _people(self, house: SoakHouse) -> None:
        passwords = json.loads((house.data / "secrets" / "demo-logins.json").read_text())
        self.last_seeded = int(house.sql("SELECT coalesce(max(transaction_id), 0) FROM ledger_transfer")[0][0])
        for user, volumes in TRADERS:
            login = Login(house.url, user, passwords[user])
            account = account_of(login)
            pace_s = self.options.pace_s
            self._fund(login, account)
            self.workers += [
                Trader(f"soak-{user}-1", self._caller(login), account, self.seed, pace_s, volumes),
                Depositor(f"soak-{user}-pays", self._caller(login), account, self.seed, 20.0),
            ]
            if user != "anna":
                self.workers.append(Trader(f"soak-{user}-2", self._caller(login), account, self.seed, pace_s, volumes))
            if user != "carla":
                self.workers.append(Registrar(f"soak-{user}-rests", self._caller(login), account, self.seed, 1.0))
            self.followers.append(Follower(house.stream_url, login, account, self.watch_stop))

    def _caller(self, login: Login) -> Caller:
        return Caller(login, self.history, self.stop)

    def _fund(self, login: Login, account: int) -> None:
        """So much that nobody is stopped out: that would be another test."""
        payer = Depositor(f"soak-{login.username}-funds", self._caller(login), account, self.seed, 1.0)
        payer.pay(FUNDS)

    def _workers_end(self) -> None:
        deadline = time.monotonic() + STOPS_WITHIN_S
        for worker in self.workers:
            worker.join(max(deadline - time.monotonic(), 0.1))
            if worker.is_alive():
                self._found(Wrong.UNRESOLVED, f"{worker.name} does not end")
            for text in worker.caller.odd:
                self._found(Wrong.VIOLATED, f"{worker.name}: {text}")

    # -------------------------------------------------------------------------------------------------------- the harm

    def _harm(self, house: SoakHouse, plan: Plan) -> None:
        until_s = time.monotonic() + self.options.minutes * 60
        while time.monotonic() < until_s:
            fault, rng, gap_s = plan.next()
            began_s = time.monotonic()
            if self._inject(house, fault, rng):
                time.sleep(max(began_s + gap_s - time.monotonic(), 0))

    def _inject(self, house: SoakHouse, fault: Fault, rng: random.Random) -> bool:
        """Whether it could be done."""
        now = Injected(fault.name, time.monotonic())
        self.injected.append(now)
        try:
            now.what = fault.inject(house, rng)
        except NotPossible as reason:
            self.injected.remove(now)
            self.say(f"not now: {fault.name}: {reason}")
            return False
        except (psycopg.Error, redis.RedisError, OSError) as error:
            now.what = f"half done: {type(error).__name__} {error}"
        now.ended_s = time.monotonic()
        self._recover(house, now)
        return True

    def _recover(self, house: SoakHouse, now: Injected) -> None:
        missing = wait_until_whole(house, within_s=RECOVERS_WITHIN_S)
        with contextlib.suppress(psycopg.Error, redis.RedisError):
            house.order_providers(faults_providers.USUAL)
        stuck = self._everyone_trades(
            since_s=now.ended_s, within_s=max(RECOVERS_WITHIN_S + now.ended_s - time.monotonic(), 1)
        )
        now.recovered_s = time.monotonic()
        self.say(f"{now.name}: {now.what}; recovered after {now.recovery_s:.1f} s")
        if missing or stuck:
            self._found(Wrong.VIOLATED, f"{now.name} ({now.what}): no recovery, missing {missing}, not trading {stuck}")

    def _everyone_trades(self, *, since_s: float, within_s: float) -> list[str]:
        """Every trader has had an order filled that it began after `since_s`; who has not, when the time is up."""
        traders = [worker for worker in self.workers if isinstance(worker, Trader)]

        def waiting() -> list[str]:
            return [trader.name for trader in traders if trader.filled_s <= since_s]

        with contextlib.suppress(AssertionError):
            eventually(lambda: not waiting(), within_s=within_s)
        return waiting()

    # ------------------------------------------------------------------------------------------------------- the sweep

    def _sweep(self) -> None:
        """On stores of its own, when the house is gone."""
        if reason := strace.why_not():
            self.say(f"no sweep: {reason}")
            return
        folder = self.folder / "sweep"
        folder.mkdir(mode=0o755)
        with own_arena(folder) as place:
            for strike in strikes(self.options.sweep, self.seed):
                struck = place.strike(strike)
                self.findings += struck.findings
                self.say(f"sweep: {told_in_a_line(struck)}")

    # -------------------------------------------------------------------------------------------------------- the end

    def _settle(self, house: SoakHouse, watch: Watch) -> None:
        try:
            wait_until_whole(house, within_s=RECOVERS_WITHIN_S)
            self.findings += comes_to_rest(house, self.followers)
            self.findings += everything_agrees(
                house, self.history.snapshot(), self.followers, watch, last_seeded=self.last_seeded, prefix="soak-"
            )
        except (psycopg.Error, redis.RedisError, httpx.HTTPError, AssertionError) as error:
            self._found(Wrong.UNRESOLVED, f"the end could not be looked at: {error!r}")
        self.say(
            f"{watch.auditor.looks} looks at the invariants ({watch.missed} while the database was away),"
            f" {sum(follower.connections for follower in self.followers)} stream connections,"
            f" {sum(len(told) for follower in self.followers for told in follower.received.values())} events followed,"
            f" {len(self.history.ops)} operations"
        )

    def _found(self, kind: Wrong, text: str) -> None:
        self.findings.append(Finding(kind, text))
        self.say(f"{kind.value}: {text}")


def account_of(login: Login) -> int:
    answer = httpx.get(
        f"{login.base_url}/v1/accounts", headers={"Authorization": f"Bearer {login.token()}"}, timeout=20
    )
    answer.raise_for_status()
    return int(answer.json()["data"][0]["id"])


def soak(options: Options, folder: Path, say: Callable[[str], None]) -> int:
    """Run one, in a folder that is removed unless something was found or it is to be kept."""
    status = 1
    try:
        status = Soak(options, folder, say).run()
    finally:
        if status or options.keep:
            say(f"data, logs and history stay in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return status
