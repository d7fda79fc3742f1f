"""`python -m apps.notifications`: the notifier's process, until SIGTERM."""

import sys

from apps.notifications.notifier import NAME, QUEUE, notify
from bus.consuming import run_consumer

if __name__ == "__main__":
    sys.exit(run_consumer(name=NAME, queue=QUEUE, handle=notify))
