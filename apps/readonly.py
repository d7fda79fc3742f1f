"""The admin over rows that are not the admin's: shown, searched, never added, changed or deleted, even by superusers.

Tables with composite keys name them in `key`; their rows are then addressed as `part|part`.
"""

from typing import Any, ClassVar

from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from unfold.admin import ModelAdmin

SEPARATOR = "|"


class _KeyedChangeList(ChangeList):
    def url_for_result(self, result: Model) -> str:
        admin: Any = self.model_admin
        if not admin.key:
            return str(super().url_for_result(result))
        name = SEPARATOR.join(str(getattr(result, part)) for part in admin.key)
        meta = result._meta  # noqa: SLF001 - Django's own way to a model's name
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[quote(name)])


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    key: ClassVar[tuple[str, ...]] = ()
    show_full_result_count = False
    list_per_page = 50
    actions: ClassVar[tuple[str, ...] | None] = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002
        return _KeyedChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Model | None:
        if not self.key:
            found: Model | None = super().get_object(request, object_id, from_field)
            return found
        parts = object_id.split(SEPARATOR, len(self.key) - 1)
        if len(parts) != len(self.key):
            return None
        try:
            row: Model | None = self.get_queryset(request).filter(**dict(zip(self.key, parts, strict=True))).first()
        except ValueError:
            return None
        return row

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False
