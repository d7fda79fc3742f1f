"""The Celery app: background work over Redis, JSON only. `celery -A broker` finds it here."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")

PRUNE_EVERY_S = 600.0
EXPIRE_EVERY_S = 5.0
"""Expired orders are never dealt, whatever the time; this is how late their clients hear of it at most."""
ROLL_EVERY_S = 5.0
SETTLE_EVERY_S = 5.0
"""Swaps and daily commission are due at 17:00 New York whenever they are charged: this is how late clients see it at most."""


def _broker_url() -> str:
    """Kombu's spelling of the Redis address: its sockets are `redis+socket://`."""
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
    if not url.startswith("unix://"):
        return url
    socket_path, _, query = url.removeprefix("unix://").partition("?")
    number = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair).get("db", "0")
    return f"redis+socket://{socket_path}?virtual_host={number}"


app = Celery("tribook")
app.conf.update(
    broker_url=_broker_url(),
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    task_ignore_result=True,
    task_acks_late=True,
    task_time_limit=300,
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
