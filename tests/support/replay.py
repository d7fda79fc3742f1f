"""The input journal read back: the inputs of committed batches make the same state and the same events again."""

from collections.abc import Iterable

from engine.batch import Batch
from engine.follow import apply_inputs, begin_epoch
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
            begin_epoch(state)
        events += apply_inputs(state, batch.inputs)
    return state, events
