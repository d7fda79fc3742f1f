"""The record of each routing decision, readable: which rules were looked at, what they wanted, what they saw."""

import json
from typing import Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.readonly import ReadOnlyAdmin
from apps.routing_rules.models import RoutingDecision


@admin.register(RoutingDecision)
class RoutingDecisionAdmin(ReadOnlyAdmin):
    list_display = ("order_id", "account", "symbol", "book", "rule_name", "lp", "policy_version", "at")
    list_filter = ("book", "symbol", "lp")
    search_fields = ("=order_id", "=account")
    ordering = ("-order_id",)
    fields = (
        "order_id", "account", "symbol", "book", "rule_name", "lp", "policy_version", "at", "reasons", "rules",
        "candidates", "document",
    )  # fmt: skip
    readonly_fields = ("reasons", "rules", "candidates", "document")

    @admin.display(description="Why")
    def reasons(self, row: RoutingDecision) -> SafeString:
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((r,) for r in _get(row, "reasons"))))

    @admin.display(description="Rules looked at")
    def rules(self, row: RoutingDecision) -> SafeString:
        return _table(
            ("Rule", "Condition", "Wanted", "Seen", "Holds"),
            [line for rule in _get(row, "rules") for line in _rule_lines(rule)],
        )

    @admin.display(description="Providers considered")
    def candidates(self, row: RoutingDecision) -> SafeString:
        lines = [
            (c["lp"], c["price"], c["size"], _milliseconds(c["age_us"]), _yes(c["eligible"]), c["reason"])
            for c in _get(row, "candidates")
        ]
        return _table(("Provider", "Price", "Lots", "Age", "Eligible", "Why"), lines)

    @admin.display(description="Whole record")
    def document(self, row: RoutingDecision) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(row.decision, indent=2))


def _rule_lines(rule: dict[str, Any]) -> list[tuple[Any, ...]]:
    name = f"{rule['name']} ({'matched' if rule['matched'] else 'passed over'})"
    if not rule["conditions"]:
        return [(name, "always", "", "", "yes")]
    return [
        (name, f"{c['field']} {c['operator']}", ", ".join(c["expected"]), c["actual"], _yes(c["passed"]))
        for c in rule["conditions"]
    ]


def _get(row: RoutingDecision, name: str) -> list[Any]:
    found = row.decision.get(name, [])
    return found if isinstance(found, list) else []


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _milliseconds(age_us: int | None) -> str:
    return "" if age_us is None else f"{age_us // 1000} ms"


def _table(heads: tuple[str, ...], lines: list[tuple[Any, ...]]) -> SafeString:
    head = format_html_join("", "<th class='text-left pr-4'>{}</th>", ((h,) for h in heads))
    rows = (
        (format_html_join("", "<td class='pr-4'>{}</td>", (("" if cell is None else cell,) for cell in line)),)
        for line in lines
    )
    return format_html(
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, format_html_join("", "<tr>{}</tr>", rows)
    )
