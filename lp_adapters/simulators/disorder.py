"""How a provider that misbehaves tells what it did: reports lost, repeated, altered, turned round. Pure.

Only what is said changes here; what was dealt is the desk's, and stays as it was.
"""

from decimal import Decimal

from fix_gateway.wire.message import Field, Outgoing
from lp_adapters.simulators.misbehaviour import Misbehaviour
from trading.numbers import point

OTHER_SIDE = {"1": "2", "2": "1"}
TRADE = "F"


def disordered(reports: tuple[Outgoing, ...], wrong: Misbehaviour) -> tuple[Outgoing, ...]:
    """The reports of one order as `wrong` has them sent."""
    if wrong.lose_fill:
        reports = _without_last_fill(reports)
    if wrong.wrong_side:
        reports = tuple(_on_other_side(report) for report in reports)
    if wrong.conflicting_report:
        reports = tuple(said for report in reports for said in _and_a_conflict(report))
    if wrong.out_of_order:
        reports = reports[::-1]
    if wrong.orphan_report:
        reports = (*reports, *(_orphan_of(report) for report in reports if is_fill(report)))
    return reports


def is_fill(report: Outgoing) -> bool:
    return value_of(report, 150) == TRADE


def value_of(report: Outgoing, tag: int) -> str:
    return next((value for one, value in report.fields if one == tag), "")


def altered(report: Outgoing, *changes: Field) -> Outgoing:
    """The report with other values for some of its tags."""
    changed = dict(changes)
    fields = tuple((tag, changed.get(tag, value)) for tag, value in report.fields)
    return Outgoing(msg_type=report.msg_type, fields=fields)


def _without_last_fill(reports: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
    places = [place for place, report in enumerate(reports) if is_fill(report)]
    return tuple(report for place, report in enumerate(reports) if not places or place != places[-1])


def _on_other_side(report: Outgoing) -> Outgoing:
    return altered(report, (54, OTHER_SIDE[value_of(report, 54)])) if is_fill(report) else report


def _and_a_conflict(report: Outgoing) -> tuple[Outgoing, ...]:
    if not is_fill(report):
        return (report,)
    price = value_of(report, 31)
    digits = len(price.partition(".")[2])
    return report, altered(report, (31, format(Decimal(price) + point(digits), "f")))


def _orphan_of(report: Outgoing) -> Outgoing:
    """As if somebody else had dealt the same. Every orphan has a name of its own, so it is no repetition either."""
    exec_id = value_of(report, 17)
    return altered(report, (11, f"orphan-{exec_id}"), (37, f"orphan-{exec_id}"), (17, f"{exec_id}-orphan"))
