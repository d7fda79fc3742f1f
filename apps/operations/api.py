"""What staff may ask and change over the API; every call leaves an audit entry."""

from typing import Any, ClassVar

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps import published
from apps.accounts.access import caller_of
from apps.accounts.authentication import require_staff
from apps.doors.middleware import request_id_of
from apps.doors.parsing import WHOLE, Fields
from apps.doors.problems import SAFE_METHODS, Problem
from apps.doors.schema import DECISION, POLICY, POLICY_REQUEST, PROBLEMS, RECONCILIATION
from apps.doors.views import DoorView
from apps.operations.queries import decision_of, reconciliation
from apps.operations.services import audit, store_config, tell_config
from apps.published import current_config
from apps.routing_rules.services import RuleRefused, replace_rules, rule_from, rule_shape
from trading.configuration import Config, ConfigurationRefused
from trading.refusals import Refusal


class StaffView(DoorView):
    """Staff only. Refused attempts are recorded too."""

    action = ""
    right: ClassVar[str] = ""
    """The permission that changing something here needs; reading needs none."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        try:
            require_staff(request)
            if self.right and request.method not in SAFE_METHODS and not caller_of(request).has_perm(self.right):
                raise Problem(Refusal.FORBIDDEN, "Your role does not include this.")
        except Problem:
            record(request, f"{self.action}:refused", {})
            raise


class DecisionView(StaffView):
    """The routing decision of an order."""

    action = "read_decision"

    @extend_schema(operation_id="admin_get_decision", responses={200: DECISION, **PROBLEMS})
    def get(self, request: Request, ticket: str) -> Response:
        found = decision_of(int(ticket)) if WHOLE.fullmatch(ticket) else None
        record(request, self.action, {"ticket": ticket[:20]})
        if found is None:
            raise Problem(Refusal.ORDER_NOT_FOUND)
        return Response(found)


class ReconciliationView(StaffView):
    """Clients, house and providers per symbol; the ledger's sums per currency."""

    action = "read_reconciliation"

    @extend_schema(operation_id="admin_get_reconciliation", responses={200: RECONCILIATION, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, self.action, {})
        return Response(reconciliation())


class PolicyView(StaffView):
    """The routing rules that are published."""

    action = "policy"

    @extend_schema(operation_id="admin_get_policy", responses={200: POLICY, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, "read_policy", {})
        published.forget()  # staff see what is published now, whichever worker answers
        return Response(_shape(current_config(), active=True))

    @extend_schema(operation_id="admin_replace_policy", request=POLICY_REQUEST, responses={200: POLICY, **PROBLEMS})
    def put(self, request: Request) -> Response:
        by = f"staff:{caller_of(request).pk}"
        fields = Fields(request.data, known=("rules",))
        rules = fields.raw("rules")
        if not isinstance(rules, list) or not rules:
            fields.error("rules", "A list of rules, the last without conditions.")
        fields.done()
        try:
            with transaction.atomic():
                replace_rules([rule_from(rule, id=place) for place, rule in enumerate(rules, start=1)])
                config, _ = store_config(by)
                record(request, "replace_policy", {"rules": rules, "config_version": config.version})
        except (RuleRefused, ConfigurationRefused) as error:
            raise Problem(Refusal.INVALID_REQUEST, str(error)) from None
        published.forget()
        return Response(_shape(config, active=tell_config(config, by)))


def _shape(config: Config, *, active: bool) -> dict[str, Any]:
    return {
        "config_version": config.version,
        "policy_version": config.policy.version,
        "active": active,
        "rules": [rule_shape(rule) for rule in config.policy.rules],
    }


def record(request: Request, action: str, detail: dict[str, Any]) -> None:
    """An audit entry about what is asked here."""
    audit(
        actor=f"user:{request.user.pk} {request.user.get_username()}",
        action=action,
        request_id=request_id_of(request._request),  # noqa: SLF001
        address=str(request.META.get("REMOTE_ADDR", "")),
        detail=detail,
    )
