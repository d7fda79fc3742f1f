"""Keeps the processes of the house alive: starts them in order, restarts what dies, stops all in a fixed order.

It knows nothing about what the processes do: `broker.processes` describes them. One thread, one loop: each step reaps,
starts what is due, asks the new ones whether they are ready, bounds the logs, and publishes the table that the overview
page shows. Nothing is given up: a process that keeps dying is tried again, ever more slowly, and each time it is said.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from types import FrameType, TracebackType
from typing import IO, Self

from broker.children import Account, has_exited, kill_group, spawn
from broker.embedded.service import Service, ServiceError

STEP_S = 0.1
IDLE_STEP_S = 0.5
PUBLISH_EVERY_S = 1.0
RESTART_FIRST_S = 0.2
RESTART_MAX_S = 10.0
STEADY_AFTER_S = 30.0
STOP_WITHIN_S = 8.0
LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_TAIL_BYTES = 3000
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class AlreadyRunningError(Exception):
    """Another supervisor holds this data folder."""


class NotReadyError(Exception):
    """Some processes did not get ready in time; the text names them and shows the end of their logs."""


class InterruptedByUserError(Exception):
    """Ctrl-C, or a signal that means the same: stop everything."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How one process is started, known to be ready, and stopped."""

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    """Names of processes that must have been ready once before this one starts."""
    stop_rank: int = 0
    """Lower ranks are stopped first; the next rank is touched when all of this one are gone."""
    is_ready: Callable[[int], bool] | None = None
    """Asked with the process number. Nobody waits for a process that has none."""
    before_start: Callable[[], None] = field(default=lambda: None)
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    stop_within_s: float = STOP_WITHIN_S


def spec_of(service: Service, *, stop_rank: int) -> Spec:
    """A private server as a process like any other."""
    return Spec(
        name=service.name,
        command=service.command,
        stop_rank=stop_rank,
        is_ready=lambda _pid: service.is_ready(),
        before_start=service.before_start,
        account=service.account,
        stop_signal=service.stop_signal,
        death_signal=service.death_signal,
        stop_within_s=60.0,
    )


@dataclass(slots=True)
class Child:
    """One supervised process as it is now."""

    spec: Spec
    process: Popen[bytes] | None = None
    started_at: float = 0.0
    since: float = 0.0
    restarts: int = 0
    restart_delay_s: float = 0.0
    due_at: float = 0.0
    is_ready: bool = False
    was_ready: bool = False
    last_exit: str = ""

    @property
    def state(self) -> str:
        if self.process is None:
            return "restarting" if self.last_exit else "waiting"
        return "up" if self.is_ready else "starting"


def restart_delay_s(*, previous_s: float, lived_s: float) -> float:
    """How long to wait before a dead process is started again: doubled while it keeps dying young, and bounded."""
    if lived_s >= STEADY_AFTER_S or previous_s == 0:
        return RESTART_FIRST_S
    return min(previous_s * 2, RESTART_MAX_S)


class Supervisor:
    """The parent of all processes of one data folder. Use it as a context: leaving stops everything it started."""

    def __init__(
        self,
        data: Path,
        *,
        folder: Path,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        publish: Callable[[str], None] = lambda _table: None,
    ) -> None:
        """`folder` is where processes run, `environment` what they all get; `publish` takes the table as JSON."""
        self._run, self._logs = data / "run", data / "logs"
        self._folder, self._environment = folder, dict(environment)
        self._say, self._publish = say, publish
        self._children: dict[str, Child] = {}
        self._signals = 0
        self._published_at = 0.0
        self._lock: IO[str] | None = None
        self._wake_read, self._wake_write = -1, -1

    def __enter__(self) -> Self:
        for folder in (self._run, self._logs):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._lock = take_lock(self._run / "supervisor.lock")
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in STOP_SIGNALS:
            signal.signal(number, self._note_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._wake_read)
        os.close(self._wake_write)
        if self._lock is not None:
            self._lock.close()

    # ------------------------------------------------------------------------------------------------ what it is told

    def add(self, specs: Iterable[Spec], environment: Mapping[str, str] | None = None) -> None:
        """Take charge of these processes. They start in the next steps, each after those it names in `after`."""
        self._environment.update(environment or {})
        for spec in specs:
            self._children[spec.name] = Child(spec=spec)

    def wait_ready(self, *, within_s: float) -> None:
        """Go on until every process has been ready once. Raises NotReadyError when that takes too long."""
        deadline = time.monotonic() + within_s
        reported_at = time.monotonic()
        while missing := [child for child in self._children.values() if _is_awaited(child)]:
            if time.monotonic() > deadline:
                raise NotReadyError(self._describe(missing))
            if time.monotonic() - reported_at > 5:
                reported_at = time.monotonic()
                self._say("waiting for " + ", ".join(child.spec.name for child in missing))
            self.step()

    def run_to_end(self, name: str, command: Sequence[str], *, show: bool = False) -> int:
        """Run one command to its end, watching all others meanwhile; its exit status. With `show` it has our output."""
        with contextlib.ExitStack() as files:
            log = None if show else files.enter_context(self._log(name).open("ab"))
            process = spawn(command, output=log, environment=self._environment, folder=self._folder)
        try:
            while not has_exited(process.pid):
                self.step()
        finally:
            kill_group(process.pid)
            process.wait()
        return process.returncode

    def run_forever(self) -> None:
        """Keep everything alive until a signal says stop."""
        with contextlib.suppress(InterruptedByUserError):
            while True:
                self.step()

    def dismiss(self, name: str) -> None:
        """Stop one process for good; its row leaves the table."""
        self._stop_rank([self._children[name]])
        del self._children[name]

    def stop(self) -> None:
        """Stop every process, rank by rank. A second signal meanwhile means at once."""
        self._signals = 0
        for rank in sorted({child.spec.stop_rank for child in self._children.values()}):
            self._stop_rank([child for child in self._children.values() if child.spec.stop_rank == rank])
        self._children.clear()

    def table(self) -> list[dict[str, object]]:
        """Every process as the overview page shows it; `since` in wall seconds."""
        return [
            {
                "name": child.spec.name,
                "pid": child.process.pid if child.process else None,
                "restarts": child.restarts,
                "since": round(child.since, 3),
                "state": child.state,
                "last_exit": child.last_exit,
            }
            for child in self._children.values()
        ]

    def tail(self, name: str) -> str:
        """The end of a process's log."""
        with contextlib.suppress(OSError):
            text = self._log(name).read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
            return "\n".join("    " + line for line in text.splitlines()[-15:])
        return "    (no log)"

    # ------------------------------------------------------------------------------------------------------- the loop

    def step(self) -> None:
        """Look after every process once, then sleep until something happens. Raises InterruptedByUserError."""
        if self._signals:
            raise InterruptedByUserError
        for child in self._children.values():
            self._reap(child)
            self._start_if_due(child)
            self._ask_if_ready(child)
        if time.monotonic() - self._published_at >= PUBLISH_EVERY_S:
            self._published_at = time.monotonic()
            self._publish(json.dumps(self.table()))
            self._bound_logs()
        self._sleep(IDLE_STEP_S if all(child.is_ready for child in self._children.values()) else STEP_S)

    def _reap(self, child: Child) -> None:
        if child.process is None or not has_exited(child.process.pid):
            return
        kill_group(child.process.pid)
        ended = describe_exit(child.process.wait())
        child.process, child.is_ready = None, False
        self._schedule_restart(child, ended)

    def _schedule_restart(self, child: Child, ended: str) -> None:
        lived_s = time.monotonic() - child.started_at
        child.restart_delay_s = restart_delay_s(previous_s=child.restart_delay_s, lived_s=lived_s)
        child.due_at = time.monotonic() + child.restart_delay_s
        child.restarts += 1
        child.last_exit = ended
        self._say(
            f"{child.spec.name} {ended} after {lived_s:.1f} s;"
            f" restart {child.restarts} in {child.restart_delay_s:.1f} s (log: {self._log(child.spec.name)})"
        )

    def _start_if_due(self, child: Child) -> None:
        if child.process is not None or time.monotonic() < child.due_at or not self._may_start(child.spec):
            return
        child.started_at, child.since = time.monotonic(), time.time()
        try:
            child.process = self._spawn(child.spec)
        except (ServiceError, OSError) as error:
            self._schedule_restart(child, f"cannot start: {error}")
        else:
            (self._run / f"{child.spec.name}.pid").write_text(f"{child.process.pid}\n")

    def _spawn(self, spec: Spec) -> Popen[bytes]:
        spec.before_start()
        with self._log(spec.name).open("ab") as log:
            return spawn(
                spec.command,
                output=log,
                account=spec.account,
                environment={**self._environment, **spec.environment},
                folder=self._folder,
                death_signal=spec.death_signal,
            )

    def _may_start(self, spec: Spec) -> bool:
        return all(self._children[name].was_ready for name in spec.after if name in self._children)

    def _ask_if_ready(self, child: Child) -> None:
        if child.process is None or child.is_ready:
            return
        if child.spec.is_ready is None or child.spec.is_ready(child.process.pid):
            child.is_ready = child.was_ready = True
            if child.restarts and child.spec.is_ready is not None:
                self._say(f"{child.spec.name} is back after {time.monotonic() - child.started_at:.1f} s")

    def _sleep(self, seconds: float) -> None:
        select.select([self._wake_read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 512)

    def _note_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    # ------------------------------------------------------------------------------------------------------- stopping

    def _stop_rank(self, children: list[Child]) -> None:
        running = [(child.spec, child.process) for child in children if child.process is not None]
        for spec, process in running:
            if not has_exited(process.pid):
                process.send_signal(spec.stop_signal)
        deadlines = {spec.name: time.monotonic() + spec.stop_within_s for spec, _ in running}
        while any(not has_exited(process.pid) for _, process in running):
            for spec, process in running:
                self._kill_if_late(spec, process, deadlines)
            self._sleep(0.05)
        for spec, process in running:
            kill_group(process.pid)
            process.wait()
            (self._run / f"{spec.name}.pid").unlink(missing_ok=True)

    def _kill_if_late(self, spec: Spec, process: "Popen[bytes]", deadlines: dict[str, float]) -> None:
        hurried = self._signals > 0 and spec.death_signal is signal.SIGKILL
        if has_exited(process.pid) or not (hurried or time.monotonic() > deadlines[spec.name]):
            return
        if not hurried:
            self._say(f"{spec.name} does not stop within {spec.stop_within_s:.0f} s and is killed")
        process.kill()
        deadlines[spec.name] = float("inf")

    # ----------------------------------------------------------------------------------------------------------- logs

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _bound_logs(self) -> None:
        for name in self._children:
            with contextlib.suppress(FileNotFoundError):
                bound_log(self._log(name), LOG_BYTES_MAX)

    def _describe(self, children: list[Child]) -> str:
        names = ", ".join(child.spec.name for child in children)
        tails = [f"{child.spec.name} ({child.state}):\n{self.tail(child.spec.name)}" for child in children]
        return "\n".join([f"not ready in time: {names}", *tails])


def _is_awaited(child: Child) -> bool:
    return child.spec.is_ready is not None and not child.was_ready


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def bound_log(path: Path, bytes_max: int) -> None:
    """Move a log that has grown too long aside and start it anew. Its writer appends, so it goes on at the start."""
    if path.stat().st_size <= bytes_max:
        return
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)


def take_lock(path: Path) -> IO[str]:
    """Hold the data folder. Raises AlreadyRunningError with the process that does; a dead one holds nothing."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "?"
        file.close()
        raise AlreadyRunningError(
            f"The house is already running on {path.parent.parent} (process {holder})."
            " Stop it with Ctrl-C, or use another folder: make run DATA=PATH"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
