"""Netting accounts at a glance: the one position per symbol, and the orders that are being dealt in it.

Derived, like all running sums: made anew from orders and positions at a start and when the configuration changes. A shard
whose groups all hedge keeps nothing here.
"""

from typing import TYPE_CHECKING

from trading.margining.terms import Accounting
from trading.orders import Order
from trading.positions import Position

if TYPE_CHECKING:
    from engine.state import State

Place = tuple[int, str]
"""Account and symbol."""


class Nets:
    """Who nets, and what stands where."""

    __slots__ = ("dealing", "groups", "positions")

    def __init__(self) -> None:
        self.groups: frozenset[str] = frozenset()
        """Groups of netting accounts."""
        self.positions: dict[Place, int] = {}
        self.dealing: dict[Place, set[int]] = {}
        """Orders in a provider's hands."""

    def renew(self, state: "State") -> None:
        groups = state.config.groups.values() if state.config else ()
        self.groups = frozenset(group.name for group in groups if group.margin.accounting is Accounting.NETTING)
        self.positions, self.dealing = {}, {}
        if not self.groups:
            return
        for position in state.positions.values():
            self.set_position(state, position)
        for order in state.orders.values():
            self.set_order(state, order)

    def set_position(self, state: "State", position: Position) -> None:
        if state.accounts[position.account].group not in self.groups:
            return
        place = position.account, position.symbol
        if position.volume:
            assert self.positions.get(place, position.id) == position.id, (
                "a netting account holds one position per symbol"
            )
            self.positions[place] = position.id
        else:
            self.positions.pop(place, None)

    def set_order(self, state: "State", order: Order) -> None:
        if state.accounts[order.account].group not in self.groups:
            return
        place = order.account, order.symbol
        dealing = self.dealing.setdefault(place, set())
        if order.is_terminal or order.is_resting:
            dealing.discard(order.id)
        else:
            dealing.add(order.id)
        if not dealing:
            del self.dealing[place]
