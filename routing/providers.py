"""Which provider gets the market's part: the best price among those that can take it now.

A provider can take it when it is enabled, trades the symbol, neither a person nor its circuit breaker has stopped it, its
trade session is up, its price is fresh, and the part is not below its minimum. Among those that show the full size the best
price wins, then the lower priority number, then the name. Where nobody shows the full size, the one that shows most gets it
(among equals, the best price): an immediate-or-cancel order fills what is there.
"""

from collections.abc import Callable, Collection
from decimal import Decimal

from msgspec import Struct

from trading.breaker import why_barred
from trading.configuration import LpInstrument, LpSettings
from trading.decisions import Decision, LpCandidate, RoutingFacts
from trading.numbers import ONE, ZERO, is_on_step, plain
from trading.orders import Side
from trading.quotes import LpTop

PartFor = Callable[[LpInstrument], Decimal]
"""The part that a provider with these terms would be sent; 0 where it would get nothing."""


class Choice(Struct, frozen=True, kw_only=True):
    """Who gets how much. `lp` is empty when nobody can take the part, or when there is no part."""

    lp: str
    part: Decimal
    candidates: tuple[LpCandidate, ...]
    """Best first, then those that cannot take it."""
    reasons: tuple[str, ...]


class _Offer(Struct, frozen=True, kw_only=True):
    """One provider's standing. `fault` says why it cannot take the part; empty when it can."""

    settings: LpSettings
    part: Decimal
    top: LpTop | None
    price: Decimal = ZERO
    size: Decimal = ZERO
    fault: str = ""

    @property
    def is_short(self) -> bool:
        return self.size < self.part


def allowed_providers(facts: RoutingFacts, names: Collection[str]) -> list[LpSettings]:
    """The named providers, or all enabled ones when none is named; first in line first."""
    allowed = [lp for lp in facts.lps.values() if (lp.name in names if names else lp.enabled)]
    return allowed if len(allowed) < 2 else sorted(allowed, key=_line)


def choose_provider(facts: RoutingFacts, allowed: list[LpSettings], part_for: PartFor) -> Choice:
    """The provider for the market's part.

    The part is 0, for the house, only when it is too small for every allowed provider that trades the symbol. One that
    is merely down never turns the market's part into the house's risk: then there is a part and no provider.
    """
    offers = [_offer(facts, lp, part_for) for lp in allowed]
    ranked = _ranked([offer for offer in offers if not offer.fault], facts.side)
    faulty = [offer for offer in offers if offer.fault]
    if ranked:
        best = ranked[0]
        told = [_told(offer, ranked, len(offers), facts.side) for offer in ranked]
        able = [_candidate(facts, offer, reason) for offer, reason in zip(ranked, told, strict=True)]
        unable = [_candidate(facts, offer, offer.fault) for offer in faulty]
        return Choice(lp=best.settings.name, part=best.part, candidates=(*able, *unable), reasons=(told[0],))
    return _nobody(facts, faulty, part_for)


def next_provider(facts: RoutingFacts, decision: Decision, tried: Collection[str]) -> LpCandidate | None:
    """Who to try now that those `tried` have rejected: the best of the rest at this moment's facts, or None.

    The split stands: only providers that can take exactly the decided part are asked, and only those that the deciding
    rule allowed. A close names a single provider, so it is never sent to another.
    """
    names = [candidate.lp for candidate in decision.candidates if candidate.lp not in tried]
    if not names:
        return None

    def decided_part(terms: LpInstrument) -> Decimal:
        fits = decision.volume_a >= terms.volume_min and is_on_step(decision.volume_a, terms.volume_step)
        return decision.volume_a if fits else ZERO

    choice = choose_provider(facts, allowed_providers(facts, names), decided_part)
    return choice.candidates[0] if choice.lp else None


def standing(facts: RoutingFacts, lp: LpSettings, part: Decimal) -> LpCandidate:
    """How one given provider stands for `part`, whether or not it is enabled or stopped for new risk."""
    top = _top_of(facts, lp.name)
    fault = _price_fault(facts, lp.name, top)
    price, size = _dealt_side(top, facts.side)
    offer = _Offer(settings=lp, part=part, top=top, price=price, size=size, fault=fault)
    return _candidate(facts, offer, fault or f"{_says(offer, facts.side)}.")


def _line(lp: LpSettings) -> tuple[int, str]:
    return (lp.priority, lp.name)


def _offer(facts: RoutingFacts, lp: LpSettings, part_for: PartFor) -> _Offer:
    top = _top_of(facts, lp.name)
    price, size = _dealt_side(top, facts.side)
    terms = lp.instruments.get(facts.instrument.symbol)
    part = part_for(terms) if terms else ZERO
    fault = _terms_fault(facts, lp, terms, part) or _bar(facts, lp.name) or _price_fault(facts, lp.name, top)
    return _Offer(settings=lp, part=part, top=top, price=price, size=size, fault=fault)


def _top_of(facts: RoutingFacts, lp: str) -> LpTop | None:
    for top in facts.quote.tops:
        if top.lp == lp:
            return top
    return None


def _dealt_side(top: LpTop | None, side: Side) -> tuple[Decimal, Decimal]:
    """Price and size that an order of this side meets: a buy the offer, a sell the bid."""
    if top is None:
        return ZERO, ZERO
    return (top.ask, top.ask_size) if side is Side.BUY else (top.bid, top.bid_size)


def _terms_fault(facts: RoutingFacts, lp: LpSettings, terms: LpInstrument | None, part: Decimal) -> str:
    if terms is None:
        return f"{lp.name} does not trade {facts.instrument.symbol}."
    if not part:
        size = f"from {plain(terms.volume_min)} lots in steps of {plain(terms.volume_step)}"
        return f"{lp.name} deals {size}, which does not fit the part."
    return "" if lp.enabled else f"{lp.name} is disabled."


def _bar(facts: RoutingFacts, lp: str) -> str:
    """An open circuit breaker or a person's word; closes are not held to it."""
    why = why_barred(facts.breakers, facts.killed_lps, lp, facts.now_us)
    return f"{lp} gets no new risk, {why}." if why else ""


def _price_fault(facts: RoutingFacts, lp: str, top: LpTop | None) -> str:
    if top is None:
        return f"{lp} has no price."
    if not top.tradable:
        return f"{lp} cannot be dealt with: its trade session is down or its price is stale."
    if facts.now_us - top.at_us > facts.instrument.quote_age_max_us:
        return f"{lp}'s price is {(facts.now_us - top.at_us) // 1000} ms old."
    price, size = _dealt_side(top, facts.side)
    if price <= 0 or size <= 0:
        return f"{lp} shows nothing on this side."
    return ""


def _ranked(offers: list[_Offer], side: Side) -> list[_Offer]:
    """Best first. Stable: `offers` come first in line first, which breaks ties."""
    if len(offers) < 2:
        return offers
    sign = ONE if side is Side.BUY else -ONE
    return sorted(offers, key=lambda offer: _rank(offer, sign))


def _rank(offer: _Offer, sign: Decimal) -> tuple[bool, Decimal, Decimal]:
    """Full size before short size, short ones by most size first; then by price."""
    is_short = offer.is_short
    return (is_short, -offer.size if is_short else ZERO, offer.price * sign)


def _told(offer: _Offer, ranked: list[_Offer], asked: int, side: Side) -> str:
    """What is said of one provider that can take the part: the first was chosen, and says why."""
    says = _says(offer, side)
    if offer is not ranked[0]:
        return f"{says}, too little for {plain(offer.part)}." if offer.is_short else f"{says}."
    if offer.is_short:
        return f"{says}, the most of {asked}, though less than {plain(offer.part)}."
    if len(ranked) == 1:
        return f"{says}." if asked == 1 else f"{says}, the only one of {asked} that can be dealt with."
    second = ranked[1]
    if second.price == offer.price and not second.is_short:
        return f"{says}, equal to {second.settings.name} and first in line."
    if second.is_short:
        return f"{says}, the best of {len(ranked)} that shows {plain(offer.part)}."
    return f"{says}, the best of {len(ranked)}."


def _says(offer: _Offer, side: Side) -> str:
    verb = "offers" if side is Side.BUY else "bids"
    return f"{offer.settings.name} {verb} {plain(offer.price)} for {plain(offer.size)} lots"


def _candidate(facts: RoutingFacts, offer: _Offer, reason: str) -> LpCandidate:
    top = offer.top
    return LpCandidate(
        lp=offer.settings.name,
        price=offer.price if top else None,
        size=offer.size if top else None,
        quote_id=top.quote_id if top else "",
        age_us=facts.now_us - top.at_us if top else None,
        eligible=not offer.fault,
        reason=reason,
    )


def _nobody(facts: RoutingFacts, faulty: list[_Offer], part_for: PartFor) -> Choice:
    """No provider can take a part: it is too small for every one that trades the symbol, or none is to be had."""
    symbol = facts.instrument.symbol
    traders = [offer for offer in faulty if symbol in offer.settings.instruments]
    parts = [offer.part for offer in traders if offer.part]
    faults = tuple(offer.fault for offer in faulty)
    candidates = tuple(_candidate(facts, offer, offer.fault) for offer in faulty)
    if traders and not parts:
        return Choice(lp="", part=ZERO, candidates=candidates, reasons=faults)
    part = parts[0] if parts else part_for(_own_terms(facts))
    nobody = f"No provider can take {plain(part)} lots of {symbol} now."
    return Choice(lp="", part=part, candidates=candidates, reasons=(*faults, nobody))


def _own_terms(facts: RoutingFacts) -> LpInstrument:
    """The symbol's own step, where no provider trades it."""
    step = facts.instrument.volume_step
    return LpInstrument(lp_symbol=facts.instrument.symbol, volume_min=step, volume_step=step)
