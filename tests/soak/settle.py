"""The end: everything comes to rest, then everything that was told is held against everything that is stored."""

import importlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal

from apps.streaming.protocol import Channel, channel_of
from broker.invariants import in_flight, money_has_its_currencys_digits, snapshot, violations
from bus.store import load_config
from tests.soak import checkers
from tests.soak.checkers import Finding, Leg, Stored, Wrong
from tests.soak.follower import Follower
from tests.soak.history import Op
from tests.soak.house import SoakHouse
from tests.soak.watch import Watch
from tests.support.whole_house import provider_images
from trading.ledger import TransactionKind

QUIET_WITHIN_S = 60.0
"""Nothing may be in flight or unknown for longer once nobody asks for anything."""

RELAY, NOTIFIER, RABBITMQ = "relay", "notifier", "rabbitmq"
NOTIFIED = "notifications"
"""The notifier's queue."""

ORDERS = "SELECT account, client_order_id, id, status, filled_volume FROM trade_order WHERE client_order_id LIKE %s"
EVENTS = "SELECT account, account_seq, kind FROM outbox ORDER BY account, account_seq"
DEPOSITS = (
    "SELECT transaction_id, sum(amount) FROM ledger_posting WHERE kind = %s AND account LIKE 'client:%%'"
    " AND transaction_id > %s GROUP BY 1"
)
LEGS = "SELECT cl_ord_id, filled_volume * quantity / volume, status IN ('working', 'partially_filled') FROM lp_order"
FILLS_IN_CASES = """
SELECT report ->> 'cl_ord_id', sum((report ->> 'last_qty')::numeric) FROM lp_case
WHERE kind IN ('late_fill', 'orphan_report') AND report ->> 'kind' = 'fill' GROUP BY 1
"""
FILLS_IN_ERROR = """
SELECT cl_ord_id, sum(e.volume * l.quantity / l.volume * CASE WHEN e.side = l.side THEN 1 ELSE -1 END)
FROM error_fill e JOIN lp_order l USING (cl_ord_id) WHERE e.reason NOT IN ('flattened', 'expired', 'correction') GROUP BY 1
"""


def comes_to_rest(house: SoakHouse, followers: Sequence[Follower]) -> list[Finding]:
    """Wait until nothing is in flight, the providers' books and ours agree, and every follower has heard everything."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    while left := what_is_left(house, followers):
        if time.monotonic() > deadline:
            return [Finding(Wrong.UNRESOLVED, f"after {QUIET_WITHIN_S:.0f} s: {text}") for text in left[:20]]
        time.sleep(0.5)
    return []


def what_is_left(house: SoakHouse, followers: Sequence[Follower]) -> list[str]:
    with house.database() as connection:
        left = in_flight(connection)
    newest = dict(house.sql("SELECT account, max(account_seq) FROM outbox GROUP BY 1"))
    expected = journal_by_channel(house)
    left += [
        f"{follower.name} has not heard {channel} after {follower.newest(channel)} of {newest.get(follower.account)}"
        for follower in followers
        for channel in follower.received
        if follower.newest(channel) != max((seq for seq, _ in expected[follower.account, channel]), default=0)
    ]
    left += [finding.text for finding in consumed(house)]
    reconciled = house.reconciliation()
    if not reconciled["reconciled"]:
        left.append(f"not reconciled with the providers: {json.dumps(reconciled, default=str)[:500]}")
    return left


def everything_agrees(
    house: SoakHouse, ops: Sequence[Op], followers: Sequence[Follower], watch: Watch, *, last_seeded: int, prefix: str
) -> list[Finding]:
    """`last_seeded` is the last transaction of before the load; `prefix` begins all its client_order_ids."""
    rows = [Stored(*row) for row in house.sql(ORDERS, f"{prefix}%")]
    watch.look()
    found = [
        *checkers.acknowledged_is_stored(ops, rows),
        *checkers.reads_are_stored(ops, rows),
        *checkers.nothing_is_pending(rows),
        *checkers.registers(ops),
        *checkers.deposits_are_booked(ops, dict(house.sql(DEPOSITS, TransactionKind.DEPOSIT.value, last_seeded))),
        *checkers.bank(watch.snapshots),
        *checkers.unique("order tickets", [row.ticket for row in rows]),
        *checkers.unique("client_order_ids", [(row.account, row.client_order_id) for row in rows]),
        *journals(house, followers, watch),
        *providers(house),
        *consumed(house),
    ]
    return found + [Finding(Wrong.VIOLATED, text) for text in [*watch.violations, *invariants(house)]]


def invariants(house: SoakHouse) -> list[str]:
    with house.database() as connection, snapshot(connection):
        found = violations(connection)
        found += money_has_its_currencys_digits(connection, dict(load_config(connection).currency_digits))
        parked = connection.execute("SELECT command_id, error FROM parked_command").fetchall()
    return found + [f"command {name} was put aside: {error}" for name, error in parked]


# ------------------------------------------------------------------------------------------------------------ journals


def journal_by_channel(house: SoakHouse) -> dict[tuple[int, str], list[tuple[int, str]]]:
    found: dict[tuple[int, str], list[tuple[int, str]]] = defaultdict(list)
    for account, seq, kind in house.sql(EVENTS):
        channel = channel_of(kind)
        if channel is not None:
            found[account, Channel(channel).value].append((seq, kind))
    return found


def journals(house: SoakHouse, followers: Sequence[Follower], watch: Watch) -> list[Finding]:
    final: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for account, seq, kind in house.sql(EVENTS):
        final[account].append((seq, kind))
    found = []
    for account, read in watch.journal.items():
        found += checkers.append_only(f"journal of {account}", [read], final[account])
    by_channel = journal_by_channel(house)
    for follower in followers:
        for channel, received in follower.received.items():
            name = f"{follower.name} on {channel}"
            found += checkers.followed(name, received, by_channel[follower.account, channel], since=0)
    return found


# ----------------------------------------------------------------------------------------------------------- providers


def providers(house: SoakHouse) -> list[Finding]:
    has_error_account = house.sql("SELECT to_regclass('error_fill') IS NOT NULL")[0][0]
    in_cases = dict(house.sql(FILLS_IN_ERROR if has_error_account else FILLS_IN_CASES))
    legs = [
        Leg(name, units, in_cases.get(name, Decimal(0)), is_settled=not is_live)
        for name, units, is_live in house.sql(LEGS)
    ]
    return checkers.providers_agree(provider_orders(house), legs)


def provider_orders(house: SoakHouse) -> list[tuple[str, str, Decimal]]:
    """The newest image of every order in the providers' own files."""
    newest = {(image["cl_ord_id"], image["order_id"]): Decimal(image["cum"]) for image in provider_images(house.data)}
    return [(name, number, filled) for (name, number), filled in newest.items()]


# ----------------------------------------------------------------------------------------------------------------- bus


def consumed(house: SoakHouse) -> list[Finding]:
    """Where there is a relay: everything in the outbox was published. Where there is RabbitMQ, which keeps what it
    confirmed: whatever the notifier's queue gets had its effect there once.
    """
    present = house.names()
    if RELAY not in present:
        return []
    newest = dict(house.sql("SELECT shard, max(shard_seq) FROM outbox GROUP BY 1"))
    confirmed = dict(house.sql("SELECT shard, published_seq FROM relay_cursor"))
    found = [
        Finding(Wrong.LOST, f"shard {shard}: published up to {confirmed.get(shard, 0)} of {seq}")
        for shard, seq in newest.items()
        if confirmed.get(shard, 0) != seq
    ]
    return found + (effects(house) if {NOTIFIER, RABBITMQ} <= set(present) else [])


def effects(house: SoakHouse) -> list[Finding]:
    queues_of: Callable[[str], list[str]] = importlib.import_module("bus.publishing").queues_of
    rows = house.sql("SELECT shard, shard_seq, kind FROM outbox")
    put = [f"{shard}:{seq}" for shard, seq, kind in rows if NOTIFIED in queues_of(kind)]
    taken = [key for (key,) in house.sql("SELECT key FROM task_effect WHERE consumer = %s", NOTIFIER)]
    return checkers.total_queue(NOTIFIED, put, taken)
