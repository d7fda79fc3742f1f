"""Orders in doubt: when the provider is asked about each, and when a person is called. Pure: time is given, nothing is sent.

In doubt is what the provider may hold and has not told the end of. It is asked about at once in every session, then after
1, 2, 5, 10, 20 and 40 seconds, then every minute, so the next question always lies in the future. An order that the provider
has not said a word about for a minute, whatever sessions came and went, is unresolved: a dealer is told. Nothing is ever
guessed and nothing is sent again.

Two threads come here. The one that works calls everything; the session's thread calls `new_session`, `question_about`,
`answered` and `settled` only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lp_adapters.legs import Leg

QUESTIONS_S = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
"""When an order is asked about, since its first question of the session."""
REPEATED_EVERY_S = 60.0
"""Between two questions after the last of those."""
KNOWN_AGAIN_S = 30.0
"""An order that the provider knows and has not ended is asked about again after so long, in case a report was never said."""
FIRST_ASKED_AFTER_S = 10.0
"""An order of this session is in doubt when its end was not told within so long."""
UNRESOLVED_AFTER_S = 60.0
"""Without a word about it for so long an order is a dealer's."""


def next_question_s(began_s: float, now_s: float) -> float:
    """The first planned question after `now_s`; those that were slept through are not caught up with."""
    waited_s = now_s - began_s
    for at_s in QUESTIONS_S:
        if at_s > waited_s:
            return max(began_s + at_s, math.nextafter(now_s, math.inf))
    last_s = QUESTIONS_S[-1]
    periods = math.floor((waited_s - last_s) / REPEATED_EVERY_S) + 1
    return max(began_s + last_s + periods * REPEATED_EVERY_S, math.nextafter(now_s, math.inf))


@dataclass(slots=True)
class Question:
    """An order that the provider was asked about on this session."""

    leg: Leg
    began_s: float
    next_check_s: float
    is_answered: bool = False
    is_settled: bool = False
    """Asking again would not help: the order is unknown there, or its leg was given up."""
    is_noted: bool = False
    """The one thread has taken the answer in."""


@dataclass(slots=True)
class Doubt:
    """An order in doubt, over all sessions of this process."""

    leg: Leg
    silent_since_s: float
    """The last word about it, or when the doubt began."""
    first_asked_s: float
    """Not asked about before this time on the session that it was sent on."""


class Resolver:
    """All orders in doubt at one provider."""

    def __init__(self) -> None:
        self._doubts: dict[str, Doubt] = {}
        self._questions: dict[str, Question] = {}
        self._unresolved: set[str] = set()
        self._spoken_of: set[str] = set()

    # ------------------------------------------------------------------------------ called from the session's thread

    def new_session(self) -> None:
        """Everything in doubt is asked about anew; what was asked on an earlier session is answered on none."""
        self._questions = {}

    def question_about(self, cl_ord_id: str) -> Question | None:
        """What was asked about this order on this session and is not yet answered."""
        question = self._questions.get(cl_ord_id)
        return None if question is None or question.is_answered else question

    @staticmethod
    def answered(question: Question) -> None:
        """The provider knows the order."""
        question.is_answered = True

    @staticmethod
    def settled(question: Question) -> None:
        """The provider does not know the order; what follows from that is in the inbox."""
        question.is_answered = question.is_settled = True

    # -------------------------------------------------------------------------------------- called from the one thread

    def look(self, legs: Sequence[Leg], now_s: float, sent_s: dict[int, float]) -> None:
        """`legs` are all that are in doubt now; `sent_s` tells when this session sent those that it did send."""
        doubts: dict[str, Doubt] = {}
        for leg in legs:
            before = self._doubts.get(leg.cl_ord_id)
            silent_since_s = before.silent_since_s if before else sent_s.get(leg.id, now_s)
            first_asked_s = sent_s[leg.id] + FIRST_ASKED_AFTER_S if leg.id in sent_s else now_s
            doubts[leg.cl_ord_id] = Doubt(leg, silent_since_s, first_asked_s)
        self._doubts = doubts

    def heard_of(self, cl_ord_id: str, now_s: float) -> None:
        """The provider said something about this order."""
        if cl_ord_id in self._unresolved:
            self._spoken_of.add(cl_ord_id)
        if cl_ord_id in self._doubts:
            self._doubts[cl_ord_id].silent_since_s = now_s

    def due(self, now_s: float) -> list[Leg]:
        """Whom to ask about now."""
        return [doubt.leg for doubt in self._doubts.values() if self._next_check_s(doubt) <= now_s]

    def asking(self, leg: Leg, now_s: float) -> None:
        """Noted before the question is sent: the answer comes on another thread, and may come first."""
        before = self._questions.get(leg.cl_ord_id)
        began_s = before.began_s if before and not before.is_answered else now_s
        self._questions[leg.cl_ord_id] = Question(leg, began_s, next_question_s(began_s, now_s))

    def note_answers(self, now_s: float) -> None:
        """Take in what was answered since the last call."""
        for name, question in list(self._questions.items()):
            if question.is_answered and not question.is_noted:
                question.is_noted = True
                question.next_check_s = math.inf if question.is_settled else now_s + KNOWN_AGAIN_S
                self.heard_of(name, now_s)

    def is_open(self, cl_ord_id: str) -> bool:
        """Nobody knows whether the provider has the order: asked and unanswered, or still to be asked about."""
        question = self._questions.get(cl_ord_id)
        return cl_ord_id in self._doubts and (question is None or not question.is_answered)

    # ------------------------------------------------------------------------------------------------------ a person

    def was_unresolved(self, names: Sequence[str]) -> None:
        """A person was called about these by an earlier process. To be told after the first `look`."""
        self._unresolved |= set(names)

    def unresolved(self, now_s: float) -> list[Leg]:
        """Orders that a person must be called about now."""
        return [
            doubt.leg
            for name, doubt in self._doubts.items()
            if now_s - doubt.silent_since_s >= UNRESOLVED_AFTER_S and name not in self._unresolved
        ]

    def called(self, cl_ord_id: str) -> None:
        self._unresolved.add(cl_ord_id)

    def resolved(self) -> list[str]:
        """Orders that a person was called about and that have ended, or that the provider has spoken of since."""
        return [name for name in sorted(self._unresolved) if name in self._spoken_of or name not in self._doubts]

    def taken_back(self, cl_ord_id: str) -> None:
        """The person need not look any more."""
        self._unresolved.discard(cl_ord_id)
        self._spoken_of.discard(cl_ord_id)

    # ------------------------------------------------------------------------------------------------------- to be shown

    def in_doubt(self) -> int:
        return len(self._doubts)

    def next_check_s(self, cl_ord_id: str) -> float | None:
        """When this order is asked about next; None when it is not in doubt, infinite when asking would not help."""
        doubt = self._doubts.get(cl_ord_id)
        return None if doubt is None else self._next_check_s(doubt)

    def _next_check_s(self, doubt: Doubt) -> float:
        question = self._questions.get(doubt.leg.cl_ord_id)
        return doubt.first_asked_s if question is None else question.next_check_s
