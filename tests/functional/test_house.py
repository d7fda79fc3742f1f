"""`make run` as a user meets it: from nothing to a finished tour, stopped by Ctrl-C, started again on the same data."""

import json
import os
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker import processes
from bus import names
from bus.store import load_config
from tests import invariants, services
from tests.support.whole_house import (
    PROCESSES,
    RANKS,
    WholeHouse,
    deaths_in_order,
    descendants_of,
    describe,
    processes_of,
    whole_house,
)
from tests.waiting import eventually
from trading.orders import TERMINAL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

UP_AGAIN_WITHIN_S = 150 if "PYTEST_XDIST_WORKER" in os.environ else 20
"""Twenty seconds are promised to a house that has the machine to itself, not to one beside another test's."""
STOPPED_WITHIN_S = 15
TOUR_WITHIN_S = 90
ENDED = {status.value for status in TERMINAL}
TOUR_DONE = "the tour ended with status 0"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A place for the data folders of this module; what a run says is kept beside its data folder."""
    folder = services.new_folder()
    yield folder
    for left in processes_of(folder):
        pytest.fail(f"process {left} outlived the tests of {folder}")
    services.made_here.append(services.TestPlace(folder))


@pytest.fixture(scope="module")
def toured(home: Path) -> Path:
    """A data folder that a complete run with a tour has left behind; its output is in `said`."""
    data = home / "h"
    house = WholeHouse(data, "--exit-after-tour")
    try:
        house.up().remember_addresses()
        seen = descendants_of(house.process.pid) | processes_of(data).keys()
        assert house.process.wait(TOUR_WITHIN_S) == 0, house.tail()
    finally:
        house.end_at_last()
    (home / "seen.json").write_text(json.dumps({"pids": sorted(seen), "ports": house.ports}))
    (home / "tour.txt").write_text(house.said())
    return data


def test_from_nothing_a_tour_trades_a_b_and_c_and_ends_flat(toured: Path) -> None:
    said = (toured.parent / "tour.txt").read_text()
    expect_a_good_tour(said)
    assert "engine was killed by SIGKILL" in said
    for book, reason in (("A", "professionals to the market"), ("B", "everyone else"), ("C", "large tickets shared")):
        opened = said.split(f"->  book {book}")[1].split("position")[0]
        assert re.search(rf"why .*{reason}", opened), opened
    assert re.search(r"fill .* in book A \((YOFX1|PRIMEXM) ExecID \S+-E\d+ at \d", said)
    assert re.search(r"EURUSD +0\.00 +0\.00 +0\.00 +0\.00 +0\.00", said)


def test_after_it_nothing_is_left_running_and_nothing_is_held(toured: Path) -> None:
    seen = json.loads((toured.parent / "seen.json").read_text())
    assert len(seen["pids"]) > len(PROCESSES)
    assert processes_of(toured) == {}
    assert all(processes.is_free(port) for port in seen["ports"])
    assert not list((toured / "run").glob("*.pid"))
    answering = [path for path in toured.rglob("*") if path.is_socket() and answers(path)]
    assert answering == []


def test_ctrl_c_stops_all_in_order_and_a_second_start_finds_everything_as_it_was(toured: Path) -> None:
    house = WholeHouse(toured, "--no-tour")
    try:
        house.up(within_s=UP_AGAIN_WITHIN_S).remember_addresses()
        for user, volume in (("anna", "0.10"), ("ben", "0.20"), ("carla", "1.00")):
            open_position(house, user, volume)
        before = eventually(lambda: settled(house))
        stop_and_check(house)
    finally:
        house.end_at_last()
    again = WholeHouse(toured)
    try:
        again.up(within_s=UP_AGAIN_WITHIN_S).remember_addresses()
        # The tour has begun by now: what it has not touched yet is compared, the rest when it is through.
        again.until_it_says(TOUR_DONE, within_s=TOUR_WITHIN_S).until_it_says("Ctrl-C stops everything", within_s=15)
        expect_a_good_tour(again.said(), flat=False)
        after = everything(again)
        assert positions_of(after) == positions_of(before)
        assert orders_of(after, only=before) == orders_of(before)
        assert balances_of(after) == balances_after_the_tour(again, before)
        expect_sound_books(again)
        stop_and_check(again)
    finally:
        again.end_at_last()


def test_ctrl_c_during_the_start_and_a_killed_launcher_during_the_tour_leave_nothing_behind(
    home: Path, toured: Path
) -> None:
    """The killed run is a fast replay on newer data, so it has taken business time into the future: trading goes on there."""
    hurried = WholeHouse(toured)
    try:
        hurried.until_it_says("starting the processes", within_s=60)
        hurried.interrupt()
        hurried.process.wait(STOPPED_WITHIN_S)
        assert processes_of(toured) == {}, hurried.tail()
    finally:
        hurried.end_at_last()
    like_now = Recording(home / "again", lowest=108_500)  # what the tour opens must not be ruined by the next prices
    killed = WholeHouse(toured, "--ticks", str(like_now.folder), "--speed", "60")
    try:
        killed.up().until_it_says("->  book A", within_s=60)
        killed.process.kill()
        killed.process.wait()
        eventually(lambda: processes_of(toured) == {}, within_s=STOPPED_WITHIN_S)
    finally:
        killed.end_at_last()
    with whole_house(toured, "--no-tour") as house:
        assert "business time goes on" in house.said()
        open_position(house, "ben", "0.10")
        eventually(lambda: settled(house), within_s=60)
        expect_sound_books(house)


def test_recorded_ticks_are_followed_and_crossed_ones_dropped_and_the_wall_clock_goes_on_after(home: Path) -> None:
    recording = Recording(home / "ticks")
    data = home / "t"
    with whole_house(data, "--ticks", str(recording.folder), "--speed", "10") as house:
        quotes = eventually(lambda: recording.followed(house), within_s=60)
        assert recording.strays(quotes) == []
        house.until_it_says(TOUR_DONE, within_s=TOUR_WITHIN_S)
        expect_a_good_tour(house.said())
        counters = {lp: house.redis().hgetall(names.lp_counters(lp)) for lp in processes.LPS}
        received, crossed = int(counters["YOFX1"]["received"]), int(counters["YOFX1"]["crossed"])
        assert crossed >= 10
        assert "crossed" not in counters["PRIMEXM"]
        assert crossed < received
        recorded_us = house.sql("SELECT max(extract(epoch FROM at) * 1000000)::bigint FROM engine_batch")[0][0]
        assert recording.start_us < recorded_us < recording.end_us
    with whole_house(data, "--no-tour") as house:
        open_position(house, "ben", "0.10")
        assert house.sql("SELECT count(*) FROM engine_batch WHERE at > now() - interval '2 minutes'")[0][0] > 0
        backwards = "SELECT seq FROM (SELECT seq, at, lag(at) OVER (ORDER BY seq) AS before FROM engine_batch) b"
        assert house.sql(f"{backwards} WHERE at < before") == []
        expect_sound_books(house)


# ------------------------------------------------------------------------------------------------------------- the tour


def expect_a_good_tour(said: str, *, flat: bool = True) -> None:
    """Three round trips, each order told with its reasons, and every sum of money zero."""
    assert TOUR_DONE in said, said[-3000:]
    for book in "ABC":
        orders = said.split(f"->  book {book}")[1:]
        assert len(orders) == 3, f"book {book} has {len(orders)} orders instead of open, part, rest"
        assert all("    why  " in order.split("->  book")[0] for order in orders)
    sums = re.findall(r"sum of the entries: (\S+) ", said)
    assert len(sums) >= 9
    assert set(sums) == {"0.00"}
    totals = re.findall(r"the sum of all entries is (\S+)", said)
    assert totals
    assert set(totals) == {"0.00"}
    wanted = "flat: yes; clients" if flat else "clients, house and providers agree"
    assert wanted in said


# ------------------------------------------------------------------------------------------------------- what is stored


def expect_sound_books(house: WholeHouse) -> None:
    """Every invariant holds, and prices grow old after three seconds, however fast an earlier run replayed."""
    with house.database() as connection:
        assert invariants.violations(connection) == []
        assert load_config(connection).instruments["EURUSD"].quote_age_max_us == 3_000_000


def open_position(house: WholeHouse, user: str, volume: str) -> None:
    """A filled buy; refused only for what passes while prices and sessions are just arriving."""
    with house.client(user) as client:
        account = int(client.get("/v1/accounts").json()["data"][0]["id"])
        body = {"account": account, "symbol": "EURUSD", "side": "buy", "volume": volume}
        eventually(lambda: client.get("/v1/quotes?symbols=EURUSD").status_code == 200, within_s=20)

        def is_filled() -> bool:
            answer = client.post("/v1/orders", json=body, headers={"Prefer": "wait=5"}).json()
            if "code" in answer:
                assert answer["code"] in {"no_quotes", "no_connection", "rate_limited"}, answer
                return False
            return bool(eventually(lambda: end_of(client, answer), within_s=30) == "filled")

        eventually(is_filled, within_s=20)


def end_of(client: httpx.Client, order: dict[str, Any]) -> str | None:
    """How the order ended; a busy house may not have heard from its provider yet."""
    if order.get("status") not in ENDED:
        order = client.get(f"/v1/orders/{order['id']}").json()
    status = order.get("status")
    return str(status) if status in ENDED else None


def everything(house: WholeHouse) -> dict[str, Any]:
    """Accounts, orders and open positions of every demo trader, as REST shows them."""
    found = {}
    for user in ("anna", "ben", "carla"):
        with house.client(user) as client:
            found[user] = {
                "accounts": listed(client, "/v1/accounts"),
                "orders": listed(client, "/v1/orders?limit=200"),
                "positions": listed(client, "/v1/positions?status=open"),
            }
    return found


def settled(house: WholeHouse) -> dict[str, Any] | None:
    return everything(house) if house.reconciliation()["reconciled"] else None


def listed(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def positions_of(found: dict[str, Any]) -> dict[str, Any]:
    return {user: [lasting(position) for position in one["positions"]] for user, one in found.items()}


def orders_of(found: dict[str, Any], only: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """By id; of those that `only` has, when it is given."""
    wanted = {order["id"] for one in (only or found).values() for order in one["orders"]}
    return {order["id"]: order for one in found.values() for order in one["orders"] if order["id"] in wanted}


def balances_of(found: dict[str, Any]) -> dict[str, Decimal]:
    return {user: Decimal(one["accounts"][0]["balance"]) for user, one in found.items()}


def balances_after_the_tour(house: WholeHouse, before: dict[str, Any]) -> dict[str, Decimal]:
    """What was there, and what the deals since then have moved: the last of the orders before tells where `then` is."""
    last = max(order["ticket"] for one in before.values() for order in one["orders"])
    moved = dict(
        house.sql("SELECT account, sum(profit - commission) FROM deal WHERE order_id > %s GROUP BY account", last)
    )
    accounts = {user: int(one["accounts"][0]["id"]) for user, one in before.items()}
    return {user: balance + moved[accounts[user]] for user, balance in balances_of(before).items()}


def lasting(position: dict[str, Any]) -> dict[str, Any]:
    """Without what moves with the market."""
    return {name: position[name] for name in ("id", "symbol", "side", "volume", "open_price")}


# ------------------------------------------------------------------------------------------------------------- stopping


def stop_and_check(house: WholeHouse) -> None:
    """Ctrl-C: in order, in time, with status 0, and nothing is left."""
    pids = house.pids()
    seen = descendants_of(house.process.pid) | processes_of(house.data).keys()
    assert all(pids.values()), pids
    assert set(pids.values()) <= seen
    asked_s = time.monotonic()
    house.interrupt()
    deaths = deaths_in_order(pids, within_s=STOPPED_WITHIN_S)
    assert house.process.wait(STOPPED_WITHIN_S) == 0, house.tail()
    assert time.monotonic() - asked_s < STOPPED_WITHIN_S
    for earlier, later in zip(sorted(RANKS), sorted(RANKS)[1:], strict=False):
        last, first = max(deaths[name] for name in RANKS[earlier]), min(deaths[name] for name in RANKS[later])
        assert last <= first, describe(house, deaths)
    assert processes_of(house.data) == {}
    assert "is killed" not in house.said()
    assert all(processes.is_free(port) for port in house.ports)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


# ------------------------------------------------------------------------------------------------------ recorded ticks


class Recording:
    """An hour that both providers recorded, a tick a second: the price climbs and falls a point at a time.

    FXCM's file counts from midnight UTC-5 and is crossed in every eighth tick, OANDA's from midnight UTC. FXCM is always the
    better side, so a quote without markup shows FXCM's price, and its time tells which ticks it may stand for.
    """

    date = datetime(2014, 5, 2, tzinfo=UTC)
    begin = timedelta(hours=13)
    ticks = 3600
    turn = 300
    crossed_every = 8
    lag_s_max = 40
    """Business seconds at ten times the speed: from the tick to the quote, on a machine with too much to do."""

    def __init__(self, folder: Path, *, lowest: int = 139_000) -> None:
        """`lowest` is the lowest bid in points: by itself far from anything that the generator would make up."""
        self.folder = folder
        self.lowest = lowest
        self.start_us = int((self.date + self.begin).timestamp()) * 1_000_000
        self.end_us = self.start_us + self.ticks * 1_000_000
        self._write("fxcm", self.begin - timedelta(hours=5), self._fxcm)
        self._write("oanda", self.begin, lambda second: (self.price(second) - 1, self.price(second) + 3))

    def price(self, second: int) -> int:
        """The bid, in points."""
        place = second % (2 * self.turn)
        return self.lowest + min(place, 2 * self.turn - place)

    def _fxcm(self, second: int) -> tuple[int, int]:
        price = self.price(second)
        return (price + 400, price + 390) if second % self.crossed_every == 0 else (price, price + 2)

    def _write(self, provider: str, since_midnight: timedelta, tick: Any) -> None:
        rows = []
        for second in range(self.ticks):
            bid, ask = tick(second)
            milliseconds = (since_midnight // timedelta(milliseconds=1)) + second * 1000
            rows.append(f"{milliseconds},{bid / 100_000:.5f},{ask / 100_000:.5f}\n")
        day = f"{self.date:%Y%m%d}"
        file = self.folder / provider / "eurusd" / f"{day}_quote.zip"
        file.parent.mkdir(parents=True)
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"{day}_eurusd_tick_quote.csv", "".join(rows))

    def followed(self, house: WholeHouse) -> list[dict[str, Any]] | None:
        """Thirty different quotes in a row, as a client without markup sees them."""
        quotes: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + 30
        with house.client("ben") as client:
            while len(quotes) < 30 and time.monotonic() < deadline:
                answer = client.get("/v1/quotes", params={"symbols": "EURUSD"})
                if answer.status_code == 200:
                    quotes[answer.json()["data"][0]["at"]] = answer.json()["data"][0]
        return list(quotes.values()) if len(quotes) >= 30 else None

    def strays(self, quotes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Quotes that no tick of the time just before them explains."""
        return [quote for quote in quotes if not self._explains(quote)]

    def _explains(self, quote: dict[str, Any]) -> bool:
        at_us = int(datetime.fromisoformat(quote["at"]).timestamp() * 1_000_000)
        newest = (at_us - self.start_us) // 1_000_000 + 1
        bid = int(Decimal(quote["bid"]) * 100_000)
        seconds = range(max(0, newest - self.lag_s_max), newest + 1)
        return any(self.price(second) in (bid, bid + 1) for second in seconds)
