"""The table of processes: complete, started and stopped in a sensible order, reachable only from this machine."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from broker import launch
from broker.processes import (
    DOORS,
    ENGINE,
    LPS,
    Layout,
    crowd,
    environment,
    free_port,
    free_port_range,
    house,
    is_free,
)
from broker.supervisor import Spec

LAYOUT = Layout(
    data=Path("/data"),
    database_url="postgresql://broker@/tribook?host=%2Fdata",
    redis_url="unix:///data/redis.sock",
    secret_key="kept",
    clock="wall",
    http_port=8000,
    stream_port=8001,
    lpsim_port_base=19880,
    lpsim_password="kept as well",
)


@pytest.fixture(scope="module")
def table() -> dict[str, Spec]:
    return {spec.name: spec for spec in house(LAYOUT)}


def test_every_process_of_the_house_is_there(table: dict[str, Spec]) -> None:
    sessions = {f"lp-{lp}-{session}" for lp in LPS for session in ("price", "trade")}
    doors, bus = {"web", "stream", "worker", "beat", "auditor"}, {"relay", "notifier"}
    assert set(table) == {"engine", "engine-standby", "lpsim", "lpsim-feed", "quotes"} | doors | bus | sessions


def test_nobody_waits_for_what_is_not_started(table: dict[str, Spec]) -> None:
    assert all(name in table for spec in table.values() for name in spec.after)


def test_doors_close_first_and_the_engine_outlives_everybody_it_serves(table: dict[str, Spec]) -> None:
    assert {name for name, spec in table.items() if spec.stop_rank == DOORS} == {
        "web",
        "stream",
        "worker",
        "beat",
        "auditor",
    }
    assert {name for name, spec in table.items() if spec.stop_rank == ENGINE} == {"engine", "engine-standby"}
    assert max(spec.stop_rank for spec in table.values()) == ENGINE


def test_the_crowd_goes_with_the_doors_and_is_told_how_many_until_when(table: dict[str, Spec]) -> None:
    spec = crowd(LAYOUT.redis_url, clients=20, seed=7, until_us=1_700_000_000_000_000)
    assert spec.name not in table
    assert spec.stop_rank == DOORS
    assert set(spec.after) <= set(table)
    assert " ".join(spec.command).endswith("broker.crowd --clients 20 --seed 7 --until-us 1700000000000000")


def test_web_servers_listen_on_loopback_alone(table: dict[str, Spec]) -> None:
    for name in ("web", "stream"):
        command = table[name].command
        assert command[command.index("--host") + 1] == "127.0.0.1"


def test_every_process_gets_its_addresses_and_what_was_inherited() -> None:
    given = environment(LAYOUT, {"PATH": "/bin", "TICKS": "left/over", "DATABASE_URL": "other"})
    assert given["DATABASE_URL"] == LAYOUT.database_url
    assert given["PATH"] == "/bin"
    assert "TICKS" not in given
    assert given["PYTHONPATH"].endswith("/platform")


def test_events_go_to_rabbitmq_only_when_the_house_has_one() -> None:
    assert "AMQP_URL" not in environment(LAYOUT, {"AMQP_URL": "left over"})
    assert environment(replace(LAYOUT, amqp_url="amqp://there"), {})["AMQP_URL"] == "amqp://there"


def test_a_taken_port_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert free_port(port) != port
        assert free_port_range(port, 2) > port


def test_a_free_port_is_chosen_unless_we_gave_it_away_already() -> None:
    port = free_port()
    assert free_port(port) == port
    assert free_port(port, taken=(port,)) != port


@pytest.mark.parametrize("speed", ["0", "-1", "1001", "nan", "inf", "fast"])
def test_a_speed_that_means_nothing_is_refused(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        launch.parse(["--speed", speed])
    assert "speed" in capsys.readouterr().err


def test_a_recording_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        launch.parse(["--ticks", "/nonexistent/ticks"])
    assert "there is nothing at /nonexistent/ticks" in capsys.readouterr().err


def test_without_options_the_house_trades_and_stays() -> None:
    options = launch.parse(["--data", "here"])
    assert (options.tour, options.exit_after_tour, options.ticks, options.speed) == (True, False, None, 1.0)
    assert options.data == Path("here").absolute()
    assert (options.clients, options.stays_up) == (0, True)


def test_a_crowd_that_is_to_stop_the_house_afterwards_does_not_leave_it_up() -> None:
    options = launch.parse(["--clients", "20", "--trade-for", "15", "--seed", "7", "--then-stop"])
    assert (options.clients, options.trade_for_s, options.seed, options.stays_up) == (20, 15.0, 7, False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--clients", "-1"], "--clients is at most"),
        (["--clients", "2001"], "--clients is at most"),
        (["--then-stop"], "give --clients too"),
        (["--seed", "7"], "give --clients too"),
        (["--clients", "2", "--trade-for", "0"], "--trade-for"),
        (["--clients", "2", "--trade-for", "86401"], "--trade-for"),
    ],
)
def test_a_crowd_that_means_nothing_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        launch.parse(arguments)
    assert told in capsys.readouterr().err
