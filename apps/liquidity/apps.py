from django.apps import AppConfig


class LiquidityConfig(AppConfig):
    name = "apps.liquidity"
    default_auto_field = "django.db.models.BigAutoField"
