"""The published configuration, read from its table. Everybody who is not the back office reads it here."""

from typing import Any

import psycopg

from bus.codec import decode_config
from trading.configuration import Config

SHORT_QUESTIONS = "-c statement_timeout=10000 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=10000"
"""libpq's `options` for a connection that asks for little: milliseconds. A price or report must not wait behind it."""
LONG_LOOKS = "-c statement_timeout=60000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000"
"""The same for one that looks at whole tables."""


def load_config(connection: psycopg.Connection[Any], version: int | None = None) -> Config:
    """The newest configuration, or that version. Raises LookupError when it was never published."""
    if version is None:
        query = b"SELECT document::text FROM config_version ORDER BY version DESC LIMIT 1"
        found = connection.execute(query).fetchone()
    else:
        query = b"SELECT document::text FROM config_version WHERE version = %s"
        found = connection.execute(query, (version,)).fetchone()
    if found is None:
        raise LookupError("no configuration is published yet" if version is None else f"no configuration {version}")
    return decode_config(found[0])
