"""What a client may take out, and what a client may buy with; and how a withdrawal's end names its beginning.

A withdrawal that was asked for has left the client's cash already, so it is in no balance here.
"""

from decimal import ROUND_FLOOR, Decimal

from trading.margining.level import Worth, free_margin
from trading.margining.terms import FreeMarginPolicy
from trading.numbers import ZERO, point


def withdrawable(worth: Worth, margin: Decimal, digits: int) -> Decimal:
    """What may leave the account now, rounded down: never credit, never a profit that is not realised.

    The smaller of two: the client's own money less what is lost and owed already, and the free margin, which credit may
    carry. So what stays behind always covers the margin.
    """
    floating = min(worth.profit + worth.swap, ZERO)
    own = (worth.balance + floating - worth.commission_blocked).quantize(point(digits), rounding=ROUND_FLOOR)
    free = free_margin(worth, margin, FreeMarginPolicy.LOSS_ONLY, digits)
    return max(ZERO, min(own, free, worth.balance))


def buying_power(*, balance: Decimal, reserved: Decimal) -> Decimal:
    """Cash for instruments that are bought in full: what no position and no order has tied up. Credit buys nothing."""
    return max(ZERO, balance - reserved)


# --- the end of a withdrawal names its request ---

_REQUEST = "request:"


def settles(request: int, reference: str) -> str:
    """The reference of the transfer that ends request `request`: `request:17`, then the caller's own after a space."""
    return f"{_REQUEST}{request} {reference}".rstrip()


def request_of(reference: str) -> int:
    """The request that a transfer with this reference ended; 0 for none."""
    number = reference.partition(" ")[0].removeprefix(_REQUEST)
    return int(number) if reference.startswith(_REQUEST) and number.isascii() and number.isdigit() else 0
