"""A provider's price session: subscribe to every configured symbol, pass on every price as it is, judge nothing.

QuickFIX's thread only reads and hands on; publishing is the teller's, subscribing the main thread's.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from bus import names
from bus.clock import Clock
from bus.codec import DecodeError, encode
from bus.messages import LpPrice
from bus.store import SHORT_QUESTIONS, load_config
from fix_gateway.initiator import Initiator, Sending
from fix_gateway.settings import SessionFile
from fix_gateway.wire.market_data import (
    Books,
    Subscription,
    Top,
    UpdateType,
    market_data_reject,
    market_data_request,
)
from fix_gateway.wire.message import parse, readable
from lp_adapters.telling import Teller

logger = logging.getLogger("tribook.lp")

CONFIG_EVERY_S = 5.0


class PriceSession:
    """Handler of the price session, and the main thread's work for it."""

    def __init__(self, lp: str, file: SessionFile, teller: Teller, clock: Clock) -> None:
        self._lp = lp
        self._teller = teller
        self._clock = clock
        self._channel = names.lp_quotes(lp)
        self._update_type = UpdateType(file.update_type)
        self._books = Books()
        self._symbols: dict[str, str] = {}
        """Our symbol by the provider's."""
        self._subscribed: dict[str, str] = {}
        """Request id by the provider's symbol, on this session."""
        self._requests = 0
        self._is_new_session = threading.Event()
        self._config_is_due = threading.Event()
        self._config_looked_s = float("-inf")
        self._version = -1
        self.work_waits = threading.Event()
        self.prices = 0
        self.initiator = Initiator(f"{lp}-price", file, self)

    # ------------------------------------------------------------------------------------- from QuickFIX's thread

    def logged_on(self) -> None:
        self._books.clear()
        self._is_new_session.set()
        self.work_waits.set()
        self._teller.report_now()

    def logged_out(self) -> None:
        self._books.clear()
        self._teller.report_now()

    def received(self, raw: str) -> None:
        message = parse(raw)
        if message.msg_type in ("W", "X"):
            at_us = self._clock()
            for top in self._books.apply(message):
                self._pass_on(top, at_us)
        elif message.msg_type == "Y":
            refused = market_data_reject(message)
            logger.error("prices_refused lp=%s request=%s reason=%s text=%s", self._lp, *_values(refused))
        else:
            logger.warning("unexpected_message lp=%s message=%s", self._lp, readable(raw)[:500])

    def refused(self, raw: str, cl_ord_id: str) -> None:  # noqa: ARG002 - nothing sent here is an order
        logger.error("message_refused lp=%s message=%s", self._lp, readable(raw)[:500])

    def numbers_disagree(self, text: str) -> None:
        logger.error("numbers_disagree lp=%s text=%s", self._lp, text)

    def _pass_on(self, top: Top, at_us: int) -> None:
        symbol = self._symbols.get(top.lp_symbol)
        if symbol is None:
            return
        price = LpPrice(
            lp=self._lp,
            symbol=symbol,
            bid=top.bid,
            ask=top.ask,
            bid_size=top.bid_size,
            ask_size=top.ask_size,
            quote_id=top.quote_id,
            at_us=at_us,
        )
        self.prices += 1
        self._teller.tell(self._channel, encode(price))

    # --------------------------------------------------------------------------------------- from the main thread

    def config_changed(self) -> None:
        self._config_is_due.set()
        self.work_waits.set()

    def work(self, database_url: str) -> None:
        """Whatever has come up: a new configuration, a new session."""
        if self._config_is_due.is_set() or time.monotonic() >= self._config_looked_s + CONFIG_EVERY_S:
            self._config_is_due.clear()
            self._config_looked_s = time.monotonic()
            self._look_at_config(database_url)
        if self._is_new_session.is_set():
            self._is_new_session.clear()
            self._subscribed = {}
        if self.initiator.is_logged_on:
            self._subscribe()

    @property
    def detail(self) -> Mapping[str, object]:
        return {"prices": self.prices, "symbols": len(self._subscribed), "unreadable": self._books.unreadable}

    def _look_at_config(self, database_url: str) -> None:
        try:
            symbols = self._symbols_in(database_url)
        except (psycopg.Error, LookupError, DecodeError) as error:
            logger.warning("no_configuration lp=%s error=%s", self._lp, str(error).strip())
            return
        if symbols is not None:
            self._symbols = symbols

    def _symbols_in(self, database_url: str) -> dict[str, str] | None:
        """Our symbol by the provider's; None when nothing new was published."""
        with psycopg.connect(database_url, connect_timeout=3, autocommit=True, options=SHORT_QUESTIONS) as connection:
            if _newest_version(connection) == self._version:
                return None
            config = load_config(connection)
        self._version = config.version
        settings = config.lps.get(self._lp)
        if settings is None or not settings.enabled:
            return {}
        return {terms.lp_symbol: symbol for symbol, terms in settings.instruments.items()}

    def _subscribe(self) -> None:
        wanted = self._symbols
        for lp_symbol in [known for known in self._subscribed if known not in wanted]:
            self._request(lp_symbol, self._subscribed.pop(lp_symbol), Subscription.UNSUBSCRIBE)
        for lp_symbol in [name for name in wanted if name not in self._subscribed]:
            self._requests += 1
            request_id = f"{lp_symbol}-{self._requests}"
            if self._request(lp_symbol, request_id, Subscription.SUBSCRIBE) is not Sending.NOT_LOGGED_ON:
                self._subscribed[lp_symbol] = request_id

    def _request(self, lp_symbol: str, request_id: str, subscription: Subscription) -> Sending:
        return self.initiator.send(
            market_data_request(
                request_id=request_id,
                lp_symbol=lp_symbol,
                subscription=subscription,
                update_type=self._update_type,
            )
        )


def _newest_version(connection: psycopg.Connection[Any]) -> int:
    found = connection.execute("SELECT coalesce(max(version), 0) FROM config_version").fetchone()
    return int(found[0]) if found else 0


def _values(refused: Any) -> tuple[str, str, str]:
    return refused.request_id, refused.reason, refused.text
