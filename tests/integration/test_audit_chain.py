"""The audit entries' chain on a real PostgreSQL: whoever changes, takes out or adds one as a superuser is found, and where."""

import importlib
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from apps.operations.chain import KEY, NOTHING, PUBLIC_KEY, SEALS, Head, SealError, Seals, follow
from apps.operations.models import AuditEntry
from apps.operations.services import audit

pytestmark = pytest.mark.django_db

Connection = psycopg.Connection[Any]
AT = "2026-01-05T12:00:00+00:00"


def record(number: int, **detail: Any) -> None:
    audit(
        actor=f"staff:{number}", action="settle_case", request_id=f"r{number}", address="127.0.0.1",
        detail={"amount": "12.50", "ü": [1, 2.0, None], **detail},
    )  # fmt: skip


@pytest.fixture
def stored() -> Connection:
    """A superuser's connection, past the trigger that keeps entries for ever. Eight entries are there."""
    for number in range(1, 9):
        record(number)
    connection.ensure_connection()
    opened: Connection = connection.connection
    opened.execute("ALTER TABLE operations_auditentry DISABLE TRIGGER append_only")
    return opened


@pytest.fixture
def seals(tmp_path: Path) -> Seals:
    return Seals(tmp_path / "audit")


def verified(folder: Path, **options: Any) -> str:
    """What the command says, or the text that it fails with."""
    said = StringIO()
    try:
        call_command("verify_audit", folder=folder, stdout=said, **options)
    except CommandError as error:
        return str(error)
    return said.getvalue()


# --- the chain ---


def test_every_entry_follows_from_the_one_before_whoever_stores_it(stored: Connection) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(actor="bulk", action=str(n), request_id="", detail={}, number=77, hash="made up") for n in range(3)
    )
    stored.execute(
        "INSERT INTO operations_auditentry (at, actor, action, request_id, address, detail, number, hash)"
        " VALUES (now(), 'by hand', 'x', '', '', '{\"b\": 1.50, \"a\": 2e3}', 5, 'made up')"
    )
    head, found = follow(stored)
    assert found == []
    assert head.number == 12
    assert list(AuditEntry.objects.order_by("id").values_list("number", flat=True)) == list(range(1, 13))
    assert follow(stored, head) == (head, [])


def test_entries_from_before_there_was_a_chain_are_its_beginning(stored: Connection) -> None:
    migration: Any = importlib.import_module("apps.operations.migrations.0008_audit_chain")
    stored.execute("DROP TRIGGER link ON operations_auditentry")
    stored.execute("DROP FUNCTION link_audit_entry; DROP FUNCTION audit_entry_hash")
    stored.execute("ALTER TABLE operations_auditentry DROP COLUMN number, DROP COLUMN hash")
    stored.execute(migration.LINK)
    record(9)
    head, found = follow(stored)
    assert (head.number, found) == (9, [])
    with pytest.raises(psycopg.errors.InsufficientPrivilege), stored.transaction():
        stored.execute("DELETE FROM operations_auditentry")


def test_no_entry_is_no_break(stored: Connection) -> None:
    stored.execute("TRUNCATE operations_auditentry")
    assert follow(stored) == (NOTHING, [])


def test_what_was_not_committed_leaves_no_gap(stored: Connection) -> None:
    with transaction.atomic():
        record(9)
        transaction.set_rollback(True)
    record(10)
    assert follow(stored) == (Head(9, follow(stored)[0].hash), [])


@pytest.mark.django_db(transaction=True)
def test_entries_that_are_stored_at_the_same_time_are_one_chain() -> None:
    """Each waits for the transaction of the one before, so the number tells what was there."""
    start = threading.Barrier(4)

    def clerk() -> None:
        try:
            start.wait(30)
            for number in range(5):
                with transaction.atomic():
                    record(100 + number)
        finally:
            connections.close_all()

    clerks = [threading.Thread(target=clerk) for _ in range(4)]
    for one in clerks:
        one.start()
    for one in clerks:
        one.join(60)
    connection.ensure_connection()
    head, found = follow(connection.connection)
    assert (head.number, found) == (20, [])


CHANGES = {
    "actor": "SET actor = 'staff:3x' WHERE number = 3",
    "action": "SET action = 'settle_casf' WHERE number = 3",
    "detail": "SET detail = jsonb_set(detail, '{amount}', '\"12.51\"') WHERE number = 3",
    "number of a detail": "SET detail = jsonb_set(detail, '{ü}', '[1, 2, null]') WHERE number = 3",
    "request": "SET request_id = 'r33' WHERE number = 3",
    "address": "SET address = '127.0.0.2' WHERE number = 3",
    "time": "SET at = at + interval '1 microsecond' WHERE number = 3",
    "hash": "SET hash = translate(hash, '0123456789', '1234567890') WHERE number = 3",
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_one_changed_byte_is_found_where_it_is(stored: Connection, change: str) -> None:
    stored.execute(f"UPDATE operations_auditentry {CHANGES[change]}".encode())
    assert follow(stored)[1][0] == "I13: audit entry 3 is not what was recorded after entry 2"


def test_a_changed_entry_with_a_hash_that_fits_is_found_at_the_next(stored: Connection) -> None:
    stored.execute("UPDATE operations_auditentry SET actor = 'other' WHERE number = 3")
    stored.execute(
        "UPDATE operations_auditentry e SET hash = audit_entry_hash(e, b.hash) FROM operations_auditentry b"
        " WHERE e.number = 3 AND b.number = 2"
    )
    assert follow(stored)[1] == ["I13: audit entry 4 is not what was recorded after entry 3"]


def test_an_entry_that_was_taken_out_is_found(stored: Connection) -> None:
    stored.execute("DELETE FROM operations_auditentry WHERE number = 4")
    assert follow(stored)[1] == ["I13: audit entry 4 is missing, the next is 5"]


def test_the_first_entry_is_missed_too(stored: Connection) -> None:
    stored.execute("DELETE FROM operations_auditentry WHERE number = 1")
    assert follow(stored)[1] == ["I13: audit entry 1 is missing, the next is 2"]


def test_numbers_that_were_closed_up_after_a_deletion_do_not_help(stored: Connection) -> None:
    stored.execute("DELETE FROM operations_auditentry WHERE number = 4")
    for number in range(5, 9):
        stored.execute("UPDATE operations_auditentry SET number = %s WHERE number = %s", (number - 1, number))
    assert follow(stored)[1][0] == "I13: audit entry 4 is not what was recorded after entry 3"


def test_two_entries_that_changed_places_are_found_at_the_first(stored: Connection) -> None:
    for old, new in ((5, 0), (6, 5), (0, 6)):
        stored.execute("UPDATE operations_auditentry SET number = %s WHERE number = %s", (new, old))
    assert follow(stored)[1][0] == "I13: audit entry 5 is not what was recorded after entry 4"


def test_whoever_followed_the_chain_before_sees_that_its_end_is_gone_or_other(stored: Connection) -> None:
    head, _ = follow(stored)
    stored.execute("DELETE FROM operations_auditentry WHERE number > 6")
    assert follow(stored) == (Head(6, follow(stored)[0].hash), []), "the chain alone cannot know"
    assert follow(stored, head)[1] == ["I13: audit entry 8 was there and is gone"]
    record(107)
    record(108)
    assert follow(stored, head)[1] == ["I13: audit entry 8 was there and is another one"]


def test_an_entry_cannot_be_changed_in_the_ordinary_way(stored: Connection) -> None:
    stored.execute("ALTER TABLE operations_auditentry ENABLE TRIGGER append_only")
    for statement in ("UPDATE operations_auditentry SET actor = 'x'", "DELETE FROM operations_auditentry"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), stored.transaction():
            stored.execute(statement.encode())


# --- the seals ---


def test_a_sealed_end_cannot_be_taken_off(stored: Connection, seals: Seals, tmp_path: Path) -> None:
    head, _ = follow(stored)
    seals.add(head, AT)
    record(9)
    assert seals.contradicted(stored) == seals.all_contradicted(stored) == []
    assert "9 audit entries, none changed or missing, sealed up to entry 8 by 1 seals" in verified(tmp_path / "audit")
    stored.execute("DELETE FROM operations_auditentry WHERE number > 7")
    gone = f"I13: audit entry 8, sealed at {AT}, is gone"
    assert seals.contradicted(stored) == [gone]
    assert verified(tmp_path / "audit") == f"{gone}\nwrong: 1"
    record(8)
    assert seals.contradicted(stored) == [f"I13: audit entry 8, sealed at {AT}, is another one now"]


def test_a_trail_that_was_written_anew_contradicts_every_seal(stored: Connection, seals: Seals) -> None:
    for _ in range(2):
        record(0)
        seals.add(follow(stored)[0], AT)
    stored.execute("TRUNCATE operations_auditentry")
    for number in range(12):
        record(number)
    assert follow(stored)[1] == []
    assert seals.all_contradicted(stored) == [
        f"I13: audit entry {number}, sealed at {AT}, is another one now" for number in (9, 10)
    ]


def test_a_seal_of_somebody_else_is_none(stored: Connection, seals: Seals, tmp_path: Path) -> None:
    head, _ = follow(stored)
    seals.add(head, AT)
    forger = Seals(tmp_path / "elsewhere")
    forger.add(head, AT)
    (tmp_path / "audit" / SEALS).write_bytes((tmp_path / "elsewhere" / SEALS).read_bytes())
    assert seals.contradicted(stored) == [f"I13: audit entry 8, sealed at {AT}, was not signed with this house's key"]
    own = tmp_path / "elsewhere" / PUBLIC_KEY
    assert "sealed up to entry 8" in verified(tmp_path / "audit", key=own)


def test_a_seal_whose_text_was_changed_is_none(stored: Connection, seals: Seals, tmp_path: Path) -> None:
    seals.add(follow(stored)[0], AT)
    file = tmp_path / "audit" / SEALS
    file.write_text(file.read_text().replace('"number":8', '"number":7'))
    assert "was not signed with this house's key" in seals.contradicted(stored)[0]
    file.write_text("no seal\n")
    assert seals.contradicted(stored)[0].startswith("I13: the last line of ")
    assert seals.all_contradicted(stored)[0].startswith("I13: line 1 of ")


def test_a_line_that_a_kill_left_unfinished_is_taken_off(stored: Connection, seals: Seals, tmp_path: Path) -> None:
    head, _ = follow(stored)
    first = seals.add(head, AT)
    file = tmp_path / "audit" / SEALS
    whole = file.read_bytes()
    for length in range(1, len(whole)):
        file.write_bytes(whole + whole[:length])
        assert seals.last() == first
        assert list(seals.all()) == [first]
    record(9)
    second = seals.add(follow(stored)[0], AT)
    assert list(seals.all()) == [first, second]
    assert seals.contradicted(stored) == []


def test_the_key_is_its_owners_alone_and_is_not_made_twice(stored: Connection, seals: Seals, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    seals.add(follow(stored)[0], AT)
    assert (folder / KEY).stat().st_mode & 0o777 == 0o600
    kept = (folder / KEY).read_bytes()
    seals.add(follow(stored)[0], AT)
    assert (folder / KEY).read_bytes() == kept
    (folder / KEY).unlink()
    with pytest.raises(SealError, match="is gone"):
        seals.add(follow(stored)[0], AT)
    assert seals.contradicted(stored) == [], "the seals that there are can still be read"


def test_a_house_that_never_sealed_says_so(stored: Connection, seals: Seals, tmp_path: Path) -> None:
    assert seals.contradicted(stored) == []
    assert "8 audit entries, none changed or missing, never sealed" in verified(tmp_path / "audit")
