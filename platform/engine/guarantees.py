"""Guaranteed stop losses: what a guarantee costs, when it begins, and who is paid for it.

The fee is charged once for every lot under the guarantee: with each fill that opens or adds to a guaranteed position, and for
all that is open when a guarantee is added later. What a fired guarantee costs the house needs no entry of its own: the
client's result is booked at the stop's price, the provider's at the market's, and the gap stays in the house's result.
"""

from decimal import Decimal

from msgspec.structs import replace

from engine.work import Work
from trading.accounts import Account
from trading.events import LedgerPosted
from trading.ledger import HOUSE_FEES, TransactionKind, Transfer, client_account
from trading.numbers import ZERO, point, round_half_up
from trading.protection import Protection


def guarantee_fee(work: Work, account: Account, symbol: str, volume: Decimal) -> Decimal:
    """What guaranteeing `volume` lots costs in the account's currency. Free where the symbol no longer offers it."""
    terms = work.terms_for(account, symbol)
    if terms.guarantee is None:
        return ZERO
    cost = terms.guarantee.fee_points * point(terms.digits) * volume * terms.lot_value
    converted = work.convert(-cost, terms.quote, account.currency)
    assert converted is not None, "what cannot be valued is refused, or waits in the inbox"
    return round_half_up(-converted, work.config.currency_digits[account.currency])


def guaranteed_at(protection: Protection, *, sign: int, open_price: Decimal) -> Protection:
    """The protection of a position opened here. A price that jumped over the stop leaves nothing to guarantee: dealt at its
    own price, such a stop would pay a profit. It fires as an ordinary one, and costs nothing."""
    stop_loss = protection.stop_loss
    if stop_loss is not None and sign * (open_price - stop_loss) > 0:
        return protection
    return replace(protection, is_guaranteed=False)


def charge_guarantee(
    work: Work, account_number: int, fee: Decimal, *, position_id: int, order_id: int = 0, deal_id: int = 0
) -> None:
    """The fee from the client to the house. Nothing for a fee of zero."""
    if not fee:
        return
    account = work.account(account_number)
    transfer = Transfer(
        transaction_id=work.state.counters.transaction,
        line=1,
        kind=TransactionKind.GUARANTEE_FEE,
        source=client_account(account.id),
        target=HOUSE_FEES,
        currency=account.currency,
        amount=fee,
        at_us=work.now_us,
        order_id=order_id,
        deal_id=deal_id,
        position_id=position_id,
    )
    after = replace(account, balance=account.balance - fee, version=account.version + 1)
    work.emit(LedgerPosted((transfer,), after))
