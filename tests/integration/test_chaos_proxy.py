"""The chaos proxy does what it says: every trouble is seen by real sockets on both ends."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.soak.proxy import DOWN, UP, Proxy, Trouble
from tests.waiting import eventually


class Echo:
    """Answers every byte with itself, and remembers the chunks it read."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.chunks: list[bytes] = []
        self.resets = 0
        self.ends = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        try:
            while data := peer.recv(4096):
                self.chunks.append(data)
                peer.sendall(data)
            self.ends += 1
            peer.sendall(b"bye")
        except OSError:
            self.resets += 1
        finally:
            peer.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    listener = socket.create_server(("127.0.0.1", 0))
    yield Echo(listener)
    listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    port = echo.listener.getsockname()[1]
    with Proxy(lambda: ("127.0.0.1", port)) as running:
        yield running


def connected(proxy: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    eventually(lambda: proxy.connections > 0)
    return client


def heard(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := client.recv(count - len(data))):
        data += more
    return data


def is_silent(client: socket.socket) -> bool:
    client.settimeout(0.15)
    try:
        return client.recv(1) is None
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)


def is_reset(proxy: Proxy) -> None:
    """A new connection, while it is made or at its first reading."""
    with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.recv(1)


def test_it_passes_everything_in_order(proxy: Proxy) -> None:
    data = bytes(range(256)) * 4000
    with connected(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert heard(client, len(data)) == data
        sender.join()


def test_end_of_file_is_passed_on_each_way(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(3) == b"bye"
        assert client.recv(1) == b""
    eventually(lambda: proxy.connections == 0)


def test_it_delays_one_direction(proxy: Proxy) -> None:
    proxy.trouble(DOWN, Trouble(delay_s=0.2))
    with connected(proxy) as client:
        began = time.monotonic()
        client.sendall(b"x")
        assert heard(client, 1) == b"x"
        assert time.monotonic() - began >= 0.2


def test_what_was_held_arrives_when_healed(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        proxy.trouble(UP, Trouble(hold=True))
        client.sendall(b"late")
        assert is_silent(client)
        assert echo.chunks == []
        proxy.heal()
        assert heard(client, 4) == b"late"


def test_what_was_swallowed_never_arrives_and_the_line_is_reset(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        proxy.trouble(UP, Trouble(swallow=True))
        client.sendall(b"gone")
        assert is_silent(client)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert echo.chunks == []


def test_it_splits_into_single_bytes(proxy: Proxy, echo: Echo) -> None:
    proxy.trouble(UP, Trouble(split_bytes=1))
    message = b"8=FIX.4.4|9=5|35=0|" * 100
    with connected(proxy) as client:
        client.sendall(message)
        assert heard(client, len(message)) == message
    assert len(echo.chunks) > 1, "one send arrived as one piece"


def test_a_reset_is_seen_on_both_ends(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        client.sendall(b"x")
        heard(client, 1)
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    eventually(lambda: echo.resets == 1)
    eventually(lambda: proxy.connections == 0)


def test_it_resets_in_the_middle_of_an_answer(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        proxy.trouble(DOWN, Trouble(reset_after_bytes=3))
        client.sendall(b"abcdef")
        with suppress(ConnectionResetError):  # what was read before the RST may or may not have been delivered
            assert heard(client, 6) in (b"", b"a", b"ab", b"abc")
        eventually(lambda: proxy.connections == 0)
    assert b"".join(echo.chunks) == b"abcdef"


def test_half_closed_up_the_server_still_answers(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        client.sendall(b"x")
        heard(client, 1)
        assert proxy.half_close(UP) == 1
        assert heard(client, 3) == b"bye"
    assert echo.ends == 1


def test_it_refuses_new_connections_and_keeps_the_old_ones(proxy: Proxy) -> None:
    with connected(proxy) as old:
        proxy.refuse()
        is_reset(proxy)
        old.sendall(b"x")
        assert heard(old, 1) == b"x"
    proxy.heal()
    with connected(proxy) as client:
        client.sendall(b"y")
        assert heard(client, 1) == b"y"


def test_a_server_that_is_not_there_is_a_reset(proxy: Proxy, echo: Echo) -> None:
    echo.listener.shutdown(socket.SHUT_RDWR)
    is_reset(proxy)


def test_it_stands_before_unix_sockets_too(data_folder: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(data_folder / "real"))
    listener.listen()
    echo = Echo(listener)
    with (
        Proxy(lambda: str(data_folder / "real"), listen=str(data_folder / "chaos")) as proxy,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(str(data_folder / "chaos"))
        client.sendall(b"x")
        assert heard(client, 1) == b"x"
        assert proxy.reset() == 1
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert echo.chunks == [b"x"]
    listener.close()
