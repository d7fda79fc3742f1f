"""What the crowd does next: every kind of order and every way to change, take back and close, in a shuffled but fair order.

A deck holds each kind so many times; when it is used up it is shuffled anew, so every kind comes round soon whatever the
seed. A card that nobody can play now (a close-by without two opposite positions) goes back a few places, and meanwhile
somebody does what makes it playable. The same seed and the same scenes give the same commands. Pure: prices, books, time and
ids are handed in.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from broker.crowd_book import Book, Holding, Waiting
from broker.crowd_people import IN_USD, Nerve, Person
from trading.commands import (
    AnyCommand,
    CancelAll,
    CancelOrder,
    CloseBy,
    ClosePosition,
    ClosePositions,
    Deposit,
    ModifyOrder,
    ModifyProtection,
    PlaceOrder,
    RequestWithdrawal,
    ReversePosition,
    SettleWithdrawal,
    Which,
)
from trading.numbers import ONE, ZERO, floor_to_step, point, round_to_step
from trading.orders import OrderType, Side, TimeInForce
from trading.protection import NOTHING_ASKED, ProtectionTerms

ACTOR = "system:crowd"
DRAWS_MAX = 12
"""Cards looked at for one step."""
AGAIN_WITHIN = 12
"""How many places a card that nobody could play goes back at most."""
POSITIONS_MAX = 8
ORDERS_MAX = 8
"""What one account holds of each before it opens nothing more."""
VOLUME_MAX = Decimal(20)
LIVELIEST = 2
"""So many symbols draw the reckless."""
HUNDRED_THOUSANDTHS = Decimal("0.00001")
FAR = 2.6
"""Prices lie from a hundred thousandth of the market to 10^2.6 of them away, near ones as often as far ones."""

T, F = OrderType, TimeInForce

OPENINGS: dict[str, tuple[OrderType, TimeInForce, int]] = {
    "market": (T.MARKET, F.IOC, 18),
    "market fok": (T.MARKET, F.FOK, 3),
    "market with slippage limit": (T.MARKET, F.IOC, 8),
    "limit gtc": (T.LIMIT, F.GTC, 7),
    "limit day": (T.LIMIT, F.DAY, 3),
    "limit gtd": (T.LIMIT, F.GTD, 3),
    "limit ioc": (T.LIMIT, F.IOC, 3),
    "limit fok": (T.LIMIT, F.FOK, 3),
    "stop gtc": (T.STOP, F.GTC, 4),
    "stop day": (T.STOP, F.DAY, 2),
    "stop gtd": (T.STOP, F.GTD, 2),
    "stop-limit gtc": (T.STOP_LIMIT, F.GTC, 3),
    "stop-limit day": (T.STOP_LIMIT, F.DAY, 1),
    "stop-limit gtd": (T.STOP_LIMIT, F.GTD, 1),
}
"""Kinds of opening orders, and how often the deck has each."""
OTHERS: dict[str, int] = {
    "oco pair": 4,
    "modify order": 8,
    "cancel order": 5,
    "cancel all": 1,
    "protect position": 8,
    "close part": 6,
    "close": 14,
    "close by": 3,
    "reverse": 3,
    "close winners": 1,
    "close losers": 1,
    "deposit again": 2,
    "ask for withdrawal": 2,
    "settle withdrawal": 2,
}
DECK = {**{name: often for name, (_, _, often) in OPENINGS.items()}, **OTHERS}
SHIELDS = {
    "none": 8,
    "absolute": 4,
    "relative": 4,
    "trailing": 3,
    "break-even": 2,
    "guaranteed": 2,
    "stop loss alone": 1,
    "take profit alone": 1,
}
"""Kinds of protection, and how often each is asked for."""


@dataclass(frozen=True, slots=True)
class Top:
    """A symbol's price now, and what its orders must keep to."""

    symbol: str
    base: str
    bid: Decimal
    ask: Decimal
    digits: int
    contract_size: Decimal
    volume_step: Decimal
    guarantee_points: int | None = None
    """Nearest guaranteed stop loss, in points; None where none is offered."""

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2

    def price(self, side: Side) -> Decimal:
        """What the side is dealt at."""
        return self.ask if side is Side.BUY else self.bid


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to decide on. `idle` are those whose last command is answered."""

    tops: Mapping[str, Top]
    books: Mapping[int, Book]
    idle: Sequence[Person]
    now_us: int


@dataclass(frozen=True, slots=True)
class Step:
    """One person's next commands, to be sent one after the other."""

    action: str
    person: Person
    commands: tuple[AnyCommand, ...]
    shield: str = ""


class Planner:
    """Deals the cards. `day_us` is how long the crowd trades: what expires does so within it."""

    def __init__(self, *, seed: int, day_us: int, new_id: Callable[[], str]) -> None:
        self._chance = Random(f"{seed}/plan")
        self._day_us = day_us
        self._new_id = new_id
        self._cards: list[str] = []
        self._shields: list[str] = []
        self._shield = ""
        self._ranges: dict[str, tuple[Decimal, Decimal]] = {}
        """Per symbol the lowest and the highest price so far."""

    def next(self, scene: Scene) -> Step | None:
        """The next step; None while there are no prices or nobody is idle."""
        if not scene.tops or not scene.idle:
            return None
        self._follow(scene.tops.values())
        for _ in range(DRAWS_MAX):
            card = self._draw()
            step = self._play(card, scene)
            if step is not None:
                return step
            self._put_back(card)
            step = self._prepare(card, scene)
            if step is not None:
                return step
        return None

    def _follow(self, tops: Iterable[Top]) -> None:
        for top in tops:
            low, high = self._ranges.get(top.symbol, (top.mid, top.mid))
            self._ranges[top.symbol] = (min(low, top.mid), max(high, top.mid))

    def _draw(self) -> str:
        if len(self._cards) <= AGAIN_WITHIN:
            self._cards = self._shuffled(DECK) + self._cards
        return self._cards.pop()

    def _put_back(self, card: str) -> None:
        """A few places down. What nobody can ever play does not pile up."""
        if self._cards.count(card) < DECK[card]:
            self._cards.insert(len(self._cards) - self._chance.randint(1, AGAIN_WITHIN), card)

    def _shuffled(self, deck: Mapping[str, int]) -> list[str]:
        cards = [name for name, often in deck.items() for _ in range(often)]
        self._chance.shuffle(cards)
        return cards

    def _play(self, card: str, scene: Scene) -> Step | None:
        self._shield = ""
        played = self._open(card, scene) if card in OPENINGS else PLAYS[card](self, scene)
        if played is None:
            return None
        person, commands = played
        return Step(card, person, commands, self._shield)

    def _prepare(self, card: str, scene: Scene) -> Step | None:
        """What makes the card playable later: somebody opens what it needs."""
        if card == "close by":
            return self._hedge(scene)
        if card == "settle withdrawal":
            return self._play("ask for withdrawal", scene)
        if card in ("modify order", "cancel order", "cancel all"):
            return self._play("limit gtc", scene)
        if card in ON_POSITIONS:
            return self._play("market", scene)
        return self._make_room(card, scene) if card in OPENINGS or card == "oco pair" else None

    def _make_room(self, card: str, scene: Scene) -> Step | None:
        """Nobody can open: everybody holds as much as they may, or has lost everything."""
        others = ("close", "deposit again") if card in OPENINGS and _is_immediate(card) else ("cancel order", "close")
        return next((step for step in (self._play(other, scene) for other in others) if step is not None), None)

    # ------------------------------------------------------------------------------------------------------ opening

    def _open(self, card: str, scene: Scene) -> "Played":
        order_type, life, _ = OPENINGS[card]
        person = self._somebody(scene, _may_deal if _is_immediate(card) else _may_wait)
        if person is None:
            return None
        shield, top = self._shield_and_top(person, scene)
        side = self._side_of(person)
        terms = self._prices(card, order_type, life, side, top)
        opened = terms.get("price") or terms.get("stop_price") or top.price(side)
        order = self._place(
            scene,
            person,
            top,
            side,
            type=order_type,
            time_in_force=life,
            protection=self._protection(shield, side, opened, top),
            **terms,
        )
        return person, (order,)

    def _place(self, scene: Scene, person: Person, top: Top, side: Side, **terms: Any) -> PlaceOrder:
        if terms.get("time_in_force") is F.GTD:
            terms["expires_us"] = scene.now_us + self._day_us * self._chance.randint(2, 40) // 100
        volume = self._volume(person, scene.books[person.account], top)
        return PlaceOrder(**self._head(person), symbol=top.symbol, side=side, volume=volume, **terms)

    def _side_of(self, person: Person) -> Side:
        """The reckless have made up their minds, whatever the market does."""
        sides = tuple(Side)
        return sides[person.account % 2] if person.nerve is Nerve.RECKLESS else self._chance.choice(sides)

    def _head(self, person: Person) -> dict[str, Any]:
        new_id = self._new_id()
        return {"id": new_id, "key": new_id, "account": person.account, "actor": ACTOR}

    def _prices(self, card: str, order_type: OrderType, life: TimeInForce, side: Side, top: Top) -> dict[str, Any]:
        """Limits wait behind the market, stops before it; some immediate limits reach over the spread and are dealt."""
        sign, at = side.sign, top.price(side)
        if card == "market with slippage limit":
            return {"price": at, "max_slippage": self._chance.choice((2, 10, 30, 100))}
        if order_type is T.LIMIT:
            is_dealt = life in (F.IOC, F.FOK) and self._chance.random() < 0.6
            return {"price": at + sign * self._away(top) * (1 if is_dealt else -1)}
        if order_type is T.STOP:
            return {"stop_price": at + sign * self._away(top)}
        if order_type is T.STOP_LIMIT:
            stop = at + sign * self._away(top)
            return {"stop_price": stop, "price": stop + sign * self._away(top) * self._chance.choice((-1, 1, 1))}
        return {}

    def _away(self, top: Top) -> Decimal:
        """A distance in whole points, at least the spread and one."""
        steps = Decimal(round(10 ** self._chance.uniform(0, FAR)))
        one = point(top.digits)
        return top.ask - top.bid + max(round_to_step(top.mid * steps * HUNDRED_THOUSANDTHS, one), one)

    def _volume(self, person: Person, book: Book, top: Top) -> Decimal:
        """As much of what the account could carry as the person's nerve puts at risk."""
        percent = Decimal(self._chance.randint(*RISKED_PERCENT[person.nerve]))
        percent /= 1 + len(book.positions)
        equity = max(book.balance, ZERO) * IN_USD.get(person.currency, ONE)
        one_lot = top.contract_size * IN_USD.get(top.base, ONE)
        lots = equity * person.leverage * percent / 100 / one_lot
        return min(max(floor_to_step(lots, top.volume_step), top.volume_step), VOLUME_MAX)

    # --------------------------------------------------------------------------------------------------- protection

    def _shield_and_top(self, person: Person, scene: Scene) -> tuple[str, Top]:
        """A kind of protection and a symbol that offers it. The reckless think that they need none."""
        tops = list(scene.tops.values())
        shield = self._draw_shield()
        if shield == "guaranteed":
            offering = [top for top in tops if top.guarantee_points is not None]
            return (shield, self._chance.choice(offering)) if offering else ("relative", self._chance.choice(tops))
        if person.nerve is Nerve.RECKLESS and self._chance.random() < 0.8:
            self._shields.append(shield)
            return "none", self._chance.choice(self._liveliest(tops))
        return shield, self._chance.choice(tops)

    def _liveliest(self, tops: list[Top]) -> list[Top]:
        """The few symbols that have moved most since the crowd looks."""

        def moved(top: Top) -> Decimal:
            low, high = self._ranges[top.symbol]
            return (high - low) / low

        return sorted(tops, key=moved, reverse=True)[:LIVELIEST]

    def _draw_shield(self) -> str:
        if not self._shields:
            self._shields = self._shuffled(SHIELDS)
        return self._shields.pop()

    def _protection(self, shield: str, side: Side, opened: Decimal, top: Top) -> ProtectionTerms:
        self._shield = shield
        if shield == "none":
            return NOTHING_ASKED
        sign, loss, profit = side.sign, self._away(top), self._away(top)
        points = int(loss / point(top.digits))
        match shield:
            case "absolute":
                return ProtectionTerms(stop_loss=opened - sign * loss, take_profit=opened + sign * profit)
            case "relative":
                return ProtectionTerms(stop_loss_points=points, take_profit_points=int(profit / point(top.digits)))
            case "trailing":
                return ProtectionTerms(stop_loss_points=points, trailing_points=points, trailing_step=points // 4)
            case "break-even":
                return ProtectionTerms(
                    stop_loss_points=points, break_even_points=max(points // 2, 2), break_even_offset=1
                )
            case "guaranteed":
                least = (top.guarantee_points or 0) + int((top.ask - top.bid) / point(top.digits))
                return ProtectionTerms(stop_loss_points=least + points, is_guaranteed=True)
            case "stop loss alone":
                return ProtectionTerms(stop_loss=opened - sign * loss)
        return ProtectionTerms(take_profit=opened + sign * profit)

    # ------------------------------------------------------------------------------------------- waiting orders

    def oco_pair(self, scene: Scene) -> "Played":
        """A limit behind the market and a stop before it: whichever is dealt first takes the other back."""
        person = self._somebody(scene, _may_wait)
        if person is None:
            return None
        _, top = self._shield_and_top(person, scene)
        side = self._side_of(person)
        behind, before = top.price(side) - side.sign * self._away(top), top.price(side) + side.sign * self._away(top)
        name = self._new_id().replace("-", "")
        return person, (
            self._place(scene, person, top, side, type=T.LIMIT, price=behind, oco_group=name),
            self._place(scene, person, top, side, type=T.STOP, stop_price=before, oco_group=name),
        )

    def modify_order(self, scene: Scene) -> "Played":
        found = self._waiting(scene)
        if found is None:
            return None
        person, order, top = found
        return person, (ModifyOrder(**self._head(person), order_id=order.ticket, **self._changes(order, top, scene)),)

    def _changes(self, order: Waiting, top: Top, scene: Scene) -> dict[str, Any]:
        what = self._chance.choice(("price", "price", "volume", "expiry", "protection"))
        if what == "volume":
            return {"volume": order.volume + top.volume_step * self._chance.randint(1, 3)}
        if what == "expiry":
            return {"expires_us": scene.now_us + self._day_us * self._chance.randint(5, 30) // 100}
        if what == "protection":
            opened = order.price or order.stop_price or top.price(order.side)
            return {"protection": self._protection("absolute", order.side, opened, top)}
        shift = point(top.digits) * self._chance.choice((-20, -5, 5, 20))
        prices = {"price": order.price, "stop_price": order.stop_price}
        return {name: price + shift for name, price in prices.items() if price is not None}

    def cancel_order(self, scene: Scene) -> "Played":
        found = self._waiting(scene)
        if found is None:
            return None
        person, order, _ = found
        return person, (CancelOrder(**self._head(person), order_id=order.ticket),)

    def cancel_all(self, scene: Scene) -> "Played":
        person = self._somebody(scene, lambda book: len(book.orders) > 1)
        if person is None:
            return None
        symbols = sorted({order.symbol for order in scene.books[person.account].orders.values()})
        return person, (CancelAll(**self._head(person), symbol=self._chance.choice(("", *symbols))),)

    def _waiting(self, scene: Scene) -> tuple[Person, Waiting, Top] | None:
        person = self._somebody(scene, lambda book: any(o.symbol in scene.tops for o in book.orders.values()))
        if person is None:
            return None
        orders = [o for o in scene.books[person.account].orders.values() if o.symbol in scene.tops]
        order = self._chance.choice(orders)
        return person, order, scene.tops[order.symbol]

    # -------------------------------------------------------------------------------------------------- positions

    def protect_position(self, scene: Scene) -> "Played":
        found = self._holding(scene)
        if found is None:
            return None
        person, held, top = found
        shield = self._draw_shield()
        if shield == "guaranteed" and top.guarantee_points is None:
            shield = "relative"
        now = top.price(held.side.opposite)
        protection = self._protection(shield, held.side, now, top)
        keep = ("take_profit",) if shield == "stop loss alone" else ()
        return person, (ModifyProtection(**self._head(person), position_id=held.id, protection=protection, keep=keep),)

    def close_part(self, scene: Scene) -> "Played":
        def is_divisible(held: Holding) -> bool:
            return held.symbol in scene.tops and held.volume >= 2 * scene.tops[held.symbol].volume_step

        found = self._holding(scene, is_divisible)
        if found is None:
            return None
        person, held, top = found
        part = held.volume * self._chance.randint(20, 80) / 100
        volume = max(floor_to_step(part, top.volume_step), top.volume_step)
        return person, (ClosePosition(**self._head(person), position_id=held.id, volume=volume),)

    def close(self, scene: Scene) -> "Played":
        found = self._holding(scene)
        if found is None:
            return None
        person, held, _ = found
        return person, (ClosePosition(**self._head(person), position_id=held.id),)

    def reverse(self, scene: Scene) -> "Played":
        found = self._holding(scene)
        if found is None:
            return None
        person, held, _ = found
        return person, (ReversePosition(**self._head(person), position_id=held.id),)

    def close_by(self, scene: Scene) -> "Played":
        person = self._somebody(scene, lambda book: bool(_pairs(book)))
        if person is None:
            return None
        one, other = self._chance.choice(_pairs(scene.books[person.account]))
        return person, (CloseBy(**self._head(person), position_id=one.id, by_position_id=other.id),)

    def close_winners(self, scene: Scene) -> "Played":
        return self._close_which(scene, Which.WINNERS)

    def close_losers(self, scene: Scene) -> "Played":
        return self._close_which(scene, Which.LOSERS)

    def _close_which(self, scene: Scene, which: Which) -> "Played":
        person = self._somebody(scene, lambda book: len(book.positions) > 1)
        return None if person is None else (person, (ClosePositions(**self._head(person), which=which),))

    def _hedge(self, scene: Scene) -> Step | None:
        """Somebody opens the opposite of a position it holds."""
        found = self._holding(scene)
        if found is None:
            return self._play("market", scene)
        person, held, _ = found
        order = PlaceOrder(
            **self._head(person), symbol=held.symbol, side=held.side.opposite, volume=held.volume, type=T.MARKET
        )
        return Step("market", person, (order,))

    def _holding(
        self, scene: Scene, fits: Callable[[Holding], bool] | None = None
    ) -> tuple[Person, Holding, Top] | None:
        def is_fit(held: Holding) -> bool:
            return held.symbol in scene.tops and (fits is None or fits(held))

        person = self._somebody(scene, lambda book: any(map(is_fit, book.positions.values())))
        if person is None:
            return None
        held = self._chance.choice([held for held in scene.books[person.account].positions.values() if is_fit(held)])
        return person, held, scene.tops[held.symbol]

    # ------------------------------------------------------------------------------------------------------- money

    def deposit_again(self, scene: Scene) -> "Played":
        """Whoever has lost most of it pays in again, as people do."""
        poor = [p for p in scene.idle if scene.books[p.account].balance < p.deposit / 4]
        if not poor:
            return None
        person = self._chance.choice(poor)
        amount = floor_to_step(person.deposit / 2, point(person.digits))
        return person, (Deposit(**self._head(person), amount=amount, reference="once more"),)

    def ask_for_withdrawal(self, scene: Scene) -> "Played":
        rich = [p for p in scene.idle if scene.books[p.account].balance > p.deposit / 2]
        if not rich:
            return None
        person = self._chance.choice(rich)
        share = scene.books[person.account].balance * self._chance.randint(1, 20) / 100
        amount = max(floor_to_step(share, point(person.digits)), point(person.digits))
        return person, (RequestWithdrawal(**self._head(person), amount=amount, reference="to my bank"),)

    def settle_withdrawal(self, scene: Scene) -> "Played":
        """The back office pays most of them out, and gives some back."""
        person = self._somebody(scene, lambda book: bool(book.withdrawals))
        if person is None:
            return None
        number = scene.books[person.account].withdrawals.pop(0)
        is_paid = self._chance.random() < 0.8
        return person, (SettleWithdrawal(**self._head(person), transaction_id=number, is_paid=is_paid),)

    def _somebody(self, scene: Scene, fits: Callable[[Book], bool]) -> Person | None:
        fitting = [person for person in scene.idle if fits(scene.books[person.account])]
        return self._chance.choice(fitting) if fitting else None


Played = tuple[Person, tuple[AnyCommand, ...]] | None
"""Whose step, and which commands; None when nobody can."""

PLAYS: dict[str, Callable[[Planner, Scene], Played]] = {
    "oco pair": Planner.oco_pair,
    "modify order": Planner.modify_order,
    "cancel order": Planner.cancel_order,
    "cancel all": Planner.cancel_all,
    "protect position": Planner.protect_position,
    "close part": Planner.close_part,
    "close": Planner.close,
    "close by": Planner.close_by,
    "reverse": Planner.reverse,
    "close winners": Planner.close_winners,
    "close losers": Planner.close_losers,
    "deposit again": Planner.deposit_again,
    "ask for withdrawal": Planner.ask_for_withdrawal,
    "settle withdrawal": Planner.settle_withdrawal,
}
ON_POSITIONS = frozenset({"protect position", "close part", "close", "reverse", "close winners", "close losers"})
RISKED_PERCENT = {Nerve.CAREFUL: (1, 4), Nerve.BOLD: (4, 15), Nerve.RECKLESS: (60, 95)}
"""Of what the account could carry, in one trade."""


def _is_immediate(card: str) -> bool:
    return OPENINGS[card][1] in (F.IOC, F.FOK)


def _may_deal(book: Book) -> bool:
    return len(book.positions) < POSITIONS_MAX and book.balance > 0


def _may_wait(book: Book) -> bool:
    return len(book.orders) < ORDERS_MAX and book.balance > 0


def _pairs(book: Book) -> list[tuple[Holding, Holding]]:
    """Longs and shorts of the same symbol."""
    held = list(book.positions.values())
    return [
        (one, other)
        for one in held
        if one.side is Side.BUY
        for other in held
        if other.side is Side.SELL and other.symbol == one.symbol
    ]
