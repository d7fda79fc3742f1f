"""A house of a few small processes under the real supervisor: `python -m tests.fakes.tiny_house DATA`.

`first` gets ready after it has written a file; `second` starts after it; `parent` starts a process of its own, as web
servers do; `stubborn` does not listen to SIGTERM; `raising` is a FIX process whose first callback fails; with `--postgres`
and `--redis` the real private stores run too.
Each child appends its name to `stopped.txt` when it is told to stop.
"""

import argparse
import os
import sys
from pathlib import Path

from broker.embedded.postgres import postgres_service
from broker.embedded.redis import redis_service
from broker.supervisor import (
    AlreadyRunningError,
    InterruptedByUserError,
    NotReadyError,
    Spec,
    Supervisor,
    spec_of,
)

CHILD = """
import os, signal, sys, time
name, data = sys.argv[1:]
def stop(number, frame):
    with open(f"{data}/stopped.txt", "a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
with open(f"{data}/{name}.ready", "w") as file:
    file.write(str(os.getpid()))
while True:
    signal.pause()
"""

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal\\nwhile True: signal.pause()"])
with open(f"{sys.argv[2]}/grandchild.pid", "w") as file:
    file.write(str(child.pid))
child.wait()
"""

STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()\n"
DYING = "raise SystemExit(7)\n"

RAISING = """
import pathlib, signal, sys, threading
from fix_gateway.initiator import guarded
raised = pathlib.Path(sys.argv[2]) / "raised"

@guarded
def fromApp():
    if not raised.exists():
        raised.touch()
        raise KeyError("nobody expected this report")

threading.Thread(target=fromApp, daemon=True).start()
while True:
    signal.pause()
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--redis", action="store_true")
    parser.add_argument(
        "--with", dest="extra", action="append", default=[], choices=("parent", "stubborn", "dying", "raising")
    )
    parser.add_argument("--run", help="Python code run to its end once all are ready; its status becomes ours")
    parser.add_argument("--ready-within", type=float, default=30.0)
    options = parser.parse_args()
    try:
        return run(options)
    except (AlreadyRunningError, NotReadyError) as error:
        say(str(error))
        return 1


def run(options: argparse.Namespace) -> int:
    data: Path = options.data
    status = 0
    with Supervisor(data, folder=data, environment=os.environ, say=say, publish=publisher(data)) as supervisor:
        try:
            supervisor.add(table(data, options))
            supervisor.wait_ready(within_s=options.ready_within)
            say("ready")
            if options.run:
                status = supervisor.run_to_end("once", (sys.executable, "-c", options.run), show=True)
            else:
                supervisor.run_forever()
        except InterruptedByUserError:
            say("interrupted")
    return status


def table(data: Path, options: argparse.Namespace) -> list[Spec]:
    specs = [
        child("first", CHILD, data, stop_rank=1),
        child("second", CHILD, data, stop_rank=0, after="first"),
    ]
    codes = {"parent": PARENT, "stubborn": STUBBORN, "dying": DYING, "raising": RAISING}
    specs += [child(name, codes[name], data, stop_rank=0) for name in options.extra]
    if options.redis:
        specs.append(spec_of(redis_service(data), stop_rank=2))
    if options.postgres:
        specs.append(spec_of(postgres_service(data), stop_rank=3))
    return specs


def child(name: str, code: str, data: Path, *, stop_rank: int, after: str | None = None) -> Spec:
    has_file = code is CHILD

    def is_ready(pid: int) -> bool:
        file = data / f"{name}.ready"
        return file.exists() and file.read_text() == str(pid)

    return Spec(
        name,
        (sys.executable, "-c", code, name, str(data)),
        after=(after,) if after else (),
        stop_rank=stop_rank,
        is_ready=is_ready if has_file or name == "dying" else None,
        stop_within_s=1.0,
    )


def publisher(data: Path) -> "Publish":
    return Publish(data / "table.json")


class Publish:
    """Writes the supervisor's table where a test can read it, whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, text: str) -> None:
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(text)
        unfinished.replace(self._path)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
