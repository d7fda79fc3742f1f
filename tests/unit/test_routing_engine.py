"""The router as a dealer reads it: which rule, which book, which parts, which provider, and the sentences."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine import route
from tests.support.builders import (
    NOW_US,
    condition,
    eurusd,
    facts,
    instrument,
    lots,
    lp_settings,
    lp_top,
    policy,
    rule,
)
from trading.accounts import ClientClass
from trading.configuration import BelowLpMinimum
from trading.decisions import RoutingFacts
from trading.orders import Book, Side

ALL_TO_MARKET = policy(rule("all to the market", action="A"))


@pytest.mark.parametrize(
    ("volume", "client_class", "rule_id", "book", "volume_a", "volume_b"),
    [
        ("0.10", ClientClass.RETAIL, 3, Book.B, "0", "0.10"),
        ("0.99", ClientClass.RETAIL, 3, Book.B, "0", "0.99"),
        ("1.00", ClientClass.RETAIL, 2, Book.C, "0.60", "0.40"),
        ("1.50", ClientClass.RETAIL, 2, Book.C, "0.90", "0.60"),
        ("1.01", ClientClass.RETAIL, 2, Book.C, "0.61", "0.40"),
        ("0.01", ClientClass.PROFESSIONAL, 1, Book.A, "0.01", "0"),
        ("1.50", ClientClass.PROFESSIONAL, 1, Book.A, "1.50", "0"),
    ],
)
def test_the_demo_policy_sends_each_order_to_its_book(
    volume: str, client_class: ClientClass, rule_id: int, book: Book, volume_a: str, volume_b: str
) -> None:
    decision = route(facts(volume, client_class=client_class), policy())
    assert (decision.rule_id, decision.book) == (rule_id, book)
    assert (decision.volume_a, decision.volume_b) == (lots(volume_a), lots(volume_b))


def test_the_first_rule_that_matches_decides() -> None:
    both = policy(rule("first", id=11), rule("second", action="A", id=12))
    decision = route(facts(), both)
    assert (decision.rule_id, decision.rule_name) == (11, "first")
    assert [trace.rule_id for trace in decision.rules] == [11]


def test_every_condition_of_a_looked_at_rule_is_recorded_also_after_a_failed_one() -> None:
    strict = rule("strict", condition("symbol", "=", "GBPUSD"), condition("volume", ">=", "0.05"), id=1)
    decision = route(facts("0.10"), policy(strict, rule(id=2)))
    first, second = decision.rules
    assert [(c.field, c.operator, c.expected, c.actual, c.passed) for c in first.conditions] == [
        ("symbol", "=", ("GBPUSD",), "EURUSD", False),
        ("volume", ">=", ("0.05",), "0.10", True),
    ]
    assert (first.matched, second.matched, second.conditions) == (False, True, ())


def test_a_shared_decision_reads_aloud() -> None:
    decision = route(facts("1.50"), policy())
    assert decision.reasons == (
        "Rule 2 'large tickets shared' matched: volume 1.50 >= 1.",
        "60 % of 1.50 lots is 0.90 to the market, 0.60 to the house.",
        "YOFX1 offers 1.08512 for 5.00 lots, the best of 2.",
    )
    assert [c.reason for c in decision.candidates] == [
        "YOFX1 offers 1.08512 for 5.00 lots, the best of 2.",
        "PRIMEXM offers 1.08513 for 5.00 lots.",
    ]


def test_a_house_decision_reads_aloud_and_has_no_candidates() -> None:
    decision = route(facts("0.10"), policy())
    assert decision.reasons == (
        "Rule 3 'everyone else' matched: it takes every order.",
        "All 0.10 lots stay with the house.",
    )
    assert (decision.candidates, decision.lp, decision.lacks_provider) == ((), "", False)


def test_a_market_decision_reads_aloud() -> None:
    decision = route(facts("1.50", client_class=ClientClass.PROFESSIONAL, side=Side.SELL), policy())
    assert decision.reasons == (
        "Rule 1 'professionals to the market' matched: client class professional = professional.",
        "All 1.50 lots go to the market.",
        "YOFX1 bids 1.08510 for 5.00 lots, the best of 2.",
    )


def test_the_decision_names_the_versions_and_the_quote_it_was_made_on() -> None:
    asked = facts(config_version=41)
    decision = route(asked, policy(rule(), version=17))
    assert (decision.config_version, decision.policy_version, decision.quote) == (41, 17, asked.quote)


def test_a_policy_that_replaces_another_decides_at_once() -> None:
    assert route(facts(), policy(rule("house"))).book is Book.B
    assert route(facts(), policy(rule("market", action="A"))).book is Book.A


# --- the split ---


@pytest.mark.parametrize(
    ("volume", "a_share", "volume_a", "book"),
    [
        ("0.01", "0.6", "0.01", Book.A),  # 0.006 is nearer to 0.01
        ("0.01", "0.5", "0.01", Book.A),  # the half goes up
        ("0.01", "0.4", "0", Book.B),
        ("0.03", "0.5", "0.02", Book.C),
        ("1.00", "0.999", "1.00", Book.A),
        ("1.00", "0.994", "0.99", Book.C),
    ],
)
def test_the_a_part_is_rounded_half_up_to_the_providers_step(
    volume: str, a_share: str, volume_a: str, book: Book
) -> None:
    decision = route(facts(volume), policy(rule("shared", action="C", a_share=a_share)))
    assert (decision.volume_a, decision.book, decision.wanted) == (lots(volume_a), book, Book.C)


@pytest.mark.parametrize(
    ("volume", "below", "volume_a", "book"),
    [
        ("1.00", BelowLpMinimum.HOUSE, "0", Book.B),
        ("1.00", BelowLpMinimum.ROUND_UP, "0.70", Book.C),
        ("0.70", BelowLpMinimum.ROUND_UP, "0.70", Book.A),
        ("0.69", BelowLpMinimum.ROUND_UP, "0", Book.B),
        ("1.17", BelowLpMinimum.HOUSE, "0.70", Book.C),
    ],
)
def test_a_part_below_the_providers_minimum_follows_the_rule(
    volume: str, below: BelowLpMinimum, volume_a: str, book: Book
) -> None:
    providers = {"YOFX1": lp_settings("YOFX1", volume_min="0.70")}
    shares = policy(rule("shared", action="C", below_lp_minimum=below))
    decision = route(facts(volume, lps=providers), shares)
    assert (decision.volume_a, decision.book, decision.wanted) == (lots(volume_a), book, Book.C)


def test_a_shared_order_that_becomes_the_houses_says_why() -> None:
    decision = route(facts("0.01"), policy(rule("shared", action="C", a_share="0.4")))
    assert decision.reasons[1:] == (
        "YOFX1 deals from 0.01 lots in steps of 0.01, which does not fit the part.",
        "PRIMEXM deals from 0.01 lots in steps of 0.01, which does not fit the part.",
        "All 0.01 lots stay with the house.",
    )
    assert not decision.lacks_provider


def test_a_rounded_split_says_that_it_is_not_the_exact_share() -> None:
    decision = route(facts("1.01"), policy())
    assert decision.reasons[1] == (
        "60 % of 1.01 lots in a size that the market deals is 0.61 to the market, 0.40 to the house."
    )


def test_what_is_finer_than_the_providers_step_stays_with_the_house_even_of_a_market_order() -> None:
    fine = instrument(volume_step=lots("0.001"), volume_min=lots("0.001"))
    decision = route(facts("0.018", instrument=fine), ALL_TO_MARKET)
    assert (decision.volume_a, decision.volume_b, decision.book) == (lots("0.01"), lots("0.008"), Book.C)


def test_each_provider_is_judged_by_its_own_step_and_minimum() -> None:
    coarse = lp_settings("YOFX1", volume_min="1.00", volume_step="1.00")
    decision = route(facts("1.00", lps={"YOFX1": coarse, "PRIMEXM": lp_settings("PRIMEXM")}), policy())
    assert (decision.lp, decision.volume_a) == ("YOFX1", lots("1.00"))  # 0.60 rounds to its one lot, at the best price
    decision = route(facts("1.00", lps={"PRIMEXM": lp_settings("PRIMEXM")}), policy())
    assert (decision.lp, decision.volume_a) == ("PRIMEXM", lots("0.60"))


# --- the provider ---


def test_a_market_order_without_any_provider_is_left_without_one_to_be_refused() -> None:
    dead = eurusd("1.08510", "1.08512", tops=(lp_top("YOFX1", tradable=False),))
    decision = route(facts("0.60", quote=dead), ALL_TO_MARKET)
    assert (decision.book, decision.volume_a, decision.lp) == (Book.A, lots("0.60"), "")
    assert decision.lacks_provider
    assert decision.reasons[-3:] == (
        "YOFX1 cannot be dealt with: its trade session is down or its price is stale.",
        "PRIMEXM has no price.",
        "No provider can take 0.60 lots of EURUSD now.",
    )


def test_an_outage_never_makes_a_market_part_the_houses_risk() -> None:
    providers = {"YOFX1": lp_settings("YOFX1"), "PRIMEXM": lp_settings("PRIMEXM", volume_min="5.00")}
    only_coarse_is_up = eurusd("1.08510", "1.08512", tops=(lp_top("PRIMEXM"),))
    decision = route(facts("1.00", lps=providers, quote=only_coarse_is_up), policy())
    assert decision.lacks_provider
    assert decision.volume_a == lots("0.60")


def test_a_symbol_that_nobody_trades_has_a_market_part_and_no_provider() -> None:
    providers = {"YOFX1": lp_settings("YOFX1", symbols=["GBPUSD"])}
    decision = route(facts("1.00", lps=providers), ALL_TO_MARKET)
    assert decision.lacks_provider
    assert decision.volume_a == lots("1.00")
    assert [c.reason for c in decision.candidates] == ["YOFX1 does not trade EURUSD."]


def test_the_house_needs_no_provider() -> None:
    decision = route(facts("0.10", lps={}), policy())
    assert (decision.book, decision.lacks_provider) == (Book.B, False)


VOLUMES = st.integers(min_value=1, max_value=10_000).map(lambda steps: Decimal(steps) / 100)
SHARES = st.integers(min_value=1, max_value=999).map(lambda thousandths: Decimal(thousandths) / 1000)
STEPS = st.sampled_from([Decimal("0.01"), Decimal("0.03"), Decimal("0.1"), Decimal("0.5"), Decimal(1)])


@given(
    volume=VOLUMES,
    a_share=SHARES,
    step=STEPS,
    min_steps=st.integers(min_value=1, max_value=20),
    below=st.sampled_from(BelowLpMinimum),
)
def test_the_parts_are_the_whole_and_what_the_provider_deals(
    volume: Decimal, a_share: Decimal, step: Decimal, min_steps: int, below: BelowLpMinimum
) -> None:
    minimum = step * min_steps
    providers = {"YOFX1": lp_settings("YOFX1", volume_min=str(minimum), volume_step=str(step))}
    shares = policy(rule("shared", action="C", a_share=str(a_share), below_lp_minimum=below))
    decision = route(facts(str(volume), lps=providers), shares)
    assert decision.volume_a + decision.volume_b == volume
    assert decision.volume_a >= 0
    assert decision.volume_b >= 0
    assert decision.volume_a % step == 0
    assert decision.volume_a == 0 or decision.volume_a >= minimum
    assert decision.book is (Book.B if not decision.volume_a else Book.C if decision.volume_b else Book.A)
    if decision.volume_a and decision.volume_a != minimum:
        assert abs(decision.volume_a - a_share * volume) <= step


@given(
    asks=st.lists(st.integers(min_value=108_500, max_value=108_520), min_size=1, max_size=5),
    sizes=st.lists(st.integers(min_value=0, max_value=9), min_size=5, max_size=5),
    side=st.sampled_from(Side),
)
def test_nobody_who_shows_the_full_size_is_better_than_the_chosen_one(
    asks: list[int], sizes: list[int], side: Side
) -> None:
    tops = tuple(
        lp_top(f"LP{n}", bid=f"{ask - 2}E-5", ask=f"{ask}E-5", bid_size=str(size), ask_size=str(size))
        for n, (ask, size) in enumerate(zip(asks, sizes, strict=False))
    )
    providers = {top.lp: lp_settings(top.lp) for top in tops}
    asked = facts("5.00", side=side, lps=providers, quote=eurusd("1.0", "1.1", tops=tops))
    decision = route(asked, ALL_TO_MARKET)
    showing = [(side.sign * (top.ask if side is Side.BUY else top.bid), top.lp) for top in tops if top.ask_size >= 5]
    if showing:
        assert decision.lp == min(showing)[1]
    elif any(top.ask_size for top in tops):
        most = max(top.ask_size for top in tops)
        assert next(top for top in tops if top.lp == decision.lp).ask_size == most
    else:
        assert decision.lacks_provider


def test_the_same_facts_give_the_same_decision() -> None:
    def asked() -> RoutingFacts:
        return facts("1.50", now_us=NOW_US + 7)

    assert route(asked(), policy()) == route(asked(), policy())
