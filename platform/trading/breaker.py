"""A circuit breaker per provider: one that mostly rejects gets no new risk for a while, then one leg to show that it is back.

A leg has one outcome: it was filled at least in part, it ended without being rejected, or it was rejected (by the provider,
or by our own dispatcher because it had no session or the leg had grown too old). What a provider says against the order
itself, such as too little margin there, is a rejection too: for the next order the answer would be the same. An
acknowledgement is no outcome, since a leg is immediate or cancel and its end comes right behind; a provider that takes
every order before it rejects it must not look healthy.

    closed ── enough rejected in the window ──> open ── pause over ──> half open ── probe not rejected ──> closed
                                                  ^                        │
                                                  └── rejected, pause doubled

Killed is a person's word and stands above all of it (`KillSwitches.lps`). Closes go to their provider in every state: nobody
else can take them. Outcomes are counted in slices of a tenth of the window, so that a breaker stays small however many legs
end; the window is exact to one slice. Pure: time is handed in.
"""

from collections.abc import Collection, Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

SECOND_US = 1_000_000
SLICES = 10


class BreakerState(StrEnum):
    CLOSED = "closed"
    """Dealing."""
    OPEN = "open"
    HALF_OPEN = "half_open"
    """The pause is over: one leg may go and show how it is answered."""
    KILLED = "killed"
    """Until a person revives it."""


class BreakerTerms(Struct, frozen=True, kw_only=True):
    """When a provider's breaker opens, and for how long. Business time."""

    window_us: int = 10 * SECOND_US
    outcomes_min: int = 5
    """Fewer in the window prove nothing."""
    reject_percent: int = 50
    """It opens when at least so many of them are rejections."""
    pause_us: int = 30 * SECOND_US
    pause_us_max: int = 300 * SECOND_US
    """A rejected probe doubles the pause, up to this."""


class Slice(Struct, frozen=True):
    """What ended in one tenth of the window."""

    from_us: int
    rejected: int
    others: int


class Breaker(Struct, frozen=True, kw_only=True):
    """One provider's. Closed while `pause_us` is 0."""

    lp: str
    slices: tuple[Slice, ...] = ()
    """The window's outcomes, oldest first; empty unless closed."""
    pause_us: int = 0
    """The pause that it is in, or was in last: the next is twice as long."""
    opened_us: int = 0
    probe: str = ""
    """ClOrdID of the leg whose answer decides; empty while none is on its way."""
    probed_us: int = 0
    why: str = ""
    """What opened it, for the record of every order that went elsewhere: `breaker open: 7 of 10 rejected in 10 s`."""

    def state_at(self, now_us: int) -> BreakerState:
        if not self.pause_us:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_us < self.opened_us + self.pause_us else BreakerState.HALF_OPEN

    def may_probe(self, now_us: int) -> bool:
        """Half open, and no other probe on its way. One that is not answered for a whole pause is not waited for longer."""
        is_waiting = bool(self.probe) and now_us < self.probed_us + self.pause_us
        return self.state_at(now_us) is BreakerState.HALF_OPEN and not is_waiting


Breakers = tuple[Breaker, ...]
"""Of all providers that have one yet, by name: equal breakers are equal values."""

PERFECT = Breaker(lp="")


def breaker_of(breakers: Breakers, lp: str) -> Breaker:
    """A provider that nothing was sent to yet has a closed one."""
    for breaker in breakers:
        if breaker.lp == lp:
            return breaker
    return replace(PERFECT, lp=lp)


def state_of(breakers: Breakers, killed: Collection[str], lp: str, now_us: int) -> BreakerState:
    return BreakerState.KILLED if lp in killed else breaker_of(breakers, lp).state_at(now_us)


def why_barred(breakers: Breakers, killed: Collection[str], lp: str, now_us: int) -> str:
    """Why the provider may not be sent new risk now, after its name; empty where it may."""
    if lp in killed:
        return "killed by the desk"
    for breaker in breakers:
        if breaker.lp == lp and breaker.pause_us and not breaker.may_probe(now_us):
            return breaker.why if not breaker.probe else f"{breaker.why}, a probe is on its way"
    return ""


def after_sending(breakers: Breakers, lp: str, cl_ord_id: str, now_us: int) -> Breakers:
    """A leg is on its way: the probe, where the provider is waiting for one."""
    breaker = breaker_of(breakers, lp)
    if not breaker.may_probe(now_us):
        return breakers
    return _with(breakers, replace(breaker, probe=cl_ord_id, probed_us=now_us))


def after_outcome(
    breakers: Breakers, lp: str, cl_ord_id: str, *, is_rejected: bool, now_us: int, terms: BreakerTerms
) -> Breakers:
    """One leg has had its outcome. While the breaker is not closed only the probe's counts."""
    breaker = breaker_of(breakers, lp)
    if not breaker.pause_us:
        return _with(breakers, _counted(breaker, is_rejected=is_rejected, now_us=now_us, terms=terms))
    if cl_ord_id != breaker.probe:
        return breakers
    return _with(breakers, _opened_again(breaker, now_us, terms) if is_rejected else Breaker(lp=lp))


def after_reset(breakers: Breakers, lp: str) -> Breakers:
    """A person says that the provider is well: closed, with nothing counted."""
    return tuple(breaker for breaker in breakers if breaker.lp != lp)


def _with(breakers: Breakers, changed: Breaker) -> Breakers:
    others = (breaker for breaker in breakers if breaker.lp != changed.lp)
    return tuple(sorted((*others, changed), key=lambda breaker: breaker.lp))


def _counted(breaker: Breaker, *, is_rejected: bool, now_us: int, terms: BreakerTerms) -> Breaker:
    width = max(terms.window_us // SLICES, 1)
    from_us = now_us - now_us % width
    young = tuple(part for part in breaker.slices if part.from_us > from_us - terms.window_us)
    last = young[-1] if young and young[-1].from_us == from_us else Slice(from_us, 0, 0)
    last = Slice(from_us, last.rejected + is_rejected, last.others + (not is_rejected))
    slices = (*(part for part in young if part.from_us != from_us), last)
    rejected = sum(part.rejected for part in slices)
    ended = rejected + sum(part.others for part in slices)
    if ended < terms.outcomes_min or rejected * 100 < terms.reject_percent * ended or not rejected:
        return replace(breaker, slices=slices)
    why = f"breaker open: {rejected} of {ended} rejected in {_seconds(terms.window_us)} s"
    return Breaker(lp=breaker.lp, pause_us=min(terms.pause_us, terms.pause_us_max), opened_us=now_us, why=why)


def _opened_again(breaker: Breaker, now_us: int, terms: BreakerTerms) -> Breaker:
    pause_us = min(breaker.pause_us * 2, terms.pause_us_max)
    why = f"breaker open: a probe was rejected, the next goes after {_seconds(pause_us)} s"
    return Breaker(lp=breaker.lp, pause_us=pause_us, opened_us=now_us, why=why)


def _seconds(us: int) -> str:
    return format(us / SECOND_US, "g")


# --- what may be published ---


def breaker_problems(terms: BreakerTerms) -> Iterator[str]:
    """What is wrong with these terms, as sentences; nothing when they can be published."""
    for name in ("window_us", "outcomes_min", "pause_us", "pause_us_max"):
        if getattr(terms, name) < 1:
            yield f"the breaker's {name} must be above zero"
    if not 1 <= terms.reject_percent <= 100:
        yield "the breaker's reject_percent lies between 1 and 100"
    if terms.pause_us_max < terms.pause_us:
        yield "the breaker's longest pause must not be shorter than its first"
