"""Maker and taker fees, as exchanges charge them: a percentage of the value, lower for who trades much.

A maker's order waited in the book, a taker's was dealt at once. Fees are in the currency of the value.
"""

from decimal import Decimal

from msgspec import Struct

from trading.numbers import ZERO, round_half_up


class FeeTier(Struct, frozen=True, kw_only=True):
    """From a turnover (USD, in the schedule's period) of `at_least` on. Percentages: 0.10 is 0.10 %; below zero is a rebate."""

    at_least: Decimal
    maker: Decimal
    taker: Decimal


class FeeSchedule(Struct, frozen=True, kw_only=True):
    """Rising tiers; the first begins at 0."""

    tiers: tuple[FeeTier, ...] = (FeeTier(at_least=ZERO, maker=Decimal("0.10"), taker=Decimal("0.15")),)


class FeeScheduleRefused(ValueError):
    """The schedule cannot be used: says what is wrong, in a sentence."""


def check_fee_schedule(name: str, schedule: FeeSchedule) -> None:
    """Raise FeeScheduleRefused unless every turnover has its tier and the house never pays more than it takes."""
    bounds = [tier.at_least for tier in schedule.tiers]
    if any(not n.is_finite() for tier in schedule.tiers for n in (tier.at_least, tier.maker, tier.taker)):
        raise FeeScheduleRefused(f"{name}: fees and bounds must be numbers")
    if not bounds or bounds[0] != 0 or bounds != sorted(set(bounds)):
        raise FeeScheduleRefused(f"{name}: fee tiers must begin at 0 and rise")
    if any(tier.maker + tier.taker < 0 for tier in schedule.tiers):
        raise FeeScheduleRefused(f"{name}: a rebate to makers must not be more than takers pay")


def tier_for(schedule: FeeSchedule, turnover_usd: Decimal) -> FeeTier:
    """The highest tier that the turnover reaches."""
    return [tier for tier in schedule.tiers if tier is schedule.tiers[0] or turnover_usd >= tier.at_least][-1]


def maker_fee(schedule: FeeSchedule, *, value: Decimal, turnover_usd: Decimal, digits: int) -> Decimal:
    """What a maker pays for a fill of this value, half up; negative is a rebate."""
    return round_half_up(value * tier_for(schedule, turnover_usd).maker / 100, digits)


def taker_fee(schedule: FeeSchedule, *, value: Decimal, turnover_usd: Decimal, digits: int) -> Decimal:
    """What a taker pays for a fill of this value, half up."""
    return round_half_up(value * tier_for(schedule, turnover_usd).taker / 100, digits)
