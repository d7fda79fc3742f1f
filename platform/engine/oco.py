"""Orders that cancel each other: when one of a group is dealt, those that still wait are taken back."""

from msgspec.structs import replace

from engine.work import Work
from trading.events import OrderCanceled
from trading.numbers import ZERO
from trading.orders import Order, OrderStatus


def cancel_siblings(work: Work, dealt: Order) -> None:
    """Take back what waits under the same name in the same account. One in a provider's hands is left to its outcome."""
    for number in sorted(work.state.oco.get((dealt.account, dealt.oco_group), ())):
        order = work.state.orders[number]
        if number != dealt.id and order.is_resting:
            _take_back(work, order, dealt)


def _take_back(work: Work, order: Order, dealt: Order) -> None:
    canceled = replace(
        order,
        status=OrderStatus.CANCELED,
        detail=f"order {dealt.id} of the group {dealt.oco_group} was dealt",
        margin_reserved=ZERO,
        updated_us=work.now_us,
    )
    work.emit(OrderCanceled(canceled))
