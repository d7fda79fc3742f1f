"""A second set of books for a world: everything that its events ever said, added up once more, against what its state says.

Nothing here asks the engine how it adds up. The state is only read to be compared.
"""

from collections import defaultdict
from decimal import Decimal

from engine.core import Executed, Prior
from tests.support.world import World
from trading.commands import AnyCommand, SplitInstrument
from trading.events import DealMade, ErrorBooked, Event, LedgerPosted, SwapAccrued
from trading.ledger import HOUSE_ERROR, HOUSE_NEGATIVE_BALANCE, TransactionKind, Transfer
from trading.orders import Deal, Order, OrderStatus

ZERO, CENT = Decimal(0), Decimal("0.01")
RESULTS = (TransactionKind.REALISED_PNL, TransactionKind.LP_PNL, TransactionKind.ERROR_PNL)


class Entry:
    """One command as it was carried out."""

    __slots__ = ("at_us", "command", "done", "prior", "turn")

    def __init__(self, command: AnyCommand, at_us: int, prior: Prior, done: Executed, turn: int) -> None:
        self.command, self.at_us, self.prior, self.done, self.turn = command, at_us, prior, done, turn


class TapedWorld(World):
    """A world that remembers every command, so that it can be played again."""

    tape: list[Entry]
    turn = 0
    """How often its memory was lost."""

    def run(self, command: AnyCommand, prior: Prior | None = None) -> Executed:
        if not hasattr(self, "tape"):
            self.tape = []
        prior = prior or self.prior(command)
        done = super().run(command, prior)
        self.tape.append(Entry(command, self.now_us, prior, done, self.turn))
        return done


class SecondBooks:
    """Sums over everything up to the last look. `take_in` brings them up to date; each check may be asked on its own."""

    def __init__(self, world: TapedWorld) -> None:
        self.world = world
        self.posted: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.results: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """Of RESULTS, per family of ledger accounts and currency."""
        self.told: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
        """Per account, what its deals tell less what was posted for them: of profit and of swap."""
        self.accrued: dict[int, Decimal] = defaultdict(Decimal)
        """Per position, what its nights came to less what its deals took of it."""
        self.held: dict[int, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO, ZERO])
        """Per position by its deals: ever opened, open, open at a provider."""
        self.deals_of: dict[int, int] = defaultdict(int)
        self.symbol_of: dict[int, str] = {}
        self.dealt: dict[int, Decimal] = defaultdict(Decimal)
        self.orders: dict[int, Order] = {}
        self.at_provider: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """Lots, by the provider's own fills."""
        self.paid_provider: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """Price x lots: what we got of it for what we sold, less what we bought for."""
        self.won_of_provider: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """As it was posted."""
        self.erred: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """Lots in the error account, by its bookings."""
        self.lp_posts: dict[tuple[str, str], int] = defaultdict(int)
        self.deals: list[Deal] = []
        self.newest: list[Transfer] = []
        """Since the look before the last."""
        self.cash: dict[str, Decimal] = defaultdict(Decimal)
        self.seen = 0

    def filled(self, lp: str, symbol: str, sign: int, lots: Decimal, price: Decimal) -> None:
        """The provider's own word."""
        self.at_provider[lp, symbol] += sign * lots
        self.paid_provider[lp, symbol] -= sign * lots * price

    def take_in(self) -> list[Entry]:
        """Add what has happened since the last look; returns it."""
        fresh = self.world.tape[self.seen :]
        self.newest = []
        self.seen = len(self.world.tape)
        for entry in fresh:
            for event in entry.done.events:
                self._take(event)
            if isinstance(entry.command, SplitInstrument) and entry.done.events:
                self._split(entry.command)
            self._check_protection(entry)
        return fresh

    def _take(self, event: Event) -> None:
        order = getattr(event, "order", None)
        if isinstance(order, Order):
            self.orders[order.id] = order
        if isinstance(event, DealMade):
            self._take_deal(event.deal)
        elif isinstance(event, LedgerPosted):
            for transfer in event.transfers:
                self.newest.append(transfer)
                self._take_transfer(transfer)
        elif isinstance(event, ErrorBooked):
            key = event.fill.lp, event.fill.symbol
            self.erred[key] += event.fill.side.sign * event.fill.volume
            if event.fill.result:
                self.won_of_provider[key] += event.fill.result
                self.lp_posts[key] += 1
        elif isinstance(event, SwapAccrued):
            self.accrued[event.accrual.position_id] += event.accrual.amount

    def _take_deal(self, deal: Deal) -> None:
        self.deals.append(deal)
        held, sign = self.held[deal.position_id], 1 if deal.entry.opens else -1
        is_undone = deal.exec_id.startswith("reverse/")
        if is_undone:
            held[0] -= ZERO if deal.entry.opens else deal.volume
        elif deal.entry.opens:
            held[0] += deal.volume
        held[1] += sign * deal.volume
        held[2] += sign * deal.volume if deal.book.value == "A" else ZERO
        self.symbol_of[deal.position_id] = deal.symbol
        self.deals_of[deal.position_id] += 1
        self.accrued[deal.position_id] -= deal.swap
        if deal.order_id:
            self.dealt[deal.order_id] += deal.volume
        if not is_undone and not deal.exec_id.startswith("correct/"):
            self.told[deal.account, "profit"] += deal.profit
            self.told[deal.account, "swap"] += deal.swap

    def _take_transfer(self, transfer: Transfer) -> None:
        assert transfer.amount > 0, transfer
        for name, amount in ((transfer.source, -transfer.amount), (transfer.target, transfer.amount)):
            self.posted[name, transfer.currency] += amount
            family, _, owner = name.partition(":")
            if transfer.kind in RESULTS:
                self.results[family, transfer.currency] += amount
            if family == "client" and transfer.kind in (TransactionKind.REALISED_PNL, TransactionKind.SWAP):
                what = "profit" if transfer.kind is TransactionKind.REALISED_PNL else "swap"
                self.told[int(owner), what] -= amount
            if family == "lp" and transfer.kind is TransactionKind.LP_PNL:
                key = (owner, self.symbol_of[transfer.position_id])
                self.won_of_provider[key] -= amount
                self.lp_posts[key] += 1

    def _split(self, command: SplitInstrument) -> None:
        for number, symbol in self.symbol_of.items():
            if symbol == command.symbol and self.held[number][1]:
                self.held[number] = [lots * command.new / command.old for lots in self.held[number]]
        for key in self.at_provider:
            if key[1] == command.symbol:
                self.at_provider[key] = self.at_provider[key] * command.new / command.old

    # --- what must hold ---

    def _check_protection(self, entry: Entry) -> None:
        """Negative balance protection pays what is missing and no more, and never takes."""
        for event in entry.done.events:
            for transfer in getattr(event, "transfers", ()):
                self._move_cash(transfer)

    def _move_cash(self, transfer: Transfer) -> None:
        is_covered = transfer.source == HOUSE_NEGATIVE_BALANCE
        assert transfer.target != HOUSE_NEGATIVE_BALANCE
        if is_covered:
            assert self.cash[transfer.target] == -transfer.amount, f"{transfer} pays another loss than there is"
        self.cash[transfer.source] -= transfer.amount
        self.cash[transfer.target] += transfer.amount

    def check(self) -> None:
        """Everything at once, up to the last `take_in`."""
        self.check_money()
        self.check_orders()
        self.check_positions()
        self.check_swaps()
        self.check_providers()

    def check_money(self) -> None:
        """Balances are sums of postings, and results add up to nothing: what clients, the house and providers have won by
        dealing (`client`, `house:pnl:*`, `lp`), commission, swaps and gifts left out."""
        state = self.world.state
        assert {key: amount for key, amount in state.balances.items() if amount} == {
            key: amount for key, amount in self.posted.items() if amount
        }
        for account in state.accounts.values():
            assert account.balance == self.posted[f"client:{account.id}", account.currency], account
            assert account.credit == self.posted[f"credit:{account.id}", account.currency], account
        for currency in {currency for _, currency in self.results}:
            parts = {family: self.results[family, currency] for family in ("client", "house", "lp")}
            assert sum(parts.values()) == 0, (currency, parts)
        assert {family for family, _ in self.results} <= {"client", "house", "lp"}
        assert [key for key, rest in self.told.items() if rest] == [], "what deals tell is what was posted"

    def check_orders(self) -> None:
        """Filled and open and taken back is what was ordered."""
        for order in self.orders.values():
            assert order.filled_volume == self.dealt[order.id], order
            assert (order.filled_volume == order.volume) is (order.status is OrderStatus.FILLED), order
            assert 0 <= order.open_volume <= order.volume
            assert (order.id in self.world.state.orders) is not order.is_terminal
            assert not (order.is_terminal and order.margin_reserved), order

    def check_positions(self) -> None:
        """Positions are sums of their deals, the closed ones too."""
        open_ones = self.world.state.positions
        for number, (opened, left, left_a) in self.held.items():
            position = open_ones.get(number)
            if position is None:
                assert {left, left_a} == {ZERO}, number
            else:
                assert (position.volume_opened, position.volume, position.volume_a) == (opened, left, left_a), position
        assert set(open_ones) <= set(self.held)

    def check_swaps(self) -> None:
        """What nights came to is on the position, or its deals took it, to the rounding of each. An opening that was undone
        forgets its nights."""
        for number, rest in self.accrued.items():
            position = self.world.state.positions.get(number)
            if position is None and not self.held[number][0]:
                continue
            kept = position.swap if position is not None else ZERO
            assert abs(rest - kept) <= self.deals_of[number] * CENT, (number, rest, kept)

    def check_providers(self) -> None:
        """What stands at a provider, and what it has won, are what its own fills say, to the rounding of each posting."""
        state = self.world.state
        assert state.config is not None
        stands: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        costs: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for position in state.positions.values():
            if position.volume_a:
                stands[position.lp, position.symbol] += position.side.sign * position.volume_a
                costs[position.lp, position.symbol] += position.side.sign * position.cost_a
        for holding in state.desk.errors:
            assert self.erred[holding.lp, holding.symbol] == holding.volume, holding
            stands[holding.lp, holding.symbol] += holding.volume
            costs[holding.lp, holding.symbol] += holding.cost
        held = {(holding.lp, holding.symbol) for holding in state.desk.errors}
        assert {key for key, lots in self.erred.items() if lots} == held
        assert state.balances.get((HOUSE_ERROR, "USD"), ZERO) == self.posted[HOUSE_ERROR, "USD"]
        for key in {*stands, *self.at_provider}:
            assert stands[key] == self.at_provider[key], key
            terms = state.config.instruments[key[1]]
            won = (self.paid_provider[key] + costs[key]) * terms.lot_value
            cent = Decimal(1).scaleb(-state.config.currency_digits[terms.quote])
            assert abs(won - self.won_of_provider[key]) <= cent * (self.lp_posts[key] + 1), (key, won)
