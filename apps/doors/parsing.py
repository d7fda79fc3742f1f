"""One strict reading of JSON and of query strings for all doors.

Refused: duplicate keys, NaN and Infinity, anything but UTF-8, lone surrogates, more than 64 kB, deep nesting, unknown fields.
A JSON number keeps its text (`JsonNumber`): no float is ever made, and no huge integer is ever computed.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any, NoReturn

from django.http import QueryDict
from rest_framework.parsers import BaseParser

from apps.doors.problems import FieldError, Problem
from trading.numbers import NumberRefused, parse_decimal
from trading.refusals import Refusal

BODY_BYTES_MAX = 64 * 1024
DEPTH_MAX = 16
WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
PRINTABLE = re.compile(r"[\x20-\x7e]*", re.ASCII)
_UNSTORABLE = re.compile("[\ud800-\udfff\0]")
CLIENT_ORDER_ID = re.compile(r"[A-Za-z0-9_.:-]{1,48}", re.ASCII)
SYMBOL = re.compile(r"[A-Za-z0-9._]{1,20}", re.ASCII)
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z", re.ASCII)
WHOLE_MAX = 10**18 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JsonNumber(str):
    """A JSON number as it was written."""

    __slots__ = ()


def parse_json(data: bytes) -> Any:
    """The value that `data` spells. Raises Problem(malformed_json) or Problem(request_too_large)."""
    if len(data) > BODY_BYTES_MAX:
        raise Problem(Refusal.REQUEST_TOO_LARGE)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=JsonNumber,
            parse_int=JsonNumber,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Problem(Refusal.MALFORMED_JSON, _sentence(error)) from None
    _check(value, DEPTH_MAX)
    return value


class _Refused(ValueError):
    """Valid for others, not for us; the text is shown."""


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, _Refused) else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Refused("A key appears twice in one object.")
    return result


def _no_constant(name: str) -> NoReturn:  # noqa: ARG001
    raise _Refused("NaN and Infinity are not JSON.")


def _check(value: Any, depth: int) -> None:
    """Refuse deep nesting and text that no database and no other parser would take."""
    if depth < 0:
        raise Problem(Refusal.MALFORMED_JSON, "The body is nested too deeply.")
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth)
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, str) and _UNSTORABLE.search(value):
        raise Problem(Refusal.MALFORMED_JSON, "A text holds a NUL or half of a surrogate pair.")


class StrictJsonParser(BaseParser):
    """DRF's parser for every body."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        return parse_json(stream.read(BODY_BYTES_MAX + 1))


class Fields:
    """The fields of one JSON object or query string, read one by one; `done` raises what was wrong, all at once.

    Readers return a harmless value after noting an error: nothing of it is used, because `done` comes before any use.
    """

    def __init__(
        self, data: Any, *, known: Sequence[str], place: str = "", errors: list[FieldError] | None = None
    ) -> None:
        self._place = place
        self.errors: list[FieldError] = [] if errors is None else errors
        if isinstance(data, QueryDict):
            data = self._single(data)
        if not isinstance(data, dict):
            raise Problem(Refusal.INVALID_REQUEST, "The body must be one JSON object.")
        self._data: dict[str, Any] = data
        for name in data:
            if name not in known:
                shown = name if PRINTABLE.fullmatch(name) and len(name) <= 64 else "?"
                self.error(shown, "This field is not known here.")

    def _single(self, query: QueryDict) -> dict[str, Any]:
        for name, values in query.lists():
            if len(values) > 1 and len(name) <= 64:
                self.error(name, "Given more than once.")
        return {name: query[name] for name in query}

    def error(self, name: str, detail: str, code: Refusal = Refusal.INVALID_REQUEST) -> None:
        self.errors.append(FieldError(f"{self._place}/{name}", code, detail))

    def done(self) -> None:
        """Raise Problem when anything was wrong: with its own code when it was one thing."""
        if len(self.errors) == 1:
            only = self.errors[0]
            raise Problem(Refusal(only["code"]), only["detail"], errors=self.errors)
        if self.errors:
            raise Problem(Refusal.INVALID_REQUEST, errors=self.errors)

    def has(self, name: str) -> bool:
        return self._data.get(name) is not None

    def given(self, name: str) -> bool:
        """The field is there, be it as null."""
        return name in self._data

    def raw(self, name: str) -> Any:
        return self._data.get(name)

    def inner(self, name: str, *, known: Sequence[str]) -> "Fields | None":
        """The object under `name`, whose errors are told with these; None when it is absent, null, or no object."""
        value = self._data.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.error(name, "Must be an object.")
            return None
        return Fields(value, known=known, place=f"{self._place}/{name}", errors=self.errors)

    def text(
        self, name: str, *, pattern: re.Pattern[str] = PRINTABLE, length_max: int = 64, default: str | None = None
    ) -> str:
        """Text that matches the pattern wholly; `default` when the field is absent, required without one."""
        value = self._data.get(name)
        if value is None and default is not None and name not in self._data:
            return default
        if not isinstance(value, str) or isinstance(value, JsonNumber):
            self.error(name, "Required text." if value is None else "Must be a text.")
        elif len(value) > length_max or not pattern.fullmatch(value):
            self.error(name, f"At most {length_max} of the allowed characters.")
        else:
            return value
        return ""

    def choice(self, name: str, choices: Sequence[str], *, default: str | None = None) -> str:
        value = self._data.get(name)
        if value is None and default is not None and name not in self._data:
            return default
        if isinstance(value, str) and value in choices:
            return value
        self.error(name, f"One of: {', '.join(choices)}.")
        return choices[0]

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """true or false, nothing that merely looks like it."""
        value = self._data.get(name)
        if value is None and default is not None and name not in self._data:
            return default
        if not isinstance(value, bool):
            self.error(name, "true or false is required.")
            return False
        return value

    def whole(
        self,
        name: str,
        *,
        default: int | None = None,
        least: int = 0,
        most: int = WHOLE_MAX,
        code: Refusal = Refusal.INVALID_REQUEST,
    ) -> int:
        """A whole number within its bounds, in at most 18 ASCII digits, as a JSON number or a text."""
        value = self._data.get(name)
        if value is None and default is not None and name not in self._data:
            return default
        if isinstance(value, str) and WHOLE.fullmatch(value) and least <= int(value) <= most:
            return int(value)
        bounds = "" if most == WHOLE_MAX else f" from {least} to {most}"
        self.error(name, f"A whole number{bounds} is required.", code)
        return least

    def moment(self, name: str, code: Refusal) -> datetime:
        """A time after 1970, in UTC, as RFC 3339 writes it with a Z and at most microseconds."""
        value = self._data.get(name)
        if isinstance(value, str) and MOMENT.fullmatch(value):
            with contextlib.suppress(ValueError):
                at = datetime.fromisoformat(value)
                if at > _EPOCH:
                    return at
        self.error(name, "A time in UTC is required, like 2026-01-31T12:00:00Z.", code)
        return _EPOCH

    def decimal(self, name: str, code: Refusal) -> Decimal:
        """A plain decimal, as a text or as a JSON number that is written like one."""
        value = self._data.get(name)
        try:
            return parse_decimal(value)  # type: ignore[arg-type]
        except NumberRefused:
            self.error(name, "A plain decimal number is required.", code)
            return Decimal(1)
