"""Owners read what they were told, and say that they have read it."""

import httpx

from tests.functional.conftest import ANNA, BEN, House, fresh_id

INSERT = (
    "INSERT INTO notification (event, account, kind, text, payload, at) "
    "VALUES (%s, %s, 'deposit', %s, '{}', '2026-01-05 10:00:00.000001+00') RETURNING id"
)


def tell(house: House, account: int, text: str) -> int:
    [(number,)] = house.sql(INSERT, fresh_id("event"), account, text)
    return int(number)


def test_owners_read_their_own_and_mark_them_as_read(house: House, anna: httpx.Client, ben: httpx.Client) -> None:
    first, second, bens = tell(house, ANNA, "one"), tell(house, ANNA, "two"), tell(house, BEN, "for ben")
    found = anna.get("/v1/notifications", params={"limit": 2}).json()
    assert [row["id"] for row in found["data"]] == [second, first]
    assert found["data"][1] == {
        "id": first,
        "account": ANNA,
        "kind": "deposit",
        "text": "one",
        "at": "2026-01-05T10:00:00.000001Z",
        "read_at": None,
    }
    read = anna.post(f"/v1/notifications/{first}/read")
    assert (read.status_code, read.json()["id"]) == (200, first)
    assert read.json()["read_at"] is not None
    assert anna.post(f"/v1/notifications/{first}/read").json() == read.json()
    unread = anna.get("/v1/notifications", params={"unread": "true", "account": ANNA}).json()["data"]
    assert second in [row["id"] for row in unread]
    assert first not in [row["id"] for row in unread]
    assert anna.post(f"/v1/notifications/{bens}/read").status_code == 404
    assert house.sql("SELECT read_at FROM notification WHERE id = %s", bens) == [(None,)]
    assert [row["id"] for row in ben.get("/v1/notifications").json()["data"]] == [bens]


def test_what_means_nothing_is_refused(anna: httpx.Client) -> None:
    assert anna.get("/v1/notifications", params={"unread": "perhaps"}).status_code == 422
    for nonsense in ("x", "-1", "999999999999", "9" * 30):
        assert anna.post(f"/v1/notifications/{nonsense}/read").status_code == 404
