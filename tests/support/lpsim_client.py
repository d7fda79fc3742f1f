"""A small QuickFIX initiator in a process of its own, to talk to a simulated provider from outside.

A process, because taking QuickFIX apart can crash the one it runs in. `Client` is the test's end of it: messages go in as
`Outgoing`, and what arrives is kept as text. The session validates every message against our dictionary.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fix_gateway.wire.message import Message, Outgoing, parse, readable
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
UP, DOWN, IN, REFUSED = "UP", "DOWN", "IN", "REFUSED"


class Client:
    """One session from `sender` to `target`. With `folder` its numbers and orders outlive it."""

    def __init__(self, *, sender: str, target: str, port: int, password: str, folder: Path | None = None) -> None:
        arguments = (sender, target, str(port), password, str(folder or ""))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "platform")))}
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.support.lpsim_client", *arguments),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._taken = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self._process.stdout)

    def logged_on(self) -> "Client":
        eventually(lambda: UP in self.lines)
        return self

    def send(self, outgoing: Outgoing) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(outgoing).decode() + "\n")
        self._process.stdin.flush()

    def messages(self) -> list[Message]:
        """Every message that arrived, oldest first."""
        return [parse(line.partition(" ")[2]) for line in list(self.lines) if line.startswith(IN)]

    def expect(self, fits: Callable[[Message], bool]) -> Message:
        """The first message not passed over yet that fits; those before it are passed over."""

        def look() -> Message | None:
            for place, message in enumerate(self.messages()[self._taken :]):
                if fits(message):
                    self._taken += place + 1
                    return message
            return None

        return eventually(look)

    def report(self, cl_ord_id: str, exec_type: str) -> Message:
        """The next ExecutionReport(35=8) about an order, of one ExecType(150)."""
        return self.expect(lambda m: (m.msg_type, m.get(11), m.get(150)) == ("8", cl_ord_id, exec_type))

    def refusals(self) -> list[str]:
        """What the session layer found wrong with the provider's messages."""
        return [line for line in self.lines if line.startswith(REFUSED)]

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


# ------------------------------------------------------------------------------------------------------ the child process


def main(sender: str, target: str, port: str, password: str, folder: str) -> None:
    import quickfix as fix

    from lp_adapters.simulators.counterparty import quickfix_message

    session_id = fix.SessionID("FIX.4.4", sender, target)
    up = threading.Event()

    settings = fix.SessionSettings()
    settings.setFromString(_settings(sender, target, port, folder))
    store = fix.FileStoreFactory(settings) if folder else fix.MemoryStoreFactory()
    application = _application(up, password)
    initiator = fix.SocketInitiator(application, store, settings)
    initiator.start()
    for line in sys.stdin:
        fix.Session.sendToTarget(quickfix_message(msgspec.json.decode(line, type=Outgoing)), session_id)
    fix.Session.lookupSession(session_id).logout("done")
    eventually(lambda: not up.is_set(), within_s=3)
    os._exit(0)


def _application(up: threading.Event, password: str) -> Any:
    """QuickFIX's callbacks, each told as a line."""
    import quickfix as fix

    class Application(fix.Application):
        def onCreate(self, _session_id: Any) -> None: ...  # noqa: N802

        def onLogon(self, _session_id: Any) -> None:  # noqa: N802
            up.set()
            _say(UP)

        def onLogout(self, _session_id: Any) -> None:  # noqa: N802
            up.clear()
            _say(DOWN)

        def toAdmin(self, message: Any, _session_id: Any) -> None:  # noqa: N802
            kind = message.getHeader().getField(35)
            if kind == "A":
                message.setField(fix.StringField(553, "tribook"))
                message.setField(fix.StringField(554, password))
            elif kind == "3":
                _say(REFUSED, readable(message.toString()))

        def toApp(self, message: Any, _session_id: Any) -> None:  # noqa: N802
            if message.getHeader().getField(35) == "j":
                _say(REFUSED, readable(message.toString()))

        def fromAdmin(self, message: Any, _session_id: Any) -> None:  # noqa: N802
            if message.getHeader().getField(35) in ("3", "5"):
                _say(IN, readable(message.toString()))

        def fromApp(self, message: Any, _session_id: Any) -> None:  # noqa: N802
            _say(IN, readable(message.toString()))

    return Application()


def _say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def _settings(sender: str, target: str, port: str, folder: str) -> str:
    lines = (
        *("[DEFAULT]", "ConnectionType=initiator", "BeginString=FIX.4.4", "NonStopSession=Y", "HeartBtInt=5"),
        *(
            "ReconnectInterval=1",
            "SocketNodelay=Y",
            "UseDataDictionary=Y",
            f"DataDictionary={ROOT}/configs/fix/FIX44.xml",
        ),
        *("[SESSION]", f"SenderCompID={sender}", f"TargetCompID={target}", "SocketConnectHost=127.0.0.1"),
        *(f"SocketConnectPort={port}", f"ResetOnLogon={'N' if folder else 'Y'}"),
        *((f"FileStorePath={folder}",) if folder else ()),
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
