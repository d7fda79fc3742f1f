"""`GET /metrics`: the house's figures as Prometheus text, read at each scrape from PostgreSQL and from what the auditor says.

For staff, and for a scraper that carries `TRIBOOK_METRICS_TOKEN` as its bearer token; without that setting only for staff. Not
throttled by Redis: figures are wanted most while something is away, and each scrape costs a few queries.
"""

import secrets
from collections.abc import Iterator
from os import environ
from typing import Any

import msgspec
from django.db import connection
from django.http import HttpRequest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from apps.backoffice.queries import SHARD, Row, breaker_states, newest_batches
from apps.doors.connections import clock, redis_connection
from apps.published import NothingPublished, current_config
from bus import names
from trading.breaker import BreakerState

INBOX_LAG = """
SELECT p.name,
    coalesce((SELECT max(seq) FROM lp_inbox WHERE lp = p.name), 0) - coalesce((b.inbox_cursors ->> p.name)::bigint, 0)
FROM liquidity_liquidityprovider p
LEFT JOIN shard s ON s.shard = %s LEFT JOIN engine_batch b ON b.shard = s.shard AND b.seq = s.seq ORDER BY p.name
"""
RELAY_LAG = """
SELECT coalesce((SELECT max(shard_seq) FROM outbox WHERE shard = %s), 0)
    - coalesce((SELECT published_seq FROM relay_cursor WHERE shard = %s), 0)
"""
ALERTS = "SELECT severity, count(*) FROM alert WHERE cleared_at IS NULL GROUP BY 1"
SEVERITIES = ("info", "warning", "critical")


def may_scrape(request: HttpRequest) -> bool:
    """The configured token, compared in constant time; else a member of staff."""
    wanted = environ.get("TRIBOOK_METRICS_TOKEN", "")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if wanted and scheme.lower() == "bearer" and secrets.compare_digest(token.strip().encode(), wanted.encode()):
        return True
    return bool(request.user.is_authenticated and request.user.is_active and request.user.is_staff)


def exposition() -> bytes:
    """All figures as text. Raises django.db.Error when PostgreSQL is away: a scrape that fails says so by itself."""
    registry = CollectorRegistry()
    registry.register(_House())
    return generate_latest(registry)


class _House(Collector):
    def describe(self) -> Iterator[Metric]:
        """Nothing is known of the figures before they are asked for."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        engine = newest_batches()
        yield from _engine(engine)
        yield from _breakers(engine)
        yield from _queues()
        yield from _audit()


def _engine(engine: Row) -> Iterator[Metric]:
    seconds = float(engine.get("seconds") or 0)
    pace = float(engine.get("commands") or 0) / seconds if seconds else 0.0
    yield _gauge("tribook_engine_batch_seq", "Number of the shard's last committed batch.", engine.get("seq") or 0)
    yield _gauge("tribook_engine_epoch", "Epoch of the shard's owner.", engine.get("epoch") or 0)
    yield _gauge("tribook_engine_halted", "1 while the shard is halted.", int(bool(engine.get("halted"))))
    yield _gauge("tribook_engine_commands_per_second", "Commands committed, over the last ten seconds with any.", pace)


def _breakers(engine: Row) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "tribook_lp_breaker", "1 for the state of each provider's breaker.", labels=("lp", "state")
    )
    try:
        states = breaker_states(current_config(), engine.get("desk"), clock()())
    except NothingPublished:
        states = {}
    for lp, state in states.items():
        for each in BreakerState:
            family.add_metric((lp, each.value), int(state == each.value))
    yield family


def _queues() -> Iterator[Metric]:
    alerts = dict(_rows(ALERTS))
    family = GaugeMetricFamily("tribook_alerts_open", "Alerts that stand.", labels=("severity",))
    for severity in SEVERITIES:
        family.add_metric((severity,), int(alerts.get(severity, 0)))
    yield family
    ((lag,),) = _rows(RELAY_LAG, SHARD, SHARD)
    yield _gauge("tribook_relay_lag_events", "Outbox events that the message broker has not confirmed.", lag)
    inbox = GaugeMetricFamily(
        "tribook_inbox_lag_reports", "Providers' reports that wait to be applied.", labels=("lp",)
    )
    for lp, waiting in _rows(INBOX_LAG, SHARD):
        inbox.add_metric((lp,), waiting)
    yield inbox


def _audit() -> Iterator[Metric]:
    """What the auditor found last; its metrics are missing while it, or Redis, is."""
    said, is_up = _said_by_the_auditor()
    yield _gauge("tribook_redis_up", "1 while Redis answers.", int(is_up))
    yield _gauge("tribook_auditor_up", "1 while the auditor reports.", int(bool(said)))
    looked = GaugeMetricFamily(
        "tribook_invariant_last_look_timestamp_seconds", "When it was looked at last.", labels=("invariant",)
    )
    took = GaugeMetricFamily("tribook_invariant_look_seconds", "How long the last look took.", labels=("invariant",))
    stands = GaugeMetricFamily("tribook_invariant_violated", "1 while a violation stands.", labels=("invariant",))
    found = CounterMetricFamily(
        "tribook_invariant_violations", "Confirmed violations since the auditor started.", labels=("invariant",)
    )
    for name, figures in said.get("invariants", {}).items():
        looked.add_metric((name,), figures["looked_at"])
        took.add_metric((name,), figures["took_s"])
        stands.add_metric((name,), int(figures["stands"]))
        found.add_metric((name,), figures["violations"])
    yield from (looked, took, stands, found)
    yield CounterMetricFamily(
        "tribook_audit_failures", "Looks that could not be made.", value=float(said.get("failures", 0))
    )


def _said_by_the_auditor() -> tuple[dict[str, Any], bool]:
    try:
        said: Any = redis_connection().get(names.AUDIT)
    except RedisError:
        return {}, False
    return (msgspec.json.decode(said) if said else {}), True


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _rows(sql: str, *values: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
