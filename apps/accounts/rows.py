"""From the engine's row to the value that the pure rooms understand."""

import msgspec

from apps.accounts.models import Account
from trading import accounts


def account_value(row: Account) -> accounts.Account:
    return accounts.Account(
        id=row.id,
        group=row.group,
        currency=row.currency,
        leverage=row.leverage,
        client_class=accounts.ClientClass(row.client_class),
        rights=accounts.Rights(row.rights),
        balance=row.balance,
        credit=row.credit,
        version=row.version,
        seq=row.seq,
        jurisdiction=row.jurisdiction,
        stp_only=row.stp_only,
        alarm=row.alarm,
        commission_blocked=row.commission_blocked,
        day_trades=tuple(row.day_trades),
        turnover=msgspec.convert(row.turnover, tuple[accounts.DayTurnover, ...]),
    )
