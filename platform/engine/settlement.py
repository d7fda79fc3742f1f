"""The end of a business date for commission: what was blocked during it is taken, as one posting per account, rule and date.

It does not matter how late that happens, or how often it is asked for: a date is over when the business date has turned, and
a block that is posted is gone.
"""

from collections.abc import Iterator
from datetime import timedelta

from msgspec.structs import replace

from engine.costs import blocked_of, buckets_of
from engine.replies import Asked
from engine.work import Work
from trading.accounts import Account
from trading.answers import Answer
from trading.calendar import business_date
from trading.charges.commission import Bucket, CommissionTerms
from trading.commands import SettleCommission
from trading.desk import CommissionDay
from trading.events import AccountChanged, CommissionSettled, DeskChanged, LedgerPosted
from trading.ledger import HOUSE_COMMISSION, TransactionKind, Transfer, client_account, moving

SETTLE_MAX = 1000
"""Postings per command: nobody waits long behind it."""

GONE = CommissionTerms()
"""Of a rule that the account's group no longer has: nothing is known to be charged, so what it blocked is given back."""


def settle_commission(work: Work, command: SettleCommission, asked: Asked) -> None:
    """Post every date that is over, oldest first. The answer's reference is how many postings are left for the next time."""
    today = business_date(work.now_us)
    yesterday = (today - timedelta(days=1)).isoformat()
    left = 0
    if work.state.desk.settled < yesterday:
        over = list(_over(work, today.isoformat()))
        for account, rule, bucket in over[:SETTLE_MAX]:
            _settle(work, account, rule, bucket)
        left = len(over[SETTLE_MAX:])
        if not left:
            work.emit(DeskChanged(replace(work.state.desk, settled=yesterday)))
    work.answer(asked.command.reply_to, Answer(command_id=command.id, reference=left))


def _over(work: Work, today: str) -> Iterator[tuple[int, str, Bucket]]:
    """(account, rule, the day) of every date before `today`."""
    for number, rule in sorted(work.state.blocks):
        account = work.account(number)
        terms = {one.name: one.terms for one in work.group_of(account).commissions}
        for bucket in buckets_of(work, account, rule, terms.get(rule, GONE)):
            if bucket.date < today:
                yield number, rule, bucket


def _settle(work: Work, number: int, rule: str, bucket: Bucket) -> None:
    """Take the day's amount and free what was blocked for it."""
    transaction = work.state.counters.transaction if bucket.amount else 0
    seen = bucket.after
    day = CommissionDay(
        account=number,
        rule=rule,
        date=bucket.date,
        amount=bucket.amount,
        lots=seen.lots,
        money=seen.money,
        transaction_id=transaction,
    )
    work.emit(CommissionSettled(day))
    account = work.account(number)
    after = replace(
        account,
        balance=account.balance - bucket.amount,
        commission_blocked=blocked_of(work, account),
        version=account.version + 1,
    )
    work.emit(LedgerPosted((_transfer(work, account, day),), after) if bucket.amount else AccountChanged(after))


def _transfer(work: Work, account: Account, day: CommissionDay) -> Transfer:
    return moving(
        transaction_id=day.transaction_id,
        kind=TransactionKind.COMMISSION,
        source=client_account(account.id),
        target=HOUSE_COMMISSION,
        currency=account.currency,
        amount=day.amount,
        at_us=work.now_us,
        reference=f"{day.rule} {day.date}",
    )
