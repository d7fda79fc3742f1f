"""The comparison with published examples: what it reproduces, what it calls a mismatch, and how it refuses a bad row."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vectors.__main__ import EXPLAINED, MATCHED, MISMATCHED, Line, main, report
from tests.vectors.cases import COLUMNS
from tests.vectors.worked import PER_SYMBOL, VECTORS, Vector, t3, t9
from trading.profit import RoundingSetting

Write = Callable[..., Path]
PNL = {
    "case_id": "X1",
    "category": "pnl",
    "instrument": "EURUSD",
    "side": "buy",
    "lots": "1",
    "contract_size": "100000",
    "open_price": "1.2000",
    "close_price": "1.2050",
    "account_ccy": "USD",
    "expected": "500",
    "expected_ccy": "USD",
    "status": "match",
    "source": "a page",
}
MARGIN = {
    **PNL,
    "category": "margin",
    "open_price": "1.1000",
    "close_price": "",
    "leverage": "100",
    "expected": "1100.00",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*rows: dict[str, str]) -> Path:
        path = tmp_path / "cases.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS, restval="")
            table.writeheader()
            table.writerows(rows)
        return path

    return write


def last(lines: list[Line]) -> Line:
    return lines[-1]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_the_rules_own_examples_are_reproduced(vector: Vector, write: Write) -> None:
    lines = {line.case: line for line in report(write(PNL))}
    assert lines[vector.name].result == MATCHED


def test_the_rounding_setting_decides_the_cent() -> None:
    assert (t3(), t3(PER_SYMBOL)) == ("2238.90", "2238.91")
    assert (t9(), t9(RoundingSetting.PER_POSTING)) == ("-12.94", "-12.91")


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, "per_posting, half up to 2"),
        ({"side": "sell", "expected": "-500.00"}, "none needed"),
        ({"account_ccy": "EUR", "expected_ccy": "EUR", "expected": "414.94"}, "by_deal, EURUSD 1.2050"),
        (
            {
                "instrument": "EURJPY",
                "open_price": "131.57",
                "close_price": "132.16",
                "lots": "4",
                "expected": "2200.67",
            }
            | {"conv_pair": "USDJPY", "conv_rate": "107.24", "conv_rule": "convert at ASK (bid 107.19)"},
            "fixed side, USDJPY ask 107.24",
        ),
        (
            {
                "instrument": "EURJPY",
                "open_price": "131.57",
                "close_price": "132.16",
                "lots": "4",
                "expected": "2200.67",
            }
            | {"conv_pair": "USDJPY", "conv_rate": "107.24"},
            "market_worst, USDJPY 107.24",
        ),
        (
            {"instrument": "USDJPY", "side": "sell", "lots": "5", "open_price": "105.3", "close_price": "104.3"}
            | {
                "expected": "4793.85",
                "source_rounding": "per-lot value rounded first, then x5",
                "status": "match_rounding",
            },
            "per_step",
        ),
        (MARGIN, "by_deal, EURUSD 1.1000"),
        (MARGIN | {"leverage": "30", "expected": "3666", "source_rounding": "truncated to integer"}, "truncated to 0"),
        (MARGIN | {"leverage": "", "margin_rate": "0.05", "expected": "5500"}, "by_deal"),
        (MARGIN | {"instrument": "ACME", "contract_size": "10", "expected": "0.11"}, "none needed"),
        (
            MARGIN | {"leverage": "", "lots": "2", "conv_rule": "fixed initial margin 750 per lot", "expected": "1500"},
            "the amount per lot is the row's own",
        ),
    ],
)
def test_a_row_is_reproduced_with_the_settings_it_tells(changes: dict[str, str], settings: str, write: Write) -> None:
    line = last(report(write({**PNL, **changes})))
    assert line.result == MATCHED, line
    assert settings in line.said


@pytest.mark.parametrize(
    ("unit", "changes", "expected"),
    [
        ("points", {"swap_rate": "-5.45"}, "-5.45"),
        ("points", {"swap_rate": "-5.45", "swap_days": "3"}, "-16.35"),
        ("currency per lot", {"swap_rate": "-0.895"}, "-0.90"),
        (
            "annual pct /360",
            {"swap_rate": "-3.6", "instrument": "ACME", "close_price": "50", "contract_size": "1"},
            "-0.01",
        ),
        (
            "annual pct of notional /365 (cost)",
            {"swap_rate": "2.5% - (-0.54%)", "instrument": "GER30", "contract_size": "1", "lots": "10"}
            | {"open_price": "13198.2", "close_price": ""},
            "10.99",
        ),
    ],
)
def test_swap_units_in_words(unit: str, changes: dict[str, str], expected: str, write: Write) -> None:
    row = {**PNL, "category": "swap", "swap_unit": unit, "swap_days": "1", **changes, "expected": expected}
    assert last(report(write(row))).result == MATCHED


@pytest.mark.parametrize(
    ("side", "rule", "unit", "expected"),
    [
        ("buy 1 + sell 1", "each hedged leg at 50 pct", "EUR", "1000"),
        ("buy 1 + sell 1", "net", "EUR", "0"),
        ("buy 2 + sell 1", "only the larger leg is charged", "EUR", "2000"),
        ("buy 2 + sell 1", "sum of both legs", "EUR", "3000"),
        ("sell 0.5 + sell 1 + buy 1", "only the larger leg is charged", "lots", "1.5"),
    ],
)
def test_hedges_in_words(side: str, rule: str, unit: str, expected: str, write: Write) -> None:
    row = {**MARGIN, "category": "hedge_margin", "side": side, "conv_rule": rule, "lots": "", "account_ccy": "EUR"}
    assert last(report(write({**row, "expected_ccy": unit, "expected": expected}))).result == MATCHED


def test_a_page_tells_one_story_in_any_order_of_its_rows(write: Write) -> None:
    """The balance and the quote stand in the margin row, the questions in others."""
    page = {**MARGIN, "expected": "1000.20", "note": "bid 1.0998 ask 1.1002, balance 5000", "conv_rule": "current MID"}
    page |= {"open_price": "1.1002", "expected": "1100.00"}
    asked = {**page, "category": "equity", "leverage": "", "conv_rule": ""}
    rows = [
        page,
        asked | {"case_id": "X2", "note": "UPL at mid", "expected": "-20.00"},
        asked | {"case_id": "X3", "note": "UPL", "expected": "-40.00"},
        asked | {"case_id": "X4", "note": "Margin_Available at mid", "expected": "3880.00"},
        asked | {"case_id": "X5", "note": "Margin_Level", "expected": "450.83", "expected_ccy": "pct"},
        asked | {"case_id": "X6", "note": "equity at stop-out 50 pct", "expected": "550.00"},
    ]
    for order in (rows, rows[::-1]):
        results = {line.case: (line.result, line.ours) for line in report(write(*order))[-6:]}
        assert {name: result for name, (result, _) in results.items()} == dict.fromkeys(results, MATCHED), results


def test_a_wrong_answer_is_a_mismatch_and_ends_with_status_1(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write(PNL, {**PNL, "case_id": "X2", "expected": "500.01"}))]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"matched={len(VECTORS) + 1} mismatched=1 explained=0"


def test_a_cent_that_the_source_did_not_print_still_counts(write: Write) -> None:
    """500.40 printed as 500 is a match only where the row says that the source rounds to integers."""
    row = {**PNL, "close_price": "1.205004"}
    assert last(report(write(row))).result == MISMATCHED
    assert last(report(write({**row, "source_rounding": "integer", "status": "match_rounding"}))).result == MATCHED


def test_other_statuses_are_explained_by_what_the_row_says(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    row = {**PNL, "category": "swap", "instrument": "USDJPY", "conv_pair": "JPYUSD", "conv_rate": "0.006733"}
    row |= {"swap_rate": "16.4", "swap_unit": "called points, computed with pip 0.01", "expected": "110.42"}
    row |= {"status": "source_error", "note": "a point is 0.001"}
    other = {**PNL, "case_id": "X2", "expected": "499", "status": "different_rule", "note": "spread taken off"}
    unknown = {**PNL, "case_id": "X3", "open_price": "", "status": "source_error", "note": "price not stated"}
    assert main([str(write(row, other, unknown))]) == 0
    first, second, third, totals = capsys.readouterr().out.splitlines()[-4:]
    assert "11.04" in first
    assert "as the source calculates (called points, computed with pip 0.01) it is 110.42; a point is 0.001" in first
    assert "different_rule; the source has 1.00 less; spread taken off" in second
    assert "price not stated; not calculated: row 4, field open_price: is empty" in third
    assert totals == f"matched={len(VECTORS)} mismatched=0 explained=3"
    assert EXPLAINED in first


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"expected": "five"}, "expected"),
        ({"expected": ""}, "expected"),
        ({"lots": "1e5"}, "lots"),
        ({"lots": "-1"}, "lots"),
        ({"open_price": "NaN"}, "open_price"),
        ({"open_price": ""}, "open_price"),
        ({"side": "long"}, "side"),
        ({"side": "buy 1 + sell 1"}, "side"),
        ({"units": "99"}, "units"),
        ({"lots": ""}, "units"),
        ({"category": "poetry"}, "category"),
        ({"status": "Match!"}, "status"),
        ({"expected_ccy": "GBP"}, "expected_ccy"),
        ({"expected_ccy": "shells"}, "expected_ccy"),
        ({"account_ccy": "CHF", "expected_ccy": "CHF"}, "conv_pair"),
        ({"source_rounding": "as we like"}, "source_rounding"),
        ({"category": "margin"}, "leverage"),
        ({"category": "margin", "leverage": "33.3"}, "leverage"),
        ({"category": "margin", "leverage": "30", "conv_rule": "MID"}, "note"),
        ({"category": "equity"}, "note"),
        ({"category": "equity", "note": "equity at 50 %"}, "source"),
        ({"category": "hedge_margin"}, "side"),
        ({"category": "swap", "swap_unit": "points", "swap_rate": "x"}, "swap_rate"),
        ({"category": "swap", "swap_unit": "moons", "swap_rate": "1"}, "swap_unit"),
        ({"category": "swap", "swap_unit": "annual pct /12", "swap_rate": "1"}, "swap_unit"),
        ({"open_price": "9" * 18, "lots": "9" * 18, "contract_size": "9" * 18}, "expected"),
    ],
)
def test_a_bad_row_names_its_line_and_field_and_does_not_count_as_matched(
    changes: dict[str, str], field: str, write: Write
) -> None:
    line = last(report(write(PNL, {**PNL, "case_id": "X2", **changes})))
    assert line.result == MISMATCHED
    assert f"row 3, field {field}: " in line.said


def test_a_case_that_stands_twice_is_a_bad_row(write: Write) -> None:
    assert "field case_id: X1 stands in the table twice" in last(report(write(PNL, PNL))).said


@pytest.mark.parametrize("text", ["", "case_id,expected\nX1,5\n", ",".join(COLUMNS) + "\n"])
def test_what_is_no_table_of_cases_ends_with_status_2(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text)
    assert main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert main([str(tmp_path / "absent.csv")]) == 2
    assert main([]) == 2
