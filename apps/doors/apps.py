from django.apps import AppConfig


class DoorsConfig(AppConfig):
    name = "apps.doors"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "REST door"
