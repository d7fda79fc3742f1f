"""One simulated provider at its two QuickFIX sessions: logons checked, messages handed to `market` and `desk`, answers sent.

QuickFIX calls back from its own thread and turns any exception there into a process that hangs: every callback ends the
process instead, and its supervisor starts it anew. Messages in callbacks are borrowed, so only their text is kept. Prices
leave through one thread (`prices`), reports from the thread that decided them; nothing is sent while a lock is held.
"""

import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from queue import Full, Queue
from typing import Any, ParamSpec, TypeVar

import quickfix as fix
from msgspec.structs import replace

from fix_gateway.wire.message import Message, Outgoing, clean, number, parse
from lp_adapters.simulators.desk import Answer, Desk, Held
from lp_adapters.simulators.journal import Journal
from lp_adapters.simulators.later import Later
from lp_adapters.simulators.market import Market
from lp_adapters.simulators.misbehaviour import Misbehaviour, for_order
from lp_adapters.simulators.profiles import INSTRUMENTS, Profile
from lp_adapters.simulators.sessions import SessionText
from lp_adapters.simulators.ticks import Tick
from trading.numbers import ZERO

logger = logging.getLogger("tribook.lpsim")

P = ParamSpec("P")
R = TypeVar("R")

EXIT_AFTER_FAULT = 70
INBOX_MAX = 2_000
"""Price batches and requests waiting for the price thread. Beyond it prices are dropped: the next ones are better."""
REQUEST_WAIT_S = 5.0
HEADER_TAGS = frozenset({43, 97})
HEARTBEAT_S_MAX = 3600
PASSED_ON = (
    fix.FieldNotFound,
    fix.IncorrectTagValue,
    fix.IncorrectDataFormat,
    fix.UnsupportedMessageType,
    fix.RejectLogon,
)
"""What QuickFIX turns into answers of its own."""

Ordered = Callable[[], tuple[Misbehaviour, ...]]


def guarded(call: Callable[P, R]) -> Callable[P, R]:
    """Log whatever escapes and end the process at once; what QuickFIX itself answers passes."""

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except PASSED_ON:
            raise
        except BaseException:  # A half-dead session in a live process is worse than none.
            logger.critical("lpsim_ends why=%s", f"{call.__qualname__} failed", exc_info=True)
            logging.shutdown()
            os._exit(EXIT_AFTER_FAULT)

    return run


class Counterparty(fix.Application):
    """The provider `profile` on the sessions of `session_text`, remembering what it did in `folder`.

    `later` takes its last looks, `ordered` tells how it is to misbehave, `changed` is set when its positions may have moved.
    """

    def __init__(
        self,
        profile: Profile,
        session_text: SessionText,
        folder: Path,
        *,
        later: Later,
        ordered: Ordered,
        changed: threading.Event,
    ) -> None:
        super().__init__()
        self.name = profile.name
        self.dropped = 0
        """Price batches that the price thread had no time for."""
        self._session_text = session_text
        self._later = later
        self._ordered = ordered
        self._changed = changed
        self._journal = Journal(folder / f"{profile.name}.orders.jsonl")
        self._desk = Desk(profile.name, name_of_run=self._journal.life, images=self._journal.images())
        self._desk_lock = threading.Lock()
        self._market = Market(profile, name_of_run=f"{int(datetime.now(UTC).timestamp()):x}")
        self._inbox: Queue[list[Tick] | Message | None] = Queue(INBOX_MAX)
        self._sessions: dict[str, Any] = {}
        self._up: set[str] = set()
        settings = fix.SessionSettings()
        settings.setFromString(session_text.text)
        self._acceptor = fix.SocketAcceptor(self, fix.FileStoreFactory(settings), settings)

    # ------------------------------------------------------------------------------------------- called by the process

    def start(self) -> None:
        """Listen. Raises fix.ConfigError or RuntimeError when a port is taken."""
        self._acceptor.start()
        for unsaid in self._journal.unsaid():
            again = tuple(replace(m, fields=((97, "Y"), *m.fields)) for m in unsaid.messages)
            self._tell(Answer(messages=again, kept_as=unsaid.say))
        with self._desk_lock:
            ended = self._kept(self._desk.cancel_held(datetime.now(UTC)))
        self._tell(ended)

    def show(self, ticks: list[Tick]) -> None:
        """Take new prices from the feed."""
        try:
            self._inbox.put_nowait(ticks)
        except Full:
            self.dropped += 1

    @guarded
    def prices(self) -> None:
        """For ever: turn prices and requests into messages. The price session has no other sender."""
        while True:
            work = self._inbox.get()
            for message in self._shown(work):
                if self.is_up("QUOTE"):
                    self._send("QUOTE", message)

    def _shown(self, work: list[Tick] | Message | None) -> list[Outgoing]:
        if work is None:
            self._market.forget_subscriptions()
            return []
        if isinstance(work, Message):
            return self._market.request(work)
        return [message for tick in work for message in self._market.tick(tick)]

    def positions(self) -> dict[str, str]:
        with self._desk_lock:
            return {symbol: format(units, "f") for symbol, units in self._desk.positions().items()}

    def is_up(self, role: str) -> bool:
        return role in self._up

    def log_out(self) -> None:
        """Say goodbye on both sessions; QuickFIX ends them when the client answers."""
        for session_id in self._sessions.values():
            session = fix.Session.lookupSession(session_id)
            if session is not None and session.isLoggedOn():
                session.logout("stopping")

    @property
    def is_logged_out(self) -> bool:
        return not self._up

    # ----------------------------------------------------------------------------------------------- called by QuickFIX

    @guarded
    def onCreate(self, session_id: Any) -> None:  # noqa: N802 - QuickFIX's names
        parts = (session_id.getBeginString(), session_id.getSenderCompID(), session_id.getTargetCompID())
        self._sessions[self._role_of(session_id)] = fix.SessionID(*(part.getValue() for part in parts))

    @guarded
    def onLogon(self, session_id: Any) -> None:  # noqa: N802
        role = self._role_of(session_id)
        self._up.add(role)
        logger.info("session_up lp=%s session=%s", self.name, role)

    @guarded
    def onLogout(self, session_id: Any) -> None:  # noqa: N802
        role = self._role_of(session_id)
        if role in self._up:
            logger.info("session_down lp=%s session=%s", self.name, role)
        self._up.discard(role)
        if role == "QUOTE":
            self._inbox.put(None, timeout=REQUEST_WAIT_S)

    @guarded
    def toAdmin(self, _message: Any, _session_id: Any) -> None: ...  # noqa: N802

    @guarded
    def fromAdmin(self, message: Any, _session_id: Any) -> None:  # noqa: N802
        if message.getHeader().getField(35) == "A":
            self._check_logon(parse(message.toString()))

    @guarded
    def toApp(self, _message: Any, _session_id: Any) -> None: ...  # noqa: N802

    @guarded
    def fromApp(self, message: Any, session_id: Any) -> None:  # noqa: N802
        received = parse(message.toString())
        if self._role_of(session_id) == "TRADE":
            self._tell(self._answer(received))
        elif received.msg_type == "V":
            self._inbox.put(received, timeout=REQUEST_WAIT_S)
        else:
            raise fix.UnsupportedMessageType

    def _check_logon(self, logon: Message) -> None:
        """Refuse a stranger, and an interval that QuickFIX would take but cannot keep."""
        heartbeat = number(logon.get(108))
        if (logon.get(553), logon.get(554)) != (self._session_text.username, self._session_text.password):
            logger.warning("logon_refused lp=%s from=%s", self.name, clean(logon.get(49), 64))
            raise fix.RejectLogon("wrong user name or password")
        if heartbeat is None or not 0 < heartbeat <= HEARTBEAT_S_MAX:
            raise fix.RejectLogon(f"HeartBtInt is 1 to {HEARTBEAT_S_MAX}")

    # ----------------------------------------------------------------------------------------------------------- orders

    def _answer(self, received: Message) -> Answer:
        """Ask the desk, and keep what it did before anybody hears of it."""
        at = datetime.now(UTC)
        kind = received.msg_type
        if kind == "D":
            return self._place(received, at)
        with self._desk_lock:
            if kind == "H":
                return self._desk.status(received, at, self._ordered())
            if kind == "AF":
                return self._desk.mass_status(received, at)
            if kind == "F":
                return self._kept(self._desk.cancel(received, at))
        raise fix.UnsupportedMessageType

    def _place(self, received: Message, at: datetime) -> Answer:
        instrument = self._market.instrument(received.get(55))
        symbol = instrument.symbol if instrument else ""
        wrong = for_order(self._ordered(), symbol, number(received.get(38)) or ZERO, received.get(11))
        with self._desk_lock:
            return self._kept(self._desk.place(received, instrument, self._market.top(symbol), wrong, at))

    def _after_a_while(self, held: Held, symbol: str) -> None:
        with self._desk_lock:
            answer = self._kept(
                self._desk.later(held, INSTRUMENTS[symbol], self._market.top(symbol), datetime.now(UTC))
            )
        self._tell(answer)

    def _kept(self, answer: Answer) -> Answer:
        if answer.images:
            answer = replace(answer, kept_as=self._journal.keep(answer.images, answer.messages))
            self._changed.set()
        if answer.held:
            then = partial(self._after_a_while, answer.held, answer.images[0].symbol)
            self._later.call(answer.held.delay_ms / 1000, then)
        return answer

    def _tell(self, answer: Answer) -> None:
        """Send the reports. A client who is away gets them at its next logon, from the session's store."""
        for message in answer.messages:
            self._send("TRADE", message)
        if answer.kept_as:
            self._journal.said(answer.kept_as)

    # ---------------------------------------------------------------------------------------------------------- helpers

    def _role_of(self, session_id: Any) -> str:
        """`QUOTE` or `TRADE`: the end of our side's CompID."""
        return str(session_id.getSenderCompID().getValue()).rpartition("-")[2]

    def _send(self, role: str, outgoing: Outgoing) -> None:
        fix.Session.sendToTarget(quickfix_message(outgoing), self._sessions[role])


def quickfix_message(outgoing: Outgoing) -> Any:
    """The message as QuickFIX sends it."""
    message = fix.Message()
    message.getHeader().setField(fix.StringField(35, outgoing.msg_type))
    for tag, value in outgoing.fields:
        (message.getHeader() if tag in HEADER_TAGS else message).setField(fix.StringField(tag, clean(value)))
    for repeating in outgoing.groups:
        for entry in repeating.entries:
            group = fix.Group(repeating.count_tag, entry[0][0])
            for tag, value in entry:
                group.setField(fix.StringField(tag, clean(value)))
            message.addGroup(group)
    return message
