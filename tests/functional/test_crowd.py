"""A short day of simulated clients on the whole house, checked every second, as `make run CLIENTS=N` does it."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from broker.crowd_plan import DECK, OPENINGS
from broker.embedded.postgres import start_postgres
from tests import services
from tests.support.whole_house import WholeHouse, processes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CLIENTS, SECONDS = 20, 10
DONE_WITHIN_S = 150
"""Most of it is the start; a machine that runs other tests beside it takes longer."""


@pytest.fixture(scope="module")
def house() -> Iterator[WholeHouse]:
    """A house whose crowd has had its day and that has stopped by itself."""
    folder = services.new_folder()
    services.made_here.append(services.TestPlace(folder))
    arguments = ("--no-tour", "--clients", str(CLIENTS), "--trade-for", str(SECONDS), "--seed", "7", "--then-stop")
    house = WholeHouse(folder / "h", *arguments)
    try:
        house.process.wait(DONE_WITHIN_S)
        yield house
    finally:
        house.end_at_last()


def test_the_data_is_sound_at_every_look_and_everything_stops_by_itself(house: WholeHouse) -> None:
    assert house.process.returncode == 0, house.tail()
    (verdict,) = re.findall(r"^invariants=.*$", house.said(), re.MULTILINE)
    checks = re.fullmatch(r"invariants=ok checks=(\d+) violations=0", verdict)
    assert checks is not None, house.tail()
    assert int(checks[1]) >= SECONDS
    assert "VIOLATION" not in house.said()
    assert not re.search(r"\[house\] crowd (ended|was killed)", house.said()), "it was dismissed, and not restarted"
    assert processes_of(house.data) == {}


def test_every_kind_of_order_and_change_was_sent(house: WholeHouse) -> None:
    (sent,) = re.findall(r"^  commands +(.*)$", house.said(), re.MULTILINE)
    counts = {name: int(number) for name, number in re.findall(r"([a-z][a-z -]*) (\d+)", sent)}
    needs_a_loser = {"deposit again"}
    assert set(DECK) - set(counts) <= needs_a_loser, house.tail()
    assert sum(counts.values()) > SECONDS * 10


def test_every_kind_of_order_is_stored(house: WholeHouse) -> None:
    server = start_postgres(house.data)
    try:
        with psycopg.connect(server.url) as connection:
            stored = connection.execute(
                "SELECT DISTINCT type, time_in_force FROM trade_order WHERE NOT closes"
            ).fetchall()
    finally:
        server.stop()
    assert {(kind.value, life.value) for kind, life, _ in OPENINGS.values()} <= set(stored)


def test_the_summary_tells_of_orders_fills_and_money(house: WholeHouse) -> None:
    for label in ("orders", "refused orders", "fills by reason", "commissions", "house and providers", "deposits"):
        assert re.search(rf"^  {label} +\S", house.said(), re.MULTILINE), label
