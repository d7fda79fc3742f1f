"""What refuses new risk: the law, switches and limits, messages, day trades, cash; and that closing is always possible."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine.work import Work
from engine.worth import worth_of
from tests.support.builders import config, group, instrument, policy, rule
from tests.support.world import START_US, World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.commands import ChangeAccount, OpenAccount, RollOver
from trading.configuration import Config, Markup
from trading.controls import AccountControls, KillSwitches, SymbolControls, kill_account, kill_firm, kill_symbol
from trading.daytrading import DayTradeTerms
from trading.instruments import AssetClass
from trading.margining.terms import HedgedMode, MarginMode, MarginTerms, Tier, TierBasis, Tiers, TierStyle
from trading.orders import Book, OrderStatus, OrderType, Side
from trading.overrides import Override
from trading.profit import ProfitMode, ProfitTerms


def world(*, symbol: dict[str, Any] | None = None, retail: dict[str, Any] | None = None, **document: Any) -> World:
    """A broker whose EURUSD and retail group have these terms, and a client with 10,000 USD."""
    base = config()
    instruments = {**base.instruments, "EURUSD": instrument("EURUSD", **(symbol or {}))}
    groups = {**base.groups, "retail": group("retail", markup=Markup(), **(retail or {}))}
    document = {"policy": policy(rule()), **document}
    made = World(replace(base, instruments=instruments, groups=groups, **document))
    made.open_account(1)
    made.price("EURUSD", "1.10000", "1.10010")
    return made


def refused(made: World, side: Side = Side.BUY, volume: str = "0.10", **terms: Any) -> str:
    return refusal_of(made.place(1, "EURUSD", side, volume, **terms))


def switched(made: World, switches: KillSwitches) -> World:
    made.state.desk = replace(made.state.desk, switches=switches)
    return made


# --- switches and limits ---


@pytest.mark.parametrize(
    "switches",
    [
        kill_firm(KillSwitches()),
        kill_symbol(KillSwitches(), "EURUSD"),
        kill_account(KillSwitches(), 1),
    ],
)
def test_a_kill_switch_stops_new_risk_and_no_close(switches: KillSwitches) -> None:
    made = world()
    made.place(1, "EURUSD", Side.BUY, "0.10")
    switched(made, switches)
    assert refused(made) == "trade_disabled"
    assert refusal_of(made.close(1, 1)) == ""
    assert made.positions(1) == []


def test_a_switch_of_another_symbol_or_account_stops_nothing() -> None:
    made = switched(world(), KillSwitches(symbols=("GBPUSD",), accounts=(2,)))
    assert refused(made) == ""


@pytest.mark.parametrize(
    ("controls", "order", "code"),
    [
        ({"order_volume_max": Decimal("0.50")}, {"volume": "0.51"}, "volume_limit"),
        ({"order_value_max": Decimal(50_000)}, {"volume": "0.50"}, "value_limit"),
        ({"volume_limit": Decimal("0.50")}, {"volume": "0.51"}, "volume_limit"),
        ({"collar_points": 100}, {"type": OrderType.LIMIT, "price": Decimal("1.09000")}, "price_collar"),
    ],
)
def test_a_symbols_limits(controls: dict[str, Any], order: dict[str, Any], code: str) -> None:
    made = world(symbol={"controls": SymbolControls(**controls)})
    assert refused(made, **order) == code
    assert refused(made, volume="0.10") == "", "what is within the limit passes"


def test_a_limit_per_direction_counts_what_is_open_and_what_waits() -> None:
    made = world(symbol={"controls": SymbolControls(volume_limit=Decimal("0.30"))})
    made.place(1, "EURUSD", Side.BUY, "0.10")
    made.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=Decimal("1.09000"))
    assert refused(made, volume="0.11") == "volume_limit"
    assert refused(made, volume="0.10") == ""
    assert refused(made, side=Side.SELL, volume="0.30") == "", "the other direction is counted by itself"


def test_a_group_limits_positions_and_pending_orders() -> None:
    made = world(retail={"controls": AccountControls(positions_max=1, orders_max=1)})
    assert refused(made) == ""
    assert refused(made) == "position_limit"
    wait: dict[str, Any] = {"type": OrderType.LIMIT, "price": Decimal("1.09000")}
    assert refused(made, **wait) == ""
    assert refused(made, **wait) == "order_limit"


def test_the_same_order_within_the_window_is_a_slip_of_the_thumb() -> None:
    made = world(retail={"controls": AccountControls(duplicate_window_us=2_000_000)})
    assert refused(made) == ""
    assert refused(made) == "duplicate_order"
    assert refused(made, volume="0.11") == ""
    made.wait(2)
    made.price("EURUSD", "1.10000", "1.10010")
    assert refused(made) == ""


def test_too_many_messages_are_refused_and_leave_no_trace_and_closes_have_a_bucket_of_their_own() -> None:
    controls = AccountControls(
        messages_per_second=1, messages_burst=2, closing_messages_per_second=10, closing_messages_burst=10
    )
    made = world(retail={"controls": controls})
    assert [refused(made), refused(made), refused(made)] == ["", "", "rate_limited"]
    assert refusal_of(made.close(1, 1)) == ""
    made.wait(1)
    made.price("EURUSD", "1.10000", "1.10010")
    assert refused(made) == ""


def test_what_was_answered_once_is_answered_again_and_costs_no_message() -> None:
    made = world(retail={"controls": AccountControls(messages_per_second=1, messages_burst=1)})
    made.place(1, "EURUSD", Side.BUY, "0.10", key="one")
    done = made.place(1, "EURUSD", Side.BUY, "0.10", key="one")
    assert refusal_of(done) == ""
    assert len(made.positions(1)) == 1


# --- the law ---


def protected(made: World, number: int = 7, **terms: Any) -> int:
    return made.open_account(number, jurisdiction="EU", leverage=500, **terms)


def test_the_law_caps_leverage_per_asset_whatever_the_group_allows() -> None:
    made = world(retail={"leverage_max": 500})
    protected(made)
    made.place(7, "EURUSD", Side.BUY, "0.10")
    assert made.state.margin_used(7) == Decimal("366.70"), "10,000 EUR at 30:1"
    made.price("AUDUSD", "0.65000", "0.65010")
    before = made.state.margin_used(7)
    made.place(7, "AUDUSD", Side.BUY, "0.10")
    assert made.state.margin_used(7) - before == Decimal("325.05"), "a minor pair: 20:1"


def test_a_professional_client_has_no_cap() -> None:
    made = world(retail={"leverage_max": 500})
    protected(made, client_class=ClientClass.PROFESSIONAL)
    made.place(7, "EURUSD", Side.BUY, "0.10")
    assert made.state.margin_used(7) == Decimal("22.01"), "10,000 EUR at 500:1, rounded up"


def test_a_banned_product_is_not_sold_and_can_be_closed() -> None:
    base = config()
    coin = instrument("BTCUSD", digits=2, contract_size=Decimal(1), asset_class=AssetClass.CRYPTO)
    document = replace(
        base,
        instruments={**base.instruments, "BTCUSD": coin},
        currency_digits={**base.currency_digits, "BTC": 8},
    )
    made = World(document)
    made.open_account(1, deposit="100000")
    made.open_account(2, deposit="100000", jurisdiction="UK")
    made.price("BTCUSD", "30000.00", "30010.00")
    assert refusal_of(made.place(1, "BTCUSD", Side.BUY, "0.10")) in {"", "no_quotes"}
    assert refusal_of(made.place(2, "BTCUSD", Side.BUY, "0.10")) == "product_banned"


def test_an_unknown_jurisdiction_is_refused_where_it_is_given() -> None:
    made = world()
    opened = made.run(
        OpenAccount(
            id="x", key="x", account=9, group="retail", currency="USD", leverage=30, jurisdiction="XX", reply_to="t"
        )
    )
    assert refusal_of(opened) == "invalid_request"
    changed = made.run(ChangeAccount(id="y", key="y", account=1, jurisdiction="E U", reply_to="t"))
    assert refusal_of(changed) == "invalid_request"


# --- to the market only ---


def test_a_market_only_account_goes_to_a_provider_whatever_the_policy_says() -> None:
    made = world()
    made.open_account(7, stp_only=True)
    done = made.place(7, "EURUSD", Side.BUY, "0.10")
    assert order_of(done).book is Book.A
    assert leg_of(done).volume == Decimal("0.10")
    made.fill(leg_of(done), "1.10010")
    [position] = made.positions(7)
    assert position.volume_a == position.volume


def test_a_market_only_order_without_provider_is_refused_and_never_the_houses() -> None:
    made = world(stp_only=True)
    made.price("EURUSD", "1.10000", "1.10010", lps=())
    done = made.place(1, "EURUSD", Side.BUY, "0.10")
    assert refusal_of(done) == "no_connection"
    assert order_of(done).status is OrderStatus.REJECTED


# --- day trades and cash ---


def test_a_small_account_has_three_day_trades_in_five_business_days() -> None:
    made = world(retail={"day_trades": DayTradeTerms()})
    for number in range(1, 4):
        assert refused(made) == ""
        made.close(1, number)
    assert refused(made) == "day_trade_limit"
    assert len(made.state.accounts[1].day_trades) == 3
    for _ in range(7):
        made.wait(86_400)
    made.price("EURUSD", "1.10000", "1.10010")
    assert refused(made) == ""


def test_an_account_with_enough_equity_trades_as_often_as_it_likes() -> None:
    made = world(retail={"day_trades": DayTradeTerms(equity_min=Decimal(5_000))})
    for number in range(1, 6):
        assert refused(made) == ""
        made.close(1, number)


def test_cash_instruments_are_bought_with_cash_and_only_what_is_held_is_sold() -> None:
    terms = MarginTerms(mode=MarginMode.CFD)
    made = world(symbol={"is_cash": True, "margin": terms})
    assert refused(made, volume="0.10") == "insufficient_margin", "11,001 USD are not there"
    assert refused(made, volume="0.09") == ""
    assert refused(made, side=Side.SELL, volume="0.01") == "long_only"
    assert refusal_of(made.close(1, 1)) == ""


# --- margin by its settings ---


def margin_after(terms: MarginTerms, *orders: tuple[Side, str], rates: str = "") -> Decimal:
    made = world(symbol={"margin": terms}, retail={"leverage_max": 100})
    made.open_account(5, leverage=100, deposit="10000000")
    for side, volume in orders:
        assert refusal_of(made.place(5, "EURUSD", side, volume)) == "", rates
    return made.state.margin_used(5)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (MarginTerms(), "1100.10"),
        (MarginTerms(mode=MarginMode.FOREX_NO_LEVERAGE), "110010.00"),
        (MarginTerms(mode=MarginMode.CFD_LEVERAGE), "1100.10"),
        (MarginTerms(mode=MarginMode.CFD), "110010.00"),
        (MarginTerms(mode=MarginMode.FUTURES, initial=Decimal(500), maintenance=Decimal(400)), "400.00"),
    ],
)
def test_each_mode_charges_one_lot(terms: MarginTerms, expected: str) -> None:
    assert margin_after(terms, (Side.BUY, "1.00")) == Decimal(expected)


@pytest.mark.parametrize(
    ("mode", "hedged", "expected"),
    [
        (HedgedMode.LARGER_LEG, "0", "2200.20"),
        (HedgedMode.NET, "0", "1100.10"),
        (HedgedMode.BASIC, "0", "1100.10"),
        (HedgedMode.BASIC, "50000", "1650.14"),
    ],
)
def test_a_hedge_counts_as_its_mode_says(mode: HedgedMode, hedged: str, expected: str) -> None:
    terms = MarginTerms(hedged_mode=mode, hedged=Decimal(hedged))
    assert margin_after(terms, (Side.BUY, "2.00"), (Side.SELL, "1.00")) == Decimal(expected)


def test_tiers_charge_each_slice_at_its_rate() -> None:
    steps = (Tier(to=Decimal(1)), Tier(initial=Decimal(2), maintenance=Decimal(2)))
    terms = MarginTerms(tiers=Tiers(style=TierStyle.RATES, basis=TierBasis.VOLUME, steps=steps))
    assert margin_after(terms, (Side.BUY, "1.00")) == Decimal("1100.10")
    assert margin_after(terms, (Side.BUY, "3.00")) == Decimal("5500.50"), "1 lot once, 2 lots twice"


def test_a_group_override_changes_what_its_clients_meet_and_nobody_else() -> None:
    made = world(
        retail={
            "overrides": (
                Override(
                    name="small", symbols="EUR*", changes={"volume_max": "0.20", "margin.mode": "forex_no_leverage"}
                ),
            )
        }
    )
    made.open_account(5, group="vip", leverage=30)
    assert refused(made, volume="0.21") == "invalid_volume"
    assert refusal_of(made.place(5, "EURUSD", Side.BUY, "0.21")) == ""
    assert refused(made, volume="0.20") == "insufficient_margin", "without leverage 22,000 USD are needed"
    assert refused(made, volume="0.05") == ""
    assert made.state.margin_used(1) == Decimal("5500.50"), "without leverage"


def test_a_new_document_charges_hedges_by_its_own_rules() -> None:
    made = world()
    made.open_account(5, deposit="100000")
    for side in (Side.BUY, Side.SELL):
        made.place(5, "EURUSD", side, "1.00")
    before = made.state.margin_used(5)
    free = replace(made.config.instruments["EURUSD"], margin=MarginTerms(hedged_mode=HedgedMode.NET))
    document: Config = replace(made.config, version=2, instruments={**made.config.instruments, "EURUSD": free})
    made.state.use_config(document)
    assert before > 0
    assert made.state.margin_used(5) == 0


def test_a_future_is_worth_its_ticks_while_it_is_open_and_when_it_is_closed() -> None:
    """One lot of 1 unit, tick 0.25 worth 12.50: ten points are 40 ticks, 500 USD."""
    terms = MarginTerms(mode=MarginMode.FUTURES, initial=Decimal(500))
    profit = ProfitTerms(mode=ProfitMode.FUTURES, tick_size=Decimal("0.25"), tick_value=Decimal("12.50"))
    future = {"digits": 2, "contract_size": Decimal(1), "margin": terms, "profit": profit, "volume_step": Decimal(1)}
    made = world(symbol={**future, "volume_min": Decimal(1)}, retail={"commission_per_lot": Decimal(0)})
    made.price("EURUSD", "5000.00", "5000.25")
    assert refused(made, volume="1") == ""
    made.price("EURUSD", "5010.25", "5010.50")
    worth = worth_of(Work(made.state, made.config, made.now_us), made.state.accounts[1])
    assert worth is not None
    assert worth.profit == Decimal(500)
    made.close(1, 1)
    assert made.balance(1) == Decimal("10500.00")


def test_a_margin_that_is_recalculated_follows_the_day_and_no_other_does() -> None:
    made = world(symbol={"margin": MarginTerms(mode=MarginMode.CFD_LEVERAGE, recalculate_daily=True)})
    made.price("GBPUSD", "1.30000", "1.30010")
    made.place(1, "EURUSD", Side.BUY, "0.30")
    made.place(1, "GBPUSD", Side.BUY, "0.10")
    opened = made.state.margin_used(1)
    made.run(RollOver(id="now", key="now"))
    assert made.state.margin_used(1) == opened + Decimal("-0.10"), "at the bid now: 0.30 x 100,000 x 1.10000 / 30"
    made.wait(86_400)
    made.price("EURUSD", "1.20000", "1.20010")
    made.price("GBPUSD", "1.40000", "1.40010")
    made.run(RollOver(id="later", key="later"))
    first, second = made.positions(1)
    assert (first.margin, second.margin) == (Decimal("1200.00"), Decimal("433.37"))
    made.price("EURUSD", "1.30000", "1.30010")
    made.run(RollOver(id="again", key="again"))
    assert made.positions(1)[0].margin == Decimal("1200.00"), "once a day"


def test_a_contract_that_has_ended_is_not_dealt_any_more() -> None:
    made = world(symbol={"expires_us": START_US + 60_000_000})
    assert refused(made) == ""
    made.wait(60)
    made.price("EURUSD", "1.10000", "1.10010")
    assert refused(made) == "market_closed"
    assert refusal_of(made.close(1, 1)) == "market_closed", "it waits for its settlement price"
