"""What the doors show: every number spelled one way, every id well formed, nothing of the inside."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from apps.doors.ids import uuid7
from apps.doors.paging import Page, encode_cursor, page_of
from apps.doors.parsing import Fields
from apps.doors.problems import Problem, problem_body
from apps.doors.views import WAIT_S_DEFAULT, WAIT_S_MAX, wait_s
from apps.operations.effective import told
from apps.operations.terms import short
from apps.published import _Newest
from apps.shapes import order_shape, trimmed
from bus import codec
from tests.support import builders
from trading.orders import Book, Order, OrderStatus, OrderType, Side
from trading.refusals import REGISTRY, Refusal


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        ("1.00000000", 2, "1.00"),
        ("1.08512", 5, "1.08512"),
        ("1.0851234", 5, "1.0851234"),
        ("0E-8", 2, "0.00"),
        ("100000.00000000", 0, "100000"),
        ("-3.50000000", 2, "-3.50"),
        ("1E+3", 0, "1000"),
    ],
)
def test_a_number_has_one_spelling_and_loses_nothing(value: str, digits: int, shown: str) -> None:
    assert trimmed(Decimal(value), digits) == shown
    assert Decimal(shown) == Decimal(value)


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [("3.50000000", 2, "3.50"), ("100.00000000", 0, "100"), ("0.01000000", 0, "0.01")]
)
def test_a_configured_number_drops_the_columns_zeros(value: str, decimals: int, text: str) -> None:
    assert str(short(Decimal(value), decimals=decimals)) == text


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "id": 7, "uuid": str(uuid7()), "account": 1, "client_order_id": "mine", "symbol": "EURUSD", "side": Side.BUY,
        "type": OrderType.MARKET, "volume": Decimal("0.10"), "status": OrderStatus.FILLED, "created_us": 0,
        "updated_us": 0, **changes,
    }  # fmt: skip
    return Order(**fields)


def test_an_order_hides_its_routing() -> None:
    routed = order(
        filled_volume=Decimal("0.10"),
        filled_cost=Decimal("0.108512"),
        book=Book.A,
        volume_a=Decimal("0.10"),
        attempts=("YOFX1",),
    )
    text = codec.encode(order_shape(routed, builders.config())).decode()
    assert '"avg_price":"1.08512"' in text
    assert '"quantity":"10000"' in text
    assert "YOFX1" not in text
    assert "book" not in text


def test_a_refused_order_of_an_unknown_symbol_can_be_shown() -> None:
    refused = order(
        symbol="NOTHING", status=OrderStatus.REJECTED, refusal="unknown_symbol", detail="there is no such symbol"
    )
    shown = order_shape(refused, builders.config())
    assert shown["quantity"] is None
    assert shown["reject"]["mt_retcode"] == REGISTRY[Refusal.UNKNOWN_SYMBOL].mt


@pytest.mark.parametrize("code", list(Refusal))
def test_every_refusal_makes_a_whole_problem(code: Refusal) -> None:
    body = problem_body(Problem(code), instance="/v1/x", request_id="r")
    assert body["type"] == f"/v1/errors/{code.value}"
    assert 400 <= body["status"] <= 504 or code is Refusal.NO_CHANGES
    assert body["title"].endswith(".")
    assert body["detail"]


def test_a_uuid7_sorts_by_time_and_is_well_formed() -> None:
    early, late = uuid7(1_700_000_000_000, b"\xff" * 10), uuid7(1_700_000_000_001, b"\x00" * 10)
    assert str(early) < str(late)
    assert {(u.version, u.variant) for u in (early, late)} == {(7, "specified in RFC 4122")}
    assert early.int >> 80 == 1_700_000_000_000


def test_a_cursor_leads_back_to_its_row() -> None:
    page = page_of(Fields({"cursor": encode_cursor(123), "limit": "5"}, known=("cursor", "limit")))
    assert page == Page(limit=5, before=123)


@pytest.mark.parametrize("cursor", ["", "x", "MQ==", "MS41", "LTE", "ÿ", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
def test_a_cursor_of_somebody_else_is_refused(cursor: str) -> None:
    if cursor == "MQ==":
        assert page_of(Fields({"cursor": cursor}, known=("cursor",))).before == 1
        return
    with pytest.raises(Problem):
        page_of(Fields({"cursor": cursor}, known=("cursor",)))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", WAIT_S_DEFAULT), ("wait=0", 0.0), ("respond-async, wait=5", 5.0), ('wait="3"', 3.0), ("wait=999", WAIT_S_MAX),
        ("wait=-1", WAIT_S_DEFAULT), ("wait=nan", WAIT_S_DEFAULT), ("await=7", WAIT_S_DEFAULT),
    ],
)  # fmt: skip
def test_prefer_says_how_long_to_wait(header: str, seconds: float) -> None:
    request: Any = SimpleNamespace(headers={"Prefer": header})
    assert wait_s(request) == seconds


def test_the_configuration_is_looked_for_once_a_second_and_decoded_once_per_version() -> None:
    asked: list[int] = []
    now = [0.0]
    versions = {0: builders.config()}

    def read(version: int) -> tuple[int, str] | None:
        asked.append(version)
        newest = versions[0]
        return (newest.version, codec.encode(newest).decode()) if newest.version > version else None

    newest = _Newest(read, lambda: now[0])
    first = newest.get()
    assert newest.get() is first
    now[0] = 1.0
    assert newest.get() is first
    assert asked == [0, first.version]


def test_nested_terms_are_told_line_by_line() -> None:
    terms = {"markup": {"bid": 1}, "swap_free": None, "stp_only": False, "calls": ["100", "80"], "rules": [{"a": True}]}
    assert told(terms) == {
        "markup.bid": "1",
        "swap_free": "not set",
        "stp_only": "no",
        "calls": "100; 80",
        "rules": "a yes",
    }
