"""What builds up on a position in fractions of a cent and reaches the balance when it is closed."""

from decimal import Decimal

from trading.numbers import ZERO, round_half_up

ACCRUAL_DIGITS = 10
"""Decimals that an accrued amount keeps: what the database keeps."""


def realised_share(accrued: Decimal, *, closed: Decimal, open_volume: Decimal, digits: int) -> tuple[Decimal, Decimal]:
    """(posted now, left on the position) when `closed` of `open_volume` lots are closed: pro rata, half up.

    The fraction of a cent that is not posted stays on the position, so all closings together post the whole accrual, rounded
    once; after the last one nothing is left.
    """
    assert 0 < closed <= open_volume
    if closed == open_volume:
        return round_half_up(accrued, digits), ZERO
    posted = round_half_up(accrued * closed / open_volume, digits)
    return posted, accrued - posted
