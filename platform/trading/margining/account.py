"""The margin of a whole account, kept as running sums: a change costs the same however many positions there are.

Per symbol and side, the charges of positions, orders in flight and each pending type are summed; only the symbol (or tier
pool) that changed is valued again. How sums become margin is here: hedging, netting, tiers, rounding. The charges come
from `modes`; `reference` says the same thing slowly from the lists, and both must always agree.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal

from msgspec import Struct

from trading.margining.modes import Exposure
from trading.margining.terms import (
    Accounting,
    HedgedMode,
    MarginKind,
    MarginPolicy,
    MarginRounding,
    SymbolRule,
    Tier,
    TierBasis,
    Tiers,
    TierStyle,
)
from trading.numbers import ZERO, round_half_up, round_up
from trading.orders import Side

GUARD = Decimal("1E-12")
"""What a division leaves behind lies below this, and is dropped before money is rounded: 10.000…01 is 10, not 10.01."""

CLAIM = Decimal("1E-15")
"""A symbol's part of a tier pool is kept to this, so that taking it out again is exact."""

PENDING = (MarginKind.LIMIT, MarginKind.STOP, MarginKind.STOP_LIMIT)
STOPS = (MarginKind.STOP, MarginKind.STOP_LIMIT)


class Sums(Struct):
    """Charges added up; the meaning of each is Exposure's."""

    volume: Decimal = ZERO
    margin: Decimal = ZERO
    hedged: Decimal = ZERO
    unleveraged: Decimal = ZERO
    notional: Decimal = ZERO

    def add(self, other: "Exposure | Sums") -> None:
        self.volume += other.volume
        self.margin += other.margin
        if other.hedged:
            self.hedged += other.hedged
        if other.unleveraged:
            self.unleveraged += other.unleveraged
        if other.notional:
            self.notional += other.notional

    def remove(self, other: Exposure) -> None:
        self.volume -= other.volume
        self.margin -= other.margin
        if other.hedged:
            self.hedged -= other.hedged
        if other.unleveraged:
            self.unleveraged -= other.unleveraged
        if other.notional:
            self.notional -= other.notional

    def copy(self) -> "Sums":
        return Sums(self.volume, self.margin, self.hedged, self.unleveraged, self.notional)


NOTHING = Sums()
"""What a kind that is not there adds up to. Never changed."""


class Leg(Struct):
    """One side of one symbol: its sums by kind, and the margin of all of them."""

    margin: Decimal = ZERO
    parts: dict[MarginKind, Sums] = {}

    def add(self, exposure: Exposure) -> None:
        self.margin += exposure.margin
        part = self.parts.get(exposure.kind)
        if part is None:
            part = self.parts[exposure.kind] = Sums()
        part.add(exposure)

    def remove(self, exposure: Exposure) -> None:
        self.margin -= exposure.margin
        self.parts[exposure.kind].remove(exposure)

    def of(self, *kinds: MarginKind) -> Sums:
        """The sum over some kinds."""
        if len(kinds) == 1:
            return self.parts.get(kinds[0], NOTHING)
        total = Sums()
        for kind in kinds:
            if kind in self.parts:
                total.add(self.parts[kind])
        return total

    def copy(self) -> "Leg":
        return Leg(self.margin, {kind: part.copy() for kind, part in self.parts.items()})


class SymbolBook:
    """Both sides of one symbol in one account."""

    __slots__ = ("is_plain", "key", "long", "rule", "short")

    def __init__(self, symbol: str, rule: SymbolRule, policy: MarginPolicy) -> None:
        tiers = rule.terms.tiers
        self.key = f"pool {tiers.pool}" if tiers is not None and tiers.pool else symbol
        """Under which its margin is kept: no symbol contains a space."""
        self.rule = rule
        self.is_plain = is_plain(rule, policy)
        self.long = Leg()
        self.short = Leg()

    @property
    def is_empty(self) -> bool:
        return not any(part.volume for leg in (self.long, self.short) for part in leg.parts.values())

    def leg(self, side: Side) -> Leg:
        return self.long if side is Side.BUY else self.short

    def copy(self) -> "SymbolBook":
        twin = SymbolBook.__new__(SymbolBook)
        twin.key, twin.rule, twin.is_plain = self.key, self.rule, self.is_plain
        twin.long, twin.short = self.long.copy(), self.short.copy()
        return twin


def is_plain(rule: SymbolRule, policy: MarginPolicy) -> bool:
    """True where the larger of two sums is the margin: the common account, kept as cheap as that."""
    return (
        policy.accounting is Accounting.HEDGING
        and policy.rounding is not MarginRounding.HALF_UP_PER_COMPONENT
        and rule.terms.hedged_mode is HedgedMode.LARGER_LEG
        and rule.terms.tiers is None
    )


class Claim(Struct, frozen=True):
    """What goes into the tiers: a margin, and the size (lots or value) of positions and of everything."""

    margin: Decimal = ZERO
    held: Decimal = ZERO
    size: Decimal = ZERO


class Intent(Struct, frozen=True, kw_only=True):
    """Everything one request would do: a reversal closes and opens, a close-by closes both sides."""

    closes: tuple[Exposure, ...] = ()
    """Positions, parts of them (`modes.split`) or orders that go away, exactly as they were added."""
    opens: tuple[Exposure, ...] = ()


class AccountMargin:
    """Running margin of one account. Every exposure is removed with the same amounts it was added with."""

    __slots__ = ("books", "by_key", "claims", "digits", "margin", "policy", "pools", "rules")

    def __init__(self, *, rules: Mapping[str, SymbolRule], policy: MarginPolicy, digits: int) -> None:
        self.rules = rules
        self.policy = policy
        self.digits = digits
        """Decimals of the account's currency."""
        self.margin = ZERO
        """The account's margin now, rounded."""
        self.by_key: dict[str, Decimal] = {}
        self.books: dict[str, SymbolBook] = {}
        self.claims: dict[str, Claim] = {}
        self.pools: dict[str, Claim] = {}

    def add(self, exposure: Exposure) -> None:
        """A position or order has come, or grown by this much."""
        self._change(exposure, None)

    def remove(self, exposure: Exposure) -> None:
        """A position or order has gone, or shrunk by this much."""
        self._change(None, exposure)

    def replace(self, before: Exposure, after: Exposure) -> None:
        """One exposure has become another of the same symbol: valued once."""
        assert before.symbol == after.symbol
        self._change(after, before)

    def margin_of(self, symbol: str) -> Decimal:
        """The symbol's margin; its whole pool's where it shares tiers."""
        book = self.books.get(symbol)
        return ZERO if book is None else self.by_key.get(book.key, ZERO)

    def margin_if(self, intent: Intent) -> Decimal:
        """The margin after all of the intent, which changes nothing here."""
        if not intent.closes and len(intent.opens) == 1:
            book = self.books.get(intent.opens[0].symbol)
            if book is not None and book.is_plain:
                return self._plain_with(book, intent.opens[0])
        trial = self._trial({exposure.symbol for exposure in (*intent.closes, *intent.opens)})
        for exposure in intent.closes:
            trial.remove(exposure)
        for exposure in intent.opens:
            trial.add(exposure)
        return trial.margin

    def margin_after(self, intent: Intent) -> Decimal:
        """The margin that a pre-trade check asks for: that of the whole intent, at once.

        A request that only takes away unhedged risk (or orders) is never checked with more than is tied up already, even
        where mixed prices would make the rest of a hedge dearer.
        """
        after = self.margin_if(intent)
        return min(after, self.margin) if self.only_reduces(intent) else after

    def only_reduces(self, intent: Intent) -> bool:
        """True when the intent opens nothing and closes no covered lot."""
        if intent.opens:
            return False
        closed: dict[tuple[str, Side], Decimal] = {}
        for exposure in intent.closes:
            if exposure.kind is MarginKind.POSITION:
                key = exposure.symbol, exposure.side
                closed[key] = closed.get(key, ZERO) + exposure.volume
        return all(volume <= self._uncovered(symbol, side) for (symbol, side), volume in closed.items())

    def _uncovered(self, symbol: str, side: Side) -> Decimal:
        book = self.books[symbol]
        own, other = book.leg(side).of(MarginKind.POSITION), book.leg(side.opposite).of(MarginKind.POSITION)
        return own.volume - other.volume

    def _plain_with(self, book: SymbolBook, exposure: Exposure) -> Decimal:
        """One opening where the larger leg is all: what most orders ask."""
        own, other = (book.long, book.short) if exposure.side is Side.BUY else (book.short, book.long)
        larger = _round_exact(max(own.margin + exposure.margin, other.margin), self.policy.rounding, self.digits)
        return self.margin - self.by_key[book.key] + larger

    def _trial(self, symbols: set[str]) -> "AccountMargin":
        twin = AccountMargin(rules=self.rules, policy=self.policy, digits=self.digits)
        twin.margin = self.margin
        twin.by_key, twin.claims, twin.pools = dict(self.by_key), dict(self.claims), dict(self.pools)
        twin.books = {symbol: self.books[symbol].copy() for symbol in symbols if symbol in self.books}
        return twin

    def _new_book(self, symbol: str) -> SymbolBook:
        return SymbolBook(symbol, self.rules[symbol], self.policy)

    def _change(self, added: Exposure | None, removed: Exposure | None) -> None:
        exposure = added or removed
        assert exposure is not None
        symbol = exposure.symbol
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = self._new_book(symbol)
        if removed is not None:
            (book.long if removed.side is Side.BUY else book.short).remove(removed)
        if added is not None:
            (book.long if added.side is Side.BUY else book.short).add(added)
        self._revalue(symbol, book)
        if added is None and book.is_empty:
            self._forget(symbol, book)

    def _revalue(self, symbol: str, book: SymbolBook) -> None:
        tiers = book.rule.terms.tiers
        if book.is_plain:
            margin = _round_exact(max(book.long.margin, book.short.margin), self.policy.rounding, self.digits)
        elif tiers is None or tiers.style is TierStyle.LEVERAGE_CAPS:
            margin = symbol_margin(book, self.policy, self.digits)
        else:
            margin = self._tiered(symbol, book, tiers)
        before = self.by_key.get(book.key)
        self.margin += margin if before is None else margin - before
        self.by_key[book.key] = margin

    def _tiered(self, symbol: str, book: SymbolBook, tiers: Tiers) -> Decimal:
        before, after = self.claims.get(symbol, Claim()), symbol_claim(book, self.policy.accounting)
        pool = self.pools.get(book.key, Claim())
        pool = Claim(
            pool.margin - before.margin + after.margin,
            pool.held - before.held + after.held,
            pool.size - before.size + after.size,
        )
        self.claims[symbol] = after
        self.pools[book.key] = pool
        return round_sum(tiered_margin(tiers.steps, pool), self.policy.rounding, self.digits)

    def _forget(self, symbol: str, book: SymbolBook) -> None:
        """Nothing of the symbol is left; a pool's margin stays with the symbols that share it."""
        assert not book.long.margin
        assert not book.short.margin
        del self.books[symbol]
        self.claims.pop(symbol, None)
        if book.key == symbol:
            del self.by_key[symbol]
            self.pools.pop(symbol, None)


def account_margin(
    exposures: Iterable[Exposure], *, rules: Mapping[str, SymbolRule], policy: MarginPolicy, digits: int
) -> AccountMargin:
    """The running sums from nothing, as after a restart."""
    account = AccountMargin(rules=rules, policy=policy, digits=digits)
    for exposure in exposures:
        account.add(exposure)
    return account


# --- From sums to one symbol's margin -----------------------------------------------------------------------------------

AddUp = Callable[[list[Decimal]], Decimal]
"""How components become a sum: as they are, or each rounded first."""


def symbol_margin(book: SymbolBook, policy: MarginPolicy, digits: int) -> Decimal:
    """The margin of a symbol that no tier rates apply to, rounded as the policy says."""
    long, short, tiers = book.long, book.short, book.rule.terms.tiers
    if tiers is not None:
        long, short = capped(long, tiers), capped(short, tiers)
    per_component = policy.rounding is MarginRounding.HALF_UP_PER_COMPONENT
    add_up = _add_up_rounded(digits) if per_component else _add_up
    return round_sum(_combined(book.rule, long, short, policy.accounting, add_up), policy.rounding, digits)


def symbol_claim(book: SymbolBook, accounting: Accounting) -> Claim:
    """What a symbol brings into tiers: nothing is rounded to money before the last step."""
    rule, tiers = book.rule, book.rule.terms.tiers
    assert tiers is not None
    margin = _combined(rule, book.long, book.short, accounting, _add_up)
    held, size = (
        _combined(
            rule,
            _sized(rule, book.long, tiers.basis, kinds),
            _sized(rule, book.short, tiers.basis, kinds),
            accounting,
            _add_up,
        )
        for kinds in ((MarginKind.POSITION,), tuple(MarginKind))
    )
    return Claim(margin.quantize(CLAIM), held.quantize(CLAIM), size.quantize(CLAIM))


def tiered_margin(steps: tuple[Tier, ...], claim: Claim) -> Decimal:
    """The claim's margin per unit of size, slice by slice: positions fill the first slices, orders go on from there."""
    if not claim.size:
        return claim.margin
    weighted = sum((tier.maintenance * part for tier, part in slices(steps, ZERO, claim.held)), ZERO)
    weighted += sum((tier.initial * part for tier, part in slices(steps, claim.held, claim.size)), ZERO)
    return claim.margin * weighted / claim.size


def slices(steps: tuple[Tier, ...], start: Decimal, end: Decimal) -> list[tuple[Tier, Decimal]]:
    """How much of the way from `start` to `end` lies in each tier; the last tier has no end."""
    parts, low = [], ZERO
    for step in steps:
        high = end if step is steps[-1] or step.to is None else min(step.to, end)
        if high > max(low, start):
            parts.append((step, high - max(low, start)))
        low = max(low, high)
    assert sum((part for _, part in parts), ZERO) == max(end - start, ZERO), "slices give back the whole"
    return parts


def capped(leg: Leg, tiers: Tiers) -> Leg:
    """The leg with each slice at the smaller of the tier's leverage and the one it was charged at."""
    whole = leg.of(*MarginKind)
    size = whole.volume if tiers.basis is TierBasis.VOLUME else whole.notional
    if not size or not whole.margin:
        return leg
    dearer = sum(
        (part * max(whole.margin, whole.unleveraged / tier.leverage) for tier, part in slices(tiers.steps, ZERO, size)),
        ZERO,
    )
    if dearer == whole.margin * size:
        return leg
    scaled = {
        kind: Sums(
            part.volume, part.margin * dearer / (size * whole.margin), part.hedged * dearer / (size * whole.margin)
        )
        for kind, part in leg.parts.items()
    }
    return Leg(sum((part.margin for part in scaled.values()), ZERO), scaled)


def round_sum(amount: Decimal, rounding: MarginRounding, digits: int) -> Decimal:
    """The last rounding of a symbol's or pool's margin, after dropping what divisions left behind."""
    return _round_exact(amount.quantize(GUARD, rounding=ROUND_HALF_EVEN), rounding, digits)


def _round_exact(amount: Decimal, rounding: MarginRounding, digits: int) -> Decimal:
    return round_up(amount, digits) if rounding is MarginRounding.UP_PER_POSTING else round_half_up(amount, digits)


def _add_up(components: list[Decimal]) -> Decimal:
    return sum(components, ZERO)


def _add_up_rounded(digits: int) -> AddUp:
    def add_up(components: list[Decimal]) -> Decimal:
        guarded = (component.quantize(GUARD, rounding=ROUND_HALF_EVEN) for component in components)
        return sum((round_half_up(component, digits) for component in guarded), ZERO)

    return add_up


def _combined(rule: SymbolRule, long: Leg, short: Leg, accounting: Accounting, add_up: AddUp) -> Decimal:
    if accounting is Accounting.NETTING:
        return _netting(long, short, add_up)
    if rule.terms.hedged_mode is HedgedMode.LARGER_LEG:
        return max(add_up(_by_kind(long)), add_up(_by_kind(short)))
    pending = [leg.of(kind).margin for leg in (long, short) for kind in PENDING]
    return _hedge(rule, long, short, add_up) + add_up(pending)


def _by_kind(leg: Leg) -> list[Decimal]:
    """Positions and market orders are one component, each pending type is its own."""
    return [leg.of(MarginKind.POSITION, MarginKind.MARKET).margin, *(leg.of(kind).margin for kind in PENDING)]


# --- Netting accounts ---


def _netting(long: Leg, short: Leg, add_up: AddUp) -> Decimal:
    """The dearer side, where a side that the position outweighs counts nothing; stop orders always add."""
    stops = add_up([leg.of(kind).margin for leg in (long, short) for kind in STOPS])
    sides = [
        add_up([own.of(MarginKind.POSITION, MarginKind.MARKET).margin, own.of(MarginKind.LIMIT).margin])
        for own, other in ((long, short), (short, long))
        if not _is_outweighed(own, other)
    ]
    return max(sides) + stops


def _is_outweighed(own: Leg, other: Leg) -> bool:
    """True for orders that could at most close the position opposite."""
    position = other.of(MarginKind.POSITION).volume
    return 0 < position >= own.of(MarginKind.POSITION, MarginKind.MARKET, MarginKind.LIMIT).volume


# --- Hedged positions ---


def _hedge(rule: SymbolRule, long: Leg, short: Leg, add_up: AddUp) -> Decimal:
    """Positions and market orders in flight, covered and uncovered.

    An order in flight may be filled or refused, so it can only add: with a formula, the dearest of the four outcomes per
    side counts; with fixed amounts, its hedged lots cost the hedged amount and the rest the initial one, on top.
    Several in flight on one side are averaged, as positions are.
    """
    covers = rule.terms.hedged_mode is HedgedMode.BASIC
    if rule.terms.is_fixed:
        positions = _pair(long.of(MarginKind.POSITION), short.of(MarginKind.POSITION), covers=covers)
        orders = [*_in_flight(long, short, covers=covers), *_in_flight(short, long, covers=covers)]
        return add_up(positions) + add_up(orders)
    return max(add_up(_pair(buys, sells, covers=covers)) for buys in _outcomes(long) for sells in _outcomes(short))


def _outcomes(leg: Leg) -> list[Sums]:
    """Without and with the orders in flight."""
    refused = leg.of(MarginKind.POSITION)
    if not leg.of(MarginKind.MARKET).volume:
        return [refused]
    return [refused, leg.of(MarginKind.POSITION, MarginKind.MARKET)]


def _pair(long: Sums, short: Sums, *, covers: bool) -> list[Decimal]:
    """[uncovered, covered]: the larger leg's own average, and the average of all positions at the hedged charge."""
    larger, smaller = (long, short) if long.volume >= short.volume else (short, long)
    if not smaller.volume:
        return [larger.margin]
    uncovered = larger.margin * (larger.volume - smaller.volume) / larger.volume
    if not covers:
        return [uncovered]
    return [uncovered, (long.hedged + short.hedged) * smaller.volume / (long.volume + short.volume)]


def _in_flight(own: Leg, other: Leg, *, covers: bool) -> list[Decimal]:
    """[rest, hedged] of one side's market orders against the opposite positions that nothing covers yet."""
    order = own.of(MarginKind.MARKET)
    if not order.volume:
        return []
    hedged = _hedged_lots(own, other)
    rest = order.margin * (order.volume - hedged) / order.volume
    return [rest, order.hedged * hedged / order.volume] if covers else [rest]


def _hedged_lots(own: Leg, other: Leg) -> Decimal:
    free = other.of(MarginKind.POSITION).volume - own.of(MarginKind.POSITION).volume
    return min(own.of(MarginKind.MARKET).volume, max(free, ZERO))


# --- Sizes for tiers ---


def _sized(rule: SymbolRule, leg: Leg, basis: TierBasis, kinds: Iterable[MarginKind]) -> Leg:
    """The leg with lots or value in the margin's place: sizes are combined by the same rules as margins.

    Where a side or an outcome is chosen, the larger size counts, whichever has the larger margin: orders only add.
    """
    part, whole = _covered_part(rule)
    sized = {}
    for kind in kinds:
        if kind in leg.parts:
            sums = leg.parts[kind]
            size = sums.volume if basis is TierBasis.VOLUME else sums.notional
            sized[kind] = Sums(volume=sums.volume, margin=size, hedged=size * part / whole)
    return Leg(parts=sized)


def _covered_part(rule: SymbolRule) -> tuple[Decimal, Decimal]:
    """How much a covered lot counts in tiers, as a ratio: hedged value of contract size, or of the fixed amount."""
    terms = rule.terms
    return terms.hedged, terms.held if terms.is_fixed else rule.contract_size
