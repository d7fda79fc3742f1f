"""A symbol's terms as a group has them, remembered: overrides are applied once per published document, not per order.

With them everything else that follows from the document alone: the margin rules of a group, whether any pre-trade control
is on, and what the law says about a kind of client on a day.
"""

from datetime import date

from trading.accounts import Account
from trading.configuration import Config
from trading.controls import AccountControls, SymbolControls
from trading.instruments import Instrument
from trading.margining.terms import MarginMode, SymbolRule, simple
from trading.overrides import effective
from trading.regulation import Asset, RegulatoryTerms, terms_for

DAY_US = 86_400_000_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_PRICED = frozenset({
    MarginMode.CFD, MarginMode.CFD_LEVERAGE, MarginMode.CFD_INDEX, MarginMode.SPOT_CRYPTO, MarginMode.FUTURES,
})  # fmt: skip
_NO_SYMBOL_CONTROLS, _NO_ACCOUNT_CONTROLS = SymbolControls(), AccountControls()
UNREGULATED = RegulatoryTerms()


class _Rules(dict[str, SymbolRule]):
    """A group's margin rules, made when they are first asked for."""

    def __init__(self, terms: "EffectiveTerms", group: str) -> None:
        super().__init__()
        self._terms = terms
        self._group = group

    def __missing__(self, symbol: str) -> SymbolRule:
        instrument = self._terms.of(self._group, symbol)
        assert instrument is not None, f"{symbol} is not offered"
        rule = self[symbol] = SymbolRule(instrument.margin, instrument.contract_size, simple(instrument.margin))
        return rule


class EffectiveTerms:
    """Every group's view of every symbol. Derived from one document; a new document makes a new one."""

    __slots__ = ("_config", "_controlled", "_plain", "_regulatory", "_rules", "known", "recharges", "swap_periods")

    def __init__(self, config: Config | None) -> None:
        self._config = config
        self.known: dict[tuple[str, str], Instrument] = {}
        """What was asked for before: (group, symbol) to terms."""
        self._plain: dict[tuple[str, str], bool] = {}
        self._rules: dict[str, _Rules] = {}
        self._controlled: dict[tuple[str, str], bool] = {}
        self._regulatory: dict[tuple[str, str, str, int], RegulatoryTerms] = {}
        self.recharges = _may_recharge(config)
        """Whether any symbol's margin may be charged anew every day, for any group."""
        self.swap_periods = _swap_periods(config)
        """Into how many swap periods any symbol cuts a day, for any group."""

    def of(self, group: str, symbol: str) -> Instrument | None:
        """The terms of `symbol` for `group`; None for an unknown symbol."""
        known = self.known.get((group, symbol))
        if known is not None or self._config is None:
            return known
        own = self._config.instruments.get(symbol)
        if own is None:
            return None
        overrides = self._config.groups[group].overrides
        terms = effective(own, overrides, symbol=symbol)[0] if overrides else own
        self.known[group, symbol] = terms
        return terms

    def rules(self, group: str) -> dict[str, SymbolRule]:
        """The group's margin rules by symbol."""
        rules = self._rules.get(group)
        if rules is None:
            rules = self._rules[group] = _Rules(self, group)
        return rules

    def costs_plainly(self, group: str, symbol: str) -> bool:
        """Whether a deal costs the group nothing but `commission_per_lot`."""
        known = self._plain.get((group, symbol))
        if known is None:
            assert self._config is not None, "nothing is dealt without a configuration"
            own, terms = self._config.groups[group], self.of(group, symbol)
            assert terms is not None, f"{symbol} is not offered"
            known = not own.commissions and not own.conversion.fee and terms.fees is None
            self._plain[group, symbol] = known
        return known

    def is_controlled(self, group: str, symbol: str) -> bool:
        """Whether any pre-trade limit is set for the group in the symbol."""
        known = self._controlled.get((group, symbol))
        if known is None and self._config is not None:
            terms = self.of(group, symbol)
            account_terms = self._config.groups[group].controls
            known = (
                terms is not None and terms.controls != _NO_SYMBOL_CONTROLS
            ) or account_terms != _NO_ACCOUNT_CONTROLS
            self._controlled[group, symbol] = known
        return bool(known)

    def regulatory(self, account: Account, symbol: str, now_us: int) -> RegulatoryTerms:
        """What the law says about the account in the symbol today (UTC). An account without jurisdiction has no rule."""
        if not account.jurisdiction or self._config is None:
            return UNREGULATED
        day = now_us // DAY_US
        place = (account.jurisdiction, account.client_class.value, symbol, day)
        known = self._regulatory.get(place)
        if known is None:
            known = self._regulatory[place] = self._look_up(account, symbol, day)
        return known

    def _look_up(self, account: Account, symbol: str, day: int) -> RegulatoryTerms:
        assert self._config is not None
        instrument = self._config.instruments[symbol]
        asset = Asset(
            asset_class=instrument.asset_class.value,
            base=instrument.base,
            quote=instrument.quote,
            is_major_index=instrument.is_major_index,
        )
        at_date = date.fromordinal(_EPOCH_ORDINAL + day)
        return terms_for(account.jurisdiction, account.client_class, asset, at_date, self._config.regulation)


def margin_currency_of(instrument: Instrument) -> str:
    """The currency that the symbol's margin is counted in before conversion."""
    if instrument.margin_currency:
        return instrument.margin_currency
    return instrument.quote if instrument.margin.mode in _PRICED else instrument.base


def _may_recharge(config: Config | None) -> bool:
    if config is None:
        return False
    own = any(instrument.margin.recalculate_daily for instrument in config.instruments.values())
    changes = (path for group in config.groups.values() for rule in group.overrides for path in rule.changes)
    return own or any(path.partition(".")[0] == "margin" for path in changes)


def _swap_periods(config: Config | None) -> tuple[int, ...]:
    if config is None:
        return ()
    found = {1} | {instrument.swap.periods_per_day for instrument in config.instruments.values()}
    changes = (rule.changes for group in config.groups.values() for rule in group.overrides)
    for change in changes:
        whole, own = change.get("swap"), change.get("swap.periods_per_day")
        found |= {
            periods
            for periods in (own, whole.get("periods_per_day") if isinstance(whole, dict) else None)
            if isinstance(periods, int)
        }
    return tuple(sorted(found))
