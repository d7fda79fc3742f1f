"""How often and how much: the pace of each tier of clients, and the bounds that keep one from starving the others. Pure."""

from trading.accounts import ClientClass

RETAIL_INTERVAL_US = 1_000_000
PROFESSIONAL_INTERVAL_US = 100_000
UNTHROTTLED_PERMISSION = "streaming.unthrottled"

MESSAGES_PER_S = 20
MESSAGES_BURST = 60
EVENTS_QUEUED_MAX = 1_000
"""Private events and answers waiting for one client; one more closes it, and it resumes by event id."""
CLIENTS_MAX = 2_000
CLIENTS_PER_USER_MAX = 250
SEND_STALLED_US = 15_000_000
"""A single message that the client's connection does not take for so long closes it."""
LIFE_MAX_US = 12 * 3_600_000_000
"""A connection's absolute life; then the client logs in again."""


def interval_us(client_class: ClientClass | None, *, is_unthrottled: bool) -> int:
    """The least time between two quotes of one symbol for a client of this class."""
    if is_unthrottled:
        return 0
    if client_class in {ClientClass.PROFESSIONAL, ClientClass.ELIGIBLE_COUNTERPARTY}:
        return PROFESSIONAL_INTERVAL_US
    return RETAIL_INTERVAL_US


class TokenBucket:
    """`burst` at once, `per_s` on average. Time is given in microseconds; the level is counted in millionths."""

    __slots__ = ("_at_us", "_full", "_level", "_per_s")

    def __init__(self, per_s: int, burst: int, now_us: int) -> None:
        self._per_s = per_s
        self._full = burst * 1_000_000
        self._level = self._full
        self._at_us = now_us

    def take(self, now_us: int) -> bool:
        self._level = min(self._full, self._level + (now_us - self._at_us) * self._per_s)
        self._at_us = now_us
        if self._level < 1_000_000:
            return False
        self._level -= 1_000_000
        return True
