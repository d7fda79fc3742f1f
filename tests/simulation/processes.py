"""The processes of the house in the model: the real driver, journal, inbox, dispatcher and trade session, and their wiring.

Each has connections of its own to the modelled PostgreSQL, which die with it. The committing thread is a job done later.
"""

from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import psycopg

from engine.batch import Batch
from engine.committer import look_batch_up, write_batch
from engine.driver import Driver
from engine.journal import Facts, Journal
from engine.step import LookUp, Step, StepInput
from fix_gateway.settings import SessionFile
from lp_adapters.inbox import CommitRefused, Inbox, LockLost
from lp_adapters.trades import TradeSession
from tests.simulation.bus import Source, Tell
from tests.simulation.clockwork import Process
from tests.simulation.provider import Line, Provider

if TYPE_CHECKING:
    from tests.simulation.world import House

LOOK_UP_AGAIN_US = 500_000
LP_POLL_US = 250_000
NOWHERE = SessionFile(Path("/"), Path("/"), "", "", keeps_store=True, account="", update_type="0")


class Mailbox(SimpleQueue[StepInput | None]):
    """Never waits: real time stands still here."""

    def get(self, block: bool = True, timeout: float | None = None) -> StepInput | None:
        return super().get_nowait()


class Committer:
    """`engine.driver.Committer` without a thread: a batch is written when its time has come."""

    def __init__(self, journal: Journal, house: "House") -> None:
        self._journal = journal
        self._house = house
        self._deliver: Any = None
        self.job: Batch | LookUp | None = None
        self.due_us = 0

    def deliver_to(self, deliver: Any) -> None:
        self._deliver = deliver

    def start(self) -> None:
        """There is no thread."""

    def stop(self) -> None:
        self._journal.close()

    def write(self, batch: Batch) -> None:
        assert self.job is None, "one batch at a time"
        self.job = batch
        self.due_us = self._house.time.now_us + self._house.commit_takes_us()

    def look_up(self, question: LookUp) -> None:
        self.job = question
        self.due_us = self._house.time.now_us

    def work(self) -> bool:
        """Do what is due; True when something was."""
        job = self.job
        if job is None or self._house.time.now_us < self.due_us:
            return False
        if isinstance(job, LookUp):
            try:
                outcome: Any = look_batch_up(self._journal, job)
            except psycopg.Error:
                self.due_us = self._house.time.now_us + LOOK_UP_AGAIN_US
                return False
        else:
            self._house.checks.decided(job)
            outcome = write_batch(self._journal, job)
        self.job = None
        self._deliver(outcome)
        return True


class Engine(Process):
    def __init__(self, house: "House") -> None:
        super().__init__("engine", house.faults)
        self.house = house
        self.source = Source(house.redis)
        self.committer = Committer(Journal("", connecting=self.connect), house)
        self.step = Step()
        self.driver = Driver(
            step=self.step,
            url="",
            source=self.source,
            tell=Tell(
                house.redis,
                self,
                said=lambda answer: house.checks.acked(self, answer),
                heard=house.clients.hear,
                nudge=house.nudge_lp,
            ),
            clock=house.time.business,
            facts=Facts("", connecting=self.connect),
            connecting=self.connect,
            committer=self.committer,
            monotonic=house.time.monotonic,
        )
        mailbox = Mailbox()
        self.driver._mailbox = mailbox
        self.committer.deliver_to(mailbox.put)

    def connect(self, name: str) -> Any:
        return self.house.server.connect(self, name)

    def turn(self) -> None:
        self.driver.turn(0.0)
        if self.committer.work():
            self.driver.turn(0.0)

    @property
    def is_idle(self) -> bool:
        """Nothing decided that is not durable, nothing durable that is not told."""
        step = self.step
        return step.mode == "running" and step.in_flight is None and not step._open.commands and not step._dirty

    @property
    def is_finished(self) -> bool:
        return self.driver._finished

    def end(self) -> None:
        self.alive = False
        self.source.close()
        self.house.server.kill(self)


class _Patience(Exception):
    """Another process writes for this provider, or the database is away: try again later."""


class LpProcess(Process):
    """One provider's trade process."""

    def __init__(self, house: "House", provider: Provider) -> None:
        super().__init__(f"lp:{provider.name}", house.faults)
        self.house = house
        self.provider = provider
        self.session: TradeSession | None = None
        self._work_at_us = 0

    def begin(self) -> None:
        """As `lp_adapters.fix` does: become the one writer, then open the session. Until then, nothing."""
        house, name = self.house, self.provider.name
        inbox = Inbox(
            "", name, house.time.business, connecting=self.connect, sleep=self.sleep, monotonic=house.time.monotonic
        )
        try:
            inbox.acquire(waiting=_no_patience)
        except _Patience:
            return
        self.session = TradeSession(
            name,
            NOWHERE,
            inbox,
            self,
            house.time.business,
            line=lambda _name, _file, handler: Line(self.provider, self, handler),
            monotonic=house.time.monotonic,
        )
        self.session.initiator.start()

    def connect(self) -> Any:
        return self.house.server.connect(self, self.name)

    def sleep(self, seconds: float) -> None:
        """Others go on while this process waits."""
        self.house.pass_time(self, seconds)

    def tell(self, channel: str, data: bytes) -> None:
        self.house.nudge_engine()

    def report_now(self) -> None:
        """Nobody looks."""

    def turn(self) -> None:
        now = self.house.time.now_us
        if self.session is None:
            if now >= self._work_at_us:
                self._work_at_us = now + 1_000_000
                self.begin()
            return
        if self.session.work_waits.is_set() or now >= self._work_at_us:
            self.session.work_waits.clear()
            self._work_at_us = now + LP_POLL_US
            self.session.work()

    def end(self) -> None:
        self.alive = False
        self.house.server.kill(self)


def _no_patience() -> None:
    raise _Patience


FATAL = (LockLost, CommitRefused)
"""What ends a provider's process by design; its supervisor starts it anew."""
