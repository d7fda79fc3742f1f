"""`manage.py shard status` and `manage.py shard resume --by NAME --reason WHY`: a halted shard, and the operator's way back."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.operations.alerts import NotResumed, resume_shard, standing_alerts
from apps.operations.models import Shard

SHARD = 0


class Command(BaseCommand):
    help = "Show whether the shard is halted and why, or let it trade again. See docs/runbooks/halted-shard.md."

    def add_arguments(self, parser: ArgumentParser) -> None:
        ways = parser.add_subparsers(dest="way", required=True)
        ways.add_parser("status", help="whether the shard is halted, why, and the alerts that stand")
        resume = ways.add_parser("resume", help="let an engine take the shard again")
        resume.add_argument("--by", required=True, help="the username of the member of staff who decides it")
        resume.add_argument("--reason", required=True, help="why it may trade again; kept in the audit entries")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["way"] == "status":
            self._status()
        else:
            self._resume(options["by"], options["reason"])

    def _status(self) -> None:
        for shard in Shard.objects.order_by("shard"):
            state = f"halted: {shard.halted}" if shard.halted else "not halted"
            self.stdout.write(f"shard {shard.shard} epoch {shard.epoch} batch {shard.seq} {state}")
        for alert in standing_alerts():
            self.stdout.write(f"{alert['severity']} {alert['key']} since {alert['raised_at']}: {alert['text']}")

    def _resume(self, by: str, reason: str) -> None:
        try:
            halted = resume_shard(SHARD, by=by, reason=reason)
        except NotResumed as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"shard {SHARD} may trade again; it was halted: {halted}")
