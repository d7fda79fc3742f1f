"""The desk's page and the figures it asks for every second."""

from django.urls import path

from apps.backoffice import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("metrics", views.metrics, name="metrics"),
    path("overview.json", views.overview_json, name="overview-json"),
]
