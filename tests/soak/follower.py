"""A client of the stream: follows one account's events and, whenever it is cut off, resumes after the last it was told."""

import json
import threading
import time

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.soak.clients import Login

CHANNELS = ("orders", "positions", "account")
RESUME_AFTER_S = 0.5
LISTEN_S = 0.5


class Follower(threading.Thread):
    """`received` has per channel what was told, as (event id, kind), over all connections."""

    def __init__(self, url: str, login: Login, account: int, stop: threading.Event) -> None:
        super().__init__(name=f"follower-{account}", daemon=True)
        self.url = url
        self.login = login
        self.account = account
        self.stop = stop
        self.received: dict[str, list[tuple[int, str]]] = {channel: [] for channel in CHANNELS}
        self.connections = 0
        self.refusals: list[str] = []
        """What the stream refused, by code."""

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._follow()
            except (OSError, WebSocketException, ValueError, TimeoutError) as error:
                if "4401" in str(error):
                    self.login.forget()
            except Exception as error:  # noqa: BLE001 - a dead thread would be silent
                self.refusals.append(repr(error))
            self.stop.wait(RESUME_AFTER_S)

    def newest(self, channel: str) -> int:
        told = self.received[channel]
        return told[-1][0] if told else 0

    def _follow(self) -> None:
        token = self.login.token()
        with connect(self.url, open_timeout=5, close_timeout=1, max_size=None) as socket:
            self.connections += 1
            socket.send(json.dumps({"op": "auth", "token": token}))
            for channel in CHANNELS:
                request = {
                    "op": "subscribe",
                    "channel": channel,
                    "account": self.account,
                    "since": self.newest(channel),
                }
                socket.send(json.dumps(request))
            while not self.stop.is_set():
                try:
                    self._hear(json.loads(socket.recv(LISTEN_S)))
                except TimeoutError:
                    continue

    def _hear(self, message: dict[str, object]) -> None:
        if message["type"] == "event":
            event = (int(str(message["event_id"])), str(message["event"]))
            self.received[str(message["channel"])].append(event)
        elif message["type"] == "error":
            self.refusals.append(str(message["code"]))
            time.sleep(RESUME_AFTER_S)
            raise ValueError(message["code"])
