"""Every address of the web door. Ids in paths are texts: each view refuses what is not one of its ids as 'not found'."""

from pathlib import Path

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path
from django.views import defaults

from apps.accounts import api as accounts
from apps.doors import api as doors
from apps.doors.problems import is_api, plain_problem
from apps.ledger import api as ledger
from apps.margin import api as margin
from apps.marketdata import api as marketdata
from apps.notifications import api as notifications
from apps.operations import api as operations
from apps.operations import casework, staff
from apps.orders import api as orders
from apps.positions import api as positions
from trading.refusals import Refusal

v1: list[URLPattern | URLResolver] = [
    path("auth/token", accounts.TokenView.as_view()),
    path("auth/refresh", accounts.RefreshView.as_view()),
    path("auth/logout", accounts.LogoutView.as_view()),
    path("accounts", margin.AccountsView.as_view()),
    path("accounts/<str:account>", margin.AccountView.as_view()),
    path("accounts/<str:account>/margin-notes", margin.MarginNotesView.as_view()),
    path("accounts/<str:account>/withdrawals", ledger.WithdrawalsView.as_view()),
    path("symbols", marketdata.SymbolsView.as_view()),
    path("symbols/<str:symbol>", marketdata.SymbolView.as_view()),
    path("quotes", marketdata.QuotesView.as_view()),
    path("orders", orders.OrdersView.as_view()),
    path("orders/<str:reference>", orders.OrderView.as_view()),
    path("positions", positions.PositionsView.as_view()),
    path("positions/close", positions.ClosePositionsView.as_view()),
    path("positions/<str:position>", positions.PositionView.as_view()),
    path("positions/<str:position>/close", positions.ClosePositionView.as_view()),
    path("positions/<str:position>/close-by", positions.CloseByView.as_view()),
    path("positions/<str:position>/reverse", positions.ReverseView.as_view()),
    path("deals", orders.DealsView.as_view()),
    path("ledger", ledger.LedgerView.as_view()),
    path("notifications", notifications.NotificationsView.as_view()),
    path("notifications/<str:notification>/read", notifications.ReadNotificationView.as_view()),
    path("user/deposit", ledger.DepositView.as_view()),
    path("time", doors.TimeView.as_view()),
    path("status", doors.StatusView.as_view()),
    path("errors", doors.ErrorsView.as_view()),
    path("errors/<str:code>", doors.ErrorView.as_view()),
    path("admin/orders/<str:ticket>/decision", operations.DecisionView.as_view()),
    path("admin/reconciliation", operations.ReconciliationView.as_view()),
    path("admin/policy", operations.PolicyView.as_view()),
    path("staff/effective-terms", staff.EffectiveTermsView.as_view()),
    path("staff/withdrawals", staff.OpenWithdrawalsView.as_view()),
    path("staff/accounts/<str:account>", staff.StaffAccountView.as_view()),
    path("staff/accounts/<str:account>/withdrawals/<str:transaction>/settle", staff.SettleWithdrawalView.as_view()),
    path("staff/accounts/<str:account>/adjust", staff.AdjustView.as_view()),
    path("staff/accounts/<str:account>/credit", staff.CreditView.as_view()),
    path("staff/accounts/<str:account>/bonus", staff.BonusView.as_view()),
    path("staff/alerts", staff.AlertsView.as_view()),
    path("staff/switches", staff.SwitchesView.as_view()),
    path("staff/dividends", staff.DividendView.as_view()),
    path("staff/splits", staff.SplitView.as_view()),
    path("staff/expiries", staff.ExpiryView.as_view()),
    path("staff/deals/<str:deal>/corrections", staff.ProposeCorrectionView.as_view()),
    path("staff/corrections", staff.CorrectionsView.as_view()),
    path("staff/corrections/<str:correction>/approve", staff.ApproveCorrectionView.as_view()),
    path("staff/corrections/<str:correction>/reject", staff.RejectCorrectionView.as_view()),
    path("staff/cases", casework.CasesView.as_view()),
    path("staff/cases/<str:case>/settle", casework.SettleCaseView.as_view()),
    path("staff/error-account", casework.ErrorAccountView.as_view()),
    path("staff/halts/lift", casework.LiftHaltView.as_view()),
    path("staff/provider-orders/<str:cl_ord_id>/settlements", casework.ProposeSettlementView.as_view()),
    path("staff/settlements", casework.SettlementsView.as_view()),
    path("staff/settlements/<str:settlement>/approve", casework.ApproveSettlementView.as_view()),
    path("staff/settlements/<str:settlement>/reject", casework.RejectSettlementView.as_view()),
    path("schema", doors.SchemaView.as_view(), name="schema"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include(v1)),
    path("api/orders/market", orders.MarketOrderAliasView.as_view()),
    path("docs", doors.DocsView.as_view(url_name="schema"), name="docs"),
    path("admin/", admin.site.urls),
]

urlpatterns += [
    path("", include(f"apps.{room}.urls"))
    for room in ("streaming", "backoffice")
    if (Path(settings.ROOT) / "apps" / room / "urls.py").exists()
]


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return plain_problem(Refusal.NOT_FOUND, request)
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return plain_problem(Refusal.INVALID_REQUEST, request, status=400)
    return defaults.bad_request(request, exception)


def failed(request: HttpRequest) -> HttpResponse:
    if is_api(request):
        return plain_problem(Refusal.INTERNAL, request)
    return defaults.server_error(request)


handler400 = bad_request
handler404 = not_found
handler500 = failed
