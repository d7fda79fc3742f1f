"""The input journal read back: the inputs of committed batches make the same state and the same events again."""

from collections.abc import Iterable

from engine.batch import Batch, CommandInput, ParkedInput, QuoteInput
from engine.core import execute
from engine.state import State
from trading.configuration import Config
from trading.events import Event


def replayed(batches: Iterable[Batch], config: Config | None = None) -> tuple[State, list[Event]]:
    """State and events after these batches, from nothing."""
    state = State(0, config)
    events: list[Event] = []
    epoch = 0
    for batch in batches:
        if batch.epoch != epoch:
            epoch = batch.epoch
            state.quotes.clear()
            state.books.renew(state)
        for item in batch.inputs:
            match item:
                case QuoteInput():
                    state.quotes[item.quote.symbol] = item.quote
                case CommandInput():
                    events += execute(state, item.command, item.at_us, item.prior).events
                case ParkedInput():
                    if item.lp:
                        state.inbox_cursors[item.lp] = item.inbox_seq
    return state, events
