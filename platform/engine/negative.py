"""Negative balance protection: a client who is owed it never owes the house after a loss.

It pays once an account is flat and nothing of it is in flight, whatever led there: a stop-out, a stop loss over a gap, the
client's own close. Credit covers the loss first, as far as it goes, and is taken by an entry of its own.
"""

from collections.abc import Iterator
from decimal import Decimal

from engine.funds import account_after
from engine.standing import law_for
from engine.work import Work
from trading.accounts import Account, ClientClass
from trading.desk import MarginNote, MarginNoteKind
from trading.events import Event, LedgerPosted, MarginNoted
from trading.ledger import (
    HOUSE_BONUS,
    HOUSE_NEGATIVE_BALANCE,
    TransactionKind,
    Transfer,
    client_account,
    credit_account,
)
from trading.numbers import ZERO, plain


def cover_negative(work: Work) -> None:
    """Bring every account that the command touched, and that is owed it, back up to zero."""
    for number in sorted(set(_touched(work.events)) & work.state.negative):
        account = work.account(number)
        if _is_flat(work, number) and _is_protected(work, account):
            _cover(work, account)


def _touched(events: list[Event]) -> Iterator[int]:
    for event in events:
        for name in ("order", "position", "leg"):
            about = getattr(event, name, None)
            if about is not None:
                yield about.account
        account = getattr(event, "account", None)
        if isinstance(account, Account):
            yield account.id


def _is_flat(work: Work, number: int) -> bool:
    """No position, no order that waits or is being dealt, no leg that a provider has not answered."""
    state = work.state
    portfolio = state.portfolios.get(number)
    is_empty = portfolio is None or portfolio.is_empty
    return is_empty and all(leg.account != number for leg in state.legs.values())


def _is_protected(work: Work, account: Account) -> bool:
    if account.client_class is ClientClass.RETAIL or work.group_of(account).negative_balance_protection:
        return True
    law = law_for(work, account)
    return law is not None and law.negative_balance_protection


def _cover(work: Work, account: Account) -> None:
    owed = -account.balance
    credit = min(account.credit, owed)
    if credit > 0:
        _post(work, account, TransactionKind.CREDIT_REMOVED, credit)
    _post(work, work.account(account.id), TransactionKind.NEGATIVE_BALANCE, owed)
    note = MarginNote(
        id=work.state.counters.note,
        account=account.id,
        kind=MarginNoteKind.NEGATIVE_BALANCE,
        rule="negative balance protection",
        equity=account.balance + account.credit,
        margin=ZERO,
        level=None,
        at_us=work.now_us,
        detail=f"{plain(owed)} {account.currency} were owed; credit of {plain(max(credit, ZERO))} was taken first",
    )
    work.emit(MarginNoted(note))


def _post(work: Work, account: Account, kind: TransactionKind, amount: Decimal) -> None:
    takes_credit = kind is TransactionKind.CREDIT_REMOVED
    source, target = (
        (credit_account(account.id), HOUSE_BONUS)
        if takes_credit
        else (HOUSE_NEGATIVE_BALANCE, client_account(account.id))
    )
    transfer = Transfer(
        transaction_id=work.state.counters.transaction,
        line=1,
        kind=kind,
        source=source,
        target=target,
        currency=account.currency,
        amount=amount,
        at_us=work.now_us,
    )
    work.emit(LedgerPosted((transfer,), account_after(account, transfer)))
