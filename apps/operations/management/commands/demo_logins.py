"""`manage.py demo_logins`: who can log in to the demo, and with which password."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.operations.demo import CLIENTS, DEALER, data_folder, demo_passwords


class Command(BaseCommand):
    help = "Show the demo logins."

    def handle(self, *args: Any, **options: Any) -> None:
        passwords = demo_passwords(data_folder())
        for client in CLIENTS:
            account = f"account {client.account}, {client.currency}, group {client.group}"
            self.stdout.write(f"{client.username:<8} {passwords[client.username]}  {account}")
        self.stdout.write(f"{DEALER:<8} {passwords[DEALER]}  back office at /admin/")
