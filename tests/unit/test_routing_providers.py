"""Who gets the market's part, who may be asked after a rejection, and what is said of those who cannot."""

import pytest

from routing.engine import route
from routing.providers import next_provider
from tests.support.builders import NOW_US, SECOND_US, eurusd, facts, lots, lp_settings, lp_top, policy, rule
from trading.configuration import LpSettings
from trading.decisions import Decision
from trading.orders import Side
from trading.quotes import LpTop

MARKET = policy(rule("all to the market", action="A"))


def chosen(*tops: LpTop, volume: str = "2.00", side: Side = Side.BUY, lps: tuple[LpSettings, ...] = ()) -> Decision:
    providers = {lp.name: lp for lp in lps or (lp_settings("YOFX1"), lp_settings("PRIMEXM"))}
    asked = facts(volume, side=side, lps=providers, quote=eurusd("1.08510", "1.08512", tops=tops))
    return route(asked, MARKET)


@pytest.mark.parametrize(
    ("side", "lp", "reason"),
    [
        (Side.BUY, "PRIMEXM", "PRIMEXM offers 1.08511 for 5.00 lots, the best of 2."),
        (Side.SELL, "YOFX1", "YOFX1 bids 1.08510 for 5.00 lots, the best of 2."),
    ],
)
def test_the_best_price_of_the_side_wins(side: Side, lp: str, reason: str) -> None:
    decision = chosen(lp_top("YOFX1"), lp_top("PRIMEXM", bid="1.08509", ask="1.08511"), side=side)
    assert (decision.lp, decision.candidates[0].reason) == (lp, reason)


def test_equal_prices_go_to_the_lower_priority_number_then_to_the_name() -> None:
    tops = (lp_top("YOFX1"), lp_top("PRIMEXM"))
    decision = chosen(*tops, lps=(lp_settings("PRIMEXM", priority=2), lp_settings("YOFX1", priority=1)))
    assert decision.lp == "YOFX1"
    assert decision.candidates[0].reason == "YOFX1 offers 1.08512 for 5.00 lots, equal to PRIMEXM and first in line."
    decision = chosen(*tops, lps=(lp_settings("YOFX1", priority=1), lp_settings("PRIMEXM", priority=1)))
    assert decision.lp == "PRIMEXM"


def test_a_better_price_for_too_little_gives_way_to_the_full_size() -> None:
    decision = chosen(lp_top("YOFX1", ask_size="1.99"), lp_top("PRIMEXM", ask="1.08513"))
    assert decision.lp == "PRIMEXM"
    assert [c.reason for c in decision.candidates] == [
        "PRIMEXM offers 1.08513 for 5.00 lots, the best of 2 that shows 2.00.",
        "YOFX1 offers 1.08512 for 1.99 lots, too little for 2.00.",
    ]


def test_exactly_the_size_is_enough() -> None:
    assert chosen(lp_top("YOFX1", ask_size="2.00"), lp_top("PRIMEXM", ask="1.08513")).lp == "YOFX1"


def test_where_nobody_shows_the_full_size_the_most_wins_and_the_reason_says_so() -> None:
    decision = chosen(lp_top("YOFX1", ask_size="0.50"), lp_top("PRIMEXM", ask="1.08520", ask_size="1.50"))
    assert decision.lp == "PRIMEXM"
    assert decision.reasons[-1] == "PRIMEXM offers 1.08520 for 1.50 lots, the most of 2, though less than 2.00."
    decision = chosen(lp_top("YOFX1", ask_size="1.50"), lp_top("PRIMEXM", ask="1.08511", ask_size="1.50"))
    assert decision.lp == "PRIMEXM"


@pytest.mark.parametrize(
    ("settings", "tops", "fault"),
    [
        (lp_settings(enabled=False), (lp_top(),), "YOFX1 is disabled."),
        (lp_settings(symbols=["GBPUSD"]), (lp_top(),), "YOFX1 does not trade EURUSD."),
        (
            lp_settings(volume_min="2.01"),
            (lp_top(),),
            "YOFX1 deals from 2.01 lots in steps of 0.01, which does not fit the part.",
        ),
        (lp_settings(), (), "YOFX1 has no price."),
        (
            lp_settings(),
            (lp_top(tradable=False),),
            "YOFX1 cannot be dealt with: its trade session is down or its price is stale.",
        ),
        (lp_settings(), (lp_top(at_us=NOW_US - 3 * SECOND_US - 1000),), "YOFX1's price is 3001 ms old."),
        (lp_settings(), (lp_top(ask_size="0"),), "YOFX1 shows nothing on this side."),
        (lp_settings(), (lp_top(ask="0"),), "YOFX1 shows nothing on this side."),
    ],
)
def test_who_cannot_take_the_part_is_passed_over_and_the_record_says_why(
    settings: LpSettings, tops: tuple[LpTop, ...], fault: str
) -> None:
    to_both = policy(rule("to both", action="A", lps=("YOFX1", "PRIMEXM")))
    providers = {"YOFX1": settings, "PRIMEXM": lp_settings("PRIMEXM")}
    quote = eurusd("1.08510", "1.08512", tops=(*tops, lp_top("PRIMEXM", ask="1.08519")))
    decision = route(facts("2.00", lps=providers, quote=quote), to_both)
    assert decision.lp == "PRIMEXM"
    best, passed_over = decision.candidates
    assert best.reason == "PRIMEXM offers 1.08519 for 5.00 lots, the only one of 2 that can be dealt with."
    assert (passed_over.lp, passed_over.eligible, passed_over.reason) == ("YOFX1", False, fault)


def test_a_price_of_exactly_the_greatest_age_is_fresh() -> None:
    decision = chosen(lp_top("YOFX1", at_us=NOW_US - 3 * SECOND_US))
    assert decision.lp == "YOFX1"
    assert decision.candidates[0].age_us == 3 * SECOND_US


def test_a_rule_that_names_providers_asks_only_them() -> None:
    asked = facts("2.00")
    decision = route(asked, policy(rule("to one", action="A", lps=("PRIMEXM",))))
    assert [c.lp for c in decision.candidates] == ["PRIMEXM"]
    assert decision.reasons[-1] == "PRIMEXM offers 1.08513 for 5.00 lots."


def test_a_rule_that_names_nobody_asks_all_enabled_ones() -> None:
    providers = {"YOFX1": lp_settings("YOFX1", enabled=False), "PRIMEXM": lp_settings("PRIMEXM")}
    assert [c.lp for c in route(facts("2.00", lps=providers), MARKET).candidates] == ["PRIMEXM"]


def test_the_candidate_keeps_what_was_seen() -> None:
    (seen, _) = chosen(lp_top("YOFX1", quote_id="Q7"), lp_top("PRIMEXM", ask="1.08513")).candidates
    assert (seen.price, seen.size, seen.quote_id, seen.age_us) == (lots("1.08512"), lots("5.00"), "Q7", 0)


# --- after a rejection ---


def test_after_a_rejection_the_next_best_is_asked_and_then_nobody() -> None:
    asked = facts("2.00")
    decision = route(asked, MARKET)
    assert decision.lp == "YOFX1"
    second = next_provider(asked, decision, ["YOFX1"])
    assert second is not None
    assert second.lp == "PRIMEXM"
    assert next_provider(asked, decision, ["YOFX1", "PRIMEXM"]) is None


def test_the_next_provider_is_judged_at_its_price_of_now() -> None:
    decision = route(facts("2.00"), MARKET)
    later = NOW_US + 4 * SECOND_US
    stale = facts("2.00", now_us=later)
    assert next_provider(stale, decision, ["YOFX1"]) is None
    renewed = facts("2.00", now_us=later, quote=eurusd("1.09000", "1.09002", at_us=later))
    second = next_provider(renewed, decision, ["YOFX1"])
    assert second is not None
    assert second.price == lots("1.09003")


def test_the_next_provider_must_deal_exactly_the_decided_part() -> None:
    decision = route(facts("0.60"), MARKET)
    for coarse in (lp_settings("PRIMEXM", volume_min="1.00"), lp_settings("PRIMEXM", volume_step="0.25")):
        asked = facts("0.60", lps={"YOFX1": lp_settings(), "PRIMEXM": coarse})
        assert next_provider(asked, decision, ["YOFX1"]) is None


def test_only_providers_that_the_rule_allowed_are_asked_next() -> None:
    asked = facts("2.00")
    decision = route(asked, policy(rule("to one", action="A", lps=("YOFX1",))))
    assert next_provider(asked, decision, ["YOFX1"]) is None


def test_a_provider_disabled_meanwhile_is_not_asked_next() -> None:
    decision = route(facts("2.00"), MARKET)
    asked = facts("2.00", lps={"YOFX1": lp_settings(), "PRIMEXM": lp_settings("PRIMEXM", enabled=False)})
    assert next_provider(asked, decision, ["YOFX1"]) is None


def test_a_house_decision_has_nobody_to_ask() -> None:
    asked = facts("0.10")
    assert next_provider(asked, route(asked, policy()), []) is None
