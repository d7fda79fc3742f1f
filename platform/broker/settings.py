"""Settings of the Django project, all from the environment: one place to see what the doors are made of.

| variable | meaning |
| --- | --- |
| `DATABASE_URL` | PostgreSQL, as libpq reads it (`postgresql://user:password@host/name`, a socket as `?host=/folder`) |
| `REDIS_URL` | Redis, `redis://` or `unix://` |
| `AMQP_URL` | RabbitMQ, for events and background tasks; without it both go over Redis |
| `TRIBOOK_SECRET_KEY` | signs sessions and tokens; must be set unless `TRIBOOK_DEBUG=1` or under test |
| `TRIBOOK_ALLOWED_HOSTS` | names the doors answer to beside loopback, separated by commas |
| `TRIBOOK_TRUSTED_ORIGINS` | origins that browsers may post from, separated by commas (`https://trade.example.com`) |
| `TRIBOOK_HTTPS` | `1` behind TLS: cookies only over HTTPS, HSTS, redirect |
| `TRIBOOK_DB_POOL` | connections per process, 8 by default |
"""

import os
import secrets
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from psycopg.conninfo import conninfo_to_dict

ROOT = Path(__file__).resolve().parents[2]


def _listed(name: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def _flag(name: str) -> bool:
    return os.environ.get(name, "") == "1"


def _secret_key() -> str:
    """The configured key; a random one for this process alone where nothing outlives it."""
    key = os.environ.get("TRIBOOK_SECRET_KEY", "")
    if key:
        return key
    if _flag("TRIBOOK_DEBUG") or "pytest" in sys.modules or "mypy" in sys.modules:
        return secrets.token_urlsafe(48)
    raise ImproperlyConfigured("TRIBOOK_SECRET_KEY is not set: sessions and tokens cannot be signed")


DATABASE_PATIENCE = "-c statement_timeout=30000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=60000"
"""Milliseconds. No page, task or door waits for ever for a table that somebody holds, nor holds one itself."""
PATIENT_COMMANDS = frozenset({"migrate", "dbshell"})
"""What changes or looks at whole tables may take its time."""


def database_from(url: str, *, pool_size: int) -> dict[str, Any]:
    """Django's description of the database that a libpq address names, with a connection pool."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    named = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    options: dict[str, Any] = {name: value for name, value in parts.items() if name not in named}
    options.setdefault("connect_timeout", "5")
    if sys.argv[1:2] not in [[command] for command in PATIENT_COMMANDS]:
        options.setdefault("options", DATABASE_PATIENCE)
    if pool_size:
        options["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": 5}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **{django: parts.get(libpq, "") for libpq, django in named.items()},
        "OPTIONS": options,
        "CONN_HEALTH_CHECKS": True,
        "TEST": {"NAME": f"test_{parts.get('dbname', 'tribook')}"},
    }


DEBUG = _flag("TRIBOOK_DEBUG")
SECRET_KEY = _secret_key()
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
DATABASES = {
    "default": database_from(
        os.environ.get("DATABASE_URL", "postgresql:///tribook"), pool_size=int(os.environ.get("TRIBOOK_DB_POOL", "8"))
    )
}

# ------------------------------------------------------------------------------------------------------------ the rooms
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "apps.doors",
    "apps.accounts",
    "apps.instruments",
    "apps.liquidity",
    "apps.routing_rules",
    "apps.orders",
    "apps.positions",
    "apps.ledger",
    "apps.operations",
    "apps.marketdata",
    "apps.margin",
    "apps.notifications",
]

MIDDLEWARE = [
    "apps.doors.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

INSTALLED_APPS += [
    f"apps.{room}" for room in ("streaming", "backoffice") if (ROOT / "apps" / room / "apps.py").exists()
]

ROOT_URLCONF = "broker.urls"
WSGI_APPLICATION = "broker.wsgi.application"
ASGI_APPLICATION = "broker.asgi.application"
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "admin:login"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# ------------------------------------------------------------------------------------------------- language, time, files
LANGUAGE_CODE = "en-gb"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
"""Files are served from where the packages keep them, so nothing has to be collected before a start."""

# ------------------------------------------------------------------------------------------------------------- security
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", *_listed("TRIBOOK_ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = _listed("TRIBOOK_TRUSTED_ORIGINS")
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Strict"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
HTTPS = _flag("TRIBOOK_HTTPS")
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
if HTTPS:
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --------------------------------------------------------------------------------------------------------------- tokens
ACCESS_TOKEN_LIFETIME = timedelta(minutes=10)
REFRESH_TOKEN_LIFETIME = timedelta(days=14)

# ----------------------------------------------------------------------------------------------------------------- REST
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.authentication.BearerAuthentication",
        "apps.accounts.authentication.BrowserAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["apps.doors.parsing.StrictJsonParser"],
    "DEFAULT_RENDERER_CLASSES": ["apps.doors.rendering.JsonRenderer"],
    "DEFAULT_THROTTLE_CLASSES": ["apps.doors.limits.BucketThrottle"],
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "apps.doors.problems.problem_from_exception",
    "DEFAULT_SCHEMA_CLASS": "apps.doors.schema.DoorSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tribook",
    "DESCRIPTION": (
        "Trading API. Numbers are decimal strings, times are RFC 3339 UTC with microseconds, errors are problem+json "
        "with a stable `code` (list: /v1/errors). After a timeout or a 5xx, ask for the order by its client_order_id."
    ),
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/(v1|api)",
    "ENUM_NAME_OVERRIDES": {},
}

RATE_LIMITS = {
    "orders": os.environ.get("TRIBOOK_LIMIT_ORDERS", "50/second"),
    "closes": os.environ.get("TRIBOOK_LIMIT_CLOSES", "100/second"),
    "money": os.environ.get("TRIBOOK_LIMIT_MONEY", "10/minute"),
    "login": os.environ.get("TRIBOOK_LIMIT_LOGIN", "20/minute"),
    "history": os.environ.get("TRIBOOK_LIMIT_HISTORY", "20/second"),
    "other": os.environ.get("TRIBOOK_LIMIT_OTHER", "100/second"),
}
"""Requests per bucket: orders and closes per account, login per address and name, the rest per user (else per address)."""

# --------------------------------------------------------------------------------------------------------------- admin
UNFOLD = {
    "SITE_TITLE": "Tribook",
    "SITE_HEADER": "Tribook back office",
    "SITE_SUBHEADER": "Dealing, configuration, records",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {"show_search": True, "show_all_applications": True},
    # A page that names no icon makes browsers ask for /favicon.ico, which is not there.
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("backoffice/icon.svg")}],
}

# -------------------------------------------------------------------------------------------------------------- logging
_shared_processors: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]
structlog.configure(
    processors=[*_shared_processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "processor": structlog.processors.JSONRenderer(),
            "foreign_pre_chain": _shared_processors,
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": os.environ.get("TRIBOOK_LOG_LEVEL", "INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}
