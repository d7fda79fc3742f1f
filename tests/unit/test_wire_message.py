"""Raw FIX text, taken apart. Whatever a counterparty sends, reading it never fails."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fix_gateway.wire.message import FIELDS_MAX, clean, group, number, parse, plain_quantity, readable

TWO_ENTRIES = "35=W|55=EURUSD|268=2|269=0|270=1.1|269=1|270=1.2|10=000|"


@pytest.mark.parametrize("separator", ["|", "\x01"])
def test_fields_keep_their_order_and_repetitions(separator: str) -> None:
    message = parse(TWO_ENTRIES.replace("|", separator))
    assert message.msg_type == "W"
    assert [value for tag, value in message.fields if tag == 270] == ["1.1", "1.2"]
    assert message.get(270) == "1.1"
    assert message.get(9999) == ""


def test_a_pipe_inside_a_real_message_is_text() -> None:
    assert parse("35=8\x0158=a|b=c\x01").get(58) == "a|b=c"


@pytest.mark.parametrize("part", ["", "=", "x=1", "-1=2", "1", "١=2", "12345678=1", " 5=1"])
def test_what_is_no_field_is_left_out(part: str) -> None:
    assert parse(f"35=0|{part}|58=ok|").fields == ((35, "0"), (58, "ok"))


def test_a_message_without_end_is_not_read_to_its_end() -> None:
    assert len(parse("1=2|" * (FIELDS_MAX + 10)).fields) == FIELDS_MAX


def test_a_group_needs_as_many_entries_as_announced() -> None:
    entries = group(parse(TWO_ENTRIES), count_tag=268, delimiter=269)
    assert entries is not None
    assert [(entry[269], entry[270]) for entry in entries] == [("0", "1.1"), ("1", "1.2")]
    for count in ("1", "3", "02", "-2", "x"):
        assert group(parse(TWO_ENTRIES.replace("268=2", f"268={count}")), count_tag=268, delimiter=269) is None
    assert group(parse("35=W|55=X|"), count_tag=268, delimiter=269) == []


@given(st.text())
def test_any_text_can_be_read(raw: str) -> None:
    message = parse(raw)
    assert all(isinstance(tag, int) for tag, _ in message.fields)
    assert readable(raw).isprintable()
    readable(raw).encode()


@given(st.binary(max_size=80))
def test_what_leaves_is_printable_and_encodable(data: bytes) -> None:
    text = clean(data.decode("utf-8", "surrogateescape"))
    assert text.isprintable()
    text.encode()


@pytest.mark.parametrize("text", ["1E5", "NaN", "inf", "1_0", " 1", "١", "1e1000000", "", "0x1", "9" * 19])
def test_only_plain_numbers_are_numbers(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("value", "text"), [("1000.00000000", "1000"), ("0.10", "0.1"), ("1E+3", "1000"), ("100", "100"), ("0.00", "0")]
)
def test_quantities_are_told_plainly(value: str, text: str) -> None:
    assert plain_quantity(Decimal(value)) == text
