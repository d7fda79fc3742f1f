"""The tour: one round trip each that the rules send to A, to B and to C, through the public doors, told as it happens.

Open, kill the engine and let it come back, change the policy, close a part, close the rest. The tour asks as a trader would
(REST, a trader's token) and looks behind the curtain as staff would (decision, provider's ExecIDs, ledger). It believes
nothing: at the end clients, house and providers must be flat and agree, and every currency's ledger must add up to zero.
Its exit status is 0 only then.
"""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis

from bus import names

SYMBOL = "EURUSD"
STAFF = "dealer"
ATTEMPTS_WITHIN_S = 60.0
ENGINE_BACK_WITHIN_S = 60.0
RETRYABLE = {"no_quotes", "no_connection", "busy", "rejected_by_lp", "command_expired", "close_order_exists"}
LP_SIDES = ("clients_at_lps", "our_fills_at_lps", "lps_say")
WIDTH = 100


class TourFailed(Exception):
    """Something was not as it must be; the text says what."""


@dataclass
class Trip:
    """One trader's round trip."""

    trader: str
    wanted_book: str
    volume: str
    partial: str
    account: int = 0
    token: str = ""
    position_id: int = 0
    tickets: list[int] = field(default_factory=list)


TRIPS = (
    Trip(trader="ben", wanted_book="A", volume="0.50", partial="0.20"),
    Trip(trader="anna", wanted_book="B", volume="0.10", partial="0.04"),
    Trip(trader="carla", wanted_book="C", volume="1.50", partial="0.55"),
)


class Api:
    """REST as any client uses it."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.requests = 0

    def call(self, method: str, path: str, body: object = None, *, token: str = "", key: str = "") -> tuple[int, Any]:
        """Status and decoded body; a connection that fails is status 0."""
        request = urllib.request.Request(  # noqa: S310 - the base is our own http address
            self.base + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("Content-Type", "application/json")
        request.add_header("Prefer", "wait=5")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if key:
            request.add_header("Idempotency-Key", key)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except (OSError, ValueError) as error:
            return 0, {"detail": str(error)}

    def get(self, path: str, token: str) -> Any:
        """The body of a successful GET, asked again while the door is not there."""
        return until(f"GET {path}", lambda: self._good("GET", path, token))

    def _good(self, method: str, path: str, token: str) -> Any:
        status, body = self.call(method, path, token=token)
        return body if status == 200 else None


def until(what: str, ask: Callable[[], Any], *, within_s: float = ATTEMPTS_WITHIN_S) -> Any:
    """The first truthy answer of `ask`. Raises TourFailed when none comes in time."""
    deadline = time.monotonic() + within_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TourFailed(f"waited {within_s:.0f} s in vain: {what}")
        time.sleep(0.1)


def main() -> int:
    tour = Tour(Api(f"http://127.0.0.1:{os.environ['TRIBOOK_HTTP_PORT']}"), Path(os.environ["TRIBOOK_DATA"]))
    try:
        tour.run()
    except TourFailed as failure:
        say(f"\nTHE TOUR FAILED: {failure}")
        return 1
    return 0


class Tour:
    def __init__(self, api: Api, data: Path) -> None:
        self.api = api
        self.data = data
        self.redis = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
        self.staff = ""
        self.passwords: dict[str, str] = json.loads((data / "secrets" / "demo-logins.json").read_text(encoding="utf-8"))
        self.run_id = f"tour-{time.time_ns() // 1_000_000}"

    def run(self) -> None:
        self.log_in()
        before = self.reconciliation()
        headline("1. Open: the rules decide where each order goes")
        for trip in TRIPS:
            self.open(trip)
        headline("2. Kill the engine (SIGKILL) and let the supervisor bring it back")
        self.kill_engine()
        headline("3. Switch the policy: from now on everything new goes to the house")
        policy = self.api.get("/v1/admin/policy", self.staff)
        self.put_policy([{"name": "everything to the house", "conditions": [], "action": "B", "a_share": "0"}])
        try:
            headline("4. Close a part: a close follows its opening, whatever the policy says now")
            for trip in TRIPS:
                self.close(trip, trip.partial)
            headline("5. Close the rest")
            for trip in TRIPS:
                self.close(trip, None)
        finally:
            self.put_policy(policy["rules"])
        headline("6. Everybody flat, everything reconciled")
        self.check(before)

    # --- steps ---

    def log_in(self) -> None:
        self.staff = self.token_of(STAFF)
        for trip in TRIPS:
            trip.token = self.token_of(trip.trader)
            accounts = self.api.get("/v1/accounts", trip.token)["data"]
            trip.account = int(accounts[0]["id"])
        until("a fresh price of " + SYMBOL, self.quote_is_fresh)

    def token_of(self, user: str) -> str:
        body = {"username": user, "password": self.passwords[user]}

        def ask() -> str:
            status, answer = self.api.call("POST", "/v1/auth/token", body)
            if status == 401:
                raise TourFailed(f"the demo login {user} was refused: {answer}")
            return str(answer["access"]) if status == 200 else ""

        return str(until(f"log in as {user}", ask))

    def quote_is_fresh(self) -> bool:
        status, body = self.api.call("GET", f"/v1/quotes?symbols={SYMBOL}", token=TRIPS[0].token)
        return status == 200 and bool(body["data"]) and "bid" in body["data"][0]

    def open(self, trip: Trip) -> None:
        body = {"account": trip.account, "symbol": SYMBOL, "side": "buy", "volume": trip.volume}
        order = self.carry_out(trip, f"open {trip.volume} {SYMBOL}", "/v1/orders", body)
        trip.position_id = int(order["position_id"])
        self.tell(trip, order)
        if self.decision(order["ticket"])["book"] != trip.wanted_book:
            raise TourFailed(f"order {order['ticket']} of {trip.trader} went to another book than {trip.wanted_book}")

    def close(self, trip: Trip, volume: str | None) -> None:
        body = {} if volume is None else {"volume": volume}
        what = f"close {volume or 'the rest'} of position {trip.position_id}"
        order = self.carry_out(trip, what, f"/v1/positions/{trip.position_id}/close", body)
        self.tell(trip, order)

    def carry_out(self, trip: Trip, what: str, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send until filled: a refusal that may pass is sent again as a new order, an unknown outcome is asked about."""
        deadline = time.monotonic() + ATTEMPTS_WITHIN_S
        attempt = 0
        while time.monotonic() < deadline:
            attempt += 1
            client_order_id = f"{self.run_id}-{trip.trader}-{len(trip.tickets)}-{attempt}"
            status, answer = self.api.call("POST", path, {**body, "client_order_id": client_order_id}, token=trip.token)
            order = self.final_order(trip, client_order_id, status, answer)
            if order is not None and order["status"] == "filled":
                trip.tickets.append(order["ticket"])
                return order
            code = answer.get("code") or ((order or {}).get("reject") or {}).get("code", "")
            if code not in RETRYABLE and status not in (0, 504):
                raise TourFailed(f"{trip.trader}: {what} was answered {status}: {json.dumps(answer)[:400]}")
            say(f"    {what}: {code or status}, again")
            time.sleep(0.3)
        raise TourFailed(f"{trip.trader}: could not {what} within {ATTEMPTS_WITHIN_S:.0f} s")

    def final_order(self, trip: Trip, client_order_id: str, status: int, answer: Any) -> dict[str, Any] | None:
        """The order at its end, or None when there is none."""
        if status in (200, 201):
            return dict(answer)
        if status not in (0, 202, 504):
            return answer.get("order") if isinstance(answer, dict) else None

        def ended() -> Any:
            got, order = self.api.call("GET", f"/v1/orders/client:{client_order_id}", token=trip.token)
            if got == 404:
                return {"status": "absent"}
            return order if got == 200 and order["status"] not in ("pending_new", "partially_filled") else None

        order = until(f"the end of {client_order_id}", ended)
        return None if order["status"] == "absent" else dict(order)

    def kill_engine(self) -> None:
        pid = self.engine_pid()
        positions = {trip.trader: self.position(trip) for trip in TRIPS}
        os.kill(pid, signal.SIGKILL)
        say(f"    killed engine, pid {pid}")
        started = time.monotonic()
        again = until("a new engine", lambda: self.new_engine(pid), within_s=ENGINE_BACK_WITHIN_S)
        say(f"    a new engine, pid {again}, decides again after {time.monotonic() - started:.1f} s")
        for trip in TRIPS:
            if self.position(trip) != positions[trip.trader]:
                raise TourFailed(f"position {trip.position_id} of {trip.trader} is not what it was before the kill")
            say(f"    position {trip.position_id} of {trip.trader}: unchanged, {positions[trip.trader]['volume']} lots")

    def engine_pid(self) -> int:
        return int((self.data / "run" / "engine.pid").read_text(encoding="utf-8"))

    def new_engine(self, old_pid: int) -> int:
        """The pid of an engine that is not the old one and says that it decides; 0 before that."""
        health = self.redis.hgetall(names.health("engine"))
        pid = int(health.get("pid", 0))
        return pid if pid not in (0, old_pid) and health.get("state") == "up" else 0

    def put_policy(self, rules: object) -> None:
        def put() -> Any:
            status, answer = self.api.call("PUT", "/v1/admin/policy", {"rules": rules}, token=self.staff)
            if status not in (0, 200, 503, 504):
                raise TourFailed(f"the policy was refused: {status} {json.dumps(answer)[:400]}")
            return answer if status == 200 else None

        answer = until("the policy to be taken", put)
        say(f"    policy version {answer['policy_version']}: " + "; ".join(rule["name"] for rule in answer["rules"]))

    def check(self, before: dict[str, Any]) -> None:
        for trip in TRIPS:
            if self.position(trip):
                raise TourFailed(f"position {trip.position_id} of {trip.trader} is still open")
        after = until("clients, house and providers to agree and be as flat as before", self.settled(before))
        show_reconciliation(after)
        if any(Decimal(total) for total in after["ledger"].values()):
            raise TourFailed("the ledger does not add up to zero")

    def settled(self, before: dict[str, Any]) -> Callable[[], Any]:
        """Reconciled, and every net where it was before the tour: positions that others hold stay theirs."""

        def ask() -> Any:
            now = self.reconciliation()
            return now if now["reconciled"] and net_of(now) == net_of(before) else None

        return ask

    def reconciliation(self) -> dict[str, Any]:
        return dict(self.api.get("/v1/admin/reconciliation", self.staff))

    def decision(self, ticket: int) -> dict[str, Any]:
        return dict(self.record(ticket)["decision"])

    def record(self, ticket: int) -> dict[str, Any]:
        """Decision, legs, deals and transfers of one order, as staff see them."""
        return dict(self.api.get(f"/v1/admin/orders/{ticket}/decision", self.staff))

    def position(self, trip: Trip) -> dict[str, Any]:
        positions = self.api.get(f"/v1/positions?account={trip.account}&status=open", trip.token)["data"]
        return next((p for p in positions if int(p["id"]) == trip.position_id), {})

    # --- telling ---

    def tell(self, trip: Trip, order: dict[str, Any]) -> None:
        record = self.record(order["ticket"])
        decision = record["decision"]
        say(
            f"\n  {trip.trader} (account {trip.account}): {order['side']} {order['volume']} {order['symbol']}, "
            f"order {order['ticket']}, {order['status']} at {order['avg_price']}  ->  book {decision['book']}"
        )
        for reason in decision["reasons"]:
            say(f"    why       {reason}")
        for deal in record["deals"]:
            say("    fill      " + fill_line(deal))
        self.tell_position(trip)
        self.tell_ledger(record["transfers"])

    def tell_position(self, trip: Trip) -> None:
        position = self.position(trip)
        if position:
            say(
                f"    position  {trip.position_id}: {position['side']} {position['volume']} at {position['open_price']}"
            )
        else:
            say(f"    position  {trip.position_id}: closed")

    def tell_ledger(self, transfers: list[dict[str, Any]]) -> None:
        sums: dict[str, Decimal] = {}
        for transfer in transfers:
            amount, currency = Decimal(transfer["amount"]), transfer["currency"]
            for account, signed in ((transfer["source"], -amount), (transfer["target"], amount)):
                say(f"    ledger    {transfer['kind']:<14} {account:<18} {signed:>+14.2f} {currency}")
                sums[currency] = sums.get(currency, Decimal(0)) + signed
        for currency, total in sums.items():
            say(f"    ledger    sum of the entries: {total:.2f} {currency}")


def fill_line(deal: dict[str, Any]) -> str:
    where = f"{deal['lp']} ExecID {deal['exec_id']} at {deal['lp_price']}" if deal["lp"] else "the house"
    result = f", result {deal['profit']}" if deal["entry"] == "out" else ""
    return f"{deal['volume']} lots at {deal['price']} in book {deal['book']} ({where}){result}, commission {deal['commission']}"


def net_of(reconciliation: dict[str, Any]) -> dict[str, list[Decimal]]:
    """Per symbol the nets that are not zero: clients, house, and what providers hold by three accounts of it."""
    nets: dict[str, list[Decimal]] = {}
    for symbol, line in reconciliation["symbols"].items():
        at_lps = [sum(map(Decimal, line[side].values()), Decimal(0)) for side in LP_SIDES]
        net = [Decimal(line["clients"]), Decimal(line["house"]), *at_lps]
        if any(net):
            nets[symbol] = net
    return nets


def show_reconciliation(found: dict[str, Any]) -> None:
    say(
        f"    {'':<8} {'clients':>10} {'house':>10} {'at providers':>14} {'our fills':>10} {'they say':>10}   lots, net"
    )
    for symbol, line in found["symbols"].items():
        at_lps = (sum(map(Decimal, line[side].values()), Decimal(0)) for side in LP_SIDES)
        numbers = "{:>14} {:>10} {:>10}".format(*(f"{net:.2f}" for net in at_lps))
        say(f"    {symbol:<8} {line['clients']:>10} {line['house']:>10} {numbers}")
    for currency, total in found["ledger"].items():
        say(f"    ledger {currency}: the sum of all entries is {Decimal(total):.2f}")
    say(f"    flat: {'yes' if found['flat'] else 'no, others hold positions'}; clients, house and providers agree")


def headline(text: str) -> None:
    say(f"\n{text}\n" + "-" * min(len(text), WIDTH))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
