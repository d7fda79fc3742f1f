"""`manage.py verify_audit [--folder F] [--key PUBLIC]`: every audit entry and every seal, and the first that is wrong."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from apps.operations.chain import FOLDER, PUBLIC_KEY, SEALS, Seals, follow
from apps.operations.demo import data_folder


class Command(BaseCommand):
    help = "Verify the chain of audit entries, and that every head of it that was ever sealed is still in it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--folder",
            type=Path,
            default=data_folder() / FOLDER,
            help=f"where {SEALS} is: the auditor's, or a copy that was kept elsewhere",
        )
        parser.add_argument("--key", type=Path, help=f"the public key; else {PUBLIC_KEY} in the folder")

    def handle(self, *args: Any, **options: Any) -> None:
        seals = Seals(options["folder"], public_key=options["key"])
        connection.ensure_connection()
        stored: psycopg.Connection[Any] = connection.connection
        head, found = follow(stored)
        found += seals.all_contradicted(stored)
        if found:
            raise CommandError("\n".join([*found, f"wrong: {len(found)}"]))
        sealed = list(seals.all())
        upto = f"sealed up to entry {sealed[-1].number} by {len(sealed)} seals" if sealed else "never sealed"
        self.stdout.write(f"{head.number} audit entries, none changed or missing, {upto}; head {head.hash}")
