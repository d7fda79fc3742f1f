"""Orders as they go out, reports as they are read. Raw messages with pipes for SOH."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fix_gateway.wire.message import parse
from fix_gateway.wire.orders import (
    execution_report,
    is_unknown_order,
    new_order_single,
    order_status_request,
    other_report,
    refusal_report,
)
from trading.liquidity import ExecutionReport, ReportKind
from trading.orders import Side

FILL = (
    "8=FIX.4.4|9=1|35=8|34=7|52=20240102-23:59:59.999|37=L1|11=T0-5|17=E9|150=F|39=2|55=EUR/USD|54=1|"
    "32=10000|31=1.08512|14=10000|151=0|6=1.08512|60=20240103-00:00:00.001|10=000|"
)


def read(raw: str) -> ExecutionReport:
    return execution_report(parse(raw), lp="YOFX1", received_us=42)


def test_a_market_order_carries_exactly_what_is_agreed() -> None:
    order = new_order_single(
        cl_ord_id="T0-5",
        lp_symbol="EUR/USD",
        side=Side.SELL,
        quantity=Decimal("100000.00000000"),
        at=datetime(2024, 1, 2, 3, 4, 5, 678901, UTC),
        account="X1",
    )
    assert order.msg_type == "D"
    assert order.fields == (
        (11, "T0-5"), (1, "X1"), (55, "EUR/USD"), (54, "2"), (60, "20240102-03:04:05.678"), (38, "100000"), (40, "1"), (59, "3")
    )  # fmt: skip


def test_a_status_request_names_the_order() -> None:
    request = order_status_request(cl_ord_id="T0-5", lp_symbol="EURUSD", side=Side.BUY, lp_order_id="L1")
    assert (request.msg_type, request.fields) == ("H", ((11, "T0-5"), (37, "L1"), (55, "EURUSD"), (54, "1")))


def test_a_fill_is_read_whole() -> None:
    assert read(FILL) == ExecutionReport(
        lp="YOFX1",
        kind=ReportKind.FILL,
        cl_ord_id="T0-5",
        exec_id="E9",
        trade_date="20240103",
        lp_order_id="L1",
        side=Side.BUY,
        lp_symbol="EUR/USD",
        last_qty=Decimal(10000),
        last_px=Decimal("1.08512"),
        cum_qty=Decimal(10000),
        leaves_qty=Decimal(0),
        ord_status="2",
        received_us=42,
    )


def test_the_order_of_fields_does_not_matter() -> None:
    head, body = (
        FILL.split("37=L1|", maxsplit=1)[0],
        ["37=L1|", "11=T0-5|", "150=F|39=2|", "55=EUR/USD|54=1|", "17=E9|", "32=10000|"],
    )
    rest = "31=1.08512|14=10000|151=0|60=20240103-00:00:00.001|"
    expected = read(FILL)
    assert {read(head + "".join(order) + rest) == expected for order in permutations(body)} == {True}


@pytest.mark.parametrize(
    ("exec_type", "kind"),
    [
        ("0", "acknowledged"), ("A", "acknowledged"), ("F", "fill"), ("4", "canceled"), ("C", "canceled"), ("8", "rejected"),
        ("I", "status"), ("3", "canceled"), ("G", "other"), ("H", "other"), ("D", "other"), ("1", "other"), ("", "other"),
        ("f", "other"), ("FF", "other"),
    ],
)  # fmt: skip
def test_the_kind_comes_from_exec_type(exec_type: str, kind: str) -> None:
    assert read(FILL.replace("150=F", f"150={exec_type}")).kind == kind


@pytest.mark.parametrize(
    ("dates", "day"),
    [
        ("75=20240105|60=20240103-00:00:00|52=20240102-23:59:59|", "20240105"),
        ("60=20240103-00:00:00|52=20240102-23:59:59|", "20240103"),
        ("52=20240102-23:59:59|", "20240102"),
        ("75=2024|60=nonsense|52=20240102-23:59:59|", "20240102"),
        ("75=٢٠٢٤٠١٠٥|52=20240102-23:59:59|", "20240102"),
    ],
)
def test_the_trade_date_is_the_providers_day(dates: str, day: str) -> None:
    assert read(f"35=8|150=0|11=x|{dates}").trade_date == day


@pytest.mark.parametrize(
    "field", ["32=1E4", "31=NaN", "14=inf", "151=1 000", "31=1,08", "32=" + "9" * 30, "31=1e1000000"]
)
def test_a_fill_with_an_unreadable_number_goes_to_a_dealer(field: str) -> None:
    report = read(FILL.replace("10=000|", "").replace(_field(field.split("=", maxsplit=1)[0]), field + "|"))
    assert report.kind is ReportKind.OTHER
    assert f"({field.split('=', maxsplit=1)[0]}) is unreadable" in report.text
    assert report.exec_id == "E9"


@pytest.mark.parametrize("field", ["32=0", "31=0", "32=-5", "31=-1.1", "17=", "17=" + "x" * 500, "11=a\x02b"])
def test_a_fill_that_cannot_be_booked_goes_to_a_dealer(field: str) -> None:
    report = read(FILL.replace(_field(field.split("=", maxsplit=1)[0]), field + "|"))
    assert report.kind is ReportKind.OTHER
    assert report.text
    assert report.cl_ord_id.isprintable()


def _field(tag: str) -> str:
    return next(part + "|" for part in FILL.split("|") if part.startswith(tag + "="))


def test_text_is_bounded_and_printable() -> None:
    report = read("35=8\x01150=8\x0139=8\x0111=x\x01103=99\x0158=no\x07\udc80way" + "y" * 5000 + "\x01")
    assert report.kind is ReportKind.REJECTED
    assert report.text.startswith("no??way")
    assert len(report.text) <= 500
    assert (report.ord_status, report.ord_rej_reason) == ("8", "99")


def test_an_unknown_order_is_said_with_status_and_reason() -> None:
    assert is_unknown_order(parse("35=8|150=I|39=8|103=5|"))
    assert is_unknown_order(parse("35=8|150=8|39=8|103=5|"))
    assert not is_unknown_order(parse("35=8|150=8|39=8|103=3|"))
    assert not is_unknown_order(parse("35=8|150=I|39=0|103=5|"))
    assert not is_unknown_order(parse("35=9|39=8|103=5|"))


@pytest.mark.parametrize(
    ("raw", "cl_ord_id", "kind", "about"),
    [
        ("35=3|45=12|372=D|373=5|58=bad value|", "T0-5", "rejected", "T0-5"),
        ("35=3|45=12|58=bad value|", "T0-5", "rejected", "T0-5"),
        ("35=3|45=12|372=D|58=bad value|", "", "other", ""),
        ("35=j|45=12|372=D|380=4|58=closed|", "T0-5", "rejected", "T0-5"),
        ("35=j|45=12|372=D|379=T0-6|380=4|58=closed|", "", "rejected", "T0-6"),
        ("35=j|45=12|372=H|379=T0-6|380=3|", "", "other", ""),
        ("35=j|45=12|372=H|380=3|", "T0-5", "other", "T0-5"),
    ],
)
def test_a_refused_message_rejects_the_order_that_it_was(raw: str, cl_ord_id: str, kind: str, about: str) -> None:
    report = refusal_report(parse(raw), lp="YOFX1", cl_ord_id=cl_ord_id, received_us=1)
    assert (report.kind, report.cl_ord_id) == (kind, about)
    assert report.text


BUST = FILL.replace("150=F", "150=H").replace("17=E9", "17=B1|19=E9").replace("32=10000|31=1.08512|", "")
CORRECT = FILL.replace("150=F", "150=G").replace("17=E9", "17=G1|19=E9")


def test_a_bust_names_what_it_takes_back() -> None:
    report = read(BUST)
    assert (report.kind, report.exec_id, report.exec_ref_id) == (ReportKind.BUST, "B1", "E9")


def test_a_correction_tells_what_was_dealt_instead() -> None:
    report = read(CORRECT)
    assert (report.kind, report.exec_ref_id, report.last_px) == (ReportKind.CORRECT, "E9", Decimal("1.08512"))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (BUST.replace("19=E9|", ""), "a bust without ExecRefID(19)"),
        (BUST.replace("17=B1|", ""), "a bust without ExecID(17)"),
        (CORRECT.replace("19=E9|", ""), "a correction without ExecRefID(19)"),
        (CORRECT.replace("32=10000|", ""), "a correction without LastQty(32)"),
        (CORRECT.replace("31=1.08512|", "31=0|"), "a correction without LastPx(31)"),
    ],
)
def test_what_cannot_be_undone_or_corrected_is_for_the_dealer(raw: str, told: str) -> None:
    report = read(raw)
    assert report.kind is ReportKind.OTHER
    assert told in report.text


def test_a_cancel_reject_is_kept_for_the_dealer() -> None:
    report = other_report(parse("35=9|11=c1|41=T0-5|37=L1|39=2|434=1|102=0|58=too late|"), lp="YOFX1", received_us=1)
    assert (report.kind, report.cl_ord_id, report.text) == (ReportKind.OTHER, "c1", "35=9: too late")


tags = st.sampled_from([11, 14, 17, 19, 31, 32, 37, 38, 39, 43, 52, 54, 55, 58, 60, 75, 103, 150, 151])
values = st.one_of(st.sampled_from(["F", "8", "0", "I", "1.5", "-1", "1E9", "NaN", "20240101"]), st.text(max_size=12))


@given(st.lists(st.tuples(tags, values), max_size=20))
def test_no_report_breaks_the_reader(fields: list[tuple[int, str]]) -> None:
    report = read("35=8\x01" + "".join(f"{tag}={value}\x01" for tag, value in fields))
    numbers = (report.last_qty, report.last_px, report.cum_qty, report.leaves_qty)
    assert all(value.is_finite() for value in numbers)
    assert report.cl_ord_id.isprintable()
    assert report.text.isprintable()
    if report.kind is ReportKind.FILL:
        assert report.last_qty > 0
        assert report.last_px > 0
        assert report.exec_id
        assert report.trade_date
