"""Reversing a position: one order of twice its free volume the other way, whose first half closes it.

Everything is checked before anything is dealt: the close as a close, the opening as an opening, and the margin of the whole
intent, with the old position gone and the new one there. The new position has a ticket of its own and no protection.
"""

from decimal import Decimal

from msgspec.structs import replace

from engine.closes import closing_order
from engine.following import check_conversion
from engine.gates import check_gates
from engine.netting import check_free, is_netting
from engine.orders import deal_reversal
from engine.replies import Asked, late, refuse, reject
from engine.work import Work
from trading.accounts import Account
from trading.checks import Refused, check_closing, check_opening
from trading.commands import ReversePosition
from trading.instruments import Instrument
from trading.orders import Order
from trading.positions import Position
from trading.pricing import client_quote
from trading.quotes import Quote
from trading.refusals import Refusal


def reverse_position(work: Work, command: ReversePosition, asked: Asked) -> None:
    account = work.state.accounts.get(command.account)
    if account is None:
        refuse(work, asked, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    position = work.state.positions.get(command.position_id)
    if position is None or position.account != command.account:
        refuse(work, asked, Refused(Refusal.POSITION_CLOSED, "the account has no such open position"))
        return
    instrument, quote = work.state.terms.of(account.group, position.symbol), work.quote(position.symbol)
    closing = position.volume - position.locked or position.volume
    order = _reversal(work, command, position, closing)
    refused = late(work, command) or _check(work, account, instrument, position, closing, quote)
    if refused is None and instrument is not None and quote is not None:
        refused = check_gates(work, account, order, client_quote(quote, work.group_of(account), instrument))
    if refused is not None or quote is None:
        reject(work, asked, order, refused or Refused(Refusal.NO_QUOTES, "no price yet"))
        return
    deal_reversal(work, asked, account, order, quote)


def _reversal(work: Work, command: ReversePosition, position: Position, closing: Decimal) -> Order:
    return replace(
        closing_order(work, position, 2 * closing),
        uuid=command.id,
        client_order_id=command.key,
        comment=command.comment,
        closes=False,
        netted=closing,
    )


def _check(
    work: Work,
    account: Account,
    instrument: Instrument | None,
    position: Position,
    closing: Decimal,
    quote: Quote | None,
) -> Refused | None:
    """What can be said against the close, then against the opening."""
    refused = check_closing(
        position=position,
        account=account.id,
        instrument=instrument,
        volume=closing,
        quote=quote,
        now_us=work.now_us,
    )
    if refused is None and is_netting(work, account):
        refused = check_free(work, account.id, position.symbol)
    return (
        refused
        or check_conversion(work, position)
        or check_opening(account=account, instrument=instrument, side=position.side.opposite, volume=closing)
    )
