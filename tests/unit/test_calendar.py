"""Sessions, holidays and rollovers as a dealer's diary reads them, through clock changes in both directions."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.calendar import (
    ALWAYS,
    DAY_S,
    EVERY_DAY,
    MONDAY_TO_FRIDAY,
    WEEK_S,
    Holiday,
    Session,
    SessionKind,
    SessionTerms,
    business_date,
    day_end,
    is_open,
    next_open,
    next_rollover,
    rollover_us,
    rollovers_between,
    session_end,
    session_problems,
    weekly,
)

NEW_YORK = "America/New_York"
HOUR = 3600


def at(text: str, zone: str = NEW_YORK) -> int:
    """`2026-11-20 17:00` on that zone's clock, in microseconds UTC; `+` before the zone's second showing of the hour."""
    second = text.startswith("+")
    wall = datetime.fromisoformat(text.lstrip("+")).replace(tzinfo=ZoneInfo(zone), fold=int(second))
    return (wall - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


FX = SessionTerms(time_zone=NEW_YORK, trade=(Session(start=17 * HOUR, end=5 * DAY_S + 17 * HOUR),))
"""Sunday 17:00 to Friday 17:00 New York."""

SHARES = SessionTerms(
    time_zone=NEW_YORK,
    trade=weekly(range(1, 6), 9 * HOUR + 1800, 16 * HOUR),
    quote=weekly(range(1, 6), 4 * HOUR, 20 * HOUR),
    holidays=(
        Holiday(name="Christmas", month=12, day=25),
        Holiday(name="Thanksgiving", year=2026, month=11, day=26),
        Holiday(name="the day after Thanksgiving, shut from 13:00", year=2026, month=11, day=27, start=13 * HOUR),
    ),
)


@pytest.mark.parametrize(
    ("terms", "moment", "expected"),
    [
        (FX, "2026-11-22 16:59:59.999999", False),
        (FX, "2026-11-22 17:00", True),  # the start belongs to the session
        (FX, "2026-11-25 00:00", True),
        (FX, "2026-11-27 16:59:59.999999", True),
        (FX, "2026-11-27 17:00", False),  # the end does not
        (FX, "2026-11-28 12:00", False),
        (SHARES, "2026-11-25 09:29:59", False),
        (SHARES, "2026-11-25 09:30", True),
        (SHARES, "2026-11-25 16:00", False),
        (SHARES, "2026-11-26 12:00", False),  # a whole holiday
        (SHARES, "2025-11-26 12:00", True),  # which is of 2026 only
        (SHARES, "2026-11-27 12:59:59", True),  # part of a day
        (SHARES, "2026-11-27 13:00", False),
        (SHARES, "2025-12-25 12:00", False),  # every year
        (SHARES, "2026-12-25 12:00", False),
        (SHARES, "2026-12-24 12:00", True),
    ],
)
def test_a_symbol_is_open_by_its_own_clock(terms: SessionTerms, moment: str, expected: bool) -> None:
    assert is_open(terms, at(moment)) is expected


def test_quotes_have_hours_of_their_own() -> None:
    early = at("2026-11-25 04:30")
    assert not is_open(SHARES, early)
    assert is_open(SHARES, early, SessionKind.QUOTE)
    assert not is_open(SHARES, at("2026-11-26 04:30"), SessionKind.QUOTE)


def test_without_terms_a_symbol_is_always_open() -> None:
    terms = SessionTerms()
    for moment in (0, at("2026-11-28 12:00"), at("2040-02-29 00:00")):
        assert is_open(terms, moment)
        assert is_open(terms, moment, SessionKind.QUOTE)
        assert next_open(terms, moment) == moment
        assert session_end(terms, moment) is None


@pytest.mark.parametrize(
    ("terms", "moment", "opens", "ends"),
    [
        (FX, "2026-11-25 12:00", "2026-11-25 12:00", "2026-11-27 17:00"),
        (FX, "2026-11-28 12:00", "2026-11-29 17:00", "2026-12-04 17:00"),
        (FX, "2026-11-27 17:00", "2026-11-29 17:00", "2026-12-04 17:00"),
        (SHARES, "2026-11-25 17:00", "2026-11-27 09:30", "2026-11-27 13:00"),  # over Thanksgiving, to the half day
        (SHARES, "2026-11-27 13:00", "2026-11-30 09:30", "2026-11-30 16:00"),
    ],
)
def test_the_next_opening_and_the_end_of_the_session(terms: SessionTerms, moment: str, opens: str, ends: str) -> None:
    assert next_open(terms, at(moment)) == at(opens)
    assert session_end(terms, at(moment)) == at(ends)


@pytest.mark.parametrize(
    ("terms", "moment", "expires"),
    [
        (FX, "2026-11-25 12:00", "2026-11-25 17:00"),  # the session lasts all week, the business date does not
        (FX, "2026-11-25 17:00", "2026-11-26 17:00"),
        (FX, "2026-11-28 12:00", "2026-11-30 17:00"),  # placed on Saturday: it lives through Monday's business date
        (SHARES, "2026-11-25 12:00", "2026-11-25 16:00"),
        (SHARES, "2026-11-25 16:30", "2026-11-27 13:00"),  # placed after hours before the holiday
        (SessionTerms(), "2026-11-28 12:00", "2026-11-28 17:00"),
        (SessionTerms(), "2026-11-28 18:00", "2026-11-29 17:00"),
    ],
)
def test_a_day_order_ends_with_the_session_or_the_business_date(terms: SessionTerms, moment: str, expires: str) -> None:
    assert day_end(terms, at(moment)) == at(expires)


def test_a_symbol_that_never_opens_has_no_times() -> None:
    terms = SessionTerms(trade=())
    assert not is_open(terms, 0)
    assert next_open(terms, 0) is None
    assert session_end(terms, 0) is None
    assert day_end(terms, 0) is None


def test_a_holiday_ends_what_would_else_never_end() -> None:
    crypto = SessionTerms(holidays=(Holiday(name="maintenance", year=2026, month=12, day=1, start=0, end=HOUR),))
    assert session_end(crypto, at("2026-11-25 12:00", "UTC")) == at("2026-12-01 00:00", "UTC")
    assert next_open(crypto, at("2026-12-01 00:30", "UTC")) == at("2026-12-01 01:00", "UTC")
    assert session_end(crypto, at("2026-12-01 01:00", "UTC")) is None


def test_a_recurring_leap_day_is_kept_in_leap_years_only() -> None:
    terms = SessionTerms(holidays=(Holiday(name="leap day", month=2, day=29),))
    assert not is_open(terms, at("2028-02-29 12:00", "UTC"))
    assert is_open(terms, at("2027-02-28 12:00", "UTC"))
    assert is_open(terms, at("2027-03-01 12:00", "UTC"))


def test_a_session_that_begins_in_the_skipped_hour_opens_at_the_skip() -> None:
    # On 8 March 2026 New York goes from 02:00 to 03:00: there is no 02:30.
    terms = SessionTerms(time_zone=NEW_YORK, trade=(Session(start=2 * HOUR + 1800, end=4 * HOUR),))
    skip = at("2026-03-08 03:00")
    assert not is_open(terms, skip - 1)
    assert is_open(terms, skip)
    assert next_open(terms, skip - 1) == skip
    assert session_end(terms, skip) == at("2026-03-08 04:00")


def test_a_session_that_lies_in_the_skipped_hour_does_not_happen() -> None:
    terms = SessionTerms(time_zone=NEW_YORK, trade=(Session(start=2 * HOUR, end=3 * HOUR),))
    assert next_open(terms, at("2026-03-07 12:00")) == at("2026-03-15 02:00")


def test_an_hour_that_is_shown_twice_opens_and_ends_once() -> None:
    # On 1 November 2026 New York shows 01:00 to 02:00 twice.
    terms = SessionTerms(time_zone=NEW_YORK, trade=(Session(start=HOUR, end=HOUR + 1800),))
    assert is_open(terms, at("2026-11-01 01:15"))
    assert not is_open(terms, at("2026-11-01 01:45"))
    assert not is_open(terms, at("+2026-11-01 01:15"))
    across = SessionTerms(time_zone=NEW_YORK, trade=(Session(start=HOUR + 1800, end=2 * HOUR),))
    assert is_open(across, at("2026-11-01 01:45"))
    assert is_open(across, at("+2026-11-01 01:15"))
    assert session_end(across, at("2026-11-01 01:45")) == at("2026-11-01 02:00")


def test_sessions_that_touch_are_one_through_every_clock_change() -> None:
    daily = SessionTerms(time_zone=NEW_YORK, trade=weekly(range(7), 0, DAY_S))
    assert session_end(daily, at("2026-03-01 00:00")) is None
    assert is_open(daily, at("2026-03-08 00:00") - 1)
    assert is_open(daily, at("+2026-11-01 01:59:59"))


ZONES = (NEW_YORK, "Europe/London", "Asia/Tokyo", "Australia/Sydney", "America/Sao_Paulo", "Europe/Athens", "UTC")


@st.composite
def session_terms(draw: st.DrawFn) -> SessionTerms:
    bounds = sorted(draw(st.sets(st.integers(0, WEEK_S // 60), min_size=2, max_size=10)))
    sessions = tuple(Session(start=a * 60, end=b * 60) for a, b in list(pairwise(bounds))[::2])
    holidays = draw(
        st.lists(
            st.builds(
                lambda d, part: Holiday(name="h", month=d.month, day=d.day, start=min(part), end=max(part) + 60),
                st.dates(date(2015, 1, 1), date(2015, 12, 31)),
                st.tuples(st.integers(0, DAY_S - 60), st.integers(0, DAY_S - 60)),
            ),
            max_size=3,
        )
    )
    return SessionTerms(time_zone=draw(st.sampled_from(ZONES)), trade=sessions, holidays=tuple(holidays))


MOMENTS = st.integers(at("2015-01-01 00:00", "UTC") // 1_000_000, at("2035-01-01 00:00", "UTC") // 1_000_000)


def reads_open(terms: SessionTerms, wall: datetime) -> bool:
    """The slow, obvious answer: look at the clock on the wall."""
    second = wall.hour * HOUR + wall.minute * 60 + wall.second
    week_second = wall.isoweekday() % 7 * DAY_S + second
    shut = any((h.month, h.day) == (wall.month, wall.day) and h.start <= second < h.end for h in terms.holidays)
    return not shut and any(s.start <= week_second < s.end for s in terms.trade)


@given(terms=session_terms(), second=MOMENTS)
def test_open_is_what_the_wall_clock_says(terms: SessionTerms, second: int) -> None:
    wall = datetime.fromtimestamp(second, ZoneInfo(terms.time_zone))
    if not wall.fold:  # the second showing of an hour has a rule of its own, told above
        assert is_open(terms, second * 1_000_000) is reads_open(terms, wall)


@given(terms=session_terms(), second=MOMENTS)
def test_openings_and_ends_are_edges(terms: SessionTerms, second: int) -> None:
    now = second * 1_000_000
    opens = next_open(terms, now)
    assert opens is not None
    assert is_open(terms, opens)
    assert (opens == now) is is_open(terms, now)
    assert opens == now or not is_open(terms, opens - 1)
    ends = session_end(terms, now)
    if ends is not None:
        assert ends > opens
        assert is_open(terms, ends - 1)
        assert not is_open(terms, ends)
        assert session_end(terms, opens) == ends
    expires = day_end(terms, now)
    assert expires is not None
    assert opens < expires <= next_rollover(opens).at_us
    assert is_open(terms, expires - 1)


# --- rollover ---


@pytest.mark.parametrize(
    ("day", "utc"),
    [
        ("2026-03-06", "2026-03-06 22:00"),  # Friday before the clock goes forward: winter time
        ("2026-03-07", "2026-03-07 22:00"),
        ("2026-03-08", "2026-03-08 21:00"),  # the Sunday of the change
        ("2026-10-31", "2026-10-31 21:00"),
        ("2026-11-01", "2026-11-01 22:00"),  # and back
        ("2024-02-29", "2024-02-29 22:00"),  # a leap day is a date like any other
    ],
)
def test_rollover_is_at_17_00_new_york(day: str, utc: str) -> None:
    assert rollover_us(date.fromisoformat(day)) == at(utc, "UTC")


def test_every_date_of_sixty_years_has_one_rollover() -> None:
    first, last = date(2000, 1, 1), date(2059, 12, 31)
    found = rollovers_between(rollover_us(first) - 1, rollover_us(last))
    dates = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    assert [rollover.date for rollover in found] == dates
    hours = [(later.at_us - earlier.at_us) / 3_600_000_000 for earlier, later in pairwise(found)]
    assert set(hours) == {23, 24, 25}
    assert hours.count(23) == hours.count(25) == 60
    zone = ZoneInfo(NEW_YORK)
    for rollover in found:
        wall = datetime.fromtimestamp(rollover.at_us // 1_000_000, zone)
        assert (wall.date().isoformat(), wall.hour, wall.minute) == (rollover.date, 17, 0)


@given(
    first=st.dates(date(2010, 1, 1), date(2035, 1, 1)),
    steps=st.lists(st.tuples(st.integers(0, 200), st.sampled_from([-1, 0, 1])), min_size=1, max_size=6),
)
def test_ranges_that_follow_each_other_share_no_rollover_and_miss_none(
    first: date, steps: list[tuple[int, int]]
) -> None:
    days = [first + timedelta(days=sum(days for days, _ in steps[: n + 1])) for n in range(len(steps))]
    cuts = sorted(rollover_us(day) + shift for day, (_, shift) in zip(days, steps, strict=True))
    pieces = [rollover for a, b in pairwise(cuts) for rollover in rollovers_between(a, b)]
    assert pieces == list(rollovers_between(cuts[0], cuts[-1]))
    assert len(pieces) == (days[-1] - days[0]).days + (cuts[-1] >= rollover_us(days[-1])) - (
        cuts[0] >= rollover_us(days[0])
    )


def test_a_range_leaves_out_its_beginning_and_includes_its_end() -> None:
    turn = rollover_us(date(2026, 11, 20))
    assert rollovers_between(turn - 1, turn)[0].date == "2026-11-20"
    assert rollovers_between(turn, turn + 1) == ()
    assert rollovers_between(turn, turn) == ()


def test_only_the_weekdays_asked_for_count() -> None:
    week = (at("2026-11-20 12:00"), at("2026-11-24 12:00"))  # Friday to Tuesday
    assert [r.date for r in rollovers_between(*week)] == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]
    assert [r.date for r in rollovers_between(*week, MONDAY_TO_FRIDAY)] == ["2026-11-20", "2026-11-23"]


@pytest.mark.parametrize(
    ("moment", "weekdays", "expected"),
    [
        ("2026-11-20 16:59:59", EVERY_DAY, "2026-11-20"),
        ("2026-11-20 17:00", EVERY_DAY, "2026-11-21"),
        ("2026-11-20 17:00", MONDAY_TO_FRIDAY, "2026-11-23"),
        ("2026-11-21 12:00", MONDAY_TO_FRIDAY, "2026-11-23"),
        ("2026-11-22 17:00", MONDAY_TO_FRIDAY, "2026-11-23"),
        ("2026-11-23 17:00", MONDAY_TO_FRIDAY, "2026-11-24"),
    ],
)
def test_the_business_date_turns_at_17_00(moment: str, weekdays: tuple[int, ...], expected: str) -> None:
    assert business_date(at(moment), weekdays).isoformat() == expected
    assert next_rollover(at(moment), weekdays).date == expected


@given(second=MOMENTS)
def test_a_moment_lies_between_two_rollovers_of_its_business_date(second: int) -> None:
    day = business_date(second * 1_000_000)
    assert rollover_us(day - timedelta(days=1)) <= second * 1_000_000 < rollover_us(day)


# --- publishing ---


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (SessionTerms(time_zone="New York"), "there is no time zone 'New York'"),
        (SessionTerms(time_zone="America"), "there is no time zone 'America'"),
        (SessionTerms(time_zone="../zone.tab"), "there is no time zone '../zone.tab'"),
        (SessionTerms(time_zone=""), "there is no time zone ''"),
        (SessionTerms(trade=(Session(start=10, end=10),)), "the trade session 10-10 does not lie within a week"),
        (SessionTerms(quote=(Session(start=-1, end=10),)), "the quote session -1-10 does not lie within a week"),
        (SessionTerms(trade=(Session(start=0, end=WEEK_S + 1),)), "does not lie within a week of 604800 seconds"),
        (SessionTerms(trade=(Session(start=5, end=9), Session(start=8, end=12))), "5-9 and 8-12 overlap"),
        (SessionTerms(trade=(Session(start=5, end=9), Session(start=1, end=3))), "or are not in order"),
        (SessionTerms(holidays=(Holiday(name="x", month=2, day=30),)), "'x' is on no date"),
        (SessionTerms(holidays=(Holiday(name="x", month=2, day=29, year=2026),)), "'x' is on no date"),
        (SessionTerms(holidays=(Holiday(name="x", month=1, day=1, start=9, end=9),)), "begin and end within one day"),
        (SessionTerms(holidays=(Holiday(name="x", month=1, day=1, end=DAY_S + 1),)), "begin and end within one day"),
    ],
)
def test_terms_that_make_no_sense_are_not_published(terms: SessionTerms, sentence: str) -> None:
    problems = session_problems("EURUSD", terms)
    assert len(problems) == 1
    assert problems[0].startswith("EURUSD: ")
    assert sentence in problems[0]


def test_sound_terms_are_published() -> None:
    for terms in (SessionTerms(), FX, SHARES, SessionTerms(trade=ALWAYS, time_zone="America/Port-au-Prince")):
        assert session_problems("EURUSD", terms) == ()
