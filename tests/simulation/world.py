"""The whole house on one virtual clock in one thread: real engine and provider processes, modelled outside, seeded misfortune.

`House.run` plays operations and then brings everything to rest: faults off, providers honest, questions asked until they are
answered. What must hold is in `checks`. All randomness comes from one seed; the history's hash tells two runs apart.
"""

import contextlib
import gc
import hashlib
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

import engine.driver as driver_module
from bus.codec import encode
from engine.recovery import load
from engine.state import State
from tests.simulation.bus import Redis, Relay
from tests.simulation.checks import Checks
from tests.simulation.clients import Clients
from tests.simulation.clockwork import SECOND_US, Crash, Process, Time, Unmodelled
from tests.simulation.misfortune import Misfortune
from tests.simulation.moves import Moves
from tests.simulation.postgres import Server, Transaction
from tests.simulation.processes import FATAL, Engine, LpProcess
from tests.simulation.provider import Provider, VenueOrder
from tests.support.laws import every_rule
from trading.liquidity import LpOrder
from trading.quotes import Quote

STEPS_US = (0, 1_000, 5_000, 20_000, 20_000, 100_000)
COMMITS_US = (0, 50_000, 100_000, 200_000, 350_000, 500_000)
"""How long a commit takes, by seed: with the slow ones several operations come together in a batch."""
TOGETHER_MAX = (1, 6, 10, 16)
"""So many operations come at once, by seed: the engine takes them together, and newer prices replace older ones."""
DEEP_EVERY = 100
QUIET_STEPS_MAX = 3_000
ZOMBIE_TURNS = 40


class House:
    """One seed's world."""

    def __init__(
        self,
        seed: int,
        *,
        faults: frozenset[str] | None = None,
        moves: frozenset[str] | None = None,
        focus: frozenset[str] | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.time = Time()
        self.faults: Counter[str] = Counter()
        self.moves_done: Counter[str] = Counter()
        self.crashes = 0
        self.operation = 0
        self.digest = hashlib.sha256()
        # A fill far from the market waits for a dealer, and there is none here.
        self.config = msgspec.structs.replace(every_rule(), fill_deviation_percent=None)
        self.checks = Checks(self)
        self.server = Server(self.time)
        self.server.on_commit = self._committed
        self.server.stall = self._stall
        self.server.tables.rows["config_version"][1,] = [
            1,
            encode(self.config).decode(),
            "2023-11-14 00:00:00+00",
            "sim",
        ]
        self.redis = Redis(self.time)
        self.clients = Clients(self.redis, self.time, self.checks.violate)
        self.relay = Relay(self.server, self.faults)
        self.latest: dict[str, Quote] = {}
        self.providers = {
            name: Provider(name, self.time, random.Random(f"{seed} {name}"), self._lp_price, self.faults)
            for name in ("YOFX1", "PRIMEXM")
        }
        for provider in self.providers.values():
            provider.on_order = partial(self.checks.promises.sent, provider)
        self.symbols = {
            instrument.lp_symbol: symbol
            for settings in self.config.lps.values()
            for symbol, instrument in settings.instruments.items()
        }
        self.lps = {name: LpProcess(self, provider) for name, provider in self.providers.items()}
        self._lp_back_us = dict.fromkeys(self.lps, 0)
        self.engine: Engine | None = Engine(self)
        self._engine_back_us = 0
        self.zombies: list[tuple[Engine, int]] = []
        self._last_state = State()
        self._seen: tuple[int, State] | None = None
        """What an engine knew that was killed with nothing under way, and after which batch."""
        self.slow_until_us = 0
        pace = random.Random(f"{seed} pace")
        self.commit_us, self.together_max = pace.choice(COMMITS_US), pace.choice(TOGETHER_MAX)
        self.clock_right_us = 0
        self._depth = 0
        self._allowed_moves = moves
        self.moves = Moves(self, self.random)
        self.misfortune = Misfortune(self, random.Random(f"{seed} misfortune"), faults, focus)

    # --------------------------------------------------------------------------------------------------------------- a run

    def run(self, operations: int) -> None:
        self.moves.begin()
        self._settle_in()
        for provider in self.providers.values():
            provider.misbehaves = self.misfortune.manners()
        while self.operation < operations:
            before = self.operation
            self.step(min(self.random.randint(1, self.together_max), operations - before))
            if self.operation // DEEP_EVERY > before // DEEP_EVERY:
                self.check_deeply()
        self.come_to_rest()

    def step(self, operations: int = 1) -> None:
        """Operations that come together, a little time after each, and a turn of everybody who lives."""
        for _ in range(operations):
            self.operation += 1
            self.misfortune.maybe()
            name = self.moves.one(self._allowed_moves)
            self.moves_done[name] += 1
            self.time.advance_us(self.random.choice(STEPS_US))
        if self.time.offset_us and self.time.now_us >= self.clock_right_us:
            self.time.offset_us = 0
        self.turn()
        self.checks.after_step()

    def turn(self) -> None:
        """Everybody once."""
        self._turn_engine()
        for name, provider in self.providers.items():
            lp = self.lps[name]
            self.protected(provider.turn, lp)
            self._turn_lp(name)
        if self.zombies:
            self._turn_zombies()
        self.clients.turn(for_ever=self.misfortune.is_over)
        self.relay.turn()

    def _turn_engine(self) -> None:
        engine = self.engine
        if engine is None:
            if self.time.now_us < self._engine_back_us:
                return
            engine = self.engine = Engine(self)
        if engine.step.mode == "waiting":
            self._recover(engine)
            if self.zombies:
                return  # somebody who was taken for dead writes before the new owner does
        if engine.alive:
            self.protected(engine.turn, engine)
        if engine.is_finished and engine is self.engine:
            self._retire(engine)

    def _turn_lp(self, name: str) -> None:
        lp = self.lps[name]
        if not lp.alive:
            if self.time.now_us < self._lp_back_us[name]:
                return
            lp = self.lps[name] = LpProcess(self, self.providers[name])
        self.protected(lp.turn, lp)

    def _turn_zombies(self) -> None:
        for place, (zombie, left) in enumerate(self.zombies):
            self.protected(zombie.turn, zombie)
            self.zombies[place] = zombie, left - 1
        for zombie, left in self.zombies:
            if zombie.alive and left <= 0:
                zombie.end()
        self.zombies = [(zombie, left) for zombie, left in self.zombies if zombie.alive]

    def protected(self, work: Callable[[], object], process: Process) -> None:
        """Run a process's own work; when it is killed in it, it is gone and everybody else lives on."""
        try:
            work()
        except Crash as crash:
            if crash.process is not process and process.alive:
                raise
            self._killed(process)
        except FATAL as error:
            self.faults[f"lp.{type(error).__name__}"] += 1
            self._killed(process)

    # ------------------------------------------------------------------------------------------------- births and deaths

    def _killed(self, process: Process) -> None:
        if isinstance(process, Engine):
            self.crashes += 1
            if process is self.engine:
                self._lose_engine(process)
            elif process.alive:
                process.end()
        elif isinstance(process, LpProcess) and process.alive:
            self.kill_lp(process.provider.name)

    def kill_engine(self) -> None:
        if self.engine is not None:
            self.crashes += 1
            self._lose_engine(self.engine)

    def _lose_engine(self, engine: Engine) -> None:
        """Its supervisor starts another soon."""
        self._last_state = engine.step.state
        self._seen = (engine.step.seq, engine.step.state) if engine.is_idle else None
        engine.end()
        self.engine = None
        self._engine_back_us = self.time.now_us + self.random.choice((0, 200_000, 2_000_000))

    def _retire(self, engine: Engine) -> None:
        """It has stopped in order, and closes its connections, unless it is killed over that."""
        self.protected(engine.driver.close, engine)
        if engine is not self.engine:
            return
        self._last_state = engine.step.state
        self._seen = None
        engine.end()
        self.engine = None
        self._engine_back_us = self.time.now_us

    def stop_engine(self) -> None:
        """For good: the shard is halted."""
        if self.engine is not None:
            self._last_state = self.engine.step.state
            self.engine.end()
            self.engine = None
        self._engine_back_us = 1 << 62

    def restart_engine(self) -> None:
        if self.engine is not None:
            self.engine.driver.stop()

    def make_zombie(self) -> None:
        """The engine is taken for dead, though it only stands still: another takes over, then the old one wakes up."""
        if self.engine is None:
            return
        self.zombies.append((self.engine, ZOMBIE_TURNS))
        self._last_state = self.engine.step.state
        self.engine = None
        self._engine_back_us = self.time.now_us

    def kill_lp(self, name: str) -> None:
        lp, provider = self.lps[name], self.providers[name]
        if not lp.alive:
            return
        self.crashes += 1
        lp.end()
        provider.cut(keep=self.random.random() < 0.5)
        provider.line = None
        self._lp_back_us[name] = self.time.now_us + self.random.choice((0, 500_000, 3_000_000))

    def _recover(self, engine: Engine) -> None:
        """What it loads is what its predecessor knew, where all that it knew was durable and nobody wrote since."""
        self.protected(engine.driver._recover_when_due, engine)
        if engine.is_idle and engine.alive and engine is self.engine:
            seen, self._seen = self._seen, None
            known = seen[1] if seen is not None and seen[0] == engine.step.seq else None
            self.checks.after_crash(engine.step.state, known)

    def _stall(self, process: Process) -> None:
        """The process stands still inside a statement while the world goes on: for a moment, or until it is given up."""
        if self._depth:
            return
        self._depth += 1
        try:
            is_long = isinstance(process, Engine) and process is self.engine and self.random.random() < 0.6
            if is_long:
                self.faults["engine.stalled"] += 1
                self.time.advance_us(self.random.choice((3, 20)) * SECOND_US)
                self.make_zombie()
            self._others(process, 4 if is_long else 1)
        finally:
            self._depth -= 1

    def pass_time(self, process: Process, seconds: float) -> None:
        """A process waits; others do not."""
        self.time.advance_us(max(int(seconds * SECOND_US), 1_000))
        if self._depth == 0:
            self._depth += 1
            try:
                self._others(process, 1)
            finally:
                self._depth -= 1

    def _others(self, process: Process, turns: int) -> None:
        for _ in range(turns):
            if process is not self.engine:
                self._turn_engine()
            for name, lp in list(self.lps.items()):
                if lp is not process:
                    self.protected(self.providers[name].turn, lp)
                    self._turn_lp(name)

    # ---------------------------------------------------------------------------------------------------- what others ask

    @property
    def state(self) -> State:
        """What a client sees: the newest that an engine has told."""
        return self._last_state if self.engine is None else self.engine.step.state

    def venue_order(self, leg: LpOrder) -> VenueOrder | None:
        """The order as its provider has it; None while it has not come there."""
        return self.providers[leg.lp].orders.get(leg.cl_ord_id)

    def commit_takes_us(self) -> int:
        return self.random.choice((50_000, 400_000)) if self.time.now_us < self.slow_until_us else self.commit_us

    def nudge_lp(self, lp: str) -> None:
        session = self.lps[lp].session
        if session is not None:
            session.work_waits.set()

    def nudge_engine(self) -> None:
        if self.engine is not None and self.redis.is_up:
            self.engine.driver.nudge_inbox()

    def publish(self, quote: Quote) -> None:
        self.latest[quote.symbol] = quote
        self.redis.publish(quote)

    def note(self, *said: str) -> None:
        for text in said:
            self.digest.update(text.encode())

    def rebuilt(self) -> State:
        """What a new engine would load now, without taking the shard."""
        reader = Process("auditor", self.faults)
        down, self.server.down_until_s = self.server.down_until_s, 0.0
        connection: Any = self.server.connect(reader, "audit")
        _, epoch, seq, *_ = self.server.tables.rows["shard"][0,]
        try:
            return load(connection, 0, epoch=epoch, seq=seq).state
        finally:
            connection.close()
            self.server.down_until_s = down

    def _committed(self, transaction: Transaction) -> None:
        self.checks.committed(transaction)

    def _lp_price(self, lp_symbol: str, side: str) -> Decimal | None:
        quote = self.latest.get(self.symbols[lp_symbol])
        return None if quote is None else quote.ask if side == "1" else quote.bid

    # ---------------------------------------------------------------------------------------------------- begin and end

    def _settle_in(self) -> None:
        """Until the accounts are open and funded: nothing goes wrong yet."""
        for _ in range(200):
            self.time.advance_us(20_000)
            self.turn()
            if not self.clients.waiting:
                return

    def check_deeply(self) -> None:
        """At a moment when nothing is under way, if one comes soon."""
        for _ in range(4):
            engine = self.engine
            if engine is None or engine.step.mode != "running" or engine.is_idle:
                break
            self.protected(engine.turn, engine)
        self.checks.deeply()

    def come_to_rest(self) -> None:
        """No more faults; every process lives; whoever waits asks again. Then nothing may be left over."""
        self.misfortune.is_over = True
        self.slow_until_us = self.time.offset_us = 0
        self.server.down_until_s = self.redis.down_until_s = 0.0
        for process in [*self.lps.values(), *([self.engine] if self.engine else [])]:
            process.armed.clear()
        for zombie, _ in self.zombies:
            zombie.armed.clear()
        for provider in self.providers.values():
            provider.behave()
        self.relay.forgets_next = False
        for request in self.clients.requests.values():
            if request.outcome == "unknown":
                request.outcome, request.due_us = "waiting", 0
                self.clients.waiting[request.command.account, request.command.key] = request
        for number in range(QUIET_STEPS_MAX):
            self.time.advance_us(100_000 if number < 600 else 2_000_000)
            if number % 10 == 0:
                self.moves.refresh_all()
                self._ask_the_desk()
            self.turn()
            self.checks.after_step()
            if number % 5 == 4 and self._is_at_rest():
                break
        self.check_deeply()
        self.checks.finally_()

    def _ask_the_desk(self) -> None:
        """What a provider took back or changed of an order that is open here makes it a dealer's. All else ends by itself."""
        for leg in list(self.state.legs.values()):
            order = self.venue_order(leg)
            is_all_known = self.providers[leg.lp].is_quiet and self._has_applied_all_of(leg.lp)
            if order is not None and (order.is_changed or order.is_settled) and is_all_known:
                self.moves.settle_leg(leg)

    def _has_applied_all_of(self, lp: str) -> bool:
        return len(self.server.tables.inbox.get(lp, ())) == self.state.inbox_cursors.get(lp, 0)

    def _is_at_rest(self) -> bool:
        engine, tables = self.engine, self.server.tables
        return (
            engine is not None
            and engine.is_idle
            and not self.clients.waiting
            and not self.zombies
            and not tables.live_legs
            and not tables.new_legs
            and all(provider.is_quiet for provider in self.providers.values())
            and all(self._has_applied_all_of(lp) for lp in self.providers)
            and self.relay.published_seq == len(tables.rows["outbox"])
        )


class _Silent:
    """A log that nobody reads."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _say_nothing


def _say_nothing(*_: object, **__: object) -> None:
    """Logs are for people."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without logs, and without what production does for a long life: collecting and freezing memory at every recovery."""
    speaking: list[Any] = [
        module
        for name, module in sys.modules.items()
        if name.startswith(("engine.", "bus.")) and hasattr(module, "log")
    ]
    logs, settle = [module.log for module in speaking], driver_module.settle_memory
    for module in speaking:
        module.log = _Silent()
    driver_module.settle_memory = _say_nothing
    disabled, was_collecting = logging.root.manager.disable, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        for module, log in zip(speaking, logs, strict=True):
            module.log = log
        driver_module.settle_memory = settle
        logging.disable(disabled)
        if was_collecting:
            gc.enable()


__all__ = ["House", "Unmodelled", "quiet"]
