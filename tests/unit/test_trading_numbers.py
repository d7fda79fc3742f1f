"""What gets past the door as a number, and where each rounding goes."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.numbers import (
    NumberRefused,
    floor_to_step,
    is_on_step,
    is_plain,
    parse_decimal,
    plain,
    point,
    round_half_up,
    round_to_step,
    round_up,
)


@pytest.mark.parametrize(
    "text",
    ["0", "1", "0.10", "-3.50", "007", "999999999999999999", "0.0000000001", "-999999999999999999.9999999999"],
)
def test_plain_decimals_are_read_exactly(text: str) -> None:
    assert parse_decimal(text) == Decimal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "--1",
        "1.",
        ".5",
        "1,5",
        "1_000",
        "1e5",
        "1E1000000",
        "NaN",
        "sNaN",
        "Infinity",
        "-inf",
        "0x10",
        "1.2.3",
        "١٢",
        "１",
        "²",
        "−1",
        "1" * 19,
        "0." + "1" * 11,
        "1" * 100_000,
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(NumberRefused):
        parse_decimal(text)


@pytest.mark.parametrize("not_text", [1, 1.5, None, True, ["1"], b"1"])
def test_what_is_not_text_is_refused(not_text: object) -> None:
    with pytest.raises(NumberRefused):
        parse_decimal(not_text)  # type: ignore[arg-type]


@given(st.text())
def test_whatever_is_accepted_is_plain_and_reads_back(text: str) -> None:
    try:
        value = parse_decimal(text)
    except NumberRefused:
        return
    assert is_plain(value)
    assert parse_decimal(plain(value)) == value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1", True),
        ("-1.5", True),
        ("0", True),
        ("999999999999999999.9999999999", True),
        ("1000000000000000000", False),
        ("1E+17", True),
        ("1E+18", False),
        ("0.0000000001", True),
        ("0.00000000001", False),
        ("1E+1000000", False),
        ("NaN", False),
        ("Infinity", False),
    ],
)
def test_a_plain_number_fits_the_database(text: str, answer: bool) -> None:
    assert is_plain(Decimal(text)) is answer


@pytest.mark.parametrize(
    ("value", "shown"), [("1E+3", "1000"), ("1.50", "1.50"), ("1E-8", "0.00000001"), ("-0.1", "-0.1")]
)
def test_numbers_are_shown_without_exponents(value: str, shown: str) -> None:
    assert plain(Decimal(value)) == shown


def test_a_point_is_the_last_decimal() -> None:
    assert [point(digits) for digits in (0, 2, 5)] == [Decimal(1), Decimal("0.01"), Decimal("0.00001")]


@pytest.mark.parametrize(
    ("value", "half_up", "up"),
    [
        ("1.004", "1.00", "1.01"),
        ("1.005", "1.01", "1.01"),
        ("1.0049999", "1.00", "1.01"),
        ("1.00", "1.00", "1.00"),
        ("2.675", "2.68", "2.68"),
        ("-1.005", "-1.01", "-1.00"),
        ("-1.004", "-1.00", "-1.00"),
    ],
)
def test_money_rounds_halves_away_from_zero_and_margin_rounds_up(value: str, half_up: str, up: str) -> None:
    assert round_half_up(Decimal(value), 2) == Decimal(half_up)
    assert round_up(Decimal(value), 2) == Decimal(up)


@pytest.mark.parametrize(
    ("value", "step", "nearest", "floor"),
    [
        ("0.006", "0.01", "0.01", "0.00"),
        ("0.005", "0.01", "0.01", "0.00"),
        ("0.0049", "0.01", "0.00", "0.00"),
        ("0.90", "0.01", "0.90", "0.90"),
        ("0.75", "0.5", "1.0", "0.5"),
        ("0.74", "0.5", "0.5", "0.5"),
        ("0.05", "0.03", "0.06", "0.03"),
    ],
)
def test_volumes_round_to_whole_steps(value: str, step: str, nearest: str, floor: str) -> None:
    assert round_to_step(Decimal(value), Decimal(step)) == Decimal(nearest)
    assert floor_to_step(Decimal(value), Decimal(step)) == Decimal(floor)


@given(
    value=st.decimals(min_value=0, max_value=1000, places=6),
    step=st.sampled_from([Decimal("0.001"), Decimal("0.01"), Decimal("0.03"), Decimal("0.25"), Decimal(1)]),
)
def test_rounded_volumes_are_on_the_step_and_near(value: Decimal, step: Decimal) -> None:
    nearest, floor = round_to_step(value, step), floor_to_step(value, step)
    assert is_on_step(nearest, step)
    assert is_on_step(floor, step)
    assert abs(nearest - value) <= step / 2
    assert 0 <= value - floor < step


@pytest.mark.parametrize(
    ("value", "step", "answer"), [("0.10", "0.01", True), ("0.105", "0.01", False), ("0", "0.01", True)]
)
def test_a_volume_is_on_its_step_or_not(value: str, step: str, answer: bool) -> None:
    assert is_on_step(Decimal(value), Decimal(step)) is answer
