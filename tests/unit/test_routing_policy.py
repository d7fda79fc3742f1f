"""Conditions, masks, and the policies that are refused when published."""

from decimal import Decimal

import pytest

from routing.conditions import (
    NUMBER_FIELDS,
    NUMBER_OPERATORS,
    TEXT_FIELDS,
    TEXT_OPERATORS,
    compile_condition,
)
from routing.policy import COMPILED_MAX, check_policy, compiled_rules
from tests.support.builders import condition, facts, instrument, policy, rule
from trading.configuration import Condition, ConfigurationRefused, Field, Operator, Policy, Rule
from trading.masks import mask


def test_every_field_can_be_read_and_every_operator_compares_something() -> None:
    assert set(TEXT_FIELDS) | set(NUMBER_FIELDS) == set(Field)
    assert not set(TEXT_FIELDS) & set(NUMBER_FIELDS)
    assert set(TEXT_OPERATORS) | set(NUMBER_OPERATORS) == set(Operator)


@pytest.mark.parametrize(
    ("asked", "passed", "actual"),
    [
        (condition("symbol", "=", "EURUSD"), True, "EURUSD"),
        (condition("symbol", "=", "eurusd"), False, "EURUSD"),
        (condition("symbol", "!=", "EURUSD"), False, "EURUSD"),
        (condition("symbol", "in", "GBPUSD", "EURUSD"), True, "EURUSD"),
        (condition("symbol", "in", "GBPUSD"), False, "EURUSD"),
        (condition("symbol", "not in", "GBPUSD", "USDJPY"), True, "EURUSD"),
        (condition("symbol", "mask", "EUR*"), True, "EURUSD"),
        (condition("symbol", "mask", "EUR*,!*USD"), False, "EURUSD"),
        (condition("group", "=", "retail"), True, "retail"),
        (condition("group", "not in", "retail"), False, "retail"),
        (condition("client_class", "=", "professional"), False, "retail"),
        (condition("client_class", "!=", "professional"), True, "retail"),
        (condition("account", "=", "10001"), True, "10001"),
        (condition("account", ">", "10001"), False, "10001"),
        (condition("account", "in", "7", "10001"), True, "10001"),
        (condition("volume", "=", "1"), True, "1.00"),
        (condition("volume", "!=", "1.000"), False, "1.00"),
        (condition("volume", ">", "1"), False, "1.00"),
        (condition("volume", ">", "0.99"), True, "1.00"),
        (condition("volume", ">=", "1"), True, "1.00"),
        (condition("volume", ">=", "1.01"), False, "1.00"),
        (condition("volume", "<", "1"), False, "1.00"),
        (condition("volume", "<", "10"), True, "1.00"),  # as numbers: as text, 1.00 would not be below 10
        (condition("volume", "<=", "1"), True, "1.00"),
        (condition("volume", "in", "0.5", "1"), True, "1.00"),
        (condition("volume", "not in", "1"), False, "1.00"),
    ],
)
def test_a_condition_compares_and_records_what_it_saw(asked: Condition, passed: bool, actual: str) -> None:
    trace = compile_condition(asked)(facts("1.00"))
    assert (trace.passed, trace.actual) == (passed, actual)
    assert (trace.field, trace.operator, trace.expected) == (asked.field, asked.operator, asked.values)


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("*", ["EURUSD", "X"], []),
        ("EUR*", ["EURUSD", "EUR"], ["XEURUSD", "eurusd"]),
        ("EUR*,!EURCHF", ["EURUSD"], ["EURCHF", "GBPUSD"]),
        ("!EURCHF, EUR*", ["EURUSD"], ["EURCHF"]),
        ("EUR*,GBP*,!*CHF", ["EURUSD", "GBPUSD"], ["EURCHF", "GBPCHF", "USDJPY"]),
        ("???USD", ["EURUSD"], ["USD", "EURUSDX"]),
        ("[EG]*USD", ["EURUSD", "GBPUSD"], ["AUDUSD"]),
        ("EURUSD.a", ["EURUSD.a"], ["EURUSDxa"]),
    ],
)
def test_a_mask_lets_in_and_keeps_out(pattern: str, inside: list[str], outside: list[str]) -> None:
    matches = mask(pattern)
    assert [text for text in inside + outside if matches(text)] == inside


def test_a_fractional_volume_equals_its_other_spelling() -> None:
    fine = instrument(volume_step=Decimal("0.001"))
    assert compile_condition(condition("volume", "=", "0.10"))(facts("0.100", instrument=fine)).passed


LAST = rule("everyone else", id=99)


def test_the_demo_policy_can_be_published() -> None:
    check_policy(policy())


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ((rule("x", condition("volume", ">", "1")),), "the last routing rule must have no conditions"),
        ((rule("one", id=99), LAST), "the same id"),
        ((rule(" "), LAST), "routing rule 1 has no name"),
        ((rule("x", action="C", a_share="1"), LAST), "an A share of 1 does not fit action C"),
        ((rule("x", action="C", a_share="0"), LAST), "an A share of 0 does not fit action C"),
        ((rule("x", action="A", a_share="0.5"), LAST), "does not fit action A"),
        ((rule("x", action="B", a_share="0.5"), LAST), "does not fit action B"),
        ((rule("x", action="C", a_share="1.5"), LAST), "between 0 and 1"),
        ((rule("x", action="C", a_share="-0.1"), LAST), "between 0 and 1"),
        ((rule("x", action="C", a_share="NaN"), LAST), "between 0 and 1"),
        ((rule("x", condition("symbol", ">", "EURUSD")), LAST), "'>' cannot compare the text symbol"),
        ((rule("x", condition("group", "<=", "a")), LAST), "'<=' cannot compare the text group"),
        ((rule("x", condition("volume", "mask", "1*")), LAST), "'mask' cannot compare the number volume"),
        ((rule("x", condition("volume", ">", "much")), LAST), "'much' is not a plain number"),
        ((rule("x", condition("volume", ">", "1e3")), LAST), "'1e3' is not a plain number"),
        ((rule("x", condition("volume", ">", "NaN")), LAST), "'NaN' is not a plain number"),
        ((rule("x", condition("volume", ">", "١")), LAST), "is not a plain number"),
        ((rule("x", condition("volume", ">", "-1")), LAST), "volume is never below zero"),
        ((rule("x", condition("account", "=", "1.5")), LAST), "account numbers are whole"),
        ((rule("x", condition("symbol", "in")), LAST), "symbol 'in' compares with nothing"),
        ((rule("x", condition("symbol", "=")), LAST), "compares with nothing"),
        ((rule("x", condition("symbol", "=", "")), LAST), "compares with nothing"),
        ((rule("x", condition("symbol", "=", "EURUSD ")), LAST), "begins or ends with a space"),
        ((rule("x", condition("symbol", "=", "EURUSD", "GBPUSD")), LAST), "takes one value, not 2"),
        ((rule("x", condition("client_class", "=", "profesional")), LAST), "there is no client class profesional"),
        ((rule("x", condition("symbol", "mask", "!EURUSD")), LAST), "only exclusions"),
        ((rule("x", condition("symbol", "mask", "EUR*,")), LAST), "an empty part"),
        ((rule("x", condition("symbol", "mask", "EUR*,!")), LAST), "an empty part"),
    ],
)
def test_a_policy_with_nonsense_is_refused_with_a_sentence(rules: tuple[Rule, ...], sentence: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        check_policy(policy(*rules))
    assert sentence in str(refused.value)


def test_an_empty_policy_is_refused() -> None:
    with pytest.raises(ConfigurationRefused, match="last routing rule"):
        check_policy(Policy(version=1, rules=()))


def test_compiled_policies_are_remembered_by_identity_and_the_memory_is_bounded() -> None:
    first, twin = policy(LAST), policy(LAST)
    rules = compiled_rules(first)
    assert compiled_rules(first) is rules
    assert compiled_rules(twin) is not rules
    for _ in range(COMPILED_MAX):
        compiled_rules(policy(LAST))
    assert compiled_rules(first) is not rules
