"""A group's rules over the symbols' own terms: the example is a desk with metals, majors and a VIP group."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.json import decode, encode
from msgspec.structs import replace

from tests.support.builders import instrument
from trading.calendar import Session, SessionTerms
from trading.instruments import TradeMode
from trading.masks import MaskRefused, mask
from trading.overrides import (
    OWN,
    UNCHANGED,
    Override,
    as_of,
    described,
    effective,
    override_problems,
)


class Swap(Struct, frozen=True, kw_only=True):
    long: Decimal = Decimal(0)
    short: Decimal = Decimal(0)


class Symbol(Struct, frozen=True, kw_only=True):
    """A symbol with nested terms, as instruments have them."""

    symbol: str
    digits: int = 5
    volume_max: Decimal = Decimal(100)
    trade_mode: TradeMode = TradeMode.FULL
    stops_level: int | None = None
    swap: Swap = Swap(long=Decimal("-7.1"), short=Decimal("2.4"))
    fee: Swap | None = None
    sessions: SessionTerms = SessionTerms()


def rule(name: str, symbols: str, **changes: Any) -> Override:
    """Keyword `swap__long` is the path `swap.long`."""
    return Override(name=name, symbols=symbols, changes={key.replace("__", "."): v for key, v in changes.items()})


def applied(*rules: Override, symbol: str = "EURUSD") -> tuple[Symbol, dict[str, str]]:
    return effective(Symbol(symbol=symbol), rules, symbol=symbol)


# --- masks ---


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("EURUSD", ["EURUSD"], ["eurusd", "EURUSD.x"]),
        ("EUR*,!EURCHF", ["EURUSD", "EURGBP"], ["EURCHF", "GBPUSD"]),
        ("!EURCHF, EUR*", ["EURUSD"], ["EURCHF"]),
        ("*", ["EURUSD", "US500"], []),
        ("*USD,XAU*", ["EURUSD", "XAUEUR", "XAUUSD"], ["USDJPY"]),
        ("???JPY", ["USDJPY"], ["JPYUSD", "JPY"]),
    ],
)
def test_masks(pattern: str, inside: list[str], outside: list[str]) -> None:
    matches = mask(pattern)
    assert all(matches(name) for name in inside)
    assert not any(matches(name) for name in outside)


@pytest.mark.parametrize("pattern", ["", ",", "EUR*,", "!EURCHF", "EUR*,!"])
def test_a_mask_lets_something_in(pattern: str) -> None:
    with pytest.raises(MaskRefused, match="empty part, or only exclusions"):
        mask(pattern)


# --- effective settings ---


def test_without_rules_everything_is_the_symbols_own() -> None:
    terms, provenance = applied()
    assert terms == Symbol(symbol="EURUSD")
    assert set(provenance.values()) == {OWN}
    assert list(provenance)[:3] == ["symbol", "digits", "volume_max"]
    assert "swap.long" in provenance
    assert "swap" not in provenance


def test_rules_apply_from_the_top_down() -> None:
    terms, provenance = applied(
        rule("retail", "*", volume_max="20", swap__long="-9"),
        rule("majors", "EUR*,!EURCHF", volume_max="50"),
        rule("metals", "XAU*", volume_max="5"),
    )
    assert terms.volume_max == 50
    assert terms.swap == Swap(long=Decimal(-9), short=Decimal("2.4"))
    assert provenance["volume_max"] == "majors"
    assert provenance["swap.long"] == "retail"
    assert provenance["swap.short"] == OWN


def test_default_leaves_what_an_earlier_rule_said() -> None:
    terms, provenance = applied(
        rule("retail", "*", volume_max="20"), rule("form", "*", volume_max=UNCHANGED, trade_mode="close_only")
    )
    assert terms.volume_max == 20
    assert terms.trade_mode is TradeMode.CLOSE_ONLY
    assert provenance["volume_max"] == "retail"
    assert provenance["trade_mode"] == "form"


def test_a_whole_nested_setting_can_be_given_at_once() -> None:
    terms, provenance = applied(rule("islamic", "*", swap={"short": "0"}, fee={"long": "3"}))
    assert terms.swap == Swap(short=Decimal(0))
    assert terms.fee == Swap(long=Decimal(3))
    assert {path: name for path, name in provenance.items() if name != OWN} == {
        "swap.long": "islamic",
        "swap.short": "islamic",
        "fee.long": "islamic",
        "fee.short": "islamic",
    }


def test_emptying_a_nested_setting_is_a_value_too() -> None:
    terms, provenance = applied(rule("fee", "*", fee={"long": "3"}), rule("no fee", "*", fee=None))
    assert terms.fee is None
    assert provenance["fee"] == "no fee"
    assert "fee.long" not in provenance


def test_sessions_are_settings_like_any_other() -> None:
    terms, _ = applied(rule("night", "*", sessions__trade=[{"start": 0, "end": 3600}]))
    assert terms.sessions == SessionTerms(trade=(Session(start=0, end=3600),))


def test_effective_settings_are_printed_with_their_rule() -> None:
    terms, provenance = applied(rule("VIP", "*", volume_max="20", stops_level=3))
    lines = described(terms, provenance)
    assert "volume_max = 20 (VIP)" in lines
    assert "stops_level = 3 (VIP)" in lines
    assert "trade_mode = full (symbol)" in lines
    assert "swap.long = -7.1 (symbol)" in lines
    assert "fee = null (symbol)" in lines
    assert len(lines) == len(provenance)


def test_a_published_rule_survives_its_codec() -> None:
    written = rule("night", "EUR*", swap__long="-1.5", sessions__trade=[{"start": 0, "end": 60}], fee=None)
    assert decode(encode(written), type=Override) == written


def test_the_real_instrument_can_be_overridden() -> None:
    terms, provenance = effective(instrument(), [rule("slow", "EUR*", quote_age_max_us=5)], symbol="EURUSD")
    assert terms == replace(instrument(), quote_age_max_us=5)
    assert provenance["quote_age_max_us"] == "slow"
    assert provenance["volume_max"] == OWN


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "volume_max": st.sampled_from(["1", "20", UNCHANGED]),
    "stops_level": st.sampled_from([None, 3, 7, UNCHANGED]),
    "swap.long": st.sampled_from(["-1", "0.5", UNCHANGED]),
    "swap.short": st.sampled_from(["-2", UNCHANGED]),
    "trade_mode": st.sampled_from(["full", "close_only", UNCHANGED]),
}
RULES = st.lists(
    st.builds(
        lambda symbols, changes: Override(name=f"{symbols} {sorted(changes)}", symbols=symbols, changes=changes),
        st.sampled_from(["*", "EUR*", "*,!EURUSD", "XAU*"]),
        st.fixed_dictionaries({}, optional=CHANGES),
    ),
    max_size=6,
)


@given(rules=RULES, symbol=st.sampled_from(["EURUSD", "EURCHF", "XAUUSD"]))
def test_the_last_rule_that_says_a_value_decides(rules: list[Override], symbol: str) -> None:
    terms, provenance = applied(*rules, symbol=symbol)
    own = Symbol(symbol=symbol)
    for path in CHANGES:
        said = [r for r in rules if mask(r.symbols)(symbol) and r.changes.get(path, UNCHANGED) != UNCHANGED]
        name, _, inner = path.partition(".")
        now, before = getattr(terms, name), getattr(own, name)
        if inner:
            now, before = getattr(now, inner), getattr(before, inner)
        assert provenance[path] == (said[-1].name if said else OWN)
        if not said:
            assert now == before
        elif isinstance(now, Decimal):
            assert now == Decimal(said[-1].changes[path])
        else:
            assert now == said[-1].changes[path]


@given(upper=RULES, lower=RULES)
def test_rules_can_be_applied_in_two_goes(upper: list[Override], lower: list[Override]) -> None:
    once, _ = applied(*upper, *lower)
    first, _ = applied(*upper)
    twice, _ = effective(first, lower, symbol="EURUSD")
    assert once == twice


# --- publishing ---

SYMBOLS = {name: Symbol(symbol=name) for name in ("EURUSD", "XAUUSD")}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (rule("x", "!EURUSD", volume_max="1"), "the mask '!EURUSD' has an empty part, or only exclusions"),
        (rule("x", "GBP*", volume_max="1"), "no symbol matches 'GBP*'"),
        (rule("x", "*"), "it changes nothing"),
        (rule("x", "*", volume_max=UNCHANGED), "it changes nothing"),
        (rule("x", "*", volume_maximum="1"), "there is no setting volume_maximum"),
        (rule("x", "*", volume_maximum=UNCHANGED, digits=UNCHANGED, volume_max="1"), "no setting volume_maximum"),
        (rule("x", "*", swap__middle="1"), "there is no setting swap.middle"),
        (rule("x", "*", volume_max__deep="1"), "there is no setting volume_max.deep"),
        (rule("x", "*", swap={"lnog": "1"}), "there is no setting swap.lnog"),
        (rule("x", "*", sessions={"trade": [{"start": 0, "end": 60, "ned": 5}]}), "no setting sessions.trade.0.ned"),
        (rule("x", "*", fee__long="1"), "fee is not set, so fee.long cannot be changed alone"),
        (rule("x", "*", digits=3), "digits is the same for every group and cannot be changed"),
        (rule("x", "*", quote_filter__soft_points=3), "quote_filter.soft_points is the same for every group"),
        (rule("x", "*", volume_max="many"), "volume_max cannot be many: "),
        (rule("x", "*", volume_max=1.5), "volume_max cannot be 1.5: a number is written with plain digits, as a text"),
        (rule("x", "*", volume_max="1E5"), "volume_max cannot be 1E5: a number is written with plain digits"),
        (rule("x", "*", volume_max="1_000"), "volume_max cannot be 1_000: a number is written with plain digits"),
        (rule("x", "*", volume_max="NaN"), "volume_max cannot be NaN: a number is written with plain digits"),
        (rule("x", "*", volume_max=None), "volume_max cannot be null: expected"),
        (rule("x", "*", swap={"long": "١"}), "swap.long cannot be ١: a number is written with plain digits"),
        (rule("x", "*", stops_level="3"), "stops_level cannot be 3: expected `int | null`"),
        (rule("x", "*", trade_mode="shut"), "trade_mode cannot be shut: invalid enum value 'shut'"),
        (rule("x", "*", sessions__trade=[{"start": 0}]), "sessions.trade cannot be"),
    ],
)
def test_a_rule_that_makes_no_sense_is_not_published(wrong: Override, sentence: str) -> None:
    problems = override_problems([wrong], SYMBOLS)
    assert problems
    assert problems[0].startswith("override 'x': ")
    assert any(sentence in problem for problem in problems)


def test_two_rules_of_one_name_could_not_be_told_apart() -> None:
    twice = [rule("VIP", "*", volume_max="1"), rule("VIP", "EUR*", volume_max="2")]
    assert override_problems(twice, SYMBOLS) == ("two overrides are called 'VIP'",)


def test_a_rule_is_judged_on_top_of_those_above_it() -> None:
    sets, changes = rule("fee", "*", fee={"long": "1"}), rule("more", "EUR*", fee__long="2")
    assert override_problems([sets, changes], SYMBOLS) == ()
    assert override_problems([changes, sets], SYMBOLS) == (
        "override 'more': fee is not set, so fee.long cannot be changed alone",
    )


@given(rules=RULES)
def test_what_is_published_can_be_applied(rules: list[Override]) -> None:
    named = [replace(r, name=f"{n}") for n, r in enumerate(rules)]
    found = override_problems(named, SYMBOLS)
    assert all("changes nothing" in problem for problem in found)
    for symbol, own in SYMBOLS.items():
        effective(own, named, symbol=symbol)


# --- as of ---


@pytest.mark.parametrize(("at_us", "expected"), [(9, None), (10, "first"), (19, "first"), (20, "third"), (99, "third")])
def test_the_document_of_an_instant(at_us: int, expected: str | None) -> None:
    versions = [(10, "first"), (20, "second"), (20, "third")]
    assert as_of(versions, at_us) == expected


@given(versions=st.lists(st.tuples(st.integers(0, 20), st.integers())), at_us=st.integers(0, 20))
def test_as_of_is_the_newest_that_has_begun(versions: list[tuple[int, int]], at_us: int) -> None:
    begun = sorted([v for v in versions if v[0] <= at_us], key=lambda v: v[0])
    assert as_of(versions, at_us) == (begun[-1][1] if begun else None)
