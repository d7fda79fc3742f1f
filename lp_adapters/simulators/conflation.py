"""Newest price wins: at high speed a provider cannot send every tick, so each symbol sends the newest at a bounded rate. Pure.

A crossed tick does not hide the good one before it, nor the other way round: the newest of each kind passes, in order, so
whoever must drop crossed prices gets to see them and still has good ones.
"""

from lp_adapters.simulators.ticks import Tick

UPDATES_PER_SECOND_MAX = 20
"""Per provider and symbol, of wall time, on average."""
PAUSE_S = 1 / UPDATES_PER_SECOND_MAX


class Conflator:
    """Holds what is not sent yet. Bounded: at most two ticks per provider and symbol."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], dict[bool, Tick]] = {}
        self._free_at: dict[tuple[str, str], float] = {}
        self.taken = 0
        """Ticks handed out."""
        self.conflated = 0
        """Ticks that a newer one replaced before they could be sent."""
        self.crossed = 0
        """Of the ticks handed out, those whose bid was at or above the ask."""

    def offer(self, tick: Tick) -> None:
        waiting = self._waiting.setdefault((tick.lp, tick.symbol), {})
        if waiting.pop(tick.is_crossed, None) is not None:
            self.conflated += 1
        waiting[tick.is_crossed] = tick

    def take(self, now_s: float) -> list[Tick]:
        """What may be sent now, oldest first within a symbol. `now_s` is any clock that only grows."""
        free = [key for key in self._waiting if now_s >= self._free_at.get(key, 0.0)]
        sent: list[Tick] = []
        for key in free:
            ticks = self._waiting.pop(key)
            self._free_at[key] = now_s + PAUSE_S * len(ticks)
            sent.extend(ticks.values())
            self.crossed += True in ticks
        self.taken += len(sent)
        return sent
