"""A policy as the router runs it: checked when it is published, compiled once, then only looked at.

Compiled policies are remembered by identity, because a published policy is one immutable object for its whole life. The
memory holds the few that are in use together (the live one and those being compared with it) and forgets the oldest.
"""

from msgspec import Struct

from routing.conditions import Look, compile_condition
from trading.configuration import ConfigurationRefused, Policy, Rule
from trading.decisions import ConditionTrace, RoutingFacts, RuleTrace
from trading.orders import Book

COMPILED_MAX = 8


class CompiledRule(Struct, frozen=True, kw_only=True):
    """A rule, its number in the policy's order as a dealer counts (from 1), and its conditions ready to look."""

    number: int
    rule: Rule
    looks: tuple[Look, ...]

    def look_at(self, facts: RoutingFacts) -> RuleTrace:
        """Every condition's actual value, also of those after a failed one: the record is whole."""
        traces = tuple([look(facts) for look in self.looks])
        matched = all(trace.passed for trace in traces)
        return RuleTrace(rule_id=self.rule.id, name=self.rule.name, matched=matched, conditions=traces)

    def matched_sentence(self, trace: RuleTrace) -> str:
        why = ", ".join([_condition_text(condition) for condition in trace.conditions]) or "it takes every order"
        return f"Rule {self.number} '{self.rule.name}' matched: {why}."


class _Compiled(Struct, frozen=True):
    policy: Policy
    rules: tuple[CompiledRule, ...]


_recent: tuple[_Compiled, ...] = ()
"""Replaced as a whole, never changed, so that readers in other threads see the old or the new one."""


def compiled_rules(policy: Policy) -> tuple[CompiledRule, ...]:
    """The policy's rules ready to look. Raises ConfigurationRefused for conditions that make no sense."""
    global _recent  # noqa: PLW0603 - a memo: the answer never depends on it
    for compiled in _recent:
        if compiled.policy is policy:
            return compiled.rules
    rules = tuple(_compile(number, rule) for number, rule in enumerate(policy.rules, start=1))
    _recent = (_Compiled(policy, rules), *_recent[: COMPILED_MAX - 1])
    return rules


def check_policy(policy: Policy) -> None:
    """Raise ConfigurationRefused, with a sentence, unless every order gets a decision from rules that make sense.

    Whether named providers exist is `trading.configuration.check_config`'s question: it needs the whole document.
    """
    if not policy.rules or policy.rules[-1].conditions:
        raise ConfigurationRefused("the last routing rule must have no conditions")
    ids = [rule.id for rule in policy.rules]
    if len(set(ids)) != len(ids):
        raise ConfigurationRefused("two routing rules have the same id, so a decision could not name its rule")
    for number, rule in enumerate(policy.rules, start=1):
        _check_share(number, rule)
        _compile(number, rule)


def _check_share(number: int, rule: Rule) -> None:
    share = rule.a_share
    if not rule.name.strip():
        raise ConfigurationRefused(f"routing rule {number} has no name")
    if not share.is_finite() or not 0 <= share <= 1:
        raise ConfigurationRefused(f"rule {rule.name!r}: the A share must be between 0 and 1, not {share}")
    fits = {Book.A: share == 1, Book.B: share == 0, Book.C: 0 < share < 1}
    if not fits[rule.action]:
        raise ConfigurationRefused(f"rule {rule.name!r}: an A share of {share} does not fit action {rule.action.value}")


def _compile(number: int, rule: Rule) -> CompiledRule:
    try:
        looks = tuple(compile_condition(condition) for condition in rule.conditions)
    except ConfigurationRefused as refused:
        raise ConfigurationRefused(f"rule {rule.name!r}: {refused}") from None
    return CompiledRule(number=number, rule=rule, looks=looks)


def _condition_text(condition: ConditionTrace) -> str:
    field = condition.field.replace("_", " ")
    return f"{field} {condition.actual} {condition.operator} {', '.join(condition.expected)}"
