"""A TCP or unix-socket proxy that misbehaves as networks do, each direction by itself, told at run time from any thread.

`up` is from the one who connects to the server, `down` the way back. What TCP cannot do is not done: bytes are never lost
from the middle of a stream that then goes on. A line that swallows is reset when it is healed.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""
UP, DOWN = "up", "down"
READ_BYTES = 65_536
TOLD_WITHIN_S = 5.0
RST_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST and throws away what was not sent."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with one direction. The default is nothing."""

    delay_s: float = 0.0
    """Every chunk arrives so much later."""
    hold: bool = False
    """Nothing passes; it arrives when this ends, as over a network that was cut for a while."""
    swallow: bool = False
    """Bytes are taken and never arrive."""
    split_bytes: int = 0
    """Pass so many bytes at a time; 0 for as they come."""
    reset_after_bytes: int | None = None
    """Pass so many more bytes on each connection, then reset it: an answer torn in the middle, or never come."""


CLEAR = Trouble()


@dataclass(eq=False)
class Connection:
    """One client's connection and ours to the server."""

    near: socket.socket
    far: socket.socket
    tasks: "list[asyncio.Task[None]]" = field(default_factory=list)
    torn: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    passed: dict[str, int] = field(default_factory=lambda: {UP: 0, DOWN: 0})
    """Bytes since the present trouble began."""

    def tear(self) -> None:
        """RST on both sides, as soon as both pumps have let go of the sockets."""
        self.torn = True
        for end in (self.near, self.far):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        self.stop()

    def stop(self) -> None:
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Proxy:
    """Listens at once; use it as a context, or `start` and `stop` it. It runs in a thread of its own."""

    def __init__(self, server: "Callable[[], Address | None]", *, listen: Address = ("127.0.0.1", 0)) -> None:
        """`server` is asked for each connection; None is as if nobody listened there."""
        self._server = server
        self._listener = _listening(listen)
        self._trouble = {UP: CLEAR, DOWN: CLEAR}
        self._free = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        for free in self._free.values():
            free.set()
        self._refusing = False
        self._connections: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        """Held because asyncio would forget them."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)
        self.accepted = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._connections)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._in_loop(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._listener.close()

    # ------------------------------------------------------------------------------------------------- what it is told

    def trouble(self, direction: str, trouble: Trouble) -> None:
        """From now on. Connections that lost bytes are reset when they no longer swallow."""
        self._in_loop(self._change(direction, trouble))

    def heal(self) -> None:
        """Nothing is wrong from now on, and new connections are taken."""
        self._refusing = False
        for direction in (UP, DOWN):
            self.trouble(direction, CLEAR)

    def refuse(self) -> None:
        """Reset every new connection as soon as it comes, until healed. Those that are there stay."""
        self._refusing = True

    def reset(self) -> int:
        """RST every connection on both sides; how many there were."""
        return int(self._in_loop(self._reset()))

    def half_close(self, direction: str) -> int:
        """Say end-of-file in this direction, while the other one goes on; on how many connections."""
        return int(self._in_loop(self._half_close(direction)))

    # ------------------------------------------------------------------------------------------------ in its own loop

    def _in_loop(self, work: "Coroutine[Any, Any, int | None]") -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TOLD_WITHIN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()
        accepting.cancel()
        self._loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(self._loop), return_exceptions=True))
        self._loop.close()

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            near.setblocking(False)
            self.accepted += 1
            task = self._loop.create_task(self._connect(near))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, near: socket.socket) -> None:
        address = None if self._refusing else self._server()
        far = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        far.setblocking(False)
        connection = Connection(near, far)
        try:
            if address is None:
                raise ConnectionRefusedError
            await self._loop.sock_connect(far, address)
        except OSError:
            connection.tear()
            connection.close()
            return
        for end in (near, far):
            with suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(connection)
        connection.tasks = [
            self._loop.create_task(self._pump(connection, UP, near, far)),
            self._loop.create_task(self._pump(connection, DOWN, far, near)),
        ]
        await asyncio.wait(connection.tasks)
        self._connections.discard(connection)
        connection.close()
        connection.ended.set()

    async def _pump(self, connection: Connection, direction: str, source: socket.socket, sink: socket.socket) -> None:
        """Until the source has no more to say, which is passed on as such; a reset is passed on as one."""
        try:
            while data := await self._loop.sock_recv(source, READ_BYTES):
                await self._pass(connection, direction, sink, data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            if not connection.torn:
                connection.tear()

    async def _pass(self, connection: Connection, direction: str, sink: socket.socket, data: bytes) -> None:
        if delay_s := self._trouble[direction].delay_s:
            await asyncio.sleep(delay_s)
        await self._free[direction].wait()
        trouble = self._trouble[direction]
        left = len(data)
        if trouble.reset_after_bytes is not None:
            left = min(left, trouble.reset_after_bytes - connection.passed[direction])
        connection.passed[direction] += left
        if not trouble.swallow:
            for part in _parts(data[:left], trouble.split_bytes):
                await self._loop.sock_sendall(sink, part)
                if trouble.split_bytes:
                    await asyncio.sleep(0)
        if left < len(data):
            connection.tear()
            raise ConnectionResetError

    async def _change(self, direction: str, trouble: Trouble) -> None:
        was, self._trouble[direction] = self._trouble[direction], trouble
        if trouble.hold:
            self._free[direction].clear()
        else:
            self._free[direction].set()
        for connection in list(self._connections):
            connection.passed[direction] = 0
            if was.swallow and not trouble.swallow:
                connection.tear()

    async def _reset(self) -> int:
        there = list(self._connections)
        for connection in there:
            connection.tear()
        await self._let_go(there)
        return len(there)

    async def _half_close(self, direction: str) -> int:
        there = list(self._connections)
        for connection in there:
            with suppress(OSError):
                (connection.far if direction == UP else connection.near).shutdown(socket.SHUT_WR)
        return len(there)

    async def _end(self) -> None:
        there = list(self._connections)
        for connection in there:
            connection.stop()
        await self._let_go(there)

    async def _let_go(self, connections: list[Connection]) -> None:
        if waiting := [connection.ended.wait() for connection in connections]:
            await asyncio.gather(*waiting)


def _listening(address: Address) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    if not isinstance(address, str):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
