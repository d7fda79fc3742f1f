"""How stops watch the price, how they follow it, how near a price may stand, and which trade mode lets what happen."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.core import Executed
from engine.state import State, rebuild
from tests.support.world import World, leg_of, order_of, refusal_of, world_on
from trading.commands import CancelAll, CancelOrder, ModifyOrder, ReloadConfig
from trading.instruments import TradeMode
from trading.orders import OrderStatus, OrderType, Side
from trading.overrides import Override
from trading.protection import ProtectionTerms, StopTriggerMethod

M = StopTriggerMethod


def price(text: str) -> Decimal:
    return Decimal(text)


def stop(world: World, side: Side, at: str, **more: Any) -> Executed:
    return world.place(1, "EURUSD", side, "0.10", type=OrderType.STOP, stop_price=price(at), **more)


def opened(world: World, side: Side = Side.BUY, **terms: Any) -> int:
    world.place(1, "EURUSD", side, "0.10", protection=ProtectionTerms(**terms))
    return world.positions(1)[-1].id


def said(command: type, world: World, **fields: Any) -> Executed:
    name = world.request()
    return world.run(command(id=name, key=name, account=1, reply_to="test", **fields))


# --- which side is watched ----------------------------------------------------------------------------------------------

TICKS = {
    # method: for a buy stop at 1.10050, ticks that leave it alone and the one that fires it
    M.TRADE: ((("1.10039", "1.10049"),), ("1.10000", "1.10050")),
    M.OPPOSITE: ((("1.10000", "1.10100"), ("1.10049", "1.10059")), ("1.10050", "1.10060")),
    M.DOUBLE_TRADE: ((("1.10040", "1.10050"),), ("1.10045", "1.10055")),
    M.DOUBLE_OPPOSITE: ((("1.10000", "1.10100"), ("1.10050", "1.10060")), ("1.10051", "1.10061")),
}


def mirrored(bid: str, ask: str) -> tuple[str, str]:
    """The same tick for somebody who sells: every price as far on the other side of the middle, 1.10005."""
    return str(price("2.20010") - price(ask)), str(price("2.20010") - price(bid))


@pytest.mark.parametrize("where", ["symbol", "group", "order"])
@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
@pytest.mark.parametrize("method", list(M))
def test_a_stop_order_watches_as_its_symbol_group_or_itself_says(method: M, side: Side, where: str) -> None:
    other = M.OPPOSITE if method is M.TRADE else M.TRADE
    rule = Override(name="own", symbols="*", changes={"stop_trigger": method.value})
    world = world_on(stop_trigger=method if where == "symbol" else other, overrides=(rule,) if where == "group" else ())
    order = order_of(
        stop(
            world,
            side,
            "1.10050" if side is Side.BUY else "1.09960",
            stop_trigger=method if where == "order" else None,
        )
    )
    assert order.status is OrderStatus.NEW
    quiet, firing = TICKS[method]
    for tick in quiet:
        world.price("EURUSD", *(tick if side is Side.BUY else mirrored(*tick)))
        assert order.id in world.state.orders, tick
    world.price("EURUSD", *(firing if side is Side.BUY else mirrored(*firing)))
    assert order.id not in world.state.orders
    dealt = firing[1] if side is Side.BUY else mirrored(*firing)[0]
    assert world.deals()[-1].price == price(dealt)


@pytest.mark.parametrize("of_symbol", [True, False])
@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
@pytest.mark.parametrize("method", list(M))
def test_a_stop_loss_watches_as_its_symbol_or_itself_says(method: M, side: Side, of_symbol: bool) -> None:
    """A short's stop loss at 1.10050 is bought back like a buy stop."""
    world = world_on(stop_trigger=method) if of_symbol else world_on()
    level = price("1.10050") if side is Side.SELL else price("1.09960")
    opened(world, side, stop_loss=level, stop_trigger=None if of_symbol else method)
    quiet, firing = TICKS[method]
    for tick in quiet:
        world.price("EURUSD", *(tick if side is Side.SELL else mirrored(*tick)))
        assert world.positions(1) != [], tick
    world.price("EURUSD", *(firing if side is Side.SELL else mirrored(*firing)))
    assert world.positions(1) == []


def test_two_ticks_must_follow_each_other() -> None:
    world = world_on(stop_trigger=M.DOUBLE_TRADE)
    opened(world, stop_loss=price("1.09900"))
    for spike in ("1.09900", "1.09800"):
        world.price("EURUSD", spike, "1.10010")
        world.price("EURUSD", "1.10000", "1.10010")
    assert world.positions(1) != []
    world.price("EURUSD", "1.09900", "1.09910")
    world.price("EURUSD", "1.09890", "1.09900")
    assert world.positions(1) == []


def test_a_price_that_nobody_deals_at_stands_between_two_ticks() -> None:
    world = world_on(stop_trigger=M.DOUBLE_TRADE)
    opened(world, stop_loss=price("1.09900"))
    world.price("EURUSD", "1.09900", "1.09910")
    world.price("EURUSD", "1.09900", "1.09910", lps=())
    world.price("EURUSD", "1.09900", "1.09910")
    assert world.positions(1) != []
    world.price("EURUSD", "1.09900", "1.09910")
    assert world.positions(1) == []


@pytest.mark.parametrize("method", list(M))
def test_limits_and_take_profits_watch_their_own_side_whatever_the_method(method: M) -> None:
    world = world_on(stop_trigger=method)
    opened(world, take_profit=price("1.10100"))
    world.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price("1.09950"))
    world.price("EURUSD", "1.10100", "1.10110")
    assert world.positions(1) == []
    world.price("EURUSD", "1.09940", "1.09950")
    assert world.positions(1)[0].open_price == price("1.09950")


@pytest.mark.parametrize(
    ("side", "at", "method", "code"),
    [
        (Side.BUY, "1.10010", M.TRADE, "invalid_price"),
        (Side.BUY, "1.10011", M.TRADE, ""),
        (Side.BUY, "1.10001", M.OPPOSITE, ""),  # above the bid
        (Side.BUY, "1.10000", M.OPPOSITE, "invalid_price"),
        (Side.BUY, "1.10000", M.DOUBLE_OPPOSITE, "invalid_price"),
        (Side.SELL, "1.10000", M.TRADE, "invalid_price"),
        (Side.SELL, "1.10009", M.OPPOSITE, ""),  # below the ask
        (Side.SELL, "1.10010", M.OPPOSITE, "invalid_price"),
    ],
)
def test_whether_a_stop_is_past_is_judged_by_the_side_it_watches(side: Side, at: str, method: M, code: str) -> None:
    assert refusal_of(stop(world_on(), side, at, stop_trigger=method)) == code


@pytest.mark.parametrize(("method", "code"), [(M.TRADE, "invalid_stops"), (M.OPPOSITE, "")])
def test_a_stop_loss_inside_the_spread_fits_who_watches_the_other_side(method: M, code: str) -> None:
    world = world_on()
    inside = ProtectionTerms(stop_loss=price("1.10005"), stop_trigger=method)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10", protection=inside)) == code
    position = opened(world)
    assert refusal_of(world.protect(1, position, stop_loss=price("1.10005"), stop_trigger=method)) == code


@pytest.mark.parametrize("kind", [OrderType.MARKET, OrderType.LIMIT])
def test_only_a_stop_price_is_watched_by_a_method(kind: OrderType) -> None:
    at = price("1.09900") if kind is OrderType.LIMIT else None
    done = world_on().place(1, "EURUSD", Side.BUY, "0.10", type=kind, price=at, stop_trigger=M.OPPOSITE)
    assert refusal_of(done) == "invalid_request"


def test_a_new_process_watches_as_the_old_one_did() -> None:
    world = world_on(stop_trigger=M.OPPOSITE)
    stop(world, Side.BUY, "1.10050")
    stop(world, Side.BUY, "1.10050", stop_trigger=M.TRADE)
    opened(world, stop_loss=price("1.09900"), stop_trigger=M.DOUBLE_TRADE)
    even = opened(world, break_even_points=30, trailing_activation=0, trailing_points=200)
    world.state = reborn(world.state)
    world.price("EURUSD", "1.10010", "1.10050")
    assert [order.stop_trigger for order in world.state.orders.values()] == [None]
    world.price("EURUSD", "1.10060", "1.10070")
    assert world.state.orders == {}
    assert world.state.positions[even].protection.stop_loss == price("1.10010")


def reborn(state: State) -> State:
    after = rebuild(
        shard=state.shard,
        config=state.config,
        counters=msgspec.structs.replace(state.counters),
        accounts=state.accounts.values(),
        orders=state.orders.values(),
        positions=state.positions.values(),
        legs=state.legs.values(),
        balances=state.balances,
        inbox_cursors=state.inbox_cursors,
        outbox_seq=state.outbox_seq,
    )
    after.quotes = state.quotes
    return after


# --- following the price ------------------------------------------------------------------------------------------------


def stop_loss_of(world: World, position: int) -> Decimal | None:
    return world.state.positions[position].protection.stop_loss


@pytest.mark.parametrize(
    ("activation", "bid", "stop_loss"),
    [
        (None, "1.10109", None),  # opened at 1.10010: 99 points of profit
        (None, "1.10110", "1.10010"),
        (0, "1.10009", None),
        (0, "1.10010", "1.09910"),
        (40, "1.10049", None),
        (40, "1.10050", "1.09950"),
    ],
)
def test_trailing_begins_at_its_activation(activation: int | None, bid: str, stop_loss: str | None) -> None:
    world = world_on()
    position = opened(world, trailing_points=100, trailing_activation=activation)
    world.price("EURUSD", bid, str(price(bid) + price("0.00010")))
    assert stop_loss_of(world, position) == (None if stop_loss is None else price(stop_loss))


@pytest.mark.parametrize(
    ("side", "before", "at", "even"),
    [
        (Side.BUY, ("1.10059", "1.10069"), ("1.10060", "1.10070"), "1.10015"),  # opened at 1.10010
        (Side.SELL, ("1.09941", "1.09951"), ("1.09940", "1.09950"), "1.09995"),  # opened at 1.10000
    ],
)
def test_a_stop_goes_to_break_even_once_and_stays(
    side: Side, before: tuple[str, str], at: tuple[str, str], even: str
) -> None:
    world = world_on()
    away = price("1.09500") if side is Side.BUY else price("1.10500")
    position = opened(world, side, stop_loss=away, break_even_points=50, break_even_offset=5)
    assert world.price("EURUSD", *before) is None
    world.price("EURUSD", *at)
    assert stop_loss_of(world, position) == price(even)
    assert world.price("EURUSD", *at) is None
    world.price("EURUSD", "1.10000", "1.10010")  # back through it
    assert world.positions(1) == []


def test_break_even_alone_makes_a_stop_where_there_was_none() -> None:
    world = world_on()
    position = opened(world, break_even_points=20)
    world.price("EURUSD", "1.10030", "1.10040")
    assert stop_loss_of(world, position) == price("1.10010")


def test_break_even_and_trailing_work_together_and_the_better_stop_counts() -> None:
    world = world_on()
    position = opened(world, break_even_points=20, trailing_points=100)
    world.price("EURUSD", "1.10030", "1.10040")
    assert stop_loss_of(world, position) == price("1.10010")
    world.price("EURUSD", "1.10200", "1.10210")
    assert stop_loss_of(world, position) == price("1.10100")


def test_a_stop_is_hit_before_it_follows() -> None:
    """One wide tick both reaches the stop of a long and makes a profit that would move a short's."""
    world = world_on()
    position = opened(world, stop_loss=price("1.09900"), break_even_points=10)
    world.price("EURUSD", "1.09900", "1.10500")
    assert position not in world.state.positions
    assert world.deals()[-1].price == price("1.09900")


@pytest.mark.parametrize(
    "terms",
    [
        {"trailing_step": 5},
        {"trailing_activation": 5},
        {"break_even_offset": 5},
        {"break_even_points": 5, "break_even_offset": 5},
        {"break_even_points": -1},
        {"trailing_points": 10, "trailing_activation": -1},
    ],
)
def test_following_that_makes_no_sense_is_refused(terms: dict[str, Any]) -> None:
    world = world_on()
    assert (
        refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10", protection=ProtectionTerms(**terms))) == "invalid_stops"
    )
    assert refusal_of(world.protect(1, opened(world), **terms)) == "invalid_stops"


def test_what_is_kept_is_as_it_stands() -> None:
    world = world_on()
    position = opened(world, break_even_points=30, break_even_offset=3, stop_trigger=M.OPPOSITE)
    world.protect(1, position, take_profit=price("1.20000"), keep=("break_even", "stop_trigger"))
    protection = world.state.positions[position].protection
    assert (protection.break_even_points, protection.break_even_offset, protection.stop_trigger) == (30, 3, M.OPPOSITE)


# --- how near a price may stand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "side", "near", "far"),
    [
        (OrderType.LIMIT, Side.BUY, "1.09991", "1.09990"),
        (OrderType.LIMIT, Side.SELL, "1.10019", "1.10020"),
        (OrderType.STOP, Side.BUY, "1.10029", "1.10030"),
        (OrderType.STOP, Side.SELL, "1.09981", "1.09980"),
        (OrderType.STOP_LIMIT, Side.BUY, "1.10029", "1.10030"),
    ],
)
def test_a_waiting_price_keeps_the_stops_level(kind: OrderType, side: Side, near: str, far: str) -> None:
    world = world_on(stops_level=20)

    def waits_at(level: str) -> str:
        prices: dict[OrderType, dict[str, Any]] = {
            OrderType.LIMIT: {"price": price(level)},
            OrderType.STOP: {"stop_price": price(level)},
            OrderType.STOP_LIMIT: {"stop_price": price(level), "price": price(level)},
        }
        return refusal_of(world.place(1, "EURUSD", side, "0.10", type=kind, **prices[kind]))

    assert waits_at(near) == "invalid_price"
    assert waits_at(far) == ""


def test_a_limit_that_is_dealt_at_once_keeps_no_distance() -> None:
    world = world_on(stops_level=20)
    done = world.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price("1.10010"))
    assert order_of(done).status is OrderStatus.FILLED


def test_a_waiting_price_is_held_to_the_stops_level_only_when_it_changes() -> None:
    world = world_on(stops_level=20)
    done = world.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price("1.09900"))
    order = order_of(done).id
    world.price("EURUSD", "1.09895", "1.09905")
    assert refusal_of(said(ModifyOrder, world, order_id=order, volume=price("0.20"))) == ""
    assert refusal_of(said(ModifyOrder, world, order_id=order, price=price("1.09899"))) == "invalid_price"
    assert refusal_of(said(ModifyOrder, world, order_id=order, price=price("1.09885"))) == ""


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ({"stop_loss": "1.09981"}, {"stop_loss": "1.09980"}),
        ({"take_profit": "1.10019"}, {"take_profit": "1.10020"}),
        ({"trailing_points": 19}, {"trailing_points": 20}),
        ({"break_even_points": 19}, {"break_even_points": 20}),
    ],
)
def test_protection_keeps_the_stops_level_when_it_is_set(near: dict[str, Any], far: dict[str, Any]) -> None:
    world = world_on(stops_level=20)

    def terms(said: dict[str, Any]) -> dict[str, Any]:
        return {name: price(value) if isinstance(value, str) else value for name, value in said.items()}

    with_order = world.place(1, "EURUSD", Side.BUY, "0.10", protection=ProtectionTerms(**terms(near)))
    assert refusal_of(with_order) == "invalid_stops"
    position = opened(world)
    assert refusal_of(world.protect(1, position, **terms(near))) == "invalid_stops"
    assert refusal_of(world.protect(1, position, **terms(far))) == ""


def test_what_has_come_near_by_itself_stays_while_the_rest_changes() -> None:
    world = world_on(stops_level=20)
    position = opened(world, stop_loss=price("1.09900"))
    world.price("EURUSD", "1.09905", "1.09915")
    changed = world.protect(1, position, stop_loss=price("1.09900"), take_profit=price("1.10500"))
    assert refusal_of(changed) == ""


def test_an_order_near_its_price_is_frozen() -> None:
    world = world_on(freeze_level=10)
    near = order_of(stop(world, Side.BUY, "1.10030")).id
    far = order_of(stop(world, Side.BUY, "1.10080")).id
    world.price("EURUSD", "1.10009", "1.10019")
    assert refusal_of(said(ModifyOrder, world, order_id=near, stop_price=price("1.10040"))) == ""
    world.price("EURUSD", "1.10020", "1.10030")
    assert refusal_of(said(ModifyOrder, world, order_id=near, stop_price=price("1.10090"))) == "frozen"
    assert refusal_of(said(CancelOrder, world, order_id=near)) == "frozen"
    assert said(CancelAll, world).answers[0][1].reference == 1  # the far one
    assert list(world.state.orders) == [near]
    assert far not in world.state.orders
    world.price("EURUSD", "1.10019", "1.10029")
    assert refusal_of(said(CancelOrder, world, order_id=near)) == ""


def test_a_position_near_its_stop_is_frozen_and_can_be_closed() -> None:
    world = world_on(freeze_level=10)
    position = opened(world, stop_loss=price("1.09900"), take_profit=price("1.10500"))
    world.price("EURUSD", "1.09910", "1.09920")
    assert refusal_of(world.protect(1, position, stop_loss=price("1.09800"))) == "frozen"
    assert refusal_of(world.protect(1, position)) == "frozen"
    assert refusal_of(world.close(1, position)) == ""


@pytest.mark.parametrize(("method", "code"), [(M.TRADE, ""), (M.OPPOSITE, "frozen")])
def test_what_is_near_is_judged_by_the_side_that_is_watched(method: M, code: str) -> None:
    """A short's stop at 1.10100: the ask is 50 points away, the bid 5 — when the spread is crossed by a fast market."""
    world = world_on(freeze_level=10)
    position = opened(world, Side.SELL, stop_loss=price("1.10100"), stop_trigger=method)
    world.price("EURUSD", "1.10095", "1.10050")
    assert refusal_of(world.protect(1, position)) == code


def test_an_old_price_freezes_nothing() -> None:
    world = world_on(freeze_level=10)
    order = order_of(stop(world, Side.BUY, "1.10030")).id
    world.price("EURUSD", "1.10015", "1.10025")
    world.wait(60)
    assert refusal_of(said(CancelOrder, world, order_id=order)) == ""


# --- trade modes --------------------------------------------------------------------------------------------------------


def in_mode(world: World, mode: TradeMode, version: int = 2) -> None:
    terms = msgspec.structs.replace(world.config.instruments["EURUSD"], trade_mode=mode)
    config = msgspec.structs.replace(
        world.config, version=version, instruments={**world.config.instruments, "EURUSD": terms}
    )
    world.run(ReloadConfig(id=f"config{version}", key=f"config{version}", version=version, config=config))


@pytest.mark.parametrize(
    ("mode", "buying", "selling", "closing"),
    [
        (TradeMode.FULL, "", "", ""),
        (TradeMode.LONG_ONLY, "", "long_only", ""),
        (TradeMode.SHORT_ONLY, "short_only", "", ""),
        (TradeMode.CLOSE_ONLY, "close_only", "close_only", ""),
        (TradeMode.HALTED_WITH_PENDINGS, "market_closed", "market_closed", ""),
        (TradeMode.HALTED, "market_closed", "market_closed", "market_closed"),
    ],
)
def test_what_a_trade_mode_allows(mode: TradeMode, buying: str, selling: str, closing: str) -> None:
    world = world_on()
    held = [opened(world), opened(world, Side.SELL)]
    in_mode(world, mode)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10")) == buying
    assert refusal_of(world.place(1, "EURUSD", Side.SELL, "0.10")) == selling
    assert [refusal_of(world.close(1, position)) for position in held] == [closing, closing]


@pytest.mark.parametrize(
    ("mode", "order_ends", "stop_fires"),
    [
        (TradeMode.FULL, OrderStatus.FILLED, True),
        (TradeMode.HALTED_WITH_PENDINGS, OrderStatus.FILLED, True),
        (TradeMode.LONG_ONLY, OrderStatus.FILLED, True),
        (TradeMode.SHORT_ONLY, OrderStatus.REJECTED, True),
        (TradeMode.CLOSE_ONLY, OrderStatus.REJECTED, True),
        (TradeMode.HALTED, None, False),
    ],
)
def test_what_waits_for_a_price_in_a_trade_mode(
    mode: TradeMode, order_ends: OrderStatus | None, stop_fires: bool
) -> None:
    world = world_on()
    position = opened(world, stop_loss=price("1.09900"))
    waiting = order_of(world.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price("1.09950"))).id
    in_mode(world, mode)
    done = world.price("EURUSD", "1.09900", "1.09910")
    assert done is not None
    ended = [e.order.status for e in done.events if hasattr(e, "order") and e.order.id == waiting]
    assert ended[-1:] == ([order_ends] if order_ends else [])
    assert (position not in world.state.positions) is stop_fires
    if mode is TradeMode.HALTED:
        in_mode(world, TradeMode.FULL, version=3)
        world.price("EURUSD", "1.09900", "1.09910")
        assert position not in world.state.positions


def test_a_group_may_be_halted_while_another_that_sees_the_same_price_trades() -> None:
    rule = Override(name="halt", symbols="EURUSD", changes={"trade_mode": "halted"})
    world = world_on()
    pro = msgspec.structs.replace(world.config.groups["pro"], overrides=(rule,))
    vip = msgspec.structs.replace(world.config.groups["vip"], markup=pro.markup)
    world.open_account(3, group="vip", deposit="10000", leverage=100)
    for account in (1, 3):
        world.place(account, "EURUSD", Side.BUY, "0.10", protection=ProtectionTerms(stop_loss=price("1.09900")))
    config = msgspec.structs.replace(world.config, version=2, groups={**world.config.groups, "pro": pro, "vip": vip})
    world.run(ReloadConfig(id="c", key="c", version=2, config=config))
    world.price("EURUSD", "1.09900", "1.09910")
    assert world.positions(1) != []
    assert world.positions(3) == []


def test_a_halt_stops_a_trailing_stop_too() -> None:
    world = world_on()
    position = opened(world, trailing_points=50, trailing_activation=0)
    in_mode(world, TradeMode.HALTED)
    world.price("EURUSD", "1.10300", "1.10310")
    assert stop_loss_of(world, position) is None


def test_a_professionals_waiting_order_is_rejected_before_it_leaves_the_house() -> None:
    world = world_on()
    world.place(2, "EURUSD", Side.SELL, "0.10", type=OrderType.LIMIT, price=price("1.10050"))
    in_mode(world, TradeMode.LONG_ONLY)
    done = world.price("EURUSD", "1.10050", "1.10060")
    assert done is not None
    assert (order_of(done).status, order_of(done).refusal) == (OrderStatus.REJECTED, "long_only")
    with pytest.raises(AssertionError):
        leg_of(done)
