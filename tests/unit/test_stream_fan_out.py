"""One tick and one event to many clients: right prices for each, and nobody waits for anybody."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from msgspec import Raw

from apps.streaming.client import Client
from apps.streaming.hub import Hub
from apps.streaming.identity import AccountTerms, Identity
from apps.streaming.limits import EVENTS_QUEUED_MAX, SEND_STALLED_US
from apps.streaming.protocol import Channel, Close
from apps.streaming.resume import AccountEvent, Follower
from trading.accounts import ClientClass
from trading.configuration import Config, Group, Markup, Policy
from trading.instruments import Instrument
from trading.quotes import Quote

SECOND = 1_000_000
EURUSD = Instrument(
    symbol="EURUSD",
    description="Euro",
    base="EUR",
    quote="USD",
    digits=5,
    contract_size=Decimal(100000),
    volume_min=Decimal("0.01"),
    volume_max=Decimal(100),
    volume_step=Decimal("0.01"),
    quote_age_max_us=3 * SECOND,
)


def group(name: str, points: int) -> Group:
    return Group(name=name, commission_per_lot=Decimal(0), leverage_max=30, markup=Markup(bid=points, ask=points))


def config(retail_points: int = 2) -> Config:
    groups = [group("retail", retail_points), group("pro", 0)]
    return Config(
        version=1,
        instruments={"EURUSD": EURUSD},
        groups={g.name: g for g in groups},
        lps={},
        policy=Policy(version=1, rules=()),
        currency_digits={"EUR": 2, "USD": 2},
        conversions={},
    )


def quote(seq: int, bid: str, ask: str) -> Quote:
    return Quote(symbol="EURUSD", seq=seq, bid=Decimal(bid), ask=Decimal(ask), at_us=seq * SECOND)


def event(seq: int, account: int = 10001, kind: str = "order.filled") -> AccountEvent:
    return AccountEvent(account, seq, kind, Raw(b'{"order":{},"deals":[]}'), 0)


class Desk:
    """A hub with clients whose connections are lists, a clock that is set by hand, and an outbox that is a list."""

    def __init__(self) -> None:
        self.now_us = SECOND
        self.hub = Hub()
        self.hub.configure(config())
        self.outbox: list[AccountEvent] = []
        self.read: dict[Client, list[dict[str, Any]]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def client(self, user_id: int, accounts: dict[int, AccountTerms], *, unthrottled: bool = True) -> Client:
        client = Client(now_us=lambda: self.now_us, business_clock=lambda: self.now_us)
        self.hub.add(client)
        self.hub.recognise(client, Identity(user_id=user_id, accounts=accounts, is_unthrottled=unthrottled))
        self.read[client] = []
        return client

    def serve(self, client: Client, send: Callable[[str], Awaitable[None]] | None = None) -> None:
        async def to_list(text: str) -> None:
            self.read[client].append(json.loads(text))

        self.tasks.append(asyncio.create_task(client.run(send or to_list, self._page)))

    async def _page(self, account: int, since: int) -> list[AccountEvent]:
        await asyncio.sleep(0)
        return [e for e in self.outbox if e.account == account and e.seq > since]

    async def settled(self) -> None:
        """Let every task run until it waits. Steps of the loop, not of the clock."""
        for _ in range(50):
            await asyncio.sleep(0)


RETAIL = {10001: AccountTerms("retail", ClientClass.RETAIL)}
PRO = {10002: AccountTerms("pro", ClientClass.PROFESSIONAL)}


async def test_each_client_sees_its_groups_price_and_staff_see_the_retail_one() -> None:
    desk = Desk()
    clients = {"retail": desk.client(1, RETAIL), "pro": desk.client(2, PRO), "staff": desk.client(3, {})}
    desk.hub.quote(quote(1, "1.10000", "1.10010"))
    for client in clients.values():
        desk.hub.watch(client, "EURUSD", asked_us=0, from_newest=True)
        desk.serve(client)
    await desk.settled()
    seen = {name: desk.read[client][0]["data"] for name, client in clients.items()}
    assert seen == {
        "retail": {"bid": "1.09998", "ask": "1.10012"},
        "pro": {"bid": "1.10000", "ask": "1.10010"},
        "staff": {"bid": "1.09998", "ask": "1.10012"},
    }


async def test_without_a_snapshot_the_next_quote_comes_first_and_whole() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)
    desk.hub.quote(quote(1, "1.1", "1.2"))
    desk.hub.watch(client, "EURUSD", asked_us=0, from_newest=False)
    desk.serve(client)
    await desk.settled()
    assert desk.read[client] == []
    desk.hub.quote(quote(2, "1.1", "1.3"))
    await desk.settled()
    assert [(m["type"], m["seq"]) for m in desk.read[client]] == [("snapshot", 2)]


async def test_numbers_only_rise_when_the_quotes_own_numbers_start_anew() -> None:
    desk = Desk()
    client = desk.client(1, PRO)
    desk.hub.watch(client, "EURUSD", asked_us=0, from_newest=True)
    desk.serve(client)
    for seq, bid in ((70, "1.1"), (71, "1.2"), (1, "1.3")):
        desk.hub.quote(quote(seq, bid, "1.9"))
        await desk.settled()
    assert [(m["seq"], m.get("prev")) for m in desk.read[client]] == [(70, None), (71, 70), (72, 71)]


async def test_a_new_markup_is_told_at_once() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)
    desk.hub.quote(quote(1, "1.10000", "1.10010"))
    desk.hub.watch(client, "EURUSD", asked_us=0, from_newest=True)
    desk.serve(client)
    await desk.settled()
    desk.hub.configure(config(retail_points=5))
    await desk.settled()
    assert [m["data"] for m in desk.read[client][1:]] == [{"bid": "1.09995", "ask": "1.10015"}]


async def test_a_client_moved_to_another_group_gets_that_groups_prices_whole() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)
    desk.hub.quote(quote(1, "1.10000", "1.10010"))
    desk.hub.watch(client, "EURUSD", asked_us=0, from_newest=True)
    desk.serve(client)
    await desk.settled()
    moved = Identity(user_id=1, accounts={10001: AccountTerms("pro", ClientClass.RETAIL)}, is_unthrottled=True)
    desk.hub.recognise(client, moved)
    await desk.settled()
    desk.hub.quote(quote(2, "1.10001", "1.10010"))
    await desk.settled()
    assert [(m["type"], m["data"]) for m in desk.read[client][1:]] == [
        ("snapshot", {"bid": "1.10000", "ask": "1.10010"}),
        ("update", {"bid": "1.10001"}),
    ]


async def test_a_client_that_reads_nothing_delays_nobody_and_skips_to_the_newest() -> None:
    desk = Desk()
    stuck, quick = desk.client(1, PRO), desk.client(2, PRO)
    gate = asyncio.Event()

    async def blocked(text: str) -> None:
        await gate.wait()
        desk.read[stuck].append(json.loads(text))

    for client in (stuck, quick):
        desk.hub.watch(client, "EURUSD", asked_us=0, from_newest=True)
    desk.serve(stuck, blocked)
    desk.serve(quick)
    for seq in range(1, 101):
        desk.hub.quote(quote(seq, f"1.{seq:05}", "2"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await desk.settled()
    assert desk.read[quick][-1]["seq"] == 100
    assert len(desk.read[quick]) > 50
    gate.set()
    await desk.settled()
    assert [m["seq"] for m in desk.read[stuck]] == [1, 100]
    assert desk.read[stuck][-1]["prev"] == 1
    assert desk.hub.conflated >= 98


async def test_events_are_replayed_then_live_without_a_seam() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)
    desk.outbox = [event(seq) for seq in range(1, 6)]
    desk.hub.follow(client, Follower(10001, Channel.ORDERS, 2))
    desk.serve(client)
    desk.outbox.append(event(6))
    desk.hub.events([desk.outbox[-1]])
    await desk.settled()
    desk.outbox.append(event(7))
    desk.hub.events([desk.outbox[-1]])
    await desk.settled()
    assert [m["event_id"] for m in desk.read[client]] == [3, 4, 5, 6, 7]


async def test_events_reach_their_account_only() -> None:
    desk = Desk()
    anna, ben = desk.client(1, RETAIL), desk.client(2, PRO)
    desk.hub.follow(anna, Follower(10001, Channel.ORDERS, 0))
    desk.hub.follow(ben, Follower(10002, Channel.ORDERS, 0))
    for client in (anna, ben):
        desk.serve(client)
    await desk.settled()
    desk.outbox = [event(1, 10001), event(1, 10002), event(2, 10002)]
    desk.hub.events(desk.outbox)
    await desk.settled()
    assert [m["account"] for m in desk.read[anna]] == [10001]
    assert [m["account"] for m in desk.read[ben]] == [10002, 10002]


async def test_an_interrupted_subscription_is_made_good_from_the_outbox() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)
    desk.hub.follow(client, Follower(10001, Channel.ORDERS, 0))
    desk.serve(client)
    await desk.settled()
    desk.outbox = [event(1), event(2)]
    desk.hub.doubt()
    await desk.settled()
    assert [m["event_id"] for m in desk.read[client]] == [1, 2]


async def test_too_many_unread_events_close_the_client_with_4429_and_nobody_else() -> None:
    desk = Desk()
    stuck, quick = desk.client(1, RETAIL), desk.client(2, RETAIL)
    for client in (stuck, quick):
        desk.hub.follow(client, Follower(10001, Channel.ORDERS, 0))

    async def never(_text: str) -> None:
        await asyncio.Event().wait()

    desk.serve(stuck, never)
    desk.serve(quick)
    await desk.settled()
    for seq in range(1, EVENTS_QUEUED_MAX + 3):
        desk.outbox.append(event(seq))
        desk.hub.events([desk.outbox[-1]])
        await asyncio.sleep(0)
    await desk.settled()
    assert stuck.close_code == Close.LIMIT
    assert desk.tasks[0].done()
    assert quick.close_code is None
    assert [m["event_id"] for m in desk.read[quick]] == list(range(1, EVENTS_QUEUED_MAX + 3))


async def test_a_send_that_does_not_move_is_noticed() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)

    async def never(_text: str) -> None:
        await asyncio.Event().wait()

    desk.serve(client, never)
    client.say("{}")
    await desk.settled()
    assert not client.is_stalled(desk.now_us + SEND_STALLED_US)
    assert client.is_stalled(desk.now_us + SEND_STALLED_US + 1)
    client.cut(Close.LIMIT, "too slow")
    await desk.settled()
    assert desk.tasks[0].done()


async def test_what_was_said_before_the_end_is_sent_and_what_comes_after_is_not() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)
    client.say('{"n":1}')
    client.finish(Close.BAD_MESSAGE, "bad")
    client.say('{"n":2}')
    desk.serve(client)
    await desk.settled()
    assert desk.read[client] == [{"n": 1}]
    assert desk.tasks[0].done()


async def test_a_heartbeat_comes_every_five_seconds() -> None:
    desk = Desk()
    client = desk.client(1, RETAIL)
    desk.serve(client)
    for _ in range(12):
        desk.now_us += SECOND
        client.wake()
        await desk.settled()
    assert [m["type"] for m in desk.read[client]] == ["heartbeat", "heartbeat"]


async def test_a_client_that_left_is_forgotten_and_its_figures_are_kept() -> None:
    desk = Desk()
    client = desk.client(1, PRO)
    desk.hub.watch(client, "EURUSD", asked_us=0, from_newest=True)
    desk.hub.follow(client, Follower(10002, Channel.ORDERS, 0))
    desk.serve(client)
    desk.hub.quote(quote(1, "1.1", "1.2"))
    await desk.settled()
    desk.hub.remove(client)
    desk.hub.remove(client)
    desk.hub.quote(quote(2, "1.2", "1.3"))
    desk.hub.events([event(1, 10002)])
    await desk.settled()
    assert len(desk.read[client]) == 1
    assert (len(desk.hub.clients), desk.hub.sends) == (0, 1)
