"""One QuickFIX session to a provider: log on, pass messages on as text, send, log out.

QuickFIX calls back from a thread of its own, and an exception there would leave a dead session in a live process: every
callback is guarded, and whatever escapes it ends the process, which the supervisor starts anew. Messages are borrowed
objects there, so only their text leaves this module. Nothing else in the process may be busy: callbacks share its lock.
"""

import fcntl
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

import quickfix as fix

from fix_gateway.settings import SessionFile
from fix_gateway.wire.message import Outgoing, clean, parse

logger = logging.getLogger("tribook.fix")

P = ParamSpec("P")
R = TypeVar("R")

EXIT_AFTER_FAULT = 70
LOGOUT_WITHIN_S = 3.0
SENT_REMEMBERED_MAX = 10_000


class Sending(StrEnum):
    """What became of a message that we wanted to send."""

    SENT = "sent"
    """Stored and written to the session."""
    NOT_LOGGED_ON = "not_logged_on"
    """Nothing left the building, and nothing will."""
    TOO_LATE = "too_late"
    """It was not to leave any more when its turn came; nothing left the building, and nothing will."""
    UNKNOWN = "unknown"
    """QuickFIX could not say; the provider must be asked."""


class Handler(Protocol):
    """Who listens to a session. Called from QuickFIX's thread: a message counts as received once the call returns."""

    def logged_on(self) -> None: ...

    def logged_out(self) -> None: ...

    def received(self, raw: str) -> None:
        """An application message."""

    def refused(self, raw: str, cl_ord_id: str) -> None:
        """A session-level Reject(35=3) of something we sent; with the ClOrdID if that was an order."""

    def numbers_disagree(self, text: str) -> None:
        """The two sides count messages differently (MsgSeqNum(34)); nothing was set back, and a person must look."""


def guarded(callback: Callable[P, R]) -> Callable[P, R]:
    """Log whatever escapes and end the process at once; only QuickFIX's own DoNotSend and RejectLogon pass."""

    @wraps(callback)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return callback(*args, **kwargs)
        except (fix.DoNotSend, fix.RejectLogon):
            raise
        except BaseException:  # noqa: BLE001 - QuickFIX turns any exception into a process that hangs
            end_process(f"{callback.__qualname__} failed")

    return run


def end_process(why: str) -> NoReturn:
    """End at once, from any thread: a half-dead session is worse than none."""
    logger.critical("session_process_ends why=%s", why, exc_info=True)  # noqa: LOG014 - called from handlers
    logging.shutdown()
    os._exit(EXIT_AFTER_FAULT)


class Initiator:
    """The session described by `file`, with `handler` listening. Starts when told to."""

    def __init__(self, name: str, file: SessionFile, handler: Handler) -> None:
        self._lock = _own(file)
        self._application = _Application(name, file, handler)
        settings = fix.SessionSettings(str(file.path))
        store = fix.FileStoreFactory(settings) if file.keeps_store else fix.MemoryStoreFactory()
        # QuickFIX prints its events itself, and only those: messages are frequent, and a Logon carries a password. (A log
        # written in Python crashes the process when the session connects.)
        self._initiator = fix.SocketInitiator(self._application, store, settings, fix.ScreenLogFactory(settings))

    def start(self) -> None:
        self._initiator.start()

    @property
    def is_logged_on(self) -> bool:
        return self._application.is_logged_on

    def send(self, message: Outgoing, may_leave: Callable[[], bool] = lambda: True) -> Sending:
        """Send unless the session is not logged on. QuickFIX itself would keep the message and deliver it hours later.

        `may_leave` is asked at the last moment: QuickFIX may have made us wait for its lock, behind a callback of ours
        that waits for PostgreSQL.
        """
        return self._application.send(message, may_leave)

    def log_out(self) -> None:
        """Say goodbye and wait a little for the answer. The caller ends the process: stopping QuickFIX can crash it."""
        self._application.log_out()


def _own(file: SessionFile) -> int:
    """Hold the session's folder for this process alone; waits for a predecessor that is still going."""
    descriptor = os.open(file.folder / "owner", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


class _Application(fix.Application):
    def __init__(self, name: str, file: SessionFile, handler: Handler) -> None:
        super().__init__()
        self._name = name
        self._file = file
        self._handler = handler
        self._session_id: Any = None
        self._up = threading.Event()
        self._sending = threading.Lock()
        self._held_back = False
        self._is_too_late = False
        self._may_leave: Callable[[], bool] = lambda: True
        self._orders: OrderedDict[str, str] = OrderedDict()
        self._numbers = (1, 1)
        """Our next number and theirs, when we asked to log on."""

    # ----------------------------------------------------------------------------------------- called by QuickFIX

    @guarded
    def onCreate(self, session_id: Any) -> None:  # noqa: N802 - QuickFIX's name
        self._session_id = _copy(session_id)

    @guarded
    def onLogon(self, _session_id: Any) -> None:  # noqa: N802
        logger.info("session_up session=%s", self._name)
        self._up.set()
        self._handler.logged_on()

    @guarded
    def onLogout(self, _session_id: Any) -> None:  # noqa: N802
        if self._up.is_set():
            logger.warning("session_down session=%s", self._name)
        self._up.clear()
        self._handler.logged_out()

    @guarded
    def toAdmin(self, message: Any, _session_id: Any) -> None:  # noqa: N802
        kind = message.getHeader().getField(35)
        if kind == "A":
            self._logging_on(message)
        elif kind == "5":
            self._look_for_numbers("we say", message)

    @guarded
    def fromAdmin(self, message: Any, _session_id: Any) -> None:  # noqa: N802
        kind = message.getHeader().getField(35)
        raw = message.toString()
        if kind == "3":
            self._handler.refused(raw, self._orders.get(parse(raw).get(45), ""))
        elif kind == "5":
            self._look_for_numbers("they say", message)
        elif kind == "4" and parse(raw).get(123) != "Y" and self._file.keeps_store:
            self._handler.numbers_disagree(f"they set their numbers to {parse(raw).get(36)} (35=4)")
        elif kind == "A" and parse(raw).get(141) == "Y" and self._file.keeps_store:
            self._refuse_reset()

    def _logging_on(self, message: Any) -> None:
        if self._file.username:
            message.setField(fix.StringField(553, self._file.username))
            message.setField(fix.StringField(554, self._file.password))
        session = fix.Session.lookupSession(self._session_id)
        self._numbers = (int(message.getHeader().getField(34)) + 1, session.getExpectedTargetNum())

    def _look_for_numbers(self, who: str, logout: Any) -> None:
        """QuickFIX ends a session whose numbers are too low, and tries again for ever; a Logout(35=5) tells why."""
        text = clean(parse(logout.toString()).get(58))
        if "too low" in text.lower():
            self._handler.numbers_disagree(f"{who}: {text}")

    def _refuse_reset(self) -> None:
        """A provider that begins to count anew by itself (141=Y) would take reports with it that we never saw. QuickFIX has
        set our numbers back by now: they are put right again, and the session does not come up."""
        sender, target = self._numbers
        session = fix.Session.lookupSession(self._session_id)
        session.setNextSenderMsgSeqNum(sender)
        session.setNextTargetMsgSeqNum(target)
        self._handler.numbers_disagree(f"they began to count anew (141=Y), we had {target}")
        raise fix.RejectLogon("numbers are set back by agreement only")

    @guarded
    def toApp(self, message: Any, _session_id: Any) -> None:  # noqa: N802
        """Hold back resends: an order would meet a price it was never meant for, and everything else is asked anew."""
        raw = parse(message.toString())
        if raw.get(43) == "Y" or not self._up.is_set():
            self._held_back = True
            raise fix.DoNotSend
        if not self._may_leave():
            self._is_too_late = True
            raise fix.DoNotSend
        if raw.msg_type == "D":
            self._orders[raw.get(34)] = raw.get(11)
            if len(self._orders) > SENT_REMEMBERED_MAX:
                self._orders.popitem(last=False)

    @guarded
    def fromApp(self, message: Any, _session_id: Any) -> None:  # noqa: N802
        raw = message.toString()
        if parse(raw).msg_type == "j":
            self._handler.refused(raw, self._orders.get(parse(raw).get(45), ""))
        else:
            self._handler.received(raw)

    # ------------------------------------------------------------------------------------------- called by us

    @property
    def is_logged_on(self) -> bool:
        session = fix.Session.lookupSession(self._session_id) if self._session_id else None
        return bool(session and session.isLoggedOn() and self._up.is_set())

    def send(self, message: Outgoing, may_leave: Callable[[], bool]) -> Sending:
        with self._sending:
            if not self.is_logged_on:
                return Sending.NOT_LOGGED_ON
            self._held_back = self._is_too_late = False
            self._may_leave = may_leave
            if fix.Session.sendToTarget(_quickfix_message(message), self._session_id):
                return Sending.SENT
            if self._is_too_late:
                return Sending.TOO_LATE
            return Sending.NOT_LOGGED_ON if self._held_back else Sending.UNKNOWN

    def log_out(self) -> None:
        session = fix.Session.lookupSession(self._session_id)
        if session is None or not session.isLoggedOn():
            return
        session.logout("stopping")
        deadline = time.monotonic() + LOGOUT_WITHIN_S
        while session.isLoggedOn() and time.monotonic() < deadline:
            time.sleep(0.01)


def _copy(session_id: Any) -> Any:
    """The one in a callback belongs to QuickFIX."""
    parts = (session_id.getBeginString(), session_id.getSenderCompID(), session_id.getTargetCompID())
    return fix.SessionID(*(getattr(part, "getValue", lambda part=part: part)() for part in parts))


def _quickfix_message(outgoing: Outgoing) -> Any:
    message = fix.Message()
    message.getHeader().setField(fix.StringField(35, outgoing.msg_type))
    for tag, value in outgoing.fields:
        message.setField(fix.StringField(tag, clean(value)))
    for repeating in outgoing.groups:
        for entry in repeating.entries:
            group = fix.Group(repeating.count_tag, entry[0][0])
            for tag, value in entry:
                group.setField(fix.StringField(tag, clean(value)))
            message.addGroup(group)
    return message
