"""A liquidity provider of about one screen: one FIX 4.4 session on a loopback socket, without QuickFIX.

It keeps its sequence numbers and what it sent across connections, asks for what it missed and resends what was missed, as a
real counterparty does. What it answers to orders is the test's: `on_order` and `on_status` get the fields of a message
and return the bodies of the answers. An independent peer: nothing of it is shared with what it tests.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

SOH = b"\x01"
Fields = dict[int, str]
Answer = Callable[[Fields], list[str]]
ADMIN = {"0", "1", "2", "3", "4", "5", "A"}


class Provider:
    """Accepts one connection at a time as `sender` (its own name), until closed."""

    def __init__(self, sender: str, target: str, *, port: int = 0) -> None:
        self.sender, self.target = sender, target
        self.received: list[Fields] = []
        """Application messages in sequence, also repeated ones."""
        self.logons: list[Fields] = []
        self.logouts = 0
        self.on_order: Answer = lambda _order: []
        self.on_status: Answer = lambda _request: []
        self.on_prices: Answer = lambda _request: []
        self.drops_at: str | None = None
        """MsgType at which the line goes dead, once, before the message counts as received."""
        self.resets_itself = False
        """Answers a Logon by counting anew (141=Y), without having been asked to."""
        self.refuses_with = ""
        """Answers a Logon with a Logout(35=5) of this text."""
        self._next_in = 1
        self._sent: dict[int, tuple[str, str]] = {}
        self._ahead: dict[int, Fields] = {}
        self._lock = threading.RLock()
        self._connection: socket.socket | None = None
        self._is_logged_on = False
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind(("127.0.0.1", port))
        self.port = int(self._server.getsockname()[1])
        self._server.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------------------------------------- for the test

    @property
    def is_logged_on(self) -> bool:
        return self._is_logged_on

    def of_type(self, kind: str) -> list[Fields]:
        return [fields for fields in list(self.received) if fields[35] == kind]

    def send(self, body: str) -> None:
        """Send `35=..|tag=value|..` with the next number, or keep it for a resend while nobody is connected."""
        kind, _, rest = body.removeprefix("35=").partition("|")
        with self._lock:
            number = len(self._sent) + 1
            self._sent[number] = (kind, rest)
            if self._is_logged_on or kind == "A":
                self._write(number, kind, rest)

    def hang_up(self) -> None:
        with self._lock:
            self._is_logged_on = False
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        self.hang_up()

    # ---------------------------------------------------------------------------------------------- the session

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connection = connection
            with suppress(OSError):
                self._talk(connection)
            with self._lock:
                self._is_logged_on = False
                self._connection = None
            connection.close()

    def _talk(self, connection: socket.socket) -> None:
        buffer = b""
        while data := connection.recv(65536):
            buffer += data
            while (end := buffer.find(SOH + b"10=")) >= 0 and (last := buffer.find(SOH, end + 1)) >= 0:
                fields, buffer = _fields(buffer[: last + 1]), buffer[last + 1 :]
                with self._lock:
                    if not self._hear(fields):
                        return

    def _hear(self, fields: Fields) -> bool:
        """False when the line goes dead."""
        kind, number = fields[35], int(fields[34])
        if kind == "A" and fields.get(141) == "Y":
            self._next_in, self._sent = 1, {}
        if self.refuses_with and kind == "A":
            self._sent[len(self._sent) + 1] = ("5", f"58={self.refuses_with}|")
            self._write(len(self._sent), *self._sent[len(self._sent)])
            return False
        if self.drops_at == kind:
            self.drops_at = None
            return False
        if kind == "4" and number >= self._next_in:
            self._next_in = max(self._next_in, int(fields[36]))
            return self._catch_up()
        if number > self._next_in:
            self._ahead[number] = fields
            if kind == "A":
                self._logon(fields)
            elif kind == "2":
                # Answered at once, whatever is missing: the gap fill that is to come covers it.
                self._resend(int(fields[7]))
            self._send_now("2", f"7={self._next_in}|16=0|")
            return True
        if number < self._next_in:
            return True
        self._next_in += 1
        return self._act(fields) and self._catch_up()

    def _catch_up(self) -> bool:
        while self._next_in in self._ahead:
            fields = self._ahead.pop(self._next_in)
            self._next_in += 1
            if fields[35] != "A" and not self._act(fields):
                return False
        return True

    def _act(self, fields: Fields) -> bool:
        kind = fields[35]
        if kind == "A":
            self._logon(fields)
        elif kind == "1":
            self._send_now("0", f"112={fields[112]}|")
        elif kind == "2":
            self._resend(int(fields[7]))
        elif kind == "5":
            self.logouts += 1
            self._send_now("5", "")
            self._is_logged_on = False
            return False
        elif kind not in ADMIN:
            self.received.append(fields)
            answer = {"D": self.on_order, "H": self.on_status, "V": self.on_prices}.get(kind)
            for body in answer(fields) if answer else ():
                self.send(body)
        return True

    def _logon(self, fields: Fields) -> None:
        self.logons.append(fields)
        if self.resets_itself:
            self._next_in, self._sent = 2, {}
        reset = "141=Y|" if fields.get(141) == "Y" or self.resets_itself else ""
        self.send(f"35=A|98=0|108={fields[108]}|{reset}")
        self._is_logged_on = True

    def _send_now(self, kind: str, rest: str) -> None:
        self.send(f"35={kind}|{rest}")

    def _resend(self, first: int) -> None:
        for number in range(first, len(self._sent) + 1):
            kind, rest = self._sent[number]
            if kind in ADMIN:
                self._write(number, "4", f"123=Y|36={number + 1}|", again=True)
            else:
                self._write(number, kind, rest, again=True)

    def _write(self, number: int, kind: str, rest: str, *, again: bool = False) -> None:
        now = datetime.now(UTC).strftime("%Y%m%d-%H:%M:%S")
        repeated = f"43=Y|122={now}|" if again else ""
        body = f"35={kind}|49={self.sender}|56={self.target}|34={number}|{repeated}52={now}|{rest}"
        data = body.encode("utf-8", "surrogateescape").replace(b"|", SOH)
        framed = b"8=FIX.4.4\x019=%d\x01" % len(data) + data
        if self._connection is not None:
            with suppress(OSError):
                self._connection.sendall(framed + b"10=%03d\x01" % (sum(framed) % 256))


def _fields(raw: bytes) -> Fields:
    """First value of each tag; a MarketDataRequest has its one symbol in a group."""
    fields: Fields = {}
    for part in raw.decode().split("\x01"):
        tag, equals, value = part.partition("=")
        if equals:
            fields.setdefault(int(tag), value)
    return fields
