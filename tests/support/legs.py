"""Rows as the engine would have committed them: a leg at a provider, with the client's order that it is a part of."""

from decimal import Decimal
from typing import Any

import psycopg

ORDER = """
INSERT INTO trade_order (id, uuid, account, client_order_id, symbol, side, type, volume, status, filled_volume, filled_cost,
    position_id, closes, refusal, detail, comment, book, volume_a, filled_a, margin_reserved, attempts, created_at, updated_at)
VALUES (%(order_id)s, gen_random_uuid(), 10002, 'c' || %(order_id)s, 'EURUSD', 'buy', 'market', %(asked)s, 'pending_new', 0, 0,
    0, false, '', '', '', 'A', %(asked)s, 0, 0, '{}', now(), now())
ON CONFLICT (id) DO NOTHING
"""
LEG = """
INSERT INTO lp_order (id, order_id, account, lp, cl_ord_id, symbol, lp_symbol, side, volume, quantity, position_id, status,
    filled_volume, filled_cost, lp_order_id, exec_ids, text, epoch, expires_at, created_at, updated_at, dispatch_state)
VALUES (%(id)s, %(order_id)s, 10002, %(lp)s, %(cl_ord_id)s, 'EURUSD', 'EUR/USD', 'buy', %(volume)s, %(quantity)s,
    %(position_id)s, 'working', 0, 0, '', '{}', '', %(epoch)s, now() + %(valid)s, now(), now(), %(state)s)
"""
LOT = Decimal(100_000)


def plant_leg(
    db: psycopg.Connection[Any],
    number: int,
    *,
    state: str = "new",
    lp: str = "YOFX1",
    order_id: int = 0,
    asked: str = "0.1",
    volume: str = "0.1",
    quantity: Decimal | None = None,
    position_id: int = 0,
    valid: str = "60 s",
    epoch: int = 1,
    is_house: bool = False,
) -> str:
    """One leg `T0-number` to buy EURUSD, and its order, unless that is there or the leg is the house's; the ClOrdID."""
    db.execute("INSERT INTO shard (shard, epoch) VALUES (0, 1) ON CONFLICT DO NOTHING")
    terms = {
        "id": number,
        "order_id": 0 if is_house else order_id or number,
        "lp": lp,
        "cl_ord_id": f"T0-{number}",
        "asked": Decimal(asked),
        "volume": Decimal(volume),
        "quantity": Decimal(volume) * LOT if quantity is None else quantity,
        "position_id": position_id,
        "valid": valid,
        "epoch": epoch,
        "state": state,
    }
    with db.transaction():
        if not is_house:
            db.execute(ORDER, terms)
        db.execute(LEG, terms)
    return f"T0-{number}"
