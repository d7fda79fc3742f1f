"""The newest prices, read from Redis and marked up for the group that asks."""

from collections.abc import Iterable

from redis.exceptions import RedisError

from apps.doors.connections import redis_connection
from bus import codec, names
from trading.quotes import Quote


def newest_quotes(symbols: Iterable[str]) -> dict[str, Quote]:
    """The newest raw aggregate of each symbol that has one (they live 60 s). Old ones are the caller's to judge.

    Raises RedisError.
    """
    wanted = list(symbols)
    pipeline = redis_connection().pipeline(transaction=False)
    for symbol in wanted:
        pipeline.hget(names.quote(symbol), "quote")
    found = zip(wanted, pipeline.execute(), strict=True)
    quotes = {symbol: codec.decode_quote(text) for symbol, text in found if text}
    if any(quote.symbol != symbol for symbol, quote in quotes.items()):
        redis_connection().connection_pool.disconnect()
        raise RedisError("the answer to another question came")
    return quotes
