"""Every Redis key and channel of the platform, and what travels there. Nothing here is authoritative: PostgreSQL is.

| name | type | what |
| --- | --- | --- |
| `cmd:{shard}` | stream | commands for the engine, field `c` = JSON of a trading.commands command |
| `cmd:{shard}:incarnation` | string | random id of the stream's life: a restarted Redis starts ids anew |
| `reply:{client}` | stream | answers for one bus client, field `a` = JSON list of trading.answers.Answer |
| `events:{shard}` | channel | one message per committed batch: JSON list of account events (outbox payloads) |
| `quotes` | channel | raw aggregates: JSON of trading.quotes.Quote, one message each |
| `quote:{symbol}` | hash | newest aggregate: bid, ask, at_us, seq, quote (the JSON); lives 60 s |
| `lp:quotes:{lp}` | channel | one provider's prices: JSON of bus.messages.LpPrice |
| `lp:state:{lp}` | hash | price, trade (`up`/`down`), price_at_us, trade_at_us, text; lives 15 s, refreshed every second |
| `lp:state` | channel | JSON of bus.messages.LpState when a session goes up or down |
| `nudge:lp:{lp}` | channel | the engine committed new legs for the provider |
| `nudge:engine` | channel | a provider's process committed inbox rows (payload: the lp's name) |
| `config` | channel | a new configuration version was published (payload: the number) |
| `health:{process}` | hash | pid, state, at (wall seconds), detail (JSON); lives 15 s |
| `health:engine` | hash | the same of the engine that owns the shard; `health:engine-{name}` of one that stands by |
| `audit` | string | what the auditor's checks found last, for the metrics: JSON; lives 60 s |
| `lp:counters:{lp}` | hash | prices received and dropped by reason (lp_adapters.aggregation.Verdict) |
"""

QUOTES = "quotes"
LP_STATE = "lp:state"
NUDGE_ENGINE = "nudge:engine"
CONFIG = "config"
OWNER = "engine"
"""The process that owns the shard, whichever that is."""
AUDIT = "audit"
QUOTE_TTL_S = 60
STATE_TTL_S = 15


def commands(shard: int) -> str:
    return f"cmd:{shard}"


def incarnation(shard: int) -> str:
    return f"cmd:{shard}:incarnation"


def replies(client: str) -> str:
    return f"reply:{client}"


def events(shard: int) -> str:
    return f"events:{shard}"


def quote(symbol: str) -> str:
    return f"quote:{symbol}"


def lp_quotes(lp: str) -> str:
    return f"lp:quotes:{lp}"


def lp_state(lp: str) -> str:
    return f"lp:state:{lp}"


def lp_counters(lp: str) -> str:
    return f"lp:counters:{lp}"


def nudge_lp(lp: str) -> str:
    return f"nudge:lp:{lp}"


def health(process: str) -> str:
    return f"health:{process}"


def engine(name: str) -> str:
    """The process that is the engine called `name`."""
    return f"engine-{name}"
