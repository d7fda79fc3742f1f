"""When an order in doubt is asked about, and when a person is called. Time is a number."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lp_adapters.legs import Leg
from lp_adapters.resolver import (
    FIRST_ASKED_AFTER_S,
    KNOWN_AGAIN_S,
    REPEATED_EVERY_S,
    UNRESOLVED_AFTER_S,
    Resolver,
    next_question_s,
)
from trading.orders import Side


def leg(number: int = 1, state: str = "dispatching") -> Leg:
    return Leg(
        id=number,
        cl_ord_id=f"T0-{number}",
        lp_symbol="EURUSD",
        side=Side.BUY,
        quantity=Decimal(1000),
        closes=False,
        expires_us=0,
        lp_order_id="",
        dispatch_state=state,
        dispatched_us=0,
    )


class Story:
    """One resolver whose seconds pass in steps, as the dispatcher drives it."""

    def __init__(self, *legs: Leg, sent_s: dict[int, float] | None = None) -> None:
        self.resolver = Resolver()
        self.legs = legs
        self.sent_s = sent_s or {}
        self.now_s = 100.0
        self.asked: list[tuple[float, str]] = []
        self.called: list[tuple[float, str]] = []
        self.taken_back: list[tuple[float, str]] = []
        self.resolver.look(legs, self.now_s, self.sent_s)
        self.step()

    def step(self, *, is_up: bool = True) -> None:
        self.resolver.note_answers(self.now_s)
        self.resolver.look(self.legs, self.now_s, self.sent_s)
        for one in self.resolver.due(self.now_s) if is_up else ():
            self.resolver.asking(one, self.now_s)
            self.asked.append((self.now_s - 100, one.cl_ord_id))
        for one in self.resolver.unresolved(self.now_s):
            self.resolver.called(one.cl_ord_id)
            self.called.append((self.now_s - 100, one.cl_ord_id))
        for name in self.resolver.resolved():
            self.resolver.taken_back(name)
            self.taken_back.append((self.now_s - 100, name))

    def until(self, at_s: float, *, every_s: float = 0.5, is_up: bool = True) -> "Story":
        while self.now_s < 100 + at_s:
            self.now_s = min(self.now_s + every_s, 100 + at_s)
            self.step(is_up=is_up)
        return self

    def answer(self, name: str = "T0-1") -> None:
        question = self.resolver.question_about(name)
        assert question is not None
        self.resolver.answered(question)

    @property
    def times(self) -> list[float]:
        return [at_s for at_s, _ in self.asked]


@given(began_s=st.floats(0, 1e9), waited_s=st.floats(0, 1e9))
def test_the_next_question_always_lies_in_the_future_and_never_more_than_a_minute_away(
    began_s: float, waited_s: float
) -> None:
    now_s = began_s + waited_s
    following = next_question_s(began_s, now_s)
    assert now_s < following <= math.nextafter(now_s + REPEATED_EVERY_S, math.inf) + 1e-6


def test_questions_come_at_once_then_ever_more_rarely_then_every_minute() -> None:
    assert Story(leg()).until(300).times == [0, 1, 2, 5, 10, 20, 40, 100, 160, 220, 280]


def test_questions_that_were_slept_through_are_not_caught_up_with() -> None:
    story = Story(leg()).until(3)
    story.until(50, every_s=47)
    assert story.times == [0, 1, 2, 50]
    assert story.until(101).times == [0, 1, 2, 50, 100]


def test_what_this_session_sent_is_in_doubt_after_a_while() -> None:
    assert Story(leg(state="sent"), sent_s={1: 100.0}).until(13).times == [FIRST_ASKED_AFTER_S, 11, 12]


def test_a_new_session_asks_anew_and_an_answer_to_the_old_one_is_no_answer() -> None:
    story = Story(leg()).until(4)
    old = story.resolver.question_about("T0-1")
    assert old is not None
    story.resolver.new_session()
    assert story.resolver.question_about("T0-1") is None
    story.until(7)
    assert story.times == [0, 1, 2, 4.5, 5.5, 6.5]
    story.resolver.answered(old)
    assert story.resolver.is_open("T0-1")


def test_a_known_order_is_asked_about_again_later_and_then_by_the_whole_schedule() -> None:
    story = Story(leg()).until(1)
    story.answer()
    story.until(40)
    assert story.times == [0, 1, 1.5 + KNOWN_AGAIN_S, 2.5 + KNOWN_AGAIN_S, 3.5 + KNOWN_AGAIN_S, 6.5 + KNOWN_AGAIN_S]


def test_an_unknown_order_is_not_asked_about_again() -> None:
    story = Story(leg())
    question = story.resolver.question_about("T0-1")
    assert question is not None
    story.resolver.settled(question)
    story.until(200)
    assert story.times == [0]
    assert story.resolver.next_check_s("T0-1") == math.inf


def test_a_person_is_called_once_after_a_minute_of_silence() -> None:
    assert Story(leg(1), leg(2, "sent")).until(300).called == [
        (UNRESOLVED_AFTER_S, "T0-1"),
        (UNRESOLVED_AFTER_S, "T0-2"),
    ]


@pytest.mark.parametrize("session_every_s", [7, 30])
def test_sessions_that_come_and_go_put_off_no_call(session_every_s: int) -> None:
    story = Story(leg())
    for at_s in range(session_every_s, 70, session_every_s):
        story.until(at_s)
        story.resolver.new_session()
    assert [name for _, name in story.until(70).called] == ["T0-1"]


def test_without_any_session_a_person_is_called_too() -> None:
    story = Story(leg())
    story.resolver.new_session()
    story.until(90, is_up=False)
    assert story.called == [(UNRESOLVED_AFTER_S, "T0-1")]


def test_an_answer_takes_the_call_back_once() -> None:
    story = Story(leg()).until(70)
    story.answer()
    story.until(90)
    assert (story.called, story.taken_back) == ([(60, "T0-1")], [(70.5, "T0-1")])


def test_the_end_of_the_order_takes_the_call_back() -> None:
    story = Story(leg()).until(70)
    story.legs = ()
    assert story.until(71).taken_back == [(70.5, "T0-1")]


def test_a_call_by_an_earlier_process_stands_until_the_provider_speaks() -> None:
    story = Story(leg())
    story.resolver.was_unresolved(["T0-1", "T0-9"])
    story.until(100)
    assert (story.called, story.taken_back) == ([], [(0.5, "T0-9")])
    story.resolver.heard_of("T0-1", story.now_s)
    assert story.until(101).taken_back == [(0.5, "T0-9"), (100.5, "T0-1")]


def test_any_word_about_an_order_begins_its_silence_anew() -> None:
    story = Story(leg()).until(50)
    story.resolver.heard_of("T0-1", story.now_s)
    assert story.until(109).called == []
    assert story.until(111).called == [(110, "T0-1")]


@given(st.lists(st.sampled_from(["wait", "session", "answer", "long"]), max_size=40))
def test_whatever_happens_the_next_question_lies_in_the_future(happenings: list[str]) -> None:
    story = Story(leg())
    for happening in happenings:
        if happening == "session":
            story.resolver.new_session()
        elif happening == "answer" and story.resolver.question_about("T0-1"):
            story.answer()
        story.until(story.now_s - 100 + (70 if happening == "long" else 1.3), every_s=70)
        following = story.resolver.next_check_s("T0-1")
        assert following is not None
        assert story.now_s < following <= story.now_s + REPEATED_EVERY_S
