"""The simulated providers as a process, driven from outside: real FIX 4.4 over loopback, real Redis, real kills."""

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import redis

from broker.processes import free_port_range
from bus import names
from fix_gateway.wire.market_data import Books, Subscription, UpdateType, market_data_request
from fix_gateway.wire.message import Message, Outgoing, group
from fix_gateway.wire.orders import order_status_request, utc_timestamp
from lp_adapters.simulators.profiles import PROFILES, control_key, feed_channel, positions_key
from lp_adapters.simulators.ticks import Tick, withdrawal
from tests.support.lpsim_client import ROOT, Client
from tests.waiting import eventually
from trading.orders import Side

PASSWORD = "correct horse"
QUOTE, TRADE = {"YOFX1": 0, "PRIMEXM": 2}, {"YOFX1": 1, "PRIMEXM": 3}


class House:
    """The lpsim process on ports and in a folder of the test's own, and the clients that talk to it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self._redis_url = redis_url
        self._base = free_port_range(23_000 + os.getpid() % 7_000, 4)
        self._clients: list[Client] = []
        self._watchers: dict[str, Client] = {}
        self.start()

    def start(self) -> None:
        self.redis.delete(names.health("lpsim"))
        environment = {
            **os.environ,
            "REDIS_URL": self._redis_url,
            "TRIBOOK_DATA": str(self.folder),
            "LPSIM_PORT_BASE": str(self._base),
            "LPSIM_PASSWORD": PASSWORD,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "platform"))),
        }
        self.process = subprocess.Popen(
            (sys.executable, "-m", "lp_adapters.simulators.lpsim"), cwd=ROOT, env=environment, stderr=subprocess.PIPE
        )
        eventually(lambda: self.redis.hget(names.health("lpsim"), "pid") == str(self.process.pid))
        eventually(lambda: self.redis.pubsub_numsub(feed_channel("YOFX1"))[0][1] == 1)

    def stop(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait(timeout=60)

    def close(self) -> None:
        for client in self._clients:
            client.stop()
        self.stop()
        for lp in QUOTE:
            self.redis.delete(control_key(lp), positions_key(lp))
        self.redis.close()

    def client(self, lp: str, session: str, *, password: str = PASSWORD, folder: Path | None = None) -> Client:
        port = self._base + (QUOTE if session == "QUOTE" else TRADE)[lp]
        made = Client(
            sender=f"TRIBOOK-{session}", target=f"{lp}-{session}", port=port, password=password, folder=folder
        )
        self._clients.append(made)
        return made

    def leave(self, client: Client) -> None:
        self._clients.remove(client)
        client.stop()

    def trader(self, lp: str = "YOFX1") -> Client:
        folder = self.folder / f"client-{lp}"
        return self.client(lp, "TRADE", folder=folder).logged_on()

    def price(self, lp: str, symbol: str, bid: str, ask: str, size: int = 1_000_000) -> None:
        ticks = [Tick(lp, symbol, bid, ask, size, size)]
        self.redis.publish(feed_channel(lp), msgspec.json.encode(ticks))

    def show(self, lp: str, symbol: str, bid: str, ask: str, size: int = 1_000_000) -> None:
        """Publish a price, and come back when a client has seen it: from then on orders are dealt at it."""
        lp_symbol = PROFILES[lp].lp_symbol(symbol)
        watcher = self._watchers.get(lp)
        if watcher is None:
            watcher = self._watchers[lp] = self.client(lp, "QUOTE").logged_on()
            watcher.send(ask_for(lp_symbol, symbol))
            watcher.send(ask_for("NOSUCH", "mark"))
            watcher.expect(of_kind("Y"))
        self.price(lp, symbol, bid, ask, size)
        watcher.expect(lambda message: (270, ask) in message.fields)

    def misbehave(self, lp: str, **how: object) -> None:
        self.redis.set(control_key(lp), msgspec.json.encode(how))

    def position(self, lp: str, symbol: str, units: str) -> None:
        eventually(lambda: self.redis.hget(positions_key(lp), symbol) == units)


@pytest.fixture
def house(data_folder: Path, redis_url: str) -> Iterator[House]:
    running = House(data_folder, redis_url)
    yield running
    running.close()


def order(
    cl_ord_id: str, quantity: str = "100000", symbol: str = "EUR/USD", *, side: str = "1", **more: str
) -> Outgoing:
    """NewOrderSingle(35=D), immediate-or-cancel at market unless said otherwise."""
    kind, limit, terms = more.get("kind", "1"), more.get("limit"), more.get("terms", "3")
    return Outgoing(
        msg_type="D",
        fields=(
            *((11, cl_ord_id), (55, symbol), (54, side), (60, utc_timestamp(datetime.now(UTC))), (38, quantity)),
            *((40, kind), (59, terms), *(((44, limit),) if limit else ())),
        ),
    )


def ask_for(lp_symbol: str, request_id: str = "r1", update_type: UpdateType = UpdateType.INCREMENTAL) -> Outgoing:
    return market_data_request(
        request_id=request_id, lp_symbol=lp_symbol, subscription=Subscription.SUBSCRIBE, update_type=update_type
    )


def of_kind(kind: str) -> Callable[[Message], bool]:
    return lambda message: message.msg_type == kind


def filled(report: Message) -> tuple[str, ...]:
    """LastQty, LastPx, CumQty, LeavesQty, AvgPx, OrdStatus."""
    return tuple(report.get(tag) for tag in (32, 31, 14, 151, 6, 39))


def test_a_wrong_password_is_refused_at_logon(house: House) -> None:
    stranger = house.client("YOFX1", "QUOTE", password="guess")
    logout = stranger.expect(of_kind("5"))
    assert "wrong user name or password" in logout.get(58)
    assert "UP" not in stranger.lines
    house.client("PRIMEXM", "QUOTE").logged_on()


def test_yofx1_sends_a_snapshot_each_time(house: House) -> None:
    client = house.client("YOFX1", "QUOTE").logged_on()
    house.price("YOFX1", "EURUSD", "1.08500", "1.08504", 300_000)
    client.send(ask_for("EUR/USD"))
    first = client.expect(of_kind("W"))
    assert (first.get(55), first.get(262)) == ("EUR/USD", "r1")
    bid, offer = group(first, count_tag=268, delimiter=269) or []
    assert (bid[269], bid[270], bid[271]) == ("0", "1.08500", "300000")
    assert (offer[269], offer[270], offer[271]) == ("1", "1.08504", "300000")
    assert bid[299] == offer[299] != ""
    house.price("YOFX1", "EURUSD", "1.08501", "1.08503")
    second = client.expect(of_kind("W"))
    assert (group(second, count_tag=268, delimiter=269) or [])[0][270] == "1.08501"
    house.redis.publish(feed_channel("YOFX1"), msgspec.json.encode([withdrawal("YOFX1", "EURUSD")]))
    assert client.expect(of_kind("W")).get(268) == "0"
    assert client.refusals() == []


def test_primexm_sends_one_snapshot_and_then_changes_of_single_entries(house: House) -> None:
    client = house.client("PRIMEXM", "QUOTE").logged_on()
    client.send(ask_for("EURUSD"))
    house.price("PRIMEXM", "EURUSD", "1.08500", "1.08504")
    books = Books()
    assert str(books.apply(client.expect(of_kind("W")))[0].ask) == "1.08504"
    house.price("PRIMEXM", "EURUSD", "1.08500", "1.08505")
    change = client.expect(of_kind("X"))
    (entry,) = group(change, count_tag=268, delimiter=279) or []
    assert (entry[279], entry[269], entry[270]) == ("1", "1", "1.08505")
    top = books.apply(change)[0]
    assert (str(top.bid), str(top.ask)) == ("1.08500", "1.08505")
    house.redis.publish(feed_channel("PRIMEXM"), msgspec.json.encode([withdrawal("PRIMEXM", "EURUSD")]))
    gone = client.expect(of_kind("X"))
    assert [entry[279] for entry in group(gone, count_tag=268, delimiter=279) or []] == ["2", "2"]
    assert books.apply(gone)[0].bid == 0
    house.price("PRIMEXM", "EURUSD", "1.08600", "1.08605")
    back = client.expect(of_kind("X"))
    assert [entry[279] for entry in group(back, count_tag=268, delimiter=279) or []] == ["0", "0"]
    assert str(books.apply(back)[0].bid) == "1.08600"
    assert client.refusals() == []


def test_an_unknown_symbol_is_refused_and_an_ended_request_is_silent(house: House) -> None:
    client = house.client("PRIMEXM", "QUOTE").logged_on()
    client.send(ask_for("EURDOGE", "bad"))
    refused = client.expect(of_kind("Y"))
    assert (refused.get(262), refused.get(281)) == ("bad", "0")
    client.send(ask_for("EURUSD", "ended"))
    client.send(
        market_data_request(
            request_id="ended",
            lp_symbol="EURUSD",
            subscription=Subscription.UNSUBSCRIBE,
            update_type=UpdateType.INCREMENTAL,
        )
    )
    client.send(ask_for("GBPUSD", "running"))
    client.send(ask_for("XXXYYY", "mark"))
    client.expect(of_kind("Y"))
    house.price("PRIMEXM", "EURUSD", "1.08500", "1.08504")
    house.price("PRIMEXM", "GBPUSD", "1.27000", "1.27004")
    assert client.expect(of_kind("W")).get(55) == "GBPUSD"


def test_orders_are_dealt_at_what_is_shown_then_in_slices_each_a_point_worse(house: House) -> None:
    client = house.trader()
    client.send(order("early"))
    assert client.report("early", "8").get(103) == "2"
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504", 100_000)
    client.send(order("buy", "250000"))
    new = client.report("buy", "0")
    assert (new.get(39), new.get(14), new.get(151)) == ("0", "0", "250000")
    fills = [client.report("buy", "F") for _ in range(3)]
    assert [filled(fill) for fill in fills] == [
        ("100000", "1.08504", "100000", "150000", "1.08504", "1"),
        ("100000", "1.08505", "200000", "50000", "1.085045", "1"),
        ("50000", "1.08506", "250000", "0", "1.085048", "2"),
    ]
    assert len({fill.get(17) for fill in [new, *fills]}) == 4
    assert all(fill.get(37) == new.get(37) and fill.get(75) and fill.get(60) for fill in fills)
    client.send(order("limit", "250000", side="2", kind="2", limit="1.08499"))
    assert [client.report("limit", "F").get(31) for _ in range(2)] == ["1.08500", "1.08499"]
    rest = client.report("limit", "4")
    assert (rest.get(39), rest.get(14), rest.get(151)) == ("4", "200000", "0")
    client.send(order("all", "250000", side="2", kind="2", limit="1.08499", terms="4"))
    assert client.report("all", "4").get(14) == "0"
    house.position("YOFX1", "EURUSD", "50000")
    assert client.refusals() == []


def test_what_cannot_be_dealt_is_rejected_with_its_reason(house: House) -> None:
    client = house.trader("PRIMEXM")
    house.show("PRIMEXM", "EURUSD", "1.08500", "1.08504")
    for name, message, reason in (
        ("symbol", order("symbol", symbol="EURDOGE"), "1"),
        ("price", order("price", symbol="GBPUSD"), "2"),
        ("zero", order("zero", "0", "EURUSD"), "13"),
        ("negative", order("negative", "-1000", "EURUSD"), "13"),
        ("step", order("step", "1500", "EURUSD"), "13"),
        ("day", order("day", "1000", "EURUSD", terms="0"), "11"),
        ("nolimit", order("nolimit", "1000", "EURUSD", kind="2"), "99"),
    ):
        client.send(message)
        report = client.report(name, "8")
        assert (report.get(39), report.get(103), report.get(151)) == ("8", reason, "0"), name
        assert report.get(58)
    client.send(order("fine", "1000", "EURUSD"))
    assert client.report("fine", "F").get(39) == "2"
    house.position("PRIMEXM", "EURUSD", "1000")
    assert client.refusals() == []


def test_the_same_order_twice_is_dealt_once(house: House) -> None:
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    client.send(order("once", "5000"))
    first = client.report("once", "F")
    client.send(order("once", "5000"))
    again = client.report("once", "F")
    assert (again.get(97), again.get(17), again.get(14)) == ("Y", first.get(17), "5000")
    client.send(order("once", "6000"))
    other = client.report("once", "8")
    assert (other.get(39), other.get(103), other.get(37)) == ("8", "6", "NONE")
    assert other.get(17) != first.get(17)
    house.position("YOFX1", "EURUSD", "5000")


def test_status_is_told_without_an_exec_id(house: House) -> None:
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    client.send(order("done", "5000"))
    fill = client.report("done", "F")
    client.send(order_status_request(cl_ord_id="done", lp_symbol="EUR/USD", side=Side.BUY))
    status = client.report("done", "I")
    assert (status.get(17), status.get(39), status.get(14), status.get(6)) == ("0", "2", "5000", "1.08504")
    assert status.get(37) == fill.get(37)
    client.send(order_status_request(cl_ord_id="never", lp_symbol="EUR/USD", side=Side.BUY))
    unknown = client.report("never", "I")
    assert (unknown.get(17), unknown.get(39), unknown.get(103)) == ("0", "8", "5")


def mass_status(request_id: str) -> Outgoing:
    return Outgoing(msg_type="AF", fields=((584, request_id), (585, "7")))


def cancel(cl_ord_id: str, original: str) -> Outgoing:
    at = utc_timestamp(datetime.now(UTC))
    return Outgoing(msg_type="F", fields=((41, original), (11, cl_ord_id), (55, "EUR/USD"), (54, "1"), (60, at)))


def test_a_held_order_is_open_can_be_cancelled_and_is_dealt_at_the_later_price(house: House) -> None:
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    client.send(mass_status("m1"))
    nothing = client.expect(lambda m: m.get(584) == "m1")
    assert (nothing.get(39), nothing.get(911)) == ("8", "0")
    house.misbehave("YOFX1", delay_ms=600_000)
    client.send(order("held", "5000"))
    assert client.report("held", "0").get(39) == "0"
    client.send(mass_status("m2"))
    still = client.expect(lambda m: m.get(584) == "m2")
    assert (still.get(11), still.get(39), still.get(911), still.get(912)) == ("held", "0", "1", "Y")
    client.send(cancel("c1", "held"))
    canceled = client.report("c1", "4")
    assert (canceled.get(41), canceled.get(39), canceled.get(14)) == ("held", "4", "0")
    client.send(cancel("c2", "held"))
    assert client.expect(of_kind("9")).get(102) == "0"
    client.send(cancel("c3", "never"))
    assert client.expect(of_kind("9")).get(102) == "1"
    house.misbehave("YOFX1", delay_ms=700)
    client.send(order("look", "5000"))
    client.report("look", "0")
    house.show("YOFX1", "EURUSD", "1.08600", "1.08604")
    assert client.report("look", "F").get(31) == "1.08604"
    assert client.refusals() == []


def test_each_misbehaviour_does_what_it_says(house: House) -> None:
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    house.misbehave("YOFX1", reject=True, symbol="EURUSD", quantity_min="5000")
    client.send(order("rejected", "5000"))
    assert client.report("rejected", "8").get(103) == "99"
    client.send(order("small", "4000"))
    assert client.report("small", "F").get(14) == "4000"
    house.misbehave("YOFX1", partial="0.5")
    client.send(order("part", "5000"))
    assert client.report("part", "F").get(14) == "2000"
    assert client.report("part", "4").get(14) == "2000"
    house.misbehave("YOFX1", slippage_points=3)
    client.send(order("slipped", "5000"))
    assert client.report("slipped", "F").get(31) == "1.08507"
    house.misbehave("YOFX1", duplicate_report=True)
    client.send(order("twice", "5000"))
    assert client.report("twice", "F").get(17) == client.report("twice", "F").get(17)
    for kind, told in (("filled", ("2", "5000")), ("lost", ("8", "0"))):
        house.misbehave("YOFX1", no_answer=kind)
        client.send(order(kind, "5000"))
        client.send(order_status_request(cl_ord_id=kind, lp_symbol="EUR/USD", side=Side.BUY))
        status = client.expect(lambda message, name=kind: message.get(11) == name)  # type: ignore[misc]
        assert (status.get(150), status.get(39), status.get(14)) == ("I", *told)
    house.redis.set(control_key("YOFX1"), "{nonsense")
    client.send(order("plain", "1000"))
    assert client.report("plain", "F").get(39) == "2"
    house.position("YOFX1", "EURUSD", "22000")


def test_each_wrong_report_is_a_valid_message_all_the_same(house: House) -> None:
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    ways: dict[str, dict[str, object]] = {
        "late": {"late_fill_ms": 50},
        "busted": {"bust_after_ms": 50},
        "corrected": {"correct_after_ms": 50, "correct_points": 2},
        "over": {"overfill": True},
        "conflict": {"conflicting_report": True},
        "wrong": {"wrong_side": True, "orphan_report": True, "out_of_order": True},
    }
    for name, wrong in ways.items():
        house.misbehave("YOFX1", **wrong)
        client.send(order(name, "5000"))
        client.report(name, {"busted": "H", "corrected": "G"}.get(name, "F"))
    house.misbehave("YOFX1", silent_to_status=True)
    client.send(order_status_request(cl_ord_id="late", lp_symbol="EUR/USD", side=Side.BUY))
    client.send(order("last", "5000"))
    client.report("last", "F")
    house.position("YOFX1", "EURUSD", "31000")
    said = [(message.get(11), message.get(150)) for message in client.messages()]
    assert ("late", "I") not in said
    assert [kind for name, kind in said if name == "late"] == ["0", "4", "F"]
    assert [kind for name, kind in said if name.startswith("orphan-")] == ["F"]
    assert client.refusals() == []


def test_orders_and_positions_survive_a_kill(house: House) -> None:
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    client.send(order("before", "5000"))
    before = client.report("before", "F")
    house.misbehave("YOFX1", delay_ms=600_000)
    client.send(order("held", "7000"))
    client.report("held", "0")
    house.redis.delete(control_key("YOFX1"), positions_key("YOFX1"))
    assert house.stop() == -signal.SIGKILL
    house.start()
    house.position("YOFX1", "EURUSD", "5000")
    assert client.report("held", "4").get(39) == "4"
    client.send(order("before", "5000"))
    again = client.report("before", "F")
    assert (again.get(97), again.get(17)) == ("Y", before.get(17))
    client.send(order("after", "3000"))
    assert client.report("after", "8").get(103) == "2"
    used = [m.get(17) for m in client.messages() if m.msg_type == "8" and m.get(97) != "Y" and m.get(43) != "Y"]
    assert len(used) == len(set(used))
    assert client.refusals() == []


def test_a_report_that_a_kill_left_unsaid_is_said_at_the_next_start(house: House) -> None:
    """Killed between keeping a fill and handing its report to the session: its memory lacks the word that it did."""
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    client.send(order("filled", "5000"))
    first = client.report("filled", "F")
    house.stop()
    memory = next(house.folder.rglob("YOFX1.orders.jsonl"))
    *kept, last = memory.read_bytes().splitlines(keepends=True)
    assert last.startswith(b'{"said":')
    memory.write_bytes(b"".join(kept))
    house.start()
    again = client.report("filled", "F")
    assert (again.get(97), again.get(17)) == ("Y", first.get(17))


def test_a_client_who_was_away_gets_the_report_at_its_next_logon(house: House) -> None:
    client = house.trader()
    house.show("YOFX1", "EURUSD", "1.08500", "1.08504")
    house.misbehave("YOFX1", delay_ms=600_000)
    client.send(order("away", "5000"))
    client.report("away", "0")
    house.leave(client)
    house.stop()
    house.start()
    assert house.trader().report("away", "4").get(14) == "0"


def test_asked_to_end_it_logs_out_and_ends_well(house: House) -> None:
    client = house.trader()
    assert house.stop(signal.SIGTERM) == 0
    assert client.expect(of_kind("5")).get(58) == "stopping"


def feed(redis_url: str, **more: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "platform"))),
    }
    return subprocess.Popen(
        (sys.executable, "-m", "lp_adapters.simulators.feed"),
        cwd=ROOT,
        env={**environment, **more},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_feed_plays_a_recording_and_invents_what_it_does_not_have(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "fxcm" / "eurusd").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "fxcm" / "eurusd" / "20140502_quote.zip", "w") as archive:
        archive.writestr("ticks.csv", "0,1.38626,1.38620\n10,1.38621,1.38627\n200,1.38622,1.38628\n")
    connection = redis.Redis.from_url(redis_url)
    heard: list[Tick] = []
    with connection.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
        subscription.subscribe(feed_channel("YOFX1"), feed_channel("PRIMEXM"))
        process = feed(redis_url, TICKS=str(tmp_path), SPEED="2")

        def listen() -> bool:
            message = subscription.get_message(timeout=1)
            if message:
                heard.extend(msgspec.json.decode(message["data"], type=list[Tick]))
            wanted = {("1.38626", "1.38620"), ("1.38622", "1.38628")}
            return wanted <= {(tick.bid, tick.ask) for tick in heard} and "GBPUSD" in {tick.symbol for tick in heard}

        eventually(listen)
        eventually(lambda: connection.hget(names.health("lpsim-feed"), "pid") == str(process.pid).encode())
        process.terminate()
        assert process.communicate(timeout=60) is not None
    connection.close()
    assert process.returncode == 0
    assert {tick.lp for tick in heard if tick.symbol == "EURUSD"} == {"YOFX1"}
    assert {tick.lp for tick in heard if tick.symbol == "GBPUSD"} <= {"YOFX1", "PRIMEXM"}


def test_a_feed_without_its_recording_ends_with_one_sentence_and_status_2(tmp_path: Path, redis_url: str) -> None:
    for given, word in (({"TICKS": str(tmp_path)}, "no recording"), ({"FEED_SEED": "x"}, "FEED_SEED")):
        process = feed(redis_url, **given)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 2
        assert word in said
        assert len(said.strip().splitlines()) == 1
