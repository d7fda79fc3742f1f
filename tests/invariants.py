"""What must hold of the database after everything: the house's own checks, and two that need to know more than it stores.

I3 (acked is durable) needs to know what was acked, and I14 (rebuilt equals live) the live state's hash.
"""

from collections.abc import Iterable

from broker.invariants import Connection, money_has_its_currencys_digits, violations

__all__ = ["acknowledged_is_durable", "money_has_its_currencys_digits", "rebuilt_equals_live", "violations"]


def acknowledged_is_durable(connection: Connection, acknowledged: Iterable[tuple[int, str, int]]) -> list[str]:
    """I3: every acknowledged (account, key, reference) is stored, once, with that reference."""
    return [
        f"I3: key {key!r} of account {account} was acknowledged as {reference} and is {row[0] if row else 'lost'}"
        for account, key, reference in acknowledged
        for row in [
            connection.execute(
                "SELECT reference FROM engine_key WHERE account = %s AND key = %s", (account, key)
            ).fetchone()
        ]
        if row is None or row[0] != reference
    ]


def rebuilt_equals_live(rebuilt_hash: str, live_hash: str) -> list[str]:
    """I14: what PostgreSQL rebuilds is what the engine holds."""
    return [] if rebuilt_hash == live_hash else [f"I14: rebuilt {rebuilt_hash[:12]} is not live {live_hash[:12]}"]
