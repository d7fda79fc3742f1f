"""Further promises of the simulated house, each there because a planted bug went by without it: see tests/mutants."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from engine.batch import Batch
from engine.standing import Unpriced, look_at
from engine.state import State
from engine.stopout import is_due
from engine.work import Work
from tests.simulation.clients import UNKEYED
from tests.simulation.columns import PLACES, microseconds
from trading import events as e
from trading.accounts import ClientClass
from trading.numbers import ZERO
from trading.orders import TERMINAL

if TYPE_CHECKING:
    from tests.simulation.provider import Provider
    from tests.simulation.world import House

_ORDER_EVENTS = (
    e.OrderRejected, e.OrderFilled, e.OrderCanceled, e.OrderExpired, e.OrderUpdated, e.OrderPartiallyFilled,
)  # fmt: skip
QUIET_PRICES = 30
_LEG = PLACES["lp_order"]


class Promises:
    def __init__(self, house: "House") -> None:
        self._house = house
        self._ended: set[int] = set()
        """Orders of which a terminal state was committed."""

    def _violate(self, check: str, text: str) -> None:
        self._house.checks.violate(check, text)

    def sent(self, provider: "Provider", cl_ord_id: str) -> None:
        """An order leaves the house before its time is over, under the state that says so."""
        tables = self._house.server.tables
        key = tables.leg_of.get(cl_ord_id)
        if key is None:
            return
        row = tables.rows["lp_order"][key]
        expires_us, now_us = microseconds(row[_LEG["expires_at"]]), self._house.time.business()
        if expires_us is not None and now_us > expires_us:
            self._violate("stale send", f"{cl_ord_id} left for {provider.name} {now_us - expires_us} us too late")
        if row[_LEG["dispatch_state"]] == "new":
            self._violate("last hop", f"{cl_ord_id} left for {provider.name} and is still new")

    def batch(self, batch: Batch) -> None:
        """A provider's fill reaches a client only as long as no terminal state was told."""
        for event in batch.events:
            if isinstance(event, e.DealMade):
                deal = event.deal
                if deal.lp and deal.order_id in self._ended and not deal.exec_id.startswith(("reverse/", "correct/")):
                    self._violate(
                        "late fill", f"order {deal.order_id} had ended and was dealt {deal.exec_id} of {deal.lp}"
                    )
            elif isinstance(event, _ORDER_EVENTS) and event.order.status in TERMINAL:
                self._ended.add(event.order.id)

    def after_step(self, state: State) -> None:
        """I12: who is protected owes nothing once nothing of the account is open."""
        for number in state.negative:
            account = state.accounts[number]
            portfolio = state.portfolios.get(number)
            is_open = portfolio is not None and not portfolio.is_empty
            if is_open or any(leg.account == number for leg in state.legs.values()):
                continue
            if account.client_class is ClientClass.RETAIL and account.balance < 0:
                self._violate("I12 negative", f"account {number} is flat and owes {-account.balance}")

    def finally_(self) -> None:
        self._postings_are_stored()
        self._not_sent_means_not_sent()
        self._refused_means_not_done()
        self._nobody_stands_below_the_stop_out()

    def _postings_are_stored(self) -> None:
        """I2: the rows of the ledger, not what the engine says of them."""
        tables, places = self._house.server.tables, PLACES["ledger_transfer"]
        sums: dict[tuple[str, str], Decimal] = {}
        for row in tables.all_rows("ledger_transfer"):
            amount, currency = Decimal(row[places["amount"]]), row[places["currency"]]
            for account, change in ((row[places["source"]], -amount), (row[places["target"]], amount)):
                sums[account, currency] = sums.get((account, currency), ZERO) + change
        for account, currency, balance in tables.all_rows("ledger_balance"):
            if sums.get((account, currency), ZERO) != Decimal(balance):
                self._violate(
                    "I2 rows", f"{account} has {balance} {currency}, its rows {sums.get((account, currency))}"
                )

    def _not_sent_means_not_sent(self) -> None:
        tables = self._house.server.tables
        for provider in self._house.providers.values():
            for name in provider.received:
                key = tables.leg_of.get(name)
                if key is not None and tables.rows["lp_order"][key][_LEG["dispatch_state"]] == "not_sent":
                    self._violate("last hop", f"{name} reached {provider.name} and counts as not sent")

    def _refused_means_not_done(self) -> None:
        """Whoever was last told a refusal that leaves no trace has left none."""
        keys = self._house.server.tables.rows["engine_key"]
        for place, request in self._house.clients.requests.items():
            if request.traceless and place in keys and not isinstance(request.command, UNKEYED):
                self._violate("answers", f"{place[1]} of account {place[0]} was refused without a trace, and was done")

    def _nobody_stands_below_the_stop_out(self) -> None:
        """After a price of everything, and some more that move nothing: the engine's own look finds nobody in whom it has
        anything left to do.

        A clock that was set back is waited for: prices older than the newest are ignored until then.
        """
        house = self._house
        newest_us = max((quote.at_us for quote in house.state.quotes.values()), default=0)
        house.time.advance_us(max(newest_us - house.time.business(), 0))
        house.moves.refresh_all(is_everywhere=True)
        for _ in range(QUIET_PRICES):
            house.time.advance_us(100_000)
            house.moves.refresh_crosses()
            house.turn()
        engine = house.engine
        if engine is None or engine.step.mode != "running" or engine.step.state.config is None:
            return
        state: Any = engine.step.state
        work = Work(state, state.config, engine.step.now_us)
        for account in state.accounts.values():
            look = None if state.closing.get(account.id) else look_at(work, account)
            if look is not None and not isinstance(look, Unpriced) and is_due(work, look):
                self._violate(
                    "stop-out", f"account {account.id} stands at {look.standing}, and nothing is done about it"
                )
