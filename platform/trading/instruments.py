"""What can be traded: the contract's terms, as configuration publishes them."""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.calendar import SessionTerms
from trading.charges.fees import FeeSchedule
from trading.charges.swap import SwapTerms
from trading.controls import SymbolControls
from trading.guarantee import GuaranteeTerms
from trading.margining.terms import MarginTerms
from trading.profit import ProfitMode, ProfitTerms
from trading.protection import StopTriggerMethod
from trading.quotefilter import FilterTerms
from trading.spreads import SpreadTerms


class AssetClass(StrEnum):
    FX = "fx"
    METAL = "metal"
    INDEX = "index"
    CRYPTO = "crypto"
    COMMODITY = "commodity"
    SHARE = "share"


class TradeMode(StrEnum):
    """What clients may do in the symbol. Closing stays possible unless the market is halted."""

    FULL = "full"
    LONG_ONLY = "long_only"
    SHORT_ONLY = "short_only"
    CLOSE_ONLY = "close_only"
    HALTED_WITH_PENDINGS = "halted_with_pendings"
    """Nothing new, but what waits for a price (orders, stop losses, take profits) is still dealt."""
    HALTED = "halted"


class Instrument(Struct, frozen=True, kw_only=True):
    """One symbol's terms. Volumes are lots; one lot is `contract_size` units of `base`."""

    symbol: str
    description: str
    base: str
    """Currency (or asset) that a buy receives; margin is counted in it."""
    quote: str
    """Currency of prices and of profit."""
    digits: int
    """Decimals of a price; one point is 10^-digits."""
    contract_size: Decimal
    volume_min: Decimal
    volume_max: Decimal
    volume_step: Decimal
    quote_age_max_us: int
    """A quote older than this is not dealt on."""
    asset_class: AssetClass = AssetClass.FX
    trade_mode: TradeMode = TradeMode.FULL
    sessions: SessionTerms = SessionTerms()
    """When it trades; always, unless said otherwise."""
    margin: MarginTerms = MarginTerms()
    margin_currency: str = ""
    """Of margin amounts; empty for the base currency, or the quote's in modes that count by price."""
    profit: ProfitTerms = ProfitTerms()
    swap: SwapTerms = SwapTerms()
    spread: SpreadTerms = SpreadTerms()
    quote_filter: FilterTerms = FilterTerms()
    """Of each provider's raw prices, before they are aggregated: the same for every group."""
    controls: SymbolControls = SymbolControls()
    stop_trigger: StopTriggerMethod = StopTriggerMethod.TRADE
    """How stop orders and stop losses watch the price unless they say otherwise."""
    stops_level: int = 0
    """Points that pending prices, stop losses and take profits must keep from the market when they are set."""
    freeze_level: int = 0
    """Within this many points of its trigger an order or a protection cannot be changed or taken back."""
    guarantee: GuaranteeTerms | None = None
    """Guaranteed stop losses, where they are offered."""
    fees: FeeSchedule | None = None
    """Maker and taker fees by the value of a deal."""
    is_major_index: bool = False
    is_cash: bool = False
    """Bought with cash in full and owned, not traded on margin."""
    expires_us: int = 0
    """Business time at which the contract ends; 0 for never."""

    @property
    def lot_value(self) -> Decimal:
        """What one lot gains, in the quote currency, while the price rises by 1."""
        terms = self.profit
        if terms.mode is ProfitMode.FUTURES:
            return self.contract_size * terms.tick_value / terms.tick_size
        return self.contract_size
