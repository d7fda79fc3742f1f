"""Worked margin examples: those of the rules' own documentation, and those that brokers publish (when their table is given).

The published table is not part of the project. Its path comes from the environment variable TRIBOOK_CASES.
"""

import csv
import os
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from trading.conversion import SAME_CURRENCY, Rate
from trading.margin import Holding, unrealised
from trading.margining.account import account_margin
from trading.margining.level import Worth, equity, equity_at_level, free_margin, margin_level
from trading.margining.modes import Exposure, charge
from trading.margining.terms import (
    FreeMarginPolicy,
    HedgedMode,
    MarginKind,
    MarginMode,
    MarginPolicy,
    MarginRates,
    MarginRounding,
    MarginTerms,
    SymbolRule,
    Tier,
    TierBasis,
    Tiers,
    TierStyle,
)
from trading.numbers import round_half_up
from trading.orders import Side
from trading.quotes import ClientQuote

BUY, SELL = Side.BUY, Side.SELL
UP = MarginRounding.UP_PER_POSTING
PER_COMPONENT = MarginRounding.HALF_UP_PER_COMPONENT
PER_SYMBOL = MarginRounding.HALF_UP_PER_SYMBOL


def d(text: str) -> Decimal:
    return Decimal(text)


def terms(**fields: Any) -> MarginTerms:
    return MarginTerms(**fields)


def line(
    rule: SymbolRule, volume: str, price: str = "1", *, rounding: MarginRounding, digits: int = 2, **fields: Any
) -> Exposure:
    """A EURUSD position bought at `price` with a leverage of 100, unless told otherwise."""
    values: dict[str, Any] = {
        "symbol": "EURUSD",
        "side": BUY,
        "kind": MarginKind.POSITION,
        "leverage": 100,
        "rate": SAME_CURRENCY,
        **fields,
    }
    return charge(rule, volume=d(volume), price=d(price), rounding=rounding, digits=digits, **values)


def total(rule: SymbolRule, lines: list[Exposure], rounding: MarginRounding, digits: int = 2) -> Decimal:
    policy = MarginPolicy(rounding=rounding)
    return account_margin(lines, rules={"EURUSD": rule}, policy=policy, digits=digits).margin


def test_t1_one_lot_of_eurusd_converted_at_its_rate_and_multiplied() -> None:
    plain = SymbolRule(terms(), d("100000"))
    assert line(plain, "1", rounding=UP).margin == d("1000")
    converted = line(plain, "1", "1.2790", rounding=UP, rate=Rate(d("1.2790")))
    assert converted.margin == d("1279.00")
    dearer = SymbolRule(terms(rates=MarginRates(buy=d("1.15"))), d("100000"))
    assert line(dearer, "1", "1.2790", rounding=UP, rate=Rate(d("1.2790"))).margin == d("1470.85")


@pytest.mark.parametrize("rounding", list(MarginRounding))
def test_t2_two_cfd_purchases_and_a_buy_limit(rounding: MarginRounding) -> None:
    rule = SymbolRule(terms(mode=MarginMode.CFD_LEVERAGE), d("5000"))
    bought = [line(rule, "1", "15.436", rounding=rounding), line(rule, "2", "15.432", rounding=rounding)]
    limit = line(rule, "1", "15.412", rounding=rounding, kind=MarginKind.LIMIT)
    assert total(rule, bought, rounding) == d("2315.00")
    assert limit.margin == d("770.60")
    assert total(rule, [*bought, limit], rounding) == d("3085.60")


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (PER_COMPONENT, "2238.90"),  # 1343.36 + 895.54
        (PER_SYMBOL, "2238.91"),  # 2238.908
        (UP, "2238.92"),  # every posting up first: 2686.64 + 895.63, covered 2014.98 + 1343.44
    ],
)
def test_t3_a_hedge_depends_on_where_it_is_rounded(rounding: MarginRounding, expected: str) -> None:
    rates = MarginRates(buy=d("2"), sell=d("4"))
    rule = SymbolRule(terms(hedged_mode=HedgedMode.BASIC, hedged=d("100000"), rates=rates), d("100000"))
    lines = [
        line(rule, "3", "1.11943", rounding=rounding, side=SELL, leverage=500, rate=Rate(d("1.11943"))),
        line(rule, "2", "1.11953", rounding=rounding, side=BUY, leverage=500, rate=Rate(d("1.11953"))),
    ]
    assert total(rule, lines, rounding) == d(expected)


def test_t5_lots_of_positions_and_orders_run_through_the_tiers_together() -> None:
    steps = (
        Tier(to=d("10")),
        Tier(to=d("20"), initial=d("2"), maintenance=d("2")),
        Tier(initial=d("3"), maintenance=d("3")),
    )
    tiers = Tiers(style=TierStyle.RATES, basis=TierBasis.VOLUME, steps=steps)
    rule = SymbolRule(terms(tiers=tiers), d("100000"))
    lines = [line(rule, "12", rounding=UP), line(rule, "10", rounding=UP, kind=MarginKind.LIMIT)]
    assert total(rule, lines, UP) == d("36000")


def test_t7_value_runs_through_the_tiers_with_hedged_lots_at_half() -> None:
    bounds = [("200000", "0.1"), ("1000000", "0.2"), ("2000000", "0.5"), (None, "1")]
    steps = tuple(Tier(to=None if to is None else d(to), initial=d(r), maintenance=d(r)) for to, r in bounds)
    tiers = Tiers(style=TierStyle.RATES, basis=TierBasis.NOTIONAL, steps=steps)
    rule = SymbolRule(terms(hedged_mode=HedgedMode.BASIC, hedged=d("50000"), tiers=tiers), d("100000"))
    deal = Rate(d("1.08095"))
    lines = [
        line(rule, v, "1.08095", rounding=PER_SYMBOL, digits=3, side=s, leverage=500, rate=deal, notional_rate=deal)
        for s, v in ((BUY, "40"), (SELL, "15"))
    ]
    assert total(rule, lines, PER_SYMBOL, digits=3) == d("4386.175")


def test_fixed_amounts_ask_more_for_an_order_than_for_the_position_it_becomes() -> None:
    fixed = terms(
        hedged_mode=HedgedMode.BASIC,
        mode=MarginMode.FUTURES,
        initial=d("1000"),
        maintenance=d("500"),
        hedged=d("500"),
    )
    rule = SymbolRule(fixed, d("1"))
    held = line(rule, "1", rounding=UP)
    order = line(rule, "2", rounding=UP, side=SELL, kind=MarginKind.MARKET)
    opened = line(rule, "2", rounding=UP, side=SELL)
    assert total(rule, [held], UP) == d("500")
    assert total(rule, [held, order], UP) == d("2000")
    assert total(rule, [held, opened], UP) == d("1000")


# --- The published table ---

OURS = ("margin", "hedge_margin", "equity")


def published() -> list[Any]:
    path = os.environ.get("TRIBOOK_CASES", "")
    if not path or not Path(path).is_file():
        reason = "TRIBOOK_CASES does not name the table of published cases"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="published")]
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = [row for row in rows if row["category"] in OURS and row["status"] in ("match", "match_rounding")]
    return [pytest.param(row, id=row["case_id"]) for row in wanted]


@pytest.mark.parametrize("row", published())
def test_published_cases_are_reproduced(row: dict[str, str]) -> None:
    if row["category"] == "margin":
        ours = published_margin(row)
    else:
        story = STORIES.get(row["case_id"])
        if story is None:
            pytest.skip("the row tells only its answer: it needs a story of its own")
        ours = story()
    expected = d(row["expected"])
    step = Decimal(1).scaleb(int(expected.as_tuple().exponent))
    direction = ROUND_DOWN if row["source_rounding"].startswith("truncated") else ROUND_HALF_UP
    assert ours.quantize(step, rounding=direction) == expected


def published_margin(row: dict[str, str]) -> Decimal:
    """One position's margin to six decimals; the source's own rounding is applied to it afterwards.

    A margin rate is a multiplier without leverage. The margin currency is the base's: equal to the account's, or converted
    at the deal's price, or at the rate of the source's rule.
    """
    price = d(row["open_price"] or "1")
    rate = SAME_CURRENCY if row["account_ccy"] == row["instrument"][:3] else Rate(price)
    fields: dict[str, Any] = {}
    if row["conv_rule"] == "fixed initial margin per lot":
        fields, rate = {"mode": MarginMode.CFD, "initial": d(row["recomputed"]) / d(row["lots"])}, SAME_CURRENCY
    elif row["margin_rate"]:
        share = d(row["margin_rate"])
        fields = {"mode": MarginMode.FOREX_NO_LEVERAGE, "rates": MarginRates(buy=share, sell=share)}
    if row["conv_rule"].endswith("MID"):
        rate = Rate(_mid(row["note"]))
    rule = SymbolRule(terms(**fields), d(row["contract_size"] or "1"))
    leverage = int(row["leverage"] or _implied_leverage(row["note"]))
    volume, side = row["lots"] or row["units"], Side(row["side"])
    exposure = line(rule, volume, str(price), rounding=PER_SYMBOL, digits=6, side=side, leverage=leverage, rate=rate)
    return total(rule, [exposure], PER_SYMBOL, digits=6)


def _mid(note: str) -> Decimal:
    words = note.replace(",", " ").split()
    return (d(words[words.index("bid") + 1]) + d(words[words.index("ask") + 1])) / 2


def _implied_leverage(note: str) -> str:
    return note.split()[1] if note.startswith("leverage ") else "1"


def _eurgbp_result(bid: str, ask: str) -> Decimal:
    """A million EURGBP bought at 0.8568, valued at these prices."""
    holding = Holding()
    holding.long.volume, holding.long.cost = d("1000000"), d("0.8568") * d("1000000")
    return unrealised(holding, ClientQuote(symbol="EURGBP", bid=d(bid), ask=d(ask), at_us=0), d("1"))


def _eurgbp_margin(rate: str) -> Decimal:
    share = d("0.0333333")
    rule = SymbolRule(
        terms(mode=MarginMode.FOREX_NO_LEVERAGE, rates=MarginRates(buy=share, sell=share)),
        d("1"),
    )
    return total(rule, [line(rule, "1000000", "0.8568", rounding=PER_SYMBOL, rate=Rate(d(rate)))], PER_SYMBOL)


def _margin_available() -> Decimal:
    worth = Worth(balance=d("50000"), profit=_eurgbp_result("0.8567", "0.8567"))
    return free_margin(worth, _eurgbp_margin("0.8567"), FreeMarginPolicy.USE_PROFIT_AND_LOSS, 2)


def _level() -> Decimal:
    worth = Worth(balance=d("50000"), profit=_eurgbp_result("0.8566", "0.8568"))
    level = margin_level(equity(worth, 2), _eurgbp_margin("0.8568"))
    assert level is not None
    return round_half_up(level, 2)


def _a_lot_against_a_lot(mode: HedgedMode, hedged: str) -> Decimal:
    rule = SymbolRule(terms(hedged_mode=mode, hedged=d(hedged)), d("100000"))
    return total(rule, [line(rule, "1", rounding=UP, side=side, leverage=500) for side in Side], UP)


def _charged_lots() -> Decimal:
    rule = SymbolRule(terms(mode=MarginMode.FOREX_NO_LEVERAGE), d("1"))
    lines = [line(rule, v, rounding=UP, side=s) for v, s in (("0.5", SELL), ("1", SELL), ("1", BUY))]
    return total(rule, lines, UP)


STORIES = {
    "E003": lambda: _eurgbp_result("0.8567", "0.8567"),
    "E005": _margin_available,
    "E007": lambda: _eurgbp_result("0.8566", "0.8568"),
    "E009": _level,
    "E021": lambda: equity_at_level(d("3333"), d("50")),
    "E027": lambda: equity_at_level(d("12.87"), d("20")),
    "H047": lambda: _a_lot_against_a_lot(HedgedMode.BASIC, "100000"),
    "H051": _charged_lots,
}
