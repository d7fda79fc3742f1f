"""The desk's figures: a handful of queries over the engine's tables, one round trip to Redis, and the pure arithmetic."""

import json
import time
from decimal import Decimal
from typing import Any, NamedTuple, cast

import msgspec
from django.db import connection
from redis.exceptions import RedisError

from apps.backoffice.desk import OpenPosition, exposures, floating, spread_points
from apps.doors.connections import clock, redis_connection
from apps.published import NothingPublished, current_config, effective_terms
from bus import names
from bus.codec import decode_quote
from trading.breaker import state_of
from trading.configuration import Config
from trading.desk import Desk
from trading.numbers import ZERO
from trading.orders import Side
from trading.quotes import Quote
from trading.views import average_price, rfc3339

SHARD = 0
POSITIONS_MAX = 500
DECISIONS_MAX = 20
DEALS_MAX = 20
ALERTS_MAX = 50
BATCHES_LOOKED_AT = 500
SUPERVISOR_TABLE = "supervisor:processes"

Row = dict[str, Any]


class Live(NamedTuple):
    """What Redis knows now."""

    quotes: dict[str, Quote]
    lp_states: dict[str, dict[str, str]]
    lp_counters: dict[str, dict[str, str]]
    supervised: list[Row]
    health: dict[str, dict[str, str]]


def overview() -> Row:
    """Everything the page shows. Amounts and prices are Decimal, times RFC 3339, ages in milliseconds of business time."""
    try:
        config = current_config()
    except NothingPublished:
        return {"at": rfc3339(clock()()), "config_version": None, "processes": _processes(_live(None))}
    live, engine = _live(config), newest_batches()
    now_us = clock()()
    breakers = breaker_states(config, engine.pop("desk", None), now_us)
    held = _open_positions()
    return {
        "at": rfc3339(now_us),
        "config_version": config.version,
        "quotes": _quotes(config, live.quotes, now_us),
        "lps": _lps(config, live, breakers),
        "positions": [_position(position, config, live.quotes) for position in held[:POSITIONS_MAX]],
        "positions_open": len(held),
        "exposures": [exposure._asdict() for exposure in exposures(held)],
        "decisions": _decisions(),
        "deals": _deals(),
        **_ledger(config),
        "engine": engine,
        "alerts": _alerts(),
        "processes": _processes(live),
    }


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


def _open_positions() -> list[OpenPosition]:
    rows = _rows(
        """
        SELECT p.id, p.account, a."group", a.currency, p.symbol, p.side, p.volume, p.volume_a, p.cost, p.lp
        FROM position p JOIN account a ON a.id = p.account WHERE p.volume > 0 ORDER BY p.id DESC
        """
    )
    return [OpenPosition(**{**row, "side": Side(row["side"])}) for row in rows]


def _decisions() -> list[Row]:
    rows = _rows(
        """
        SELECT d.order_id, d.account, d.symbol, d.book, d.rule_name, d.policy_version, d.lp, d.at,
               d.decision::text AS decision, o.side, o.volume, o.status
        FROM routing_decision d LEFT JOIN trade_order o ON o.id = d.order_id ORDER BY d.order_id DESC LIMIT %s
        """,
        DECISIONS_MAX,
    )
    return [{**row, "decision": json.loads(row["decision"])} for row in rows]


def _deals() -> list[Row]:
    return _rows(
        """
        SELECT id, order_id, position_id, account, symbol, side, entry, volume, price, profit, commission, book, lp,
               exec_id, lp_price, at
        FROM deal ORDER BY id DESC LIMIT %s
        """,
        DEALS_MAX,
    )


def _ledger(config: Config) -> Row:
    """Sums over all accounts, which must be zero, and the balances of everybody but single clients."""
    rows = _rows(
        """
        SELECT CASE WHEN account LIKE 'client:%%' THEN 'clients' ELSE account END AS account, currency,
               sum(balance) AS balance
        FROM ledger_balance GROUP BY 1, 2 ORDER BY 1, 2
        """
    )
    sums: dict[str, Decimal] = {}
    for row in rows:
        sums[row["currency"]] = sums.get(row["currency"], ZERO) + row["balance"]
    digits = config.currency_digits
    return {
        "ledger_sums": [{"currency": c, "sum": sums[c], "digits": digits.get(c, 2)} for c in sorted(sums)],
        "house": [{**row, "digits": digits.get(row["currency"], 2)} for row in rows],
    }


def newest_batches() -> Row:
    """The newest batch, its desk as JSON, and the pace of those of its last ten seconds."""
    rows = _rows(
        """
        SELECT s.epoch, s.owner, s.halted, b.desk::text AS desk, b.seq, b.at AS batch_at, b.config_version, b.outbox_seq,
               r.batches, r.commands, r.seconds
        FROM shard s
        LEFT JOIN LATERAL (SELECT * FROM engine_batch WHERE shard = s.shard ORDER BY seq DESC LIMIT 1) b ON true
        LEFT JOIN LATERAL (
            SELECT count(*) AS batches, coalesce(sum(commands), 0) AS commands,
                   extract(epoch FROM max(at) - min(at))::numeric(12,3) AS seconds
            FROM (SELECT commands, at FROM engine_batch WHERE shard = s.shard ORDER BY seq DESC LIMIT %s) newest
            WHERE newest.at > b.at - interval '10 seconds'
        ) r ON true
        WHERE s.shard = %s
        """,
        BATCHES_LOOKED_AT,
        SHARD,
    )
    return rows[0] if rows else {}


def breaker_states(config: Config, desk: str | None, now_us: int) -> dict[str, str]:
    """Of every configured provider."""
    known = msgspec.json.decode(desk, type=Desk) if desk else Desk()
    return {lp: state_of(known.breakers, known.switches.lps, lp, now_us).value for lp in sorted(config.lps)}


def _alerts() -> list[Row]:
    """What a person should know of now, the worst first."""
    return _rows(
        """
        SELECT key, severity, text, raised_at, count FROM alert WHERE cleared_at IS NULL
        ORDER BY array_position(ARRAY['critical', 'warning', 'info'], severity), raised_at DESC, key LIMIT %s
        """,
        ALERTS_MAX,
    )


def _rows(sql: str, *values: str | int) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        columns = [column[0] for column in cursor.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


# --------------------------------------------------------------------------------------------------------------- Redis


def _live(config: Config | None) -> Live:
    """Nothing while Redis is away: then every quote is missing, every provider down, and no process reports."""
    try:
        return _asked(config)
    except RedisError:
        silent: dict[str, dict[str, str]] = {lp: {} for lp in config.lps} if config else {}
        return Live(quotes={}, lp_states=silent, lp_counters=silent, supervised=[], health={})


def _asked(config: Config | None) -> Live:
    symbols = sorted(config.instruments) if config else []
    lps = sorted(config.lps) if config else []
    redis = redis_connection()
    beating = sorted(key.decode() for key in redis.scan_iter(match=names.health("*"), count=200))
    pipeline = redis.pipeline(transaction=False)
    for symbol in symbols:
        pipeline.hget(names.quote(symbol), "quote")
    for lp in lps:
        pipeline.hgetall(names.lp_state(lp))
        pipeline.hgetall(names.lp_counters(lp))
    for key in beating:
        pipeline.hgetall(key)
    pipeline.get(SUPERVISOR_TABLE)
    answers = iter(pipeline.execute())
    quotes = {symbol: next(answers) for symbol in symbols}
    states, counters = {}, {}
    for lp in lps:
        states[lp], counters[lp] = _texts(next(answers)), _texts(next(answers))
    health = {key.partition(":")[2]: _texts(next(answers)) for key in beating}
    table = next(answers)
    return Live(
        quotes={symbol: decode_quote(text) for symbol, text in quotes.items() if text},
        lp_states=states,
        lp_counters=counters,
        supervised=cast("list[Row]", json.loads(table)) if table else [],
        health=health,
    )


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


# ---------------------------------------------------------------------------------------------------------------- shapes


def _quotes(config: Config, quotes: dict[str, Quote], now_us: int) -> list[Row]:
    """One row per symbol, also for those without a quote: a missing price is what a dealer must see first."""
    return [_quote(symbol, config, quotes.get(symbol), now_us) for symbol in sorted(config.instruments)]


def _quote(symbol: str, config: Config, quote: Quote | None, now_us: int) -> Row:
    instrument = config.instruments[symbol]
    shared = {"symbol": symbol, "digits": instrument.digits}
    if quote is None:
        return {**shared, "bid": None, "tops": []}
    return {
        **shared,
        "bid": quote.bid,
        "ask": quote.ask,
        "spread_points": spread_points(quote, instrument.digits),
        "age_ms": (now_us - quote.at_us) // 1000,
        "age_max_ms": instrument.quote_age_max_us // 1000,
        "tops": [
            {
                "lp": top.lp,
                "bid": top.bid,
                "ask": top.ask,
                "tradable": top.tradable,
                "age_ms": (now_us - top.at_us) // 1000,
            }
            for top in quote.tops
        ],
    }


def _lps(config: Config, live: Live, breakers: dict[str, str]) -> list[Row]:
    return [
        {
            "lp": name,
            "enabled": settings.enabled,
            "price": live.lp_states[name].get("price", "down"),
            "trade": live.lp_states[name].get("trade", "down"),
            "text": live.lp_states[name].get("text", ""),
            "breaker": breakers[name],
            "counters": dict(sorted(live.lp_counters[name].items())),
        }
        for name, settings in sorted(config.lps.items())
    ]


def _position(position: OpenPosition, config: Config, quotes: dict[str, Quote]) -> Row:
    instrument = config.instruments.get(position.symbol)
    digits = instrument.digits if instrument else 5
    return {
        "id": position.id,
        "account": position.account,
        "group": position.group,
        "symbol": position.symbol,
        "side": position.side.value,
        "volume": position.volume,
        "open_price": average_price(position.cost, position.volume, digits),
        "volume_a": position.volume_a,
        "volume_b": position.volume - position.volume_a,
        "lp": position.lp,
        "floating": floating(position, config, effective_terms(config), quotes),
        "currency": position.currency,
        "digits": config.currency_digits.get(position.currency, 2),
    }


def _processes(live: Live) -> list[Row]:
    """The supervisor's table joined with what each process says of itself; without a supervisor, the latter alone."""
    now_s = time.time()
    known = {str(row["name"]): row for row in live.supervised}
    rows = []
    others = [name for name in live.health if name not in known and name not in STANDING_BY]
    for name in [*known, *others]:
        supervised = known.get(name, {})
        said = _said(name, supervised.get("pid"), live.health)
        since = supervised.get("since")
        rows.append(
            {
                "name": name,
                "pid": supervised.get("pid") or said.get("pid"),
                "state": _state(supervised.get("state"), said),
                "restarts": supervised.get("restarts"),
                "up_s": int(now_s - since) if since else None,
                "last_exit": supervised.get("last_exit", ""),
                "beat_age_ms": int((now_s - float(said["at"])) * 1000) if "at" in said else None,
                "detail": json.loads(said["detail"]) if said.get("detail") else {},
            }
        )
    return rows


STANDING_BY = (names.engine(names.OWNER),)
"""Where the engine speaks while another has its place: `health:engine` is whoever owns the shard."""


def _said(name: str, pid: int | None, health: dict[str, dict[str, str]]) -> dict[str, str]:
    """The last word of the process that is supervised under this name."""
    said = health.get(name, {})
    if name == names.OWNER and pid is not None and said.get("pid") != str(pid):
        return health.get(names.engine(name), said)
    return said


def _state(supervised: str | None, said: dict[str, str]) -> str:
    """What the process says of itself, unless its supervisor knows that it is not up."""
    if supervised is not None and supervised != "up":
        return supervised
    return said.get("state", supervised or "unknown")
