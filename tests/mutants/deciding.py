"""Planted in the engine's deciding half: money, fills, risk."""

from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any
from unittest import mock

from msgspec.structs import replace

from engine import busts, following, negative
from engine.executions import _book_house, _to_house, apply_execution
from engine.fills import Fill, book_fill
from engine.routes import send_leg
from engine.state import APPLY
from engine.step import Step
from engine.watch import Watches
from engine.work import Work
from tests.mutants.mutant import Mutant, everywhere, instead, replaced
from trading.commands import ApplyExecution
from trading.events import ChildOrderUpdated, LedgerPosted
from trading.liquidity import LpOrder, ReportKind
from trading.orders import Book, Order, OrderStatus, OrderType

Plant = AbstractContextManager[object]


def fed(change: Any) -> Plant:
    """Reports reach the deciding as `change(work, command, leg)` makes them; None: as if it had never come."""

    def make(original: Any) -> Any:
        def apply(work: Work, command: ApplyExecution, prior: Any) -> None:
            leg = work.state.legs.get(command.report.cl_ord_id) or getattr(prior, "leg", prior)
            changed = change(work, command, leg)
            if changed is None:
                work.state.inbox_cursors[command.report.lp] = command.inbox_seq
            else:
                original(work, changed, prior)

        return apply

    return everywhere(apply_execution, make)


def executions_not_deduplicated() -> Plant:
    """A fill that is said again counts again."""
    first: dict[tuple[str, str, str], int] = {}

    def change(_work: Work, command: ApplyExecution, _leg: LpOrder | None) -> ApplyExecution:
        report = command.report
        if report.kind is not ReportKind.FILL:
            return command
        said = first.setdefault((report.lp, report.exec_id, report.trade_date), command.inbox_seq)
        if said == command.inbox_seq:
            return command
        return replace(command, report=replace(report, exec_id=f"{report.exec_id}#{command.inbox_seq}"))

    return fed(change)


def late_fill_dropped() -> Plant:
    def change(work: Work, command: ApplyExecution, leg: LpOrder | None) -> ApplyExecution | None:
        is_late = command.report.kind is ReportKind.FILL and leg is not None and leg.cl_ord_id not in work.state.legs
        return None if is_late else command

    return fed(change)


def late_fill_to_the_client() -> Plant:
    """What was told to have ended is dealt all the same."""

    def change(work: Work, command: ApplyExecution, leg: LpOrder | None) -> ApplyExecution | None:
        report = command.report
        if report.kind is not ReportKind.FILL or leg is None or leg.cl_ord_id in work.state.legs:
            return command
        if report.fill_key in leg.exec_ids:
            return command
        volume = report.last_qty * leg.volume / leg.quantity
        order = Order(
            id=leg.order_id, uuid="", account=leg.account, client_order_id="", symbol=leg.symbol, side=leg.side,
            type=OrderType.MARKET, volume=volume, status=OrderStatus.PENDING_NEW, created_us=work.now_us,
            updated_us=work.now_us,
        )  # fmt: skip
        fill = Fill(
            book=Book.A, volume=volume, price=report.last_px, lp=leg.lp, exec_id=report.exec_id, lp_price=report.last_px
        )
        book_fill(work, order, fill)
        work.emit(ChildOrderUpdated(replace(leg, exec_ids=(*leg.exec_ids, report.fill_key))))
        return None

    return fed(change)


def close_not_locked() -> Plant:
    def send(work: Work, order: Any, position: Any, lp: str, **terms: Any) -> Any:
        return send_leg(work, order, lp, **terms)

    return everywhere(following.send_close, lambda _original: send)


def posted(change: Any) -> Plant:
    """After a posting, `change(state, transfers, before)`; `before` are the balances that it was to move, as they were."""
    original = APPLY[LedgerPosted]

    def post(state: Any, event: Any) -> None:
        places = [(name, t.currency) for t in event.transfers for name in (t.source, t.target)]
        before = {place: state.balances.get(place, Decimal(0)) for place in places}
        original(state, event)
        change(state, event.transfers, before)

    return mock.patch.dict(APPLY, {LedgerPosted: post})


def one_side_posted() -> Plant:
    """Money appears: the side that gives it is forgotten."""

    def change(state: Any, transfers: Any, before: Any) -> None:
        for transfer in transfers:
            if transfer.source.startswith("house:"):
                state.balances[transfer.source, transfer.currency] = before[transfer.source, transfer.currency]

    return posted(change)


def money_is_float() -> Plant:
    def change(state: Any, transfers: Any, before: Any) -> None:
        sums = {place: float(balance) for place, balance in before.items()}
        for transfer in transfers:
            sums[transfer.source, transfer.currency] -= float(transfer.amount)
            sums[transfer.target, transfer.currency] += float(transfer.amount)
        for place, total in sums.items():
            state.balances[place] = Decimal(str(total))

    return posted(change)


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


DECIDING = (
    Mutant("executions not deduplicated", "a fill is applied once", executions_not_deduplicated, _names("fills")),
    Mutant("late fill dropped in silence", "nothing that a provider says is lost", late_fill_dropped, _names("fills")),
    Mutant("late fill booked to the client", "a told end is an end", late_fill_to_the_client, _names("late fill")),
    Mutant("stray fill dropped", "what nobody ordered is the house's", lambda: everywhere(_to_house, instead(None)),
           _names("fills"), faults=_names("say.stray", "engine.kill")),
    Mutant("excess is nobody's", "more than was ordered is the house's",
           lambda: everywhere(_book_house, instead(None)), _names("fills", "I7 net"),
           faults=_names("say.excess", "engine.kill")),
    Mutant("bust not reversed", "what is taken back is reversed", lambda: everywhere(busts._undo, instead(None)),
           _names("I7 net"), faults=_names("say.bust", "engine.kill")),
    Mutant("a settled order is forgotten", "a fill is applied once", lambda: replaced(Step, "_remember_ended", instead(None)),
           _names("I7 net", "fills"), operations=2000, faults=_names("say.drop", "say.silent", "engine.slow")),
    Mutant("close not locked", "a lot is closed once", close_not_locked,
           _names("I11 derived", "I7 positions", "parked", "I7 net")),
    Mutant("one side of a transfer posted", "money is conserved", one_side_posted, _names("I1 ledger", "I2 balances")),
    Mutant("money is float", "money is exact", money_is_float, _names("I1 ledger", "I2 balances")),
    Mutant("negative balance not covered", "a protected client owes nothing",
           lambda: everywhere(negative.cover_negative, instead(None)), _names("I12 negative")),
    Mutant("stop-out not looked at again", "a change is valued at the next price",
           lambda: replaced(Watches, "touch", instead(None)), _names("stop-out")),
)  # fmt: skip
