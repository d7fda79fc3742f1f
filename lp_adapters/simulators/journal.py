"""A simulated provider's memory: one file that only grows, a line per order image, written before the answer is sent.

The first line names the file's life, which keeps ExecIDs unique after the file was thrown away. A line that a kill cut
short was never answered, so it is dropped. The file reaches the operating system, not necessarily the disk: it is to
survive the death of the process.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lp_adapters.simulators.desk import Order


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
        self._read = lines[1:]

    def images(self) -> Iterable[Order]:
        """Every image kept so far, oldest first; to be asked once."""
        read, self._read = self._read, []
        decoder = msgspec.json.Decoder(Order)
        return (decoder.decode(line) for line in read)

    def keep(self, images: Iterable[Order]) -> None:
        """Write all images in one go: after a kill there are all of them, or what is missing was never answered."""
        data = b"".join(msgspec.json.encode(image) + b"\n" for image in images)
        while data:
            data = data[self._file.write(data) or 0 :]

    def _whole_lines(self) -> list[bytes]:
        self._file.seek(0)
        data = self._file.readall()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self._file.fileno(), len(whole))
        return whole.splitlines()
