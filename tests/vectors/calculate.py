"""Our answer to a case: the row's facts put into the product's own functions, by category.

Nothing here knows a particular case. What a row does not say is looked for in the other rows of its page; what is nowhere
is a BadRow that names the field.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from msgspec.structs import replace as replaced

from tests.vectors.cases import Case, Leg
from tests.vectors.market import account_currency, conversion, margin_currency, profit_currency
from tests.vectors.readings import (
    CURRENCIES,
    currency_digits,
    has,
    pair_of,
    percent_said,
    point_in_source,
    price_digits,
    said,
    source_rounding,
    swap_rate,
    year_days,
)
from trading.charges.swap import SwapMode, SwapPosition, SwapTerms, SwapTermsRefused, check_swap_terms, swap_charge
from trading.conversion import SAME_CURRENCY, ConversionRule, Rate
from trading.margin import Holding, unrealised
from trading.margining.account import account_margin
from trading.margining.level import Worth, equity, equity_at_level, free_margin, margin_level
from trading.margining.modes import charge
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
)
from trading.numbers import ONE
from trading.orders import Side
from trading.profit import Closing, ProfitMode, ProfitTerms, realised_result
from trading.quotes import ClientQuote

ANY_DAY = date(2024, 1, 2)
"""Published swaps are per night: the day does not matter, the row says how many nights."""

EXACT_PLACES = 10


@dataclass(frozen=True, slots=True)
class Answer:
    value: Decimal
    rounding: str
    conversion: str
    remark: str = ""

    @property
    def settings(self) -> str:
        parts = [f"rounding: {self.rounding}", f"conversion: {self.conversion}", self.remark]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Page:
    """All usable rows of one source about one instrument: what one of them leaves out, another may say."""

    cases: Sequence[Case]

    @property
    def notes(self) -> list[str]:
        return [case.note for case in self.cases]

    def margin_of(self, case: Case) -> Case | None:
        """The row that charges this position: of the same volume if there is one, else the page's first."""
        rows = [row for row in self.cases if row.category == "margin"]
        same = [row for row in rows if (row.lots, row.units, row.side) == (case.lots, case.units, case.side)]
        return next(iter(same or rows), None)


def calculate(case: Case, page: Page) -> Answer:
    """Our answer, rounded as the source rounds. Raises BadRow when the row does not say enough."""
    category = CATEGORIES.get(case.category)
    if category is None:
        raise case.bad("category", f"{case.category!r} is none of {', '.join(CATEGORIES)}")
    if len(case.legs) > 1 and category is not hedge_margin:
        raise case.bad("side", "only a hedge has more than one leg")
    if case.expected_ccy not in CURRENCIES | {"pct", "lots"}:
        raise case.bad("expected_ccy", f"{case.expected_ccy!r} is neither a currency nor pct nor lots")
    if case.account_ccy and case.expected_ccy in CURRENCIES and case.expected_ccy != case.account_ccy:
        raise case.bad("expected_ccy", f"{case.expected_ccy} is not the account's currency")
    try:
        return category(case, page)
    except ArithmeticError:
        raise case.bad("expected", "the row's numbers are too large to calculate with") from None


def source_variant(case: Case) -> Answer | None:
    """The answer by what the row says that the source did differently, where that can be calculated."""
    digits = point_in_source(case) if case.category == "swap" else None
    return None if digits is None else _swap(case, digits=digits)


# --- margin ---


def margin(case: Case, page: Page) -> Answer:
    rounding = source_rounding(case)
    bid, ask = _sides(page)
    price, words = case.open_price, ""
    if has("mid", case.conv_rule):
        if bid is None or ask is None:
            raise case.bad("note", "a margin at the mid price needs bid and ask in a note of the page")
        price, words = (bid + ask) / 2, f"mid {(bid + ask) / 2}"
    value, how = position_margin(case, price)
    remark = "the amount per lot is the row's own" if _has_fixed_amount(case) else ""
    return Answer(rounding.applied(value), rounding.name, words or how, remark)


def position_margin(case: Case, price: Decimal | None) -> tuple[Decimal, str]:
    """(margin to ten places, conversion in words) of the row's one position, charged at `price`."""
    terms, leverage = _margin_terms(case)
    source = margin_currency(case)
    rate, words = _margin_rate(case, source, price, is_fixed=terms.is_fixed)
    if price is None and terms.mode is MarginMode.CFD_LEVERAGE:
        raise case.bad("open_price", "is empty, and the margin depends on it")
    volume, size = _volume(case)
    rule = SymbolRule(terms, size)
    legs = (Leg(case.side, volume),)
    return _charged(case, rule, legs, price or ONE, leverage, rate), words


def hedge_margin(case: Case, page: Page) -> Answer:
    rounding = source_rounding(case)
    if len(case.legs) < 2 or any(leg.lots is None for leg in case.legs):
        raise case.bad("side", "a hedge needs its legs with lots, such as 'buy 1 + sell 1'")
    in_lots = case.expected_ccy == "lots"
    size = ONE if in_lots else case.contract_size
    if size is None:
        raise case.bad("contract_size", "is empty")
    hedged = _hedged_terms(case, size)
    terms, leverage = (MarginTerms(), 1) if in_lots else _margin_terms(case)
    mode = MarginMode.FOREX_NO_LEVERAGE if in_lots else terms.mode
    rule = SymbolRule(replaced(terms, mode=mode, **hedged), size)
    rate, words = (SAME_CURRENCY, "none needed")
    if not in_lots:
        rate, words = _margin_rate(case, margin_currency(case), case.open_price, is_fixed=terms.is_fixed)
    value = _charged(case, rule, case.legs, case.open_price or ONE, leverage, rate)
    return Answer(rounding.applied(value), rounding.name, words, f"hedges: {hedged['hedged_mode'].value}")


def _charged(case: Case, rule: SymbolRule, legs: Sequence[Leg], price: Decimal, leverage: int, rate: Rate) -> Decimal:
    exposures = [
        charge(
            rule,
            symbol=case.instrument,
            side=leg.side,
            kind=MarginKind.POSITION,
            volume=leg.lots or ONE,
            price=price,
            leverage=leverage,
            rate=rate,
            rounding=MarginRounding.HALF_UP_PER_SYMBOL,
            digits=EXACT_PLACES,
        )
        for leg in legs
    ]
    policy = MarginPolicy(rounding=MarginRounding.HALF_UP_PER_SYMBOL)
    return account_margin(exposures, rules={case.instrument: rule}, policy=policy, digits=EXACT_PLACES).margin


def _margin_terms(case: Case) -> tuple[MarginTerms, int]:
    """(terms, leverage): a fixed amount per lot, a rate of the contract's value, or a leverage."""
    is_pair = pair_of(case.instrument) is not None
    if _has_fixed_amount(case):
        return MarginTerms(mode=MarginMode.CFD, initial=_fixed_amount(case)), 1
    if case.margin_rate is not None:
        rates = MarginRates(buy=case.margin_rate, sell=case.margin_rate)
        return MarginTerms(mode=MarginMode.FOREX_NO_LEVERAGE if is_pair else MarginMode.CFD, rates=rates), 1
    if case.leverage is None:
        raise case.bad("leverage", "a margin needs a leverage, a margin_rate or a fixed amount per lot")
    if case.leverage != int(case.leverage):
        raise case.bad("leverage", f"{case.leverage} is not a whole number")
    return MarginTerms(mode=MarginMode.FOREX if is_pair else MarginMode.CFD_LEVERAGE), int(case.leverage)


def _has_fixed_amount(case: Case) -> bool:
    return "fixed initial margin" in case.conv_rule


def _fixed_amount(case: Case) -> Decimal:
    """Per lot, where the rule says it; else what the recomputed total comes to, because the page states nothing else."""
    found = re.search(r"fixed initial margin (?:of )?(\d+(?:\.\d+)?)", case.conv_rule)
    if found:
        return Decimal(found[1])
    if case.recomputed is None or case.lots is None:
        raise case.bad("recomputed", "a fixed initial margin needs its amount, and lots")
    return case.recomputed / case.lots


def _margin_rate(case: Case, source: str, price: Decimal | None, *, is_fixed: bool) -> tuple[Rate, str]:
    """The margin currency's rate. A fixed amount is in the account's currency already."""
    if is_fixed:
        return SAME_CURRENCY, "none needed"
    how = conversion(case, source, price)
    rate = how.converter.rate(source, how.target, rule=how.rule, traded=how.traded)
    assert rate is not None, "a conversion that was found has its quotes"
    return rate, how.words


def _hedged_terms(case: Case, size: Decimal) -> dict[str, Any]:
    text = case.conv_rule.lower()
    share = percent_said(text)
    if "hedged leg" in text and share is not None:
        return {"hedged_mode": HedgedMode.BASIC, "hedged": 2 * size * share / 100}
    if "larger leg" in text:
        return {"hedged_mode": HedgedMode.LARGER_LEG}
    if has("sum", text) or "both legs" in text:
        return {"hedged_mode": HedgedMode.BASIC, "hedged": 2 * size}
    if has("net", text):
        return {"hedged_mode": HedgedMode.NET}
    raise case.bad(
        "conv_rule", "does not say how a hedge counts: larger leg, both legs, net, or each hedged leg at N pct"
    )


# --- results ---


def pnl(case: Case, page: Page) -> Answer:
    rounding = source_rounding(case)
    opened, closed = _need(case, "open_price"), _need(case, "close_price")
    volume, size = _volume(case)
    source = profit_currency(case)
    how = conversion(case, source, closed)
    is_pair = pair_of(case.instrument) is not None
    value = realised_result(
        ProfitTerms(mode=ProfitMode.FOREX if is_pair else ProfitMode.CFD, rounding=rounding.setting),
        Closing(
            side=case.side, volume=volume, contract_size=size, open_cost=opened * volume, close_cost=closed * volume
        ),
        convert=how,
        profit_digits=currency_digits(source),
        account_digits=rounding.working_places,
    )
    assert value is not None, "a conversion that was found has its quotes"
    return Answer(rounding.applied(value), rounding.name, how.words)


# --- swaps ---


def swap(case: Case, page: Page) -> Answer:
    return _swap(case, digits=price_digits(case.instrument))


def _swap(case: Case, *, digits: int | None) -> Answer:
    """`digits` are those of the price: a point's size."""
    rounding = source_rounding(case)
    sign = -1 if "(cost)" in case.swap_unit else 1
    mode, fields, source = _swap_mode(case, digits)
    rate = sign * swap_rate(case)
    how = conversion(case, source, _price(case))
    volume, size = _volume(case)
    nights = case.swap_days or ONE
    terms = SwapTerms(
        mode=mode,
        long=rate,
        short=rate,
        multipliers=(nights, nights, nights, nights, nights, nights, nights),
        rounding=rounding.setting,
        **fields,
    )
    try:
        check_swap_terms(case.instrument, terms)
    except SwapTermsRefused as refused:
        raise case.bad("swap_unit", str(refused)) from None
    price = _price(case) or ONE
    position = SwapPosition(
        side=case.side,
        symbol=case.instrument,
        volume=volume,
        open_price=case.open_price or price,
        bid=case.close_price or price,
        ask=case.close_price or price,
        contract_size=size,
        digits=digits or 0,
        base=margin_currency(case),
        profit_currency=profit_currency(case),
        margin_currency=margin_currency(case),
        account_currency=account_currency(case),
        account_digits=rounding.working_places,
    )
    charged = swap_charge(terms, position, ANY_DAY, converter=how.converter)
    assert charged is not None, "a conversion that was found has its quotes"
    words = how.words if how.rule is not ConversionRule.BY_DEAL else f"market_worst, {how.words.split(', ')[1]}"
    return Answer(rounding.applied(sign * charged.amount), rounding.name, words, f"swap: {mode.value}")


def _swap_mode(case: Case, digits: int | None) -> tuple[SwapMode, dict[str, Any], str]:
    """(mode, its further settings, the currency that its amounts are converted from)."""
    text = case.swap_unit.lower()
    if "point" in text:
        if digits is None:
            raise case.bad("swap_unit", f"a point's size is not known for {case.instrument}")
        return SwapMode.POINTS, {}, profit_currency(case)
    if "annual pct" in text or "annual %" in text:
        value = ProfitMode.CFD if pair_of(case.instrument) is None else ProfitMode.FOREX
        if value is ProfitMode.CFD and _price(case) is None:
            raise case.bad("close_price", "an annual percentage needs a price, open or current")
        mode = SwapMode.PERCENT_CURRENT if case.close_price is not None else SwapMode.PERCENT_OPEN
        source = margin_currency(case) if value is ProfitMode.FOREX else profit_currency(case)
        return mode, {"value": value, "year_days": year_days(case)}, source
    if "currency per lot" in text:
        source = profit_currency(case) if case.conv_pair else account_currency(case)
        return (SwapMode.PROFIT if case.conv_pair else SwapMode.ACCOUNT), {}, source
    raise case.bad("swap_unit", f"{case.swap_unit!r} is none of points, annual pct /N, currency per lot")


# --- equity ---


def equity_question(case: Case, page: Page) -> Answer:
    """The note says which figure is asked for."""
    rounding = source_rounding(case)
    for pattern, answered in QUESTIONS:
        if re.search(pattern, f"{case.note}; {case.conv_rule}", re.IGNORECASE):
            value, words = answered(case, page)
            return Answer(rounding.applied(value), rounding.name, words)
    raise case.bad(
        "note", "does not say which figure is asked for: UPL, Margin_Available, Margin_Level, equity at ... N %"
    )


def _equity_at_level(case: Case, page: Page) -> tuple[Decimal, str]:
    percent = percent_said(case.note)
    row = page.margin_of(case)
    if percent is None:
        raise case.bad("note", "does not say at which percentage")
    if row is None:
        raise case.bad("source", "no margin row of the same source and instrument")
    return equity_at_level(margin(row, page).value, percent), f"margin of {row.case_id}, as its source rounds it"


def _unrealised(case: Case, page: Page) -> tuple[Decimal, str]:
    """Both sides at the row's closing price, or else at the page's quote: mid where the source says so."""
    bid, ask, words = _valuation(case, page)
    row = case if case.open_price is not None else page.margin_of(case) or case
    volume, size = _volume(case)
    holding = Holding()
    side = holding.side(case.side)
    side.volume, side.cost = volume, _need(row, "open_price") * volume
    quote = ClientQuote(symbol=case.instrument, bid=bid, ask=ask, at_us=0)
    how = conversion(case, profit_currency(case), bid if case.side is Side.BUY else ask)
    converted = how(unrealised(holding, quote, size))
    assert converted is not None, "a conversion that was found has its quotes"
    return converted, words


def _worth(case: Case, page: Page) -> tuple[Worth, Decimal, str]:
    """(what the account is worth, its margin, how it was valued)."""
    balance = said("balance", page.notes)
    row = page.margin_of(case)
    if balance is None:
        raise case.bad("note", "no note of the page states the balance")
    if row is None:
        raise case.bad("source", "no margin row of the same source and instrument")
    profit, words = _unrealised(case, page)
    bid, ask, _ = _valuation(case, page)
    ties_up, _ = position_margin(replace(row, conv_rule=""), ask if case.side is Side.BUY else bid)
    return Worth(balance=balance, profit=profit), ties_up, words


def _free_margin(case: Case, page: Page) -> tuple[Decimal, str]:
    worth, ties_up, words = _worth(case, page)
    return free_margin(worth, ties_up, FreeMarginPolicy.USE_PROFIT_AND_LOSS, EXACT_PLACES), words


def _margin_level(case: Case, page: Page) -> tuple[Decimal, str]:
    worth, ties_up, words = _worth(case, page)
    level = margin_level(equity(worth, EXACT_PLACES), ties_up)
    assert level is not None, "a position ties up margin"
    return level, words


def _equity(case: Case, page: Page) -> tuple[Decimal, str]:
    worth, _, words = _worth(case, page)
    return equity(worth, EXACT_PLACES), words


def _valuation(case: Case, page: Page) -> tuple[Decimal, Decimal, str]:
    """(bid, ask, in words) at which the row values its position."""
    if case.close_price is not None:
        return case.close_price, case.close_price, "valued at the row's close_price"
    bid, ask = _sides(page)
    if bid is None or ask is None:
        raise case.bad("note", "no note of the page states bid and ask, and close_price is empty")
    if has("mid", case.note, case.conv_rule):
        return (bid + ask) / 2, (bid + ask) / 2, "valued at mid"
    return bid, ask, "each side at its own price"


# --- what every category needs ---


def _sides(page: Page) -> tuple[Decimal | None, Decimal | None]:
    return said("bid", page.notes), said("ask", page.notes)


def _volume(case: Case) -> tuple[Decimal, Decimal]:
    """(lots, contract size); units alone are lots of one."""
    if case.lots is not None and case.contract_size is not None:
        return case.lots, case.contract_size
    if case.units is None:
        raise case.bad("units", "is empty, and so is lots or contract_size")
    return (case.lots, case.units / case.lots) if case.lots is not None else (case.units, ONE)


def _price(case: Case) -> Decimal | None:
    return case.close_price if case.close_price is not None else case.open_price


def _need(case: Case, field: str) -> Decimal:
    value: Decimal | None = getattr(case, field)
    if value is None:
        raise case.bad(field, "is empty")
    return value


CATEGORIES: dict[str, Callable[[Case, Page], Answer]] = {
    "margin": margin,
    "hedge_margin": hedge_margin,
    "pnl": pnl,
    "swap": swap,
    "equity": equity_question,
}

QUESTIONS: tuple[tuple[str, Callable[[Case, Page], tuple[Decimal, str]]], ...] = (
    (r"equity at", _equity_at_level),
    (r"margin[_ ]available|free[_ ]margin", _free_margin),
    (r"margin[_ ]level", _margin_level),
    (r"\bUPL|unrealised", _unrealised),
    (r"\bNAV|\bequity\b", _equity),
)
