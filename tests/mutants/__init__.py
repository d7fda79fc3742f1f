"""Does the harness see anything? Known bugs are planted in the real code, one at a time; each must be caught.

`make mutants` runs them all, and the same checks without any, which must find nothing.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.mutants.planted import PLANTED

MUTANTS: dict[str, Callable[[], AbstractContextManager[object]]] = {mutant.name: mutant.plant for mutant in PLANTED}
"""What the simulator's `--mutation` knows."""
