"""What the free-text columns say, in a small vocabulary. A text that is not understood is refused, never guessed at.

A published example is often spread over several rows of one page: the balance stands in one, the margin in another. So
facts are looked up in all rows of the same source and instrument.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from tests.vectors.cases import Case
from trading.numbers import point
from trading.profit import RoundingSetting

_CODES = (
    "AED ARS AUD BRL CAD CHF CLP CNH CNY CZK DKK EUR GBP HKD HUF IDR ILS INR JPY KRW MXN MYR NOK NZD PLN QAR RON RUB SAR "
    "SEK SGD THB TRY TWD USD ZAR XAU XAG XPT XPD BTC ETH LTC XRP"
)
CURRENCIES = frozenset(_CODES.split())
NO_DECIMALS = frozenset({"JPY", "KRW", "CLP", "IDR"})
PRICE_DIGITS = {"JPY": 3, "XAU": 2, "XAG": 3}
PRICE_DIGITS_FOREX = 5
NUMBER = r"(\d*\.?\d+)"


def pair_of(instrument: str) -> tuple[str, str] | None:
    """(base, quote) of a symbol that is made of two currencies."""
    base, quote = instrument[:3], instrument[3:]
    return (base, quote) if base in CURRENCIES and quote in CURRENCIES else None


def price_digits(instrument: str) -> int | None:
    """Decimals that the market quotes a pair with; None for anything else."""
    pair = pair_of(instrument)
    if pair is None:
        return None
    return PRICE_DIGITS.get(pair[0], PRICE_DIGITS.get(pair[1], PRICE_DIGITS_FOREX))


# --- rounding ---


@dataclass(frozen=True, slots=True)
class SourceRounding:
    """How the source arrives at the digits it prints."""

    setting: RoundingSetting
    places: int
    is_truncated: bool = False

    @property
    def name(self) -> str:
        return f"{self.setting.value}, {'truncated' if self.is_truncated else 'half up'} to {self.places}"

    @property
    def working_places(self) -> int:
        """Places to calculate with before `applied`: a truncation must see more than it keeps."""
        return 10 if self.is_truncated else self.places

    def applied(self, value: Decimal) -> Decimal:
        return value.quantize(point(self.places), rounding=ROUND_DOWN if self.is_truncated else ROUND_HALF_UP)


def currency_digits(currency: str) -> int:
    return 0 if currency in NO_DECIMALS else 2


def source_rounding(case: Case) -> SourceRounding:
    """From source_rounding; without it, half up to the currency's decimals, or to as many more as the source prints."""
    text = case.source_rounding.lower()
    printed = max(-int(case.expected.as_tuple().exponent), 0)
    usual = printed if case.expected_ccy == "lots" else max(currency_digits(case.expected_ccy), printed)
    if not text or text in ("half up", "none"):
        return SourceRounding(RoundingSetting.PER_POSTING, usual)
    if "per-lot" in text or "per lot" in text or "per step" in text:
        return SourceRounding(RoundingSetting.PER_STEP, usual)
    if "component" in text:
        return SourceRounding(RoundingSetting.PER_COMPONENT, usual)
    places = _stated_places(text)
    if places is None:
        raise case.bad("source_rounding", f"{case.source_rounding!r} is not understood")
    return SourceRounding(RoundingSetting.PER_POSTING, places, is_truncated="truncat" in text or "down" in text)


def _stated_places(text: str) -> int | None:
    if "integer" in text:
        return 0
    found = re.search(r"(\d) decimal", text)
    return int(found[1]) if found else None


# --- prices and amounts in words ---


def said(word: str, texts: Iterable[str]) -> Decimal | None:
    """The number after a word: `balance 50000`, `ask .8568`."""
    for text in texts:
        found = re.search(rf"\b{word}\s+{NUMBER}", text, re.IGNORECASE)
        if found:
            return Decimal(found[1])
    return None


def has(word: str, *texts: str) -> bool:
    """The word on its own, or joined by an underscore: `at MID`, `NAV_mid`."""
    return any(re.search(rf"(?<![a-z]){word}(?![a-z])", text.lower()) for text in texts)


def percent_said(text: str) -> Decimal | None:
    found = re.search(rf"{NUMBER}\s*(?:%|pct|per ?cent)", text, re.IGNORECASE)
    return Decimal(found[1]) if found else None


# --- swap rates ---


def swap_rate(case: Case) -> Decimal:
    """A number, or a sum of them in per cent: `2.5% - (-0.54%)`."""
    text = re.sub(r"[\s%]", "", case.swap_rate).replace("(", "").replace(")", "")
    terms = re.findall(r"([+-]*)(\d+(?:\.\d+)?)", text)
    if not terms or "".join(sign + number for sign, number in terms) != text:
        raise case.bad("swap_rate", f"{case.swap_rate!r} is neither a number nor a sum of percentages")
    return sum((Decimal(number) * (-1) ** sign.count("-") for sign, number in terms), Decimal(0))


def year_days(case: Case) -> int:
    found = re.search(r"/\s*(\d+)", case.swap_unit)
    if not found:
        raise case.bad("swap_unit", "does not say by how many days a year is divided, such as /360")
    return int(found[1])


def point_in_source(case: Case) -> int | None:
    """Decimals of what the source itself takes for a point: `computed with pip 0.01`."""
    found = re.search(r"computed with (?:pip|point) (0\.0*1)\b", case.swap_unit)
    return len(found[1]) - 2 if found else None
