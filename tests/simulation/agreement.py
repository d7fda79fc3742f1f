"""What each provider knows against what we have stored, when all is at rest: orders, fills, and what is held.

The provider's side is the model's own record; ours are rows. A fill is the client's by its leg, the house's by its error
account, or lies in a case for a dealer: never nowhere, and never in two places.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bus.codec import decode_report
from tests.simulation.columns import PLACES, array
from tests.simulation.provider import Provider, VenueOrder
from trading.liquidity import SETTLED, CaseKind, ExecutionReport, ReportKind
from trading.numbers import ZERO

if TYPE_CHECKING:
    from tests.simulation.world import House

TAKEN_BACK = {CaseKind.BUSTED_FILL, CaseKind.CORRECTED_FILL}
FILL_CASES = {
    CaseKind.LATE_FILL, CaseKind.EXCESS_FILL, CaseKind.MISMATCHED_FILL, CaseKind.ORPHAN_REPORT, CaseKind.CONFLICTING_FILL,
}  # fmt: skip
BEYOND_LEGS = {CaseKind.LATE_FILL, CaseKind.MISMATCHED_FILL}
"""Cases whose fill is all the house's."""
Amounts = dict[tuple[str, str], Decimal]
Owned = dict[tuple[str, str], dict[str, Decimal]]
Broken = Iterator[tuple[str, str]]
"""The check that complains, and what it saw."""
_LEG = PLACES["lp_order"]


def disagreements(house: "House") -> Broken:
    dealt, owned, cases = _dealt(house), _owned(house), _cases(house)
    executions = {place: sum(lots.values(), ZERO) for place, lots in owned.items()}
    in_cases = {
        (report.lp, report.exec_id) for kind, report in cases if report.kind is ReportKind.FILL and kind in FILL_CASES
    }
    for provider in house.providers.values():
        for name, times in provider.received.items():
            if times > 1:
                yield "last hop", f"{name} reached {provider.name} {times} times"
        for name, order in provider.orders.items():
            key = house.server.tables.leg_of.get(name)
            if key is None:
                yield "last hop", f"{provider.name} has {name}, which we never had"
                continue
            row = house.server.tables.rows["lp_order"][key]
            if row[_LEG["dispatch_state"]] in {"new", "not_sent"}:
                yield "last hop", f"{provider.name} has {name}, which says {row[_LEG['dispatch_state']]}"
            yield from _fills(provider, order, row, in_cases)
            yield from _deals(provider, order, row, dealt, executions)
        for stray in sorted(provider.strays):
            if (provider.name, stray) not in in_cases:
                yield "fills", f"nobody ordered {stray} of {provider.name}, and no case tells of it"
        yield from _taken_back(provider, cases)
    yield from _holdings(house, owned, cases)


def _fills(provider: Provider, order: VenueOrder, row: list[Any], in_cases: set[tuple[str, str]]) -> Broken:
    """Each of the provider's fills is ours or in a case, and none is invented."""
    ours = _exec_ids(row)
    cased = {exec_id for lp, exec_id in in_cases if lp == provider.name}
    for lost in sorted(set(order.fills) - ours - cased):
        yield "fills", f"{order.cl_ord_id}: fill {lost} of {provider.name} is neither booked nor in a case"
    for invented in sorted(name for name in ours - set(order.fills) if not name.startswith(SETTLED)):
        yield "fills", f"{order.cl_ord_id}: {provider.name} never said fill {invented}"


def _taken_back(provider: Provider, cases: list[tuple[CaseKind, ExecutionReport]]) -> Broken:
    """Each bust and correction is a case, and those that nothing stands behind are no others."""
    told = {report.exec_id: kind for kind, report in cases if report.lp == provider.name}
    for name, is_of_something in provider.taken_back.items():
        kind = told.get(name)
        if (kind in TAKEN_BACK) != is_of_something or kind not in {*TAKEN_BACK, CaseKind.UNMATCHED_BUST}:
            yield (
                "busts",
                f"{provider.name} took back by {name} {'something' if is_of_something else 'nothing'}: {kind}",
            )


def _deals(provider: Provider, order: VenueOrder, row: list[Any], dealt: Amounts, owned: Amounts) -> Broken:
    """What a leg says was filled are its fills, and each was dealt once: to the client, or what was beyond the leg to the
    house."""
    ours = sorted(_exec_ids(row) & set(order.fills))
    filled = Decimal(row[_LEG["filled_volume"]]) * Decimal(row[_LEG["quantity"]]) / Decimal(row[_LEG["volume"]])
    is_ours = row[_LEG["order_id"]] == "0"  # a leg of the house's own: all of it goes to the error account
    beyond = ZERO if is_ours else sum((abs(owned.get((provider.name, one), ZERO)) for one in ours), ZERO)
    settled = provider.name, f"{SETTLED}{order.cl_ord_id}"
    by_desk = dealt.get(settled, ZERO) + abs(owned.get(settled, ZERO))
    booked = sum((order.fills[one] for one in ours), ZERO) - beyond + by_desk
    if is_ours:
        booked = min(booked, order.quantity)
    if filled != booked:
        yield "fills", f"{order.cl_ord_id}: filled {filled}, its fills are {booked}"
    for one in ours:
        place = provider.name, one
        found = dealt.get(place, ZERO) + abs(owned.get(place, ZERO))
        if found != order.fills[one] and not is_ours:
            yield "fills", f"{order.cl_ord_id}: fill {one} of {order.fills[one]} was dealt {found}"


def _holdings(house: "House", owned: Owned, cases: list[tuple[CaseKind, ExecutionReport]]) -> Broken:
    """What we hold at each provider is what it holds of us, in clients' positions, the error account and cases together."""
    net: Amounts = {}
    for position in house.state.positions.values():
        if position.volume_a:
            lp_symbol = house.config.lps[position.lp].instruments[position.symbol].lp_symbol
            size = house.config.instruments[position.symbol].contract_size
            _add(net, (position.lp, lp_symbol), position.side.sign * position.volume_a * size)
    for (lp, _), lots in owned.items():
        for symbol, amount in lots.items():
            _add(net, (lp, house.config.lps[lp].instruments[symbol].lp_symbol), amount)
    theirs = {(report.lp, report.fill_key): report for kind, report in cases if kind in BEYOND_LEGS}
    for report in theirs.values():
        if report.side is not None and (report.lp, report.exec_id) not in owned:
            _add(net, (report.lp, report.lp_symbol), report.side.sign * report.last_qty)
    for provider in house.providers.values():
        places = {*provider.net, *(place for place in net if place[0] == provider.name)}
        for place in sorted(places):
            if provider.net[place] != net.get(place, ZERO):
                yield "I7 net", f"{place}: the provider has {provider.net[place]}, we have {net.get(place, ZERO)}"


def _dealt(house: "House") -> Amounts:
    """Units by provider and ExecID, from the deals. Corrections by staff are between the house and its clients."""
    places, sums = PLACES["deal"], Amounts()
    for row in house.server.tables.all_rows("deal"):
        if row[places["lp"]] and not row[places["exec_id"]].startswith(("reverse/", "correct/")):
            size = house.config.instruments[row[places["symbol"]]].contract_size
            _add(sums, (row[places["lp"]], row[places["exec_id"]]), Decimal(row[places["volume"]]) * size)
    return sums


def _owned(house: "House") -> Owned:
    """Signed units by provider and ExecID, and by symbol, that the house owns in its error account."""
    places, sums = PLACES.get("error_fill", {}), Owned()
    for row in house.server.tables.all_rows("error_fill") if places else ():
        size = house.config.instruments[row[places["symbol"]]].contract_size
        sign = 1 if row[places["side"]] == "buy" else -1
        lots, symbol = sums.setdefault((row[places["lp"]], row[places["exec_id"]]), {}), row[places["symbol"]]
        lots[symbol] = lots.get(symbol, ZERO) + sign * Decimal(row[places["volume"]]) * size
    return sums


def _cases(house: "House") -> list[tuple[CaseKind, ExecutionReport]]:
    return [(CaseKind(row[1]), decode_report(row[4])) for row in house.server.tables.all_rows("lp_case")]


def _exec_ids(row: list[Any]) -> set[str]:
    return {text.partition("/")[2] for text in array(row[_LEG["exec_ids"]]) or []}


def _add(sums: Amounts, place: tuple[str, str], amount: Decimal) -> None:
    sums[place] = sums.get(place, ZERO) + amount
