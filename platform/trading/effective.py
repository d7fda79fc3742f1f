"""A symbol's terms as a group has them, remembered: overrides are applied once per published document, not per order."""

from trading.configuration import Config
from trading.instruments import Instrument
from trading.overrides import effective


class EffectiveTerms:
    """Every group's view of every symbol. Derived from one document; a new document makes a new one."""

    __slots__ = ("_config", "_known")

    def __init__(self, config: Config | None) -> None:
        self._config = config
        self._known: dict[tuple[str, str], Instrument] = {}

    def of(self, group: str, symbol: str) -> Instrument | None:
        """The terms of `symbol` for `group`; None for an unknown symbol."""
        known = self._known.get((group, symbol))
        if known is not None or self._config is None:
            return known
        own = self._config.instruments.get(symbol)
        if own is None:
            return None
        overrides = self._config.groups[group].overrides
        terms = effective(own, overrides, symbol=symbol)[0] if overrides else own
        self._known[group, symbol] = terms
        return terms
