"""Looks at the stored data every ten seconds, each time at one snapshot: the invariants, the money, the journals."""

import threading
import time
from collections import defaultdict
from decimal import Decimal
from typing import Any

import psycopg

from broker.invariants import PARTIES, Auditor, snapshot
from tests.soak.checkers import Balances
from tests.soak.house import SoakHouse
from trading.ledger import BANK, TransactionKind

LOOK_EVERY_S = 10.0
STATEMENT_TIMEOUT_MS = 20_000
Connection = psycopg.Connection[Any]

FAMILIES = "SELECT split_part(account, ':', 1), currency, sum(balance) FROM ledger_balance GROUP BY 1, 2"
PAID_IN = """
SELECT currency, sum(amount) FROM ledger_posting WHERE kind = ANY(%s) AND account ~ '^(client|withdrawal):' GROUP BY 1
"""
BELOW_ZERO = """
SELECT id, balance FROM account a WHERE balance < 0
AND NOT EXISTS (SELECT 1 FROM position WHERE account = a.id AND volume > 0)
AND NOT EXISTS (SELECT 1 FROM trade_order WHERE account = a.id AND status IN ('pending_new', 'partially_filled'))
"""
NEW_EVENTS = "SELECT shard_seq, account, account_seq, kind FROM outbox WHERE shard_seq > %s ORDER BY shard_seq"


class Watch(threading.Thread):
    """Reads past the proxies. A database that is away is no violation: it is looked at again."""

    def __init__(self, house: SoakHouse, stop: threading.Event) -> None:
        super().__init__(name="watch", daemon=True)
        self.house = house
        self.stop = stop
        self.auditor = Auditor()
        self.violations: list[str] = []
        self.snapshots: list[Balances] = []
        self.journal: dict[int, list[tuple[int, str]]] = defaultdict(list)
        """Per account the events as they were first seen, each reading put after the one before."""
        self.missed = 0
        self._shard_seq = 0

    def run(self) -> None:
        while not self.stop.wait(LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        try:
            with (
                psycopg.connect(
                    self.house.database_url,
                    autocommit=True,
                    connect_timeout=3,
                    options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
                ) as connection,
                snapshot(connection),
            ):
                self._look(connection)
        except psycopg.OperationalError:
            self.missed += 1

    def _look(self, connection: Connection) -> None:
        seen = balances_of(connection)
        events = connection.execute(NEW_EVENTS.encode(), (self._shard_seq,)).fetchall()
        wrong = self.auditor.look(connection)
        at = time.strftime("%H:%M:%S")
        self.violations += [f"{at} {violation}" for violation in wrong]
        self.snapshots.append(seen)
        for shard_seq, account, seq, kind in events:
            self.journal[account].append((seq, kind))
            self._shard_seq = shard_seq


def balances_of(connection: Connection) -> Balances:
    parties: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for family, currency, amount in connection.execute(FAMILIES.encode()).fetchall():
        if family != BANK:
            parties[currency][PARTIES.get(family, family)] += amount
    kinds = [TransactionKind.DEPOSIT.value, TransactionKind.WITHDRAWAL.value]
    paid = dict(connection.execute(PAID_IN.encode(), (kinds,)).fetchall())
    below = dict(connection.execute(BELOW_ZERO.encode()).fetchall())
    return Balances(parties, paid, below)
