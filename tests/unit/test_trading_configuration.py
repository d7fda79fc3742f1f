"""Which documents may be published, and how conversion paths are found."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.builders import SYMBOLS, condition, config, instrument, lp_settings, policy, rule
from trading.configuration import ConfigurationRefused, Policy, check_config, resolve_conversions
from trading.conversion import ConversionStep
from trading.instruments import Instrument


def test_the_demo_document_can_be_published() -> None:
    check_config(config())


def only(symbol: str, **overrides: Any) -> dict[str, Instrument]:
    return {**{known: instrument(known) for known in SYMBOLS}, symbol: instrument(symbol, **overrides)}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"policy": Policy(version=1, rules=())}, "the last routing rule must have no conditions"),
        ({"policy": policy(rule("x", condition("volume", ">", "1")))}, "the last routing rule must have no conditions"),
        ({"policy": policy(rule("x", action="A", a_share="0.9"))}, "an A share of 0.9 does not fit action A"),
        ({"policy": policy(rule("x", action="B", a_share="0.1"))}, "an A share of 0.1 does not fit action B"),
        ({"policy": policy(rule("x", action="C", a_share="1"))}, "an A share of 1 does not fit action C"),
        ({"policy": policy(rule("x", lps=("NOBODY",)))}, "rule 'x' names unknown providers: NOBODY"),
        ({"lps": {"L": lp_settings("L", symbols=["EURUSD", "SEKNOK"])}}, "provider L lists unknown symbols: SEKNOK"),
        ({"instruments": only("EURUSD", volume_step=Decimal(0))}, "EURUSD: volumes"),
        ({"instruments": only("EURUSD", volume_min=Decimal("0.001"))}, "EURUSD: volumes"),
        ({"instruments": only("EURUSD", volume_max=Decimal("0.001"))}, "EURUSD: volumes"),
        ({"instruments": only("EURUSD", contract_size=Decimal(0))}, "EURUSD: volumes"),
        ({"instruments": only("EURUSD", digits=11)}, "EURUSD: volumes"),
        ({"instruments": only("EURUSD", quote="SEK")}, "EURUSD: currency SEK has no number of decimals"),
        (
            {"conversions": {"SEK/USD": (ConversionStep(symbol="USDSEK", inverse=True),)}},
            "conversion SEK/USD needs unknown symbols: USDSEK",
        ),
    ],
)
def test_a_document_that_does_not_fit_together_is_refused(overrides: dict[str, Any], sentence: str) -> None:
    fields = {"lps": {}, **overrides} if "instruments" in overrides else overrides
    with pytest.raises(ConfigurationRefused) as refused:
        check_config(config(**fields))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("pair", "path"),
    [
        ("USD/USD", []),
        ("EUR/USD", [("EURUSD", False)]),
        ("USD/EUR", [("EURUSD", True)]),
        ("JPY/EUR", [("EURJPY", True)]),
        ("CHF/EUR", [("USDCHF", True), ("EURUSD", True)]),
        ("XAU/EUR", [("XAUUSD", False), ("EURUSD", True)]),
        ("GBP/JPY", [("GBPUSD", False), ("USDJPY", False)]),
    ],
)
def test_paths_are_direct_or_inverse_or_over_the_dollar(pair: str, path: list[tuple[str, bool]]) -> None:
    assert [(step.symbol, step.inverse) for step in config().conversions[pair]] == path


def test_without_dollar_pairs_another_common_currency_is_found() -> None:
    two = {"EURGBP": instrument("EURGBP"), "EURJPY": instrument("EURJPY")}
    paths = resolve_conversions(two, {"GBP"})
    assert [(step.symbol, step.inverse) for step in paths["JPY/GBP"]] == [("EURJPY", True), ("EURGBP", False)]


def test_a_pair_without_a_path_is_left_out() -> None:
    paths = resolve_conversions({"EURGBP": instrument("EURGBP")}, {"USD"})
    assert "GBP/USD" not in paths
    assert paths["USD/USD"] == ()


def test_every_instrument_converts_into_every_account_currency() -> None:
    document = config()
    for traded in document.instruments.values():
        for account_currency in ("USD", "EUR", "GBP"):
            assert f"{traded.base}/{account_currency}" in document.conversions
            assert f"{traded.quote}/{account_currency}" in document.conversions
