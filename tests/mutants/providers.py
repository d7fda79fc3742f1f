"""Planted in the providers' processes: what is sent, what is asked, what is kept of what they say."""

from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace

from fix_gateway.initiator import Sending
from lp_adapters import dispatch
from lp_adapters.dispatch import Dispatcher
from lp_adapters.inbox import Inbox, InboxRow
from lp_adapters.trades import TradeSession
from tests.mutants.mutant import Mutant, everywhere, instead, replaced, together
from trading.liquidity import ExecutionReport

Plant = AbstractContextManager[object]
FOR_EVER_US = 1 << 62


def callback_does_not_wait() -> Plant:
    """fromApp returns at once; another thread stores the message a little later."""
    waiting: dict[int, list[InboxRow]] = {}

    def keep(self: TradeSession, report: ExecutionReport, raw: str) -> None:
        waiting.setdefault(id(self), []).append(InboxRow(report=report, raw=raw))
        self.work_waits.set()

    def make(original: Any) -> Any:
        def work(self: TradeSession) -> None:
            rows = waiting.pop(id(self), [])
            if rows:
                self._inbox.append(rows)
                self._nudge()
            original(self)

        return work

    return together(replaced(TradeSession, "_keep", lambda _original: keep), replaced(TradeSession, "work", make))


def sent_before_marked() -> Plant:
    """The leg leaves while its row still says `new`."""
    turns: dict[int, int] = {}

    def taking(original: Any) -> Any:
        def take(self: Inbox, *args: Any, **kwargs: Any) -> Any:
            turns[id(self)] = turns.get(id(self), 0) + 1
            return original(self, *args, **kwargs) if turns[id(self)] % 2 else ()

        return take

    return together(replaced(Inbox, "_mark", instead(None)), replaced(Inbox, "take", taking))


def sent_again_after_restart() -> Plant:
    """What was being sent when the process died is sent once more, instead of being asked about."""
    looked: set[int] = set()

    def make(original: Any) -> Any:
        def take(self: Inbox, *args: Any, **kwargs: Any) -> Any:
            taken = original(self, *args, **kwargs)
            if id(self) in looked:
                return taken
            looked.add(id(self))
            return (*taken, *(leg for leg in self.in_doubt() if leg.dispatch_state == "dispatching"))

        return take

    return replaced(Inbox, "take", make)


def age_ignored() -> Plant:
    """A leg is sent however old it is."""

    def planning(original: Any) -> Any:
        return lambda legs, **facts: original(legs, **{**facts, "now_us": 0})

    def sending(original: Any) -> Any:
        return lambda self, leg, **terms: original(self, replace(leg, expires_us=FOR_EVER_US), **terms)

    return together(everywhere(dispatch.plan_new_legs, planning), replaced(Dispatcher, "_dispatch", sending))


def doubt_is_not_sent() -> Plant:
    """QuickFIX could not say whether the order left: it is taken for not sent."""

    def make(original: Any) -> Any:
        def begin(self: Dispatcher, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            real: Any = self._send

            def send(*sending: Any) -> Sending:
                outcome: Sending = real(*sending)
                return Sending.NOT_LOGGED_ON if outcome is Sending.UNKNOWN else outcome

            self._send = send

        return begin

    return replaced(Dispatcher, "__init__", make)


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


PROVIDERS = (
    Mutant("fromApp returns before the commit", "a fill is durable before it counts as received", callback_does_not_wait,
           _names("fills", "I8 unresolved", "I7 net"), faults=_names("lp.kill", "lp.statement", "lp.commit", "lp.callback")),
    Mutant("leg sent before it is marked", "an order reaches a provider once", sent_before_marked, _names("last hop")),
    Mutant("leg sent again after a restart", "an order reaches a provider once", sent_again_after_restart, _names("last hop"),
           faults=_names("lp.kill", "lp.send", "lp.commit", "line.cut")),
    Mutant("stale leg sent", "no order leaves after its time", age_ignored, _names("stale send"),
           faults=_names("lp.kill", "line.cut", "clock.jump", "lp.statement")),
    Mutant("doubt counts as not sent", "no rejection without the provider's word", doubt_is_not_sent, _names("last hop"),
           faults=_names("lp.send")),
    Mutant("doubt is never asked about", "nothing stays unknown", lambda: replaced(Dispatcher, "_ask", instead(None)),
           _names("I8 unresolved"), faults=_names("lp.kill", "lp.send", "lp.commit", "say.drop", "say.silent")),
    Mutant("denial ignored", "nothing stays unknown", lambda: replaced(TradeSession, "_unknown", instead(None)),
           _names("I8 unresolved"), faults=_names("lp.kill", "lp.send", "lp.commit", "line.cut")),
)  # fmt: skip
