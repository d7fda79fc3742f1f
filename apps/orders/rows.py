"""From the engine's rows to the values that the pure rooms understand."""

import msgspec

from apps.orders.models import Deal, Order
from apps.times import micros
from trading import orders
from trading.protection import ProtectionTerms, StopTriggerMethod


def order_value(row: Order) -> orders.Order:
    return orders.Order(
        id=row.id,
        uuid=str(row.uuid),
        account=row.account,
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        side=orders.Side(row.side),
        type=orders.OrderType(row.type),
        volume=row.volume,
        status=orders.OrderStatus(row.status),
        created_us=micros(row.created_at),
        updated_us=micros(row.updated_at),
        filled_volume=row.filled_volume,
        filled_cost=row.filled_cost,
        position_id=row.position_id,
        closes=row.closes,
        refusal=row.refusal,
        detail=row.detail,
        comment=row.comment,
        book=orders.Book(row.book) if row.book else None,
        volume_a=row.volume_a,
        filled_a=row.filled_a,
        margin_reserved=row.margin_reserved,
        attempts=tuple(row.attempts),
        price=row.price,
        stop_price=row.stop_price,
        time_in_force=orders.TimeInForce(row.time_in_force),
        expires_us=micros(row.expires_at) if row.expires_at else 0,
        max_slippage=row.max_slippage,
        protection=ProtectionTerms(
            stop_loss=row.stop_loss,
            stop_loss_points=row.stop_loss_points,
            take_profit=row.take_profit,
            take_profit_points=row.take_profit_points,
            trailing_points=row.trailing_points,
            trailing_step=row.trailing_step,
            trailing_activation=row.trailing_activation,
            break_even_points=row.break_even_points,
            break_even_offset=row.break_even_offset,
            is_guaranteed=row.is_guaranteed,
            stop_trigger=StopTriggerMethod(row.sl_trigger) if row.sl_trigger else None,
        ),
        is_triggered=row.is_triggered,
        reason=orders.OrderReason(row.reason),
        hedged_reserved=row.hedged_reserved,
        unleveraged_reserved=row.unleveraged_reserved,
        notional_reserved=row.notional_reserved,
        oco_group=row.oco_group,
        netted=row.netted,
        stop_trigger=StopTriggerMethod(row.stop_trigger) if row.stop_trigger else None,
        commissions=msgspec.convert(row.commissions, tuple[orders.OrderCommission, ...]),
    )


def deal_value(row: Deal) -> orders.Deal:
    return orders.Deal(
        id=row.id,
        order_id=row.order_id,
        position_id=row.position_id,
        account=row.account,
        symbol=row.symbol,
        side=orders.Side(row.side),
        entry=orders.DealEntry(row.entry),
        volume=row.volume,
        price=row.price,
        profit=row.profit,
        commission=row.commission,
        at_us=micros(row.at),
        book=orders.Book(row.book),
        lp=row.lp,
        exec_id=row.exec_id,
        lp_price=row.lp_price,
        swap=row.swap,
        fee=row.fee,
    )
