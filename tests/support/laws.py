"""What must hold of an engine's state whatever happened to it, and a demo broker that has every rule: for random histories.

Each check looks at a whole world and says nothing while all is well.
"""

from decimal import Decimal
from typing import Any

import msgspec

from bus import codec
from engine.books import trigger_of, triggers_of
from engine.nets import Nets
from engine.state import State, rebuild
from tests.support.builders import config as demo_config
from tests.support.builders import group
from tests.support.world import World
from trading.configuration import Config, Markup
from trading.guarantee import GuaranteeTerms
from trading.margin import holdings_of
from trading.margining.reference import account_margin as reference_margin
from trading.margining.terms import Accounting, MarginPolicy
from trading.protection import StopTriggerMethod
from trading.spreads import SpreadTerms, TooWide
from trading.stopout import StopOutTerms

SYMBOLS = {"EURUSD": ("1.10", 5), "GBPUSD": ("1.30", 5), "USDJPY": ("150", 3), "XAUUSD": ("2400", 2)}

TIGHT = group(
    "tight",
    leverage_max=200,
    stop_out=StopOutTerms(margin_calls=(Decimal(150), Decimal(120)), level=Decimal(90), is_partial=True),
)
"""Stopped out long before its money is gone."""


def check_conservation(world: World) -> None:
    """Money adds up; volumes and locks stay within what they belong to; nobody waits in vain."""
    state = world.state
    assert set(world.ledger_sums().values()) <= {Decimal(0)}
    for account in state.accounts.values():
        assert account.balance == state.balances.get((f"client:{account.id}", account.currency), Decimal(0))
        assert account.credit == state.balances.get((f"credit:{account.id}", account.currency), Decimal(0))
    for position in state.positions.values():
        assert 0 <= position.locked <= position.volume
        assert 0 <= position.volume_a <= position.volume <= position.volume_opened
        assert position.volume_a <= position.volume_a_opened
        closing = (o for o in state.orders.values() if o.attempts and o.is_closing and o.position_id == position.id)
        assert position.locked == sum((order.closing_volume for order in closing), Decimal(0))
    for order in state.orders.values():
        assert order.filled_volume <= order.volume
        assert order.is_resting or any(leg.order_id == order.id for leg in state.legs.values())


def check_running_sums(world: World) -> None:
    """Everything derived is what it would be if it were made anew."""
    state = world.state
    check_books(world)
    check_nets(world)
    for account, symbols in holdings_of(state.positions.values()).items():
        for symbol, holding in symbols.items():
            kept = state.holdings[account][symbol]
            assert (kept.long, kept.short) == (holding.long, holding.short)
    check_margin(world)


def check_margin(world: World) -> None:
    """The running margin is what the slow reference says of the same charges."""
    state = world.state
    assert state.config is not None
    for account in state.accounts.values():
        own = state.config.groups[account.group]
        assert state.margin_used(account.id) == reference_margin(
            list(state.exposures(account.id)),
            rules=state.terms.rules(own.name),
            policy=own.margin,
            digits=state.config.currency_digits[account.currency],
        ), account.id


def check_nets(world: World) -> None:
    """The indexes are what the orders and positions say."""
    state = world.state
    nets = Nets()
    nets.renew(state)
    assert (state.nets.positions, state.nets.dealing) == (nets.positions, nets.dealing)
    oco: dict[tuple[int, str], set[int]] = {}
    for order in state.orders.values():
        if order.oco_group:
            oco.setdefault((order.account, order.oco_group), set()).add(order.id)
    assert state.oco == oco


def check_books(world: World) -> None:
    """What waits for a price is exactly what the orders and positions say."""
    state = world.state
    assert state.config is not None
    terms = state.config.instruments
    resting = (trigger_of(order, terms[order.symbol]) for order in state.orders.values())
    waiting = {(trigger.kind, trigger.owner) for trigger in resting if trigger}
    waiting |= {(t.kind, t.owner) for p in state.positions.values() for t in triggers_of(p, terms[p.symbol])}
    held = {
        (kind, owner)
        for symbol in SYMBOLS
        for _, stream in state.books.of_symbol(symbol)
        for kind, owner in stream.triggers.resting()
    }
    assert held == waiting


def every_rule() -> Config:
    """The demo broker with a rule of its own for each symbol."""
    plain = demo_config()
    terms: dict[str, dict[str, Any]] = {
        "EURUSD": {"guarantee": GuaranteeTerms(fee_points=Decimal("1.5"), distance_min_points=20), "stops_level": 5},
        "GBPUSD": {"spread": SpreadTerms(min_points=4, max_points=12)},
        "USDJPY": {"stop_trigger": StopTriggerMethod.DOUBLE_OPPOSITE},
        "XAUUSD": {"spread": SpreadTerms(max_points=15, too_wide=TooWide.REFUSE)},
    }
    changed = {symbol: msgspec.structs.replace(plain.instruments[symbol], **these) for symbol, these in terms.items()}
    net = group(
        "net", leverage_max=200, markup=Markup(bid=1, ask=1), margin=MarginPolicy(accounting=Accounting.NETTING)
    )
    return msgspec.structs.replace(
        plain, instruments={**plain.instruments, **changed}, groups={**plain.groups, "net": net, "tight": TIGHT}
    )


def reborn(state: State) -> State:
    """What a new process would load: every value through its stored form, with the database's eight decimals and more."""

    def stored(value: msgspec.Struct) -> object:
        return msgspec.json.decode(codec.encode(value), type=type(value))

    return rebuild(
        shard=state.shard,
        config=state.config,
        counters=msgspec.structs.replace(state.counters),
        accounts=[stored(a) for a in state.accounts.values()],  # type: ignore[misc]
        orders=[stored(o) for o in state.orders.values()],  # type: ignore[misc]
        positions=[stored(p) for p in state.positions.values()],  # type: ignore[misc]
        legs=[stored(leg) for leg in state.legs.values()],  # type: ignore[misc]
        balances={key: amount + Decimal("0.00000000") for key, amount in state.balances.items()},
        inbox_cursors=state.inbox_cursors,
        outbox_seq=state.outbox_seq,
        desk=stored(state.desk),  # type: ignore[arg-type]
        blocks=[stored(b) for blocks in state.blocks.values() for b in blocks.values()],  # type: ignore[misc]
        days=[stored(day) for day in state.turnovers.values()],  # type: ignore[misc]
        withdrawals=[stored(request) for request in state.withdrawals.values()],  # type: ignore[misc]
    )
