"""The private RabbitMQ: reachable from this machine alone, at its address again after any end, gone with its epmd."""

import contextlib
import os
from pathlib import Path

import pytest

from broker.embedded.rabbitmq import RunningRabbit, answers, start_rabbitmq
from broker.processes import is_free
from tests.support.whole_house import is_alive, processes_of

LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def listening_ports(pid: int) -> dict[int, str]:
    """Port and hexadecimal address of every TCP socket that this process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(str(link.readlink()))
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in inodes:
                address, _, port = fields[1].partition(":")
                found[int(port, 16)] = address
    return found


def test_node_and_epmd_listen_on_loopback_alone_and_not_as_root(rabbitmq: RunningRabbit) -> None:
    for pid, ports_min in ((rabbitmq.pid, 2), (rabbitmq.epmd.pid, 1)):
        listening = listening_ports(pid)
        assert len(listening) >= ports_min
        assert set(listening.values()) <= LOOPBACK
        if os.geteuid() == 0:
            assert Path(f"/proc/{pid}").stat().st_uid != 0


def test_nobody_gets_in_without_its_password(rabbitmq: RunningRabbit) -> None:
    assert answers(rabbitmq.url)
    place = rabbitmq.url.rpartition("@")[2]
    assert not answers(f"amqp://guest:guest@{place}")
    assert not answers(f"amqp://tribook:wrong@{place}")


def test_a_stopped_one_leaves_nothing_and_a_second_one_is_not_disturbed(
    data_folder: Path, rabbitmq: RunningRabbit
) -> None:
    running = start_rabbitmq(data_folder)
    assert running.url.rpartition("@")[2] != rabbitmq.url.rpartition("@")[2]
    ports = [*listening_ports(running.pid), *listening_ports(running.epmd.pid)]
    running.stop()
    assert not is_alive(running.pid)
    assert not is_alive(running.epmd.pid)
    assert processes_of(data_folder) == {}
    assert all(is_free(port) for port in ports)
    assert answers(rabbitmq.url)


@pytest.mark.parametrize("part", [0.0001, 0.4])
def test_the_memory_alarm_can_be_raised_and_taken_back(rabbitmq: RunningRabbit, part: float) -> None:
    rabbitmq.set_memory_watermark(part)
    assert answers(rabbitmq.url)
