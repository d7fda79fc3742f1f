"""Between the engine and the router: facts handed over, legs made from what comes back."""

from decimal import Decimal

from msgspec.structs import replace

from engine.breakers import note_sent
from engine.gates import stp_only
from engine.work import Work
from trading.configuration import LpSettings
from trading.decisions import RoutingFacts
from trading.events import ChildOrderRouted, OrderUpdated
from trading.instructions import better_of
from trading.liquidity import LegStatus, LpOrder
from trading.numbers import ZERO
from trading.orders import Order, OrderType, TimeInForce
from trading.positions import Position
from trading.pricing import client_price, price_shift
from trading.quotes import Quote


def routing_facts(work: Work, order: Order, quote: Quote) -> RoutingFacts:
    """Everything the router may look at for one order."""
    account, desk = work.account(order.account), work.state.desk
    return RoutingFacts(
        account=account.id,
        group=account.group,
        client_class=account.client_class,
        instrument=work.instrument(order.symbol),
        side=order.side,
        volume=order.open_volume,
        quote=quote,
        lps=_providers_for(work, order),
        config_version=work.config.version,
        now_us=work.now_us,
        stp_only="" if order.closes else stp_only(work, account, order.symbol),
        breakers=desk.breakers,
        killed_lps=desk.switches.lps,
    )


def position_to_join(work: Work, order: Order) -> Position | None:
    """The position that the order's opening volume adds to: its own so far, or the one that a netting account holds."""
    position = work.state.positions.get(order.position_id)
    if position is None and work.state.nets.positions:
        position = work.state.positions.get(work.state.nets.positions.get((order.account, order.symbol), 0))
    return position if position is not None and position.side is order.side else None


def _providers_for(work: Work, order: Order) -> dict[str, LpSettings]:
    """All of them; but a position stands at one provider, so what adds to it goes there or to the house. Where something is
    wrong nothing is opened; a close can go nowhere else."""
    position, lps = position_to_join(work, order), work.config.lps
    if position is not None and position.lp:
        lps = {name: lp for name, lp in lps.items() if name == position.lp}
    if work.state.desk.halts and not order.closes:
        lps = {name: lp for name, lp in lps.items() if (name, order.symbol) not in work.state.desk.halts}
    return lps


def _limit_for_provider(work: Work, order: Order, shift: Decimal) -> Decimal | None:
    """The client's limit without markup and shift: what the provider may deal at so that the client's limit holds."""
    is_limit = order.type in {OrderType.LIMIT, OrderType.STOP_LIMIT}
    if not is_limit or order.price is None:
        return None
    group = work.group_of(work.account(order.account))
    instrument = work.instrument(order.symbol)
    markup = client_price(ZERO, order.side, group, instrument)
    return order.price - markup - shift


def _price_shift(work: Work, order: Order) -> Decimal:
    """What the spread limit puts between the marked-up price and the one that the client is shown now."""
    account, quote = work.account(order.account), work.quote(order.symbol)
    terms = work.terms_for(account, order.symbol)
    if quote is None or not terms.spread.clips:
        return ZERO
    return price_shift(quote, order.side, work.group_of(account), terms)


def price_from_provider(work: Work, order: Order, leg: LpOrder, dealt: Decimal) -> Decimal:
    """The client's price when the provider deals at `dealt`: with the markup, and the shift that was shown when the leg was
    made; a guaranteed stop's own price; never worse than a limit."""
    if leg.client_price is not None:
        return leg.client_price
    price = client_price(dealt, order.side, work.group_of(work.account(order.account)), work.instrument(order.symbol))
    return better_of(price + leg.price_shift if leg.price_shift else price, order)


def send_leg(work: Work, order: Order, lp: str, *, price: Decimal | None = None) -> Order:
    """A child order for what is still to fill of the A part; it leaves the building only after the commit.

    With a `price` the client is dealt at it, whatever the provider deals at. Returns the order with the attempt on it.
    """
    terms = work.config.lps[lp].instruments[order.symbol]
    number = work.state.counters.leg
    volume = order.volume_a - order.filled_a
    shift = _price_shift(work, order)
    order = replace(order, attempts=(*order.attempts, lp), updated_us=work.now_us)
    work.emit(OrderUpdated(order))
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
                position_id=order.position_id if order.is_closing else 0,
                status=LegStatus.WORKING,
                created_us=work.now_us,
                updated_us=work.now_us,
                limit_price=_limit_for_provider(work, order, shift),
                all_or_none=order.time_in_force is TimeInForce.FOK,
                expires_us=work.now_us + work.config.leg_valid_us,
                price_shift=shift,
                client_price=price,
            )
        )
    )
    note_sent(work, lp, f"T{work.state.shard}-{number}")
    return order


def lots(work: Work, symbol: str, quantity: Decimal) -> Decimal:
    """A provider's quantity (units of base) in our lots."""
    return quantity / work.instrument(symbol).contract_size if quantity else ZERO
