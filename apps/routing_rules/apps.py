from django.apps import AppConfig


class RoutingRulesConfig(AppConfig):
    name = "apps.routing_rules"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Routing"
