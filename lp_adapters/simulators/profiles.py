"""The two simulated providers and what they deal in. A third one is one more profile and one more file in configs/fix."""

from decimal import Decimal

from msgspec import Struct

from trading.numbers import point


class Instrument(Struct, frozen=True, kw_only=True):
    """A symbol as the providers quote it."""

    symbol: str
    """Our name; a provider may write it differently."""
    digits: int
    """Decimals of a price."""
    quantity_step: int
    """Smallest order and step of orders, in units of base: 0.01 lots."""

    @property
    def point(self) -> Decimal:
        return point(self.digits)


class Profile(Struct, frozen=True, kw_only=True):
    """How one provider names its symbols and publishes its prices."""

    name: str
    symbol_separator: str
    """Between the two currencies of a pair: `EUR/USD` or `EURUSD`."""
    sends_increments: bool
    """After the first snapshot(35=W), changes alone (35=X); otherwise a snapshot each time."""

    def lp_symbol(self, symbol: str) -> str:
        return f"{symbol[:3]}{self.symbol_separator}{symbol[3:]}"


def _pair(symbol: str, digits: int, quantity_step: int = 1000) -> Instrument:
    return Instrument(symbol=symbol, digits=digits, quantity_step=quantity_step)


INSTRUMENTS = {
    instrument.symbol: instrument
    for instrument in (
        _pair("EURUSD", 5),
        _pair("GBPUSD", 5),
        _pair("USDJPY", 3),
        _pair("USDCHF", 5),
        _pair("AUDUSD", 5),
        _pair("NZDUSD", 5),
        _pair("EURGBP", 5),
        _pair("EURJPY", 3),
        _pair("XAUUSD", 2, quantity_step=1),
    )
}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(name="YOFX1", symbol_separator="/", sends_increments=False),
        Profile(name="PRIMEXM", symbol_separator="", sends_increments=True),
    )
}


def feed_channel(lp: str) -> str:
    """The Redis channel on which a provider's prices come to it: a JSON list of `ticks.Tick`."""
    return f"lpsim:feed:{lp}"


def control_key(lp: str) -> str:
    """The Redis key under which a provider's misbehaviour is ordered: JSON as `misbehaviour.parse` reads it."""
    return f"lpsim:control:{lp}"


def positions_key(lp: str) -> str:
    """The Redis hash of what the provider holds against us: our symbol to signed units of base, as it counts them itself."""
    return f"lpsim:positions:{lp}"
