"""What the engine can be told to do. Imperative, immutable, complete: time and identity come with the command.

Every command carries the id that its door minted, and an idempotency key unique per account for ever. `body` is what must
be equal for a repetition to count as the same request.
"""

from decimal import Decimal

from msgspec import Struct

from trading.accounts import ClientClass, Rights
from trading.configuration import Config
from trading.liquidity import ExecutionReport
from trading.numbers import is_plain, plain
from trading.orders import Side


class Command(Struct, frozen=True, kw_only=True, tag_field="command", tag=True):
    """What all commands have in common."""

    id: str
    """UUIDv7 of the request, minted at the door."""
    key: str
    """Idempotency key: client_order_id, Idempotency-Key, or the id itself where the caller gave none."""
    account: int = 0
    """0 for commands that concern the house."""
    valid_until_us: int = 0
    """Business time after which it must be refused; 0 for no limit."""
    reply_to: str = ""
    """The bus client that waits for the answer; empty for none."""
    actor: str = ""
    """Who asked: `user:5`, `staff:2`, `system`."""


class PlaceOrder(Command, frozen=True, kw_only=True):
    """A market order that opens a position."""

    symbol: str
    side: Side
    volume: Decimal
    comment: str = ""


class ClosePosition(Command, frozen=True, kw_only=True):
    """Close all of a position, or `volume` lots of it."""

    position_id: int
    volume: Decimal | None = None
    comment: str = ""


class OpenAccount(Command, frozen=True, kw_only=True):
    """A new trading account, numbered by the caller."""

    group: str
    currency: str
    leverage: int
    client_class: ClientClass = ClientClass.RETAIL


class ChangeAccount(Command, frozen=True, kw_only=True):
    """New terms for an account. None leaves a term as it is."""

    group: str | None = None
    leverage: int | None = None
    rights: Rights | None = None
    client_class: ClientClass | None = None


class Deposit(Command, frozen=True, kw_only=True):
    """Money that arrived from outside, in the account's currency."""

    amount: Decimal
    reference: str = ""


class ApplyExecution(Command, frozen=True, kw_only=True):
    """What a provider said: row `inbox_seq` of its inbox."""

    inbox_seq: int
    report: ExecutionReport


class ReloadConfig(Command, frozen=True, kw_only=True):
    """Decide by this version of the configuration from now on. The loop fills in the document from its table."""

    version: int
    config: Config | None = None


AnyCommand = PlaceOrder | ClosePosition | OpenAccount | ChangeAccount | Deposit | ApplyExecution | ReloadConfig


def body(command: Command) -> tuple[str, ...]:
    """What the client asked for, as text: equal bodies under one key are one request."""
    match command:
        case PlaceOrder():
            return ("place", command.symbol, command.side.value, _number(command.volume), command.comment)
        case ClosePosition():
            volume = "" if command.volume is None else _number(command.volume)
            return ("close", str(command.position_id), volume, command.comment)
        case OpenAccount():
            return ("open_account", command.group, command.currency, str(command.leverage), command.client_class.value)
        case ChangeAccount():
            terms = (command.group, command.leverage, command.rights, command.client_class)
            return ("change_account", *("" if term is None else str(term) for term in terms))
        case Deposit():
            return ("deposit", _number(command.amount), command.reference)
        case ReloadConfig():
            return ("reload_config", str(command.version))
    raise AssertionError(f"no body for {type(command).__name__}")


def _number(value: Decimal) -> str:
    """One spelling per value: 0.10 and 0.1 are the same volume. What is not a plain number is refused later, as it is."""
    return plain(value.normalize()) if is_plain(value) else str(value)
