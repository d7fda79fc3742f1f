"""The last check before an order leaves: told what the database says, it lets through what fits and nothing else."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lp_adapters.conservation import ORDERS_REMEMBERED_MAX, Facts, Sent, Sibling, judged, outstanding, violation
from lp_adapters.dispatch import not_sent
from lp_adapters.legs import Leg, Plan
from trading.liquidity import ExecutionReport, ReportKind
from trading.orders import Side

LOT = Decimal(100_000)


def lots(text: str) -> Decimal:
    return Decimal(text)


def leg(
    number: int = 1, volume: str = "1", *, quantity: Decimal | None = None, closes: bool = False, epoch: int = 1
) -> Leg:
    return Leg(
        id=number,
        order_id=7,
        cl_ord_id=f"T0-{number}",
        symbol="EURUSD",
        lp_symbol="EUR/USD",
        side=Side.BUY,
        volume=lots(volume),
        quantity=lots(volume) * LOT if quantity is None else quantity,
        closes=closes,
        expires_us=1,
        lp_order_id="",
        dispatch_state="new",
        dispatched_us=0,
        epoch=epoch,
    )


def row(one: Leg, *, lp: str = "YOFX1", state: str = "new", is_live: bool = True, filled: str = "0") -> Sibling:
    return Sibling(
        cl_ord_id=one.cl_ord_id,
        lp=lp,
        volume=one.volume,
        quantity=one.quantity,
        filled_volume=lots(filled),
        is_live=is_live,
        dispatch_state=state,
    )


def said(
    kind: ReportKind, last: str = "0", *, exec_id: str = "E1", cum: str = "0", status: str = ""
) -> ExecutionReport:
    return ExecutionReport(
        lp="YOFX1",
        kind=kind,
        cl_ord_id="",
        exec_id=exec_id,
        trade_date="20261127",
        last_qty=lots(last) * LOT,
        cum_qty=lots(cum) * LOT,
        ord_status=status,
    )


def facts(asked: str, *rows: Sibling, heard: dict[str, Sequence[ExecutionReport]] | None = None) -> Facts:
    return Facts(
        epoch=1,
        halted="",
        stopped="",
        volumes={7: lots(asked)},
        siblings={7: rows},
        said=heard or {},
        sizes={"EURUSD": LOT},
    )


def why(one: Leg, known: Facts, sent: Sent | None = None) -> str:
    return violation(one, known, lp="YOFX1", sent=sent or Sent())


# --------------------------------------------------------------------------------------------------------------- one leg


@pytest.mark.parametrize(("asked", "volume", "fits"), [("1", "1", True), ("1", "0.99", True), ("1", "1.01", False)])
def test_a_leg_asks_for_no_more_than_its_order(asked: str, volume: str, fits: bool) -> None:
    assert (why(leg(1, volume), facts(asked, row(leg(1, volume)))) == "") is fits


@pytest.mark.parametrize("quantity", ["100001", "1000000", "99999", "0", "-100000"])
def test_units_and_lots_say_the_same(quantity: str) -> None:
    odd = leg(1, "1", quantity=Decimal(quantity))
    assert why(odd, facts("1", row(odd)))


def test_without_a_published_size_the_siblings_tell_the_proportion() -> None:
    odd = leg(2, "0.5", quantity=Decimal(500_000))
    alone = replace(facts("1", row(odd)), sizes={})
    assert why(odd, alone) == ""
    beside = replace(facts("1", row(odd), row(leg(1, "0.5"), state="sent")), sizes={})
    assert "are not" in why(odd, beside)


def test_an_order_that_is_not_there_has_no_legs() -> None:
    assert why(leg(), replace(facts("1", row(leg())), volumes={})) == "there is no order 7"


def test_legs_at_other_providers_count_while_they_live_and_by_their_fills_when_they_ended() -> None:
    other, mine = leg(1, "0.6"), leg(2, "0.6")
    assert "stands for 1.2 at" in why(mine, facts("1", row(other, lp="PRIMEXM", state="sent"), row(mine)))
    ended = row(other, lp="PRIMEXM", state="sent", is_live=False, filled="0.4")
    assert why(mine, facts("1", ended, row(mine))) == ""
    more = row(other, lp="PRIMEXM", state="sent", is_live=False, filled="0.5")
    assert "stands for 1.1 at" in why(mine, facts("1", more, row(mine)))


def test_a_leg_that_the_engine_took_for_ended_counts_until_the_provider_says_so() -> None:
    first, second = leg(1), leg(2)
    rows = (row(first, state="sent", is_live=False), row(second))
    assert "would stand for 2 at" in why(second, facts("1", *rows))
    assert why(second, facts("1", *rows, heard={"T0-1": [said(ReportKind.REJECTED)]})) == ""
    assert why(second, facts("1", *rows, heard={"T0-1": [said(ReportKind.ACKNOWLEDGED)]}))


def test_a_leg_whose_row_vanished_counts_as_long_as_this_process_remembers() -> None:
    sent = Sent()
    sent.note(leg(1))
    assert "would stand for 2 at" in why(leg(2), facts("1", row(leg(2))), sent)


def test_nothing_is_sent_twice() -> None:
    sent = Sent()
    sent.note(leg(1))
    assert why(leg(1), facts("1", row(leg(1))), sent) == "it was sent before"
    heard: dict[str, Sequence[ExecutionReport]] = {"T0-1": [said(ReportKind.ACKNOWLEDGED)]}
    assert why(leg(1), facts("1", row(leg(1)), heard=heard)) == "it was sent before"


# ----------------------------------------------------------------------------------------------------------- outstanding


@pytest.mark.parametrize(
    ("reports", "left"),
    [
        ([], "1"),
        ([said(ReportKind.ACKNOWLEDGED)], "1"),
        ([said(ReportKind.FILL, "0.4")], "1"),
        ([said(ReportKind.FILL, "0.4"), said(ReportKind.CANCELED)], "0.4"),
        ([said(ReportKind.CANCELED), said(ReportKind.FILL, "0.4")], "0"),
        ([said(ReportKind.CANCELED, cum="0.4"), said(ReportKind.FILL, "0.4")], "0.4"),
        ([said(ReportKind.CANCELED, cum="0.4")], "0.4"),
        ([said(ReportKind.CANCELED, cum="1.4")], "1"),
        ([said(ReportKind.FILL, "0.4"), said(ReportKind.FILL, "0.4"), said(ReportKind.CANCELED)], "0.4"),
        ([said(ReportKind.FILL, "0.4"), said(ReportKind.FILL, "0.4", exec_id="E2"), said(ReportKind.CANCELED)], "0.8"),
        ([said(ReportKind.FILL, "1.5"), said(ReportKind.CANCELED)], "1"),
        ([said(ReportKind.REJECTED)], "0"),
        ([said(ReportKind.NOT_SENT)], "0"),
        ([said(ReportKind.UNRESOLVED)], "1"),
        ([said(ReportKind.OTHER)], "1"),
        ([said(ReportKind.STATUS, status="0")], "1"),
        ([said(ReportKind.STATUS, status="4")], "0"),
        ([said(ReportKind.STATUS, status="4", cum="0.4")], "0.4"),
        ([said(ReportKind.FILL, "0.4"), said(ReportKind.STATUS, status="4", cum="0.3")], "1"),
        ([said(ReportKind.FILL, "0.4"), said(ReportKind.STATUS, status="4", cum="0.4")], "0.4"),
    ],
)
def test_what_a_provider_holds_is_what_it_said(reports: list[ExecutionReport], left: str) -> None:
    assert outstanding(LOT, reports) == lots(left) * LOT


# ------------------------------------------------------------------------------------------------------------ many legs


def judge(known: Facts, *legs: Leg) -> Plan:
    def giving_up(one: Leg, text: str) -> tuple[Leg, ExecutionReport]:
        return one, not_sent("YOFX1", one, text, 1)

    return judged(Plan(send=legs), known, lp="YOFX1", sent=Sent(), giving_up=giving_up)


def test_one_leg_that_does_not_fit_stops_everything() -> None:
    good, bad = leg(1, "0.1"), replace(leg(2, "9"), order_id=8)
    known = replace(
        facts("1", row(good)), volumes={7: lots("1"), 8: lots("1")}, siblings={7: (row(good),), 8: (row(bad),)}
    )
    plan = judge(known, good, bad)
    assert plan.send == ()
    assert [(one, report.kind) for one, report in plan.give_up] == [(bad, ReportKind.NOT_SENT)]
    assert plan.give_up[0][1].text.startswith("conservation: ")
    assert plan.stop.startswith("T0-2: ")


def test_legs_taken_together_are_counted_together() -> None:
    one, two = leg(1, "0.6"), leg(2, "0.6")
    hidden = facts("1.2", row(one), row(two))
    assert judge(hidden, one, two).send == (one, two)
    assert judge(replace(hidden, volumes={7: lots("1.1")}), one, two).stop


def test_a_halted_shard_sends_nothing_and_gives_nothing_up() -> None:
    assert judge(replace(facts("1", row(leg())), halted="a law was broken"), leg(), leg(2, closes=True)) == Plan()


@pytest.mark.parametrize(("epoch", "is_sent"), [(0, True), (1, True), (2, False)])
def test_a_leg_of_an_epoch_that_nobody_owns_stays_where_it_is(epoch: int, is_sent: bool) -> None:
    one = leg(epoch=epoch)
    assert judge(facts("1", row(one)), one) == (Plan(send=(one,)) if is_sent else Plan())


def test_a_stopped_provider_gives_openings_up_and_keeps_closes_waiting() -> None:
    opening, closing = leg(1, "0.5"), leg(2, "0.5", closes=True)
    plan = judge(replace(facts("1"), stopped="it was odd"), opening, closing)
    assert (plan.send, [one for one, _ in plan.give_up], plan.stop) == ((), [opening], "")


def test_a_leg_of_the_houses_own_is_checked_for_itself_and_sent_once() -> None:
    house = replace(leg(5), order_id=0)
    known = replace(facts("1"), volumes={}, siblings={})
    sent = Sent()
    assert why(house, known, sent) == ""
    sent.note(house)
    assert why(house, known, sent) == "it was sent before"
    assert why(replace(leg(6), order_id=0), known, sent) == ""
    assert why(replace(leg(7, quantity=Decimal(1)), order_id=0), known, sent)


def test_memory_is_bounded() -> None:
    sent = Sent()
    for number in range(1, ORDERS_REMEMBERED_MAX + 2):
        sent.note(replace(leg(1), order_id=number))
    assert (sent.with_(replace(leg(1), order_id=1)), set(sent.with_(replace(leg(1), order_id=2)))) == ({}, {"T0-1"})


# ------------------------------------------------------------------------------------------------------------ properties

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["offer", "fill", "cancel", "reject", "engine ends", "row vanishes", "again"]),
        st.integers(1, 150),
        st.integers(0, 9),
    ),
    max_size=40,
)


class Market:
    """A router that offers anything, an engine that ends anything, and a provider that keeps its own book."""

    def __init__(self) -> None:
        self.sent = Sent()
        self.rows: dict[str, Sibling] = {}
        self.heard: dict[str, list[ExecutionReport]] = {}
        self.open: dict[str, Decimal] = {}
        """At the provider: units still open."""
        self.filled: dict[str, Decimal] = {}
        self.times: dict[str, int] = {}
        self.number = 0

    def offer(self, volume: int) -> bool:
        self.number += 1
        return self.send(leg(self.number, str(Decimal(volume) / 100)))

    def send(self, one: Leg) -> bool:
        """What the gateway does with a new leg; True when it was sent."""
        self.rows[one.cl_ord_id] = row(one)
        if why(one, facts("1", *self.rows.values(), heard=dict(self.heard)), self.sent):
            self.rows[one.cl_ord_id] = row(one, state="not_sent", is_live=False)
            return False
        self.sent.note(one)
        self.rows[one.cl_ord_id] = row(one, state="sent")
        self.open[one.cl_ord_id] = one.quantity
        self.times[one.cl_ord_id] = self.times.get(one.cl_ord_id, 0) + 1
        return True

    def hear(self, name: str, kind: ReportKind, units: Decimal = Decimal(0)) -> None:
        reports = self.heard.setdefault(name, [])
        reports.append(said(kind, str(units / LOT), exec_id=f"{name}/{len(reports)}"))
        if kind is ReportKind.FILL:
            self.open[name] -= units
            self.filled[name] = self.filled.get(name, Decimal(0)) + units
        else:
            self.open[name] = Decimal(0)

    def live(self, pick: int) -> str | None:
        names = sorted(name for name, units in self.open.items() if units)
        return names[pick % len(names)] if names else None

    @property
    def stands_for(self) -> Decimal:
        return sum(self.open.values(), Decimal(0)) + sum(self.filled.values(), Decimal(0))


@given(STEPS)
def test_whatever_router_and_engine_do_the_provider_never_holds_more_than_was_asked_for(
    steps: list[tuple[str, int, int]],
) -> None:
    market = Market()
    for what, volume, pick in steps:
        name = market.live(pick)
        if what == "offer":
            market.offer(volume)
        elif what == "again" and market.number:
            market.send(leg(1 + pick % market.number, "0.01"))
        elif name is None:
            continue
        elif what == "fill":
            market.hear(name, ReportKind.FILL, min(market.open[name], LOT * volume / 100))
        elif what in ("cancel", "reject"):
            market.hear(name, ReportKind.CANCELED if what == "cancel" else ReportKind.REJECTED)
        elif what == "row vanishes":
            market.rows.pop(name, None)
        elif name in market.rows:
            market.rows[name] = replace(market.rows[name], is_live=False)
        assert market.stands_for <= LOT
        assert max(market.times.values(), default=0) <= 1


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100)), max_size=20))
def test_a_router_that_keeps_to_the_order_is_never_refused(tries: list[tuple[int, int]]) -> None:
    """Each leg asks for a part of what is left, fills some of it and is cancelled; the next one follows."""
    market, left = Market(), 100
    for wanted, filled_percent in tries:
        volume = min(wanted, left)
        if not volume:
            break
        assert market.offer(volume)
        name = f"T0-{market.number}"
        filled = volume * filled_percent // 100
        if filled:
            market.hear(name, ReportKind.FILL, LOT * filled / 100)
        market.hear(name, ReportKind.CANCELED)
        market.rows[name] = replace(market.rows[name], is_live=False, filled_volume=Decimal(filled) / 100)
        left -= filled
