"""Deals that were wrong: undone or dealt again at the right price, by new deals, never by a change of one.

A deal is taken back by a deal the other way at the same price, whose `exec_id` is `reverse/ID`; where it has a right price, a
third deal follows at that, `correct/ID`. Each hangs on an order of the dealer's, so history tells what happened, and the
deals themselves tell which of them was corrected before. Two people decide; the provider's own side is never touched.

What is no longer in memory comes with the command: all deals of the position, and the position when it is closed.
"""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.closes import uuid_of
from engine.fills import COST_DIGITS
from engine.netting import check_free
from engine.replies import Asked, late, refuse, use_key
from engine.state import Prior
from engine.tidy import Tidy
from engine.work import Work
from engine.worth import position_charge
from trading.accounts import Account
from trading.answers import Answer
from trading.checks import Refused
from trading.commands import CorrectDeal
from trading.conversion import ConversionRule, Converter, Traded
from trading.events import (
    DealMade,
    Event,
    LedgerPosted,
    OrderFilled,
    PositionChanged,
    PositionClosed,
    PositionOpened,
)
from trading.instructions import check_price_grid
from trading.ledger import (
    HOUSE_COMMISSION,
    HOUSE_FEES,
    HOUSE_SWAP,
    TransactionKind,
    client_account,
    house_pnl,
    moving,
)
from trading.margining.terms import Accounting
from trading.numbers import ZERO, round_half_up
from trading.orders import Book, Deal, DealEntry, Order, OrderReason, OrderStatus, OrderType, TimeInForce
from trading.positions import Position
from trading.profit import Closing, gross_result
from trading.refusals import Refusal

DEALS_MAX = 1000
"""A position of more deals than this is put right by an adjustment."""

REVERSE = "reverse/"
CORRECT = "correct/"


def history_with(prior: Prior, deal_id: int, events: Iterable[Event]) -> Prior:
    """The database's facts about a deal's position, and what events that it does not have yet made of them."""
    events = tuple(events)
    made = [event.deal for event in events if isinstance(event, DealMade)]
    known = [*prior.deals, *made]
    position_id = next((deal.position_id for deal in known if deal.id == deal_id), 0)
    deals = {deal.id: deal for deal in known if deal.position_id == position_id}
    position = prior.position
    for event in events:
        if isinstance(event, PositionOpened | PositionChanged | PositionClosed) and event.position.id == position_id:
            position = event.position
    return Prior(prior.key, prior.leg, tuple(deals[number] for number in sorted(deals)), position)


class Case(Struct, frozen=True):
    """The deal to be corrected and what it belongs to."""

    deal: Deal
    account: Account
    deals: tuple[Deal, ...]
    position: Position
    """As it is now, open or closed."""


class Outcome(Struct, frozen=True):
    """What a correction comes to. Amounts are the client's, in the account's currency."""

    deals: tuple[Deal, ...]
    """The reversing one, and the right one. Not yet numbered."""
    position: Position
    profit: Decimal = ZERO
    swap: Decimal = ZERO
    commission: Decimal = ZERO
    """Given back."""
    fee: Decimal = ZERO
    """Given back."""


def correct_deal(work: Work, command: CorrectDeal, asked: Asked) -> None:
    """Undo a deal, or give it another price. The answer's reference is the last deal that this made."""
    refused = late(work, command) or _check_people(command)
    case = None if refused else _case(work, command, asked.prior)
    outcome: Outcome | None = None
    if case is not None:
        refused = _check(work, command, case)
        if refused is None:
            outcome, refused = _outcome(work, command, case)
    if case is None or outcome is None:
        refuse(work, asked, refused or Refused(Refusal.DEAL_NOT_FOUND, "there is no such deal"))
        return
    use_key(work, asked, work.state.counters.deal + len(outcome.deals) - 1)
    made = [_make(work, command, deal, outcome.position.side.sign) for deal in outcome.deals]
    if outcome.position != case.position:
        event = PositionChanged if outcome.position.volume else PositionClosed
        work.emit(event(replace(outcome.position, updated_us=work.now_us)))
        work.state.books.set_position(work.state, outcome.position)  # a stop that trails counts from the open price
    _post(work, command, case, outcome)
    work.answer(command.reply_to, Answer(command_id=command.id, reference=made[-1].id))


# --- checks -------------------------------------------------------------------------------------------------------------


def _check_people(command: CorrectDeal) -> Refused | None:
    one, other = command.actor.strip(), command.approved_by.strip()
    if not one or not other or one == other:
        return Refused(Refusal.SECOND_PERSON_REQUIRED, "a deal is corrected by one person and approved by another")
    return None


def _case(work: Work, command: CorrectDeal, prior: Prior) -> Case | None:
    """Everything about the deal, spelled as the live engine spells it; None when there is no such deal."""
    found = next((deal for deal in prior.deals if deal.id == command.deal_id), None)
    if found is None or found.account not in work.state.accounts:
        return None
    account = work.account(found.account)
    position = work.state.positions.get(found.position_id) or prior.position
    if position is None:
        return None
    tidy = Tidy(work.config)
    tidy.account(account)
    deals = tuple(tidy.deal(deal) for deal in prior.deals)
    return Case(next(deal for deal in deals if deal.id == found.id), account, deals, tidy.position(position))


def _check(work: Work, command: CorrectDeal, case: Case) -> Refused | None:
    deal, position = case.deal, case.position
    instrument = work.config.instruments.get(deal.symbol)
    if instrument is None:
        return Refused(Refusal.UNKNOWN_SYMBOL, "the symbol is not offered any more")
    if command.price is not None:
        refused = check_price_grid(command.price, instrument)
        if refused is not None:
            return refused
        if command.price == deal.price:
            return Refused(Refusal.NO_CHANGES, "the deal has that price already")
    if deal.entry not in (DealEntry.IN, DealEntry.OUT) or _named(deal, REVERSE):
        return _no("only plain openings and closings can be corrected")
    if any(_named(other, REVERSE) == deal.id for other in case.deals):
        return _no("the deal was corrected already: correct the deal that took its place")
    if len(case.deals) > DEALS_MAX:
        return _no(f"the position has more than {DEALS_MAX} deals")
    if command.price is None and deal.book is Book.A:
        return _no("a provider stands behind the deal: it can have another price, but not be undone")
    if position.locked or any(leg.position_id == position.id for leg in work.state.legs.values()):
        return _no("the position is being closed")
    return _check_opening(work, case) if deal.entry is DealEntry.IN else _check_closing(work, command, case)


def _check_opening(work: Work, case: Case) -> Refused | None:
    deal, position = case.deal, case.position
    is_whole = position.volume == position.volume_opened == deal.volume
    if not is_whole or _was_split(work, case) or any(o.position_id == position.id for o in work.state.orders.values()):
        return _no("the position is not wholly open any more, or not from this deal alone")
    return None


def _check_closing(work: Work, command: CorrectDeal, case: Case) -> Refused | None:
    """A price can always be put right; undone is a closing only into units and a place that are still there. What an order
    that is being dealt in a netting account will leave is not known: it may open on the other side."""
    position = case.position
    if command.price is not None:
        return None
    busy = check_free(work, case.account.id, position.symbol)
    if busy is not None:
        return busy
    if _was_split(work, case):
        return _no("the symbol was split since")
    is_netting = work.group_of(case.account).margin.accounting is Accounting.NETTING
    held = work.state.holdings.get(case.account.id, {})
    if is_netting and position.id not in work.state.positions and position.symbol in held:
        return _no("the account holds another position in the symbol")
    return None


def _was_split(work: Work, case: Case) -> bool:
    return work.state.desk.split_us(case.deal.symbol) >= case.position.opened_us


def _no(detail: str) -> Refused:
    return Refused(Refusal.DEAL_NOT_CORRECTABLE, detail)


# --- what comes of it ---------------------------------------------------------------------------------------------------


def _outcome(work: Work, command: CorrectDeal, case: Case) -> tuple[Outcome | None, Refused | None]:
    if case.deal.entry is DealEntry.IN:
        if command.price is None:
            return _opening_undone(case), None
        return _opening_at(case, command.price), None
    if command.price is None:
        return _closing_undone(work, case)
    return _closing_at(work, case, command.price)


def _opening_undone(case: Case) -> Outcome:
    """As if it had never been: commission and fees come back, swaps that were not posted are forgotten."""
    deal = case.deal
    nothing = replace(
        case.position,
        volume_opened=ZERO,
        volume=ZERO,
        cost=ZERO,
        margin=ZERO,
        hedged=ZERO,
        unleveraged=ZERO,
        notional=ZERO,
        swap=ZERO,
    )
    return Outcome((_reversed(deal),), nothing, commission=deal.commission, fee=deal.fee)


def _opening_at(case: Case, price: Decimal) -> Outcome:
    """No money moves now: the result will be counted from the right price. The margin stays as it was taken."""
    deal = case.deal
    cost = round_half_up(price * deal.volume, COST_DIGITS)
    return Outcome((_reversed(deal), _replaced(deal, price, deal.profit)), replace(case.position, cost=cost))


def _closing_at(work: Work, case: Case, price: Decimal) -> tuple[Outcome | None, Refused | None]:
    """The difference in profit, converted half-way between bid and ask so that there and back is nothing."""
    deal = case.deal
    instrument, digits = work.instrument(deal.symbol), work.config.currency_digits
    closing = Closing(
        side=deal.side.opposite,
        volume=deal.volume,
        contract_size=instrument.contract_size,
        open_cost=deal.price * deal.volume,
        close_cost=price * deal.volume,
    )
    gross = gross_result(instrument.profit, closing, digits=digits[instrument.quote])
    currency = case.account.currency
    work.use_conversion(instrument.quote, currency)
    converted = Converter(work.config.conversions, work.state.quotes).convert(
        gross, instrument.quote, currency, rule=ConversionRule.MID, traded=Traded(side=closing.side)
    )
    if converted is None:
        return None, Refused(Refusal.NO_QUOTES, f"a price that converts the result to {currency} is missing")
    profit = round_half_up(converted, digits[currency])
    right = _replaced(deal, price, deal.profit + profit)
    return Outcome((_reversed(deal), right), case.position, profit=profit), None


def _closing_undone(work: Work, case: Case) -> tuple[Outcome | None, Refused | None]:
    """The position has again what the deal closed, at the cost that it had; what the closing posted is taken back."""
    deal, position = case.deal, case.position
    cost = closed_cost(case.deals, deal.id)
    exposure = position_charge(work, _order(work, deal, position), deal.volume, cost / deal.volume)
    if exposure is None:
        return None, Refused(Refusal.NO_QUOTES, f"a price that values the margin in {case.account.currency} is missing")
    reopened = replace(
        position,
        volume=position.volume + deal.volume,
        cost=position.cost + cost,
        margin=position.margin + exposure.margin,
        hedged=position.hedged + exposure.hedged,
        unleveraged=position.unleveraged + exposure.unleveraged,
        notional=position.notional + exposure.notional,
        swap=position.swap + deal.swap,
    )
    back = Outcome(
        (_reversed(deal),), reopened, profit=-deal.profit, swap=-deal.swap, commission=deal.commission, fee=deal.fee
    )
    return back, None


def closed_cost(deals: Iterable[Deal], deal_id: int) -> Decimal:
    """What the volume that this deal closed had cost: the position's deals played again up to it, rounded as they were."""
    volume = cost = ZERO
    closed: dict[int, Decimal] = {}
    for deal in deals:
        part = closed.get(_named(deal, REVERSE)) or closed.get(_named(deal, CORRECT))
        if part is None and (deal.entry.opens or _named(deal, REVERSE)):
            part = round_half_up(deal.price * deal.volume, COST_DIGITS)
        elif part is None:
            part = cost if deal.volume == volume else round_half_up(cost * deal.volume / volume, COST_DIGITS)
        if not deal.entry.opens:
            closed[deal.id] = part
        sign = 1 if deal.entry.opens else -1
        volume, cost = volume + sign * deal.volume, cost + sign * part
    return closed[deal_id]


def _named(deal: Deal, prefix: str) -> int:
    """The deal that this one takes back, or stands in for; 0 for none."""
    number = deal.exec_id.removeprefix(prefix)
    return int(number) if deal.exec_id.startswith(prefix) and number.isascii() and number.isdigit() else 0


def _reversed(deal: Deal) -> Deal:
    """The same the other way, with every amount taken back."""
    return replace(
        deal,
        side=deal.side.opposite,
        entry=DealEntry.OUT if deal.entry is DealEntry.IN else DealEntry.IN,
        profit=-deal.profit,
        commission=-deal.commission,
        swap=-deal.swap,
        fee=-deal.fee,
        exec_id=f"{REVERSE}{deal.id}",
    )


def _replaced(deal: Deal, price: Decimal, profit: Decimal) -> Deal:
    return replace(deal, price=price, profit=profit, exec_id=f"{CORRECT}{deal.id}")


# --- recording ----------------------------------------------------------------------------------------------------------


def _make(work: Work, command: CorrectDeal, deal: Deal, sign: int) -> Deal:
    """The deal under the next number, and the dealer's order that it hangs on."""
    number = work.state.counters.order
    made = replace(deal, id=work.state.counters.deal, order_id=number, at_us=work.now_us)
    work.emit(DealMade(made))
    from_a = deal.volume if deal.book is Book.A else ZERO
    order = Order(
        id=number,
        uuid=uuid_of(work.state.shard, number),
        account=deal.account,
        client_order_id=f"{deal.exec_id}/{number}",
        symbol=deal.symbol,
        side=deal.side,
        type=OrderType.MARKET,
        volume=deal.volume,
        status=OrderStatus.FILLED,
        created_us=work.now_us,
        updated_us=work.now_us,
        filled_volume=deal.volume,
        filled_cost=round_half_up(deal.price * deal.volume, COST_DIGITS),
        position_id=deal.position_id,
        closes=deal.side.sign != sign,
        comment=command.reason,
        book=deal.book,
        volume_a=from_a,
        filled_a=from_a,
        time_in_force=TimeInForce.IOC,
        reason=OrderReason.DEALER,
    )
    work.emit(OrderFilled(order))
    return made


def _order(work: Work, deal: Deal, position: Position) -> Order:
    """An opening of the position's side, for its margin only."""
    return Order(
        id=0,
        uuid="",
        account=deal.account,
        client_order_id="",
        symbol=deal.symbol,
        side=position.side,
        type=OrderType.MARKET,
        volume=deal.volume,
        status=OrderStatus.FILLED,
        created_us=work.now_us,
        updated_us=work.now_us,
    )


def _post(work: Work, command: CorrectDeal, case: Case, outcome: Outcome) -> None:
    """One transaction of corrections about the deal, between the accounts that its amounts once moved between."""
    account = work.account(case.account.id)
    lines = (
        (house_pnl(case.deal.book.value), outcome.profit),
        (HOUSE_SWAP, outcome.swap),
        (HOUSE_COMMISSION, outcome.commission),
        (HOUSE_FEES, outcome.fee),
    )
    moved = [(house, amount) for house, amount in lines if amount]
    if not moved:
        return
    client = client_account(account.id)
    transfers = tuple(
        moving(
            transaction_id=work.state.counters.transaction,
            line=line,
            kind=TransactionKind.CORRECTION,
            source=house,
            target=client,
            currency=account.currency,
            amount=amount,
            at_us=work.now_us,
            order_id=case.deal.order_id,
            deal_id=case.deal.id,
            position_id=case.deal.position_id,
            reference=command.reason,
        )
        for line, (house, amount) in enumerate(moved, start=1)
    )
    balance = account.balance + sum((amount for _, amount in moved), ZERO)
    work.emit(LedgerPosted(transfers, replace(account, balance=balance, version=account.version + 1)))
