"""How every door hands commands to the engine and waits for their answers.

One client per process, used by all its threads: each submits for itself, one reader thread hands the answers out. A
command whose answer does not come is neither done nor refused; its key finds out which.
"""

import contextlib
import os
import secrets
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

import redis
from msgspec.structs import replace

from bus import names
from bus.clock import Clock, after
from bus.codec import decode, encode
from trading.answers import Answer
from trading.commands import AnyCommand

WAITING_MAX = 10_000
"""Commands in the stream that the engine has not taken; beyond it the door says so at once."""
VALID_S = 5.0
"""How long a command may wait before it is dealt at all, unless it says otherwise."""
READ_BLOCK_MS = 1000
READ_COUNT = 100
RETRY_S = 0.2

_ADD = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'c', ARGV[2])
"""
"""Look at the length and add in one step, so that many doors cannot overfill the stream together."""


class Busy(Exception):
    """Nothing was sent: too many commands wait already, or Redis cannot be reached."""


class AnswerTimeout(Exception):
    """The outcome is not known: the command may have been done, or may yet be."""


class Client:
    """Thread-safe. The reader thread starts with the first command, so a client may be made before a fork."""

    def __init__(self, redis_url: str, clock: Clock, name: str | None = None, *, shard: int = 0) -> None:
        self._url = redis_url
        self._clock = clock
        self._given_name = name
        self._stream = names.commands(shard)
        self._lock = threading.Lock()
        self._waiters: dict[str, list[SimpleQueue[Answer]]] = {}
        self._pid = 0
        self._name = ""
        self._pool: redis.ConnectionPool | None = None
        self._stopped = threading.Event()

    def submit(self, command: AnyCommand, wait_s: float = VALID_S) -> Answer:
        """Send the command and wait for its first answer. Raises Busy or AnswerTimeout."""
        return self._exchange(command, wait_s, until_final=False)

    def submit_and_follow(self, command: AnyCommand, wait_s: float = VALID_S) -> Answer:
        """The same, but wait for the final answer while there is time; else the last one, whose `final` is False.

        Raises Busy, or AnswerTimeout when not even a first answer came.
        """
        return self._exchange(command, wait_s, until_final=True)

    def close(self) -> None:
        self._stopped.set()
        if self._pool is not None:
            self._pool.disconnect()

    # ------------------------------------------------------------------------------------------------------- submitting

    def _exchange(self, command: AnyCommand, wait_s: float, *, until_final: bool) -> Answer:
        deadline = time.monotonic() + wait_s
        self._start_reader()
        answers: SimpleQueue[Answer] = SimpleQueue()
        with self._lock:
            self._waiters.setdefault(command.id, []).append(answers)
        try:
            self._send(encode(self._addressed(command, wait_s)))
            return _await_answer(answers, deadline, until_final=until_final)
        finally:
            self._forget(command.id, answers)

    def _addressed(self, command: AnyCommand, wait_s: float) -> AnyCommand:
        valid_until_us = command.valid_until_us or after(self._clock, max(wait_s, VALID_S))
        return replace(command, reply_to=self._name, valid_until_us=valid_until_us)

    def _send(self, data: bytes) -> None:
        """One round trip on a connection of the pool. Only an error before the command left is Busy."""
        assert self._pool is not None
        try:
            connection: Any = self._pool.get_connection()
        except redis.RedisError as error:
            raise Busy("the message bus cannot be reached") from error
        try:
            connection.send_command("EVAL", _ADD, 1, self._stream, WAITING_MAX, data)
            added = connection.read_response()
        except redis.ResponseError as error:
            raise Busy(f"the message bus refuses commands: {error}") from error
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            raise AnswerTimeout("the message bus broke off while the command was sent") from error
        except BaseException:
            # Broken off between question and answer: whoever got this connection next would read our answer as its own.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
        if added is None:
            raise Busy(f"{WAITING_MAX} commands wait already")

    def _forget(self, command_id: str, answers: "SimpleQueue[Answer]") -> None:
        with self._lock:
            waiting = self._waiters.get(command_id, [])
            if answers in waiting:
                waiting.remove(answers)
            if not waiting:
                self._waiters.pop(command_id, None)

    # ---------------------------------------------------------------------------------------------------------- reading

    def _start_reader(self) -> None:
        """Once per process: a fork inherits neither threads nor the right to a parent's sockets."""
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._name = self._given_name or f"{self._pid}-{secrets.token_hex(6)}"
            self._waiters.clear()
            self._pool = redis.ConnectionPool.from_url(
                self._url, socket_timeout=5, socket_connect_timeout=2, retry=None
            )
            threading.Thread(target=self._read, args=(self._name,), name="bus-answers", daemon=True).start()

    def _read(self, name: str) -> None:
        """Hand every answer to whoever waits for it. Answers that nobody waits for any more are left to their keys."""
        key, last = names.replies(name), "0-0"
        while not self._stopped.is_set():
            try:
                with contextlib.closing(self._reading_client()) as client:
                    while not self._stopped.is_set():
                        last = self._read_once(client, key, last)
            except redis.RedisError:
                last = "0-0"
                self._stopped.wait(RETRY_S)

    def _reading_client(self) -> "redis.Redis":
        client: redis.Redis = redis.Redis.from_url(self._url, socket_timeout=5, socket_connect_timeout=2, retry=None)
        return client

    def _read_once(self, client: "redis.Redis", key: str, last: str) -> str:
        """From `last` on; a Redis that lost its memory may count from smaller ids, which a broken connection shows."""
        reply: Any = client.xread({key: last}, count=READ_COUNT, block=READ_BLOCK_MS)
        for _, entries in reply or ():
            for entry_id, fields in entries:
                for answer in decode(fields[b"a"], list[Answer]):
                    self._hand_out(answer)
                last = entry_id.decode()
        return last

    def _hand_out(self, answer: Answer) -> None:
        with self._lock:
            for waiting in self._waiters.get(answer.command_id, ()):
                waiting.put(answer)


def _await_answer(answers: "SimpleQueue[Answer]", deadline: float, *, until_final: bool) -> Answer:
    last: Answer | None = None
    while last is None or (until_final and not last.final):
        try:
            last = answers.get(timeout=max(deadline - time.monotonic(), 0.001))
        except Empty:
            break
    if last is None:
        raise AnswerTimeout("no answer came in time")
    return last
