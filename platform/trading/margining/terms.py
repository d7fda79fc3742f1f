"""The settings of margin: what a symbol asks, how hedges and tiers count, how sums are rounded. No arithmetic lives here.

Every place where brokers differ is a named setting. The defaults are the plain forex account: volume x contract size /
leverage, only the larger leg of a hedge, no multipliers, no tiers, every posting rounded up to the currency's decimals.
"""

from decimal import Decimal
from enum import StrEnum
from itertools import pairwise

from msgspec import Struct

from trading.numbers import ONE, ZERO
from trading.orders import Side


class MarginMode(StrEnum):
    """How one position's basic margin is calculated (V lots, C contract size, P price, L leverage)."""

    FOREX = "forex"
    """V x C / L, in the margin currency, whatever the price."""
    FOREX_NO_LEVERAGE = "forex_no_leverage"
    """V x C; a multiplier of 0.01 is a fixed leverage of 100."""
    CFD = "cfd"
    """V x C x P."""
    CFD_LEVERAGE = "cfd_leverage"
    """V x C x P / L."""
    CFD_INDEX = "cfd_index"
    """V x C x P x tick value / tick size."""
    FUTURES = "futures"
    """V x initial margin for an order, V x maintenance margin for a position."""
    SPOT_CRYPTO = "spot_crypto"
    """As CFD_LEVERAGE; one lot is usually one coin."""


PRICED = frozenset({MarginMode.CFD, MarginMode.CFD_LEVERAGE, MarginMode.CFD_INDEX, MarginMode.SPOT_CRYPTO})
"""Modes whose margin depends on the price of the deal."""

LEVERAGED = frozenset({MarginMode.FOREX, MarginMode.CFD_LEVERAGE, MarginMode.SPOT_CRYPTO})
"""Modes that divide by the account's leverage, fixed amounts included."""


class MarginKind(StrEnum):
    """What ties the margin up. A market order in flight (started, not yet answered) may only add to the margin."""

    POSITION = "position"
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class HedgedMode(StrEnum):
    """How opposite positions of one symbol count in a hedging account."""

    BASIC = "basic"
    """Uncovered lots at the larger leg's charge, covered lots at the hedged charge; pending orders are added."""
    LARGER_LEG = "larger_leg"
    """The dearer of both legs, each with its orders."""
    NET = "net"
    """Uncovered lots only, covered lots are free; pending orders are added."""


class Accounting(StrEnum):
    """Whether an account holds opposite positions of one symbol, or one net position."""

    HEDGING = "hedging"
    NETTING = "netting"


class MarginRates(Struct, frozen=True, kw_only=True):
    """Multipliers by order type; positions and market orders use `buy` and `sell`. 0 charges nothing."""

    buy: Decimal = ONE
    sell: Decimal = ONE
    buy_limit: Decimal = ONE
    sell_limit: Decimal = ONE
    buy_stop: Decimal = ONE
    sell_stop: Decimal = ONE
    buy_stop_limit: Decimal = ONE
    sell_stop_limit: Decimal = ONE

    def of(self, side: Side, kind: MarginKind) -> Decimal:
        rate: Decimal = getattr(self, _RATE_NAMES[side, kind])
        return rate

    @property
    def mean(self) -> Decimal:
        """What covered lots are multiplied by: half-way between buys and sells."""
        return (self.buy + self.sell) / 2


_RATE_NAMES = {
    (side, kind): side.value if kind in (MarginKind.POSITION, MarginKind.MARKET) else f"{side.value}_{kind.value}"
    for side in Side
    for kind in MarginKind
}


class TierStyle(StrEnum):
    """What a tier's numbers mean."""

    RATES = "rates"
    """Multipliers of the margin per lot, after hedging, for positions and orders together."""
    LEVERAGE_CAPS = "leverage_caps"
    """The highest leverage of the slice, per side, before hedging: the smaller of it and the account's holds."""


class TierBasis(StrEnum):
    """What runs through the tiers."""

    VOLUME = "volume"
    """Lots."""
    NOTIONAL = "notional"
    """Contract value in the tiers' currency (usually USD), at the rate of the opening."""


class Tier(Struct, frozen=True, kw_only=True):
    """One slice, ending at the cumulative bound `to`; None is without end. The last one goes on beyond its bound."""

    to: Decimal | None = None
    initial: Decimal = ONE
    """RATES: multiplier for the part that orders fill. 0 is free of margin."""
    maintenance: Decimal = ONE
    """RATES: multiplier for the part that positions fill. 0 is free of margin."""
    leverage: int = 0
    """LEVERAGE_CAPS: the most this slice may use."""


class Tiers(Struct, frozen=True, kw_only=True):
    """Marginal slices, like tax brackets. Symbols that name the same `pool` run through them together."""

    style: TierStyle
    basis: TierBasis
    steps: tuple[Tier, ...]
    pool: str = ""
    """Empty: the symbol on its own. With RATES only."""


class MarginTerms(Struct, frozen=True, kw_only=True):
    """One symbol's margin. Amounts per lot are in the symbol's margin currency."""

    mode: MarginMode = MarginMode.FOREX
    initial: Decimal = ZERO
    """Not 0: a fixed amount per lot instead of the mode's formula, divided by leverage where the mode is."""
    maintenance: Decimal = ZERO
    """The fixed amount once opened; 0 is the same as `initial`."""
    hedged_mode: HedgedMode = HedgedMode.LARGER_LEG
    hedged: Decimal = ZERO
    """BASIC: covered lots count with this contract size, or, with a fixed `initial`, with this amount per lot. 0: free."""
    rates: MarginRates = MarginRates()
    tick_size: Decimal = ONE
    tick_value: Decimal = ONE
    """CFD_INDEX: value of one tick size per unit, in the margin currency."""
    tiers: Tiers | None = None
    recalculate_daily: bool = False
    """At the end of each day positions are charged anew at that day's rates; otherwise the opening's rate stays."""

    @property
    def is_fixed(self) -> bool:
        return self.initial != 0

    @property
    def held(self) -> Decimal:
        """The fixed amount per lot of an open position."""
        return self.maintenance or self.initial


class SymbolRule(Struct, frozen=True):
    """A symbol's margin terms with the contract size that they count in."""

    terms: MarginTerms
    contract_size: Decimal
    is_simple: bool = False
    """As `simple` found it: volume x contract size / leverage is all there is to a charge."""


def simple(terms: MarginTerms) -> bool:
    """Plain forex: no fixed amount, multiplier, covered amount or tier enters a charge."""
    counts_covered = terms.hedged_mode is HedgedMode.BASIC and terms.hedged != 0
    is_plain = terms.mode is MarginMode.FOREX and not terms.is_fixed and terms.tiers is None
    return is_plain and not counts_covered and terms.rates == MarginRates()


class MarginRounding(StrEnum):
    """Where an account's margin meets its currency's decimals."""

    UP_PER_POSTING = "up_per_posting"
    """Each position's and order's charge is rounded up when it is made; what is computed from them is rounded up again."""
    HALF_UP_PER_COMPONENT = "half_up_per_component"
    """Charges keep 10 decimals; covered part, uncovered part and each order type are rounded half up. As MT5's examples."""
    HALF_UP_PER_SYMBOL = "half_up_per_symbol"
    """Charges keep 10 decimals; the symbol's (or tier pool's) sum is rounded half up once."""


class FreeMarginPolicy(StrEnum):
    """Which unrealised result is counted into free margin."""

    USE_PROFIT_AND_LOSS = "use_profit_and_loss"
    IGNORE = "ignore"
    PROFIT_ONLY = "profit_only"
    LOSS_ONLY = "loss_only"


class MarginPolicy(Struct, frozen=True, kw_only=True):
    """An account's share in the rules, usually its group's."""

    accounting: Accounting = Accounting.HEDGING
    rounding: MarginRounding = MarginRounding.UP_PER_POSTING
    free_margin: FreeMarginPolicy = FreeMarginPolicy.USE_PROFIT_AND_LOSS


class MarginTermsRefused(ValueError):
    """The terms contradict each other: says what is wrong, in a sentence."""


def check_terms(symbol: str, terms: MarginTerms) -> None:
    """Raise MarginTermsRefused unless every number can be used and the margin can never be negative."""
    amounts = (terms.initial, terms.maintenance, terms.hedged, *(getattr(terms.rates, n) for n in _RATE_NAMES.values()))
    if any(not amount.is_finite() or amount < 0 for amount in amounts):
        raise MarginTermsRefused(f"{symbol}: margin amounts and multipliers must not be negative")
    if any(not tick.is_finite() or tick <= 0 for tick in (terms.tick_size, terms.tick_value)):
        raise MarginTermsRefused(f"{symbol}: tick size and tick value must be positive")
    if terms.mode is MarginMode.FUTURES and not terms.is_fixed:
        raise MarginTermsRefused(f"{symbol}: a future needs an initial margin per lot")
    if terms.maintenance and not terms.is_fixed:
        raise MarginTermsRefused(f"{symbol}: a maintenance margin needs an initial margin")
    if terms.tiers is not None:
        _check_tiers(symbol, terms, terms.tiers)


def check_pools(rules: dict[str, MarginTerms]) -> None:
    """Raise MarginTermsRefused when two symbols name the same pool with different tiers."""
    pools: dict[str, Tiers] = {}
    for symbol, terms in sorted(rules.items()):
        tiers = terms.tiers
        if tiers is not None and tiers.pool and pools.setdefault(tiers.pool, tiers) != tiers:
            raise MarginTermsRefused(f"{symbol}: tier pool {tiers.pool} has other tiers elsewhere")


def _check_tiers(symbol: str, terms: MarginTerms, tiers: Tiers) -> None:
    bounds = [tier.to for tier in tiers.steps[:-1]]
    last = tiers.steps[-1].to if tiers.steps else ZERO
    limited = [bound for bound in [*bounds, last] if bound is not None]
    if not tiers.steps or None in bounds or any(not b.is_finite() or b <= 0 for b in limited):
        raise MarginTermsRefused(f"{symbol}: every tier but the last needs a positive bound")
    if any(high <= low for low, high in pairwise(limited)):
        raise MarginTermsRefused(f"{symbol}: tier bounds must rise")
    if tiers.style is TierStyle.RATES:
        _check_rates(symbol, tiers)
    else:
        _check_caps(symbol, terms, tiers)


def _check_rates(symbol: str, tiers: Tiers) -> None:
    """Rates that fall, with size or from positions to orders, would let an order in flight lower the margin."""
    for rates in ([tier.initial for tier in tiers.steps], [tier.maintenance for tier in tiers.steps]):
        if any(not r.is_finite() or r < 0 for r in rates) or rates != sorted(rates):
            raise MarginTermsRefused(f"{symbol}: tier rates must not be negative and must not fall")
    if any(tier.initial < tier.maintenance for tier in tiers.steps):
        raise MarginTermsRefused(f"{symbol}: a tier may not ask less of orders than of positions")


def _check_caps(symbol: str, terms: MarginTerms, tiers: Tiers) -> None:
    caps = [tier.leverage for tier in tiers.steps]
    if any(cap < 1 for cap in caps) or caps != sorted(caps, reverse=True):
        raise MarginTermsRefused(f"{symbol}: leverage caps must be at least 1 and must not rise")
    if terms.mode not in LEVERAGED:
        raise MarginTermsRefused(f"{symbol}: leverage caps need a mode that uses leverage")
    if tiers.pool:
        raise MarginTermsRefused(f"{symbol}: leverage caps count per symbol, not over a pool")
