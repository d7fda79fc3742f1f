"""The prices and conversions that a row gives, as the product's own values."""

from dataclasses import dataclass
from decimal import Decimal

from tests.vectors.cases import Case
from tests.vectors.readings import CURRENCIES, has, pair_of, said
from trading.conversion import ConversionRule, ConversionStep, Converter, Traded
from trading.quotes import ClientQuote


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a row's amount in `source` becomes the account's currency, and in words."""

    source: str
    target: str
    rule: ConversionRule
    converter: Converter
    traded: Traded
    words: str

    def __call__(self, amount: Decimal) -> Decimal | None:
        return self.converter.convert(amount, self.source, self.target, rule=self.rule, traded=self.traded)


def conversion(case: Case, source: str, price: Decimal | None) -> Conversion:
    """From `source` into the account's currency. `price` is the deal's, for where the traded pair itself converts.

    The row's own pair and rate come first. Raises BadRow when nothing in the row converts.
    """
    target = account_currency(case)
    symbol, rate = (case.conv_pair, case.conv_rate) if _converts(case.conv_pair, source, target) else ("", None)
    if not symbol and _converts(case.instrument, source, target):
        symbol, rate = case.instrument, price
    if source == target:
        return _conversion(case, target, target, ConversionRule.MARKET_WORST, Decimal(1), symbol="")
    if not symbol:
        raise case.bad("conv_pair", f"nothing converts {source} into {target}")
    if rate is None:
        raise case.bad("conv_rate", f"there is no rate of {symbol} to convert {source} into {target}")
    return _conversion(case, source, target, _rule(case, symbol, source), rate, symbol=symbol)


def account_currency(case: Case) -> str:
    """The account's, or else the answer's. Raises BadRow when neither is a currency."""
    currency = case.account_ccy or case.expected_ccy
    if currency not in CURRENCIES:
        raise case.bad("account_ccy", f"{currency!r} is not a currency that the case can be counted in")
    return currency


def profit_currency(case: Case) -> str:
    """Of a pair its quote; of anything else what the conversion starts from, or the account's."""
    pair = pair_of(case.instrument)
    if pair:
        return pair[1]
    target = account_currency(case)
    conversion_pair = pair_of(case.conv_pair)
    if conversion_pair is None or target not in conversion_pair:
        return target
    return conversion_pair[0] if conversion_pair[1] == target else conversion_pair[1]


def margin_currency(case: Case) -> str:
    pair = pair_of(case.instrument)
    return pair[0] if pair else profit_currency(case)


def _converts(symbol: str, source: str, target: str) -> bool:
    pair = pair_of(symbol)
    return pair is not None and set(pair) == {source, target} and source != target


def _rule(case: Case, symbol: str, source: str) -> ConversionRule:
    """The side that the source names; the deal's price where the traded pair converts; else the market's worse side."""
    if has("mid", case.conv_rule, case.note):
        return ConversionRule.MID
    if symbol == case.instrument:
        return ConversionRule.BY_DEAL
    named = _named_side(case)
    if not named:
        return ConversionRule.MARKET_WORST
    is_direct = symbol.startswith(source)
    return ConversionRule.ASK if (named == "ask") is is_direct else ConversionRule.BID


def _named_side(case: Case) -> str:
    """The side of the pair as it is quoted."""
    return next((side for side in ("bid", "ask") if has(f"at (?:the |closing )?{side}", case.conv_rule)), "")


def _conversion(
    case: Case, source: str, target: str, rule: ConversionRule, rate: Decimal, *, symbol: str
) -> Conversion:
    """Both sides are the row's one rate, unless it names the other side's too."""
    bid, ask = rate, rate
    if symbol and symbol == case.conv_pair:
        bid, ask = said("bid", [case.conv_rule]) or rate, said("ask", [case.conv_rule]) or rate
    step = ConversionStep(symbol=symbol, inverse=not symbol.startswith(source))
    converter = Converter(
        {f"{source}/{target}": (step,)}, {symbol: ClientQuote(symbol=symbol, bid=bid, ask=ask, at_us=0)}
    )
    fixed = rule in (ConversionRule.BID, ConversionRule.ASK)
    named = f"fixed side, {symbol} {_named_side(case)} {rate}" if fixed else f"{rule.value}, {symbol} {rate}"
    words = named if symbol else "none needed"
    traded = Traded(side=case.side, symbol=symbol if rule is ConversionRule.BY_DEAL else "", price=rate)
    return Conversion(source, target, rule, converter, traded, words)
