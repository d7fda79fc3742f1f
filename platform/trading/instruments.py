"""What can be traded: the contract's terms, as configuration publishes them."""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.calendar import SessionTerms


class AssetClass(StrEnum):
    FX = "fx"
    METAL = "metal"
    INDEX = "index"
    CRYPTO = "crypto"


class TradeMode(StrEnum):
    """What clients may do in the symbol. Closing stays possible unless the market is halted."""

    FULL = "full"
    CLOSE_ONLY = "close_only"
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
