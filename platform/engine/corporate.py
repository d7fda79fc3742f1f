"""What happens to a contract rather than to a client: dividends, splits of its units, and its end.

Each is one command about every position of a symbol. The house is flat on what stands at a provider: what it pays the client
for that part it gets from the provider, and at a contract's end both settle at the same price. Nothing here may meet a close
or an order that a provider is dealing: such a command is refused, and said again later.
"""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.closes import closing_order, uuid_of
from engine.errors import expire_holdings
from engine.fills import Fill, book_fill
from engine.funds import AMOUNT_LIMIT
from engine.orders import VOLUME_LIMIT, take_back
from engine.replies import Asked, late, refuse, use_key
from engine.work import Work
from routing.split import book_of
from trading.answers import Answer
from trading.checks import Refused
from trading.commands import ExpireInstrument, PayDividend, SplitInstrument
from trading.events import DeskChanged, LedgerPosted, OrderFilled, OrderModified, PositionChanged
from trading.instructions import PRICE_LIMIT
from trading.instruments import Instrument
from trading.ledger import HOUSE_DIVIDENDS, TransactionKind, Transfer, client_account, lp_account, moving
from trading.numbers import ONE, ZERO, is_on_step, is_plain, plain, point, round_half_up
from trading.orders import Book, Order, OrderReason, OrderStatus, Side
from trading.positions import Position
from trading.protection import NOTHING_ASKED, POINTS_MAX, UNPROTECTED, Protection, ProtectionTerms
from trading.refusals import Refusal

RATIO_MAX = 10_000
"""No split gives, and no reverse split takes, more units for one than this."""


def _positions_in(work: Work, symbol: str) -> list[Position]:
    """In the order of their tickets, also of those that were reopened."""
    return sorted((p for p in work.state.positions.values() if p.symbol == symbol), key=lambda p: p.id)


def _orders_in(work: Work, symbol: str) -> list[Order]:
    return sorted((o for o in work.state.orders.values() if o.symbol == symbol), key=lambda o: o.id)


def _check_quiet(work: Work, symbol: str) -> Refused | None:
    """Nothing of the symbol is with a provider, and nothing is being closed."""
    if any(leg.symbol == symbol for leg in work.state.legs.values()):
        return Refused(Refusal.INVALID_REQUEST, f"a provider is dealing an order in {symbol}: say it again after that")
    for order in _orders_in(work, symbol):
        if not order.is_resting:
            return Refused(Refusal.INVALID_REQUEST, f"order {order.id} is being dealt: say it again after that")
    for position in _positions_in(work, symbol):
        if position.locked:
            return Refused(Refusal.INVALID_REQUEST, f"position {position.id} is being closed: say it again after that")
    return None


def _check_conversions(work: Work, positions: list[Position]) -> Refused | None:
    """Every result can be had in its account's currency, as a gain and as a loss."""
    for position in positions:
        currency = work.account(position.account).currency
        if work.convert(ONE, work.instrument(position.symbol).quote, currency) is None:
            return Refused(Refusal.NO_QUOTES, f"a price that converts the result to {currency} is missing")
    return None


def _unknown(symbol: str) -> Refused:
    return Refused(Refusal.UNKNOWN_SYMBOL, f"{symbol} is not offered")


# --- dividends ----------------------------------------------------------------------------------------------------------


class Due(Struct, frozen=True):
    """What one position gets, or pays when it is negative."""

    position: Position
    amount: Decimal
    """In the account's currency."""
    from_lp: Decimal
    """For the provider's part, in the quote currency."""


def pay_dividend(work: Work, command: PayDividend, asked: Asked) -> None:
    """Every position that was open before the ex instant, one transaction each. The answer's reference is how many."""
    instrument = work.config.instruments.get(command.symbol)
    concerned = [p for p in _positions_in(work, command.symbol) if p.opened_us < command.ex_us]
    refused = late(work, command) or _check_dividend(work, command, instrument) or _check_conversions(work, concerned)
    dues: list[Due] = []
    if refused is None and instrument is not None:
        dues, refused = _dues(work, command, concerned, instrument)
    if refused is not None or instrument is None:
        refuse(work, asked, refused or _unknown(command.symbol))
        return
    use_key(work, asked, len(dues))
    for due in dues:
        _pay(work, command, due, instrument)
    work.answer(command.reply_to, Answer(command_id=command.id, reference=len(dues)))


def _check_dividend(work: Work, command: PayDividend, instrument: Instrument | None) -> Refused | None:
    if instrument is None:
        return _unknown(command.symbol)
    if not all(is_plain(rate) for rate in (command.long_per_unit, command.short_per_unit)):
        return Refused(Refusal.INVALID_AMOUNT, "a dividend per unit is a plain number")
    if command.ex_us > work.now_us:
        return Refused(Refusal.INVALID_REQUEST, "the ex instant is still to come")
    return None


def _dues(
    work: Work, command: PayDividend, positions: list[Position], instrument: Instrument
) -> tuple[list[Due], Refused | None]:
    """Each position's, rounded half up; refused as a whole where one would be beyond any movement of money."""
    dues: list[Due] = []
    digits = work.config.currency_digits
    for position in positions:
        rate = command.long_per_unit if position.side is Side.BUY else command.short_per_unit
        per_lot, currency = instrument.contract_size * rate, work.account(position.account).currency
        whole = position.volume * per_lot
        converted = work.convert(whole, instrument.quote, currency)
        if converted is None or max(abs(whole), abs(converted)) >= AMOUNT_LIMIT:
            return [], Refused(Refusal.INVALID_AMOUNT, f"position {position.id} would be paid {plain(whole)}")
        from_lp = round_half_up(position.volume_a * per_lot, digits[instrument.quote])
        dues.append(Due(position, round_half_up(converted, digits[currency]), from_lp))
    return [due for due in dues if due.amount or due.from_lp], None


def _pay(work: Work, command: PayDividend, due: Due, instrument: Instrument) -> None:
    account = work.account(due.position.account)
    lines = [(HOUSE_DIVIDENDS, client_account(account.id), account.currency, due.amount)]
    if due.from_lp:
        lines.append((lp_account(due.position.lp), HOUSE_DIVIDENDS, instrument.quote, due.from_lp))
    transfers = tuple(_transfers(work, due.position, lines, command.reference))
    after = replace(account, balance=account.balance + due.amount, version=account.version + 1)
    work.emit(LedgerPosted(transfers, after if due.amount else None))


def _transfers(
    work: Work, position: Position, lines: list[tuple[str, str, str, Decimal]], reference: str
) -> Iterator[Transfer]:
    """(source, target, currency, amount); a negative amount goes the other way, and nothing is no line."""
    number = 0
    for source, target, currency, amount in lines:
        if not amount:
            continue
        number += 1
        yield moving(
            transaction_id=work.state.counters.transaction,
            line=number,
            kind=TransactionKind.DIVIDEND,
            source=source,
            target=target,
            currency=currency,
            amount=amount,
            at_us=work.now_us,
            position_id=position.id,
            reference=reference,
        )


# --- splits -------------------------------------------------------------------------------------------------------------


def split_instrument(work: Work, command: SplitInstrument, asked: Asked) -> None:
    """Volumes times new/old, prices divided by it, money as it was. The answer's reference is how many positions changed.

    The symbol's last price is forgotten, since it is one of the old units: nothing is valued until a price of the new ones
    has come. The contract's own terms are the configuration's.
    """
    instrument = work.config.instruments.get(command.symbol)
    refused = late(work, command) or _check_ratio(command, instrument) or _check_quiet(work, command.symbol)
    if refused is None and instrument is not None:
        refused = _check_split(work, command, instrument)
    if refused is not None or instrument is None:
        refuse(work, asked, refused or _unknown(command.symbol))
        return
    split = Split(command.new, command.old, instrument)
    positions, orders = _positions_in(work, command.symbol), _orders_in(work, command.symbol)
    use_key(work, asked, len(positions))
    work.state.quotes.pop(command.symbol, None)
    desk = work.state.desk
    splits = {**dict(desk.splits), command.symbol: work.now_us}
    work.emit(DeskChanged(replace(desk, splits=tuple(sorted(splits.items())))))
    for position in positions:
        work.emit(PositionChanged(replace(split.position(position), updated_us=work.now_us)))
    for order in orders:
        work.emit(OrderModified(replace(split.order(order), updated_us=work.now_us)))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=len(positions)))


def _check_ratio(command: SplitInstrument, instrument: Instrument | None) -> Refused | None:
    if instrument is None:
        return _unknown(command.symbol)
    if not (1 <= command.new <= RATIO_MAX and 1 <= command.old <= RATIO_MAX) or command.new == command.old:
        return Refused(Refusal.INVALID_REQUEST, f"a split is of two different whole numbers up to {RATIO_MAX}")
    return None


def _check_split(work: Work, command: SplitInstrument, instrument: Instrument) -> Refused | None:
    """Every volume stays on the symbol's grid, and every price a price."""
    if any(holding.symbol == command.symbol for holding in work.state.desk.errors):
        return Refused(Refusal.INVALID_REQUEST, "the house's error account must be flat in the symbol before")
    split = Split(command.new, command.old, instrument)
    for position in _positions_in(work, command.symbol):
        lp_step = _provider_step(work, position, instrument)
        fits = all(split.fits(volume, instrument.volume_step) for volume in (position.volume_opened, position.volume))
        if not fits or not all(split.fits(part, lp_step) for part in (position.volume_a_opened, position.volume_a)):
            return Refused(Refusal.INVALID_REQUEST, f"position {position.id} would leave the volume grid")
        after = split.protection(position.protection, position.side)
        if not _are_prices(_levels(after)) or not _are_distances(after):
            return Refused(Refusal.INVALID_REQUEST, f"the protection of position {position.id} would be no price")
    for order in _orders_in(work, command.symbol):
        if order.filled_volume:
            return Refused(Refusal.INVALID_REQUEST, f"order {order.id} is filled in part: take its rest back first")
        if not split.fits(order.volume, instrument.volume_step):
            return Refused(Refusal.INVALID_REQUEST, f"order {order.id} would leave the volume grid")
        then = split.order(order)
        if not _are_prices((then.price, then.stop_price, *_levels(then.protection))):
            return Refused(Refusal.INVALID_REQUEST, f"a price of order {order.id} would be no price")
        if not then.protection.is_consistent:
            return Refused(Refusal.INVALID_REQUEST, f"a distance of order {order.id} would be too long")
    return None


def _provider_step(work: Work, position: Position, instrument: Instrument) -> Decimal:
    """A provider may deal in finer steps than the symbol's clients."""
    lp = work.config.lps.get(position.lp)
    terms = lp.instruments.get(position.symbol) if lp else None
    return terms.volume_step if terms else instrument.volume_step


def _levels(protection: Protection | ProtectionTerms) -> tuple[Decimal | None, Decimal | None]:
    return protection.stop_loss, protection.take_profit


def _are_prices(prices: tuple[Decimal | None, ...]) -> bool:
    return all(price is None or 0 < price < PRICE_LIMIT for price in prices)


def _are_distances(protection: Protection) -> bool:
    distances = (protection.trailing_points, protection.trailing_step, protection.trailing_activation or 0)
    return max(*distances, protection.break_even_points, protection.break_even_offset) <= POINTS_MAX


class Split:
    """One split's arithmetic. Prices are rounded to the grid away from the market, in the client's favour: a stop is not
    nearer than it was, a limit and a take profit are not worse."""

    __slots__ = ("_new", "_old", "_point", "_step")

    def __init__(self, new: int, old: int, instrument: Instrument) -> None:
        self._new, self._old = new, old
        self._point = point(instrument.digits)
        self._step = instrument.volume_step

    def fits(self, volume: Decimal, step: Decimal) -> bool:
        """The volume in new units is a whole number of steps, and can be stored."""
        return is_on_step(volume * self._new, step * self._old) and volume * self._new < VOLUME_LIMIT * self._old

    def position(self, position: Position) -> Position:
        """Costs are price x volume: they stay, so what was won or lost stays to the last digit."""
        return replace(
            position,
            volume_opened=self._volume(position.volume_opened),
            volume=self._volume(position.volume),
            volume_a_opened=self._volume(position.volume_a_opened),
            volume_a=self._volume(position.volume_a),
            locked=self._volume(position.locked),
            protection=self.protection(position.protection, position.side),
        )

    def order(self, order: Order) -> Order:
        """A buy's limit lies below the market and its stop above, a sell's the other way."""
        down, up = (ROUND_FLOOR, ROUND_CEILING) if order.side is Side.BUY else (ROUND_CEILING, ROUND_FLOOR)
        return replace(
            order,
            volume=self._volume(order.volume),
            netted=self._volume(order.netted),
            price=self._price(order.price, down),
            stop_price=self._price(order.stop_price, up),
            protection=self._terms(order.protection, order.side),
        )

    def protection(self, standing: Protection, side: Side) -> Protection:
        if standing == UNPROTECTED:
            return UNPROTECTED
        stop_loss, take_profit = self._away(standing.stop_loss, standing.take_profit, side)
        return replace(standing, stop_loss=stop_loss, take_profit=take_profit, **self._following(standing))

    def _terms(self, terms: ProtectionTerms, side: Side) -> ProtectionTerms:
        if terms == NOTHING_ASKED:
            return NOTHING_ASKED
        stop_loss, take_profit = self._away(terms.stop_loss, terms.take_profit, side)
        return replace(
            terms,
            stop_loss=stop_loss,
            take_profit=take_profit,
            stop_loss_points=self._distance(terms.stop_loss_points),
            take_profit_points=self._distance(terms.take_profit_points),
            **self._following(terms),
        )

    def _away(
        self, stop_loss: Decimal | None, take_profit: Decimal | None, side: Side
    ) -> tuple[Decimal | None, Decimal | None]:
        down, up = (ROUND_FLOOR, ROUND_CEILING) if side is Side.BUY else (ROUND_CEILING, ROUND_FLOOR)
        return self._price(stop_loss, down), self._price(take_profit, up)

    def _following(self, protection: Protection | ProtectionTerms) -> dict[str, int | None]:
        activation = protection.trailing_activation
        return {
            "trailing_points": self._distance(protection.trailing_points),
            "trailing_step": self._distance(protection.trailing_step),
            "trailing_activation": None if activation is None else self._distance(activation),
            "break_even_points": self._distance(protection.break_even_points),
            "break_even_offset": self._distance(protection.break_even_offset),
        }

    def _volume(self, volume: Decimal) -> Decimal:
        """Written with the step's decimals where the provider's part is not finer."""
        if not volume:
            return ZERO
        after = volume * self._new / self._old
        tidy = after.quantize(self._step)
        return tidy if tidy == after else after

    def _price(self, price: Decimal | None, rounding: str) -> Decimal | None:
        return None if price is None else (price * self._old / self._new).quantize(self._point, rounding=rounding)

    def _distance(self, points: int) -> int:
        """Rounded up: never nearer than it was, and never nothing."""
        return -(-points * self._old // self._new)


# --- the end of a contract ----------------------------------------------------------------------------------------------


def expire_instrument(work: Work, command: ExpireInstrument, asked: Asked) -> None:
    """Waiting orders are taken back, positions closed at the settlement price by an order each. The answer's reference is
    how many positions that were."""
    instrument = work.config.instruments.get(command.symbol)
    positions = _positions_in(work, command.symbol)
    refused = (
        late(work, command)
        or _check_end(work, command, instrument)
        or _check_quiet(work, command.symbol)
        or _check_conversions(work, positions)
    )
    if refused is not None:
        refuse(work, asked, refused)
        return
    use_key(work, asked, len(positions))
    for order in _orders_in(work, command.symbol):
        take_back(work, order)
    for position in positions:
        _settle(work, position, command)
    expire_holdings(work, command.symbol, command.price)
    work.answer(command.reply_to, Answer(command_id=command.id, reference=len(positions)))


def _check_end(work: Work, command: ExpireInstrument, instrument: Instrument | None) -> Refused | None:
    """A settlement price may be finer than the symbol's grid."""
    if instrument is None:
        return _unknown(command.symbol)
    if not is_plain(command.price) or not 0 < command.price < PRICE_LIMIT:
        return Refused(Refusal.INVALID_PRICE, "a settlement price is a positive plain number")
    if instrument.expires_us > work.now_us:
        return Refused(Refusal.INVALID_REQUEST, f"{command.symbol} has not expired yet")
    return None


def _settle(work: Work, position: Position, command: ExpireInstrument) -> None:
    """Both books at the same price: the provider's contract ends there too, without an order to it."""
    number = work.state.counters.order
    order = replace(
        closing_order(work, position, position.volume),
        uuid=uuid_of(work.state.shard, number),
        client_order_id=f"{OrderReason.EXPIRY.value}/{position.id}/{number}",
        reason=OrderReason.EXPIRY,
        comment=command.reference,
        book=book_of(position.volume_a, position.volume_b),
        volume_a=position.volume_a,
    )
    volume_a, volume_b, price = position.volume_a, position.volume_b, command.price
    if volume_a:
        order = book_fill(work, order, Fill(book=Book.A, volume=volume_a, price=price, lp=position.lp, lp_price=price))
    if volume_b:
        order = book_fill(work, order, Fill(book=Book.B, volume=volume_b, price=price))
    work.emit(OrderFilled(replace(order, status=OrderStatus.FILLED)))
