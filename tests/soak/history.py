"""What clients did and were told, in the three outcomes of Jepsen: ok, fail, and info for what nobody can say."""

import json
import math
import threading
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

UNKNOWN_END = math.inf
"""When an operation ended that was never answered: it may take effect at any time from its beginning on."""


class Outcome(StrEnum):
    OK = "ok"
    FAIL = "fail"
    """Refused: nothing was done, and nothing will be."""
    INFO = "info"
    """Nobody can say, however often it was asked again."""


class Kind(StrEnum):
    PLACE = "place"
    CLOSE = "close"
    CANCEL = "cancel"
    MODIFY = "modify"
    READ = "read"
    DEPOSIT = "deposit"


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of an order; of a deposit only the number counts."""

    ticket: int
    status: str = ""
    filled: Decimal = Decimal(0)
    price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation with all its repetitions: from its first attempt to its first definite answer, monotonic seconds."""

    client: str
    account: int
    kind: Kind
    key: str
    """client_order_id or Idempotency-Key: said again with every repetition."""
    about: str = ""
    """client_order_id of the order that it is about; for a deposit its amount."""
    began_s: float
    ended_s: float = UNKNOWN_END
    outcome: Outcome = Outcome.INFO
    told: Told | None = None
    price: Decimal | None = None
    """What was asked for, of a resting order."""
    code: str = ""
    """Why it was refused, or what the last answer said."""
    attempts: int = 1


@dataclass
class History:
    """All operations in the order in which they ended. Every client thread writes into it; `path` gets a line for each."""

    path: Path | None = None
    ops: list[Op] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, op: Op) -> None:
        with self._lock:
            self.ops.append(op)
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps(asdict(op), default=str) + "\n")

    def snapshot(self) -> list[Op]:
        with self._lock:
            return list(self.ops)
