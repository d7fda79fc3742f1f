"""The notifier: takes the queue `notifications` and writes what owners are told, once each."""

from datetime import UTC, datetime, timedelta

from psycopg.types.json import Jsonb

from apps.notifications.telling import told_of
from bus.consuming import DbConnection
from bus.publishing import Message

NAME = "notifier"
QUEUE = "notifications"
INSERT = (
    "INSERT INTO notification (event, account, kind, text, payload, at) VALUES (%s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (event) DO NOTHING"
)
"""The event is unique too: should the memory of effects be lost, nobody is told twice."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def notify(connection: DbConnection, message: Message) -> None:
    """The sentence of this event, if it has one. Raises msgspec.DecodeError for a message that is no event of ours."""
    told = told_of(message.kind, message.payload)
    if told is None:
        return
    at = _EPOCH + timedelta(microseconds=message.at_us)
    payload = Jsonb(message.payload, dumps=bytes.decode)
    connection.execute(INSERT, (message.id, message.account, told.kind.value, told.text, payload, at))
