"""The engine's outside, in memory: a stream that can be read again from any position, and an ear for what was told."""

from collections.abc import Sequence

from engine.batch import StreamPosition
from engine.driver import Arrived, Told
from engine.step import Ack, Forget, Nudge, Publish, Taken, Unreadable
from trading.answers import Answer
from trading.commands import AnyCommand
from trading.quotes import Quote

INCARNATION = "memory"


class MemoryStream:
    """Entries are numbered from 1; nothing is ever forgotten, so that a rebuilt engine can be served again."""

    def __init__(self) -> None:
        self.entries: list[AnyCommand | bytes] = []
        self.fresh_quotes: dict[str, Quote] = {}
        self.next = 0

    def add(self, command: AnyCommand | bytes) -> None:
        self.entries.append(command)

    def seek(self, position: StreamPosition) -> None:
        self.next = int(position.id.partition("-")[0])

    def take(self, limit: int) -> Arrived:
        taken: list[Taken | Unreadable] = []
        for number in range(self.next + 1, min(self.next + limit, len(self.entries)) + 1):
            entry, stream_id = self.entries[number - 1], f"{number}-0"
            if isinstance(entry, bytes):
                taken.append(Unreadable(command_id=f"entry:{number}", raw=entry, error="not JSON", stream_id=stream_id))
            else:
                taken.append(Taken(entry, stream_id))
        self.next += len(taken)
        return Arrived(taken, INCARNATION)

    def quotes(self) -> Sequence[Quote]:
        found = list(self.fresh_quotes.values())
        self.fresh_quotes.clear()
        return found


class Ear:
    """Keeps what was told, in order."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def tell(self, told: Sequence[Told]) -> None:
        self.told += told

    @property
    def answers(self) -> list[Answer]:
        return [answer for told in self.told if isinstance(told, Ack) for _, answer in told.answers]

    @property
    def nudged(self) -> list[str]:
        return [lp for told in self.told if isinstance(told, Nudge) for lp in told.lps]

    @property
    def published(self) -> list[tuple[int, int, str]]:
        return [(e.account, e.seq, e.kind) for told in self.told if isinstance(told, Publish) for e in told.events]

    @property
    def durable_to(self) -> str:
        return [told.position.id for told in self.told if isinstance(told, Forget)][-1]
