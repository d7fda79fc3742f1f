"""`manage.py bus status | replay | dead-letters`: what operators ask of the event bus, and what they can set right."""

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.notifications import notifier
from apps.times import micros
from bus.alerts import clear_alert
from bus.brokers import broker_from
from bus.codec import DecodeError
from bus.consuming import Handler, apply_once, connect_database
from bus.publishing import QUEUES, Broker, Message, NotPublished, Unreadable, queues_of

CONSUMERS: dict[str, tuple[str, Handler]] = {notifier.NAME: (notifier.QUEUE, notifier.notify)}
"""Queue and handler of every consumer that the house has."""
DEAD_LETTERS_MAX = 1000
SHARD = 0
STATUS = """
SELECT coalesce((SELECT published_seq FROM relay_cursor WHERE shard = %(shard)s), 0),
       coalesce((SELECT max(shard_seq) FROM outbox WHERE shard = %(shard)s), 0)
"""


class Command(BaseCommand):
    help = "The event bus: how far it is, reading its log again, its dead letters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="cursor, lag, and what waits in each queue")
        replay = actions.add_parser(
            "replay", help="hand the log's events out again; a consumer does none of them twice"
        )
        replay.add_argument(
            "--from", dest="start", required=True, metavar="SEQ|TIME", help="12345, or 2026-01-31T12:00"
        )
        what = replay.add_mutually_exclusive_group(required=True)
        what.add_argument("--consumer", choices=sorted(CONSUMERS))
        what.add_argument("--print", action="store_true", help="only show them")
        letters = actions.add_parser("dead-letters", help="what could not be taken")
        letters.add_argument("--requeue", action="store_true", help="put them back into their queues")
        letters.add_argument("--queue", choices=sorted(QUEUES), help="all queues without it")

    def handle(self, *args: Any, **options: Any) -> None:
        broker = broker_from(os.environ)
        try:
            match options["action"]:
                case "status":
                    self._status(broker)
                case "replay":
                    self._replay(_from(broker, options["start"]), options["consumer"])
                case _:
                    queues = [options["queue"]] if options["queue"] else list(QUEUES)
                    (self._requeue if options["requeue"] else self._dead_letters)(broker, queues)
        except NotPublished as error:
            raise CommandError(f"the message broker cannot be reached: {error}") from error
        finally:
            broker.close()

    def _status(self, broker: Broker) -> None:
        with connect_database(os.environ["DATABASE_URL"], name="bus status") as connection:
            row = connection.execute(STATUS, {"shard": SHARD}).fetchone()
        assert row is not None
        published, newest = row
        self.stdout.write(f"published  {published} of {newest}, {newest - published} behind")
        for depth in broker.depths():
            self.stdout.write(f"{depth.queue:<14} {depth.waiting} waiting, {depth.dead} dead")

    def _replay(self, messages: Iterator[Message], consumer: str | None) -> None:
        if consumer is None:
            for message in messages:
                self.stdout.write(f"{message.id} account {message.account}/{message.account_seq} {message.kind} ")
                self.stdout.write(message.payload.decode(errors="replace"))
            return
        queue, handle = CONSUMERS[consumer]
        seen = new = 0
        with connect_database(os.environ["DATABASE_URL"], name=f"replay {consumer}") as connection:
            for message in messages:
                if queue not in queues_of(message.kind):
                    continue
                seen += 1
                try:
                    new += apply_once(connection, consumer, message, handle)
                except (Unreadable, DecodeError) as error:
                    self.stderr.write(f"{message.id} cannot be taken: {error}")
        self.stdout.write(f"{seen} events, {new} of them new to {consumer}")

    def _dead_letters(self, broker: Broker, queues: list[str]) -> None:
        for queue in queues:
            for identity, payload in broker.dead_letters(queue, DEAD_LETTERS_MAX):
                self.stdout.write(f"{queue} {identity} {payload}")

    def _requeue(self, broker: Broker, queues: list[str]) -> None:
        """The alert goes with them: it comes back if they are dead letters once more."""
        with connect_database(os.environ["DATABASE_URL"], name="bus requeue") as connection:
            for queue in queues:
                self.stdout.write(f"{queue}: {broker.requeue(queue, DEAD_LETTERS_MAX)} put back")
                clear_alert(connection, kind="dead_letter", subject=queue)


def _from(broker: Broker, start: str) -> Iterator[Message]:
    """The log from an outbox number on, or from a business time on (UTC)."""
    if start.isascii() and start.isdigit():
        yield from broker.log_from(int(start))
        return
    try:
        moment = datetime.fromisoformat(start)
    except ValueError as error:
        raise CommandError(f"--from is a number of the outbox or a time, not {start!r}") from error
    since_us = micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    for message in broker.log_from(0):
        if message.at_us >= since_us:
            yield message
