"""What the database says of legs that are about to be sent: read in the transaction that takes them, for `conservation`."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import psycopg

from bus.codec import DecodeError, decode_report
from bus.store import load_config
from lp_adapters.conservation import Facts, Sibling
from lp_adapters.legs import Leg
from trading.liquidity import LIVE_LEGS, ExecutionReport
from trading.numbers import ZERO

Connection = psycopg.Connection[Any]

SHARD = 0


class FactsReader:
    """Reads for one provider; remembers the published sizes of lots."""

    def __init__(self, lp: str) -> None:
        self._lp = lp
        self._sizes: Mapping[str, Decimal] = {}

    def gathered(self, connection: Connection, legs: Sequence[Leg], stopped: str, named: Sequence[str]) -> Facts:
        """All facts about these legs. The reports of `named` ClOrdIDs are read too, whatever the rows say of them."""
        if stopped:
            return Facts(epoch=0, halted="", stopped=stopped, volumes={}, siblings={}, said={}, sizes={})
        orders = sorted({leg.order_id for leg in legs if leg.order_id})
        epoch, halted = self._shard(connection)
        siblings = self._siblings(connection, orders)
        here = {leg.cl_ord_id for leg in legs}
        here |= {one.cl_ord_id for legs_of_order in siblings.values() for one in legs_of_order if one.lp == self._lp}
        return Facts(
            epoch=epoch,
            halted=halted,
            stopped="",
            volumes=self._volumes(connection, orders),
            siblings=siblings,
            said=self._said(connection, sorted(here | set(named))),
            sizes=self._sizes_for(connection, legs),
        )

    @staticmethod
    def _shard(connection: Connection) -> tuple[int, str]:
        found = connection.execute("SELECT epoch, halted FROM shard WHERE shard = %s", (SHARD,)).fetchone()
        return (int(found[0]), str(found[1])) if found else (0, "")

    @staticmethod
    def _volumes(connection: Connection, orders: list[int]) -> Mapping[int, Decimal]:
        return dict(connection.execute("SELECT id, volume FROM trade_order WHERE id = ANY(%s)", (orders,)).fetchall())

    @staticmethod
    def _siblings(connection: Connection, orders: list[int]) -> Mapping[int, Sequence[Sibling]]:
        found: dict[int, list[Sibling]] = {}
        for order_id, *row in connection.execute(
            "SELECT order_id, cl_ord_id, lp, volume, quantity, filled_volume, status = ANY(%s), dispatch_state "
            "FROM lp_order WHERE order_id = ANY(%s) ORDER BY id",
            (LIVE_LEGS, orders),
        ):
            values: dict[str, Any] = dict(zip(Sibling.__struct_fields__, row, strict=True))
            found.setdefault(order_id, []).append(Sibling(**values))
        return found

    def _said(self, connection: Connection, names: list[str]) -> Mapping[str, Sequence[ExecutionReport]]:
        found: dict[str, list[ExecutionReport]] = {}
        for name, report in connection.execute(
            "SELECT cl_ord_id, report::text FROM lp_inbox WHERE lp = %s AND cl_ord_id = ANY(%s) ORDER BY seq",
            (self._lp, names),
        ):
            found.setdefault(name, []).append(decode_report(report))
        return found

    def _sizes_for(self, connection: Connection, legs: Sequence[Leg]) -> Mapping[str, Decimal]:
        """Units per lot as published; read again before a leg that does not agree is judged by them."""
        if any(leg.quantity != leg.volume * self._sizes.get(leg.symbol, ZERO) for leg in legs):
            with suppress(LookupError, DecodeError):
                published = load_config(connection).instruments
                self._sizes = {symbol: terms.contract_size for symbol, terms in published.items()}
        return self._sizes
