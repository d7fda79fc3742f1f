"""The house's books against each other: clients, house, providers, and the ledger's sums."""

from decimal import Decimal
from typing import Any

import msgspec
import structlog
from django.db import connection
from redis.exceptions import RedisError

from apps.doors.connections import redis_connection
from apps.ledger.models import Transfer
from apps.ledger.queries import balance_sums, ledger_sums
from apps.liquidity.models import LpOrder
from apps.operations.models import Batch
from apps.orders.models import Deal
from apps.published import current_config
from apps.routing_rules.models import RoutingDecision
from apps.shapes import trimmed
from trading.desk import Desk
from trading.numbers import ZERO, NumberRefused, parse_decimal

_log = structlog.get_logger("operations")

CLIENTS = """
SELECT symbol, lp,
       sum(CASE side WHEN 'buy' THEN volume ELSE -volume END),
       sum(CASE side WHEN 'buy' THEN volume_a ELSE -volume_a END)
FROM position WHERE volume > 0 GROUP BY symbol, lp
"""
LEGS = """
SELECT symbol, lp, sum(CASE side WHEN 'buy' THEN filled_volume ELSE -filled_volume END)
FROM lp_order WHERE filled_volume > 0 GROUP BY symbol, lp
"""

ERRORS = """
SELECT symbol, lp, sum(CASE side WHEN 'buy' THEN volume ELSE -volume END),
       coalesce(sum(CASE side WHEN 'buy' THEN volume ELSE -volume END) FILTER (WHERE reason <> 'flattened'), 0)
FROM error_fill GROUP BY symbol, lp
"""
"""What the house holds by mistake, and what of it no leg of ours was filled for: flattening is done by legs."""


def reconciliation() -> dict[str, Any]:
    """Net positions per symbol in lots, and sums per currency.

    A client's part at a provider and what the house holds there by mistake must equal our fills there; what is not at a
    provider is the house's, with the other sign.
    """
    symbols: dict[str, dict[str, Any]] = {}
    with connection.cursor() as cursor:
        cursor.execute(CLIENTS)
        for symbol, lp, net, net_a in cursor.fetchall():
            line = _line(symbols, symbol)
            line["clients"] += net
            line["house"] -= net - net_a
            if lp:
                line["clients_at_lps"][lp] = line["clients_at_lps"].get(lp, ZERO) + net_a
        cursor.execute(LEGS)
        for symbol, lp, net in cursor.fetchall():
            _line(symbols, symbol)["our_fills_at_lps"][lp] = net
        cursor.execute(ERRORS)
        for symbol, lp, net, unasked in cursor.fetchall():
            line = _line(symbols, symbol)
            line["errors_at_lps"][lp] = net
            line["our_fills_at_lps"][lp] = line["our_fills_at_lps"].get(lp, ZERO) + unasked
    for symbol, lp, net in _simulators_own():
        _line(symbols, symbol)["lps_say"][lp] = net
    sums, balances = ledger_sums(), balance_sums()
    return {
        "symbols": {symbol: _shown(symbols[symbol]) for symbol in sorted(symbols)},
        "ledger": {currency: trimmed(total, 2) for currency, total in sums.items()},
        "balances": {currency: trimmed(total, 2) for currency, total in balances.items()},
        "flat": all(_is_flat(line) for line in symbols.values()),
        "reconciled": all(_agrees(line) for line in symbols.values()) and not any({*sums.values(), *balances.values()}),
    }


def _line(symbols: dict[str, dict[str, Any]], symbol: str) -> dict[str, Any]:
    empty = {
        "clients": ZERO,
        "house": ZERO,
        "clients_at_lps": {},
        "errors_at_lps": {},
        "our_fills_at_lps": {},
        "lps_say": {},
    }
    return symbols.setdefault(symbol, empty)


def _simulators_own() -> list[tuple[str, str, Decimal]]:
    """What the simulated providers hold for us (symbol, lp, lots), where there are any."""
    sizes = {symbol: instrument.contract_size for symbol, instrument in current_config().instruments.items()}
    lines: list[tuple[str, str, Decimal]] = []
    try:
        found = redis_connection()
        for key in sorted(found.scan_iter(match="lpsim:positions:*", count=100)):
            lp = _text(key).rpartition(":")[2]
            held = {_text(symbol): parse_decimal(_text(units)) for symbol, units in found.hgetall(key).items()}
            lines += [(symbol, lp, units / sizes[symbol]) for symbol, units in held.items() if symbol in sizes]
    except (RedisError, NumberRefused, UnicodeDecodeError) as error:
        _log.warning("simulators_unreadable", error=type(error).__name__)
        return []
    return lines


def _text(value: bytes | str) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _is_flat(line: dict[str, Any]) -> bool:
    nets = [line["clients"], line["house"]]
    for at_lps in (line["clients_at_lps"], line["errors_at_lps"], line["our_fills_at_lps"], line["lps_say"]):
        nets += at_lps.values()
    return not any(nets)


def _agrees(line: dict[str, Any]) -> bool:
    """Clients' parts with the house's errors, our fills, and what the providers say are the same at every provider."""
    parts, errors, fills, told = (
        line["clients_at_lps"],
        line["errors_at_lps"],
        line["our_fills_at_lps"],
        line["lps_say"],
    )
    held = {lp: parts.get(lp, ZERO) + errors.get(lp, ZERO) for lp in {*parts, *errors}}
    ours = all(held.get(lp, ZERO) == fills.get(lp, ZERO) for lp in {*held, *fills})
    return ours and all(net == fills.get(lp, ZERO) for lp, net in told.items())


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {lp: trimmed(net, 2) for lp, net in sorted(value.items())}
        if isinstance(value, dict)
        else trimmed(value, 2)
        for name, value in line.items()
    }


def decision_of(ticket: int) -> dict[str, Any] | None:
    """Why an order went where it went, and what came of it: legs at providers, deals in both books, transfers of money."""
    row = RoutingDecision.objects.filter(order_id=ticket).first()
    if row is None:
        return None
    return {
        "order_ticket": row.order_id,
        "account": row.account,
        "symbol": row.symbol,
        "book": row.book,
        "rule_name": row.rule_name,
        "policy_version": row.policy_version,
        "lp": row.lp,
        "decision": row.decision,
        "legs": [_leg(leg) for leg in LpOrder.objects.filter(order_id=ticket).order_by("id")],
        "deals": [_deal(deal) for deal in Deal.objects.filter(order_id=ticket).order_by("id")],
        "transfers": [
            _transfer(transfer)
            for transfer in Transfer.objects.filter(order_id=ticket).order_by("transaction_id", "line")
        ],
        "at": row.at,
    }


def _deal(deal: Deal) -> dict[str, Any]:
    return {
        "id": deal.id,
        "entry": deal.entry,
        "book": deal.book,
        "volume": trimmed(deal.volume, 2),
        "price": trimmed(deal.price, 0),
        "profit": trimmed(deal.profit, 2),
        "commission": trimmed(deal.commission, 2),
        "lp": deal.lp,
        "exec_id": deal.exec_id,
        "lp_price": None if deal.lp_price is None else trimmed(deal.lp_price, 0),
    }


def _transfer(transfer: Transfer) -> dict[str, Any]:
    return {
        "transaction_id": transfer.transaction_id,
        "line": transfer.line,
        "kind": transfer.kind,
        "source": transfer.source,
        "target": transfer.target,
        "currency": transfer.currency,
        "amount": trimmed(transfer.amount, 2),
    }


def _leg(leg: LpOrder) -> dict[str, Any]:
    return {
        "lp": leg.lp,
        "cl_ord_id": leg.cl_ord_id,
        "side": leg.side,
        "volume": trimmed(leg.volume, 2),
        "filled_volume": trimmed(leg.filled_volume, 2),
        "status": leg.status,
        "dispatch_state": leg.dispatch_state,
        "lp_order_id": leg.lp_order_id,
        "exec_ids": list(leg.exec_ids),
        "text": leg.text,
    }


def newest_desk(shard: int) -> Desk:
    """The desk's state as the last batch left it."""
    stored = Batch.objects.filter(shard=shard).order_by("-seq").values_list("desk", flat=True).first()
    return msgspec.convert(stored or {}, Desk, strict=False)
