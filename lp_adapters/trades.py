"""A provider's trade session: legs out through the dispatcher, everything the provider says into the inbox.

QuickFIX counts a message as received when our callback returns, so the callback returns when the message's row is
committed, however long PostgreSQL takes. A process that is killed before that is sent the message again.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import structs

from bus import names
from bus.clock import Clock
from fix_gateway.initiator import Handler, Initiator, Sending
from fix_gateway.settings import SessionFile
from fix_gateway.wire.message import Message, Outgoing, parse, readable
from fix_gateway.wire.orders import execution_report, is_unknown_order, other_report, refusal_report
from lp_adapters.dispatch import Dispatcher, not_sent
from lp_adapters.inbox import Inbox, InboxRow
from trading.liquidity import UNKNOWN_ORDER, ExecutionReport, ReportKind

logger = logging.getLogger("tribook.lp")

ALARMS_MAX = 100
NUMBERS_DISAGREE = "fix_numbers"
"""Kind of the alert that an operator must agree with a provider on sequence numbers. We never set them back by ourselves."""


class Line(Protocol):
    """The session's wire, as `fix_gateway.initiator.Initiator` is."""

    @property
    def is_logged_on(self) -> bool: ...

    def start(self) -> None: ...

    def send(self, message: Outgoing, may_leave: Callable[[], bool]) -> Sending: ...

    def log_out(self) -> None: ...


class Telling(Protocol):
    """Who hears of what happened, as `lp_adapters.telling.Teller` does. Never waits and never fails."""

    def tell(self, channel: str, data: bytes) -> None: ...

    def report_now(self) -> None: ...


class TradeSession:
    """Handler of the trade session, and the main thread's work for it."""

    def __init__(
        self,
        lp: str,
        file: SessionFile,
        inbox: Inbox,
        teller: Telling,
        clock: Clock,
        *,
        line: "Callable[[str, SessionFile, Handler], Line]" = Initiator,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`line` and `monotonic` are for a simulated world, which has its own providers and time."""
        self._lp = lp
        self._inbox = inbox
        self._teller = teller
        self._clock = clock
        self.work_waits = threading.Event()
        self._alarms: deque[str] = deque(maxlen=ALARMS_MAX)
        self._has_logged_on = threading.Event()
        self.reports = 0
        self.initiator = line(f"{lp}-trade", file, self)
        self._dispatcher = Dispatcher(
            lp,
            inbox,
            self.initiator.send,
            lambda: self.initiator.is_logged_on,
            clock,
            file.account,
            monotonic=monotonic,
        )

    # ------------------------------------------------------------------------------------- from QuickFIX's thread

    def logged_on(self) -> None:
        self._dispatcher.logged_on()
        self._has_logged_on.set()
        self._teller.report_now()
        self.work_waits.set()

    def logged_out(self) -> None:
        self._dispatcher.logged_out()
        self._teller.report_now()

    def received(self, raw: str) -> None:
        message = parse(raw)
        now_us = self._clock()
        if message.msg_type != "8":
            self._keep(other_report(message, lp=self._lp, received_us=now_us), raw)
            return
        report = execution_report(message, lp=self._lp, received_us=now_us)
        if is_unknown_order(message):
            self._unknown(message, report, raw)
            return
        question = self._dispatcher.question_about(report.cl_ord_id)
        self._keep(report, raw)
        self._dispatcher.spoken_of(report.cl_ord_id)
        if question is not None:
            self._dispatcher.answered(question)

    def refused(self, raw: str, cl_ord_id: str) -> None:
        report = refusal_report(parse(raw), lp=self._lp, cl_ord_id=cl_ord_id, received_us=self._clock())
        self._keep(report, raw)

    def numbers_disagree(self, text: str) -> None:
        self._alarms.append(text)
        self.work_waits.set()

    def _unknown(self, message: Message, report: ExecutionReport, raw: str) -> None:
        """The provider has no such order. In answer to our question, on the session that the order would have travelled
        on before it and that never repeats one, that is final: not sent, or, where it did leave us, denied: the leg ends
        and a dealer hears of it. Said without having been asked it is a contradiction. Said too soon after this process
        took over it proves nothing, and the next question will tell."""
        question = self._dispatcher.question_about(report.cl_ord_id)
        if question is None:
            self._keep(other_report(message, lp=self._lp, received_us=report.received_us), raw)
            return
        if not self._dispatcher.may_believe_denial(question):
            logger.info("denial_not_yet_believed lp=%s cl_ord_id=%s", self._lp, report.cl_ord_id)
            return
        text = f"{self._lp} never had the order"
        denied = structs.replace(report, kind=ReportKind.REJECTED, ord_rej_reason=UNKNOWN_ORDER, text=text)
        never_sent = not_sent(self._lp, question.leg, text, report.received_us)
        self._inbox.resolve_unknown(InboxRow(report=denied, raw=readable(raw)), never_sent)
        self._dispatcher.settled(question)
        self._nudge()

    def _keep(self, report: ExecutionReport, raw: str) -> None:
        self._inbox.append([InboxRow(report=report, raw=readable(raw))])
        self._nudge()

    def _nudge(self) -> None:
        self.reports += 1
        self._teller.tell(names.NUDGE_ENGINE, self._lp.encode())
        self.work_waits.set()

    # --------------------------------------------------------------------------------------- from the main thread

    def work(self) -> None:
        self._tell_alarms()
        given_up = self._dispatcher.given_up
        self._dispatcher.step()
        if self._dispatcher.given_up != given_up:
            self._teller.tell(names.NUDGE_ENGINE, self._lp.encode())

    def _tell_alarms(self) -> None:
        """A session that comes up again has agreed on its numbers."""
        if self._has_logged_on.is_set():
            self._has_logged_on.clear()
            self._alarms.clear()
            self._inbox.clear(kind=NUMBERS_DISAGREE, subjects=[self._lp])
        while self._alarms:
            text = f"{self._lp} counts messages differently, so there is no session: {self._alarms.popleft()}"
            self._inbox.alert(kind=NUMBERS_DISAGREE, subject=self._lp, text=text)

    @property
    def detail(self) -> Mapping[str, object]:
        return {
            "sent": self._dispatcher.sent,
            "not_sent": self._dispatcher.given_up,
            "reports": self.reports,
            **self._dispatcher.detail,
        }
