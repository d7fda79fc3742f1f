"""Recorded ticks: time zones, the common start, closed hours cut out, looping, and bad files named in one sentence."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lp_adapters.simulators.recording import Playback, RecordingRefused, describe, find_feeds, first_price
from lp_adapters.simulators.ticks import Tick

ROOT = Path(__file__).resolve().parents[2]
SECOND_US, HOUR_US = 1_000_000, 3_600_000_000


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_US


def lean(folder: Path, provider: str, symbol: str, date: str, *rows: str) -> None:
    place = folder / provider / symbol
    place.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place / f"{date}_quote.zip", "w") as archive:
        archive.writestr(f"{date}_{symbol}_tick_quote.csv", "\n".join(rows) + "\n")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Friday and Sunday: FXCM from 05:00 UTC, OANDA from midnight UTC, the weekend between, one symbol later."""
    lean(tmp_path, "fxcm", "eurusd", "20140502", "1000,1.38626,1.38620", "3000,1.38630,1.38640")
    lean(tmp_path, "oanda", "eurusd", "20140502", "500,1.1,1.2", "18002000,1.38694,1.38705", "18005000,1.38695,1.38706")
    lean(tmp_path, "oanda", "eurusd", "20140504", "75600000,1.38800,1.38810")
    lean(tmp_path, "oanda", "xauusd", "20140504", "75601000.4269,1300.151,1301.801")
    return tmp_path


def prices(ticks: list[Tick]) -> list[tuple[str, str, str]]:
    return [(tick.lp, tick.symbol, tick.bid) for tick in ticks]


def test_a_recording_starts_where_all_files_of_the_first_date_have_begun(recorded: Path) -> None:
    told = describe(find_feeds(recorded))
    assert told.start_us == utc("2014-05-02T05:00:01")
    assert told.symbols == ("EURUSD", "XAUUSD")
    assert told.feeds["YOFX1:EURUSD"].first_us == utc("2014-05-02T05:00:01")
    assert told.feeds["PRIMEXM:EURUSD"].first_us == utc("2014-05-02T00:00:00") + 500_000
    assert told.feeds["PRIMEXM:EURUSD"].last_us == utc("2014-05-04T21:00:00")
    assert (told.feeds["PRIMEXM:EURUSD"].count, told.feeds["PRIMEXM:EURUSD"].files) == (3 + 1, 2)
    assert told.feeds["PRIMEXM:XAUUSD"].first_us == utc("2014-05-04T21:00:01") + 426


def test_ticks_come_in_time_order_as_recorded_and_closed_hours_are_cut_out(recorded: Path) -> None:
    feeds = find_feeds(recorded)
    playback = Playback(feeds, describe(feeds).start_us)
    assert list(playback.due(-1)) == []
    first = list(playback.due(0))
    assert first == [Tick("YOFX1", "EURUSD", "1.38626", "1.38620", 5_000_000, 5_000_000)]
    assert first[0].is_crossed
    assert prices(list(playback.due(2 * SECOND_US))) == [
        ("PRIMEXM", "EURUSD", "1.38694"),
        ("YOFX1", "EURUSD", "1.38630"),
    ]
    assert playback.cut_us == 0
    rest = list(playback.due(5 * SECOND_US + 2 * SECOND_US))
    assert ("PRIMEXM", "EURUSD", "1.38800") in prices(rest)
    assert ("YOFX1", "EURUSD", "") in prices(rest), "its recording has ended, so it shows nothing any more"
    assert playback.cut_us == utc("2014-05-04T21:00:00") - utc("2014-05-02T05:00:06")
    assert playback.recorded_us >= utc("2014-05-04T21:00:00")


def test_at_its_end_a_recording_begins_again_also_for_who_comes_late(recorded: Path) -> None:
    feeds = find_feeds(recorded)
    start_us = describe(feeds).start_us
    whole = Playback(feeds, start_us)
    list(whole.due(0))
    round_us = next(at for at in range(0, HOUR_US, 100_000) if list(whole.due(at)) and whole.rounds == 1)
    assert prices(list(whole.due(round_us + 2 * SECOND_US)))[-1] == ("YOFX1", "EURUSD", "1.38630")
    late = Playback(feeds, start_us)
    newest = list(late.due(7 * round_us + 2 * SECOND_US))
    assert late.rounds >= 6
    assert ("YOFX1", "EURUSD", "1.38630") in prices(newest)
    assert len(newest) == len({(tick.lp, tick.symbol) for tick in newest})


def test_a_day_with_sizes_is_read_from_csv_gz(tmp_path: Path) -> None:
    file = tmp_path / "EURUSD_2019-02-04_ticks.csv.gz"
    with gzip.open(file, "wt") as text:
        text.write("ts_ms_utc,bid,ask,bid_vol_m,ask_vol_m\n1549238400994,1.14543,1.14545,2.06,1.0\n")
    for path in (tmp_path, file):
        feeds = find_feeds(path)
        told = describe(feeds)
        assert told.feeds["YOFX1:EURUSD"].count == 1
        ticks = list(Playback(feeds, told.start_us).due(0))
        assert ticks == [Tick("YOFX1", "EURUSD", "1.14543", "1.14545", 2_060_000, 1_000_000)]
        assert str(first_price(feeds[0])) == "1.14544"


@pytest.mark.parametrize(
    "row", ["1000,1.38626", "1000,abc,1.2", "1000,NaN,1.2", "1000,1.2,1e5", "1000,0,1.2", "-,1.1,1.2", "x"]
)
def test_a_row_that_is_no_tick_is_named(tmp_path: Path, row: str) -> None:
    lean(tmp_path, "fxcm", "eurusd", "20140502", row)
    with pytest.raises(RecordingRefused, match=r"20140502_quote\.zip has a row that is no tick"):
        describe(find_feeds(tmp_path))


def test_a_path_without_a_recording_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "broken" / "fxcm" / "eurusd").mkdir(parents=True)
    (tmp_path / "broken" / "fxcm" / "eurusd" / "20140502_quote.zip").write_bytes(b"PK nonsense")
    (tmp_path / "empty").mkdir()
    lean(tmp_path / "hollow", "oanda", "eurusd", "20140502")
    for name in ("missing", "empty", "broken", "hollow"):
        told = describe_by_command(tmp_path / name)
        assert told.returncode == 2
        assert len(told.stderr.strip().splitlines()) == 1
        assert name in told.stderr
        assert told.stdout == ""


def test_the_command_describes_in_json(recorded: Path) -> None:
    told = describe_by_command(recorded)
    assert told.returncode == 0
    answer = json.loads(told.stdout)
    assert answer["start_us"] == utc("2014-05-02T05:00:01")
    assert answer["feeds"]["PRIMEXM:XAUUSD"]["count"] == 1


def describe_by_command(path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "platform")))}
    command = (sys.executable, "-m", "lp_adapters.simulators.feed", "--describe", str(path))
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
