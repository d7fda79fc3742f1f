"""The house's error account: what a provider dealt with us that no client's order asked for, and how it goes away again.

One holding per provider and symbol, in the desk's state; each booking is a record of its own. What a holding makes is the
house's, posted against the provider. The engine brings a holding back to nothing by itself: one leg at a time, never for
more lots than are held, and after an attempt that dealt nothing only when its time has come.
"""

from decimal import Decimal

from msgspec.structs import replace

from engine.work import Work
from trading.checks import check_price
from trading.configuration import LpInstrument
from trading.desk import Desk, ErrorFill, ErrorHolding, ErrorReason
from trading.events import ChildOrderRouted, DeskChanged, ErrorBooked, LedgerPosted
from trading.instruments import TradeMode
from trading.ledger import HOUSE_ERROR, TransactionKind, lp_account, moving
from trading.liquidity import ExecutionReport, LegStatus, LpOrder, ReportKind
from trading.numbers import ZERO, round_half_up
from trading.orders import Side

COST_DIGITS = 10
RETRY_US = 5_000_000
"""After an attempt that dealt nothing; twice as long after each further one."""
DOUBLINGS_MAX = 6
"""So never longer than 320 seconds."""


def take(
    work: Work,
    report: ExecutionReport,
    *,
    symbol: str,
    volume: Decimal,
    price: Decimal,
    reason: ErrorReason,
) -> None:
    """Book signed lots at a provider's price into the error account."""
    before = held(work.state.desk, report.lp, symbol)
    after, won = _after(before, volume, price)
    instrument = work.instrument(symbol)
    result = round_half_up(won * instrument.lot_value, work.config.currency_digits[instrument.quote])
    fill = ErrorFill(
        id=work.state.counters.error,
        lp=report.lp,
        symbol=symbol,
        side=Side.BUY if volume > 0 else Side.SELL,
        volume=abs(volume),
        price=price,
        reason=reason,
        cl_ord_id=report.cl_ord_id,
        exec_id=report.exec_id,
        result=result,
        currency=instrument.quote,
        volume_after=after.volume,
        cost_after=after.cost,
        at_us=work.now_us,
    )
    work.emit(ErrorBooked(fill))
    _keep(work, after)
    if result:
        _post(work, fill)


def held(desk: Desk, lp: str, symbol: str) -> ErrorHolding:
    """What the house holds there; a holding of nothing where there is none."""
    found = (one for one in desk.errors if (one.lp, one.symbol) == (lp, symbol))
    return next(found, None) or ErrorHolding(lp=lp, symbol=symbol, volume=ZERO, cost=ZERO)


def _after(before: ErrorHolding, volume: Decimal, price: Decimal) -> tuple[ErrorHolding, Decimal]:
    """The holding with `volume` more, and what the part that this closes has won, in price x lots."""
    closed = ZERO if before.volume * volume >= 0 else min(abs(volume), abs(before.volume))
    closed_cost = ZERO
    if closed:
        is_whole = closed == abs(before.volume)
        closed_cost = before.cost if is_whole else round_half_up(before.cost * closed / abs(before.volume), COST_DIGITS)
    sign = 1 if volume > 0 else -1
    opened = abs(volume) - closed
    after = replace(
        before,
        volume=before.volume + volume,
        cost=before.cost - closed_cost + round_half_up(sign * opened * price, COST_DIGITS),
    )
    return after, -sign * closed * price - closed_cost


def _post(work: Work, fill: ErrorFill) -> None:
    transfer = moving(
        transaction_id=work.state.counters.transaction,
        kind=TransactionKind.ERROR_PNL,
        source=lp_account(fill.lp),
        target=HOUSE_ERROR,
        currency=fill.currency,
        amount=fill.result,
        at_us=work.now_us,
        reference=f"error:{fill.id}",
    )
    work.emit(LedgerPosted((transfer,), None))


def _keep(work: Work, holding: ErrorHolding) -> None:
    desk = work.state.desk
    others = [one for one in desk.errors if (one.lp, one.symbol) != (holding.lp, holding.symbol)]
    errors = [*others, holding] if holding.volume else others
    work.emit(DeskChanged(replace(desk, errors=tuple(sorted(errors, key=lambda one: (one.lp, one.symbol))))))


def expire_holdings(work: Work, symbol: str, price: Decimal) -> None:
    """The contract has ended: what is held of it is settled with its providers at this price, without an order."""
    for holding in work.state.desk.errors:
        if holding.symbol == symbol:
            ended = ExecutionReport(lp=holding.lp, kind=ReportKind.OTHER, cl_ord_id="")
            take(work, ended, symbol=symbol, volume=-holding.volume, price=price, reason=ErrorReason.EXPIRED)


# --- Halts --------------------------------------------------------------------------------------------------------------


def halt(work: Work, lp: str, symbol: str) -> None:
    """Open nothing more in the symbol at that provider until a dealer lifts it."""
    desk = work.state.desk
    if (lp, symbol) not in desk.halts:
        work.emit(DeskChanged(replace(desk, halts=tuple(sorted({*desk.halts, (lp, symbol)})))))


def lift(work: Work, lp: str, symbol: str) -> None:
    """Undo `halt`."""
    desk = work.state.desk
    work.emit(DeskChanged(replace(desk, halts=tuple(one for one in desk.halts if one != (lp, symbol)))))


# --- Flattening ---------------------------------------------------------------------------------------------------------


def flatten_all(work: Work) -> None:
    """Try again whatever is held and due."""
    for holding in work.state.desk.errors:
        flatten(work, holding.lp, holding.symbol)


def flatten(work: Work, lp: str, symbol: str) -> None:
    """Send a leg that brings the holding back to nothing, where that can be dealt now and none is under way."""
    holding = held(work.state.desk, lp, symbol)
    if not holding.volume or work.now_us < holding.retry_us or _is_under_way(work, lp, symbol):
        return
    terms = _tradable(work, lp, symbol)
    volume = _dealable(abs(holding.volume), terms) if terms is not None else ZERO
    if terms is None or not volume:
        return
    number = work.state.counters.leg
    leg = LpOrder(
        id=number,
        order_id=0,
        account=0,
        lp=lp,
        cl_ord_id=f"T{work.state.shard}-{number}",
        symbol=symbol,
        lp_symbol=terms.lp_symbol,
        side=Side.SELL if holding.volume > 0 else Side.BUY,
        volume=volume,
        quantity=volume * work.instrument(symbol).contract_size,
        position_id=0,
        status=LegStatus.WORKING,
        created_us=work.now_us,
        updated_us=work.now_us,
        expires_us=work.now_us + work.config.leg_valid_us,
    )
    work.emit(ChildOrderRouted(leg))


def _is_under_way(work: Work, lp: str, symbol: str) -> bool:
    return any(not leg.order_id and (leg.lp, leg.symbol) == (lp, symbol) for leg in work.state.legs.values())


def _tradable(work: Work, lp: str, symbol: str) -> LpInstrument | None:
    """The provider's terms, if the symbol can be dealt there at this moment; closing is exempt from every other switch."""
    provider, instrument = work.config.lps.get(lp), work.config.instruments.get(symbol)
    if not work.config.flattens_errors or provider is None or not provider.enabled or instrument is None:
        return None
    quote = work.quote(symbol)
    if quote is None or instrument.trade_mode is TradeMode.HALTED:
        return None
    if check_price(instrument, quote, work.now_us) is not None or not any(
        top.lp == lp and top.tradable for top in quote.tops
    ):
        return None
    return provider.instruments.get(symbol)


def _dealable(volume: Decimal, terms: LpInstrument) -> Decimal:
    """As much of it as the provider's steps allow; nothing below its minimum."""
    whole = volume // terms.volume_step * terms.volume_step
    return whole if whole >= terms.volume_min else ZERO


def after_leg(work: Work, leg: LpOrder) -> None:
    """A leg has ended. After one of the house's own it goes on at once where something was dealt, later where nothing was."""
    if not leg.order_id:
        _note_attempt(work, leg)
    flatten(work, leg.lp, leg.symbol)


def _note_attempt(work: Work, leg: LpOrder) -> None:
    holding = held(work.state.desk, leg.lp, leg.symbol)
    if holding.volume:
        failures = 0 if leg.filled_volume else holding.failures + 1
        wait_us = RETRY_US * 2 ** min(failures - 1, DOUBLINGS_MAX) if failures else 0
        _keep(work, replace(holding, failures=failures, retry_us=work.now_us + wait_us if wait_us else 0))
