"""What must hold of the database after everything, named as in the reliability notes. One function per invariant.

Each takes a connection and returns its violations in words; `violations` asks them all. I3 (acked is durable) needs to
know what was acked, and I14 (rebuilt equals live) the live state's hash, so those take them as arguments.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

NUMBERS = {
    "account": ("balance", "credit"),
    "trade_order": ("volume", "filled_volume", "filled_cost", "volume_a", "filled_a", "margin_reserved"),
    "deal": ("volume", "price", "profit", "commission"),
    "position": ("volume_opened", "volume", "cost", "margin", "volume_a_opened", "volume_a", "cost_a", "locked"),
    "ledger_transfer": ("amount",),
    "ledger_balance": ("balance",),
    "lp_order": ("volume", "quantity", "filled_volume", "filled_cost"),
}


def violations(connection: Connection) -> list[str]:
    """Everything that is wrong with what is stored; empty when nothing is."""
    return [violation for check in ALL for violation in check(connection)]


def postings_sum_to_zero(connection: Connection) -> list[str]:
    """I1: per transaction and currency, and over all."""
    return _found(
        connection,
        "SELECT transaction_id, currency, sum(amount) FROM ledger_posting GROUP BY 1, 2 HAVING sum(amount) <> 0",
        "I1: transaction {} does not balance in {}: {}",
    ) + _found(
        connection,
        "SELECT currency, sum(balance) FROM ledger_balance GROUP BY 1 HAVING sum(balance) <> 0",
        "I1: all balances in {} sum to {}",
    )


def balances_are_sums_of_postings(connection: Connection) -> list[str]:
    """I2: the running balances, and the clients' own."""
    return _found(
        connection,
        """
        SELECT account, currency, coalesce(b.balance, 0), coalesce(p.total, 0) FROM ledger_balance b
        FULL JOIN (SELECT account, currency, sum(amount) AS total FROM ledger_posting GROUP BY 1, 2) p
        USING (account, currency) WHERE coalesce(b.balance, 0) <> coalesce(p.total, 0)
        """,
        "I2: {} {} is {} but its postings sum to {}",
    ) + _found(
        connection,
        """
        SELECT a.id, a.balance, coalesce(b.balance, 0) FROM account a
        LEFT JOIN ledger_balance b ON b.account = 'client:' || a.id AND b.currency = a.currency
        WHERE a.balance <> coalesce(b.balance, 0)
        """,
        "I2: account {} shows {} but its ledger account has {}",
    )


def acknowledged_is_durable(connection: Connection, acknowledged: Iterable[tuple[int, str, int]]) -> list[str]:
    """I3: every acknowledged (account, key, reference) is stored, once, with that reference."""
    return [
        f"I3: key {key!r} of account {account} was acknowledged as {reference} and is {row[0] if row else 'lost'}"
        for account, key, reference in acknowledged
        for row in [
            connection.execute(
                "SELECT reference FROM engine_key WHERE account = %s AND key = %s", (account, key)
            ).fetchone()
        ]
        if row is None or row[0] != reference
    ]


def fills_are_unique(connection: Connection) -> list[str]:
    """I4: one deal per (provider, ExecID) and order part; one leg per (provider, ClOrdID)."""
    return _found(
        connection,
        "SELECT lp, exec_id, count(*) FROM deal WHERE exec_id <> '' GROUP BY lp, exec_id, at::date HAVING count(*) > 1",
        "I4: fill {} {} was dealt {} times",
    ) + _found(
        connection,
        "SELECT lp, cl_ord_id, count(*) FROM lp_order GROUP BY 1, 2 HAVING count(*) > 1",
        "I4: leg {} {} exists {} times",
    )


def fills_stay_within_their_orders(connection: Connection) -> list[str]:
    """I5: what was dealt is what the order says was filled, and no more than was ordered."""
    return _found(
        connection,
        """
        SELECT o.id, o.volume, o.filled_volume, coalesce(d.volume, 0) FROM trade_order o
        LEFT JOIN (SELECT order_id, sum(volume) AS volume FROM deal GROUP BY 1) d ON d.order_id = o.id
        WHERE o.filled_volume <> coalesce(d.volume, 0) OR o.filled_volume > o.volume
        """,
        "I5: order {} over {} is filled {} and its deals sum to {}",
    ) + _found(
        connection,
        "SELECT cl_ord_id, volume, filled_volume FROM lp_order WHERE filled_volume > volume",
        "I5: leg {} over {} is filled {}",
    )


def events_have_one_outbox_row(connection: Connection) -> list[str]:
    """I6: numbered without a gap per account and shard."""
    return _found(
        connection,
        """
        SELECT account, count(*), max(account_seq), min(account_seq) FROM outbox GROUP BY 1
        HAVING count(*) <> max(account_seq) OR min(account_seq) <> 1
        """,
        "I6: account {} has {} outbox rows, numbered up to {} from {}",
    ) + _found(
        connection,
        "SELECT shard, count(*), max(shard_seq) FROM outbox GROUP BY 1 HAVING count(*) <> max(shard_seq)",
        "I6: shard {} has {} outbox rows, numbered up to {}",
    )


def positions_are_sums_of_deals(connection: Connection) -> list[str]:
    """I7: opened and still open; and the provider's part of it is what its own deals sum to.

    A deal that reverses another takes back what that one did. Deals before a split of their symbol are in other units.
    """
    return _found(
        connection,
        """
        SELECT p.id, p.volume_opened, p.volume, d.opened, d.open, p.volume_a, d.open_a FROM position p
        LEFT JOIN (
            SELECT position_id,
                sum(CASE WHEN exec_id LIKE 'reverse/%' THEN CASE WHEN opens THEN 0 ELSE -volume END
                    WHEN opens THEN volume ELSE 0 END) AS opened,
                sum(CASE WHEN opens THEN volume ELSE -volume END) AS open,
                coalesce(sum(CASE WHEN opens THEN volume ELSE -volume END) FILTER (WHERE book = 'A'), 0) AS open_a
            FROM (SELECT *, entry IN ('in', 'inout') AS opens FROM deal) told GROUP BY 1
        ) d ON d.position_id = p.id
        WHERE (p.volume_opened IS DISTINCT FROM d.opened OR p.volume IS DISTINCT FROM d.open
            OR p.volume_a IS DISTINCT FROM d.open_a)
            AND NOT EXISTS (
                SELECT 1 FROM (SELECT desk FROM engine_batch ORDER BY seq DESC LIMIT 1) b
                CROSS JOIN LATERAL jsonb_array_elements(coalesce(b.desk -> 'splits', '[]')) s
                WHERE s ->> 0 = p.symbol AND to_timestamp((s ->> 1)::bigint / 1000000.0) >= p.opened_at
            )
        """,
        "I7: position {} says opened {}, open {}; its deals say {} and {}; at the provider {} against {}",
    ) + _found(
        connection,
        "SELECT id, volume, volume_a, locked FROM position WHERE volume_a > volume OR locked > volume",
        "I7: position {} of {} has {} at the provider and {} locked",
    )


def batches_are_contiguous(connection: Connection) -> list[str]:
    """I9: from 1 to the shard's seq, epochs never falling."""
    return _found(
        connection,
        """
        SELECT s.shard, s.seq, count(b.seq), max(b.seq) FROM shard s LEFT JOIN engine_batch b ON b.shard = s.shard
        GROUP BY 1, 2 HAVING count(b.seq) <> s.seq OR coalesce(max(b.seq), 0) <> s.seq
        """,
        "I9: shard {} stands at {} and has {} batches up to {}",
    ) + _found(
        connection,
        """
        SELECT seq, epoch, before FROM
            (SELECT seq, epoch, lag(epoch) OVER (PARTITION BY shard ORDER BY seq) AS before FROM engine_batch) e
        WHERE epoch < before
        """,
        "I9: batch {} is of epoch {} after one of {}",
    )


def numbers_are_finite(connection: Connection) -> list[str]:
    """I10: no NaN, no infinity anywhere."""
    return [
        violation
        for table, columns in NUMBERS.items()
        for column in columns
        for violation in _found(
            connection,
            f"SELECT '{table}', '{column}', count(*) FROM {table} "
            f"WHERE {column}::text IN ('NaN', 'Infinity', '-Infinity') HAVING count(*) > 0",
            "I10: {}.{} has {} values that are no numbers",
        )
    ]


def money_has_its_currencys_digits(connection: Connection, digits: dict[str, int]) -> list[str]:
    """I10: no posting is finer than its currency."""
    return [
        f"I10: transfer {transaction}/{line} moves {amount} {currency}"
        for transaction, line, amount, currency in connection.execute(
            "SELECT transaction_id, line, amount, currency FROM ledger_transfer"
        )
        if amount != amount.quantize(Decimal(1).scaleb(-digits[currency]))
    ]


def closed_positions_hold_nothing(connection: Connection) -> list[str]:
    """I11, as far as the database alone can tell: margin, cost and locks end with the position; orders free theirs."""
    return _found(
        connection,
        """
        SELECT id, margin, cost, cost_a, locked FROM position
        WHERE volume = 0 AND (margin <> 0 OR cost <> 0 OR cost_a <> 0 OR locked <> 0)
        """,
        "I11: closed position {} still has margin {}, cost {}, cost at the provider {}, locked {}",
    ) + _found(
        connection,
        """
        SELECT id, status, margin_reserved FROM trade_order
        WHERE margin_reserved <> 0 AND status NOT IN ('pending_new', 'partially_filled')
        """,
        "I11: order {} is {} and still reserves {}",
    )


def rebuilt_equals_live(rebuilt_hash: str, live_hash: str) -> list[str]:
    """I14: what PostgreSQL rebuilds is what the engine holds."""
    return [] if rebuilt_hash == live_hash else [f"I14: rebuilt {rebuilt_hash[:12]} is not live {live_hash[:12]}"]


ALL: tuple[Callable[[Connection], list[str]], ...] = (
    postings_sum_to_zero,
    balances_are_sums_of_postings,
    fills_are_unique,
    fills_stay_within_their_orders,
    events_have_one_outbox_row,
    positions_are_sums_of_deals,
    batches_are_contiguous,
    numbers_are_finite,
    closed_positions_hold_nothing,
)


def _found(connection: Connection, query: str, sentence: str) -> list[str]:
    return [sentence.format(*row) for row in connection.execute(query.encode()).fetchall()]
