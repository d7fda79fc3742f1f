"""Money in and out of an account by command: deposits, withdrawals in two steps, adjustments, credit, bonus.

Each is one transfer in one transaction, whose number is the answer's reference. A withdrawal leaves the client's cash when it
is asked for and waits in an account of its own until it is paid or given back.
"""

from decimal import Decimal

from msgspec.structs import replace

from engine.orders import money_point
from engine.replies import Asked, late, refuse, use_key
from engine.work import Work
from engine.worth import worth_of
from trading.accounts import Account
from trading.answers import Answer
from trading.calendar import business_date
from trading.checks import Refused
from trading.commands import Adjust, Deposit, GrantBonus, GrantCredit, RequestWithdrawal, SettleWithdrawal
from trading.events import LedgerPosted
from trading.funds import settles, withdrawable
from trading.ledger import (
    BANK,
    HOUSE_ADJUSTMENTS,
    HOUSE_BONUS,
    TransactionKind,
    Transfer,
    client_account,
    credit_account,
    moved,
    moving,
    withdrawal_account,
)
from trading.numbers import is_plain, plain
from trading.refusals import Refusal
from trading.regulation import JurisdictionUnknown, rule_for

AMOUNT_LIMIT = Decimal(10) ** 12
"""No single movement reaches it; keeps every sum far inside the database's bounds."""


# --- in and out ---------------------------------------------------------------------------------------------------------


def deposit(work: Work, command: Deposit, asked: Asked) -> None:
    account = work.state.accounts.get(command.account)
    refused = late(work, command) or _check_amount(work, account, command.amount)
    if refused is not None or account is None:
        refuse(work, asked, refused or _NO_ACCOUNT)
        return
    _post(work, asked, account, TransactionKind.DEPOSIT, BANK, client_account(account.id), command.amount)


def request_withdrawal(work: Work, command: RequestWithdrawal, asked: Asked) -> None:
    """The money leaves the cash at once. The answer's reference names the request for its settlement."""
    account = work.state.accounts.get(command.account)
    refused = late(work, command) or _check_amount(work, account, command.amount)
    if refused is None and account is not None:
        refused = _check_withdrawable(work, account, command.amount)
    if refused is not None or account is None:
        refuse(work, asked, refused or _NO_ACCOUNT)
        return
    client, held = client_account(account.id), withdrawal_account(account.id)
    _post(work, asked, account, TransactionKind.WITHDRAWAL_REQUESTED, client, held, command.amount)


def settle_withdrawal(work: Work, command: SettleWithdrawal, asked: Asked) -> None:
    """Paid out, or given back: each request once. The account may be left out of the command."""
    request = work.state.withdrawals.get(command.transaction_id)
    owner = 0 if request is None else int(request.source.rpartition(":")[2])
    if request is None or command.account not in (0, owner):
        refuse(work, asked, Refused(Refusal.WITHDRAWAL_NOT_FOUND, "there is no such withdrawal that waits"))
        return
    refused = late(work, command)
    if refused is not None:
        refuse(work, asked, refused)
        return
    kind, target = TransactionKind.WITHDRAWAL_RETURNED, client_account(owner)
    if command.is_paid:
        kind, target = TransactionKind.WITHDRAWAL, BANK
    reference = settles(request.transaction_id, command.reference)
    _post(work, asked, work.account(owner), kind, request.target, target, request.amount, reference)


def _check_withdrawable(work: Work, account: Account, amount: Decimal) -> Refused | None:
    worth = worth_of(work, account)
    if worth is None:
        return Refused(Refusal.NO_QUOTES, f"a price that values the account in {account.currency} is missing")
    most = withdrawable(worth, work.state.margin_used(account.id), work.config.currency_digits[account.currency])
    if amount > most:
        return Refused(Refusal.FUNDS_NOT_WITHDRAWABLE, f"at most {plain(most)} {account.currency} can be withdrawn now")
    return None


# --- by staff -----------------------------------------------------------------------------------------------------------


def adjust(work: Work, command: Adjust, asked: Asked) -> None:
    account = work.state.accounts.get(command.account)
    refused = (
        late(work, command) or _check_amount(work, account, abs(command.amount)) or _check_adjustment(work, command)
    )
    if refused is not None or account is None:
        refuse(work, asked, refused or _NO_ACCOUNT)
        return
    client = client_account(account.id)
    _post(work, asked, account, TransactionKind.ADJUSTMENT, HOUSE_ADJUSTMENTS, client, command.amount)


def _check_adjustment(work: Work, command: Adjust) -> Refused | None:
    if not command.reference.strip():
        return Refused(Refusal.INVALID_REQUEST, "an adjustment needs a reference that says why")
    if command.amount < 0 and work.account(command.account).balance + command.amount < 0:
        return Refused(Refusal.INVALID_AMOUNT, "an adjustment takes at most the balance")
    return None


def grant_credit(work: Work, command: GrantCredit, asked: Asked) -> None:
    account = work.state.accounts.get(command.account)
    refused = late(work, command) or _check_amount(work, account, abs(command.amount))
    if refused is None and account is not None:
        is_given = command.amount > 0
        refused = check_bonus(work, account) if is_given else _check_credit_left(account, -command.amount)
    if refused is not None or account is None:
        refuse(work, asked, refused or _NO_ACCOUNT)
        return
    kind = TransactionKind.CREDIT if command.amount > 0 else TransactionKind.CREDIT_REMOVED
    _post(work, asked, account, kind, HOUSE_BONUS, credit_account(account.id), command.amount)


def grant_bonus(work: Work, command: GrantBonus, asked: Asked) -> None:
    account = work.state.accounts.get(command.account)
    refused = late(work, command) or _check_amount(work, account, command.amount)
    if refused is None and account is not None:
        refused = check_bonus(work, account)
    if refused is not None or account is None:
        refuse(work, asked, refused or _NO_ACCOUNT)
        return
    _post(work, asked, account, TransactionKind.BONUS, HOUSE_BONUS, client_account(account.id), command.amount)


def check_bonus(work: Work, account: Account) -> Refused | None:
    """Whether the client's regime lets a broker give presents. A regime that no rule speaks about lets nothing."""
    today = business_date(work.now_us)
    try:
        rule = rule_for(account.jurisdiction, account.client_class, today, work.config.regulation)
    except JurisdictionUnknown:
        return Refused(Refusal.BONUS_BANNED, f"no rule is known for jurisdiction {account.jurisdiction}")
    if rule is not None and rule.bonus_banned:
        return Refused(Refusal.BONUS_BANNED, f"{rule.name} bans bonus and credit")
    return None


def _check_credit_left(account: Account, amount: Decimal) -> Refused | None:
    if amount > account.credit:
        return Refused(Refusal.INVALID_AMOUNT, f"there is {plain(account.credit)} {account.currency} of credit to take")
    return None


# --- common -------------------------------------------------------------------------------------------------------------

_NO_ACCOUNT = Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account")


def _check_amount(work: Work, account: Account | None, amount: Decimal) -> Refused | None:
    if account is None:
        return _NO_ACCOUNT
    if not is_plain(amount) or amount <= 0 or amount % money_point(work, account) != 0:
        return Refused(
            Refusal.INVALID_AMOUNT, f"the amount must be positive, in whole minor units of {account.currency}"
        )
    if amount >= AMOUNT_LIMIT:
        return Refused(Refusal.INVALID_AMOUNT, f"one movement is below {plain(AMOUNT_LIMIT)}")
    return None


def _post(
    work: Work,
    asked: Asked,
    account: Account,
    kind: TransactionKind,
    source: str,
    target: str,
    amount: Decimal,
    reference: str | None = None,
) -> None:
    """One transfer, the account after it, and the answer. A negative amount goes the other way."""
    transfer = moving(
        transaction_id=work.state.counters.transaction,
        kind=kind,
        source=source,
        target=target,
        currency=account.currency,
        amount=amount.quantize(money_point(work, account)),
        at_us=work.now_us,
        reference=getattr(asked.command, "reference", "") if reference is None else reference,
    )
    use_key(work, asked, transfer.transaction_id)
    work.emit(LedgerPosted((transfer,), account_after(account, transfer)))
    work.answer(asked.command.reply_to, Answer(command_id=asked.command.id, reference=transfer.transaction_id))


def account_after(account: Account, transfer: Transfer) -> Account:
    """The account once the transfer moved its cash or its credit."""
    cash, credit = client_account(account.id), credit_account(account.id)
    return replace(
        account,
        balance=account.balance + moved(transfer, cash),
        credit=account.credit + moved(transfer, credit),
        version=account.version + 1,
    )
