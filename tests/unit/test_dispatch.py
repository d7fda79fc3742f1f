"""What happens to a new leg: sent, kept waiting, or given up."""

from decimal import Decimal

import pytest

from lp_adapters.dispatch import plan_new_legs
from lp_adapters.legs import Leg
from trading.liquidity import ReportKind
from trading.orders import Side

NOW_US = 1_700_000_000_000_000


def leg(*, expires_us: int = NOW_US + 1, closes: bool = False) -> Leg:
    return Leg(
        id=1,
        cl_ord_id="T0-1",
        lp_symbol="EURUSD",
        side=Side.BUY,
        quantity=Decimal(1000),
        closes=closes,
        expires_us=expires_us,
        lp_order_id="",
        dispatch_state="new",
        dispatched_us=0,
    )


@pytest.mark.parametrize(
    ("is_logged_on", "may_come_up", "closes", "expires_in_us", "outcome"),
    [
        (True, False, False, 0, "sent"),
        (True, False, True, 0, "sent"),
        (True, False, False, -1, "given up"),
        (True, False, True, -1, "given up"),
        (False, False, False, 0, "given up"),
        (False, False, True, 0, "waits"),
        (False, False, True, -1, "given up"),
        (False, True, False, 0, "waits"),
        (False, True, False, -1, "given up"),
    ],
)
def test_a_new_leg_is_sent_waits_or_is_given_up(
    is_logged_on: bool, may_come_up: bool, closes: bool, expires_in_us: int, outcome: str
) -> None:
    one = leg(expires_us=NOW_US + expires_in_us, closes=closes)
    plan = plan_new_legs([one], lp="YOFX1", is_logged_on=is_logged_on, may_come_up=may_come_up, now_us=NOW_US)
    assert (plan.send == (one,), bool(plan.give_up)) == (outcome == "sent", outcome == "given up")
    for _, report in plan.give_up:
        assert (report.kind, report.cl_ord_id, report.lp) == (ReportKind.NOT_SENT, "T0-1", "YOFX1")
        assert report.text
