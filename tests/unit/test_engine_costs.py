"""What deals cost their clients: commissions rule by rule, maker and taker fees, conversion; and what a close makes."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.settlement
from engine.core import Executed, is_ready
from engine.costs import blocked_of
from engine.state import state_hash
from engine.work import Work
from engine.worth import equity_of
from tests.support.builders import condition, group, instrument, policy, rule
from tests.support.builders import config as demo_config
from tests.support.laws import reborn
from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.charges.commission import (
    ChargeCurrency,
    CommissionBasis,
    CommissionEntry,
    CommissionMode,
    CommissionPosting,
    CommissionTerms,
    CommissionTier,
    CommissionTierBasis,
)
from trading.charges.fees import FeeSchedule, FeeTier
from trading.commands import ApplyExecution, ReloadConfig, SettleCommission
from trading.configuration import CommissionRule, Config
from trading.conversion import ConversionRule, ConversionTerms
from trading.events import CommissionSettled
from trading.ledger import TransactionKind, Transfer
from trading.liquidity import ExecutionReport, ReportKind
from trading.orders import OrderType, Side
from trading.profit import ProfitTerms, RoundingSetting

NEW_YORK = ZoneInfo("America/New_York")


def d(text: str) -> Decimal:
    return Decimal(text)


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp() * 1_000_000)


def per_lot(name: str, rate: str, symbols: str = "*", **terms: Any) -> CommissionRule:
    return CommissionRule(name=name, symbols=symbols, terms=CommissionTerms(rate=d(rate), **terms))


DAILY = per_lot(
    "daily",
    "3.50",
    posting=CommissionPosting.DAILY,
    tier_basis=CommissionTierBasis.TURNOVER_LOTS,
    tiers=(CommissionTier(at_least=d("10"), rate=d("2")),),
)
"""3.50 a lot; from ten lots a month on, everything of the day at 2."""


class House:
    """A world whose group `pro` sees raw prices; account 1 deals with the house, account 2 with the market."""

    def __init__(self, *commissions: CommissionRule, symbol: dict[str, Any] | None = None, **terms: Any) -> None:
        self.world = World(config_with(*commissions, symbol=symbol, **terms))
        self.world.now_us = us("2024-01-02 09:00:00")
        self.world.open_account(1, group="pro", deposit="100000", leverage=100)
        self.world.open_account(2, group="pro", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
        self.price()

    def price(self, bid: str = "1.10000", ask: str = "1.10010") -> None:
        self.world.price("EURUSD", bid, ask)

    def at(self, wall: str) -> None:
        assert us(wall) >= self.world.now_us, "time goes on"
        self.world.now_us = us(wall)
        self.price()

    def buy(self, volume: str = "1.00", account: int = 1, **more: Any) -> Executed:
        return self.world.place(account, "EURUSD", Side.BUY, volume, **more)

    def close(self, volume: str | None = None, account: int = 1) -> Executed:
        return self.world.close(account, self.world.positions(account)[0].id, volume)

    def settle(self) -> int:
        name = self.world.request()
        ((_, answer),) = self.world.run(SettleCommission(id=name, key=name, reply_to="test")).answers
        return answer.reference

    def use(self, config: Config) -> None:
        name = self.world.request()
        self.world.config = config
        self.world.run(ReloadConfig(id=name, key=name, version=1, config=config))

    def moved(self, kind: TransactionKind) -> list[tuple[str, Decimal]]:
        """(reference, what the client paid) of every transfer of a kind."""
        return [(t.reference, paid(t)) for t in self.world.transfers() if t.kind is kind]

    def commissions(self) -> list[tuple[str, Decimal]]:
        return self.moved(TransactionKind.COMMISSION)

    def equity(self, account: int = 1) -> Decimal:
        state = self.world.state
        equity = equity_of(Work(state, self.world.config, self.world.now_us), state.accounts[account])
        assert equity is not None
        return equity


def paid(transfer: Transfer) -> Decimal:
    return transfer.amount if transfer.source.startswith("client:") else -transfer.amount


def config_with(*commissions: CommissionRule, symbol: dict[str, Any] | None = None, **terms: Any) -> Config:
    pro = group("pro", **{"commission_per_lot": d("0"), "commissions": commissions, **terms})
    market = rule("professionals to the market", condition("client_class", "=", "professional"), action="A", id=1)
    demo = demo_config(groups={"pro": pro}, policy=policy(market, rule(id=2)))
    demo.instruments["EURUSD"] = instrument("EURUSD", **(symbol or {}))
    return demo


# --- commissions with the deal ------------------------------------------------------------------------------------------


def test_every_rule_that_matches_is_charged_on_its_own_beside_the_plain_rate() -> None:
    house = House(
        per_lot("base", "2"),
        per_lot("euros", "0.50", "EUR*"),
        per_lot("metals", "9", "XAU*"),
        per_lot("on exit", "1", entry=CommissionEntry.OUT),
        commission_per_lot=d("1"),
    )
    house.buy("0.50")
    assert house.commissions() == [("", d("0.50")), ("base", d("1.00")), ("euros", d("0.25"))]
    house.close()
    assert house.commissions()[3:] == [
        ("", d("0.50")),
        ("base", d("1.00")),
        ("euros", d("0.25")),
        ("on exit", d("0.50")),
    ]
    assert [deal.commission for deal in house.world.deals()] == [d("1.75"), d("2.25")]
    assert house.world.balance(1) == d("100000") - d("5.00") - d("4.00"), "the spread and the commissions"


def test_a_part_of_a_loss_is_given_back() -> None:
    house = House(per_lot("share", "10", mode=CommissionMode.PERCENT_OF_PROFIT, entry=CommissionEntry.OUT))
    house.buy()
    house.close()
    assert house.world.deals()[-1].profit == d("-10.00")
    assert house.commissions() == [("share", d("-1.00"))]
    assert house.world.balance(1) == d("99991.00")


def test_three_fills_of_one_order_cost_what_one_fill_costs() -> None:
    """0.03 lots at 3.50 are 0.105, half up 0.11; deal by deal it would be three times 0.04."""
    whole = per_lot("whole", "3.50", basis=CommissionBasis.WHOLE_ORDER)
    for rules, expected in (((per_lot("each", "3.50"),), ["0.04"] * 3), ((whole,), ["0.04", "0.03", "0.04"])):
        house = House(*rules)
        leg = leg_of(house.buy("0.03", account=2))
        for _ in range(3):
            house.world.fill(leg, "1.10010", "1000")
            house.world.state = rebooted(house.world)
        assert [deal.commission for deal in house.world.deals()] == [d(one) for one in expected]
        assert set(house.world.ledger_sums().values()) == {Decimal(0)}


def test_the_margin_check_counts_the_commission_of_the_opening() -> None:
    """One lot ties up 1100.10 dollars at 1:100; 50 more are for the commission."""
    for deposit, refusal in (("1150.09", "insufficient_margin"), ("1150.10", "")):
        house = House(
            per_lot("dear", "50", entry=CommissionEntry.IN), per_lot("later", "900", entry=CommissionEntry.OUT)
        )
        house.world.open_account(3, group="pro", deposit=deposit, leverage=100)
        assert refusal_of(house.buy(account=3)) == refusal


def test_tiers_by_turnover_look_at_thirty_days() -> None:
    rule_ = per_lot(
        "tiered",
        "5",
        tier_basis=CommissionTierBasis.TURNOVER_LOTS,
        tiers=(CommissionTier(at_least=d("2"), rate=d("3")),),
    )
    house = House(rule_)
    house.buy("2.00")
    house.buy("1.00")
    house.at("2024-01-31 12:00:00")
    house.buy("1.00")
    house.at("2024-01-31 17:00:00")
    house.buy("1.00")
    assert [amount for _, amount in house.commissions()] == [d("10.00"), d("3.00"), d("3.00"), d("5.00")]
    assert [(day.date, day.lots) for day in house.world.state.accounts[1].turnover] == [
        ("2024-01-31", d("1.00")),
        ("2024-02-01", d("1.00")),
    ]


# --- daily commission ---------------------------------------------------------------------------------------------------


def test_daily_commission_is_blocked_rated_anew_at_the_tier_and_posted_once() -> None:
    house = House(DAILY)
    house.buy("9.00")
    assert house.world.state.accounts[1].commission_blocked == d("31.50")
    assert house.equity() == d("100000") - d("31.50") - d("90.00"), "out of equity, with the spread"
    assert house.world.balance(1) == d("100000")
    house.buy("1.00")
    assert house.world.state.accounts[1].commission_blocked == d("20.00"), "ten lots at 2"
    assert house.settle() == 0, "the date is not over"
    assert house.commissions() == []
    house.at("2024-01-02 17:00:00")
    assert [house.settle(), house.settle()] == [0, 0]
    assert house.commissions() == [("daily 2024-01-02", d("20.00"))]
    account = house.world.state.accounts[1]
    assert (account.balance, account.commission_blocked) == (d("99980.00"), d("0"))
    assert house.world.state.blocks == {}


def test_the_tier_of_a_month_holds_on_its_later_days_and_ends_with_it() -> None:
    house = House(DAILY)
    house.buy("10.00")
    house.at("2024-01-30 18:00:00")
    house.buy("1.00")
    house.at("2024-01-31 18:00:00")
    house.buy("1.00")
    house.at("2024-02-05 12:00:00")
    house.settle()
    assert house.commissions() == [
        ("daily 2024-01-02", d("20.00")),
        ("daily 2024-01-31", d("2.00")),
        ("daily 2024-02-01", d("3.50")),
    ]


def test_a_date_settled_late_is_settled_by_its_own_deals_only() -> None:
    punctual, late = House(DAILY), House(DAILY)
    for house in (punctual, late):
        house.buy("9.00")
        house.at("2024-01-02 17:00:01")
        if house is punctual:
            house.settle()
        house.buy("3.00")
        house.at("2024-01-03 17:00:01")
        house.settle()
    assert (
        punctual.commissions()
        == late.commissions()
        == [
            ("daily 2024-01-02", d("31.50")),
            ("daily 2024-01-03", d("6.00")),
        ]
    )


def test_settling_with_many_accounts_takes_several_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.settlement, "SETTLE_MAX", 2)
    house = House(DAILY)
    for number in (11, 12, 13):
        house.world.open_account(number, group="pro", leverage=100)
        house.buy("1.00", account=number)
    house.at("2024-01-02 17:00:00")
    assert [house.settle(), house.settle()] == [1, 0]
    settled = [e.day for done in house.world.executed for e in done.events if isinstance(e, CommissionSettled)]
    assert [(day.account, day.date, day.amount) for day in settled] == [
        (number, "2024-01-02", d("3.50")) for number in (11, 12, 13)
    ]
    assert house.world.executed[-1].events != []
    house.settle()
    assert house.world.executed[-1].events == []


def test_a_lost_memory_keeps_what_is_blocked() -> None:
    house = House(DAILY)
    house.buy("9.00")
    before = state_hash(house.world.state)
    house.world.state = rebooted(house.world)
    assert state_hash(house.world.state) == before
    house.buy("1.00")
    assert house.world.state.accounts[1].commission_blocked == d("20.00")


def test_what_a_removed_rule_has_blocked_is_given_back() -> None:
    house = House(DAILY)
    house.buy("1.00")
    house.use(config_with())
    house.at("2024-01-02 17:00:00")
    house.settle()
    account = house.world.state.accounts[1]
    assert (account.balance, account.commission_blocked) == (d("100000"), d("0"))
    assert house.world.state.blocks == {}


# --- makers and takers --------------------------------------------------------------------------------------------------

FEES = FeeSchedule(
    tiers=(
        FeeTier(at_least=d("0"), maker=d("0.01"), taker=d("0.02")),
        FeeTier(at_least=d("200000"), maker=d("-0.01"), taker=d("0.01")),
    )
)


def test_who_deals_at_once_takes_and_whose_limit_waited_makes() -> None:
    house = House(symbol={"fees": FEES})
    house.buy()
    house.world.place(1, "EURUSD", Side.BUY, "1.00", type=OrderType.LIMIT, price=d("1.09900"))
    house.world.wait(1)
    house.price("1.09890", "1.09900")
    assert house.moved(TransactionKind.FEE) == [("", d("22.00")), ("", d("10.99"))]
    assert [deal.fee for deal in house.world.deals()] == [d("22.00"), d("10.99")]
    assert house.world.state.balances["house:fees", "USD"] == d("32.99")


def test_a_limit_that_waited_makes_at_a_provider_too() -> None:
    house = House(symbol={"fees": FEES})
    house.world.place(2, "EURUSD", Side.BUY, "1.00", type=OrderType.LIMIT, price=d("1.09900"))
    house.world.wait(1)
    done = house.world.price("EURUSD", "1.09890", "1.09900")
    assert done is not None
    house.world.wait(1)
    house.world.fill(leg_of(done), "1.09900")
    at_once = house.world.place(2, "EURUSD", Side.BUY, "1.00", type=OrderType.LIMIT, price=d("1.09900"))
    house.world.fill(leg_of(at_once), "1.09900")
    assert house.moved(TransactionKind.FEE) == [("", d("10.99")), ("", d("21.98"))]


def test_fee_tiers_look_at_the_dollars_of_thirty_days() -> None:
    house = House(symbol={"fees": FEES})
    house.buy("2.00")
    house.buy("1.00")
    house.at("2024-01-31 12:00:00")
    house.buy("1.00")
    house.at("2024-02-01 12:00:00")
    house.buy("1.00")
    assert [amount for _, amount in house.moved(TransactionKind.FEE)] == [
        d("44.00"), d("11.00"), d("11.00"), d("22.00"),
    ]  # fmt: skip


def test_turnover_is_not_kept_where_nobody_looks_at_it() -> None:
    house = House(per_lot("flat", "1"))
    house.buy()
    assert house.world.state.accounts[1].turnover == ()


# --- what a close makes -------------------------------------------------------------------------------------------------


def euro_house(**terms: Any) -> House:
    """Account 5 is kept in euros: a dollar result is converted over EURUSD itself."""
    house = House(**terms)
    house.world.open_account(5, group="pro", deposit="100000", currency="EUR", leverage=100)
    house.buy(account=5)
    return house


@pytest.mark.parametrize(
    ("rule_", "profit"),
    [
        (ConversionRule.MARKET_WORST, "891.81"),  # euros for 990 dollars cost the ask of 1.11010
        (ConversionRule.BY_DEAL, "891.89"),  # the deal's own price of 1.11000
        (ConversionRule.MID, "891.85"),
    ],
)
def test_a_result_is_converted_by_the_groups_rule(rule_: ConversionRule, profit: str) -> None:
    house = euro_house(conversion=ConversionTerms(result=rule_))
    house.price("1.11000", "1.11010")
    house.close(account=5)
    assert house.world.deals()[-1].profit == d(profit)


def test_converting_a_result_has_its_fee_and_none_without_converting() -> None:
    house = euro_house(conversion=ConversionTerms(fee=d("50")))
    house.price("1.11000", "1.11010")
    house.close(account=5)
    deal = house.world.deals()[-1]
    assert house.moved(TransactionKind.CONVERSION_FEE) == [("", d("4.46"))], "half a per cent of 891.81"
    assert (deal.fee, house.world.balance(5)) == (d("4.46"), d("100000") + deal.profit - d("4.46"))
    house.buy()
    house.close()
    assert len(house.moved(TransactionKind.CONVERSION_FEE)) == 1


def test_results_are_rounded_where_the_symbol_says() -> None:
    """One unit bought at 1.1001 and sold at 1.1050: 1.11 less 1.10 by component, 0.0049 in one."""
    results = []
    for rounding in (RoundingSetting.PER_POSTING, RoundingSetting.PER_COMPONENT):
        house = House(symbol={"contract_size": d("100"), "profit": ProfitTerms(rounding=rounding)})
        house.buy("0.01")
        house.price("1.10500", "1.10510")
        house.close()
        results.append(house.world.deals()[-1].profit)
    assert results == [d("0.00"), d("0.01")]


# --- a price that is missing --------------------------------------------------------------------------------------------


FRANCS = per_lot("francs", "9", currency=ChargeCurrency.NAMED, currency_name="CHF")


def test_a_commission_that_cannot_be_converted_refuses_the_deal_and_keeps_a_fill_waiting() -> None:
    house = House(FRANCS)
    assert refusal_of(house.buy()) == "no_quotes"
    house.world.price("USDCHF", "0.90000", "0.90010")
    house.buy()
    assert house.commissions() == [("francs", d("10.00"))]
    leg = leg_of(house.buy(account=2))
    del house.world.state.quotes["USDCHF"]
    assert refusal_of(house.close()) == "no_quotes"
    report = ExecutionReport(
        lp=leg.lp, kind=ReportKind.FILL, cl_ord_id=leg.cl_ord_id, exec_id="E9", trade_date="20240102", side=leg.side,
        lp_symbol=leg.lp_symbol, last_px=d("1.10010"), last_qty=leg.quantity,
    )  # fmt: skip
    command = ApplyExecution(id="x", key="", inbox_seq=1, report=report)
    assert not is_ready(house.world.state, command, house.world.now_us)
    house.world.price("USDCHF", "0.90000", "0.90010")
    assert is_ready(house.world.state, command, house.world.now_us)
    assert order_of(house.world.run(command)).filled_volume == d("1.00")


# --- any story ----------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["buy", "close", "settle", "memory", "day"]), st.integers(1, 400)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_money_sums_to_zero_and_what_is_blocked_is_what_will_be_posted(steps: list[tuple[str, int]]) -> None:
    house = House(
        DAILY,
        per_lot("per million", "30", mode=CommissionMode.MONEY_PER_MILLION_USD, posting=CommissionPosting.DAILY),
        per_lot("now", "1.37", minimum=d("0.10")),
        symbol={"fees": FEES},
        conversion=ConversionTerms(fee=d("3")),
    )
    for what, number in steps:
        house.world.wait(number)
        house.price()
        if what == "buy":
            house.buy(f"{Decimal(number) / 100:.2f}")
        elif what == "close" and house.world.positions(1):
            house.close()
        elif what == "settle":
            house.settle()
        elif what == "memory":
            house.world.state = rebooted(house.world)
        elif what == "day":
            house.world.wait(86_400)
        check(house)
    house.world.wait(40 * 86_400)
    before = house.world.state.accounts[1]
    house.settle()
    after = house.world.state.accounts[1]
    assert (after.balance, after.commission_blocked) == (before.balance - before.commission_blocked, d("0"))
    settled = [e.day for done in house.world.executed for e in done.events if isinstance(e, CommissionSettled)]
    assert len({(day.account, day.rule, day.date) for day in settled}) == len(settled)


def check(house: House) -> None:
    state = house.world.state
    account = state.accounts[1]
    assert set(house.world.ledger_sums().values()) == {Decimal(0)}
    assert account.balance == state.balances["client:1", "USD"]
    assert account.commission_blocked == blocked_of(Work(state, house.world.config, house.world.now_us), account)
    for deal in house.world.deals():
        moved = sum((paid(t) for t in house.world.transfers() if t.deal_id == deal.id), Decimal(0))
        assert moved == deal.commission + deal.fee - deal.profit - deal.swap


def rebooted(world: World) -> Any:
    """The process dies; a new one starts from the stored values, and prices come anew."""
    after = reborn(world.state)
    assert state_hash(after) == state_hash(world.state)
    after.quotes = world.state.quotes
    return after
