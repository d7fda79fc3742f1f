"""The newest prices, read from Redis and marked up for the group that asks."""

from collections.abc import Iterable

from apps.doors.connections import redis_connection
from bus import codec, names
from trading.quotes import Quote


def newest_quotes(symbols: Iterable[str]) -> dict[str, Quote]:
    """The newest raw aggregate of each symbol that has one (they live 60 s). Old ones are the caller's to judge."""
    wanted = list(symbols)
    pipeline = redis_connection().pipeline(transaction=False)
    for symbol in wanted:
        pipeline.hget(names.quote(symbol), "quote")
    found = zip(wanted, pipeline.execute(), strict=True)
    return {symbol: codec.decode_quote(text) for symbol, text in found if text}
