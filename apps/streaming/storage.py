"""The way from the event loop to the database: a few threads of its own, so that a slow query delays only its asker."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar, cast

from channels.db import database_sync_to_async

P = ParamSpec("P")
T = TypeVar("T")

THREADS_MAX = 4
_threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="stream-database")


async def in_database(query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `query` in a thread; its connection is given back afterwards. Raises what it raises (django.db.Error)."""
    run = database_sync_to_async(query, thread_sensitive=False, executor=_threads)
    return cast("T", await run(*args, **kwargs))
