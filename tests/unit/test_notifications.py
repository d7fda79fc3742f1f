"""What owners are told in words, read as a table."""

import json
from typing import Any

import msgspec
import pytest

from apps.notifications.telling import Kind, told_of

MARGIN = {
    "account": 7,
    "currency": "USD",
    "rule": "margin call 80",
    "equity": "98.5",
    "margin": "127",
    "level": "77.56",
}
WORTH = " Equity 98.50 USD, used margin 127.00 USD."
BALANCE = {"account": 7, "balance": "1000", "credit": "0", "currency": "EUR", "version": 3, "transaction_id": 9}
ORDER = {
    "symbol": "EURUSD", "side": "sell", "type": "market", "filled_volume": "0.10", "avg_price": "1.08512",
    "reason": "client", "ticket": 22, "status": "filled", "id": "x", "account": 7,
}  # fmt: skip


def told(kind: str, payload: dict[str, Any]) -> tuple[Kind, str] | None:
    found = told_of(kind, json.dumps(payload).encode())
    return None if found is None else (found.kind, found.text)


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("margin.call", MARGIN, (Kind.MARGIN_CALL, f"Margin call (margin call 80). Margin level 77.56 %.{WORTH}")),
        ("margin.restored", {**MARGIN, "level": None},
         (Kind.MARGIN_RESTORED, f"Above the margin call again (margin call 80).{WORTH}")),
        ("account.balance", {**BALANCE, "kind": "deposit", "amount": "250.5"},
         (Kind.DEPOSIT, "Deposit of 250.50 EUR received. Balance 1000.00 EUR.")),
        ("account.balance", {**BALANCE, "kind": "withdrawal_requested", "amount": "-40"},
         (Kind.WITHDRAWAL_REQUESTED, "Withdrawal of 40.00 EUR requested; it is being checked. Balance 1000.00 EUR.")),
        ("account.balance", {**BALANCE, "kind": "withdrawal", "amount": "0"},
         (Kind.WITHDRAWAL_PAID, "Your withdrawal was paid out. Balance 1000.00 EUR.")),
        ("account.balance", {**BALANCE, "kind": "withdrawal_returned", "amount": "40"},
         (Kind.WITHDRAWAL_RETURNED, "Withdrawal of 40.00 EUR was not paid out. Balance 1000.00 EUR.")),
        ("account.balance", {**BALANCE, "balance": "0", "kind": "negative_balance", "amount": "12.34"},
         (Kind.NEGATIVE_BALANCE, "Your account was below zero: we paid 12.34 EUR for you. Balance 0.00 EUR.")),
        ("order.filled", {"order": {**ORDER, "reason": "stop_out"}, "deals": []},
         (Kind.STOP_OUT, "Stop-out: sold 0.1 lots of EURUSD at 1.08512.")),
        ("order.partially_filled", {"order": {**ORDER, "reason": "close_out", "status": "partially_filled"}},
         (Kind.STOP_OUT, "Margin close-out: sold 0.1 lots of EURUSD at 1.08512 so far.")),
        ("order.filled", {"order": {**ORDER, "reason": "stop_loss", "side": "buy"}},
         (Kind.STOP_LOSS, "Stop loss: bought 0.1 lots of EURUSD at 1.08512.")),
        ("order.filled", {"order": {**ORDER, "type": "stop_limit"}},
         (Kind.ORDER_FILLED, "Your stop-limit order 22: sold 0.1 lots of EURUSD at 1.08512.")),
        ("order.filled", {"order": ORDER}, None),
        ("order.filled", {"order": {**ORDER, "reason": "dealer"}}, None),
        ("account.balance", {**BALANCE, "kind": "realised_pnl", "amount": "3"}, None),
        ("account.balance", {**BALANCE, "kind": "negative_balance", "amount": "-3"}, None),
        ("position.closed", {"id": 1}, None),
    ],
)  # fmt: skip
def test_events_become_sentences(kind: str, payload: dict[str, Any], expected: tuple[Kind, str] | None) -> None:
    assert told(kind, payload) == expected


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"order": {}}', b'{"order": {"side": 1}}'])
def test_what_is_no_event_is_an_error(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        told_of("order.filled", payload)
