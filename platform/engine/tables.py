"""The names of the tables and columns that the engine writes, and their SQL types as Django's migrations make them.

Django owns the DDL; this page is what COPY and UNNEST statements are built from, because COPY skips Python defaults and
every column must be named. A test compares it with information_schema.
"""

from typing import NamedTuple


class Table(NamedTuple):
    """A table's name, its columns with their SQL types in writing order, and its key columns."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]


MONEY = "numeric(28,8)"
PRICE = "numeric(28,10)"
VOLUME = "numeric(28,8)"
COST = "numeric(38,18)"
EXACT = "numeric(32,10)"
"""Money with fractions of a cent: margin charges and accruals."""

SHARD = Table(
    "shard",
    {
        "shard": "integer",
        "epoch": "bigint",
        "seq": "bigint",
        "halted": "text",
        "owner": "text",
        "lease_until": "timestamptz",
    },
    ("shard",),
)

BATCH = Table(
    "engine_batch",
    {
        "shard": "integer",
        "seq": "bigint",
        "epoch": "bigint",
        "stream_incarnation": "text",
        "stream_id": "text",
        "inbox_cursors": "jsonb",
        "config_version": "integer",
        "counters": "jsonb",
        "outbox_seq": "bigint",
        "desk": "jsonb",
        "commands": "integer",
        "inputs": "bytea",
        "state_hash": "text",
        "at": "timestamptz",
    },
    ("shard", "seq"),
)

KEY = Table(
    "engine_key",
    {
        "account": "bigint",
        "key": "text",
        "body_hash": "text",
        "kind": "text",
        "reference": "bigint",
        "refusal": "text",
        "at": "timestamptz",
    },
    ("account", "key"),
)

OUTBOX = Table(
    "outbox",
    {
        "shard": "integer",
        "shard_seq": "bigint",
        "account": "bigint",
        "account_seq": "bigint",
        "kind": "text",
        "payload": "json",
        "at": "timestamptz",
    },
    ("shard", "shard_seq"),
)

ACCOUNT = Table(
    "account",
    {
        "id": "bigint",
        "shard": "integer",
        "group": "text",
        "currency": "text",
        "leverage": "integer",
        "client_class": "text",
        "rights": "text",
        "balance": MONEY,
        "credit": MONEY,
        "version": "bigint",
        "seq": "bigint",
        "jurisdiction": "text",
        "stp_only": "boolean",
        "alarm": "integer",
        "commission_blocked": MONEY,
        "day_trades": "text[]",
        "turnover": "jsonb",
    },
    ("id",),
)

ORDER = Table(
    "trade_order",
    {
        "id": "bigint",
        "uuid": "uuid",
        "account": "bigint",
        "client_order_id": "text",
        "symbol": "text",
        "side": "text",
        "type": "text",
        "volume": VOLUME,
        "status": "text",
        "filled_volume": VOLUME,
        "filled_cost": COST,
        "position_id": "bigint",
        "closes": "boolean",
        "refusal": "text",
        "detail": "text",
        "comment": "text",
        "book": "text",
        "volume_a": VOLUME,
        "filled_a": VOLUME,
        "margin_reserved": EXACT,
        "attempts": "text[]",
        "price": PRICE,
        "stop_price": PRICE,
        "time_in_force": "text",
        "expires_at": "timestamptz",
        "max_slippage": "integer",
        "stop_loss": PRICE,
        "stop_loss_points": "integer",
        "take_profit": PRICE,
        "take_profit_points": "integer",
        "trailing_points": "integer",
        "trailing_step": "integer",
        "trailing_activation": "integer",
        "break_even_points": "integer",
        "break_even_offset": "integer",
        "is_guaranteed": "boolean",
        "sl_trigger": "text",
        "is_triggered": "boolean",
        "reason": "text",
        "hedged_reserved": EXACT,
        "unleveraged_reserved": EXACT,
        "notional_reserved": EXACT,
        "oco_group": "text",
        "netted": VOLUME,
        "stop_trigger": "text",
        "commissions": "jsonb",
        "created_at": "timestamptz",
        "updated_at": "timestamptz",
    },
    ("id",),
)

DEAL = Table(
    "deal",
    {
        "id": "bigint",
        "order_id": "bigint",
        "position_id": "bigint",
        "account": "bigint",
        "symbol": "text",
        "side": "text",
        "entry": "text",
        "volume": VOLUME,
        "price": PRICE,
        "profit": MONEY,
        "commission": MONEY,
        "book": "text",
        "lp": "text",
        "exec_id": "text",
        "lp_price": PRICE,
        "swap": MONEY,
        "fee": MONEY,
        "at": "timestamptz",
    },
    ("id",),
)

POSITION = Table(
    "position",
    {
        "id": "bigint",
        "account": "bigint",
        "symbol": "text",
        "side": "text",
        "volume_opened": VOLUME,
        "volume": VOLUME,
        "cost": COST,
        "margin": EXACT,
        "lp": "text",
        "volume_a_opened": VOLUME,
        "volume_a": VOLUME,
        "cost_a": COST,
        "locked": VOLUME,
        "stop_loss": PRICE,
        "take_profit": PRICE,
        "trailing_points": "integer",
        "trailing_step": "integer",
        "trailing_activation": "integer",
        "break_even_points": "integer",
        "break_even_offset": "integer",
        "is_guaranteed": "boolean",
        "sl_trigger": "text",
        "hedged": EXACT,
        "unleveraged": EXACT,
        "notional": EXACT,
        "swap": EXACT,
        "rolled_at": "timestamptz",
        "opened_at": "timestamptz",
        "updated_at": "timestamptz",
    },
    ("id",),
)

TRANSFER = Table(
    "ledger_transfer",
    {
        "transaction_id": "bigint",
        "line": "integer",
        "kind": "text",
        "source": "text",
        "target": "text",
        "currency": "text",
        "amount": MONEY,
        "order_id": "bigint",
        "deal_id": "bigint",
        "position_id": "bigint",
        "reference": "text",
        "at": "timestamptz",
    },
    ("transaction_id", "line"),
)

BALANCE = Table("ledger_balance", {"account": "text", "currency": "text", "balance": MONEY}, ("account", "currency"))

DECISION = Table(
    "routing_decision",
    {
        "order_id": "bigint",
        "account": "bigint",
        "symbol": "text",
        "book": "text",
        "rule_id": "integer",
        "rule_name": "text",
        "policy_version": "integer",
        "lp": "text",
        "decision": "json",
        "at": "timestamptz",
    },
    ("order_id",),
)

LP_ORDER = Table(
    "lp_order",
    {
        "id": "bigint",
        "order_id": "bigint",
        "account": "bigint",
        "lp": "text",
        "cl_ord_id": "text",
        "symbol": "text",
        "lp_symbol": "text",
        "side": "text",
        "volume": VOLUME,
        "quantity": VOLUME,
        "position_id": "bigint",
        "status": "text",
        "filled_volume": VOLUME,
        "filled_cost": COST,
        "lp_order_id": "text",
        "exec_ids": "text[]",
        "text": "text",
        "price_shift": PRICE,
        "client_price": PRICE,
        "told_cum": VOLUME,
        "told_end": "text",
        "gap_at": "timestamptz",
        "is_in_case": "boolean",
        "epoch": "bigint",
        "limit_price": PRICE,
        "all_or_none": "boolean",
        "expires_at": "timestamptz",
        "created_at": "timestamptz",
        "updated_at": "timestamptz",
    },
    ("id",),
)
"""The provider's process adds and owns `dispatch_state` (default 'new') and `dispatched_at`; the engine never writes them."""

CASE = Table(
    "lp_case",
    {
        "id": "bigint",
        "kind": "text",
        "lp": "text",
        "lp_order_id": "bigint",
        "report": "json",
        "opened_at": "timestamptz",
    },
    ("id",),
)
"""Whether a case is settled, by whom and why belongs to the back office: the engine never writes it."""

EXECUTION = Table(
    "lp_execution",
    {
        "lp": "text",
        "exec_id": "text",
        "trade_date": "text",
        "kind": "text",
        "content": "text",
        "cl_ord_id": "text",
        "owner": "text",
        "symbol": "text",
        "side": "text",
        "volume": VOLUME,
        "price": PRICE,
        "ref": "text",
        "at": "timestamptz",
    },
    ("lp", "exec_id", "trade_date"),
)

ERROR_FILL = Table(
    "error_fill",
    {
        "id": "bigint",
        "lp": "text",
        "symbol": "text",
        "side": "text",
        "volume": VOLUME,
        "price": PRICE,
        "reason": "text",
        "cl_ord_id": "text",
        "exec_id": "text",
        "result": MONEY,
        "currency": "text",
        "volume_after": VOLUME,
        "cost_after": COST,
        "at": "timestamptz",
    },
    ("id",),
)

PARKED = Table(
    "parked_command",
    {"command_id": "text", "account": "bigint", "command": "json", "error": "text", "at": "timestamptz"},
    ("command_id",),
)

MARGIN_NOTE = Table(
    "margin_note",
    {
        "id": "bigint",
        "account": "bigint",
        "kind": "text",
        "rule": "text",
        "equity": MONEY,
        "margin": MONEY,
        "level": "numeric(32,2)",
        "order_id": "bigint",
        "position_id": "bigint",
        "detail": "text",
        "prices": "jsonb",
        "at": "timestamptz",
    },
    ("id",),
)

SWAP_ACCRUAL = Table(
    "swap_accrual",
    {
        "position_id": "bigint",
        "account": "bigint",
        "symbol": "text",
        "date": "date",
        "period": "integer",
        "due_at": "timestamptz",
        "at": "timestamptz",
        "factor": PRICE,
        "rate": PRICE,
        "amount": EXACT,
        "why": "text",
    },
    ("position_id", "date", "period"),
)

COMMISSION_BLOCK = Table(
    "commission_block",
    {
        "account": "bigint",
        "rule": "text",
        "date": "date",
        "key": "text",
        "units": PRICE,
        "volume": VOLUME,
        "money": PRICE,
    },
    ("account", "rule", "key"),
)

COMMISSION_DAY = Table(
    "commission_day",
    {
        "account": "bigint",
        "rule": "text",
        "date": "date",
        "amount": MONEY,
        "lots": VOLUME,
        "money": PRICE,
        "transaction_id": "bigint",
    },
    ("account", "rule", "date"),
)

WRITTEN = (
    BATCH, KEY, OUTBOX, ACCOUNT, ORDER, DEAL, POSITION, TRANSFER, BALANCE, DECISION, LP_ORDER, CASE, PARKED, MARGIN_NOTE,
    SWAP_ACCRUAL, COMMISSION_BLOCK, COMMISSION_DAY, EXECUTION, ERROR_FILL,
)  # fmt: skip

LP_INBOX = Table(
    "lp_inbox",
    {
        "lp": "text",
        "seq": "bigint",
        "kind": "text",
        "cl_ord_id": "text",
        "exec_id": "text",
        "trade_date": "text",
        "report": "json",
        "raw": "text",
        "received_at": "timestamptz",
    },
    ("lp", "seq"),
)
"""Written by the providers' processes, read by the engine from its cursor on."""

CONFIG = Table(
    "config_version",
    {"version": "integer", "document": "json", "published_at": "timestamptz", "published_by": "text"},
    ("version",),
)
"""Written by the back office, read by the engine and the providers' processes."""
