"""Clients: they ask under a key, wait, and ask again under the same key when no answer comes. Nothing is assumed from silence.

Three outcomes: done, refused, unknown. What was answered is kept, and every further answer under the key must agree with it.
"""

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from tests.simulation.bus import Redis
from tests.simulation.clockwork import SECOND_US, Time
from trading.answers import Answer
from trading.commands import AnyCommand, ExpireOrders, RollOver, SettleCommission
from trading.refusals import Refusal

WAITS_US = 3 * SECOND_US
VALID_US = 8 * SECOND_US
ATTEMPTS_MAX = 6
UNKEYED = (ExpireOrders, RollOver, SettleCommission)
"""Asking again for these finds nothing more to do, or does the rest."""


@dataclass
class Request:
    command: AnyCommand
    attempts: int = 0
    due_us: int = 0
    """When to ask again."""
    newest: str = ""
    """The command id of the last attempt."""
    outcome: str = "waiting"
    traceless: bool = False
    """The last answer was a refusal that leaves neither order nor key."""
    made: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Refusal and reference of the answers that came first, by command id; repetitions' are under ``again``."""


class Clients:
    def __init__(self, redis: Redis, time: Time, violate: Any) -> None:
        self._redis = redis
        self._time = time
        self._violate = violate
        self.requests: dict[tuple[int, str], Request] = {}
        self.asked: dict[str, Request] = {}
        self.waiting: dict[tuple[int, str], Request] = {}
        self.answers = 0
        self.numbers = 0

    def name(self) -> str:
        self.numbers += 1
        return f"00000000-0000-7000-8000-{self.numbers:012d}"

    def ask(self, kind: Any, **fields: Any) -> Request:
        """A new request of a client or of staff, under a key of its own."""
        name = self.name()
        request = Request(kind(id=name, key=f"k{self.numbers}", **fields))
        self.requests[request.command.account, request.command.key] = request
        self.waiting[request.command.account, request.command.key] = request
        self._send(request)
        return request

    def repeat(self, request: Request) -> None:
        """The same again, though it was answered: a second tab, a nervous finger."""
        self.waiting[request.command.account, request.command.key] = request
        self._send(request)

    def _send(self, request: Request) -> None:
        request.attempts += 1
        name = request.command.id if request.attempts == 1 else self.name()
        command = replace(request.command, id=name, reply_to="door", valid_until_us=self._time.business() + VALID_US)
        self.asked[name] = request
        request.newest = name
        request.due_us = self._time.now_us + WAITS_US * (1 + request.attempts // 3)
        self._redis.add(command)

    def turn(self, *, for_ever: bool = False) -> None:
        """Ask again where an answer is overdue."""
        now = self._time.now_us
        for place, request in list(self.waiting.items()):
            if request.due_us > now:
                continue
            if request.attempts >= ATTEMPTS_MAX and not for_ever:
                request.outcome = "unknown"
                del self.waiting[place]
            else:
                self._send(request)

    def hear(self, answer: Answer) -> None:
        request = self.asked.get(answer.command_id)
        if request is None:
            return
        self.answers += 1
        said = (str(answer.refusal), answer.reference)
        if answer.refusal in {Refusal.CLIENT_ORDER_ID_REUSED, Refusal.INTERNAL}:
            self._violate("answers", f"{request.command.key} was answered {answer.refusal}: {answer.detail}")
        if answer.replayed:
            before = request.made.setdefault("again", said)
            if before != said:
                self._violate("answers", f"{request.command.key} was answered {before}, then {said}")
        elif answer.command_id not in request.made:
            request.made[answer.command_id] = said
        self._agree(request)
        traceless = bool(answer.refusal) and answer.order is None and not answer.replayed
        if answer.refusal == Refusal.BUSY or (traceless and answer.command_id != request.newest):
            return  # a later attempt is under way, and may be done though this one was not
        request.outcome = "refused" if answer.refusal else "done"
        request.traceless = traceless
        self.waiting.pop((request.command.account, request.command.key), None)

    def _agree(self, request: Request) -> None:
        """A key is used once: whoever was told that it was done was told of the same thing."""
        if isinstance(request.command, UNKEYED):
            return
        references = {reference for refusal, reference in request.made.values() if not refusal}
        if len(references) > 1:
            self._violate("answers", f"{request.command.key} was done as {sorted(references)}")
