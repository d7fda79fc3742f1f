"""Recorded ticks of real providers, read as they are needed: files in, ticks with their place in time out. Reads files only.

Two layouts are known. `{fxcm,oanda}/{symbol}/YYYYMMDD_quote.zip` holds csv `ms_since_midnight,bid,ask`; FXCM counts from
midnight UTC-5, OANDA from midnight UTC. `{SYMBOL}_{date}_ticks.csv.gz` holds `ts_ms_utc,bid,ask,bid_vol_m,ask_vol_m`.
FXCM's prices become YOFX1's and OANDA's PRIMEXM's; the second layout has one provider, YOFX1.

Time: a recording starts where all files of its first date have begun, hours in which no file has a tick are cut out, and
at its end it begins again. The place of a tick is the time since the start without what was cut out. So business time, which
runs on without jumps, agrees with the recording until the first cut, and runs behind it by what was cut from then on.
"""

import gzip
import heapq
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path

from msgspec import Struct

from lp_adapters.simulators.profiles import INSTRUMENTS
from lp_adapters.simulators.ticks import Tick, withdrawal
from trading.numbers import NumberRefused, parse_decimal

HOUR_US = 3_600_000_000
CLOSED_US_MIN = HOUR_US
"""A longer silence of all files means that the market was closed."""
WITHDRAWN_AFTER_US = 3_000_000
"""A provider whose recording of a symbol has ended shows it no longer."""
SIZE_UNKNOWN, OUNCES_UNKNOWN = 5_000_000, 5_000
"""The zips have no sizes: each top stands for so many units of base."""
PROVIDERS = {"fxcm": ("YOFX1", -5), "oanda": ("PRIMEXM", 0)}
"""Folder to provider, and the hours by which its midnight differs from UTC's."""
COLUMNS_GZ = "ts_ms_utc,bid,ask,bid_vol_m,ask_vol_m"
MILLION = 1_000_000
_ZIP_NAME = re.compile(r"([0-9]{8})_quote\.zip", re.ASCII)
_GZ_NAME = re.compile(r"([A-Z]{6})_([0-9]{4})-([0-9]{2})-([0-9]{2})_ticks\.csv\.gz", re.ASCII)

Timed = tuple[int, Tick]
"""Microseconds since 1970, and the price."""


class RecordingRefused(ValueError):
    """There is no recording at the path, or a file of it cannot be read: one sentence that names it."""


class DayFile(Struct, frozen=True):
    """One file: one symbol of one provider on one date."""

    path: Path
    date: str
    midnight_us: int
    """What its times count from."""


class Feed(Struct, frozen=True):
    """One symbol of one provider, all dates in order."""

    lp: str
    symbol: str
    files: tuple[DayFile, ...]


class Span(Struct, frozen=True):
    """What a feed holds."""

    first_us: int
    last_us: int
    count: int
    files: int


class Description(Struct, frozen=True):
    """A recording at a glance; feeds are named `LP:SYMBOL`."""

    start_us: int
    symbols: tuple[str, ...]
    feeds: dict[str, Span]


# -------------------------------------------------------------------------------------------------------------- finding


def find_feeds(path: Path) -> tuple[Feed, ...]:
    """The feeds at `path`. Raises RecordingRefused when there are none."""
    if not path.exists():
        raise RecordingRefused(f"there is nothing at {path}")
    feeds = tuple(chain(_zip_feeds(path), _gz_feeds(path)))
    known = tuple(feed for feed in feeds if feed.symbol in INSTRUMENTS)
    if not known:
        raise RecordingRefused(
            f"{path} holds no recording: neither {{fxcm,oanda}}/SYMBOL/YYYYMMDD_quote.zip nor SYMBOL_YYYY-MM-DD_ticks.csv.gz"
            " of a symbol that the simulated providers have"
        )
    if len({(feed.lp, feed.symbol) for feed in known}) < len(known):
        raise RecordingRefused(f"{path} holds two recordings of the same symbol and provider")
    return known


def _zip_feeds(path: Path) -> Iterator[Feed]:
    for folder, (lp, hours) in PROVIDERS.items():
        for place in sorted((path / folder).glob("*/")) if path.is_dir() else ():
            matched = ((file, _ZIP_NAME.fullmatch(file.name)) for file in sorted(place.iterdir()))
            files = tuple(DayFile(file, m[1], _midnight_us(file, m[1], hours)) for file, m in matched if m)
            if files:
                yield Feed(lp, place.name.upper(), files)


def _gz_feeds(path: Path) -> Iterator[Feed]:
    by_symbol: dict[str, list[DayFile]] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else (path,):
        matched = _GZ_NAME.fullmatch(file.name)
        if matched:
            by_symbol.setdefault(matched[1], []).append(DayFile(file, "".join(matched.groups()[1:]), 0))
    for symbol, files in by_symbol.items():
        yield Feed("YOFX1", symbol, tuple(files))


def _midnight_us(file: Path, date: str, hours: int) -> int:
    try:
        midnight = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise RecordingRefused(f"{file} is not named after a date") from error
    return int(midnight.timestamp()) * MILLION - hours * HOUR_US


# -------------------------------------------------------------------------------------------------------------- reading


def describe(feeds: tuple[Feed, ...]) -> Description:
    """Where each feed begins and ends and how much it holds, from first and last lines. Raises RecordingRefused."""
    first_date = min(feed.files[0].date for feed in feeds)
    starts = [_first_us(feed, feed.files[0]) for feed in feeds if feed.files[0].date == first_date]
    return Description(
        start_us=max(starts),
        symbols=tuple(sorted({feed.symbol for feed in feeds})),
        feeds={f"{feed.lp}:{feed.symbol}": _span(feed) for feed in feeds},
    )


def _span(feed: Feed) -> Span:
    counts_and_lasts = [_count_and_last(feed, file) for file in feed.files]
    return Span(
        first_us=_first_us(feed, feed.files[0]),
        last_us=counts_and_lasts[-1][1],
        count=sum(count for count, _ in counts_and_lasts),
        files=len(feed.files),
    )


def first_price(feed: Feed) -> Decimal:
    """The mid of a feed's first tick."""
    tick = next(_rows(feed, feed.files[0]))[1]
    return (parse_decimal(tick.bid) + parse_decimal(tick.ask)) / 2


def _first_us(feed: Feed, file: DayFile) -> int:
    return next(_rows(feed, file))[0]


def _count_and_last(feed: Feed, file: DayFile) -> tuple[int, int]:
    """Rows of a file and the instant of its last, without taking the others apart."""
    with _opened(file) as stream:
        lines = [line for line in stream.read().splitlines() if line]
    if lines[:1] == [COLUMNS_GZ]:
        del lines[0]
    if not lines:
        raise RecordingRefused(f"{file.path} is empty")
    return len(lines), _row(feed, file, lines[-1])[0]


def ticks_of(feed: Feed) -> Iterator[Timed]:
    """A feed's ticks in order, and its withdrawal at the end. Raises RecordingRefused at a row that is none."""
    at_us = 0
    for file in feed.files:
        for at_us, tick in _rows(feed, file):
            yield at_us, tick
    yield at_us + WITHDRAWN_AFTER_US, withdrawal(feed.lp, feed.symbol)


def _rows(feed: Feed, file: DayFile) -> Iterator[Timed]:
    empty = True
    with _opened(file) as stream:
        for line in stream:
            text = line.rstrip("\r\n")
            if not text or text == COLUMNS_GZ:
                continue
            empty = False
            yield _row(feed, file, text)
    if empty:
        raise RecordingRefused(f"{file.path} is empty")


def _row(feed: Feed, file: DayFile, line: str) -> Timed:
    """Prices are passed on as text once they have been read as numbers."""
    try:
        ms, bid, ask, *sizes = line.split(",")
        at_us = file.midnight_us + int(parse_decimal(ms) * 1000)
        if parse_decimal(bid) <= 0 or parse_decimal(ask) <= 0:
            raise NumberRefused("a price is not above zero")
        bid_size, ask_size = (int(parse_decimal(size) * MILLION) for size in sizes) if sizes else _unknown(feed.symbol)
    except ValueError as error:
        raise RecordingRefused(f"{file.path} has a row that is no tick: {line[:80]!r} ({error})") from error
    return at_us, Tick(feed.lp, feed.symbol, bid, ask, bid_size, ask_size)


def _unknown(symbol: str) -> tuple[int, int]:
    size = OUNCES_UNKNOWN if symbol == "XAUUSD" else SIZE_UNKNOWN
    return size, size


@contextmanager
def _opened(file: DayFile) -> Iterator[io.TextIOBase]:
    try:
        if file.path.suffix == ".zip":
            with zipfile.ZipFile(file.path) as archive:
                inside = archive.namelist()
                if len(inside) != 1:
                    raise RecordingRefused(f"{file.path} holds {len(inside)} files instead of one")
                with archive.open(inside[0]) as raw:
                    yield io.TextIOWrapper(raw, encoding="ascii")
        else:
            with gzip.open(file.path, "rt", encoding="ascii") as text:
                yield text
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, UnicodeDecodeError) as error:
        raise RecordingRefused(f"{file.path} cannot be read: {error}") from error


# -------------------------------------------------------------------------------------------------------------- playing


class Playback:
    """A recording played along a position that only grows: microseconds since the start, closed hours cut out."""

    def __init__(self, feeds: tuple[Feed, ...], start_us: int) -> None:
        self._feeds = feeds
        self._start_us = start_us
        self._round_us = 0
        """Position at which the current round began."""
        self._last_us = 0
        """Position of the tick read last."""
        self._ticks = self._placed()
        self._next: Timed | None = None
        self._is_behind = True
        self.recorded_us = start_us
        """The recording's own time of the newest tick handed out."""
        self.cut_us = 0
        """Closed hours that this round has cut out so far."""
        self.rounds = 0

    def due(self, position_us: int) -> Iterator[Tick]:
        """Every tick up to the position that was not handed out before.

        The first call may start far inside the recording: it hands out the newest price of each feed alone.
        """
        if not self._is_behind:
            yield from self._until(position_us)
            return
        self._is_behind = False
        newest = {(tick.lp, tick.symbol): tick for tick in self._until(position_us)}
        yield from newest.values()

    def _until(self, position_us: int) -> Iterator[Tick]:
        while True:
            if self._next is None:
                self._next = next(self._ticks, None) or self._again(position_us)
            if self._next[0] > position_us:
                return
            tick, self._next = self._next[1], None
            yield tick

    def _again(self, position_us: int) -> Timed:
        """Begin the next round where this one ended, passing over whole rounds that have gone by meanwhile."""
        length_us = self._last_us - self._round_us
        passed = max(0, position_us - self._last_us) // length_us
        self._round_us = self._last_us + passed * length_us
        self.rounds += 1 + passed
        self._ticks = self._placed()
        return next(self._ticks)

    def _placed(self) -> Iterator[Timed]:
        """One round: every tick from the start on, with its position."""
        self.cut_us = 0
        before_us = self._start_us
        for at_us, tick in heapq.merge(*map(ticks_of, self._feeds), key=lambda timed: timed[0]):
            if at_us < self._start_us:
                continue
            if at_us - before_us > CLOSED_US_MIN:
                self.cut_us += at_us - before_us
            before_us = max(before_us, at_us)
            self.recorded_us = at_us
            self._last_us = self._round_us + before_us - self._start_us - self.cut_us
            yield self._last_us, tick
