"""The last check before an order leaves: no client's order ever stands for more at providers than it asked for. Pure.

Nothing of the router's or the engine's arithmetic is believed. What a provider holds open or has filled is counted from
what this process sent and from what the provider itself said (the inbox, which was committed before the engine could know).
Over all providers the legs' own rows are added up. One leg that does not fit stops everything: whoever made it may have
made others.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from lp_adapters.legs import Leg, Plan
from trading.liquidity import DispatchState, ExecutionReport, ReportKind
from trading.numbers import ZERO, plain

ORDERS_REMEMBERED_MAX = 50_000
ENDED_KINDS = frozenset({ReportKind.CANCELED, ReportKind.REJECTED, ReportKind.NOT_SENT})
ENDED_STATUSES = frozenset({"3", "4", "8", "C"})
"""OrdStatus(39) of a status answer: done for the day, cancelled, rejected, expired."""
TAKEN = frozenset({DispatchState.DISPATCHING.value, DispatchState.SENT.value})


class Sibling(Struct, frozen=True, kw_only=True):
    """A leg of the same client's order, at any provider, as its row is now."""

    cl_ord_id: str
    lp: str
    volume: Decimal
    quantity: Decimal
    filled_volume: Decimal
    is_live: bool
    dispatch_state: str


class Facts(Struct, frozen=True, kw_only=True):
    """What the database says, in the transaction that takes the legs."""

    epoch: int
    """The shard's; a leg of a later one was made by nobody who owns it."""
    halted: str
    """Why the shard stands; empty when it does not."""
    stopped: str
    """Why nothing is sent to this provider; empty when it may be."""
    volumes: Mapping[int, Decimal]
    """Lots of each client's order, by its number."""
    siblings: Mapping[int, Sequence[Sibling]]
    """All legs of each client's order, those to be sent included."""
    said: Mapping[str, Sequence[ExecutionReport]]
    """The inbox about each leg at this provider."""
    sizes: Mapping[str, Decimal]
    """Units per lot as published, by symbol; a symbol that is missing is only compared with its siblings."""


class Sent:
    """What this process sent itself, whatever became of the rows: quantities by client's order and ClOrdID."""

    def __init__(self) -> None:
        self._orders: OrderedDict[int, dict[str, Decimal]] = OrderedDict()

    def note(self, leg: Leg) -> None:
        order = _order_of(leg)
        self._orders.setdefault(order, {})[leg.cl_ord_id] = leg.quantity
        self._orders.move_to_end(order)
        if len(self._orders) > ORDERS_REMEMBERED_MAX:
            self._orders.popitem(last=False)

    def with_(self, leg: Leg) -> Mapping[str, Decimal]:
        """What was sent for the same client's order."""
        return self._orders.get(_order_of(leg), {})


def _order_of(leg: Leg) -> int:
    """A leg of the house's own has no client's order, and stands alone."""
    return leg.order_id or -leg.id


def judged(
    plan: Plan, facts: Facts, *, lp: str, sent: Sent, giving_up: Callable[[Leg, str], tuple[Leg, ExecutionReport]]
) -> Plan:
    """What of `plan` may be sent after all. What may not be now stays new, so that its time runs out; while the provider
    is stopped an opening leg is given up for another provider. At the first violation nothing is sent any more."""
    if facts.stopped:
        why = f"nothing is sent to {lp}: {facts.stopped}"
        openings = tuple(giving_up(leg, why) for leg in plan.send if not leg.closes)
        return Plan(give_up=(*plan.give_up, *openings))
    if facts.halted:
        return replace(plan, send=())
    passed: list[Leg] = []
    for leg in plan.send:
        if leg.epoch > facts.epoch:
            continue
        why = violation(leg, facts, lp=lp, sent=sent, before=passed)
        if why:
            broken = giving_up(leg, f"conservation: {why}")
            return Plan(give_up=(*plan.give_up, broken), stop=f"{leg.cl_ord_id}: {why}")
        passed.append(leg)
    return replace(plan, send=tuple(passed))


def violation(leg: Leg, facts: Facts, *, lp: str, sent: Sent, before: Sequence[Leg] = ()) -> str:
    """Why this leg must not be sent, in words; empty when it may. `before` are legs that are sent just before it.

    A leg of the house's own (order 0), which brings an error holding back to nothing, is nobody's order to add up to.
    """
    wanted = facts.volumes.get(leg.order_id) if leg.order_id else leg.volume
    if wanted is None:
        return f"there is no order {leg.order_id}"
    if leg.volume <= 0 or leg.quantity <= 0:
        return "it is for nothing"
    siblings = facts.siblings.get(leg.order_id, ()) if leg.order_id else ()
    mine = sent.with_(leg)
    if leg.cl_ord_id in mine or facts.said.get(leg.cl_ord_id):
        return "it was sent before"
    if not _is_in_proportion(leg, siblings, facts.sizes.get(leg.symbol)):
        return f"{plain(leg.quantity)} units are not {plain(leg.volume)} lots"
    everywhere = sum((one.volume if one.is_live else one.filled_volume for one in siblings), ZERO)
    if everywhere > wanted:
        return f"its order asked for {plain(wanted)} lots and stands for {plain(everywhere)} at providers"
    here = dict(mine)
    here |= {one.cl_ord_id: one.quantity for one in siblings if one.lp == lp and one.dispatch_state in TAKEN}
    here |= {other.cl_ord_id: other.quantity for other in before if _order_of(other) == _order_of(leg)}
    units = sum((outstanding(quantity, facts.said.get(name, ())) for name, quantity in here.items()), leg.quantity)
    if units * leg.volume > wanted * leg.quantity:
        lots = units * leg.volume / leg.quantity
        return f"its order asked for {plain(wanted)} lots and would stand for {plain(lots)} at {lp}"
    return ""


def outstanding(quantity: Decimal, said: Sequence[ExecutionReport]) -> Decimal:
    """Units of one leg that are open or filled for the client, by what its provider said, in the order of the inbox.

    Once it said that nothing more comes, that is what it had filled by then, told or only counted (CumQty(14)). What it
    fills beyond that, or beyond the leg, is an error of its own and the house's, not the client's.
    """
    fills: dict[str, Decimal] = {}
    for report in said:
        filled = sum(fills.values(), ZERO)
        if report.kind is ReportKind.FILL:
            fills[report.fill_key] = report.last_qty
        elif _ends(report, filled):
            return min(max(filled, report.cum_qty), quantity)
    return quantity


def _ends(report: ExecutionReport, filled: Decimal) -> bool:
    """No more will be filled. A status answer that counts less than was filled contradicts itself: it is not believed."""
    if report.kind is ReportKind.STATUS:
        return report.ord_status in ENDED_STATUSES and report.cum_qty >= filled
    return report.kind in ENDED_KINDS


def _is_in_proportion(leg: Leg, siblings: Sequence[Sibling], size: Decimal | None) -> bool:
    """Units and lots say the same, as published and as in the other legs of the order."""
    if size is not None and leg.quantity != leg.volume * size:
        return False
    return all(leg.quantity * one.volume == one.quantity * leg.volume for one in siblings)
