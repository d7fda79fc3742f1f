"""One strict reading of what comes in: numbers keep their text, and everything wrong is told at once."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.http import QueryDict

from apps.doors.parsing import BODY_BYTES_MAX, DEPTH_MAX, Fields, JsonNumber, parse_json
from apps.doors.problems import Problem
from trading.refusals import Refusal


def refused(data: bytes) -> Refusal:
    with pytest.raises(Problem) as problem:
        parse_json(data)
    return problem.value.code


def test_numbers_keep_the_text_they_were_written_in() -> None:
    parsed = parse_json(b'{"a": 0.12345678901234567890, "b": 1e5, "c": 007e1}'.replace(b', "c": 007e1', b""))
    assert parsed == {"a": "0.12345678901234567890", "b": "1e5"}
    assert all(isinstance(value, JsonNumber) for value in parsed.values())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":2}}',
        b"NaN",
        b"[Infinity]",
        b"\xff",
        b'"\\ud800"',
        b'{"\\u0000":1}',
        b"01",
    ],
)
def test_what_is_not_plain_json_is_malformed(data: bytes) -> None:
    assert refused(data) is Refusal.MALFORMED_JSON


def test_nesting_is_bounded() -> None:
    assert parse_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX) is not None
    assert refused(b"[" * (DEPTH_MAX + 2) + b"]" * (DEPTH_MAX + 2)) is Refusal.MALFORMED_JSON
    assert refused(b"[" * 30_000 + b"]" * 30_000) is Refusal.MALFORMED_JSON


def test_size_is_bounded() -> None:
    text = b'"' + b"x" * (BODY_BYTES_MAX - 2) + b'"'
    assert parse_json(text) == "x" * (BODY_BYTES_MAX - 2)
    assert refused(text + b" ") is Refusal.REQUEST_TOO_LARGE


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.10", Decimal("0.10")), (JsonNumber("0.1"), Decimal("0.1")), ("-1", Decimal(-1)), ("7", Decimal(7))],
)
def test_a_decimal_is_plain_text_or_a_plain_number(value: str, expected: Decimal) -> None:
    fields = Fields({"x": value}, known=("x",))
    assert fields.decimal("x", Refusal.INVALID_VOLUME) == expected
    fields.done()


@pytest.mark.parametrize("value", [None, True, 1, 1.5, [1], {}, "1e5", "NaN", "1_000", " 5", "+1", "٣", "", "1" * 19])
def test_anything_else_is_not_a_decimal(value: Any) -> None:
    fields = Fields({"x": value}, known=("x",))
    fields.decimal("x", Refusal.INVALID_VOLUME)
    with pytest.raises(Problem) as problem:
        fields.done()
    assert problem.value.code is Refusal.INVALID_VOLUME


def test_one_error_has_its_own_code_and_several_are_an_invalid_request() -> None:
    one = Fields({"volume": "x"}, known=("volume",))
    one.decimal("volume", Refusal.INVALID_VOLUME)
    two = Fields({"volume": "x", "odd": 1}, known=("volume",))
    two.decimal("volume", Refusal.INVALID_VOLUME)
    for fields, code, pointers in (
        (one, Refusal.INVALID_VOLUME, ["/volume"]),
        (two, Refusal.INVALID_REQUEST, ["/odd", "/volume"]),
    ):
        with pytest.raises(Problem) as problem:
            fields.done()
        assert problem.value.code is code
        assert [error["pointer"] for error in problem.value.errors] == pointers


def test_an_absent_field_has_its_default_and_null_has_not() -> None:
    fields = Fields({"a": None}, known=("a", "b"))
    assert fields.text("b", default="none") == "none"
    fields.text("a", default="none")
    with pytest.raises(Problem):
        fields.done()


def test_a_query_parameter_given_twice_is_refused() -> None:
    fields = Fields(QueryDict("a=1&a=2"), known=("a",))
    assert [error["pointer"] for error in fields.errors] == ["/a"]


@pytest.mark.parametrize("name", ["\x00", "a\nb", "x" * 100])
def test_an_unknown_fields_name_is_not_echoed_when_it_is_odd(name: str) -> None:
    assert Fields({name: 1}, known=()).errors[0]["pointer"] == "/?"


def test_an_inner_object_tells_its_errors_with_the_outer_ones() -> None:
    fields = Fields({"stop_loss": {"distance": "x", "odd": 1}, "side": "up"}, known=("stop_loss", "side"))
    fields.choice("side", ("buy", "sell"))
    inner = fields.inner("stop_loss", known=("price", "distance"))
    assert inner is not None
    assert inner.whole("distance") == 0
    with pytest.raises(Problem) as problem:
        fields.done()
    assert [error["pointer"] for error in problem.value.errors] == ["/side", "/stop_loss/odd", "/stop_loss/distance"]


@pytest.mark.parametrize(("value", "errors"), [(None, 0), ("text", 1), ([], 1), (JsonNumber("1"), 1)])
def test_what_is_no_object_has_no_inside(value: Any, errors: int) -> None:
    fields = Fields({"x": value}, known=("x",))
    assert fields.inner("x", known=()) is None
    assert len(fields.errors) == errors
    assert fields.given("x")
    assert not fields.given("y")


@pytest.mark.parametrize(("value", "taken"), [("0", False), ("1", True), ("5", True), ("6", False), ("1.0", False)])
def test_a_whole_number_keeps_its_bounds(value: str, taken: bool) -> None:
    fields = Fields({"x": JsonNumber(value)}, known=("x",))
    fields.whole("x", least=1, most=5, code=Refusal.INVALID_STOPS)
    assert [error["code"] for error in fields.errors] == ([] if taken else ["invalid_stops"])


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5Z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.000001Z", datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_moment_is_utc_to_the_microsecond(text: str, at: datetime) -> None:
    fields = Fields({"x": text}, known=("x",))
    assert fields.moment("x", Refusal.INVALID_EXPIRATION) == at
    fields.done()
