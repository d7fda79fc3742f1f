"""The base of every REST view: limits' headers, the environment header, and reading the Prefer header."""

import re
from typing import Any, ClassVar

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.doors.limits import headers_for
from apps.doors.rendering import FirstRenderer

WAIT_S_DEFAULT = 2.0
WAIT_S_MAX = 10.0
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,3})\"?(?:$|[,;\s])", re.ASCII)


class DoorView(APIView):
    """`bucket` names the rate limit that counts the view's requests."""

    bucket: ClassVar[str | None] = "other"
    content_negotiation_class: type[BaseContentNegotiation] = FirstRenderer

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        for name, value in headers_for(request).items():
            final[name] = value
        final.setdefault("Cache-Control", "no-store")
        return final


def wait_s(request: Request) -> float:
    """How long to wait for a final state: `Prefer: wait=n` (RFC 7240), 2 s without it, 10 s at most."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(float(found[1]), WAIT_S_MAX) if found else WAIT_S_DEFAULT
