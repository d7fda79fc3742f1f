"""What the outside does to the simulated house, one operation at a time: clients, staff, prices, time.

Each move looks at the newest state that an engine has, as a client looks at a screen, and sends a command under a key. What
comes of it is the house's affair.
"""

import random
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tests.support.builders import lp_top
from tests.support.laws import SYMBOLS
from tests.support.random_terms import near, resting_terms, some_protection
from trading.accounts import ClientClass
from trading.commands import (
    Adjust,
    CancelAll,
    CancelOrder,
    CloseBy,
    ClosePosition,
    ClosePositions,
    CorrectDeal,
    Deposit,
    ExpireOrders,
    GrantBonus,
    GrantCredit,
    LiftHalt,
    ModifyOrder,
    ModifyProtection,
    OpenAccount,
    PayDividend,
    PlaceOrder,
    RequestWithdrawal,
    ReversePosition,
    RollOver,
    SetSwitch,
    SettleCommission,
    SettleLeg,
    SettleWithdrawal,
    SwitchScope,
    Which,
)
from trading.liquidity import LpOrder, Settlement
from trading.orders import Order, OrderType, Side
from trading.positions import Position
from trading.quotes import Quote

if TYPE_CHECKING:
    from tests.simulation.world import House

ACCOUNTS: tuple[tuple[int, dict[str, Any], str], ...] = (
    (1, {"currency": "USD", "group": "retail", "leverage": 30}, "50000"),
    (2, {"currency": "EUR", "group": "pro", "leverage": 200, "client_class": ClientClass.PROFESSIONAL}, "100000"),
    (3, {"currency": "USD", "group": "vip", "leverage": 100}, "500000"),
    (4, {"currency": "USD", "group": "net", "leverage": 200}, "100000"),
    (5, {"currency": "EUR", "group": "net", "leverage": 200, "client_class": ClientClass.PROFESSIONAL}, "50000"),
    (6, {"currency": "USD", "group": "tight", "leverage": 200}, "1500"),
)
CROSSES = {"EURJPY": ("165.000", "165.010"), "EURGBP": ("0.85000", "0.85010")}


STEPS = 0.8
"""How many of the prices are near the one before. The others may be anywhere, and nobody's watches hold."""


class Moves:
    def __init__(self, house: "House", rng: random.Random) -> None:
        self.house = house
        self.random = rng
        self.all = {
            "price": (self.price, 200), "gap": (self.gap, 1.5), "place": (self.place, 24),
            "rest": (self.rest, 14), "close": (self.close, 18),
            "protect": (self.protect, 5), "modify": (self.modify, 4), "cancel": (self.cancel, 4),
            "cancel_all": (self.cancel_all, 0.5), "expire": (self.expire, 2), "wait": (self.wait, 8),
            "close_by": (self.close_by, 5), "reverse": (self.reverse, 4), "close_many": (self.close_many, 1),
            "pair": (self.pair, 2), "money": (self.money, 5), "top_up": (self.top_up, 3), "risk": (self.risk, 10),
            "roll_over": (self.roll_over, 1), "switch": (self.switch, 1), "correct": (self.correct, 1),
            "dividend": (self.dividend, 0.4), "repeat": (self.repeat, 5), "idle": (self.idle, 30),
            "lift": (self.lift, 4), "settle": (self.settle, 2),
        }  # fmt: skip
        self.names = list(self.all)
        self.weights = list(accumulate(weight for _, weight in self.all.values()))

    def begin(self) -> None:
        """Accounts with money, and a first price everywhere."""
        self.refresh_all()
        for number, terms, deposit in ACCOUNTS:
            self.house.clients.ask(OpenAccount, account=number, **terms)
            self.house.clients.ask(Deposit, account=number, amount=Decimal(deposit))

    def one(self, allowed: frozenset[str] | None) -> str:
        """The next operation's name. One that is switched off is drawn and left undone, so the others stay as they were."""
        name = self.random.choices(self.names, cum_weights=self.weights)[0]
        if allowed is None or name in allowed:
            self.all[name][0]()
        return name

    # --------------------------------------------------------------------------------------------------- prices and time

    def refresh_all(self, *, is_everywhere: bool = False) -> None:
        """A new price of every symbol; `is_everywhere`: with every provider offering it."""
        for symbol in SYMBOLS:
            self.price(symbol, is_everywhere=is_everywhere)
        self.refresh_crosses()

    def refresh_crosses(self) -> None:
        """These convert, and stay where they are."""
        for symbol, (bid, ask) in CROSSES.items():
            self.house.publish(
                _quote(symbol, Decimal(bid), Decimal(ask), self.house.time.business(), ("YOFX1", "PRIMEXM"))
            )

    def price(self, symbol: str = "", *, is_everywhere: bool = False) -> None:
        symbol = symbol or self.random.choice(list(SYMBOLS))
        base, digits = SYMBOLS[symbol]
        step = Decimal(1).scaleb(-digits)
        before = self.house.latest.get(symbol)
        if before is not None and not is_everywhere and self.random.random() < STEPS:
            bid = before.bid + step * self.random.randint(-9, 9)
        else:
            bid = Decimal(base) + step * self.random.randint(-400, 400)
        lps = self.random.choice([("YOFX1", "PRIMEXM"), ("YOFX1", "PRIMEXM"), ("PRIMEXM",), ("YOFX1",), ()])
        if is_everywhere:
            lps = ("YOFX1", "PRIMEXM")
        ask = bid + step * self.random.randint(1, 20)
        self.house.publish(_quote(symbol, bid, ask, self.house.time.business(), lps))

    def gap(self) -> None:
        """A price from which nobody is stopped out in time: small accounts owe more than they had."""
        base, digits = SYMBOLS["GBPUSD"]
        step = Decimal(1).scaleb(-digits)
        bid = Decimal(base) + step * self.random.choice([-4000, 4000])
        self.house.publish(_quote("GBPUSD", bid, bid + step, self.house.time.business(), ("YOFX1", "PRIMEXM")))

    def idle(self) -> None:
        """Nothing but a little time."""

    def wait(self) -> None:
        self.house.time.advance_us(self.random.choice((200_000, 1_000_000, 4_000_000)))
        self.refresh_all()

    # ------------------------------------------------------------------------------------------------------------ orders

    def account(self) -> int:
        return self.random.randint(1, len(ACCOUNTS))

    def place(self) -> None:
        volume = Decimal(self.random.choice([1, 3, 7, 10, 55, 100, 133, 250])) / 100
        self._place(self.account(), self.random.choice(list(SYMBOLS)), self._side(), volume)

    def _place(self, account: int, symbol: str, side: Side, volume: Decimal, **terms: Any) -> None:
        self.house.clients.ask(PlaceOrder, account=account, symbol=symbol, side=side, volume=volume, **terms)

    def _side(self) -> Side:
        return self.random.choice([Side.BUY, Side.SELL])

    def rest(self) -> None:
        symbol = self.random.choice(list(SYMBOLS))
        terms = resting_terms(self.random, symbol, self.house.time.business())
        volume = Decimal(self.random.choice([1, 5, 20, 90, 150])) / 100
        self._place(self.account(), symbol, self._side(), volume, **terms)

    def pair(self) -> None:
        symbol, account, name = self.random.choice(list(SYMBOLS)), self.account(), f"pair {self.house.clients.numbers}"
        for side in (Side.BUY, Side.SELL):
            self._place(
                account,
                symbol,
                side,
                Decimal("0.40"),
                type=OrderType.LIMIT,
                price=near(self.random, symbol),
                oco_group=name,
            )

    def risk(self) -> None:
        self._place(6, "GBPUSD", self._side(), self.random.choice([Decimal("1.00"), Decimal("2.20")]))

    def modify(self) -> None:
        order = self.some_order()
        if order is not None:
            price = near(self.random, order.symbol) if order.price is not None else None
            self.house.clients.ask(ModifyOrder, account=order.account, order_id=order.id, price=price, expires_us=0)

    def cancel(self) -> None:
        order = self.some_order()
        if order is not None:
            self.house.clients.ask(CancelOrder, account=order.account, order_id=order.id)

    def cancel_all(self) -> None:
        self.house.clients.ask(CancelAll, account=self.account())

    def expire(self) -> None:
        self.house.clients.ask(ExpireOrders)

    def some_order(self) -> Order | None:
        orders = self.house.state.orders
        return orders[self.random.choice(list(orders))] if orders else None

    # --------------------------------------------------------------------------------------------------------- positions

    def some_position(self) -> Position | None:
        positions = self.house.state.positions
        return positions[self.random.choice(list(positions))] if positions else None

    def close(self) -> None:
        position = self.some_position()
        if position is None:
            return
        free = position.volume - position.locked
        is_part = self.random.random() < 0.4 and free > Decimal("0.02")
        part = (free * self.random.randint(1, 99) / 100).quantize(Decimal("0.01")) if is_part else None
        self.house.clients.ask(ClosePosition, account=position.account, position_id=position.id, volume=part or None)

    def protect(self) -> None:
        position = self.some_position()
        if position is not None:
            terms = some_protection(self.random)
            self.house.clients.ask(
                ModifyProtection, account=position.account, position_id=position.id, protection=terms
            )

    def close_by(self) -> None:
        position = self.some_position()
        if position is None:
            return
        others = [
            other.id
            for other in self.house.state.positions.values()
            if (other.account, other.symbol) == (position.account, position.symbol) and other.id != position.id
        ]
        by = self.random.choice(others or [position.id])
        self.house.clients.ask(CloseBy, account=position.account, position_id=position.id, by_position_id=by)

    def reverse(self) -> None:
        position = self.some_position()
        if position is not None:
            self.house.clients.ask(ReversePosition, account=position.account, position_id=position.id)

    def close_many(self) -> None:
        self.house.clients.ask(ClosePositions, account=self.account(), which=self.random.choice(list(Which)))

    # ------------------------------------------------------------------------------------------------- money and the house

    def money(self) -> None:
        account, amount = self.account(), Decimal(self.random.randint(1, 100_000)) / 100
        waiting = next(iter(self.house.state.withdrawals), 0)
        kind = self.random.choice([RequestWithdrawal, SettleWithdrawal, Adjust, GrantCredit, GrantBonus, Deposit])
        fields: dict[Any, dict[str, Any]] = {
            SettleWithdrawal: {"transaction_id": waiting, "is_paid": self.random.random() < 0.5},
            Adjust: {"account": account, "amount": amount - 500, "reference": "why"},
            GrantCredit: {"account": account, "amount": amount - 400},
        }
        self.house.clients.ask(kind, **fields.get(kind, {"account": account, "amount": amount}))

    def top_up(self) -> None:
        account = self.house.state.accounts.get(6)
        if account is not None and account.balance < 400:
            self.house.clients.ask(Deposit, account=6, amount=Decimal(1100))

    def roll_over(self) -> None:
        self.house.clients.ask(self.random.choice([RollOver, SettleCommission]))

    def switch(self) -> None:
        """New risk in a symbol is stopped, and allowed again a little later."""
        symbol = self.random.choice(list(SYMBOLS))
        stops = self.random.random() < 0.4
        self.house.clients.ask(SetSwitch, scope=SwitchScope.SYMBOL, target=symbol, stops=stops)

    def dividend(self) -> None:
        self.house.clients.ask(
            PayDividend, symbol="XAUUSD", long_per_unit=Decimal("0.01"), short_per_unit=Decimal("-0.01"),
            ex_us=self.house.time.business(), reference="coupon",
        )  # fmt: skip

    def correct(self) -> None:
        """Two members of staff undo a deal or give it another price."""
        newest = self.house.state.counters.deal - 1
        if newest < 1:
            return
        price = self.random.choice([None, near(self.random, self.random.choice(list(SYMBOLS)))])
        self.house.clients.ask(
            CorrectDeal, deal_id=self.random.randint(max(1, newest - 30), newest), price=price, actor="staff:1",
            approved_by="staff:2", reason="a slip",
        )  # fmt: skip

    def lift(self) -> None:
        """A dealer has looked at an excess, and lets openings go there again."""
        halts = self.house.state.desk.halts
        if halts:
            lp, symbol = self.random.choice(halts)
            self.house.clients.ask(LiftHalt, lp=lp, symbol=symbol, actor="staff:1")

    def settle(self) -> None:
        """An order that is a dealer's is settled by two people who have asked the provider. Not one of which something was
        taken back: what of that is known here nobody could say."""
        legs = [leg for leg in self.house.state.legs.values() if leg.is_in_case]
        leg = self.random.choice(legs) if legs else None
        order = self.house.venue_order(leg) if leg is not None else None
        if leg is not None and order is not None and not order.is_changed:
            self.settle_leg(leg)

    def settle_leg(self, leg: LpOrder) -> None:
        """By what the provider itself knows, once it has ended there: what is not booked of it was dealt, or nothing was."""
        order = self.house.venue_order(leg)
        if order is None or order.is_open:
            return
        booked = {key.partition("/")[2] for key in leg.exec_ids}
        missing = sum((quantity for name, quantity in order.fills.items() if name not in booked), Decimal(0))
        rest = leg.quantity * (leg.volume - leg.filled_volume) / leg.volume
        if missing > rest:
            return  # more than was ordered: the desk waits for the report of it
        order.is_settled = True
        terms: dict[str, Any] = {"outcome": Settlement.NOT_FILLED}
        if missing:
            terms = {"outcome": Settlement.FILLED, "quantity": missing, "price": order.price}
        self.house.clients.ask(
            SettleLeg, cl_ord_id=leg.cl_ord_id, filled_volume=leg.filled_volume, actor="staff:1", approved_by="staff:2",
            reason="asked", reference="mail", **terms,
        )  # fmt: skip

    def repeat(self) -> None:
        requests = self.house.clients.requests
        if requests:
            self.house.clients.repeat(requests[self.random.choice(list(requests))])


def _quote(symbol: str, bid: Decimal, ask: Decimal, at_us: int, lps: tuple[str, ...]) -> Quote:
    tops = tuple(lp_top(lp, bid=str(bid), ask=str(ask), bid_size="50", ask_size="50", at_us=at_us) for lp in lps)
    return Quote(symbol=symbol, seq=at_us, bid=bid, ask=ask, at_us=at_us, tops=tops)
