"""The second thread: it makes one batch at a time durable, and says in the step's words what became of it."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

import psycopg
import structlog

from engine.batch import Batch
from engine.journal import Journal, NotCommittedError, OutcomeUnknownError
from engine.step import CommitFailed, Committed, CommitUnknown, Failure, LookUp, StepInput

log = structlog.get_logger()

RETRY_S = 0.5
"""Between attempts to learn what became of a batch."""


class Committer(Protocol):
    """Who writes batches. One at a time; what became of it is delivered later, from any thread."""

    def deliver_to(self, deliver: Callable[[StepInput | None], None]) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def write(self, batch: Batch) -> None: ...

    def look_up(self, question: LookUp) -> None: ...


class CommitterThread:
    """The second thread: writes one batch at a time and posts what became of it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._deliver: Callable[[StepInput | None], None] = _nobody
        self._jobs: SimpleQueue[Batch | LookUp | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)

    def deliver_to(self, deliver: Callable[[StepInput | None], None]) -> None:
        self._deliver = deliver

    def start(self) -> None:
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def write(self, batch: Batch) -> None:
        self._jobs.put(batch)

    def look_up(self, question: LookUp) -> None:
        self._jobs.put(question)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._deliver(self._settle(job) if isinstance(job, LookUp) else write_batch(self._journal, job))
        self._journal.close()

    def _settle(self, question: LookUp) -> StepInput | None:
        """Ask until the database answers: everything is frozen until then."""
        while not self._stopping.is_set():
            try:
                return look_batch_up(self._journal, question)
            except psycopg.Error as error:
                log.warning("look_up_failed", seq=question.seq, error=str(error).strip())
                self._stopping.wait(RETRY_S)
        return None


def write_batch(journal: Journal, batch: Batch) -> Committed | CommitFailed | CommitUnknown:
    """Make the batch durable, and say in the step's words what became of it."""
    try:
        journal.write(batch)
    except NotCommittedError as error:
        return CommitFailed(batch.seq, str(error), error.failure)
    except OutcomeUnknownError as error:
        return CommitUnknown(batch.seq, str(error))
    except Exception as error:  # noqa: BLE001 - a bug in writing rows is the rows' fault until proven otherwise
        journal.close()
        return CommitFailed(batch.seq, f"{type(error).__name__}: {error}", Failure.REFUSED)
    return Committed(batch.seq)


def look_batch_up(journal: Journal, question: LookUp) -> Committed | CommitFailed:
    """What became of a batch whose COMMIT broke off. Raises psycopg.Error while the database cannot say."""
    if journal.look_up(epoch=question.epoch, seq=question.seq):
        return Committed(question.seq)
    return CommitFailed(question.seq, "it was not committed", Failure.LOST)


def _nobody(_message: StepInput | None) -> None:
    """Nobody listens yet."""
