"""How long an engine's start takes with many open positions: from the start of its process to a state that may trade.

The rows are what an engine wrote for some accounts, multiplied in SQL with everything that belongs to them: accounts,
filled orders, deals, positions (half of them with a stop loss and a take profit), transfers and balances. Every figure is
of a process of its own, once as after a crash and once as after an orderly stop, which leaves a hash to compare with.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from bench.durable import ACCOUNTS, engine_run, publish
from bench.report import figure, inputs
from bench.services import copy_of, migrated_database, server_version
from engine.journal import connect
from engine.recovery import recover
from engine.state import state_hash
from engine.step import Step
from engine.tables import ACCOUNT, BALANCE, DEAL, ORDER, POSITION, TRANSFER, Table

SIZES = (10_000, 100_000)
LARGEST = 1_000_000
"""Asked for by BENCH_RECOVERY_LARGEST=1: its rows alone take minutes."""
PER_ACCOUNT = 10
TEMPLATE = ACCOUNTS * PER_ACCOUNT
"""Positions that a real engine opens; each size is a multiple of it."""
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    sizes = (*SIZES, LARGEST) if os.environ.get("BENCH_RECOVERY_LARGEST") else SIZES
    with migrated_database() as url:
        publish(url)
        engine_run(url, orders=TEMPLATE, outstanding=64)
        inputs(
            f"PostgreSQL {server_version(url)} on disk; {PER_ACCOUNT} positions of 0.10 EURUSD per account, half of them "
            "protected, their filled orders, deals and transfers beside them; pages cached as after an engine's crash"
        )
        for positions in sizes:
            with copy_of(url, f"recovery_{positions}") as address:
                multiply(address, positions // TEMPLATE)
                _measure(address, f"{positions}_positions")
                _leave_hash(address)
                _measure(address, f"{positions}_positions_hashed")


def multiply(url: str, times: int) -> None:
    """So many times as much of everything that the accounts have; the house's balances, too."""
    shift = {"id": TEMPLATE, "account": ACCOUNTS, "order_id": TEMPLATE, "position_id": TEMPLATE, "deal_id": TEMPLATE}
    other = "CASE WHEN {0} LIKE 'client:%' THEN 'client:' || split_part({0}, ':', 2)::bigint + k * {1} ELSE {0} END"
    client = {name: other.format(name, ACCOUNTS) for name in ("source", "target", "account")}
    with psycopg.connect(url, autocommit=True) as connection:
        ((transactions,),) = connection.execute("SELECT max(transaction_id) FROM ledger_transfer").fetchall()
        connection.execute(
            "UPDATE position SET stop_loss = CASE side WHEN 'buy' THEN 1.0 ELSE 1.2 END, "
            "take_profit = CASE side WHEN 'buy' THEN 1.2 ELSE 1.0 END WHERE id % 20 < 10"
        )
        _copy(connection, ACCOUNT, times, _shifted({"id": ACCOUNTS}))
        _copy(connection, ORDER, times, {**_shifted(shift), "uuid": "gen_random_uuid()"})
        _copy(connection, DEAL, times, _shifted(shift))
        _copy(connection, POSITION, times, _shifted(shift))
        moved = {name: by for name, by in shift.items() if name in TRANSFER.columns}
        transfer = _shifted({**moved, "transaction_id": int(transactions)})
        _copy(connection, TRANSFER, times, {**transfer, "source": client["source"], "target": client["target"]})
        _copy(connection, BALANCE, times, {"account": client["account"]}, where="account LIKE 'client:%'")
        connection.execute(
            "UPDATE ledger_balance SET balance = balance * %s WHERE account NOT LIKE 'client:%%'", (times,)
        )
        connection.execute(
            "UPDATE engine_batch SET counters = counters || jsonb_build_object('order', %(n)s::bigint, 'deal', "
            "%(n)s::bigint, 'position', %(n)s::bigint, 'transaction', %(t)s::bigint)",
            {"n": TEMPLATE * times + 1, "t": int(transactions) * times + 1},
        )
        connection.execute("VACUUM ANALYZE")


def _shifted(by: dict[str, int]) -> dict[str, str]:
    """Each copy's numbers beyond those of the one before; 0 means none and stays."""
    return {name: f'CASE WHEN "{name}" = 0 THEN 0 ELSE "{name}" + k * {step} END' for name, step in by.items()}


def _copy(
    connection: psycopg.Connection[tuple[object, ...]],
    table: Table,
    times: int,
    changed: dict[str, str],
    where: str = "true",
) -> None:
    names = ", ".join(f'"{name}"' for name in table.columns)
    values = ", ".join(changed.get(name, f'"{name}"') for name in table.columns)
    copies = f"generate_series(1, {times - 1}) k"
    query = f'INSERT INTO "{table.name}" ({names}) SELECT {values} FROM {copies}, "{table.name}" WHERE {where}'
    connection.execute(query.encode())


def _leave_hash(url: str) -> None:
    """What an orderly stop writes with its last batch."""
    with connect(url, name="bench") as connection:
        hashed = state_hash(recover(connection, 0).state)
        connection.execute(
            "UPDATE engine_batch SET state_hash = %s WHERE seq = (SELECT seq FROM shard WHERE shard = 0)", (hashed,)
        )


def _measure(url: str, name: str) -> None:
    started = time.time()
    told = subprocess.run(
        [sys.executable, "-m", "bench.recovery", url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    ready_at, load_s, cpu_s, rss_mib, positions = (float(value) for value in told)
    figure(f"start_to_recovered_s_{name}", ready_at - started, 2)
    figure(f"take_over_and_load_s_{name}", load_s, 2)
    figure(f"load_cpu_s_{name}", cpu_s, 2)
    figure(f"positions_per_s_{name}", positions / load_s, 0)
    figure(f"peak_rss_mib_{name}", rss_mib, 0)


def start(url: str) -> None:
    """One start, told as: when it was ready, seconds and CPU seconds of loading, peak resident memory in MiB, positions."""
    started, cpu_started = time.perf_counter(), time.process_time()
    with connect(url, name="bench") as connection:
        recovered = recover(connection, 0)
    Step(0).handle(recovered)
    load_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.time(), load_s, cpu_s, peak_mib, len(recovered.state.positions))


if __name__ == "__main__":
    start(sys.argv[1])
