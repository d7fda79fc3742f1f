"""The Celery app: background work over RabbitMQ where AMQP_URL names one, else Redis; JSON only. `celery -A broker` finds it.

A task may be delivered twice and may die in the middle: it is acknowledged when it is done, one at a time, and put back when
its worker is lost. What it does has one effect all the same (`apps.operations.tasks` says why).
"""

import os
from collections.abc import Mapping

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")

PRUNE_EVERY_S = 600.0
EXPIRE_EVERY_S = 5.0
"""Expired orders are never dealt, whatever the time; this is how late their clients hear of it at most."""
ROLL_EVERY_S = 5.0
SETTLE_EVERY_S = 5.0
"""Swaps and daily commission are due at 17:00 New York whenever they are charged: this is how late clients see it at most."""


TIME_LIMIT_S = 300
REDELIVERED_AFTER_S = 2 * TIME_LIMIT_S
"""Redis knows no lost connection: it gives a task to another worker after so long, which no task may take. No task has an
ETA or a countdown, which would have it delivered again every so often."""


def broker_url(environment: Mapping[str, str]) -> str:
    """RabbitMQ's address, else Kombu's spelling of the one of Redis: its sockets are `redis+socket://`."""
    if environment.get("AMQP_URL"):
        return environment["AMQP_URL"]
    url = environment.get("REDIS_URL", "redis://127.0.0.1:6379/0")
    if not url.startswith("unix://"):
        return url
    socket_path, _, query = url.removeprefix("unix://").partition("?")
    number = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair).get("db", "0")
    return f"redis+socket://{socket_path}?virtual_host={number}"


app = Celery("tribook")
app.conf.update(
    broker_url=broker_url(os.environ),
    broker_transport_options={} if os.environ.get("AMQP_URL") else {"visibility_timeout": REDELIVERED_AFTER_S},
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_time_limit=TIME_LIMIT_S,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    timezone="UTC",
    enable_utc=True,
    beat_schedule={
        "prune": {"task": "apps.operations.tasks.prune", "schedule": PRUNE_EVERY_S},
        "expire_orders": {
            "task": "apps.operations.tasks.expire_orders",
            "schedule": EXPIRE_EVERY_S,
            # A worker that was away does not have to catch up: one round ends all that is due.
            "options": {"expires": EXPIRE_EVERY_S},
        },
        "roll_over": {
            "task": "apps.operations.tasks.roll_over",
            "schedule": ROLL_EVERY_S,
            "options": {"expires": ROLL_EVERY_S},
        },
        "settle_commission": {
            "task": "apps.operations.tasks.settle_commission",
            "schedule": SETTLE_EVERY_S,
            "options": {"expires": SETTLE_EVERY_S},
        },
    },
)
app.autodiscover_tasks(["apps.operations"])
