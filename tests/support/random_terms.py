"""What random histories ask for, drawn from their own generator: prices near the market, protection, orders that wait."""

import random
from decimal import Decimal
from typing import Any

from tests.support.laws import SYMBOLS
from trading.orders import OrderType, TimeInForce
from trading.protection import ProtectionTerms, StopTriggerMethod

SECOND_US = 10**6


def near(rng: random.Random, symbol: str) -> Decimal:
    base, digits = SYMBOLS[symbol]
    return Decimal(base) + Decimal(1).scaleb(-digits) * rng.randint(-300, 300)


def some_protection(rng: random.Random) -> ProtectionTerms:
    def some(most: int) -> int:
        return rng.choice([0, rng.randint(1, most)])

    trailing, even, stop = some(150), some(100), some(300)
    return ProtectionTerms(
        stop_loss_points=stop, take_profit_points=some(300), trailing_points=trailing,
        trailing_step=some(20) if trailing else 0,
        trailing_activation=rng.choice([None, 0, 30]) if trailing else None,
        break_even_points=even, break_even_offset=even // 2, is_guaranteed=bool(stop) and rng.random() < 0.3,
        stop_trigger=rng.choice([None, *StopTriggerMethod]),
    )  # fmt: skip


def resting_terms(rng: random.Random, symbol: str, now_us: int) -> dict[str, Any]:
    """Of an order that waits, on the right side of the price or not, with or without protection and end."""
    kind = rng.choice([OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT])
    terms: dict[str, Any] = {"type": kind}
    if kind is not OrderType.STOP:
        terms["price"] = near(rng, symbol)
    if kind is not OrderType.LIMIT:
        terms["stop_price"] = near(rng, symbol)
    if rng.random() < 0.3:
        terms["time_in_force"] = TimeInForce.GTD
        terms["expires_us"] = now_us + rng.randint(1, 20) * SECOND_US
    elif kind is OrderType.LIMIT and rng.random() < 0.2:
        terms["time_in_force"] = rng.choice([TimeInForce.IOC, TimeInForce.FOK])
    if rng.random() < 0.5:
        terms["protection"] = some_protection(rng)
    return terms
