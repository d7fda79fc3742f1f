"""From a fill to its consequences: deal, position, ledger. The same steps for the house's fills and a provider's.

One fill belongs to one book. A shared (C) order is filled in both: the house's part follows the provider's, at the same
client price, in proportion.
"""

from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from engine.costs import (
    NO_CHARGES,
    Charges,
    Dealing,
    charges_of,
    commission,
    deals_plainly,
    is_maker,
    remember,
    result_of,
)
from engine.guarantees import charge_guarantee, guarantee_fee, guaranteed_at
from engine.rollover import roll_position
from engine.routes import position_to_join
from engine.work import Work
from engine.worth import position_charge
from trading.calendar import business_date
from trading.charges.accrual import realised_share
from trading.daytrading import still_counting
from trading.events import AccountChanged, DealMade, LedgerPosted, PositionChanged, PositionClosed, PositionOpened
from trading.ledger import (
    HOUSE_COMMISSION,
    HOUSE_SWAP,
    TransactionKind,
    Transfer,
    client_account,
    house_pnl,
    lp_account,
    moving,
)
from trading.margining.exposures import NOTHING_RESERVED, left_charged, left_reserved
from trading.margining.modes import Exposure
from trading.numbers import ZERO, point, round_half_up
from trading.orders import Book, Deal, DealEntry, Order, OrderReason
from trading.positions import Position
from trading.protection import NOTHING_ASKED, UNPROTECTED, Protection, resolved

COST_DIGITS = 10


class Fill(Struct, frozen=True, kw_only=True):
    """Lots dealt at one client price in one book; the provider's side of it when that book is A."""

    book: Book
    volume: Decimal
    price: Decimal
    lp: str = ""
    exec_id: str = ""
    lp_price: Decimal | None = None
    dealable_us: int = 0
    """When the provider's part was handed out; 0 for a deal of this very moment."""
    cost: Decimal | None = None
    """Price x lots exactly, where the price is an average that was rounded; None where the price is exact."""
    lp_cost: Decimal | None = None
    """The same at the provider's price."""


def book_fill(work: Work, order: Order, fill: Fill) -> Order:
    """Deal, position and ledger of one fill; returns the order as it stands after it (not yet emitted)."""
    if order.is_closing:
        position_id, charges = order.position_id, _close(work, order, fill)
        kept: dict[str, Any] = {}
    else:
        kept = _left_reserved(work, order, fill.volume)
        position_id, charges = _open(work, order, fill)
    return replace(
        order,
        position_id=position_id,
        **kept,
        filled_volume=order.filled_volume + fill.volume,
        filled_cost=order.filled_cost + _dealt_cost(fill),
        filled_a=order.filled_a + (fill.volume if fill.book is Book.A else ZERO),
        updated_us=work.now_us,
        commissions=charges.whole_order,
    )


def _cost(price: Decimal, volume: Decimal) -> Decimal:
    return round_half_up(price * volume, COST_DIGITS)


def _left_reserved(work: Work, order: Order, filled: Decimal) -> dict[str, Any]:
    if filled == order.volume - order.filled_volume:
        return NOTHING_RESERVED
    account = work.account(order.account)
    rounding = work.group_of(account).margin.rounding
    return left_reserved(order, filled, rounding=rounding, digits=work.config.currency_digits[account.currency])


def _open(work: Work, order: Order, fill: Fill) -> tuple[int, Charges]:
    exposure = position_charge(work, order, fill.volume, fill.price)
    assert exposure is not None, "a fill that cannot be valued must wait in the inbox"
    before = position_to_join(work, order)
    if before is not None:
        before = roll_position(work, before)
    position_id = before.id if before else work.state.counters.position
    entry = DealEntry.INOUT if order.netted else DealEntry.IN
    charges = NO_CHARGES
    if not deals_plainly(work, work.account(order.account), order.symbol):
        charges = _charges(work, order, fill, entry, profit=ZERO)
    deal = _deal(work, order, fill, entry, position_id, charges, profit=ZERO)
    if before is None:
        after = _new_position(work, order, fill, position_id, exposure)
    else:
        after = _added(work, order, before, fill, exposure)
    fee = ZERO
    if after.protection.is_guaranteed:
        fee = guarantee_fee(work, work.account(order.account), order.symbol, fill.volume)
        deal = replace(deal, fee=deal.fee + fee)
    work.emit(DealMade(deal))
    work.emit(PositionOpened(after) if before is None else PositionChanged(after))
    _post_deal(work, deal, charges)
    if fee:
        charge_guarantee(work, order.account, fee, position_id=position_id, order_id=order.id, deal_id=deal.id)
    return position_id, charges


def _protection_of(work: Work, order: Order, open_price: Decimal) -> Protection:
    """What stands on the position that the order opens at this price."""
    if order.protection == NOTHING_ASKED:
        return UNPROTECTED
    step, sign = point(work.instrument(order.symbol).digits), order.side.sign
    protection = resolved(order.protection, sign=sign, open_price=open_price, point=step)
    return guaranteed_at(protection, sign=sign, open_price=open_price) if protection.is_guaranteed else protection


def _new_position(work: Work, order: Order, fill: Fill, position_id: int, exposure: Exposure) -> Position:
    from_lp = fill.book is Book.A
    return Position(
        id=position_id,
        account=order.account,
        symbol=order.symbol,
        side=order.side,
        opened_us=work.now_us,
        updated_us=work.now_us,
        volume_opened=fill.volume,
        volume=fill.volume,
        cost=_cost(fill.price, fill.volume),
        rolled_us=work.now_us,
        margin=exposure.margin,
        hedged=exposure.hedged,
        unleveraged=exposure.unleveraged,
        notional=exposure.notional,
        lp=fill.lp,
        volume_a_opened=fill.volume if from_lp else ZERO,
        volume_a=fill.volume if from_lp else ZERO,
        cost_a=_lp_cost(fill),
        protection=_protection_of(work, order, fill.price),
    )


def _added(work: Work, order: Order, before: Position, fill: Fill, exposure: Exposure) -> Position:
    from_lp = fill.volume if fill.book is Book.A else ZERO
    cost, volume = before.cost + _cost(fill.price, fill.volume), before.volume + fill.volume
    protection = before.protection
    if order.position_id != before.id and order.protection != NOTHING_ASKED:
        protection = _protection_of(work, order, cost / volume)
    return replace(
        before,
        updated_us=work.now_us,
        volume_opened=before.volume_opened + fill.volume,
        volume=volume,
        cost=cost,
        protection=protection,
        margin=before.margin + exposure.margin,
        hedged=before.hedged + exposure.hedged,
        unleveraged=before.unleveraged + exposure.unleveraged,
        notional=before.notional + exposure.notional,
        lp=before.lp or fill.lp,
        volume_a_opened=before.volume_a_opened + from_lp,
        volume_a=before.volume_a + from_lp,
        cost_a=before.cost_a + _lp_cost(fill),
    )


def _dealt_cost(fill: Fill) -> Decimal:
    return _cost(fill.price, fill.volume) if fill.cost is None else fill.cost


def _lp_cost(fill: Fill) -> Decimal:
    return _cost(fill.lp_price, fill.volume) if fill.lp_price is not None else ZERO


def _close(work: Work, order: Order, fill: Fill) -> Charges:
    position = roll_position(work, work.state.positions[order.position_id])
    closed_cost = _share(position.cost, fill.volume, position.volume, COST_DIGITS)
    profit = _profit(work, position, fill, closed_cost)
    entry = DealEntry.OUT_BY if order.reason is OrderReason.CLOSE_BY else DealEntry.OUT
    charges = NO_CHARGES
    if not deals_plainly(work, work.account(order.account), order.symbol):
        charges = _charges(work, order, fill, entry, profit=profit)
    swap, left = _swap_share(work, position, fill.volume)
    deal = _deal(work, order, fill, entry, position.id, charges, profit=profit, swap=swap)
    work.emit(DealMade(deal))
    after = _reduced(work, position, fill, closed_cost, unlock=fill.volume if order.attempts else ZERO, swap=left)
    work.emit(PositionChanged(after) if after.volume else PositionClosed(after))
    _post_deal(work, deal, charges)
    _count_day_trade(work, position)
    if fill.book is Book.A:
        _post_lp_result(work, position, deal, fill)
    return charges


def _count_day_trade(work: Work, position: Position) -> None:
    """Closed, in whole or for the first part, on the business date it was opened on, where the group counts that."""
    account = work.account(position.account)
    terms = work.group_of(account).day_trades
    if terms is None or position.volume != position.volume_opened:
        return
    today = business_date(work.now_us)
    if business_date(position.opened_us) == today:
        counting = still_counting(account.day_trades, today, terms.days)
        work.emit(
            AccountChanged(replace(account, day_trades=(*counting, today.isoformat()), version=account.version + 1))
        )


def _share(whole: Decimal, part: Decimal, of: Decimal, digits: int) -> Decimal:
    """The part's share of `whole`; the last part takes what is left, so that nothing stays behind."""
    return whole if part == of else round_half_up(whole * part / of, digits)


def cost_of(position: Position, volume: Decimal) -> Decimal:
    """Open price x lots of the next `volume` that is closed."""
    return _share(position.cost, volume, position.volume, COST_DIGITS)


def lp_cost_of(position: Position, volume: Decimal) -> Decimal:
    """The same at the provider's prices, of the part that stands there."""
    return _share(position.cost_a, volume, position.volume_a, COST_DIGITS)


def _profit(work: Work, position: Position, fill: Fill, closed_cost: Decimal) -> Decimal:
    """Realised result in the account's currency."""
    dealt = fill.price * fill.volume if fill.cost is None else fill.cost
    profit = result_of(work, position, volume=fill.volume, closed_cost=closed_cost, close_cost=dealt)
    assert profit is not None, "a fill that cannot be valued must wait in the inbox"
    return profit


def _charges(work: Work, order: Order, fill: Fill, entry: DealEntry, *, profit: Decimal) -> Charges:
    """What the deal costs besides the plain commission."""
    dealing = Dealing(
        entry=entry,
        volume=fill.volume,
        price=fill.price,
        profit=profit,
        is_maker=is_maker(order, fill.dealable_us or work.now_us),
    )
    charges = charges_of(work, order, dealing)
    assert charges is not None, "a fill that cannot be charged must wait in the inbox"
    return charges


def _swap_share(work: Work, position: Position, closed: Decimal) -> tuple[Decimal, Decimal]:
    """(accrued swap that the close posts, what stays on the position)"""
    if not position.swap:
        return ZERO, ZERO
    digits = work.config.currency_digits[work.account(position.account).currency]
    return realised_share(position.swap, closed=closed, open_volume=position.volume, digits=digits)


def _reduced(
    work: Work, position: Position, fill: Fill, closed_cost: Decimal, *, unlock: Decimal, swap: Decimal
) -> Position:
    account = work.account(position.account)
    from_lp = fill.volume if fill.book is Book.A else ZERO
    cost_a = _share(position.cost_a, from_lp, position.volume_a, COST_DIGITS) if from_lp else ZERO
    return replace(
        position,
        updated_us=work.now_us,
        volume=position.volume - fill.volume,
        cost=position.cost - closed_cost,
        **left_charged(
            position,
            fill.volume,
            rounding=work.group_of(account).margin.rounding,
            digits=work.config.currency_digits[account.currency],
        ),
        volume_a=position.volume_a - from_lp,
        cost_a=position.cost_a - cost_a,
        locked=position.locked - unlock,
        swap=swap,
    )


def _deal(
    work: Work,
    order: Order,
    fill: Fill,
    entry: DealEntry,
    position_id: int,
    charges: Charges,
    *,
    profit: Decimal,
    swap: Decimal = ZERO,
) -> Deal:
    plain = commission(work, order.account, fill.volume)
    return Deal(
        id=work.state.counters.deal,
        order_id=order.id,
        position_id=position_id,
        account=order.account,
        symbol=order.symbol,
        side=order.side,
        entry=entry,
        volume=fill.volume,
        price=fill.price,
        profit=profit,
        commission=ZERO
        if entry is DealEntry.OUT_BY
        else plain
        if charges is NO_CHARGES
        else plain + charges.commission,
        at_us=work.now_us,
        book=fill.book,
        lp=fill.lp,
        exec_id=fill.exec_id,
        lp_price=fill.lp_price,
        swap=swap,
        fee=charges.fee,
    )


def _post_deal(work: Work, deal: Deal, charges: Charges) -> None:
    """The client's side of a deal: realised result against the book's, swap, commission and fees to the house. One
    transaction."""
    account = before = work.account(deal.account)
    if charges is not NO_CHARGES:
        account = remember(work, account, deal, charges)
    client, currency = client_account(account.id), account.currency
    transaction_id = work.state.counters.transaction
    transfers: list[Transfer] = []

    def move(kind: TransactionKind, source: str, target: str, amount: Decimal, reference: str = "") -> None:
        if amount:
            transfers.append(
                moving(
                    transaction_id=transaction_id,
                    line=len(transfers) + 1,
                    kind=kind,
                    source=source,
                    target=target,
                    currency=currency,
                    amount=amount,
                    at_us=work.now_us,
                    order_id=deal.order_id,
                    deal_id=deal.id,
                    position_id=deal.position_id,
                    reference=reference,
                )
            )

    if deal.profit:
        move(TransactionKind.REALISED_PNL, house_pnl(deal.book.value), client, deal.profit)
    balance = account.balance + deal.profit - deal.commission
    if deal.swap:
        move(TransactionKind.SWAP, HOUSE_SWAP, client, deal.swap)
        balance += deal.swap
    if charges is NO_CHARGES:
        move(TransactionKind.COMMISSION, client, HOUSE_COMMISSION, deal.commission)
    else:
        move(TransactionKind.COMMISSION, client, HOUSE_COMMISSION, deal.commission - charges.commission)
        for payment in charges.payments:
            move(payment.kind, client, payment.target, payment.amount, payment.reference)
        balance -= deal.fee
    if transfers:
        after = replace(account, balance=balance, version=account.version + 1)
        work.emit(LedgerPosted(tuple(transfers), after))
    elif account is not before:
        work.emit(AccountChanged(replace(account, version=account.version + 1)))


def _post_lp_result(work: Work, position: Position, deal: Deal, fill: Fill) -> None:
    """The provider's side: what the A part made at the provider's own prices, in the symbol's quote currency."""
    assert fill.lp_price is not None
    instrument = work.instrument(position.symbol)
    cost = _share(position.cost_a, fill.volume, position.volume_a, COST_DIGITS)
    dealt = fill.lp_price * fill.volume if fill.lp_cost is None else fill.lp_cost
    result = position.side.sign * (dealt - cost) * instrument.lot_value
    amount = round_half_up(result, work.config.currency_digits[instrument.quote])
    if not amount:
        return
    transfer = moving(
        transaction_id=work.state.counters.transaction,
        kind=TransactionKind.LP_PNL,
        source=lp_account(fill.lp),
        target=house_pnl(Book.A.value),
        currency=instrument.quote,
        amount=amount,
        at_us=work.now_us,
        order_id=deal.order_id,
        deal_id=deal.id,
        position_id=deal.position_id,
        reference=deal.exec_id,
    )
    work.emit(LedgerPosted((transfer,), None))
