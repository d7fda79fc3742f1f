"""What the driver does with words from other threads, and with a database that is not there."""

import psycopg
import pytest

from engine.driver import Driver
from engine.journal import Connection
from engine.step import Step
from tests.support.builders import NOW_US
from tests.support.memory import Ear, MemoryStream


def away(name: str) -> Connection:
    raise psycopg.OperationalError(f"no route for {name}")


@pytest.fixture
def driver() -> Driver:
    return Driver(
        step=Step(),
        url="",
        source=MemoryStream(),
        tell=Ear(),
        clock=lambda: NOW_US,
        connecting=away,
        monotonic=lambda: 10.0,
    )


def test_however_often_it_is_woken_one_word_waits(driver: Driver) -> None:
    for _ in range(1000):
        driver.wake()
        driver.nudge_inbox()
        driver.nudge_config()
    assert driver._mailbox.qsize() == 1
    assert driver.turn(0.0)
    assert not driver.turn(0.0)
    driver.wake()
    assert driver.turn(0.0)


def test_without_a_database_it_says_so_and_owns_nothing(driver: Driver) -> None:
    driver.turn(0.0)
    assert driver.problem == "waiting until the database answers: no route for tribook engine lease"
    assert (driver.is_owner, driver.is_standby, driver.is_halted) == (False, False, False)
