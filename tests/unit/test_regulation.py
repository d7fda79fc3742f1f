"""Leverage caps and protections by jurisdiction, client class and date: the regulators' tables, row by row."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import decode, encode
from msgspec.structs import replace

from trading.accounts import ClientClass
from trading.regulation import (
    AU,
    ESMA,
    EU,
    FCA,
    NONE,
    SEEDED,
    UK,
    Asset,
    AssetKind,
    JurisdictionUnknown,
    RegulatoryRule,
    RegulatoryTerms,
    due_for_review,
    effective_leverage,
    is_stp_only,
    must_close_out,
    regulation_problems,
    terms_for,
)

NOW = date(2026, 11, 21)
RETAIL = ClientClass.RETAIL


def pair(symbol: str) -> Asset:
    return Asset(asset_class="fx", base=symbol[:3], quote=symbol[3:])


def asset(asset_class: str, base: str = "X", *, major: bool = False) -> Asset:
    return Asset(asset_class=asset_class, base=base, quote="USD", is_major_index=major)


@pytest.mark.parametrize(
    ("what", "eu", "uk", "au"),
    [
        (pair("EURUSD"), 30, 30, 30),
        (pair("CADCHF"), 30, 30, 30),
        (pair("AUDUSD"), 20, 20, 30),  # the Australian list of majors has the Australian dollar
        (pair("NZDUSD"), 20, 20, 20),
        (pair("AUDNZD"), 20, 20, 20),
        (asset("metal", "XAU"), 20, 20, 20),
        (asset("metal", "XAG"), 10, 10, 10),
        (asset("commodity", "WTI"), 10, 10, 10),
        (asset("index", "US500", major=True), 20, 20, 20),
        (asset("index", "PL20"), 10, 10, 10),
        (asset("share", "AAPL"), 5, 5, 5),
        (asset("bond", "BUND"), 5, 5, 5),
        (asset("crypto", "BTC"), 2, 2, 2),
    ],
)
def test_retail_caps(what: Asset, eu: int, uk: int, au: int) -> None:
    assert [terms_for(where, RETAIL, what, NOW).leverage_max for where in (EU, UK, AU)] == [eu, uk, au]


@pytest.mark.parametrize(
    ("where", "day", "rule"),
    [
        (EU, "2018-07-31", "no rule"),
        (EU, "2018-08-01", "ESMA CFD measures"),
        (EU, "2026-11-21", "ESMA CFD measures"),
        (UK, "2018-07-31", "no rule"),
        (UK, "2019-07-31", "ESMA CFD measures"),
        (UK, "2019-08-01", "FCA COBS 22.5"),
        (UK, "2021-01-05", "FCA COBS 22.5"),
        (UK, "2021-01-06", "FCA COBS 22.5 and 22.6"),
        (AU, "2021-03-28", "no rule"),
        (AU, "2021-03-29", "ASIC 2020/986"),
        (AU, "2027-06-01", "ASIC 2020/986"),  # an order that runs out takes nothing away until somebody decides
    ],
)
def test_rules_hold_from_their_day(where: str, day: str, rule: str) -> None:
    assert terms_for(where, RETAIL, pair("EURUSD"), date.fromisoformat(day)).rule == rule


def test_every_seeded_regime_protects_retail_clients_alike() -> None:
    for where in (EU, UK, AU):
        terms = terms_for(where, RETAIL, pair("EURUSD"), NOW)
        assert terms.bonus_banned
        assert terms.negative_balance_protection
        assert terms.close_out_share == Decimal("0.5")
        assert not terms.stp_only


@pytest.mark.parametrize("client_class", [ClientClass.PROFESSIONAL, ClientClass.ELIGIBLE_COUNTERPARTY])
@pytest.mark.parametrize("where", [EU, UK, AU, NONE])
def test_others_than_retail_have_no_cap(where: str, client_class: ClientClass) -> None:
    assert terms_for(where, client_class, pair("EURUSD"), NOW) == RegulatoryTerms()


@pytest.mark.parametrize(
    ("where", "day", "banned"),
    [(UK, "2021-01-05", False), (UK, "2021-01-06", True), (EU, "2026-11-21", False), (AU, "2026-11-21", False)],
)
def test_crypto_is_banned_for_british_retail_clients(where: str, day: str, banned: bool) -> None:
    assert terms_for(where, RETAIL, asset("crypto"), date.fromisoformat(day)).is_banned is banned
    assert not terms_for(where, RETAIL, pair("EURUSD"), date.fromisoformat(day)).is_banned


def test_an_account_without_jurisdiction_has_no_rule_and_a_misspelt_one_has_no_answer() -> None:
    assert terms_for(NONE, RETAIL, pair("EURUSD"), NOW) == RegulatoryTerms()
    with pytest.raises(JurisdictionUnknown):
        terms_for("EUU", RETAIL, pair("EURUSD"), NOW)


def test_a_broker_can_publish_a_regime_of_its_own() -> None:
    offshore = RegulatoryRule(
        name="house rules",
        jurisdiction="SC",
        client_classes=tuple(ClientClass),
        valid_from="2026-01-01",
        source="board decision 12",
        stp_only=True,
    )
    terms = terms_for("SC", ClientClass.PROFESSIONAL, pair("EURUSD"), NOW, (*SEEDED, offshore))
    assert terms == RegulatoryTerms(rule="house rules", stp_only=True)
    assert terms_for("SC", RETAIL, pair("EURUSD"), date(2025, 12, 31), (offshore,)) == RegulatoryTerms()


def test_rules_survive_their_codec() -> None:
    assert decode(encode(SEEDED), type=tuple[RegulatoryRule, ...]) == SEEDED


@pytest.mark.parametrize(
    ("account", "group", "cap", "expected"),
    [(500, 200, 30, 30), (10, 200, 30, 10), (500, 20, 30, 20), (500, 200, None, 200), (30, 30, 30, 30)],
)
def test_the_smallest_leverage_counts(account: int, group: int, cap: int | None, expected: int) -> None:
    assert effective_leverage(account=account, group=group, cap=cap) == expected


@pytest.mark.parametrize(
    ("equity", "margin", "closes"),
    [
        ("500.00", "1000.00", False),  # exactly half
        ("499.99", "1000.00", True),
        ("0.00", "0.01", True),
        ("0.01", "0.01", False),
        ("-5.00", "1000.00", True),
        ("-5.00", "0.00", False),  # nothing that this rule could close
        ("499999999999999999.99", "999999999999999999.99", True),
    ],
)
def test_positions_are_closed_below_half_of_the_initial_margin(equity: str, margin: str, closes: bool) -> None:
    retail = terms_for(EU, RETAIL, pair("EURUSD"), NOW)
    assert must_close_out(equity=Decimal(equity), initial_margin=Decimal(margin), terms=retail) is closes
    assert not must_close_out(equity=Decimal(equity), initial_margin=Decimal(margin), terms=RegulatoryTerms())


AMOUNTS = st.decimals(Decimal(0), Decimal("1E15"), places=2)


@given(equity=AMOUNTS, margin=AMOUNTS)
def test_close_out_is_twice_the_equity_below_the_margin(equity: Decimal, margin: Decimal) -> None:
    retail = terms_for(EU, RETAIL, pair("EURUSD"), NOW)
    assert must_close_out(equity=equity, initial_margin=margin, terms=retail) is (equity * 2 < margin)


@pytest.mark.parametrize("switch", ["firm", "group", "account", "law", None])
def test_any_stp_switch_is_enough(switch: str | None) -> None:
    terms = RegulatoryTerms(stp_only=switch == "law")
    found = is_stp_only(firm=switch == "firm", group=switch == "group", account=switch == "account", terms=terms)
    assert found is (switch is not None)


def test_an_order_that_runs_out_is_put_before_somebody() -> None:
    assert due_for_review(SEEDED, date(2027, 5, 22)) == ()
    assert [rule.name for rule in due_for_review(SEEDED, date(2027, 5, 23))] == ["ASIC 2020/986"]


# --- publishing ---


def test_the_seeded_rules_can_be_published_and_name_their_source() -> None:
    assert regulation_problems(SEEDED) == ()
    assert all(rule.source for rule in SEEDED)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"jurisdiction": NONE}, "it concerns nobody"),
        ({"client_classes": ()}, "it concerns nobody"),
        ({"valid_from": "1 August 2018"}, "'1 August 2018' is not a date like 2018-08-01"),
        ({"valid_from": "20180801"}, "'20180801' is not a date like 2018-08-01"),
        ({"valid_from": ""}, "'' is not a date"),
        ({"review_by": "2027-02-30"}, "'2027-02-30' is not a date"),
        ({"leverage_caps": {AssetKind.CRYPTO: 2}}, "it caps some kinds of assets but not commodity, fx_major"),
        ({"leverage_caps": {**ESMA.leverage_caps, AssetKind.CRYPTO: 0}}, "a leverage cap is below 1"),
        ({"close_out_share": Decimal(0)}, "the close-out share does not lie between 0 and 1"),
        ({"close_out_share": Decimal("1.01")}, "the close-out share does not lie between 0 and 1"),
        ({"close_out_share": Decimal("NaN")}, "the close-out share does not lie between 0 and 1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_not_published(overrides: dict[str, Any], sentence: str) -> None:
    problems = regulation_problems([replace(ESMA, **overrides)])
    assert len(problems) == 1
    assert problems[0].startswith("rule 'ESMA CFD measures': ")
    assert sentence in problems[0]


def test_two_rules_may_not_begin_on_one_day_for_the_same_clients() -> None:
    sentence = "rules 'FCA COBS 22.5' and 'other' begin on the same day for the same clients"
    other = replace(FCA, name="other", client_classes=(ClientClass.PROFESSIONAL, RETAIL))
    assert regulation_problems([FCA, other]) == (sentence,)
    assert regulation_problems([FCA, replace(other, client_classes=(ClientClass.PROFESSIONAL,))]) == ()
    assert regulation_problems([FCA, replace(other, jurisdiction=EU)]) == ()
