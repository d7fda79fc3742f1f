"""The doors' way to the engine, against a real Redis and a plain answering machine in the engine's place."""

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import redis

from bus import names
from bus.client import AnswerTimeout, Busy, Client
from bus.clock import Replay, after, wall
from bus.codec import decode_command, encode
from bus.health import beat
from tests.waiting import eventually
from trading.answers import Answer
from trading.commands import AnyCommand, Deposit

Reply = Callable[[AnyCommand], list[Answer]]


class AnsweringMachine:
    """Takes commands from the stream as the engine does and answers them as it is told."""

    def __init__(self, url: str, reply: Reply) -> None:
        self._client: redis.Redis = redis.Redis.from_url(url)
        self._reply = reply
        self._stopped = False
        self.heard: list[AnyCommand] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        last = "0-0"
        while not self._stopped:
            try:
                found: Any = self._client.xread({names.commands(0): last}, block=50)
            except redis.ConnectionError:
                continue
            for _, entries in found or ():
                for entry_id, fields in entries:
                    last = entry_id.decode()
                    self._answer(decode_command(fields[b"c"]))

    def _answer(self, command: AnyCommand) -> None:
        self.heard.append(command)
        for answer in self._reply(command):
            self._client.xadd(names.replies(command.reply_to), {"a": encode([answer])})

    def stop(self) -> None:
        self._stopped = True
        self._thread.join()
        self._client.close()


@pytest.fixture
def empty_redis(redis_url: str) -> Iterator["redis.Redis"]:
    client: redis.Redis = redis.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def client(redis_url: str, empty_redis: "redis.Redis") -> Iterator[Client]:
    client = Client(redis_url, wall)
    yield client
    client.close()


@pytest.fixture
def machine(redis_url: str, empty_redis: "redis.Redis") -> Iterator[Callable[[Reply], AnsweringMachine]]:
    machines: list[AnsweringMachine] = []

    def make(reply: Reply) -> AnsweringMachine:
        machines.append(AnsweringMachine(redis_url, reply))
        return machines[-1]

    yield make
    for machine in machines:
        machine.stop()


def deposit(name: str = "d1", **fields: Any) -> Deposit:
    return Deposit(id=name, key=name, account=1, amount=Decimal("5.00"), **fields)


def done(command: AnyCommand) -> list[Answer]:
    return [Answer(command_id=command.id, reference=7)]


def working_then_done(command: AnyCommand) -> list[Answer]:
    return [Answer(command_id=command.id, reference=1, final=False), Answer(command_id=command.id, reference=2)]


def working(command: AnyCommand) -> list[Answer]:
    return [Answer(command_id=command.id, reference=1, final=False)]


def silent(command: AnyCommand) -> list[Answer]:
    return []


def test_a_command_is_answered(client: Client, machine: Any) -> None:
    heard = machine(done).heard
    assert client.submit(deposit(), 5).reference == 7
    assert heard[0].reply_to
    assert heard[0].amount == Decimal("5.00")


def test_a_command_gets_a_time_to_live_unless_it_has_one(client: Client, machine: Any) -> None:
    heard = machine(done).heard
    before = wall()
    client.submit(deposit("d1"), 7)
    client.submit(deposit("d2", valid_until_us=42), 7)
    assert before + 7_000_000 <= heard[0].valid_until_us <= wall() + 7_000_000
    assert heard[1].valid_until_us == 42


def test_waiting_five_seconds_is_five_minutes_of_a_recording_at_sixty_times_its_speed() -> None:
    clock = Replay(start_us=1_000, speed=60.0, wall_zero_us=wall())
    assert 300_000_000 <= after(clock, 5) - 1_000 < 360_000_000


def test_submit_takes_the_first_answer_and_follow_the_final_one(client: Client, machine: Any) -> None:
    machine(working_then_done)
    assert client.submit(deposit("d1"), 5).final is False
    assert client.submit_and_follow(deposit("d2"), 5).reference == 2


def test_follow_returns_what_it_has_when_the_time_is_up(client: Client, machine: Any) -> None:
    machine(working)
    answer = client.submit_and_follow(deposit(), 0.3)
    assert (answer.reference, answer.final) == (1, False)


def test_no_answer_is_an_unknown_outcome(client: Client, machine: Any) -> None:
    machine(silent)
    with pytest.raises(AnswerTimeout):
        client.submit(deposit(), 0.2)


def test_a_full_stream_is_busy_and_takes_nothing_more(
    client: Client, empty_redis: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.client.WAITING_MAX", 3)
    for _ in range(3):
        empty_redis.xadd(names.commands(0), {"c": "x"})
    with pytest.raises(Busy):
        client.submit(deposit(), 1)
    assert empty_redis.xlen(names.commands(0)) == 3


def test_a_redis_that_is_not_there_is_busy(tmp_path: Any) -> None:
    client = Client(f"unix://{tmp_path}/nobody.sock", wall)
    with pytest.raises(Busy):
        client.submit(deposit(), 1)
    client.close()


def test_many_threads_each_get_their_own_answer(client: Client, machine: Any) -> None:
    machine(lambda command: [Answer(command_id=command.id, reference=int(command.id))])
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        for turn in range(20):
            name = number * 100 + turn
            answers[name] = client.submit(deposit(str(name)), 10).reference

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 320
    assert all(asked == got for asked, got in answers.items())


def test_the_client_goes_on_after_redis_lost_its_memory(
    client: Client, machine: Any, empty_redis: "redis.Redis"
) -> None:
    machine(done)
    client.submit(deposit("d1"), 5)
    then = wall() // 1000
    eventually(lambda: wall() // 1000 > then)  # ids are milliseconds: the machine reads on from the last one
    empty_redis.flushall()
    assert client.submit(deposit("d2"), 5).reference == 7


def test_the_client_goes_on_after_its_connections_were_cut(
    client: Client, machine: Any, empty_redis: "redis.Redis"
) -> None:
    machine(done)
    client.submit(deposit("d1"), 5)
    empty_redis.client_kill_filter(_type="normal", skipme=True)
    assert client.submit(deposit("d2"), 5).reference == 7


def test_a_beat_lives_fifteen_seconds(empty_redis: "redis.Redis") -> None:
    beat(empty_redis, "engine", detail={"seq": 4})
    found: Any = empty_redis.hgetall("health:engine")
    assert (found[b"state"], found[b"detail"]) == (b"up", b'{"seq":4}')
    left: Any = empty_redis.ttl("health:engine")
    assert 0 < left <= 15
