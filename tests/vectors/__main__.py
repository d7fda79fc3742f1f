"""`python -m tests.vectors PATH`: the rules' own examples and a table of published ones, beside our answers.

Exit status: 0 when everything that must be reproduced is, 1 when something is not, 2 when there is no usable table.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from tests.vectors.calculate import Answer, Page, calculate, source_variant
from tests.vectors.cases import BadRow, BadTable, Case, read_rows
from tests.vectors.worked import VECTORS, Vector
from trading.numbers import plain

MATCHED, MISMATCHED, EXPLAINED = "matched", "MISMATCHED", "explained"


@dataclass(frozen=True, slots=True)
class Line:
    case: str
    category: str
    expected: str
    ours: str
    result: str
    said: str


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: make vectors CASES=PATH  (a table of published cases, CSV)", file=sys.stderr)
        return 2
    try:
        lines = report(Path(arguments[0]))
    except (BadTable, OSError, UnicodeDecodeError, csv.Error) as refused:
        print(f"vectors: {refused}", file=sys.stderr)
        return 2
    show(lines)
    count = Counter(line.result for line in lines)
    print(f"matched={count[MATCHED]} mismatched={count[MISMATCHED]} explained={count[EXPLAINED]}")
    return 1 if count[MISMATCHED] else 0


def report(path: Path) -> list[Line]:
    """One line per worked example and per row of the table."""
    rows = list(read_rows(path))
    pages = _pages(case for _, case in rows if isinstance(case, Case))
    return [
        *(_vector_line(vector) for vector in VECTORS),
        *(_bad(name, row) if isinstance(row, BadRow) else _case_line(row, pages[_page_of(row)]) for name, row in rows),
    ]


def show(lines: Iterable[Line]) -> None:
    table = [Line("case", "category", "expected", "ours", "result", "settings"), *lines]
    widths = [
        max(len(getattr(line, name)) for line in table) for name in ("case", "category", "expected", "ours", "result")
    ]
    for line in table:
        cells = (line.case, line.category, line.expected.rjust(widths[2]), line.ours.rjust(widths[3]), line.result)
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), line.said, sep="  ")


def _page_of(case: Case) -> tuple[str, str]:
    return case.source, case.instrument


def _pages(cases: Iterable[Case]) -> dict[tuple[str, str], Page]:
    found: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        found.setdefault(_page_of(case), []).append(case)
    return {key: Page(tuple(rows)) for key, rows in found.items()}


def _vector_line(vector: Vector) -> Line:
    ours = vector.ours()
    result = MATCHED if _same(ours, vector.expected) else MISMATCHED
    return Line(vector.name, "rules", vector.expected, ours, result, f"{vector.settings}; {vector.setup}")


def _same(ours: str, expected: str) -> bool:
    try:
        return Decimal(ours) == Decimal(expected)
    except InvalidOperation:
        return ours == expected


def _case_line(case: Case, page: Page) -> Line:
    try:
        answer = calculate(case, page)
    except BadRow as refused:
        return _bad(case.case_id, refused) if case.must_match else _uncalculated(case, refused)
    if case.must_match:
        result = MATCHED if answer.value == case.expected else MISMATCHED
        return _line(case, plain(answer.value), result, answer.settings)
    return _line(case, plain(answer.value), EXPLAINED, _explained(case, answer))


def _explained(case: Case, answer: Answer) -> str:
    """What the source did differently: recalculated where the row tells how, else in the row's own words."""
    difference = case.expected - answer.value
    parts = [case.status]
    variant = source_variant(case)
    if variant is not None and variant.value == case.expected:
        parts.append(f"as the source calculates ({case.swap_unit}) it is {plain(variant.value)}")
    elif difference:
        parts.append(
            f"the source has {plain(difference)} more"
            if difference > 0
            else f"the source has {plain(-difference)} less"
        )
    else:
        parts.append("the answer is reproduced all the same")
    return "; ".join([*parts, *_own_words(case), answer.settings])


def _uncalculated(case: Case, refused: BadRow) -> Line:
    return _line(case, "-", EXPLAINED, "; ".join([case.status, *_own_words(case), f"not calculated: {refused}"]))


def _own_words(case: Case) -> list[str]:
    return [text for text in (case.note, case.conv_rule, case.source_rounding) if text]


def _line(case: Case, ours: str, result: str, said: str) -> Line:
    return Line(case.case_id, case.category, plain(case.expected), ours, result, said)


def _bad(name: str, refused: BadRow) -> Line:
    return Line(name, "-", "-", "-", MISMATCHED, f"cannot be used: {refused}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
