"""Deals put right by two people: undone or dealt again at the right price, with reversing entries, once each."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import codec
from engine.core import Executed, Prior, execute
from engine.corrections import history_with
from engine.state import state_hash
from tests.support.laws import reborn
from tests.support.world import World, leg_of, refusal_of
from trading.accounts import ClientClass
from trading.commands import CorrectDeal, SplitInstrument
from trading.ledger import TransactionKind
from trading.orders import Book, Deal, DealEntry, OrderReason, OrderStatus, Side
from trading.positions import Position
from trading.protection import ProtectionTerms


@pytest.fixture
def world() -> World:
    return start()


def start(currency: str = "USD") -> World:
    world = World()
    world.open_account(1, currency=currency, group="retail", deposit="10000")
    world.price("EURUSD", "1.10000", "1.10010")
    world.price("USDJPY", "150.000", "150.010")
    world.price("EURJPY", "165.000", "165.010")
    return world


def correct(world: World, deal: Deal, price: str | None = None, **terms: Any) -> Executed:
    """With the facts that the database would give: here, everything that ever happened."""
    request = world.request()
    said: dict[str, Any] = {
        "key": request,
        "actor": "staff:1",
        "approved_by": "staff:2",
        "reason": "bad tick",
        "reply_to": "test",
        **terms,
    }
    command = CorrectDeal(id=request, deal_id=deal.id, price=None if price is None else Decimal(price), **said)
    prior = history_with(Prior(), deal.id, [event for done in world.executed for event in done.events])
    done = execute(world.state, command, world.now_us, prior)
    world.executed.append(done)
    return done


def buy(world: World, volume: str = "0.10", **terms: Any) -> Deal:
    world.place(1, "EURUSD", Side.BUY, volume, **terms)
    return world.deals()[-1]


def close(world: World, deal: Deal, volume: str | None = None) -> Deal:
    world.close(1, deal.position_id, volume)
    return world.deals()[-1]


def money(world: World) -> dict[tuple[str, str], Decimal]:
    return {account: balance for account, balance in world.state.balances.items() if balance}


def position_of(world: World, deal: Deal) -> Position:
    return world.state.positions[deal.position_id]


def check(world: World) -> None:
    """Conservation, and the invariant of the database: a position is the sum of its deals, reversed ones taken back."""
    state = world.state
    assert set(world.ledger_sums().values()) <= {Decimal(0)}
    assert state.accounts[1].balance == state.balances["client:1", state.accounts[1].currency]
    assert state_hash(reborn(state)) == state_hash(state)
    opened: dict[int, Decimal] = {}
    still: dict[int, Decimal] = {}
    for deal in world.deals():
        sign = 1 if deal.entry is DealEntry.IN else -1
        still[deal.position_id] = still.get(deal.position_id, Decimal(0)) + sign * deal.volume
        if (deal.entry is DealEntry.IN) is not deal.exec_id.startswith("reverse/"):
            opened[deal.position_id] = opened.get(deal.position_id, Decimal(0)) + sign * deal.volume
    for number, volume in still.items():
        position = state.positions.get(number)
        assert volume == (position.volume if position else 0)
        assert position is None or opened[number] == position.volume_opened


# --- openings -----------------------------------------------------------------------------------------------------------


def test_an_opening_undone_leaves_nothing_behind(world: World) -> None:
    before = money(world)
    deal = buy(world)
    done = correct(world, deal)
    reversing = world.deals()[-1]
    assert done.answers[0][1].reference == reversing.id
    assert (reversing.side, reversing.entry, reversing.price) == (Side.SELL, DealEntry.OUT, deal.price)
    assert (reversing.profit, reversing.commission) == (Decimal(0), Decimal("-0.35"))
    assert world.positions(1) == []
    assert world.state.margin_used(1) == 0
    assert money(world) == before  # the commission came back
    transfer = world.transfers()[-1]
    assert (transfer.kind, transfer.deal_id, transfer.reference) == (TransactionKind.CORRECTION, deal.id, "bad tick")
    check(world)


def test_an_opening_at_another_price_earns_from_there(world: World) -> None:
    deal = buy(world)
    before = money(world)
    correct(world, deal, "1.09912")
    assert money(world) == before
    assert position_of(world, deal).open_price == Decimal("1.09912")
    close(world, deal)  # at 1.09998
    assert world.deals()[-1].profit == Decimal("8.60")
    check(world)


def test_a_correction_is_told_as_orders_of_the_dealers(world: World) -> None:
    deal = buy(world)
    done = correct(world, deal, "1.09912")
    orders = [event.order for event in done.events if hasattr(event, "order")]
    assert [(o.side, o.closes, o.reason, o.status, o.comment) for o in orders] == [
        (Side.SELL, True, OrderReason.DEALER, OrderStatus.FILLED, "bad tick"),
        (Side.BUY, False, OrderReason.DEALER, OrderStatus.FILLED, "bad tick"),
    ]
    assert [told.kind for told in done.told] == ["order.filled", "order.filled", "position.changed"]


def test_an_opening_that_was_closed_in_part_stands(world: World) -> None:
    deal = buy(world)
    close(world, deal, "0.01")
    assert refusal_of(correct(world, deal)) == "deal_not_correctable"
    assert refusal_of(correct(world, deal, "1.09912")) == "deal_not_correctable"


def test_a_trailing_stop_counts_from_the_right_price(world: World) -> None:
    deal = buy(world, protection=ProtectionTerms(trailing_points=100))
    correct(world, deal, "1.09512")
    live, loaded = world.state, reborn(world.state)
    for state in (live, loaded):
        world.state = state
        world.price("EURUSD", "1.10400", "1.10410")
    assert live.positions[deal.position_id].protection == loaded.positions[deal.position_id].protection
    assert live.positions[deal.position_id].protection.stop_loss is not None


# --- closings -----------------------------------------------------------------------------------------------------------


def test_a_closing_at_another_price_posts_the_difference(world: World) -> None:
    deal = buy(world)  # at 1.10012
    closing = close(world, deal)  # at 1.09998
    balance = world.balance(1)
    correct(world, closing, "1.09898")
    assert world.balance(1) - balance == Decimal("-10.00")
    transfer = world.transfers()[-1]
    assert (transfer.kind, transfer.source, transfer.target) == (
        TransactionKind.CORRECTION,
        "client:1",
        "house:pnl:B",
    )
    assert world.deals()[-1].profit == closing.profit - 10
    assert world.positions(1) == []
    check(world)


def test_a_closing_undone_opens_the_position_again_as_it_was(world: World) -> None:
    deal = buy(world, protection=ProtectionTerms(take_profit=Decimal("1.20000")))
    before, then = money(world), position_of(world, deal)
    closing = close(world, deal)
    correct(world, closing)
    after = position_of(world, deal)
    assert money(world) == before
    for part in ("id", "side", "volume", "volume_opened", "cost", "margin", "protection", "opened_us"):
        assert getattr(after, part) == getattr(then, part), part
    check(world)
    world.price("EURUSD", "1.20002", "1.20012")
    assert world.positions(1) == []  # its take profit still stands for it


def test_a_partial_closing_undone_gives_its_volume_back(world: World) -> None:
    deal = buy(world)
    closing = close(world, deal, "0.03")
    close(world, deal, "0.02")
    correct(world, closing)
    position = position_of(world, deal)
    assert (position.volume, position.cost) == (Decimal("0.08"), Decimal("0.08") * deal.price)
    check(world)
    close(world, deal)
    assert world.positions(1) == []
    check(world)


def test_an_undone_closing_does_not_meet_another_unit_of_the_contract(world: World) -> None:
    closing = close(world, buy(world))
    world.run(SplitInstrument(id="s", key="s", symbol="EURUSD", new=2, old=1))
    assert refusal_of(correct(world, closing)) == "deal_not_correctable"


def test_an_opening_before_a_split_stands(world: World) -> None:
    deal = buy(world)
    world.run(SplitInstrument(id="s", key="s", symbol="EURUSD", new=2, old=1))
    assert refusal_of(correct(world, deal, "1.09912")) == "deal_not_correctable"


# --- a provider's deals -------------------------------------------------------------------------------------------------


def test_a_providers_deal_gets_another_price_but_is_not_undone() -> None:
    world = World()
    world.open_account(1, group="pro", client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    world.fill(leg_of(world.place(1, "EURUSD", Side.BUY, "0.10")), "1.10010")
    deal = world.deals()[-1]
    assert deal.book is Book.A
    assert refusal_of(correct(world, deal)) == "deal_not_correctable"
    at_lp, net = position_of(world, deal).cost_a, world.lp_net()
    correct(world, deal, "1.10000")
    assert position_of(world, deal).cost_a == at_lp
    assert world.lp_net() == net
    world.fill(leg_of(world.close(1, deal.position_id)), "1.10010")
    assert world.deals()[-1].profit == Decimal("1.00")
    assert world.state.balances["house:pnl:A", "USD"] == -1  # the difference is the house's
    check(world)


def test_a_deal_whose_position_is_being_closed_waits() -> None:
    world = World()
    world.open_account(1, group="pro", client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    world.fill(leg_of(world.place(1, "EURUSD", Side.BUY, "0.10")), "1.10010")
    deal = world.deals()[-1]
    world.close(1, deal.position_id)
    assert refusal_of(correct(world, deal, "1.10000")) == "deal_not_correctable"


# --- who, what, how often -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actor", "approved_by"), [("", "staff:2"), ("staff:1", ""), ("staff:1", "staff:1 "), ("", "")]
)
def test_two_different_people_stand_behind_it(world: World, actor: str, approved_by: str) -> None:
    deal = buy(world)
    assert refusal_of(correct(world, deal, actor=actor, approved_by=approved_by)) == "second_person_required"
    assert len(world.positions(1)) == 1


def test_a_deal_is_corrected_once_and_its_successor_can_be(world: World) -> None:
    deal = buy(world)
    correct(world, deal, "1.09912")
    reversing, right = world.deals()[-2:]
    assert refusal_of(correct(world, deal)) == "deal_not_correctable"
    assert refusal_of(correct(world, reversing)) == "deal_not_correctable"
    assert refusal_of(correct(world, right)) == ""
    assert world.positions(1) == []
    check(world)


def test_what_is_asked_must_make_sense(world: World) -> None:
    deal = buy(world)
    assert refusal_of(correct(world, deal, str(deal.price))) == "no_changes"
    assert refusal_of(correct(world, deal, "1.100001")) == "invalid_price"
    assert refusal_of(correct(world, deal, "NaN")) == "invalid_price"
    unknown = CorrectDeal(id="x", key="x", deal_id=99, actor="staff:1", approved_by="staff:2", reply_to="test")
    assert refusal_of(world.run(unknown)) == "deal_not_found"


def test_the_same_correction_said_twice_is_one(world: World) -> None:
    closing = close(world, buy(world))
    for _ in range(2):
        correct(world, closing, "1.09898", key="once")
    balance = world.balance(1)
    assert balance == Decimal(10000) - Decimal("0.70") - Decimal("11.40")


def test_facts_survive_the_journal(world: World) -> None:
    """A replay reads them back as they were."""
    closing = close(world, buy(world))
    prior = history_with(Prior(), closing.id, [event for done in world.executed for event in done.events])
    assert len(prior.deals) == 2
    assert prior.position is not None
    assert msgspec.json.decode(codec.encode(prior), type=Prior) == prior


PRICES = st.integers(105_000, 115_000).map(lambda points: f"{Decimal(points) / 100_000:.5f}")


@settings(max_examples=60, deadline=None)
@given(
    currency=st.sampled_from(["USD", "EUR"]), wrong=PRICES, lots=st.integers(1, 40),
    parts=st.lists(st.integers(1, 9), max_size=3), which=st.integers(0, 3),
)  # fmt: skip
def test_a_correction_and_another_back_leave_money_as_it_was(
    currency: str, wrong: str, lots: int, parts: list[int], which: int
) -> None:
    world = start(currency)
    deal = buy(world, f"{Decimal(lots) / 100:.2f}")
    world.price("EURUSD", "1.10500", "1.10510")
    for part in parts:
        world.close(1, deal.position_id, f"{Decimal(part) / 100:.2f}")
    made = world.deals()
    subject = made[which % len(made)]
    before, held = money(world), dict(world.state.positions)
    there = correct(world, subject, wrong)
    if refusal_of(there):
        assert refusal_of(there) in {"deal_not_correctable", "no_changes"}
        assert money(world) == before
        return
    check(world)
    assert refusal_of(correct(world, world.deals()[-1], str(subject.price))) == ""
    assert money(world) == before
    assert {n: (p.volume, p.cost, p.margin) for n, p in world.state.positions.items()} == {
        n: (p.volume, p.cost, p.margin) for n, p in held.items()
    }
    check(world)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.integers(1, 16), min_size=1, max_size=6), order=st.randoms(use_true_random=False), price=PRICES
)
def test_all_closings_undone_is_the_opening(parts: list[int], order: Any, price: str) -> None:
    """In any order, some of them at another price before."""
    world = start()
    world.price("EURUSD", "1.10003", "1.10013")
    deal = buy(world, f"{Decimal(sum(parts)) / 100:.2f}")
    before, then = money(world), position_of(world, deal)
    closings = [close(world, deal, f"{Decimal(part) / 100:.2f}") for part in parts]
    assert world.positions(1) == []
    order.shuffle(closings)
    for number, closing in enumerate(closings):
        subject = closing
        if number % 2 and refusal_of(correct(world, closing, price)) == "":
            subject = world.deals()[-1]
        assert refusal_of(correct(world, subject)) == ""
        check(world)
    after = position_of(world, deal)
    assert money(world) == before
    assert (after.volume, after.volume_opened) == (then.volume, then.volume_opened)
    assert after.cost == then.cost
