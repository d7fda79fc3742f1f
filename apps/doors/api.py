"""What anybody may ask: the time, the state of the house, the list of refusals, the documentation."""

import time
from typing import Any

import redis as redis_errors
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.doors.connections import clock, redis_connection
from apps.doors.problems import Problem
from apps.doors.rendering import FirstRenderer
from apps.doors.schema import ERROR_TERMS, ERRORS, PROBLEMS, STATUS, TIME
from apps.doors.views import DoorView
from bus import names
from bus.clock import wall
from trading.refusals import REGISTRY, Refusal
from trading.views import rfc3339


class PublicView(DoorView):
    permission_classes = (AllowAny,)
    authentication_classes = ()


class TimeView(PublicView):
    """The wall's time, and the business time that quotes and orders are stamped with."""

    @extend_schema(operation_id="get_time", responses={200: TIME, **PROBLEMS})
    def get(self, request: Request) -> Response:  # noqa: ARG002
        return Response({"time": rfc3339(wall()), "business_time": rfc3339(clock()())})


class StatusView(PublicView):
    """Whether orders are taken and prices come in."""

    @extend_schema(operation_id="get_status", responses={200: STATUS, **PROBLEMS})
    def get(self, request: Request) -> Response:  # noqa: ARG002
        try:
            trading, quotes = _is_up("engine"), _is_up("quotes")
        except redis_errors.RedisError:
            trading = quotes = False
        return Response({"status": "up" if trading and quotes else "degraded", "trading": trading, "quotes": quotes})


HEARTBEAT_MAX_S = 5.0


def _is_up(process: str) -> bool:
    found: Any = redis_connection().hmget(names.health(process), "state", "at")
    state, at = found
    return state == b"up" and at is not None and time.time() - float(at) <= HEARTBEAT_MAX_S


class ErrorsView(PublicView):
    """Every refusal: its code, its status, what it means and what to do."""

    @extend_schema(operation_id="list_errors", responses={200: ERRORS, **PROBLEMS})
    def get(self, request: Request) -> Response:  # noqa: ARG002
        return Response({"data": [_terms(code) for code in REGISTRY]})


class ErrorView(PublicView):
    """One refusal. This is where a problem's `type` leads."""

    @extend_schema(operation_id="get_error", responses={200: ERROR_TERMS, **PROBLEMS})
    def get(self, request: Request, code: str) -> Response:  # noqa: ARG002
        if code not in set(Refusal):
            raise Problem(Refusal.NOT_FOUND)
        return Response(_terms(Refusal(code)))


def _terms(code: Refusal) -> dict[str, Any]:
    terms = REGISTRY[code]
    return {
        "code": code.value,
        "http_status": terms.http,
        "title": terms.title,
        "remediation": terms.remedy,
        "retryable": terms.retryable,
        "mt_retcode": terms.mt,
        "ord_rej_reason": terms.fix,
    }


class SchemaView(SpectacularAPIView):
    """The OpenAPI document."""

    renderer_classes = [OpenApiJsonRenderer]
    content_negotiation_class = FirstRenderer
    throttle_classes = ()


class DocsView(SpectacularSwaggerView):
    """The documentation as a page, from our own files."""

    throttle_classes = ()
