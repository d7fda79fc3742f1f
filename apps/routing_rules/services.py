"""Routing rules checked as they are written: a rule that the router could stumble over never reaches the table."""

from typing import Any

import msgspec
from django.db import transaction

from apps.routing_rules.models import Rule
from trading import configuration
from trading.configuration import BelowLpMinimum, Condition, Field, Operator
from trading.numbers import NumberRefused, parse_decimal
from trading.orders import Book

CONDITIONS_MAX = 50
RULES_MAX = 200
VALUES_MAX = 1000
_NUMBERS = frozenset({Field.VOLUME, Field.ACCOUNT})
_SEVERAL = frozenset({Operator.IN, Operator.NOT_IN})
_ORDERED = frozenset({Operator.GREATER, Operator.AT_LEAST, Operator.LESS, Operator.AT_MOST})


class RuleRefused(ValueError):
    """What is wrong with a rule, in a sentence."""


def conditions_from(data: Any) -> tuple[Condition, ...]:
    """The conditions that a JSON list spells. Raises RuleRefused."""
    try:
        conditions = msgspec.convert(data, tuple[Condition, ...])
    except msgspec.ValidationError as error:
        raise RuleRefused(f"conditions: {error}") from None
    if len(conditions) > CONDITIONS_MAX:
        raise RuleRefused(f"at most {CONDITIONS_MAX} conditions")
    for condition in conditions:
        _check_condition(condition)
    return conditions


def _check_condition(condition: Condition) -> None:
    name = f"{condition.field} {condition.operator}"
    count = len(condition.values)
    if not 1 <= count <= (VALUES_MAX if condition.operator in _SEVERAL else 1):
        raise RuleRefused(
            f"{name} takes {'one or more values' if condition.operator in _SEVERAL else 'exactly one value'}"
        )
    if condition.field not in _NUMBERS:
        if condition.operator in _ORDERED:
            raise RuleRefused(f"{name}: {condition.field} has no order")
        return
    if condition.operator is Operator.MASK:
        raise RuleRefused(f"{name}: a mask needs text")
    try:
        for value in condition.values:
            parse_decimal(value)
    except NumberRefused:
        raise RuleRefused(f"{name}: every value must be a plain decimal number") from None


def rule_from(data: Any, *, id: int) -> configuration.Rule:  # noqa: A002 - the field's own name
    """A rule from the JSON of the API. Raises RuleRefused."""
    if not isinstance(data, dict):
        raise RuleRefused("a rule is an object")
    unknown = set(data) - {"name", "conditions", "action", "a_share", "lps", "below_lp_minimum"}
    if unknown:
        raise RuleRefused("a rule has name, conditions, action, a_share, lps and below_lp_minimum only")
    try:
        share = parse_decimal(data.get("a_share", "0"))
        action = Book(str(data.get("action")))
        below = BelowLpMinimum(data.get("below_lp_minimum", "house"))
    except (NumberRefused, ValueError):
        raise RuleRefused("action is A, B or C; a_share a plain decimal; below_lp_minimum house or round_up") from None
    if not {Book.A: share == 1, Book.B: share == 0, Book.C: 0 < share < 1}[action]:
        raise RuleRefused(f"an A share of {share} does not fit action {action}")
    name, lps = data.get("name"), data.get("lps", [])
    if not isinstance(name, str) or not 1 <= len(name) <= 100 or not name.isprintable():
        raise RuleRefused("a rule needs a name of at most 100 printable characters")
    if not isinstance(lps, list) or not all(isinstance(lp, str) for lp in lps):
        raise RuleRefused("lps is a list of names")
    return configuration.Rule(
        id=id,
        name=name,
        conditions=conditions_from(data.get("conditions", [])),
        action=action,
        a_share=share,
        lps=tuple(lps),
        below_lp_minimum=below,
    )


def rule_of(row: Rule) -> configuration.Rule:
    """The rule as the router reads it. Raises RuleRefused for what the admin's forms would not have let through."""
    return configuration.Rule(
        id=row.pk,
        name=row.name,
        conditions=conditions_from(row.conditions),
        action=Book(row.action),
        a_share=row.a_share,
        lps=tuple(row.lps),
        below_lp_minimum=BelowLpMinimum(row.below_lp_minimum),
    )


def replace_rules(rules: list[configuration.Rule]) -> None:
    """These rules instead of all that were there, in this order. They get new numbers: a number names one rule for ever."""
    if len(rules) > RULES_MAX:
        raise RuleRefused(f"at most {RULES_MAX} rules")
    with transaction.atomic():
        Rule.objects.all().delete()
        for place, rule in enumerate(rules, start=1):
            Rule.objects.create(
                order=place * 10,
                name=rule.name,
                conditions=[msgspec.to_builtins(condition) for condition in rule.conditions],
                action=rule.action.value,
                a_share=rule.a_share,
                lps=list(rule.lps),
                below_lp_minimum=rule.below_lp_minimum.value,
            )


def rule_shape(rule: configuration.Rule) -> dict[str, Any]:
    """A rule as the API shows and takes it."""
    return {
        "name": rule.name,
        "conditions": [msgspec.to_builtins(condition) for condition in rule.conditions],
        "action": rule.action.value,
        "a_share": rule.a_share.normalize() if rule.a_share else rule.a_share,
        "lps": list(rule.lps),
        "below_lp_minimum": rule.below_lp_minimum.value,
    }
