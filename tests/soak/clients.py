"""Clients who trade over HTTP until told to stop, each drawing from its own seeded random numbers.

A request carries its client_order_id or Idempotency-Key, and is said again under it until there is a definite answer: an
order, or a refusal that says that nothing was done. What an honest client could do wrong here is a fault of ours.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as changed
from decimal import Decimal
from typing import Any

import httpx

from tests.soak.history import UNKNOWN_END, History, Kind, Op, Outcome, Told
from trading.orders import TERMINAL, OrderStatus

PASSING = frozenset({"busy", "timeout_unknown", "rate_limited", "request_in_progress"})
"""Nothing was done, or nobody can say: the same request again."""
PLAIN = frozenset(
    {"no_quotes", "no_connection", "command_expired", "close_order_exists", "position_closed", "order_not_found"}
)
"""Refusals that a fault, or another client of the same account, may lead to."""
ANSWERED_WITHIN_S = 90.0
FOLLOWED_S = 20.0
"""An order that a provider holds for longer is left to itself: what becomes of it is seen in the end."""
REPEAT_AFTER_S = 0.3
TOKEN_S = 480.0
"""After so long a client logs in again: tokens live ten minutes."""
REQUEST_TIMEOUT_S = 12.0
OPEN_MAX = 3
"""Positions of one trader; with so many it closes before it opens."""
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY")
FAR_BELOW = (Decimal("0.70000"), Decimal("0.90000"))
"""Prices at which a buy of EURUSD rests and is never dealt."""


@dataclass
class Login:
    """One user's token, shared by all clients of that user: logins are limited."""

    base_url: str
    username: str
    password: str
    _token: str = ""
    _until_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def token(self) -> str:
        """Raises httpx.HTTPError while nobody can log in."""
        with self._lock:
            if time.monotonic() > self._until_s:
                body = {"username": self.username, "password": self.password}
                answer = httpx.post(f"{self.base_url}/v1/auth/token", json=body, timeout=REQUEST_TIMEOUT_S)
                answer.raise_for_status()
                self._token, self._until_s = str(answer.json()["access"]), time.monotonic() + TOKEN_S
            return self._token

    def forget(self) -> None:
        self._until_s = 0.0


@dataclass
class Caller:
    """Says a request again until it is answered, and writes down what became of it."""

    login: Login
    history: History
    stop: threading.Event
    odd: list[str] = field(default_factory=list)
    """Answers that nobody should ever get."""

    def __post_init__(self) -> None:
        self._http = httpx.Client(base_url=self.login.base_url, timeout=REQUEST_TIMEOUT_S)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, dict[str, Any]]:
        """Status and body; 0 where no whole answer came."""
        try:
            headers = {"Authorization": f"Bearer {self.login.token()}", "Prefer": "wait=3"}
            if key:
                headers["Idempotency-Key"] = key
            answer = self._http.request(method, path, json=body, headers=headers)
            if answer.status_code == 401:
                self.login.forget()
                return 0, {"code": "not_authenticated"}
            return answer.status_code, dict(answer.json())
        except (httpx.HTTPError, ValueError) as error:
            return 0, {"code": type(error).__name__}

    def carry_out(
        self, op: Op, method: str, path: str, body: object = None, *, key: str = ""
    ) -> tuple[Op, dict[str, Any]]:
        """Until there is a definite answer or the time is up; the operation as it ended is in the history."""
        deadline = time.monotonic() + ANSWERED_WITHIN_S
        attempts = 0
        while True:
            attempts += 1
            status, answer = self.call(method, path, body, key)
            ended = self._ended(op, status, answer)
            if ended is not None:
                break
            if time.monotonic() > deadline:
                ended = changed(op, outcome=Outcome.INFO, ended_s=UNKNOWN_END, code=str(answer.get("code", status)))
                break
            time.sleep(REPEAT_AFTER_S)
        ended = changed(ended, attempts=attempts)
        self.history.add(ended)
        return ended, answer

    def _ended(self, op: Op, status: int, answer: dict[str, Any]) -> Op | None:
        code = str(answer.get("code", ""))
        if status in {200, 201, 202}:
            return changed(op, outcome=Outcome.OK, ended_s=time.monotonic(), told=told(answer))
        if status == 404 and op.kind is Kind.READ:
            return changed(op, outcome=Outcome.OK, ended_s=time.monotonic())
        if "order" in answer:
            refused = told(answer["order"])
            return changed(op, outcome=Outcome.FAIL, ended_s=time.monotonic(), told=refused, code=code)
        if status == 0 or code in PASSING:
            return None
        if code not in PLAIN:
            self.odd.append(f"{status} {op.kind} {op.key}: {answer}")
        if status >= 500 and code not in PLAIN:
            return None
        return changed(op, outcome=Outcome.FAIL, ended_s=time.monotonic(), code=code or str(status))


def told(answer: dict[str, Any]) -> Told:
    if "ticket" not in answer:
        return Told(int(answer.get("transaction_id", 0)))
    price = answer["price"]
    filled = Decimal(answer["filled_volume"])
    return Told(int(answer["ticket"]), str(answer["status"]), filled, None if price is None else Decimal(price))


class Worker(threading.Thread):
    """A client thread. What goes wrong in it is odd, never silent."""

    def __init__(self, name: str, caller: Caller, account: int, seed: str, pace_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self.caller = caller
        self.account = account
        self.random = random.Random(f"{seed}/{name}")
        self.pace_s = pace_s
        self.count = 0

    def run(self) -> None:
        try:
            while not self.caller.stop.is_set():
                self.work()
                self.caller.stop.wait(self.pace_s * self.random.uniform(0.5, 1.5))
        except Exception as error:  # noqa: BLE001 - a dead thread would be silent
            self.caller.odd.append(f"{self.name} ended: {error!r}")
        finally:
            self.finish()
            self.caller.close()

    def work(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """What is left to do when told to stop."""

    def next_key(self) -> str:
        self.count += 1
        return f"{self.name}-{self.count}"

    def op(self, kind: Kind, key: str, **more: Any) -> Op:
        return Op(client=self.name, account=self.account, kind=kind, key=key, began_s=time.monotonic(), **more)


class Trader(Worker):
    """Opens and closes at market."""

    def __init__(
        self, name: str, caller: Caller, account: int, seed: str, pace_s: float, volumes: tuple[str, ...]
    ) -> None:
        super().__init__(name, caller, account, seed, pace_s)
        self.volumes = volumes
        self.positions: dict[int, Decimal] = {}
        self.filled_s = 0.0
        """When the order began that was filled last."""

    def work(self) -> None:
        if len(self.positions) >= OPEN_MAX or (self.positions and self.random.random() < 0.4):
            self.close_one(self.random.choice(sorted(self.positions)))
        else:
            self.open()

    def open(self) -> None:
        key = self.next_key()
        body = {
            "account": self.account,
            "symbol": self.random.choice(SYMBOLS),
            "side": self.random.choice(("buy", "sell")),
            "volume": self.random.choice(self.volumes),
            "client_order_id": key,
        }
        order = self.dealt(self.op(Kind.PLACE, key), "/v1/orders", body)
        if order and Decimal(order["filled_volume"]):
            self.positions[int(order["position_id"])] = Decimal(order["filled_volume"])

    def close_one(self, position: int) -> None:
        key = self.next_key()
        body: dict[str, Any] = {"client_order_id": key}
        part = self.positions[position] / 2
        if self.random.random() < 0.3 and part == part.quantize(Decimal("0.01")):
            body["volume"] = str(part)
        order = self.dealt(self.op(Kind.CLOSE, key), f"/v1/positions/{position}/close", body)
        if order:
            self.positions[position] -= Decimal(order["filled_volume"])
        if self.positions[position] <= 0:
            del self.positions[position]

    def dealt(self, op: Op, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The order at its end; None when it was refused, or nobody knows."""
        ended, order = self.caller.carry_out(op, "POST", path, body)
        if ended.outcome is not Outcome.OK:
            return None
        deadline = time.monotonic() + FOLLOWED_S
        while OrderStatus(order["status"]) not in TERMINAL:
            if time.monotonic() > deadline:
                return None
            time.sleep(REPEAT_AFTER_S)
            read = self.op(Kind.READ, f"{op.key}?", about=op.key)
            seen, answer = self.caller.carry_out(read, "GET", f"/v1/orders/client:{op.key}")
            if seen.outcome is Outcome.OK and seen.told is None:
                self.caller.odd.append(f"{op.key} was acknowledged and is not found")
                return None
            order = answer if seen.outcome is Outcome.OK else order
        if order["status"] == "filled":
            self.filled_s = max(self.filled_s, op.began_s)
        return order

    def finish(self) -> None:
        """Close what is open: prices may be away for a moment, so more than once."""
        deadline = time.monotonic() + ANSWERED_WITHIN_S
        while self.positions and time.monotonic() < deadline:
            for position in sorted(self.positions):
                self.close_one(position)
            time.sleep(REPEAT_AFTER_S if self.positions else 0)


class Depositor(Worker):
    """Pays in, a different amount each time."""

    def work(self) -> None:
        self.pay(f"{self.random.randint(100, 99_999) / 100:.2f}")

    def pay(self, amount: str) -> None:
        key = self.next_key()
        body = {"account": self.account, "amount": amount}
        op = self.op(Kind.DEPOSIT, key, about=amount)
        self.caller.carry_out(op, "POST", "/v1/user/deposit", body, key=key)


class Registrar(Worker):
    """Places an order that rests, lets three hands read, change and cancel it at the same time, and cancels it at last."""

    hands = 3
    touches = 3
    """Of each hand."""

    def work(self) -> None:
        name = self.next_key()
        price = self.price(self.random)
        body = {
            "account": self.account,
            "symbol": "EURUSD",
            "side": "buy",
            "type": "limit",
            "volume": "0.01",
            "price": str(price),
            "client_order_id": name,
        }
        placed, _ = self.caller.carry_out(
            self.op(Kind.PLACE, name, about=name, price=price), "POST", "/v1/orders", body
        )
        if placed.outcome is not Outcome.OK:
            return
        seeds = [self.random.random() for _ in range(self.hands)]
        hands = [
            threading.Thread(target=self._guarded, args=(lambda n=n, s=s: self._touch(name, n, s),), daemon=True)
            for n, s in enumerate(seeds)
        ]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
        self._cancel(name, "last")
        self._read(name, "last")

    def price(self, rng: random.Random) -> Decimal:
        low, high = FAR_BELOW
        return (low + (high - low) * rng.randrange(1000) / 1000).quantize(Decimal("0.00001"))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a dead thread would be silent
            self.caller.odd.append(f"a hand of {self.name} ended: {error!r}")

    def _touch(self, name: str, hand: int, seed: float) -> None:
        rng = random.Random(seed)
        for number in range(self.touches):
            mark = f"{hand}.{number}"
            what = rng.random()
            if what < 0.45:
                self._read(name, mark)
            elif what < 0.9 or number < self.touches - 1:
                self._modify(name, mark, self.price(rng))
            else:
                self._cancel(name, mark)
            time.sleep(rng.uniform(0, 0.1))

    def _read(self, name: str, mark: str) -> None:
        op = self.op(Kind.READ, f"{name}/{mark}", about=name)
        self.caller.carry_out(op, "GET", f"/v1/orders/client:{name}")

    def _modify(self, name: str, mark: str, price: Decimal) -> None:
        key = f"{name}:{mark}"
        op = self.op(Kind.MODIFY, key, about=name, price=price)
        self.caller.carry_out(op, "PATCH", f"/v1/orders/client:{name}", {"price": str(price)}, key=key)

    def _cancel(self, name: str, mark: str) -> None:
        key = f"{name}:{mark}"
        self.caller.carry_out(self.op(Kind.CANCEL, key, about=name), "DELETE", f"/v1/orders/client:{name}", key=key)
