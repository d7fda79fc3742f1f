"""Values as PostgreSQL keeps and returns them: text in, typed out.

A modelled row is a list of texts in the table's column order, as they came by COPY or as parameters; nothing is decoded before
somebody reads it. `selected` compiles a SELECT's list of expressions into one function from such a row to a typed tuple.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from engine import tables

Row = Any
"""A list of texts in column order, or a line of COPY that nobody has read yet: see `taken_apart`."""
Reader = Callable[[Any], Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_WIDE = Context(prec=80)

EXTRA = {
    "lp_order": {"dispatch_state": "text", "dispatched_at": "timestamptz"},
}
OTHER = {
    "alert": {
        "key": "text", "kind": "text", "severity": "text", "text": "text", "raised_at": "timestamptz",
        "last_at": "timestamptz", "cleared_at": "timestamptz", "count": "integer",
    },
    "lp_lease": {"lp": "text", "epoch": "bigint", "stopped": "text"},
    "relay_cursor": {"shard": "integer", "published_seq": "bigint"},
}  # fmt: skip
COLUMNS: dict[str, dict[str, str]] = {
    **{table.name: dict(table.columns) for table in (*tables.WRITTEN, tables.SHARD, tables.LP_INBOX, tables.CONFIG)},
    **OTHER,
}
for _name, _more in EXTRA.items():
    COLUMNS[_name] |= _more
PLACES = {table: {column: place for place, column in enumerate(columns)} for table, columns in COLUMNS.items()}

NULLABLE = frozenset({
    "price", "stop_price", "expires_at", "max_slippage", "stop_loss", "take_profit", "trailing_activation", "client_price",
    "limit_price", "lp_price", "level", "dispatched_at", "state_hash", "halted", "owner", "lease_until", "cleared_at", "gap_at",
})  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- one value


def _number(scale: int) -> Reader:
    exponent = Decimal(1).scaleb(-scale)
    quantize = _WIDE.quantize

    def read(text: Any) -> Decimal | None:
        return None if text is None else quantize(Decimal(text), exponent)

    return read


def _integer(text: Any) -> int | None:
    return None if text is None else int(text)


def _boolean(text: Any) -> bool | None:
    return text if text is None or isinstance(text, bool) else text in {"t", "true"}


def _text(text: Any) -> str | None:
    return None if text is None else str(text)


_moments: dict[str, datetime] = {}


def moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    found = _moments.get(value)
    if found is None:
        if len(_moments) > 20_000:
            _moments.clear()
        found = _moments[value] = datetime.fromisoformat(value)
    return found


def microseconds(value: Any) -> int | None:
    at = moment(value)
    return None if at is None else (at - EPOCH) // MICROSECOND


_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}]+)')


def array(value: Any) -> list[str] | None:
    """A text[] literal as a list."""
    if value is None or isinstance(value, list):
        return value
    if value == "{}":
        return []
    return [
        re.sub(r"\\(.)", r"\1", quoted) if quoted or not bare else bare
        for quoted, bare in _ELEMENT.findall(value[1:-1])
    ]


def reader(sql_type: str) -> Reader:
    """How a column of this type comes out of psycopg."""
    if sql_type.startswith("numeric"):
        return _number(int(sql_type.rpartition(",")[2].rstrip(")")))
    if sql_type in {"integer", "bigint"}:
        return _integer
    return {"boolean": _boolean, "timestamptz": moment, "text[]": array}.get(sql_type, _text)


# ------------------------------------------------------------------------------------------------------------- one row

_ESCAPED = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
_ESCAPE = re.compile(r"\\[\\tnr]")


def fields_of(line: str) -> list[Any]:
    """One line of COPY's text format, taken apart."""
    parts: list[Any] = line.split("\t")
    if "\\" in line:
        for place, part in enumerate(parts):
            if "\\" in part:
                parts[place] = None if part == "\\N" else _ESCAPE.sub(lambda match: _ESCAPED[match[0]], part)
    return parts


def taken_apart(row: Row) -> list[Any]:
    return fields_of(row) if isinstance(row, str) else row


_EXTRACT = re.compile(r"\(extract\(epoch FROM (?:\w+\.)?(\w+)\) \* 1000000\)::bigint")
_COALESCE = re.compile(r"coalesce\((.+), ('[^']*'|\d+)\)")
_COLUMN = re.compile(r'(?:\w+\.)?"?(\w+)"?')


def selected(table: str, expressions: str) -> Callable[[Row], tuple[Any, ...]]:
    """What `SELECT expressions FROM table` makes of a row. Raises LookupError for an expression that is not modelled."""
    readers = [_expression(table, expression) for expression in split_list(expressions)]
    return lambda row: tuple([read(row[place]) for place, read in readers])


def split_list(text: str) -> list[str]:
    """`a, f(b, c), d` at its outer commas."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    return [*parts, current.strip()]


def _expression(table: str, expression: str) -> tuple[int, Reader]:
    if expression.isdigit():
        constant = int(expression)
        return 0, lambda _: constant
    coalesced = _COALESCE.fullmatch(expression)
    if coalesced:
        place, read = _expression(table, coalesced[1])
        default: Any = coalesced[2][1:-1] if coalesced[2].startswith("'") else int(coalesced[2])
        return place, lambda text: default if text is None else read(text)
    extracted = _EXTRACT.fullmatch(expression)
    if extracted:
        return PLACES[table][extracted[1]], microseconds
    name, cast, _ = expression.partition("::text")
    column = _COLUMN.fullmatch(name)
    if column is None or column[1] not in COLUMNS[table]:
        raise LookupError(f"{expression} of {table} is not modelled")
    return PLACES[table][column[1]], _text if cast else reader(COLUMNS[table][column[1]])
