"""From the engine's row to the value that the pure rooms understand."""

from apps.positions.models import Position
from apps.times import micros
from trading import positions
from trading.orders import Side
from trading.protection import Protection, StopTriggerMethod


def position_value(row: Position) -> positions.Position:
    return positions.Position(
        id=row.id,
        account=row.account,
        symbol=row.symbol,
        side=Side(row.side),
        opened_us=micros(row.opened_at),
        updated_us=micros(row.updated_at),
        volume_opened=row.volume_opened,
        volume=row.volume,
        cost=row.cost,
        margin=row.margin,
        lp=row.lp,
        volume_a_opened=row.volume_a_opened,
        volume_a=row.volume_a,
        cost_a=row.cost_a,
        locked=row.locked,
        protection=Protection(
            stop_loss=row.stop_loss,
            take_profit=row.take_profit,
            trailing_points=row.trailing_points,
            trailing_step=row.trailing_step,
            trailing_activation=row.trailing_activation,
            break_even_points=row.break_even_points,
            break_even_offset=row.break_even_offset,
            is_guaranteed=row.is_guaranteed,
            stop_trigger=StopTriggerMethod(row.sl_trigger) if row.sl_trigger else None,
        ),
        hedged=row.hedged,
        unleveraged=row.unleveraged,
        notional=row.notional,
        swap=row.swap,
        rolled_us=micros(row.rolled_at),
    )
