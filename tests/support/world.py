"""A shard in memory with hands on everything: give commands, move prices, let providers answer, read what came of it.

The real decide, apply and announce; nothing is faked but the outside. Ids and times are counted, so a story told twice gives
the same bytes.
"""

from decimal import Decimal
from typing import Any

import msgspec

from engine.core import Executed, execute, take_quote
from engine.state import Prior, State
from tests.support.builders import config as demo_config
from tests.support.builders import lp_top
from trading.accounts import ClientClass
from trading.commands import (
    AnyCommand,
    ApplyExecution,
    ClosePosition,
    Deposit,
    ModifyProtection,
    OpenAccount,
    PlaceOrder,
)
from trading.configuration import Config, Markup
from trading.events import ChildOrderRouted, ChildOrderUpdated, ExecutionKept
from trading.ledger import Transfer
from trading.liquidity import Execution, ExecutionReport, LpOrder, ReportKind, names_in, related
from trading.orders import Deal, Order, Side
from trading.overrides import Override
from trading.positions import Position
from trading.protection import ProtectionTerms
from trading.quotes import Quote

START_US = 1_700_000_000_000_000
SECOND = 1_000_000


class World:
    """One engine state and the clock."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or demo_config()
        self.state = State(0, self.config)
        self.now_us = START_US
        self.requests = 0
        self.execs = 0
        self.executed: list[Executed] = []
        self.executions: list[Execution] = []
        self.legs: dict[str, LpOrder] = {}
        """All there ever were, and all executions: what the database would know."""

    # --- what the outside does ---

    def price(
        self, symbol: str, bid: str, ask: str, *, lps: tuple[str, ...] = ("YOFX1", "PRIMEXM"), size: str = "50"
    ) -> Executed | None:
        """A fresh aggregate; every named provider shows the same prices and can be traded. Returns what it set off."""
        seq = self.state.quotes[symbol].seq + 1 if symbol in self.state.quotes else 1
        tops = tuple(lp_top(lp, bid=bid, ask=ask, bid_size=size, ask_size=size, at_us=self.now_us) for lp in lps)
        quote = Quote(symbol=symbol, seq=seq, bid=Decimal(bid), ask=Decimal(ask), at_us=self.now_us, tops=tops)
        arrived = take_quote(self.state, quote)
        return self.run(arrived) if arrived is not None else None

    def wait(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND)

    def run(self, command: AnyCommand, prior: Prior | None = None) -> Executed:
        done = execute(self.state, command, self.now_us, prior or self.prior(command))
        self.executed.append(done)
        for event in done.events:
            if isinstance(event, ExecutionKept):
                self.executions.append(event.execution)
            elif isinstance(event, ChildOrderRouted | ChildOrderUpdated):
                self.legs[event.leg.cl_ord_id] = event.leg
        return done

    def prior(self, command: AnyCommand) -> Prior:
        """What the loop would have looked up before the command."""
        if not isinstance(command, ApplyExecution):
            return Prior()
        report = command.report
        named = [x for x in self.executions if x.lp == report.lp]
        executions = related(names_in(report), lambda name: [x for x in named if name in (x.exec_id, x.ref)])
        leg = None if report.cl_ord_id in self.state.legs else self.legs.get(report.cl_ord_id)
        return Prior(leg=leg, executions=tuple(executions.values()))

    def request(self) -> str:
        self.requests += 1
        return f"00000000-0000-7000-8000-{self.requests:012d}"

    def open_account(
        self, number: int, *, currency: str = "USD", group: str = "retail", deposit: str = "10000", **terms: object
    ) -> int:
        request = self.request()
        terms = {"leverage": 30, **terms}
        self.run(OpenAccount(id=request, key=request, account=number, group=group, currency=currency, **terms))  # type: ignore[arg-type]
        if Decimal(deposit):
            request = self.request()
            self.run(Deposit(id=request, key=request, account=number, amount=Decimal(deposit)))
        return number

    def place(self, account: int, symbol: str, side: Side, volume: str, *, key: str = "", **extra: Any) -> Executed:
        request = self.request()
        command = PlaceOrder(
            id=request,
            key=key or request,
            account=account,
            symbol=symbol,
            side=side,
            volume=Decimal(volume),
            reply_to="test",
            **extra,
        )
        return self.run(command)

    def close(self, account: int, position_id: int, volume: str | None = None, *, key: str = "") -> Executed:
        request = self.request()
        lots = None if volume is None else Decimal(volume)
        return self.run(
            ClosePosition(
                id=request, key=key or request, account=account, position_id=position_id, volume=lots, reply_to="test"
            )
        )

    def protect(self, account: int, position_id: int, *, keep: tuple[str, ...] = (), **terms: Any) -> Executed:
        request = self.request()
        return self.run(
            ModifyProtection(
                id=request,
                key=request,
                account=account,
                position_id=position_id,
                protection=ProtectionTerms(**terms),
                keep=keep,
                reply_to="test",
            )
        )

    def report(self, leg: LpOrder, kind: ReportKind, **fields: object) -> Executed:
        """The provider says something about `leg`; quantities in units of base."""
        self.execs += 1
        said: dict[str, object] = {
            "lp": leg.lp,
            "kind": kind,
            "cl_ord_id": leg.cl_ord_id,
            "exec_id": f"E{self.execs}",
            "trade_date": "20260105",
            "side": leg.side,
            "lp_symbol": leg.lp_symbol,
            **fields,
        }
        seq = self.state.inbox_cursors.get(leg.lp, 0) + 1
        command = ApplyExecution(
            id=f"{leg.lp}:{seq}",
            key="",
            inbox_seq=seq,
            report=ExecutionReport(**said),  # type: ignore[arg-type]
        )
        return self.run(command)

    def fill(self, leg: LpOrder, price: str, quantity: str | None = None, **fields: object) -> Executed:
        qty = leg.quantity if quantity is None else Decimal(quantity)
        return self.report(leg, ReportKind.FILL, last_px=Decimal(price), last_qty=qty, **fields)

    # --- what can be read ---

    def balance(self, account: int) -> Decimal:
        return self.state.accounts[account].balance

    def reserved(self) -> dict[int, Decimal]:
        """What live orders hold of their accounts' margin; accounts whose orders hold nothing are left out."""
        held: dict[int, Decimal] = {}
        for order in self.state.orders.values():
            if order.margin_reserved:
                held[order.account] = held.get(order.account, Decimal(0)) + order.margin_reserved
        return held

    def positions(self, account: int) -> list[Position]:
        return [p for p in self.state.positions.values() if p.account == account]

    def ledger_sums(self) -> dict[str, Decimal]:
        """Every currency's sum over all ledger accounts: always zero."""
        sums: dict[str, Decimal] = {}
        for (_, currency), balance in self.state.balances.items():
            sums[currency] = sums.get(currency, Decimal(0)) + balance
        return sums

    def transfers(self) -> list[Transfer]:
        return [t for done in self.executed for e in done.events for t in getattr(e, "transfers", ())]

    def deals(self) -> list[Deal]:
        return [e.deal for done in self.executed for e in done.events if hasattr(e, "deal")]

    def lp_net(self) -> dict[tuple[str, str], Decimal]:
        """What we hold at each provider, signed lots per symbol, from the fills of all legs ever routed."""
        net: dict[tuple[str, str], Decimal] = {}
        for deal in self.deals():
            if deal.lp:
                key = (deal.lp, deal.symbol)
                net[key] = net.get(key, Decimal(0)) + deal.side.sign * deal.volume
        return net


def world_on(*, markup: Markup | None = None, overrides: tuple[Override, ...] = (), **terms: Any) -> World:
    """EURUSD on these terms at 1.10000/1.10010 before the markup, and two accounts of group `pro`: 1 is dealt by the house, 2
    goes to the market."""
    plain = demo_config()
    euro = msgspec.structs.replace(plain.instruments["EURUSD"], **terms)
    pro = msgspec.structs.replace(plain.groups["pro"], markup=markup or Markup(), overrides=overrides)
    world = World(demo_config(instruments={**plain.instruments, "EURUSD": euro}, groups={**plain.groups, "pro": pro}))
    world.open_account(1, group="pro", deposit="10000", leverage=100)
    world.open_account(2, group="pro", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def order_of(done: Executed) -> Order:
    """The last image of the order that the command was about."""
    orders = [e.order for e in done.events if hasattr(e, "order")]
    assert orders, "the command touched no order"
    last: Order = orders[-1]
    return last


def leg_of(done: Executed) -> LpOrder:
    legs = [e.leg for e in done.events if isinstance(e, ChildOrderRouted)]
    assert legs, "the command sent nothing to a provider"
    return legs[-1]


def refusal_of(done: Executed) -> str:
    """The code of the only answer; empty when it was accepted."""
    ((_, answer),) = done.answers
    return str(answer.refusal)
