"""`python -m engine --shard 0`: one shard's engine, until SIGTERM.

One engine at a time owns the shard. Another waits for its lease to run out, unless it has the owner's name: then it is
the owner's successor, started because the owner died. Reads DATABASE_URL, REDIS_URL and TRIBOOK_CLOCK. Waits for whatever
is not there yet and says for what.
"""

import argparse
import os
import signal
import sys

from bus.clock import clock_from_environment
from engine.driver import SWITCH_INTERVAL_S, Driver
from engine.lease import OWNER
from engine.loop import Heart, RedisSource, RedisTell
from engine.step import Step


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine", description="The single writer of one shard.")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument(
        "--name", default=OWNER, help="the place it fills; of two with one name the younger owns the shard"
    )
    options = parser.parse_args()
    shard = options.shard
    missing = [name for name in ("DATABASE_URL", "REDIS_URL") if not os.environ.get(name)]
    if missing:
        parser.error(f"{' and '.join(missing)} must be set")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    redis_url = os.environ["REDIS_URL"]
    source = RedisSource(redis_url, shard=shard)
    tell = RedisTell(redis_url, shard=shard)
    step = Step(shard)
    driver = Driver(
        step=step,
        url=os.environ["DATABASE_URL"],
        source=source,
        tell=tell,
        clock=clock_from_environment(),
        name=options.name,
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
