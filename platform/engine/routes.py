"""Between the engine and the router: facts handed over, legs made from what comes back."""

from decimal import Decimal

from msgspec.structs import replace

from engine.work import Work
from trading.decisions import RoutingFacts
from trading.events import ChildOrderRouted, OrderUpdated
from trading.liquidity import LegStatus, LpOrder
from trading.numbers import ZERO
from trading.orders import Order
from trading.quotes import Quote


def routing_facts(work: Work, order: Order, quote: Quote) -> RoutingFacts:
    """Everything the router may look at for one order."""
    account = work.account(order.account)
    return RoutingFacts(
        account=account.id,
        group=account.group,
        client_class=account.client_class,
        instrument=work.instrument(order.symbol),
        side=order.side,
        volume=order.volume,
        quote=quote,
        lps=work.config.lps,
        config_version=work.config.version,
        now_us=work.now_us,
    )


def send_leg(work: Work, order: Order, lp: str) -> None:
    """A child order for what is still to fill of the A part. It leaves the building only after the commit."""
    terms = work.config.lps[lp].instruments[order.symbol]
    number = work.state.counters.leg
    volume = order.volume_a - order.filled_a
    work.emit(OrderUpdated(replace(order, attempts=(*order.attempts, lp), updated_us=work.now_us)))
    work.emit(
        ChildOrderRouted(
            LpOrder(
                id=number,
                order_id=order.id,
                account=order.account,
                lp=lp,
                cl_ord_id=f"T{work.state.shard}-{number}",
                symbol=order.symbol,
                lp_symbol=terms.lp_symbol,
                side=order.side,
                volume=volume,
                quantity=volume * work.instrument(order.symbol).contract_size,
                position_id=order.position_id if order.closes else 0,
                status=LegStatus.WORKING,
                created_us=work.now_us,
                updated_us=work.now_us,
                expires_us=work.now_us + work.config.leg_valid_us,
            )
        )
    )


def lots(work: Work, symbol: str, quantity: Decimal) -> Decimal:
    """A provider's quantity (units of base) in our lots."""
    return quantity / work.instrument(symbol).contract_size if quantity else ZERO
