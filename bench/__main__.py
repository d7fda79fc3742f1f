"""`make bench [ARGS="decide durable group recovery rest stream triggers watch"]`: the named benchmarks, or all of them,
one after the other.

Nothing here is asserted: figures are compared by people, with the machine and the inputs printed above them.
"""

import sys
from collections.abc import Callable

from bench import decide, durable, group, recovery, rest, stream, triggers, watch
from bench.report import machine, section

BENCHES: dict[str, Callable[[], None]] = {
    "decide": decide.main,
    "durable": durable.main,
    "group": group.main,
    "recovery": recovery.main,
    "rest": rest.main,
    "stream": stream.main,
    "triggers": triggers.main,
    "watch": watch.main,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    machine()
    for name in names or BENCHES:
        section(name, BENCHES[name].__module__)
        BENCHES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
