"""A table of published examples, read strictly: every row becomes a Case or says which field of it cannot be used."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from trading.numbers import NumberRefused, parse_decimal
from trading.orders import Side

COLUMNS = (
    *("case_id", "category", "instrument", "side", "lots", "contract_size", "units", "open_price", "close_price"),
    *("margin_rate", "leverage", "account_ccy", "conv_pair", "conv_rate", "conv_rule"),
    *("swap_rate", "swap_unit", "swap_days", "expected", "expected_ccy", "source_rounding"),
    *("recomputed", "status", "source", "source_kind", "note"),
)

REPRODUCED = frozenset({"match", "match_rounding"})
"""Statuses that say: our calculation must give the source's answer. All others need an explanation."""


class BadTable(ValueError):
    """The file is not a table of cases at all."""


class BadRow(ValueError):
    """One row cannot be used: which line of the file, which field, and why."""

    def __init__(self, line: int, field: str, why: str) -> None:
        super().__init__(f"row {line}, field {field}: {why}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Leg:
    side: Side
    lots: Decimal | None


@dataclass(frozen=True, slots=True)
class Case:
    """One published example. Numbers that the row leaves out are None; free text stays as it is."""

    line: int
    case_id: str
    category: str
    instrument: str
    legs: tuple[Leg, ...]
    lots: Decimal | None
    contract_size: Decimal | None
    units: Decimal | None
    open_price: Decimal | None
    close_price: Decimal | None
    margin_rate: Decimal | None
    leverage: Decimal | None
    account_ccy: str
    conv_pair: str
    conv_rate: Decimal | None
    conv_rule: str
    swap_rate: str
    swap_unit: str
    swap_days: Decimal | None
    expected: Decimal
    expected_ccy: str
    source_rounding: str
    recomputed: Decimal | None
    status: str
    source: str
    note: str

    @property
    def side(self) -> Side:
        return self.legs[0].side

    @property
    def must_match(self) -> bool:
        return self.status in REPRODUCED

    def bad(self, field: str, why: str) -> BadRow:
        return BadRow(self.line, field, why)


def read_rows(path: Path) -> Iterator[tuple[str, "Case | BadRow"]]:
    """(case id, case or what is wrong with it) for each row. Raises BadTable without the right columns or any row."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise BadTable(f"{path}: the header lacks {', '.join(missing)}")
        seen: set[str] = set()
        line = 1
        for row in reader:
            case_id = (row["case_id"] or "").strip() or f"line {reader.line_num}"
            try:
                case = parse_row(reader.line_num, row)
                if case_id in seen:
                    raise BadRow(case.line, "case_id", f"{case_id} stands in the table twice")
            except BadRow as refused:
                yield case_id, refused
            else:
                seen.add(case_id)
                yield case_id, case
            line = reader.line_num
        if line == 1:
            raise BadTable(f"{path}: there is no row below the header")


def parse_row(line: int, row: dict[str, str | None]) -> Case:
    """Raises BadRow for the first field that cannot be used."""
    if None in row:
        raise BadRow(line, COLUMNS[-1], "more fields than the header has")
    short = next((name for name in COLUMNS if row[name] is None), None)
    if short:
        raise BadRow(line, short, "the row ends before it")
    text = {name: (row[name] or "").strip() for name in COLUMNS}

    def number(field: str) -> Decimal | None:
        return _number(line, field, text[field]) if text[field] else None

    def positive(field: str) -> Decimal | None:
        value = number(field)
        if value is not None and value <= 0:
            raise BadRow(line, field, f"{text[field]} must be above 0")
        return value

    for field in ("case_id", "category", "instrument", "side", "expected", "expected_ccy", "status"):
        if not text[field]:
            raise BadRow(line, field, "is empty")
    if not re.fullmatch(r"[a-z_]+", text["status"]):
        raise BadRow(line, "status", f"{text['status']!r} is not a name such as match or source_error")
    case = Case(
        line=line,
        case_id=text["case_id"],
        category=text["category"],
        instrument=text["instrument"],
        legs=_legs(line, text["side"]),
        lots=positive("lots"),
        contract_size=positive("contract_size"),
        units=positive("units"),
        open_price=positive("open_price"),
        close_price=positive("close_price"),
        margin_rate=positive("margin_rate"),
        leverage=positive("leverage"),
        account_ccy=text["account_ccy"],
        conv_pair=text["conv_pair"],
        conv_rate=positive("conv_rate"),
        conv_rule=text["conv_rule"],
        swap_rate=text["swap_rate"],
        swap_unit=text["swap_unit"],
        swap_days=positive("swap_days"),
        expected=_number(line, "expected", text["expected"]),
        expected_ccy=text["expected_ccy"],
        source_rounding=text["source_rounding"],
        recomputed=number("recomputed"),
        status=text["status"],
        source=text["source"],
        note=text["note"],
    )
    _check_units(case)
    return case


def _number(line: int, field: str, text: str) -> Decimal:
    try:
        return parse_decimal(text)
    except NumberRefused as refused:
        raise BadRow(line, field, f"{text!r} is {refused}") from None


def _legs(line: int, text: str) -> tuple[Leg, ...]:
    """`buy`, or several legs with their lots: `sell 0.5 + buy 1`."""
    legs = []
    for part in text.split("+"):
        words = part.split()
        if len(words) not in (1, 2) or words[0] not in set(Side):
            raise BadRow(line, "side", f"{text!r} is neither a side nor legs such as 'buy 1 + sell 1'")
        legs.append(Leg(Side(words[0]), _number(line, "side", words[1]) if len(words) == 2 else None))
    return tuple(legs)


def _check_units(case: Case) -> None:
    if case.lots and case.contract_size and case.units and case.lots * case.contract_size != case.units:
        raise case.bad("units", f"{case.units} is not lots x contract_size, {case.lots * case.contract_size}")
