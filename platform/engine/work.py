"""The work bench of one command: events are applied to the state as they are emitted, and kept for the journal.

All checks come before the first `emit`; after it nothing fails. The bench also keeps who must be answered and which
quotes were looked at, because the input journal stores every quote that a decision used.
"""

from decimal import Decimal

from engine.state import APPLY, State
from trading.accounts import Account
from trading.answers import Answer
from trading.configuration import Config, Group
from trading.events import Event
from trading.instruments import Instrument
from trading.margining.modes import Exposure
from trading.orders import Order, Side
from trading.pricing import client_quote, conversion_key, convert
from trading.quotes import ClientQuote, Quote


class Work:
    """State, time and what came of the command so far."""

    __slots__ = ("_seen", "answers", "charged", "config", "events", "now_us", "quotes_used", "state")

    def __init__(self, state: State, config: Config, now_us: int) -> None:
        self.state = state
        self.config = config
        self.now_us = now_us
        self.events: list[Event] = []
        self.answers: list[tuple[str, Answer]] = []
        self.quotes_used: dict[str, Quote] = {}
        self._seen: dict[tuple[str, str], ClientQuote] = {}
        self.charged: tuple[int, Side, Decimal, Decimal, Exposure] | None = None
        """The last charge of a market order: dealt at once at the same price, its position is charged the same."""

    def emit(self, event: Event) -> None:
        APPLY[type(event)](self.state, event)
        self.events.append(event)

    def answer(self, reply_to: str, answer: Answer) -> None:
        if reply_to:
            self.answers.append((reply_to, answer))

    def last_order(self, order: Order) -> Order:
        """The order as the command's events left it."""
        for event in reversed(self.events):
            found = getattr(event, "order", None)
            if isinstance(found, Order) and found.id == order.id:
                return found
        return order

    def quote(self, symbol: str) -> Quote | None:
        """The newest raw quote, remembered as used."""
        quote = self.state.quotes.get(symbol)
        if quote is not None:
            self.quotes_used[symbol] = quote
        return quote

    def account(self, number: int) -> Account:
        return self.state.accounts[number]

    def group_of(self, account: Account) -> Group:
        return self.config.groups[account.group]

    def instrument(self, symbol: str) -> Instrument:
        return self.config.instruments[symbol]

    def is_simple(self, order: Order) -> bool:
        """Plain forex: a working order is charged as its position will be."""
        return self.state.terms.rules(self.account(order.account).group)[order.symbol].is_simple

    def terms_for(self, account: Account, symbol: str) -> Instrument:
        """The symbol's terms as the account's group has them."""
        known = self.state.terms.known.get((account.group, symbol))
        terms = known if known is not None else self.state.terms.of(account.group, symbol)
        assert terms is not None, f"{symbol} is not offered"
        return terms

    def seen_by(self, account: Account, symbol: str) -> ClientQuote | None:
        """The newest price as the account's group sees it, remembered as used; None before the first."""
        place = account.group, symbol
        seen = self._seen.get(place)
        if seen is None:
            quote = self.quote(symbol)
            if quote is None:
                return None
            seen = client_quote(quote, self.config.groups[account.group], self.terms_for(account, symbol))
            self._seen[place] = seen
        return seen

    def convert(self, amount: Decimal, source: str, target: str) -> Decimal | None:
        """`amount` at the market's worse side, unrounded; the quotes on the way count as used."""
        if source == target:
            return amount
        self.use_conversion(source, target)
        return convert(amount, source, target, self.config, self.state.quotes)

    def use_conversion(self, source: str, target: str) -> None:
        """Remember the quotes between two currencies as used."""
        for step in self.config.conversions.get(conversion_key(source, target), ()):
            self.quote(step.symbol)
