"""The state's hash: equal for equal values, and not compared across versions that keep other fields."""

from decimal import Decimal

from msgspec.structs import replace

from engine.state import LAYOUT, is_same_state, state_hash
from tests.support.world import World
from trading.orders import OrderType, Side
from trading.protection import ProtectionTerms


def traded() -> World:
    world = World()
    world.open_account(1, group="pro")
    world.price("EURUSD", "1.10000", "1.10010")
    world.place(1, "EURUSD", Side.BUY, "0.10", protection=ProtectionTerms(stop_loss=Decimal("1.09")))
    world.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=Decimal("1.09"))
    return world


def test_equal_values_hash_equally_however_they_are_written() -> None:
    world = traded()
    before = state_hash(world.state)
    (position,) = world.positions(1)
    spelled = replace(position.protection, stop_loss=Decimal("1.0900000000"))
    world.state.positions[position.id] = replace(position, protection=spelled, volume=Decimal("0.1000"))
    assert state_hash(world.state) == before


def test_any_other_value_hashes_otherwise() -> None:
    world = traded()
    before = state_hash(world.state)
    (position,) = world.positions(1)
    world.state.positions[position.id] = replace(
        position, protection=replace(position.protection, stop_loss=Decimal("1.09001"))
    )
    assert is_same_state(before, state_hash(world.state)) is False


def test_a_hash_of_another_layout_says_nothing() -> None:
    live = state_hash(traded().state)
    assert live.startswith(f"{LAYOUT}:")
    assert is_same_state("0" * 64, live) is None
    assert is_same_state("00000000:" + live.partition(":")[2], live) is None
    assert is_same_state(live, live) is True
