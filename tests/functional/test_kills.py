"""Every process of the running house is killed in turn while clients trade: each comes back, and no acknowledged order is lost.

The traders remember every answer they were given; in the end PostgreSQL, the clients and the simulated providers' own files
must tell the same story. A request whose outcome is unknown is sent again under its client_order_id, as clients are told to.
"""

import json
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest
from celery import Celery

from broker.processes import LPS
from bus import names
from bus.store import load_config
from lp_adapters.simulators.profiles import control_key
from tests import invariants, services
from tests.support.whole_house import PROCESSES, WholeHouse, describe, held_by_providers, processes_of, whole_house
from tests.waiting import eventually
from trading.orders import TRANSITIONS, OrderStatus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

STRIKES: tuple[tuple[str, ...], ...] = (
    ("engine",),
    ("engine-standby", "beat", "auditor"),
    ("lp-YOFX1-trade",),
    ("web",),
    ("lpsim",),
    ("stream", "quotes", "notifier"),
    ("lp-YOFX1-price", "worker"),
    ("lpsim-feed", "relay"),
    ("lp-PRIMEXM-trade", "lp-PRIMEXM-price"),
    ("redis",),
    ("postgres",),
    ("engine", "lp-YOFX1-trade", "lp-PRIMEXM-trade"),
    ("lpsim", "lp-YOFX1-trade"),
    ("engine", "engine-standby"),
    ("redis", "engine", "web"),
    ("postgres", "redis"),
)
"""What is killed at the same instant, one strike after the other: every process at least once, and the worst pairs."""
LAST_LOOK_MS = 80
"""How long the providers hold each order, so that something is on its way whenever a strike comes."""
BACK_WITHIN_S = 90
TRADES_WITHIN_S = 60
SETTLED_WITHIN_S = 60
OPEN_MAX = 3
"""Positions of one trader; with so many it closes before it opens."""
PACE_S = 0.15
"""Between two requests of one trader: they are to trade all the time, not to load the machine."""
PASSING = frozenset({"busy", "timeout_unknown", "rate_limited"})
"""Nothing was done, or nobody can say: the same request again."""
OUTCOMES_PLAIN = frozenset({"no_quotes", "no_connection", "command_expired", "close_order_exists", "position_closed"})
"""Refusals that a fault may lead to and that leave no order behind, or one that says so."""


@dataclass
class Told:
    """The last thing that a trader heard about one client_order_id."""

    ticket: int
    status: str
    filled_volume: Decimal
    avg_price: str | None


@dataclass
class Trader(threading.Thread):
    """One trader who opens and closes until told to stop, and writes down what it is told."""

    house: WholeHouse
    user: str
    volumes: tuple[str, ...]
    seed: int
    stop: threading.Event
    heard: dict[str, list[Told]] = field(default_factory=dict)
    """Every acknowledgement, by client_order_id."""
    asked: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    """Answers that nobody should ever get."""
    positions: dict[int, Decimal] = field(default_factory=dict)
    fills: int = 0
    begun_s: float = 0.0
    """When the request that was filled last began."""

    def __post_init__(self) -> None:
        super().__init__(name=f"{self.user}-{self.seed}", daemon=True)
        self.client = self.house.client(self.user)
        self.client.headers["Prefer"] = "wait=3"
        self.account = int(self.client.get("/v1/accounts").json()["data"][0]["id"])
        self.random = random.Random(self.seed)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.trade()
                self.stop.wait(PACE_S)
        except Exception as error:  # noqa: BLE001 - a dead thread would be silent
            self.odd.append(f"{self.name} ended: {error!r}")

    # ------------------------------------------------------------------------------------------------------- trading

    def trade(self) -> None:
        if len(self.positions) >= OPEN_MAX or (self.positions and self.random.random() < 0.4):
            self.close(self.random.choice(sorted(self.positions)))
        else:
            self.open()

    def open(self) -> None:
        volume = self.random.choice(self.volumes)
        body = {
            "account": self.account,
            "symbol": self.random.choice(("EURUSD", "GBPUSD", "USDJPY")),
            "side": self.random.choice(("buy", "sell")),
            "volume": volume,
        }
        order = self.carry_out("/v1/orders", body)
        if order and Decimal(order["filled_volume"]):
            self.positions[int(order["position_id"])] = Decimal(order["filled_volume"])

    def close(self, position: int) -> None:
        part = self.positions[position] / 2
        body: dict[str, Any] = {}
        if self.random.random() < 0.3 and part == part.quantize(Decimal("0.01")):
            body = {"volume": str(part)}
        order = self.carry_out(f"/v1/positions/{position}/close", body)
        if order:
            self.positions[position] -= Decimal(order["filled_volume"])
        if not self.positions[position]:
            del self.positions[position]

    def carry_out(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The order at its end, or None when it was refused. An unknown outcome is asked for again under the same id."""
        begun_s = time.monotonic()
        client_order_id = f"{self.name}-{len(self.asked)}"
        self.asked.append(client_order_id)
        order = self.acknowledged(path, {**body, "client_order_id": client_order_id})
        if order is None:
            return None
        self.hear(client_order_id, order)
        if OrderStatus(order["status"]) not in TERMINAL:
            order = eventually(lambda: self.ended(client_order_id), within_s=SETTLED_WITHIN_S)
            self.hear(client_order_id, order)
        if order["status"] == "filled":
            self.fills += 1
            self.begun_s = begun_s
        else:
            self.refused[(order["reject"] or {}).get("code", order["status"])] += 1
        return order

    def acknowledged(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The order as it was first answered, or None when it was refused without leaving one."""
        return eventually(lambda: self.definite(path, body), within_s=SETTLED_WITHIN_S)[0]

    def definite(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any] | None] | None:
        status, answer = self.call("POST", path, body)
        if status in {200, 201, 202}:
            return (answer,)
        if "order" in answer:
            return (answer["order"],)
        code = answer.get("code", "")
        if status == 0 or code in PASSING:
            self.refused[f"again: {code or 'no answer'}"] += 1
            self.stop.wait(0.1)
            return None
        if code not in OUTCOMES_PLAIN:
            self.odd.append(f"{status} {path} {body} {answer}")
        self.refused[code or str(status)] += 1
        return (None,)

    def ended(self, client_order_id: str) -> dict[str, Any] | None:
        status, order = self.call("GET", f"/v1/orders/client:{client_order_id}")
        if status == 200:
            self.hear(client_order_id, order)
            return order if OrderStatus(order["status"]) in TERMINAL else None
        if status == 404:
            self.odd.append(f"{client_order_id} was acknowledged and is not found")
        time.sleep(PACE_S)
        return None

    def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and body; 0 where no whole answer came."""
        try:
            answer = self.client.request(method, path, json=body)
            return answer.status_code, dict(answer.json())
        except (httpx.HTTPError, ValueError):
            return 0, {}

    def hear(self, client_order_id: str, order: dict[str, Any]) -> None:
        self.heard.setdefault(client_order_id, []).append(
            Told(order["ticket"], order["status"], Decimal(order["filled_volume"]), order["avg_price"])
        )


TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if status is not None and not following)


@pytest.fixture
def house() -> Iterator[WholeHouse]:
    folder = services.new_folder()
    services.made_here.append(services.TestPlace(folder))
    with whole_house(folder / "h", "--no-tour") as running:
        yield running
    assert processes_of(folder) == {}


def test_no_acknowledged_order_is_lost_whichever_process_is_killed(house: WholeHouse) -> None:
    seed = secrets.randbelow(10**6)
    stop = threading.Event()
    kinds = (("anna", ("0.01", "0.04", "0.10")), ("ben", ("0.02", "0.10", "0.30")), ("carla", ("1.00", "1.21", "0.20")))
    traders = [
        Trader(house, user, volumes, seed + number, stop) for number, (user, volumes) in enumerate((*kinds, *kinds[1:]))
    ]
    story = Story(seed)
    try:
        for trader in traders:
            trader.start()
        trading_goes_on(house, traders)
        for strike in STRIKES:
            kill_and_wait(house, strike, traders, story)
        ended = end_the_owner_in_order(house, traders)
        stop.set()
        for trader in traders:
            trader.join(SETTLED_WITHIN_S)
            assert not trader.is_alive(), trader.name
        assert lost_or_changed(house, traders) == []
        for trader in traders:
            close_everything(trader)
        reconciled = eventually(lambda: reconciled_and_flat(house), within_s=SETTLED_WITHIN_S)
        everything_agrees(house, traders, reconciled, ended)
    except BaseException:
        print(describe(house, story.text(), *(summary(trader) for trader in traders), house.log("web")))
        raise
    finally:
        stop.set()
    print(story.text(), *(summary(trader) for trader in traders), sep="\n")


# ------------------------------------------------------------------------------------------------------------- killing


@dataclass
class Story:
    """What was killed, and how long each took to come back and to trade."""

    seed: int
    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "\n".join([f"seed {self.seed}", *self.lines])


def kill_and_wait(house: WholeHouse, strike: tuple[str, ...], traders: list[Trader], story: Story) -> None:
    take_a_last_look(house)
    old = {name: house.pid(name) for name in strike}
    on_their_way = eventually(lambda: legs_on_their_way(house), within_s=TRADES_WITHIN_S)
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    story.lines.append(f"{' + '.join(strike)}: killed with {on_their_way} orders at providers")
    eventually(lambda: all(house.is_back(name, pid) for name, pid in old.items()), within_s=BACK_WITHIN_S)
    if "worker" in strike:
        eventually(lambda: worker_answers(house), within_s=BACK_WITHIN_S)
    back_s = time.monotonic()
    eventually(lambda: providers_trade(house), within_s=BACK_WITHIN_S)
    trading_goes_on(house, traders)
    traded_s = time.monotonic()
    story.lines[-1] += f", back after {back_s - killed_s:.1f} s, all trade after {traded_s - killed_s:.1f} s"


def take_a_last_look(house: WholeHouse) -> None:
    """Said again before every strike: a killed Redis forgets it."""
    for lp in LPS:
        house.redis().set(control_key(lp), json.dumps({"delay_ms": LAST_LOOK_MS}))


def legs_on_their_way(house: WholeHouse) -> int | None:
    """How many orders a provider holds right now; None for none."""
    live = "SELECT count(*) FROM lp_order WHERE status IN ('working', 'partially_filled') AND dispatch_state = 'sent'"
    return int(house.sql(live)[0][0]) or None


def end_the_owner_in_order(house: WholeHouse, traders: list[Trader]) -> str:
    """I14: an engine that is told to end leaves its state's hash, and its successor trades only if it finds the same."""
    owner = {"engine": "engine", "standby": "engine-standby"}[house.sql("SELECT owner FROM shard")[0][0]]
    old = house.pid(owner)
    os.kill(old, signal.SIGTERM)
    eventually(lambda: house.is_back(owner, old), within_s=BACK_WITHIN_S)
    assert house.sql("SELECT count(*) FROM engine_batch WHERE state_hash <> ''")[0][0] == 1
    trading_goes_on(house, traders)
    return owner


def providers_trade(house: WholeHouse) -> bool:
    """Both sessions of both providers are up, as their processes say."""
    states = [house.redis().hgetall(names.lp_state(lp)) for lp in LPS]
    return all(state.get("price") == "up" == state.get("trade") for state in states)


def worker_answers(house: WholeHouse) -> bool:
    socket_path = house.redis_url.removeprefix("unix://").partition("?")[0]
    app = Celery(broker=f"redis+socket://{socket_path}?virtual_host=0")
    try:
        return bool(app.control.ping(timeout=0.5))
    finally:
        app.close()


def trading_goes_on(house: WholeHouse, traders: list[Trader]) -> None:
    """Every trader has had an order filled that it began from now on."""
    now_s = time.monotonic()
    try:
        eventually(lambda: all(trader.begun_s > now_s for trader in traders), within_s=TRADES_WITHIN_S)
    except AssertionError as error:
        stuck = [trader.name for trader in traders if trader.begun_s <= now_s]
        raise AssertionError(describe(house, f"no trading: {stuck}")) from error


# --------------------------------------------------------------------------------------------------------- in the end


def close_everything(trader: Trader) -> None:
    """Close what is open until nothing is: the trader's own positions, in its own way."""

    def nothing_open() -> bool:
        for position in sorted(trader.positions):
            trader.close(position)
        return not trader.positions

    eventually(nothing_open, within_s=SETTLED_WITHIN_S)


def reconciled_and_flat(house: WholeHouse) -> dict[str, Any] | None:
    found = house.reconciliation()
    return found if found["reconciled"] and found["flat"] else None


def everything_agrees(house: WholeHouse, traders: list[Trader], reconciled: dict[str, Any], ended: str) -> None:
    assert [odd for trader in traders for odd in trader.odd] == []
    assert all("lps_say" in line and line["lps_say"] for line in reconciled["symbols"].values())
    with house.database() as connection:
        assert invariants.violations(connection) == []
        digits = dict(load_config(connection).currency_digits)
        assert invariants.money_has_its_currencys_digits(connection, digits) == []
    assert lost_or_changed(house, traders) == []
    assert house.sql("SELECT id FROM trade_order WHERE status <> ALL(%s)", [s.value for s in TERMINAL]) == []
    assert house.sql("SELECT id FROM position WHERE volume > 0") == []
    assert house.sql("SELECT * FROM parked_command") == []
    assert [case for case in house.sql("SELECT kind, report FROM lp_case") if not is_denial(*case)] == []
    assert provider_differences(house) == []
    restarts = {row["name"]: row["restarts"] for row in house.table()}
    struck = Counter(name for strike in (*STRIKES, (ended,)) for name in strike)
    assert restarts == {name: struck[name] for name in PROCESSES}, restarts


def is_denial(kind: str, report: dict[str, object]) -> bool:
    """A provider that was killed before it had an order denies it afterwards: the order ends, and a dealer hears of it."""
    return kind == "status_mismatch" and report["kind"] == "rejected" and report["ord_rej_reason"] == "5"


def lost_or_changed(house: WholeHouse, traders: list[Trader]) -> list[str]:
    """Acknowledged orders that are not stored as they were told, orders stored twice, and orders nobody sent."""
    rows = house.sql("SELECT account, client_order_id, id, status, filled_volume, filled_cost FROM trade_order")
    times = Counter((account, client_order_id) for account, client_order_id, *_ in rows)
    wrong = [f"{key} is stored {count} times" for key, count in times.items() if count > 1]
    stored = {(account, client_order_id): rest for account, client_order_id, *rest in rows}
    asked = {(trader.account, client_order_id) for trader in traders for client_order_id in trader.asked}
    wrong += [f"{key} was never asked for" for key in stored.keys() - asked]
    for trader in traders:
        for client_order_id, told in trader.heard.items():
            row = stored.get((trader.account, client_order_id))
            if row is None:
                wrong.append(f"{client_order_id} was acknowledged as {told} and is lost")
            else:
                wrong += [f"{client_order_id} was told {one} and is {row}" for one in told if not follows(one, *row)]
        unheard = set(trader.asked) - trader.heard.keys()
        wrong += [
            f"{client_order_id} was refused and is {row}"
            for client_order_id in unheard
            if (row := stored.get((trader.account, client_order_id))) and row[1] != "rejected"
        ]
    return wrong


def follows(told: Told, ticket: int, status: str, filled_volume: Decimal, filled_cost: Decimal) -> bool:
    """What is stored is what was told, or what may legally have become of it."""
    then, now = OrderStatus(told.status), OrderStatus(status)
    if ticket != told.ticket or filled_volume < told.filled_volume:
        return False
    if then is not now:
        return now in reachable(then)
    return then not in TERMINAL or filled_volume == told.filled_volume


def reachable(status: OrderStatus) -> frozenset[OrderStatus]:
    found: frozenset[OrderStatus] = frozenset()
    new = TRANSITIONS[status]
    while new - found:
        found |= new
        new = frozenset(later for status in found for later in TRANSITIONS[status])
    return found


def provider_differences(house: WholeHouse) -> list[str]:
    """Order by order: what the providers filled for us, by their own files and by our legs."""
    theirs = {name: cum for name, (_, cum) in held_by_providers(house.data).items()}
    rows = house.sql("SELECT cl_ord_id, filled_volume * quantity / volume, dispatch_state FROM lp_order")
    ours = {name: units for name, units, _ in rows}
    assert len(ours) > 20, "hardly anything went to a provider"
    return [
        f"{name}: they filled {theirs.get(name, 0)}, we booked {ours.get(name, 0)}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name, 0) != ours.get(name, 0)
    ]


def summary(trader: Trader) -> str:
    return (
        f"{trader.name}: {len(trader.asked)} requests, {len(trader.heard)} acknowledged, {trader.fills} filled,"
        f" else {dict(trader.refused)}"
    )
