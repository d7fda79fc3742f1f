"""What a deal makes and what it costs: the realised result, commissions, maker and taker fees, the fee for converting.

`commission_per_lot` is the plain way and costs one multiplication. Everything else is charged rule by rule: with the deal, or
blocked until the business date is over (`engine.settlement` posts it). The arithmetic is `trading.charges`; here the facts
are gathered, and it is remembered what tiers look at: an account's last thirty business dates for what is charged with the
deal, the calendar month under one rule for what is charged daily. All prices that an amount is converted at count as used.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from engine.work import Work
from trading.accounts import Account, DayTurnover
from trading.calendar import business_date
from trading.charges.commission import (
    UNIT_DIGITS,
    Block,
    Bucket,
    CommissionBasis,
    CommissionEntry,
    CommissionPosting,
    CommissionTerms,
    CommissionTierBasis,
    DealFacts,
    Turnover,
    Units,
    rated_bucket,
    units_of,
    volumes,
)
from trading.charges.commission import commission as commission_under
from trading.charges.fees import FeeSchedule, maker_fee, taker_fee
from trading.configuration import Group
from trading.conversion import ConversionRule, Converter, Traded, conversion_fee
from trading.desk import CommissionBlock
from trading.effective import margin_currency_of
from trading.events import CommissionBlocked
from trading.instruments import Instrument
from trading.ledger import HOUSE_COMMISSION, HOUSE_FEES, TransactionKind
from trading.masks import mask
from trading.numbers import ONE, ZERO, round_half_up
from trading.orders import Deal, DealEntry, Order, OrderCommission, OrderType, Side
from trading.positions import Position
from trading.pricing import client_quote
from trading.profit import Closing, realised_result
from trading.quotes import Quote

TURNOVER_DAYS = 30
"""Business dates, the present one included, that tiers by an account's turnover look at."""

NO_COMMISSION = OrderCommission()


class Payment(Struct, frozen=True):
    """One part of what the client pays; below zero it is given."""

    kind: TransactionKind
    target: str
    amount: Decimal
    reference: str = ""


class Charges(Struct, frozen=True, kw_only=True):
    """What one deal costs besides `commission_per_lot`, and what has to be remembered of it."""

    payments: tuple[Payment, ...] = ()
    commission: Decimal = ZERO
    """The commissions among the payments."""
    fee: Decimal = ZERO
    """All other payments."""
    whole_order: tuple[OrderCommission, ...] = ()
    """The order's `commissions` after the deal."""
    blocked: tuple[tuple[str, Units], ...] = ()
    """(daily rule, the deal counted under it)"""
    turnover: tuple[DayTurnover, ...] | None = None
    """The account's, with the deal; None where nobody looks at it."""


NO_CHARGES = Charges()


class Dealing(Struct, frozen=True, kw_only=True):
    """The deal that is being charged."""

    entry: DealEntry
    volume: Decimal
    price: Decimal
    profit: Decimal = ZERO
    is_maker: bool = False


def commission(work: Work, account_number: int, volume: Decimal) -> Decimal:
    """What one deal of `volume` lots costs by the group's plain rate, in the account's currency."""
    account = work.account(account_number)
    rate = work.group_of(account).commission_per_lot
    return round_half_up(rate * volume, work.config.currency_digits[account.currency])


def deals_plainly(work: Work, account: Account, symbol: str) -> bool:
    """Whether a deal costs nothing but `commission_per_lot`."""
    return work.state.terms.costs_plainly(account.group, symbol)


def charges_of(work: Work, order: Order, dealing: Dealing) -> Charges | None:
    """Everything else that the deal costs; None when an amount cannot be converted now."""
    account = work.account(order.account)
    if deals_plainly(work, account, order.symbol):
        return NO_CHARGES
    return _charging(work, account, order.symbol).charges(order, dealing)


def expected_costs(work: Work, account: Account, order: Order) -> Decimal | None:
    """What opening all that is open of the order will take at once; None when it cannot be said now."""
    plain = commission(work, order.account, order.open_volume)
    if deals_plainly(work, account, order.symbol):
        return plain
    price = order.price or order.stop_price or _market_price(work, account, order)
    if price is None:
        return None
    charges = charges_of(work, order, Dealing(entry=DealEntry.IN, volume=order.open_volume, price=price))
    return None if charges is None else plain + charges.commission + charges.fee


def can_charge(work: Work, account: Account, symbol: str) -> bool:
    """Whether everything that a deal in the symbol costs could be converted now."""
    return deals_plainly(work, account, symbol) or _charging(work, account, symbol).is_possible()


def is_maker(order: Order, dealable_us: int) -> bool:
    """A limit order that was not dealt when it came, but waited for its price (or for another provider)."""
    return order.type is OrderType.LIMIT and dealable_us > order.created_us


def result_of(
    work: Work, position: Position, *, volume: Decimal, closed_cost: Decimal, close_cost: Decimal
) -> Decimal | None:
    """Realised result of closing `volume` that cost `closed_cost` for `close_cost` (price x lots), in the account's currency.

    None when it cannot be converted now.
    """
    instrument, account = work.instrument(position.symbol), work.account(position.account)
    rule = work.group_of(account).conversion.result
    digits = work.config.currency_digits

    def convert(amount: Decimal) -> Decimal | None:
        if rule is ConversionRule.MARKET_WORST:
            return work.convert(amount, instrument.quote, account.currency)
        traded = Traded(side=position.side, symbol=position.symbol, price=close_cost / volume)
        return converter_of(work).convert(amount, instrument.quote, account.currency, rule=rule, traded=traded)

    return realised_result(
        work.terms_for(account, position.symbol).profit,
        Closing(
            side=position.side,
            volume=volume,
            contract_size=instrument.contract_size,
            open_cost=closed_cost,
            close_cost=close_cost,
        ),
        convert=convert,
        profit_digits=digits[instrument.quote],
        account_digits=digits[account.currency],
    )


# --- what is remembered -------------------------------------------------------------------------------------------------


def remember(work: Work, account: Account, deal: Deal, charges: Charges) -> Account:
    """The account with the deal's blocks and turnover on it. Emits the blocks, but not yet the account."""
    for rule, counted in charges.blocked:
        day = business_date(work.now_us).isoformat()
        key = f"deal:{deal.id}"
        work.emit(CommissionBlocked(CommissionBlock(account=account.id, rule=rule, date=day, key=key, counted=counted)))
    if charges.blocked:
        account = replace(account, commission_blocked=blocked_of(work, account))
    return account if charges.turnover is None else replace(account, turnover=charges.turnover)


def blocked_of(work: Work, account: Account) -> Decimal:
    """All commission of the account that is not yet taken, as things stand."""
    rules = {rule.name: rule.terms for rule in work.group_of(account).commissions}
    return sum(
        (bucket.blocked for name, terms in rules.items() for bucket in buckets_of(work, account, name, terms)), ZERO
    )


def buckets_of(work: Work, account: Account, rule: str, terms: CommissionTerms) -> Iterator[Bucket]:
    """What is blocked under one rule, a bucket per business date, oldest first.

    Tiers by turnover begin anew with each calendar month.
    """
    digits = work.config.currency_digits[account.currency]
    days: dict[str, list[Block]] = {}
    for block in work.state.blocks.get((account.id, rule), {}).values():
        days.setdefault(block.date, []).append(Block(key=block.key, counted=block.counted))
    last = work.state.turnovers.get((account.id, rule))
    month, before = (last.date[:7], Turnover(lots=last.lots, money=last.money)) if last else ("", Turnover())
    for day in sorted(days):
        before = before if day[:7] == month else Turnover()
        bucket = rated_bucket(day, tuple(days[day]), before, terms, digits=digits)
        yield bucket
        month, before = day[:7], bucket.after


# --- one deal's charges -------------------------------------------------------------------------------------------------


class LookedAt(Mapping[str, Quote]):
    """The newest quotes, each remembered as used when it is looked at."""

    __slots__ = ("_work",)

    def __init__(self, work: Work) -> None:
        self._work = work

    def __getitem__(self, symbol: str) -> Quote:
        quote = self._work.quote(symbol)
        if quote is None:
            raise KeyError(symbol)
        return quote

    def __iter__(self) -> Iterator[str]:
        return iter(self._work.state.quotes)

    def __len__(self) -> int:
        return len(self._work.state.quotes)


def converter_of(work: Work) -> Converter:
    return Converter(work.config.conversions, LookedAt(work))


class _Charging:
    """The terms that one account's deals in one symbol are charged by."""

    def __init__(self, work: Work, account: Account, group: Group, terms: Instrument) -> None:
        self.work = work
        self.account = account
        self.group = group
        self.terms = terms
        self.converter = converter_of(work)
        self.digits = work.config.currency_digits[account.currency]
        self.today = business_date(work.now_us)

    def charges(self, order: Order, dealing: Dealing) -> Charges | None:
        recent = recent_turnover(self.account.turnover, self.today)
        commissions = self._commissions(order, dealing, recent)
        fee = self._fee(order, dealing, recent)
        turnover = self._turnover_after(order.side, dealing, recent)
        if commissions is None or fee is None or turnover is None:
            return None
        payments, whole_order, blocked = commissions
        converting = self._conversion_fee(dealing)
        fees = (
            Payment(TransactionKind.FEE, HOUSE_FEES, fee),
            Payment(TransactionKind.CONVERSION_FEE, HOUSE_FEES, converting),
        )
        return Charges(
            payments=(*payments, *(payment for payment in fees if payment.amount)),
            commission=sum((payment.amount for payment in payments), ZERO),
            fee=fee + converting,
            whole_order=whole_order,
            blocked=blocked,
            turnover=turnover if self._counts_turnover else None,
        )

    def is_possible(self) -> bool:
        """One lot either way, whatever its side and reason."""
        facts = self._facts(Side.BUY, ONE, {"volume_in": ONE, "volume_out": ONE})
        rules = (rule.terms for rule in self.group.commissions if matches(rule.symbols, self.terms.symbol))
        anybodys = (replace(terms, side=None, reasons=()) for terms in rules)
        can_be_counted = all(units_of(terms, facts, self.converter) is not None for terms in anybodys)
        return can_be_counted and (not self._counts_turnover or self._value(Side.BUY, ONE, ONE, "USD") is not None)

    def _commissions(
        self, order: Order, dealing: Dealing, recent: tuple[DayTurnover, ...]
    ) -> tuple[list[Payment], tuple[OrderCommission, ...], tuple[tuple[str, Units], ...]] | None:
        """(what is paid now per rule, the order's commissions after it, what is blocked)"""
        parts = volumes(dealing.entry, dealing.volume)
        facts = self._facts(order.side, dealing.price, parts, dealing.profit, order.reason.value)
        turnover = Turnover(lots=sum((d.lots for d in recent), ZERO), money=sum((d.money for d in recent), ZERO))
        payments: list[Payment] = []
        blocked: list[tuple[str, Units]] = []
        whole = _slots(self.group, order)
        for rule in self.group.commissions:
            if not matches(rule.symbols, self.terms.symbol):
                continue
            if dealing.entry is DealEntry.OUT_BY and rule.terms.entry is not CommissionEntry.OUT:
                continue  # both openings have paid, and nobody deals again
            if rule.terms.posting is CommissionPosting.DAILY:
                counted = units_of(rule.terms, facts, self.converter)
                if counted is None:
                    return None
                if counted.volume:
                    blocked.append((rule.name, counted))
                continue
            charged = commission_under(
                rule.terms,
                facts,
                converter=self.converter,
                digits=self.digits,
                before=whole.get(rule.name, NO_COMMISSION),
                turnover=turnover,
            )
            if charged is None:
                return None
            if rule.name in whole:
                whole[rule.name] = charged[1]
            if charged[0]:
                payments.append(Payment(TransactionKind.COMMISSION, HOUSE_COMMISSION, charged[0], rule.name))
        return payments, tuple(whole.values()), tuple(blocked)

    def _facts(
        self, side: Side, price: Decimal, parts: dict[str, Decimal], profit: Decimal = ONE, reason: str = ""
    ) -> DealFacts:
        terms = self.terms
        return DealFacts(
            side=side,
            symbol=terms.symbol,
            price=price,
            contract_size=terms.contract_size,
            digits=terms.digits,
            base=terms.base,
            profit_currency=terms.quote,
            margin_currency=margin_currency_of(terms),
            account_currency=self.account.currency,
            profit=profit,
            reason=reason,
            **parts,
        )

    def _fee(self, order: Order, dealing: Dealing, recent: tuple[DayTurnover, ...]) -> Decimal | None:
        schedule = self.terms.fees
        if schedule is None or dealing.entry is DealEntry.OUT_BY:
            return ZERO
        value = self._value(order.side, dealing.volume, dealing.price, self.account.currency)
        if value is None:
            return None
        usd = sum((day.usd for day in recent), ZERO)
        return _fee_on(schedule, value, usd, self.digits, is_maker=dealing.is_maker)

    def _conversion_fee(self, dealing: Dealing) -> Decimal:
        return conversion_fee(
            dealing.profit,
            terms=self.group.conversion,
            source=self.terms.quote,
            target=self.account.currency,
            digits=self.digits,
        )

    @property
    def _counts_turnover(self) -> bool:
        return self.terms.fees is not None or any(_looks_back(rule.terms) for rule in self.group.commissions)

    def _turnover_after(
        self, side: Side, dealing: Dealing, recent: tuple[DayTurnover, ...]
    ) -> tuple[DayTurnover, ...] | None:
        if not self._counts_turnover or dealing.entry is DealEntry.OUT_BY:
            return recent
        money = self._value(side, dealing.volume, dealing.price, self.account.currency)
        usd = self._value(side, dealing.volume, dealing.price, "USD")
        if money is None or usd is None:
            return None
        today = self.today.isoformat()
        added = DayTurnover(today, dealing.volume, round_half_up(money, UNIT_DIGITS), round_half_up(usd, UNIT_DIGITS))
        if not recent or recent[-1].date != today:
            return (*recent, added)
        last = recent[-1]
        joined = DayTurnover(today, last.lots + added.lots, last.money + added.money, last.usd + added.usd)
        return (*recent[:-1], joined)

    def _value(self, side: Side, volume: Decimal, price: Decimal, currency: str) -> Decimal | None:
        """Contract value in `currency`, unrounded."""
        value = volume * self.terms.contract_size * price
        return self.converter.cost(value, self.terms.quote, currency, traded=Traded(side=side))


def recent_turnover(turnover: tuple[DayTurnover, ...], today: date) -> tuple[DayTurnover, ...]:
    """What is not older than tiers look."""
    oldest = (today - timedelta(days=TURNOVER_DAYS - 1)).isoformat()
    return tuple(day for day in turnover if day.date >= oldest)


@lru_cache(maxsize=4096)
def matches(pattern: str, symbol: str) -> bool:
    """Whether a rule speaks about the symbol."""
    return mask(pattern)(symbol)


def _slots(group: Group, order: Order) -> dict[str, OrderCommission]:
    """Per rule that counts whole orders what the order has paid under it so far."""
    names = [rule.name for rule in group.commissions if rule.terms.basis is CommissionBasis.WHOLE_ORDER]
    so_far = (*order.commissions, *([NO_COMMISSION] * len(names)))
    return dict(zip(names, so_far, strict=False))


def _looks_back(terms: CommissionTerms) -> bool:
    is_instant = terms.posting is CommissionPosting.INSTANT
    return is_instant and bool(terms.tiers) and terms.tier_basis is not CommissionTierBasis.VOLUME


def _fee_on(schedule: FeeSchedule, value: Decimal, usd: Decimal, digits: int, *, is_maker: bool) -> Decimal:
    fee = maker_fee if is_maker else taker_fee
    return fee(schedule, value=value, turnover_usd=usd, digits=digits)


def _market_price(work: Work, account: Account, order: Order) -> Decimal | None:
    quote = work.quote(order.symbol)
    if quote is None:
        return None
    seen = client_quote(quote, work.group_of(account), work.terms_for(account, order.symbol))
    return seen.ask if order.side is Side.BUY else seen.bid


def _charging(work: Work, account: Account, symbol: str) -> _Charging:
    return _Charging(work, account, work.group_of(account), work.terms_for(account, symbol))
