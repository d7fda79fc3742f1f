"""A connection to PostgreSQL for a process that lives long: it notices a server that is gone, and never waits for ever."""

from typing import Any

import psycopg

Connection = psycopg.Connection[Any]


def connect(url: str, *, name: str, session: str) -> Connection:
    """In autocommit mode, as `name` in pg_stat_activity; `session` are the settings it begins with, its patience among them.

    Raises psycopg.OperationalError.
    """
    connection: Connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=5,
        application_name=name,
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )
    connection.execute(session.encode())
    return connection
