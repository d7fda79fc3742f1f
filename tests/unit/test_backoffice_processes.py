"""Whose word the overview shows in a process's row, now that the engine's place may be another's."""

from apps.backoffice.queries import _said

OWNER, ENGINE, STANDBY = (
    {"pid": "200", "state": "up"},
    {"pid": "100", "state": "standby"},
    {"pid": "200", "state": "up"},
)


def test_the_owner_in_its_own_place_speaks_for_itself() -> None:
    assert _said("engine", 200, {"engine": OWNER}) == OWNER


def test_an_engine_that_stands_by_has_its_own_word_while_another_is_the_owner() -> None:
    health = {"engine": OWNER, "engine-engine": ENGINE, "engine-standby": STANDBY}
    assert _said("engine", 100, health) == ENGINE
    assert _said("engine-standby", 200, health) == STANDBY


def test_an_old_word_of_standing_by_does_not_hide_the_owners() -> None:
    assert _said("engine", 200, {"engine": OWNER, "engine-engine": ENGINE}) == OWNER


def test_without_a_supervisor_the_owner_is_shown() -> None:
    assert _said("engine", None, {"engine": OWNER, "engine-engine": ENGINE}) == OWNER


def test_nobody_has_spoken_yet() -> None:
    assert _said("engine", 100, {}) == {}
