"""One spelling per number: values read from PostgreSQL written as the live engine writes them.

The database stores 0.10 lots as 0.10000000. Equal, but not the same bytes; and what the engine says must not depend on
whether it was restarted in between.
"""

from decimal import Decimal

from msgspec.structs import replace

from trading.accounts import Account
from trading.configuration import Config
from trading.ledger import Transfer
from trading.liquidity import LpOrder
from trading.margining.terms import MarginRounding
from trading.numbers import ZERO, point
from trading.orders import Deal, Order
from trading.positions import Position
from trading.protection import NOTHING_ASKED, UNPROTECTED

_COST = point(10)
_EIGHT = point(8)


class Tidy:
    """Rewrites the decimals of loaded values by the configuration's steps and digits. Changes no value."""

    def __init__(self, config: Config | None) -> None:
        self._steps = {symbol: i.volume_step for symbol, i in config.instruments.items()} if config else {}
        self._points = {symbol: point(i.digits) for symbol, i in config.instruments.items()} if config else {}
        self._digits = dict(config.currency_digits) if config else {}
        self._money_steps: dict[str, Decimal] = {}
        self._currencies: dict[int, str] = {}
        self._exact: set[int] = set()
        """Accounts whose margin charges keep fractions of a cent."""
        self._groups = dict(config.groups) if config else {}

    def money(self, currency: str, amount: Decimal) -> Decimal:
        return _exactly(amount, self._step_of(currency))

    def account(self, account: Account) -> Account:
        """Accounts come first: orders and positions look their currency up here."""
        self._currencies[account.id] = account.currency
        group = self._groups.get(account.group)
        if group is not None and group.margin.rounding is not MarginRounding.UP_PER_POSTING:
            self._exact.add(account.id)
        return replace(
            account,
            commission_blocked=self.money(account.currency, account.commission_blocked),
            balance=self.money(account.currency, account.balance),
            credit=self.money(account.currency, account.credit),
        )

    def order(self, order: Order) -> Order:
        return replace(
            order,
            volume=self._volume(order.symbol, order.volume),
            filled_volume=self._volume(order.symbol, order.filled_volume),
            filled_cost=_exactly(order.filled_cost, _COST),
            volume_a=self._volume(order.symbol, order.volume_a),
            filled_a=self._volume(order.symbol, order.filled_a),
            margin_reserved=self._charge(order.account, order.margin_reserved),
            hedged_reserved=self._charge(order.account, order.hedged_reserved),
            unleveraged_reserved=self._charge(order.account, order.unleveraged_reserved),
            notional_reserved=_exactly(order.notional_reserved, _COST),
            netted=self._volume(order.symbol, order.netted),
            price=self._price(order.symbol, order.price),
            stop_price=self._price(order.symbol, order.stop_price),
            protection=NOTHING_ASKED
            if order.protection == NOTHING_ASKED
            else replace(
                order.protection,
                stop_loss=self._price(order.symbol, order.protection.stop_loss),
                take_profit=self._price(order.symbol, order.protection.take_profit),
            ),
        )

    def position(self, position: Position) -> Position:
        """The many of a start: what they have in common is looked up once for each."""
        volume_step = self._steps.get(position.symbol, _EIGHT)
        charge_step = self._charge_step(position.account)
        return replace(
            position,
            volume_opened=_exactly(position.volume_opened, volume_step),
            volume=_exactly(position.volume, volume_step),
            cost=_exactly(position.cost, _COST),
            margin=_exactly(position.margin, charge_step),
            hedged=_exactly(position.hedged, charge_step),
            unleveraged=_exactly(position.unleveraged, charge_step),
            notional=_exactly(position.notional, _COST),
            swap=_exactly(position.swap, _COST),
            volume_a_opened=_exactly(position.volume_a_opened, volume_step),
            volume_a=_exactly(position.volume_a, volume_step),
            cost_a=_exactly(position.cost_a, _COST),
            locked=_exactly(position.locked, volume_step),
            protection=UNPROTECTED
            if position.protection is UNPROTECTED or position.protection == UNPROTECTED
            else replace(
                position.protection,
                stop_loss=self._price(position.symbol, position.protection.stop_loss),
                take_profit=self._price(position.symbol, position.protection.take_profit),
            ),
        )

    def leg(self, leg: LpOrder) -> LpOrder:
        return replace(
            leg,
            volume=self._volume(leg.symbol, leg.volume),
            quantity=_exactly(leg.quantity, self._steps.get(leg.symbol, _EIGHT)),
            filled_volume=self._volume(leg.symbol, leg.filled_volume),
            filled_cost=_exactly(leg.filled_cost, _COST),
            limit_price=self._price(leg.symbol, leg.limit_price),
            price_shift=self._price(leg.symbol, leg.price_shift) or ZERO,
            client_price=self._price(leg.symbol, leg.client_price),
            told_cum=self._volume(leg.symbol, leg.told_cum),
        )

    def transfer(self, transfer: Transfer) -> Transfer:
        return replace(transfer, amount=self.money(transfer.currency, transfer.amount))

    def deal(self, deal: Deal) -> Deal:
        """Accounts come first, as for positions."""
        currency = self._currency(deal.account)
        return replace(
            deal,
            volume=self._volume(deal.symbol, deal.volume),
            price=self._price(deal.symbol, deal.price),
            profit=self.money(currency, deal.profit),
            commission=self.money(currency, deal.commission),
            swap=self.money(currency, deal.swap),
            fee=self.money(currency, deal.fee),
            lp_price=self._price(deal.symbol, deal.lp_price),
        )

    def _price(self, symbol: str, price: Decimal | None) -> Decimal | None:
        return None if price is None else _exactly(price, self._points.get(symbol, point(10)))

    def _volume(self, symbol: str, volume: Decimal) -> Decimal:
        return _exactly(volume, self._steps.get(symbol, _EIGHT))

    def _charge(self, account: int, amount: Decimal) -> Decimal:
        return _exactly(amount, self._charge_step(account))

    def _charge_step(self, account: int) -> Decimal:
        return _COST if account in self._exact else self._step_of(self._currency(account))

    def _step_of(self, currency: str) -> Decimal:
        step = self._money_steps.get(currency)
        if step is None:
            step = self._money_steps[currency] = point(self._digits.get(currency, 8))
        return step

    def _currency(self, account: int) -> str:
        return self._currencies.get(account, "")


def _exactly(value: Decimal, step: Decimal) -> Decimal:
    """`value` with the step's decimals; left as it is where that would change it."""
    if not value:
        return ZERO
    tidy = value.quantize(step)
    return tidy if tidy == value else value
