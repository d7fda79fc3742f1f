"""What the trade process does with legs: send the new ones once, and ask about those it cannot be sure of.

One thread runs all of this, so a leg is never asked about while it is on its way out. A leg is DISPATCHING, durably,
before it is sent; after a crash it is asked about (OrderStatusRequest, 35=H) on the same ordered session and never sent
again. No answer is not a rejection: the question is repeated, ever more rarely.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bus.clock import Clock
from fix_gateway.initiator import Sending
from fix_gateway.wire.message import Outgoing
from fix_gateway.wire.orders import new_order_single, order_status_request
from lp_adapters.inbox import Inbox, Leg, Plan
from trading.liquidity import DispatchState, ExecutionReport, ReportKind

logger = logging.getLogger("tribook.lp")

LOOK_AGAIN_EVERY_S = 10.0
ASKED_AGAIN_AFTER_S_MAX = 640.0


def not_sent(lp: str, leg: Leg, text: str, now_us: int) -> ExecutionReport:
    """Our own report: the leg was given up before anything left the building."""
    return ExecutionReport(
        lp=lp,
        kind=ReportKind.NOT_SENT,
        cl_ord_id=leg.cl_ord_id,
        side=leg.side,
        lp_symbol=leg.lp_symbol,
        text=text,
        received_us=now_us,
    )


def plan_new_legs(legs: Sequence[Leg], *, lp: str, is_logged_on: bool, may_come_up: bool, now_us: int) -> Plan:
    """Too old: given up. Session up: sent. Session down: a close waits until it is too old, since nobody else can take
    it; an opening leg is given up for another provider, unless the session is only just being set up (`may_come_up`)."""
    give_up: list[tuple[Leg, ExecutionReport]] = []
    send: list[Leg] = []
    for leg in legs:
        if now_us > leg.expires_us:
            give_up.append((leg, not_sent(lp, leg, "too old to be sent", now_us)))
        elif is_logged_on:
            send.append(leg)
        elif not leg.closes and not may_come_up:
            give_up.append((leg, not_sent(lp, leg, f"no session with {lp}", now_us)))
    return Plan(send=tuple(send), give_up=tuple(give_up))


@dataclass(slots=True)
class Question:
    """An order that the provider was asked about on this session."""

    leg: Leg
    asked_s: float
    again_after_s: float
    is_answered: bool = False
    is_settled: bool = False
    """Asking again would not help: the order is unknown there, or its leg was given up."""


class Dispatcher:
    """Sends and asks, for one provider. `step` is called when something may have happened, from one thread only."""

    def __init__(
        self,
        lp: str,
        inbox: Inbox,
        send: Callable[[Outgoing], Sending],
        is_logged_on: Callable[[], bool],
        clock: Clock,
        account: str = "",
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._lp = lp
        self._inbox = inbox
        self._send = send
        self._is_logged_on = is_logged_on
        self._clock = clock
        self._account = account
        self._was_up = False
        self._look_again_s = 0.0
        self._unmarked: set[int] = set()
        self._questions: dict[str, Question] = {}
        self._sent_s: dict[int, float] = {}
        self.sent = 0
        self.given_up = 0

    # ------------------------------------------------------------------------------ called from the session's thread

    def logged_on(self) -> None:
        """A session began: everything in doubt is asked about anew."""
        self._was_up = True
        self._questions = {}
        self._sent_s = {}
        self._look_again_s = 0.0

    def question_about(self, cl_ord_id: str) -> Question | None:
        """What was asked about this order on this session and is not yet answered."""
        question = self._questions.get(cl_ord_id)
        return None if question is None or question.is_answered else question

    def settled(self, question: Question) -> None:
        """The provider does not know the order; what follows from that is in the inbox."""
        question.is_answered = question.is_settled = True

    def answered(self, question: Question) -> None:
        """The provider knows the order, so it was sent."""
        question.is_answered = True
        if question.leg.dispatch_state == DispatchState.DISPATCHING.value:
            self._unmarked.add(question.leg.id)

    # ------------------------------------------------------------------------------------- called from the one thread

    def step(self) -> None:
        """Send what is new, note what was sent, ask what is in doubt."""
        while self._send_new():
            pass
        if self._unmarked:
            marking = list(self._unmarked)
            self._unmarked -= set(marking) - self._inbox.mark_sent(marking)
        if self._is_logged_on() and self._monotonic() >= self._look_again_s:
            self._look_again_s = self._monotonic() + LOOK_AGAIN_EVERY_S
            self._ask_about_doubtful()

    def _send_new(self) -> bool:
        """True when there may be more."""
        taken = self._inbox.take(self._plan)
        for leg in taken:
            self._dispatch(leg)
        return bool(taken)

    def _plan(self, legs: Sequence[Leg]) -> Plan:
        plan = plan_new_legs(
            legs,
            lp=self._lp,
            is_logged_on=self._is_logged_on(),
            may_come_up=not self._was_up,
            now_us=self._clock(),
        )
        self.given_up += len(plan.give_up)
        for leg, report in plan.give_up:
            logger.warning("leg_not_sent lp=%s cl_ord_id=%s why=%s", self._lp, leg.cl_ord_id, report.text)
        return plan

    def _dispatch(self, leg: Leg) -> None:
        """Send once. Only if QuickFIX is sure that nothing left may the leg be given up; if it is not, it stays in doubt."""
        if self._clock() > leg.expires_us:
            self._give_up(leg, "too old to be sent")
            return
        outcome = self._send(
            new_order_single(
                cl_ord_id=leg.cl_ord_id,
                lp_symbol=leg.lp_symbol,
                side=leg.side,
                quantity=leg.quantity,
                at=datetime.now(UTC),
                account=self._account,
                limit_price=leg.limit_price,
                all_or_none=leg.all_or_none,
            )
        )
        if outcome is Sending.SENT:
            self.sent += 1
            self._unmarked.add(leg.id)
            self._sent_s[leg.id] = self._monotonic()
            logger.info("leg_sent lp=%s cl_ord_id=%s", self._lp, leg.cl_ord_id)
        elif outcome is Sending.NOT_LOGGED_ON:
            self._give_up(leg, f"no session with {self._lp}")
        else:
            logger.warning("leg_in_doubt lp=%s cl_ord_id=%s", self._lp, leg.cl_ord_id)

    def _give_up(self, leg: Leg, why: str) -> None:
        self.given_up += 1
        logger.warning("leg_not_sent lp=%s cl_ord_id=%s why=%s", self._lp, leg.cl_ord_id, why)
        self._inbox.give_up(leg, not_sent(self._lp, leg, why, self._clock()))

    def _ask_about_doubtful(self) -> None:
        doubtful = self._inbox.in_doubt()
        live = {leg.id for leg in doubtful}
        self._sent_s = {number: sent_s for number, sent_s in self._sent_s.items() if number in live}
        for leg in doubtful:
            if self._is_due(leg):
                self._ask(leg)

    def _is_due(self, leg: Leg) -> bool:
        """At once for what an earlier session may have sent; after a while for what this one sent; then ever more rarely."""
        question = self._questions.get(leg.cl_ord_id)
        if question is None:
            return self._monotonic() >= self._sent_s.get(leg.id, 0.0) + LOOK_AGAIN_EVERY_S
        return not question.is_settled and self._monotonic() >= question.asked_s + question.again_after_s

    def _ask(self, leg: Leg) -> None:
        before = self._questions.get(leg.cl_ord_id)
        pause_s = min(before.again_after_s * 2, ASKED_AGAIN_AFTER_S_MAX) if before else LOOK_AGAIN_EVERY_S
        # Noted before it is sent: the answer comes on another thread, and may come first.
        self._questions[leg.cl_ord_id] = Question(leg, self._monotonic(), pause_s)
        logger.info("leg_asked_about lp=%s cl_ord_id=%s state=%s", self._lp, leg.cl_ord_id, leg.dispatch_state)
        self._send(
            order_status_request(
                cl_ord_id=leg.cl_ord_id, lp_symbol=leg.lp_symbol, side=leg.side, lp_order_id=leg.lp_order_id
            )
        )
