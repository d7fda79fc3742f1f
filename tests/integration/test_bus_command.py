"""`manage.py bus` and the notifier: told once, told again only when it was forgotten, and what was parked comes back."""

import json
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command

from apps.notifications.notifier import NAME, QUEUE, notify
from bus.consuming import Consumer, connect_database
from tests.support.buses import Bus
from tests.support.total_queue import relay_of
from tests.waiting import eventually

DEPOSIT = {"account": 1, "balance": "50", "credit": "0", "currency": "USD", "version": 1, "kind": "deposit", "amount": "50",
           "transaction_id": 1}  # fmt: skip
ROWS = (
    (1, "account.opened", {"account": 1}),
    (2, "account.balance", DEPOSIT),
    (3, "account.balance", {"nonsense": True}),
    (4, "account.balance", {**DEPOSIT, "balance": "75", "amount": "25"}),
)


@pytest.fixture
def told(event_bus: Bus, house_database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Four events published, and taken by the notifier as far as it can. Its database."""
    for name, value in {"REDIS_URL": redis_url, **event_bus.environment, "DATABASE_URL": house_database}.items():
        monkeypatch.setenv(name, value)
    if event_bus.name == "redis":
        monkeypatch.delenv("AMQP_URL", raising=False)
    with psycopg.connect(house_database, autocommit=True) as connection:
        for seq, kind, payload in ROWS:
            connection.execute(
                "INSERT INTO outbox (shard, shard_seq, account, account_seq, kind, payload, at) "
                "VALUES (0, %s, 1, %s, %s, %s, '2026-01-05 10:00+00'::timestamptz + %s * interval '1 minute')",
                (seq, seq, kind, json.dumps(payload), seq),
            )
    relay = relay_of(house_database, event_bus.publisher())
    relay.step()
    relay.close()
    take(event_bus, house_database, parked=1)
    return house_database


def take(bus: Bus, url: str, *, parked: int) -> None:
    consumer = Consumer(
        name=NAME,
        subscription=bus.subscribe(QUEUE),
        handle=notify,
        connecting=lambda: connect_database(url, name=NAME),
    )

    def look() -> bool:
        consumer.work(0.1)
        return consumer.parked == parked and {
            depth.waiting for depth in bus.broker().depths() if depth.queue == QUEUE
        } == {0}

    eventually(look, within_s=20)
    consumer.close()


def texts(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notification ORDER BY id")]


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("bus", *arguments, stdout=out)
    return out.getvalue()


def standing(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [key for (key,) in connection.execute("SELECT key FROM alert WHERE cleared_at IS NULL")]


def test_operators_see_where_it_stands_and_can_set_it_right(event_bus: Bus, told: str) -> None:
    first, second = (
        "Deposit of 50.00 USD received. Balance 50.00 USD.",
        "Deposit of 25.00 USD received. Balance 75.00 USD.",
    )
    assert texts(told) == [first, second]
    assert standing(told) == ["dead_letter:notifications"]
    status = said("status")
    assert "published  4 of 4, 0 behind" in status
    assert "notifications  0 waiting, 1 dead" in status
    assert said("dead-letters") == 'notifications 0:3 {"nonsense": true}\n'
    assert said("replay", "--from", "2", "--consumer", NAME).startswith("3 events, 0 of them new")
    with psycopg.connect(told, autocommit=True) as connection:
        connection.execute("DELETE FROM notification WHERE event = '0:4'")
        connection.execute("DELETE FROM task_effect WHERE key = '0:4'")
    assert "1 of them new" in said("replay", "--from", "2026-01-05T10:04", "--consumer", NAME)
    assert texts(told) == [first, second]
    assert said("replay", "--from", "4", "--print").startswith("0:4 account 1/4 account.balance")
    assert "notifications: 1 put back" in said("dead-letters", "--requeue")
    assert standing(told) == []
    take(event_bus, told, parked=1)
    assert standing(told) == ["dead_letter:notifications"]
    with pytest.raises(CommandError, match="not 'yesterday'"):
        said("replay", "--from", "yesterday", "--print")
