"""The router: facts and a policy in, a decision out, with everything that was looked at on the way.

Rules are tried in order and the first that matches decides; the last one always does. What the rule asks for is then
fitted to what the market can take: a shared order whose market part rounds away stays with the house, and an order that
should go to the market while no provider can be dealt with is left without one, to be refused.
"""

from decimal import Decimal

from msgspec.structs import replace

from routing.policy import CompiledRule, compiled_rules
from routing.providers import allowed_providers, choose_provider
from routing.split import book_of, house_part, market_part, split_sentence
from trading.configuration import LpInstrument, Policy, Rule
from trading.decisions import Decision, LpCandidate, RoutingFacts, RuleTrace
from trading.numbers import ONE, ZERO
from trading.orders import Book


def route(facts: RoutingFacts, policy: Policy) -> Decision:
    """The decision for one opening order. `policy` has passed `check_policy`."""
    traces: list[RuleTrace] = []
    for compiled in compiled_rules(policy):
        trace = compiled.look_at(facts)
        traces.append(trace)
        if trace.matched:
            return _decide(facts, policy, compiled, tuple(traces))
    raise AssertionError("a published policy ends with a rule that always matches")


def _decide(facts: RoutingFacts, policy: Policy, compiled: CompiledRule, traces: tuple[RuleTrace, ...]) -> Decision:
    matched = compiled.matched_sentence(traces[-1])
    rule = compiled.rule
    if facts.stp_only and rule.action is not Book.A:
        compiled = replace(compiled, rule=_to_the_market(rule))
        matched, rule = f"{matched[:-1]}, but {facts.stp_only}.", compiled.rule
    if rule.action is Book.B:
        split = split_sentence(facts.volume, rule.a_share, ZERO, facts.volume)
        return _decision(facts, policy, compiled, traces, volume_a=ZERO, reasons=(matched, split))

    def part_for(terms: LpInstrument) -> Decimal:
        return market_part(facts.volume, rule, terms)

    choice = choose_provider(facts, allowed_providers(facts, rule.lps), part_for)
    split = split_sentence(facts.volume, rule.a_share, choice.part, facts.volume - choice.part)
    if not choice.part and not facts.stp_only:
        return _decision(facts, policy, compiled, traces, volume_a=ZERO, reasons=(matched, *choice.reasons, split))
    part = choice.part or facts.volume
    return _decision(
        facts,
        policy,
        compiled,
        traces,
        volume_a=part,
        lp=choice.lp,
        candidates=choice.candidates,
        reasons=(matched, split, *choice.reasons),
    )


def _to_the_market(rule: Rule) -> Rule:
    """The rule as it is where the house may take nothing: all of it, to whichever provider the rule allows."""
    return replace(rule, action=Book.A, a_share=ONE)


def _decision(
    facts: RoutingFacts,
    policy: Policy,
    compiled: CompiledRule,
    traces: tuple[RuleTrace, ...],
    *,
    volume_a: Decimal,
    reasons: tuple[str, ...],
    lp: str = "",
    candidates: tuple[LpCandidate, ...] = (),
) -> Decision:
    volume_b = house_part(facts.volume, volume_a)
    return Decision(
        config_version=facts.config_version,
        policy_version=policy.version,
        rules=traces,
        rule_id=compiled.rule.id,
        rule_name=compiled.rule.name,
        wanted=compiled.rule.action,
        book=book_of(volume_a, volume_b),
        a_share=compiled.rule.a_share,
        volume_a=volume_a,
        volume_b=volume_b,
        candidates=candidates,
        lp=lp,
        quote=facts.quote,
        reasons=reasons,
    )
