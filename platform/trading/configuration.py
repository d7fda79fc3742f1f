"""The published configuration: one immutable, numbered document that every decision names.

What the back office edits becomes a new version of this document; the engine, the router, the LP manager and the provider
processes read nothing else. Conversion paths are resolved when a version is published, not when money moves.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.calendar import session_problems
from trading.charges.commission import CommissionTerms
from trading.charges.swap import SwapFreeTerms
from trading.controls import AccountControls
from trading.conversion import ConversionStep, ConversionTerms
from trading.daytrading import DayTradeTerms
from trading.instruments import Instrument
from trading.margining.terms import MarginPolicy
from trading.orders import Book
from trading.overrides import Override
from trading.regulation import SEEDED, RegulatoryRule
from trading.stopout import StopOutTerms


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
    regulation: tuple[RegulatoryRule, ...] = SEEDED
    stp_only: bool = False
    """The firm takes no risk of its own: everything goes to the market."""


class ConfigurationRefused(ValueError):
    """The document cannot be published: says what is wrong, in a sentence."""


def check_config(config: Config) -> None:
    """Raise ConfigurationRefused unless every reference resolves and the policy ends with a rule that always matches."""
    if not config.policy.rules or config.policy.rules[-1].conditions:
        raise ConfigurationRefused("the last routing rule must have no conditions")
    for rule in config.policy.rules:
        _check_share(rule)
        unknown = [lp for lp in rule.lps if lp not in config.lps]
        if unknown:
            raise ConfigurationRefused(f"rule {rule.name!r} names unknown providers: {', '.join(unknown)}")
    for instrument in config.instruments.values():
        _check_instrument(config, instrument)
    for lp in config.lps.values():
        unknown = [symbol for symbol in lp.instruments if symbol not in config.instruments]
        if unknown:
            raise ConfigurationRefused(f"provider {lp.name} lists unknown symbols: {', '.join(unknown)}")
        for symbol, terms in lp.instruments.items():
            _check_lp_terms(config.instruments[symbol], lp.name, terms)
    for pair, path in config.conversions.items():
        missing = [step.symbol for step in path if step.symbol not in config.instruments]
        if missing:
            raise ConfigurationRefused(f"conversion {pair} needs unknown symbols: {', '.join(missing)}")


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


def _check_instrument(config: Config, instrument: Instrument) -> None:
    steps_fit = 0 < instrument.volume_step <= instrument.volume_min <= instrument.volume_max
    if not steps_fit or instrument.contract_size <= 0 or not 0 <= instrument.digits <= 10:
        raise ConfigurationRefused(f"{instrument.symbol}: volumes, contract size or digits do not fit together")
    for problem in session_problems(instrument.symbol, instrument.sessions):
        raise ConfigurationRefused(problem)
    for currency in (instrument.base, instrument.quote):
        if currency not in config.currency_digits:
            raise ConfigurationRefused(f"{instrument.symbol}: currency {currency} has no number of decimals")


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
