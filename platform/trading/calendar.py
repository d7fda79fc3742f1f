"""When a symbol trades and when the trading day turns: sessions, holidays and the rollover at 17:00 New York.

Everything a broker writes down is wall time: seconds since Sunday 00:00 on the symbol's own clock. Everything that
happens is microseconds UTC. One rule joins the two across daylight saving: a wall time means the first instant at which
that clock reads it or later. A time that the clock skips in spring is the moment of the skip, one that it shows twice
in autumn is the first of the two, so every session has one opening and one end, and sessions that touch leave no hole.

Time zone rules come from the packaged tzdata, whose version is locked with the other libraries, never from the
machine: a replay elsewhere finds the same instants. No clock is read here.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from zoneinfo import ZoneInfo

from msgspec import Struct

SECOND_US = 1_000_000
DAY_S = 86_400
WEEK_S = 7 * DAY_S
DAY_US = DAY_S * SECOND_US

SEARCH_DAYS_MAX = 400
"""How far ahead an opening or an end of session is looked for: no holiday shuts a symbol for more than a year."""

ROLLOVER_ZONE = "America/New_York"
ROLLOVER_S = 17 * 3600

EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)
"""Weekdays as `date.weekday()` numbers them, Monday is 0."""
MONDAY_TO_FRIDAY = (0, 1, 2, 3, 4)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)

Span = tuple[int, int]
"""From (inclusive) to (exclusive): seconds of a day, or microseconds UTC, as the name says."""


class SessionKind(StrEnum):
    TRADE = "trade"
    """Orders are dealt."""
    QUOTE = "quote"
    """Prices are shown."""


class Session(Struct, frozen=True, kw_only=True):
    """Seconds since Sunday 00:00 on the symbol's clock: `start` belongs to the session, `end` does not."""

    start: int
    end: int


class Holiday(Struct, frozen=True, kw_only=True):
    """A date, every year or in one `year` only, on which the symbol is shut from `start` to `end` (seconds of that day)."""

    name: str
    month: int
    day: int
    year: int | None = None
    start: int = 0
    end: int = DAY_S


ALWAYS = (Session(start=0, end=WEEK_S),)


class SessionTerms(Struct, frozen=True, kw_only=True):
    """A symbol's week. The default is always open. A holiday shuts trading and quoting alike."""

    time_zone: str = "UTC"
    trade: tuple[Session, ...] = ALWAYS
    quote: tuple[Session, ...] = ALWAYS
    holidays: tuple[Holiday, ...] = ()


class Rollover(Struct, frozen=True, kw_only=True):
    """The turn of one business date: 17:00 New York of `date` (ISO). It ends that date; the next one begins at `at_us`."""

    date: str
    at_us: int


# --- sessions ---


def is_open(terms: SessionTerms, at_us: int, kind: SessionKind = SessionKind.TRADE) -> bool:
    """Whether the symbol trades (or is quoted) at that instant."""
    if not terms.holidays and _sessions(terms, kind) == ALWAYS:
        return True
    return any(start <= at_us < end for start, end in _spans_around(terms, kind, at_us // DAY_US))


def next_open(terms: SessionTerms, at_us: int, kind: SessionKind = SessionKind.TRADE) -> int | None:
    """The first open instant from `at_us` on, which is `at_us` itself while open. None: not within SEARCH_DAYS_MAX."""
    for start, end in _spans_from(terms, kind, at_us):
        if end > at_us:
            return max(start, at_us)
    return None


def session_end(terms: SessionTerms, at_us: int, kind: SessionKind = SessionKind.TRADE) -> int | None:
    """The first shut instant after the session of `at_us`, or after the next one when the symbol is shut at `at_us`.

    Sessions that touch are one. None for a symbol that does not open, or never shuts, within SEARCH_DAYS_MAX.
    """
    if not terms.holidays and _sessions(terms, kind) == ALWAYS:
        return None
    return _end_within(terms, at_us, kind, SEARCH_DAYS_MAX)


def day_end(terms: SessionTerms, at_us: int) -> int | None:
    """When a DAY order placed at `at_us` expires: with the trade session, or with the business date if that ends first.

    Placed while the symbol is shut, the order lives through the next session. None for a symbol that does not open.
    """
    opens = next_open(terms, at_us)
    if opens is None:
        return None
    rollover = next_rollover(opens).at_us
    ends = _end_within(terms, opens, SessionKind.TRADE, days=2)
    return rollover if ends is None else min(ends, rollover)


def _end_within(terms: SessionTerms, at_us: int, kind: SessionKind, days: int) -> int | None:
    reached: int | None = None
    for start, end in _spans_from(terms, kind, at_us, days):
        if reached is not None and start > reached:
            return reached
        if end > at_us:
            reached = end
    return reached if reached is not None and reached < at_us + days * DAY_US else None


def _sessions(terms: SessionTerms, kind: SessionKind) -> tuple[Session, ...]:
    return terms.trade if kind is SessionKind.TRADE else terms.quote


def _spans_from(terms: SessionTerms, kind: SessionKind, at_us: int, days: int = SEARCH_DAYS_MAX) -> Iterator[Span]:
    """Open spans in order of time, from the local day before `at_us` on, for at least `days` days."""
    first = at_us // DAY_US + _EPOCH_ORDINAL - 1
    for ordinal in range(first, first + days + 3):
        yield from _spans_of_day(terms, kind, ordinal)


@lru_cache(maxsize=8192)
def _spans_around(terms: SessionTerms, kind: SessionKind, utc_day: int) -> tuple[Span, ...]:
    """Every open span that can touch a UTC day: a local date is at most one day away from it."""
    middle = utc_day + _EPOCH_ORDINAL
    return tuple(span for ordinal in range(middle - 1, middle + 2) for span in _spans_of_day(terms, kind, ordinal))


@lru_cache(maxsize=8192)
def _spans_of_day(terms: SessionTerms, kind: SessionKind, ordinal: int) -> tuple[Span, ...]:
    """The open spans of one local date in microseconds UTC. One that the clock skips altogether is left out."""
    day = date.fromordinal(ordinal)
    walls = _without(_walls_of_day(_sessions(terms, kind), day), _shut_walls(terms.holidays, day))
    spans = ((_instant(terms.time_zone, day, start), _instant(terms.time_zone, day, end)) for start, end in walls)
    return tuple(span for span in spans if span[0] < span[1])


def _walls_of_day(sessions: tuple[Session, ...], day: date) -> list[Span]:
    """The parts of the weekly sessions that lie in this date, as seconds of the day."""
    midnight = day.isoweekday() % 7 * DAY_S
    parts = ((max(s.start - midnight, 0), min(s.end - midnight, DAY_S)) for s in sessions)
    return sorted(part for part in parts if part[0] < part[1])


def _shut_walls(holidays: tuple[Holiday, ...], day: date) -> list[Span]:
    return [
        (h.start, h.end) for h in holidays if (h.month, h.day) == (day.month, day.day) and h.year in (None, day.year)
    ]


def _without(spans: list[Span], shut: list[Span]) -> list[Span]:
    for shut_start, shut_end in shut:
        kept = [((start, min(end, shut_start)), (max(start, shut_end), end)) for start, end in spans]
        spans = [part for pair in kept for part in pair if part[0] < part[1]]
    return spans


# --- the turn of the business date ---


def rollover_us(business_date: date) -> int:
    """17:00 New York of that date in microseconds UTC: 21:00 UTC in summer, 22:00 in winter."""
    return _instant(ROLLOVER_ZONE, business_date, ROLLOVER_S)


def rollovers_between(after_us: int, until_us: int, weekdays: tuple[int, ...] = EVERY_DAY) -> tuple[Rollover, ...]:
    """The rollovers after `after_us` up to and including `until_us`: ranges that follow each other share none.

    `weekdays` are those whose dates count. Every day counts by default, because the seven weekday multipliers of a swap
    already say what a night costs, and crypto pays at weekends too.
    """
    found = []
    day = _new_york_date(after_us)
    while (at_us := rollover_us(day)) <= until_us:
        if at_us > after_us and day.weekday() in weekdays:
            found.append(Rollover(date=day.isoformat(), at_us=at_us))
        day += timedelta(days=1)
    return tuple(found)


def next_rollover(after_us: int, weekdays: tuple[int, ...] = EVERY_DAY) -> Rollover:
    """The first rollover strictly after that instant."""
    day = business_date(after_us, weekdays)
    return Rollover(date=day.isoformat(), at_us=rollover_us(day))


def business_date(at_us: int, weekdays: tuple[int, ...] = EVERY_DAY) -> date:
    """The business date that the instant belongs to: it begins at 17:00 New York of the evening before.

    Days that do not count belong to the next one that does: with MONDAY_TO_FRIDAY, Saturday noon is Monday's.
    """
    day = _new_york_date(at_us)
    while rollover_us(day) <= at_us or day.weekday() not in weekdays:
        day += timedelta(days=1)
    return day


def _new_york_date(at_us: int) -> date:
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(_zone(ROLLOVER_ZONE)).date()


# --- wall time and instants ---


@lru_cache(maxsize=8192)
def _instant(time_zone: str, day: date, second: int) -> int:
    """The first instant (microseconds UTC) at which the zone's clock reads `second` of `day`, or later."""
    zone = _zone(time_zone)
    wall = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(seconds=second)
    first = _utc_us(wall.replace(fold=0))
    if _utc_us(wall.replace(fold=1)) >= first:
        return first
    return _skip_us(zone, earliest=_utc_us(wall.replace(fold=1)), latest=first)


def _skip_us(zone: ZoneInfo, *, earliest: int, latest: int) -> int:
    """The second at which the clock was put forward: after `earliest`, at or before `latest`."""
    offset_after = _offset(zone, latest)
    low, high = earliest // SECOND_US, latest // SECOND_US
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle * SECOND_US) == offset_after:
            high = middle
        else:
            low = middle
    return high * SECOND_US


def _utc_us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _offset(zone: ZoneInfo, at_us: int) -> timedelta | None:
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone).utcoffset()


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    """The zone out of the packaged tzdata. Raises KeyError for a name that is not there."""
    parts = name.split("/")
    if not all(part.replace("_", "").replace("-", "").replace("+", "").isalnum() for part in parts):
        raise KeyError(name)
    packaged = files("tzdata.zoneinfo").joinpath(*parts)
    if not packaged.is_file():
        raise KeyError(name)
    with packaged.open("rb") as stream:
        return ZoneInfo.from_file(stream, key=name)


# --- what may be published ---


def session_problems(symbol: str, terms: SessionTerms) -> tuple[str, ...]:
    """What is wrong with these terms, as sentences; empty when they can be published."""
    return tuple(f"{symbol}: {problem}" for problem in _problems(terms))


def _problems(terms: SessionTerms) -> Iterator[str]:
    try:
        _zone(terms.time_zone)
    except (KeyError, ValueError):
        yield f"there is no time zone {terms.time_zone!r}"
    for kind in SessionKind:
        yield from _session_problems(kind, _sessions(terms, kind))
    for holiday in terms.holidays:
        yield from _holiday_problems(holiday)


def _session_problems(kind: SessionKind, sessions: tuple[Session, ...]) -> Iterator[str]:
    for session in sessions:
        if not 0 <= session.start < session.end <= WEEK_S:
            yield f"the {kind} session {session.start}-{session.end} does not lie within a week of {WEEK_S} seconds"
    for earlier, later in pairwise(sessions):
        if later.start < earlier.end:
            yield f"the {kind} sessions {earlier.start}-{earlier.end} and {later.start}-{later.end} overlap or are not in order"


def _holiday_problems(holiday: Holiday) -> Iterator[str]:
    if not _is_date(2000 if holiday.year is None else holiday.year, holiday.month, holiday.day):
        yield f"the holiday {holiday.name!r} is on no date of the calendar"
    if not 0 <= holiday.start < holiday.end <= DAY_S:
        yield f"the holiday {holiday.name!r} does not begin and end within one day of {DAY_S} seconds"


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def weekly(days: Iterable[int], start: int, end: int) -> tuple[Session, ...]:
    """The same hours (seconds of the day) on several days, 0 is Sunday: `weekly(range(1, 6), 9 * 3600, 17 * 3600)`."""
    return tuple(Session(start=day * DAY_S + start, end=day * DAY_S + end) for day in sorted(days))
