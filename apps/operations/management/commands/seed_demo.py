"""`manage.py seed_demo`: the demo broker's configuration and logins. Run before the engine starts; again does no harm."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.operations.demo import data_folder, demo_passwords, seed_configuration, seed_users
from apps.operations.services import publish_config


class Command(BaseCommand):
    help = "Configure the demo broker and its logins, and publish the configuration when it changed."

    def handle(self, *args: Any, **options: Any) -> None:
        seed_configuration()
        seed_users(demo_passwords(data_folder()))
        done = publish_config("system:seed", tell=False)
        state = "published" if done.changed else "unchanged"
        self.stdout.write(f"configuration version {done.config.version} {state}")
