"""Pre-trade controls, one by one at their boundary, and all together in the promised order."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import decode, encode
from msgspec.structs import replace

from trading.controls import (
    CODES,
    RECENT_ORDERS_MAX,
    SECOND_US,
    AccountControls,
    Control,
    Denied,
    Exposure,
    KillSwitches,
    NewOrder,
    RecentOrders,
    SymbolControls,
    Throttle,
    account_control_problems,
    check_collar,
    check_controls,
    check_counts,
    check_duplicate,
    check_order_value,
    check_order_volume,
    check_symbol_volume,
    kill_account,
    kill_firm,
    kill_symbol,
    note_disk,
    remember,
    revive_account,
    revive_firm,
    revive_symbol,
    symbol_control_problems,
    take_message,
)
from trading.orders import Side

NOW_US = 1_700_000_000_000_000
MS = 1000


def order(side: str = "buy", volume: str = "1", **overrides: Any) -> NewOrder:
    fields: dict[str, Any] = {"account": 10001, "symbol": "EURUSD", **overrides}
    for name in ("price", "value", "volume_netted"):
        if name in fields:
            fields[name] = Decimal(fields[name])
    return NewOrder(side=Side(side), volume=Decimal(volume), **fields)


def held(**volumes: Any) -> Exposure:
    fields: dict[str, Any] = {name: v if isinstance(v, int) else Decimal(v) for name, v in volumes.items()}
    return Exposure(**fields)


def checked(new: NewOrder, at_us: int = NOW_US, **given: Any) -> Control | None:
    """All controls; what is not given limits nothing."""
    facts: dict[str, Any] = {
        "switches": KillSwitches(),
        "symbol_terms": SymbolControls(),
        "account_terms": AccountControls(),
        "exposure": Exposure(),
        "recent": (),
        "reference": Decimal("1.08510"),
        "digits": 5,
        **given,
    }
    denied = check_controls(new, at_us=at_us, **facts)
    return denied.control if denied else None


# --- kill switches ---


@pytest.mark.parametrize(
    ("switches", "control"),
    [
        (KillSwitches(), None),
        (kill_firm(KillSwitches()), Control.KILL_FIRM),
        (note_disk(KillSwitches(), is_low=True), Control.DISK_SPACE),
        (note_disk(note_disk(KillSwitches(), is_low=True), is_low=False), None),
        (revive_firm(note_disk(kill_firm(KillSwitches()), is_low=True)), Control.DISK_SPACE),
        (note_disk(note_disk(kill_firm(KillSwitches()), is_low=True), is_low=False), Control.KILL_FIRM),
        (kill_symbol(KillSwitches(), "EURUSD"), Control.KILL_SYMBOL),
        (kill_symbol(KillSwitches(), "GBPUSD"), None),
        (kill_account(KillSwitches(), 10001), Control.KILL_ACCOUNT),
        (kill_account(KillSwitches(), 10002), None),
        (kill_account(kill_symbol(kill_firm(KillSwitches()), "EURUSD"), 10001), Control.KILL_FIRM),
        (kill_account(kill_symbol(KillSwitches(), "EURUSD"), 10001), Control.KILL_SYMBOL),
    ],
)
def test_a_kill_switch_stops_new_orders_and_no_closing(switches: KillSwitches, control: Control | None) -> None:
    assert checked(order(), switches=switches) is control
    assert checked(order(is_closing=True), switches=switches) is None


def test_each_switch_is_revived_alone() -> None:
    killed = kill_account(kill_symbol(kill_firm(KillSwitches()), "EURUSD"), 7)
    assert revive_firm(killed) == KillSwitches(symbols=("EURUSD",), accounts=(7,))
    assert revive_symbol(killed, "EURUSD") == KillSwitches(firm=True, accounts=(7,))
    assert revive_account(killed, 7) == KillSwitches(firm=True, symbols=("EURUSD",))
    assert revive_symbol(killed, "GBPUSD") == killed


@given(symbols=st.lists(st.sampled_from(["A", "B", "C"])))
def test_equal_switches_are_equal_values(symbols: list[str]) -> None:
    one, other = KillSwitches(), KillSwitches()
    for symbol in symbols:
        one = kill_symbol(one, symbol)
    for symbol in reversed(symbols):
        other = kill_symbol(other, symbol)
    assert one == other == decode(encode(one), type=KillSwitches)


# --- message throttle ---

TEN_A_SECOND = AccountControls(messages_per_second=10, messages_burst=5, closing_messages_per_second=50)


def sent(throttle: Throttle, times: list[int], *, closing: bool = False) -> tuple[Throttle, list[bool]]:
    passed = []
    for at_us in times:
        throttle, denied = take_message(throttle, TEN_A_SECOND, is_closing=closing, at_us=at_us)
        passed.append(denied is None)
    return throttle, passed


def test_a_burst_passes_and_the_next_message_does_not() -> None:
    _, passed = sent(Throttle(), [NOW_US] * 6)
    assert passed == [True] * 5 + [False]


@pytest.mark.parametrize(("wait_us", "passes"), [(100 * MS - 1, False), (100 * MS, True)])
def test_a_message_comes_back_after_its_share_of_a_second(wait_us: int, passes: bool) -> None:
    throttle, _ = sent(Throttle(), [NOW_US] * 5)
    assert sent(throttle, [NOW_US + wait_us])[1] == [passes]


def test_a_denied_message_says_when_to_come_again_and_costs_nothing() -> None:
    throttle, _ = sent(Throttle(), [NOW_US] * 5)
    denied = [take_message(throttle, TEN_A_SECOND, is_closing=False, at_us=NOW_US + 250)[1] for _ in range(3)]
    assert denied == [Denied(Control.THROTTLE, "too many messages, the next may come in 100 ms")] * 3
    assert sent(throttle, [NOW_US + 50 * MS] * 9 + [NOW_US + 100 * MS])[1] == [False] * 9 + [True]


def test_closing_has_a_bucket_of_its_own() -> None:
    throttle, _ = sent(Throttle(), [NOW_US] * 9)
    throttle, passed = sent(throttle, [NOW_US], closing=True)
    assert passed == [True]
    assert sent(throttle, [NOW_US])[1] == [False]


def test_without_a_rate_every_message_passes_and_nothing_is_kept() -> None:
    throttle = Throttle()
    for _ in range(1000):
        throttle, denied = take_message(throttle, AccountControls(), is_closing=False, at_us=NOW_US)
        assert denied is None
    assert throttle == Throttle()


def test_a_clock_that_stands_still_or_goes_back_gives_no_messages() -> None:
    throttle, _ = sent(Throttle(), [NOW_US] * 5)
    assert sent(throttle, [NOW_US - 10 * SECOND_US, NOW_US])[1] == [False, False]


@given(gaps=st.lists(st.integers(0, 400 * MS), min_size=1, max_size=80))
def test_in_any_span_of_time_no_more_pass_than_burst_and_rate_allow(gaps: list[int]) -> None:
    times = [NOW_US + sum(gaps[: n + 1]) for n in range(len(gaps))]
    taken: list[int] = []
    for at_us, passes in zip(times, sent(Throttle(), times)[1], strict=True):
        spans = [(len(taken) - first + 1, at_us - taken[first]) for first in range(len(taken))]
        too_many = any(messages * SECOND_US > 5 * SECOND_US + span_us * 10 for messages, span_us in spans)
        assert passes is not too_many
        taken += [at_us] if passes else []


# --- duplicates ---

TWO_SECONDS = AccountControls(duplicate_window_us=2 * SECOND_US)


@pytest.mark.parametrize(
    ("again", "after_us", "denied"),
    [
        (order(), 0, True),
        (order(), 2 * SECOND_US - 1, True),
        (order(), 2 * SECOND_US, False),
        (order(volume="1.00"), 1, True),
        (order(volume="1.01"), 1, False),
        (order("sell"), 1, False),
        (order(symbol="GBPUSD"), 1, False),
        (order(is_closing=True), 1, False),
    ],
)
def test_the_same_order_twice_within_the_window(again: NewOrder, after_us: int, denied: bool) -> None:
    recent = remember((), order(), TWO_SECONDS, NOW_US)
    found = checked(again, NOW_US + after_us, account_terms=TWO_SECONDS, recent=recent)
    assert found is (Control.DUPLICATE if denied else None)


def test_without_a_window_nothing_is_remembered() -> None:
    assert remember((), order(), AccountControls(), NOW_US) == ()
    assert check_duplicate(order(), remember((), order(), TWO_SECONDS, NOW_US), AccountControls(), NOW_US) is None


def test_the_guard_remembers_a_bounded_number_of_young_orders() -> None:
    recent: RecentOrders = ()
    for n in range(RECENT_ORDERS_MAX + 50):
        recent = remember(recent, order(volume=str(n + 1)), TWO_SECONDS, NOW_US + n)
    assert len(recent) == RECENT_ORDERS_MAX
    assert recent[-1].volume == RECENT_ORDERS_MAX + 50
    later = remember(recent, order(), TWO_SECONDS, NOW_US + 3 * SECOND_US)
    assert [other.volume for other in later] == [1]


# --- collar ---


@pytest.mark.parametrize(
    ("points", "percent", "price", "passes"),
    [
        (100, None, "1.08610", True),  # 100 points above 1.08510
        (100, None, "1.08611", False),
        (100, None, "1.08410", True),
        (100, None, "1.08409", False),
        (None, "1", "1.0959510", True),  # one percent of 1.08510 is 0.0108510
        (None, "1", "1.0959511", False),
        (100, "1", "1.08611", False),  # the narrower binds
        (10_000, "1", "1.09596", False),
        (None, None, "99", True),
    ],
)
def test_a_price_far_from_the_market_is_refused(
    points: int | None, percent: str | None, price: str, passes: bool
) -> None:
    terms = SymbolControls(collar_points=points, collar_percent=None if percent is None else Decimal(percent))
    denied = check_collar(order(price=price), terms, reference=Decimal("1.08510"), digits=5)
    assert (denied is None) is passes


def test_the_collar_says_how_far_from_where() -> None:
    terms = SymbolControls(collar_points=100)
    assert check_collar(order(price="1.2"), terms, reference=Decimal("1.08510"), digits=5) == Denied(
        Control.COLLAR, "1.2 lies more than 0.00100 from the market at 1.08510"
    )


def test_a_price_that_cannot_be_judged_is_refused_and_a_market_order_has_none() -> None:
    terms = SymbolControls(collar_points=100)
    assert checked(order(price="1.0851"), symbol_terms=terms, reference=None) is Control.COLLAR
    assert checked(order(), symbol_terms=terms, reference=None) is None


@given(
    reference=st.decimals(Decimal(-50), Decimal(50000), places=5),
    distance=st.integers(-500, 500),
    points=st.integers(1, 400),
)
def test_the_collar_is_the_same_in_both_directions(reference: Decimal, distance: int, points: int) -> None:
    terms = SymbolControls(collar_points=points)
    price = reference + distance * Decimal("0.00001")
    denied = check_collar(replace(order(), price=price), terms, reference=reference, digits=5)
    assert (denied is None) is (abs(distance) <= points)


# --- size ---


@pytest.mark.parametrize(("volume", "passes"), [("9.99", True), ("10", True), ("10.01", False)])
def test_an_orders_volume_is_limited(volume: str, passes: bool) -> None:
    terms = SymbolControls(order_volume_max=Decimal(10))
    assert (check_order_volume(order(volume=volume), terms) is None) is passes


@pytest.mark.parametrize(("value", "passes"), [("1000000", True), ("1000000.01", False)])
def test_an_orders_value_is_limited(value: str, passes: bool) -> None:
    terms = SymbolControls(order_value_max=Decimal(1_000_000))
    assert (check_order_value(order(value=value), terms) is None) is passes


@pytest.mark.parametrize(
    ("exposure", "new", "passes"),
    [
        ({}, order(volume="5"), True),
        ({}, order(volume="5.01"), False),
        # Long 5 with a limit of 5:
        ({"volume_long": "5"}, order("sell", "5", is_pending=True), True),
        ({"volume_long": "5"}, order("buy", "0.01", is_pending=True), False),
        ({"volume_long": "5"}, order("sell", "5.01", is_pending=True), False),  # the long may be gone when it triggers
        # Pending orders and positions of one direction add up; the other direction is another matter.
        ({"volume_long": "2", "pending_buys": "2"}, order(volume="1"), True),
        ({"volume_long": "2", "pending_buys": "2"}, order(volume="1.01"), False),
        ({"volume_long": "5", "pending_buys": "9"}, order("sell", "1"), True),
        ({"volume_short": "3", "pending_sells": "1"}, order("sell", "1"), True),
        ({"volume_short": "3", "pending_sells": "1"}, order("sell", "2"), False),
        # Netting: what closes the long at once is not new risk.
        ({"volume_long": "5"}, order("sell", "10", volume_netted="5"), True),
        ({"volume_long": "5"}, order("sell", "10.01", volume_netted="5"), False),
    ],
)
def test_volume_per_symbol_and_direction(exposure: dict[str, str], new: NewOrder, passes: bool) -> None:
    terms = SymbolControls(volume_limit=Decimal(5))
    denied = check_symbol_volume(new, held(**exposure), terms)
    assert (denied is None) is passes
    assert check_symbol_volume(new, held(**exposure), SymbolControls()) is None


LOTS = st.decimals(Decimal(0), Decimal(20), places=2)


@given(steps=st.lists(st.tuples(st.sampled_from(list(Side)), LOTS, st.booleans()), max_size=12), limit=LOTS)
def test_whatever_passes_no_direction_ever_exceeds_the_limit(
    steps: list[tuple[Side, Decimal, bool]], limit: Decimal
) -> None:
    """Also when every pending order triggers and everything on the other side is closed."""
    terms, exposure = SymbolControls(volume_limit=limit), Exposure()
    for side, volume, is_pending in steps:
        new = NewOrder(account=1, symbol="EURUSD", side=side, volume=volume, is_pending=is_pending)
        if check_symbol_volume(new, exposure, terms) is None:
            exposure = _with(exposure, new)
        assert exposure.volume_long + exposure.pending_buys <= limit
        assert exposure.volume_short + exposure.pending_sells <= limit


def _with(exposure: Exposure, new: NewOrder) -> Exposure:
    names = {Side.BUY: ("volume_long", "pending_buys"), Side.SELL: ("volume_short", "pending_sells")}
    name = names[new.side][new.is_pending]
    return replace(exposure, **{name: getattr(exposure, name) + new.volume})


# --- number ---


@pytest.mark.parametrize(
    ("exposure", "new", "control"),
    [
        ({"positions": 2}, order(), None),
        ({"positions": 3}, order(), Control.POSITIONS),
        ({"positions": 3}, order(adds_position=False), None),
        ({"positions": 3, "orders": 1}, order(is_pending=True), None),
        ({"positions": 0, "orders": 2}, order(is_pending=True), Control.ORDERS),
        ({"positions": 0, "orders": 2}, order(), None),
    ],
)
def test_positions_and_pending_orders_are_counted(
    exposure: dict[str, int], new: NewOrder, control: Control | None
) -> None:
    denied = check_counts(new, held(**exposure), AccountControls(positions_max=3, orders_max=2))
    assert (denied and denied.control) is control
    assert check_counts(new, held(**exposure), AccountControls()) is None


# --- all of them ---


EVERYTHING_WRONG: dict[str, Any] = {
    "switches": KillSwitches(firm=True, symbols=("EURUSD",), accounts=(10001,)),
    "symbol_terms": SymbolControls(
        collar_points=1, order_volume_max=Decimal(1), order_value_max=Decimal(1), volume_limit=Decimal(1)
    ),
    "account_terms": AccountControls(positions_max=0, orders_max=0, duplicate_window_us=2 * SECOND_US),
    "exposure": Exposure(volume_long=Decimal(9), positions=9, orders=9),
}


def test_refusals_come_in_the_promised_order() -> None:
    """Everything is wrong at once; each refusal is cured in turn, and the next one shows."""
    new = order(volume="9", value="9", price="2")
    facts = {**EVERYTHING_WRONG, "recent": remember((), new, TWO_SECONDS, NOW_US)}
    told = [checked(new, **facts)]
    switches, symbol, account = facts["switches"], facts["symbol_terms"], facts["account_terms"]
    for cure in (
        {"switches": (switches := revive_firm(switches))},
        {"switches": (switches := revive_symbol(switches, "EURUSD"))},
        {"switches": revive_account(switches, 10001)},
        {"recent": ()},
        {"symbol_terms": (symbol := replace(symbol, collar_points=None))},
        {"symbol_terms": (symbol := replace(symbol, order_volume_max=None))},
        {"symbol_terms": (symbol := replace(symbol, order_value_max=None))},
        {"symbol_terms": replace(symbol, volume_limit=None)},
        {"account_terms": replace(account, positions_max=None)},
    ):
        facts = {**facts, **cure}
        told.append(checked(new, **facts))
    assert told == [
        Control.KILL_FIRM,
        Control.KILL_SYMBOL,
        Control.KILL_ACCOUNT,
        Control.DUPLICATE,
        Control.COLLAR,
        Control.ORDER_VOLUME,
        Control.ORDER_VALUE,
        Control.SYMBOL_VOLUME,
        Control.POSITIONS,
        None,
    ]
    assert checked(replace(new, is_pending=True), **facts) is Control.ORDERS


def test_closing_passes_whatever_is_wrong() -> None:
    new = order(volume="9", value="9", price="2", is_closing=True)
    recent = remember((), new, TWO_SECONDS, NOW_US)
    assert checked(new, **EVERYTHING_WRONG, recent=recent, reference=None) is None


def test_every_control_is_told_as_a_stable_refusal() -> None:
    assert set(CODES) == set(Control)
    assert {c for c in Control if CODES[c] == "trade_disabled"} == {c for c in Control if c.startswith("kill")}
    assert Denied(Control.COLLAR, "").code == "price_collar"


# --- publishing ---


@pytest.mark.parametrize(
    ("terms", "sentences"),
    [
        (SymbolControls(), ()),
        (SymbolControls(collar_points=1, volume_limit=Decimal("0.01")), ()),
        (SymbolControls(collar_points=0), ("EURUSD: collar_points must be above zero, or not set",)),
        (SymbolControls(volume_limit=Decimal(0)), ("EURUSD: volume_limit must be above zero, or not set",)),
        (SymbolControls(order_value_max=Decimal("NaN")), ("EURUSD: order_value_max must be above zero, or not set",)),
    ],
)
def test_symbol_limits_that_make_no_sense_are_not_published(terms: SymbolControls, sentences: tuple[str, ...]) -> None:
    assert symbol_control_problems("EURUSD", terms) == sentences


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (AccountControls(positions_max=-1), "positions_max cannot be below zero"),
        (AccountControls(duplicate_window_us=-1), "duplicate_window_us cannot be below zero"),
        (AccountControls(messages_burst=0), "a burst must let at least one message through"),
        (AccountControls(messages_per_second=9, closing_messages_per_second=8), "flow at least as freely"),
        (AccountControls(closing_messages_per_second=8), "flow at least as freely"),
    ],
)
def test_account_limits_that_make_no_sense_are_not_published(terms: AccountControls, sentence: str) -> None:
    problems = account_control_problems("retail", terms)
    assert len(problems) == 1
    assert problems[0].startswith("group retail: ")
    assert sentence in problems[0]


def test_sound_account_limits_are_published() -> None:
    for terms in (AccountControls(), TEN_A_SECOND, AccountControls(positions_max=0, messages_per_second=5)):
        assert account_control_problems("retail", terms) == ()
