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
from trading.orders import OrderType, Side, TimeInForce
from trading.protection import NOTHING_ASKED, ProtectionTerms
from trading.quotes import Quote


class Command(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="command", tag=True):
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
    """An order that opens a position: at market, or resting until its price comes."""

    symbol: str
    side: Side
    volume: Decimal
    comment: str = ""
    type: OrderType = OrderType.MARKET
    price: Decimal | None = None
    """The limit of a limit and stop-limit order; of a market order the price that `max_slippage` is counted from."""
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    """None for the usual one: immediate for market orders, good till cancelled for the others."""
    expires_us: int = 0
    max_slippage: int | None = None
    protection: ProtectionTerms = NOTHING_ASKED


class ModifyOrder(Command, frozen=True, kw_only=True):
    """New terms for a resting order. None leaves a term as it is; `protection` replaces all of it."""

    order_id: int
    volume: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    expires_us: int | None = None
    """0 for never."""
    protection: ProtectionTerms | None = None


class CancelOrder(Command, frozen=True, kw_only=True):
    """Take a resting order back."""

    order_id: int


class CancelAll(Command, frozen=True, kw_only=True):
    """Take back every resting order of the account, or those in one symbol."""

    symbol: str = ""


class ModifyProtection(Command, frozen=True, kw_only=True):
    """Replace a position's stop loss, take profit and trailing stop by these; nothing asked removes them."""

    position_id: int
    protection: ProtectionTerms
    keep: tuple[str, ...] = ()
    """Of `stop_loss`, `take_profit` and `trailing_stop` those that stay as they stand when the command is carried out: a
    stop may trail between a client's look at it and the change."""


class ExpireOrders(Command, frozen=True, kw_only=True):
    """End every resting order whose time has come by the business time that the engine stamps."""


class ClosePosition(Command, frozen=True, kw_only=True):
    """Close all of a position, or `volume` lots of it."""

    position_id: int
    volume: Decimal | None = None
    comment: str = ""


class QuoteArrived(Command, frozen=True, kw_only=True):
    """A price that sets off resting orders or protection. Not keyed: it is the price itself."""

    quote: Quote


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


AnyCommand = (
    PlaceOrder
    | ModifyOrder
    | CancelOrder
    | CancelAll
    | ClosePosition
    | ModifyProtection
    | ExpireOrders
    | QuoteArrived
    | OpenAccount
    | ChangeAccount
    | Deposit
    | ApplyExecution
    | ReloadConfig
)


def body(command: Command) -> tuple[str, ...]:
    """What the client asked for, as text: equal bodies under one key are one request."""
    match command:
        case PlaceOrder():
            head = ("place", command.symbol, command.side.value, _number(command.volume), command.comment)
            return head if is_plain_market(command) else (*head, *_terms_of(command))
        case ModifyOrder():
            return ("modify", str(command.order_id), *_terms_of(command))
        case CancelOrder():
            return ("cancel", str(command.order_id))
        case CancelAll():
            return ("cancel_all", command.symbol)
        case ModifyProtection():
            return ("protect", str(command.position_id), *_terms_of(command))
        case ExpireOrders():
            return ("expire",)
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


def is_plain_market(command: PlaceOrder) -> bool:
    """Nothing but a market order: the most frequent body is short."""
    asked = (command.price, command.stop_price, command.time_in_force, command.max_slippage)
    is_bare = not command.expires_us and asked == (None, None, None, None)
    return is_bare and command.type is OrderType.MARKET and command.protection == NOTHING_ASKED


_BODY_SKIPS = frozenset(Command.__struct_fields__) | {"symbol", "side", "comment"}


def _terms_of(command: Command) -> tuple[str, ...]:
    """Every other field by name, numbers in one spelling."""
    found: list[str] = []
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if name in _BODY_SKIPS or value is None:
            continue
        if isinstance(value, ProtectionTerms):
            found += [f"{part}={_spelled(getattr(value, part))}" for part in value.__struct_fields__]
        else:
            found.append(f"{name}={_spelled(value)}")
    return tuple(found)


def _spelled(value: object) -> str:
    return _number(value) if isinstance(value, Decimal) else str(value)


def _number(value: Decimal) -> str:
    """One spelling per value: 0.10 and 0.1 are the same volume. What is not a plain number is refused later, as it is."""
    return plain(value.normalize()) if is_plain(value) else str(value)
