"""How full a disk may be before nothing new is opened, and how much room allows it again."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from engine.diskguard import DiskGuard, guard_from


@dataclass
class Blocks:
    f_blocks: int
    f_bavail: int


def disk(*, percent: float) -> Callable[[str], Blocks]:
    return lambda _folder: Blocks(1_000_000, round(percent * 10_000))


@pytest.mark.parametrize(
    ("percent", "was_low", "is_low"),
    [
        (50, False, False),
        (10.01, False, False),
        (10, False, False),
        (9.99, False, True),
        (0, False, True),
        (9.99, True, True),
        (11.99, True, True),
        (12, True, False),
        (50, True, False),
    ],
)
def test_opening_stops_below_ten_per_cent_and_goes_on_from_twelve(percent: float, was_low: bool, is_low: bool) -> None:
    assert DiskGuard(["/data"], statvfs=disk(percent=percent)).look(is_low=was_low).is_low is is_low


def test_the_fullest_folder_decides_and_is_named() -> None:
    free = {"/data": 400_000, "/wal": 50_300}
    guard = DiskGuard(["/data", "/wal"], statvfs=lambda folder: Blocks(1_000_000, free[folder]))
    assert guard.look(is_low=False).text == "5.03 per cent of the disk of /wal are free"
    assert guard.look(is_low=False).is_low


def test_a_folder_that_cannot_be_asked_changes_nothing() -> None:
    def gone(folder: str) -> Blocks:
        raise FileNotFoundError(folder)

    assert not DiskGuard(["/gone"], statvfs=gone).look(is_low=False).is_low
    assert DiskGuard(["/gone"], statvfs=gone).look(is_low=True).is_low


def test_the_least_that_must_be_free_can_be_set() -> None:
    guard = guard_from({"TRIBOOK_DATA": "/", "TRIBOOK_DISK_FREE_MIN": "0"})
    assert guard is None
    assert guard_from({}) is None
    assert DiskGuard(["/"], free_min_percent=50, statvfs=disk(percent=49)).look(is_low=False).is_low
    with pytest.raises(ValueError, match="TRIBOOK_DISK_FREE_MIN"):
        guard_from({"TRIBOOK_DATA": "/", "TRIBOOK_DISK_FREE_MIN": "101"})


def test_the_folders_are_named_as_in_a_path_and_the_data_folder_is_watched_unless_they_are(tmp_path: object) -> None:
    one, other = f"{tmp_path}", f"{tmp_path}/gone"
    named = guard_from({"TRIBOOK_DATA": other, "TRIBOOK_DISK_PATHS": f"{one}:{other}"})
    assert named is not None
    assert one in named.look(is_low=False).text
    alone = guard_from({"TRIBOOK_DATA": other})
    assert alone is not None
    assert "no folder can be asked" in alone.look(is_low=False).text
