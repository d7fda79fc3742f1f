"""`python -m engine --shard 0`: one shard's engine, until SIGTERM.

One engine at a time owns the shard. Another follows what it does and waits for its lease to run out, unless it has the
owner's name: then it is the owner's successor, started because the owner died. With `--standby` it fills no engine's place:
it leaves a shard that nobody has to the engine that is about to start.

Reads DATABASE_URL, REDIS_URL and TRIBOOK_CLOCK, and for the disk guard TRIBOOK_DATA, TRIBOOK_DISK_PATHS and
TRIBOOK_DISK_FREE_MIN. Waits for whatever is not there yet and says for what.
"""

import argparse
import os
import signal
import sys

from bus.clock import clock_from_environment
from engine.diskguard import guard_from
from engine.driver import SWITCH_INTERVAL_S, Driver
from engine.journal import connect
from engine.lease import OWNER, PATIENCE_S, STANDBY
from engine.loop import Heart, RedisSource, RedisTell
from engine.standby import Follower
from engine.step import Step


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine", description="The single writer of one shard.")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--standby", action="store_true", help="follow the owner, and take its place when it is gone")
    parser.add_argument("--name", help=f"the place it fills: {OWNER}, or {STANDBY} with --standby")
    options = parser.parse_args()
    shard = options.shard
    missing = [name for name in ("DATABASE_URL", "REDIS_URL") if not os.environ.get(name)]
    if missing:
        parser.error(f"{' and '.join(missing)} must be set")
    try:
        disk = guard_from(os.environ)
    except ValueError as error:
        parser.error(str(error))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    redis_url = os.environ["REDIS_URL"]
    source = RedisSource(redis_url, shard=shard)
    tell = RedisTell(redis_url, shard=shard)
    step = Step(shard)
    url = os.environ["DATABASE_URL"]
    driver = Driver(
        step=step,
        url=url,
        source=source,
        tell=tell,
        clock=clock_from_environment(),
        name=options.name or (STANDBY if options.standby else OWNER),
        patience_s=PATIENCE_S if options.standby else 0.0,
        follower=Follower(lambda name: connect(url, name=name), shard=shard),
        disk=disk,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: driver.stop())
    heart = Heart(redis_url, driver, tell)
    heart.start()
    source.start(wake=driver.wake, inbox=driver.nudge_inbox, config=driver.nudge_config)
    driver.run()
    driver.close()
    source.stop()
    heart.stop()
    tell.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
