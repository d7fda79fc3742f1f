"""The overview page and its figures: for staff only."""

from typing import Any

from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from apps.backoffice.cache import newest_overview
from apps.backoffice.metrics import exposition, may_scrape

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@require_safe
@never_cache
@staff_member_required
def overview(request: HttpRequest) -> HttpResponse:
    """The page: empty tables that its script fills."""
    response = render(request, "backoffice/overview.html")
    response["Content-Security-Policy"] = CONTENT_POLICY
    return response


@require_safe
@never_cache
def overview_json(request: HttpRequest) -> HttpResponse:
    """The figures. 401 rather than a redirect, so that the page can say that the session has ended."""
    if not _is_staff(request.user):
        return JsonResponse({"code": "not_authenticated"}, status=401)
    return HttpResponse(newest_overview(), content_type="application/json")


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text, for staff and for whoever carries the configured token."""
    if not may_scrape(request):
        refused = HttpResponse("not for you\n", status=401, content_type="text/plain; charset=utf-8")
        refused["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return refused
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def _is_staff(user: Any) -> bool:
    return not isinstance(user, AnonymousUser) and user.is_active and user.is_staff
