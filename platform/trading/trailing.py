"""Stop losses that follow the price, kept on the server: trailing and the move to break-even.

`trailed` is the rule, `watch_level` the next price at which the rule will move anything, and `TrailBook` all trailing
positions of one price stream ordered by that price, so that a tick touches only the stops that move. Closing a position
whose stop loss was hit belongs to `triggers`.

One tick may trigger and trail: the caller asks `triggers.TriggerBook.hits` first, with the old stop losses, takes what it
closes out of both books, and only then asks `TrailBook.moves`.

The trick: a short position is a long one seen in a mirror. All rules are written for a long position; prices of a short one
are negated on the way in and back on the way out.
"""

from collections.abc import Iterable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from msgspec import Struct
from msgspec.structs import replace

from trading.numbers import ZERO, point
from trading.orders import Side
from trading.protection import Protection, ProtectionTerms
from trading.triggers import PRICE_DECIMALS, Ladder, entry_of, owner_of, ticks


class TrailingTerms(Struct, frozen=True, kw_only=True):
    """How a position's stop loss follows the price. All are distances in price units; the default follows nothing."""

    distance: Decimal | None = None
    """The stop loss is kept this far from the best price (the bid of a long, the ask of a short); None does not trail."""
    step: Decimal = ZERO
    """The stop loss moves by at least this much at a time; 0 moves it with every point."""
    activation: Decimal | None = None
    """Nothing trails while the profit is below this; None means `distance`, so that the first stop is at break-even or better.
    0 trails from the first tick, at a loss as well."""
    break_even_at: Decimal | None = None
    """From this profit on the stop loss stands at the open price at least; None never moves it there."""
    break_even_offset: Decimal = ZERO
    """Profit beyond the open price that the move to break-even secures."""


def trailing_terms(protection: Protection | ProtectionTerms, step: Decimal) -> TrailingTerms:
    """What a protection asks for in points, in price units; `step` is one point."""
    activation = protection.trailing_activation
    return TrailingTerms(
        distance=protection.trailing_points * step if protection.trailing_points else None,
        step=protection.trailing_step * step,
        activation=None if activation is None else activation * step,
        break_even_at=protection.break_even_points * step if protection.break_even_points else None,
        break_even_offset=protection.break_even_offset * step,
    )


class Trail(Struct, frozen=True, kw_only=True, gc=False):
    """One position with a stop loss that follows."""

    position: int
    side: Side
    open_price: Decimal
    stop_loss: Decimal | None
    terms: TrailingTerms


class StopMove(Struct, frozen=True, kw_only=True):
    """A stop loss that is to move, and from where."""

    position: int
    before: Decimal | None
    after: Decimal


def trailed(
    *,
    side: Side,
    open_price: Decimal,
    stop_loss: Decimal | None,
    terms: TrailingTerms,
    bid: Decimal,
    ask: Decimal,
    digits: int,
) -> Decimal | None:
    """Where the stop loss must move at this price; None when it stays. Never against the client.

    The trailing stop is rounded to a point away from the price, so that it is never nearer than the client asked; the
    break-even stop in the client's favour, so that an open price between two points is not closed at a loss.
    """
    sign = side.sign
    price = bid if side is Side.BUY else -ask
    stop = None if stop_loss is None else sign * stop_loss
    targets = [
        target
        for target in (
            _trailing_target(price, sign * open_price, stop, terms, digits),
            _break_even_target(price, sign * open_price, stop, terms, digits),
        )
        if target is not None
    ]
    return sign * max(targets) if targets else None


def _trailing_target(
    price: Decimal, opened: Decimal, stop: Decimal | None, terms: TrailingTerms, digits: int
) -> Decimal | None:
    if terms.distance is None or price < opened + _activation(terms, terms.distance):
        return None
    target = _floor(price - terms.distance, digits)
    is_better = stop is None or (target > stop and target >= stop + terms.step)
    return target if is_better else None


def _break_even_target(
    price: Decimal, opened: Decimal, stop: Decimal | None, terms: TrailingTerms, digits: int
) -> Decimal | None:
    if terms.break_even_at is None or price < opened + terms.break_even_at:
        return None
    target = _ceiling(opened + terms.break_even_offset, digits)
    return target if stop is None or target > stop else None


def _activation(terms: TrailingTerms, distance: Decimal) -> Decimal:
    return distance if terms.activation is None else terms.activation


def watch_level(
    *, side: Side, open_price: Decimal, stop_loss: Decimal | None, terms: TrailingTerms, digits: int
) -> Decimal | None:
    """The price (bid of a long, ask of a short) from which on `trailed` moves the stop loss, and before which it does not.

    None when it will never move again.
    """
    sign = side.sign
    stop = None if stop_loss is None else sign * stop_loss
    levels = list(_next_levels(sign * open_price, stop, terms, digits))
    return sign * min(levels) if levels else None


def _next_levels(opened: Decimal, stop: Decimal | None, terms: TrailingTerms, digits: int) -> Iterator[Decimal]:
    distance = terms.distance
    if distance is not None:
        active = opened + _activation(terms, distance)
        yield active if stop is None else max(active, _next_stop(stop, terms.step, digits) + distance)
    if terms.break_even_at is not None:
        even = _ceiling(opened + terms.break_even_offset, digits)
        if stop is None or even > stop:
            yield opened + terms.break_even_at


def _next_stop(stop: Decimal, step: Decimal, digits: int) -> Decimal:
    """The lowest stop on a point that is better than `stop`, by a step at least."""
    return max(_floor(stop, digits) + point(digits), _ceiling(stop + step, digits))


def _floor(price: Decimal, digits: int) -> Decimal:
    return price.quantize(point(digits), rounding=ROUND_FLOOR)


def _ceiling(price: Decimal, digits: int) -> Decimal:
    return price.quantize(point(digits), rounding=ROUND_CEILING)


class TrailBook:
    """All trailing positions of one price stream. Not thread-safe: it has one writer."""

    __slots__ = ("_digits", "_longs", "_seq", "_shorts", "_trails")

    def __init__(self, digits: int, trails: Iterable[Trail] = ()) -> None:
        """`digits` are the instrument's: stop losses stand on its points."""
        self._digits = digits
        self._trails: dict[int, tuple[Trail, int | None]] = {}
        """By position: the trail, and its entry in a ladder unless it never moves again."""
        self._longs = Ladder()
        self._shorts = Ladder()
        self._seq: int | None = None
        for trail in trails:
            self.add(trail)

    def __len__(self) -> int:
        return len(self._trails)

    def get(self, position: int) -> Trail | None:
        held = self._trails.get(position)
        return None if held is None else held[0]

    def add(self, trail: Trail) -> None:
        """Follow `trail`. Its position must not be in the book already: a change is `replace`. O(log n)."""
        assert trail.position not in self._trails, trail
        entry = _entry(trail, self._digits)
        self._trails[trail.position] = trail, entry
        if entry is not None:
            self._ladder(trail.side).add(entry)

    def remove(self, position: int) -> Trail | None:
        """No longer follow, and return what was followed; None when the position does not trail. O(log n)."""
        trail, entry = self._trails.pop(position, (None, None))
        if trail is not None and entry is not None:
            self._ladder(trail.side).remove(entry)
        return trail

    def replace(self, trail: Trail) -> None:
        """Other terms, another open price (a netting position grew), or a stop loss that the client set. O(log n)."""
        self.remove(trail.position)
        self.add(trail)

    def move(self, position: int, stop_loss: Decimal) -> None:
        """Its stop loss now stands here. Raises KeyError for a position that does not trail. O(log n)."""
        self.replace(replace(self._trails[position][0], stop_loss=stop_loss))

    def after_break(self) -> None:
        """The price stream was interrupted or began anew: any seq may follow."""
        self._seq = None

    def is_passed(self, bid: Decimal, ask: Decimal) -> bool:
        """Whether any stop loss moves at these prices: a look at the front of each ladder."""
        return self._longs.is_passed(ticks(bid)) or self._shorts.is_passed(-ticks(ask))

    def moves(self, quote_seq: int, bid: Decimal, ask: Decimal) -> list[StopMove]:
        """Every stop loss that moves at this quote, lowest position first; nothing for one whose seq does not rise.

        O(log n + moved). The book is not changed: the caller makes each move true with `move`, here and (on STOP_LOSS) in
        the trigger book; until then it is reported at every tick.
        """
        if self._seq is not None and quote_seq <= self._seq:
            return []
        self._seq = quote_seq
        positions = [owner_of(entry) for entry in self._longs.passed(ticks(bid))]
        positions += [owner_of(entry) for entry in self._shorts.passed(-ticks(ask))]
        return [self._move(position, bid, ask) for position in sorted(positions)]

    def _move(self, position: int, bid: Decimal, ask: Decimal) -> StopMove:
        trail, _ = self._trails[position]
        after = trailed(
            side=trail.side,
            open_price=trail.open_price,
            stop_loss=trail.stop_loss,
            terms=trail.terms,
            bid=bid,
            ask=ask,
            digits=self._digits,
        )
        assert after is not None, (trail, bid, ask)
        return StopMove(position=position, before=trail.stop_loss, after=after)

    def _ladder(self, side: Side) -> Ladder:
        return self._longs if side is Side.BUY else self._shorts


def _entry(trail: Trail, digits: int) -> int | None:
    level = watch_level(
        side=trail.side, open_price=trail.open_price, stop_loss=trail.stop_loss, terms=trail.terms, digits=digits
    )
    return None if level is None else entry_of(_first_tick_at(trail.side.sign * level), trail.position)


def _first_tick_at(signed_level: Decimal) -> int:
    """An average open price may lie between two ticks; the price passes it at the next one."""
    return int(signed_level.scaleb(PRICE_DECIMALS).to_integral_value(rounding=ROUND_CEILING))


def trailing_problems(terms: TrailingTerms) -> tuple[str, ...]:
    """What is wrong with these terms, as sentences; empty when a position can have them."""
    return tuple(_problems(terms))


def _problems(terms: TrailingTerms) -> Iterator[str]:
    if terms.distance is not None and terms.distance <= 0:
        yield "the trailing distance must be above zero"
    if terms.step < 0:
        yield "the trailing step cannot be below zero"
    if terms.activation is not None and terms.activation < 0:
        yield "the activation profit cannot be below zero"
    if terms.distance is None and (terms.step or terms.activation is not None):
        yield "a trailing step or activation needs a trailing distance"
    if terms.break_even_at is not None and terms.break_even_at <= 0:
        yield "the break-even profit must be above zero"
    if terms.break_even_offset < 0:
        yield "the break-even offset cannot be below zero"
    if terms.break_even_offset >= (terms.break_even_at or ZERO) and terms.break_even_offset:
        yield "the break-even offset must be below the break-even profit"
