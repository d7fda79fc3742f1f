"""How a command's caller is answered, and what is left behind of it: its key, its refusal, a rejected order."""

from msgspec.structs import replace

from engine.state import Prior, Waiter
from engine.work import Work
from trading.answers import Answer
from trading.checks import Refused
from trading.commands import Command
from trading.decisions import Decision
from trading.events import CommandKeyed, OrderRejected, OrderRouted
from trading.orders import Order, OrderStatus
from trading.refusals import Refusal

NOTHING_PRIOR = Prior()


class Asked:
    """A keyed command on the bench: who asked, the hash of what was asked for, and what the database knows about it."""

    __slots__ = ("body_hash", "command", "prior")

    def __init__(self, command: Command, body_hash: str, prior: Prior = NOTHING_PRIOR) -> None:
        self.command = command
        self.body_hash = body_hash
        self.prior = prior


def use_key(work: Work, asked: Asked, reference: int, refusal: str = "") -> None:
    command = asked.command
    kind = type(command).__name__
    work.emit(CommandKeyed(command.account, command.key, asked.body_hash, kind, reference, refusal))


def late(work: Work, command: Command) -> Refused | None:
    if command.valid_until_us and work.now_us > command.valid_until_us:
        return Refused(Refusal.COMMAND_EXPIRED, "the request waited too long before it could be dealt")
    return None


def refuse(work: Work, asked: Asked, refused: Refused) -> None:
    """A refusal that leaves no trace but its answer: there is nothing to hang it on."""
    command = asked.command
    work.answer(command.reply_to, Answer(command_id=command.id, refusal=refused.code, detail=refused.detail))


def reject(work: Work, asked: Asked, order: Order, refused: Refused, decision: Decision | None = None) -> None:
    """The refused order is kept: history is complete, and a repetition gets the same answer."""
    rejected = replace(order, status=OrderStatus.REJECTED, refusal=refused.code.value, detail=refused.detail)
    use_key(work, asked, order.id, refused.code.value)
    if decision is not None:
        work.emit(OrderRouted(order.id, decision))
    work.emit(OrderRejected(rejected))
    tell(work, asked, rejected)


def tell(work: Work, asked: Asked, order: Order) -> None:
    """The final answer about an order."""
    command = asked.command
    answer = Answer(command_id=command.id, refusal=order.refusal, detail=order.detail, reference=order.id, order=order)
    work.answer(command.reply_to, answer)


def tell_working(work: Work, asked: Asked, order: Order) -> None:
    """The first answer about an order that a provider holds; the final one is owed."""
    command = asked.command
    work.answer(command.reply_to, Answer(command_id=command.id, reference=order.id, order=order, final=False))
    if command.reply_to:
        work.state.waiters[order.id] = Waiter(command.reply_to, command.id)
