"""The threads round the step: one decides, one commits; the step itself knows neither.

`Driver` is used by the process (commands from Redis) and by the bench and the tests (commands from memory) alike. Where
commands come from and who is told is handed in; PostgreSQL is always the real one.
"""

import gc
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import psycopg
import structlog
from msgspec import Struct

from bus.alerts import Severity, clear_alert, raise_alert
from engine.batch import StreamPosition
from engine.committer import Committer, CommitterThread
from engine.diskguard import POLL_S as DISK_POLL_S
from engine.diskguard import DiskGuard, DiskSpace
from engine.journal import Connection, Facts, Journal, connect, with_facts, with_prior
from engine.lease import (
    OWNER,
    POLL_S,
    FencedError,
    HaltedError,
    Lease,
    LeaseHeldError,
    end_stuck_owner,
    take_over,
)
from engine.recovery import ContradictionError, load
from engine.standby import DivergedError, Follower
from engine.state import Prior
from engine.step import (
    Ack,
    Clock,
    CommandsTaken,
    Failure,
    Fenced,
    Finished,
    Forget,
    Halt,
    LookUp,
    Nudge,
    Output,
    Publish,
    QuotesTaken,
    Rebuild,
    Recovered,
    ReportsTaken,
    StandDown,
    Step,
    StepInput,
    Stopping,
    Taken,
    Unreadable,
    Write,
)
from trading.commands import CorrectDeal, NoteDiskSpace, ReloadConfig
from trading.quotes import Quote

log = structlog.get_logger()

SWITCH_INTERVAL_S = 0.0005
"""For `sys.setswitchinterval`: the committing thread comes back from PostgreSQL many times per batch, and at Python's usual
5 ms it would wait each time."""
IDLE_S = 0.05
RETRY_S = 0.5
"""Between attempts at a database that does not answer, is not migrated yet, or holds a halted shard."""
INBOX_POLL_S = 0.2
CONFIG_POLL_S = 5.0
CONFIG_REFUSED_S = 60.0
"""Between two attempts at a version that what is held does not allow yet."""
STOP_S = 15.0
"""For the last batches, when the database hangs; what they would have committed is decided again by the next run."""
LATENCIES_KEPT = 2000

Told = Ack | Nudge | Publish | Forget


class Arrived(Struct, frozen=True):
    """Commands in stream order, and the life of the stream that their ids belong to."""

    commands: Sequence[Taken | Unreadable]
    incarnation: str = ""


class Source(Protocol):
    """Where commands and quotes come from. Never blocks; calls `Driver.wake` when something has come."""

    def seek(self, position: StreamPosition) -> None:
        """Give again everything after this position."""

    def take(self, limit: int) -> Arrived: ...

    def quotes(self) -> Sequence[Quote]:
        """The newest quote of every symbol that changed since the last call."""


class Tell(Protocol):
    """Who is told after a commit. Must not raise: what could not be told can be asked for."""

    def tell(self, told: Sequence[Told]) -> None: ...


class Driver:
    """Drives one step. `run` belongs to the deciding thread; `wake`, `nudge_*` and `stop` may be called from anywhere."""

    def __init__(
        self,
        *,
        step: Step,
        url: str,
        source: Source,
        tell: Tell,
        clock: Callable[[], int],
        journal: Journal | None = None,
        facts: Facts | None = None,
        connecting: Callable[[str], Connection] | None = None,
        committer: Committer | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        name: str = OWNER,
        patience_s: float = 0.0,
        follower: Follower | None = None,
        disk: DiskGuard | None = None,
    ) -> None:
        """`journal` to `monotonic` are for a simulated world, which has its own database, thread of work and time.

        `name` and `patience_s` say how this engine gets the shard: see `Lease`. A `follower` keeps it ready while it stands
        by; `disk` stops new risk while the storage is nearly full.
        """
        self.step = step
        self.problem = "starting"
        """What the shard waits for; empty while it trades."""
        self.is_halted = False
        self.is_standby = False
        """Somebody else owns the shard."""
        self.commands = 0
        """Committed by this run."""
        self._latencies_s: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._latencies_lock = threading.Lock()
        self._url = url
        self._source = source
        self._tell = tell
        self._clock = clock
        self._connecting = connecting or (lambda name: connect(url, name=name))
        self._monotonic = monotonic
        self._facts = facts or Facts(url)
        self._mailbox: SimpleQueue[StepInput | None] = SimpleQueue()
        """What became of the one batch that is being written, and at most one word that there is something to look at."""
        self._is_woken = False
        self._committer = committer or CommitterThread(journal or Journal(url, shard=step.shard))
        self._committer.deliver_to(self._mailbox.put)
        self._written_at = 0.0
        self._written_commands = 0
        self._stop_asked = False
        self._stop_until = math.inf
        self._lease = Lease(self._connecting, shard=step.shard, name=name, monotonic=monotonic, patience_s=patience_s)
        self._follower = follower
        self._follow_problem = ""
        self._disk = disk
        self._disk_at = 0.0
        self._disk_told: bool | None = None
        """What staff have been told of the storage; None before the first word."""
        self._halt_unrecorded = ""
        """Why the shard must be halted, while the database has not taken it down."""
        self._finished = False
        self._retry_at = 0.0
        self._inbox_at = 0.0
        self._config_at = 0.0
        self._inbox_lps: list[str] = []
        self._held: Arrived = Arrived(())
        """Taken from the source, not yet handed to the step."""

    # From any thread.

    @property
    def name(self) -> str:
        return self._lease.name

    @property
    def is_owner(self) -> bool:
        """As far as this process knows: only a commit proves it."""
        return self._lease.owned is not None

    @property
    def is_ready_to_take_over(self) -> bool:
        """It stands by, and knows what the owner knows."""
        return self.is_standby and (self._follower is None or self._follower.is_following)

    @property
    def seq(self) -> int:
        """The last batch that this process has decided or followed."""
        return self._follower.seq if self._follower is not None and self._follower.is_following else self.step.seq

    def wake(self) -> None:
        """However often it is called, one message waits: nudges may come faster than a busy engine reads them."""
        if not self._is_woken:
            self._is_woken = True
            self._mailbox.put(None)

    def recent_latencies_s(self) -> list[float]:
        """From sealing a batch to its commit, of the last batches."""
        with self._latencies_lock:
            return list(self._latencies_s)

    def nudge_inbox(self) -> None:
        self._inbox_at = 0.0
        self.wake()

    def nudge_config(self) -> None:
        self._config_at = 0.0
        self.wake()

    def stop(self) -> None:
        """Finish what is in flight, write a last batch with the state's hash, and let `run` return."""
        self._stop_asked = True
        self._stop_until = self._monotonic() + STOP_S
        self.wake()

    # From the deciding thread.

    def run(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Until stopped, or until `until` says so; then it may be called again. Call `close` in the end."""
        self._committer.start()
        busy = False
        while not self._finished and not until() and self._monotonic() < self._stop_until:
            busy = self.turn(0.0 if busy else IDLE_S)

    def close(self) -> None:
        """Wait for the batch that is being written, and let go of the shard and the database."""
        self._committer.stop()
        if self._finished:
            self._lease.release()
        self._lease.close()
        if self._follower is not None:
            self._follower.close()
        self._facts.close()

    def turn(self, wait_s: float) -> bool:
        """Look once at everything that may have happened. True when there was something to do."""
        busy = self._read_mailbox(wait_s)
        if self._stop_asked and self.step.mode not in {"stopping", "finished"}:
            self._act(self.step.handle(Stopping(self._clock())))
        if self.step.mode in {"waiting", "halted"}:
            self._recover_when_due()
        if self.step.mode == "running":
            busy |= self._fetch()
        return busy

    def _read_mailbox(self, wait_s: float) -> bool:
        """Wait for the first message, then take all that are there."""
        read = False
        try:
            message = self._mailbox.get(timeout=wait_s) if wait_s else self._mailbox.get_nowait()
            while True:
                read = True
                if message is None:
                    self._is_woken = False
                else:
                    self._act(self.step.handle(message))
                message = self._mailbox.get_nowait()
        except Empty:
            return read

    def _fetch(self) -> bool:
        """Quotes, configuration, reports, commands: in this order, so that a decision sees what was there before it."""
        quotes = self._source.quotes() if self.step.room else ()
        if quotes:
            self._act(self.step.handle(QuotesTaken(quotes, self._clock())))
        try:
            self._keep_lease()
            self._load_new_config()
            if self._disk is not None:
                self._watch_disk(self._disk)
            return self._fetch_reports() | self._fetch_commands()
        except psycopg.Error as error:
            self._wait_for("the database answers questions", error)
            self._config_at = 0.0
            self._read_mailbox(RETRY_S)
            return False

    def _keep_lease(self) -> None:
        """Every batch renews it; this is for when none is written. Fenced, the step has no more room for anything."""
        if self.step.in_flight is None and self._lease.is_due and not self._lease.renew():
            self._act(self.step.handle(Fenced("somebody else has taken the shard")))

    # ---------------------------------------------------------------------------------------------------------- fetching

    def _fetch_commands(self) -> bool:
        room = self.step.room
        if not room:
            return False
        if not self._held.commands:
            self._held = self._source.take(room)
        commands = self._held.commands[:room]
        if not commands:
            return False
        ready = [self._hydrated(taken) for taken in self._with_keys(commands)]
        self._held = Arrived(self._held.commands[len(commands) :], self._held.incarnation)
        self._act(self.step.handle(CommandsTaken(ready, self._clock(), self._held.incarnation)))
        return True

    def _with_keys(self, commands: Sequence[Taken | Unreadable]) -> list[Taken | Unreadable]:
        """The commands with what PostgreSQL knows of the keys that memory does not: one question for all of them."""
        asked = [(t.command.account, t.command.key) for t in commands if isinstance(t, Taken)]
        records = self._facts.keys([pair for pair in asked if not self.step.knows_key(*pair)])
        if not records:
            return list(commands)
        return [
            with_prior(t, Prior(key=records.get((t.command.account, t.command.key)))) if isinstance(t, Taken) else t
            for t in commands
        ]

    def _hydrated(self, taken: Taken | Unreadable) -> Taken | Unreadable:
        if isinstance(taken, Taken) and isinstance(taken.command, ReloadConfig):
            return Taken(self._facts.hydrated(taken.command), taken.stream_id, taken.prior)
        if isinstance(taken, Taken) and isinstance(taken.command, CorrectDeal):
            deals, position = self._facts.history(taken.command.deal_id)
            return with_prior(taken, Prior(key=taken.prior.key, deals=deals, position=position))
        return taken

    def _fetch_reports(self) -> bool:
        room, now = self.step.room, self._monotonic()
        if not room or now < self._inbox_at:
            return False
        self._inbox_at = now + INBOX_POLL_S
        before = dict(self.step.state.inbox_cursors)
        self._inbox_lps = self._inbox_lps[1:] + self._inbox_lps[:1]
        found = self._facts.reports({lp: before.get(lp, 0) for lp in self._inbox_lps}, room)
        for gap in self._facts.gaps:
            log.error("inbox_gap", lp=gap.lp, wanted=gap.wanted, found=gap.found)
        if not found:
            return False
        self._act(self.step.handle(ReportsTaken(with_facts(found, self._facts, self.step), self._clock())))
        if len(found) == room and self.step.state.inbox_cursors != before:
            self._inbox_at = 0.0
        return True

    def _load_new_config(self) -> None:
        """A newer published version is decided by from here on, by a command like any other."""
        now = self._monotonic()
        if now < self._config_at or not self.step.room:
            return
        self._config_at = now + CONFIG_POLL_S
        self._inbox_lps = self._facts.inbox_lps()
        config = self.step.state.config
        newest, current = self._facts.newest_version(), config.version if config else 0
        if newest > current:
            name = f"config:{newest}"
            taken = Taken(self._facts.hydrated(ReloadConfig(id=name, key=name, actor="engine", version=newest)))
            self._act(self.step.handle(CommandsTaken(self._with_keys([taken]), self._clock())))
            loaded = self.step.state.config
            if loaded is not None and loaded.version == newest:
                log.info("config_loaded", version=newest)
            else:
                log.warning("config_refused", version=newest, in_force=current)
                self._config_at = now + CONFIG_REFUSED_S
        self.problem = "" if newest else "waiting for a published configuration"
        if not newest:
            self._config_at = now + RETRY_S

    def _watch_disk(self, disk: DiskGuard) -> None:
        """Turn the switch by a command like any other, and tell staff. Raises psycopg.Error."""
        now, state = self._monotonic(), self.step.state
        if now < self._disk_at or not self.step.room or state.config is None:
            return
        self._disk_at = now + DISK_POLL_S
        is_low = state.desk.switches.is_disk_low
        space = disk.look(is_low=is_low)
        if space.is_low is not is_low:
            log.warning("disk_space", is_low=space.is_low, text=space.text)
            name = f"disk:{self.step.epoch}:{self.step.seq}:{'low' if space.is_low else 'room'}"
            note = NoteDiskSpace(id=name, key=name, actor="engine", is_low=space.is_low)
            self._act(self.step.handle(CommandsTaken([Taken(note)], self._clock())))
        if space.is_low is not self._disk_told:
            self._tell_of_disk(space)

    def _tell_of_disk(self, space: DiskSpace) -> None:
        connection = self._connecting("tribook engine alerts")
        try:
            if space.is_low:
                text = f"{space.text}: nothing new is opened until there is room"
                raise_alert(connection, kind="disk_space_low", text=text, severity=Severity.CRITICAL)
            else:
                clear_alert(connection, kind="disk_space_low")
            self._disk_told = space.is_low
        finally:
            connection.close()

    # ------------------------------------------------------------------------------------------------------------ acting

    def _act(self, outputs: list[Output]) -> None:
        told: list[Told] = []
        for output in outputs:
            match output:
                case Write():
                    self._written_at = self._monotonic()
                    self._written_commands = output.batch.commands
                    self._committer.write(output.batch)
                case LookUp():
                    log.warning("commit_unknown", epoch=output.epoch, seq=output.seq)
                    self._committer.look_up(output)
                case Rebuild():
                    log.warning("rebuild", reason=output.reason)
                    self.problem = f"rebuilding: {output.reason}"
                    self._retry_at = 0.0
                case StandDown():
                    self._stand_down(output)
                case Halt():
                    self._halt(output)
                case Finished():
                    self._finished = True
                case Forget():
                    self._lease.renewed()
                    self.commands += self._written_commands
                    with self._latencies_lock:
                        self._latencies_s.append(self._monotonic() - self._written_at)
                    told.append(output)
                case _:
                    told.append(output)
        if told:
            self._tell.tell(told)

    def _stand_down(self, stand_down: StandDown) -> None:
        """Another engine is at work: wait for its lease like any standby."""
        log.warning("fenced", reason=stand_down.reason)
        self._lease.lost()
        self._held = Arrived(())
        self.is_standby = True
        self.problem = f"fenced: {stand_down.reason}"
        self._retry_at = 0.0

    def _halt(self, halt: Halt) -> None:
        """It stays halted for everybody, until an operator has looked."""
        log.critical("halted", reason=halt.reason, failure=halt.failure.value)
        self.is_halted = True
        self.problem = f"halted: {halt.reason}"
        if halt.failure is not Failure.HALTED:
            self._mark_halted(halt.reason)

    def _mark_halted(self, reason: str) -> None:
        """Until it is written down, this process does not touch the shard again."""
        epoch = self._lease.owned
        if epoch is None:
            return
        self._halt_unrecorded = reason
        marker = Journal(self._url, shard=self.step.shard, connecting=self._connecting)
        try:
            if not marker.halt(reason, epoch=epoch):
                log.warning("halt_not_ours", reason=reason, epoch=epoch)
            self._halt_unrecorded = ""
        except psycopg.Error as error:
            log.critical("halt_not_recorded", reason=reason, error=str(error))
        finally:
            marker.close()

    def _recover_when_due(self) -> None:
        if self._monotonic() < self._retry_at:
            return
        self._retry_at = self._monotonic() + RETRY_S
        if self._halt_unrecorded:
            self._mark_halted(self._halt_unrecorded)
            return
        try:
            self._recover()
        except LeaseHeldError as error:
            self._stand_by(error)
        except FencedError as error:
            self._act(self.step.handle(Fenced(str(error))))
        except HaltedError as error:
            self.is_halted = True
            self._wait_for("an operator clears the shard's `halted`", error)
            if isinstance(error, ContradictionError):
                self._mark_halted(str(error))
        except LookupError as error:
            self._wait_for("the configuration it was run with is there", error)
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            self._wait_for("the database is migrated", error)
        except psycopg.Error as error:
            self._wait_for("the database answers", error)

    def _stand_by(self, error: LeaseHeldError) -> None:
        self.is_standby = True
        self.is_halted = bool(error.standing.halted)
        self._retry_at = self._monotonic() + POLL_S
        self._wait_for("the lease runs out", error)
        if self._follower is not None:
            self._follow(self._follower, error.standing.seq)

    def _follow(self, follower: Follower, newest: int) -> None:
        """What stands in its way is no danger: the shard is then loaded when it is taken over."""
        problem = ""
        try:
            if follower.follow(newest):
                self._retry_at = 0.0
        except DivergedError as error:
            log.error("standby_diverged", reason=str(error), was_exact=error.was_exact)
        except (LookupError, psycopg.Error) as error:
            problem = str(error).strip()
        if problem and problem != self._follow_problem:
            log.warning("standby_cannot_follow", reason=problem)
        self._follow_problem = problem

    def _recover(self) -> None:
        """Own the shard and load it. Raises as `Lease.claim`, `take_over` and `load` do."""
        seen = self._lease.claim()
        started = self._monotonic()
        connection = self._connecting("tribook engine recovery")
        try:
            if self._lease.owned is None and end_stuck_owner(connection):
                log.warning("stuck_owner_ended")
            seen_epoch = None if seen is None else seen.epoch
            epoch, seq = take_over(connection, self.step.shard, owned=seen_epoch, name=self._lease.name)
            self._lease.taken(epoch)
            followed = self._followed(connection, epoch, seq)
            recovered = followed or load(connection, self.step.shard, epoch=epoch, seq=seq)
        except psycopg.Error:
            if connection.broken:  # it may have taken the shard before it broke
                self._lease.is_doubtful()
            raise
        finally:
            connection.close()
        self._begin(recovered)
        state = recovered.state
        log.info(
            "recovered",
            epoch=recovered.epoch,
            seq=recovered.seq,
            accounts=len(state.accounts),
            positions=len(state.positions),
            followed=followed is not None,
            after="" if seen is None else seen.owner,
            seconds=round(self._monotonic() - started, 3),
        )

    def _followed(self, connection: Connection, epoch: int, seq: int) -> Recovered | None:
        """The shard as this standby has followed it, when that is what the tables say."""
        if self._follower is None:
            return None
        try:
            return self._follower.finish(connection, epoch=epoch, seq=seq)
        except DivergedError as error:
            log.critical("standby_diverged", reason=str(error), was_exact=error.was_exact)
            severity = Severity.CRITICAL if error.was_exact else Severity.WARNING
            text = f"the standby's memory was not the shard's, which was loaded instead: {error}"
            raise_alert(connection, kind="standby_diverged", text=text, severity=severity)
            return None

    def _begin(self, recovered: Recovered) -> None:
        """Decide from this state on, and read everything that came after it."""
        self._held = Arrived(())
        self._source.seek(recovered.position)
        self._config_at = self._inbox_at = 0.0
        self._act(self.step.handle(recovered))
        self._act(self.step.handle(Clock(self._clock())))
        settle_memory()
        self.is_halted = self.is_standby = False
        self.problem = ""

    def _wait_for(self, what: str, error: Exception) -> None:
        text = f"waiting until {what}: {str(error).strip()}"
        if text != self.problem:
            log.warning("waiting", until=what, error=str(error).strip())
            self.problem = text


def settle_memory() -> None:
    """What was loaded stays: keep the collector from walking it, and let it run seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 1000)
