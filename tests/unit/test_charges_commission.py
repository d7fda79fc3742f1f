"""Commissions: every mode, entries and filters, minimum and tiers, whole orders, the day's bucket."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.charges.commission import (
    Bucket,
    ChargeCurrency,
    CommissionBasis,
    CommissionEntry,
    CommissionMode,
    CommissionPosting,
    CommissionTerms,
    CommissionTermsRefused,
    CommissionTier,
    CommissionTierBasis,
    DealFacts,
    Turnover,
    block,
    check_commission_terms,
    close_by_commission,
    commission,
    release,
    settled,
    units_of,
    volumes,
)
from trading.conversion import ConversionStep, Converter
from trading.numbers import round_half_up
from trading.orders import DealEntry, OrderCommission, Side
from trading.quotes import ClientQuote

WHOLE = CommissionBasis.WHOLE_ORDER
LOTS = st.decimals(min_value="0.01", max_value="20", places=2)
RATES = st.decimals(min_value="0", max_value="20", places=3)


def d(text: str) -> Decimal:
    return Decimal(text)


CONVERTER = Converter(
    {
        "EUR/USD": (ConversionStep(symbol="EURUSD", inverse=False),),
        "USD/EUR": (ConversionStep(symbol="EURUSD", inverse=True),),
        "GBP/USD": (ConversionStep(symbol="GBPUSD", inverse=False),),
    },
    {
        "EURUSD": ClientQuote(symbol="EURUSD", bid=d("1.08"), ask=d("1.10"), at_us=0),
        "GBPUSD": ClientQuote(symbol="GBPUSD", bid=d("1.25"), ask=d("1.26"), at_us=0),
    },
)


def deal(lots: str = "1", entry: DealEntry = DealEntry.IN, **fields: Any) -> DealFacts:
    """EURUSD bought at 1.10 in a dollar account."""
    values: dict[str, Any] = {
        "side": Side.BUY,
        "symbol": "EURUSD",
        "price": d("1.10"),
        "contract_size": d("100000"),
        "digits": 5,
        "base": "EUR",
        "profit_currency": "USD",
        "margin_currency": "EUR",
        "account_currency": "USD",
        **volumes(entry, d(lots)),
        **fields,
    }
    return DealFacts(**values)


def terms(rate: str = "3.50", mode: CommissionMode = CommissionMode.MONEY_PER_LOT, **fields: Any) -> CommissionTerms:
    return CommissionTerms(mode=mode, rate=d(rate), **fields)


def tiers(*steps: tuple[str, str]) -> tuple[CommissionTier, ...]:
    return tuple(CommissionTier(at_least=d(bound), rate=d(rate)) for bound, rate in steps)


def charged(rule: CommissionTerms, facts: DealFacts, **fields: Any) -> Decimal:
    result = commission(rule, facts, converter=CONVERTER, digits=2, **fields)
    assert result is not None
    return result[0]


def fills(rule: CommissionTerms, *parts: DealFacts) -> list[Decimal]:
    """What each fill of one order pays."""
    before, paid = OrderCommission(), []
    for facts in parts:
        result = commission(rule, facts, converter=CONVERTER, digits=2, before=before)
        assert result is not None
        due, before = result
        paid.append(due)
    assert before.charged == sum(paid)
    return paid


# --- modes ---


@pytest.mark.parametrize(
    ("rule", "facts", "expected"),
    [
        (terms("3.50"), deal("0.10"), "0.35"),
        (terms("3.50"), deal("0.01"), "0.04"),  # half up
        (terms("5", CommissionMode.MONEY_PER_DEAL), deal("7"), "5.00"),
        (terms("30", CommissionMode.MONEY_PER_MILLION_USD), deal("2"), "6.60"),  # 220,000 dollars
        (
            terms("30", CommissionMode.MONEY_PER_MILLION_USD),
            deal("2", base="USD"),
            "6.00",
        ),  # 200,000: units of the base itself
        (terms("0.01", CommissionMode.PERCENT_OF_VALUE), deal("1"), "11.00"),
        (terms("8", CommissionMode.POINTS), deal("0.5"), "4.00"),
        (terms("20", CommissionMode.PERCENT_OF_PROFIT), deal("1", DealEntry.OUT, profit=d("150.55")), "30.11"),
        (
            terms("20", CommissionMode.PERCENT_OF_PROFIT),
            deal("1", DealEntry.OUT, profit=d("-150.55")),
            "-30.11",
        ),  # a loss credits
        (terms("5", currency=ChargeCurrency.BASE), deal("1"), "5.50"),  # a cost is bought at the ask
        (terms("5", currency=ChargeCurrency.MARGIN), deal("1"), "5.50"),
        (terms("5", currency=ChargeCurrency.PROFIT), deal("1"), "5.00"),
        (terms("5", currency=ChargeCurrency.NAMED, currency_name="GBP"), deal("1"), "6.30"),
        (terms("5.40", currency=ChargeCurrency.PROFIT), deal("1", account_currency="EUR"), "5.00"),
    ],
)
def test_each_mode_on_one_deal(rule: CommissionTerms, facts: DealFacts, expected: str) -> None:
    assert charged(rule, facts) == d(expected)


def test_a_commission_that_cannot_be_converted_is_none() -> None:
    rule = terms("5", currency=ChargeCurrency.NAMED, currency_name="CHF")
    assert commission(rule, deal(), converter=CONVERTER, digits=2) is None


@given(rate=RATES, lots=LOTS, entry=st.sampled_from(list(DealEntry)), side=st.sampled_from(list(Side)))
def test_the_default_is_what_commission_always_was(rate: Decimal, lots: Decimal, entry: DealEntry, side: Side) -> None:
    assert charged(CommissionTerms(rate=rate), deal(str(lots), entry, side=side)) == round_half_up(rate * lots, 2)


# --- entries and filters ---


@pytest.mark.parametrize(
    ("entry", "opening", "closing", "reversal"),
    [
        (CommissionEntry.BOTH, "7.00", "7.00", "17.50"),
        (CommissionEntry.IN, "7.00", "0.00", "7.00"),  # selling 5 into 3: only the 2 that open
        (CommissionEntry.OUT, "0.00", "7.00", "10.50"),  # only the 3 that close
    ],
)
def test_entries_split_a_reversal(entry: CommissionEntry, opening: str, closing: str, reversal: str) -> None:
    rule = terms(entry=entry)
    assert charged(rule, deal("2")) == d(opening)
    assert charged(rule, deal("2", DealEntry.OUT)) == d(closing)
    assert charged(rule, deal("2", volume_out=d("3"))) == d(reversal)


@pytest.mark.parametrize(
    ("fields", "facts", "expected"),
    [
        ({"side": Side.BUY}, {"side": Side.BUY}, "3.50"),
        ({"side": Side.BUY}, {"side": Side.SELL}, "0.00"),
        ({"reasons": ("client", "dealer")}, {"reason": "client"}, "3.50"),
        ({"reasons": ("client", "dealer")}, {"reason": "stop_out"}, "0.00"),
        ({}, {"reason": "stop_out"}, "3.50"),
    ],
)
def test_filters(fields: dict[str, Any], facts: dict[str, Any], expected: str) -> None:
    assert charged(terms(**fields), deal(**facts)) == d(expected)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [(CommissionEntry.BOTH, "0"), (CommissionEntry.IN, "0"), (CommissionEntry.OUT, "7.00")],
)
def test_closing_by_an_opposite_position_charges_both_only_where_closings_pay(
    entry: CommissionEntry, expected: str
) -> None:
    pair = (deal("1", DealEntry.OUT), deal("1", DealEntry.OUT, side=Side.SELL))
    assert close_by_commission(terms(entry=entry), pair, converter=CONVERTER, digits=2) == d(expected)


# --- minimum and tiers ---


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (deal("0.01"), "1.00"),
        (deal("0.28"), "1.00"),
        (deal("0.29"), "1.02"),
        (deal("1", side=Side.SELL), "0.00"),  # what is not charged has no minimum
    ],
)
def test_the_minimum(facts: DealFacts, expected: str) -> None:
    assert charged(terms(minimum=d("1"), side=Side.BUY), facts) == d(expected)


def test_a_credit_has_no_minimum() -> None:
    rule = terms("20", CommissionMode.PERCENT_OF_PROFIT, minimum=d("5"))
    assert charged(rule, deal("1", DealEntry.OUT, profit=d("-10"))) == d("-2.00")


@pytest.mark.parametrize(("lots", "expected"), [("9.99", "34.97"), ("10", "30.00"), ("50", "100.00")])
def test_tiers_by_the_deals_volume(lots: str, expected: str) -> None:
    assert charged(terms(tiers=tiers(("10", "3"), ("50", "2"))), deal(lots)) == d(expected)


@pytest.mark.parametrize(
    ("basis", "before", "expected"),
    [
        (CommissionTierBasis.TURNOVER_LOTS, Turnover(lots=d("99.99")), "3.50"),
        (CommissionTierBasis.TURNOVER_LOTS, Turnover(lots=d("100")), "3.00"),
        (CommissionTierBasis.TURNOVER_MONEY, Turnover(money=d("99.99"), lots=d("500")), "3.50"),
        (CommissionTierBasis.TURNOVER_MONEY, Turnover(money=d("100")), "3.00"),
    ],
)
def test_tiers_by_what_was_traded_before(basis: CommissionTierBasis, before: Turnover, expected: str) -> None:
    rule = terms(tiers=tiers(("100", "3")), tier_basis=basis)
    assert charged(rule, deal("1"), turnover=before) == d(expected)


# --- whole orders ---


def test_three_fills_of_one_order_cost_what_one_fill_costs() -> None:
    """0.03 lots at 3.50 are 0.105, a cent-rounded 0.11; deal by deal it would be three times 0.04."""
    parts = (deal("0.01"), deal("0.01"), deal("0.01"))
    assert fills(terms(), *parts) == [d("0.04"), d("0.04"), d("0.04")]
    assert fills(terms(basis=WHOLE), *parts) == [d("0.04"), d("0.03"), d("0.04")]


def test_a_whole_orders_minimum_and_money_per_deal_are_paid_once() -> None:
    assert fills(terms(basis=WHOLE, minimum=d("1")), deal("0.1"), deal("0.1"), deal("0.2")) == [
        d("1.00"),
        d("0"),
        d("0.40"),
    ]
    assert fills(terms("5", CommissionMode.MONEY_PER_DEAL, basis=WHOLE), deal("1"), deal("2")) == [d("5.00"), d("0")]


def test_a_tier_that_the_order_reaches_later_gives_back_what_its_first_fills_paid_more() -> None:
    rule = terms(basis=WHOLE, tiers=tiers(("10", "1")))
    assert fills(rule, deal("9"), deal("1")) == [d("31.50"), d("-21.50")]


@given(
    parts=st.lists(LOTS, min_size=1, max_size=8),
    rate=RATES,
    minimum=st.decimals(min_value="0", max_value="10", places=2),
    mode=st.sampled_from(
        [
            CommissionMode.MONEY_PER_LOT,
            CommissionMode.MONEY_PER_DEAL,
            CommissionMode.MONEY_PER_MILLION_USD,
            CommissionMode.PERCENT_OF_VALUE,
            CommissionMode.POINTS,
        ]
    ),
    steps=st.sampled_from([(), tiers(("5", "2"), ("20", "1")), tiers(("1", "9"))]),
)
def test_fills_of_an_order_never_cost_more_than_the_whole(
    parts: list[Decimal], rate: Decimal, minimum: Decimal, mode: CommissionMode, steps: tuple[CommissionTier, ...]
) -> None:
    rule = CommissionTerms(mode=mode, rate=rate, minimum=minimum, basis=WHOLE, tiers=steps)
    apart = sum(fills(rule, *(deal(str(part)) for part in parts)))
    assert apart == charged(rule, deal(str(sum(parts))))


# --- the day's bucket ---


def blocked(rule: CommissionTerms, bucket: Bucket, key: str, facts: DealFacts) -> Bucket:
    counted = units_of(rule, facts, CONVERTER)
    assert counted is not None
    return block(bucket, rule, key, counted, digits=2)


def test_a_day_of_daily_commission() -> None:
    """3.50 a lot, 2 a lot from ten lots a day on: the tenth lot rates the first nine anew, one posting ends the day."""
    rule = terms(
        posting=CommissionPosting.DAILY, tier_basis=CommissionTierBasis.TURNOVER_LOTS, tiers=tiers(("10", "2"))
    )
    bucket = blocked(rule, Bucket(date="2024-01-02"), "deal:1", deal("9"))
    assert bucket.blocked == d("31.50")
    bucket = blocked(rule, bucket, "deal:2", deal("1", DealEntry.OUT))
    assert bucket.blocked == d("20.00")
    due, fresh = settled(bucket, next_date="2024-01-03")
    assert due == d("20.00")
    assert fresh == Bucket(date="2024-01-03", before=Turnover(lots=d("10")))
    assert blocked(rule, fresh, "deal:3", deal("1")).blocked == d("2.00"), "the tiers' period goes on"
    assert settled(fresh, next_date="2024-01-04")[0] == 0


def test_the_same_deal_is_blocked_once_and_other_units_under_its_key_are_our_bug() -> None:
    rule = terms(posting=CommissionPosting.DAILY)
    bucket = blocked(rule, Bucket(date="2024-01-02"), "deal:1", deal("1"))
    assert blocked(rule, bucket, "deal:1", deal("1")) == bucket
    with pytest.raises(AssertionError):
        blocked(rule, bucket, "deal:1", deal("2"))


def test_a_cancelled_pending_orders_block_is_released_with_its_turnover() -> None:
    rule = terms(
        posting=CommissionPosting.DAILY, tier_basis=CommissionTierBasis.TURNOVER_MONEY, tiers=tiers(("1000000", "2"))
    )
    first = blocked(rule, Bucket(date="2024-01-02"), "deal:1", deal("9"))
    both = blocked(rule, first, "order:9", deal("1"))
    assert (first.blocked, both.blocked) == (d("31.50"), d("20.00"))
    assert release(both, rule, "order:9", digits=2) == first
    assert release(first, rule, "order:9", digits=2) == first


def test_a_credit_is_not_lent_before_the_days_end() -> None:
    rule = terms("10", CommissionMode.PERCENT_OF_PROFIT, posting=CommissionPosting.DAILY)
    lost = deal("1", DealEntry.OUT, profit=d("-50"))
    bucket = blocked(rule, Bucket(date="2024-01-02"), "deal:1", lost)
    assert (bucket.amount, bucket.blocked) == (d("-5.00"), d("0"))


@given(lots=st.lists(LOTS, min_size=1, max_size=12), rate=RATES, order=st.randoms(use_true_random=False))
def test_the_order_of_a_days_deals_does_not_change_its_commission(
    lots: list[Decimal], rate: Decimal, order: Any
) -> None:
    rule = CommissionTerms(rate=rate, tier_basis=CommissionTierBasis.TURNOVER_LOTS, tiers=tiers(("15", "1")))
    deals = [(f"deal:{n}", deal(str(one))) for n, one in enumerate(lots)]
    amounts, total = [], sum(lots, d("0"))
    for _ in range(2):
        bucket = Bucket(date="2024-01-02")
        for key, facts in deals:
            bucket = blocked(rule, bucket, key, facts)
        amounts.append(bucket.amount)
        order.shuffle(deals)
    assert amounts[0] == amounts[1] == round_half_up(total * (1 if total >= 15 else rate), 2)


# --- what may be published ---


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": d("Infinity")},
        {"minimum": d("-1")},
        {"tiers": tiers(("10", "1"), ("10", "2"))},
        {"tiers": tiers(("0", "1"))},
        {"currency": ChargeCurrency.NAMED},
        {"currency_name": "EUR"},
        {"mode": CommissionMode.PERCENT_OF_PROFIT, "entry": CommissionEntry.IN},
        {"posting": CommissionPosting.DAILY, "basis": WHOLE},
    ],
)
def test_terms_that_contradict_themselves_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(CommissionTermsRefused):
        check_commission_terms("retail", CommissionTerms(**fields))
    check_commission_terms("retail", CommissionTerms())
