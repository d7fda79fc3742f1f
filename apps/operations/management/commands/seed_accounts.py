"""`manage.py seed_accounts`: opens the demo clients' accounts and pays them in, through the running engine, once."""

import time
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts.services import open_in_engine
from apps.doors.problems import Problem
from apps.ledger.services import deposit
from apps.operations.demo import CLIENTS, DEPOSIT, Client
from trading.refusals import REGISTRY, Refusal

RETRY_S = 0.2
OPEN_ALREADY = frozenset({Refusal.ACCOUNT_EXISTS, Refusal.CLIENT_ORDER_ID_REUSED})
"""The second: opened by an earlier release, which asked for other terms under the same key. They stay as they are."""


class Command(BaseCommand):
    help = "Open and fund the demo accounts; waits for the engine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for the engine")

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + float(options["wait"])
        for client in CLIENTS:
            _until(deadline, partial(_open, client))
            _until(deadline, partial(_fund, client))
            self.stdout.write(f"account {client.account} of {client.username}: {client.currency}, {client.group}")


def _open(client: Client) -> None:
    try:
        open_in_engine(
            account=client.account,
            group=client.group,
            currency=client.currency,
            leverage=client.leverage,
            client_class=client.client_class,
            jurisdiction=client.jurisdiction,
            actor="system:seed",
        )
    except Problem as problem:
        if problem.code not in OPEN_ALREADY:
            raise


def _fund(client: Client) -> None:
    """Under one key for ever: the money arrives once, however often this runs."""
    deposit(
        account=client.account,
        amount=DEPOSIT,
        reference="demo money",
        key=f"seed/{client.account}",
        actor="system:seed",
    )


def _until(deadline: float, step: Callable[[], None]) -> None:
    """Do the step, again while the engine is not there yet. Both commands are keyed, so repeating is safe."""
    while True:
        try:
            step()
            return
        except Problem as problem:
            passing = REGISTRY[problem.code].retryable or problem.code is Refusal.TIMEOUT_UNKNOWN
            if not passing or time.monotonic() > deadline:
                raise CommandError(f"{problem.code.value}: {problem.detail}") from None
            time.sleep(RETRY_S)
