"""A symbol's terms as one group has them: overrides applied from the top down, and which rule set what.

A rule names symbols by a mask and the fields it changes, nested ones by a dotted path (`swap.long`). A field that a rule
does not name, or names with the value "default", keeps what it had: a later rule never resets an earlier one by silence.
It works on any msgspec struct by reading its fields; what the fields mean is none of its business. What makes no sense is
found when the document is published (`override_problems`); after that, `effective` cannot fail.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields, replace

from trading.masks import MaskRefused, mask
from trading.numbers import NumberRefused, is_plain, parse_decimal, plain

UNCHANGED = "default"
"""The value that leaves a field as it is."""

OWN = "symbol"
"""What provenance says of a field that no rule has set: it is the symbol's own."""

SHOWN_MAX = 80
"""Characters of a refused value that are repeated."""

IDENTITY = frozenset({"symbol", "base", "quote", "digits", "contract_size", "asset_class", "quote_filter"})
"""What a symbol is, the same for every group: positions of two groups must net, and the provider knows only one contract.
So is what filters the providers' prices, which are judged once for everybody."""

T = TypeVar("T", bound=Struct)
Document = TypeVar("Document")
Provenance = dict[str, str]
"""Dotted path of each field to the name of the rule that set it, or OWN."""


class Override(Struct, frozen=True, kw_only=True):
    """One rule of a group: which symbols, and which fields become what. Values are JSON: decimals are texts."""

    name: str
    symbols: str
    """A mask: `EUR*,!EURCHF`."""
    changes: dict[str, Any]
    """Dotted path to value; null where the field may be empty, "default" to leave it as it is."""


def effective(terms: T, overrides: Iterable[Override], *, symbol: str) -> tuple[T, Provenance]:
    """The terms after every rule whose mask matches `symbol`, in order, and where each field's value came from."""
    provenance = dict.fromkeys(_paths(terms), OWN)
    for rule in overrides:
        if not mask(rule.symbols)(symbol):
            continue
        for path, value in rule.changes.items():
            if value != UNCHANGED:
                terms = _with(terms, path.split("."), value)
                provenance = _marked(provenance, terms, path, rule.name)
    return terms, provenance


def sourced(terms: Struct, provenance: Provenance) -> tuple[tuple[str, str, str], ...]:
    """Each field as (dotted path, value, rule that set it), in the order of the fields."""
    return tuple((path, _shown(_value_at(terms, path.split("."))), rule) for path, rule in provenance.items())


def described(terms: Struct, provenance: Provenance) -> tuple[str, ...]:
    """One line per field, `volume_max = 20 (VIP metals)`, as the back office prints effective settings."""
    return tuple(f"{path} = {value} ({rule})" for path, value, rule in sourced(terms, provenance))


def as_of(versions: Sequence[tuple[int, Document]], at_us: int) -> Document | None:
    """The document that was valid at an instant, out of (valid from, document) pairs in any order; None before the first.

    Of two with the same beginning the one that stands later counts: it was published over the other.
    """
    found: tuple[int, Document] | None = None
    for version in versions:
        if version[0] <= at_us and (found is None or version[0] >= found[0]):
            found = version
    return None if found is None else found[1]


def _paths(value: object, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all fields that hold no struct themselves."""
    if not isinstance(value, Struct):
        yield prefix
        return
    for name in value.__struct_fields__:
        yield from _paths(getattr(value, name), f"{prefix}.{name}" if prefix else name)


def _marked(provenance: Provenance, terms: Struct, path: str, rule: str) -> Provenance:
    """In the order of the fields; whatever lies under `path` now comes from this rule, however it looked before."""
    return {
        known: rule if known == path or known.startswith(f"{path}.") else provenance.get(known, OWN)
        for known in _paths(terms)
    }


def _with(terms: T, path: list[str], value: object) -> T:
    name, rest = path[0], path[1:]
    if rest:
        return replace(terms, **{name: _with(getattr(terms, name), rest, value)})
    return replace(terms, **{name: msgspec.convert(value, type=_field(type(terms), name).type)})


def _value_at(terms: object, path: list[str]) -> object:
    for name in path:
        terms = getattr(terms, name)
    return terms


def _shown(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _field(kind: type[Struct], name: str) -> FieldInfo:
    return next(field for field in fields(kind) if field.name == name)


# --- what may be published ---


def override_problems(overrides: Sequence[Override], symbols: dict[str, T]) -> tuple[str, ...]:
    """What is wrong with a group's rules, as sentences; empty when they can be published.

    `symbols` holds every symbol's own terms: each rule is tried on each symbol it matches, after the rules above it.
    """
    names = [rule.name for rule in overrides]
    problems = [f"two overrides are called {name!r}" for name in dict.fromkeys(names) if names.count(name) > 1]
    sound: list[Override] = []
    for rule in overrides:
        found = _rule_problems(rule, sound, symbols)
        problems += [f"override {rule.name!r}: {problem}" for problem in found]
        sound += [] if found else [rule]
    return tuple(problems)


def _rule_problems(rule: Override, above: Sequence[Override], symbols: dict[str, T]) -> list[str]:
    try:
        matches = mask(rule.symbols)
    except MaskRefused as refused:
        return [str(refused)]
    if not any(value != UNCHANGED for value in rule.changes.values()):
        return ["it changes nothing"]
    matched = [symbol for symbol in symbols if matches(symbol)]
    if not matched:
        return [f"no symbol matches {rule.symbols!r}"]
    return list(
        dict.fromkeys(problem for symbol in matched for problem in _tried(rule, above, symbols[symbol], symbol))
    )


def _tried(rule: Override, above: Sequence[Override], own: Struct, symbol: str) -> Iterator[str]:
    """The rule's changes on one symbol, each on top of those that went well."""
    terms, _ = effective(own, above, symbol=symbol)
    for path, value in rule.changes.items():
        problem = _change_problem(terms, path, value)
        if problem:
            yield problem
        elif value != UNCHANGED:
            terms = _with(terms, path.split("."), value)


def _change_problem(terms: Struct, path: str, value: object) -> str | None:
    if path.partition(".")[0] in IDENTITY:
        return f"{path} is the same for every group and cannot be changed"
    holder: object = terms
    *parents, name = path.split(".")
    for parent in parents:
        if not isinstance(holder, Struct) or parent not in holder.__struct_fields__:
            return f"there is no setting {path}"
        holder = getattr(holder, parent)
    if holder is None:
        return f"{'.'.join(parents)} is not set, so {path} cannot be changed alone"
    if not isinstance(holder, Struct) or name not in holder.__struct_fields__:
        return f"there is no setting {path}"
    return None if value == UNCHANGED else value_problem(path, value, _field(type(holder), name).type)


def value_problem(path: str, value: object, kind: Any) -> str | None:
    """Why the JSON `value` cannot be a `kind`, as a sentence that names `path`; None when it can.

    Stricter than msgspec: a misspelt field is not dropped in silence, and a number is written with plain digits.
    """
    try:
        converted = msgspec.convert(value, type=kind)
    except msgspec.ValidationError as refused:
        return f"{path} cannot be {_shortened(_shown(value))}: {_lower(str(refused))}"
    return next(_complaints(path, value, converted), None)


def _complaints(path: str, value: object, converted: object) -> Iterator[str]:
    """What msgspec lets pass: a misspelt nested field (dropped in silence), and numbers that are not plain digits."""
    if isinstance(converted, Struct) and isinstance(value, dict):
        yield from (f"there is no setting {path}.{name}" for name in value if name not in converted.__struct_fields__)
    for name, inner, outer in _inside(value, converted):
        yield from _complaints(f"{path}.{name}", inner, outer)
    if isinstance(value, float) or (isinstance(converted, Decimal) and not _is_plain_number(value)):
        yield f"{path} cannot be {_shown(value)}: a number is written with plain digits, as a text"


def _inside(value: object, converted: object) -> Iterator[tuple[object, object, object]]:
    """The parts of a nested value, as written and as understood."""
    if isinstance(converted, Struct) and isinstance(value, dict):
        yield from ((name, value[name], getattr(converted, name)) for name in value if hasattr(converted, name))
    elif isinstance(converted, dict) and isinstance(value, dict):
        yield from ((key, value[key], converted[key]) for key in value if key in converted)
    elif isinstance(converted, tuple | list) and isinstance(value, tuple | list):
        yield from ((number, *pair) for number, pair in enumerate(zip(value, converted, strict=True)))


def _is_plain_number(value: object) -> bool:
    """A whole number or a text of plain digits; not a float, nor what only Python reads as a number (`1E5`, `1_000`)."""
    if isinstance(value, Decimal):
        return is_plain(value)
    try:
        parse_decimal(str(value))
    except NumberRefused:
        return False
    return isinstance(value, int | str)


def _shortened(text: str) -> str:
    """Enough of a value to find it by."""
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
