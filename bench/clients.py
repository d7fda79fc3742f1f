"""`python -m bench.clients COUNT`: makes users 1 to COUNT, each owner of the account of that number, and prints their tokens.

A process of its own, because Django's settings are read once per process and every benchmark has its own database. Nobody
logs in with a password here: hashing is slow on purpose and is not what is measured. All may be streamed to unthrottled.
"""

import sys

import django

django.setup()

from django.contrib.auth.models import Permission  # noqa: E402 - Django must be set up first

from apps.accounts import tokens  # noqa: E402
from apps.accounts.models import Profile, User  # noqa: E402
from bus.codec import encode  # noqa: E402


def main(count: int) -> None:
    unthrottled = Permission.objects.get(content_type__app_label="streaming", codename="unthrottled")
    users = User.objects.bulk_create([User(username=f"client{number}") for number in range(1, count + 1)])
    Profile.objects.bulk_create([Profile(user=user, account=number) for number, user in enumerate(users, 1)])
    unthrottled.user_set.set(users)
    sys.stdout.buffer.write(encode({number: tokens.issue(user).access for number, user in enumerate(users, 1)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
