"""What a planted bug is, and how it is put into the real code for as long as a context lasts.

Production code knows nothing of this: an attribute of a real module or class is replaced by one made from the original. A
name that is no longer there raises, so a mutant cannot quietly stop biting.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

Made = Callable[[Any], Any]
"""The replacement, from the original."""
ROOMS = ("engine", "lp_adapters", "fix_gateway", "bus", "trading", "routing", "bbook", "broker")


@dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    name: str
    breaks: str
    """The promise that is broken, in a few words."""
    plant: Callable[[], AbstractContextManager[object]]
    seen_by: frozenset[str] = frozenset()
    """The simulator's checks that are meant to see it. Another one that raises an alarm does not count: it could be the
    mutation that stumbles."""
    check: Callable[[], list[str]] | None = None
    """Where the simulator has no such thing as is broken: a check of the real thing, saying what it saw."""
    operations: int = 400
    faults: frozenset[str] | None = None
    """These kinds of misfortune strike, and often, where only they can show it; None: any, as the seed has it."""


@contextmanager
def replaced(owner: Any, name: str, make: Made) -> Iterator[None]:
    """The attribute of this module or class, made anew from the original."""
    with mock.patch.object(owner, name, make(getattr(owner, name))):
        yield


@contextmanager
def everywhere(function: Callable[..., Any], make: Made) -> Iterator[None]:
    """A function in every module of ours that has imported it by name."""
    changed = make(function)
    found = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key.partition(".")[0] in ROOMS
        for name, value in list(vars(module).items())
        if value is function
    ]
    assert found, f"{function} is nowhere"
    with ExitStack() as stack:
        for module, name in found:
            stack.enter_context(mock.patch.object(module, name, changed))
        yield


@contextmanager
def together(*plants: AbstractContextManager[object]) -> Iterator[None]:
    with ExitStack() as stack:
        for plant in plants:
            stack.enter_context(plant)
        yield


def instead(value: Any) -> Made:
    """A replacement that gives this, whatever it is asked."""
    return lambda _original: lambda *_args, **_kwargs: value
