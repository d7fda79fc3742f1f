"""Circuit breakers: when they open, what they let through meanwhile, and a storm of rejections that they hold."""

from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import Executed
from engine.state import state_hash
from routing.engine import route
from tests.support.builders import config, facts, lp_settings, policy, rule
from tests.support.laws import reborn
from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.breaker import (
    SLICES,
    Breakers,
    BreakerState,
    BreakerTerms,
    after_outcome,
    after_reset,
    after_sending,
    breaker_of,
    breaker_problems,
    state_of,
    why_barred,
)
from trading.commands import SetSwitch, SwitchScope
from trading.configuration import Config
from trading.decisions import Decision
from trading.events import ChildOrderRouted, DeskChanged, OrderRouted
from trading.liquidity import LpOrder, ReportKind
from trading.orders import OrderStatus, OrderType, Side

TERMS = BreakerTerms()
SECOND = 1_000_000
T0 = 1_700_000_000 * SECOND
LP = "YOFX1"


def told(outcomes: Iterable[tuple[float, bool]], breakers: Breakers = (), terms: BreakerTerms = TERMS) -> Breakers:
    """After these outcomes: seconds from T0, and whether the leg was rejected."""
    for number, (at_s, is_rejected) in enumerate(outcomes):
        at_us = T0 + int(at_s * SECOND)
        breakers = after_outcome(breakers, LP, f"L{number}", is_rejected=is_rejected, now_us=at_us, terms=terms)
    return breakers


def state_at(breakers: Breakers, at_s: float) -> BreakerState:
    return breaker_of(breakers, LP).state_at(T0 + int(at_s * SECOND))


def opened(at_s: float = 0) -> Breakers:
    return told([(at_s, True)] * 5)


# --- when it opens ---


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ([True] * 4, False),
        ([True] * 5, True),
        ([False, False, True, True, True], True),
        ([False, False, False, True, True], False),
        ([False] * 5 + [True] * 4, False),
        ([False] * 5 + [True] * 5, True),
        ([False] * 9, False),
    ],
)
def test_it_opens_when_half_of_at_least_five_were_rejected(outcomes: list[bool], opens: bool) -> None:
    breakers = told((0.1 * number, is_rejected) for number, is_rejected in enumerate(outcomes))
    assert (state_at(breakers, 1) is BreakerState.OPEN) is opens


def test_what_ended_before_the_window_does_not_count() -> None:
    assert state_at(told([(0, True)] * 4 + [(10.1, True)]), 10.2) is BreakerState.CLOSED
    assert state_at(told([(0, True)] * 4 + [(8.9, True)]), 9) is BreakerState.OPEN
    assert state_at(told([(0, False)] * 50 + [(11, True)] * 5), 11) is BreakerState.OPEN


def test_it_says_why() -> None:
    breakers = told([(0, False)] * 3 + [(1, True)] * 2 + [(2, True)])
    assert why_barred(breakers, (), LP, T0 + 2 * SECOND) == "breaker open: 3 of 6 rejected in 10 s"
    assert why_barred(breakers, (LP,), LP, T0) == "killed by the desk"
    assert why_barred(breakers, (), "PRIMEXM", T0) == ""


# --- the way back ---


def test_after_the_pause_one_leg_goes_and_a_second_waits_for_its_answer() -> None:
    breakers = opened()
    assert why_barred(breakers, (), LP, T0 + 30 * SECOND - 1)
    at_us = T0 + 30 * SECOND
    assert not why_barred(breakers, (), LP, at_us)
    breakers = after_sending(breakers, LP, "probe", at_us)
    assert why_barred(breakers, (), LP, at_us) == "breaker open: 5 of 5 rejected in 10 s, a probe is on its way"
    assert state_at(breakers, 30) is BreakerState.HALF_OPEN


def test_a_probe_that_is_not_rejected_closes_it_with_nothing_counted() -> None:
    breakers = after_sending(opened(), LP, "probe", T0 + 30 * SECOND)
    breakers = after_outcome(breakers, LP, "probe", is_rejected=False, now_us=T0 + 31 * SECOND, terms=TERMS)
    assert state_at(breakers, 31) is BreakerState.CLOSED
    assert state_at(told([(32, True)] * 4, breakers), 32) is BreakerState.CLOSED


def test_rejected_probes_double_the_pause_up_to_its_maximum() -> None:
    breakers, at_us, pauses = opened(), T0, []
    for number in range(6):
        pause_us = breaker_of(breakers, LP).pause_us
        pauses.append(pause_us // SECOND)
        at_us += pause_us
        breakers = after_sending(breakers, LP, f"P{number}", at_us)
        breakers = after_outcome(breakers, LP, f"P{number}", is_rejected=True, now_us=at_us, terms=TERMS)
    assert pauses == [30, 60, 120, 240, 300, 300]
    assert "a probe was rejected, the next goes after 300 s" in why_barred(breakers, (), LP, at_us)


def test_a_probe_without_an_answer_is_not_waited_for_for_ever() -> None:
    breakers = after_sending(opened(), LP, "lost", T0 + 30 * SECOND)
    later_us = T0 + 60 * SECOND
    assert not why_barred(breakers, (), LP, later_us)
    breakers = after_sending(breakers, LP, "next", later_us)
    late = after_outcome(breakers, LP, "lost", is_rejected=True, now_us=later_us, terms=TERMS)
    assert late == breakers
    assert after_outcome(breakers, LP, "next", is_rejected=False, now_us=later_us, terms=TERMS) != breakers


def test_answers_to_what_was_sent_before_it_opened_change_nothing() -> None:
    breakers = opened()
    assert after_outcome(breakers, LP, "old", is_rejected=False, now_us=T0 + SECOND, terms=TERMS) == breakers
    assert after_outcome(breakers, LP, "old", is_rejected=True, now_us=T0 + 40 * SECOND, terms=TERMS) == breakers


def test_a_person_closes_it() -> None:
    assert state_at(after_reset(opened(), LP), 0) is BreakerState.CLOSED
    assert state_of(opened(), (LP,), LP, T0 + 99 * SECOND) is BreakerState.KILLED


TIMES = st.lists(
    st.tuples(st.sampled_from([LP, "PRIMEXM"]), st.integers(0, 4 * SECOND), st.booleans(), st.booleans()), max_size=120
)


@given(TIMES)
def test_whatever_happens_it_stays_small_and_one_probe_at_a_time_goes(
    story: list[tuple[str, int, bool, bool]],
) -> None:
    """Against a plain model that remembers every outcome: it opens only when the whole last window says so."""
    breakers: Breakers = ()
    now_us = T0
    ended: dict[str, list[tuple[int, bool]]] = {LP: [], "PRIMEXM": []}
    on_way: dict[str, int] = {}
    for number, (lp, gap_us, is_rejected, is_answered) in enumerate(story):
        now_us += gap_us
        if why_barred(breakers, (), lp, now_us):
            continue
        name, was = f"L{number}", breaker_of(breakers, lp)
        breakers = after_sending(breakers, lp, name, now_us)
        if was.pause_us:
            assert now_us >= was.opened_us + was.pause_us
            assert now_us >= on_way.get(lp, 0), "one probe at a time"
            on_way[lp] = now_us + was.pause_us
        if not is_answered:
            continue
        breakers = after_outcome(breakers, lp, name, is_rejected=is_rejected, now_us=now_us, terms=TERMS)
        on_way.pop(lp, None)
        _check_opening(was.pause_us, breakers, lp, ended[lp], now_us, is_rejected)
    assert [breaker.lp for breaker in breakers] == sorted({breaker.lp for breaker in breakers})
    assert all(len(breaker.slices) <= SLICES for breaker in breakers)
    assert all(breaker.pause_us <= TERMS.pause_us_max for breaker in breakers)


def _check_opening(
    was_us: int, breakers: Breakers, lp: str, ended: list[tuple[int, bool]], now_us: int, is_rejected: bool
) -> None:
    if was_us:
        ended.clear()
        assert bool(breaker_of(breakers, lp).pause_us) is is_rejected
        return
    ended.append((now_us, is_rejected))
    width = TERMS.window_us // SLICES
    window = [bad for at_us, bad in ended if at_us - at_us % width > now_us - now_us % width - TERMS.window_us]
    opens = len(window) >= 5 and sum(window) * 2 >= len(window)
    assert bool(breaker_of(breakers, lp).pause_us) is opens
    if opens:
        ended.clear()


@pytest.mark.parametrize(
    ("terms", "problems"),
    [
        (TERMS, 0),
        (BreakerTerms(window_us=0), 1),
        (BreakerTerms(outcomes_min=0, reject_percent=0), 2),
        (BreakerTerms(reject_percent=101), 1),
        (BreakerTerms(pause_us=2, pause_us_max=1), 1),
    ],
)
def test_terms_that_make_no_sense_are_not_published(terms: BreakerTerms, problems: int) -> None:
    assert len(list(breaker_problems(terms))) == problems


# --- the router ---


def to_market(**given: object) -> Decision:
    return route(facts("1.00", **given), policy(rule(action="A")))


def test_an_order_goes_to_the_next_provider_and_its_record_says_why() -> None:
    assert to_market().lp == LP
    decision = to_market(breakers=opened(), now_us=T0)
    assert decision.lp == "PRIMEXM"
    (barred,) = [candidate for candidate in decision.candidates if candidate.lp == LP]
    assert not barred.eligible
    assert barred.reason == "YOFX1 gets no new risk, breaker open: 5 of 5 rejected in 10 s."
    assert to_market(killed_lps=(LP,)).lp == "PRIMEXM"


def test_an_open_breaker_never_turns_the_markets_part_into_the_houses_risk() -> None:
    decision = to_market(killed_lps=(LP, "PRIMEXM"))
    assert decision.lacks_provider
    assert decision.reasons[-1] == "No provider can take 1.00 lots of EURUSD now."
    assert "PRIMEXM gets no new risk, killed by the desk." in decision.reasons


# --- in the engine ---


def market_world(document: Config | None = None) -> World:
    """Account 2 goes to the market."""
    world = World(document)
    world.open_account(2, group="pro", deposit="10000000", leverage=100, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def one_provider() -> Config:
    return config(lps={LP: lp_settings(LP)})


def buy(world: World) -> Executed:
    world.price("EURUSD", "1.10000", "1.10010")
    return world.place(2, "EURUSD", Side.BUY, "0.10")


def legs(done: Executed) -> list[LpOrder]:
    return [event.leg for event in done.events if isinstance(event, ChildOrderRouted)]


def deal(world: World, kind: ReportKind = ReportKind.REJECTED) -> int:
    """One order, every leg of it answered so; how many legs it took."""
    sent, waiting = 0, legs(buy(world))
    while waiting:
        sent += len(waiting)
        leg = waiting.pop()
        answered = world.fill(leg, "1.10010") if kind is ReportKind.FILL else world.report(leg, kind, text="no")
        waiting += legs(answered)
    return sent


def breaker(world: World, lp: str = LP) -> BreakerState:
    desk = world.state.desk
    return state_of(desk.breakers, desk.switches.lps, lp, world.now_us)


@pytest.mark.parametrize("kind", [ReportKind.REJECTED, ReportKind.NOT_SENT])
def test_rejections_and_what_could_not_be_sent_open_the_breaker(kind: ReportKind) -> None:
    world = market_world(one_provider())
    for _ in range(5):
        assert breaker(world) is BreakerState.CLOSED
        assert deal(world, kind) == 1
    assert breaker(world) is BreakerState.OPEN
    refused = buy(world)
    assert refusal_of(refused) == "no_connection"
    (routed,) = [event.decision for event in refused.events if isinstance(event, OrderRouted)]
    assert "YOFX1 gets no new risk, breaker open: 5 of 5 rejected in 10 s." in routed.reasons


@pytest.mark.parametrize("kind", [ReportKind.CANCELED, ReportKind.FILL])
def test_what_was_filled_or_found_no_liquidity_does_not(kind: ReportKind) -> None:
    world = market_world(one_provider())
    for _ in range(20):
        deal(world, kind)
    assert breaker(world) is BreakerState.CLOSED


def test_a_leg_filled_in_two_parts_is_one_outcome() -> None:
    world = market_world(one_provider())
    leg = leg_of(buy(world))
    world.fill(leg, "1.10010", "4000")
    world.fill(leg, "1.10010", "6000")
    ((counted,),) = [breaker.slices for breaker in world.state.desk.breakers]
    assert (counted.rejected, counted.others) == (0, 1)


def test_an_acknowledged_leg_that_is_rejected_after_all_counts_as_rejected() -> None:
    world = market_world(one_provider())
    leg = leg_of(buy(world))
    world.report(leg, ReportKind.ACKNOWLEDGED, lp_order_id="77")
    world.report(leg, ReportKind.REJECTED)
    ((counted,),) = [breaker.slices for breaker in world.state.desk.breakers]
    assert (counted.rejected, counted.others) == (1, 0)


@pytest.mark.parametrize("document", [one_provider(), config()])
def test_a_thousand_orders_into_a_storm_of_rejections(document: Config) -> None:
    """Few legs go out, nobody is asked twice, and every client is answered at once."""
    world = market_world(document)
    lps = len(document.lps)
    sent, refusals = 0, []
    for _ in range(1000):
        before = len(world.executed)
        sent += deal(world)
        refusals += [a.refusal for done in world.executed[before:] for _, a in done.answers if a.refusal]
        world.wait(0.02)
    assert len(refusals) == 1000, "each order ends once"
    assert sent <= 6 * lps, "20 s of business time: five legs each until the breakers open, and no probe yet"
    assert refusals.count("no_connection") >= 1000 - 5 * lps
    assert set(refusals) == {"rejected_by_lp", "no_connection"}
    assert not world.state.legs
    assert not world.reserved()


def test_a_thousand_orders_over_six_minutes_cost_three_probes() -> None:
    """After 30 s, 60 s more and 120 s more."""
    world = market_world(one_provider())
    sent = 0
    for _ in range(1000):
        sent += deal(world)
        world.wait(0.36)
    assert sent == 5 + 3


def test_a_thousand_legs_on_their_way_when_the_storm_begins() -> None:
    """What is out already is answered; each order goes on to the other provider at most once."""
    world = market_world()
    waiting = [leg_of(buy(world)) for _ in range(1000)]
    sent = len(waiting)
    while waiting:
        on = legs(world.report(waiting.pop(0), ReportKind.REJECTED))
        sent += len(on)
        waiting += on
    assert sent <= 2000
    assert breaker(world) is breaker(world, "PRIMEXM") is BreakerState.OPEN
    assert not world.state.legs
    assert not world.reserved()


def test_when_the_provider_is_well_again_one_probe_brings_it_back() -> None:
    world = market_world(one_provider())
    for _ in range(5):
        deal(world)
    world.wait(30)
    probe = leg_of(buy(world))
    assert breaker(world) is BreakerState.HALF_OPEN
    assert refusal_of(buy(world)) == "no_connection"
    assert order_of(world.fill(probe, "1.10010")).status is OrderStatus.FILLED
    assert breaker(world) is BreakerState.CLOSED
    assert deal(world, ReportKind.FILL) == 1


def test_a_resting_order_waits_while_the_breaker_is_open_and_does_not_come_back_at_every_price() -> None:
    world = market_world(one_provider())
    world.place(2, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=Decimal("1.09990"))
    sent = 0
    for number in range(100):
        arrived = world.price("EURUSD", "1.09900", f"1.0991{number % 10}")
        for leg in legs(arrived) if arrived else []:
            sent += 1
            world.report(leg, ReportKind.REJECTED)
        world.wait(0.1)
    assert sent == 5
    (order,) = world.state.orders.values()
    assert order.status is OrderStatus.NEW


def test_closes_go_to_their_provider_whatever_its_breaker_says() -> None:
    world = market_world(one_provider())
    deal(world, ReportKind.FILL)
    for _ in range(6):
        deal(world)
    assert breaker(world) is BreakerState.OPEN
    (position,) = world.positions(2)
    world.fill(leg_of(world.close(2, position.id, "0.04")), "1.10000")
    assert breaker(world) is BreakerState.OPEN
    switch(world, stops=True)
    world.fill(leg_of(world.close(2, position.id)), "1.10000")
    assert not world.positions(2)


def test_a_close_may_be_the_probe() -> None:
    world = market_world(one_provider())
    deal(world, ReportKind.FILL)
    for _ in range(6):
        deal(world)
    world.wait(31)
    world.price("EURUSD", "1.10000", "1.10010")
    (position,) = world.positions(2)
    leg = leg_of(world.close(2, position.id))
    assert refusal_of(buy(world)) == "no_connection"
    world.fill(leg, "1.10000")
    assert breaker(world) is BreakerState.CLOSED


def switch(world: World, *, stops: bool, lp: str = LP) -> Executed:
    request = world.request()
    command = SetSwitch(
        id=request, key=request, scope=SwitchScope.LP, target=lp, stops=stops, reply_to="test", account=0
    )
    return world.run(command)


def test_a_person_kills_a_provider_and_revives_it() -> None:
    world = market_world(one_provider())
    assert refusal_of(switch(world, stops=True, lp="NOBODY")) == "invalid_request"
    assert refusal_of(switch(world, stops=True)) == ""
    assert breaker(world) is BreakerState.KILLED
    world.wait(10_000)
    assert refusal_of(buy(world)) == "no_connection"
    assert refusal_of(switch(world, stops=False)) == ""
    assert deal(world, ReportKind.FILL) == 1
    assert refusal_of(switch(world, stops=False)) == "no_changes"


def test_a_person_closes_a_breaker_that_opened_by_itself() -> None:
    world = market_world(one_provider())
    for _ in range(5):
        deal(world)
    assert refusal_of(switch(world, stops=False)) == ""
    assert breaker(world) is BreakerState.CLOSED
    assert deal(world, ReportKind.FILL) == 1


def test_breakers_survive_a_rebuild_and_are_part_of_the_states_hash() -> None:
    world = market_world(one_provider())
    before = state_hash(world.state)
    for _ in range(5):
        deal(world)
    world.wait(30)
    leg_of(buy(world))
    again = reborn(world.state)
    assert again.desk.breakers == world.state.desk.breakers
    assert state_hash(again) == state_hash(world.state) != before
    world.state.desk = replace(world.state.desk, breakers=())
    assert state_hash(world.state) != state_hash(again)


def test_orders_that_the_house_takes_never_touch_a_breaker() -> None:
    world = market_world()
    world.open_account(1, group="pro")
    done = world.place(1, "EURUSD", Side.BUY, "0.10")
    assert not [event for event in done.events if isinstance(event, DeskChanged)]
