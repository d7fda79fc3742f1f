"""How full the storage is, and when that must stop new risk.

PostgreSQL that cannot extend its log shuts down and does not come back before somebody makes room: long before that the
broker stops opening and goes on closing. The switch itself is state like any other and is turned by a command; this only
says which way it should stand. Between the two thresholds it stays as it is.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from msgspec import Struct

log = structlog.get_logger()

POLL_S = 1.0
FREE_MIN_PERCENT = 10
ROOM_AGAIN_PERCENT = 120
"""Of the least that must be free: so much, and opening is allowed again."""


class Space(Protocol):
    """What statvfs says of a file system: its blocks, and those that an ordinary user may still take."""

    @property
    def f_blocks(self) -> int: ...

    @property
    def f_bavail(self) -> int: ...


class DiskSpace(Struct, frozen=True):
    """How the switch should stand, and the fullest folder in words."""

    is_low: bool
    text: str


class DiskGuard:
    """Watches the file systems of some folders. A folder that cannot be asked counts neither way, and is named once."""

    def __init__(
        self,
        folders: Sequence[str],
        *,
        free_min_percent: int = FREE_MIN_PERCENT,
        statvfs: Callable[[str], Space] = os.statvfs,
    ) -> None:
        self._folders = folders
        self._free_min = free_min_percent
        self._statvfs = statvfs
        self._unknown: set[str] = set()

    def look(self, *, is_low: bool) -> DiskSpace:
        """`is_low` is how the switch stands now: with it, more must be free than is needed to leave it alone."""
        wanted = self._free_min * ROOM_AGAIN_PERCENT if is_low else self._free_min * 100
        found = [(space, folder) for folder in self._folders if (space := self._free(folder)) is not None]
        if not found:
            return DiskSpace(is_low, "no folder can be asked how full it is")
        free, folder = min(found)
        return DiskSpace(free < wanted, f"{free // 100}.{free % 100:02d} per cent of the disk of {folder} are free")

    def _free(self, folder: str) -> int | None:
        """Hundredths of a per cent."""
        try:
            space = self._statvfs(folder)
        except OSError as error:
            if folder not in self._unknown:
                log.warning("disk_unknown", folder=folder, error=str(error))
            self._unknown.add(folder)
            return None
        self._unknown.discard(folder)
        return space.f_bavail * 10_000 // space.f_blocks if space.f_blocks else None


def guard_from(environment: Mapping[str, str]) -> DiskGuard | None:
    """The guard that TRIBOOK_DISK_PATHS (folders, as in PATH; the data folder unless set) and TRIBOOK_DISK_FREE_MIN (per
    cent) ask for; None where no folder is known. Raises ValueError for a share that means nothing."""
    folders = environment.get("TRIBOOK_DISK_PATHS") or environment.get("TRIBOOK_DATA", "")
    free_min = int(environment.get("TRIBOOK_DISK_FREE_MIN") or FREE_MIN_PERCENT)
    if not 0 <= free_min <= 80:
        raise ValueError("TRIBOOK_DISK_FREE_MIN is a whole number of per cent, at most 80")
    named = [folder for folder in folders.split(os.pathsep) if folder]
    return DiskGuard(named, free_min_percent=free_min) if named and free_min else None
