"""The engine's one door: a command in, everything that follows from it out. Pure but for the state it is handed."""

from msgspec import Struct

from engine.announce import AccountEvent, announce
from engine.decide import decide
from engine.executions import is_valuable
from engine.guard import accounts_to_act
from engine.negative import cover_negative
from engine.state import Prior, State
from engine.work import Work
from trading.answers import Answer
from trading.commands import AnyCommand, ApplyExecution, QuoteArrived, ReloadConfig
from trading.events import Event
from trading.quotes import Quote
from trading.refusals import Refusal

__all__ = ["AccountEvent", "Executed", "Prior", "execute", "is_ready", "take_quote"]

NO_PRIOR = Prior()


class Executed(Struct):
    """What one command came to. Nothing of it may be told to anybody before it is committed."""

    events: list[Event]
    told: list[AccountEvent]
    answers: list[tuple[str, Answer]]
    """(bus client that waits, its answer)"""
    quotes_used: list[Quote]
    """Raw quotes that the decision looked at, for the input journal."""


def execute(state: State, command: AnyCommand, now_us: int, prior: Prior = NO_PRIOR) -> Executed:
    """Decide `command` at business time `now_us`, apply it to `state`, number what its accounts are told.

    Raises only for bugs; the state is then unusable and must be rebuilt.
    """
    config = command.config if isinstance(command, ReloadConfig) else state.config
    if config is None:
        busy = Answer(command_id=command.id, refusal=Refusal.BUSY, detail="no configuration is published yet")
        return Executed([], [], [(command.reply_to, busy)] if command.reply_to else [], [])
    work = Work(state, config, now_us)
    if isinstance(command, QuoteArrived):
        state.quotes[command.quote.symbol] = command.quote
    decide(work, command, prior)
    if state.negative:
        cover_negative(work)
    told = announce(work)
    return Executed(work.events, told, work.answers, list(work.quotes_used.values()))


def take_quote(state: State, quote: Quote) -> QuoteArrived | None:
    """The newest price of a symbol; older ones are ignored. Where it sets something off, the command that carries it out."""
    known = state.quotes.get(quote.symbol)
    if known is not None and quote.at_us < known.at_us:
        return None
    state.quotes[quote.symbol] = quote
    if state.config is None:
        return None
    accounts = accounts_to_act(state, quote)
    if not accounts and not state.books.is_set_off(quote, state.config):
        return None
    name = f"quote:{quote.symbol}:{quote.at_us}:{quote.seq}"
    return QuoteArrived(id=name, key=name, quote=quote, accounts=accounts)


def is_ready(state: State, command: AnyCommand, now_us: int) -> bool:
    """False for a provider's fill that cannot be valued yet; it waits in the inbox, with all rows after it."""
    if not isinstance(command, ApplyExecution) or state.config is None:
        return state.config is not None
    return is_valuable(Work(state, state.config, now_us), command.report)
