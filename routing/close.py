"""A close follows its opening: it goes back to the book and the provider that opened the position, not by the policy.

The trick is to round what has been closed in all, not each close by itself: rounding errors then never add up, and the
last close takes exactly what is left at the provider.
"""

from decimal import Decimal

from routing.providers import standing
from routing.split import book_of, house_part
from trading.decisions import Decision, LpCandidate, RoutingFacts, RuleTrace
from trading.numbers import ZERO, plain, round_half_up, round_to_step
from trading.positions import Position

RULE_ID = 0
RULE_NAME = "close follows its opening"
SHARE_DIGITS = 10


def close_split(position: Position, volume: Decimal, step: Decimal, *, locked_a: Decimal) -> tuple[Decimal, Decimal]:
    """`volume` to close as (the provider's part, the house's part), adding up to it.

    `step` is the provider's. `locked_a` is the provider's part of `position.locked`: of closes decided but not yet
    answered, which count as done here. The parts never exceed what stands free in either book, so where the close is
    finer than the provider's step, a part may be off that step rather than open a position the other way.
    """
    free, free_a = position.volume - position.locked, position.volume_a - locked_a
    free_b = free - free_a
    assert 0 < volume <= free, "a close never exceeds what is open and not being closed"
    assert 0 <= locked_a <= position.locked, "the provider's part of the closes in flight is a part of them"
    assert free_a >= 0 and free_b >= 0, "closes in flight never exceed what is open in either book"  # noqa: PT018
    closed = position.volume_opened - free + volume
    closed_a = round_to_step(position.volume_a_opened * closed / position.volume_opened, step)
    wanted_a = closed_a - (position.volume_a_opened - free_a)
    volume_a = min(max(wanted_a, ZERO, volume - free_b), volume, free_a)
    return volume_a, house_part(volume, volume_a)


def close_decision(facts: RoutingFacts, position: Position, *, policy_version: int, locked_a: Decimal) -> Decision:
    """The route of a close: `facts.side` and `facts.volume` are the closing order's.

    The provider is the position's, also when it is disabled for new risk. When it cannot be dealt with now, its
    candidate says so: the order waits or is refused, but never goes elsewhere.
    """
    volume_a, volume_b = close_split(position, facts.volume, _step(facts, position), locked_a=locked_a)
    candidates = (_candidate(facts, position, volume_a),) if volume_a else ()
    return Decision(
        config_version=facts.config_version,
        policy_version=policy_version,
        rules=(RuleTrace(rule_id=RULE_ID, name=RULE_NAME, matched=True, conditions=()),),
        rule_id=RULE_ID,
        rule_name=RULE_NAME,
        wanted=book_of(position.volume_a_opened, position.volume_opened - position.volume_a_opened),
        book=book_of(volume_a, volume_b),
        a_share=round_half_up(position.volume_a_opened / position.volume_opened, SHARE_DIGITS).normalize(),
        volume_a=volume_a,
        volume_b=volume_b,
        candidates=candidates,
        lp=position.lp if volume_a else "",
        quote=facts.quote,
        reasons=(_opened(position), _closed(position, volume_a, volume_b), *(c.reason for c in candidates)),
    )


def _step(facts: RoutingFacts, position: Position) -> Decimal:
    lp = facts.lps.get(position.lp)
    terms = lp.instruments.get(position.symbol) if lp else None
    return terms.volume_step if terms else facts.instrument.volume_step


def _candidate(facts: RoutingFacts, position: Position, volume_a: Decimal) -> LpCandidate:
    lp = facts.lps.get(position.lp)
    if lp is not None and position.symbol in lp.instruments:
        return standing(facts, lp, volume_a)
    reason = f"{position.lp} is no longer configured for {position.symbol}."
    return LpCandidate(lp=position.lp, price=None, size=None, quote_id="", age_us=None, eligible=False, reason=reason)


def _opened(position: Position) -> str:
    opened_a, opened = position.volume_a_opened, position.volume_opened
    opened_b = opened - opened_a
    if not opened_a:
        return f"Position {position.id} was opened with the house: its close follows."
    if not opened_b:
        return f"Position {position.id} was opened at {position.lp}: its close follows."
    parts = f"{plain(opened_a)} at {position.lp} and {plain(opened_b)} with the house"
    return f"Position {position.id} was opened {parts}: its close follows."


def _closed(position: Position, volume_a: Decimal, volume_b: Decimal) -> str:
    if not volume_a:
        return f"All {plain(volume_b)} lots close with the house."
    if not volume_b:
        return f"All {plain(volume_a)} lots close at {position.lp}."
    whole = plain(volume_a + volume_b)
    return f"Of {whole} lots, {plain(volume_a)} close at {position.lp}, {plain(volume_b)} with the house."
