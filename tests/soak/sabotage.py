"""Harm that nothing in the house may or can make good: a soak that does not fail on it proves nothing.

Never part of a plan unless it is named: `make soak FAULTS=sabotage`.
"""

import random

from tests.soak.house import SoakHouse
from tests.soak.nemesis import Fault, Injection, NotPossible

NEWEST_FILLED = """
SELECT id FROM trade_order WHERE status = 'filled' AND client_order_id LIKE 'soak-%%' AND updated_at < now() - interval '3 s'
ORDER BY id DESC LIMIT 1
"""
WAYS = {
    "lose-an-order": "DELETE FROM trade_order WHERE id = %s",
    "rename-an-order": "UPDATE trade_order SET client_order_id = client_order_id || '-again' WHERE id = %s",
    "reopen-an-order": "UPDATE trade_order SET status = 'new' WHERE id = %s",
    "lose-an-event": "DELETE FROM outbox WHERE (payload #>> '{order,ticket}')::bigint = %s",
}


def faults() -> list[Fault]:
    return [Fault(f"sabotage:{name}", doing(statement)) for name, statement in WAYS.items()]


def doing(statement: str) -> Injection:
    def inject(house: SoakHouse, _rng: random.Random) -> str:
        with house.database() as connection:
            found = connection.execute(NEWEST_FILLED.encode()).fetchone()
            if found is None:
                raise NotPossible("no order was filled yet")
            connection.execute("SET session_replication_role = replica")  # triggers and foreign keys look away
            changed = connection.execute(statement.encode(), found).rowcount
        return f"{changed} rows of order {found[0]}"

    return inject
