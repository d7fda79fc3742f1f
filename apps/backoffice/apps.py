from django.apps import AppConfig


class BackofficeConfig(AppConfig):
    name = "apps.backoffice"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Dealing desk"
