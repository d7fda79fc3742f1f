"""How an account stands: what it is worth at given prices, the margin it ties up, and the limits that it is held against.

Closes in flight count as filled: what they will set free is not waited for twice. Worth is a function of prices, so that
`guard` can ask for the worst case within bounds with the very same arithmetic.
"""

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.watch import day_of
from engine.work import Work
from engine.worth import worth_of
from trading.accounts import Account
from trading.margin import unrealised
from trading.margining.account import Intent
from trading.margining.exposures import position_exposure
from trading.margining.level import (
    Worth,
    equity,
    equity_at_level,
    is_level_at_or_below,
    margin_level,
    regulatory_equity,
)
from trading.margining.modes import Exposure, split
from trading.margining.terms import MarginKind
from trading.numbers import ZERO, plain, point
from trading.orders import OrderReason
from trading.pricing import client_quote, conversion_key, convert
from trading.quotes import ClientQuote, Quote
from trading.regulation import JurisdictionUnknown, RegulatoryRule, RegulatoryTerms, must_close_out, rule_for
from trading.stopout import StopOutTerms


class Seen(Struct, frozen=True):
    """Every price that an account's worth depends on."""

    shown: dict[str, ClientQuote]
    """Of the symbols it holds, as its group sees them."""
    raw: dict[str, Quote]
    """Of the symbols that convert its results."""


class Standing(Struct, frozen=True, kw_only=True):
    """Money and margin, in the account's currency, with the closes in flight counted as filled."""

    equity: Decimal
    """Rounded down."""
    own: Decimal
    """The same without credit."""
    margin: Decimal
    margin_held: Decimal
    """Of positions alone."""
    is_open: bool
    """Anything would be left open, or waits with margin of its own."""

    @property
    def level(self) -> Decimal | None:
        """Per cent, to two decimals, never flattered."""
        level = margin_level(self.equity, self.margin)
        return None if level is None else level.quantize(point(2), rounding=ROUND_FLOOR)


class Breach(Struct, frozen=True):
    """Why an account is to be closed."""

    reason: OrderReason
    rule: str


class Limits(Struct, frozen=True, kw_only=True):
    """What an account is held against: its group's thresholds, and what the law demands."""

    terms: StopOutTerms
    law: RegulatoryTerms
    currency: str

    def calls(self, standing: Standing) -> int:
        """How many margin calls the account stands at or below."""
        counted = self._counted(standing)
        return sum(is_level_at_or_below(counted, standing.margin, call) for call in self.terms.margin_calls)

    def breach(self, standing: Standing) -> Breach | None:
        """The first limit that demands closing."""
        terms, counted = self.terms, self._counted(standing)
        if terms.level is not None and is_level_at_or_below(counted, standing.margin, terms.level):
            return Breach(OrderReason.STOP_OUT, f"stop-out {plain(terms.level)}")
        if not standing.is_open:
            return None
        if terms.equity is not None and counted <= terms.equity:
            return Breach(OrderReason.STOP_OUT, f"stop-out at {plain(terms.equity)} {self.currency}")
        if must_close_out(equity=standing.own, initial_margin=standing.margin_held, terms=self.law):
            return Breach(OrderReason.CLOSE_OUT, self.law.rule)
        if terms.closes_hedged and not standing.margin and counted < 0:
            return Breach(OrderReason.STOP_OUT, "stop-out of hedged accounts")
        return None

    def floors(self, standing: Standing, alarm: int) -> list[Decimal]:
        """Equities at which something would happen, if the account came down to them; the margin stays as it is."""
        terms, margin = self.terms, standing.margin
        uncounted = ZERO if terms.counts_credit else standing.equity - standing.own
        levels = [*terms.margin_calls[alarm : alarm + 1], *([terms.level] if terms.level is not None else [])]
        floors = [equity_at_level(margin, level) + uncounted for level in levels] if margin else []
        if terms.equity is not None:
            floors.append(terms.equity + uncounted)
        if self.law.close_out_share is not None and standing.margin_held:
            floors.append(standing.margin_held * self.law.close_out_share + standing.equity - standing.own)
        if terms.closes_hedged and not margin:
            floors.append(uncounted)
        return floors

    def ceiling(self, standing: Standing, alarm: int) -> Decimal | None:
        """The equity above which a margin call is over."""
        if not alarm or not standing.margin:
            return None
        uncounted = ZERO if self.terms.counts_credit else standing.equity - standing.own
        return equity_at_level(standing.margin, self.terms.margin_calls[alarm - 1]) + uncounted

    def _counted(self, standing: Standing) -> Decimal:
        return standing.equity if self.terms.counts_credit else standing.own


class Look(Struct, frozen=True, kw_only=True):
    """One look at an account."""

    account: Account
    limits: Limits
    seen: Seen
    worth: Worth
    digits: int
    cuts: dict[int, Decimal]
    """Lots per position that closes in flight will take."""
    standing: Standing
    results: dict[tuple[int, Decimal], Decimal] = {}
    """What positions (by number and open lots) have made at these prices, as far as somebody asked."""

    def at(self, profit: Decimal) -> Standing:
        """The standing if open positions had this result."""
        worth = replace(self.worth, profit=profit)
        return replace(self.standing, equity=equity(worth, self.digits), own=regulatory_equity(worth, self.digits))


class Unpriced(Struct, frozen=True):
    """The account cannot be valued: `symbol` was never priced, or is empty where no path converts."""

    symbol: str


def look_at(work: Work, account: Account) -> Look | Unpriced:
    """The account as it stands at the newest prices, which count as used."""
    seen = seen_by(work, account)
    if isinstance(seen, Unpriced):
        return seen
    worth = worth_of(work, account)
    assert worth is not None, "every price was seen"
    limits = limits_of(work, account)
    cuts = cuts_in_flight(work, account)
    return Look(
        account=account,
        limits=limits,
        seen=seen,
        worth=worth,
        digits=work.config.currency_digits[account.currency],
        cuts=cuts,
        standing=standing_with(work, account, limits, worth, cuts),
    )


def standing_with(work: Work, account: Account, limits: Limits, worth: Worth, cuts: Mapping[int, Decimal]) -> Standing:
    """The standing once these lots of its positions were closed at today's prices."""
    digits = work.config.currency_digits[account.currency]
    is_law_asked = limits.law.close_out_share is not None
    return Standing(
        equity=equity(worth, digits),
        own=regulatory_equity(worth, digits),
        margin=margin_without(work, account, cuts),
        margin_held=margin_of_positions(work, account, cuts) if is_law_asked else ZERO,
        is_open=_leaves_open(work, account, cuts),
    )


# --- worth --------------------------------------------------------------------------------------------------------------


def seen_by(work: Work, account: Account) -> Seen | Unpriced:
    """The prices that the account depends on, as they are now."""
    shown: dict[str, ClientQuote] = {}
    raw: dict[str, Quote] = {}
    group = work.group_of(account)
    for symbol in work.state.holdings.get(account.id, ()):
        quote = work.quote(symbol)
        if quote is None:
            return Unpriced(symbol)
        terms = work.terms_for(account, symbol)
        shown[symbol] = client_quote(quote, group, terms)
        path = work.config.conversions.get(conversion_key(terms.quote, account.currency))
        if path is None:
            return Unpriced("")
        for step in path:
            rate = work.quote(step.symbol)
            if rate is None:
                return Unpriced(step.symbol)
            raw[step.symbol] = rate
    return Seen(shown, raw)


def profit_at(work: Work, account: Account, seen: Seen) -> Decimal:
    """The unrealised result of everything it holds. It never falls when a bid rises or an ask falls: longs are worth the
    bid, shorts the ask, and what is converted is converted at the worse side. At today's prices it is `worth_of`'s profit."""
    total = ZERO
    for symbol, holding in sorted(work.state.holdings.get(account.id, {}).items()):
        instrument = work.terms_for(account, symbol)
        result = unrealised(holding, seen.shown[symbol], instrument.lot_value)
        converted = convert(result, instrument.quote, account.currency, work.config, seen.raw)
        assert converted is not None, "every price was seen"
        total += converted
    return total


# --- margin -------------------------------------------------------------------------------------------------------------


def cuts_in_flight(work: Work, account: Account) -> dict[int, Decimal]:
    """Lots per position that are being closed."""
    state = work.state
    return {number: state.positions[number].locked for number in sorted(state.closing.get(account.id, ()))}


def margin_without(work: Work, account: Account, cuts: Mapping[int, Decimal]) -> Decimal:
    """The account's margin without these lots of its positions."""
    if not cuts:
        return work.state.margin_used(account.id)
    return work.state.margin_of(account.id).margin_if(Intent(closes=_closed(work, account, cuts)))


def margin_of_positions(work: Work, account: Account, cuts: Mapping[int, Decimal]) -> Decimal:
    """The same for its positions alone: nothing that waits or works counts."""
    orders = tuple(part for part in work.state.exposures(account.id) if part.kind is not MarginKind.POSITION)
    if not orders:
        return margin_without(work, account, cuts)
    intent = Intent(closes=(*_closed(work, account, cuts), *orders))
    return work.state.margin_of(account.id).margin_if(intent)


def _closed(work: Work, account: Account, cuts: Mapping[int, Decimal]) -> tuple[Exposure, ...]:
    rounding = work.group_of(account).margin.rounding
    digits = work.config.currency_digits[account.currency]
    whole = ((position_exposure(work.state.positions[number]), lots) for number, lots in cuts.items())
    return tuple(split(exposure, lots, rounding=rounding, digits=digits)[0] for exposure, lots in whole)


def _leaves_open(work: Work, account: Account, cuts: Mapping[int, Decimal]) -> bool:
    state = work.state
    portfolio = state.portfolios.get(account.id)
    if portfolio is None:
        return False
    if any(state.positions[number].volume > cuts.get(number, ZERO) for number in portfolio.positions):
        return True
    return any(state.orders[number].margin_reserved for number in portfolio.orders)


# --- limits -------------------------------------------------------------------------------------------------------------

NO_LAW = RegulatoryTerms()


def limits_of(work: Work, account: Account) -> Limits:
    rule = law_for(work, account)
    law = NO_LAW if rule is None else RegulatoryTerms(rule=rule.name, close_out_share=rule.close_out_share)
    return Limits(terms=work.group_of(account).stop_out, law=law, currency=account.currency)


def law_for(work: Work, account: Account) -> RegulatoryRule | None:
    """The rule that protects the client now. A jurisdiction that the published document no longer names has none."""
    if not account.jurisdiction:
        return None
    try:
        return rule_for(account.jurisdiction, account.client_class, day_of(work.now_us), work.config.regulation)
    except JurisdictionUnknown:
        return None
