"""What must hold of the stored data at every committed moment, named as in the reliability notes.

An `Auditor` looks again and again. Each look reads only what is new since the one before (transfers, deals, messages and
batches by their numbers, orders and positions by the business time of their last change), adds it to the sums it keeps, and
holds those against the rows that must agree with them: so a look costs what has happened since, not what has ever happened,
and a first look with an empty memory is a whole audit. A look wants one snapshot: see `snapshot`. Some checks need to see
everything, and are only in `violations`, which asks for all of them.

One shard writes the database, so numbers and business times rise with its commits.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from apps.operations import chain
from trading.ledger import BANK, HOUSE_ERROR, TransactionKind

Connection = psycopg.Connection[Any]
Check = Callable[[Connection], list[str]]

ZERO = Decimal(0)
EXPIRED_FOR_MAX = timedelta(seconds=60)
"""Business time within which an order whose time has come is told so, at the wall clock's speed."""
IN_FLIGHT = "(status = 'pending_new' OR (status = 'partially_filled' AND attempts <> '{}'))"
LEG_IS_LIVE = "status IN ('working', 'partially_filled')"
OPENS = "entry IN ('in', 'inout')"
TAKES_BACK = "exec_id LIKE 'reverse/%%'"
"""A deal that undoes another: what that one opened was never opened."""
IS_CORRECTION = "(exec_id LIKE 'reverse/%%' OR exec_id LIKE 'correct/%%')"
"""Posted as the difference that it makes, not as a result."""
PAID_IN, PAID_OUT = TransactionKind.DEPOSIT.value, TransactionKind.WITHDRAWAL.value
CLIENTS, HOUSE, PROVIDERS = "clients", "house", "providers"
PARTIES = {"client": CLIENTS, "credit": CLIENTS, "withdrawal": CLIENTS, "house": HOUSE, "lp": PROVIDERS, BANK: BANK}
"""Whose a ledger account is, by what stands before its first colon."""

NUMBERS = {
    "account": ("balance", "credit", "commission_blocked"),
    "trade_order": ("volume", "filled_volume", "filled_cost", "volume_a", "filled_a", "margin_reserved", "netted"),
    "deal": ("volume", "price", "profit", "commission", "swap", "fee"),
    "position": (
        "volume_opened",
        "volume",
        "cost",
        "margin",
        "volume_a_opened",
        "volume_a",
        "cost_a",
        "locked",
        "swap",
    ),
    "ledger_transfer": ("amount",),
    "ledger_balance": ("balance",),
    "lp_order": ("volume", "quantity", "filled_volume", "filled_cost", "told_cum"),
    "lp_execution": ("volume", "price"),
    "error_fill": ("volume", "price", "result", "volume_after", "cost_after"),
}


def violations(connection: Connection, *, expired_for_max: timedelta = EXPIRED_FOR_MAX) -> list[str]:
    """Everything that is wrong with what is stored; empty when nothing is."""
    found = Auditor(expired_for_max=expired_for_max).look(connection)
    return found + fills_are_unique(connection) + fills_are_owned(connection) + numbers_are_finite(connection)


@contextmanager
def snapshot(connection: Connection) -> Iterator[Connection]:
    """Read-only, and everything as of one commit. The connection must not be in a transaction already."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


class Auditor:
    """Keeps sums between looks, and how long each check took at most."""

    def __init__(self, *, expired_for_max: timedelta = EXPIRED_FOR_MAX) -> None:
        self.looks = 0
        self.longest_s: dict[str, float] = {}
        self.last_s: dict[str, float] = {}
        """Per check, and under `look` all of them together."""
        self._expired_for_max = expired_for_max
        self._transaction = self._deal = 0
        self._posted: dict[tuple[str, str], Decimal] = {}
        self._paid_in: dict[str, Decimal] = {}
        self._won: dict[int, Decimal] = {}
        """Per account what its deals made less what was posted for them: zero."""
        self._dealt: dict[int, Decimal] = {}
        self._held: dict[int, tuple[Decimal, Decimal, Decimal]] = {}
        """Per position by its deals: ever opened, still open, still open at a provider."""
        self._error = 0
        self._erred: dict[tuple[str, str], Decimal] = {}
        """Lots in the house's error account, by its bookings."""
        self._lost: dict[str, Decimal] = {}
        """What they came to, per currency."""
        self._touched_orders: list[int] = []
        self._touched_positions: list[int] = []
        self._orders_since: datetime | None = None
        self._positions_since: datetime | None = None
        self._legs_since: datetime | None = None
        self._messages: dict[int, int] = {}
        """The last number of every account."""
        self._outbox: dict[int, int] = {}
        self._batches: dict[int, tuple[int, int]] = {}
        self.entries = chain.NOTHING
        """Up to where the audit entries were followed."""
        self._checks: dict[str, Check] = {
            "ledger": self._ledger_adds_up,
            "balances": self._balances_are_sums_of_postings,
            "results": self._results_add_up,
            "deals": self._deals_are_posted,
            "orders": self._fills_stay_within_their_orders,
            "positions": self._positions_are_sums_of_deals,
            "errors": self._error_account_adds_up,
            "waiting": nothing_waits_in_vain,
            "expiry": self._nothing_rests_expired,
            "outbox": self._messages_are_numbered,
            "batches": self._batches_are_contiguous,
            "entries": self._entries_are_chained,
        }

    def look(self, connection: Connection) -> list[str]:
        """What is wrong now. What was found before is not looked for again, unless it changes once more."""
        found: list[str] = []
        began = time.perf_counter()
        for name, check in self._checks.items():
            started = time.perf_counter()
            found += check(connection)
            self._took(name, time.perf_counter() - started)
        self._took("look", time.perf_counter() - began)
        self.looks += 1
        return found

    def _took(self, name: str, seconds: float) -> None:
        self.last_s[name] = seconds
        self.longest_s[name] = max(self.longest_s.get(name, 0.0), seconds)

    # ---------------------------------------------------------------------------------------------------------- money

    def _ledger_adds_up(self, connection: Connection) -> list[str]:
        """I1: per transaction and currency, and over all. Also takes in the new transfers for the checks below."""
        since = (self._transaction,)
        found = _found(
            connection,
            "SELECT transaction_id, currency, sum(amount) FROM ledger_posting WHERE transaction_id > %s"
            " GROUP BY 1, 2 HAVING sum(amount) <> 0",
            "I1: transaction {} does not balance in {}: {}",
            since,
        ) + _found(
            connection,
            "SELECT currency, sum(balance) FROM ledger_balance GROUP BY 1 HAVING sum(balance) <> 0",
            "I1: all balances in {} sum to {}",
        )
        for account, currency, amount, result, paid_in in _rows(connection, NEW_POSTINGS, (PAID_IN, PAID_OUT, *since)):
            _add(self._posted, (account, currency), amount)
            _add(self._paid_in, currency, paid_in)
            if account.startswith("client:"):
                _add(self._won, int(account.removeprefix("client:")), -result)
        ((newest,),) = _rows(connection, "SELECT coalesce(max(transaction_id), 0) FROM ledger_transfer")
        self._transaction = newest
        return found

    def _balances_are_sums_of_postings(self, connection: Connection) -> list[str]:
        """I2: the running balances, and the clients' own."""
        shown = {
            (account, currency): balance
            for account, currency, balance in _rows(connection, "SELECT account, currency, balance FROM ledger_balance")
        }
        return [
            f"I2: {account} {currency} is {shown.get((account, currency), ZERO)} but its postings sum to"
            f" {self._posted.get((account, currency), ZERO)}"
            for account, currency in {**shown, **self._posted}
            if shown.get((account, currency), ZERO) != self._posted.get((account, currency), ZERO)
        ] + _found(connection, CLIENT_BALANCES, "I2: account {} shows {} and {} but its ledger accounts have {} and {}")

    def _results_add_up(self, connection: Connection) -> list[str]:
        """What clients, house and providers have won adds up to zero: nobody's profit comes from nowhere."""
        won: dict[str, dict[str, Decimal]] = {}
        found = []
        for family, currency, total in _rows(connection, BALANCES_BY_FAMILY):
            if family not in PARTIES:
                found.append(f"results: nobody stands behind the ledger accounts {family}")
            elif family != BANK:
                _add(won.setdefault(currency, {}), PARTIES[family], total)
        for currency in {**won, **self._paid_in}:
            parts = won.setdefault(currency, {})
            _add(parts, CLIENTS, -self._paid_in.get(currency, ZERO))
            if sum(parts.values()):
                told = ", ".join(f"{party} {amount}" for party, amount in parts.items())
                found.append(f"results: in {currency} not all that is won is lost by somebody: {told}")
        return found

    def _deals_are_posted(self, connection: Connection) -> list[str]:
        """What deals say that clients have won was posted to them. Also takes in the new deals for the checks below."""
        for account, profit in _rows(
            connection,
            f"SELECT account, sum(profit) FROM deal WHERE id > %s AND NOT {IS_CORRECTION} GROUP BY 1",
            (self._deal,),
        ):
            _add(self._won, account, profit)
        wrong = [account for account, amount in self._won.items() if amount]
        self._take_in_deals(connection)
        return [f"I7: the deals of account {n} say {self._won[n]} more than was posted to it" for n in wrong]

    def _take_in_deals(self, connection: Connection) -> None:
        for order, volume in _rows(
            connection, "SELECT order_id, sum(volume) FROM deal WHERE id > %s GROUP BY 1", (self._deal,)
        ):
            _add(self._dealt, order, volume)
            self._touched_orders.append(order)
        for position, *parts in _rows(connection, NEW_HOLDINGS, (self._deal,)):
            opened, left, left_a = self._held.get(position, (ZERO, ZERO, ZERO))
            self._held[position] = (opened + parts[0], left + parts[1], left_a + parts[2])
            self._touched_positions.append(position)
        ((self._deal,),) = _rows(connection, "SELECT coalesce(max(id), 0) FROM deal")

    # ------------------------------------------------------------------------------------------- orders and positions

    def _fills_stay_within_their_orders(self, connection: Connection) -> list[str]:
        """I5: the order is filled by what was dealt, and no more than was ordered. I11: an ended order frees its margin."""
        found = []
        touched, self._touched_orders = self._touched_orders, []
        for number, volume, filled, status, margin, changed in _rows(
            connection, CHANGED_ORDERS, (self._orders_since, self._orders_since, touched)
        ):
            dealt = self._dealt.get(number, ZERO)
            self._orders_since = changed if self._orders_since is None else max(self._orders_since, changed)
            if filled != dealt or filled > volume:
                found.append(f"I5: order {number} over {volume} is filled {filled} and its deals sum to {dealt}")
            if margin and status not in WORKING:
                found.append(f"I11: order {number} is {status} and still reserves {margin}")
        for cl_ord_id, volume, filled, changed in _rows(connection, CHANGED_LEGS, (self._legs_since, self._legs_since)):
            self._legs_since = changed if self._legs_since is None else max(self._legs_since, changed)
            if filled > volume:
                found.append(f"I5: leg {cl_ord_id} over {volume} is filled {filled}")
        return found

    def _positions_are_sums_of_deals(self, connection: Connection) -> list[str]:
        """I7: opened, still open, and the provider's part of it. I11: margin, cost and locks end with the position.

        Deals before a split of their symbol are in other units, so positions older than that are not held against them.
        """
        found = []
        splits = _rows(connection, SPLITS)
        touched, self._touched_positions = self._touched_positions, []
        for number, symbol, opened_at, opened, left, left_a, locked, rest, changed in _rows(
            connection, CHANGED_POSITIONS, (self._positions_since, self._positions_since, touched)
        ):
            by_deals = self._held.get(number, (ZERO, ZERO, ZERO))
            self._positions_since = changed if self._positions_since is None else max(self._positions_since, changed)
            is_split = any(symbol == split and opened_at <= at for split, at in splits)
            if (opened, left, left_a) != by_deals and not is_split:
                found.append(
                    f"I7: position {number} says opened {opened}, open {left}, at the provider {left_a};"
                    f" its deals say {by_deals[0]}, {by_deals[1]} and {by_deals[2]}"
                )
            if not (0 <= left_a <= left and 0 <= locked <= left):
                found.append(f"I7: position {number} of {left} has {left_a} at the provider and {locked} locked")
            if not left and any((*rest, locked)):
                margin, cost, cost_a = rest
                found.append(
                    f"I11: closed position {number} still has margin {margin}, cost {cost}, cost at the provider {cost_a}"
                )
        return found

    def _error_account_adds_up(self, connection: Connection) -> list[str]:
        """I5, I7: what the house holds by mistake is what was booked of it, and so is what it made by that."""
        for lp, symbol, currency, lots, result, newest in _rows(connection, NEW_ERRORS, (self._error,)):
            _add(self._erred, (lp, symbol), lots)
            _add(self._lost, currency, result)
            self._error = max(self._error, newest)
        held = {(lp, symbol): Decimal(lots) for lp, symbol, lots in _rows(connection, ERROR_HOLDINGS)}
        found = [
            f"I7: the house holds {held.get(place, ZERO)} of {place[1]} at {place[0]} by mistake, and booked"
            f" {self._erred.get(place, ZERO)}"
            for place in {**held, **self._erred}
            if held.get(place, ZERO) != self._erred.get(place, ZERO)
        ]
        return found + [
            f"I7: the error account has {self._posted.get((HOUSE_ERROR, currency), ZERO)} {currency} and it booked {lost}"
            for currency, lost in self._lost.items()
            if lost != self._posted.get((HOUSE_ERROR, currency), ZERO)
        ]

    def _nothing_rests_expired(self, connection: Connection) -> list[str]:
        """An order whose time came long ago does not wait any more."""
        ((now_at,),) = _rows(connection, NEWEST_BATCH)
        if now_at is None:
            return []
        return _found(
            connection,
            "SELECT id, expires_at FROM trade_order WHERE status = 'new' AND expires_at < %s",
            f"I8: order {{}} rests until {{}}, and it is {now_at}",
            (now_at - self._expired_for_max,),
        )

    # ------------------------------------------------------------------------------------------ messages and batches

    def _messages_are_numbered(self, connection: Connection) -> list[str]:
        """I6: one outbox row per event, numbered without a gap per account and shard; the account knows its last number."""
        found = []
        for (shard,) in _rows(connection, "SELECT shard FROM shard"):
            before = self._outbox.get(shard, 0)
            query = "SELECT count(*), max(shard_seq) FROM outbox WHERE shard = %s AND shard_seq > %s"
            ((count, newest),) = _rows(connection, query, (shard, before))
            if count and newest != before + count:
                found.append(f"I6: shard {shard} has {count} outbox rows after {before}, numbered up to {newest}")
            for account, number, lowest, highest in _rows(connection, NEW_MESSAGES, (shard, before)):
                last = self._messages.get(account, 0)
                self._messages[account] = highest
                if (lowest, highest) != (last + 1, last + number):
                    found.append(
                        f"I6: account {account} has {number} outbox rows after {last}, numbered {lowest} to {highest}"
                    )
            self._outbox[shard] = newest or before
        return found + [
            f"I6: account {account} was last told number {seq} and its outbox ends with {self._messages.get(account, 0)}"
            for account, seq in _rows(connection, "SELECT id, seq FROM account")
            if seq != self._messages.get(account, 0)
        ]

    def _batches_are_contiguous(self, connection: Connection) -> list[str]:
        """I9: from 1 to the shard's seq, epochs never falling."""
        found = []
        for shard, stands_at in _rows(connection, "SELECT shard, seq FROM shard"):
            seq, epoch = self._batches.get(shard, (0, 0))
            for next_seq, next_epoch in _rows(connection, NEW_BATCHES, (shard, seq)):
                if next_seq != seq + 1 or next_epoch < epoch:
                    found.append(f"I9: batch {next_seq} of epoch {next_epoch} follows {seq} of epoch {epoch}")
                seq, epoch = next_seq, next_epoch
            self._batches[shard] = (seq, epoch)
            if seq != stands_at:
                found.append(f"I9: shard {shard} stands at {stands_at} and has batches up to {seq}")
        return found

    def _entries_are_chained(self, connection: Connection) -> list[str]:
        """I13: every audit entry is what was recorded, after the one that it was recorded after."""
        self.entries, found = chain.follow(connection, self.entries)
        return found


WORKING = frozenset({"pending_new", "partially_filled", "new"})
"""Orders that may hold margin: in flight, or waiting for their price."""

NEW_POSTINGS = """
SELECT account, currency, sum(amount), coalesce(sum(amount) FILTER (WHERE kind = 'realised_pnl' AND deal_id <> 0), 0),
    coalesce(sum(amount) FILTER (WHERE kind IN (%s, %s) AND account ~ '^(client|withdrawal):'), 0)
FROM ledger_posting WHERE transaction_id > %s GROUP BY 1, 2
"""
CLIENT_BALANCES = """
SELECT a.id, a.balance, a.credit, coalesce(b.balance, 0), coalesce(c.balance, 0) FROM account a
LEFT JOIN ledger_balance b ON b.account = 'client:' || a.id AND b.currency = a.currency
LEFT JOIN ledger_balance c ON c.account = 'credit:' || a.id AND c.currency = a.currency
WHERE a.balance <> coalesce(b.balance, 0) OR a.credit <> coalesce(c.balance, 0)
"""
BALANCES_BY_FAMILY = "SELECT split_part(account, ':', 1), currency, sum(balance) FROM ledger_balance GROUP BY 1, 2"
NEW_HOLDINGS = f"""
SELECT position_id,
    sum(CASE WHEN {TAKES_BACK} THEN CASE WHEN {OPENS} THEN 0 ELSE -volume END WHEN {OPENS} THEN volume ELSE 0 END),
    sum(CASE WHEN {OPENS} THEN volume ELSE -volume END),
    coalesce(sum(CASE WHEN {OPENS} THEN volume ELSE -volume END) FILTER (WHERE book = 'A'), 0)
FROM deal WHERE id > %s GROUP BY 1
"""
CHANGED_ORDERS = """
SELECT id, volume, filled_volume, status, margin_reserved, updated_at FROM trade_order
WHERE %s::timestamptz IS NULL OR updated_at >= %s OR id = ANY(%s)
"""
CHANGED_LEGS = """
SELECT cl_ord_id, volume, filled_volume, updated_at FROM lp_order WHERE %s::timestamptz IS NULL OR updated_at >= %s
"""
CHANGED_POSITIONS = """
SELECT id, symbol, opened_at, volume_opened, volume, volume_a, locked, ARRAY[margin, cost, cost_a], updated_at FROM position
WHERE %s::timestamptz IS NULL OR updated_at >= %s OR id = ANY(%s)
"""
NEW_MESSAGES = """
SELECT account, count(*), min(account_seq), max(account_seq) FROM outbox
WHERE shard = %s AND shard_seq > %s GROUP BY 1
"""
LEG_UNKNOWN = "leg_unknown"
"""The alert that a provider does not say what became of a leg: a person knows."""
SILENT_LEGS = f"""
SELECT l.cl_ord_id, l.lp, l.status, l.dispatch_state, greatest(l.updated_at, l.dispatched_at) FROM lp_order l
LEFT JOIN alert a ON a.key = %s || l.cl_ord_id AND a.cleared_at IS NULL
WHERE l.{LEG_IS_LIVE} AND a.key IS NULL AND greatest(l.updated_at, l.dispatched_at) < %s
    AND NOT EXISTS (SELECT 1 FROM lp_inbox i WHERE i.cl_ord_id = l.cl_ord_id AND i.lp = l.lp AND i.received_at >= %s)
"""
SPLITS = """
SELECT s ->> 0, to_timestamp((s ->> 1)::bigint / 1000000.0) FROM shard h
JOIN engine_batch b ON b.shard = h.shard AND b.seq = h.seq
CROSS JOIN LATERAL jsonb_array_elements(coalesce(b.desk -> 'splits', '[]')) s
"""
NEW_ERRORS = """
SELECT lp, symbol, currency, sum(CASE side WHEN 'buy' THEN volume ELSE -volume END), sum(result), max(id)
FROM error_fill WHERE id > %s GROUP BY 1, 2, 3
"""
ERROR_HOLDINGS = """
SELECT e ->> 'lp', e ->> 'symbol', e ->> 'volume' FROM shard h
JOIN engine_batch b ON b.shard = h.shard AND b.seq = h.seq
CROSS JOIN LATERAL jsonb_array_elements(coalesce(b.desk -> 'errors', '[]')) e
"""
OWNED_FILLS = """
SELECT x.lp, x.exec_id, x.volume, coalesce(d.volume, 0), coalesce(e.volume, 0) FROM lp_execution x
LEFT JOIN (SELECT lp, exec_id, at, sum(volume) AS volume FROM deal WHERE lp <> '' GROUP BY 1, 2, 3) d USING (lp, exec_id, at)
LEFT JOIN (SELECT lp, exec_id, at, sum(volume) AS volume FROM error_fill GROUP BY 1, 2, 3) e USING (lp, exec_id, at)
WHERE x.kind = 'fill' AND x.volume * (x.owner <> 'nobody')::int <> coalesce(d.volume, 0) + coalesce(e.volume, 0)
"""
NEWEST_BATCH = "SELECT max(b.at) FROM shard s JOIN engine_batch b ON b.shard = s.shard AND b.seq = s.seq"
NEW_BATCHES = "SELECT seq, epoch FROM engine_batch WHERE shard = %s AND seq > %s ORDER BY seq"


def nothing_waits_in_vain(connection: Connection) -> list[str]:
    """No order is in flight with nobody dealing it, none waits that has nothing left to fill, no lock outlives its close."""
    return (
        _found(
            connection,
            f"SELECT id, status FROM trade_order WHERE {IN_FLIGHT}"
            f" AND id NOT IN (SELECT order_id FROM lp_order WHERE {LEG_IS_LIVE})",
            "I8: order {} is {} and no provider is dealing it",
        )
        + _found(
            connection,
            "SELECT id, status, filled_volume, volume FROM trade_order"
            " WHERE status IN ('new', 'pending_new', 'partially_filled') AND filled_volume >= volume",
            "I8: order {} is {} with {} of {} filled",
        )
        + _found(
            connection,
            f"SELECT id, locked FROM position WHERE volume > 0 AND locked > 0"
            f" AND id NOT IN (SELECT position_id FROM trade_order WHERE {IN_FLIGHT})",
            "I8: position {} has {} locked and no order that closes it",
        )
    )


def legs_are_attended(connection: Connection, now_at: datetime, *, silent_for_max: timedelta) -> list[str]:
    """I8: nothing that a provider may hold has been without a word for so long, unless its dispatcher has called a person.

    A word is a report in the inbox, a change of the leg, or its dispatch. Both times are business time.
    """
    return _found(
        connection,
        SILENT_LEGS,
        "I8: leg {} at {} is {} ({}) and nothing was heard of it since {}",
        (f"{LEG_UNKNOWN}:", now_at - silent_for_max, now_at - silent_for_max),
    )


def in_flight(connection: Connection) -> list[str]:
    """What is not settled yet: orders and legs that somebody is dealing. Not a violation, as long as it ends."""
    return _found(
        connection, f"SELECT id, status FROM trade_order WHERE {IN_FLIGHT} ORDER BY id", "order {} is {}"
    ) + _found(connection, f"SELECT cl_ord_id, status FROM lp_order WHERE {LEG_IS_LIVE} ORDER BY id", "leg {} is {}")


def nothing_is_parked(connection: Connection) -> list[str]:
    """No command made a decision fail, and none was unreadable."""
    return _found(
        connection, "SELECT command_id, error FROM parked_command ORDER BY at", "command {} was put aside: {}"
    )


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


def fills_are_owned(connection: Connection) -> list[str]:
    """I5: every lot that a provider dealt is a client's or in the house's error account, once."""
    return _found(
        connection,
        OWNED_FILLS,
        "I5: {} fill {} over {} lots is {} a client's and {} in the error account",
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
        for transaction, line, amount, currency in _rows(
            connection, "SELECT transaction_id, line, amount, currency FROM ledger_transfer"
        )
        if amount != amount.quantize(Decimal(1).scaleb(-digits[currency]))
    ]


def _add(sums: dict[Any, Decimal], key: object, amount: Decimal) -> None:
    sums[key] = sums.get(key, ZERO) + amount


def _found(connection: Connection, query: str, sentence: str, parameters: Iterable[object] = ()) -> list[str]:
    return [sentence.format(*row) for row in _rows(connection, query, parameters)]


def _rows(connection: Connection, query: str, parameters: Iterable[object] = ()) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), tuple(parameters) or None).fetchall()
