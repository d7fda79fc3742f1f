from django.apps import AppConfig


class StreamingConfig(AppConfig):
    name = "apps.streaming"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Stream"
