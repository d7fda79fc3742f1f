"""What a routing rule can ask about an order, as two total tables: how to read a field, how to compare it.

Every field is either text or a number; an operator that is absent from a field's table makes no sense there, and the
policy is refused when it is published. Conditions are compiled once per policy: texts to sets and patterns, numbers to
Decimals, so that looking at an order only compares.
"""

from collections.abc import Callable
from decimal import Decimal

from trading.accounts import ClientClass
from trading.configuration import Condition, ConfigurationRefused, Field, Operator
from trading.decisions import ConditionTrace, RoutingFacts
from trading.masks import MaskRefused, mask
from trading.numbers import NumberRefused, parse_decimal

Look = Callable[[RoutingFacts], ConditionTrace]
"""A compiled condition: looks at the facts, says what it saw and whether that passed."""

TEXT_FIELDS: dict[Field, Callable[[RoutingFacts], str]] = {
    Field.SYMBOL: lambda facts: facts.instrument.symbol,
    Field.GROUP: lambda facts: facts.group,
    Field.CLIENT_CLASS: lambda facts: str(facts.client_class),
}

NUMBER_FIELDS: dict[Field, Callable[[RoutingFacts], Decimal]] = {
    Field.VOLUME: lambda facts: facts.volume,
    Field.ACCOUNT: lambda facts: Decimal(facts.account),
}

TEXT_OPERATORS: dict[Operator, Callable[[tuple[str, ...]], Callable[[str], bool]]] = {
    Operator.EQUAL: lambda values: values[0].__eq__,
    Operator.NOT_EQUAL: lambda values: values[0].__ne__,
    Operator.IN: lambda values: frozenset(values).__contains__,
    Operator.NOT_IN: lambda values: lambda actual: actual not in values,
    Operator.MASK: lambda values: _mask(values[0]),
}

NUMBER_OPERATORS: dict[Operator, Callable[[tuple[Decimal, ...]], Callable[[Decimal], bool]]] = {
    Operator.EQUAL: lambda values: lambda actual: actual == values[0],
    Operator.NOT_EQUAL: lambda values: lambda actual: actual != values[0],
    Operator.IN: lambda values: lambda actual: actual in values,
    Operator.NOT_IN: lambda values: lambda actual: actual not in values,
    Operator.GREATER: lambda values: lambda actual: actual > values[0],
    Operator.AT_LEAST: lambda values: lambda actual: actual >= values[0],
    Operator.LESS: lambda values: lambda actual: actual < values[0],
    Operator.AT_MOST: lambda values: lambda actual: actual <= values[0],
}


def _mask(pattern: str) -> Callable[[str], bool]:
    try:
        return mask(pattern)
    except MaskRefused as error:
        raise ConfigurationRefused(str(error)) from None


MANY_VALUES = frozenset({Operator.IN, Operator.NOT_IN})


def compile_condition(condition: Condition) -> Look:
    """The condition as a function of the facts. Raises ConfigurationRefused for one that makes no sense."""
    _check_values(condition)
    return _compile_text(condition) if condition.field in TEXT_FIELDS else _compile_number(condition)


def _check_values(condition: Condition) -> None:
    asked = f"{condition.field.value} {condition.operator.value!r}"
    if not condition.values or not all(value.strip() for value in condition.values):
        raise ConfigurationRefused(f"{asked} compares with nothing")
    if any(value != value.strip() for value in condition.values):
        raise ConfigurationRefused(f"{asked} compares with a value that begins or ends with a space")
    if len(condition.values) > 1 and condition.operator not in MANY_VALUES:
        raise ConfigurationRefused(f"{asked} takes one value, not {len(condition.values)}")


def _compile_text(condition: Condition) -> Look:
    read = TEXT_FIELDS[condition.field]
    operator = TEXT_OPERATORS.get(condition.operator)
    if operator is None:
        raise ConfigurationRefused(f"{condition.operator.value!r} cannot compare the text {condition.field.value}")
    _check_names(condition)
    holds = operator(condition.values)
    field, operator_text, expected = condition.field.value, condition.operator.value, condition.values

    def look(facts: RoutingFacts) -> ConditionTrace:
        actual = read(facts)
        return ConditionTrace(
            field=field, operator=operator_text, expected=expected, actual=actual, passed=holds(actual)
        )

    return look


def _check_names(condition: Condition) -> None:
    """A misspelt client class would never match, in silence."""
    if condition.field is not Field.CLIENT_CLASS or condition.operator is Operator.MASK:
        return
    known = {client_class.value for client_class in ClientClass}
    unknown = [value for value in condition.values if value not in known]
    if unknown:
        raise ConfigurationRefused(f"there is no client class {', '.join(unknown)}")


def _compile_number(condition: Condition) -> Look:
    read = NUMBER_FIELDS[condition.field]
    operator = NUMBER_OPERATORS.get(condition.operator)
    if operator is None:
        raise ConfigurationRefused(f"{condition.operator.value!r} cannot compare the number {condition.field.value}")
    holds = operator(tuple(_number(condition.field, value) for value in condition.values))
    field, operator_text, expected = condition.field.value, condition.operator.value, condition.values

    def look(facts: RoutingFacts) -> ConditionTrace:
        actual = read(facts)
        return ConditionTrace(
            field=field, operator=operator_text, expected=expected, actual=format(actual, "f"), passed=holds(actual)
        )

    return look


def _number(field: Field, text: str) -> Decimal:
    try:
        number = parse_decimal(text)
    except NumberRefused:
        raise ConfigurationRefused(f"{text!r} is not a plain number to compare {field.value} with") from None
    if number < 0:
        raise ConfigurationRefused(f"{field.value} is never below zero, so it cannot be compared with {text}")
    if field is Field.ACCOUNT and number % 1:
        raise ConfigurationRefused(f"account numbers are whole, so none can be compared with {text}")
    return number
