"""Why an order went where it went: the record that explains every routing decision, stored with the order.

Filled in by `routing.engine.route`; shown to staff, never to clients.
"""

from decimal import Decimal

from msgspec import Struct

from trading.accounts import ClientClass
from trading.breaker import Breakers
from trading.configuration import LpSettings
from trading.instruments import Instrument
from trading.orders import Book, Side
from trading.quotes import Quote


class RoutingFacts(Struct, frozen=True, kw_only=True):
    """Everything the router may look at."""

    account: int
    group: str
    client_class: ClientClass
    instrument: Instrument
    side: Side
    volume: Decimal
    quote: Quote
    lps: dict[str, LpSettings]
    config_version: int
    now_us: int
    stp_only: str = ""
    """Why the house may not take the other side, whatever the policy says; empty where it may."""
    breakers: Breakers = ()
    killed_lps: tuple[str, ...] = ()
    """Providers that a person has stopped; like those whose breaker is open they take no opening order, but closes."""


class ConditionTrace(Struct, frozen=True, kw_only=True):
    """One condition, what it wanted and what it saw."""

    field: str
    operator: str
    expected: tuple[str, ...]
    actual: str
    passed: bool


class RuleTrace(Struct, frozen=True, kw_only=True):
    """One rule that was looked at. Conditions after the first failed one are evaluated too, so that the record is whole."""

    rule_id: int
    name: str
    matched: bool
    conditions: tuple[ConditionTrace, ...]


class LpCandidate(Struct, frozen=True, kw_only=True):
    """One provider that the rule allowed, and how it stood for this side and size."""

    lp: str
    price: Decimal | None
    size: Decimal | None
    """Lots on its top of book."""
    quote_id: str
    age_us: int | None
    eligible: bool
    reason: str
    """Why not eligible, or why chosen: a short sentence."""


class Decision(Struct, frozen=True, kw_only=True):
    """The route of one order. `volume_a + volume_b` is the order's volume."""

    config_version: int
    policy_version: int
    rules: tuple[RuleTrace, ...]
    """In order, up to and including the one that decided."""
    rule_id: int
    rule_name: str
    wanted: Book
    """What the rule's action asked for."""
    book: Book
    """What came of it after rounding and the providers' minimums."""
    a_share: Decimal
    volume_a: Decimal
    volume_b: Decimal
    candidates: tuple[LpCandidate, ...]
    """Best first. Empty for B."""
    lp: str
    """The provider chosen for the A part; empty when there is no A part, or when none was eligible."""
    quote: Quote
    reasons: tuple[str, ...]
    """The whole decision in sentences, for the page and the tour."""

    @property
    def lacks_provider(self) -> bool:
        """There is an A part and nobody to send it to: the order must be refused."""
        return self.volume_a > 0 and not self.lp
