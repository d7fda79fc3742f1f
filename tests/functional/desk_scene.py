"""A desk with something on it: quotes, providers, positions in every book, decisions, deals and a balanced ledger."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import redis

from apps.accounts.models import Account
from apps.ledger.models import Balance
from apps.operations.models import Alert, Batch, ConfigVersion, Shard
from apps.orders.models import Deal, Order
from apps.positions.models import Position
from apps.routing_rules.models import RoutingDecision
from bus import names
from bus.codec import encode
from trading.breaker import Breaker
from trading.configuration import Config, Group, LpInstrument, LpSettings, Markup, Policy, resolve_conversions
from trading.controls import KillSwitches
from trading.decisions import ConditionTrace, Decision, LpCandidate, RuleTrace
from trading.desk import Desk
from trading.instruments import Instrument
from trading.orders import Book, Side
from trading.quotes import LpTop, Quote

PRICES = {
    "EURUSD": ("1.08312", "1.08319", 5),
    "GBPUSD": ("1.26841", "1.26852", 5),
    "USDJPY": ("151.324", "151.335", 3),
    "USDCHF": ("0.88412", "0.88424", 5),
    "AUDUSD": ("0.65218", "0.65227", 5),
    "NZDUSD": ("0.60103", "0.60117", 5),
    "EURGBP": ("0.85391", "0.85402", 5),
    "EURJPY": ("163.902", "163.921", 3),
    "XAUUSD": ("2345.12", "2345.47", 2),
}
PROCESSES = (
    "engine", "lpsim", "lpsim-feed", "lp-PRIMEXM-price", "lp-PRIMEXM-trade", "lp-YOFX1-price", "lp-YOFX1-trade",
    "quotes", "stream", "web", "worker", "beat",
)  # fmt: skip
ACCOUNTS = {10001: ("retail", "EUR", "retail"), 10002: ("pro", "USD", "professional"), 10003: ("vip", "USD", "retail")}
POSITIONS = (
    (1, 10001, "EURUSD", Side.BUY, "0.10", "0", "1.08290"),
    (2, 10002, "EURUSD", Side.BUY, "2.00", "2.00", "1.08350"),
    (3, 10003, "XAUUSD", Side.SELL, "1.50", "0.90", "2347.10"),
    (4, 10001, "USDJPY", Side.SELL, "0.25", "0", "151.290"),
    (5, 10002, "GBPUSD", Side.SELL, "1.00", "1.00", "1.26900"),
)


def set_up(connection: "redis.Redis") -> None:
    """Write the whole scene into the test's database and Redis."""
    config = configuration()
    ConfigVersion.objects.create(
        version=config.version, document=json.loads(encode(config)), published_at=now(), published_by="test"
    )
    for number, (group, currency, client_class) in ACCOUNTS.items():
        Account.objects.create(
            id=number, shard=0, group=group, currency=currency, leverage=30, client_class=client_class, rights="full",
            balance=10_000, credit=0, version=1, seq=1,
        )  # fmt: skip
    for line in POSITIONS:
        add_position(*line)
    for number in range(1, 23):
        add_order(number)
    add_money()
    add_batches()
    add_alerts()
    show_quotes(connection)
    show_house(connection)


def now() -> datetime:
    return datetime.now(tz=UTC)


def configuration() -> Config:
    instruments = {
        symbol: Instrument(
            symbol=symbol, description=symbol, base=symbol[:3], quote=symbol[3:], digits=digits,
            contract_size=Decimal(100 if symbol == "XAUUSD" else 100_000), volume_min=Decimal("0.01"),
            volume_max=Decimal(100), volume_step=Decimal("0.01"), quote_age_max_us=3_600_000_000,
        )
        for symbol, (_, _, digits) in PRICES.items()
    }  # fmt: skip
    lots = LpInstrument(lp_symbol="X", volume_min=Decimal("0.01"), volume_step=Decimal("0.01"))
    return Config(
        version=7,
        instruments=instruments,
        groups={
            name: Group(
                name=name, commission_per_lot=Decimal(3), leverage_max=30, markup=Markup(bid=points, ask=points)
            )
            for name, points in (("retail", 2), ("pro", 0), ("vip", 1))
        },
        lps={
            name: LpSettings(name=name, enabled=True, priority=1, instruments=dict.fromkeys(PRICES, lots))
            for name in ("YOFX1", "PRIMEXM")
        },
        policy=Policy(version=3, rules=()),
        currency_digits={c: 0 if c == "JPY" else 2 for c in ("EUR", "USD", "GBP", "JPY", "CHF", "AUD", "NZD", "XAU")},
        conversions=resolve_conversions(instruments, {"EUR", "USD"}),
    )


def show_quotes(connection: "redis.Redis", moved_points: int = 0) -> None:
    for symbol, (bid, ask, digits) in PRICES.items():
        quote = quote_of(symbol, bid, ask, moved_points * Decimal(1).scaleb(-digits))
        connection.hset(names.quote(symbol), "quote", encode(quote))
        connection.expire(names.quote(symbol), names.QUOTE_TTL_S)


def quote_of(symbol: str, bid: str, ask: str, moved: Decimal) -> Quote:
    at_us = time.time_ns() // 1000 - 120_000
    tops = tuple(
        LpTop(
            lp=lp, bid=Decimal(bid) + moved, ask=Decimal(ask) + moved, bid_size=Decimal(5), ask_size=Decimal(5),
            quote_id="q", at_us=at_us, tradable=lp == "YOFX1" or symbol != "NZDUSD",
        )
        for lp in ("PRIMEXM", "YOFX1")
    )  # fmt: skip
    return Quote(symbol=symbol, seq=1, bid=Decimal(bid) + moved, ask=Decimal(ask) + moved, at_us=at_us, tops=tops)


def show_house(connection: "redis.Redis") -> None:
    for lp, trade in (("YOFX1", "up"), ("PRIMEXM", "down")):
        connection.hset(names.lp_state(lp), mapping={"price": "up", "trade": trade, "text": "logged out by the LP"})
        connection.hset(
            names.lp_counters(lp), mapping={"received": 184_223, "crossed": 37 if trade == "up" else 0, "stale": 2}
        )
    table = []
    for number, name in enumerate(PROCESSES):
        state: dict[str | bytes | bytearray | memoryview | int | float, str | int] = {
            "pid": 4100 + number,
            "state": "up",
            "at": f"{time.time():.3f}",
            "detail": '{"clients":3}',
        }
        connection.hset(names.health(name), mapping=state)
        table.append(
            {
                "name": name, "pid": 4100 + number, "restarts": int(name == "engine"), "since": time.time() - 5025,
                "state": "starting" if name == "beat" else "up", "last_exit": "signal 9" if name == "engine" else "",
            }
        )  # fmt: skip
    connection.set("supervisor:processes", json.dumps(table), ex=60)


def add_position(
    number: int, account: int, symbol: str, side: Side, volume: str, volume_a: str, open_price: str
) -> None:
    lots, part = Decimal(volume), Decimal(volume_a)
    Position.objects.create(
        id=number, account=account, symbol=symbol, side=side.value, volume_opened=lots, volume=lots,
        cost=lots * Decimal(open_price), margin=100, lp="YOFX1" if part else "", volume_a_opened=part, volume_a=part,
        cost_a=part * Decimal(open_price), locked=0, opened_at=now(), updated_at=now(),
    )  # fmt: skip


def add_order(number: int) -> None:
    _, account, symbol, side, volume, volume_a, price = POSITIONS[number % len(POSITIONS)]
    book = Book.B if Decimal(volume_a) == 0 else Book.A if volume == volume_a else Book.C
    at = now() - timedelta(seconds=60 - number)
    Order.objects.create(
        id=number, uuid=UUID(int=number), account=account, client_order_id=f"order-{number}", symbol=symbol,
        side=side.value, type="market", volume=Decimal(volume), status="rejected" if number == 20 else "filled",
        filled_volume=Decimal(volume), filled_cost=Decimal(volume) * Decimal(price), position_id=number, closes=False,
        book=book.value, volume_a=Decimal(volume_a), filled_a=Decimal(volume_a), margin_reserved=0, attempts=[],
        created_at=at, updated_at=at,
    )  # fmt: skip
    chosen = decision(account, symbol, side, Decimal(volume), Decimal(volume_a), book)
    RoutingDecision.objects.create(
        order_id=number, account=account, symbol=symbol, book=book.value, rule_id=chosen.rule_id,
        rule_name=chosen.rule_name, policy_version=chosen.policy_version, lp=chosen.lp, at=at,
        decision=msgspec.json.decode(encode(chosen)),
    )  # fmt: skip
    Deal.objects.create(
        id=number, order_id=number, position_id=number, account=account, symbol=symbol, side=side.value,
        entry="in" if number % 3 else "out", volume=Decimal(volume), price=Decimal(price),
        profit=0 if number % 3 else Decimal("-12.40") * (number % 2 or -1), commission=Decimal("-0.35"),
        book="B" if book is Book.B else "A", lp="" if book is Book.B else "YOFX1",
        exec_id="" if book is Book.B else f"E-{number:06}", at=at,
    )  # fmt: skip


def decision(account: int, symbol: str, side: Side, volume: Decimal, volume_a: Decimal, book: Book) -> Decision:
    client_class = ACCOUNTS[account][2]
    rules = [
        trace(1, "professionals to the market", "client_class", "=", "professional", client_class, book is Book.A),
        trace(2, "large tickets shared", "volume", ">=", "1", str(volume), book is Book.C),
        RuleTrace(rule_id=3, name="everyone else", matched=True, conditions=()),
    ][: {Book.A: 1, Book.C: 2, Book.B: 3}[book]]
    best = LpCandidate(
        lp="YOFX1", price=Decimal("1.08319"), size=Decimal(5), quote_id="q7", age_us=42_000, eligible=True,
        reason="best price for the size",
    )  # fmt: skip
    other = LpCandidate(
        lp="PRIMEXM", price=Decimal("1.08322"), size=Decimal(5), quote_id="q8", age_us=61_000, eligible=False,
        reason="the trade session is down",
    )  # fmt: skip
    bid, ask, _ = PRICES[symbol]
    return Decision(
        config_version=7, policy_version=3, rules=tuple(rules), rule_id=rules[-1].rule_id, rule_name=rules[-1].name,
        wanted=book, book=book, a_share=Decimal({Book.A: "1", Book.B: "0", Book.C: "0.6"}[book]), volume_a=volume_a,
        volume_b=volume - volume_a, candidates=() if book is Book.B else (best, other),
        lp="" if book is Book.B else "YOFX1", quote=quote_of(symbol, bid, ask, Decimal(0)),
        reasons=(
            f"Rule {rules[-1].rule_id} decided: {rules[-1].name}.",
            f"{side.value} {volume} {symbol} goes to {book.value}.",
        ),
    )  # fmt: skip


def trace(rule: int, name: str, field: str, operator: str, expected: str, actual: str, passed: bool) -> RuleTrace:
    condition = ConditionTrace(field=field, operator=operator, expected=(expected,), actual=actual, passed=passed)
    return RuleTrace(rule_id=rule, name=name, matched=passed, conditions=(condition,))


def add_money() -> None:
    balances = {
        ("bank", "EUR"): "-10000.00", ("client:10001", "EUR"): "9985.12", ("house:pnl:B", "EUR"): "12.40",
        ("house:commission", "EUR"): "2.48", ("bank", "USD"): "-20000.00", ("client:10002", "USD"): "10102.50",
        ("client:10003", "USD"): "10000.00", ("house:commission", "USD"): "17.50", ("lp:YOFX1", "USD"): "-120.00",
    }  # fmt: skip
    for (account, currency), balance in balances.items():
        # Two currencies of one account are two rows; the model's key is only the first half of the table's.
        Balance.objects.bulk_create([Balance(account=account, currency=currency, balance=Decimal(balance))])


def add_batches() -> None:
    Shard.objects.update_or_create(shard=0, defaults={"epoch": 4, "seq": 30, "halted": ""})
    for number in range(1, 31):
        Batch.objects.create(
            shard=0, seq=number, epoch=4, stream_incarnation="i", stream_id="1-1", inbox_cursors={}, config_version=7,
            counters={}, outbox_seq=number * 3, commands=4, inputs=b"", state_hash="",
            at=now() - timedelta(seconds=(30 - number) / 10),
        )  # fmt: skip


def add_alerts() -> None:
    """One provider's breaker is open, the other was stopped by the desk; a balance is wrong, and one alert is history."""
    opened = Breaker(
        lp="YOFX1",
        pause_us=3_600_000_000,
        opened_us=time.time_ns() // 1000,
        why="breaker open: 7 of 10 rejected in 10 s",
    )
    desk = Desk(breakers=(opened,), switches=KillSwitches(lps=("PRIMEXM",)))
    Batch.objects.filter(seq=30).update(desk=msgspec.json.decode(encode(desk)))
    for key, severity, text, is_cleared in (
        ("lp_breaker:YOFX1", "warning", "YOFX1 gets no new risk, breaker open: 7 of 10 rejected in 10 s", False),
        (
            "invariant:I2",
            "critical",
            "I2: account 10001 shows 9985.12 and 0 but its ledger accounts have 9985.13 and 0",
            False,
        ),
        ("command_parked", "critical", "1 commands; command c was put aside: KeyError: 1", True),
    ):
        Alert.objects.create(
            key=key, kind=key.partition(":")[0], severity=severity, text=text, raised_at=now(), last_at=now(), count=3,
            cleared_at=now() if is_cleared else None,
        )  # fmt: skip


def screenshots() -> str:
    """Where screenshots go: outside the project unless told."""
    return os.environ.get("TRIBOOK_SCREENSHOTS", "")
