"""What the engine can be told to do. Imperative, immutable, complete: time and identity come with the command.

Every command carries the id that its door minted, and an idempotency key unique per account for ever. `body` is what must
be equal for a repetition to count as the same request.
"""

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any

from msgspec import Struct

from trading.accounts import ClientClass, Rights
from trading.configuration import Config
from trading.liquidity import ExecutionReport, Settlement
from trading.numbers import is_plain, plain
from trading.orders import OrderType, Side, TimeInForce
from trading.protection import NOTHING_ASKED, ProtectionTerms, StopTriggerMethod
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
    oco_group: str = ""
    """Orders of the account under the same name cancel each other."""
    stop_trigger: StopTriggerMethod | None = None
    """How the stop price watches the market; None for the symbol's way."""


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


class CloseBy(Command, frozen=True, kw_only=True):
    """Close a position against an opposite one of the same symbol, as far as the smaller goes. No spread is paid."""

    position_id: int
    by_position_id: int
    comment: str = ""


class ReversePosition(Command, frozen=True, kw_only=True):
    """Close a position and open as much the other way, as one order."""

    position_id: int
    comment: str = ""


class Which(StrEnum):
    """Which positions a mass close is about."""

    ALL = "all"
    WINNERS = "winners"
    """With a profit above zero at this price."""
    LOSERS = "losers"
    """With a loss."""


class ClosePositions(Command, frozen=True, kw_only=True):
    """Close every such position of the account, each by its own order. The answer's reference is how many closes began."""

    which: Which = Which.ALL
    symbol: str = ""
    comment: str = ""


class QuoteArrived(Command, frozen=True, kw_only=True):
    """A price that sets off resting orders, protection or margin calls. Not keyed: it is the price itself."""

    quote: Quote
    accounts: tuple[int, ...] = ()
    """Accounts that stand at or below a threshold of theirs at this price, or above one again."""


class OpenAccount(Command, frozen=True, kw_only=True):
    """A new trading account, numbered by the caller."""

    group: str
    currency: str
    leverage: int
    client_class: ClientClass = ClientClass.RETAIL
    jurisdiction: str = ""
    stp_only: bool = False


class ChangeAccount(Command, frozen=True, kw_only=True):
    """New terms for an account. None leaves a term as it is."""

    group: str | None = None
    leverage: int | None = None
    rights: Rights | None = None
    client_class: ClientClass | None = None
    jurisdiction: str | None = None
    stp_only: bool | None = None


class Deposit(Command, frozen=True, kw_only=True):
    """Money that arrived from outside, in the account's currency."""

    amount: Decimal
    reference: str = ""


class RequestWithdrawal(Command, frozen=True, kw_only=True):
    """Money that the client wants out: taken from the cash at once, and held until it is settled."""

    amount: Decimal
    reference: str = ""


class SettleWithdrawal(Command, frozen=True, kw_only=True):
    """The end of a withdrawal that was asked for: paid out, or given back. `transaction_id` names the request."""

    transaction_id: int
    is_paid: bool
    reference: str = ""


class Adjust(Command, frozen=True, kw_only=True):
    """A correction of the client's cash by staff, up or down. `reference` says why and is required."""

    amount: Decimal
    reference: str


class GrantCredit(Command, frozen=True, kw_only=True):
    """Give credit, or take it back with an amount below zero: it carries positions, and is never withdrawn."""

    amount: Decimal
    reference: str = ""


class GrantBonus(Command, frozen=True, kw_only=True):
    """Give money of the house's into the client's cash."""

    amount: Decimal
    reference: str = ""


class SwitchScope(StrEnum):
    FIRM = "firm"
    SYMBOL = "symbol"
    ACCOUNT = "account"
    LP = "lp"


class SetSwitch(Command, frozen=True, kw_only=True):
    """Stop new risk, or allow it again: of everybody, in one symbol, of one account, at one provider. Closing is always
    possible. Allowing it again at a provider closes its circuit breaker too.
    """

    scope: SwitchScope
    target: str = ""
    """The symbol, the account's number or the provider's name."""
    stops: bool


class NoteDiskSpace(Command, frozen=True, kw_only=True):
    """The storage is nearly full: only closing is allowed, whatever the desk's switches say. Or it has room again."""

    is_low: bool


class RollOver(Command, frozen=True, kw_only=True):
    """Charge every swap that is due and not yet charged, up to some positions at a time. Asking again charges nothing twice."""


class SettleCommission(Command, frozen=True, kw_only=True):
    """Post the daily commission of every business date that is over and not yet settled."""


class PayDividend(Command, frozen=True, kw_only=True):
    """A dividend (or interest) adjustment on every position of a symbol that was opened before `ex_us`."""

    symbol: str
    long_per_unit: Decimal
    """Of the quote currency per unit of the contract, credited to longs; below zero is charged."""
    short_per_unit: Decimal
    """The same for shorts: usually below zero."""
    ex_us: int
    reference: str = ""


class SplitInstrument(Command, frozen=True, kw_only=True):
    """`new` units for `old` ones: volumes are multiplied, prices divided, on positions, orders and protection alike."""

    symbol: str
    new: int
    old: int
    reference: str = ""


class ExpireInstrument(Command, frozen=True, kw_only=True):
    """The contract has ended: orders are cancelled, positions closed at the settlement price."""

    symbol: str
    price: Decimal
    reference: str = ""


class CorrectDeal(Command, frozen=True, kw_only=True):
    """Undo a deal, or give it another price, by reversing entries. Two different members of staff stand behind it."""

    deal_id: int
    price: Decimal | None = None
    """The right price; None undoes the deal."""
    approved_by: str = ""
    """Who agreed: another than `actor`."""
    reason: str = ""


class SettleLeg(Command, frozen=True, kw_only=True):
    """What became of the open rest of an order at a provider, said by the desk because the provider does not say it, or not so
    that it can be booked. Two different members of staff stand behind it. The leg ends by it."""

    cl_ord_id: str
    outcome: Settlement
    quantity: Decimal = Decimal(0)
    """Units of base that were dealt besides what is booked; 0 with NOT_FILLED."""
    price: Decimal = Decimal(0)
    filled_volume: Decimal | None = None
    """Lots of the order that were booked when it was proposed. A fill that came in between may be the one that was proposed."""
    reference: str = ""
    """Where the provider confirmed it."""
    approved_by: str = ""
    """Who agreed: another than `actor`."""
    reason: str = ""


class LiftHalt(Command, frozen=True, kw_only=True):
    """Open in a symbol at a provider again, after a dealer has looked at what went wrong there."""

    lp: str
    symbol: str


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
    | CloseBy
    | ReversePosition
    | ClosePositions
    | ExpireOrders
    | QuoteArrived
    | OpenAccount
    | ChangeAccount
    | Deposit
    | RequestWithdrawal
    | SettleWithdrawal
    | Adjust
    | GrantCredit
    | GrantBonus
    | SetSwitch
    | NoteDiskSpace
    | RollOver
    | SettleCommission
    | PayDividend
    | SplitInstrument
    | ExpireInstrument
    | CorrectDeal
    | SettleLeg
    | LiftHalt
    | ApplyExecution
    | ReloadConfig
)


def body(command: Command) -> tuple[str, ...]:
    """What the client asked for, as text: equal bodies under one key are one request. Reports and prices have none."""
    assert type(command) not in _UNKEYED, f"{type(command).__name__} has no key, so no body"
    said = _BODIES.get(type(command))
    return said(command) if said is not None else (type(command).__name__, *_terms_of(command))


def _place_body(command: PlaceOrder) -> tuple[str, ...]:
    head = ("place", command.symbol, command.side.value, _number(command.volume), command.comment)
    return head if is_plain_market(command) else (*head, *_terms_of(command))


def _close_body(command: ClosePosition) -> tuple[str, ...]:
    volume = "" if command.volume is None else _number(command.volume)
    return ("close", str(command.position_id), volume, command.comment)


def _open_account_body(command: OpenAccount) -> tuple[str, ...]:
    said = ("open_account", command.group, command.currency, str(command.leverage), command.client_class.value)
    is_protected = command.jurisdiction or command.stp_only
    return (*said, command.jurisdiction, str(command.stp_only)) if is_protected else said


def _change_account_body(command: ChangeAccount) -> tuple[str, ...]:
    terms = (command.group, command.leverage, command.rights, command.client_class)
    more = tuple(str(term) for term in (command.jurisdiction, command.stp_only) if term is not None)
    return ("change_account", *("" if term is None else str(term) for term in terms), *more)


_UNKEYED = frozenset({ApplyExecution, QuoteArrived})
_BODIES: dict[type[Command], Callable[[Any], tuple[str, ...]]] = {
    PlaceOrder: _place_body,
    ModifyOrder: lambda command: ("modify", str(command.order_id), *_terms_of(command)),
    CancelOrder: lambda command: ("cancel", str(command.order_id)),
    CancelAll: lambda command: ("cancel_all", command.symbol),
    ModifyProtection: lambda command: ("protect", str(command.position_id), *_terms_of(command)),
    ExpireOrders: lambda command: ("expire",),  # noqa: ARG005 - it asks for nothing but itself
    ClosePosition: _close_body,
    OpenAccount: _open_account_body,
    ChangeAccount: _change_account_body,
    Deposit: lambda command: ("deposit", _number(command.amount), command.reference),
    ReloadConfig: lambda command: ("reload_config", str(command.version)),
}
"""Bodies whose spelling is older than `_terms_of`: they stay as they are stored under keys."""


def is_plain_market(command: PlaceOrder) -> bool:
    """Nothing but a market order: the most frequent body is short."""
    asked = (command.price, command.stop_price, command.time_in_force, command.max_slippage, command.stop_trigger)
    is_bare = asked == (None, None, None, None, None) and not command.expires_us and not command.oco_group
    return is_bare and command.type is OrderType.MARKET and command.protection == NOTHING_ASKED


_IN_EVERY_COMMAND = frozenset(Command.__struct_fields__)
_IN_PLACE_HEAD = frozenset({"symbol", "side", "comment"})
_ALWAYS_SAID = frozenset(ProtectionTerms.__struct_fields__[:6])
"""Parts of protection that a body names whatever they are; others only where they ask for something. So a body that was
stored under a key before a field existed stays the same."""


def _terms_of(command: Command) -> tuple[str, ...]:
    """Every field by name that asks for something, numbers in one spelling."""
    skips = _IN_EVERY_COMMAND | _IN_PLACE_HEAD if isinstance(command, PlaceOrder) else _IN_EVERY_COMMAND
    found: list[str] = []
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if name in skips or value is None or value == "":
            continue
        if isinstance(value, ProtectionTerms):
            found += _protection_said(value)
        else:
            found.append(f"{name}={_spelled(value)}")
    return tuple(found)


def _protection_said(terms: ProtectionTerms) -> list[str]:
    return [
        f"{part}={_spelled(getattr(terms, part))}"
        for part in terms.__struct_fields__
        if part in _ALWAYS_SAID or getattr(terms, part) != getattr(NOTHING_ASKED, part)
    ]


def _spelled(value: object) -> str:
    return _number(value) if isinstance(value, Decimal) else str(value)


def _number(value: Decimal) -> str:
    """One spelling per value: 0.10 and 0.1 are the same volume. What is not a plain number is refused later, as it is."""
    return plain(value.normalize()) if is_plain(value) else str(value)
