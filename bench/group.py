"""What group commit buys: durable orders per second and the wait for an answer, by clients and by the largest batch.

Every client places its next order when the last one is answered (a closed loop). A batch of one is what an engine
without group commit would do. The floor is that of `durable`: the same new rows, ready-made, with as many COMMITs.
Beside it, what the input journal adds: the inputs that every batch keeps of itself, and all new rows together.
"""

import sys

import psycopg

from bench.durable import ACCOUNTS, EngineRun, engine_run, floor_run, publish
from bench.report import figure, inputs, percentile
from bench.services import copy_of, migrated_database, server_version
from engine.driver import SWITCH_INTERVAL_S
from engine.rows import rows_of
from engine.tables import BATCH

PLAN = {1: (1, 256), 10: (1, 8, 32), 100: (1, 8, 32, 128), 1_000: (1, 32, 128, 256)}
"""Largest batches per number of clients: beyond the first that holds an order of each, none would change anything."""
ORDERS_MAX = 12_000
JOURNAL_SHOWN = ("1_clients_batch_1", "1000_clients_batch_256")


def main() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with migrated_database() as url:
        publish(url)
        inputs(
            f"PostgreSQL {server_version(url)}, fsync and synchronous_commit on; market orders of 0.10 EURUSD, B-book, "
            f"{ACCOUNTS} accounts, closed loop; a thousand orders per order that a batch can hold, at most {ORDERS_MAX}"
        )
        for clients, batches in PLAN.items():
            per_s = [_measure(url, clients=clients, batch_max=batch_max) for batch_max in batches]
            figure(f"group_over_single_{clients}_clients", max(per_s[1:]) / per_s[0], 2)


def _measure(url: str, *, clients: int, batch_max: int) -> float:
    name, orders = f"{clients}_clients_batch_{batch_max}", min(ORDERS_MAX, 1_000 * min(clients, batch_max))
    with copy_of(url, f"group_{name}") as address:
        run = engine_run(address, orders=orders, outstanding=clients, batch_max=batch_max)
        if name in JOURNAL_SHOWN:
            _journal_cost(address, run, orders, name)
    with copy_of(url, f"floor_{name}") as address:
        copy_s = floor_run(address, run.batches)
    figure(f"orders_per_commit_{name}", orders / len(run.batches))
    figure(f"durable_orders_per_s_{name}", orders / run.seconds, 0)
    figure(f"ack_ms_p50_{name}", percentile(run.latencies_ms, 0.5), 2)
    figure(f"ack_ms_p99_{name}", percentile(run.latencies_ms, 0.99), 2)
    figure(f"copy_orders_per_s_{name}", orders / copy_s, 0)
    figure(f"engine_share_of_copy_{name}", copy_s / run.seconds, 2)
    return orders / run.seconds


def _journal_cost(url: str, run: EngineRun, orders: int, name: str) -> None:
    """Bytes per order: the inputs as they are stored (compressed), and all new rows as they are sent."""
    with psycopg.connect(url) as connection:
        ((stored,),) = connection.execute(
            "SELECT sum(pg_column_size(inputs)) FROM engine_batch WHERE seq >= %s", (run.batches[0].seq,)
        ).fetchall()
    appends = [append for batch in run.batches for append in rows_of(batch).appends]
    batch_bytes = sum(len(append.data) for append in appends if append.table is BATCH)
    figure(f"input_journal_stored_bytes_per_order_{name}", int(stored) / orders)
    figure(f"engine_batch_copy_bytes_per_order_{name}", batch_bytes / orders)
    figure(f"all_new_rows_copy_bytes_per_order_{name}", sum(len(append.data) for append in appends) / orders)
