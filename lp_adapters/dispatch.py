"""What the trade process does with legs: send the new ones once, and ask about those it cannot be sure of.

One thread runs all of this, so a leg is never asked about while it is on its way out. A leg is DISPATCHING, durably,
before it is sent, and it is sent within moments of that or not at all; after a crash it is asked about (OrderStatusRequest,
35=H) on the same ordered session and never sent again. No answer is not a rejection: `resolver` says when the question is
repeated and when a person is called. In every session what is in doubt is asked about first, and new legs wait a while for
the answers. The last word before a leg leaves is `conservation`'s.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from bus.clock import Clock
from fix_gateway.initiator import Sending
from fix_gateway.wire.message import Outgoing
from fix_gateway.wire.orders import new_order_single, order_status_request
from lp_adapters.conservation import Facts, Sent
from lp_adapters.conservation import judged as judged_by_conservation
from lp_adapters.inbox import LEG_UNKNOWN, Inbox
from lp_adapters.legs import Leg, Plan
from lp_adapters.resolver import UNRESOLVED_AFTER_S, Question, Resolver
from trading.liquidity import DispatchState, ExecutionReport, ReportKind

logger = logging.getLogger("tribook.lp")

LOOK_AGAIN_EVERY_S = 10.0
HELD_FOR_S = 15.0
"""New legs wait so long for the answers about earlier ones. A provider that stays silent must not hold up closes for ever."""
SENT_WITHIN_S = 1.5
"""From the commit that marks a leg to its sending. A process that stood still for longer may have a successor."""
BELIEVED_AFTER_S = 2.0
"""A successor believes "unknown order" only when its predecessor can surely send no more: SENT_WITHIN_S, and a margin."""
SPOKEN_OF_MAX = 100_000
PROVIDER_SILENT = "lp_silent"
"""Kind of the alert that new orders go to a provider which does not say what became of earlier ones."""

Send = Callable[[Outgoing, Callable[[], bool]], Sending]


def not_sent(lp: str, leg: Leg, text: str, now_us: int) -> ExecutionReport:
    """Our own report: the leg was given up before anything left the building."""
    return _our_own(ReportKind.NOT_SENT, lp, leg, text, now_us)


def unresolved(lp: str, leg: Leg, text: str, now_us: int) -> ExecutionReport:
    """Our own report: the provider does not say what became of the leg."""
    return _our_own(ReportKind.UNRESOLVED, lp, leg, text, now_us)


def _our_own(kind: ReportKind, lp: str, leg: Leg, text: str, now_us: int) -> ExecutionReport:
    return ExecutionReport(
        lp=lp,
        kind=kind,
        cl_ord_id=leg.cl_ord_id,
        side=leg.side,
        lp_symbol=leg.lp_symbol,
        text=text,
        received_us=now_us,
    )


def plan_new_legs(
    legs: Sequence[Leg], *, lp: str, is_logged_on: bool, may_come_up: bool, now_us: int, is_holding: bool = False
) -> Plan:
    """Too old: given up. Session up: sent, unless earlier legs are asked about first (`is_holding`). Session down: a close
    waits until it is too old, since nobody else can take it; an opening leg is given up for another provider, unless the
    session is only just being set up (`may_come_up`)."""
    give_up: list[tuple[Leg, ExecutionReport]] = []
    send: list[Leg] = []
    for leg in legs:
        if now_us > leg.expires_us:
            give_up.append((leg, not_sent(lp, leg, "too old to be sent", now_us)))
        elif is_logged_on and not is_holding:
            send.append(leg)
        elif not is_logged_on and not leg.closes and not may_come_up:
            give_up.append((leg, not_sent(lp, leg, f"no session with {lp}", now_us)))
    return Plan(send=tuple(send), give_up=tuple(give_up))


class Dispatcher:
    """Sends and asks, for one provider. `step` is called when something may have happened, from one thread only."""

    def __init__(
        self,
        lp: str,
        inbox: Inbox,
        send: Send,
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
        self._session = 0
        """Counts sessions' beginnings and ends."""
        self._checked_session = -1
        """The session in which everything in doubt was asked about."""
        self._look_again_s = 0.0
        self._is_first_look = True
        self._held: frozenset[str] = frozenset()
        """ClOrdIDs that new legs wait for."""
        self._held_until_s = 0.0
        self._holds = False
        self._is_silence_told = False
        self._planned_s = 0.0
        self._unmarked: set[int] = set()
        self._resolver = Resolver()
        self._spoken_of: deque[str] = deque(maxlen=SPOKEN_OF_MAX)
        self._sent_s: dict[int, float] = {}
        self._sent_orders = Sent()
        self.sent = 0
        self.given_up = 0

    # ------------------------------------------------------------------------------ called from the session's thread

    def logged_on(self) -> None:
        """A session began: everything in doubt is asked about anew."""
        self._was_up = True
        self._resolver.new_session()
        self._sent_s = {}
        self._session += 1

    def logged_out(self) -> None:
        """Nothing is sent in a session whose beginning was not told of."""
        self._session += 1

    def question_about(self, cl_ord_id: str) -> Question | None:
        """What was asked about this order on this session and is not yet answered."""
        return self._resolver.question_about(cl_ord_id)

    def may_believe_denial(self, question: Question) -> bool:
        """False while a predecessor that stood still might yet send what it had marked."""
        is_sent = question.leg.dispatch_state == DispatchState.SENT.value
        return is_sent or self._monotonic() >= self._inbox.acquired_s + BELIEVED_AFTER_S

    def spoken_of(self, cl_ord_id: str) -> None:
        """The provider said something about this order."""
        self._spoken_of.append(cl_ord_id)

    def settled(self, question: Question) -> None:
        """The provider does not know the order; what follows from that is in the inbox."""
        self._resolver.settled(question)

    def answered(self, question: Question) -> None:
        """The provider knows the order, so it was sent."""
        self._resolver.answered(question)
        if question.leg.dispatch_state == DispatchState.DISPATCHING.value:
            self._unmarked.add(question.leg.id)

    # ------------------------------------------------------------------------------------- called from the one thread

    def step(self) -> None:
        """Note what was sent, ask what is in doubt, call a person where nobody answers, send what is new."""
        self._mark_sent()
        self._take_in()
        self._look()
        self._ask()
        self._call_a_person()
        self._holds = self._is_holding()
        while self._send_new():
            pass
        self._mark_sent()

    @property
    def detail(self) -> dict[str, object]:
        """Orders in doubt, for the health hash."""
        return {"in_doubt": self._resolver.in_doubt(), "held_for": len(self._held)}

    def _mark_sent(self) -> None:
        if self._unmarked:
            marking = list(self._unmarked)
            self._unmarked -= set(marking) - self._inbox.mark_sent(marking)

    def _take_in(self) -> None:
        now_s = self._monotonic()
        with suppress(IndexError):
            while True:
                self._resolver.heard_of(self._spoken_of.popleft(), now_s)
        self._resolver.note_answers(now_s)

    # --------------------------------------------------------------------------------------------------------- asking

    def _look(self) -> None:
        """See what is in doubt: in every new session before anything else, and again every now and then."""
        session = self._session
        is_new = self._is_logged_on() and self._checked_session != session
        now_s = self._monotonic()
        if not is_new and now_s < self._look_again_s:
            return
        self._look_again_s = now_s + LOOK_AGAIN_EVERY_S
        legs = self._inbox.in_doubt()
        live = {leg.id for leg in legs}
        self._sent_s = {number: sent_s for number, sent_s in self._sent_s.items() if number in live}
        self._resolver.look(legs, now_s, self._sent_s)
        if self._is_first_look:
            self._is_first_look = False
            self._resolver.was_unresolved(self._inbox.called_about())
        if is_new:
            self._hold([leg for leg in legs if leg.id not in self._sent_s], now_s)
            self._checked_session = session

    def _hold(self, earlier: Sequence[Leg], now_s: float) -> None:
        """New legs wait for the answers about legs that an earlier session or process may or may not have sent."""
        held = [leg.cl_ord_id for leg in earlier if leg.dispatch_state == DispatchState.DISPATCHING.value]
        self._held, self._held_until_s = frozenset(held), now_s + HELD_FOR_S
        if held:
            logger.warning("new_legs_held lp=%s for=%s", self._lp, ",".join(held))

    def _is_holding(self) -> bool:
        """Until all is answered, or too long; then a person hears of it."""
        self._held = frozenset(name for name in self._held if self._resolver.is_open(name))
        if not self._held:
            if self._is_silence_told:
                self._is_silence_told = False
                self._inbox.clear(kind=PROVIDER_SILENT, subjects=[self._lp])
            return False
        if self._monotonic() < self._held_until_s:
            return True
        if not self._is_silence_told:
            self._is_silence_told = True
            text = f"{self._lp} does not say what became of {len(self._held)} orders; new ones are sent all the same"
            self._inbox.alert(kind=PROVIDER_SILENT, subject=self._lp, text=text)
        return False

    def _ask(self) -> None:
        now_s = self._monotonic()
        for leg in self._resolver.due(now_s) if self._is_logged_on() else ():
            self._resolver.asking(leg, now_s)
            logger.info("leg_asked_about lp=%s cl_ord_id=%s state=%s", self._lp, leg.cl_ord_id, leg.dispatch_state)
            self._send(
                order_status_request(
                    cl_ord_id=leg.cl_ord_id, lp_symbol=leg.lp_symbol, side=leg.side, lp_order_id=leg.lp_order_id
                ),
                always,
            )

    def _call_a_person(self) -> None:
        text = f"{self._lp} has not said for {UNRESOLVED_AFTER_S:.0f} s what became of it"
        for leg in self._resolver.unresolved(self._monotonic()):
            self._inbox.unresolved(unresolved(self._lp, leg, text, self._clock()), f"{leg.cl_ord_id}: {text}")
            self._resolver.called(leg.cl_ord_id)
        over = self._resolver.resolved()
        if over:
            self._inbox.clear(kind=LEG_UNKNOWN, subjects=over)
            for name in over:
                self._resolver.taken_back(name)

    # -------------------------------------------------------------------------------------------------------- sending

    def _send_new(self) -> bool:
        """True when there may be more."""
        taken = self._inbox.take(self._plan, self._judged, self._sent_before)
        for leg in taken:
            self._dispatch(leg, until_s=self._planned_s + SENT_WITHIN_S)
        return bool(taken)

    def _plan(self, legs: Sequence[Leg]) -> Plan:
        # Before the commit, so that the time allowed for sending begins no later than a successor's.
        self._planned_s = self._monotonic()
        is_logged_on = self._is_logged_on()
        plan = plan_new_legs(
            legs,
            lp=self._lp,
            is_logged_on=is_logged_on,
            may_come_up=not self._was_up,
            now_us=self._clock(),
            is_holding=self._holds or self._checked_session != self._session,
        )
        for leg, report in plan.give_up:
            self._tell_given_up(leg, report.text)
        return plan

    def _judged(self, plan: Plan, facts: Facts) -> Plan:
        judged = judged_by_conservation(plan, facts, lp=self._lp, sent=self._sent_orders, giving_up=self._giving_up)
        if judged.stop:
            logger.critical("provider_stopped lp=%s why=%s", self._lp, judged.stop)
        return judged

    def _sent_before(self, legs: Sequence[Leg]) -> list[str]:
        return [name for leg in legs for name in self._sent_orders.with_(leg)]

    def _dispatch(self, leg: Leg, *, until_s: float) -> None:
        """Send once. Only if QuickFIX is sure that nothing left may the leg be given up; if it is not, it stays in doubt."""
        if self._clock() > leg.expires_us:
            self._give_up(leg, "too old to be sent")
            return
        session = self._session
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
            ),
            lambda: self._monotonic() < until_s and self._clock() <= leg.expires_us,
        )
        if outcome in (Sending.SENT, Sending.UNKNOWN):
            self._sent_orders.note(leg)
        if outcome is Sending.SENT:
            self.sent += 1
            self._unmarked.add(leg.id)
            if session == self._session:
                self._sent_s[leg.id] = self._monotonic()
            logger.info("leg_sent lp=%s cl_ord_id=%s", self._lp, leg.cl_ord_id)
        elif outcome is Sending.NOT_LOGGED_ON:
            self._give_up(leg, f"no session with {self._lp}")
        elif outcome is Sending.TOO_LATE:
            self._give_up(leg, "it could not be sent in time")
        else:
            logger.warning("leg_in_doubt lp=%s cl_ord_id=%s", self._lp, leg.cl_ord_id)
            self._look_again_s = 0.0

    def _give_up(self, leg: Leg, why: str) -> None:
        """Nothing left the building, and only the one writer can say so: a process that was replaced ends here instead."""
        self._tell_given_up(leg, why)
        self._inbox.give_up(leg, not_sent(self._lp, leg, why, self._clock()))

    def _giving_up(self, leg: Leg, why: str) -> tuple[Leg, ExecutionReport]:
        self._tell_given_up(leg, why)
        return leg, not_sent(self._lp, leg, why, self._clock())

    def _tell_given_up(self, leg: Leg, why: str) -> None:
        self.given_up += 1
        logger.warning("leg_not_sent lp=%s cl_ord_id=%s why=%s", self._lp, leg.cl_ord_id, why)


def always() -> bool:
    return True
