"""Where the sockets are, and what stands before each of them: whose page opened it, and which session it brings.

A browser always names the page's origin: a foreign one is refused before the handshake. A program names none: it gets in,
but without the session that a cookie would give it, and must log in with a token.
"""

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path

from apps.streaming.consumers import MarketDataConsumer, NotHere, StreamConsumer
from apps.streaming.origins import is_own_origin

websocket_urlpatterns = [
    path("v1/stream", StreamConsumer.as_asgi()),
    path("v1/market-data/<str:symbol>", MarketDataConsumer.as_asgi()),
    re_path("", NotHere.as_asgi()),
]


class OriginGate:
    """Refuses foreign origins and hosts with 403; takes the cookies from whoever names no origin."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.closed = NotHere.as_asgi()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if host is None or not _is_our_name(host):
            return await self.closed(scope, receive, send)
        if origin is None:
            headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            return await self.inner({**scope, "headers": headers}, receive, send)
        if not is_own_origin(origin, host, settings.CSRF_TRUSTED_ORIGINS):
            return await self.closed(scope, receive, send)
        return await self.inner(scope, receive, send)


def _header(scope: Any, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def _is_our_name(host: str) -> bool:
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


websocket_application = OriginGate(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))
