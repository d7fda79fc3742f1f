"""`make soak MINUTES=N [SEED=N] [FAULTS=a,b]`: exit status 0 only when nothing at all was found."""

import argparse
import secrets
import signal
import sys
import time
from types import FrameType

from tests import services
from tests.soak.run import SWEEP, Options, soak

INTERRUPTED = 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody wants us to end: the house is stopped on the way out."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description="The whole house under load and faults.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="drawn when it is not given")
    parser.add_argument("--faults", default="", help="names or their beginnings, by commas; all when none is given")
    parser.add_argument("--pace", type=float, default=0.3, help="seconds between two requests of one client")
    parser.add_argument(
        "--sweep", type=int, default=24, help="places of the crash sweep; with --faults only if named there"
    )
    parser.add_argument("--keep", action="store_true", help="leave the data folder behind")
    given = parser.parse_args()
    faults = tuple(name for name in given.faults.split(",") if name)
    options = Options(
        minutes=given.minutes,
        seed=secrets.randbelow(10**9) if given.seed is None else given.seed,
        faults=faults,
        sweep=0 if faults and SWEEP not in faults else given.sweep,
        pace_s=given.pace,
        keep=given.keep,
    )
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return soak(options, services.new_folder(), say)
    except Interrupted:
        say("interrupted; everything is stopped")
        return INTERRUPTED


def say(text: str) -> None:
    sys.stdout.write(f"[soak {time.strftime('%H:%M:%S')}] {text}\n")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # one is enough: the house is being stopped
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main())
