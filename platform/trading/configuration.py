"""The published configuration: one immutable, numbered document that every decision names.

What the back office edits becomes a new version of this document; the engine, the router, the LP manager and the provider
processes read nothing else. Conversion paths are resolved when a version is published, not when money moves.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.breaker import BreakerTerms, breaker_problems
from trading.charges.commission import (
    ChargeCurrency,
    CommissionTerms,
    CommissionTermsRefused,
    check_commission_terms,
)
from trading.charges.swap import SwapFreeTerms, SwapTermsRefused, check_swap_free_terms
from trading.controls import AccountControls, account_control_problems
from trading.conversion import ConversionStep, ConversionTerms, conversion_problems
from trading.daytrading import DayTradeTerms, day_trade_problems
from trading.instruments import Instrument
from trading.margining.terms import MarginPolicy, MarginTermsRefused, check_pools
from trading.masks import MaskRefused, mask
from trading.orders import Book
from trading.overrides import Override, effective, override_problems
from trading.publishable import instrument_problems
from trading.regulation import SEEDED, RegulatoryRule, regulation_problems
from trading.stopout import StopOutTerms, stop_out_problems


class Markup(Struct, frozen=True, kw_only=True):
    """Points added to a group's prices: the bid falls by `bid`, the ask rises by `ask`. Symmetric in both directions."""

    bid: int = 0
    ask: int = 0


class CommissionRule(Struct, frozen=True, kw_only=True):
    """One named commission of a group, for the symbols that its mask matches."""

    name: str
    terms: CommissionTerms
    symbols: str = "*"


class Group(Struct, frozen=True, kw_only=True):
    """Terms shared by many accounts."""

    name: str
    commission_per_lot: Decimal
    """Per lot and side, in the account's currency, charged on every deal."""
    leverage_max: int
    markup: Markup = Markup()
    symbol_markups: dict[str, Markup] = {}
    """Per symbol, instead of `markup`."""
    overrides: tuple[Override, ...] = ()
    """Changes of symbols' terms for this group, from the top down."""
    margin: MarginPolicy = MarginPolicy()
    commissions: tuple[CommissionRule, ...] = ()
    """Besides `commission_per_lot`: each is charged on its own."""
    conversion: ConversionTerms = ConversionTerms()
    swap_free: SwapFreeTerms | None = None
    """Its accounts pay no interest but this fee."""
    stop_out: StopOutTerms = StopOutTerms()
    negative_balance_protection: bool = False
    """For all its clients; retail clients have it anyway."""
    controls: AccountControls = AccountControls()
    day_trades: DayTradeTerms | None = None
    stp_only: bool = False

    def markup_for(self, symbol: str) -> Markup:
        return self.symbol_markups.get(symbol, self.markup)


class LpInstrument(Struct, frozen=True, kw_only=True):
    """A symbol at a provider. Minimum and step are lots."""

    lp_symbol: str
    volume_min: Decimal
    volume_step: Decimal


class LpSettings(Struct, frozen=True, kw_only=True):
    """A provider, and what we trade with it."""

    name: str
    enabled: bool
    priority: int
    """Breaks ties between equal prices: the lower number first."""
    instruments: dict[str, LpInstrument]


class Field(StrEnum):
    """What a routing condition can look at."""

    SYMBOL = "symbol"
    GROUP = "group"
    VOLUME = "volume"
    CLIENT_CLASS = "client_class"
    ACCOUNT = "account"


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    IN = "in"
    NOT_IN = "not in"
    MASK = "mask"
    """Shell-style pattern over text, several separated by commas, `!` excludes: `EUR*,!EURCHF`."""
    GREATER = ">"
    AT_LEAST = ">="
    LESS = "<"
    AT_MOST = "<="


class Condition(Struct, frozen=True, kw_only=True):
    """`field operator values`. Numbers are compared as Decimals; only IN and NOT_IN take more than one value."""

    field: Field
    operator: Operator
    values: tuple[str, ...]


class BelowLpMinimum(StrEnum):
    """What to do when the A part is smaller than the provider's minimum."""

    HOUSE = "house"
    """The house takes it all."""
    ROUND_UP = "round_up"
    """Send the provider's minimum where the order is at least that large; otherwise the house takes it all."""


class Rule(Struct, frozen=True, kw_only=True):
    """When every condition holds, this rule decides. No conditions: it always holds."""

    id: int
    name: str
    conditions: tuple[Condition, ...]
    action: Book
    a_share: Decimal
    """Part of the volume for the market: 1 with A, 0 with B, strictly between with C."""
    lps: tuple[str, ...] = ()
    """Providers allowed, empty for all enabled ones."""
    below_lp_minimum: BelowLpMinimum = BelowLpMinimum.HOUSE


class Policy(Struct, frozen=True, kw_only=True):
    """Ordered rules; the first that matches decides, and the last one always matches."""

    version: int
    rules: tuple[Rule, ...]


class Config(Struct, frozen=True, kw_only=True):
    """Everything a decision depends on besides state, quotes and time."""

    version: int
    instruments: dict[str, Instrument]
    groups: dict[str, Group]
    lps: dict[str, LpSettings]
    policy: Policy
    currency_digits: dict[str, int]
    conversions: dict[str, tuple[ConversionStep, ...]]
    """Key `FROM/TO`; an empty path for equal currencies. A missing key refuses, never guesses."""
    command_valid_us_max: int = 30_000_000
    leg_valid_us: int = 5_000_000
    """How long a leg may wait for its provider's session before it is given up unsent."""
    lp_attempts_max: int = 3
    """Providers tried in turn for one opening order when they reject."""
    fill_deviation_percent: Decimal | None = Decimal(5)
    """A provider's fill farther from the middle of the market than this, in per cent of it, waits for a dealer; None: never."""
    flattens_errors: bool = True
    """What the house holds by mistake is brought back to nothing by itself."""
    breaker: BreakerTerms = BreakerTerms()
    """When a provider that rejects gets no new risk for a while."""
    regulation: tuple[RegulatoryRule, ...] = SEEDED
    stp_only: bool = False
    """The firm takes no risk of its own: everything goes to the market."""


class ConfigurationRefused(ValueError):
    """The document cannot be published: says what is wrong, in a sentence."""


def check_config(config: Config) -> None:
    """Raise ConfigurationRefused unless every reference resolves, all terms can be dealt by, for every group, and the policy
    ends with a rule that always matches.
    """
    _check_policy(config)
    _check_names(config)
    for instrument in config.instruments.values():
        _refuse(instrument_problems(instrument, config.currency_digits))
    _refuse(pool_problems(config.instruments))
    for lp in config.lps.values():
        _check_provider(config, lp)
    for pair, path in config.conversions.items():
        missing = [step.symbol for step in path if step.symbol not in config.instruments]
        if missing:
            raise ConfigurationRefused(f"conversion {pair} needs unknown symbols: {', '.join(missing)}")
    for group in config.groups.values():
        _refuse(group_problems(group, config.instruments, config.currency_digits))
        _check_effective_steps(config, group)
    _refuse(regulation_problems(config.regulation))
    _refuse(breaker_problems(config.breaker))


def _refuse(problems: Iterable[str]) -> None:
    for problem in problems:
        raise ConfigurationRefused(problem)


def _check_policy(config: Config) -> None:
    if not config.policy.rules or config.policy.rules[-1].conditions:
        raise ConfigurationRefused("the last routing rule must have no conditions")
    for rule in config.policy.rules:
        _check_share(rule)
        unknown = [lp for lp in rule.lps if lp not in config.lps]
        if unknown:
            raise ConfigurationRefused(f"rule {rule.name!r} names unknown providers: {', '.join(unknown)}")


def _check_names(config: Config) -> None:
    """What is looked up by a name carries that name."""
    named = [
        *((symbol, instrument.symbol) for symbol, instrument in config.instruments.items()),
        *((name, group.name) for name, group in config.groups.items()),
        *((name, lp.name) for name, lp in config.lps.items()),
    ]
    _refuse(f"{name} is listed as {key}" for key, name in named if key != name)


def _check_provider(config: Config, lp: LpSettings) -> None:
    unknown = [symbol for symbol in lp.instruments if symbol not in config.instruments]
    if unknown:
        raise ConfigurationRefused(f"provider {lp.name} lists unknown symbols: {', '.join(unknown)}")
    for symbol, terms in lp.instruments.items():
        _check_lp_terms(config.instruments[symbol], lp.name, terms)


def _check_effective_steps(config: Config, group: Group) -> None:
    """A group's own volume steps must be closable at every provider too."""
    for lp in config.lps.values():
        for symbol, terms in lp.instruments.items():
            seen = effective(config.instruments[symbol], group.overrides, symbol=symbol)[0]
            try:
                _check_lp_terms(seen, lp.name, terms)
            except ConfigurationRefused as refused:
                raise ConfigurationRefused(f"group {group.name}: {refused}") from None


# --- one group ---


def group_problems(group: Group, instruments: Mapping[str, Instrument], currencies: Container[str]) -> Iterator[str]:
    """What is wrong with a group's terms, one sentence each, its view of every symbol included."""
    unknown = sorted(set(group.symbol_markups) - set(instruments))
    if unknown:
        yield f"group {group.name}: symbol markups name unknown symbols: {', '.join(unknown)}"
    if any(markup.bid < 0 or markup.ask < 0 for markup in (group.markup, *group.symbol_markups.values())):
        yield f"group {group.name}: a markup must not be negative"
    yield from _charge_problems(group, currencies)
    yield from conversion_problems(group.name, group.conversion)
    yield from stop_out_problems(group.name, group.stop_out)
    yield from account_control_problems(group.name, group.controls)
    if group.day_trades is not None:
        yield from day_trade_problems(group.name, group.day_trades)
    yield from _override_problems(group, instruments, currencies)


def _charge_problems(group: Group, currencies: Container[str]) -> Iterator[str]:
    names = [rule.name for rule in group.commissions]
    yield from (
        f"group {group.name}: two commissions are called {name!r}"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    )
    for rule in group.commissions:
        yield from _commission_problems(f"group {group.name}: commission {rule.name!r}", rule, currencies)
    if group.swap_free is not None:
        yield from _swap_free_problems(f"group {group.name}: swap-free terms", group.swap_free, currencies)


def _commission_problems(where: str, rule: CommissionRule, currencies: Container[str]) -> Iterator[str]:
    if not rule.name:
        yield f"{where}: it needs a name"
    try:
        check_commission_terms(where, rule.terms)
        mask(rule.symbols)
    except CommissionTermsRefused as refused:
        yield str(refused)
    except MaskRefused as refused:
        yield f"{where}: {refused}"
    is_named = rule.terms.currency is ChargeCurrency.NAMED
    if is_named and rule.terms.currency_name not in currencies:
        yield f"{where}: currency {rule.terms.currency_name} has no number of decimals"


def _swap_free_problems(where: str, terms: SwapFreeTerms, currencies: Container[str]) -> Iterator[str]:
    try:
        check_swap_free_terms(where, terms)
    except SwapTermsRefused as refused:
        yield str(refused)
    if terms.currency not in currencies:
        yield f"{where}: currency {terms.currency} has no number of decimals"


def _override_problems(
    group: Group, instruments: Mapping[str, Instrument], currencies: Container[str]
) -> Iterator[str]:
    """The rules by themselves; and, when they can be applied, what they make of the symbols."""
    if not group.overrides:
        return
    problems = override_problems(group.overrides, dict(instruments))
    yield from (f"group {group.name}: {problem}" for problem in problems)
    if problems:
        return
    seen = {symbol: effective(own, group.overrides, symbol=symbol)[0] for symbol, own in instruments.items()}
    for symbol, terms in seen.items():
        if terms != instruments[symbol]:
            yield from (f"group {group.name}: {problem}" for problem in instrument_problems(terms, currencies))
    yield from (f"group {group.name}: {problem}" for problem in pool_problems(seen))


def pool_problems(instruments: Mapping[str, Instrument]) -> Iterator[str]:
    """Two symbols that share a pool of margin tiers under different tiers."""
    try:
        check_pools({symbol: instrument.margin for symbol, instrument in instruments.items()})
    except MarginTermsRefused as refused:
        yield str(refused)


# --- rules, providers ---


def _check_share(rule: Rule) -> None:
    share = rule.a_share if rule.a_share.is_finite() else Decimal(-1)
    allowed = {Book.A: share == 1, Book.B: share == 0, Book.C: 0 < share < 1}
    if not allowed[rule.action]:
        raise ConfigurationRefused(
            f"rule {rule.name!r}: an A share of {rule.a_share} does not fit action {rule.action}"
        )


def _check_lp_terms(instrument: Instrument, lp: str, terms: LpInstrument) -> None:
    """Every volume that a client may hold must be closable at the provider: its grid may not be coarser than ours."""
    fits = 0 < terms.volume_step <= terms.volume_min and instrument.volume_step % terms.volume_step == 0
    if not fits or terms.volume_min % terms.volume_step != 0:
        raise ConfigurationRefused(f"{instrument.symbol} at {lp}: minimum and step do not fit the symbol's step")


def resolve_conversions(
    instruments: dict[str, Instrument], currencies: set[str]
) -> dict[str, tuple[ConversionStep, ...]]:
    """The path from every currency to every other: direct pair, inverse pair, else over one common currency.

    `currencies` are those that accounts are kept in; every instrument's base and quote is converted into each of them.
    Pairs without a path are left out, and trading that needs one is refused.
    """
    pairs = {(i.base, i.quote): i.symbol for i in sorted(instruments.values(), key=lambda i: i.symbol, reverse=True)}
    known = currencies | {c for pair in pairs for c in pair}
    conversions: dict[str, tuple[ConversionStep, ...]] = {}
    for source in sorted(known):
        for target in sorted(known):
            path = _path(pairs, source, target, known)
            if path is not None:
                conversions[f"{source}/{target}"] = path
    return conversions


def _path(
    pairs: dict[tuple[str, str], str], source: str, target: str, known: set[str]
) -> tuple[ConversionStep, ...] | None:
    if source == target:
        return ()
    direct = _step(pairs, source, target)
    if direct:
        return (direct,)
    for middle in ["USD", *sorted(known - {"USD"})]:
        first, second = _step(pairs, source, middle), _step(pairs, middle, target)
        if first and second:
            return (first, second)
    return None


def _step(pairs: dict[tuple[str, str], str], source: str, target: str) -> ConversionStep | None:
    if (source, target) in pairs:
        return ConversionStep(symbol=pairs[source, target], inverse=False)
    if (target, source) in pairs:
        return ConversionStep(symbol=pairs[target, source], inverse=True)
    return None
