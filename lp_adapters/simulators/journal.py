"""A simulated provider's memory: one file that only grows, a line per order image, written before the answer is sent. With
the images come the reports about them; a later line says that they were handed to the session, which keeps them from then on.
What a kill left unsaid is said at the next start, as a possible repetition.

The first line names the file's life, which keeps ExecIDs unique after the file was thrown away. A line that a kill cut
short was never answered, so it is dropped. The file reaches the operating system, not necessarily the disk: it is to
survive the death of the process.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from fix_gateway.wire.message import Outgoing
from lp_adapters.simulators.desk import Order

SAY, SAID = b'{"say":', b'{"said":'
"""How the lines begin that are no images."""


class Say(Struct, frozen=True):
    say: int
    messages: tuple[Outgoing, ...]


class Said(Struct, frozen=True):
    said: int


class Journal:
    """The journal at `path`, made when it is not there. Raises msgspec.MsgspecError when a whole line cannot be read."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        lines = self._whole_lines()
        if not lines:
            lines = [msgspec.json.encode({"life": f"{time.time_ns() // 1_000_000:x}"})]
            self._file.write(lines[0] + b"\n")
        self.life: str = msgspec.json.decode(lines[0], type=dict[str, str])["life"]
        self._read = [line for line in lines[1:] if not line.startswith((SAY, SAID))]
        says = [msgspec.json.decode(line, type=Say) for line in lines if line.startswith(SAY)]
        said = {msgspec.json.decode(line, type=Said).said for line in lines if line.startswith(SAID)}
        self._number = max((say.say for say in says), default=0)
        self._unsaid = [say for say in says if say.say not in said]

    def images(self) -> Iterable[Order]:
        """Every image kept so far, oldest first; to be asked once."""
        read, self._read = self._read, []
        decoder = msgspec.json.Decoder(Order)
        return (decoder.decode(line) for line in read)

    def unsaid(self) -> list[Say]:
        """Reports that an earlier run kept and may not have sent, oldest first; to be asked once."""
        unsaid, self._unsaid = self._unsaid, []
        return unsaid

    def keep(self, images: Iterable[Order], messages: tuple[Outgoing, ...] = ()) -> int:
        """Write all images, and what is to be said of them, in one go: after a kill there is all of it, or what is missing was
        never answered. The number under which the messages are `said`; 0 for none."""
        lines: list[Struct] = list(images)
        if messages:
            self._number += 1
            lines.append(Say(self._number, messages))
        self._write(lines)
        return self._number if messages else 0

    def said(self, number: int) -> None:
        """The session has the messages that were kept under this number."""
        self._write([Said(number)])

    def _write(self, lines: Iterable[Struct]) -> None:
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        while data:
            data = data[self._file.write(data) or 0 :]

    def _whole_lines(self) -> list[bytes]:
        self._file.seek(0)
        data = self._file.readall()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self._file.fileno(), len(whole))
        return whole.splitlines()
