"""A close follows its opening: every sequence of partial closes ends with exactly nothing at the provider and the house."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from routing.close import RULE_NAME, close_decision, close_split
from routing.providers import next_provider
from tests.support.builders import NOW_US, SECOND_US, eurusd, facts, lots, lp_settings, lp_top, position
from trading.configuration import LpSettings
from trading.numbers import ZERO
from trading.orders import Book, Side
from trading.positions import Position
from trading.quotes import LpTop

STEP = Decimal("0.01")


def after_close(before: Position, volume_a: Decimal, volume_b: Decimal) -> Position:
    return replace(before, volume=before.volume - volume_a - volume_b, volume_a=before.volume_a - volume_a)


@pytest.mark.parametrize(
    ("opened", "opened_a", "closes"),
    [
        # Each row: closed volume, the provider's part, the house's part.
        ("1.00", "0.60", [("1.00", "0.60", "0.40")]),
        ("1.00", "0.60", [("0.50", "0.30", "0.20"), ("0.50", "0.30", "0.20")]),
        # 0.006 -> 0.01, 0.012 -> 0.01, 0.018 -> 0.02: the rounding is of the sum, so it never adds up.
        (
            "1.00",
            "0.60",
            [("0.01", "0.01", "0"), ("0.01", "0", "0.01"), ("0.01", "0.01", "0"), ("0.97", "0.58", "0.39")],
        ),
        ("0.03", "0.02", [("0.01", "0.01", "0"), ("0.01", "0", "0.01"), ("0.01", "0.01", "0")]),
        ("1.00", "1.00", [("0.37", "0.37", "0"), ("0.63", "0.63", "0")]),
        ("1.00", "0.00", [("0.37", "0", "0.37"), ("0.63", "0", "0.63")]),
    ],
)
def test_partial_closes_share_what_was_opened(opened: str, opened_a: str, closes: list[tuple[str, str, str]]) -> None:
    held = position(opened, opened_a)
    for volume, part_a, part_b in closes:
        parts = close_split(held, lots(volume), STEP, locked_a=ZERO)
        assert parts == (lots(part_a), lots(part_b))
        held = after_close(held, *parts)
    assert (held.volume, held.volume_a) == (ZERO, ZERO)


def test_a_close_in_flight_counts_as_done() -> None:
    held = position("0.03", "0.02")
    first = close_split(held, lots("0.01"), STEP, locked_a=ZERO)
    assert first == (lots("0.01"), ZERO)
    pending = replace(held, locked=lots("0.01"))
    assert close_split(pending, lots("0.02"), STEP, locked_a=first[0]) == (lots("0.01"), lots("0.01"))


def test_closes_that_were_rejected_out_of_turn_never_ask_the_provider_for_less_than_nothing() -> None:
    held = position("1.00", "0.40")
    legs: list[Decimal] = []
    for _ in range(4):
        parts = close_split(held, STEP, STEP, locked_a=sum(legs, ZERO))
        legs.append(parts[0])
        held = replace(held, locked=held.locked + STEP)
    assert legs == [ZERO, lots("0.01"), ZERO, lots("0.01")]
    # The two without a part are rejected, the other two filled: the provider is now ahead of its share.
    held = replace(held, volume=lots("0.98"), volume_a=lots("0.38"), locked=ZERO)
    assert close_split(held, STEP, STEP, locked_a=ZERO) == (ZERO, STEP)
    assert close_split(held, held.volume, STEP, locked_a=ZERO) == (lots("0.38"), lots("0.60"))


def test_a_part_that_an_odd_fill_left_off_the_step_is_closed_to_the_last_bit() -> None:
    held = position("1.00", "0.05")
    assert close_split(held, lots("0.90"), Decimal("0.10"), locked_a=ZERO) == (ZERO, lots("0.90"))
    assert close_split(held, lots("1.00"), Decimal("0.10"), locked_a=ZERO) == (lots("0.05"), lots("0.95"))
    nearly = position("1.00", "0.26")
    assert close_split(nearly, lots("0.97"), Decimal("0.10"), locked_a=ZERO)[0] == lots("0.26")


def test_more_than_what_is_free_is_our_mistake() -> None:
    pending = replace(position("1.00", "0.60"), locked=lots("0.50"))
    with pytest.raises(AssertionError):
        close_split(pending, lots("0.51"), STEP, locked_a=lots("0.30"))


@st.composite
def openings(draw: st.DrawFn) -> tuple[Position, Decimal]:
    """A position whose sizes are on the provider's step, as openings leave them."""
    step = draw(st.sampled_from([Decimal("0.01"), Decimal("0.001"), Decimal("0.1"), Decimal("0.5")]))
    steps = draw(st.integers(min_value=1, max_value=300))
    steps_a = draw(st.integers(min_value=0, max_value=steps))
    return position(str(step * steps), str(step * steps_a)), step


@given(opening=openings(), data=st.data())
def test_any_partial_closes_end_flat_in_both_books(opening: tuple[Position, Decimal], data: st.DataObject) -> None:
    held, step = opening
    share = held.volume_a_opened / held.volume_opened
    while held.volume:
        volume = step * data.draw(st.integers(min_value=1, max_value=int(held.volume / step)))
        volume_a, volume_b = close_split(held, volume, step, locked_a=ZERO)
        assert volume_a + volume_b == volume
        assert volume_a >= 0
        assert volume_b >= 0
        assert volume_a % step == 0
        held = after_close(held, volume_a, volume_b)
        assert 0 <= held.volume_a <= held.volume, "no book is ever closed beyond what it holds"
        proportional = share * (held.volume_opened - held.volume)
        assert abs(held.volume_a_opened - held.volume_a - proportional) <= step
    assert (held.volume_a, held.volume_b) == (ZERO, ZERO)


@given(opening=openings(), data=st.data())
def test_closes_in_flight_that_are_answered_in_any_order_end_flat(
    opening: tuple[Position, Decimal], data: st.DataObject
) -> None:
    """Closes are asked, filled and rejected in any order; what is rejected is free again."""
    held, step = opening
    pending: list[tuple[Decimal, Decimal]] = []
    for _ in range(12):
        free = held.volume - held.locked
        if free and data.draw(st.booleans()):
            volume = step * data.draw(st.integers(min_value=1, max_value=int(free / step)))
            parts = close_split(held, volume, step, locked_a=sum((a for a, _ in pending), ZERO))
            assert sum(parts) == volume
            pending.append(parts)
            held = replace(held, locked=held.locked + volume)
        elif pending:
            parts = pending.pop(data.draw(st.integers(min_value=0, max_value=len(pending) - 1)))
            held = replace(held, locked=held.locked - sum(parts))
            if data.draw(st.booleans()):
                held = after_close(held, *parts)
    locked_a = sum((a for a, _ in pending), ZERO)
    if held.volume - held.locked:
        pending.append(close_split(held, held.volume - held.locked, step, locked_a=locked_a))
    for parts in pending:
        held = after_close(held, *parts)
        assert 0 <= held.volume_a <= held.volume
    assert (held.volume_a, held.volume_b) == (ZERO, ZERO)


@given(
    finer=st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=30),
    steps=st.integers(min_value=1, max_value=10),
    data=st.data(),
)
def test_closes_finer_than_the_providers_step_still_end_flat(finer: list[int], steps: int, data: st.DataObject) -> None:
    step, tick = Decimal("0.10"), Decimal("0.01")
    opened = step * steps
    held = position(str(opened), str(step * data.draw(st.integers(min_value=0, max_value=steps))))
    for ticks in [*finer, 10_000]:
        volume = min(tick * ticks, held.volume)
        if not volume:
            break
        parts = close_split(held, volume, step, locked_a=ZERO)
        assert sum(parts) == volume
        assert min(parts) >= 0
        held = after_close(held, *parts)
        assert 0 <= held.volume_a <= held.volume
    assert (held.volume, held.volume_a) == (ZERO, ZERO)


# --- the decision ---


def test_the_decision_of_a_close_reads_aloud() -> None:
    asked = facts("0.50", side=Side.SELL)
    decision = close_decision(asked, position("1.50", "0.90"), policy_version=17, locked_a=ZERO)
    assert (decision.rule_name, decision.rule_id, decision.policy_version) == (RULE_NAME, 0, 17)
    assert (decision.wanted, decision.book, decision.lp) == (Book.C, Book.C, "YOFX1")
    assert (decision.volume_a, decision.volume_b, decision.a_share) == (lots("0.30"), lots("0.20"), lots("0.6"))
    assert decision.reasons == (
        "Position 7 was opened 0.90 at YOFX1 and 0.60 with the house: its close follows.",
        "Of 0.50 lots, 0.30 close at YOFX1, 0.20 with the house.",
        "YOFX1 bids 1.08510 for 5.00 lots.",
    )
    (rule,) = decision.rules
    assert (rule.matched, rule.conditions) == (True, ())


@pytest.mark.parametrize(
    ("opened_a", "book", "lp", "reasons"),
    [
        (
            "0.00",
            Book.B,
            "",
            ("Position 7 was opened with the house: its close follows.", "All 0.40 lots close with the house."),
        ),
        (
            "1.00",
            Book.A,
            "YOFX1",
            ("Position 7 was opened at YOFX1: its close follows.", "All 0.40 lots close at YOFX1."),
        ),
    ],
)
def test_a_close_goes_where_the_position_stands(opened_a: str, book: Book, lp: str, reasons: tuple[str, ...]) -> None:
    asked = facts("0.40", side=Side.SELL)
    decision = close_decision(asked, position("1.00", opened_a), policy_version=1, locked_a=ZERO)
    assert (decision.wanted, decision.book, decision.lp, decision.reasons[:2]) == (book, book, lp, reasons)
    assert len(decision.candidates) == (1 if lp else 0)
    assert not decision.lacks_provider


def test_a_better_price_elsewhere_does_not_move_a_close() -> None:
    quote = eurusd("1.08510", "1.08512", tops=(lp_top("YOFX1", bid="1.08500"), lp_top("PRIMEXM")))
    asked = facts("1.00", side=Side.SELL, quote=quote)
    decision = close_decision(asked, position("1.00", "1.00"), policy_version=1, locked_a=ZERO)
    assert decision.lp == "YOFX1"
    assert [c.lp for c in decision.candidates] == ["YOFX1"]
    assert next_provider(asked, decision, ["YOFX1"]) is None


@pytest.mark.parametrize(
    ("providers", "tops", "eligible", "reason"),
    [
        ({"YOFX1": lp_settings(enabled=False)}, (lp_top(),), True, "YOFX1 bids 1.08510 for 5.00 lots."),
        ({"YOFX1": lp_settings()}, (), False, "YOFX1 has no price."),
        (
            {"YOFX1": lp_settings()},
            (lp_top(at_us=NOW_US - 4 * SECOND_US),),
            False,
            "YOFX1's price is 4000 ms old.",
        ),
        ({}, (lp_top(),), False, "YOFX1 is no longer configured for EURUSD."),
        (
            {"YOFX1": lp_settings(symbols=["GBPUSD"])},
            (lp_top(),),
            False,
            "YOFX1 is no longer configured for EURUSD.",
        ),
    ],
)
def test_the_provider_of_a_close_stays_whatever_its_standing_and_the_record_says_how_it_stands(
    providers: dict[str, LpSettings], tops: tuple[LpTop, ...], eligible: bool, reason: str
) -> None:
    asked = facts("1.00", side=Side.SELL, lps=providers, quote=eurusd("1.08510", "1.08512", tops=tops))
    decision = close_decision(asked, position("1.00", "1.00"), policy_version=1, locked_a=ZERO)
    (candidate,) = decision.candidates
    assert (decision.lp, candidate.lp, candidate.eligible, candidate.reason) == ("YOFX1", "YOFX1", eligible, reason)


def test_the_providers_step_decides_the_parts() -> None:
    held = position("1.00", "0.50")
    asked = facts("0.30", side=Side.SELL, lps={"YOFX1": lp_settings(volume_step="0.10")})
    decision = close_decision(asked, held, policy_version=1, locked_a=ZERO)
    assert (decision.volume_a, decision.volume_b) == (lots("0.20"), lots("0.10"))
