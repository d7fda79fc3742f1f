"""What a client's or the staff's command does: check in the promised order, then act, and nothing fails after the last check.

Provider reports have their own page (`executions`), fills theirs (`fills`). Nothing here reads a clock or makes an id that
does not come from the shard's counters, so the same state and commands give the same events, byte for byte.
"""

import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from bbook.dealing import HouseFill
from bbook.dealing import fill as deal_with_house
from engine.executions import apply_execution
from engine.fills import Fill, book_fill, commission, opening_margin
from engine.routes import routing_facts, send_leg
from engine.state import KeyRecord, Prior, Waiter
from engine.work import Work
from routing.close import close_decision
from routing.engine import route
from trading.accounts import Account
from trading.answers import Answer
from trading.checks import Refused, check_closing, check_opening
from trading.commands import (
    AnyCommand,
    ApplyExecution,
    ChangeAccount,
    ClosePosition,
    Command,
    Deposit,
    OpenAccount,
    PlaceOrder,
    ReloadConfig,
    body,
)
from trading.configuration import Group
from trading.decisions import Decision
from trading.events import (
    AccountChanged,
    AccountOpened,
    CommandKeyed,
    ConfigLoaded,
    LedgerPosted,
    OrderAccepted,
    OrderFilled,
    OrderRejected,
    OrderRouted,
    PositionChanged,
)
from trading.ledger import BANK, TransactionKind, Transfer, client_account
from trading.margin import unrealised
from trading.numbers import ONE, ZERO, is_plain, plain, point
from trading.orders import Book, Order, OrderStatus, OrderType
from trading.positions import Position
from trading.pricing import client_price, client_quote, raw_price
from trading.quotes import Quote
from trading.refusals import Refusal

LEVERAGE_MAX = 1000


def decide(work: Work, command: AnyCommand, prior: Prior) -> None:
    """Carry out one command on the work bench. Provider reports are not keyed; everything else is, per account, for ever."""
    if isinstance(command, ApplyExecution):
        apply_execution(work, command, prior.leg)
        return
    body_hash = hash_body(command)
    known = work.state.keys.get((command.account, command.key)) or prior.key
    if known is not None:
        _answer_again(work, command, known, body_hash)
        return
    _HANDLERS[type(command)](work, command, body_hash)


def hash_body(command: Command) -> str:
    """A short hash of what was asked for: equal for a repetition, different for another request under the same key."""
    return hashlib.blake2b("\x1f".join(body(command)).encode(), digest_size=16).hexdigest()


def _answer_again(work: Work, command: Command, known: KeyRecord, body_hash: str) -> None:
    """Same key and same body: the first answer again. Same key, other body: refused, and nothing is done."""
    if known.body_hash == body_hash:
        answer = Answer(command_id=command.id, refusal=known.refusal, reference=known.reference, replayed=True)
    else:
        answer = Answer(command_id=command.id, refusal=Refusal.CLIENT_ORDER_ID_REUSED, reference=known.reference)
    work.answer(command.reply_to, answer)


def _key(work: Work, command: Command, body_hash: str, reference: int, refusal: str = "") -> None:
    kind = type(command).__name__
    work.emit(CommandKeyed(command.account, command.key, body_hash, kind, reference, refusal))


def _refuse(work: Work, command: Command, refused: Refused) -> None:
    """A refusal that leaves no trace but its answer: there is nothing to hang it on."""
    work.answer(command.reply_to, Answer(command_id=command.id, refusal=refused.code, detail=refused.detail))


def _late(work: Work, command: Command) -> Refused | None:
    if command.valid_until_us and work.now_us > command.valid_until_us:
        return Refused(Refusal.COMMAND_EXPIRED, "the request waited too long before it could be dealt")
    return None


# --- Opening a position -------------------------------------------------------------------------------------------------


def _place_order(work: Work, command: PlaceOrder, body_hash: str) -> None:
    account = work.state.accounts.get(command.account)
    if account is None:
        _refuse(work, command, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    instrument = work.config.instruments.get(command.symbol)
    quote = work.quote(command.symbol)
    order = _new_order(work, command, command.symbol, command.side, command.volume)
    refused = _late(work, command) or check_opening(
        account=account, instrument=instrument, volume=command.volume, quote=quote, now_us=work.now_us
    )
    if refused is not None:
        _reject(work, command, body_hash, order, refused)
        return
    assert instrument is not None
    assert quote is not None
    order = replace(order, volume=_on_grid(order.volume, instrument.volume_step))
    price = client_price(raw_price(quote, order.side), order.side, work.group_of(account), instrument)
    margin = opening_margin(work, order, order.volume, price)
    refused = _check_margin(work, account, order, margin)
    if refused is not None:
        _reject(work, command, body_hash, order, refused)
        return
    assert margin is not None
    decision = route(routing_facts(work, order, quote), work.config.policy)
    if decision.lacks_provider:
        refused = Refused(Refusal.NO_CONNECTION, "no liquidity provider can take the order now")
        _reject(work, command, body_hash, order, refused, decision)
        return
    order = replace(order, book=decision.book, volume_a=decision.volume_a, margin_reserved=margin)
    _key(work, command, body_hash, order.id)
    _carry_out(work, command, order, decision, quote)


def _new_order(work: Work, command: PlaceOrder | ClosePosition, symbol: str, side: Any, volume: Decimal) -> Order:
    return Order(
        id=work.state.counters.order,
        uuid=command.id,
        account=command.account,
        client_order_id=command.key,
        symbol=symbol,
        side=side,
        type=OrderType.MARKET,
        volume=_storable(volume),
        status=OrderStatus.PENDING_NEW,
        created_us=work.now_us,
        updated_us=work.now_us,
        comment=command.comment,
    )


def _storable(volume: Decimal) -> Decimal:
    """The volume as asked for where the record can hold it: nonsense is refused, and kept as zero."""
    return volume if is_plain(volume) and 0 <= volume < VOLUME_LIMIT else ZERO


def _on_grid(volume: Decimal, step: Decimal) -> Decimal:
    """The same volume written with the step's decimals: one spelling per value, wherever it came from."""
    return volume.quantize(step)


def _check_margin(work: Work, account: Account, order: Order, margin: Decimal | None) -> Refused | None:
    """Free margin after the whole order, at the price it would get: equity less commission less all margin, not below zero."""
    equity = equity_of(work, account)
    result = work.convert(ONE, work.instrument(order.symbol).quote, account.currency)
    if margin is None or equity is None or result is None:
        return Refused(Refusal.NO_QUOTES, f"a price that values the account in {account.currency} is missing")
    holding = work.state.holdings.get(account.id, {}).get(order.symbol)
    used = work.state.margin_used(account.id)
    after = used + (margin if holding is None else holding.margin_with(order.side, margin) - holding.margin)
    free = equity - commission(work, account.id, order.volume) - after
    if free < 0:
        need, have = plain(after - used), plain((equity - used).quantize(_money_point(work, account)))
        return Refused(
            Refusal.INSUFFICIENT_MARGIN, f"the order needs {need} {account.currency} of margin, free is {have}"
        )
    return None


def _money_point(work: Work, account: Account) -> Decimal:
    return point(work.config.currency_digits[account.currency])


def equity_of(work: Work, account: Account) -> Decimal | None:
    """Balance and credit and what is unrealised, in the account's currency; None when a needed price was never seen."""
    equity = account.balance + account.credit
    group = work.group_of(account)
    for symbol, holding in work.state.holdings.get(account.id, {}).items():
        instrument = work.instrument(symbol)
        quote = work.quote(symbol)
        if quote is None:
            return None
        seen = client_quote(quote, group, instrument)
        profit = work.convert(unrealised(holding, seen, instrument.contract_size), instrument.quote, account.currency)
        if profit is None:
            return None
        equity += profit
    return equity


def _carry_out(work: Work, command: Command, order: Order, decision: Decision, quote: Quote) -> None:
    """Deal with the house at once, or hand the A part to its provider and wait."""
    work.emit(OrderRouted(order.id, decision))
    if order.volume_a:
        work.emit(OrderAccepted(order))
        if order.closes:
            position = work.state.positions[order.position_id]
            work.emit(PositionChanged(replace(position, locked=position.locked + order.volume, updated_us=work.now_us)))
        send_leg(work, order, decision.lp)
        _await_final(work, command, order.id)
        return
    filled = book_fill(work, order, _house_fill(work, order, quote))
    filled = replace(filled, status=OrderStatus.FILLED, margin_reserved=ZERO)
    work.emit(OrderFilled(filled))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=order.id, order=filled))


def _house_fill(work: Work, order: Order, quote: Quote) -> Fill:
    dealt = deal_with_house(
        quote=quote,
        side=order.side,
        group=work.group_of(work.account(order.account)),
        instrument=work.instrument(order.symbol),
        now_us=work.now_us,
    )
    assert isinstance(dealt, HouseFill), "the price was checked before"
    return Fill(book=Book.B, volume=order.volume, price=dealt.price)


def _await_final(work: Work, command: Command, order_id: int) -> None:
    order = work.state.orders[order_id]
    work.answer(command.reply_to, Answer(command_id=command.id, reference=order_id, order=order, final=False))
    if command.reply_to:
        work.state.waiters[order_id] = Waiter(command.reply_to, command.id)


def _reject(
    work: Work, command: Command, body_hash: str, order: Order, refused: Refused, decision: Decision | None = None
) -> None:
    """The refused order is kept: history is complete, and a repetition gets the same answer."""
    rejected = replace(order, status=OrderStatus.REJECTED, refusal=refused.code.value, detail=refused.detail)
    _key(work, command, body_hash, order.id, refused.code.value)
    if decision is not None:
        work.emit(OrderRouted(order.id, decision))
    work.emit(OrderRejected(rejected))
    answer = Answer(
        command_id=command.id, refusal=refused.code, detail=refused.detail, reference=order.id, order=rejected
    )
    work.answer(command.reply_to, answer)


# --- Closing a position -------------------------------------------------------------------------------------------------


def _close_position(work: Work, command: ClosePosition, body_hash: str) -> None:
    if command.account not in work.state.accounts:
        _refuse(work, command, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    position = work.state.positions.get(command.position_id)
    if position is None or position.account != command.account:
        _refuse(work, command, Refused(Refusal.POSITION_CLOSED, "the account has no such open position"))
        return
    volume = position.volume if command.volume is None else command.volume
    instrument = work.config.instruments.get(position.symbol)
    quote = work.quote(position.symbol)
    order = _new_order(work, command, position.symbol, position.side.opposite, volume)
    order = replace(order, closes=True, position_id=position.id)
    refused = (
        _late(work, command)
        or check_closing(
            position=position,
            account=command.account,
            instrument=instrument,
            volume=volume,
            quote=quote,
            now_us=work.now_us,
        )
        or _check_conversion(work, position)
    )
    if refused is not None:
        _reject(work, command, body_hash, order, refused)
        return
    assert instrument is not None
    assert quote is not None
    order = replace(order, volume=_on_grid(volume, instrument.volume_step))
    decision = close_decision(
        routing_facts(work, order, quote),
        position,
        policy_version=work.config.policy.version,
        locked_a=_locked_at_provider(work, position),
    )
    if decision.lp and not decision.candidates[0].eligible:
        refused = Refused(Refusal.NO_CONNECTION, "the provider that holds the position cannot be reached now")
        _reject(work, command, body_hash, order, refused, decision)
        return
    order = replace(order, book=decision.book, volume_a=decision.volume_a)
    _key(work, command, body_hash, order.id)
    _carry_out(work, command, order, decision, quote)


def _locked_at_provider(work: Work, position: Position) -> Decimal:
    """The provider's part of the closes in flight."""
    if not position.locked:
        return ZERO
    closes = (o for o in work.state.orders.values() if o.closes and o.position_id == position.id)
    return sum((order.volume_a - order.filled_a for order in closes), ZERO)


def _check_conversion(work: Work, position: Position) -> Refused | None:
    account = work.account(position.account)
    if work.convert(ONE, work.instrument(position.symbol).quote, account.currency) is None:
        return Refused(Refusal.NO_QUOTES, f"a price that converts the result to {account.currency} is missing")
    return None


# --- Accounts, money, configuration -------------------------------------------------------------------------------------


def _open_account(work: Work, command: OpenAccount, body_hash: str) -> None:
    refused = _check_new_account(work, command)
    if refused is not None:
        _refuse(work, command, refused)
        return
    account = Account(
        id=command.account,
        group=command.group,
        currency=command.currency,
        leverage=command.leverage,
        client_class=command.client_class,
    )
    _key(work, command, body_hash, command.account)
    work.emit(AccountOpened(account))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=command.account))


def _check_new_account(work: Work, command: OpenAccount) -> Refused | None:
    if command.account <= 0:
        return Refused(Refusal.INVALID_REQUEST, "an account number is positive")
    if command.account in work.state.accounts:
        return Refused(Refusal.ACCOUNT_EXISTS, "the account number is taken")
    if command.currency not in work.config.currency_digits:
        return Refused(Refusal.UNKNOWN_CURRENCY, "the currency is not offered")
    return _check_terms(work.config.groups.get(command.group), command.leverage)


def _check_terms(group: Group | None, leverage: int) -> Refused | None:
    if group is None:
        return Refused(Refusal.UNKNOWN_GROUP, "there is no such group")
    if not 1 <= leverage <= LEVERAGE_MAX:
        return Refused(Refusal.INVALID_REQUEST, f"leverage lies between 1 and {LEVERAGE_MAX}")
    return None


def _change_account(work: Work, command: ChangeAccount, body_hash: str) -> None:
    account = work.state.accounts.get(command.account)
    if account is None:
        _refuse(work, command, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    group = account.group if command.group is None else command.group
    leverage = account.leverage if command.leverage is None else command.leverage
    refused = _check_terms(work.config.groups.get(group), leverage)
    if refused is not None:
        _refuse(work, command, refused)
        return
    changed = replace(
        account,
        group=group,
        leverage=leverage,
        rights=account.rights if command.rights is None else command.rights,
        client_class=account.client_class if command.client_class is None else command.client_class,
        version=account.version + 1,
    )
    _key(work, command, body_hash, account.id)
    work.emit(AccountChanged(changed))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=account.id))


def _deposit(work: Work, command: Deposit, body_hash: str) -> None:
    account = work.state.accounts.get(command.account)
    if account is None:
        _refuse(work, command, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    refused = _late(work, command) or _check_amount(work, account, command.amount)
    if refused is not None:
        _refuse(work, command, refused)
        return
    amount = command.amount.quantize(_money_point(work, account))
    transfer = Transfer(
        transaction_id=work.state.counters.transaction,
        line=1,
        kind=TransactionKind.DEPOSIT,
        source=BANK,
        target=client_account(account.id),
        currency=account.currency,
        amount=amount,
        at_us=work.now_us,
        reference=command.reference,
    )
    _key(work, command, body_hash, transfer.transaction_id)
    work.emit(
        LedgerPosted((transfer,), replace(account, balance=account.balance + amount, version=account.version + 1))
    )
    work.answer(command.reply_to, Answer(command_id=command.id, reference=transfer.transaction_id))


def _check_amount(work: Work, account: Account, amount: Decimal) -> Refused | None:
    if not is_plain(amount) or amount <= 0 or amount % _money_point(work, account) != 0:
        return Refused(
            Refusal.INVALID_AMOUNT, f"the amount must be positive, in whole minor units of {account.currency}"
        )
    if amount >= AMOUNT_LIMIT:
        return Refused(Refusal.INVALID_AMOUNT, f"one movement is below {plain(AMOUNT_LIMIT)}")
    return None


VOLUME_LIMIT = Decimal(10) ** 12
"""Lots that a stored order may name."""
AMOUNT_LIMIT = Decimal(10) ** 12
"""No single deposit reaches it; keeps every sum far inside the database's bounds."""


def _reload_config(work: Work, command: ReloadConfig, body_hash: str) -> None:
    assert command.config is not None, "the loop fills in the document"
    assert command.config.version == command.version
    work.state.config = work.config = command.config
    _key(work, command, body_hash, command.version)
    work.emit(ConfigLoaded(command.version))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=command.version))


_HANDLERS: dict[type[Command], Callable[[Work, Any, str], None]] = {
    PlaceOrder: _place_order,
    ClosePosition: _close_position,
    OpenAccount: _open_account,
    ChangeAccount: _change_account,
    Deposit: _deposit,
    ReloadConfig: _reload_config,
}
