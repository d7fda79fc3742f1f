"""What a command does: its key first, then its handler. Accounts and configuration are handled here; orders, closes, money
and provider reports have pages of their own.

Nothing here reads a clock or makes an id that does not come from the shard's counters, so the same state and commands give
the same events, byte for byte.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from engine.breakers import judge_provider
from engine.closeby import close_by
from engine.closes import close_position, modify_protection
from engine.corporate import expire_instrument, pay_dividend, split_instrument
from engine.corrections import correct_deal
from engine.executions import apply_execution
from engine.funds import adjust, deposit, grant_bonus, grant_credit, request_withdrawal, settle_withdrawal
from engine.gates import check_messages
from engine.market import on_quote
from engine.massclose import close_positions
from engine.netting import check_accounting
from engine.orders import cancel_all, cancel_order, expire_orders, modify_order, place_order
from engine.replies import Asked, refuse, use_key
from engine.reversals import reverse_position
from engine.rollover import roll_over
from engine.settlement import settle_commission
from engine.settling import lift_halt, settle_leg
from engine.state import KeyRecord, Prior
from engine.switches import note_disk_space, set_switch
from engine.work import Work
from trading.accounts import Account
from trading.answers import Answer
from trading.checks import Refused
from trading.commands import (
    Adjust,
    AnyCommand,
    ApplyExecution,
    CancelAll,
    CancelOrder,
    ChangeAccount,
    CloseBy,
    ClosePosition,
    ClosePositions,
    Command,
    CorrectDeal,
    Deposit,
    ExpireInstrument,
    ExpireOrders,
    GrantBonus,
    GrantCredit,
    LiftHalt,
    ModifyOrder,
    ModifyProtection,
    NoteDiskSpace,
    OpenAccount,
    PayDividend,
    PlaceOrder,
    QuoteArrived,
    ReloadConfig,
    RequestWithdrawal,
    ReversePosition,
    RollOver,
    SetSwitch,
    SettleCommission,
    SettleLeg,
    SettleWithdrawal,
    SplitInstrument,
    body,
)
from trading.configuration import Config, Group
from trading.events import AccountChanged, AccountOpened, ConfigLoaded
from trading.refusals import Refusal

LEVERAGE_MAX = 1000


def decide(work: Work, command: AnyCommand, prior: Prior) -> None:
    """Carry out one command on the work bench. Prices and provider reports are not keyed; everything else is, for ever."""
    if isinstance(command, ApplyExecution):
        leg = work.state.legs.get(command.report.cl_ord_id)
        apply_execution(work, command, prior)
        judge_provider(work, leg)
        return
    if isinstance(command, QuoteArrived):
        on_quote(work, command.quote, command.accounts)
        return
    asked = Asked(command, hash_body(command), prior)
    known = work.state.keys.get((command.account, command.key)) or prior.key
    if known is not None:
        _answer_again(work, asked, known)
        return
    refused = check_messages(work, command)
    if refused is not None:
        refuse(work, asked, refused)
        return
    _HANDLERS[type(command)](work, command, asked)


def hash_body(command: Command) -> str:
    """A short hash of what was asked for: equal for a repetition, different for another request under the same key."""
    return hashlib.blake2b("\x1f".join(body(command)).encode(), digest_size=16).hexdigest()


def _answer_again(work: Work, asked: Asked, known: KeyRecord) -> None:
    """Same key and same body: the first answer again. Same key, other body: refused, and nothing is done."""
    command = asked.command
    if known.body_hash == asked.body_hash:
        answer = Answer(command_id=command.id, refusal=known.refusal, reference=known.reference, replayed=True)
    else:
        answer = Answer(command_id=command.id, refusal=Refusal.CLIENT_ORDER_ID_REUSED, reference=known.reference)
    work.answer(command.reply_to, answer)


# --- Accounts, configuration --------------------------------------------------------------------------------------------


def _open_account(work: Work, command: OpenAccount, asked: Asked) -> None:
    refused = _check_new_account(work, command)
    if refused is not None:
        refuse(work, asked, refused)
        return
    account = Account(
        id=command.account,
        group=command.group,
        currency=command.currency,
        leverage=command.leverage,
        client_class=command.client_class,
        jurisdiction=command.jurisdiction,
        stp_only=command.stp_only,
    )
    use_key(work, asked, command.account)
    work.emit(AccountOpened(account))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=command.account))


def _check_new_account(work: Work, command: OpenAccount) -> Refused | None:
    if command.account <= 0:
        return Refused(Refusal.INVALID_REQUEST, "an account number is positive")
    if command.account in work.state.accounts:
        return Refused(Refusal.ACCOUNT_EXISTS, "the account number is taken")
    if command.currency not in work.config.currency_digits:
        return Refused(Refusal.UNKNOWN_CURRENCY, "the currency is not offered")
    return _check_terms(work.config.groups.get(command.group), command.leverage) or _check_jurisdiction(
        work, command.jurisdiction
    )


def _check_terms(group: Group | None, leverage: int) -> Refused | None:
    if group is None:
        return Refused(Refusal.UNKNOWN_GROUP, "there is no such group")
    if not 1 <= leverage <= LEVERAGE_MAX:
        return Refused(Refusal.INVALID_REQUEST, f"leverage lies between 1 and {LEVERAGE_MAX}")
    return None


def _check_jurisdiction(work: Work, jurisdiction: str) -> Refused | None:
    """Nobody loses protection by a typing error."""
    known = {rule.jurisdiction for rule in work.config.regulation}
    if jurisdiction and jurisdiction not in known:
        return Refused(Refusal.INVALID_REQUEST, f"no rules are known for jurisdiction {jurisdiction!r}")
    return None


def _change_account(work: Work, command: ChangeAccount, asked: Asked) -> None:
    account = work.state.accounts.get(command.account)
    if account is None:
        refuse(work, asked, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    group = account.group if command.group is None else command.group
    leverage = account.leverage if command.leverage is None else command.leverage
    jurisdiction = account.jurisdiction if command.jurisdiction is None else command.jurisdiction
    groups = work.config.groups
    refused = (
        _check_terms(groups.get(group), leverage)
        or _check_jurisdiction(work, jurisdiction)
        or check_accounting(work, account, groups.get(account.group), groups.get(group))
    )
    if refused is not None:
        refuse(work, asked, refused)
        return
    changed = replace(
        account,
        group=group,
        leverage=leverage,
        rights=account.rights if command.rights is None else command.rights,
        client_class=account.client_class if command.client_class is None else command.client_class,
        jurisdiction=jurisdiction,
        stp_only=account.stp_only if command.stp_only is None else command.stp_only,
        version=account.version + 1,
    )
    use_key(work, asked, account.id)
    work.emit(AccountChanged(changed))
    if changed.group != account.group:
        work.state.books.renew(work.state)
    work.answer(command.reply_to, Answer(command_id=command.id, reference=account.id))


def _reload_config(work: Work, command: ReloadConfig, asked: Asked) -> None:
    assert command.config is not None, "the loop fills in the document"
    assert command.config.version == command.version
    refused = _check_groups(work, command.config)
    if refused is not None:
        refuse(work, asked, refused)
        return
    work.config = command.config
    work.state.use_config(command.config)
    use_key(work, asked, command.version)
    work.emit(ConfigLoaded(command.version))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=command.version))


def _check_groups(work: Work, config: Config) -> Refused | None:
    """A group whose accounts hold positions keeps its accounting."""
    before = work.state.config.groups if work.state.config else {}
    changed = {
        name
        for name, group in config.groups.items()
        if name in before and before[name].margin.accounting is not group.margin.accounting
    }
    for account in work.state.accounts.values() if changed else ():
        name = account.group
        refused = (
            check_accounting(work, account, before.get(name), config.groups.get(name)) if name in changed else None
        )
        if refused is not None:
            return refused
    return None


_HANDLERS: dict[type[Command], Callable[[Work, Any, Asked], None]] = {
    PlaceOrder: place_order,
    ModifyOrder: modify_order,
    CancelOrder: cancel_order,
    CancelAll: cancel_all,
    ExpireOrders: expire_orders,
    ClosePosition: close_position,
    CloseBy: close_by,
    ClosePositions: close_positions,
    ReversePosition: reverse_position,
    ModifyProtection: modify_protection,
    OpenAccount: _open_account,
    ChangeAccount: _change_account,
    Deposit: deposit,
    RequestWithdrawal: request_withdrawal,
    SettleWithdrawal: settle_withdrawal,
    Adjust: adjust,
    GrantCredit: grant_credit,
    GrantBonus: grant_bonus,
    SetSwitch: set_switch,
    NoteDiskSpace: note_disk_space,
    CorrectDeal: correct_deal,
    SettleLeg: settle_leg,
    LiftHalt: lift_halt,
    PayDividend: pay_dividend,
    SplitInstrument: split_instrument,
    ExpireInstrument: expire_instrument,
    ReloadConfig: _reload_config,
    RollOver: roll_over,
    SettleCommission: settle_commission,
}
