"""What staff and a scraper see of the house's health: alerts over REST and in the admin, /metrics, a halted shard resumed."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.urls import reverse
from prometheus_client.parser import text_string_to_metric_families

from apps import published
from apps.accounts.models import User
from apps.doors.connections import redis_connection
from apps.operations.models import Alert, AuditEntry, Shard
from bus import names
from bus.codec import encode
from tests.functional import desk_scene

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "a scraper's own secret"


@pytest.fixture
def desk(redis_url: str, transactional_db: None) -> Iterator["redis.Redis"]:
    published.forget()
    redis_connection.cache_clear()
    server = redis.Redis.from_url(redis_url)
    server.flushdb()
    desk_scene.set_up(server)
    yield server
    server.flushdb()
    published.forget()
    redis_connection.cache_clear()


def staff(*, superuser: bool = False) -> Browser:
    browser = Browser()
    browser.force_login(User.objects.create_user("dealer", is_staff=True, is_superuser=superuser))
    return browser


def scraped(browser: Browser, **headers: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = browser.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.content
    families = text_string_to_metric_families(answer.content.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


# --- metrics ---


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
def test_figures_are_for_staff_and_for_the_token(
    desk: "redis.Redis", monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("TRIBOOK_METRICS_TOKEN", TOKEN)
    assert Browser().get("/metrics", headers={"Authorization": given}).status_code == 401
    client = Browser()
    client.force_login(User.objects.create_user("anna"))
    assert client.get("/metrics").status_code == 401
    assert Browser().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_without_a_configured_token_no_token_opens(desk: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIBOOK_METRICS_TOKEN", raising=False)
    assert Browser().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401
    assert staff().get("/metrics").status_code == 200


def test_every_figure_is_there(desk: "redis.Redis") -> None:
    figures = {"looked_at": 1_800_000_000.5, "took_s": 0.25, "violations": 3, "stands": True}
    desk.set(names.AUDIT, encode({"invariants": {"I2": figures}, "failures": 1}))
    found = scraped(staff())
    about = (("invariant", "I2"),)
    assert found["tribook_invariant_last_look_timestamp_seconds", about] == 1_800_000_000.5
    assert found["tribook_invariant_look_seconds", about] == 0.25
    assert found["tribook_invariant_violations_total", about] == 3
    assert found["tribook_invariant_violated", about] == 1
    assert found["tribook_audit_failures_total", ()] == 1
    assert found["tribook_engine_batch_seq", ()] == 30
    assert found["tribook_engine_commands_per_second", ()] > 0
    assert found["tribook_engine_halted", ()] == 0
    assert found["tribook_lp_breaker", (("lp", "YOFX1"), ("state", "open"))] == 1
    assert found["tribook_lp_breaker", (("lp", "YOFX1"), ("state", "closed"))] == 0
    assert found["tribook_lp_breaker", (("lp", "PRIMEXM"), ("state", "killed"))] == 1
    assert found["tribook_alerts_open", (("severity", "critical"),)] == 1
    assert found["tribook_alerts_open", (("severity", "info"),)] == 0
    assert found["tribook_relay_lag_events", ()] == 0
    assert found["tribook_redis_up", ()] == found["tribook_auditor_up", ()] == 1


def test_without_redis_the_rest_is_told_all_the_same(desk: "redis.Redis", settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    redis_connection.cache_clear()
    found = scraped(staff())
    assert found["tribook_redis_up", ()] == found["tribook_auditor_up", ()] == 0
    assert found["tribook_engine_batch_seq", ()] == 30


# --- alerts ---


def test_alerts_are_told_to_staff_over_rest_the_worst_first(desk: "redis.Redis") -> None:
    browser = staff()
    told = browser.get("/v1/staff/alerts").json()["data"]
    assert [(alert["key"], alert["severity"], alert["count"]) for alert in told] == [
        ("invariant:I2", "critical", 3), ("lp_breaker:YOFX1", "warning", 3),
    ]  # fmt: skip
    assert AuditEntry.objects.filter(action="read_alerts").count() == 1
    client = Browser()
    client.force_login(User.objects.create_user("anna"))
    assert client.get("/v1/staff/alerts").json()["code"] == "forbidden"
    assert Browser().get("/v1/staff/alerts").json()["code"] == "not_authenticated"


def clear(browser: Browser, *keys: str) -> Any:
    body = {"action": "clear", "_selected_action": list(keys)}
    return browser.post(reverse("admin:operations_alert_changelist"), body, follow=True)


def test_an_alert_is_cleared_in_the_admin_and_recorded(desk: "redis.Redis") -> None:
    browser = staff(superuser=True)
    page = browser.get(reverse("admin:operations_alert_changelist"))
    assert b"invariant:I2" in page.content
    assert clear(browser, "invariant:I2", "command_parked").status_code == 200
    assert Alert.objects.get(key="invariant:I2").cleared_at is not None
    assert Alert.objects.get(key="lp_breaker:YOFX1").cleared_at is None
    (entry,) = AuditEntry.objects.filter(action="clear_alert")
    assert entry.detail["key"] == "invariant:I2"
    assert entry.detail["text"].startswith("I2: account 10001")


def test_who_may_not_change_alerts_cannot_clear_one_nor_edit_it(desk: "redis.Redis") -> None:
    browser = staff()
    user = User.objects.get(username="dealer")
    user.user_permissions.add(Permission.objects.get(codename="view_alert"))
    clear(browser, "invariant:I2")
    assert Alert.objects.get(key="invariant:I2").cleared_at is None
    change = reverse("admin:operations_alert_change", args=["invariant_3AI2"])
    assert browser.post(change, {"text": "nothing"}).status_code == 403


# --- a halted shard ---


def shard_command(*arguments: str) -> str:
    said = StringIO()
    call_command("shard", *arguments, stdout=said)
    return said.getvalue()


def test_the_status_tells_why_the_shard_is_halted_and_what_else_stands(desk: "redis.Redis") -> None:
    assert shard_command("status").startswith("shard 0 epoch 4 batch 30 not halted\ncritical invariant:I2 since ")
    Shard.objects.update(halted="I2: account 1")
    assert "halted: I2: account 1" in shard_command("status")


def test_a_member_of_staff_who_may_stop_trading_resumes_it_and_says_why(desk: "redis.Redis") -> None:
    Shard.objects.update(halted="I2: account 1")
    User.objects.create_superuser("chief", "chief@example.org", "x")
    said = shard_command("resume", "--by", "chief", "--reason", "the balance was posted by hand")
    assert said == "shard 0 may trade again; it was halted: I2: account 1\n"
    assert Shard.objects.get().halted == ""
    (entry,) = AuditEntry.objects.filter(action="resume_shard")
    assert entry.detail == {"shard": 0, "halted": "I2: account 1", "reason": "the balance was posted by hand"}


@pytest.mark.parametrize(
    ("by", "reason", "why"),
    [
        ("nobody", "because", "no member of staff"),
        ("anna", "because", "no member of staff"),
        ("clerk", "because", "no member of staff"),
        ("gone", "because", "no member of staff"),
        ("chief", "  ", "say why"),
    ],
)
def test_nobody_else_does_and_not_without_a_reason(desk: "redis.Redis", by: str, reason: str, why: str) -> None:
    Shard.objects.update(halted="I2: account 1")
    User.objects.create_superuser("chief", "chief@example.org", "x")
    User.objects.create_user("anna")
    User.objects.create_user("clerk", is_staff=True)
    User.objects.create_user("gone", is_staff=True, is_superuser=True, is_active=False)
    with pytest.raises(CommandError, match=why):
        shard_command("resume", "--by", by, "--reason", reason)
    assert Shard.objects.get().halted == "I2: account 1"
    assert not AuditEntry.objects.exists()


def test_a_shard_that_trades_is_not_resumed(desk: "redis.Redis") -> None:
    User.objects.create_superuser("chief", "chief@example.org", "x")
    with pytest.raises(CommandError, match="not halted"):
        shard_command("resume", "--by", "chief", "--reason", "why not")
