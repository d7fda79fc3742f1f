"""The stream process: WebSockets under an ASGI server that runs no lifespan events.

The server imports this module inside its event loop, so the subscription starts here and not with the first client:
a stream without clients is alive and says so. Everything else over HTTP is the web process's.
"""

import asyncio
import os
from contextlib import suppress
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")
django.setup()

from channels.routing import ProtocolTypeRouter  # noqa: E402 - Django must be set up first

from apps.streaming.runtime import runtime  # noqa: E402
from broker.websockets import websocket_application  # noqa: E402


async def plain_http(scope: Any, _receive: Any, send: Any) -> None:
    """`/healthz` answers whether we serve; anything else is told what is spoken here."""
    is_question = scope["path"] == "/healthz"
    status, text = (200, b"ok\n") if is_question else (426, b"This is the stream: connect with a WebSocket.\n")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    if not is_question:
        headers.append((b"upgrade", b"websocket"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


application = ProtocolTypeRouter({"http": plain_http, "websocket": websocket_application})

with suppress(RuntimeError):  # imported outside of a running loop, by a tool
    asyncio.get_running_loop()
    runtime.start()
